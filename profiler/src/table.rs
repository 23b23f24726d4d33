//! Memory for the profiler's tables: mapped from the OS directly, in place for ever, touched as it fills.

use alloc_core::sys;

use crate::ranges::Ranges;

/// Most arrays that are known by [`reserved`]: more than there are tables.
const RESERVED_MAX: usize = 256;
/// Where arrays are. Without room, one counts as memory of others.
pub(crate) static RESERVED: Ranges<RESERVED_MAX> = Ranges::new();

/// The address ranges of all arrays, and of what else is in there.
pub fn reserved() -> impl Iterator<Item = (usize, usize)> {
    RESERVED.iter().map(|(start, bytes)| (start, start + bytes))
}

/// A fixed array of `T` whose elements start out as zeros. Reserved whole, so that it never moves.
#[derive(Debug)]
pub struct Array<T> {
    start: *mut T,
    length: usize,
    /// Whether it is a part of another one, whose memory it uses.
    is_part: bool,
}

// SAFETY: the array owns its memory.
unsafe impl<T: Send> Send for Array<T> {}
// SAFETY: shared access only reads.
unsafe impl<T: Sync> Sync for Array<T> {}

/// Types for which all-zero bytes are a value.
///
/// # Safety
/// Zero bytes are a valid value, and dropping does nothing.
pub unsafe trait Zeroed {}
// SAFETY: integers.
unsafe impl Zeroed for u32 {}
// SAFETY: integers.
unsafe impl Zeroed for u64 {}
// SAFETY: integers.
unsafe impl Zeroed for usize {}

impl<T: Zeroed> Array<T> {
    /// No elements yet.
    pub const fn new() -> Self {
        Array { start: core::ptr::null_mut(), length: 0, is_part: false }
    }

    /// An array of some elements of a larger one, at `start`, for as long as the process lives.
    ///
    /// # Safety
    /// Nobody else uses these elements, and they stay mapped. They are zeros, or values.
    pub unsafe fn part(start: *mut T, length: usize) -> Self {
        Array { start, length, is_part: true }
    }

    /// Where the elements are.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.start
    }

    /// Reserves room for `length` elements. `false`: no memory.
    pub fn reserve(&mut self, length: usize) -> bool {
        const HUGE_PAGE: usize = 2 << 20;
        let bytes = length * core::mem::size_of::<T>();
        match sys::map(bytes, true) {
            Ok(address) => {
                if bytes >= HUGE_PAGE {
                    // Tables that are mostly empty must not be backed by whole huge pages.
                    // SAFETY: fresh memory of our own; the advice doesn't change its contents.
                    let _ = unsafe { sys::advise(address, bytes, sys::Advice::NoHugePage) };
                }
                RESERVED.add(address, bytes);
                self.start = core::ptr::with_exposed_provenance_mut(address);
                self.length = length;
                self.is_part = false;
                true
            }
            Err(_) => false,
        }
    }

    /// Gives the memory back, unless it is another one's.
    pub fn release(&mut self) {
        if core::mem::take(&mut self.is_part) {
            *self = Array::new();
        }
        if self.length > 0 {
            RESERVED.remove(self.start.addr());
            // SAFETY: mapped by `reserve`; the array forgets it.
            let _ = unsafe { sys::unmap(self.start.addr(), self.length * core::mem::size_of::<T>()) };
            *self = Array::new();
        }
    }

    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: mapped for the life of the array, zeros are values.
        unsafe { core::slice::from_raw_parts(self.start, self.length) }
    }

    /// The elements, to change.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        if self.length == 0 {
            return &mut [];
        }
        // SAFETY: as above, and borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.length) }
    }

    /// Writes elements from number `at` on. Nothing else is touched, so that finished elements may be read meanwhile.
    pub fn place(&mut self, at: usize, items: &[T])
    where
        T: Copy,
    {
        assert!(at <= self.length && items.len() <= self.length - at);
        // SAFETY: inside of the array; `items` is borrowed, and the array's owner isn't.
        unsafe { self.start.add(at).copy_from_nonoverlapping(items.as_ptr(), items.len()) };
    }
}

impl<T: Zeroed> Default for Array<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks for the memory of an item, of which something will be read soon.
#[inline]
pub fn prefetch<T>(item: *const T) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: nothing is read, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(item.cast()) };
}

