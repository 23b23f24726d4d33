//! What google/pprof's own check refuses, refused here too.
//!
//! Two things it lets pass are let pass: a location of an unknown mapping counts as one of none, and an
//! address may lie outside its mapping.

use super::Error;
use crate::schema::Profile;
use alloc::format;
use alloc::string::{String, ToString};
use std::collections::HashSet;

/// The ids of a table: dense from 1 as a rule, in which case nothing but their number is kept.
struct Ids {
    dense: u64,
    others: HashSet<u64>,
}

impl Ids {
    fn collect(field: &'static str, ids: impl Iterator<Item = u64>) -> Result<Self, Error> {
        let mut known = Self {
            dense: 0,
            others: HashSet::new(),
        };
        for (index, id) in ids.enumerate() {
            if id == 0 {
                return Err(invalid(field, index, "has the id 0, which is reserved"));
            }
            if id == known.dense + 1 && known.others.is_empty() {
                known.dense = id;
            } else if known.contains(id) || !known.others.insert(id) {
                return Err(invalid(
                    field,
                    index,
                    format!("has the id {id}, like one before it"),
                ));
            }
        }
        Ok(known)
    }

    fn contains(&self, id: u64) -> bool {
        (1..=self.dense).contains(&id) || self.others.contains(&id)
    }
}

fn invalid(field: &'static str, index: usize, reason: impl ToString) -> Error {
    Error::Invalid {
        field,
        index,
        reason: reason.to_string(),
    }
}

/// Checks that everything a message refers to is there.
pub fn check(profile: &Profile) -> Result<(), Error> {
    match profile.string_table.first() {
        None => {
            return Err(invalid(
                "string_table",
                0,
                "is missing: there are no strings at all",
            ));
        }
        Some(first) if !first.is_empty() => {
            return Err(invalid("string_table", 0, "is not the empty string"));
        }
        Some(_) => {}
    }
    let strings = profile.string_table.len();
    let text = |field: &'static str, index: usize, what: &str, string: i64| match usize::try_from(
        string,
    ) {
        Ok(at) if at < strings => Ok(()),
        _ => {
            let what = if what.is_empty() {
                String::new()
            } else {
                format!("{what} ")
            };
            Err(invalid(
                field,
                index,
                format!("has {what}string {string}, outside the table of {strings}"),
            ))
        }
    };
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

    Ids::collect("mapping", profile.mapping.iter().map(|item| item.id))?;
    for (index, item) in profile.mapping.iter().enumerate() {
        text("mapping", index, "filename", item.filename)?;
        text("mapping", index, "build_id", item.build_id)?;
    }
    let functions = Ids::collect("function", profile.function.iter().map(|item| item.id))?;
    for (index, item) in profile.function.iter().enumerate() {
        text("function", index, "name", item.name)?;
        text("function", index, "system_name", item.system_name)?;
        text("function", index, "filename", item.filename)?;
    }
    let locations = Ids::collect("location", profile.location.iter().map(|item| item.id))?;
    for (index, item) in profile.location.iter().enumerate() {
        if let Some(line) = item
            .line
            .iter()
            .find(|line| !functions.contains(line.function_id))
        {
            let reason = format!(
                "refers to function {}, which does not exist",
                line.function_id
            );
            return Err(invalid("location", index, reason));
        }
    }

    let width = profile.sample_type.len();
    if width == 0 && !profile.sample.is_empty() {
        return Err(invalid(
            "sample_type",
            0,
            "is missing: there are samples without types",
        ));
    }
    for (index, item) in profile.sample.iter().enumerate() {
        if item.value.len() != width {
            let reason = format!("has {} values for {width} sample types", item.value.len());
            return Err(invalid("sample", index, reason));
        }
        if let Some(id) = item.location_id.iter().find(|&&id| !locations.contains(id)) {
            return Err(invalid(
                "sample",
                index,
                format!("refers to location {id}, which does not exist"),
            ));
        }
        for label in &item.label {
            text("sample", index, "label key", label.key)?;
            text("sample", index, "label", label.str)?;
            text("sample", index, "label unit", label.num_unit)?;
        }
    }
    Ok(())
}
