//! Commands that show one profile, or the sum of several.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{Base, Column, Filter, Form, Names, Output, Reading, Rows, Sources, Table, Target, View};

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
    #[command(flatten)]
    pub target: Target,
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
