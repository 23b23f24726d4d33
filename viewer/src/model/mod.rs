//! A profile in memory, as every report uses it.
//!
//! Made from one or more decoded pprof messages ([`build`]): the same location of the same binary is
//! one location, wherever the binary was mapped, so that files of different processes can be summed
//! and compared. Rows stay apart by the side they came from ([`Side`]), because the uncertainty of a
//! difference needs both sides; nothing cancels before it is reported.
//!
//! Everything is an index into a vector: a [`Str`] into the strings, a frame into the locations, a row's
//! stack into one long list of frames. Text is kept as it was read; [`crate::escape`] makes it safe on
//! its way out.

use hashbrown::HashSet;
use smallvec::SmallVec;

use columns::Lacking;

mod build;
mod columns;
mod filter;
mod merge;
mod paths;
mod prune;
mod sampling;
mod strings;
mod tags;
mod total;

pub use build::Builder;
pub use filter::Filters;
pub(crate) use prune::without_arguments;
pub use sampling::{Columns, PartCache};
pub use strings::{Str, Strings};
pub use tags::TagFilter;
pub use total::BaseUse;

/// Which side of a comparison a row belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Side {
    /// The profile asked about.
    #[default]
    New,
    /// The profile it is compared with.
    Base,
}

/// What a column counts, and in which unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueType {
    /// `inuse_space`, …
    pub kind: String,
    /// `bytes`, `count`, …
    pub unit: String,
}

/// A mapped piece of a binary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub limit: u64,
    /// Offset of `start` in the file.
    pub offset: u64,
    /// Path of the file.
    pub file: Str,
    /// Build id in hexadecimal, or empty.
    pub build_id: Str,
    /// Every location of the mapping has functions.
    pub has_functions: bool,
    /// … and file names.
    pub has_filenames: bool,
    /// … and line numbers.
    pub has_line_numbers: bool,
    /// … and inlined frames.
    pub has_inline_frames: bool,
}

/// A function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Function {
    /// Name for people.
    pub name: Str,
    /// Name for the linker.
    pub system_name: Str,
    /// Source file.
    pub file: Str,
    /// Line of its first line, 0 if unknown.
    pub start_line: i64,
}

/// A source line of a location; several where calls were inlined, the innermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// Index of the function.
    pub function: u32,
    /// Line number, 0 if unknown.
    pub line: i64,
}

/// The lines of a location: hardly any has more than one.
pub type Lines = SmallVec<[Line; 1]>;

/// An address, with its lines once it is symbolized.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Index of the mapping.
    pub mapping: Option<u32>,
    /// Address in the process of the first profile that had it.
    pub address: u64,
    /// Lines, innermost first; empty where not symbolized.
    pub lines: Lines,
    /// Several functions share the address.
    pub is_folded: bool,
}

/// What a label says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LabelValue {
    /// A string.
    Text(Str),
    /// A number and its unit.
    Number(i64, Str),
}

/// A label of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// Its name.
    pub key: Str,
    /// Its value.
    pub value: LabelValue,
}

/// One row: a stack with its labels; the values stand in [`Profile::values`].
#[derive(Clone, Copy, Debug)]
struct Row {
    stack: (u32, u32),
    labels: (u32, u32),
    side: Side,
    source: u32,
}

/// A file that rows came from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source {
    /// Mean distance of two samples in it; 0 if unknown.
    pub period: i64,
    /// When it was made, in nanoseconds since 1970; 0 if unknown.
    pub time_nanos: i64,
    /// The side it was added to.
    pub side: Side,
    /// A binary was mapped elsewhere than in the first file that has it: it is of another process.
    pub is_moved: bool,
    /// The program's own binary, the first of the mappings, by a hash of its build id (or path); 0 if unknown.
    pub program: u64,
    /// It tells of the moment of most allocated memory, which lies between two dumps.
    pub is_peak: bool,
}

impl Source {
    /// Whether the program's own binary is another one, as far as both are known.
    pub fn is_of_other_program(&self, other: &Source) -> bool {
        self.program != other.program && ![self.program, other.program].contains(&0)
    }
}

/// The allocator's own numbers at the instant of the dump, in bytes.
pub type AllocatorStats = pprof_export::AllocatorStats;

/// A profile.
#[derive(Debug, Default)]
pub struct Profile {
    /// All text.
    pub strings: Strings,
    /// The columns.
    pub sample_types: Vec<ValueType>,
    /// The column shown when none is asked for.
    pub default_type: usize,
    /// The name of that column as the file gave it, possibly empty.
    pub default_type_name: String,
    /// What the period counts.
    pub period_type: Option<ValueType>,
    /// Mean distance of two samples.
    pub period: i64,
    /// When it was made, in nanoseconds since 1970; 0 if unknown.
    pub time_nanos: i64,
    /// How long it covers.
    pub duration_nanos: i64,
    /// Free text of the producer.
    pub comments: Vec<String>,
    /// Frames the producer wants cut, with everything below.
    pub drop_frames: String,
    /// Exceptions from `drop_frames`.
    pub keep_frames: String,
    /// Where the producer explains itself.
    pub doc_url: String,
    /// The files, in the order in which they were added.
    pub sources: Vec<Source>,
    /// Columns that some of the files have, and others don't.
    lacking: Vec<Lacking>,
    /// What the columns of the profile asked about were multiplied with; empty if nothing.
    scales: Vec<f64>,
    /// Keys of labels that reports do not show.
    hidden_labels: HashSet<Str>,
    /// The allocator's numbers.
    pub allocator: Option<AllocatorStats>,
    /// Mappings; the main binary first.
    pub mappings: Vec<Mapping>,
    /// Functions.
    pub functions: Vec<Function>,
    /// Locations.
    pub locations: Vec<Location>,
    rows: Vec<Row>,
    frames: Vec<u32>,
    labels: Vec<Label>,
    values: Vec<i64>,
    /// For each row the number of its stack and labels as they were read; empty unless they were kept.
    as_read: Vec<u32>,
}

