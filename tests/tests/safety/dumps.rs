//! Rows D1 to D8: dumps as safe files.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, dumps};
use heapsift_tests::safety::{Who, holds, told};
use heapsift_tests::{Dump, Ended, Program, by_length, is_long, library, tools};

use crate::{peers, strace};

/// A dump of some 25 KiB, in several writes.
const WORDS: [&str; 6] = ["stacks", "2000", "mark", "dump", "target.heap.pb.gz", "mark"];
const CONF: &str = "prof:true,prof_sample:1,prof_final:false";

fn steps() -> PathBuf {
    tools::compile("c/steps.c", &[])
}

/// Names in a directory: those of dumps, and others.
fn names(directory: &Path) -> (Vec<String>, Vec<String>) {
    let entries = fs::read_dir(directory).expect("readable").flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .partition(|name| name.ends_with(".heap.pb.gz"))
}

/// A directory with a dump in it that was written without faults, under the name that the next ones have.
fn prepared(name: &str) -> (Scratch, u64) {
    let scratch = Scratch::new(name);
    Program::new(steps()).args(WORDS).directory(scratch.path()).under(CONF).run().expect_success();
    let dump = Dump::read(&scratch.join("target.heap.pb.gz"));
    assert!(dump.total(Column::InuseObjects) >= 2000);
    let bytes = fs::metadata(scratch.join("target.heap.pb.gz")).expect("just read").len();
    (scratch, bytes)
}

/// What is under the final name is whole, and at most one temporary file stands beside it.
#[track_caller]
fn is_whole(directory: &Path, what: &str) {
    let (whole, others) = names(directory);
    assert_eq!(whole, ["target.heap.pb.gz"], "{what}: {others:?}");
    let objects = Dump::read(&directory.join("target.heap.pb.gz")).total(Column::InuseObjects);
    assert!(objects >= 2000, "{what}: {objects}");
    assert!(others.len() <= 1 && others.iter().all(|name| name.ends_with(".heapsift.tmp")), "{what}: {others:?}");
}

/// Of the writes between the two marks, those of the dump: the first and the last are lines of the program's own.
fn of_the_dump((before, within): (u32, u32)) -> (u32, u32) {
    (before + 1, within - 2)
}

/// The calls of a dump: (name, k) for each, k counted from the program's start. In the short form those that only ask about
/// memory are left out but for some.
fn calls(strace: &Path, directory: &Path) -> Vec<(String, u32)> {
    let counts = strace::counts(strace, Some(&library()), CONF, &steps(), &WORDS, directory);
    let mut calls = Vec::new();
    for (name, (mut before, mut within)) in counts {
        if name == "write" {
            (before, within) = of_the_dump((before, within));
        }
        let many = ["getpid", "process_vm_readv"].contains(&name.as_str());
        let step = if many { by_length(25, 1) } else { 1 };
        calls.extend((before + 1..=before + within).step_by(step).map(|k| (name.clone(), k)));
    }
    assert!(calls.len() > 30, "{calls:?}");
    calls
}

#[test]
fn d1_killed_at_every_call_of_a_dump() {
    let Some(strace) = strace::found() else { return };
    let (scratch, _) = prepared("d1");
    let calls = calls(&strace, scratch.path());
    let mut killed = 0;
    for (name, k) in &calls {
        let options = strace::inject(name, "signal=SIGKILL", &k.to_string());
        let run = strace::traced(&strace, &options, Some(&library()), CONF, &steps()).args(WORDS);
        let ended = run.directory(scratch.path()).run();
        killed += usize::from(ended.status == 128 + libc::SIGKILL);
        is_whole(scratch.path(), &format!("killed at {name} {k}"));
    }
    assert!(killed * 10 >= calls.len() * 9, "{killed} of {} were killed", calls.len());
    // What the last ones left is swept by the next.
    Program::new(steps()).args(WORDS).directory(scratch.path()).under(CONF).run().expect_success();
    assert_eq!(names(scratch.path()).1, Vec::<String>::new());
    holds(
        "D1",
        &format!(
            "killed at each of {} calls: always a whole dump under the name, never two temporary files",
            calls.len()
        ),
    );
    peers::killed(&strace);
}

