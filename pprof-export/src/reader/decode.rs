//! From bytes to the message: protobuf by hand, every error with its place, all memory counted. Rows are [`super::row`]'s.
//!
//! Integers in repeated fields are accepted packed and one by one, fields in any order, and unknown ones
//! are skipped, as protobuf's rules say. Text that is not UTF-8 is repaired, since google/pprof accepts
//! it.

use super::cursor::{Cursor, Field, Value};
use super::row::{self, Known, RowReader};
use super::{Error, Limits, Rows, check};
use crate::schema::{AllocatorStats, ClassTotal, Function, Line, Location, Mapping, Profile, ValueType};
use alloc::string::String;
use alloc::vec::Vec;
use std::collections::HashSet;

/// The name of the frame that stands for a cut root end.
const TRUNCATED: &str = "[truncated stack]";

/// Bytes that the system's allocator takes for a block of `bytes`.
#[inline]
fn block(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

/// What the file may still use.
pub(super) struct Budget<'l> {
    pub limits: &'l Limits,
    bytes_left: u64,
}

impl<'l> Budget<'l> {
    pub fn new(limits: &'l Limits) -> Self {
        Self { limits, bytes_left: limits.memory_bytes }
    }

    #[inline]
    pub fn charge(&mut self, bytes: usize, offset: u64) -> Result<(), Error> {
        match self.bytes_left.checked_sub(bytes as u64) {
            Some(left) => {
                self.bytes_left = left;
                Ok(())
            }
            None => {
                let limit = self.limits.memory_bytes;
                Err(Error::Limit { what: "bytes in memory", flag: "memory", limit, offset })
            }
        }
    }

    /// Appends an element of a repeated message.
    #[inline]
    pub fn push<T>(&mut self, to: &mut Vec<T>, item: T, offset: u64) -> Result<(), Error> {
        self.charge(size_of::<T>(), offset)?;
        to.push(item);
        Ok(())
    }

    /// Appends the integers of a repeated field, packed or single.
    fn integers(&mut self, to: &mut Vec<i64>, field: &Field<'_>, name: &'static str) -> Result<(), Error> {
        let mut packed = match field.value {
            Value::Int(value) => return self.push(to, value as i64, field.offset),
            Value::Bytes(packed) => packed,
            Value::Fixed => return Err(field.wrong_type(name)),
        };
        while !packed.bytes.is_empty() {
            let value = packed.varint(name)? as i64;
            self.push(to, value, field.offset)?;
        }
        Ok(())
    }
}

/// What a file seems to be that is not a pprof message; `None` if it may be one.
pub fn foreign(message: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 5] = [
        (b"\x7fELF", "an ELF binary"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"PK\x03\x04", "a zip file"),
        (b"PERFILE2", "a perf.data file"),
        (b"\x1f\x8b", "a gzip file within a gzip file"),
    ];
    if let Some((_, name)) = known.iter().find(|(magic, _)| message.starts_with(magic)) {
        return Some(name);
    }
    // A message begins with tags and lengths, which are control characters.
    let is_text = |&byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
    if message.iter().take(256).all(is_text) {
        return Some("text");
    }
    match Cursor::new(message).next("profile") {
        Ok(Some(Field { number: 1..=6 | 11 | 1000, value: Value::Bytes(_), .. })) => None,
        Ok(Some(Field { number: 7..=15, value: Value::Int(_), .. })) => None,
        Ok(Some(Field { number: 13, value: Value::Bytes(_), .. })) => None,
        // A length beyond the end: a message that was cut in its first field.
        Err(Error::Malformed { offset: 1.., .. }) if matches!(message[0], 0x0a | 0x12 | 0x1a | 0x22 | 0x2a | 0x32) => {
            None
        }
        _ => Some("binary data of another kind"),
    }
}

/// Decodes a whole message and checks it: everything but its rows, and the rows.
pub fn message(message: &[u8], limits: &Limits) -> Result<(Profile, Rows), Error> {
    checked(message, limits).map_err(|error| check::placed(error, message))
}

fn checked(message: &[u8], limits: &Limits) -> Result<(Profile, Rows), Error> {
    let mut budget = Budget::new(limits);
    // It is there already, and stays to the end.
    budget.charge(message.len(), 0)?;
    let (mut profile, found) = tables(message, &mut budget)?;
    let locations = check::tables(&profile)?;
    let width = profile.sample_type.len();
    if width == 0 {
        return Err(check::invalid("sample_type", 0, "is missing: there is nothing that samples could count"));
    }
    let known = Known { locations: &locations, strings: profile.string_table.len() };
    let mut reader = RowReader::new(budget, known, profile.location.len() as u32, width);
    reader.rows.ends.reserve_exact(found.number);
    // All rows are as wide, so this is what they need; frames are counted from their bytes, not believed.
    reader.budget.charge(found.number * row::fixed_bytes(width), 0)?;
    reader.rows.values.reserve_exact(found.number * width);
    reader.rows.frames.reserve(found.bytes.min(message.len()) / 4);
    let mut cursor = Cursor::from(message, found.from);
    while let Some(field) = cursor.next("profile")? {
        if field.number == 2 {
            reader.row(field.bytes("sample")?)?;
        }
    }
    if reader.is_cut {
        add_cut_end(&mut profile);
    }
    Ok((profile, reader.rows))
}

