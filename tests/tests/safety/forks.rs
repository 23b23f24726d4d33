//! Rows F1 to F6: forks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{dumps, final_dump};
use heapsift_tests::safety::{Who, holds, told};
use heapsift_tests::tools::Linkage;
use heapsift_tests::{Ended, Program, by_length, tools};

/// How a run ended, in a few words, and whether it ended well.
fn ending(outcome: &Result<Ended, String>) -> (String, bool) {
    match outcome {
        Ok(ended) if ended.status == 0 => ("ended well".to_owned(), true),
        Ok(ended) if ended.status > 128 => (format!("signal {}", ended.status - 128), false),
        Ok(ended) => (format!("status {}", ended.status), false),
        Err(_) => ("hangs".to_owned(), false),
    }
}

/// Runs a C program so many times, and tells how often it ended well. Peers get less patience: some of them hang.
#[track_caller]
fn all_end(row: &str, part: &str, source: &str, words: &[&str], conf: &str, runs: u32) {
    let program = tools::compile(source, &["-ldl"]);
    for who in Who::looked_at() {
        if who != Who::Heapsift && conf != "prof:false" {
            continue;
        }
        // Some of the others hang each time.
        let (patience, runs) = if who == Who::Heapsift { (300, runs) } else { (30, runs.min(3)) };
        let mut failures = Vec::new();
        for _ in 0..runs {
            let run = Program::new(&program).args(words).within(Duration::from_secs(patience));
            let (words, ended_well) = ending(&who.dress(run, conf).run_or_give_up());
            if !ended_well {
                failures.push(words);
            }
        }
        let bad = failures.len();
        let words = if bad == 0 { String::new() } else { format!(" ({})", failures.join(", ")) };
        told(row, part, who, &format!("{} of {runs} runs ended well{words}", runs as usize - bad), bad == 0);
    }
}

/// With profiling, each block of 256 bytes on average is a sample.
const OFTEN: &str = "prof:true,lg_prof_sample:8";

#[test]
fn f1_forks_under_load() {
    let count = by_length("150", "1000");
    for (part, conf) in [("profiling off", "prof:false"), ("profiling on", OFTEN)] {
        all_end("F1", part, "c/forks.c", &[count, "4", "exec"], conf, 1);
    }
    // Frames of such a program are registered with the compiler's unwinder, which takes a lock for each.
    let run = Linkage::Static.program("c/forks.c", OFTEN).args([count, "4", "exec"]).within(Duration::from_secs(300));
    let (words, ended_well) = ending(&run.run_or_give_up());
    told("F1", "a static program, profiling on", Who::Heapsift, &words, ended_well);
}

#[test]
fn f2_forks_of_many_threads_at_once() {
    let forks = by_length("30", "300");
    for (part, conf) in [("profiling off", "prof:false"), ("profiling on", OFTEN)] {
        all_end("F2", part, "c/fork_many.c", &["8", forks], conf, by_length(1, 4));
    }
}

#[test]
fn f3_forks_against_stdio() {
    // Slow on any allocator: each child waits for streams that are being flushed.
    let forks = by_length("60", "500");
    for (part, conf) in [("profiling off", "prof:false"), ("profiling on", OFTEN)] {
        all_end("F3", part, "c/fork_stdio.c", &[forks], conf, by_length(1, 10));
    }
}

#[test]
fn f4_forks_in_a_handler_that_interrupted_malloc() {
    let forks = by_length("300", "3000");
    for (part, conf) in [("profiling off", "prof:false"), ("profiling on", OFTEN)] {
        all_end("F4", part, "c/fork_signal.c", &[forks, "0"], conf, by_length(1, 4));
    }
    // Beside other threads, which the C library doesn't promise for its own malloc.
    all_end(
        "F4",
        "beside two threads that allocate",
        "c/fork_signal.c",
        &[by_length("100", "1000"), "2"],
        "prof:false",
        1,
    );
}