/// Runs the steps with a fault at a call of the dump. The program goes on and the file is whole; what it said.
#[track_caller]
fn with_fault(strace: &Path, directory: &Path, name: &str, fault: &str, when: &str) -> Ended {
    let run = strace::traced(strace, &strace::inject(name, fault, when), Some(&library()), CONF, &steps());
    let ended = run.args(WORDS).directory(directory).run();
    let what = format!("{fault} at {name} {when}: {}", ended.complaints());
    assert_eq!(ended.status, 0, "{what}");
    // The last step was made, and the answer is one of the two.
    let text = ended.text();
    assert!(
        text.ends_with("mark\n") && (text.contains("answer 0\n") || text.contains("answer 14\n")),
        "{what}\n{text}"
    );
    is_whole(directory, &what);
    if name != "unlinkat" {
        assert_eq!(names(directory).1, Vec::<String>::new(), "{what}");
    }
    ended
}

#[test]
fn d2_a_call_of_a_dump_fails() {
    let Some(strace) = strace::found() else { return };
    let (scratch, _) = prepared("d2");
    let errors = [("ENOSPC", 28), ("EIO", 5), ("EDQUOT", 122)];
    let (mut tried, mut refused) = (0, 0);
    for (at, (call, k)) in calls(&strace, scratch.path()).into_iter().enumerate() {
        for (number, (error, code)) in errors.into_iter().enumerate() {
            if !is_long() && number != at % 3 {
                continue;
            }
            let ended = with_fault(&strace, scratch.path(), &call, &format!("error={error}"), &k.to_string());
            tried += 1;
            if ended.text().contains("answer 14\n") {
                refused += 1;
                assert!(ended.complaints().contains(&format!("(errno {code})")), "{call} {k}: {}", ended.complaints());
                assert_eq!(ended.complaints().lines().count(), 1, "{}", ended.complaints());
            } else {
                let essential = ["fsync", "renameat2"].contains(&call.as_str());
                assert!(!essential, "{call} {k} fails with {error}, and the dump claims to be written");
            }
        }
    }
    assert!(refused >= 5, "{refused} of {tried}");
    // From one write on.
    let counts = strace::counts(&strace, Some(&library()), CONF, &steps(), &WORDS, scratch.path());
    let (before, within) = of_the_dump(counts["write"]);
    for k in before + 1..=before + within {
        let ended = with_fault(&strace, scratch.path(), "write", "error=ENOSPC", &format!("{k}..{}", before + within));
        assert!(ended.text().contains("answer 14\n"), "write {k}: {}", ended.text());
    }
    holds(
        "D2",
        &format!(
            "{tried} faults: {refused} errors told by their numbers, the rest made good; 0 torn files, 0 left behind"
        ),
    );
}

/// A file system that is full after some pages, and a device that always is.
#[test]
fn d2_a_disk_that_is_full() {
    let Some(unshare) = tools::need("unshare") else { return };
    let (_, bytes) = prepared("d2-size");
    let mut refused = 0;
    let mut written = 0;
    for pages in (1..=bytes / 4096 + 4).step_by(by_length(3, 1)) {
        let scratch = Scratch::new("d2-full");
        let script = "mount -t tmpfs -o size=$1 none . && cd \"$PWD\" && shift && LD_PRELOAD=$1 MALLOC_CONF=$2 && shift 2 && \
                      export LD_PRELOAD MALLOC_CONF && \"$@\"; status=$?; unset LD_PRELOAD; ls -A; exit $status";
        let run = Program::new(&unshare).args(["--mount", "sh", "-c", script, "sh", &format!("{}k", pages * 4)]);
        let run = run.arg(library()).arg(CONF).arg(steps()).args(WORDS).directory(scratch.path());
        let ended = run.run();
        if ended.complaints().contains("unshare:") || ended.complaints().contains("mount:") {
            return told("D2", "a full disk", Who::Heapsift, "no right to mount here", true);
        }
        let text = ended.text();
        assert_eq!(ended.status, 0, "{}", ended.complaints());
        let left: Vec<&str> = text.lines().filter(|line| line.contains("heap")).collect();
        if text.contains("answer 14\n") {
            assert!(ended.complaints().contains("No space left on device (errno 28)"), "{}", ended.complaints());
            assert!(left.is_empty(), "{left:?}");
            refused += 1;
        } else {
            assert_eq!(left, ["target.heap.pb.gz"]);
            written += 1;
        }
    }
    assert!(refused > 0 && written > 0, "{refused} {written}");
    told(
        "D2",
        "a full disk",
        Who::Heapsift,
        &format!("{refused} sizes too small: ENOSPC, nothing left; {written} large enough: whole"),
        true,
    );
}

