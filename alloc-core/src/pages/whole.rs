//! An arena as a whole: all its blocks thrown away, all its memory given up.

use core::sync::atomic::Ordering;

use super::descriptors::{Descriptors, PER_PAGE};
use super::{Pages, PurgeCounts, Settings, Shared, dss};
use crate::decay::Decay;
use crate::extent::{Extent, State};
use crate::size::MAX_SIZE_CLASS;
use crate::sys::{self, PAGE};

impl Pages {
    /// Calls `f` with each active extent. Only for arenas that track their extents.
    ///
    /// # Safety
    /// Nobody else allocates or frees in the arena meanwhile; `f` may free the extent that it gets.
    pub unsafe fn for_each_active(&self, mut f: impl FnMut(*mut Extent)) {
        // SAFETY: the caller's promise.
        unsafe {
            self.for_each_extent(|extent| {
                if (*extent).state() == State::Active {
                    f(extent);
                }
            });
        }
    }

    /// Calls `f` with each extent, free ones too. Only for arenas that track their extents.
    ///
    /// # Safety
    /// As [`Pages::for_each_active`].
    pub unsafe fn for_each_extent(&self, mut f: impl FnMut(*mut Extent)) {
        // Pages are added in front only.
        let mut page = self.inner.lock().descriptors.newest_page();
        while !page.is_null() {
            for i in 1..=PER_PAGE {
                // SAFETY: pages of such a set are never given back, and the state is atomic.
                unsafe {
                    let extent = page.add(i);
                    if (*extent).state() != State::Unused {
                        f(extent);
                    }
                }
            }
            // SAFETY: as above.
            page = unsafe { Descriptors::older_page(page) };
        }
    }

    /// Gives everything that is free to the OS, address space included.
    ///
    /// # Safety
    /// The arena has no active extent, and nobody uses it.
    pub unsafe fn give_up_all(&self, shared: &Shared) {
        self.purge(shared);
        self.unmap_all(shared);
    }

    /// Whether unused memory is the kernel's, and may go back to it.
    pub(crate) fn may_give_up_unused(&self) -> bool {
        !self.has_hooks() && !dss::is_used()
    }

    /// Gives up unused memory, which [may be](Pages::may_give_up_unused), address space included, until that is `enough` bytes:
    /// what has no pages, and where `backed`, all. Returns how many bytes went.
    pub(crate) fn give_up_unused(&self, shared: &Shared, enough: usize, backed: bool) -> usize {
        let before = self.address_space();
        if backed {
            self.purge(shared);
        }
        let mut gone = before.saturating_sub(self.address_space());
        self.unmap_cache(shared, State::Retained, |address, bytes, _| {
            // SAFETY: what is free is nobody's. A program that has limited itself to less than it has (`setrlimit`) would not get
            // back what it gives up.
            let is_gone =
                gone < enough && unsafe { sys::map_again(address).and_then(|()| sys::unmap(address, bytes)) }.is_ok();
            gone += if is_gone { bytes } else { 0 };
            is_gone
        });
        gone
    }

    /// Bytes of address space that the arena has.
    pub(crate) fn address_space(&self) -> usize {
        self.inner.lock().mapped_bytes
    }

    /// Begins anew, as another arena with the same index; nothing is mapped.
    pub(crate) fn restart(&self, settings: &Settings) {
        {
            let mut inner = self.inner.lock();
            inner.decay_dirty = Decay::new(settings.dirty_ms);
            inner.decay_muzzy = Decay::new(settings.muzzy_ms);
            inner.counts_dirty = PurgeCounts::default();
            inner.counts_muzzy = PurgeCounts::default();
        }
        self.dirty_ms.store(settings.dirty_ms, Ordering::Relaxed);
        self.muzzy_ms.store(settings.muzzy_ms, Ordering::Relaxed);
        self.set_hooks(settings.hooks);
        self.set_dss(settings.dss);
        self.purge_from_bytes(Some(MAX_SIZE_CLASS + PAGE));
        self.grow_limit(Some(MAX_SIZE_CLASS));
        self.reset_lock_counts();
    }
}
