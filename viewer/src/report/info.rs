//! `info`: what a profile is: program, time, period, totals with intervals, mappings and how far they
//! are symbolized, the allocator's own numbers.

use serde_json::{Value, json};

use super::{estimate_json, interval_text, time};
use crate::model::{Columns, Mapping, PartCache, Profile, Side};
use crate::stats::Estimate;
use crate::{escape, measure};

/// Locations of a mapping, and how many of them have names.
#[derive(Clone, Copy, Default)]
struct Coverage {
    locations: usize,
    named: usize,
}

/// Sum of a column over the profile's own rows.
pub(crate) fn total(profile: &Profile, column: usize) -> Estimate {
    let columns = Columns::new(profile, column);
    let mut sum = Estimate::nothing(columns.weight_of_nothing());
    let mut parts = PartCache::default();
    for row in (0..profile.row_count()).filter(|&row| profile.side(row) == Side::New) {
        sum.add(profile.values(row)[column], columns.part(profile, row, &mut parts).as_ref());
    }
    if sum.samples == 0.0 && sum.value == 0 && !columns.is_space() && columns.period() > 0.0 {
        // How many blocks may be there without a sample depends on their sizes.
        sum.unknown = 1;
    }
    sum
}

fn coverage(profile: &Profile) -> (Vec<Coverage>, Coverage) {
    let mut mappings = vec![Coverage::default(); profile.mappings.len()];
    let mut outside = Coverage::default();
    for location in &profile.locations {
        let count = match location.mapping {
            Some(mapping) => &mut mappings[mapping as usize],
            None => &mut outside,
        };
        count.locations += 1;
        count.named += usize::from(!location.lines.is_empty());
    }
    (mappings, outside)
}

/// The allocator's numbers by name, in bytes.
fn allocator(profile: &Profile) -> Vec<(&'static str, u64)> {
    let Some(stats) = &profile.allocator else {
        return Vec::new();
    };
    vec![
        ("allocated", stats.allocated),
        ("active", stats.active),
        ("metadata", stats.metadata),
        ("resident", stats.resident),
        ("mapped", stats.mapped),
        ("retained", stats.retained),
        ("tcache", stats.tcache),
        ("dirty", stats.dirty),
        ("muzzy", stats.muzzy),
        ("rss", stats.rss),
        ("pss", stats.pss),
    ]
}

fn sampling(profile: &Profile) -> String {
    match &profile.period_type {
        Some(t) if profile.period > 0 => {
            let period = measure::label(profile.period.into(), &t.unit, "auto");
            format!("every {period} of {}", escape::terminal(&t.kind))
        }
        _ => "period not recorded".to_owned(),
    }
}