#[test]
fn d3_a_limit_on_the_size_of_files() {
    let (scratch, bytes) = prepared("d3");
    let mut tried = 0;
    let limits = (0..bytes + 4096).step_by(by_length(bytes as usize / 12, bytes as usize / 300));
    for limit in limits {
        // What it says goes to a pipe, for which there is no limit. In every other run the complaint goes to a file, which is
        // beyond the limit as well: then it is lost, and nothing else.
        let complains_to_pipe = tried % 2 == 0;
        let script = "set -o pipefail; LD_PRELOAD=$1 MALLOC_CONF=$2 \"${@:3}\"";
        let script = format!("{script} {} | cat", if complains_to_pipe { "2>&1" } else { "" });
        let ended = Program::new("bash")
            .args(["-c", &script, "bash"])
            .arg(library())
            .arg(CONF)
            .arg(steps())
            .args(["stacks", "2000", "limit", &limit.to_string(), "dump", "target.heap.pb.gz", "mark"])
            .directory(scratch.path())
            .run()
            .expect_success();
        let text = ended.text();
        let told = !complains_to_pipe || text.contains("File too large (errno 27)");
        // The text of a dump differs by a few bytes from run to run.
        if limit + 500 < bytes {
            assert!(text.contains("answer 14\n") && told, "{limit}: {text}");
        } else if limit > bytes + 500 {
            assert!(text.contains("answer 0\n"), "{limit}: {}", ended.complaints());
        }
        is_whole(scratch.path(), &format!("limit {limit}"));
        assert_eq!(names(scratch.path()).1, Vec::<String>::new());
        tried += 1;
    }
    holds("D3", &format!("{tried} limits from 0 bytes on: EFBIG, no SIGXFSZ, the file before it intact"));
    peers::limited();
}

/// What a dump says, without the moment and the addresses.
fn content(path: &Path) -> Vec<(usize, Vec<i64>)> {
    let dump = Dump::read(path);
    let mut rows: Vec<_> = dump.profile.sample.iter().map(|row| (row.location_id.len(), row.value.clone())).collect();
    rows.sort();
    rows
}

#[test]
fn d4_calls_that_are_interrupted_again_and_again() {
    let Some(strace) = strace::found() else { return };
    let (scratch, _) = prepared("d4");
    let target = scratch.join("target.heap.pb.gz");
    let plain = content(&target);
    let counts = strace::counts(&strace, Some(&library()), CONF, &steps(), &WORDS, scratch.path());
    let mut tried = Vec::new();
    for name in
        ["openat", "write", "read", "fsync", "renameat2", "newfstatat", "flock", "fchmod", "fstat", "getdents64"]
    {
        let (before, within) = if name == "write" { of_the_dump(counts[name]) } else { counts[name] };
        for error in ["EINTR", "EAGAIN"] {
            // The kernel has no reason to answer EAGAIN to most of them; for a write it may.
            if error == "EAGAIN" && name != "write" {
                continue;
            }
            // Every second call, and then the others; each is made again, which moves those behind it.
            for skipped in 0..2.min(within) {
                let first = before + 1 + skipped;
                let last = first + 2 * (within - skipped) - 1;
                fs::remove_file(&target).expect("of the last run");
                let ended = with_fault_and_no_file(&strace, scratch.path(), name, error, &format!("{first}..{last}+2"));
                assert!(ended.text().contains("answer 0\n"), "{error} at {name} {first}: {}", ended.complaints());
                assert!(content(&target) == plain, "{error} at {name} {first}: another dump");
            }
            tried.push(format!("{error} of {name}"));
        }
    }
    holds("D4", &format!("every second call interrupted ({}): the same dump", tried.join(", ")));
}

#[track_caller]
fn with_fault_and_no_file(strace: &Path, directory: &Path, name: &str, error: &str, when: &str) -> Ended {
    let run = strace::traced(
        strace,
        &strace::inject(name, &format!("error={error}"), when),
        Some(&library()),
        CONF,
        &steps(),
    );
    let ended = run.args(WORDS).directory(directory).run();
    assert_eq!(ended.status, 0, "{error} at {name} {when}: {}", ended.complaints());
    ended
}

