//! Resident memory part by part, from what the program holds up to all of the process.

use serde_json::{Value, json};

use crate::escape;
use crate::model::{AllocatorStats, Columns, Profile, Side};
use crate::report::folded::names;
use crate::report::narrow;

/// What memory is made of, each part with its bytes, which may be below zero: a profile of resident memory tells it itself,
/// of others the allocator's numbers do. Null where nothing is known.
pub fn waterfall(profile: &Profile, columns: &Columns) -> Value {
    let parts = match profile.sample_types[columns.column].kind.as_str() {
        "rss_space" => by_root(profile, columns),
        _ => profile.allocator.as_ref().map_or_else(Vec::new, by_numbers),
    };
    if parts.is_empty() {
        return Value::Null;
    }
    let line = |(name, bytes): (String, i128)| json!({"name": escape::terminal(&name), "bytes": narrow(bytes)});
    parts.into_iter().map(line).collect()
}

/// The sums of the outermost frames, in the order in which they first come.
fn by_root(profile: &Profile, columns: &Columns) -> Vec<(String, i128)> {
    let mut parts: Vec<(String, i128)> = Vec::new();
    for row in (0..profile.row_count()).filter(|&row| profile.side(row) == Side::New) {
        let value = i128::from(profile.values(row)[columns.column]);
        let Some(name) = names(profile, row).first().map(|name| name.trim_matches(['[', ']']).to_owned()) else {
            continue;
        };
        match parts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum = sum.saturating_add(value),
            None => parts.push((name, value)),
        }
    }
    parts.retain(|(_, bytes)| *bytes != 0);
    // What lessens the sum comes last, so that it is seen what it is taken from.
    parts.sort_by_key(|(_, bytes)| *bytes < 0);
    parts
}

fn by_numbers(stats: &AllocatorStats) -> Vec<(String, i128)> {
    let of = |bytes: u64| i128::from(bytes);
    if stats.allocated == 0 {
        return Vec::new();
    }
    let mut parts = vec![("in use", of(stats.allocated))];
    if stats.active >= stats.allocated {
        let unused = of(stats.active) - of(stats.allocated) - of(stats.tcache);
        parts.extend([("thread caches", of(stats.tcache)), ("free in slabs", unused)]);
        parts.extend([("dirty pages", of(stats.dirty)), ("allocator metadata", of(stats.metadata))]);
    }
    let sum: i128 = parts.iter().map(|(_, bytes)| bytes).sum();
    if stats.rss > 0 && parts.len() > 1 {
        let rest = of(stats.rss) - sum;
        parts.push((if rest < 0 { "not resident" } else { "rest of the process" }, rest));
    }
    parts.retain(|(_, bytes)| *bytes != 0);
    parts.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_resident_memory() {
        let stats = AllocatorStats {
            allocated: 100,
            active: 140,
            tcache: 10,
            dirty: 20,
            metadata: 5,
            rss: 200,
            ..AllocatorStats::default()
        };
        let parts = by_numbers(&stats);
        assert_eq!(parts.iter().map(|(_, bytes)| bytes).sum::<i128>(), 200);
        assert_eq!(parts[2], ("free in slabs".to_owned(), 30));
        assert_eq!(parts.last().unwrap(), &("rest of the process".to_owned(), 35));
        // Blocks that were never touched.
        let parts = by_numbers(&AllocatorStats { rss: 90, ..stats.clone() });
        assert_eq!(parts.last().unwrap(), &("not resident".to_owned(), -75));
        // Of another producer: no more than it says.
        let parts = by_numbers(&AllocatorStats { allocated: 7, ..AllocatorStats::default() });
        assert_eq!(parts, [("in use".to_owned(), 7)]);
        assert!(by_numbers(&AllocatorStats::default()).is_empty());
    }
}
