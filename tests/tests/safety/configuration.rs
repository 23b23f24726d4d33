//! Rows C1 to C4 and A1: rights, options, environments, sandboxes and sizes as nobody expects them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::safety::{Who, holds, told};
use heapsift_tests::tools::Linkage;
use heapsift_tests::{Program, by_length, tools};

use crate::strace;

#[test]
fn c1_a_program_with_more_rights_than_its_caller() {
    let Some(daemon) = tools::user_ids("daemon") else {
        return told("C1", "", Who::Heapsift, "not run: only root can make a set-uid program", true);
    };
    let scratch = Scratch::new("c1");
    // A directory that the caller may write to, so that only the program's own refusal is left.
    let dumps = scratch.join("dumps");
    fs::create_dir(&dumps).expect("fresh");
    fs::set_permissions(&dumps, fs::Permissions::from_mode(0o1777)).expect("ours");
    let runtime = scratch.join("runtime");
    fs::create_dir(&runtime).expect("fresh");
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o1777)).expect("ours");
    let conf = format!(
        "prof:true,prof_final:true,prof_control:true,prof_sample:1,stats_print:true,prof_prefix:{}/d",
        dumps.display()
    );
    for linkage in [Linkage::Archive, Linkage::Static] {
        let program = scratch.join(format!("program-{linkage:?}"));
        fs::copy(linkage.compile("c/steps.c"), &program).expect("a scratch file");
        let run = |mode: u32| {
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("ours");
            let target = dumps.join("target.heap.pb.gz");
            let run = Program::new(&program).args(["alloc", "1", "threads", "dump"]).arg(&target).user(Some(daemon));
            run.directory(&dumps).env("MALLOC_CONF", &conf).env("XDG_RUNTIME_DIR", &runtime).run()
        };
        let plain = run(0o755).expect_success();
        // Statically linked, there is no function to be found by name.
        let finds_mallctl = linkage == Linkage::Archive;
        assert!(fs::read_dir(&dumps).expect("ours").count() > 0, "without the bit: {}", plain.complaints());
        for entry in fs::read_dir(&dumps).expect("ours").flatten() {
            fs::remove_file(entry.path()).expect("ours");
        }
        for mode in [0o4755, 0o2755] {
            let ended = run(mode).expect_success();
            let left: Vec<_> = fs::read_dir(&dumps).expect("ours").flatten().collect();
            assert!(left.is_empty(), "{mode:o}: {left:?}");
            assert!(ended.text().contains("threads 1\n"), "{mode:o}: {}", ended.text());
            assert!(!ended.complaints().contains("statistics"), "{mode:o}: {}", ended.complaints());
            assert!(!finds_mallctl || !ended.text().contains("answer 0\n"), "{mode:o}: {}", ended.text());
        }
        let sockets = fs::read_dir(runtime.join("heapsift")).map_or(0, Iterator::count);
        assert_eq!(sockets, 0, "a control socket was left");
    }
    holds("C1", "set-uid and set-gid: no option taken from the environment, no dump, no socket, no thread");
}

/// Numbers that are the same in each run.
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

