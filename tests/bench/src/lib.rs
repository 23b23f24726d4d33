//! What the benchmarks are made of: allocators to compare, programs to run under them, counts and times to read.
//!
//! Every allocator is a file that is preloaded; ours is one of them, and is not linked. The command is a program that is
//! run beside others.

pub mod allocators;
pub mod compile;
pub mod fast_path;
pub mod fast_path_table;
pub mod suite;
pub mod viewer;

use std::path::{Path, PathBuf};

/// Why a benchmark cannot be run: one line for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// A result whose error is a line for a person.
pub type Outcome<T> = Result<T, Failure>;

/// Fails with a line.
pub fn fail<T>(line: impl Into<String>) -> Outcome<T> {
    Err(Failure(line.into()))
}

/// The directory of the benchmarks' definitions and sources.
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where compiled programs and other things made for the benchmarks go.
pub fn workshop(target: &Path) -> Outcome<PathBuf> {
    let path = target.join("bench");
    std::fs::create_dir_all(&path).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
    Ok(path)
}
