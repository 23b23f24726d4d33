//! The stack of the row that was written last, with its location ids as they stand in a file: sorted rows share most of
//! their frames with the one before, and only those that differ are looked up and encoded anew.

use crate::address_table::OutOfMemory;
use crate::wire::{varint_len, write_varint};
use alloc::vec::Vec;

/// Most bytes of an id.
const ID_BYTES: usize = 10;
/// Bytes to begin with.
const FIRST_BYTES: usize = 512;

/// A stack, root first.
pub struct Trail {
    /// Each frame's address, and how many bytes the ids from the root up to it take.
    frames: Vec<(u64, u32)>,
    /// The ids, leaf first as files have them: a frame that is added comes in front. The last `used` bytes count.
    bytes: Vec<u8>,
    used: usize,
}

impl Trail {
    /// No frame.
    pub const fn new() -> Self {
        Self { frames: Vec::new(), bytes: Vec::new(), used: 0 }
    }

    /// Leaves out all frames but those which `stack`, leaf first, has in common with this one, from the root on. Returns
    /// how many are left. There is room for the others afterwards.
    pub fn keep_common(&mut self, stack: &[u64]) -> Result<usize, OutOfMemory> {
        let common = stack.iter().rev().zip(&self.frames).take_while(|&(&address, &(known, _))| address == known);
        let common = common.count();
        self.frames.truncate(common);
        self.used = self.frames.last().map_or(0, |&(_, used)| used as usize);
        let more = stack.len() - common;
        self.frames.try_reserve(more).map_err(|_| OutOfMemory)?;
        let needed = self.used + more * ID_BYTES;
        if needed > self.bytes.len() {
            self.grow(needed)?;
        }
        Ok(common)
    }

    #[cold]
    fn grow(&mut self, needed: usize) -> Result<(), OutOfMemory> {
        let size = needed.next_power_of_two().max(FIRST_BYTES);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| OutOfMemory)?;
        bytes.resize(size, 0);
        bytes[size - self.used..].copy_from_slice(self.ids());
        self.bytes = bytes;
        Ok(())
    }

    /// Adds the frame above the last one. [`Trail::keep_common`] has made room for it.
    #[inline]
    pub fn push(&mut self, address: u64, id: u64) {
        self.used += varint_len(id);
        let start = self.bytes.len() - self.used;
        write_varint(&mut self.bytes[start..], id);
        self.frames.push((address, self.used as u32));
    }

    /// The ids of all frames, leaf first, as varints.
    #[inline]
    pub fn ids(&self) -> &[u8] {
        &self.bytes[self.bytes.len() - self.used..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_varint;

    #[test]
    fn ids_are_those_of_the_last_stack() {
        let mut trail = Trail::new();
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let id_of = |address: u64| 1u64 << (address % 40);
        let mut stack: Vec<u64> = Vec::new();
        for _ in 0..2000 {
            // Leaf first: what changes is in front.
            let (gone, added) = (random(stack.len() as u64 + 1) as usize, random(60) as usize);
            stack.drain(..gone);
            (0..added).for_each(|_| stack.insert(0, random(1000)));
            stack.truncate(300);
            let common = trail.keep_common(&stack).ok().unwrap();
            for &address in stack[..stack.len() - common].iter().rev() {
                trail.push(address, id_of(address));
            }
            let mut expected = Vec::new();
            stack.iter().for_each(|&address| put_varint(&mut expected, id_of(address)));
            assert_eq!(trail.ids(), expected);
        }
        assert_eq!((trail.keep_common(&[]).ok(), trail.ids()), (Some(0), &[][..]));
    }
}
