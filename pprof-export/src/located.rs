//! Stacks as rows have them: the ids of their locations, one stack after another; and the order in which rows with callers
//! in common stand together.
//!
//! [`crate::writer::Writer::locate`] adds stacks in any order (the one in which they are in memory is the quickest) and
//! [`Located::sort`] sorts what it made of them, which is an eighth of the addresses or less.

use crate::address_table::{Encoded, OutOfMemory};
use crate::wire::put_varint;
use crate::writer::{SinkError, VirtualFrame};
use alloc::vec::Vec;

/// Bytes that are looked at together.
const WORD: usize = 8;
/// Fewer stacks are compared byte by byte.
const FEW: usize = 12;
/// Bytes that are had at once, or what one stack needs. They are not moved any more, as those of one large vector were.
const CHUNK_BYTES: usize = 128 << 10;

/// The ids of a stack's locations, leaf first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ids<'a>(pub(crate) &'a [u8]);

impl<'a> Ids<'a> {
    /// None.
    pub const NONE: Self = Self(&[]);

    /// As a file has them.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// The ids of several stacks and virtual frames, put together leaf first.
#[derive(Debug, Default)]
pub struct JoinedIds(Vec<u8>);

impl JoinedIds {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Forgets all, but keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a stack, and virtual frames above it, the outermost last.
    ///
    /// # Errors
    /// Memory is used up.
    pub fn push(&mut self, Ids(ids): Ids<'_>, above: &[VirtualFrame]) -> Result<(), SinkError> {
        // A number takes at most 10 bytes.
        self.0.try_reserve(ids.len() + 10 * above.len()).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        self.0.extend_from_slice(ids);
        above.iter().for_each(|frame| put_varint(&mut self.0, frame.0));
        Ok(())
    }

    /// All of them.
    pub fn ids(&self) -> Ids<'_> {
        Ids(&self.0)
    }
}

/// A stack.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// What it differs in from others of its group while they are being sorted.
    key: u64,
    chunk: u32,
    start: u32,
    length: u32,
    number: u32,
}

/// Stacks with their ids.
#[derive(Debug, Default)]
pub struct Located {
    chunks: Vec<Vec<u8>>,
    /// Bytes of the last chunk that are used.
    used: usize,
    stacks: Vec<Entry>,
}

impl Located {
    /// None.
    pub const fn new() -> Self {
        Self { chunks: Vec::new(), used: 0, stacks: Vec::new() }
    }

    /// Makes room for so many stacks.
    ///
    /// # Errors
    /// Memory is used up.
    pub fn reserve(&mut self, stacks: usize) -> Result<(), SinkError> {
        self.stacks.try_reserve_exact(stacks).map_err(|_| SinkError::OUT_OF_MEMORY)
    }

    /// Forgets all, but keeps the memory of one chunk.
    pub(crate) fn clear(&mut self) {
        self.chunks.truncate(1);
        self.stacks.clear();
        self.used = 0;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// The stack of a place: its number, and its ids.
    ///
    /// # Panics
    /// There is none.
    #[inline]
    pub fn get(&self, at: usize) -> (u32, Ids<'_>) {
        let entry = &self.stacks[at];
        (entry.number, Ids(bytes(&self.chunks, entry)))
    }

    /// Room for the ids of a stack of so many frames. [`Located::add`] says how much of it has been used.
    pub(crate) fn room(&mut self, frames: usize) -> Result<&mut [u8], OutOfMemory> {
        // The last id is followed by a byte without a meaning.
        let needed = frames * Encoded::BYTES + WORD;
        if self.chunks.last().is_none_or(|last| last.len() - self.used < needed) {
            let size = needed.max(CHUNK_BYTES);
            self.chunks.try_reserve(1).map_err(|_| OutOfMemory)?;
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(size).map_err(|_| OutOfMemory)?;
            chunk.resize(size, 0);
            self.chunks.push(chunk);
            self.used = 0;
        }
        self.chunks.last_mut().map(|last| &mut last[self.used..]).ok_or(OutOfMemory)
    }

    /// The first `length` bytes of the room are the ids of stack `number`.
    pub(crate) fn add(&mut self, length: usize, number: u32) -> Result<(), OutOfMemory> {
        self.stacks.try_reserve(1).map_err(|_| OutOfMemory)?;
        let word = |size: usize| u32::try_from(size).map_err(|_| OutOfMemory);
        let (chunk, start) = (word(self.chunks.len() - 1)?, word(self.used)?);
        self.stacks.push(Entry { key: 0, chunk, start, length: word(length)?, number });
        self.used += length;
        Ok(())
    }

    /// Sorts the stacks, root first; those of the same locations by number.
    pub fn sort(&mut self) {
        sort_from(&self.chunks, &mut self.stacks, 0);
    }
}

#[inline]
fn bytes<'a>(chunks: &'a [Vec<u8>], entry: &Entry) -> &'a [u8] {
    &chunks[entry.chunk as usize][entry.start as usize..][..entry.length as usize]
}

