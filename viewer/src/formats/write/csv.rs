//! CSV for spreadsheets and scripts: a line for each row, with all columns, all labels and the stack.

use std::collections::BTreeSet;

use super::frames::Frames;
use super::{message, signed};
use crate::escape;
use crate::model::{LabelValue, Profile, Side, Str};

/// The file: values by their sample type's name, labels by their key (with `label:` before it), the
/// stack root first with `;` between frames. Rows of a base are negative and say so, as in a pprof file.
pub fn text(profile: &Profile) -> String {
    let frames = Frames::new(profile, false);
    let mut keys: BTreeSet<(&str, Str)> = BTreeSet::new();
    for row in 0..profile.row_count() {
        keys.extend(profile.labels(row).iter().map(|label| (profile.text(label.key), label.key)));
    }
    let mut head: Vec<String> =
        profile.sample_types.iter().map(|t| escape::csv(&format!("{} ({})", t.kind, t.unit))).collect();
    head.extend(keys.iter().map(|(key, _)| escape::csv(&format!("label:{key}"))));
    let has_base = profile.has_base();
    if has_base {
        head.push(escape::csv(&format!("label:{}", message::BASE.0)));
    }
    head.push("stack".to_owned());
    let mut out = format!("{}\n", head.join(","));
    for row in 0..profile.row_count() {
        let values = profile.values(row).iter();
        let mut cells: Vec<String> = values.map(|&value| signed(profile, row, value).to_string()).collect();
        for &(_, key) in &keys {
            let values: Vec<String> = profile
                .labels(row)
                .iter()
                .filter(|label| label.key == key)
                .map(|label| match label.value {
                    LabelValue::Text(text) => profile.text(text).to_owned(),
                    LabelValue::Number(number, _) => number.to_string(),
                })
                .collect();
            cells.push(escape::csv(&values.join(" ")));
        }
        if has_base {
            cells.push(if profile.side(row) == Side::Base { message::BASE.1 } else { "" }.to_owned());
        }
        let stack: Vec<String> = frames
            .stack(profile, row)
            .into_iter()
            .map(|frame| escape::folded(&frames.list[frame as usize].shown()).into_owned())
            .collect();
        cells.push(escape::csv(&stack.join(";")));
        out.push_str(&cells.join(","));
        out.push('\n');
    }
    out
}