#[test]
fn c2_options_that_make_no_sense() {
    let program = tools::compile("c/steps.c", &[]);
    let mut draw = Draw(3);
    let names = [
        "prof",
        "narenas",
        "tcache_max",
        "dirty_decay_ms",
        "lg_prof_sample",
        "prof_sample",
        "prof_prefix",
        "stats_print",
        "dss",
        "slab_sizes",
        "bin_shards",
        "retain",
        "x",
        "",
        "percpu_arena",
        "prof_signal",
        "san_guard_small",
        "metadata_thp",
    ];
    let values = [
        "true",
        "false",
        "-1",
        "0",
        "18446744073709551616",
        "99999999999999999999999",
        "0x10",
        "8-16:4|17-32:2",
        "\u{e9}\u{4e2d}",
        "1K",
        "-0",
        "",
        " ",
        "true ",
        "1e9",
        "SIGUSR2",
        "none",
        ":::",
        "a:b",
    ];
    let count = by_length(250, 5_000);
    for n in 0..count {
        let mut conf = String::new();
        for _ in 0..draw.next(5) {
            conf.push_str(names[draw.next(names.len())]);
            conf.push_str([":", ":", ":", "", "::"][draw.next(5)]);
            conf.push_str(values[draw.next(values.len())]);
            conf.push_str([",", ",", ",,", "", ";"][draw.next(5)]);
        }
        let mut bytes = conf.into_bytes();
        for _ in 0..draw.next(4) {
            if !bytes.is_empty() {
                let at = draw.next(bytes.len());
                bytes[at] = (1 + draw.next(255)) as u8;
            }
        }
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let conf = std::os::unix::ffi::OsStringExt::from_vec(bytes);
        let scratch = Scratch::new("c2");
        let conf: std::ffi::OsString = conf;
        let run = Program::new(&program).args(["alloc", "1", "churn", "100"]).directory(scratch.path()).under(&conf);
        // What is told through malloc_stats_print goes there too; all else is a line each.
        let ended = run.run();
        assert_eq!(ended.status, 0, "number {n}: {shown:?}: {}", ended.complaints());
        let first = ended.complaints().lines().next().unwrap_or_default().to_owned();
        assert!(
            first.is_empty() || first.starts_with("<heapsift>: ") || first.starts_with("___"),
            "{shown:?}: {first}"
        );
    }
    // As long as one variable may be.
    let long = format!("x:{},narenas:2", "9".repeat(130_000));
    Program::new(&program).args(["alloc", "1"]).under(&long).run().expect_success();
    let pairs = "a:b,".repeat(20_000);
    let ended = Program::new(&program).args(["alloc", "1"]).under(&pairs).run().expect_success();
    assert_eq!(ended.complaints().lines().filter(|line| line.ends_with("Invalid conf pair: a:b")).count(), 20_000);
    // Only where that is asked for is one of them the end of the process.
    let ended = Program::new(&program).args(["alloc", "1"]).under("abort_conf:true,x:y").run();
    assert_eq!(ended.status, 128 + libc::SIGABRT, "{}", ended.complaints());
    holds(
        "C2",
        &format!("{count} strings, one of 130 000 bytes and one of 20 000 pairs: no crash, a line for each bad pair"),
    );
}

#[test]
fn c3_environments_that_nobody_expects() {
    let mut tried = 0;
    for linkage in [Linkage::Preload, Linkage::Shared, Linkage::Archive, Linkage::Static, Linkage::StaticPie] {
        let conf = "prof:true,prof_sample:4KiB,prof_final:false";
        let program = linkage.compile("c/steps.c");
        let words = ["alloc", "2", "churn", "2000", "free"];
        let well = |run: Program| {
            let ended = run.within(Duration::from_secs(60)).run().expect_success();
            assert!(!ended.complaints().contains("<heapsift>"), "{linkage:?}: {}", ended.complaints());
        };
        // A large environment.
        let mut run = linkage.program("c/steps.c", conf).args(words);
        for n in 0..300 {
            run = run.env(&format!("VARIABLE_{n}"), "v".repeat(1000));
        }
        well(run.env("ONE", "v".repeat(120_000)));
        // No descriptor open at all.
        let run = if linkage == Linkage::Preload {
            Program::new("/bin/sh").args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"]).arg(&program).args(words).under(conf)
        } else {
            Program::new("/bin/sh")
                .args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"])
                .arg(&program)
                .args(words)
                .env("MALLOC_CONF", conf)
        };
        well(run);
        tried += 2;
        // Neither arguments nor an environment: nothing to do, but to start and to end.
        if linkage != Linkage::Preload {
            let launcher = tools::compile("c/bare_exec.c", &[]);
            well(Program::new(launcher).arg(&program));
            tried += 1;
        }
    }
    // No /proc, no /sys, nothing: a root of its own for a program that needs no other file.
    let scratch = Scratch::new("c3");
    fs::copy(Linkage::Static.compile("c/steps.c"), scratch.join("program")).expect("a scratch file");
    if let Some(chroot) = tools::find("chroot") {
        let run = Program::new(chroot).arg(scratch.path()).args(["/program", "alloc", "2", "churn", "2000", "free"]);
        let ended = run.env("MALLOC_CONF", "prof:true,prof_sample:4KiB,prof_prefix:/d").run();
        if !ended.complaints().contains("cannot change root") {
            let ended = ended.expect_success();
            assert_eq!(ended.complaints(), "", "without /proc");
            tried += 1;
        }
    }
    // Calls that a filter may deny, at every time.
    if let Some(strace) = strace::found() {
        let program = Linkage::Static.compile("c/steps.c");
        let calls = [
            "madvise",
            "getrandom",
            "openat",
            "sched_getaffinity",
            "readlink",
            "prctl",
            "rt_sigprocmask",
            "clock_gettime",
            "getcpu",
            "process_vm_readv",
            "mprotect",
            "uname",
        ];
        for call in calls {
            for error in ["ENOSYS", "EPERM"] {
                let options = strace::inject(call, &format!("error={error}"), "1+");
                // The first one is the page map's, which there is none of then. The second one is the C library's, which
                // makes its own memory read-only when a static program starts, and can't do without.
                let options =
                    if call == "mprotect" { strace::inject(call, &format!("error={error}"), "1") } else { options };
                let run =
                    strace::traced(&strace, &options, None, "", &program).args(["alloc", "2", "churn", "2000", "free"]);
                let ended = run.env("MALLOC_CONF", "prof:true,prof_sample:4KiB").run();
                assert_eq!(ended.status, 0, "{error} of each {call}: {}", ended.complaints());
                tried += 1;
            }
        }
    }
    holds("C3", &format!("{tried} strange environments: it starts, works and ends"));
}

