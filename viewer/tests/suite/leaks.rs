//! `leaks`: series made with known truth.

use std::fs;

use crate::support::{Builder, PERIOD, Random, Scratch, heapsift, is_long, json_of, output_of};

const DUMPS: usize = 12;

/// What a made site does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Leak,
    /// Grows as a leak does, but its blocks live for a dump or two.
    Load,
    Cache,
    Churn,
    Constant,
    Step,
}

/// A made site: `bytes` are what it ends up with.
#[derive(Clone, Copy, Debug)]
struct Site {
    role: Role,
    size: i64,
    bytes: f64,
}

impl Site {
    fn level(&self, dump: usize) -> f64 {
        let share = match self.role {
            Role::Leak | Role::Load => (dump + 1) as f64 / DUMPS as f64,
            Role::Cache => ((dump + 1) as f64 / 5.0).min(1.0),
            Role::Step => f64::from(u8::from(dump >= 7)),
            Role::Churn | Role::Constant => 1.0,
        };
        self.bytes * share
    }

    /// Share of its blocks that goes between two dumps.
    fn turnover(&self) -> f64 {
        match self.role {
            Role::Leak | Role::Constant | Role::Step => 0.0,
            Role::Cache => 0.3,
            Role::Load => 0.7,
            Role::Churn => 0.8,
        }
    }

    /// Sampled blocks in each dump, by the dump in which they were born.
    fn series(&self, random: &mut Random) -> Vec<Vec<u32>> {
        let probability = -(-(self.size as f64) / PERIOD as f64).exp_m1();
        let mut sampled: Vec<u32> = Vec::new();
        let mut blocks = 0.0;
        (0..DUMPS)
            .map(|dump| {
                for count in &mut sampled {
                    *count -= random.successes(u64::from(*count), self.turnover());
                }
                blocks *= 1.0 - self.turnover();
                let wanted = (self.level(dump) / self.size as f64 - blocks).max(0.0);
                blocks += wanted;
                sampled.push(random.successes(wanted as u64, probability));
                sampled.clone()
            })
            .collect()
    }
}

/// Dumps of a process with these sites; with `epochs` they tell when blocks were born.
fn dumps(sites: &[Site], seed: u64, epochs: bool) -> Vec<Builder> {
    let mut random = Random::new(seed);
    let series: Vec<_> = sites.iter().map(|site| site.series(&mut random)).collect();
    (0..DUMPS)
        .map(|dump| {
            let mut builder = Builder::new();
            builder.mapping("/opt/app/service", 0x40_0000, "0a0b0c0d");
            builder.profile.time_nanos += dump as i64 * 600_000_000_000;
            for (number, (site, series)) in sites.iter().zip(&series).enumerate() {
                let name = format!("{:?}_{number}", site.role).to_lowercase();
                let stack = builder.stack(&[&name, "main"]);
                let mut all = 0;
                for (born, &samples) in series[dump].iter().enumerate() {
                    if samples > 0 && epochs {
                        builder.born(&stack, site.size, samples, Some(born as i64 + 1));
                    }
                    all += samples;
                }
                if all > 0 && !epochs {
                    builder.sampled(&stack, site.size, all);
                }
            }
            builder
        })
        .collect()
}

fn write(scratch: &Scratch, dumps: &[Builder]) -> Vec<String> {
    // Named against their order: what counts is the time in them.
    let name = |at: usize| format!("{:02}.pb.gz", DUMPS - at);
    dumps.iter().enumerate().map(|(at, dump)| scratch.file(&name(at), &dump.gzip())).collect()
}

fn leaks(files: &[String], more: &[&str]) -> serde_json::Value {
    let mut words = vec!["leaks", "--json", "-n", "0"];
    words.extend(more);
    words.extend(files.iter().map(String::as_str));
    json_of(&words)
}

fn shapes(told: &serde_json::Value) -> Vec<(String, String)> {
    let word = |site: &serde_json::Value, key: &str| site[key].as_str().unwrap().to_owned();
    told["sites"].as_array().unwrap().iter().map(|site| (word(site, "name"), word(site, "shape"))).collect()
}

const MIB: f64 = 1_048_576.0;

const SERVICE: [Site; 7] = [
    Site { role: Role::Leak, size: 512, bytes: 60.0 * MIB },
    Site { role: Role::Load, size: 2048, bytes: 80.0 * MIB },
    Site { role: Role::Cache, size: 4096, bytes: 90.0 * MIB },
    Site { role: Role::Churn, size: 128, bytes: 70.0 * MIB },
    Site { role: Role::Constant, size: 20 << 20, bytes: 400.0 * MIB },
    Site { role: Role::Step, size: 1024, bytes: 50.0 * MIB },
    Site { role: Role::Constant, size: 96, bytes: 30.0 * MIB },
];

