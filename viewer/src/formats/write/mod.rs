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

use crate::model::{Profile, Side};

/// Rows of the profile itself with what they hold in a column, those of nothing left out.
fn rows(profile: &Profile, column: usize) -> impl Iterator<Item = (usize, i64)> {
    (0..profile.row_count())
        .filter(|&row| profile.side(row) == Side::New)
        .map(move |row| (row, profile.values(row)[column]))
        .filter(|&(_, value)| value != 0)
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
