//! The command line as data: what each command takes. Help texts are the doc comments.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pprof_export::reader::Limits;

use crate::graph::Granularity;
use crate::model::BaseUse;

/// Finds out where a program's memory went.
///
/// `run` starts a program under the allocator; the other commands read heap profiles: this
/// allocator's and any other pprof file, jemalloc's, gperftools', heaptrack's, and folded stacks. A file
/// may be a path, `-` for standard input, an http:// address, or a directory, which stands for the
/// newest dump in it.
#[derive(Debug, Parser)]
#[command(
    name = "heapsift",
    version,
    subcommand_required = true,
    arg_required_else_help = true
)]
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
    Top(Top),
    /// Draw a flame graph as one SVG file.
    Flame(Flame),
    /// Show what changed between two profiles, with 95 % intervals.
    Diff(Diff),
    /// Show what a profile is: time, period, totals, mappings.
    Info(Info),
    /// Write a profile in another format.
    Convert(Convert),
    /// Write a copy of a profile with names, files and lines in it.
    Symbolize(Symbolize),
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Directory for dumps [default: heapsift-PROGRAM-PID in the working directory].
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Mean bytes between two samples, such as 64KiB [default: 512KiB].
    #[arg(long, value_name = "BYTES")]
    pub sample: Option<String>,
    /// The library to load [default: $HEAPSIFT_LIB, or libheapsift.so near this command].
    #[arg(long, value_name = "PATH")]
    pub lib: Option<PathBuf>,
    /// Say where the dumps are, without tables.
    #[arg(long)]
    pub no_top: bool,
    #[command(flatten)]
    #[allow(
        missing_docs,
        reason = "clap would take a comment here for the command's own"
    )]
    pub names: Names,
    /// The program and its arguments, after `--`.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<OsString>,
}

/// How much of a file is believed.
#[derive(Clone, Debug, Args)]
pub struct Reading {
    /// Read more than usual: file, inflated, ratio, memory, line, samples, strings, depth, name or
    /// labels, such as `memory=4GiB`; may be given several times.
    #[arg(id = "limit", long = "limit", value_name = "NAME=N", value_parser = limit)]
    pub limits: Vec<(&'static str, u64)>,
}

impl Reading {
    /// The usual limits with what was asked for.
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::DEFAULT;
        for &(name, value) in &self.limits {
            limits.set(name, value);
        }
        limits
    }
}

/// `memory=4GiB`: a limit's name and its new value.
fn limit(word: &str) -> Result<(&'static str, u64), String> {
    let (name, value) = word.split_once('=').ok_or("it is not NAME=N")?;
    let Some(&(name, _)) = Limits::NAMES.iter().find(|known| known.0 == name) else {
        let known: Vec<&str> = Limits::NAMES.iter().map(|known| known.0).collect();
        return Err(format!("the limits are {}", known.join(", ")));
    };
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
    Ok((name, number.saturating_mul(factor)))
}

/// Whether and where to look for names.
#[derive(Clone, Debug, Args)]
pub struct Names {
    #[command(flatten)]
    #[allow(
        missing_docs,
        reason = "clap would take a comment here for the command's own"
    )]
    pub reading: Reading,
    /// Look names up where the profile has none.
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    pub symbolize: When,
    /// Look for binaries and debug files here as well; may be given several times.
    #[arg(long, value_name = "DIR")]
    pub search: Vec<PathBuf>,
}

/// Whether to look names up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Where binaries are at hand.
    #[value(alias = "local")]
    Auto,
    /// Not at all.
    None,
}

/// The column of a report.
#[derive(Clone, Debug, Args)]
pub struct Column {
    /// What to show: inuse_space, alloc_objects, … or its number [default: the profile's].
    #[arg(long, value_name = "TYPE")]
    pub sample_index: Option<String>,
}

