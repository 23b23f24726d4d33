//! Entries with numbers of their own, found by what they have in common with what is looked for. The profiler's tables of
//! buckets and of frees are made of it.

use crate::table::{Array, Index, Zeroed};

/// What entries are told apart by.
pub trait Key: Copy + PartialEq {
    /// A hash that spreads well in its upper bits.
    fn hash(&self) -> u64;
}

/// An entry of a table.
pub trait Entry: Zeroed {
    /// What it is found by.
    type Key: Key;

    /// The entry of something that is met for the first time.
    fn new(key: &Self::Key) -> Self;

    /// What it was made for.
    fn key(&self) -> &Self::Key;
}

/// The entries. They keep their place and their number; 0 is nobody's.
#[derive(Debug)]
pub struct Numbered<T> {
    entries: Array<T>,
    index: Index,
    /// The next entry; 0: no memory yet.
    next: usize,
}

impl<T: Entry> Numbered<T> {
    /// None, without memory.
    pub const fn new() -> Self {
        Numbered { entries: Array::new(), index: Index::new(), next: 0 }
    }

    /// The number of a key's entry, which is made if there is none, unless `limit` numbers are given, 0 among them. The table
    /// has room for `most`. `None`: there is no memory, or no room.
    pub fn number(&mut self, key: &T::Key, limit: usize, most: usize) -> Option<u32> {
        if self.next == 0 {
            if !self.entries.reserve(most) {
                return None;
            }
            self.next = 1;
        }
        let entries = self.entries.as_slice();
        let known = self.index.find(key.hash(), |id| *entries[id as usize].key() == *key);
        if known.is_some() {
            return known;
        }
        if self.next >= limit.min(entries.len()) {
            return None;
        }
        // SAFETY: below the length. Nobody looks at an entry without a number.
        unsafe { self.entries.as_mut_ptr().add(self.next).write(T::new(key)) };
        let (id, entries) = (self.next as u32, self.entries.as_slice());
        if !self.index.insert(id, |id| entries[id as usize].key().hash()) {
            return None;
        }
        self.next += 1;
        Some(id)
    }

    /// Up to `most` entries from number `at` on.
    pub fn piece(&self, at: usize, most: usize) -> &[T] {
        let end = self.next.min(at + most);
        self.entries.as_slice().get(at..end).unwrap_or_default()
    }

    /// The entry of a number.
    pub fn get(&self, id: u32) -> Option<&T> {
        self.entries.as_slice().get(id as usize)
    }

    /// The first number that is nobody's yet; 0 before there is memory.
    pub fn count(&self) -> usize {
        self.next
    }

    /// Where the entries are.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.entries.as_mut_ptr()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.next = self.next.min(1);
        self.index.clear();
    }

    /// In the child of a fork: an entry that was being made is dropped.
    pub fn after_fork(&mut self) {
        let entries = self.entries.as_slice();
        self.index.rebuild(self.next as u32, |id| entries[id as usize].key().hash());
    }
}
