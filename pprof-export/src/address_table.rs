//! Which location an address already has: open addressing, linear probing, no removal.
//!
//! Used by the writer. Growing is fallible, so that a process at its memory limit gets a failed dump
//! and not an abort.

use alloc::vec::Vec;

/// Memory is used up.
#[derive(Debug)]
pub struct OutOfMemory;

#[derive(Clone, Copy)]
struct Slot {
    address: u64,
    /// 0 marks a free slot: ids start at 1.
    id: u64,
}

/// Addresses with their location ids.
pub struct AddressTable {
    slots: Vec<Slot>,
    used: usize,
}

impl AddressTable {
    pub const fn new() -> Self {
        Self {
            slots: Vec::new(),
            used: 0,
        }
    }

    fn start(&self, address: u64) -> usize {
        // The high bits of the product depend on all bits of the address.
        (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (self.slots.len() - 1)
    }

    /// The id of `address`, if it has one.
    pub fn get(&self, address: u64) -> Option<u64> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = self.start(address);
        loop {
            // At most 3/4 of the slots are used, so the walk meets a free one.
            let slot = self.slots[at];
            if slot.id == 0 {
                return None;
            }
            if slot.address == address {
                return Some(slot.id);
            }
            at = (at + 1) & mask;
        }
    }

    /// Gives `address`, which has none yet, the id `id` (not 0).
    pub fn insert(&mut self, address: u64, id: u64) -> Result<(), OutOfMemory> {
        if self.used >= self.slots.len() / 4 * 3 {
            self.grow()?;
        }
        self.place(Slot { address, id });
        self.used += 1;
        Ok(())
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = self.start(slot.address);
        while self.slots[at].id != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) -> Result<(), OutOfMemory> {
        let size = if self.slots.is_empty() {
            1024
        } else {
            self.slots.len() * 2
        };
        let mut slots = Vec::new();
        slots.try_reserve_exact(size).map_err(|_| OutOfMemory)?;
        slots.resize(size, Slot { address: 0, id: 0 });
        let old = core::mem::replace(&mut self.slots, slots);
        for slot in old.into_iter().filter(|slot| slot.id != 0) {
            self.place(slot);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put_in() {
        let mut table = AddressTable::new();
        assert_eq!(table.get(7), None);
        for id in 1..=10_000u64 {
            assert_eq!(table.get(id << 12), None);
            table.insert(id << 12, id).unwrap();
        }
        for id in 1..=10_000u64 {
            assert_eq!(table.get(id << 12), Some(id));
        }
        assert_eq!(table.get(0), None);
        table.insert(0, 77).unwrap();
        assert_eq!(table.get(0), Some(77));
    }
}
