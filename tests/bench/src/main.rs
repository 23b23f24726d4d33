//! The command behind `tests/bench/run`: compares allocators by counts, times and memory.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Compares allocators, preloaded into the same programs on the same machine.
#[derive(Debug, Parser)]
#[command(name = "tests/bench/run", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Counts the instructions of malloc's and free's fast paths by callgrind
    FastPath(commands::fast_path::Options),
    /// Fills, halves, rewrites and empties a Redis server, and prints its resident memory after each phase
    Redis(commands::redis::Options),
    /// Runs the workloads of workloads.toml and prints tables of ratios: time and memory
    Suite(commands::suite::Options),
    /// Times the command beside `go tool pprof` and llvm-symbolizer, on the same files
    Viewer(commands::viewer::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::FastPath(options) => commands::fast_path::run(&options),
        Command::Redis(options) => commands::redis::run(&options),
        Command::Suite(options) => commands::suite::run(&options),
        Command::Viewer(options) => commands::viewer::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tests/bench/run: {failure}");
            ExitCode::from(2)
        }
    }
}
