//! The command line as data: what each command takes. Help texts are the doc comments; the man page and
//! the completions are made of the same.

mod compare;
mod live;
mod shared;
mod show;
mod write;

pub use compare::*;
pub use live::*;
pub use shared::*;
pub use show::*;
pub use write::*;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

/// Finds out where a program's memory went.
///
/// `run` starts a program under the allocator; the other commands read heap profiles: this
/// allocator's and any other pprof file, jemalloc's, gperftools', heaptrack's, and folded stacks. A file
/// may be a path, `-` for standard input, an http:// or https:// address, a process's control socket, or a
/// directory, which stands for the newest dump in it. Options may be spelled as in pprof: `-sample_index=alloc_space`.
#[derive(Debug, Parser)]
#[command(name = "heapsift", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program under the allocator and show where its memory went.
    Run(Run),
    /// Show what holds most, as a table.
    #[command(alias = "text")]
    Top(Top),
    /// Show callers and callees of what holds most.
    Tree(Tree),
    /// Show callers and callees of the functions that match an expression.
    Peek(Peek),
    /// Show every stack with its labels.
    Traces(Traces),
    /// Show source lines with what they hold.
    List(List),
    /// Draw a flame graph as one SVG file.
    Flame(Flame),
    /// Show what changed between two profiles, with 95 % intervals.
    Diff(Diff),
    /// Show what grows over a series of dumps and does not stop.
    Leaks(Leaks),
    /// Make a page of it: one HTML file, with everything in it.
    Report(Report),
    /// Show what a profile is: time, period, totals, mappings.
    Info(Info),
    /// Write a profile in another format.
    Convert(Convert),
    /// Sum many profiles up to one, in bounded memory.
    Merge(Merge),
    /// Write many profiles as tables for SQL: DuckDB, Spark, ClickHouse.
    Export(Export),
    /// Write a copy of a profile with names, files and lines in it.
    Symbolize(Symbolize),
    /// Ask a running process, or change settings in it, by its control socket.
    Ctl(Ctl),
    /// Serve the report's page: files, a directory in which dumps come and go, running processes.
    Serve(Serve),
    /// Serve profiles and numbers of running processes by HTTP, for pprof and Prometheus.
    Agent(Agent),
    /// Write completions for a shell to standard output.
    Completions(Completions),
    /// Write the manual page to standard output.
    Man,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Directory for dumps [default: heapsift-PROGRAM-PID in the working directory].
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Mean bytes between two samples, such as 64KiB [default: 512KiB].
    #[arg(long, value_name = "BYTES", value_parser = shared::sample_interval)]
    pub sample: Option<String>,
    /// The library to load [default: $HEAPSIFT_LIB, or libheapsift.so near this command].
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub lib: Option<PathBuf>,
    /// Say where the dumps are, without tables.
    #[arg(long)]
    pub no_top: bool,
    /// The program and its arguments, after `--`.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND",
        value_hint = ValueHint::CommandWithArguments
    )]
    pub command: Vec<OsString>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would take a comment here for the command's own")]
    pub names: Names,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// A group's heading goes on to what stands behind it.
    #[test]
    fn options_stand_below_their_own_heading() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "run") {
            for argument in sub.get_arguments() {
                match argument.get_id().as_str() {
                    "output" => assert_eq!(argument.get_help_heading(), Some("Output"), "{}", sub.get_name()),
                    "profiles" => assert_eq!(argument.get_help_heading(), None, "{}", sub.get_name()),
                    _ => {}
                }
            }
        }
        let run = command.find_subcommand("run").unwrap();
        assert!(run.get_positionals().all(|argument| argument.get_help_heading().is_none()));
    }
}
