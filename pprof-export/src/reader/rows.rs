//! The rows of a message in long lists, one list per kind of thing, instead of three small ones per row.
//!
//! A profile of a million samples has a hundred million bytes of rows and little else. Kept as
//! [`schema::Sample`](crate::schema::Sample)s they would be three million allocations of several times that
//! size; here a frame takes four bytes and a row eight.

use crate::schema::{Label, Profile, Sample};
use alloc::vec::Vec;
use std::collections::HashMap;

/// Rows, each with a stack, a value per sample type, and labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    pub(super) width: usize,
    /// End of each row's part of `frames` and of `labels`.
    pub(super) ends: Vec<(u32, u32)>,
    pub(super) frames: Vec<u32>,
    pub(super) labels: Vec<Label>,
    pub(super) values: Vec<i64>,
}

/// The lists that rows are made of, to be taken over as they are.
#[derive(Debug)]
pub struct Parts {
    /// End of each row's part of the frames and of the labels.
    pub ends: Vec<(u32, u32)>,
    /// Positions in the message's table of locations, row after row, leaf first.
    pub frames: Vec<u32>,
    /// Labels, row after row.
    pub labels: Vec<Label>,
    /// Values, as many for each row as there are sample types.
    pub values: Vec<i64>,
}

impl Rows {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many have more frames than `depth`. Where that is the limit, these were cut: a frame stands for the rest.
    pub fn deeper_than(&self, depth: usize) -> usize {
        let starts = core::iter::once(0).chain(self.ends.iter().map(|&(end, _)| end));
        starts.zip(&self.ends).filter(|&(start, &(end, _))| (end - start) as usize > depth).count()
    }

    /// How much memory they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.ends.len() * size_of::<(u32, u32)>()
            + self.frames.len() * size_of::<u32>()
            + self.labels.len() * size_of::<Label>()
            + self.values.len() * size_of::<i64>()
    }

    /// Takes the samples out of a message. `None` if one of them refers to a location that is not there, has
    /// another number of values than there are sample types, or there are more than four thousand million frames.
    pub fn take(message: &mut Profile) -> Option<Self> {
        let positions = Positions::new(message.location.iter().map(|location| location.id));
        let mut rows = Self { width: message.sample_type.len(), ..Self::default() };
        for sample in core::mem::take(&mut message.sample) {
            if sample.value.len() != rows.width {
                return None;
            }
            for id in sample.location_id {
                rows.frames.push(u32::try_from(positions.get(id)?).ok()?);
            }
            rows.values.extend(sample.value);
            rows.labels.extend(sample.label);
            rows.end_row()?;
        }
        Some(rows)
    }

    /// Gives the rows back to the message that they came from.
    pub fn put_back(self, message: &mut Profile) {
        let (mut frame, mut label) = (0, 0);
        message.sample.reserve(self.ends.len());
        for (row, &(frames_end, labels_end)) in self.ends.iter().enumerate() {
            let frames = &self.frames[frame..frames_end as usize];
            message.sample.push(Sample {
                location_id: frames.iter().map(|&at| message.location[at as usize].id).collect(),
                value: self.values[row * self.width..(row + 1) * self.width].to_vec(),
                label: self.labels[label..labels_end as usize].to_vec(),
            });
            (frame, label) = (frames_end as usize, labels_end as usize);
        }
    }

    /// The lists themselves.
    pub fn into_parts(self) -> Parts {
        let Self { ends, frames, labels, values, .. } = self;
        Parts { ends, frames, labels, values }
    }

    pub(super) fn end_row(&mut self) -> Option<()> {
        self.ends.push((u32::try_from(self.frames.len()).ok()?, u32::try_from(self.labels.len()).ok()?));
        Some(())
    }
}

/// Where in its table the entry with an id stands. Ids are dense from 1 as a rule, and then nothing is kept but
/// their number.
#[derive(Debug, Default)]
pub struct Positions {
    dense: u64,
    others: HashMap<u64, usize>,
}

impl Positions {
    /// The positions of these ids; of an id that comes twice, the first.
    pub fn new(ids: impl Iterator<Item = u64>) -> Self {
        let mut known = Self::default();
        for (position, id) in ids.enumerate() {
            known.insert(id, position);
        }
        known
    }

    /// Adds the id at `position`, one after the other. `false`: it was there already.
    pub(super) fn insert(&mut self, id: u64, position: usize) -> bool {
        if id == self.dense + 1 && position as u64 == self.dense && self.others.is_empty() {
            self.dense = id;
            return true;
        }
        if self.get(id).is_some() {
            return false;
        }
        self.others.insert(id, position);
        true
    }

    /// Up to which id, from 1, each stands at the place of its number.
    pub(super) fn dense(&self) -> u64 {
        self.dense
    }

    /// The position of an id.
    #[inline]
    pub fn get(&self, id: u64) -> Option<usize> {
        let position = id.wrapping_sub(1);
        if position < self.dense {
            return usize::try_from(position).ok();
        }
        if self.others.is_empty() { None } else { self.others.get(&id).copied() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Location, ValueType};
    use alloc::vec;

    #[test]
    fn positions_of_dense_and_other_ids() {
        let dense = Positions::new(1..=1000);
        assert_eq!((dense.get(1), dense.get(1000), dense.get(0), dense.get(1001)), (Some(0), Some(999), None, None));
        assert!(dense.others.is_empty());
        let mixed = Positions::new([1, 2, 7, 3, u64::MAX].into_iter());
        assert_eq!(
            [1, 2, 7, 3, u64::MAX, 4].map(|id| mixed.get(id)),
            [Some(0), Some(1), Some(2), Some(3), Some(4), None]
        );
    }

    #[test]
    fn samples_become_rows_and_samples_again() {
        let sample = |ids: &[u64], value: i64| Sample {
            location_id: ids.to_vec(),
            value: vec![value, 2 * value],
            label: vec![Label { key: 1, num: value, num_unit: 0, str: 0 }],
        };
        let mut message = Profile {
            sample_type: vec![ValueType::default(); 2],
            location: [5, 9, 1].map(|id| Location { id, ..Location::default() }).to_vec(),
            sample: vec![sample(&[9, 5], 1), sample(&[], 2), sample(&[1, 1, 5], 3)],
            ..Profile::default()
        };
        let whole = message.clone();
        let rows = Rows::take(&mut message).unwrap();
        assert_eq!((rows.len(), rows.frames.as_slice()), (3, &[1, 0, 2, 2, 0][..]));
        assert!(message.sample.is_empty());
        rows.put_back(&mut message);
        assert_eq!(message, whole);
        message.sample[1].location_id.push(77);
        assert_eq!(Rows::take(&mut message), None);
    }
}
