//! Estimates against known truth: programs that keep books of what they hold.

use std::path::Path;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, final_dump, only};
use heapsift_tests::safety::holds;
use heapsift_tests::statistics::failures_allowed;
use heapsift_tests::truth::{self, Site};
use heapsift_tests::{Dump, Program, by_length, command, fixture, tools};

/// The default mean bytes between samples.
const INTERVAL: f64 = 524_288.0;
/// Sites with fewer expected samples are too lumpy for a bound in standard errors.
const SAMPLES_MIN: f64 = 8.0;
/// Probability that a normal variable is beyond 2 standard errors.
const BEYOND_TWO: f64 = 0.0455;

/// Errors of the estimates of one run, in standard errors; the dump's total as well.
fn errors(dump: &Dump, sites: &[Site], interval: f64) -> Vec<(String, f64)> {
    let mut errors = Vec::new();
    let (mut total, mut variance) = (0, 0.0);
    for site in sites {
        let estimate = dump.of_function(Column::InuseSpace, &site.name);
        let error = site.standard_error(interval);
        total += site.live_bytes;
        variance += error * error;
        if site.expected_samples(interval) >= SAMPLES_MIN {
            errors.push((site.name.clone(), (estimate as f64 - site.live_bytes as f64) / error));
        }
        // What was ever allocated: the sizes of dead blocks are not in the books, but b²(1 − p)/p ≤ b·R for all.
        let allocated = site.allocated_bytes as f64;
        let distance = dump.of_function(Column::AllocSpace, &site.name) as f64 - allocated;
        let bound = 5.0 * (allocated * interval).sqrt() + 5.0 * interval;
        assert!(distance.abs() <= bound, "{}: allocated {allocated}, off by {distance}", site.name);
        if site.live_count == 0 {
            assert_eq!(estimate, 0, "{} holds nothing", site.name);
        }
    }
    // Beside the sites there is what the libraries hold: some KiB.
    let error = (dump.total(Column::InuseSpace) as f64 - total as f64) / (variance + interval * 65_536.0).sqrt();
    errors.push(("the total".to_owned(), error));
    errors
}

/// Runs a program often and holds the estimates against its books.
#[track_caller]
fn check(runs: u32, mut run: impl FnMut(u32, &Path) -> (Dump, Vec<Site>)) {
    let mut all: Vec<(String, f64)> = Vec::new();
    for number in 0..runs {
        let scratch = Scratch::new("truth");
        let (dump, sites) = run(number, scratch.path());
        assert_eq!(dump.profile.period, INTERVAL as i64);
        let errors = errors(&dump, &sites, INTERVAL);
        assert!(errors.len() >= 4, "few sites have enough samples");
        for (name, error) in &errors {
            assert!(error.abs() <= 4.0, "run {number}: {name} is {error:.2} standard errors off");
        }
        all.extend(errors);
    }
    let count = u32::try_from(all.len()).expect("some hundred figures");
    let beyond = all.iter().filter(|(_, error)| error.abs() > 2.0).count() as u32;
    // 90 % within 2, as 20 runs must show; with fewer figures, as many as chance allows.
    let allowed = (count / 10).max(failures_allowed(count, BEYOND_TWO, 1e-4));
    assert!(beyond <= allowed, "{beyond} of {count} figures are beyond 2 standard errors: {all:?}");
    let mean: f64 = all.iter().map(|(_, error)| error).sum::<f64>() / f64::from(count);
    assert!(mean.abs() * f64::from(count).sqrt() < 4.5, "the estimates lean to one side: mean {mean:.3}");
    holds("P7", &format!("{count} figures, {beyond} beyond 2 standard errors, mean {mean:.3}"));
}

#[test]
fn estimates_of_a_service_hold() {
    check(by_length(6, 20), |number, directory| {
        let books = directory.join("books.json");
        let ended = Program::new(command())
            .args(["run", "--out"])
            .arg(directory.join("dumps"))
            .arg("--")
            .arg(fixture("leaky"))
            .arg("--json")
            .arg(&books)
            .arg("--seed")
            .arg((number + 1).to_string())
            .env("MALLOC_CONF", format!("prof_seed:{}", number + 1))
            .run()
            .expect_success();
        let table = ended.text();
        assert!(table.contains("leaky::session_store::insert"), "{table}");
        let dump = only(&directory.join("dumps"), 'f');
        (Dump::symbolized(&dump, &directory.join("named.pb.gz")), truth::read(&books))
    });
}

#[test]
fn estimates_of_four_sizes_hold() {
    let program = tools::compile("c/sites.c", &[]);
    check(by_length(6, 20), |number, directory| {
        let conf = final_dump(directory, &format!("prof_seed:{}", number + 1));
        let ended = Program::new(&program).under(conf).run().expect_success();
        let dump = only(directory, 'f');
        (Dump::symbolized(&dump, &directory.join("named.pb.gz")), truth::parse(&ended.stdout))
    });
}

#[test]
fn the_command_shows_what_the_dump_says() {
    let scratch = Scratch::new("table");
    let ended = Program::new(command())
        .arg("run")
        .arg("--")
        .arg(fixture("leaky"))
        .directory(scratch.path())
        .run()
        .expect_success();
    // The dumps' place is told, and the tables name the leak and the churn.
    let directory = std::fs::read_dir(scratch.path()).expect("readable").next().expect("one entry").expect("readable");
    let name = directory.file_name().to_string_lossy().into_owned();
    assert!(name.starts_with("heapsift-leaky-"), "{name}");
    let text = ended.text() + &ended.complaints();
    for wanted in [
        &name,
        "leaky::session_store::insert",
        "leaky::page_cache::fill",
        "leaky::query::parse",
        "leaky::report::render",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in:\n{text}");
    }
    // The same numbers in the machine-readable table as in the file.
    let dump = only(&directory.path(), 'f');
    let named = Dump::symbolized(&dump, &scratch.join("named.pb.gz"));
    let json = Program::new(command())
        .args(["top", "--json", "--sites", "--nodefraction", "0"])
        .arg(&dump)
        .run()
        .expect_success();
    let table: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let mut compared = 0;
    for row in table["rows"].as_array().expect("rows") {
        let name = row["function"].as_str().expect("a name");
        if name.starts_with("leaky::") {
            assert_eq!(row["flat"]["value"].as_i64(), Some(named.of_function(Column::InuseSpace, name)), "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 8, "{table:#}");
}

#[test]
fn an_exit_status_is_passed_on() {
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        let scratch = Scratch::new("status");
        let ended =
            Program::new(command()).args(["run", "--no-top", "--", "sh", "-c", script]).directory(scratch.path()).run();
        assert_eq!(ended.status, status, "{script}: {}", ended.complaints());
    }
}
