//! The command line: arguments in, a report and an exit status out.
//!
//! Exit status: 0 done, 1 the check asked for failed, 2 unusable arguments or input; `run` passes on its program's. A reader that
//! closes the pipe early has got what it wanted: status 0.

mod agent;
pub mod args;
mod ctl;
mod export;
mod leaks;
mod load;
mod manual;
mod merge;
mod page;
mod progress;
mod reports;
mod run;
mod serve;
mod source;
mod spelling;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::error::{Error, Result};
use crate::output::{self, Style};
use crate::{escape, symbolize};

/// Runs the command with these words, the command's own name first.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = args::Arguments::command();
    let words = spelling::normalise(&command, words.into_iter().collect());
    let parsed = command.try_get_matches_from(words).and_then(|matches| args::Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe under --help is as good as read.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    if !matches!(arguments.command, args::Command::Run(_)) {
        crate::run::survive_file_limits();
    }
    let done = match arguments.command {
        args::Command::Run(arguments) => return run::run(arguments),
        args::Command::Top(arguments) => reports::top(&arguments.files, &arguments.table),
        args::Command::Tree(arguments) => reports::tree(&arguments),
        args::Command::Peek(arguments) => reports::peek(&arguments),
        args::Command::Traces(arguments) => reports::traces(&arguments),
        args::Command::List(arguments) => reports::list(&arguments),
        args::Command::Flame(arguments) => reports::flame(&arguments),
        args::Command::Diff(arguments) => reports::diff(&arguments),
        args::Command::Leaks(arguments) => leaks::leaks(&arguments),
        args::Command::Report(arguments) => page::report(&arguments),
        args::Command::Info(arguments) => reports::info(&arguments),
        args::Command::Convert(arguments) => reports::convert(&arguments),
        args::Command::Merge(arguments) => merge::merge(&arguments),
        args::Command::Export(arguments) => export::export(&arguments),
        args::Command::Symbolize(arguments) => symbolize_command(&arguments),
        args::Command::Ctl(arguments) => ctl::ctl(arguments),
        args::Command::Agent(arguments) => agent::agent(arguments),
        args::Command::Serve(arguments) => serve::serve(arguments),
        args::Command::Completions(arguments) => manual::completions(arguments.shell),
        args::Command::Man => manual::page(),
    };
    match done {
        Ok(()) | Err(Error::BrokenPipe) => ExitCode::SUCCESS,
        Err(error @ Error::Check(_)) => {
            tell(&error.to_string());
            ExitCode::from(1)
        }
        Err(error) => {
            tell(&error.to_string());
            ExitCode::from(2)
        }
    }
}

/// One line on standard error. That it cannot be written is nobody's concern.
fn tell(line: &str) {
    let line = escape::terminal(line);
    let _ = writeln!(std::io::stderr().lock(), "heapsift: {line}");
}

/// How text for this output may look.
fn style(output: &args::Output) -> Style {
    if output.output.as_os_str() == "-" { Style::of_stdout() } else { Style::default() }
}

/// How many rows an option asks for; pprof's -1 is the report's default.
fn rows(count: i64, default: usize) -> usize {
    usize::try_from(count).unwrap_or(default)
}

fn write_json(output: &args::Output, value: &serde_json::Value) -> Result<()> {
    output::to_path(&output.output, format!("{value:#}\n").as_bytes())
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::metadata(a), fs::metadata(b)), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

fn symbolize_command(arguments: &args::Symbolize) -> Result<()> {
    let mut input = load::read(&arguments.file, &arguments.reading.limits())?;
    // Clap sees to it that one of the two is given.
    let target = match &arguments.output {
        Some(path) if is_same_file(path, &input.path) => {
            let reason = "is the profile itself; use --in-place to replace it".to_owned();
            return Err(Error::Input { path: path.clone(), reason });
        }
        Some(path) => path.clone(),
        None if input.path.as_os_str() == "-" => {
            return Err(Error::Usage("--in-place: standard input cannot be replaced".to_owned()));
        }
        None => input.path.clone(),
    };
    let options = arguments.places.options().map_err(Error::Usage)?;
    let report = symbolize::symbolize(&mut input.message, &options);
    tell(&report.to_string());
    for refused in report.modules.iter().flat_map(|module| &module.refused) {
        tell(&format!("not used: {refused}"));
    }
    output::profile_to_path(&target, &pprof_export::encode_gzip(&input.into_message()))
}
