//! `run` on the command line. Everything it says goes to standard error: standard output belongs to
//! the program.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{args, load, tell};
use crate::error::Result;
use crate::input;
use crate::measure::counted;
use crate::output::Style;
use crate::report::summary;
use crate::run::{Dump, Ended, Finished, Plan, die_of, find_library};

/// Runs the program and ends as it ended.
pub fn run(arguments: args::Run) -> ExitCode {
    let library = match find_library(arguments.lib.as_deref()) {
        Ok(library) => library,
        Err(error) => {
            tell(&error.to_string());
            return ExitCode::from(2);
        }
    };
    let plan = Plan { command: arguments.command, out: arguments.out, sample: arguments.sample, library };
    let finished = match plan.run() {
        Ok(finished) => finished,
        Err(failure) => {
            tell(&failure.error.to_string());
            return ExitCode::from(failure.status);
        }
    };
    report(&plan, &finished, arguments.no_top, &arguments.names);
    match finished.ended {
        Ended::Exited(status) => ExitCode::from(status as u8),
        Ended::Killed(signal) => {
            die_of(signal);
            ExitCode::from((128 + signal) as u8)
        }
    }
}

fn report(plan: &Plan, finished: &Finished, no_top: bool, names: &args::Names) {
    let program = plan.command[0].to_string_lossy();
    let chosen = chosen_dump(finished);
    let Some(chosen) = chosen else {
        tell(&format!("{program} left no dump: {}", plan.explain_absence(finished.ended)));
        return;
    };
    tell(&where_they_are(finished));
    if chosen.pid != finished.pid {
        tell(&format!("the program itself left no dump; shown is that of its child process {}", chosen.pid));
    } else if chosen.kind != 'f' {
        tell(&format!("the program left no final dump; shown is its last one, {}", chosen.path.display()));
    }
    if no_top {
        return;
    }
    let peak =
        finished.dumps.iter().rfind(|dump| dump.kind == 'p' && dump.pid == chosen.pid && dump.path != chosen.path);
    match tables(chosen, peak, names) {
        // Nobody reads standard error any more: nothing is lost.
        Ok(text) => drop(std::io::stderr().lock().write_all(text.as_bytes())),
        Err(error) => tell(&error.to_string()),
    }
}

/// The program's newest final dump, failing that its newest; failing that, of all its child processes,
/// the final dump that holds most.
fn chosen_dump(finished: &Finished) -> Option<&Dump> {
    let own = finished.dumps.iter().filter(|dump| dump.pid == finished.pid);
    own.max_by_key(|dump| (dump.kind == 'f', dump.written, dump.sequence))
        .or_else(|| finished.dumps.iter().max_by_key(|dump| (dump.kind == 'f', dump.bytes)))
}

fn where_they_are(finished: &Finished) -> String {
    let mut by_process: BTreeMap<u32, usize> = BTreeMap::new();
    for dump in &finished.dumps {
        *by_process.entry(dump.pid).or_default() += 1;
    }
    let directory = std::env::current_dir()
        .ok()
        .and_then(|here| finished.directory.strip_prefix(here).ok().map(PathBuf::from))
        .filter(|relative| !relative.as_os_str().is_empty())
        .unwrap_or_else(|| finished.directory.clone());
    let mut line = format!("{} in {}", counted(finished.dumps.len(), "dump"), directory.display());
    by_process.remove(&finished.pid);
    const NAMED: usize = 5;
    let mut children: Vec<String> = by_process.keys().take(NAMED).map(u32::to_string).collect();
    if by_process.len() > NAMED {
        children.push(format!("{} more", by_process.len() - NAMED));
    }
    if !children.is_empty() {
        line.push_str(&format!(", of child processes {}", children.join(", ")));
    }
    line
}

/// The tables of a dump, and of the peak before it where that was higher.
fn tables(dump: &Dump, peak: Option<&Dump>, names: &args::Names) -> Result<String> {
    let read = |dump: &Dump| {
        let inputs = load::read_all(std::slice::from_ref(&dump.path), names)?;
        input::combine(inputs, Vec::new(), input::Merge::Nothing, false)
    };
    let mut profile = read(dump)?;
    let mut text = summary::text(&mut profile, Style::of_stderr());
    if let Some(peak) = peak {
        text.extend(summary::peak(&mut read(peak)?, &profile, Style::of_stderr()));
    }
    Ok(text)
}
