//! Folded stacks: one line per stack, root first, and its value; for flamegraph.pl and its kin.

use std::collections::BTreeMap;

use crate::escape;
use crate::formats::write::signed;
use crate::graph::NO_STACK;
use crate::model::{Profile, base_name};

/// The names of a row's frames, root first, inlined frames expanded; not escaped.
pub(crate) fn names(profile: &Profile, row: usize) -> Vec<&str> {
    let mut names = Vec::new();
    for &index in profile.stack(row).iter().rev() {
        let location = &profile.locations[index as usize];
        for line in location.lines.iter().rev() {
            let function = &profile.functions[line.function as usize];
            let name = profile.text(function.name);
            names.push(if name.is_empty() { profile.text(function.system_name) } else { name });
        }
        if location.lines.is_empty() {
            let file = location.mapping.map_or("", |m| base_name(profile.text(profile.mappings[m as usize].file)));
            names.push(file);
        }
    }
    if names.is_empty() {
        names.push(NO_STACK);
    }
    names
}

/// Whether each name of [`names`] is only the name of a binary.
pub(crate) fn is_binary_only(profile: &Profile, row: usize) -> Vec<bool> {
    let mut flags = Vec::new();
    for &index in profile.stack(row).iter().rev() {
        let lines = profile.locations[index as usize].lines.len();
        flags.extend(std::iter::repeat_n(lines == 0, lines.max(1)));
    }
    if flags.is_empty() {
        flags.push(false);
    }
    flags
}

/// All stacks, equal ones summed and a base's taken off, sorted; stacks that sum to nothing are left out.
pub fn text(profile: &Profile, column: usize) -> String {
    let mut sums: BTreeMap<String, i128> = BTreeMap::new();
    for row in 0..profile.row_count() {
        let value = signed(profile, row, profile.values(row)[column]);
        if value == 0 {
            continue;
        }
        let binary = is_binary_only(profile, row);
        let frames: Vec<String> = names(profile, row)
            .into_iter()
            .zip(binary)
            .map(|(name, is_binary)| match (is_binary, name) {
                (true, "") => "[unknown]".to_owned(),
                (true, name) => format!("[{}]", escape::folded(name)),
                (false, name) => escape::folded(name).into_owned(),
            })
            .collect();
        let sum = sums.entry(frames.join(";")).or_default();
        *sum = sum.saturating_add(i128::from(value));
    }
    let mut out = String::new();
    for (stack, sum) in sums.into_iter().filter(|&(_, sum)| sum != 0) {
        out.push_str(&format!("{stack} {sum}\n"));
    }
    out
}
