//! The `heapsift` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    viewer::cli::main(std::env::args_os())
}