#[test]
fn each_site_is_seen_for_what_it_is() {
    let scratch = Scratch::new();
    let files = write(&scratch, &dumps(&SERVICE, 1, true));
    let told = leaks(&files, &[]);
    assert_eq!(told["followed"], true, "{told}");
    let shapes = shapes(&told);
    let of = |name: &str| shapes.iter().find(|(site, _)| site == name).unwrap().1.as_str();
    assert_eq!(shapes[0].0, "leak_0");
    let found = ["leak_0", "load_1", "cache_2", "churn_3", "constant_4", "step_5", "constant_6"].map(of);
    assert_eq!(found, ["leak", "load", "plateau", "steady", "steady", "step", "steady"]);

    // 5 MiB in ten minutes, give or take; all of it is kept.
    let leak = &told["sites"][0];
    let slope = |key: &str| leak["slope"][key].as_f64().unwrap() * 600.0 / MIB;
    assert!(slope("low") < 5.0 && slope("high") > 5.0 && slope("high") - slope("low") < 3.0, "{leak}");
    assert_eq!(leak["kept"], 1.0);
    assert_eq!(leak["values"].as_array().unwrap().len(), DUMPS);
    // What was there in the first dump is 110 minutes old, what came last 5: 57.5 on average.
    let age = leak["age"].as_f64().unwrap() / 60.0;
    assert!((50.0..65.0).contains(&age), "{age}");

    let mut words = vec!["leaks"];
    words.extend(files.iter().map(String::as_str));
    let text = output_of(&words);
    assert!(text.contains("12 dumps of one process over 110.0min; samples followed"), "{text}");
    assert!(text.contains("1 site grows steadily"), "{text}");
    let line = text.lines().find(|line| line.ends_with("leak_0  src/app.c:10")).unwrap();
    assert!(line.starts_with("leak ") && line.contains('▂') && line.contains('█'), "{text}");
    assert!(!text.contains("constant_4") && text.contains("3 more sites, steady or smaller"), "{text}");
}

#[test]
fn dumps_without_epochs_are_judged_more_carefully() {
    let scratch = Scratch::new();
    let files = write(&scratch, &dumps(&SERVICE, 2, false));
    let told = leaks(&files, &[]);
    assert_eq!(
        (told["followed"].as_bool(), told["why_not_followed"].as_str()),
        (Some(false), Some("the rows have no label epoch"))
    );
    let shapes = shapes(&told);
    assert!(shapes.contains(&("leak_0".to_owned(), "leak".to_owned())), "{shapes:?}");
    assert!(told["sites"][0]["kept"].is_null());
    for (name, shape) in &shapes {
        // That blocks of `load` go cannot be known.
        let may_be_leak = name == "leak_0" || name == "load_1";
        assert!(shape != "leak" || may_be_leak, "{shapes:?}");
    }
}

#[test]
fn intervals_of_slopes_hold_the_truth_and_churn_is_no_leak() {
    let repetitions = if is_long() { 400 } else { 40 };
    let sites = |random: &mut Random| -> Vec<Site> {
        (0..20)
            .map(|number| {
                let role = [Role::Leak, Role::Load, Role::Cache, Role::Churn, Role::Constant][number % 5];
                let size = (32.0 * 2f64.powf(random.unit() * 11.0)) as i64;
                Site { role, size, bytes: (4.0 + 60.0 * random.unit()) * MIB }
            })
            .collect()
    };
    let (mut covered, mut intervals, mut wrong) = (0, 0, 0);
    for repetition in 0..repetitions {
        let sites = sites(&mut Random::new(70_000 + repetition));
        let scratch = Scratch::new();
        let files = write(&scratch, &dumps(&sites, repetition, true));
        let told = leaks(&files, &[]);
        for site in told["sites"].as_array().unwrap() {
            let number = site["name"].as_str().unwrap().rsplit('_').next().unwrap();
            let truth = sites[number.parse::<usize>().unwrap()];
            let mean = (DUMPS as f64 - 1.0) / 2.0;
            let weights = (0..DUMPS).map(|dump| dump as f64 - mean);
            let spread: f64 = weights.clone().map(|weight| weight * weight).sum();
            let slope: f64 =
                weights.enumerate().map(|(dump, weight)| weight * truth.level(dump)).sum::<f64>() / spread / 600.0;
            let end = |key: &str| site["slope"][key].as_f64().unwrap();
            intervals += 1;
            // Blocks are whole, levels are not.
            let slack = truth.size as f64 / 600.0;
            covered += u32::from(end("low") - slack <= slope && slope <= end("high") + slack);
            wrong += u32::from(site["shape"] == "leak" && truth.role != Role::Leak);
        }
    }
    println!("{covered} of {intervals} intervals hold the truth; {wrong} false leaks in {repetitions} series");
    let share = f64::from(covered) / f64::from(intervals);
    assert!((0.93..0.995).contains(&share), "{share}");
    assert!(f64::from(wrong) <= 0.02 * repetitions as f64, "{wrong} in {repetitions}");
}

