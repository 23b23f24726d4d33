//! The same calls to Debian's jemalloc and to ours, good and bad: what differs stands in docs/jemalloc-differences.md, with
//! its reason, and nothing else does.

mod options;
mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use heapsift_tests::artifacts::{Scratch, library};
use heapsift_tests::{Program, tools};

use table::Difference;

/// What was answered to each call, in order where it was made several times.
type Answers = BTreeMap<String, String>;

fn add(answers: &mut Answers, call: &str, answer: &str) {
    let known = answers.entry(call.to_owned()).or_default();
    if !known.is_empty() {
        known.push_str("; ");
    }
    known.push_str(answer);
}

/// Runs a driver under a library.
fn drive(driver: &Path, words: &[&str], conf: &str, library: &Path) -> Answers {
    let scratch = Scratch::new("differential");
    let ended = Program::new(driver)
        .args(words)
        .under(conf)
        .library(library)
        .directory(scratch.path())
        .within(Duration::from_secs(120))
        .run()
        .expect_success();
    let mut answers = Answers::new();
    for line in ended.text().lines() {
        let (call, answer) = line.split_once(" => ").unwrap_or_else(|| panic!("not an answer: {line}"));
        add(&mut answers, call, answer);
    }
    answers
}

/// Compares what both answered, call by call.
fn compare(theirs: &Answers, ours: &Answers, differences: &mut Vec<Difference>) -> usize {
    let calls: Vec<&String> = theirs.keys().chain(ours.keys().filter(|call| !theirs.contains_key(*call))).collect();
    for call in &calls {
        let answer = |of: &Answers| of.get(*call).map_or("no answer", String::as_str).to_owned();
        let (theirs, ours) = (answer(theirs), answer(ours));
        if theirs != ours {
            differences.push(Difference { call: call.to_string(), theirs, ours });
        }
    }
    calls.len()
}

#[test]
fn answers_differ_from_jemalloc_s_only_where_it_is_said_why() {
    let Some(jemalloc) = tools::jemalloc() else { return };
    let ours = library();
    let control = tools::compile("c/differential.c", &["-ldl"]);
    let blocks = tools::compile("c/differential_blocks.c", &["-ldl"]);
    let mut differences = Vec::new();
    let mut calls = 0;
    let system_names = "prof:true,prof_prefix:dump,prof_sys_thread_name:true";
    for conf in ["prof:false", "prof:true,prof_prefix:dump,lg_prof_sample:19", system_names] {
        for (driver, words) in [(&control, &["names"][..]), (&control, &["actions"]), (&blocks, &[])] {
            let answers = |library: &Path| drive(driver, words, conf, library);
            calls += compare(&answers(&jemalloc), &answers(&ours), &mut differences);
        }
    }
    let of_options = |library: &Path| options::answers(&control, library);
    let (our_options, their_options) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| of_options(&jemalloc));
        (of_options(&ours), theirs.join().expect("no run failed"))
    });
    calls += compare(&their_options, &our_options, &mut differences);
    assert!(calls > 10_000, "only {calls} calls were compared");
    table::check(&differences);
}
