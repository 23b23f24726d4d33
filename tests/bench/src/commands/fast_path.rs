//! `fast-path`: prints the instruction counts of all allocators, or records ours.

use bench::allocators::Allocator;
use bench::fast_path::{Cost, Driver, PATTERNS};
use bench::fast_path_table::{self as table, Table};
use bench::{Outcome, fail, home};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{Choice, target};

/// Options of `fast-path`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Only these patterns
    #[arg(long, short, value_delimiter = ',', value_name = "NAMES")]
    patterns: Vec<String>,
    /// Print the counts with the harness, as the driver has them
    #[arg(long)]
    gross: bool,
    /// Print nanoseconds too, from runs without valgrind
    #[arg(long)]
    ns: bool,
    /// Write our counts to fast_path.txt, which a test compares
    #[arg(long)]
    record: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(options: &Options) -> Outcome<()> {
    if let Some(name) = options.patterns.iter().find(|name| !PATTERNS.iter().any(|known| known.name == **name)) {
        let known: Vec<&str> = PATTERNS.iter().map(|pattern| pattern.name).collect();
        return fail(format!("no pattern '{name}'; there are {}", known.join(", ")));
    }
    let driver = Driver::build(&target()?)?;
    if options.record { record(options, &driver) } else { print(options, &driver) }
}

fn record(options: &Options, driver: &Driver) -> Outcome<()> {
    let path = home().join("fast_path.txt");
    let library = options.choice.library()?;
    let mut counted = if options.patterns.is_empty() { Table::new() } else { table::read(&path)? };
    for pattern in PATTERNS.iter().filter(|pattern| is_chosen(options, pattern.name)) {
        let mut row = [0.0; 2];
        for (cell, (name, conf)) in row.iter_mut().zip(table::COLUMNS) {
            *cell = driver.cost(pattern, &Allocator::ours(name, &library, conf), false)?.net;
        }
        println!("{:12} {:9.1} {:9.1}", pattern.name, row[0], row[1]);
        counted.insert(pattern.name.to_owned(), row);
    }
    table::write(&path, &counted)
}

fn print(options: &Options, driver: &Driver) -> Outcome<()> {
    let allocators = options.choice.allocators()?;
    let mut all = Map::new();
    if !options.json {
        let names: String = allocators.iter().map(|allocator| format!(" {:>15}", allocator.name)).collect();
        println!("{:12}{names}", if options.ns { "Ir/ns" } else { "Ir" });
    }
    for pattern in PATTERNS.iter().filter(|pattern| is_chosen(options, pattern.name)) {
        let mut row = Map::new();
        let mut line = format!("{:12}", pattern.name);
        for allocator in &allocators {
            match driver.cost(pattern, allocator, options.ns) {
                Ok(cost) => {
                    line.push_str(&format!(" {:>15}", cell(&cost, options.gross)));
                    let value = json!({ "net": cost.net, "gross": cost.gross, "ns": cost.nanoseconds });
                    row.insert(allocator.name.clone(), value);
                }
                Err(failure) => {
                    eprintln!("tests/bench/run: {}: {failure}", pattern.name);
                    line.push_str(&format!(" {:>15}", "-"));
                    row.insert(allocator.name.clone(), Value::Null);
                }
            }
        }
        if !options.json {
            println!("{line}");
        }
        all.insert(pattern.name.to_owned(), json!({ "what": pattern.what, "costs": row }));
    }
    if options.json {
        println!("{:#}", Value::Object(all));
    }
    Ok(())
}

fn cell(cost: &Cost, is_gross: bool) -> String {
    let count = if is_gross { cost.gross } else { cost.net };
    match cost.nanoseconds {
        Some(time) => format!("{count:.1}/{time:.2}"),
        None => format!("{count:.1}"),
    }
}

fn is_chosen(options: &Options, name: &str) -> bool {
    options.patterns.is_empty() || options.patterns.iter().any(|chosen| chosen == name)
}
