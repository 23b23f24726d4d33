//! `convert --to raw`: the whole profile as text, in the layout of `go tool pprof -raw`.

use super::time;
use crate::escape;
use crate::model::{LabelValue, Location, Profile, Side};

/// The profile as text.
pub fn text(profile: &Profile) -> String {
    let mut out = String::new();
    let shown = |text: &str| escape::terminal(text).into_owned();
    for comment in &profile.comments {
        out.push_str(&format!("Comment: {}\n", shown(comment)));
    }
    let (kind, unit) = profile.period_type.as_ref().map_or(("", ""), |t| (&t.kind, &t.unit));
    out.push_str(&format!("PeriodType: {} {}\n", shown(kind), shown(unit)));
    out.push_str(&format!("Period: {}\n", profile.period));
    if profile.time_nanos != 0 {
        out.push_str(&format!("Time: {}\n", time::full(profile.time_nanos)));
    }
    if profile.duration_nanos != 0 {
        // pprof cuts the duration to four characters; so must this for the lines to be equal.
        let duration = time::duration(profile.duration_nanos);
        out.push_str(&format!("Duration: {}\n", duration.chars().take(4).collect::<String>()));
    }
    out.push_str("Samples:\n");
    let types: Vec<String> = profile
        .sample_types
        .iter()
        .map(|t| {
            let default = if t.kind == profile.default_type_name { "[dflt]" } else { "" };
            format!("{}/{}{default}", shown(&t.kind), shown(&t.unit))
        })
        .collect();
    out.push_str(&types.join(" "));
    out.push('\n');
    for row in 0..profile.row_count() {
        sample(profile, row, &mut out);
    }
    out.push_str("Locations\n");
    for (index, place) in profile.locations.iter().enumerate() {
        location(profile, index, place, &mut out);
    }
    out.push_str("Mappings\n");
    for (index, mapping) in profile.mappings.iter().enumerate() {
        let flags: String = [
            (mapping.has_functions, "[FN]"),
            (mapping.has_filenames, "[FL]"),
            (mapping.has_line_numbers, "[LN]"),
            (mapping.has_inline_frames, "[IN]"),
        ]
        .into_iter()
        .filter_map(|(has, flag)| has.then_some(flag))
        .collect();
        out.push_str(&format!(
            "{}: {:#x}/{:#x}/{:#x} {} {} {flags}\n",
            index + 1,
            mapping.start,
            mapping.limit,
            mapping.offset,
            shown(profile.text(mapping.file)),
            shown(profile.text(mapping.build_id)),
        ));
    }
    out
}

fn sample(profile: &Profile, row: usize, out: &mut String) {
    let is_base = profile.side(row) == Side::Base;
    for &value in profile.values(row) {
        let value = if is_base { value.saturating_neg() } else { value };
        out.push_str(&format!(" {value:>10}"));
    }
    out.push_str(": ");
    for location in profile.stack(row) {
        out.push_str(&format!("{} ", location + 1));
    }
    out.push('\n');
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    if is_base {
        // As pprof marks the rows of a base.
        texts.push("pprof::base:[true]".to_owned());
    }
    for (key, values) in grouped_labels(profile, row) {
        let key = escape::terminal(profile.text(key)).into_owned();
        let (strings, ints): (Vec<LabelValue>, Vec<LabelValue>) =
            values.into_iter().partition(|value| matches!(value, LabelValue::Text(_)));
        if !strings.is_empty() {
            texts.push(format!("{key}:[{}]", join(profile, &strings)));
        }
        if !ints.is_empty() {
            numbers.push(format!("{key}:[{}]", join(profile, &ints)));
        }
    }
    for mut labels in [texts, numbers] {
        if !labels.is_empty() {
            labels.sort();
            out.push_str(&format!("                {}\n", labels.join(" ")));
        }
    }
}

/// Labels that are shown, by key, in order of their first appearance.
pub(crate) fn grouped_labels(profile: &Profile, row: usize) -> Vec<(crate::model::Str, Vec<LabelValue>)> {
    let mut groups: Vec<(crate::model::Str, Vec<LabelValue>)> = Vec::new();
    for label in profile.shown_labels(row) {
        match groups.iter_mut().find(|group| group.0 == label.key) {
            Some(group) => group.1.push(label.value),
            None => groups.push((label.key, vec![label.value])),
        }
    }
    groups
}

fn join(profile: &Profile, values: &[LabelValue]) -> String {
    // Units are written where any of the values has one, as pprof does.
    let has_unit = values.iter().any(|v| matches!(v, LabelValue::Number(_, unit) if !unit.is_empty()));
    let parts: Vec<String> = values
        .iter()
        .map(|value| match *value {
            LabelValue::Text(text) => escape::terminal(profile.text(text)).into_owned(),
            LabelValue::Number(number, unit) if has_unit => {
                format!("{number} {}", escape::terminal(profile.text(unit)))
            }
            LabelValue::Number(number, _) => number.to_string(),
        })
        .collect();
    parts.join(" ")
}

fn location(profile: &Profile, index: usize, place: &Location, out: &mut String) {
    let mut start = format!("{:>6}: {:#x} ", index + 1, place.address);
    if let Some(mapping) = place.mapping {
        start.push_str(&format!("M={} ", mapping + 1));
    }
    if place.is_folded {
        start.push_str("[F] ");
    }
    if place.lines.is_empty() {
        out.push_str(&start);
        out.push('\n');
    }
    for line in &place.lines {
        let function = &profile.functions[line.function as usize];
        let shown = |handle| escape::terminal(profile.text(handle));
        out.push_str(&format!(
            "{start}{} {}:{} s={}",
            shown(function.name),
            shown(function.file),
            line.line,
            function.start_line
        ));
        if function.name != function.system_name {
            out.push_str(&format!("({})", shown(function.system_name)));
        }
        out.push('\n');
        start = "             ".to_owned();
    }
}
