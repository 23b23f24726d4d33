//! Dumps that start by themselves, in programs that do nothing for it; what they are called, and which are kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, dumps};
use heapsift_tests::group::Group;
use heapsift_tests::{Dump, Program, Server, tools};

/// Options with the prefix in a directory.
fn conf(scratch: &Scratch, more: &str) -> String {
    format!("prof:true,lg_prof_sample:14,prof_prefix:{}/dump,{more}", scratch.path().display())
}

fn steps(conf: &str, steps: &str) -> Program {
    Program::new(tools::compile("c/steps.c", &[])).args(steps.split_whitespace()).under(conf)
}

/// Starts the steps and waits until they stay.
fn staying(conf: &str, words: &str) -> Server {
    let mut server = steps(conf, words).serve();
    let log = server.log_path();
    server.wait_until(|| fs::read_to_string(&log).unwrap_or_default().contains("stay"));
    server
}

/// The numbers of dumps in a directory: process, number, kind.
fn numbered(directory: &Path) -> Vec<(u32, u64, String)> {
    let mut found: Vec<_> = fs::read_dir(directory)
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("plain names"))
        .filter_map(|name| {
            let mut parts = name.strip_suffix(".heap.pb.gz")?.rsplit('.');
            let kind = parts.next()?.to_owned();
            let number = parts.next()?.parse().ok()?;
            Some((parts.next()?.parse().ok()?, number, kind))
        })
        .collect();
    found.sort();
    found
}

fn wait_for(what: &str, mut found: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !found() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
    started.elapsed()
}

fn threads_of(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).expect("a live process").count()
}

#[test]
fn no_thread_unless_an_option_asks_for_it() {
    let scratch = Scratch::new("threads");
    for (more, threads) in [
        ("prof_final:true", 1),
        ("lg_prof_interval:20,prof_gdump:true", 1),
        ("prof_interval_ms:60000", 2),
        ("prof_signal:SIGUSR2", 2),
        ("prof_rss_growth_pct:50,prof_cgroup_pct:90", 2),
    ] {
        let text = steps(&conf(&scratch, more), "small 100 threads").run().expect_success().text();
        assert!(text.contains(&format!("threads {threads}\n")), "{more}: {text}");
    }
    // With the profiler off there is nothing to watch for, but a signal that must not end the program.
    for (more, threads) in [("prof_interval_ms:10", 1), ("prof_signal:SIGUSR2", 2)] {
        let text = steps(more, "threads kill 12 sleep 50").run();
        assert_eq!((text.status == 0, text.text().contains(&format!("threads {threads}\n"))), (threads == 2, true));
    }
    assert_eq!(
        numbered(scratch.path()).iter().filter(|(_, _, kind)| kind != "f" && !kind.starts_with(['i', 'u'])).count(),
        0
    );
}

#[test]
fn dumps_by_the_clock() {
    let scratch = Scratch::new("clock");
    let ended = steps(&conf(&scratch, "prof_interval_ms:100"), "alloc 8 sleep 1500").run().expect_success();
    let found = numbered(scratch.path());
    // A machine under load may miss some; none may come too early.
    assert!((3..=15).contains(&found.len()), "{found:?}");
    for (number, (pid, sequence, kind)) in found.iter().enumerate() {
        assert_eq!((*pid, *sequence, kind), (ended.pid, number as u64, &format!("t{number}")));
    }
    let last = Dump::read(dumps(scratch.path(), 't').last().expect("one"));
    assert!(last.total(Column::InuseSpace) > 6 << 20);
}

