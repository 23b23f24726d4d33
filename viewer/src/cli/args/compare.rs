//! Commands that compare dumps: two sides, or a series.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::{Column, Filter, Form, Names, Output, Rows, Sources, Target, size};

/// `diff`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Diff {
    /// The profile to compare with and the profile asked about, unless --base and --new name them.
    #[arg(
        id = "profiles",
        num_args = 2,
        value_names = ["BASE", "NEW"],
        required_unless_present = "base",
        conflicts_with_all = ["base", "new"],
        value_hint = ValueHint::FilePath
    )]
    pub files: Vec<PathBuf>,
    /// Profiles to compare with; of several on a side, means are compared, and what each differs from the others counts
    /// as noise.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "new", value_hint = ValueHint::FilePath)]
    pub base: Vec<PathBuf>,
    /// Profiles asked about.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "base", value_hint = ValueHint::FilePath)]
    pub new: Vec<PathBuf>,
    /// How the two sides belong together.
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    pub pairing: Pairing,
    /// Exit with status 1 if a row, or all together, grew by more than this and by more than sampling error
    /// explains: 10MiB, 500kB, or a plain number.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub fail_over: Option<u64>,
    #[command(flatten)]
    pub column: Column,
    /// Compare cumulative sums; rows are functions unless asked otherwise.
    #[arg(long)]
    pub cum: bool,
    /// Show at most this many rows; 0 shows all.
    #[arg(short = 'n', long, value_name = "ROWS", default_value_t = 40, allow_negative_numbers = true)]
    pub nodecount: i64,
    /// Unit of all numbers: B, kB, MB, …; `auto` chooses for each number.
    #[arg(long, value_name = "UNIT", default_value = "auto")]
    pub unit: String,
    #[command(flatten)]
    pub rows: Rows,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub names: Names,
    #[command(flatten)]
    pub form: Form,
    /// Write the difference as a profile, which `go tool pprof` opens; the default for a file that ends in .pb.gz.
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with_all = ["json", "csv"])]
    pub to: Option<DiffFormat>,
    #[command(flatten)]
    pub output: Output,
}

/// `leaks`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Leaks {
    /// Three or more dumps of a process, in any order; a directory stands for all dumps in it, of the process that has
    /// most of them.
    #[arg(id = "profiles", required = true, value_name = "DUMPS", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// Look at no more dumps than this: the first, the last, and evenly chosen ones between them.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(3..))]
    pub most: u32,
    #[command(flatten)]
    pub column: Column,
    /// Look at cumulative sums; rows are functions unless asked otherwise.
    #[arg(long)]
    pub cum: bool,
    /// Show at most this many rows; 0 shows all, steady ones included.
    #[arg(short = 'n', long, value_name = "ROWS", default_value_t = 20, allow_negative_numbers = true)]
    pub nodecount: i64,
    /// Unit of all numbers: B, kB, MB, …; `auto` chooses for each number.
    #[arg(long, value_name = "UNIT", default_value = "auto")]
    pub unit: String,
    #[command(flatten)]
    pub rows: Rows,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub names: Names,
    /// For programs: JSON with slopes, intervals and all values.
    #[arg(long, conflicts_with = "svg")]
    pub json: bool,
    /// Draw trend plots; the default for a file that ends in .svg.
    #[arg(long)]
    pub svg: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `report`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Report {
    /// A profile, or a series of dumps: the newest is shown, compared with the oldest; three and more have a trend. A
    /// directory stands for all dumps in it, of the process that has most of them.
    #[arg(id = "profiles", required = true, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// Compare with this profile.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub diff_base: Option<PathBuf>,
    /// Look at no more dumps than this: the first, the last, and evenly chosen ones between them.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(3..))]
    pub most: u32,
    /// Headline.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub title: String,
    #[command(flatten)]
    pub column: Column,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub names: Names,
    #[command(flatten)]
    pub target: Target,
}

/// How the two sides of a difference belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pairing {
    /// By survivors where both are dumps of one process, else as independent.
    Auto,
    /// As dumps of one process: what came and what went since is compared.
    Survivors,
    /// As two processes, whatever they are.
    Independent,
}

/// What a difference can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// The table.
    Text,
    /// A profile with both sides in it: gzip pprof.
    #[value(alias = "proto")]
    Pprof,
}
