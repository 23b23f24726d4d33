//! What 100 % is: pprof's rule for one profile, a difference, and a comparison.

use super::{Profile, Side};

/// How a base is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BaseUse {
    /// There is none.
    #[default]
    None,
    /// Subtracted (`--base`): 100 % is what is left, each stack counted by its size.
    Subtract,
    /// Compared with (`--diff-base`): 100 % is the base.
    Compare,
}

impl Profile {
    /// The value that percentages refer to; with a `divisor` column, the mean.
    pub fn hundred_percent(&self, column: usize, base: BaseUse, divisor: Option<usize>) -> i128 {
        let sum = |wanted: Option<Side>| {
            let of = |row: usize| {
                let divisor = divisor.map_or(0, |column| i128::from(self.values(row)[column]));
                let divisor = if self.side(row) == Side::Base { -divisor } else { divisor };
                (i128::from(self.values(row)[column]).abs(), divisor)
            };
            (0..self.row_count())
                .filter(|&row| wanted.is_none_or(|side| side == self.side(row)))
                .map(of)
                .fold((0i128, 0i128), |sum, row| (sum.0.saturating_add(row.0), sum.1.saturating_add(row.1)))
        };
        let (total, divisor) = match base {
            BaseUse::None if self.has_negative(column) => (self.net_size(column), sum(None).1),
            BaseUse::None => sum(None),
            BaseUse::Compare => match sum(Some(Side::Base)) {
                (0, _) => sum(None),
                base => base,
            },
            BaseUse::Subtract => (self.net_size(column), sum(None).1),
        };
        if divisor == 0 { total } else { total / divisor }
    }

    fn has_negative(&self, column: usize) -> bool {
        (0..self.row_count()).any(|row| self.values(row)[column] < 0)
    }

    /// Sum of the sizes of all changes, row by row: equal stacks with equal labels cancel.
    fn net_size(&self, column: usize) -> i128 {
        let groups = self.groups_as_read();
        let mut changes = vec![0i128; groups.iter().max().map_or(0, |&last| last as usize + 1)];
        for (row, &group) in groups.iter().enumerate() {
            let change = &mut changes[group as usize];
            let value = i128::from(self.values(row)[column]);
            *change = match self.side(row) {
                Side::New => change.saturating_add(value),
                Side::Base => change.saturating_sub(value),
            };
        }
        changes.into_iter().fold(0i128, |sum, change| sum.saturating_add(change.saturating_abs()))
    }

    /// Makes means of a file of the sums of several, on both sides.
    pub fn divide_by_files(&mut self) {
        let count = |side: Side| self.sources.iter().filter(|source| source.side == side).count().max(1) as i64;
        let (new, base) = (count(Side::New), count(Side::Base));
        if (new, base) == (1, 1) {
            return;
        }
        // Rounding row by row would lose what is small and in few files.
        self.merge_rows(false);
        let width = self.sample_types.len();
        for (row, values) in self.rows.iter().zip(self.values.chunks_exact_mut(width)) {
            let count = if row.side == Side::New { new } else { base };
            values.iter_mut().for_each(|value| *value = (*value as f64 / count as f64).round() as i64);
        }
    }

    /// Multiplies each column of the profile asked about so that its sum becomes that of the base.
    pub fn normalise(&mut self) {
        let width = self.sample_types.len();
        let mut sums = [vec![0i128; width], vec![0i128; width]];
        for row in 0..self.row_count() {
            let sum = &mut sums[usize::from(self.side(row) == Side::Base)];
            for (sum, &value) in sum.iter_mut().zip(self.values(row)) {
                *sum = sum.saturating_add(value.into());
            }
        }
        let [new, base] = sums;
        let scales: Vec<f64> = new
            .into_iter()
            .zip(base)
            .map(|(new, base)| if new == 0 { 0.0 } else { base as f64 / new as f64 })
            .collect();
        for (row, values) in self.rows.iter().zip(self.values.chunks_exact_mut(width)) {
            if row.side == Side::New {
                for (value, scale) in values.iter_mut().zip(&scales) {
                    *value = (*value as f64 * scale).round() as i64;
                }
            }
        }
        self.scales = scales;
        self.retain_rows(|profile, row| {
            let is_anything = profile.values(row).iter().any(|&value| value != 0);
            is_anything.then(|| 0..profile.stack(row).len())
        });
    }
}
