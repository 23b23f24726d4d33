//! The suite in its short form: every workload ends well under ours and glibc's, with the same output, and the tables and
//! the JSON are made. Times are not looked at.

use std::process::{Command, Output};

use bench::suite::{Runner, definition};
use heapsift_tests::{artifacts, library, tools};
use serde_json::Value;

fn suite(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heapsift-bench"));
    command.args(["suite", "--short", "--rounds", "1", "--library"]).arg(library()).args(words);
    command.output().expect("the bench program runs")
}

#[test]
fn every_workload_runs_the_same_under_ours_and_glibcs() {
    let mut names = Vec::new();
    for workload in definition::all().expect("workloads.toml is well formed") {
        match Runner::hindrance(&workload) {
            None => names.push(workload.name),
            Some(why) => tools::missing(&why),
        }
    }
    assert!(names.len() >= 17, "{names:?}");
    let scratch = artifacts::Scratch::new("suite");
    let json = scratch.join("suite.json").display().to_string();
    let output =
        suite(&["--allocators", "glibc,heapsift,heapsift-prof", "--workloads", &names.join(","), "--json", &json]);
    let text = String::from_utf8(output.stdout).expect("the tables are text");
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    for title in ["CPU time, user and system", "Time on the clock", "Peak of resident memory", "geometric mean"] {
        assert!(text.contains(title), "no '{title}' in\n{text}");
    }
    let value: Value = serde_json::from_slice(&std::fs::read(&json).expect("the file is there")).expect("JSON");
    let rows = value["workloads"].as_object().expect("workloads by name");
    assert_eq!(rows.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    for (name, row) in rows {
        assert!(text.lines().any(|line| line.starts_with(name.as_str())), "no row for {name}");
        for allocator in ["glibc", "heapsift", "heapsift-prof"] {
            let peak = &row[allocator]["peak_kib"][0];
            assert!(peak.as_f64().is_some_and(|peak| peak > 100.0), "{name} under {allocator}: {peak}");
        }
    }
    assert!(value["geometric_means"]["heapsift"]["cpu"].as_f64().is_some_and(|ratio| ratio > 0.0));
}

#[test]
fn a_run_that_fails_is_told() {
    // A library that cannot be loaded: it needs a function that nobody has.
    let broken = tools::compile("bench/tests/broken.c", &["-shared", "-fPIC"]);
    let peer = format!("bad={},LD_BIND_NOW=1", broken.display());
    let output = suite(&["--workloads", "bignum", "--allocators", "glibc,bad", "--peer", &peer]);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaints}");
    assert!(complaints.contains("bignum under bad: ended with status"), "{complaints}");
}
