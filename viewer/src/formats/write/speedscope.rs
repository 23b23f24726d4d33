//! Speedscope's own JSON: every column is one of its profiles, and inlined frames are frames (its
//! importer of pprof drops them, and knows one column only).

use std::collections::HashMap;
use std::fmt::Write;

use super::frames::Frames;
use super::{Negative, program, rows};
use crate::escape::json;
use crate::model::Profile;

/// The file.
///
/// # Errors
/// It can't draw what is below zero: says that something is, if that is not to be left out.
pub fn text(profile: &Profile, active: usize, negative: Negative) -> Result<String, String> {
    let frames = Frames::new(profile, true);
    let mut out = String::from("{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\n");
    out.push_str("\"shared\":{\"frames\":[");
    for (index, frame) in frames.list.iter().enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        // Writing to a string cannot fail.
        let _ = write!(out, "{{\"name\":{}", json(&frame.shown()));
        if !frame.file.is_empty() {
            let _ = write!(out, ",\"file\":{}", json(frame.file));
        }
        if frame.line > 0 {
            let _ = write!(out, ",\"line\":{}", frame.line);
        }
        out.push('}');
    }
    out.push_str("]},\n\"profiles\":[");
    for (column, value_type) in profile.sample_types.iter().enumerate() {
        if column > 0 {
            out.push(',');
        }
        let unit = match value_type.unit.as_str() {
            unit @ ("bytes" | "nanoseconds" | "microseconds" | "milliseconds" | "seconds") => unit,
            _ => "none",
        };
        // Equal stacks are one sample.
        let mut sums: Vec<(Vec<u32>, i64)> = Vec::new();
        let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
        for (row, value) in rows(profile, column) {
            let stack = frames.stack(profile, row);
            let next = sums.len();
            let at = *known.entry(stack.clone()).or_insert(next);
            if at == next {
                sums.push((stack, 0));
            }
            sums[at].1 = sums[at].1.saturating_add(value);
        }
        negative.check("speedscope", sums.iter().filter(|(_, sum)| *sum < 0).count(), "stack")?;
        sums.retain(|&(_, sum)| sum > 0);
        let total = sums.iter().fold(0i64, |total, (_, sum)| total.saturating_add(*sum));
        let _ = write!(
            out,
            "\n{{\"type\":\"sampled\",\"name\":{},\"unit\":\"{unit}\",\"startValue\":0,\"endValue\":{total},\n\"samples\":[",
            json(&value_type.kind),
        );
        for (index, (stack, _)) in sums.iter().enumerate() {
            let stack: Vec<String> = stack.iter().map(u32::to_string).collect();
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(out, "{comma}[{}]", stack.join(","));
        }
        out.push_str("],\n\"weights\":[");
        for (index, (_, sum)) in sums.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(out, "{comma}{sum}");
        }
        out.push_str("]}");
    }
    let _ = write!(
        out,
        "],\n\"name\":{},\"activeProfileIndex\":{active},\"exporter\":\"heapsift@{}\"}}\n",
        json(program(profile)),
        env!("CARGO_PKG_VERSION"),
    );
    Ok(out)
}