impl Profile {
    /// About how much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let texts = self.strings.bytes();
        let lines: usize = self.locations.iter().map(|location| location.lines.len() * size_of::<Line>()).sum();
        texts
            + lines
            + self.locations.len() * size_of::<Location>()
            + self.functions.len() * size_of::<Function>()
            + self.rows.len() * size_of::<Row>()
            + self.frames.len() * size_of::<u32>()
            + self.labels.len() * size_of::<Label>()
            + self.values.len() * size_of::<i64>()
            + self.as_read.len() * size_of::<u32>()
    }

    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Locations of a row, leaf first.
    pub fn stack(&self, row: usize) -> &[u32] {
        let (start, length) = self.rows[row].stack;
        &self.frames[start as usize..(start + length) as usize]
    }

    /// Labels of a row.
    pub fn labels(&self, row: usize) -> &[Label] {
        let (start, length) = self.rows[row].labels;
        &self.labels[start as usize..(start + length) as usize]
    }

    /// Labels of a row that reports show.
    pub fn shown_labels(&self, row: usize) -> impl Iterator<Item = &Label> {
        self.labels(row).iter().filter(|label| !self.hidden_labels.contains(&label.key))
    }

    /// Values of a row, one per column.
    pub fn values(&self, row: usize) -> &[i64] {
        let width = self.sample_types.len();
        &self.values[row * width..(row + 1) * width]
    }

    /// Side of a row.
    pub fn side(&self, row: usize) -> Side {
        self.rows[row].side
    }

    /// Index of the file that a row came from.
    pub fn source(&self, row: usize) -> usize {
        self.rows[row].source as usize
    }

    /// Whether there are rows to compare with.
    pub fn has_base(&self) -> bool {
        self.rows.iter().any(|row| row.side == Side::Base)
    }

    /// Whether any value is below zero, as in a saved difference.
    pub fn has_negative_values(&self) -> bool {
        self.values.iter().any(|&value| value < 0)
    }

    /// What a row's value of a column was multiplied with, if with anything.
    pub fn scale(&self, row: usize, column: usize) -> Option<f64> {
        let scale = self.scales.get(column).copied()?;
        (self.side(row) == Side::New && scale != 1.0 && scale != 0.0).then_some(scale)
    }

    /// The text behind a handle.
    pub fn text(&self, handle: Str) -> &str {
        self.strings.get(handle)
    }

    /// The name of a column's index given as pprof gives it: a name, a number, or nothing for the
    /// default. `inuse_space` also finds a column that is just `space`, and the other way round: of gperftools' text
    /// pprof makes columns of the short names, we make those of all heap profiles.
    pub fn column(&self, asked: Option<&str>) -> Result<usize, String> {
        let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
            return Ok(self.default_type);
        };
        if let Ok(index) = asked.parse::<usize>()
            && index < self.sample_types.len()
        {
            return Ok(index);
        }
        let short = asked.strip_prefix("inuse_").unwrap_or(asked);
        let position = |matches: &dyn Fn(&str) -> bool| self.sample_types.iter().position(|t| matches(&t.kind));
        let found = position(&|kind| kind == asked || kind == short);
        found.or_else(|| position(&|kind| kind.strip_prefix("inuse_") == Some(asked))).ok_or_else(|| {
            let known: Vec<&str> = self.sample_types.iter().map(|t| t.kind.as_str()).collect();
            let whose = if self.sources.len() > 1 { "all files have" } else { "it has" };
            format!("there is no sample type {asked}; {whose} {}", known.join(", "))
        })
    }

    /// Base name of a mapping's file, or nothing.
    pub fn mapping_name(&self, mapping: &Mapping) -> &str {
        base_name(self.text(mapping.file))
    }

    /// Drops every row for which `keep` says no, and lets `keep` name the part of the stack that stays.
    fn retain_rows(&mut self, mut keep: impl FnMut(&Self, usize) -> Option<core::ops::Range<usize>>) {
        let width = self.sample_types.len();
        let mut kept = 0;
        for index in 0..self.rows.len() {
            let Some(part) = keep(self, index) else {
                continue;
            };
            let row = &mut self.rows[index];
            row.stack = (row.stack.0 + part.start as u32, (part.end - part.start) as u32);
            self.rows[kept] = self.rows[index];
            if let Some(&number) = self.as_read.get(index) {
                self.as_read[kept] = number;
            }
            self.values.copy_within(index * width..(index + 1) * width, kept * width);
            kept += 1;
        }
        self.rows.truncate(kept);
        self.values.truncate(kept * width);
        self.as_read.truncate(kept);
    }

    /// Takes locations out of all stacks; rows without any left are dropped, those that had none are kept.
    fn remove_locations(&mut self, is_gone: &[bool]) {
        let Self { rows, frames, .. } = self;
        let mut emptied = Vec::new();
        for row in rows.iter_mut() {
            let (start, length) = (row.stack.0 as usize, row.stack.1 as usize);
            let mut kept = start;
            for at in start..start + length {
                let location = frames[at];
                if !is_gone[location as usize] {
                    frames[kept] = location;
                    kept += 1;
                }
            }
            row.stack.1 = (kept - start) as u32;
            emptied.push(kept == start && length > 0);
        }
        if emptied.contains(&true) {
            self.retain_rows(|profile, row| (!emptied[row]).then(|| 0..profile.stack(row).len()));
        }
    }
}

/// The part of a path after its last slash.
pub fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}
