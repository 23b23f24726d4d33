//! Rows L1 to L3 and A2: many threads, and blocks that wander between them.

use std::time::Duration;

use heapsift_tests::safety::{Who, told};
use heapsift_tests::{Ended, Program, by_length, is_long, tools};

/// Runs a C program that ends with status 0.
fn run(who: Who, source: &str, words: &[&str], conf: &str) -> Result<Ended, String> {
    let program = Program::new(tools::compile(source, &[])).args(words).within(Duration::from_secs(1500));
    who.dress(program, conf).run_or_give_up()
}

/// The numbers behind a name, one a line.
fn numbers(text: &str, name: &str) -> Vec<f64> {
    text.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse().ok()).collect()
}

#[test]
fn l1_blocks_go_from_thread_to_thread() {
    // In the short form nobody waits for memory to be given back.
    let forms: &[[&str; 4]] = by_length(
        &[["64", "10000", "100000", "0"]],
        &[["64", "2000000", "100000", "10"], ["256", "200000", "100000", "10"]],
    );
    for words in forms {
        for (part, conf) in [("profiling off", "prof:false"), ("profiling on", "prof:true,lg_prof_sample:14")] {
            for who in Who::looked_at() {
                if who != Who::Heapsift && part != "profiling off" {
                    continue;
                }
                let part = format!("{} threads, {part}", words[0]);
                let ended = match run(who, "c/cross.c", words, conf) {
                    Ok(ended) if ended.status <= 1 => ended,
                    Ok(ended) => {
                        told("L1", &part, who, &format!("status {}", ended.status), false);
                        continue;
                    }
                    Err(_) => {
                        told("L1", &part, who, "hangs", false);
                        continue;
                    }
                };
                let text = ended.text();
                let [live, peak, after, corrupt] =
                    ["live", "peak", "after", "corrupt"].map(|name| numbers(&text, name)[0]);
                let shown = format!(
                    "{corrupt} corrupt; {:.0} MiB live, {:.0} resident then, {:.0} after all was freed: {:.2} of the live set",
                    live / 1024.0,
                    peak / 1024.0,
                    after / 1024.0,
                    after / live
                );
                told("L1", &part, who, &shown, corrupt < 0.5 && (!is_long() || after <= 1.3 * live));
            }
        }
    }
}

#[test]
fn l2_blocks_go_one_way() {
    for pairs in ["1", "4"] {
        let part = format!("{pairs} pairs");
        for who in Who::looked_at() {
            let ended = run(who, "c/handover.c", &[pairs, by_length("500000", "30000000")], "prof:false");
            let text = ended.expect("it ends").expect_success().text();
            let fifths = numbers(&text, "fifth");
            let (second, last) = (fifths[1], fifths[4]);
            let shown = format!("{second} KiB resident in the second fifth, {last} in the last");
            // What varies by chance is some pages; a leak of one block in a hundred would show as megabytes.
            told("L2", &part, who, &shown, last <= second * by_length(1.1, 1.02) + 512.0);
        }
    }
}

#[test]
fn l3_threads_come_and_go() {
    let total = by_length("30000", "100000");
    for (part, conf) in [("profiling off", "prof:false"), ("profiling on", "prof:true,lg_prof_sample:10")] {
        for who in Who::looked_at() {
            if who != Who::Heapsift && part != "profiling off" {
                continue;
            }
            let text = run(who, "c/churn.c", &[total], conf).expect("it ends").expect_success().text();
            let (tenth, end) = (numbers(&text, "tenth")[0], numbers(&text, "end")[0]);
            let shown = format!("{total} threads: {tenth} KiB after a tenth of them, {end} at the end");
            told("L3", part, who, &shown, end <= 2.0 * tenth);
        }
    }
}

#[test]
fn a2_random_operations_against_a_model() {
    let ops = by_length("6000", "1562500");
    for (part, conf) in [("profiling off", "prof:false"), ("profiling on", "prof:true,lg_prof_sample:14")] {
        for who in Who::looked_at() {
            if who != Who::Heapsift && part != "profiling off" {
                continue;
            }
            let part = format!("64 threads, {part}");
            match run(who, "c/faults.c", &["mix", "63", ops], conf) {
                Ok(ended) => {
                    let million = 64.0 * ops.parse::<f64>().expect("a number") / 1e6;
                    let text = format!("{million} million operations: status {} {}", ended.status, ended.complaints());
                    told("A2", &part, who, text.trim(), ended.status == 0);
                }
                Err(_) => told("A2", &part, who, "hangs", false),
            }
        }
    }
}
