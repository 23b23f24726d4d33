//! Forks under load, threads that come and go, deep stacks, small processes, limits of address space.

use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, dumps, final_dump, only};
use heapsift_tests::statistics::median;
use heapsift_tests::{Dump, Program, by_length, library, tools};

#[test]
fn children_of_a_busy_process_work_and_dump() {
    let program = tools::compile("c/forks.c", &["-ldl"]);
    let count = by_length(300, 1000);
    let scratch = Scratch::new("forks");
    Program::new(&program)
        .args([&count.to_string(), "8", "dump"])
        .under(final_dump(scratch.path(), "lg_prof_sample:16"))
        .directory(scratch.path())
        .within(Duration::from_secs(600))
        .run()
        .expect_success();
    // Each child has written one dump under its own number; of those that called exit, another; the parent its own.
    let manual = dumps(scratch.path(), 'm');
    assert_eq!(manual.len(), count);
    assert_eq!(dumps(scratch.path(), 'f').len(), count / 2 + 1);
    for path in manual.iter().step_by(25) {
        Dump::read(path);
    }
    let left = std::fs::read_dir(scratch.path()).expect("readable").count();
    assert_eq!(left, count + count / 2 + 1, "something else was left behind");
}

#[test]
fn children_work_without_profiling() {
    let program = tools::compile("c/forks.c", &["-ldl"]);
    Program::new(&program)
        .args([by_length("300", "1000"), "8", "plain"])
        .under("prof:false")
        .within(Duration::from_secs(600))
        .run()
        .expect_success();
}

/// The rest of the process has what `/proc/self` tells of the first thread alone by another name.
#[test]
fn dumps_are_whole_without_the_first_thread() {
    let program = tools::compile("c/first_ends.c", &[]);
    let scratch = Scratch::new("first-ends");
    let path = scratch.path().join("dump");
    Program::new(&program).arg(&path).under("prof:true,lg_prof_sample:14").run().expect_success();
    let dump = Dump::symbolized(&path, &scratch.path().join("named"));
    let kept = dump.of_function(Column::InuseSpace, "work");
    assert!(kept > 3 << 20, "{kept} bytes");
    let own = dump.profile.mapping.first().expect("the program's own");
    assert!(dump.text(own.filename).ends_with("first_ends"), "{}", dump.text(own.filename));
    assert!(!dump.text(own.build_id).is_empty());
}

/// The C library ends a process with its last thread, and waits for those of the allocator's own as for others.
#[test]
fn the_process_ends_with_the_last_thread_of_the_program() {
    let program = tools::compile("c/first_ends.c", &[]);
    for more in [
        "prof_interval_ms:60000",
        "background_thread:true",
        "prof_control:true",
        "prof_signal:SIGUSR2,prof_control:true,background_thread:true",
    ] {
        let scratch = Scratch::new("last-thread");
        Program::new(&program)
            .arg("")
            .env("XDG_RUNTIME_DIR", scratch.path())
            .under(final_dump(scratch.path(), more))
            .within(Duration::from_secs(30))
            .run()
            .expect_success();
        only(scratch.path(), 'f');
    }
}

#[test]
fn threads_leave_nothing_behind() {
    let program = tools::compile("c/threads.c", &[]);
    for conf in ["prof:false", "prof:true"] {
        let text = Program::new(&program)
            .args(["1000", "100"])
            .under(conf)
            .within(Duration::from_secs(120))
            .run()
            .expect_success()
            .text();
        let number = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("both lines");
            line.trim().parse().expect("a number")
        };
        let (first, last) = (number("first"), number("last"));
        // Batches differ by a sixth.
        assert!(last <= 1.25 * first, "{conf}: {first} KiB after the first 100 threads, {last} KiB at the end");
    }
}

#[test]
fn deep_stacks_are_complete_up_to_the_limit_and_marked_beyond() {
    let program = tools::compile("c/deep.c", &[]);
    for (depth, limit, complete) in [(60, 128, true), (300, 128, false), (300, 400, true)] {
        let scratch = Scratch::new("deep");
        Program::new(&program)
            .args([depth.to_string(), "400".to_owned()])
            .under(final_dump(scratch.path(), &format!("lg_prof_sample:14,prof_bt_max:{limit}")))
            .run()
            .expect_success();
        let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
        let mut seen = 0;
        for row in dump.profile.sample.iter().filter(|row| row.value[Column::InuseSpace as usize] > 0) {
            let names: Vec<&str> = dump.names(row).collect();
            if !names.contains(&"descend") {
                continue;
            }
            seen += 1;
            assert_eq!(names[0], "bottom", "the allocator's own frames are cut, the program's are not");
            let levels = names.iter().filter(|name| **name == "descend").count();
            let root = names.last().copied().expect("a frame");
            if complete {
                assert_eq!(levels, depth, "{names:?}");
                assert_eq!(root, "_start", "{names:?}");
            } else {
                assert!(levels >= limit - 2 && levels < depth, "{levels} levels");
                assert_eq!(root, "[truncated stack]");
            }
        }
        assert!(seen > 0, "no sample of the recursion");
    }
}

#[test]
fn a_tiny_process_stays_tiny() {
    // Statically linked and tiny itself, since a child inherits the peak of whoever started it.
    let peak = tools::compile("c/peak.c", &["-static"]);
    let measure = |preload: Option<&str>| {
        let measured = (0..21).map(|_| {
            let program = Program::new(&peak).arg("/bin/true");
            let program = match preload {
                Some(conf) => program.env("PEAK_PRELOAD", library()).env("MALLOC_CONF", conf),
                None => program,
            };
            program.run().expect_success().text().trim().parse::<f64>().expect("KiB")
        });
        median(measured.collect())
    };
    let plain = measure(None);
    for conf in ["prof:false", "prof:true"] {
        let ours = measure(Some(conf));
        println!("{conf}: {ours} KiB, glibc: {plain} KiB");
        // Of code and tables it is what capi/so/warm.ld puts side by side, and hardly more.
        assert!(ours - plain <= 1024.0, "{conf}: {ours} KiB, glibc: {plain} KiB");
    }
}

#[test]
fn a_limit_of_address_space_is_left_to_the_program() {
    let program = tools::compile("c/limited.c", &[]);
    let holds = |limit_kib: &str, words: [&str; 3]| -> usize {
        let script = "ulimit -S -v $1; export LD_PRELOAD=$2; shift 2; exec \"$@\"";
        let run = Program::new("/bin/sh").args(["-c", script, "sh", limit_kib]).arg(library()).arg(&program);
        run.args(words).run().expect_success().text().trim().parse().expect("a number of blocks")
    };
    // 33 GiB hold the page map and little else; 7.5 GiB are asked for, and never touched.
    assert_eq!(holds("34603008", ["60", "128", "none"]), 60);
    // One that the program sets itself, once it runs: with the map, which is narrowed then, and without.
    for started_with in ["1000000000000", "unlimited"] {
        assert_eq!(holds(started_with, ["100", "1", "1024"]), 100);
        assert_eq!(holds(started_with, ["100", "1", "-1024"]), 100);
        let fewer = holds(started_with, ["2000", "1", "1024"]);
        assert!((900..1024).contains(&fewer), "{fewer}");
    }
    assert_eq!(holds("unlimited", ["60", "128", "none"]), 60);
}