/// What is known of the rows after the tables have been read.
#[derive(Default)]
struct Found {
    number: usize,
    /// Their length in the message.
    bytes: usize,
    /// Where the first one begins.
    from: usize,
}

/// Decodes everything but the rows, unchecked but for its form.
fn tables(message: &[u8], budget: &mut Budget<'_>) -> Result<(Profile, Found), Error> {
    let (mut profile, mut found) = (Profile::default(), Found { from: message.len(), ..Found::default() });
    let mut cursor = Cursor::new(message);
    while let Some(field) = cursor.next("profile")? {
        let at = field.offset;
        if field.number != 2 {
            table(&mut profile, &field, budget)?;
            continue;
        }
        if found.number as u64 >= budget.limits.samples {
            return Err(too_many_samples(budget.limits, at));
        }
        found.from = found.from.min(at as usize);
        found.number += 1;
        found.bytes += field.bytes("sample")?.bytes.len();
    }
    Ok((profile, found))
}

pub(super) fn too_many_samples(limits: &Limits, offset: u64) -> Error {
    Error::Limit { what: "samples", flag: "samples", limit: limits.samples, offset }
}

/// Takes a field over that is no row.
pub(super) fn table(profile: &mut Profile, field: &Field<'_>, budget: &mut Budget<'_>) -> Result<(), Error> {
    let at = field.offset;
    match field.number {
        1 => {
            let item = value_type(field.bytes("sample_type")?, "sample_type")?;
            budget.push(&mut profile.sample_type, item, at)?;
        }
        3 => budget.push(&mut profile.mapping, mapping(field.bytes("mapping")?)?, at)?,
        4 => {
            let location = location(field.bytes("location")?, budget)?;
            budget.push(&mut profile.location, location, at)?;
        }
        5 => budget.push(&mut profile.function, function(field.bytes("function")?)?, at)?,
        6 => {
            if profile.string_table.len() as u64 >= budget.limits.strings {
                let limit = budget.limits.strings;
                return Err(Error::Limit { what: "strings", flag: "strings", limit, offset: at });
            }
            let text = text(field.bytes("string_table")?.bytes, budget.limits.name_bytes);
            budget.charge(block(text.len()), at)?;
            budget.push(&mut profile.string_table, text, at)?;
        }
        7 => profile.drop_frames = field.int("drop_frames")?,
        8 => profile.keep_frames = field.int("keep_frames")?,
        9 => profile.time_nanos = field.int("time_nanos")?,
        10 => profile.duration_nanos = field.int("duration_nanos")?,
        11 => profile.period_type = Some(value_type(field.bytes("period_type")?, "period_type")?),
        12 => profile.period = field.int("period")?,
        13 => budget.integers(&mut profile.comment, field, "comment")?,
        14 => profile.default_sample_type = field.int("default_sample_type")?,
        15 => profile.doc_url = field.int("doc_url")?,
        1000 => profile.allocator_stats = Some(allocator_stats(field.bytes("allocator_stats")?)?),
        _ => {}
    }
    Ok(())
}

/// Adds the location that stands for the lost root ends of stacks, at the end of its table.
fn add_cut_end(profile: &mut Profile) {
    fn unused(ids: impl Iterator<Item = u64>) -> u64 {
        let used: HashSet<u64> = ids.collect();
        // There are fewer ids than numbers.
        (1..).find(|id| !used.contains(id)).unwrap_or(u64::MAX)
    }
    let function_id = unused(profile.function.iter().map(|f| f.id));
    let id = unused(profile.location.iter().map(|l| l.id));
    let name = profile.string_table.len() as i64;
    profile.string_table.push(String::from(TRUNCATED));
    profile.function.push(Function { id: function_id, name, system_name: name, filename: 0, start_line: 0 });
    let line = Line { function_id, line: 0, column: 0 };
    profile.location.push(Location { id, line: alloc::vec![line], ..Location::default() });
}

fn value_type(mut cursor: Cursor<'_>, message: &'static str) -> Result<ValueType, Error> {
    let mut item = ValueType::default();
    while let Some(field) = cursor.next(message)? {
        match field.number {
            1 => item.r#type = field.int("value_type.type")?,
            2 => item.unit = field.int("value_type.unit")?,
            _ => {}
        }
    }
    Ok(item)
}

