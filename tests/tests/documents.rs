//! The documents against the code: options, control names, lock ranks, links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use alloc_core::Observer;
use heapsift::HEAP;
use heapsift_tests::artifacts::repository;

fn read(name: &str) -> String {
    let path = repository().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part of a document below a heading, up to the next one of the same depth.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no {heading:?}"));
    let rest = &text[start + 1 + heading.len()..];
    let depth = heading.split(' ').next().expect("a heading begins with its marks");
    rest.find(&format!("\n{depth} ")).map_or(rest, |end| &rest[..end])
}

/// What stands in backquotes in the first cells of a section's tables.
fn first_cells(section: &str) -> Vec<&str> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" |").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_option_is_described_once_and_none_is_invented() {
    let tuning = read("TUNING.md");
    let described = first_cells(section(&tuning, "## Reference"));
    let mut seen = BTreeSet::new();
    for name in &described {
        assert!(seen.insert(*name), "TUNING.md describes {name} twice");
    }
    let heap = alloc_core::conf::OPTIONS.iter().map(|option| option.name);
    let profiler = HEAP.observer().nodes().iter().filter_map(|node| node.name.strip_prefix("opt."));
    let known: BTreeSet<&str> = heap.chain(profiler).collect();
    let missing: Vec<_> = known.difference(&seen).collect();
    assert!(missing.is_empty(), "TUNING.md does not describe {missing:?}");
    let invented: Vec<_> = seen.difference(&known).collect();
    assert!(invented.is_empty(), "TUNING.md describes what does not exist: {invented:?}");
    for advised in section(&tuning, "## By symptom").split('`').skip(1).step_by(2) {
        for pair in advised.split(',').filter(|pair| !pair.contains(['(', ' ', '['])) {
            let name = pair.split(':').next().expect("a part");
            let is_option = pair.contains(':') || name.contains('_');
            assert!(!is_option || known.contains(name) || name == "malloc_stats_print", "{name} in {advised:?}");
        }
    }
}

#[test]
fn control_names_are_answered() {
    let tuning = read("TUNING.md");
    let mut tried = 0;
    for name in first_cells(section(&tuning, "## While the program runs")) {
        let names: Vec<String> = match name.split_once('{') {
            Some((head, rest)) => rest.trim_end_matches('}').split(',').map(|tail| format!("{head}{tail}")).collect(),
            None => vec![name.to_owned()],
        };
        for name in names.iter().filter(|name| name.len() > 1 && !name.contains('…')) {
            let name = name.replace("<i>", "0");
            let mut mib = [0; alloc_core::ctl::DEPTH_MAX];
            let found = alloc_core::ctl::name_to_mib(&HEAP, name.as_bytes(), &mut mib);
            assert!(found.is_ok(), "{name}: {found:?}");
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried} names were found in TUNING.md");
}

#[test]
fn the_order_of_locks_is_the_code_s() {
    let code = read("alloc-core/src/lock.rs");
    let code = &code[code.find("pub enum Rank {").expect("the ranks")..];
    let code = &code[..code.find("\n}").expect("their end")];
    let ranks: Vec<&str> =
        code.lines().filter_map(|line| line.trim().split_once(" = ").map(|(name, _)| name)).collect();
    let text = read("docs/lock-order.md");
    assert_eq!(first_cells(section(&text, "## Ranks")), ranks);
}

#[test]
fn scenarios_have_tests() {
    let rows = heapsift_tests::safety::rows();
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert!(ids.len() == rows.len() && rows.len() > 10, "{ids:?}");
    // All tests there are, of all crates.
    let mut sources = vec![repository()];
    let mut tests = BTreeSet::new();
    while let Some(path) = sources.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources.extend(fs::read_dir(&path).expect("readable").flatten().map(|entry| entry.path()));
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("readable");
            let mut lines = text.lines();
            while let Some(line) = lines.next() {
                if line.trim() == "#[test]" {
                    let function = lines.find_map(|line| line.trim().strip_prefix("fn "));
                    tests.extend(function.and_then(|rest| rest.split('(').next()).map(str::to_owned));
                }
            }
        }
    }
    for row in &rows {
        assert!(!row.tests.is_empty(), "{} has no test", row.id);
        for test in &row.tests {
            assert!(tests.contains(test), "{}: there is no test {test}", row.id);
        }
    }
    // And whatever is named by a row is one of its tests.
    let is_named = |test: &&String| {
        let (id, rest) = test.split_once('_').unwrap_or((test, ""));
        id.len() <= 3 && id.len() >= 2 && !rest.is_empty() && id[1..].bytes().all(|b| b.is_ascii_digit())
    };
    for test in tests.iter().filter(is_named) {
        let listed = rows.iter().any(|row| row.tests.contains(test));
        assert!(listed, "{test} is named by a row, and docs/safety.md doesn't list it");
    }
}