#[test]
fn an_idle_process_dumps_when_a_signal_comes() {
    let scratch = Scratch::new("signal");
    let server = staying(&conf(&scratch, "prof_signal:SIGUSR2"), "alloc 4 stay");
    // SAFETY: signals a child of ours that lives.
    let signal = || unsafe { libc::kill(server.pid().cast_signed(), libc::SIGUSR2) };
    for count in 1..=3 {
        assert_eq!(signal(), 0);
        let waited = wait_for("a dump", || dumps(scratch.path(), 's').len() == count);
        println!("a dump {waited:?} after the signal");
    }
    // A storm is answered by a few dumps, and survived.
    for _ in 0..1000 {
        assert_eq!(signal(), 0);
    }
    wait_for("a dump after the storm", || dumps(scratch.path(), 's').len() > 3);
    for path in dumps(scratch.path(), 's') {
        assert!(Dump::read(&path).total(Column::InuseSpace) > 3 << 20);
    }
    assert_eq!(threads_of(server.pid()), 2);
    assert_eq!(server.stop(libc::SIGTERM), 128 + libc::SIGTERM);
}

#[test]
fn signals_during_work() {
    let scratch = Scratch::new("work");
    let mut words = String::from("alloc 4 ");
    for _ in 0..200 {
        words += "kill 12 churn 500 ";
    }
    steps(&conf(&scratch, "prof_signal:12"), &(words + "sleep 1500")).run().expect_success();
    let found = dumps(scratch.path(), 's');
    assert!(!found.is_empty());
    found.iter().for_each(|path| drop(Dump::read(path)));
}

#[test]
fn a_handler_of_the_program_takes_the_signal() {
    let scratch = Scratch::new("handler");
    let text = steps(&conf(&scratch, "prof_signal:SIGUSR2"), "handle 12 kill 12 kill 12 counted sleep 1000")
        .run()
        .expect_success()
        .text();
    assert!(text.contains("counted 2\n"), "{text}");
    assert_eq!(dumps(scratch.path(), 's'), Vec::<PathBuf>::new());
}

#[test]
fn a_new_maximum_is_dumped_at_the_next_sample_if_that_is_still_wanted() {
    // It is noted while nothing is sampled.
    for wanted in [true, false] {
        let scratch = Scratch::new("maximum");
        let word = if wanted { "on" } else { "off" };
        let words = format!("alloc 8 {word} prof.gdump on prof.active small 1000");
        steps(&conf(&scratch, "prof_active:false,prof_gdump:true"), &words).run().expect_success();
        assert_eq!(!dumps(scratch.path(), 'u').is_empty(), wanted);
    }
}

/// As browsers do in processes that go on without one.
#[test]
fn to_ask_for_a_sandbox_is_not_to_enter_one() {
    let scratch = Scratch::new("ask");
    steps(&conf(&scratch, "prof_final:true"), "small 1000 ask").run().expect_success();
    assert_eq!(dumps(scratch.path(), 'f').len(), 1);
}

#[test]
fn growth_of_resident_memory() {
    let scratch = Scratch::new("growth");
    let server = staying(&conf(&scratch, "prof_rss_growth_pct:100"), "sleep 700 alloc 64 stay");
    wait_for("a dump", || !dumps(scratch.path(), 'r').is_empty());
    let first = Dump::read(&dumps(scratch.path(), 'r')[0]);
    assert!(first.total(Column::InuseSpace) > 1 << 20);
    drop(server);
}

#[test]
fn a_near_limit_of_the_cgroup() {
    // The limit of a group of our own, where that can be had.
    let Some(group) = Group::new(200 << 20) else { return tools::missing("a cgroup that can be written") };
    let scratch = Scratch::new("limit");
    let script = format!("echo $$ > {} && exec \"$@\"", group.processes().display());
    let server = Program::new("sh")
        .args(["-c", &script, "sh"])
        .arg(tools::compile("c/steps.c", &[]))
        .args("alloc 100 sleep 1000 alloc 60 stay".split_whitespace())
        .under(conf(&scratch, "prof_cgroup_pct:70"))
        .serve();
    wait_for("a dump", || !dumps(scratch.path(), 'c').is_empty());
    // Once is enough.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(dumps(scratch.path(), 'c').len(), 1);
    assert!(Dump::read(&dumps(scratch.path(), 'c')[0]).total(Column::InuseSpace) > 100 << 20);
    drop(server);
}