/// A hash that spreads well in its upper bits.
pub fn hash(value: u64) -> u64 {
    let z = (value ^ value >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (z ^ z >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

const INDEX_LEN_MIN: usize = 1024;
/// Entries that each insertion brings over from the smaller table.
const MOVES: u32 = 8;

/// Finds numbered entries by hash. Numbers count from 1 in the order of insertion, and stay.
///
/// It grows by doubling, and brings the entries over a few at a time, so that no insertion takes long.
#[derive(Debug)]
pub struct Index {
    now: Array<u32>,
    /// The table before the last doubling, while entries are being brought over.
    before: Array<u32>,
    /// Entries with smaller numbers are in `now`.
    moved: u32,
    /// Entries with smaller numbers are in `before`, while it is there.
    limit: u32,
    used: u32,
}

impl Index {
    /// Empty, without memory.
    pub const fn new() -> Self {
        Index { now: Array::new(), before: Array::new(), moved: 1, limit: 1, used: 0 }
    }

    /// The number of the entry of `hash` for which `is_it` says yes.
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        [&self.now, &self.before].into_iter().find_map(|table| {
            let table = table.as_slice();
            let mut at = start(hash, table.len());
            loop {
                // Half of a table is free, so the walk meets a zero.
                match *table.get(at)? {
                    0 => return None,
                    id if is_it(id) => return Some(id),
                    _ => at = (at + 1) & (table.len() - 1),
                }
            }
        })
    }

    /// Adds the entry `id`, the next number; `hash_of` tells the hash of any entry. `false`: no memory.
    pub fn insert(&mut self, id: u32, hash_of: impl Fn(u32) -> u64) -> bool {
        if (self.used as usize + 1) * 2 > self.now.as_slice().len() && !self.grow(id) {
            return false;
        }
        place(&mut self.now, hash_of(id), id);
        self.used += 1;
        for _ in 0..MOVES {
            if self.moved >= self.limit {
                self.before.release();
                break;
            }
            place(&mut self.now, hash_of(self.moved), self.moved);
            self.moved += 1;
        }
        true
    }

    fn grow(&mut self, next: u32) -> bool {
        // The last doubling is long done: that takes an eighth of the insertions between two doublings.
        debug_assert!(self.moved >= self.limit);
        let mut larger = Array::new();
        if !larger.reserve((self.now.as_slice().len() * 2).max(INDEX_LEN_MIN)) {
            return false;
        }
        self.before.release();
        self.before = core::mem::replace(&mut self.now, larger);
        self.moved = 1;
        self.limit = next;
        true
    }

    /// Forgets all entries, and gives the memory back.
    pub fn clear(&mut self) {
        self.now.release();
        self.before.release();
        *self = Index::new();
    }

    /// Makes the index anew for the entries below `end`: the child of a fork may have found it half changed.
    pub fn rebuild(&mut self, end: u32, hash_of: impl Fn(u32) -> u64) {
        // The tables themselves may be half replaced: their memory is given up.
        *self = Index::new();
        for id in 1..end {
            if !self.insert(id, &hash_of) {
                break;
            }
        }
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

fn start(hash: u64, length: usize) -> usize {
    (hash >> 32) as usize & length.wrapping_sub(1)
}

fn place(table: &mut Array<u32>, hash: u64, id: u32) {
    let table = table.as_mut_slice();
    let mask = table.len() - 1;
    let mut at = start(hash, table.len());
    while table[at] != 0 {
        at = (at + 1) & mask;
    }
    table[at] = id;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_grows() {
        let mut index = Index::new();
        let hash_of = |id: u32| hash(u64::from(id) * 77);
        for id in 1..=100_000u32 {
            assert!(index.insert(id, hash_of));
            // One from each age: in the larger table, in the smaller one, not there at all.
            for known in [1, id / 2 + 1, id] {
                assert_eq!(index.find(hash_of(known), |found| found == known), Some(known));
            }
            assert_eq!(index.find(hash_of(id + 1), |found| found == id + 1), None);
        }
        index.rebuild(50_000, hash_of);
        assert_eq!(index.find(hash_of(49_999), |found| found == 49_999), Some(49_999));
        assert_eq!(index.find(hash_of(50_000), |found| found == 50_000), None);
        index.clear();
        assert_eq!(index.find(hash_of(1), |_| true), None);
        assert!(index.insert(1, hash_of) && index.find(hash_of(1), |found| found == 1).is_some());
    }
}
