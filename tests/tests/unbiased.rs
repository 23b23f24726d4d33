//! Many seeds of one program whose truth is known: the estimates have no lean, spread as predicted, and their intervals
//! hold the truth as often as they say. Beside them, what jemalloc's dumps say of the same program.
//!
//! `prof_seed` makes every run of this test the same: what passes once passes until the sampling changes. The bounds
//! are still those that chance alone breaks less than once in 10 000.

use std::path::{Path, PathBuf};

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, final_dump, only};
use heapsift_tests::statistics::{failures_allowed, mean_and_deviation};
use heapsift_tests::truth::{self, Site};
use heapsift_tests::{Dump, Program, by_length, command, is_long, tools};
use serde_json::Value;

const INTERVAL: f64 = 524_288.0;

/// What one run's table says of one site.
#[derive(Clone, Copy, Debug)]
struct Figure {
    value: f64,
    low: f64,
    high: f64,
}

/// The site's row of the table that `heapsift top` makes of a dump.
fn figure(table: &Value, site: &str) -> Figure {
    let rows = table["rows"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["function"] == site).unwrap_or_else(|| panic!("{site} is not in {table:#}"));
    let number = |name: &str| row["flat"][name].as_f64().expect("a number");
    Figure { value: number("value"), low: number("low"), high: number("high") }
}

fn table(dump: &Path) -> Value {
    let top = Program::new(command()).args(["top", "--json", "--sites", "--nodefraction", "0"]).arg(dump);
    serde_json::from_slice(&top.run().expect_success().stdout).expect("JSON")
}

#[test]
fn estimates_over_many_seeds() {
    let program = tools::compile("c/sites.c", &[]);
    let seeds = by_length(30, 200);
    let mut sites: Vec<Site> = Vec::new();
    let mut figures: Vec<Vec<Figure>> = Vec::new();
    for seed in 1..=seeds {
        let scratch = Scratch::new("seeds");
        let options = final_dump(scratch.path(), &format!("prof_seed:{seed}"));
        let ended = Program::new(&program).under(options).run().expect_success();
        sites = truth::parse(&ended.stdout);
        figures.resize(sites.len(), Vec::new());
        let table = table(&only(scratch.path(), 'f'));
        for (site, figures) in sites.iter().zip(&mut figures) {
            figures.push(figure(&table, &site.name));
        }
    }
    let count = f64::from(seeds);
    println!("{seeds} seeds     error (SE of mean)   spread/predicted   intervals hold");
    for (site, figures) in sites.iter().zip(&figures) {
        let truth = site.live_bytes as f64;
        let predicted = site.standard_error(INTERVAL);
        let values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
        let (mean, deviation) = mean_and_deviation(&values);
        let error = (mean - truth) / (predicted / count.sqrt());
        let spread = deviation / predicted;
        let missed = figures.iter().filter(|f| !(f.low..=f.high).contains(&truth)).count() as u32;
        println!("{:10} {error:20.2} {spread:18.2} {:16.3}", site.name, 1.0 - f64::from(missed) / count);
        assert!(error.abs() < by_length(4.0, 3.0), "{}: the mean is {error:.2} standard errors off", site.name);
        // The deviation of n normal values has itself a relative error of 1/√(2(n − 1)).
        let wide = by_length(4.2 / (2.0 * (count - 1.0)).sqrt(), 0.15);
        assert!((spread - 1.0).abs() < wide, "{}: spread {spread:.2} of what is predicted", site.name);
        // 95 % intervals; with few samples they hold a little less.
        let allowed = by_length(failures_allowed(seeds, 0.07, 1e-4), seeds / 10);
        assert!(missed <= allowed, "{}: {missed} of {seeds} intervals miss the truth", site.name);
    }
    if is_long() {
        jemalloc_beside(&program, 60);
    }
}

/// The same program under the distribution's jemalloc, if it is there; its numbers are shown, not judged.
fn jemalloc_beside(program: &Path, runs: u32) {
    let library = PathBuf::from("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2");
    if !library.exists() {
        return tools::missing("libjemalloc2");
    }
    let mut sites: Vec<Site> = Vec::new();
    let mut values: Vec<Vec<f64>> = Vec::new();
    for _ in 0..runs {
        let scratch = Scratch::new("jemalloc");
        let options = format!("prof:true,prof_final:true,prof_prefix:{}/je", scratch.path().display());
        let ended = Program::new(program).library(&library).under(options).run().expect_success();
        sites = truth::parse(&ended.stdout);
        values.resize(sites.len(), Vec::new());
        let file = std::fs::read_dir(scratch.path()).expect("readable").next().expect("a dump").expect("readable");
        let dump = std::fs::read_to_string(file.path()).expect("jemalloc's dumps are text");
        for (estimate, values) in jemalloc_estimates(&dump, &sites).into_iter().zip(&mut values) {
            values.push(estimate);
        }
    }
    println!("jemalloc, {runs} runs");
    for (site, values) in sites.iter().zip(&values) {
        let predicted = site.standard_error(INTERVAL);
        let (mean, deviation) = mean_and_deviation(values);
        let error = (mean - site.live_bytes as f64) / (predicted / f64::from(runs).sqrt());
        println!("{:10} {error:20.2} {:18.2}", site.name, deviation / predicted);
    }
}