/// A profile to compare with.
#[derive(Clone, Debug, Args)]
pub struct Base {
    /// Subtract this profile.
    #[arg(long, value_name = "FILE", conflicts_with = "diff_base")]
    pub base: Vec<PathBuf>,
    /// Compare with this profile; percentages refer to it.
    #[arg(long, value_name = "FILE")]
    pub diff_base: Vec<PathBuf>,
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
#[derive(Clone, Debug, Args)]
pub struct Filter {
    /// Only stacks with a frame that matches this expression.
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
}

/// What makes a row.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
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

/// Where a report goes.
#[derive(Clone, Debug, Args)]
pub struct Output {
    /// Write to this file; `-` is standard output.
    #[arg(short, long = "output", value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}

/// `top`.
#[derive(Debug, Args)]
#[allow(
    missing_docs,
    reason = "flattened groups must not carry comments of their own"
)]
pub struct Top {
    /// Profiles; several are summed.
    #[arg(id = "profiles", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub column: Column,
    /// Sort by cumulative sums.
    #[arg(long)]
    pub cum: bool,
    /// Sort by flat sums, which is the default.
    #[arg(long, conflicts_with = "cum")]
    pub flat: bool,
    /// Show at most this many rows; 0 shows all.
    #[arg(
        short = 'n',
        long,
        value_name = "ROWS",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub nodecount: i64,
    /// Leave rows below this share of the total out, and say so.
    #[arg(long, value_name = "SHARE", default_value_t = 0.005)]
    pub nodefraction: f64,
    /// Unit of all numbers: B, kB, MB, …; `auto` chooses for each number.
    #[arg(long, value_name = "UNIT", default_value = "minimum")]
    pub unit: String,
    #[command(flatten)]
    pub rows: Rows,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub base: Base,
    #[command(flatten)]
    pub names: Names,
    /// For programs: JSON with standard errors and intervals.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// For spreadsheets: one line per row.
    #[arg(long)]
    pub csv: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `flame`.
#[derive(Debug, Args)]
#[allow(
    missing_docs,
    reason = "flattened groups must not carry comments of their own"
)]
pub struct Flame {
    /// Profiles; several are summed.
    #[arg(id = "profiles", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub column: Column,
    /// Root at the top.
    #[arg(long, conflicts_with = "flame")]
    pub icicle: bool,
    /// Root at the bottom, which is the default.
    #[arg(long)]
    pub flame: bool,
    /// Headline.
    #[arg(long, default_value = "")]
    pub title: String,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub base: Base,
    #[command(flatten)]
    pub names: Names,
    /// Write to this file; `-` is standard output.
    #[arg(short, long = "output", value_name = "FILE")]
    pub output: PathBuf,
}

/// `diff`.
#[derive(Debug, Args)]
#[allow(
    missing_docs,
    reason = "flattened groups must not carry comments of their own"
)]
pub struct Diff {
    /// The profile to compare with.
    pub base: PathBuf,
    /// The profile asked about.
    pub new: PathBuf,
    #[command(flatten)]
    pub column: Column,
    /// Compare cumulative sums; rows are functions unless asked otherwise.
    #[arg(long)]
    pub cum: bool,
    /// Show at most this many rows; 0 shows all.
    #[arg(
        short = 'n',
        long,
        value_name = "ROWS",
        default_value_t = 40,
        allow_negative_numbers = true
    )]
    pub nodecount: i64,
    /// Unit of all numbers: B, kB, MB, …; `auto` chooses for each number.
    #[arg(long, value_name = "UNIT", default_value = "auto")]
    pub unit: String,
    #[command(flatten)]
    pub rows: Rows,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub names: Names,
    /// For programs: JSON with standard errors and intervals.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `info`.
#[derive(Debug, Args)]
#[allow(
    missing_docs,
    reason = "flattened groups must not carry comments of their own"
)]
pub struct Info {
    /// Profiles; one report for each.
    #[arg(id = "profiles", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// For programs: an array with one object for each file.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub output: Output,
}

/// `convert`.
#[derive(Debug, Args)]
#[allow(
    missing_docs,
    reason = "flattened groups must not carry comments of their own"
)]
pub struct Convert {
    /// Profiles; several are summed.
    #[arg(id = "profiles", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The format.
    #[arg(long, value_enum)]
    pub to: Format,
    #[command(flatten)]
    pub column: Column,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub names: Names,
    #[command(flatten)]
    pub output: Output,
}

/// Formats to convert to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// This program's own format, and `go tool pprof`'s: gzip pprof.
    #[value(alias = "proto")]
    Pprof,
    /// One line per stack, root first, and its value.
    Folded,
    /// One block per row: labels, value, stack.
    Text,
    /// Everything in the file, as `go tool pprof -raw` prints it.
    Raw,
    /// One line per row: values, labels, stack.
    Csv,
    /// For KCachegrind and callgrind_annotate.
    Callgrind,
    /// For Graphviz: functions as boxes, calls as arrows.
    Dot,
    /// For speedscope.app, every column, inlined frames included.
    Speedscope,
    /// For profiler.firefox.com, every column.
    Firefox,
}

/// `symbolize`.
#[derive(Debug, Args)]
#[allow(
    missing_docs,
    reason = "flattened groups must not carry comments of their own"
)]
pub struct Symbolize {
    /// The profile.
    pub file: PathBuf,
    /// Look for binaries and debug files here as well; may be given several times.
    #[arg(long, value_name = "DIR")]
    pub search: Vec<PathBuf>,
    /// Write to this file; `-` is standard output.
    #[arg(
        short,
        long = "output",
        value_name = "FILE",
        required_unless_present = "in_place"
    )]
    pub output: Option<PathBuf>,
    /// Replace the file itself.
    #[arg(long, conflicts_with = "output")]
    pub in_place: bool,
    #[command(flatten)]
    pub reading: Reading,
}
