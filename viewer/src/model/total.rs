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
    /// The value that percentages refer to.
    pub fn hundred_percent(&self, column: usize, base: BaseUse) -> i128 {
        let sum = |wanted: Option<Side>| {
            (0..self.row_count())
                .filter(|&row| wanted.is_none_or(|side| side == self.side(row)))
                .fold(0i128, |sum, row| {
                    sum.saturating_add(i128::from(self.values(row)[column]).abs())
                })
        };
        match base {
            BaseUse::None => sum(None),
            BaseUse::Compare => match sum(Some(Side::Base)) {
                0 => sum(None),
                base => base,
            },
            BaseUse::Subtract => self.net_size(column),
        }
    }

    /// Sum of the sizes of all changes, row by row: equal stacks with equal labels cancel.
    fn net_size(&self, column: usize) -> i128 {
        let mut changes = vec![0i128; self.row_count()];
        for (row, first) in self.groups(true).into_iter().enumerate() {
            let change = &mut changes[first as usize];
            let value = i128::from(self.values(row)[column]);
            *change = match self.side(row) {
                Side::New => change.saturating_add(value),
                Side::Base => change.saturating_sub(value),
            };
        }
        changes.into_iter().fold(0i128, |sum, change| sum.saturating_add(change.saturating_abs()))
    }
}