/// The report for people.
pub fn text(profile: &Profile, path: &str) -> String {
    let mut out = format!("{}\n", escape::terminal(path));
    let mut line = |name: &str, value: &str| {
        out.push_str(&format!("  {name:<12} {}\n", escape::terminal(value)));
    };
    if let Some(main) = profile.mappings.first() {
        line("program", profile.text(main.file));
    }
    if profile.time_nanos != 0 {
        line("time", &time::full(profile.time_nanos));
    }
    if profile.duration_nanos != 0 {
        line("duration", &time::duration(profile.duration_nanos));
    }
    line("sampled", &sampling(profile));
    for comment in &profile.comments {
        line("comment", comment);
    }
    if !profile.drop_frames.is_empty() {
        line("drop_frames", &profile.drop_frames);
    }
    let functions = profile.functions.len();
    line(
        "tables",
        &format!(
            "{} rows, {} locations, {functions} functions, {} mappings",
            profile.row_count(),
            profile.locations.len(),
            profile.mappings.len()
        ),
    );

    out.push_str("\nTotals\n");
    out.push_str(&format!("  {:<16} {:>12} {:>20} {:>20} {:>9}\n", "type", "total", "unrounded", "95%", "samples"));
    for (column, value_type) in profile.sample_types.iter().enumerate() {
        let sum = total(profile, column);
        let mark = if column == profile.default_type { "*" } else { "" };
        out.push_str(&format!(
            "  {:<16} {:>12} {:>20} {:>20} {:>9}\n",
            format!("{}{mark}", escape::terminal(&value_type.kind)),
            measure::label(sum.value, &value_type.unit, "auto"),
            sum.value,
            interval_text(sum.interval(), &value_type.unit, "auto"),
            sum.samples as u64,
        ));
    }
    out.push_str("  (* shown by default)\n");

    let numbers = allocator(profile);
    if !numbers.is_empty() {
        out.push_str("\nAllocator, at the instant of the dump\n");
        for (name, bytes) in numbers {
            out.push_str(&format!("  {name:<12} {:>12} {bytes:>20}\n", measure::bytes(bytes)));
        }
    }

    let (mappings, outside) = coverage(profile);
    out.push_str("\nMappings\n");
    for (mapping, count) in profile.mappings.iter().zip(&mappings) {
        out.push_str(&mapping_line(profile, mapping, *count));
    }
    if outside.locations > 0 {
        let Coverage { locations, named } = outside;
        out.push_str(&format!("  {locations} locations in no mapping, {named} with names\n"));
    }
    out
}

fn mapping_line(profile: &Profile, mapping: &Mapping, count: Coverage) -> String {
    let id = profile.text(mapping.build_id);
    let id = if id.is_empty() { "no build id" } else { id };
    let state = match count {
        Coverage { locations: 0, .. } => "not used".to_owned(),
        Coverage { locations, named } if named == locations => {
            format!("{locations} locations, all named")
        }
        Coverage { locations, named: 0 } => format!("{locations} locations, not symbolized"),
        Coverage { locations, named } => format!("{locations} locations, {named} named"),
    };
    format!(
        "  {:x}-{:x} {:>8x}  {}\n      {}; {state}\n",
        mapping.start,
        mapping.limit,
        mapping.offset,
        escape::terminal(profile.text(mapping.file)),
        escape::terminal(id),
    )
}

/// The report for programs.
pub fn json(profile: &Profile, path: &str) -> Value {
    let totals: Vec<Value> = profile
        .sample_types
        .iter()
        .enumerate()
        .map(|(column, value_type)| {
            let mut sum = estimate_json(&total(profile, column));
            sum["type"] = value_type.kind.as_str().into();
            sum["unit"] = value_type.unit.as_str().into();
            sum["default"] = (column == profile.default_type).into();
            sum
        })
        .collect();
    let (counts, outside) = coverage(profile);
    let mappings: Vec<Value> = profile
        .mappings
        .iter()
        .zip(counts)
        .map(|(mapping, count)| {
            json!({
                "file": profile.text(mapping.file),
                "build_id": profile.text(mapping.build_id),
                "start": mapping.start,
                "limit": mapping.limit,
                "offset": mapping.offset,
                "locations": count.locations,
                "named": count.named,
            })
        })
        .collect();
    let numbers = allocator(profile);
    let allocator = if numbers.is_empty() {
        Value::Null
    } else {
        numbers.into_iter().map(|(name, bytes)| (name.to_owned(), Value::from(bytes))).collect()
    };
    json!({
        "path": path,
        "time_nanos": profile.time_nanos,
        "duration_nanos": profile.duration_nanos,
        "period": profile.period,
        "period_type": profile.period_type.as_ref().map(|t| json!({"type": t.kind, "unit": t.unit})),
        "comments": profile.comments,
        "drop_frames": profile.drop_frames,
        "rows": profile.row_count(),
        "locations": profile.locations.len(),
        "locations_without_mapping": outside.locations,
        "functions": profile.functions.len(),
        "totals": totals,
        "allocator": allocator,
        "mappings": mappings,
    })
}
