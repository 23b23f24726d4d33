//! The command line: arguments in, a report and an exit status out.
//!
//! Exit status: 0 done, 2 unusable arguments or input; `run` passes on its program's. A reader that
//! closes the pipe early has got what it wanted: status 0.

pub mod args;
mod load;
mod run;
mod spelling;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::error::{Error, Result};
use crate::graph::Granularity;
use crate::input::Merge;
use crate::model::BaseUse;
use crate::formats::write;
use crate::output::{self, Style};
use crate::report::{diff, flame, folded, info, raw, top, traces};
use crate::{escape, input, symbolize};

/// Runs the command with these words, the command's own name first.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = args::Arguments::command();
    let words = spelling::normalise(&command, words.into_iter().collect());
    let parsed = command
        .try_get_matches_from(words)
        .and_then(|matches| args::Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe under --help is as good as read.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let done = match arguments.command {
        args::Command::Run(arguments) => return run::run(arguments),
        args::Command::Top(arguments) => top_command(&arguments),
        args::Command::Flame(arguments) => flame_command(&arguments),
        args::Command::Diff(arguments) => diff_command(&arguments),
        args::Command::Info(arguments) => info_command(&arguments),
        args::Command::Convert(arguments) => convert_command(&arguments),
        args::Command::Symbolize(arguments) => symbolize_command(&arguments),
    };
    match done {
        Ok(()) | Err(Error::BrokenPipe) => ExitCode::SUCCESS,
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
    if output.output.as_os_str() == "-" {
        Style::of_stdout()
    } else {
        Style::default()
    }
}

fn rows(count: i64) -> usize {
    // pprof's -nodecount=-1 is its default: all.
    usize::try_from(count).unwrap_or(0)
}

fn write_json(output: &args::Output, value: &serde_json::Value) -> Result<()> {
    output::to_path(&output.output, format!("{value:#}\n").as_bytes())
}

fn top_command(arguments: &args::Top) -> Result<()> {
    let args::Top {
        files,
        column,
        filter,
        names,
        ..
    } = arguments;
    let base = arguments.base.files();
    let mut loaded = load::load(files, base, column, filter, names, Merge::Nothing)?;
    let options = top::Options {
        columns: loaded.columns,
        granularity: arguments.rows.granularity(Granularity::Functions),
        by_cum: arguments.cum,
        node_count: rows(arguments.nodecount),
        node_fraction: arguments.nodefraction,
        unit: arguments.unit.clone(),
        total: loaded.total,
        filters: loaded.filters,
        is_difference: loaded.base != BaseUse::None,
    };
    let table = top::Top::new(&mut loaded.profile, options);
    if arguments.json {
        return write_json(&arguments.output, &table.json(&loaded.profile));
    }
    let text = if arguments.csv {
        table.csv(&loaded.profile)
    } else {
        table.text(&loaded.profile, style(&arguments.output))
    };
    output::to_path(&arguments.output.output, text.as_bytes())
}

fn flame_command(arguments: &args::Flame) -> Result<()> {
    let args::Flame {
        files,
        column,
        filter,
        names,
        ..
    } = arguments;
    let base = arguments.base.files();
    let loaded = load::load(files, base, column, filter, names, Merge::Nothing)?;
    let options = flame::Options {
        columns: loaded.columns,
        comparison: match loaded.base {
            BaseUse::None => flame::Comparison::None,
            BaseUse::Subtract => flame::Comparison::Growth,
            BaseUse::Compare => flame::Comparison::BothSides,
        },
        icicle: arguments.icicle,
        title: arguments.title.clone(),
    };
    let picture =
        flame::svg(&loaded.profile, &options).map_err(|reason| Error::input(&files[0], reason))?;
    output::to_path(&arguments.output, &picture)
}

fn diff_command(arguments: &args::Diff) -> Result<()> {
    let args::Diff {
        base,
        new,
        column,
        filter,
        names,
        ..
    } = arguments;
    let (new, base) = (std::slice::from_ref(new), std::slice::from_ref(base));
    let mut loaded = load::load(new, (base, BaseUse::Compare), column, filter, names, Merge::Nothing)?;
    let default = if arguments.cum {
        Granularity::Functions
    } else {
        Granularity::Sites
    };
    let options = diff::Options {
        columns: loaded.columns,
        granularity: arguments.rows.granularity(default),
        by_cum: arguments.cum,
        node_count: rows(arguments.nodecount),
        unit: arguments.unit.clone(),
    };
    let table = diff::Diff::new(&mut loaded.profile, options);
    if arguments.json {
        return write_json(&arguments.output, &table.json(&loaded.profile));
    }
    let text = table.text(&loaded.profile, style(&arguments.output));
    output::to_path(&arguments.output.output, text.as_bytes())
}

fn info_command(arguments: &args::Info) -> Result<()> {
    let mut reports = Vec::new();
    let mut text = String::new();
    for path in &arguments.files {
        let input = crate::input::read_within(path, &arguments.reading.limits())?;
        let shown = input.path.to_string_lossy().into_owned();
        let profile = crate::input::combine(vec![input], Vec::new(), input::Merge::Nothing)?;
        if arguments.json {
            reports.push(info::json(&profile, &shown));
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&info::text(&profile, &shown));
    }
    if arguments.json {
        return write_json(&arguments.output, &reports.into());
    }
    output::to_path(&arguments.output.output, text.as_bytes())
}

fn convert_command(arguments: &args::Convert) -> Result<()> {
    let args::Convert {
        files,
        column,
        filter,
        names,
        ..
    } = arguments;
    let mut loaded = load::load(files, (&[], BaseUse::None), column, filter, names, Merge::Sides)?;
    let profile = &mut loaded.profile;
    let column = loaded.columns.column;
    let bytes = match arguments.to {
        args::Format::Pprof => pprof_export::encode_gzip(&write::message::message(profile)),
        args::Format::Folded => folded::text(profile, column).into_bytes(),
        args::Format::Text => traces::text(profile, &loaded.columns).into_bytes(),
        args::Format::Raw => raw::text(profile).into_bytes(),
        args::Format::Csv => write::csv::text(profile).into_bytes(),
        args::Format::Callgrind => write::callgrind::text(profile, column).into_bytes(),
        args::Format::Dot => write::dot::text(profile, column).into_bytes(),
        args::Format::Speedscope => write::speedscope::text(profile, column).into_bytes(),
        args::Format::Firefox => write::firefox::text(profile).into_bytes(),
    };
    output::to_path(&arguments.output.output, &bytes)
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::metadata(a), fs::metadata(b)), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

fn symbolize_command(arguments: &args::Symbolize) -> Result<()> {
    let mut input = input::read_within(&arguments.file, &arguments.reading.limits())?;
    // Clap sees to it that one of the two is given.
    let target = match &arguments.output {
        Some(path) if is_same_file(path, &input.path) => {
            let reason = "is the profile itself; use --in-place to replace it".to_owned();
            return Err(Error::Input {
                path: path.clone(),
                reason,
            });
        }
        Some(path) => path.clone(),
        None if input.path.as_os_str() == "-" => {
            return Err(Error::Usage(
                "--in-place: standard input cannot be replaced".to_owned(),
            ));
        }
        None => input.path.clone(),
    };
    let options = symbolize::Options {
        search: arguments.search.clone(),
        force: false,
    };
    let report = symbolize::symbolize(&mut input.message, &options);
    tell(&report.to_string());
    for refused in report.modules.iter().flat_map(|module| &module.refused) {
        tell(&format!("not used: {refused}"));
    }
    output::to_path(&target, &pprof_export::encode_gzip(&input.into_message()))
}
