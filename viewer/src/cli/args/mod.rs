//! The command line as data: what each command takes. Help texts are the doc comments; the man page and
//! the completions are made of the same.

mod live;
mod shared;

pub use live::*;
pub use shared::*;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

/// Finds out where a program's memory went.
///
/// `run` starts a program under the allocator; the other commands read heap profiles: this
/// allocator's and any other pprof file, jemalloc's, gperftools', heaptrack's, and folded stacks. A file
/// may be a path, `-` for standard input, an http:// address, or a directory, which stands for the
/// newest dump in it, or a process's control socket. Options may be spelled as in pprof: `-sample_index=alloc_space`.
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
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would take a comment here for the command's own")]
    pub names: Names,
    /// The program and its arguments, after `--`.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND",
        value_hint = ValueHint::CommandWithArguments
    )]
    pub command: Vec<OsString>,
}

/// `top`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Top {
    /// Profiles; several are summed.
    #[arg(id = "profiles", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub table: Table,
}

/// `tree`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Tree {
    /// Profiles; several are summed.
    #[arg(id = "profiles", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub table: Table,
}

/// `peek`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Peek {
    /// Which functions.
    #[arg(value_name = "REGEX")]
    pub expression: String,
    /// Profiles; several are summed.
    #[arg(id = "profiles", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Sort by cumulative sums.
    #[arg(long)]
    pub cum: bool,
    #[command(flatten)]
    pub rows: Rows,
    #[command(flatten)]
    pub view: View,
    #[command(flatten)]
    pub form: Form,
    #[command(flatten)]
    pub output: Output,
}

/// `traces`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Traces {
    /// Profiles; several are summed.
    #[arg(id = "profiles", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub rows: Rows,
    #[command(flatten)]
    pub view: View,
    #[command(flatten)]
    pub form: Form,
    #[command(flatten)]
    pub output: Output,
}

/// `list`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct List {
    /// Which functions.
    #[arg(value_name = "REGEX")]
    pub expression: String,
    /// Profiles; several are summed.
    #[arg(id = "profiles", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub view: View,
    #[command(flatten)]
    pub form: Form,
    #[command(flatten)]
    pub output: Output,
}

/// `flame`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Flame {
    /// Profiles; several are summed.
    #[arg(id = "profiles", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Root at the top.
    #[arg(long, conflicts_with = "flame")]
    pub icicle: bool,
    /// Root at the bottom, which is the default.
    #[arg(long)]
    pub flame: bool,
    /// Headline.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub title: String,
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
    /// Write to this file; `-` is standard output.
    #[arg(short, long = "output", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
}

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
    /// Write to this file; `-` is standard output.
    #[arg(short, long = "output", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
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

/// `info`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Info {
    /// Profiles; one report for each.
    #[arg(id = "profiles", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// For programs: an array with one object for each file.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
    pub reading: Reading,
    #[command(flatten)]
    pub output: Output,
}

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
    /// Write to this file; `-` is standard output.
    #[arg(short, long = "output", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
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
    #[arg(short, long = "output", value_name = "DIR", value_hint = ValueHint::DirPath)]
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
pub struct Symbolize {
    /// The profile.
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Look for binaries and debug files here as well; may be given several times.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub search: Vec<PathBuf>,
    /// Fetch debug files that are not at hand from this debuginfod server, by build id; `env` stands for those in
    /// $DEBUGINFOD_URLS. Nothing is fetched unless this is given; it may be several times.
    #[arg(long, value_name = "URL", value_parser = shared::server, value_hint = ValueHint::Url)]
    pub debuginfod: Vec<String>,
    /// Write to this file; `-` is standard output.
    #[arg(
        short,
        long = "output",
        value_name = "FILE",
        required_unless_present = "in_place",
        value_hint = ValueHint::FilePath
    )]
    pub output: Option<PathBuf>,
    /// Replace the file itself.
    #[arg(long, conflicts_with = "output")]
    pub in_place: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
    pub reading: Reading,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    pub shell: clap_complete::Shell,
}