#[test]
fn children_watch_for_themselves_once_they_work() {
    let scratch = Scratch::new("child");
    let options = conf(&scratch, "prof_signal:SIGUSR2");
    // One that does little has no thread, one that works has.
    let seldom = conf(&scratch, "prof_signal:SIGUSR2,lg_prof_sample:40");
    let text = steps(&seldom, "alloc 1 fork threads small 300 threads").run().expect_success().text();
    let counts: Vec<_> = text.lines().filter(|line| line.starts_with("threads")).collect();
    assert_eq!(counts, ["threads 1", "threads 2"]);
    let ended = steps(&options, "alloc 2 fork small 300 kill 12 sleep 2000").run().expect_success();
    let found = numbered(scratch.path());
    assert_eq!(found.len(), 1, "{found:?}");
    let child: u32 = ended.text().lines().find_map(|line| line.strip_prefix("child ")?.parse().ok()).expect("a child");
    assert_eq!(found[0], (child, 0, "s0".to_owned()));
}

#[test]
fn the_newest_and_the_largest_are_kept() {
    let scratch = Scratch::new("keep");
    let options = conf(&scratch, "prof_keep:3,prof_keep_largest:2,prof_final:true");
    // Most is allocated at the third and the fourth dump.
    let words = "dumps 2 alloc 32 dumps 2 free dumps 6";
    steps(&options, words).run().expect_success();
    let kept: BTreeSet<(u64, String)> =
        numbered(scratch.path()).into_iter().map(|(_, number, kind)| (number, kind)).collect();
    let wanted = [(2, "m2"), (3, "m3"), (7, "m7"), (8, "m8"), (9, "m9"), (10, "f")];
    assert_eq!(kept, wanted.map(|(number, kind)| (number, kind.to_owned())).into());
    assert_eq!(fs::read_dir(scratch.path()).expect("readable").count(), 6);
}

#[test]
fn a_relative_prefix_is_kept_track_of() {
    let scratch = Scratch::new("relative");
    fs::create_dir(scratch.join("sub")).expect("a fresh directory");
    steps("prof:true,prof_prefix:sub/%e-%%-%p,prof_keep:1", "dumps 3").directory(scratch.path()).run().expect_success();
    let found: Vec<String> = fs::read_dir(scratch.join("sub"))
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("plain"))
        .collect();
    let [name] = &found[..] else { panic!("{found:?}") };
    let mut parts = name.split('.');
    let (prefix, pid) = (parts.next().expect("a prefix"), parts.next().expect("a pid"));
    assert_eq!(prefix, format!("steps-%-{pid}"));
    assert!(name.ends_with(".2.m2.heap.pb.gz"), "{name}");
}

#[test]
fn names_that_are_taken_are_passed_over() {
    let scratch = Scratch::new("taken");
    // As in containers, whose first process is always number 1: here the child of a fork in a new pid namespace.
    let Some(unshare) = tools::need("unshare") else { return };
    let steps_binary = tools::compile("c/steps.c", &[]);
    for round in 1..=3 {
        let ended = Program::new(&unshare)
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(&steps_binary)
            .args(["alloc", "1", "dumps", "30"])
            .under(conf(&scratch, "prof_final:false"))
            .run();
        if ended.status != 0 && ended.complaints().contains("unshare") {
            return tools::missing("permission for a pid namespace");
        }
        assert!(ended.expect_success().text().contains("failed 0\n"));
        let found = numbered(scratch.path());
        assert_eq!(found.len(), 30 * round, "{found:?}");
        assert!(found.iter().all(|(pid, _, _)| *pid == 1), "{found:?}");
    }
}

#[test]
fn dumps_need_little_of_the_programs_stack() {
    let program = tools::compile("c/small_stack.c", &[]);
    let scratch = Scratch::new("small_stack");
    let ended = Program::new(&program).under(conf(&scratch, "lg_prof_interval:20")).run().expect_success();
    assert_eq!(ended.text(), "done\n");
    assert!(!dumps(scratch.path(), 'i').is_empty(), "no dump");
}
