//! Rows, from bytes to [`Rows`]: whether what they refer to is known already or not.

use super::cursor::{Cursor, Field, Value};
use super::decode::Budget;
use super::{Error, Positions, Rows, check};
use crate::schema::Label;
use alloc::format;

/// What rows may refer to.
pub trait References {
    /// What stands for a location in the list of frames; `None` if there is no such location.
    fn location(&mut self, id: u64) -> Option<u32>;

    /// Checks a row's label.
    ///
    /// # Errors
    /// It refers to text that is not there.
    fn label(&mut self, row: usize, label: &Label) -> Result<(), Error>;
}

/// The tables of a message that has been read.
pub struct Known<'a> {
    pub locations: &'a Positions,
    /// Number of strings.
    pub strings: usize,
}

impl References for Known<'_> {
    #[inline]
    fn location(&mut self, id: u64) -> Option<u32> {
        self.locations.get(id).map(|position| position as u32)
    }

    fn label(&mut self, row: usize, label: &Label) -> Result<(), Error> {
        check::label(self.strings, row, label)
    }
}

/// Bytes that a row takes without its frames and labels.
pub fn fixed_bytes(width: usize) -> usize {
    size_of::<(u32, u32)>() + width * size_of::<i64>()
}

/// Reads one row after the other.
pub struct RowReader<'l, R> {
    pub budget: Budget<'l>,
    pub references: R,
    /// What stands for the location that a cut stack ends with.
    cut: u32,
    pub rows: Rows,
    /// Whether any stack was cut.
    pub is_cut: bool,
}

impl<'l, R: References> RowReader<'l, R> {
    pub fn new(budget: Budget<'l>, references: R, cut: u32, width: usize) -> Self {
        Self { budget, references, cut, rows: Rows { width, ..Rows::default() }, is_cut: false }
    }

    /// Reads a row. What it takes without its frames and labels, the caller has counted.
    pub fn row(&mut self, mut cursor: Cursor<'_>) -> Result<(), Error> {
        let at = cursor.offset();
        let row = self.rows.ends.len();
        let (frames, labels) = (self.rows.frames.len(), self.rows.labels.len());
        let mut is_cut = false;
        while let Some(field) = cursor.next("sample")? {
            match field.number {
                1 => is_cut |= self.frames(&field, frames)?,
                2 => self.values(&field, row)?,
                3 => {
                    if self.rows.labels.len() - labels >= self.budget.limits.labels {
                        let limit = self.budget.limits.labels as u64;
                        let (what, flag) = ("labels in a sample", "labels");
                        return Err(Error::Limit { what, flag, limit, offset: field.offset });
                    }
                    let label = label(field.bytes("sample.label")?)?;
                    self.references.label(row, &label)?;
                    self.budget.push(&mut self.rows.labels, label, field.offset)?;
                }
                _ => {}
            }
        }
        let values = self.rows.values.len() - row * self.rows.width;
        if values != self.rows.width {
            return Err(self.wrong_width(row, values));
        }
        if is_cut {
            self.rows.frames.push(self.cut);
            self.is_cut = true;
        }
        let limit = u64::from(u32::MAX);
        self.rows.end_row().ok_or(Error::Limit { what: "frames", flag: "samples", limit, offset: at })
    }

    fn wrong_width(&self, row: usize, values: usize) -> Error {
        let reason = format!("has {values} values for {} sample types", self.rows.width);
        check::invalid("sample", row, reason)
    }

    /// Locations of a row, packed or single, as far as stacks are kept. Returns whether some were left out.
    #[inline]
    fn frames(&mut self, field: &Field<'_>, from: usize) -> Result<bool, Error> {
        const NAME: &str = "sample.location_id";
        let (row, room) = (self.rows.ends.len(), self.budget.limits.depth - (self.rows.frames.len() - from));
        let Self { budget, references, rows, .. } = self;
        let mut position = |id: u64| references.location(id).ok_or_else(|| no_location(row, id));
        let mut packed = match field.value {
            Value::Int(id) => {
                let position = position(id)?;
                if room > 0 {
                    budget.push(&mut rows.frames, position, field.offset)?;
                }
                return Ok(room == 0);
            }
            Value::Bytes(packed) => packed,
            Value::Fixed => return Err(field.wrong_type(NAME)),
        };
        // Each integer ends with a byte below 0x80.
        let there = packed.bytes.iter().filter(|&&byte| byte < 0x80).count();
        budget.charge(there.min(room) * size_of::<u32>(), field.offset)?;
        rows.frames.reserve(there.min(room));
        for _ in 0..there.min(room) {
            rows.frames.push(position(packed.long_varint(NAME)?)?);
        }
        // What is cut, and a last integer without an end, is looked at nevertheless.
        while !packed.bytes.is_empty() {
            position(packed.long_varint(NAME)?)?;
        }
        Ok(there > room)
    }

    /// Values of a row, packed or single; what they need was counted when the rows were.
    #[inline]
    fn values(&mut self, field: &Field<'_>, row: usize) -> Result<(), Error> {
        const NAME: &str = "sample.value";
        let most = (row + 1) * self.rows.width;
        let mut packed = match field.value {
            Value::Int(value) if self.rows.values.len() < most => {
                self.rows.values.push(value as i64);
                return Ok(());
            }
            Value::Int(_) => return Err(self.wrong_width(row, self.rows.width + 1)),
            Value::Bytes(packed) => packed,
            Value::Fixed => return Err(field.wrong_type(NAME)),
        };
        while !packed.bytes.is_empty() {
            let value = packed.varint(NAME)?;
            if self.rows.values.len() == most {
                let more = 1 + packed.bytes.iter().filter(|&&byte| byte < 0x80).count();
                return Err(self.wrong_width(row, self.rows.width + more));
            }
            self.rows.values.push(value as i64);
        }
        Ok(())
    }
}

#[cold]
fn no_location(row: usize, id: u64) -> Error {
    check::invalid("sample", row, format!("refers to location {id}, which does not exist"))
}

fn label(mut cursor: Cursor<'_>) -> Result<Label, Error> {
    let mut item = Label::default();
    while let Some(field) = cursor.next("sample.label")? {
        match field.number {
            1 => item.key = field.int("label.key")?,
            2 => item.str = field.int("label.str")?,
            3 => item.num = field.int("label.num")?,
            4 => item.num_unit = field.int("label.num_unit")?,
            _ => {}
        }
    }
    Ok(item)
}