#[test]
fn a1_sizes_that_cannot_be() {
    let program = tools::compile("c/sizes.c", &[]);
    let count = by_length("100000", "1000000");
    for who in Who::looked_at() {
        let run = Program::new(&program).arg(count).within(Duration::from_secs(600));
        match who.dress(run, "prof:false").run_or_give_up() {
            Ok(ended) => {
                let text = format!(
                    "{count} calls: status {} {}{}",
                    ended.status,
                    ended.text().trim(),
                    ended.complaints().trim()
                );
                told(
                    "A1",
                    "",
                    who,
                    &text.replace(&format!("{}/", Path::new(env!("CARGO_MANIFEST_DIR")).display()), ""),
                    ended.status == 0,
                );
            }
            Err(_) => told("A1", "", who, "hangs", false),
        }
    }
}

#[test]
fn c4_a_program_in_a_sandbox() {
    let program = tools::compile("c/sandbox.c", &["-pthread"]);
    let scratch = Scratch::new("c4");
    let prefix = scratch.path().display();
    for (part, conf) in [
        ("profiling off", "prof:false".to_owned()),
        ("profiling on", "prof:true".to_owned()),
        (
            "a sample each 4 KiB",
            format!("prof:true,prof_sample:4KiB,prof_peak:true,prof_final:true,prof_prefix:{prefix}/d"),
        ),
        (
            "dumps and a socket",
            format!(
                "prof:true,prof_final:true,prof_interval:4GiB,prof_control:{prefix}/%p.sock,prof_prefix:{prefix}/i"
            ),
        ),
    ] {
        for who in Who::looked_at().filter(|who| *who == Who::Heapsift || part == "profiling off") {
            let conf = if who == Who::Heapsift { conf.as_str() } else { "" };
            for arguments in [&[][..], &["warm"], &["forked"]] {
                let program = Program::new(&program).args(arguments).within(Duration::from_secs(120));
                let ended = who.dress(program, conf).run();
                let text =
                    if ended.status == 0 { "it works on".to_owned() } else { format!("status {}", ended.status) };
                told("C4", part, who, &text, ended.status == 0);
            }
        }
    }
    let program = tools::compile("c/no_ticks.c", &[]);
    for (part, conf, arguments) in [
        ("the processor's ticks forbidden", "prof:true,prof_sample:4KiB", &[][..]),
        ("strict mode", "prof:false", &["strict"]),
    ] {
        let ended = Who::Heapsift.dress(Program::new(&program).args(arguments), conf).run();
        let text = if ended.status == 0 { "it works on".to_owned() } else { format!("status {}", ended.status) };
        told("C4", part, Who::Heapsift, &text, ended.status == 0);
    }
    let program = tools::compile("c/sandbox_trap.c", &[]);
    let conf = format!(
        "prof:true,prof_sample:4KiB,prof_final:true,prof_interval_ms:100,background_thread:true,prof_prefix:{prefix}/t"
    );
    let ended = Who::Heapsift.dress(Program::new(&program).within(Duration::from_secs(60)), &conf).run();
    let text = if ended.status == 0 { "it works on".to_owned() } else { format!("status {}", ended.status) };
    told("C4", "a sandbox that answers in the kernel's place", Who::Heapsift, &text, ended.status == 0);
}
