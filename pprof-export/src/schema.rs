//! The messages of profile.proto, as google/pprof defines them, in memory.
//!
//! Used by the offline half only. Everything textual is an index into [`Profile::string_table`], whose
//! first entry is the empty string. The comments say what a field means; the format's own rules (which
//! ids must exist, how many values a sample has) are the reader's to check.

pub use crate::allocator_stats::{AllocatorStats, ClassTotal};
use alloc::string::String;
use alloc::vec::Vec;

/// A whole profile.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Profile {
    /// What the values of each sample count; their number is that of the values.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// The rows.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Mapped pieces of binaries; the main binary first.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Instructions, named or not.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions that the locations refer to.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All text; the first entry is "".
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// Regular expression of function names to cut, with everything below them.
    #[prost(int64, tag = "7")]
    pub drop_frames: i64,
    /// Regular expression of exceptions from `drop_frames`.
    #[prost(int64, tag = "8")]
    pub keep_frames: i64,
    /// When the profile was made: nanoseconds since 1970.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// How long it covers, where that makes sense.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What `period` counts.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// Mean distance of two samples; for a heap profile, bytes.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Free text of the producer.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// The sample type to show when none is asked for; 0: the last one.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
    /// Where the profile is explained: an absolute URL.
    #[prost(int64, tag = "15")]
    pub doc_url: i64,
    /// The allocator's own numbers; ours alone, other readers ignore it.
    #[prost(message, optional, tag = "1000")]
    pub allocator_stats: Option<AllocatorStats>,
}

/// What a column of values counts, and in which unit.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ValueType {
    /// `inuse_space`, `space`, ….
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// `bytes`, `count`, ….
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// A row: a stack, its values, its labels.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    /// The stack, leaf first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// One value per sample type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// What tells this row from others of the same stack.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A label: text, or a number with a unit.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Label {
    /// Its name.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// Its text, or 0.
    #[prost(int64, tag = "2")]
    pub str: i64,
    /// Its number, where there is no text.
    #[prost(int64, tag = "3")]
    pub num: i64,
    /// The number's unit, or 0.
    #[prost(int64, tag = "4")]
    pub num_unit: i64,
}

/// A piece of a file that was mapped at an address.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Mapping {
    /// Its name in this file; not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// First address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// One past the last address.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// Offset in the file of the byte at `memory_start`.
    #[prost(uint64, tag = "4")]
    pub file_offset: u64,
    /// Path, or a name in brackets.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Build id in lower-case hexadecimal, or "".
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// All its locations have functions; a symbolizer leaves the mapping alone.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// … source files.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// … line numbers.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// … their inlined frames.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// An instruction, with the source lines it stands for once it is symbolized.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Location {
    /// Its name in this file; not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The mapping it lies in, or 0.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// Address in the process; for a caller, that of the call (the return address − 1).
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// Innermost inlined function first, the function that was really called last.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
    /// Several functions share the address (identical code folding).
    #[prost(bool, tag = "5")]
    pub is_folded: bool,
}

/// A place in the source.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Line {
    /// The function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// Line in its file, 0 if unknown.
    #[prost(int64, tag = "2")]
    pub line: i64,
    /// Column, 0 if unknown.
    #[prost(int64, tag = "3")]
    pub column: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Function {
    /// Its name in this file; not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Name for people: demangled.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Name for the linker: mangled.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// Source file.
    #[prost(int64, tag = "4")]
    pub filename: i64,
    /// First line of the function, 0 if unknown.
    #[prost(int64, tag = "5")]
    pub start_line: i64,
}
