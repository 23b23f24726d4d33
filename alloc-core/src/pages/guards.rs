//! Extents between two inaccessible pages, every so many.

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use super::{Pages, Shared};
use crate::extent::{Extent, flag};
use crate::large::LargeBlock;
use crate::sys::{self, Access, Advice, LG_PAGE, PAGE};

impl Pages {
    /// Every so many extents: one with an inaccessible page before and one behind. `None`: it is to be an ordinary one.
    #[cold]
    pub(super) fn allocate_guarded(
        &self,
        shared: &Shared,
        pages: usize,
        class: usize,
        large: Option<&LargeBlock<'_>>,
    ) -> Option<*mut Extent> {
        let which = usize::from(large.is_some());
        let until = &self.until_guard[which];
        if until.fetch_sub(1, Ordering::Relaxed) != 1 {
            return None;
        }
        until.store(self.guard_every[which], Ordering::Relaxed);
        let extent = self.obtain(shared, pages + 2, PAGE, None, false, 0);
        if extent.is_null() {
            return None;
        }
        // SAFETY: an active extent of this thread alone; its outer pages are never handed out.
        unsafe {
            let (address, end) = ((*extent).address(), (*extent).end());
            // Too many mappings, most likely, where that fails.
            let first = sys::protect(address, PAGE, Access::None).is_ok();
            if !first || sys::protect(end - PAGE, PAGE, Access::None).is_err() {
                if first && sys::protect(address, PAGE, Access::ReadWrite).is_err() {
                    // The page can't be used again, by anybody.
                    shared.map.set_extent(address, null_mut());
                    (*extent).set_range(address + PAGE, (pages + 1) << LG_PAGE);
                    self.set_boundaries(shared, extent);
                    self.inner.lock().active_pages -= 1;
                }
                self.give_up(shared, extent, None);
                return None;
            }
            for guard in [address, end - PAGE] {
                // What can't be touched need not be backed. Where memory is locked, it stays.
                let _ = sys::advise(guard, PAGE, Advice::DontNeed);
                shared.map.set_extent(guard, null_mut());
            }
            (*extent).set_range(address + PAGE, pages << LG_PAGE);
            (*extent).set(flag::GUARDED, true);
            self.set_boundaries(shared, extent);
            let mut inner = self.inner.lock();
            inner.active_pages -= 2;
            if let Some(block) = large {
                block.came();
            }
            drop(inner);
            self.register(shared, extent, class, large.is_none());
        }
        Some(extent)
    }

    /// Makes the guard pages of a free extent part of it again. One that can't be made accessible is lost.
    #[cold]
    pub(super) unsafe fn take_guards_back(&self, shared: &Shared, extent: *mut Extent) {
        // SAFETY: the caller owns the extent; the guard pages are its own.
        unsafe {
            let (address, end) = ((*extent).address(), (*extent).end());
            shared.map.set_extent(address, null_mut());
            shared.map.set_extent(end - PAGE, null_mut());
            (*extent).set(flag::GUARDED, false);
            let start =
                if sys::protect(address - PAGE, PAGE, Access::ReadWrite).is_ok() { address - PAGE } else { address };
            let end = if sys::protect(end, PAGE, Access::ReadWrite).is_ok() { end + PAGE } else { end };
            (*extent).set_range(start, end - start);
            self.set_boundaries(shared, extent);
        }
    }
}
