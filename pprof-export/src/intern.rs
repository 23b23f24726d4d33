//! The string table of a dump being written: which index a text already has.
//!
//! A dump has few strings (paths, thread names, units), so they are kept whole, one after another in one
//! buffer. Growing is fallible, as in [`crate::address_table`].

use crate::address_table::OutOfMemory;
use alloc::vec::Vec;

/// Texts in the order of their first use; the empty one is index 0 and always there.
pub struct Strings {
    bytes: Vec<u8>,
    /// End of each text in `bytes`.
    ends: Vec<usize>,
    /// Hash slots: index + 1, 0 is free.
    slots: Vec<u32>,
    /// Texts that were asked for last, by their length and their first byte: index + 1. Rows have the same few labels.
    recent: [u32; RECENT],
}

/// Texts that are found without a look at the table.
const RECENT: usize = 32;

/// Where a text was found.
pub enum Interned {
    /// It has this index.
    Known(i64),
    /// It got this index just now and has to be written.
    New(i64),
}

impl Strings {
    /// A table that holds nothing yet; the first call of [`Self::intern`] should be for "".
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new(), slots: Vec::new(), recent: [0; RECENT] }
    }

    /// The place of a text among the recent ones.
    #[inline]
    fn place(text: &[u8]) -> usize {
        let first = text.first().copied().unwrap_or(0);
        (text.len() ^ usize::from(first)) % RECENT
    }

    /// The index of `text`, if it is one of those that were asked for last. What this finds has been in the table, and is
    /// what [`Self::intern`] took.
    #[inline]
    pub fn recent(&self, text: &[u8]) -> Option<i64> {
        let index = (self.recent[Self::place(text)] as usize).checked_sub(1)?;
        (self.text(index) == text).then_some(index as i64)
    }

    fn text(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// The index of `text`, given now if it has none.
    pub fn intern(&mut self, text: &[u8]) -> Result<Interned, OutOfMemory> {
        if self.ends.len() >= self.slots.len() / 4 * 3 {
            self.grow()?;
        }
        let mask = self.slots.len() - 1;
        let mut at = hash(text) & mask;
        // At most 3/4 of the slots are used, so the walk meets a free one.
        while self.slots[at] != 0 {
            let index = self.slots[at] as usize - 1;
            if self.text(index) == text {
                self.recent[Self::place(text)] = index as u32 + 1;
                return Ok(Interned::Known(index as i64));
            }
            at = (at + 1) & mask;
        }
        let slot = u32::try_from(self.ends.len() + 1).map_err(|_| OutOfMemory)?;
        self.bytes.try_reserve(text.len()).map_err(|_| OutOfMemory)?;
        self.ends.try_reserve(1).map_err(|_| OutOfMemory)?;
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
        self.slots[at] = slot;
        Ok(Interned::New(i64::from(slot) - 1))
    }

    fn grow(&mut self) -> Result<(), OutOfMemory> {
        let size = if self.slots.is_empty() { 128 } else { self.slots.len() * 2 };
        let mut slots = Vec::new();
        slots.try_reserve_exact(size).map_err(|_| OutOfMemory)?;
        slots.resize(size, 0);
        for index in 0..self.ends.len() {
            let mut at = hash(self.text(index)) & (size - 1);
            while slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            slots[at] = index as u32 + 1;
        }
        self.slots = slots;
        Ok(())
    }
}

/// FNV-1a, its halves folded together.
fn hash(text: &[u8]) -> usize {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &byte in text {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    (hash ^ hash >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn a_text_keeps_its_index() {
        let mut strings = Strings::new();
        assert!(matches!(strings.intern(b""), Ok(Interned::New(0))));
        for i in 1..1000i64 {
            let text = format!("thread-{i}");
            assert!(matches!(strings.intern(text.as_bytes()), Ok(Interned::New(n)) if n == i));
        }
        assert!(matches!(strings.intern(b"thread-500"), Ok(Interned::Known(500))));
        assert!(matches!(strings.intern(b""), Ok(Interned::Known(0))));
    }
}