#[test]
fn a_series_is_three_dumps_or_more_and_may_be_thinned() {
    let scratch = Scratch::new();
    let files = write(&scratch, &dumps(&SERVICE, 3, true));
    let refused = heapsift(&["leaks", &files[0], &files[1]]);
    assert_eq!(refused.status.code(), Some(2));
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(errors, "heapsift: a series needs three dumps or more, and there are 2; `heapsift diff` compares two\n");
    let three = leaks(&files[..3], &[]);
    assert_eq!(three["x"].as_array().unwrap().len(), 3);
    // Every other: still followed.
    let thinned = leaks(&files, &["--most", "6"]);
    assert_eq!(thinned["x"].as_array().unwrap().len(), 6);
    assert_eq!((thinned["followed"].as_bool(), thinned["sites"][0]["name"].as_str()), (Some(true), Some("leak_0")));
    assert_eq!(thinned["x"][5], 6600.0);
}

#[test]
fn what_can_only_grow_is_no_leak() {
    let scratch = Scratch::new();
    let files = write(&scratch, &dumps(&SERVICE, 3, true));
    let words: Vec<&str> = files.iter().map(String::as_str).collect();
    let refused = heapsift(&[&["leaks", "--sample-index=alloc_space"], &words[..]].concat());
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), errors.lines().count()), (Some(2), 1), "{errors}");
    assert!(errors.starts_with("heapsift: --sample-index: alloc_space never shrinks, "), "{errors}");
    assert!(errors.contains("inuse_space tells what stays"), "{errors}");
    // A page of it is a page without trends.
    let page = scratch.join("report.html");
    let made = heapsift(&[&["report", "-o", &page, "--sample-index=alloc_space"], &words[..]].concat());
    let errors = String::from_utf8(made.stderr).unwrap();
    assert!(made.status.success() && errors.starts_with("heapsift: the page has no trends: alloc_space "), "{errors}");
    assert!(fs::read_to_string(&page).unwrap().contains("\"trend\":null"));
}

#[test]
fn a_directory_is_the_process_with_most_dumps() {
    let scratch = Scratch::new();
    for (at, dump) in dumps(&SERVICE, 4, true).iter().enumerate() {
        scratch.file(&format!("heapsift.77.{at}.m{at}.heap.pb.gz"), &dump.gzip());
        if at < 2 {
            scratch.file(&format!("heapsift.99.{at}.m{at}.heap.pb.gz"), &dump.gzip());
        }
    }
    let path = scratch.path().to_str().unwrap();
    let output = heapsift(&["leaks", "--json", path]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["x"].as_array().unwrap().len(), DUMPS);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors, format!("heapsift: {path}: process 77; 2 dumps of other processes are left out\n"));
}

#[test]
fn what_has_no_name_is_told_once_for_all_dumps() {
    let scratch = Scratch::new();
    let mut dumps = dumps(&SERVICE, 6, true);
    for (at, dump) in dumps.iter_mut().enumerate() {
        dump.mapping("/nowhere/lib.so", 0x7000_0000, "0badcafe");
        let nameless: Vec<u64> = (0..=at as u64).map(|address| dump.location(0x7000_0000 + address, &[])).collect();
        dump.sampled(&nameless, 64, 1);
    }
    let files = write(&scratch, &dumps);
    let words: Vec<&str> = files.iter().map(String::as_str).collect();
    let told = heapsift(&[&["leaks"], &words[..]].concat()).stderr;
    let line =
        "heapsift: 0 of 1 modules symbolized; lib.so: no file with build id 0badcafe (0 of 12 addresses named)\n";
    assert_eq!(String::from_utf8(told).unwrap(), line);
}

#[test]
fn plots_show_every_site_and_names_stay_text() {
    let scratch = Scratch::new();
    let mut dumps = dumps(&SERVICE, 5, true);
    for dump in &mut dumps {
        for text in &mut dump.profile.string_table {
            if text == "leak_0" {
                *text = "</text><script>alert(1)</script>\u{202e}".to_owned();
            }
        }
    }
    let files = write(&scratch, &dumps);
    let out = scratch.join("trend.svg");
    let mut words = vec!["leaks", "-o", &out];
    words.extend(files.iter().map(String::as_str));
    output_of(&words);
    let svg = fs::read_to_string(&out).unwrap();
    assert!(!svg.contains("<script") && !svg.contains('\u{202e}') && svg.contains("&lt;script&gt;alert(1)"));
    // All together, the leak, the load, the cache and the step.
    assert_eq!(svg.matches("<title>").count(), 5);
    assert_eq!(svg.matches("<circle").count(), 5 * DUMPS);
    assert_eq!(svg.matches("stroke-dasharray").count(), 4);
}
