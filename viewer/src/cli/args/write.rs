//! Commands that write profiles anew: in other formats, as one, as tables, with names.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::{Base, Column, Filter, Names, Output, Places, Reading, Sources, Target};

/// `convert`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Convert {
    /// Profiles; several are summed.
    #[arg(id = "profiles", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// The format.
    #[arg(long, value_enum)]
    pub to: Format,
    #[command(flatten)]
    pub column: Column,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub base: Base,
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub names: Names,
    #[command(flatten)]
    pub output: Output,
}

/// `merge`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Merge {
    /// Profiles, of which the sum has the columns that all of them have; a directory stands for all dumps in it.
    #[arg(id = "profiles", required = true, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// Labels to leave out, so that more rows become one; the epochs of one process mean nothing in another.
    #[arg(long, value_name = "KEYS", value_delimiter = ',', default_value = "epoch")]
    pub drop_label: Vec<String>,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub target: Target,
}

/// `export`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Export {
    /// Profiles with the same columns; a directory stands for all dumps in it.
    #[arg(id = "profiles", required = true, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// The tables are Parquet files: samples.parquet and stacks.parquet.
    #[arg(long, required = true)]
    pub parquet: bool,
    /// Add a column that says the same in every row, such as host=web1; may be given several times.
    #[arg(long, value_name = "NAME=TEXT", value_parser = column)]
    pub column: Vec<(String, String)>,
    #[command(flatten)]
    pub names: Names,
    /// The new directory for the tables.
    #[arg(short, long = "output", help_heading = "Output", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output: PathBuf,
}

/// `host=web1`: a column's name and its value.
fn column(word: &str) -> Result<(String, String), String> {
    let (name, value) = word.split_once('=').ok_or("it is not NAME=TEXT")?;
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Formats to convert to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// This program's own format, and `go tool pprof`'s: gzip pprof.
    #[value(alias = "proto")]
    Pprof,
    /// One line per stack, root first, and its value.
    Folded,
    /// One block per row: labels, value, stack with source lines.
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
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Symbolize {
    /// The profile.
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub places: Places,
    /// Write to this file; `-` is standard output.
    #[arg(
        short,
        long = "output",
        help_heading = "Output",
        value_name = "FILE",
        required_unless_present = "in_place",
        value_hint = ValueHint::FilePath
    )]
    pub output: Option<PathBuf>,
    /// Replace the file itself.
    #[arg(long, conflicts_with = "output", help_heading = "Output")]
    pub in_place: bool,
}
