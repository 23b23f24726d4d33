//! How the rows of a profile were sampled: which columns count blocks and which count bytes, and with
//! which probability a row's blocks were seen.

use hashbrown::HashMap;

use super::{LabelValue, Profile, Str};
use crate::stats::{Part, Sampling};

/// What is needed to tell how sure a value of one column is.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// The column itself.
    pub column: usize,
    /// The column of estimated blocks that goes with it.
    objects: Option<usize>,
    /// The column of their bytes.
    space: Option<usize>,
    is_space: bool,
    /// Whether a row's bytes are those of its blocks, not a part of them (what is wasted, say).
    is_whole: bool,
    period: f64,
    bytes: Option<Str>,
    period_label: Option<Str>,
}

impl Columns {
    /// Looks the partner of `column` up: `alloc_objects` and `alloc_space`, `objects` and `space`.
    pub fn new(profile: &Profile, column: usize) -> Self {
        let find = |prefix: &str, end: &str, unit: &str| {
            profile
                .sample_types
                .iter()
                .position(|t| t.unit == unit && t.kind.strip_suffix(end).is_some_and(|p| p == prefix))
        };
        let this = &profile.sample_types[column];
        let prefix = this.kind.strip_suffix("space").or_else(|| this.kind.strip_suffix("objects"));
        let is_space = this.kind.ends_with("space");
        let (objects, space) = match prefix {
            Some(prefix) => (find(prefix, "objects", "count"), find(prefix, "space", "bytes")),
            None => (None, None),
        };
        let in_bytes = profile.period_type.as_ref().is_some_and(|t| t.unit == "bytes");
        let known = if is_space { space } else { objects } == Some(column);
        Self {
            column,
            objects: objects.filter(|_| known),
            space: space.filter(|_| known),
            is_space,
            is_whole: matches!(prefix, Some("" | "alloc_" | "inuse_")),
            period: if in_bytes && profile.period > 0 { profile.period as f64 } else { 0.0 },
            bytes: profile.strings.find("bytes"),
            period_label: profile.strings.find("period"),
        }
    }

    /// Bytes between two samples where the file says so, else 0.
    pub fn period(&self) -> f64 {
        self.period
    }

    /// What a sample is worth at the least, for a side that has none.
    pub fn weight_of_nothing(&self) -> f64 {
        if self.is_space { self.period } else { 0.0 }
    }

    /// The column of blocks that goes with the column, where there is one.
    pub fn objects(&self) -> Option<usize> {
        self.objects
    }

    /// Whether the column counts bytes, so that a sample is worth about a period of it.
    pub fn is_space(&self) -> bool {
        self.is_space
    }

    /// How a row's blocks were sampled, and how many of them the row stands for; `None` where it is not known.
    pub fn sampling(&self, profile: &Profile, row: usize, cache: &mut PartCache) -> Option<(Sampling, i64)> {
        let values = profile.values(row);
        let column = self.objects?;
        let scale = profile.scale(row, column);
        let objects = match scale {
            Some(scale) => (values[column] as f64 / scale).round() as i64,
            None => values[column],
        };
        let (mut block, mut period) = (0.0, self.period);
        let source = profile.sources[profile.source(row)].period;
        if self.period > 0.0 && source > 0 {
            period = source as f64;
        }
        for label in profile.labels(row) {
            if let LabelValue::Number(number, _) = label.value {
                if Some(label.key) == self.bytes && number > 0 {
                    block = number as f64;
                } else if Some(label.key) == self.period_label && number > 0 {
                    period = number as f64;
                }
            }
        }
        if block == 0.0 && objects != 0 {
            let space = self.space?;
            let space = values[space] as f64 / profile.scale(row, space).unwrap_or(1.0);
            block = (space / objects as f64).abs();
        }
        let key = (block.to_bits(), period.to_bits());
        let sampling = *cache.known.entry(key).or_insert_with(|| Sampling::new(block, period));
        Some((sampling?, objects))
    }

    /// The uncertainty that a row adds to a sum of the column; `None` where it is not known.
    pub fn part(&self, profile: &Profile, row: usize, cache: &mut PartCache) -> Option<Part> {
        let (sampling, objects) = self.sampling(profile, row, cache)?;
        let mut part = if self.is_space { sampling.bytes(objects) } else { sampling.objects(objects) };
        if self.is_space && !self.is_whole {
            let whole = sampling.block_bytes * objects as f64;
            let scale = profile.scale(row, self.column).unwrap_or(1.0);
            let value = profile.values(row)[self.column] as f64 / scale;
            part = part.scaled(if whole == 0.0 { 1.0 } else { value / whole });
        }
        Some(match profile.scale(row, self.column) {
            Some(scale) => part.scaled(scale),
            None => part,
        })
    }
}

/// Samplings that have been worked out: a file has few different ones.
#[derive(Debug, Default)]
pub struct PartCache {
    known: HashMap<(u64, u64), Option<Sampling>>,
}