#[test]
fn d5_dumps_at_once_and_at_the_end() {
    let program = tools::compile("c/dump_race.c", &["-ldl"]);
    let runs = by_length(5, 100);
    let mut slowest = Duration::ZERO;
    for (mode, status) in [("together", 0), ("atexit", 0), ("exit", 0), ("abort", 128 + libc::SIGABRT)] {
        for _ in 0..runs {
            let scratch = Scratch::new("d5");
            let conf =
                format!("prof:true,prof_final:true,lg_prof_sample:12,prof_prefix:{}/d", scratch.path().display());
            let ended = Program::new(&program).arg(mode).under(conf).within(Duration::from_secs(60)).run();
            assert_eq!(ended.status, status, "{mode}: {}", ended.complaints());
            slowest = slowest.max(ended.elapsed);
            let (whole, others) = names(scratch.path());
            whole.iter().for_each(|name| drop(Dump::read(&scratch.join(name))));
            // The end of the process may find the thread that dumps without pause in the middle of one; the next dump would
            // sweep what is left of it.
            let allowed = usize::from(matches!(mode, "abort" | "exit"));
            assert!(others.len() <= allowed, "{mode}: {others:?}");
            assert_eq!(dumps(scratch.path(), 'f').len(), usize::from(mode != "abort"), "{mode}: {whole:?}");
            if mode == "together" {
                // Eight threads, ten each, all asked for: none is left out.
                assert_eq!(dumps(scratch.path(), 'm').len(), 80);
            }
        }
    }
    holds(
        "D5",
        &format!(
            "{runs} runs in each of 4 ways: one after the other, all whole; the slowest run took {} ms",
            slowest.as_millis()
        ),
    );
}

#[test]
fn d7_descriptors() {
    let scratch = Scratch::new("d7");
    let conf = format!("prof:true,prof_final:false,prof_keep:3,prof_prefix:{}/d", scratch.path().display());
    let count = by_length("300", "10000");
    let run = Program::new(steps()).args(["alloc", "1", "fds", "dumps", count, "fds"]).within(Duration::from_secs(600));
    let text = run.under(&conf).run().expect_success().text();
    let fds: Vec<&str> = text.lines().filter(|line| line.starts_with("fds")).collect();
    assert!(fds.len() == 2 && fds[0] == fds[1] && text.contains("failed 0\n"), "{text}");
    assert_eq!(dumps(scratch.path(), 'm').len(), 3);
    // None left for a directory and a file: an error, and nothing else.
    let sh = ["-c", "ulimit -n 4; exec \"$@\"", "sh"];
    let run = Program::new("/bin/sh").args(sh).arg(steps()).args(["alloc", "1", "dumps", "2", "free"]);
    let ended = run.under(&conf).run().expect_success();
    assert!(ended.text().contains("failed 2\nfree\n"), "{}", ended.text());
    assert!(ended.complaints().contains("Too many open files (errno 24)"), "{}", ended.complaints());
    // A program without standard streams writes to their numbers all the same.
    let talk = Scratch::new("d7-talk");
    let conf = format!("{CONF},prof_prefix:{}/d", talk.path().display());
    let sh = ["-c", "exec \"$@\" <&- >&- 2>&-", "sh"];
    let run = Program::new("/bin/sh").args(sh).arg(steps()).args(["stacks", "2000", "talk", "dumps", "20"]);
    run.under(&conf).run().expect_success();
    let whole = dumps(talk.path(), 'm');
    assert_eq!(whole.len(), 20);
    for path in whole {
        assert!(Dump::read(&path).total(Column::InuseObjects) >= 2000, "{}", path.display());
    }
    // Each is closed in a program that takes this one's place.
    if let Some(strace) = strace::found() {
        let log = scratch.join("log");
        let options = ["-o".to_owned(), log.display().to_string(), "-e".to_owned(), "trace=openat".to_owned()];
        let run = strace::traced(&strace, &options, Some(&library()), &conf, &steps());
        run.args(["alloc", "1", "mark", "dumps", "1"]).run().expect_success();
        let text = fs::read_to_string(&log).expect("written");
        let opened: Vec<&str> = text.lines().filter(|line| line.contains("openat(")).collect();
        assert!(opened.len() > 8 && opened.iter().all(|line| line.contains("O_CLOEXEC")), "{opened:?}");
    }
    holds("D7", &format!("{count} dumps: as many descriptors as before; all close on exec; EMFILE is an error"));
}

