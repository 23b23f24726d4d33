//! Hostile files: what the command does with bombs, cycles, absurd counts, deep recursion, text that is none, and files
//! that were cut.
//!
//! All files are made here, the same in each run. No command may take more than 2 s of processor time or 512 MiB, none may
//! panic, and one that refuses its file says so in one line, with the place and the field, and status 2.

mod binaries;
mod containers;
mod dwarf;
mod elf;
mod pprof;
mod text;
mod wire;

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::safety::holds;
use heapsift_tests::{Ended, Program, by_length, command};

/// What a command may take: 2 s of a processor of its own, which the long form gives it. In the short form other tests
/// run beside this one, on processors that share caches and units, and half as much again is let pass.
const PROCESSOR: Duration = Duration::from_secs(2);
const PROCESSOR_BUSY: Duration = Duration::from_secs(3);
const MEMORY_KIB: i64 = 512 << 10;

/// What becomes of a file.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// It is refused with a line that has this in it.
    Refused(&'static str),
    /// It is read, and every report is made.
    Read,
    /// One of the two.
    Either,
}

/// A file.
pub struct Case {
    name: String,
    fate: Fate,
    make: Box<dyn Fn() -> Vec<u8> + Send + Sync>,
}

impl Case {
    fn new(name: &str, fate: Fate, make: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self { name: name.to_owned(), fate, make: Box::new(make) }
    }

    fn refused(name: &str, part: &'static str, make: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::new(name, Fate::Refused(part), make)
    }

    fn read(name: &str, make: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::new(name, Fate::Read, make)
    }

    fn either(name: &str, make: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::new(name, Fate::Either, make)
    }
}

/// Something that went wrong: which command, and what.
pub type Complaints = Vec<String>;

/// Runs the command under limits. What is wrong whatever the file is goes to the complaints.
pub fn run(words: &[&str], complaints: &mut Complaints) -> Ended {
    let ended = Program::new(command()).args(words).within(Duration::from_secs(120)).run();
    let said = ended.complaints();
    let mut complain = |what: String| complaints.push(format!("{}: {what}", ended.shown));
    if !matches!(ended.status, 0 | 2) {
        complain(format!("status {}: {said}", ended.status));
    }
    if said.contains("panicked") || said.contains("overflowed its stack") {
        complain(format!("it panics: {said}"));
    }
    if ended.cpu > by_length(PROCESSOR_BUSY, PROCESSOR) {
        complain(format!("takes {:?}", ended.cpu));
    }
    if ended.peak_kib > MEMORY_KIB {
        complain(format!("takes {} MiB", ended.peak_kib >> 10));
    }
    ended
}

/// Whether the line that refuses a file says where: an offset, or a field with its index.
fn has_place(line: &str) -> bool {
    let digit_after = |text: &str| {
        line.match_indices(text).any(|(at, _)| line[at + text.len()..].starts_with(|c: char| c.is_ascii_digit()))
    };
    digit_after("byte ")
}

/// Shows the file to every command that may read it.
fn check(case: &Case, scratch: &Path) -> Complaints {
    let path = scratch.join(&case.name);
    std::fs::write(&path, (case.make)()).expect("a scratch file");
    let (file, out) = (path.to_str().expect("a plain path"), scratch.join(format!("{}.out", case.name)));
    let out = out.to_str().expect("a plain path");
    let mut complaints = Complaints::new();
    let first = run(&["top", file], &mut complaints);
    let is_refused = first.status == 2;
    if is_refused {
        let said = first.complaints();
        let expected = match case.fate {
            Fate::Refused(part) => part,
            Fate::Read => "(it should be read)",
            Fate::Either => "",
        };
        if said.lines().count() != 1
            || !said.starts_with(&format!("heapsift: {file}: "))
            || !said.contains(expected)
            || !has_place(&said)
        {
            complaints.push(format!("{}: {expected}: {said}", first.shown));
        }
        let others =
            [&["symbolize", file, "-o", out] as &[&str], &["info", file], &["diff", "--base", file, "--new", file]];
        for words in &others[..by_length(1, others.len())] {
            let again = run(words, &mut complaints);
            if again.status != 2 || again.complaints() != said || !again.stdout.is_empty() {
                complaints.push(format!("{}: status {}: {}", again.shown, again.status, again.complaints()));
            }
        }
        if Path::new(out).exists() {
            complaints.push(format!("{}: there is a result", case.name));
        }
    } else {
        if let Fate::Refused(part) = case.fate {
            complaints.push(format!("{}: it is not refused: {part}", case.name));
        }
        let commands = [
            &["info", file] as &[&str],
            &["top", "--json", "--cum", "--lines", file],
            &["tree", file],
            &["traces", file, "-o", out],
            &["flame", file, "-o", out],
            &["report", file, "-o", out],
            &["diff", file, file],
            &["leaks", file, file, file],
            &["merge", file, file, "-o", out],
            &["symbolize", file, "-o", out],
            &["convert", "--to", "raw", file, "-o", out],
            &["convert", "--to", "speedscope", file, "-o", out],
            &["convert", "--to", "dot", file, "-o", out],
        ];
        // Some of them in the short form, others for other files.
        let first = case.name.bytes().map(usize::from).sum::<usize>();
        for step in 0..by_length(4, commands.len()) {
            run(commands[(first + step * 3) % commands.len()], &mut complaints);
        }
        let _ = std::fs::remove_file(out);
    }
    let _ = std::fs::remove_file(&path);
    complaints
}

/// Does `work` with each of the items, two at a time; panics with all complaints.
pub fn each<T: Sync>(items: &[T], work: impl Fn(&T) -> Complaints + Sync) {
    let next = Mutex::new(items.iter());
    let complaints = Mutex::new(Complaints::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let take = || next.lock().expect("nobody panics in it").next();
                while let Some(item) = take() {
                    let found = work(item);
                    complaints.lock().expect("nobody panics in it").extend(found);
                }
            });
        }
    });
    let complaints = complaints.into_inner().expect("nobody panics in it");
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn profiles() -> Vec<Case> {
    let mut cases = Vec::new();
    containers::cases(&mut cases);
    pprof::cases(&mut cases);
    text::cases(&mut cases);
    cases
}

#[test]
fn hostile_profiles() {
    let cases = profiles();
    assert!(cases.len() >= 300, "{}", cases.len());
    let scratch = Scratch::new("hostile");
    each(&cases, |case| check(case, scratch.path()));
    let text =
        format!("{} hostile files: all within the limits, each that is refused with its place and field", cases.len());
    ["B1", "B2"].iter().for_each(|row| holds(row, &text));
}