fn mapping(mut cursor: Cursor<'_>) -> Result<Mapping, Error> {
    let mut item = Mapping::default();
    while let Some(field) = cursor.next("mapping")? {
        match field.number {
            1 => item.id = field.uint("mapping.id")?,
            2 => item.memory_start = field.uint("mapping.memory_start")?,
            3 => item.memory_limit = field.uint("mapping.memory_limit")?,
            4 => item.file_offset = field.uint("mapping.file_offset")?,
            5 => item.filename = field.int("mapping.filename")?,
            6 => item.build_id = field.int("mapping.build_id")?,
            7 => item.has_functions = field.bool("mapping.has_functions")?,
            8 => item.has_filenames = field.bool("mapping.has_filenames")?,
            9 => item.has_line_numbers = field.bool("mapping.has_line_numbers")?,
            10 => item.has_inline_frames = field.bool("mapping.has_inline_frames")?,
            _ => {}
        }
    }
    Ok(item)
}

fn location(mut cursor: Cursor<'_>, budget: &mut Budget<'_>) -> Result<Location, Error> {
    let mut item = Location::default();
    while let Some(field) = cursor.next("location")? {
        match field.number {
            1 => item.id = field.uint("location.id")?,
            2 => item.mapping_id = field.uint("location.mapping_id")?,
            3 => item.address = field.uint("location.address")?,
            4 => {
                if item.line.len() >= budget.limits.depth {
                    let limit = budget.limits.depth as u64;
                    let (what, flag) = ("functions in a location", "depth");
                    return Err(Error::Limit { what, flag, limit, offset: field.offset });
                }
                let line = line(field.bytes("location.line")?)?;
                if item.line.is_empty() {
                    budget.charge(block(4 * size_of::<Line>()), field.offset)?;
                    // Most have one line.
                    item.line.reserve_exact(1);
                }
                budget.push(&mut item.line, line, field.offset)?;
            }
            5 => item.is_folded = field.bool("location.is_folded")?,
            _ => {}
        }
    }
    Ok(item)
}

fn line(mut cursor: Cursor<'_>) -> Result<Line, Error> {
    let mut item = Line::default();
    while let Some(field) = cursor.next("location.line")? {
        match field.number {
            1 => item.function_id = field.uint("line.function_id")?,
            2 => item.line = field.int("line.line")?,
            3 => item.column = field.int("line.column")?,
            _ => {}
        }
    }
    Ok(item)
}

fn function(mut cursor: Cursor<'_>) -> Result<Function, Error> {
    let mut item = Function::default();
    while let Some(field) = cursor.next("function")? {
        match field.number {
            1 => item.id = field.uint("function.id")?,
            2 => item.name = field.int("function.name")?,
            3 => item.system_name = field.int("function.system_name")?,
            4 => item.filename = field.int("function.filename")?,
            5 => item.start_line = field.int("function.start_line")?,
            _ => {}
        }
    }
    Ok(item)
}

fn allocator_stats(mut cursor: Cursor<'_>) -> Result<AllocatorStats, Error> {
    /// A class for each size that there can be is fewer.
    const CLASSES_MAX: usize = 1024;
    let mut item = AllocatorStats::default();
    while let Some(field) = cursor.next("allocator_stats")? {
        if field.number == crate::allocator_stats::CLASSES {
            if item.classes.len() == CLASSES_MAX {
                let limit = CLASSES_MAX as u64;
                return Err(Error::Limit { what: "size classes", flag: "samples", limit, offset: field.offset });
            }
            item.classes.push(class_total(field.bytes("allocator_stats.classes")?)?);
        } else if let Some(place) = item.field_mut(field.number) {
            *place = field.uint("allocator_stats")?;
        }
    }
    Ok(item)
}

fn class_total(mut cursor: Cursor<'_>) -> Result<ClassTotal, Error> {
    let mut item = ClassTotal::default();
    while let Some(field) = cursor.next("allocator_stats.classes")? {
        if let Some(place) = item.field_mut(field.number) {
            *place = field.uint("allocator_stats.classes")?;
        }
    }
    Ok(item)
}

/// Text as it is kept: valid UTF-8, of bounded length.
fn text(bytes: &[u8], most: usize) -> String {
    if bytes.len() <= most {
        if let Ok(text) = core::str::from_utf8(bytes) {
            return String::from(text);
        }
        return String::from_utf8_lossy(bytes).into_owned();
    }
    // A character that the cut splits becomes one replacement, which the mark of the cut follows.
    let mut text = String::from_utf8_lossy(&bytes[..most]).into_owned();
    text.push('…');
    text
}
