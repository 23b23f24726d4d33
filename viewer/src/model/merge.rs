//! Rows that are the same row: of equal stack and labels.

use std::borrow::Cow;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{Label, LabelValue, Profile, Side};

impl Profile {
    /// For each row the first row with its stack and labels; with `across_sides`, whichever side it is on.
    pub fn groups(&self, across_sides: bool) -> Vec<u32> {
        let hasher = DefaultHashBuilder::default();
        let side = |row: usize| (!across_sides).then(|| self.side(row));
        let hash_of = |row: usize| hasher.hash_one((side(row), self.stack(row), self.labels(row)));
        let mut first: HashTable<u32> = HashTable::with_capacity(self.row_count());
        (0..self.row_count())
            .map(|row| {
                let is_same = |&other: &u32| {
                    let other = other as usize;
                    side(other) == side(row)
                        && self.stack(other) == self.stack(row)
                        && self.labels(other) == self.labels(row)
                };
                let found = first.entry(hash_of(row), is_same, |&other| hash_of(other as usize));
                *found.or_insert(row as u32).get()
            })
            .collect()
    }

    /// Keeps in mind which rows have equal stacks and labels, for what is cut or filtered later: as in pprof, rows that
    /// only become alike by that stay apart.
    pub fn remember_groups(&mut self) {
        self.as_read = self.groups(true);
    }

    /// For each row a number, the same for rows of either side whose stacks and labels were equal when they were read.
    pub(crate) fn groups_as_read(&self) -> Cow<'_, [u32]> {
        if self.as_read.is_empty() { self.groups(true).into() } else { Cow::Borrowed(&self.as_read) }
    }

    /// Numbers locations and mappings in the order in which rows use them, the first mapping first, as pprof
    /// does when it merges. Those that no row uses come last, or go with `drop_unused`, as there; but for the first mapping.
    pub fn renumber(&mut self, drop_unused: bool) {
        const UNSEEN: u32 = u32::MAX;
        let mut locations = vec![UNSEEN; self.locations.len()];
        let mut mappings = vec![UNSEEN; self.mappings.len()];
        let (mut location_order, mut mapping_order) = (Vec::new(), Vec::new());
        let see = |index: u32, numbers: &mut [u32], order: &mut Vec<u32>| {
            if numbers[index as usize] == UNSEEN {
                numbers[index as usize] = order.len() as u32;
                order.push(index);
            }
            numbers[index as usize]
        };
        if !self.mappings.is_empty() {
            see(0, &mut mappings, &mut mapping_order);
        }
        for row in &self.rows {
            let (start, length) = (row.stack.0 as usize, row.stack.1 as usize);
            for frame in &mut self.frames[start..start + length] {
                let old = *frame;
                *frame = see(old, &mut locations, &mut location_order);
                if let Some(mapping) = self.locations[old as usize].mapping {
                    see(mapping, &mut mappings, &mut mapping_order);
                }
            }
        }
        if !drop_unused {
            (0..locations.len() as u32).for_each(|at| _ = see(at, &mut locations, &mut location_order));
            (0..mappings.len() as u32).for_each(|at| _ = see(at, &mut mappings, &mut mapping_order));
        }
        self.locations = location_order.iter().map(|&at| core::mem::take(&mut self.locations[at as usize])).collect();
        self.mappings = mapping_order.iter().map(|&at| core::mem::take(&mut self.mappings[at as usize])).collect();
        for location in &mut self.locations {
            location.mapping = location.mapping.map(|mapping| mappings[mapping as usize]);
        }
    }

    /// Makes labels mean the same in all rows, whichever file they are of: a row whose period is its file's and not the
    /// profile's gets it as a label. Labels of the keys `dropped` are left out.
    pub fn settle_labels(&mut self, dropped: &[String]) {
        let key = self.strings.intern("period");
        let unit = self.strings.intern("bytes");
        let is_dropped: Vec<bool> =
            (0..self.strings.len()).map(|at| dropped.iter().any(|key| key == self.strings.nth(at))).collect();
        let mut labels = Vec::with_capacity(self.labels.len());
        for row in 0..self.row_count() {
            let start = labels.len();
            labels.extend(self.labels(row).iter().filter(|label| !is_dropped[label.key.index()]));
            let period = self.sources[self.source(row)].period;
            let has_own = labels[start..].iter().any(|label: &Label| label.key == key);
            if period != self.period && period > 0 && !has_own {
                labels.push(Label { key, value: LabelValue::Number(period, unit) });
                // As they are when they are read: by key, texts before numbers.
                labels[start..].sort_by_key(|label| (label.key, matches!(label.value, LabelValue::Number(..))));
            }
            self.rows[row].labels = (start as u32, (labels.len() - start) as u32);
            // Those of the rows that follow stand in the old list still.
        }
        self.labels = labels;
    }

    /// Forgets the frames and labels of rows that are gone.
    pub(super) fn close_up(&mut self) {
        let (mut frames, mut labels) = (Vec::new(), Vec::new());
        frames.reserve_exact(self.rows.iter().map(|row| row.stack.1 as usize).sum());
        labels.reserve_exact(self.rows.iter().map(|row| row.labels.1 as usize).sum());
        for row in 0..self.row_count() {
            let (first_frame, first_label) = (frames.len() as u32, labels.len() as u32);
            frames.extend_from_slice(self.stack(row));
            self.rows[row].stack.0 = first_frame;
            labels.extend_from_slice(self.labels(row));
            self.rows[row].labels.0 = first_label;
        }
        (self.frames, self.labels) = (frames, labels);
    }

    /// Sums equal rows of a side into the first of them, and leaves out what is zero afterwards. With
    /// `across_sides`, rows of the base are subtracted from equal ones, and all rows that are left belong to
    /// the profile asked about.
    pub fn merge_rows(&mut self, across_sides: bool) {
        let width = self.sample_types.len();
        self.as_read.clear();
        if across_sides {
            for (row, values) in self.rows.iter().zip(self.values.chunks_exact_mut(width)) {
                if row.side == Side::Base {
                    values.iter_mut().for_each(|value| *value = value.saturating_neg());
                }
            }
        }
        let groups = self.groups(across_sides);
        for (row, &first) in groups.iter().enumerate() {
            let first = first as usize;
            if first == row {
                continue;
            }
            for column in 0..width {
                let value = self.values[row * width + column];
                let sum = &mut self.values[first * width + column];
                *sum = sum.saturating_add(value);
            }
        }
        if across_sides {
            self.rows.iter_mut().for_each(|row| row.side = Side::New);
        }
        self.retain_rows(|profile, row| {
            let keep = groups[row] as usize == row && profile.values(row).iter().any(|&v| v != 0);
            keep.then(|| 0..profile.stack(row).len())
        });
    }
}
