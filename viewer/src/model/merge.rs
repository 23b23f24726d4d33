//! Rows that are the same row: of equal stack and labels.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{Profile, Side};

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

    /// Sums equal rows of a side into the first of them, and leaves out what is zero afterwards. With
    /// `across_sides`, rows of the base are subtracted from equal ones, and all rows that are left belong to
    /// the profile asked about.
    pub fn merge_rows(&mut self, across_sides: bool) {
        let width = self.sample_types.len();
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
