//! `run`: with any library in place of the allocator, and programs that leave the dumps themselves.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use crate::support::{Scratch, service};

/// Some library that every program can be started with.
fn library() -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("/libgcc_s.so") || line.contains("/libc.so")).unwrap();
    line.split_whitespace().last().unwrap().to_owned()
}

fn heapsift_in(scratch: &Scratch, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heapsift"));
    command.current_dir(scratch.path()).env_remove("MALLOC_CONF").env("HEAPSIFT_LIB", library()).args(words);
    command
}

/// Shell code that leaves a final dump as the allocator would.
fn leave_dump(scratch: &Scratch) -> String {
    let dump = scratch.file("dump", &service(40).gzip());
    format!("p=${{MALLOC_CONF#*prof_prefix:}}; p=${{p%%,*}}; cp {dump} $p.$$.0.f.heap.pb.gz")
}

#[test]
fn the_summary_names_the_sites() {
    let scratch = Scratch::new();
    let script = format!("echo out; echo err >&2; {}; exit 7", leave_dump(&scratch));
    let output = heapsift_in(&scratch, &["run", "--", "sh", "-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    // Standard output is the program's alone.
    assert_eq!(output.stdout, b"out\n");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("err\nheapsift: 1 dump in heapsift-sh-"), "{errors}");
    assert!(errors.contains("In use at exit: 55.62MB, 95%: 45.82..65.41MB, 102 samples"), "{errors}");
    assert!(errors.contains("Allocated in total: 111.24MB"), "{errors}");
    assert!(errors.contains("  remember  src/leak.c:12"), "{errors}");
    let directory = fs::read_dir(scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.starts_with("heapsift-sh-"))
        .unwrap();
    let pid = directory.rsplit('-').next().unwrap();
    assert!(fs::exists(scratch.join(&format!("{directory}/heapsift.{pid}.0.f.heap.pb.gz"))).unwrap());
}

#[test]
fn dumps_of_earlier_runs_are_not_counted() {
    let scratch = Scratch::new();
    let out = scratch.join("dumps");
    for _ in 0..2 {
        let words = ["run", "--no-top", "--out", &out, "--", "sh", "-c", &leave_dump(&scratch)];
        let output = heapsift_in(&scratch, &words).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(errors, "heapsift: 1 dump in dumps\n");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn the_users_settings_are_kept() {
    let scratch = Scratch::new();
    let out = scratch.join("dumps");
    let script = "echo $LD_PRELOAD; echo $MALLOC_CONF; ls -d dumps";
    let words = ["run", "--out", &out, "--sample", "64KiB", "--", "sh", "-c", script];
    let output = heapsift_in(&scratch, &words).env("MALLOC_CONF", "narenas:2").env("LD_PRELOAD", "").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    let real = fs::canonicalize(library()).unwrap();
    assert_eq!(lines.next(), real.to_str());
    let expected =
        format!("prof:true,prof_final:true,prof_peak:true,prof_prefix:{out}/heapsift,narenas:2,prof_sample:64KiB");
    assert_eq!(lines.next(), Some(expected.as_str()));
    assert_eq!(lines.next(), Some("dumps"));
}

#[test]
fn programs_that_cannot_be_started() {
    let scratch = Scratch::new();
    let output = heapsift_in(&scratch, &["run", "--", "no-such-program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors, "heapsift: no-such-program: cannot run: No such file or directory (os error 2)\n");
    scratch.file("plain", b"text");
    let output = heapsift_in(&scratch, &["run", "--", "./plain"]).output().unwrap();
    assert_eq!(output.status.code(), Some(126));
    let output = heapsift_in(&scratch, &["run", "--lib", "absent.so", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "no directory is left behind");
}

#[test]
fn a_program_without_a_dump_is_explained() {
    let scratch = Scratch::new();
    let output = heapsift_in(&scratch, &["run", "--", "sh", "-c", "exit 3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("heapsift: sh left no dump: it ended without"), "{errors}");
    assert_eq!(errors.lines().count(), 1);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "the empty directory is gone");
}

#[test]
fn it_ends_as_its_program_ended() {
    let scratch = Scratch::new();
    let output = heapsift_in(&scratch, &["run", "--", "sh", "-c", "kill -TERM $$"]).output().unwrap();
    assert_eq!(output.status.signal(), Some(libc_sigterm()));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("it was ended by signal 15 before it could write one"), "{errors}");
}

fn libc_sigterm() -> i32 {
    15
}

#[test]
fn signals_are_passed_on() {
    let scratch = Scratch::new();
    for (name, number) in [("INT", 2), ("TERM", 15), ("HUP", 1), ("USR1", 10), ("USR2", 12)] {
        let script = format!("trap 'echo got {name}; exit {number}' {name}; echo ready; while :; do sleep 0.05; done");
        let mut child = heapsift_in(&scratch, &["run", "--no-top", "--", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status();
        assert!(sent.unwrap().success());
        assert_eq!(lines.next().unwrap().unwrap(), format!("got {name}"));
        assert_eq!(child.wait().unwrap().code(), Some(number));
    }
}

#[test]
fn the_program_inherits_no_blocked_signal() {
    let scratch = Scratch::new();
    let script = "grep SigBlk /proc/self/status; grep SigIgn /proc/self/status";
    let with = heapsift_in(&scratch, &["run", "--", "sh", "-c", script]).output().unwrap().stdout;
    let text = String::from_utf8(with).unwrap();
    assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
}
