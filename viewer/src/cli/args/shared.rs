//! Groups of options that several commands share. Names and meanings are those of `go tool pprof`, which
//! spells them with one dash and underscores; that is understood as well.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pprof_export::reader;

use crate::graph::Granularity;
use crate::model::BaseUse;
use crate::symbolize;
use crate::symbolize::debuginfod::Servers;

/// How much of a file is believed.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Input")]
pub struct Reading {
    /// Read more than usual: file, inflated, ratio, memory, line, samples, strings, depth, name or
    /// labels, such as `memory=4GiB`; may be given several times.
    #[arg(id = "limit", long = "limit", value_name = "NAME=N", value_parser = limit)]
    pub limits: Vec<(&'static str, u64)>,
}

impl Reading {
    /// The usual limits with what was asked for.
    pub fn limits(&self) -> reader::Limits {
        let mut limits = reader::Limits::DEFAULT;
        for &(name, value) in &self.limits {
            limits.set(name, value);
        }
        limits
    }
}

/// `memory=4GiB`: a limit's name and its new value.
fn limit(word: &str) -> Result<(&'static str, u64), String> {
    let (name, value) = word.split_once('=').ok_or("it is not NAME=N")?;
    let Some(&(name, _)) = reader::Limits::NAMES.iter().find(|known| known.0 == name) else {
        let known: Vec<&str> = reader::Limits::NAMES.iter().map(|known| known.0).collect();
        return Err(format!("the limits are {}", known.join(", ")));
    };
    Ok((name, size(value)?))
}

/// `4GiB`: a number of bytes, in powers of 1024.
pub fn size(value: &str) -> Result<u64, String> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(format!("{unit} is no unit")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{value} is no number"))?;
    Ok(number.saturating_mul(factor))
}

/// Whether and where to look for names.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Input")]
pub struct Names {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would take a comment here for the command's own")]
    pub reading: Reading,
    /// Look names up where the profile has none.
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    pub symbolize: When,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would take a comment here for the command's own")]
    pub places: Places,
}

/// Where to look for names.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Input")]
pub struct Places {
    /// Look for binaries and debug files here as well; may be given several times.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub search: Vec<PathBuf>,
    /// Fetch debug files that are not at hand from this debuginfod server, by build id; `env` stands for those in
    /// $DEBUGINFOD_URLS. Nothing is fetched unless this is given; it may be given several times.
    #[arg(long, value_name = "URL", value_parser = server, value_hint = clap::ValueHint::Url)]
    pub debuginfod: Vec<String>,
}

impl Places {
    /// What a symbolizer is asked. An error, as one line, where a server can't be asked.
    pub fn options(&self) -> Result<symbolize::Options, String> {
        let servers = Servers::new(&self.debuginfod).map_err(|reason| format!("--debuginfod: {reason}"))?;
        Ok(symbolize::Options { search: self.search.clone(), servers })
    }
}

/// `http://host:port`, or `env`: a server of debug files.
fn server(word: &str) -> Result<String, String> {
    Servers::new(&[word.to_owned()]).map(|_| word.to_owned())
}

/// Whether to look names up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Where binaries are at hand.
    #[default]
    #[value(alias = "local")]
    Auto,
    /// Not at all.
    None,
}

/// The column of a report.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Values")]
pub struct Column {
    /// What to show: inuse_space, alloc_objects, … or its number [default: the profile's].
    #[arg(long, value_name = "TYPE")]
    pub sample_index: Option<String>,
}

/// Numbers of a report.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Values")]
pub struct Values {
    /// Show the mean bytes of a block instead of their sum.
    #[arg(long)]
    pub mean: bool,
    /// Unit of all numbers: B, kB, MB, …; `auto` chooses for each number, `minimum` for the report.
    #[arg(long, value_name = "UNIT", default_value = "minimum")]
    pub unit: String,
    /// Divide all numbers by this; JSON has them as they are.
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    pub divide_by: f64,
    /// Percentages refer to what the filters leave, not to the whole profile.
    #[arg(long)]
    pub relative_percentages: bool,
}

/// A profile to compare with.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Comparison")]
pub struct Base {
    /// Subtract this profile.
    #[arg(long, value_name = "FILE", conflicts_with = "diff_base", value_hint = clap::ValueHint::FilePath)]
    pub base: Vec<PathBuf>,
    /// Compare with this profile; percentages refer to it.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub diff_base: Vec<PathBuf>,
    /// Multiply the profile so that its sum is that of the base.
    #[arg(long)]
    pub normalize: bool,
    /// Leave out what shrank.
    #[arg(long)]
    pub drop_negative: bool,
}

impl Base {
    /// The files, and how they are used.
    pub fn files(&self) -> (&[PathBuf], BaseUse) {
        if !self.base.is_empty() {
            (&self.base, BaseUse::Subtract)
        } else if !self.diff_base.is_empty() {
            (&self.diff_base, BaseUse::Compare)
        } else {
            (&[], BaseUse::None)
        }
    }
}