/// Live bytes of each site in a `heap_v2` dump, unbiased as jeprof does it.
fn jemalloc_estimates(dump: &str, sites: &[Site]) -> Vec<f64> {
    /// Longer than any site's code.
    const CODE_BYTES: u64 = 256;
    let mut estimates = vec![0.0; sites.len()];
    let mut lines = dump.lines();
    while let Some(line) = lines.next() {
        let Some(stack) = line.strip_prefix("@ ") else { continue };
        let mut frames = stack.split(' ').filter_map(|pc| u64::from_str_radix(pc.trim_start_matches("0x"), 16).ok());
        // The allocator's own frames come first; the site is the first of the program's functions.
        let site_of = |pc: u64| {
            let near = sites.iter().enumerate().filter(|(_, site)| (site.code..site.code + CODE_BYTES).contains(&pc));
            near.max_by_key(|(_, site)| site.code).map(|(index, _)| index)
        };
        let Some(index) = frames.find_map(site_of) else { continue };
        let counts = lines.next().and_then(|line| line.trim().strip_prefix("t*: ")).expect("totals follow a stack");
        let mut numbers = counts.split([':', '[', ' ']).filter_map(|word| word.parse::<f64>().ok());
        let (objects, bytes) = (numbers.next().expect("objects"), numbers.next().expect("bytes"));
        if objects > 0.0 {
            estimates[index] += bytes / -(-(bytes / objects) / INTERVAL).exp_m1();
        }
    }
    estimates
}

#[test]
fn exact_totals_stand_beside_the_estimates() {
    let scratch = Scratch::new("totals");
    let program = tools::compile("c/sites.c", &[]);
    let ended = Program::new(&program).under(final_dump(scratch.path(), "prof_seed:1")).run().expect_success();
    let sites = truth::parse(&ended.stdout);
    let dump = Dump::read(&only(scratch.path(), 'f'));
    let stats = dump.profile.allocator_stats.as_ref().expect("every dump of ours has them");
    // Blocks of the C library beside the program's: few, and small.
    let known: u64 = sites.iter().map(|site| site.live_bytes).sum();
    assert!((known..known + 100_000).contains(&stats.allocated), "{} bytes, {known} of them known", stats.allocated);
    let bytes: u64 = stats.classes.iter().map(|class| class.bytes).sum();
    assert_eq!(bytes, stats.allocated);
    assert_eq!(stats.classes.iter().map(|class| class.active).sum::<u64>(), stats.active);
    assert_eq!(stats.classes.iter().map(|class| class.tcache).sum::<u64>(), stats.tcache);
    for size in [16, 64, 1024, 4096] {
        let blocks: u64 = sites.iter().flat_map(|s| &s.live_sizes).filter(|(s, _)| *s == size).map(|(_, n)| n).sum();
        let class = stats.classes.iter().find(|class| class.size == size).expect("the class has blocks");
        assert!((blocks..blocks + 200).contains(&class.blocks), "{size}: {class:?}, {blocks} known");
        assert_eq!(class.bytes, class.blocks * size);
        assert!(class.active >= class.bytes + class.tcache && class.active < class.bytes + class.tcache + 1_000_000);
    }
    let large: Vec<_> = sites.iter().flat_map(|s| &s.live_sizes).filter(|(size, _)| *size > 14336).collect();
    let class = stats.classes.iter().find(|class| class.size == 0).expect("there are large blocks");
    let count: u64 = large.iter().map(|(_, count)| count).sum();
    assert!((count..count + 5).contains(&class.blocks), "{class:?}, {count} known");
    assert!(class.bytes >= large.iter().map(|(size, count)| size * count).sum());
    let inuse = dump.total(Column::InuseSpace) as f64;
    let error = sites.iter().map(|site| site.standard_error(INTERVAL).powi(2)).sum::<f64>().sqrt();
    assert!((inuse - stats.allocated as f64).abs() < 4.0 * error, "{inuse} ± {error}, exactly {}", stats.allocated);
}

#[test]
fn a_seed_repeats_the_samples() {
    let program = tools::compile("c/sites.c", &[]);
    let rows = |options: &str| {
        let scratch = Scratch::new("seed");
        Program::new(&program).under(final_dump(scratch.path(), options)).run().expect_success();
        let dump = Dump::read(&only(scratch.path(), 'f'));
        let mut rows: Vec<Vec<i64>> = dump.profile.sample.iter().map(|row| row.value.clone()).collect();
        rows.sort();
        rows
    };
    assert_eq!(rows("prof_seed:7"), rows("prof_seed:7"));
    assert_ne!(rows("prof_seed:7"), rows("prof_seed:8"));
    assert_ne!(rows(""), rows(""));
}
