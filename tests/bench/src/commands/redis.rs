//! `redis`: what a server keeps resident while its data comes and goes, under each allocator.

use std::path::PathBuf;
use std::process::Command;

use bench::allocators::Allocator;
use bench::{Failure, Outcome, fail};
use clap::Args;

use super::Choice;

/// Options of `redis`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Keys to begin with; a million are 600 MiB of payload
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1000..))]
    keys: u32,
    /// Seconds of each of the two rests
    #[arg(long, default_value_t = 15.0, value_name = "SECONDS")]
    idle: f64,
    /// Write all readings as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs it.
pub fn run(options: &Options) -> Outcome<()> {
    let mut allocators = options.choice.allocators()?;
    // Debian's server is linked to jemalloc, so that without anything preloaded it has that, not the C library's.
    if allocators.iter().any(|allocator| allocator.preload.is_none()) {
        eprintln!("tests/bench/run: glibc is left out: redis-server brings jemalloc along");
        allocators.retain(|allocator| allocator.preload.is_some());
    }
    if let Some(jemalloc) = allocators.iter().find(|allocator| allocator.name == "jemalloc").cloned() {
        let variables = vec![("MALLOC_CONF".to_owned(), "background_thread:true".to_owned())];
        allocators.push(Allocator { name: "jemalloc-bg".to_owned(), variables, ..jemalloc });
    }
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("workloads/redis_frag.py");
    let mut readings = serde_json::Map::new();
    for allocator in &allocators {
        let mut command = Command::new("python3");
        command.arg(&script).arg(options.keys.to_string()).arg(options.idle.to_string());
        for variable in bench::allocators::CONFIGURATION {
            command.env_remove(variable);
        }
        command.env_remove("BENCH_PRELOAD");
        // The script hands these on to the server; they mean nothing to itself.
        if let Some(preload) = &allocator.preload {
            command.env("BENCH_PRELOAD", preload);
        }
        command.envs(allocator.variables.iter().map(|(key, value)| (key, value)));
        let output = command.output().map_err(|error| Failure(format!("python3: {error}")))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return fail(format!("{} under {}: {}", script.display(), allocator.name, errors.trim()));
        }
        let reading: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| Failure(format!("{} under {}: {error}", script.display(), allocator.name)))?;
        print_row(&allocator.name, &reading, readings.is_empty());
        readings.insert(allocator.name.clone(), reading);
    }
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", serde_json::Value::Object(readings));
        std::fs::write(path, text).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// One allocator: MiB resident and, in parentheses, in use as Redis counts it; thousands of requests per second of the
/// server's CPU time.
fn print_row(name: &str, reading: &serde_json::Value, with_head: bool) {
    let phases = reading["phases"].as_array().map_or(&[][..], Vec::as_slice);
    if with_head {
        println!("MiB resident (used_memory)");
        let names: String =
            phases.iter().map(|phase| format!(" {:>13}", phase["phase"].as_str().unwrap_or("?"))).collect();
        println!("{:14}{names} {:>9} {:>14}", "", "cpu", "requests/cpu s");
    }
    let mib = |phase: &serde_json::Value, key: &str| phase[key].as_f64().unwrap_or(f64::NAN) / f64::from(1 << 20);
    let cells: String = phases
        .iter()
        .map(|phase| format!(" {:>13}", format!("{:.0} ({:.0})", mib(phase, "resident"), mib(phase, "used"))))
        .collect();
    let number = |key: &str| reading[key].as_f64().unwrap_or(f64::NAN);
    let cpu = number("user") + number("system");
    println!("{name:14}{cells} {cpu:>7.1} s {:>13.0}k", number("commands") / cpu / 1e3);
}
