//! Rows G1, G3 and X0: signals, and the end of a process.

use std::time::{Duration, Instant};

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::dumps;
use heapsift_tests::safety::{Who, holds, told};
use heapsift_tests::{Dump, Program, by_length, tools};

#[test]
fn g1_a_storm_of_signals_whose_handler_unwinds() {
    let program = tools::compile("c/signals.c", &[]);
    let ms = by_length("1500", "60000");
    for (part, conf) in [("profiling off", "prof:false"), ("each 256 bytes a sample", "prof:true,lg_prof_sample:8")] {
        for who in Who::looked_at() {
            if who != Who::Heapsift && part != "profiling off" {
                continue;
            }
            let run = Program::new(&program).args(["4", ms, "1000"]).within(Duration::from_secs(200));
            let outcome = who.dress(run, conf).run_or_give_up();
            let (text, well) = match &outcome {
                Ok(ended) if ended.status == 0 => (ended.text().replace('\n', ", "), true),
                Ok(ended) => (format!("status {}", ended.status), false),
                Err(_) => ("hangs".to_owned(), false),
            };
            told("G1", part, who, text.trim_end_matches(", "), well);
        }
    }
}

#[test]
fn g3_dumps_by_signal() {
    let scratch = Scratch::new("g3");
    let conf = format!(
        "prof:true,prof_final:false,lg_prof_sample:14,prof_signal:SIGUSR2,prof_keep:20,prof_prefix:{}/d",
        scratch.path().display()
    );
    // Works without pause, and never calls the allocator while it only walks through what it has.
    let mut server = Program::new(tools::compile("c/signals.c", &[])).args(["4", "600000", "20"]).under(&conf).serve();
    // Before its threads work, the handler may not be there yet.
    let tasks = format!("/proc/{}/task", server.pid());
    server.wait_until(|| std::fs::read_dir(&tasks).map_or(0, Iterator::count) >= 5);
    let found = || dumps(scratch.path(), 's').len();
    let mut slowest = Duration::ZERO;
    for n in 0..3 {
        let before = dumps(scratch.path(), 's').last().cloned();
        let sent = Instant::now();
        // SAFETY: the process is this test's own child.
        unsafe { libc::kill(server.pid().cast_signed(), libc::SIGUSR2) };
        while dumps(scratch.path(), 's').last().cloned() == before {
            // Some of the time goes to whoever else is busy on this machine.
            assert!(sent.elapsed() < Duration::from_secs(30), "no dump after signal {n}");
            std::thread::sleep(Duration::from_millis(2));
        }
        slowest = slowest.max(sent.elapsed());
    }
    let count = by_length(300, 1000);
    for _ in 0..count {
        // SAFETY: as above.
        unsafe { libc::kill(server.pid().cast_signed(), libc::SIGUSR2) };
        std::thread::sleep(Duration::from_millis(1));
    }
    let wait = Instant::now();
    while found() < 4 && wait.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(10));
    }
    // Kept ones are whole; the process is alive and goes on.
    let whole = dumps(scratch.path(), 's');
    // A new one is there before the oldest goes.
    assert!(whole.len() >= 4 && whole.len() <= 21, "{whole:?}");
    // The newest may be replaced by newer ones meanwhile.
    Dump::read(&dumps(scratch.path(), 's')[0]);
    // SAFETY: as above; signal 0 only asks.
    assert_eq!(unsafe { libc::kill(server.pid().cast_signed(), 0) }, 0);
    holds("G3", &format!("{count} signals during work: it goes on; a dump came within {} ms", slowest.as_millis()));
}

#[test]
fn x0_the_process_ends_while_others_allocate() {
    let program = tools::compile("c/exit_race.c", &[]);
    let runs = by_length(40, 1000);
    for (part, conf) in [("profiling off", "prof:false"), ("profiling on", "prof:true,lg_prof_sample:8,prof_leak:true")]
    {
        for who in Who::looked_at() {
            if who != Who::Heapsift && part != "profiling off" {
                continue;
            }
            let well = (0..runs)
                .filter(|_| {
                    let run = Program::new(&program).within(Duration::from_secs(60));
                    who.dress(run, conf).run_or_give_up().is_ok_and(|ended| ended.status == 0)
                })
                .count();
            told("X0", part, who, &format!("{well} of {runs} ended with status 0"), well == runs);
        }
    }
}
