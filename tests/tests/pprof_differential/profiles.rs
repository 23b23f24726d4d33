//! The profiles that both read: generated ones, those of Go programs, ours, and recorded ones where they are at hand.

use std::fs;
use std::path::{Path, PathBuf};

use heapsift_tests::artifacts::{Scratch, repository};
use heapsift_tests::dump::{dumps, final_dump, only};
use heapsift_tests::{Dump, Program, by_length, tools};
use pprof_export::reader::{Limits, decode};
use pprof_export::schema::Profile;

use super::Tools;
use super::generated::{self, SHAPES};

/// A profile to show to both.
pub struct Subject {
    /// For messages and for the table of differences.
    pub name: String,
    /// Where it is.
    pub file: PathBuf,
    /// What to compare it with.
    pub base: Option<PathBuf>,
    /// What it says.
    pub message: Profile,
    /// It is a pprof file, and not one of the older formats.
    pub is_pprof: bool,
    /// It takes `go tool pprof` seconds.
    pub is_slow: bool,
}

impl Subject {
    fn new(name: &str, file: PathBuf, base: Option<PathBuf>) -> Self {
        Subject::read(name, file, base).unwrap_or_else(|| panic!("{name} is not a pprof file"))
    }

    fn read(name: &str, file: PathBuf, base: Option<PathBuf>) -> Option<Self> {
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let is_slow = bytes.len() > 1 << 20;
        let message = decode(&bytes, &Limits::DEFAULT).ok()?;
        Some(Subject { name: name.to_owned(), file, base, message, is_pprof: true, is_slow })
    }

    /// A file of an older format, which we read too: what it says is what `go tool pprof` makes of it, unless there are rows
    /// without stacks, which that drops, so that ours must do. None if it is of a format that only `go tool pprof` reads.
    fn of_old_format(name: &str, file: PathBuf, tools: &Tools, scratch: &Scratch) -> Option<Self> {
        let converted = scratch.join(format!("{name}.converted.pb.gz"));
        let convert = Program::new(&tools.heapsift).args(["convert", "--symbolize=none", "--to", "pprof", "-o"]);
        if convert.arg(&converted).arg(&file).run().status != 0 {
            return None;
        }
        let mut subject = Subject::new(name, converted.clone(), None);
        if !subject.message.string_table.iter().any(|text| text == "[unknown stack]") {
            let convert =
                Program::new(&tools.pprof).args(["-symbolize=none", "-proto", "-output"]).arg(&converted).arg(&file);
            convert.env("PPROF_TMPDIR", scratch.path()).run().expect_success();
            subject = Subject::new(name, converted, None);
        }
        Some(Subject { file, is_pprof: false, ..subject })
    }
}

/// Heap profiles as gperftools writes them: exact, and sampled with a row that has no stack.
pub fn of_gperftools(scratch: &Scratch, tools: &Tools) -> Vec<Subject> {
    let rows = "     3:      300 [     5:      500] @ 0x400123 0x400456 0x7f0000001234\n     \
                2:  8388608 [     2:  8388608] @ 0x400fff 0x400456\n     \
                0:        0 [    70:     7000] @ 0x7f0000001234\n";
    let maps = "MAPPED_LIBRARIES:\n00400000-00500000 r-xp 00000000 08:01 77 /opt/app/service\n\
                7f0000000000-7f0000100000 r-xp 00001000 08:01 78 /usr/lib/libz.so.1\n";
    let write = |name: &str, head: &str, more: &str| {
        let file = scratch.join(name);
        let text = format!("heap profile:      6:  8388924 [    78:  8396124] @ {head}\n{rows}{more}\n{maps}");
        fs::write(&file, text).expect("a scratch file");
        Subject::of_old_format(name, file, tools, scratch).expect("both read it")
    };
    let stackless = "     1:       16 [     1:       16] @\n";
    vec![write("gperftools heap", "heapprofile", ""), write("gperftools sampled heap", "heap_v2/524288", stackless)]
}

/// Profiles made by lot, each with another of its shape as base, from elsewhere in memory.
pub fn generated(scratch: &Scratch) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for (at, shape) in SHAPES.iter().enumerate() {
        for seed in 0..by_length(2, 3) {
            let write = |slide: u64, drawn: u64| {
                let file = scratch.join(format!("{at}-{seed}-{drawn}.pb"));
                let message = generated::profile(shape, seed * 100 + at as u64, slide, drawn);
                fs::write(&file, prost::Message::encode_to_vec(&message)).expect("a scratch file");
                file
            };
            let base = write(0x1000_0000 * (seed % 2), 1);
            subjects.push(Subject::new(&format!("{} {seed}", shape.name), write(0, 0), Some(base)));
        }
    }
    subjects
}

/// Profiles that Go's runtime writes.
pub fn of_go(scratch: &Scratch, go: &Path) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for (program, files, bases) in [
        ("allocations", &["heap", "allocs", "later"][..], &[("later", "heap"), ("allocs", "heap")][..]),
        ("waiting", &["block", "mutex", "goroutine", "threadcreate"], &[("block", "mutex")]),
        ("burning", &["cpu", "cpu2"], &[("cpu", "cpu2")]),
    ] {
        let binary = scratch.join(program);
        tools::build_go(go, &format!("{program}.go"), &binary);
        Program::new(&binary).arg(scratch.path()).run().expect_success();
        let path = |name: &str| scratch.join(format!("{name}.pb.gz"));
        for file in files {
            let base = bases.iter().find(|(of, _)| of == file).map(|(_, base)| path(base));
            subjects.push(Subject::new(&format!("go {file}"), path(file), base));
        }
    }
    subjects
}

