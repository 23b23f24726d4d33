//! Active extents that become free.

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use super::{DIRTY_MS_DEFAULT, Pages, Shared};
use crate::extent::{Extent, LARGE, State};
use crate::large::LargeBlock;
use crate::sys::{self, PAGE};

impl Pages {
    /// Takes back an active extent: a slab, or a `large` block, which is counted out.
    ///
    /// # Safety
    /// The extent is active, of this arena, and nobody uses its memory any more.
    pub unsafe fn deallocate(&self, shared: &Shared, extent: *mut Extent, large: Option<&LargeBlock<'_>>) {
        // SAFETY: the caller gives up the extent.
        unsafe {
            let (address, pages) = ((*extent).address(), (*extent).pages());
            if large.is_none() {
                for page in 1..pages.saturating_sub(1) {
                    shared.map.set_extent(address + page * PAGE, null_mut());
                }
                shared.map.set_class(address, pages, 0);
            } else if (*extent).class() != LARGE as usize || (*extent).samples.load(Ordering::Relaxed) > 0 {
                shared.map.set_class(address, 1, 0);
            }
            self.give_up(shared, extent, large);
        }
    }

    /// Takes back an active extent that has no class in the page map.
    ///
    /// # Safety
    /// As [`Pages::deallocate`].
    pub(super) unsafe fn give_up(&self, shared: &Shared, extent: *mut Extent, large: Option<&LargeBlock<'_>>) {
        // SAFETY: the caller gives up the extent.
        unsafe {
            let pages = (*extent).pages();
            (*extent).set_zeroed(false);
            (*extent).set_class(LARGE as usize);
            if (*extent).guarded() {
                self.take_guards_back(shared, extent);
            }
            if (*extent).bytes() >= self.purge_from_bytes.load(Ordering::Relaxed) && !(*extent).pinned() {
                return self.deallocate_to_os(shared, extent, pages, large);
            }
            let state = if (*extent).pinned() { State::Pinned } else { State::Dirty };
            let mut inner = self.inner.lock();
            inner.active_pages -= pages;
            if let Some(block) = large {
                block.went();
            }
            self.give(&mut inner, shared, extent, state);
            inner.tell(shared);
        }
        self.after_free(shared);
    }

    /// Counts something under the lock.
    pub(crate) fn locked(&self, count: impl FnOnce()) {
        let _inner = self.inner.lock();
        count();
    }

    /// What is due when pages have become unused.
    #[inline]
    pub(super) fn after_free(&self, shared: &Shared) {
        match self.dirty_ms.load(Ordering::Relaxed) {
            0 => self.decay(shared, sys::clock_coarse_ns()),
            DIRTY_MS_DEFAULT => self.keep_bound(shared),
            _ => {}
        }
        self.ring_if_asked(shared);
    }

    /// Wakes the background thread of this arena if it waits for unused pages. Called without locks, after the pages can
    /// be seen.
    #[inline]
    pub(super) fn ring_if_asked(&self, shared: &Shared) {
        if self.rings.load(Ordering::Relaxed) {
            self.rings.store(false, Ordering::Relaxed);
            shared.alarm.ring(self.arena);
        }
    }

    /// The next free of pages is to wake the background thread of this arena.
    pub(crate) fn have_alarm_rung(&self) {
        self.rings.store(true, Ordering::SeqCst);
    }
}
