//! `suite`: all workloads under all allocators, interleaved, and the tables.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use bench::suite::table::Quantity;
use bench::suite::{Results, Runner, definition};
use bench::{Failure, Outcome, fail};
use clap::Args;

use super::{Choice, target};

/// Options of `suite`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Only these workloads
    #[arg(long, short, value_delimiter = ',', value_name = "NAMES")]
    workloads: Vec<String>,
    /// Runs of each workload under each allocator
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Runs that take next to no time, to see whether everything works
    #[arg(long)]
    short: bool,
    /// Write all readings as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Say which workloads there are
    #[arg(long)]
    list: bool,
}

/// The peers that the marks are about.
const PEERS: [&str; 3] = ["jemalloc", "mimalloc2", "gperftools"];
/// The one that is ours, with profiling on.
const SUBJECT: &str = "heapsift-prof";

/// Runs it.
pub fn run(options: &Options) -> Outcome<()> {
    let workloads = definition::select(definition::all()?, &options.workloads)?;
    if options.list {
        for workload in &workloads {
            println!("{:14} {}", workload.name, workload.about);
        }
        return Ok(());
    }
    let allocators = options.choice.allocators()?;
    let runner = Runner::new(&target()?, options.short)?;
    let mut ready = Vec::new();
    for workload in workloads {
        match Runner::hindrance(&workload) {
            Some(why) => eprintln!("tests/bench/run: {} is left out: {why}", workload.name),
            None => {
                runner.prepare(&workload)?;
                ready.push(workload);
            }
        }
    }
    if ready.is_empty() {
        return fail("nothing is left to run");
    }
    let names = |list: &[bench::allocators::Allocator]| list.iter().map(|a| a.name.clone()).collect::<Vec<_>>();
    let mut results = Results::new(names(&allocators), ready.iter().map(|workload| workload.name.clone()).collect());
    let total = ready.len() * allocators.len() * options.rounds as usize;
    let mut done = 0;
    let mut expected: Vec<Option<Vec<u8>>> = vec![None; ready.len()];
    for round in 0..options.rounds as usize {
        for (row, workload) in ready.iter().enumerate() {
            for turn in 0..allocators.len() {
                // Each round starts with another one, so that none always follows the same neighbour.
                let column = (turn + round) % allocators.len();
                progress(&format!("{done}/{total} {} {}", workload.name, allocators[column].name));
                let (reading, output) = runner.run(workload, &allocators[column]).map_err(|failure| {
                    Failure(format!("{} under {}: {failure}", workload.name, allocators[column].name))
                })?;
                let expected = expected[row].get_or_insert_with(|| output.clone());
                if *expected != output {
                    return fail(format!("{} prints something else under {}", workload.name, allocators[column].name));
                }
                results.add(row, column, reading);
                done += 1;
            }
        }
    }
    progress("");
    print!("{}{}", results.text(), marks(&results));
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", results.json());
        std::fs::write(path, text).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// Where ours is behind: more than 1.10 times the CPU time of the best peer, more than 1.25 times jemalloc's memory.
fn marks(results: &Results) -> String {
    let place = |name: &str| results.allocators.iter().position(|known| known == name);
    let Some(subject) = place(SUBJECT) else { return String::new() };
    let peers: Vec<usize> = PEERS.into_iter().filter_map(place).collect();
    let jemalloc: Vec<usize> = place(PEERS[0]).into_iter().collect();
    let mut out = String::new();
    for (what, peers, quantity, limit) in [
        ("more than 1.10 times the CPU time of the best peer", peers, Quantity::Cpu, 1.10),
        ("more than 1.25 times the memory of jemalloc", jemalloc, Quantity::Peak, 1.25),
    ] {
        let behind = results.behind(subject, &peers, quantity, limit);
        out.push_str(&format!("{SUBJECT}, {what}: {}\n", if behind.is_empty() { "nowhere" } else { "" }));
        for row in behind {
            let (ratio, low, high) = (row.ratio, row.low, row.high);
            out.push_str(&format!("  {:14} {ratio:.3} of {} (95%: {low:.3}..{high:.3})\n", row.workload, row.peer));
        }
    }
    out
}

/// A line that stands for the moment, on a terminal.
fn progress(text: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K{text}");
        let _ = stderr.flush();
    }
}
