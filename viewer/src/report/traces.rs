//! `convert --to text`: every row with its labels and its stack, in the layout of
//! `go tool pprof -traces -lines`.

use super::raw::grouped_labels;
use super::top::head;
use crate::graph::{Key, clean_path, printable};
use crate::model::{BaseUse, Columns, LabelValue, Profile, Str};
use crate::{escape, measure};

const SEPARATOR: &str = "-----------+-------------------------------------------------------\n";

/// All rows that have a stack.
pub fn text(profile: &mut Profile, columns: &Columns) -> String {
    let total = profile.hundred_percent(columns.column, BaseUse::None);
    let mut out = head(profile, columns, total, "minimum");
    // Handles of the cleaned paths, by function.
    let files: Vec<Str> = (0..profile.functions.len())
        .map(|index| {
            let clean = clean_path(profile.text(profile.functions[index].file));
            profile.strings.intern(&clean)
        })
        .collect();
    let profile = &*profile;
    let unit = &profile.sample_types[columns.column].unit;
    for row in 0..profile.row_count() {
        let stack = frames(profile, &files, row);
        if stack.is_empty() {
            continue;
        }
        out.push_str(SEPARATOR);
        labels(profile, row, &mut out);
        let value = profile.values(row)[columns.column];
        let mut value = measure::label(value.into(), unit, "minimum");
        for (key, is_inlined) in stack {
            let name = printable(profile, &key);
            let inline = if is_inlined { " (inline)" } else { "" };
            out.push_str(&format!(
                "{value:>10}   {}{inline}\n",
                escape::terminal(&name)
            ));
            value.clear();
        }
    }
    out.push_str(SEPARATOR);
    out
}

/// Frames of a row, leaf first, and whether each is inlined into the next.
fn frames(profile: &Profile, files: &[Str], row: usize) -> Vec<(Key, bool)> {
    let mut frames = Vec::new();
    for &index in profile.stack(row) {
        let location = &profile.locations[index as usize];
        let object = location
            .mapping
            .map_or(Str::EMPTY, |m| profile.mappings[m as usize].file);
        if location.lines.is_empty() {
            frames.push((
                Key {
                    object,
                    ..Key::default()
                },
                false,
            ));
        }
        for (depth, line) in location.lines.iter().enumerate() {
            let name = profile.functions[line.function as usize].name;
            let file = files[line.function as usize];
            let object = if name.is_empty() { object } else { Str::EMPTY };
            let key = Key {
                name,
                file,
                line: line.line,
                address: 0,
                object,
            };
            frames.push((key, depth + 1 < location.lines.len()));
        }
    }
    frames
}

fn labels(profile: &Profile, row: usize, out: &mut String) {
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    for (key, values) in grouped_labels(profile, row) {
        let key = profile.text(key);
        let (mut strings, mut ints) = (Vec::new(), Vec::new());
        for value in values {
            match value {
                LabelValue::Text(text) => strings.push(profile.text(text).to_owned()),
                LabelValue::Number(number, unit) => {
                    let unit = match (profile.text(unit), key) {
                        ("", "request" | "alignment") => "bytes",
                        ("", key) => key,
                        (unit, _) => unit,
                    };
                    ints.push(measure::label(number.into(), unit, "auto"));
                }
            }
        }
        let line = |values: Vec<String>| {
            format!(
                "{:>10}:  {}\n",
                escape::terminal(key),
                escape::terminal(&values.join(" "))
            )
        };
        if !strings.is_empty() {
            texts.push(line(strings));
        }
        if !ints.is_empty() {
            numbers.push(line(ints));
        }
    }
    for mut lines in [texts, numbers] {
        lines.sort();
        lines.iter().for_each(|line| out.push_str(line));
    }
}