/// Our own, of all kinds, as they are written and with names.
pub fn ours(scratch: &Scratch) -> Vec<Subject> {
    let mut subjects = Vec::new();
    let mut both = |name: &str, file: PathBuf| {
        let named = scratch.join(format!("{name}.named.pb.gz"));
        Dump::symbolized(&file, &named);
        subjects.push(Subject::new(&format!("ours {name} without names"), file.clone(), None));
        subjects.push(Subject::new(&format!("ours {name}"), named, Some(file)));
    };
    let place = |name: &str| {
        let place = scratch.join(name);
        fs::create_dir(&place).expect("a fresh directory");
        place
    };
    for (name, kind, source, conf) in [
        ("sites", "", "c/sites.c", "prof_seed:7"),
        ("labels", "", "c/labels.c", "prof_seed:7,prof_sample:8KiB"),
        ("waste", "waste", "c/waste.c", "prof_seed:7"),
        ("slack", "slack", "c/slack.c", "prof_seed:7,prof_sample:32KiB"),
        ("rss", "rss", "c/sites.c", "prof_seed:7"),
        ("lifetime", "lifetime", "c/lifetimes.c", "prof_seed:7,prof_sample:8KiB"),
        ("frees", "lifetime", "c/lifetimes.c", "prof_seed:7,prof_sample:8KiB,prof_lifetime_frees:true"),
        ("peak", "peak", "c/sites.c", "prof_seed:7,prof_peak:true,prof_sample:64KiB"),
    ] {
        let place = place(name);
        let program = Program::new(tools::compile(source, &[]));
        if kind.is_empty() {
            program.under(final_dump(&place, conf)).run().expect_success();
            both(name, only(&place, 'f'));
            continue;
        }
        let conf = format!("prof:true,{conf},prof_prefix:{}/dump", place.display());
        tools::dumping_at_exit(program, &format!("prof.{kind}_dump")).under(conf).run().expect_success();
        let entries = fs::read_dir(&place).expect("readable").map(|entry| entry.expect("readable").path());
        let found: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(".pb.gz")).collect();
        let [file] = &found[..] else { panic!("dumps of {kind}: {found:?}") };
        both(name, file.clone());
    }
    if let Some(python) = tools::need("python3") {
        let place = place("python");
        let script = "import json; kept = [json.loads(json.dumps({str(i): [i] * 50})) for i in range(3000)]";
        let conf = final_dump(&place, "prof_seed:7,prof_sample:16KiB");
        Program::new(python).args(["-c", script]).under(conf).run().expect_success();
        both("python", dumps(&place, 'f').into_iter().next().expect("Python's own dump"));
    }
    subjects
}

/// Recorded profiles: other people's, which are not part of this project.
pub fn recorded(scratch: &Scratch, tools: &Tools) -> Vec<Subject> {
    let named = std::env::var_os("HEAPSIFT_PROFILES").map(PathBuf::from);
    let place = named.unwrap_or_else(|| repository().join("../shared/profiles"));
    let Ok(entries) = fs::read_dir(&place) else {
        println!("{}: there are no recorded profiles; the others carry the test", place.display());
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_none_or(|extension| extension != "md" && extension != "tsv"))
        .collect();
    files.sort();
    let mut subjects = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let name = file.file_name().expect("a file has a name").to_string_lossy().into_owned();
        // The series of one process, and otherwise none.
        let series = |path: &&PathBuf| path.to_string_lossy().contains("testdata_many_");
        let base = at.checked_sub(1).map(|before| &files[before]).filter(series).filter(|_| series(&file));
        let subject = Subject::read(&name, file.clone(), base.cloned());
        match subject.or_else(|| Subject::of_old_format(&name, file.clone(), tools, scratch)) {
            Some(subject) => subjects.push(subject),
            None => println!("{name} is of a format that only go tool pprof reads"),
        }
    }
    subjects
}

impl Subject {
    fn text(&self, index: i64) -> &str {
        usize::try_from(index).ok().and_then(|index| self.message.string_table.get(index)).map_or("", String::as_str)
    }

    /// Names of functions that rows use, or of binaries where there are none.
    pub fn names(&self) -> Vec<&str> {
        let functions = self.message.function.iter().map(|function| self.text(function.name));
        let binaries = self.message.mapping.iter().map(|mapping| self.text(mapping.filename));
        let mut names: Vec<&str> = functions.filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            names = binaries.filter(|name| !name.is_empty()).collect();
        }
        names
    }

    /// Paths of source files.
    pub fn files(&self) -> Vec<&str> {
        let files = self.message.function.iter().map(|function| self.text(function.filename));
        files.filter(|file| file.contains('/')).collect()
    }

    /// Paths of binaries.
    pub fn binaries(&self) -> Vec<&str> {
        let binaries = self.message.mapping.iter().map(|mapping| self.text(mapping.filename));
        binaries.filter(|file| !file.is_empty()).collect()
    }

    /// Labels with texts: key and value.
    pub fn texts(&self) -> Vec<(&str, &str)> {
        let labels = self.message.sample.iter().flat_map(|sample| &sample.label);
        labels.filter(|label| label.str != 0).map(|label| (self.text(label.key), self.text(label.str))).collect()
    }

    /// Labels with numbers: key, number, unit.
    pub fn numbers(&self) -> Vec<(&str, i64, &str)> {
        let labels = self.message.sample.iter().flat_map(|sample| &sample.label);
        let numbers = labels.filter(|label| label.str == 0 && label.num != 0);
        numbers.map(|label| (self.text(label.key), label.num, self.text(label.num_unit))).collect()
    }

    /// Names of the columns.
    pub fn columns(&self) -> Vec<&str> {
        self.message.sample_type.iter().map(|kind| self.text(kind.r#type)).filter(|name| !name.is_empty()).collect()
    }
}