/// Run once more when all others have ended: then all that they have said is in it.
#[test]
fn the_table_of_scenarios_is_written() {
    let table = heapsift_tests::safety::write_table();
    for row in heapsift_tests::safety::rows() {
        assert!(
            table.lines().any(|line| line.starts_with(&format!("| {} | ", row.id))),
            "{} is not in\n{table}",
            row.id
        );
    }
}

/// What the map says of a crate names each file and directory of its sources, and no other files.
#[test]
fn the_map_is_whole() {
    let map = read("ARCHITECTURE.md");
    for (heading, sources) in [
        ("### `alloc-core/` – the heap", "alloc-core/src"),
        ("### `profiler/` – package `heapsift`", "profiler/src"),
        ("### `pprof-export/` – the format", "pprof-export/src"),
        ("### `capi/` – the C door", "capi/src"),
        ("### `viewer/` – the command and its library", "viewer/src"),
    ] {
        let named: BTreeSet<&str> = section(&map, heading).split('`').skip(1).step_by(2).collect();
        let sources = repository().join(sources);
        for entry in fs::read_dir(&sources).expect("a directory").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // The files of a directory are told with it, or with the file of its module.
            let is_named = if entry.path().is_dir() {
                named.iter().any(|known| known.starts_with(&format!("{name}/")) || *known == format!("{name}.rs"))
            } else {
                matches!(name.as_str(), "lib.rs" | "main.rs") || named.contains(name.as_str())
            };
            assert!(is_named, "ARCHITECTURE.md doesn't name {name} of {}", sources.display());
        }
        let mut directories = vec![sources.parent().expect("the crate").to_owned()];
        let mut files = Vec::new();
        while let Some(directory) = directories.pop() {
            for path in fs::read_dir(directory).expect("a directory").flatten().map(|entry| entry.path()) {
                if path.is_dir() { directories.push(path) } else { files.push(path) }
            }
        }
        for name in named.iter().filter(|name| name.ends_with(".rs")) {
            let is_there = files.iter().any(|file| file.ends_with(name)) || repository().join(name).exists();
            assert!(is_there, "{heading}: there is no {name}");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut documents: Vec<PathBuf> = vec![repository(), repository().join("docs")];
    documents = documents
        .iter()
        .flat_map(|directory| fs::read_dir(directory).expect("a directory"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    assert!(documents.len() >= 10, "{documents:?}");
    for document in documents {
        let text = fs::read_to_string(&document).expect("a document");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let directory = document.parent().unwrap_or(Path::new("."));
            let target = if file.is_empty() { document.clone() } else { directory.join(file) };
            assert!(target.exists(), "{}: {link}", document.display());
            if !anchor.is_empty() {
                let there = fs::read_to_string(&target).expect("a document");
                let anchors = there.lines().filter(|line| line.starts_with('#')).map(|line| {
                    let title = line.trim_start_matches('#').trim().to_lowercase();
                    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
                    kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
                });
                assert!(anchors.into_iter().any(|known| known == anchor), "{}: {link}", document.display());
            }
        }
    }
}