/// Which stacks and frames to look at.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct Filter {
    /// Only stacks with a frame whose function, file or binary matches this expression.
    #[arg(long, value_name = "REGEX")]
    pub focus: Option<String>,
    /// Only stacks without such a frame.
    #[arg(long, value_name = "REGEX")]
    pub ignore: Option<String>,
    /// Take such frames out of their stacks.
    #[arg(long, value_name = "REGEX")]
    pub hide: Option<String>,
    /// Take all other frames out of their stacks.
    #[arg(long, value_name = "REGEX")]
    pub show: Option<String>,
    /// Start each stack at its outermost frame that matches; leave out stacks without one.
    #[arg(long, value_name = "REGEX")]
    pub show_from: Option<String>,
    /// End each stack at its innermost function that matches.
    #[arg(long, value_name = "REGEX")]
    pub prune_from: Option<String>,
    /// Only stacks with such a label: `[KEY=]REGEX[,REGEX…]`, or a range such as 1kb:64kb.
    #[arg(long, value_name = "LABEL")]
    pub tagfocus: Option<String>,
    /// Only stacks without such a label.
    #[arg(long, value_name = "LABEL")]
    pub tagignore: Option<String>,
    /// Show only labels whose key matches.
    #[arg(long, value_name = "REGEX")]
    pub tagshow: Option<String>,
    /// Do not show labels whose key matches.
    #[arg(long, value_name = "REGEX")]
    pub taghide: Option<String>,
    /// Put the values of these labels at the root of each stack; several keys are separated by commas.
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub tagroot: Vec<String>,
    /// Put the values of these labels at the leaf of each stack.
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub tagleaf: Vec<String>,
    /// Count what is inlined to the function that was really called.
    #[arg(long)]
    pub noinlines: bool,
}

/// Where source files are.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Sources")]
pub struct Sources {
    /// Prefixes to take from the paths of source files, separated by colons.
    #[arg(long, value_name = "PATHS", default_value = "", hide_default_value = true)]
    pub trim_path: String,
    /// Directories to look for source files in, separated by colons [default: the working directory].
    #[arg(long, value_name = "DIRS", default_value = "", hide_default_value = true)]
    pub source_path: String,
}

/// Everything about what is read, and what of it.
#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct View {
    #[command(flatten)]
    pub column: Column,
    #[command(flatten)]
    pub values: Values,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub base: Base,
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub names: Names,
}

/// What makes a row.
#[derive(Clone, Debug, Default, Args)]
#[group(multiple = false)]
#[command(next_help_heading = "Rows")]
pub struct Rows {
    /// One row per function.
    #[arg(long)]
    pub functions: bool,
    /// One row per function and file.
    #[arg(long)]
    pub filefunctions: bool,
    /// One row per source line.
    #[arg(long)]
    pub lines: bool,
    /// One row per source file.
    #[arg(long)]
    pub files: bool,
    /// One row per address.
    #[arg(long)]
    pub addresses: bool,
    /// One row per site: the innermost function that is neither a language's library nor a wrapper of
    /// malloc.
    #[arg(long)]
    pub sites: bool,
}

impl Rows {
    /// The choice, or `default`.
    pub fn granularity(&self, default: Granularity) -> Granularity {
        [
            (self.functions, Granularity::Functions),
            (self.filefunctions, Granularity::FileFunctions),
            (self.lines, Granularity::Lines),
            (self.files, Granularity::Files),
            (self.addresses, Granularity::Addresses),
            (self.sites, Granularity::Sites),
        ]
        .into_iter()
        .find_map(|(chosen, granularity)| chosen.then_some(granularity))
        .unwrap_or(default)
    }
}

/// The order of rows, and how many there are.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Rows")]
pub struct Limits {
    /// Sort by cumulative sums.
    #[arg(long)]
    pub cum: bool,
    /// Sort by flat sums, which is the default.
    #[arg(long, conflicts_with = "cum")]
    pub flat: bool,
    /// Show at most this many rows; 0 shows all [default: 80 in a tree, else all].
    #[arg(short = 'n', long, value_name = "ROWS", default_value_t = -1, hide_default_value = true, allow_negative_numbers = true)]
    pub nodecount: i64,
    /// Leave rows below this share of the total out, and say so.
    #[arg(long, value_name = "SHARE", default_value_t = 0.005)]
    pub nodefraction: f64,
    /// Leave calls below this share of the total out.
    #[arg(long, value_name = "SHARE", default_value_t = 0.001)]
    pub edgefraction: f64,
    /// Leave nothing out.
    #[arg(long)]
    pub no_trim: bool,
}

/// The form of a report.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct Form {
    /// For programs: JSON with standard errors and intervals.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// For spreadsheets: one line per row.
    #[arg(long)]
    pub csv: bool,
}

/// Where a report goes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// Write to this file; `-` is standard output.
    #[arg(short, long = "output", value_name = "FILE", default_value = "-", value_hint = clap::ValueHint::FilePath)]
    pub output: PathBuf,
}

/// Where a page, a picture or a profile goes: not to a terminal unless that is asked for.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct Target {
    /// Write to this file; `-` is standard output.
    #[arg(short, long = "output", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub output: PathBuf,
}

/// What `top` and `tree` take besides files.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Table {
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub rows: Rows,
    #[command(flatten)]
    pub view: View,
    #[command(flatten)]
    pub form: Form,
    #[command(flatten)]
    pub output: Output,
}

/// Mean bytes between samples as the library reads them: a number, and perhaps K, M, G or T (powers of 1024), with or without
/// `B` or `iB`.
pub(super) fn sample_interval(text: &str) -> Result<String, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_lowercase();
    let is_unit =
        matches!(unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit), "" | "k" | "m" | "g" | "t");
    match number.parse::<u64>() {
        Ok(1..) if is_unit && unit != "ib" => Ok(text.to_owned()),
        Ok(0) => Err("must be at least 1".to_owned()),
        _ => Err("must be a number of bytes, such as 65536 or 64KiB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_intervals() {
        for text in ["1", "65536", "64K", "64KiB", "64kb", "1M", "2GiB", "3TB", "512B"] {
            assert_eq!(sample_interval(text).as_deref(), Ok(text));
        }
        for text in ["", "0", "0KiB", "foo", "-1", "64iB", "64 KiB", "64XB", "1.5M", "99999999999999999999"] {
            assert!(sample_interval(text).is_err(), "{text}");
        }
    }
}
