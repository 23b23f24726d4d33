//! Which stacks free the sampled blocks of a bucket, and in which threads: counts beside [`crate::lifetimes`], for
//! `prof_lifetime_frees`.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc_core::lock::{Mutex, Rank};
use pprof_export::writer::SinkError;

use crate::buckets::BucketId;
use crate::numbered::{self, Key, Numbered};
use crate::stacks::StackId;
use crate::table::{Zeroed, hash};

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

#[derive(Debug)]
#[repr(C)]
struct Entry {
    free: Free,
    /// Written under the lock.
    count: AtomicU64,
}
// SAFETY: integers.
unsafe impl Zeroed for Entry {}

impl Key for Free {
    fn hash(&self) -> u64 {
        let by = u64::from(self.class) << 16 | u64::from(self.name);
        hash(hash(u64::from(self.bucket.0) << 32 | u64::from(self.stack.0)) ^ by)
    }
}

impl numbered::Entry for Entry {
    type Key = Free;

    fn new(key: &Free) -> Self {
        Entry { free: *key, count: AtomicU64::new(0) }
    }

    fn key(&self) -> &Free {
        &self.free
    }
}

/// Most kinds of frees: 3 MiB, and a MiB for their index.
const FREES_MAX: usize = 1 << 17;

/// The counts.
#[derive(Debug)]
pub struct Frees {
    inner: Mutex<Numbered<Entry>>,
    dropped: AtomicU64,
}

impl Frees {
    /// None.
    pub const fn new() -> Self {
        Frees { inner: Mutex::new(Rank::Stacks, Numbered::new()), dropped: AtomicU64::new(0) }
    }

    /// Counts one. `false`: its stack isn't known, or there is no room.
    pub fn add(&self, free: &Free) -> bool {
        let is_counted = free.stack != StackId(0) && self.count(free).is_some();
        if !is_counted {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        is_counted
    }

    fn count(&self, free: &Free) -> Option<()> {
        let mut inner = self.inner.lock();
        let id = inner.number(free, FREES_MAX, FREES_MAX)?;
        inner.get(id)?.count.fetch_add(1, Ordering::Relaxed);
        Some(())
    }

    /// Those that were not counted.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Hands out all counts, copied in pieces, so that a thread that frees never waits long. The first error ends it.
    pub fn snapshot(&self, mut take: impl FnMut(&Free, u64) -> Result<(), SinkError>) -> Result<(), SinkError> {
        const PIECE: usize = 64;
        let mut piece = [(Free::default(), 0); PIECE];
        let mut at = 1;
        loop {
            let n = {
                let inner = self.inner.lock();
                let entries = inner.piece(at, PIECE);
                for (told, entry) in piece.iter_mut().zip(entries) {
                    *told = (entry.free, entry.count.load(Ordering::Relaxed));
                }
                entries.len()
            };
            if n == 0 {
                return Ok(());
            }
            piece[..n].iter().try_for_each(|(free, count)| take(free, *count))?;
            at += n;
        }
    }

    /// Forgets all. No dump is being written.
    pub fn clear(&self) {
        self.inner.lock().clear();
        self.dropped.store(0, Ordering::Relaxed);
    }

    /// In the child of a fork: counts are single words; one that was being added is dropped.
    pub fn after_fork(&self) {
        self.inner.after_fork(Numbered::after_fork);
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