/// What comes before the last `depth` bytes: those of the frames that are nearer to the leaf.
#[inline]
fn rest<'a>(chunks: &'a [Vec<u8>], entry: &Entry, depth: usize) -> &'a [u8] {
    let all = bytes(chunks, entry);
    &all[..all.len().saturating_sub(depth)]
}

/// The last bytes as a number, the very last one first; zeros, which no id has, stand for those that are not there.
#[inline]
fn key(rest: &[u8]) -> u64 {
    if let Some(last) = rest.last_chunk::<WORD>() {
        return u64::from_le_bytes(*last);
    }
    let mut word = [0; WORD];
    word[WORD - rest.len()..].copy_from_slice(rest);
    u64::from_le_bytes(word)
}

/// Sorts stacks that agree in their last `depth` bytes.
fn sort_from(chunks: &[Vec<u8>], mut group: &mut [Entry], mut depth: usize) {
    loop {
        if group.len() <= FEW {
            group.sort_unstable_by(|a, b| {
                let (a_rest, b_rest) = (rest(chunks, a, depth), rest(chunks, b, depth));
                a_rest.iter().rev().cmp(b_rest.iter().rev()).then(a.number.cmp(&b.number))
            });
            return;
        }
        let first = key(rest(chunks, &group[0], depth));
        let mut differences = 0;
        for entry in group.iter_mut() {
            entry.key = key(rest(chunks, entry, depth));
            differences |= entry.key ^ first;
        }
        depth += WORD;
        if differences != 0 {
            group.sort_unstable_by_key(|entry| entry.key);
            group = sort_all_but_largest(chunks, group, depth);
        } else if ends(first) {
            group.sort_unstable_by_key(|entry| entry.number);
            return;
        }
    }
}

/// Whether nothing follows a key.
fn ends(key: u64) -> bool {
    key as u8 == 0
}

/// Sorts the groups of the same key but for the largest, which is returned: so the calls in one another are no more than
/// the number of times that the group can be halved.
fn sort_all_but_largest<'a>(chunks: &[Vec<u8>], sorted: &'a mut [Entry], depth: usize) -> &'a mut [Entry] {
    let same = |a: &Entry, b: &Entry| a.key == b.key;
    let (mut at, mut largest) = (0, 0..0);
    for of_key in sorted.chunk_by(same) {
        let all = at..at + of_key.len();
        at = all.end;
        if all.len() > largest.len() {
            largest = all;
        }
    }
    let (before, others) = sorted.split_at_mut(largest.start);
    let (group, after) = others.split_at_mut(largest.len());
    for side in [before, after] {
        for of_key in side.chunk_by_mut(same) {
            if of_key.len() > 1 {
                sort_from(chunks, of_key, depth);
            }
        }
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::write_varint;

    fn random(state: &mut u64, below: u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % below
    }

    #[test]
    fn stacks_are_sorted_root_first() {
        let mut state = 1;
        for (count, depth, ids) in [
            (0, 5, 3),
            (1, 5, 3),
            (5, 12, 3),
            (13, 12, 3),
            (300, 3, 3),
            (5000, 12, 2),
            (5000, 60, 2),
            (3000, 9, 400),
            (20_000, 4, 70_000),
            (100, 700, 1),
        ] {
            let (mut located, mut whole) = (Located::new(), Vec::new());
            for number in 0..count {
                let stack: Vec<u64> = (0..random(&mut state, depth + 1)).map(|_| 1 + random(&mut state, ids)).collect();
                let room = located.room(stack.len()).unwrap();
                let mut length = 0;
                stack.iter().for_each(|&id| length += write_varint(&mut room[length..], id));
                let mut root_first = room[..length].to_vec();
                root_first.reverse();
                located.add(length, number).unwrap();
                whole.push((root_first, number));
            }
            located.sort();
            whole.sort();
            let sorted = (0..located.len()).map(|at| {
                let (number, Ids(ids)) = located.get(at);
                (ids.iter().rev().copied().collect::<Vec<u8>>(), number)
            });
            assert!(sorted.eq(whole), "{count} {depth} {ids}");
        }
    }
}
