//! What google/pprof's own check refuses, refused here too.
//!
//! Two things it lets pass are let pass: a location of an unknown mapping counts as one of none, and an
//! address may lie outside its mapping.

use super::cursor::Cursor;
use super::{Error, Positions};
use crate::schema::{Label, Profile};
use alloc::format;
use alloc::string::{String, ToString};

/// The ids of a table, each of which must be new and not 0.
fn positions(field: &'static str, ids: impl Iterator<Item = u64>) -> Result<Positions, Error> {
    let mut known = Positions::default();
    for (index, id) in ids.enumerate() {
        if id == 0 {
            return Err(invalid(field, index, "has the id 0, which is reserved"));
        }
        if !known.insert(id, index) {
            return Err(invalid(field, index, format!("has the id {id}, like one before it")));
        }
    }
    Ok(known)
}

/// An error whose place in the message is found later, by [`placed`].
pub(super) fn invalid(field: &'static str, index: usize, reason: impl ToString) -> Error {
    Error::Invalid { field, index, offset: 0, reason: reason.to_string() }
}

/// The error with its place in the message, which is looked for only now: tables keep no offsets.
pub(super) fn placed(error: Error, message: &[u8]) -> Error {
    let Error::Invalid { field, index, reason, .. } = error else { return error };
    let number = match field {
        "sample_type" => 1,
        "sample" => 2,
        "mapping" => 3,
        "location" => 4,
        "function" => 5,
        "string_table" => 6,
        "drop_frames" => 7,
        "keep_frames" => 8,
        "period_type" => 11,
        "comment" => 13,
        "default_sample_type" => 14,
        _ => 15,
    };
    let (mut offset, mut left, mut cursor) = (message.len() as u64, index, Cursor::new(message));
    while let Ok(Some(found)) = cursor.next("profile") {
        if found.number == number {
            // Integers may be packed, many in one field: then the last field is the place.
            offset = found.offset;
            if left == 0 {
                break;
            }
            left -= 1;
        }
    }
    Error::Invalid { field, index, offset, reason }
}

fn text(strings: usize, field: &'static str, index: usize, what: &str, string: i64) -> Result<(), Error> {
    match usize::try_from(string) {
        Ok(at) if at < strings => Ok(()),
        _ => {
            let what = if what.is_empty() { String::new() } else { format!("{what} ") };
            Err(invalid(field, index, format!("has {what}string {string}, outside the table of {strings}")))
        }
    }
}

/// Checks a row's labels, given the number of strings.
pub fn label(strings: usize, row: usize, label: &Label) -> Result<(), Error> {
    text(strings, "sample", row, "label key", label.key)?;
    text(strings, "sample", row, "label", label.str)?;
    text(strings, "sample", row, "label unit", label.num_unit)
}

/// Checks that everything the tables and the head of a message refer to is there. Returns where the locations
/// stand.
pub fn tables(profile: &Profile) -> Result<Positions, Error> {
    match profile.string_table.first() {
        None => {
            return Err(invalid("string_table", 0, "is missing: there are no strings at all"));
        }
        Some(first) if !first.is_empty() => {
            return Err(invalid("string_table", 0, "is not the empty string"));
        }
        Some(_) => {}
    }
    let strings = profile.string_table.len();
    let text = |field, index, what, string| text(strings, field, index, what, string);
    for (index, item) in profile.sample_type.iter().enumerate() {
        text("sample_type", index, "type", item.r#type)?;
        text("sample_type", index, "unit", item.unit)?;
    }
    if let Some(item) = &profile.period_type {
        text("period_type", 0, "type", item.r#type)?;
        text("period_type", 0, "unit", item.unit)?;
    }
    for (field, string) in [
        ("drop_frames", profile.drop_frames),
        ("keep_frames", profile.keep_frames),
        ("default_sample_type", profile.default_sample_type),
        ("doc_url", profile.doc_url),
    ] {
        text(field, 0, "", string)?;
    }
    for (index, &comment) in profile.comment.iter().enumerate() {
        text("comment", index, "", comment)?;
    }

    positions("mapping", profile.mapping.iter().map(|item| item.id))?;
    for (index, item) in profile.mapping.iter().enumerate() {
        text("mapping", index, "filename", item.filename)?;
        text("mapping", index, "build_id", item.build_id)?;
    }
    let functions = positions("function", profile.function.iter().map(|item| item.id))?;
    for (index, item) in profile.function.iter().enumerate() {
        text("function", index, "name", item.name)?;
        text("function", index, "system_name", item.system_name)?;
        text("function", index, "filename", item.filename)?;
    }
    let locations = positions("location", profile.location.iter().map(|item| item.id))?;
    for (index, item) in profile.location.iter().enumerate() {
        if let Some(line) = item.line.iter().find(|line| functions.get(line.function_id).is_none()) {
            let reason = format!("refers to function {}, which does not exist", line.function_id);
            return Err(invalid("location", index, reason));
        }
    }

    Ok(locations)
}
