//! The table of `docs/safety.md`: what has to hold, and what a run of the tests has measured.
//!
//! Each test of a row says what it measured, for this allocator and, where that makes sense, for the same scenario on the
//! C library's and on Debian's jemalloc. All that a build's tests have said is in `safety-table.md` of the target directory,
//! written anew by whoever says something, and at the end of `tests/run`. Tests of other crates leave what they say in the same
//! form beside it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::artifacts::{Lock, library, repository, target_directory};
use crate::child::Program;
use crate::{is_long, tools};

/// A row of the table in `docs/safety.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name: a letter for the kind, and a number.
    pub id: String,
    /// What is done.
    pub scenario: String,
    /// What has to hold.
    pub mark: String,
    /// Names of the tests that do it.
    pub tests: Vec<String>,
}

/// The rows of the document.
pub fn rows() -> Vec<Row> {
    let path = repository().join("docs/safety.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let [id, scenario, mark, tests, ..] = cells[..] else { return None };
        let is_id = id.len() <= 3
            && id.starts_with(|c: char| c.is_ascii_uppercase())
            && id.ends_with(|c: char| c.is_ascii_digit());
        is_id.then(|| Row {
            id: id.to_owned(),
            scenario: scenario.to_owned(),
            mark: mark.to_owned(),
            tests: tests.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
        })
    };
    text.lines().filter_map(row).collect()
}

/// Whose memory a program uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The library under test.
    Heapsift,
    /// The C library.
    Glibc,
    /// Debian's jemalloc.
    Jemalloc,
}

impl Who {
    /// All, the one under test first.
    pub const ALL: [Who; 3] = [Who::Heapsift, Who::Glibc, Who::Jemalloc];

    /// Those that a run of this length looks at: the others only in the long form, where they are installed.
    pub fn looked_at() -> impl Iterator<Item = Who> {
        let installed = |who: &Who| *who != Who::Jemalloc || tools::jemalloc().is_some();
        Who::ALL.into_iter().take(if is_long() { 3 } else { 1 }).filter(installed)
    }

    /// The name of its column.
    pub fn name(self) -> &'static str {
        ["heapsift", "glibc", "jemalloc"][self as usize]
    }

    /// Has a program use it; the options are for heapsift only.
    pub fn dress(self, program: Program, conf: &str) -> Program {
        match self {
            Who::Heapsift => program.under(conf),
            Who::Glibc => program,
            Who::Jemalloc => program.env("LD_PRELOAD", tools::jemalloc().expect("looked for before")),
        }
    }

    /// What goes into `LD_PRELOAD` for it, where a program sets that by itself.
    pub fn file(self) -> Option<PathBuf> {
        match self {
            Who::Heapsift => Some(library()),
            Who::Glibc => None,
            Who::Jemalloc => tools::jemalloc(),
        }
    }
}

/// Says what was measured for a row, and whether that is within its mark. Panics where it isn't and the library under test
/// is what was measured.
///
/// `part`: which of several scenarios of the row, or nothing.
#[track_caller]
pub fn told(row: &str, part: &str, who: Who, measured: &str, holds: bool) {
    assert!(rows().iter().any(|known| known.id == row), "docs/safety.md has no row {row}");
    let directory = target_directory().join("safety");
    fs::create_dir_all(&directory).expect("the target directory can be written");
    let name: String = format!("{row}-{part}-{}", who.name());
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let line =
        [row, part, who.name(), &measured.replace(['\n', '\t', '|'], " "), if holds { "holds" } else { "fails" }];
    {
        let _guard = Lock::acquire(&directory.join("lock"));
        fs::write(directory.join(name + ".said"), line.join("\t")).expect("the target directory can be written");
        fs::write(target_directory().join("safety-table.md"), table(&directory)).expect("the same");
    }
    println!("{row} {part}, {}: {measured}", who.name());
    assert!(holds || who != Who::Heapsift, "{row} {part}: {measured}");
}

/// Writes the table anew from what has been said, by tests of other crates too; what it is now.
pub fn write_table() -> String {
    let directory = target_directory().join("safety");
    fs::create_dir_all(&directory).expect("the target directory can be written");
    let _guard = Lock::acquire(&directory.join("lock"));
    let table = table(&directory);
    fs::write(target_directory().join("safety-table.md"), &table).expect("the target directory can be written");
    table
}

/// As [`told`] for what has no peers and no parts: the test has come to its end.
#[track_caller]
pub fn holds(row: &str, measured: &str) {
    told(row, "", Who::Heapsift, measured, true);
}

/// The table, from what all tests since the library was built have said.
fn table(directory: &Path) -> String {
    let built = fs::metadata(library()).and_then(|found| found.modified()).expect("the library is there");
    let mut said: Vec<Vec<String>> = Vec::new();
    for entry in fs::read_dir(directory).expect("it was made").flatten() {
        let is_fresh = entry.metadata().and_then(|found| found.modified()).is_ok_and(|when| when >= built);
        if entry.path().extension().is_some_and(|end| end == "said") && is_fresh {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            said.push(text.split('\t').map(str::to_owned).collect());
        }
    }
    said.retain(|line| line.len() == 5);
    said.sort();
    let mut text = String::from("| row | scenario | mark | heapsift | glibc | jemalloc | |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
    for row in rows() {
        let mut parts: Vec<&str> = said.iter().filter(|line| line[0] == row.id).map(|line| line[1].as_str()).collect();
        parts.dedup();
        if parts.is_empty() {
            let tests = row.tests.join(", ");
            let _ =
                writeln!(text, "| {} | {} | {} | not run, or told by {tests} | | | |", row.id, row.scenario, row.mark);
        }
        for part in parts {
            let of = |who: Who| said.iter().find(|line| line[0] == row.id && line[1] == part && line[2] == who.name());
            let cell = |who: Who| match of(who) {
                Some(line) if line[4] == "holds" => line[3].clone(),
                Some(line) => format!("**{}**", line[3]),
                None => String::new(),
            };
            let scenario = if part.is_empty() { row.scenario.clone() } else { format!("{} ({part})", row.scenario) };
            let [ours, glibc, jemalloc] = Who::ALL.map(cell);
            let verdict = of(Who::Heapsift).map_or("", |line| if line[4] == "holds" { "pass" } else { "FAIL" });
            let _ = writeln!(
                text,
                "| {} | {scenario} | {} | {ours} | {glibc} | {jemalloc} | {verdict} |",
                row.id, row.mark
            );
        }
    }
    text
}
