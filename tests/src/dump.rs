//! A dump, read by the project's own reader and asked the questions that tests have.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use pprof_export::reader::{Limits, decode};
use pprof_export::schema::{Location, Profile, Sample};

use crate::child::Program;

/// The columns of a heap dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Blocks ever allocated.
    AllocObjects,
    /// Bytes ever allocated.
    AllocSpace,
    /// Live blocks.
    InuseObjects,
    /// Live bytes.
    InuseSpace,
}

impl Column {
    /// The column's name in a profile.
    pub fn name(self) -> &'static str {
        ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"][self as usize]
    }
}

/// A decoded dump.
#[derive(Debug)]
pub struct Dump {
    /// The message.
    pub profile: Profile,
    locations: HashMap<u64, usize>,
    functions: HashMap<u64, String>,
}

impl Dump {
    /// Reads a file.
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let profile = decode(&bytes, &Limits::DEFAULT).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let locations = profile.location.iter().enumerate().map(|(index, location)| (location.id, index)).collect();
        let functions =
            profile.function.iter().map(|function| (function.id, text(&profile, function.name).to_owned())).collect();
        Dump { profile, locations, functions }
    }

    /// Runs `heapsift symbolize` and reads the result.
    #[track_caller]
    pub fn symbolized(path: &Path, to: &Path) -> Self {
        Program::new(crate::command()).arg("symbolize").arg(path).arg("-o").arg(to).run().expect_success();
        Dump::read(to)
    }

    /// Sum of a column.
    pub fn total(&self, column: Column) -> i64 {
        self.profile.sample.iter().map(|sample| sample.value[column as usize]).sum()
    }

    /// Sum of a column over the rows for which `wanted` holds.
    pub fn sum(&self, column: Column, wanted: impl Fn(&Sample) -> bool) -> i64 {
        self.profile.sample.iter().filter(|sample| wanted(sample)).map(|s| s.value[column as usize]).sum()
    }

    /// Sum of a column over the rows with a frame of that function.
    pub fn of_function(&self, column: Column, name: &str) -> i64 {
        self.sum(column, |sample| self.names(sample).any(|frame| is_function(frame, name)))
    }

    /// Names of a row's functions, leaf first, inlined ones included.
    pub fn names<'a>(&'a self, sample: &'a Sample) -> impl Iterator<Item = &'a str> {
        self.frames(sample)
            .flat_map(|location| &location.line)
            .filter_map(|line| self.functions.get(&line.function_id).map(String::as_str))
    }

    /// A row's locations, leaf first.
    pub fn frames<'a>(&'a self, sample: &'a Sample) -> impl Iterator<Item = &'a Location> {
        sample.location_id.iter().map(|id| &self.profile.location[self.locations[id]])
    }

    /// A row's number under a label's name.
    pub fn number(&self, sample: &Sample, key: &str) -> Option<i64> {
        sample.label.iter().find(|label| text(&self.profile, label.key) == key).map(|label| label.num)
    }

    /// Number of samples behind a row's objects: the estimate times the chance of being sampled.
    pub fn samples(&self, sample: &Sample, column: Column) -> f64 {
        let size = self.number(sample, "bytes").expect("every row of ours has its size") as f64;
        let interval = self.number(sample, "period").unwrap_or(self.profile.period) as f64;
        sample.value[column as usize] as f64 * crate::statistics::chance(size, interval)
    }

    /// File of the mapping of a location.
    pub fn file(&self, location: &Location) -> &str {
        let mapping = self.profile.mapping.iter().find(|mapping| mapping.id == location.mapping_id);
        mapping.map_or("", |mapping| text(&self.profile, mapping.filename))
    }

    /// A string of the profile.
    pub fn text(&self, index: i64) -> &str {
        text(&self.profile, index)
    }
}

fn text(profile: &Profile, index: i64) -> &str {
    let index = usize::try_from(index).expect("the reader has checked the indices");
    &profile.string_table[index]
}

/// Whether a frame's name is that of a function: the same path, with or without a hash or parameters behind it.
fn is_function(frame: &str, name: &str) -> bool {
    frame.strip_prefix(name).is_some_and(|rest| {
        rest.is_empty() || rest.starts_with("::h") || rest.starts_with('(') || rest.starts_with('.')
    })
}

/// The dumps in a directory whose kind (the letter in the name) is `kind`, by name.
pub fn dumps(directory: &Path, kind: char) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let stem = name.strip_suffix(".heap.pb.gz");
            stem.and_then(|stem| stem.rsplit('.').next()).is_some_and(|last| last.starts_with(kind))
        })
        .collect();
    found.sort();
    found
}

/// The only dump of a kind in a directory.
#[track_caller]
pub fn only(directory: &Path, kind: char) -> PathBuf {
    let found = dumps(directory, kind);
    assert_eq!(found.len(), 1, "dumps of kind {kind} in {}: {found:?}", directory.display());
    found.into_iter().next().expect("one, as checked")
}

/// Options that profile and dump at exit into a directory.
pub fn final_dump(directory: &Path, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!("prof:true,prof_final:true,prof_prefix:{}/dump{comma}{more}", directory.display())
}
