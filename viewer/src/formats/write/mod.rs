//! Files out: a profile in the formats of other programs, one module each.
//!
//! What a module is given is the profile as the reports see it: filtered, with names where there are
//! some. Each returns the bytes of a whole file, the same for the same profile. Text goes out through
//! [`crate::escape`], each format by its own function.

pub mod callgrind;
pub mod csv;
pub mod dot;
pub mod firefox;
mod frames;
pub mod message;
pub mod speedscope;

use crate::measure::counted;
use crate::model::{Profile, Side};

/// All rows with what they add to a column's sums, those of nothing left out.
fn rows(profile: &Profile, column: usize) -> impl Iterator<Item = (usize, i64)> {
    (0..profile.row_count())
        .map(move |row| (row, signed(profile, row, profile.values(row)[column])))
        .filter(|&(_, value)| value != 0)
}

/// A value of a row as it counts in a difference: what the base has is taken off.
pub(crate) fn signed(profile: &Profile, row: usize, value: i64) -> i64 {
    if profile.side(row) == Side::Base { value.saturating_neg() } else { value }
}

/// What to do with sums below zero in a format that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negative {
    /// They are left out.
    Dropped,
    /// The profile is refused.
    Refused,
}

impl Negative {
    /// Whether a file can be written without so many sums of a kind.
    ///
    /// # Errors
    /// Says why not, and what to do.
    fn check(self, format: &str, count: usize, what: &str) -> Result<(), String> {
        if self == Self::Dropped || count == 0 {
            return Ok(());
        }
        Err(format!(
            "{format} has nothing below zero, and {} shrank: --drop-negative leaves out what did, and \
             pprof, dot, firefox, csv, folded and text have room for it",
            counted(count, what)
        ))
    }
}

/// The program that a profile is of, as far as it is known.
fn program(profile: &Profile) -> &str {
    profile
        .mappings
        .first()
        .map(|mapping| profile.mapping_name(mapping))
        .filter(|name| !name.is_empty())
        .unwrap_or("heap profile")
}