#[test]
fn f5_what_a_fork_costs() {
    let program = tools::compile("c/fork_cost.c", &[]);
    let (threads, mib, rounds) = by_length(("500", "256", "5"), ("500", "1024", "15"));
    let cost = |who: Who, conf: &str| -> f64 {
        let run = Program::new(&program).args([threads, mib, rounds]).within(Duration::from_secs(120));
        who.dress(run, conf).run().expect_success().text().trim().parse().expect("microseconds")
    };
    // Alternately, and the best of each: the machine may be busy with something else for a while.
    let mut best = [f64::INFINITY; 3];
    let ways = [(Who::Glibc, "", "1"), (Who::Heapsift, "prof:false", "off"), (Who::Heapsift, "prof:true", "on")];
    for _ in 0..by_length(2, 4) {
        for (at, (who, conf, _)) in ways.iter().enumerate() {
            best[at] = best[at].min(cost(*who, conf));
        }
    }
    let [glibc, off, on] = best;
    told("F5", "", Who::Glibc, &format!("{:.1} ms", glibc / 1e3), true);
    let measured = format!(
        "{:.1} ms, {:.1} with profiling: {:.2} and {:.2} of glibc's",
        off / 1e3,
        on / 1e3,
        off / glibc,
        on / glibc
    );
    // Twice is the mark; a test must not fail because of who else is busy, so that it is this lenient in the short form.
    told("F5", "", Who::Heapsift, &measured, off.max(on) <= by_length(4.0, 2.0) * glibc);
}

#[test]
fn f6_a_child_dumps_under_its_own_name() {
    let program = tools::compile("c/forks.c", &["-ldl"]);
    let scratch = Scratch::new("f6");
    let run = Program::new(&program).args(["20", "2", "dump"]).within(Duration::from_secs(120));
    let ended = run.under(final_dump(scratch.path(), "lg_prof_sample:14")).run().expect_success();
    // One dump by each child, number 0 of its pid; a final one by each that called exit, number 1; one of the parent.
    let pid_and_number = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let mut parts = name.split('.').skip(1).map(|part| part.parse::<u32>().expect("a number"));
        (parts.next().expect("a pid"), parts.next().expect("a number"))
    };
    let manual: Vec<_> = dumps(scratch.path(), 'm').iter().map(pid_and_number).collect();
    let last: Vec<_> = dumps(scratch.path(), 'f').iter().map(pid_and_number).collect();
    let mut pids: Vec<u32> = manual.iter().map(|dump| dump.0).collect();
    pids.dedup();
    assert_eq!((manual.len(), pids.len()), (20, 20), "{manual:?}");
    assert!(manual.iter().all(|&(pid, number)| number == 0 && pid != ended.pid), "{manual:?}");
    let (of_parent, of_children): (Vec<_>, Vec<_>) = last.iter().partition(|dump| dump.0 == ended.pid);
    assert_eq!((of_parent, of_children.len()), (vec![(ended.pid, 0)], 10), "{last:?}");
    assert!(of_children.iter().all(|(pid, number)| *number == 1 && pids.contains(pid)), "{last:?}");
    // A child of vfork, which Python has when it starts a program, shares its parent's memory and writes nothing.
    // The system's: what is on PATH may be a script.
    let python = Path::new("/usr/bin/python3");
    if python.exists() {
        let scratch = Scratch::new("f6-vfork");
        let script = "import subprocess; subprocess.run(['/bin/true'], close_fds=False, check=True)";
        let run = Program::new(python).args(["-c", script]);
        let ended = run.under(final_dump(scratch.path(), "lg_prof_sample:12")).run().expect_success();
        let found: Vec<_> = dumps(scratch.path(), 'f').iter().map(pid_and_number).collect();
        assert!(found.contains(&(ended.pid, 0)) && found.len() == 2, "{found:?}");
        assert!(found.iter().all(|dump| dump.1 == 0) && found[0].0 != found[1].0, "{found:?}");
    }
    holds(
        "F6",
        "20 children: 20 dumps under 20 pids, number 0 each; final ones by those that called exit, and no others",
    );
}