#[test]
fn d8_targets_that_are_no_files() {
    let scratch = Scratch::new("d8");
    let at = |name: &str| scratch.join(name);
    fs::write(at("victim"), "precious").expect("fresh");
    symlink("victim", at("link")).expect("fresh");
    symlink("/dev/full", at("full")).expect("fresh");
    symlink("nowhere", at("dangling")).expect("fresh");
    fs::hard_link(at("victim"), at("twin")).expect("fresh");
    fs::create_dir(at("directory")).expect("fresh");
    let mkfifo = Program::new("mkfifo").arg(at("fifo")).run();
    assert_eq!(mkfifo.status, 0, "{}", mkfifo.complaints());
    let mut words = vec!["alloc".to_owned(), "1".to_owned()];
    let targets = ["link", "full", "dangling", "twin", "directory", "fifo", "/dev/null", "/dev/full"];
    for target in targets {
        words.extend(["dump".to_owned(), scratch.path().join(target).display().to_string()]);
    }
    let ended = Program::new(steps()).args(&words).under(CONF).within(Duration::from_secs(20)).run().expect_success();
    assert_eq!(ended.text().matches("answer 14\n").count(), targets.len(), "{}", ended.text());
    assert_eq!(fs::read(at("victim")).expect("there"), b"precious");
    assert!(at("link").is_symlink() && at("dangling").is_symlink() && !at("nowhere").exists());
    assert!(fs::metadata(at("fifo")).expect("there").file_type().is_fifo());
    assert!(fs::metadata("/dev/null").expect("there").file_type().is_char_device());
    assert_eq!(fs::read_dir(at("directory")).expect("there").count(), 0);
    assert_eq!(fs::read_dir(scratch.path()).expect("there").count(), 7, "nothing was left behind");
    holds("D8", &format!("{} kinds of targets refused, none touched; none waits", targets.len()));
    peers::linked();
}

/// Somebody swaps the target for a link, and its directory for another, while dumps are written.
#[test]
fn d8_a_directory_that_is_swapped() {
    let scratch = Scratch::new("d8-swap");
    for name in ["one", "two"] {
        fs::create_dir(scratch.join(name)).expect("fresh");
    }
    fs::write(scratch.join("victim"), "precious").expect("fresh");
    let here = scratch.join("here");
    symlink("one", &here).expect("fresh");
    let rounds = by_length(200, 1000);
    let mut words = vec!["alloc".to_owned(), "1".to_owned()];
    for _ in 0..rounds {
        words.extend(["dump".to_owned(), here.join("d.heap.pb.gz").display().to_string()]);
    }
    let mut server = Program::new(steps()).args(&words).arg("stay").under(CONF).serve();
    let mut swaps = 0u32;
    let (link, next) = (scratch.join("link"), scratch.join("next"));
    while !server.log().contains("stay\n") {
        server.expect_running();
        // The directory is another; and in both, the target is a link now and then.
        let target = if swaps.is_multiple_of(2) { "two" } else { "one" };
        symlink(target, &next).expect("fresh");
        fs::rename(&next, &here).expect("over the old one");
        let target = scratch.join(target).join("d.heap.pb.gz");
        if swaps % 4 < 2 {
            symlink("../victim", &link).expect("fresh");
            fs::rename(&link, &target).expect("over what is there");
        } else {
            let _ = fs::remove_file(&target);
            // Time enough for a dump.
            std::thread::sleep(Duration::from_millis(2));
        }
        swaps += 1;
    }
    assert_eq!(fs::read(scratch.join("victim")).expect("there"), b"precious");
    for name in ["one", "two"] {
        for entry in fs::read_dir(scratch.join(name)).expect("there").flatten() {
            let path = entry.path();
            if !path.is_symlink() {
                Dump::read(&path);
            }
        }
    }
    let written = server.log().matches("answer 0\n").count();
    drop(server);
    told(
        "D8",
        "names swapped meanwhile",
        Who::Heapsift,
        &format!("{rounds} dumps, {swaps} swaps, {written} written: all whole, the victim untouched"),
        true,
    );
}
