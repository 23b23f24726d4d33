//! Sums by node while they are made. Each row adds to dozens of them, drawn from all over a table that may be larger than
//! the processor's cache: what most rows have nothing to add to is kept elsewhere.

use hashbrown::HashMap;

use crate::stats::{Estimate, Part};

/// The value of a sum so far.
#[derive(Clone, Copy)]
struct Value {
    value: i64,
    /// The last row that was added.
    row: u32,
}

/// Values of rows, by node.
pub(super) struct Values {
    values: Vec<Value>,
    spilled: Spilled,
}

/// What did not fit into 64 bits, by node.
#[derive(Default)]
struct Spilled(HashMap<u32, i128>);

impl Spilled {
    #[cold]
    fn add(&mut self, node: u32, value: i64) {
        // There are fewer rows than it takes for this to overflow.
        *self.0.entry(node).or_default() += i128::from(value);
    }

    fn with(&self, node: usize, value: i64) -> i128 {
        let spilled = if self.0.is_empty() { None } else { self.0.get(&(node as u32)) };
        i128::from(value) + spilled.copied().unwrap_or(0)
    }
}

impl Values {
    pub fn new(nodes: usize) -> Self {
        Self { values: vec![Value { value: 0, row: u32::MAX }; nodes], spilled: Spilled::default() }
    }

    /// Adds a row to a node, once however often this is called before the next row's.
    #[inline]
    pub fn add(&mut self, node: u32, row: u32, value: i64) {
        let sum = &mut self.values[node as usize];
        if sum.row == row {
            return;
        }
        sum.row = row;
        match sum.value.checked_add(value) {
            Some(value) => sum.value = value,
            None => self.spilled.add(node, core::mem::replace(&mut sum.value, value)),
        }
    }

    /// The value of a node; 0 of a node that is not there.
    pub fn get(&self, node: usize) -> i128 {
        self.values.get(node).map_or(0, |sum| self.spilled.with(node, sum.value))
    }
}

/// What every row adds to. Two of them fill a line of the processor's cache, and none lies in two.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Sum {
    value: i64,
    variance: f64,
    samples: f64,
    /// The last row that was added.
    row: u32,
    /// In [`SKEW_UNIT`]s, of which it takes no more digits.
    skew: f32,
}

/// The cube of a mebibyte, so that skews of any memory there is stay far below the greatest number.
const SKEW_UNIT: f64 = (1u64 << 60) as f64;

/// Sums of rows, by node.
pub(super) struct Running {
    sums: Vec<Sum>,
    /// What the sums begin with.
    nothing: Estimate,
    /// The largest weight of each sum, once one is larger than that of nothing.
    weights: Vec<f64>,
    /// How many rows of each sum have no known sampling, once there is one.
    unknown: Vec<u32>,
    spilled: Spilled,
}

/// What a row adds to each of its nodes.
#[derive(Clone, Copy)]
pub(super) struct Share {
    row: u32,
    value: i64,
    part: Part,
    is_unknown: bool,
}

impl Share {
    /// `part` is `None` where it is not known how the row was sampled.
    pub fn new(row: usize, value: i64, part: Option<&Part>) -> Self {
        let is_unknown = part.is_none() && value != 0;
        Self { row: row as u32, value, part: part.copied().unwrap_or_default(), is_unknown }
    }
}

impl Running {
    pub fn new(nodes: usize, nothing: Estimate) -> Self {
        let sum = Sum { value: 0, variance: nothing.variance, samples: nothing.samples, row: u32::MAX, skew: 0.0 };
        Self { sums: vec![sum; nodes], nothing, weights: Vec::new(), unknown: Vec::new(), spilled: Spilled::default() }
    }

    /// Adds a row to a node, once however often this is called before the next row's.
    #[inline]
    pub fn add(&mut self, node: u32, share: &Share) {
        let sum = &mut self.sums[node as usize];
        if sum.row == share.row {
            return;
        }
        sum.row = share.row;
        sum.variance += share.part.variance;
        sum.skew += (share.part.skew / SKEW_UNIT) as f32;
        sum.samples += share.part.samples;
        match sum.value.checked_add(share.value) {
            Some(value) => sum.value = value,
            None => self.spilled.add(node, core::mem::replace(&mut sum.value, share.value)),
        }
        if share.part.weight > self.nothing.weight {
            self.weigh(node, share.part.weight);
        }
        if share.is_unknown {
            self.count_unknown(node);
        }
    }

    fn weigh(&mut self, node: u32, weight: f64) {
        if self.weights.is_empty() {
            self.weights = vec![self.nothing.weight; self.sums.len()];
        }
        let largest = &mut self.weights[node as usize];
        *largest = largest.max(weight);
    }

    fn count_unknown(&mut self, node: u32) {
        if self.unknown.is_empty() {
            self.unknown = vec![0; self.sums.len()];
        }
        let unknown = &mut self.unknown[node as usize];
        *unknown = unknown.saturating_add(1);
    }

    /// A node's sum; nothing of a node that is not there.
    pub fn estimate(&self, node: usize) -> Estimate {
        let Some(sum) = self.sums.get(node) else { return self.nothing };
        Estimate {
            value: self.spilled.with(node, sum.value),
            variance: sum.variance,
            skew: f64::from(sum.skew) * SKEW_UNIT,
            samples: sum.samples,
            weight: self.weights.get(node).copied().unwrap_or(self.nothing.weight),
            unknown: self.unknown.get(node).copied().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_estimates() {
        let nothing = Estimate::nothing(5.0);
        let (mut running, mut values) = (Running::new(2, nothing), Values::new(2));
        let mut expected = [nothing; 2];
        let part = |variance, samples, weight| Some(Part { variance, skew: 0.0, samples, weight });
        let rows = [
            (i64::MAX, part(0.1, 1.0, 5.0)),
            (i64::MAX, part(0.2, 2.0, 4.0)),
            (7, part(0.3, 3.0, 6.5)),
            (0, None),
            (i64::MIN, None),
            (i64::MAX, part(0.4, 4.0, 6.0)),
        ];
        for (row, (value, part)) in rows.iter().enumerate() {
            let share = Share::new(row, *value, part.as_ref());
            for (node, expected) in expected.iter_mut().enumerate().skip(row % 2) {
                for _ in 0..2 {
                    running.add(node as u32, &share);
                    values.add(node as u32, row as u32, *value);
                }
                expected.add(*value, part.as_ref());
            }
        }
        assert!(expected[1].value > i64::MAX.into());
        assert_eq!([0, 1, 2].map(|node| running.estimate(node)), [expected[0], expected[1], nothing]);
        assert_eq!([0, 1, 2].map(|node| values.get(node)), [expected[0].value, expected[1].value, 0]);
    }
}
