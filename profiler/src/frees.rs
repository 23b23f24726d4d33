//! Which stacks free the sampled blocks of a bucket, and in which threads: counts beside [`crate::lifetimes`], for
//! `prof_lifetime_frees`.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc_core::lock::{Mutex, Rank};
use pprof_export::writer::SinkError;

use crate::buckets::BucketId;
use crate::stacks::StackId;
use crate::table::{Array, Index, Zeroed, hash};

/// What frees of one kind have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Free {
    /// Where the blocks were allocated, and their size.
    pub bucket: BucketId,
    /// Where they were freed; not 0.
    pub stack: StackId,
    /// Their age, and whether the thread that freed them is the one that allocated them.
    pub class: u16,
    /// The name of the thread that freed them.
    pub name: u16,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Entry {
    free: Free,
    count: u64,
}
// SAFETY: integers.
unsafe impl Zeroed for Entry {}

/// Most kinds of frees: 3 MiB, and a MiB for their index.
const FREES_MAX: usize = 1 << 17;

#[derive(Debug)]
struct Inner {
    /// Entry 0 is not used.
    entries: Array<Entry>,
    index: Index,
    /// The next entry; 0: no memory yet.
    next: usize,
}

/// The counts.
#[derive(Debug)]
pub struct Frees {
    inner: Mutex<Inner>,
    dropped: AtomicU64,
}

fn hash_of(free: &Free) -> u64 {
    let by = u64::from(free.class) << 16 | u64::from(free.name);
    hash(hash(u64::from(free.bucket.0) << 32 | u64::from(free.stack.0)) ^ by)
}

impl Frees {
    /// None.
    pub const fn new() -> Self {
        let inner = Inner { entries: Array::new(), index: Index::new(), next: 0 };
        Frees { inner: Mutex::new(Rank::Stacks, inner), dropped: AtomicU64::new(0) }
    }

    /// Counts one. `false`: its stack isn't known, or there is no room.
    pub fn add(&self, free: &Free) -> bool {
        let is_counted = free.stack != StackId(0) && self.inner.lock().add(free);
        if !is_counted {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        is_counted
    }

    /// Those that were not counted.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Hands out all counts, copied in pieces, so that a thread that frees never waits long. The first error ends it.
    pub fn snapshot(&self, mut take: impl FnMut(&Free, u64) -> Result<(), SinkError>) -> Result<(), SinkError> {
        const PIECE: usize = 64;
        let mut piece = [Entry::default(); PIECE];
        let mut at = 1;
        loop {
            let n = {
                let inner = self.inner.lock();
                let n = inner.next.saturating_sub(at).min(PIECE);
                if n > 0 {
                    piece[..n].copy_from_slice(&inner.entries.as_slice()[at..at + n]);
                }
                n
            };
            if n == 0 {
                return Ok(());
            }
            piece[..n].iter().try_for_each(|entry| take(&entry.free, entry.count))?;
            at += n;
        }
    }

    /// Forgets all. No dump is being written.
    pub fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.next = inner.next.min(1);
        inner.index.clear();
        drop(inner);
        self.dropped.store(0, Ordering::Relaxed);
    }

    /// In the child of a fork: counts are single words; one that was being added is dropped.
    pub fn after_fork(&self) {
        self.inner.after_fork(|inner| {
            let Inner { entries, index, next } = inner;
            index.rebuild(*next as u32, |id| hash_of(&entries.as_slice()[id as usize].free));
        });
    }
}

impl Inner {
    fn add(&mut self, free: &Free) -> bool {
        if self.next == 0 {
            if !self.entries.reserve(FREES_MAX) {
                return false;
            }
            self.next = 1;
        }
        let Inner { entries, index, next } = self;
        let known = index.find(hash_of(free), |id| entries.as_slice()[id as usize].free == *free);
        if let Some(id) = known {
            entries.as_mut_slice()[id as usize].count += 1;
            return true;
        }
        if *next == FREES_MAX {
            return false;
        }
        entries.place(*next, &[Entry { free: *free, count: 1 }]);
        let is_added = index.insert(*next as u32, |id| hash_of(&entries.as_slice()[id as usize].free));
        *next += usize::from(is_added);
        is_added
    }
}

impl Default for Frees {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn free(number: usize) -> Free {
        Free { bucket: BucketId(number as u32 / 7 + 1), stack: StackId(number as u32 % 7 + 1), class: 3, name: 2 }
    }

    fn all(frees: &Frees) -> Vec<(Free, u64)> {
        let mut all = Vec::new();
        let result = frees.snapshot(|free, count| {
            all.push((*free, count));
            Ok(())
        });
        assert_eq!(result, Ok(()));
        all
    }

    #[test]
    fn each_kind_is_counted_once_there_is_room() {
        static FREES: Frees = Frees::new();
        assert!(all(&FREES).is_empty());
        FREES.clear();
        let room = FREES_MAX - 1;
        assert!((0..room).all(|number| FREES.add(&free(number))));
        assert!(!FREES.add(&free(room)) && FREES.add(&free(5)) && !FREES.add(&Free::default()));
        assert_eq!(FREES.dropped(), 2);
        let counts = all(&FREES);
        assert_eq!(counts.len(), room);
        assert!((0..).zip(&counts).all(|(number, told)| *told == (free(number), 1 + u64::from(number == 5))));
        // Kinds differ in each of their parts.
        FREES.clear();
        assert!(all(&FREES).is_empty() && FREES.dropped() == 0);
        let same = free(9);
        let others = [
            Free { bucket: BucketId(1), ..same },
            Free { stack: StackId(1), ..same },
            Free { class: 0, ..same },
            Free { name: 0, ..same },
        ];
        assert!(FREES.add(&same) && others.iter().all(|other| FREES.add(other)) && FREES.add(&same));
        assert_eq!(all(&FREES).iter().map(|told| told.1).collect::<Vec<_>>(), [2, 1, 1, 1, 1]);
    }
}
