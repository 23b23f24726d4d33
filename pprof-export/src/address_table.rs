//! Which location an address already has, as rows have its id: open addressing, linear probing, no removal.
//!
//! Used by the writer. Growing is fallible, so that a process at its memory limit gets a failed dump
//! and not an abort.

use crate::wire::write_varint;
use alloc::vec::Vec;

/// Memory is used up.
#[derive(Debug)]
pub struct OutOfMemory;

/// The id of a location as a varint of up to [`Encoded::BYTES`] bytes; that is enough for more locations than memory holds.
/// They are the lower bytes; the uppermost one is their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded(u64);

impl Encoded {
    /// Most bytes of an id.
    pub const BYTES: usize = 7;
    const FREE: Self = Self(0);

    fn new(id: u64) -> Result<Self, OutOfMemory> {
        if id >> (7 * Self::BYTES) != 0 {
            return Err(OutOfMemory);
        }
        let mut bytes = [0; 8];
        bytes[Self::BYTES] = write_varint(&mut bytes, id) as u8;
        Ok(Self(u64::from_le_bytes(bytes)))
    }

    /// Writes it to the front of `out`, and something without a meaning behind it: 8 bytes together. Returns its length.
    #[inline]
    pub fn write(self, out: &mut [u8; 8]) -> usize {
        *out = self.0.to_le_bytes();
        (self.0 >> (8 * Self::BYTES)) as usize
    }
}

#[derive(Clone, Copy)]
struct Slot {
    address: u64,
    id: Encoded,
}

/// Addresses with their location ids.
pub struct AddressTable {
    slots: Vec<Slot>,
    used: usize,
}

/// The lower bits depend on all bits of the address.
#[inline]
fn spread(address: u64) -> usize {
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

impl AddressTable {
    pub const fn new() -> Self {
        Self { slots: Vec::new(), used: 0 }
    }

    fn start(&self, address: u64) -> usize {
        spread(address) & (self.slots.len() - 1)
    }

    /// Writes the ids of `addresses`, as far as they have one, to the front of `out`, in which there are [`Encoded::BYTES`] for
    /// each and 8 more. Returns how many there were, and how many bytes that took.
    #[inline]
    pub fn write_known(&self, addresses: impl Iterator<Item = u64>, out: &mut [u8]) -> (usize, usize) {
        let (mut count, mut used) = (0, 0);
        let (Some(mask), Some(last)) = (self.slots.len().checked_sub(1), out.len().checked_sub(8)) else {
            return (0, 0);
        };
        for address in addresses {
            let slot = &self.slots[spread(address) & mask];
            let id = if slot.address == address && slot.id != Encoded::FREE {
                slot.id
            } else {
                // Not where it is looked for first.
                let Some(id) = self.get(address) else { break };
                id
            };
            if used > last {
                break;
            }
            let Some(next) = out[used..used + 8].first_chunk_mut() else { break };
            used += id.write(next);
            count += 1;
        }
        (count, used)
    }

    /// The id of `address`, if it has one.
    #[inline(never)]
    pub fn get(&self, address: u64) -> Option<Encoded> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = self.start(address);
        loop {
            // At most 3/4 of the slots are used, so the walk meets a free one.
            let slot = self.slots[at];
            if slot.id == Encoded::FREE {
                return None;
            }
            if slot.address == address {
                return Some(slot.id);
            }
            at = (at + 1) & mask;
        }
    }

    /// Gives `address`, which has none yet, the id `id`.
    pub fn insert(&mut self, address: u64, id: u64) -> Result<Encoded, OutOfMemory> {
        let id = Encoded::new(id)?;
        if self.used >= self.slots.len() / 4 * 3 {
            self.grow()?;
        }
        self.place(Slot { address, id });
        self.used += 1;
        Ok(id)
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = self.start(slot.address);
        while self.slots[at].id != Encoded::FREE {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) -> Result<(), OutOfMemory> {
        let size = if self.slots.is_empty() { 1024 } else { self.slots.len() * 2 };
        let mut slots = Vec::new();
        slots.try_reserve_exact(size).map_err(|_| OutOfMemory)?;
        slots.resize(size, Slot { address: 0, id: Encoded::FREE });
        let old = core::mem::replace(&mut self.slots, slots);
        for slot in old.into_iter().filter(|slot| slot.id != Encoded::FREE) {
            self.place(slot);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_varint;

    #[test]
    fn finds_what_was_put_in() {
        let mut table = AddressTable::new();
        let id_of = |table: &AddressTable, address| {
            let (id, mut out) = (table.get(address)?, [0; 8]);
            let length = id.write(&mut out);
            Some(out[..length].to_vec())
        };
        let varint = |id| {
            let mut out = Vec::new();
            put_varint(&mut out, id);
            Some(out)
        };
        assert_eq!(table.get(7), None);
        for id in 1..=40_000u64 {
            assert_eq!(table.get(id << 12), None);
            table.insert(id << 12, id).unwrap();
        }
        for id in 1..=40_000u64 {
            assert_eq!(id_of(&table, id << 12), varint(id));
        }
        assert_eq!(table.get(0), None);
        table.insert(0, 77).unwrap();
        assert_eq!(id_of(&table, 0), varint(77));
        table.insert(1, (1 << 49) - 1).unwrap();
        assert_eq!(id_of(&table, 1), varint((1 << 49) - 1));
        assert!(table.insert(2, 1 << 49).is_err());
    }
}
