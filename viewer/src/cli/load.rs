//! From arguments to a profile: read, name, combine, filter.

use std::path::PathBuf;

use regex::Regex;

use super::args;
use super::tell;
use crate::error::{Error, Result};
use crate::input::{self, Input, Merge};
use crate::model::{BaseUse, Columns, Filters, Profile};
use crate::symbolize;

/// A profile ready for a report.
#[derive(Debug)]
pub struct Loaded {
    /// The profile, filtered.
    pub profile: Profile,
    /// The column to report.
    pub columns: Columns,
    /// How a base is used.
    pub base: BaseUse,
    /// What 100 % is; from before the filters, as in pprof.
    pub total: i128,
    /// The filters, for a report's head.
    pub filters: Vec<String>,
}

/// Reads files and names their frames.
pub fn read_all(paths: &[PathBuf], names: &args::Names) -> Result<Vec<Input>> {
    let mut inputs = Vec::with_capacity(paths.len());
    let limits = names.reading.limits();
    for path in paths {
        let mut input = input::read_within(path, &limits)?;
        if input.path != *path {
            tell(&format!(
                "{}: the newest dump in it is {}",
                path.display(),
                input.path.display()
            ));
        }
        name_frames(&mut input, names);
        inputs.push(input);
    }
    Ok(inputs)
}

/// Loads what a report is about.
pub fn load(
    files: &[PathBuf],
    base: (&[PathBuf], BaseUse),
    column: &args::Column,
    filter: &args::Filter,
    names: &args::Names,
    merge: Merge,
) -> Result<Loaded> {
    let filters = compile(filter)?;
    let news = read_all(files, names)?;
    let bases = read_all(base.0, names)?;
    let first = news[0].path.clone();
    let mut profile = input::combine(news, bases, merge)?;
    let column = profile
        .column(column.sample_index.as_deref())
        .map_err(|reason| Error::input(&first, reason))?;
    let total = profile.hundred_percent(column, base.1);
    for missed in profile.filter(&filters) {
        tell(&format!("--{missed} matches no frame"));
    }
    let columns = Columns::new(&profile, column);
    Ok(Loaded {
        columns,
        base: base.1,
        total,
        filters: filters.describe(),
        profile,
    })
}

fn compile(filter: &args::Filter) -> Result<Filters> {
    let compile = |name: &str, expression: &Option<String>| match expression {
        Some(expression) => Regex::new(expression).map(Some).map_err(|error| {
            // The library's message draws the expression over several lines; one must do.
            let reason = error.to_string();
            let last = reason
                .lines()
                .last()
                .unwrap_or("")
                .trim_start_matches("error: ")
                .to_owned();
            Error::Usage(format!(
                "--{name}: {expression} is not a regular expression: {last}"
            ))
        }),
        None => Ok(None),
    };
    Ok(Filters {
        focus: compile("focus", &filter.focus)?,
        ignore: compile("ignore", &filter.ignore)?,
        hide: compile("hide", &filter.hide)?,
        show: compile("show", &filter.show)?,
    })
}

/// Looks names up where the file has none and binaries are at hand.
pub fn name_frames(input: &mut Input, names: &args::Names) {
    let is_complete = input.message.location.iter().all(|location| !location.line.is_empty());
    if names.symbolize == args::When::None || is_complete {
        return;
    }
    let options = symbolize::Options {
        search: names.search.clone(),
        force: false,
    };
    let report = symbolize::symbolize(&mut input.message, &options);
    if report
        .modules
        .iter()
        .any(|module| module.named < module.locations)
    {
        tell(&report.to_string());
    }
}
