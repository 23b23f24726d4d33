//! Counters of an arena's large blocks. They are written under the lock of its pages, by whoever takes it for the block
//! anyway, and read by anybody at any time.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::bin::Visit;
use crate::size::{self, NLEXTENTS};

/// Counters of a large class.
#[derive(Debug)]
pub struct LargeCounts {
    /// Blocks handed to thread caches or callers.
    pub nmalloc: AtomicU64,
    /// Blocks that came back.
    pub ndalloc: AtomicU64,
    /// Requests that were served, by thread caches too.
    pub nrequests: AtomicU64,
    /// Flushes of thread caches.
    pub nflushes: AtomicU64,
}

impl LargeCounts {
    /// Blocks that are out, those in thread caches included.
    pub fn current(&self) -> usize {
        // Frees first, so that the difference is never negative.
        let freed = self.ndalloc.load(Ordering::Relaxed);
        self.nmalloc.load(Ordering::Relaxed).saturating_sub(freed) as usize
    }
}

/// The large blocks of an arena, those that don't come from slabs.
#[derive(Debug)]
pub struct LargeBlocks {
    /// Bytes out.
    pub bytes: AtomicUsize,
    /// By class.
    pub classes: [LargeCounts; NLEXTENTS],
}

impl LargeBlocks {
    /// What a block of `bytes` counts as when it comes or goes.
    #[inline]
    pub(crate) fn of(&self, bytes: usize, visit: Visit) -> LargeBlock<'_> {
        LargeBlock { all: &self.bytes, class: &self.classes[size::large_index(bytes)], bytes, visit }
    }

    /// Begins anew. The arena is nobody's.
    pub(crate) fn clear(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        for class in &self.classes {
            for counter in [&class.nmalloc, &class.ndalloc, &class.nrequests, &class.nflushes] {
                counter.store(0, Ordering::Relaxed);
            }
        }
    }
}

/// A large block that comes or goes, and what is told with it.
#[derive(Clone, Copy, Debug)]
pub struct LargeBlock<'a> {
    all: &'a AtomicUsize,
    class: &'a LargeCounts,
    bytes: usize,
    visit: Visit,
}

impl LargeBlock<'_> {
    /// Counts it in. The lock of the arena's pages is held.
    #[inline]
    pub(crate) fn came(&self) {
        self.all.store(self.all.load(Ordering::Relaxed).wrapping_add(self.bytes), Ordering::Relaxed);
        add(&self.class.nmalloc, 1);
        add(&self.class.nrequests, self.visit.requests);
    }

    /// Counts it out. The lock of the arena's pages is held.
    #[inline]
    pub(crate) fn went(&self) {
        self.all.store(self.all.load(Ordering::Relaxed).wrapping_sub(self.bytes), Ordering::Relaxed);
        add(&self.class.ndalloc, 1);
        self.flushed();
    }

    /// Counts what is told when none of a cache's blocks was the arena's. The lock of the arena's pages is held.
    #[inline]
    pub(crate) fn flushed(&self) {
        add(&self.class.nrequests, self.visit.requests);
        add(&self.class.nflushes, self.visit.by_cache.into());
    }
}

/// Adds to a counter that others may read, but nobody else writes now.
#[inline]
fn add(counter: &AtomicU64, more: u64) {
    if more > 0 {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}
