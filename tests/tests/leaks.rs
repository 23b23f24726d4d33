//! `heapsift leaks` over series of real dumps, held against what the programs were built to do.

use std::collections::HashMap;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::{Program, by_length, command, fixture};

/// Name and shape of each site that is not steady, in the order in which they are named.
fn shapes(dumps: &Scratch) -> Vec<(String, String)> {
    let told = Program::new(command()).arg("leaks").arg("--json").arg(dumps.path()).run().expect_success();
    let value: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!(value["followed"], true, "{}", value["why_not_followed"]);
    assert_eq!(value["x"].as_array().map(Vec::len), Some(12));
    let word = |site: &serde_json::Value, key: &str| site[key].as_str().unwrap_or_default().to_owned();
    let sites = value["sites"].as_array().expect("a list of sites");
    sites.iter().map(|site| (word(site, "name"), word(site, "shape"))).collect()
}

/// Runs a fixture in twelve phases; its output.
fn run(name: &str, seed: u32, dumps: &Scratch) -> String {
    let conf = format!("prof:true,prof_seed:{seed},prof_prefix:{}", dumps.join(name).display());
    let program = Program::new(fixture(name)).args(["--phases", "12", "--seed", &seed.to_string()]);
    program.under(&conf).run().expect_success().text()
}

#[test]
fn the_leak_is_named_first_and_caches_and_churn_are_not() {
    for seed in 1..=by_length(3, 20) {
        let dumps = Scratch::new("leaks");
        run("leaky", seed, &dumps);
        let shapes = shapes(&dumps);
        let leaks: Vec<&str> =
            shapes.iter().filter(|(_, shape)| shape == "leak").map(|(name, _)| name.as_str()).collect();
        assert_eq!(leaks.first(), Some(&"leaky::session_store::insert"), "seed {seed}: {shapes:?}");
        for name in &leaks {
            let is_innocent =
                ["_cache::", "query::", "report::", "config::", "::open"].iter().any(|part| name.contains(part));
            assert!(!is_innocent, "seed {seed}: {name} is called a leak: {shapes:?}");
        }
        // The caches are seen, and seen to have stopped.
        let plateaus = shapes.iter().filter(|(_, shape)| shape == "plateau").count();
        assert!(plateaus >= 1, "seed {seed}: {shapes:?}");
    }
}

#[test]
fn leaks_of_programs_drawn_by_lot_are_found() {
    // Two leaks to a program: of fewer programs, one in ten would be none.
    let runs = by_length(10, 20);
    let (mut failures, mut leaks, mut found) = (Vec::new(), 0, 0);
    for seed in 101..101 + runs {
        let dumps = Scratch::new("leaks");
        let truth = run("motley", seed, &dumps);
        // `leak motley::sites::mason 31689966 [11887] of 2 threads`
        let roles: HashMap<&str, &str> = truth
            .lines()
            .filter_map(|line| {
                let mut words = line.split(' ');
                words.next().zip(words.next()).map(|(role, name)| (name, role))
            })
            .collect();
        let shapes = shapes(&dumps);
        let called: Vec<&str> =
            shapes.iter().filter(|(_, shape)| shape == "leak").map(|(name, _)| name.as_str()).collect();
        let is_leak = |name: &str| roles.get(name) == Some(&"leak");
        leaks += roles.values().filter(|&&role| role == "leak").count();
        found += called.iter().filter(|name| is_leak(name)).count();
        if called.is_empty() || !called.iter().all(|name| is_leak(name)) || shapes[0].0 != called[0] {
            failures.push(format!("seed {seed}: {shapes:?}\n{truth}"));
        }
    }
    println!("{found} of {leaks} leaks found in {runs} programs, {} of them wrong", failures.len());
    assert!(failures.len() <= runs as usize / 20, "{}", failures.join("\n"));
    assert!(found * 10 >= leaks * 9, "{found} of {leaks}");
}
