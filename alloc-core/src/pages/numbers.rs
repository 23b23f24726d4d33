//! What the page layer tells of itself.

use super::cache::NPAGE_CLASSES;
use super::{Pages, PurgeCounts};
use crate::lock::Counts;
use crate::sys::LG_PAGE;

/// A picture of the page layer's numbers.
#[derive(Clone, Copy, Debug)]
pub struct PageStats {
    /// Pages in use by slabs and large blocks.
    pub active: usize,
    /// Unused pages, backed.
    pub dirty: usize,
    /// Unused pages, lazily given away.
    pub muzzy: usize,
    /// Address space without pages.
    pub retained: usize,
    /// Unused pages that stay backed for ever.
    pub pinned: usize,
    /// Bytes mapped, without the retained ones.
    pub mapped_bytes: usize,
    /// Descriptors in memory.
    pub descriptors: usize,
    /// Descriptors without a use.
    pub unused_descriptors: usize,
    /// Bytes of descriptors that were given back to the OS.
    pub released_descriptor_bytes: usize,
    /// Bytes that the child of a fork has lost sight of, or that a move has torn.
    pub abandoned_bytes: usize,
    /// Purge counters.
    pub counts_dirty: PurgeCounts,
    /// Purge counters.
    pub counts_muzzy: PurgeCounts,
}

/// Free extents of one state and size class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreeExtents {
    /// How many.
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Free extents by class: dirty, muzzy, retained, pinned.
pub type FreeByClass = [[FreeExtents; NPAGE_CLASSES]; 4];

/// What the locks of an arena's pages have seen.
#[derive(Clone, Copy, Debug)]
pub struct PageLocks {
    /// The lock of all extents.
    pub extents: Counts,
    /// Growing.
    pub growing: Counts,
    /// Giving dirty pages back.
    pub decay_dirty: Counts,
    /// Giving muzzy pages back.
    pub decay_muzzy: Counts,
}

impl Pages {
    /// The numbers as they are now.
    pub fn stats(&self) -> PageStats {
        let inner = self.inner.lock();
        let retained = inner.retained.pages();
        PageStats {
            active: inner.active_pages,
            dirty: inner.dirty.pages(),
            muzzy: inner.muzzy.pages(),
            retained,
            pinned: inner.pinned.pages(),
            mapped_bytes: inner.mapped_bytes.saturating_sub(retained << LG_PAGE),
            descriptors: inner.descriptors.made(),
            unused_descriptors: inner.descriptors.unused(),
            released_descriptor_bytes: inner.descriptors.released_bytes(),
            abandoned_bytes: inner.abandoned_bytes,
            counts_dirty: inner.counts_dirty,
            counts_muzzy: inner.counts_muzzy,
        }
    }

    /// Active pages, of a moment.
    pub fn active_pages(&self) -> usize {
        self.inner.lock().active_pages
    }

    /// Where that number is; it changes under the lock.
    pub fn active_pages_counter(&self) -> *const usize {
        let inner = self.inner.lock();
        &raw const inner.active_pages
    }

    /// Free extents by class.
    pub fn free_extents(&self, out: &mut FreeByClass) {
        let inner = self.inner.lock();
        for (cache, out) in [&inner.dirty, &inner.muzzy, &inner.retained, &inner.pinned].into_iter().zip(out) {
            *out = *cache.by_class();
        }
    }

    /// What the locks have seen.
    pub fn lock_counts(&self) -> PageLocks {
        PageLocks {
            extents: self.inner.counts(),
            growing: self.growing.counts(),
            decay_dirty: self.decaying_dirty.counts(),
            decay_muzzy: self.decaying_muzzy.counts(),
        }
    }

    /// Has the locks count afresh.
    pub fn reset_lock_counts(&self) {
        self.inner.reset_counts();
        self.growing.reset_counts();
        self.decaying_dirty.reset_counts();
        self.decaying_muzzy.reset_counts();
    }
}
