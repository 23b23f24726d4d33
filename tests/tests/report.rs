//! `malloc_stats_print`: JSON that any reader takes, with all of jemalloc's keys; tables for people; and numbers that fit
//! each other while threads allocate.

use std::path::{Path, PathBuf};

use heapsift_tests::artifacts::{Scratch, repository};
use heapsift_tests::safety::holds;
use heapsift_tests::{Program, tools};

/// Runs `c/report.c` and has `python/report.py` look at what it wrote.
fn check(python: &Path, form: &str, part: &str, conf: &str) {
    let program = tools::compile("c/report.c", &["-ldl"]);
    let scratch = Scratch::new("report");
    let letters = if form == "json" { "J" } else { "" };
    let told = |run: Program, name: &str| -> PathBuf {
        let path = scratch.join(name);
        std::fs::write(&path, run.run().expect_success().stdout).expect("a scratch file");
        path
    };
    let ours = told(Program::new(&program).args([part, letters]).under(conf), "ours");
    let script = repository().join("tests/python/report.py");
    let mut checker = Program::new(python).arg(script).args([form, part]).input(&ours);
    if let Some(library) = tools::jemalloc() {
        let conf = if conf.contains("prof_stats") { conf } else { "" };
        let run = Program::new(&program).args(["rest", letters]).under(conf).library(&library);
        checker = checker.arg(told(run, "theirs"));
    }
    checker.run().expect_success();
}

#[test]
fn json_has_every_key_and_its_numbers_fit() {
    let Some(python) = tools::need("python3") else { return };
    for (part, conf) in [
        ("rest", "prof:false"),
        ("rest", "prof:true,lg_prof_sample:12,narenas:2"),
        ("rest", "prof:true,prof_stats:true,lg_prof_sample:12,narenas:2"),
        ("load", "prof:true,prof_stats:true,lg_prof_sample:14"),
        ("load", "prof:false"),
        ("load", "prof:true,lg_prof_sample:14,background_thread:true"),
        ("load", "dirty_decay_ms:50,muzzy_decay_ms:100,percpu_arena:percpu"),
    ] {
        check(&python, "json", part, conf);
    }
    holds("S1", "statistics of 7 configurations, printed under load: nothing negative, the parts fit");
}

#[test]
fn tables_show_how_full_the_slabs_are() {
    let Some(python) = tools::need("python3") else { return };
    for (part, conf) in [
        ("rest", "prof:false"),
        ("rest", "narenas:2"),
        ("rest", "prof:true,prof_stats:true,lg_prof_sample:12"),
        ("load", "prof:true"),
        ("load", "dirty_decay_ms:10"),
    ] {
        check(&python, "text", part, conf);
    }
}

#[test]
fn letters_choose_what_is_told() {
    let program = tools::compile("c/report.c", &["-ldl"]);
    let told = |letters: &str| {
        Program::new(&program).args(["rest", letters]).under("prof:false").run().expect_success().text()
    };
    let all = told("");
    let parts = [
        ("g", "Run-time option settings"),
        ("m", "Merged arenas stats:"),
        ("a", "arenas[0]:"),
        ("b", "nonfull_slabs"),
        ("l", "curlextents"),
        ("x", "n_lock_ops"),
        ("e", "nretained"),
        ("h", "HPA shard stats"),
    ];
    for (letter, heading) in parts {
        assert!(all.contains(heading), "{heading} is not in\n{all}");
        let less = told(letter);
        assert!(!less.contains(heading), "with {letter}, {heading} is in\n{less}");
        assert!(less.contains("\nAllocated: ") && less.len() < all.len());
    }
    // Unknown ones are nothing.
    assert!(told("zqw?").contains("arenas[0]:"));
    assert_eq!(told("gmdablxeh").lines().count(), 7);
}

#[test]
fn metrics_say_what_the_names_say_and_counters_never_fall() {
    let program = tools::compile("c/report.c", &["-ldl"]);
    let scratch = Scratch::new("metrics");
    for conf in ["prof:false", "prof:true,lg_prof_sample:8"] {
        let run = Program::new(&program).arg("metrics").under(conf).directory(scratch.path()).run();
        let told = run.expect_success().text();
        assert!(told.ends_with("# EOF\n"), "{told}");
    }
}
