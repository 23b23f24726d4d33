//! Where an arena's memory comes from: the kernel, the end of the data segment, or a program's hooks.

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use super::cache::PAGES_MAX;
use super::hooks::Region;
use super::{Inner, Pages, Shared, ahead, dss};
use crate::conf::Options;
use crate::extent::{Extent, State, flag};
use crate::lock::Guard;
use crate::sys::{self, Advice, LG_PAGE, PAGE};

/// The first mapping of an arena, in bytes; later ones grow by an eighth of what the arena has mapped.
const GROW_BYTES_MIN: usize = 2 << 20;
const GROW_BYTES_MAX: usize = 1 << 30;

/// What the kernel is told about huge pages for a new mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thp {
    Default,
    Always,
    Never,
}

impl Thp {
    pub(super) fn of(options: &Options, huge_pages: bool) -> Self {
        if huge_pages || options.thp.is(c"always") {
            Thp::Always
        } else if options.thp.is(c"never") {
            Thp::Never
        } else {
            Thp::Default
        }
    }
}

/// Positions in [`crate::conf::DSS`].
const DSS_PRIMARY: usize = 1;
const DSS_SECONDARY: usize = 2;

impl Pages {
    /// Gets new memory and takes an extent of it. The lock is dropped meanwhile.
    pub(super) fn grow<'a>(
        &'a self,
        mut inner: Guard<'a, Inner>,
        shared: &Shared,
        pages: usize,
        align: usize,
    ) -> (Guard<'a, Inner>, *mut Extent) {
        let step = ((inner.mapped_bytes / 8) & !(GROW_BYTES_MIN - 1)).clamp(GROW_BYTES_MIN, GROW_BYTES_MAX);
        let step = step.min(self.grow_limit(None) & !(PAGE - 1));
        let Some(wanted) = pages.checked_add((align - PAGE) >> LG_PAGE).filter(|&wanted| wanted <= PAGES_MAX) else {
            return (inner, null_mut());
        };
        drop(inner);
        let Some(hooks) = self.hooks() else {
            let region = self.map(wanted << LG_PAGE, step);
            return self.take_in(shared, region, pages, align);
        };
        // More than is needed, so that the hook is called less often, where the rest may be cut off.
        if self.retain && hooks.can_split() && wanted << LG_PAGE < step && !self.refused_split.load(Ordering::Relaxed) {
            let region = hooks.alloc(step, PAGE);
            let extent;
            (inner, extent) = self.take_in(shared, region, pages, align);
            if !extent.is_null() {
                return (inner, extent);
            }
            drop(inner);
        }
        let region = hooks.alloc(pages << LG_PAGE, align);
        self.take_in(shared, region, pages, align)
    }

    /// Makes new memory an extent of the arena's, and takes one of `pages` out of it.
    #[unsafe(link_section = "heapsift_text")]
    fn take_in<'a>(
        &'a self,
        shared: &Shared,
        region: Option<Region>,
        pages: usize,
        align: usize,
    ) -> (Guard<'a, Inner>, *mut Extent) {
        let mut inner = self.inner.lock();
        let Some(region) = region else { return (inner, null_mut()) };
        let extent = self.descriptor(&mut inner, shared);
        if extent.is_null() || !shared.map.prepare(region.address, region.bytes) {
            // SAFETY: the descriptor (if there is one) is unused.
            unsafe { inner.descriptors.put(extent) };
            drop(inner);
            // SAFETY: got just now, and nobody has seen it.
            unsafe {
                match self.hooks() {
                    None => {
                        let _ = sys::unmap(region.address, region.bytes);
                    }
                    Some(hooks) => {
                        hooks.dalloc(region.address, region.bytes, region.committed);
                    }
                }
            }
            return (self.inner.lock(), null_mut());
        }
        inner.mapped_bytes += region.bytes;
        let state = if region.pinned { State::Pinned } else { State::Retained };
        // SAFETY: a fresh descriptor for a fresh mapping.
        let taken = unsafe {
            (*extent).set_range(region.address, region.bytes);
            (*extent).serial = shared.serial.fetch_add(1, Ordering::Relaxed);
            (*extent).set_flags(0);
            (*extent).set(flag::ZEROED, region.zeroed);
            (*extent).set(flag::UNCOMMITTED, !region.committed);
            (*extent).set(flag::PINNED, region.pinned);
            (*extent).set_state(State::Transit);
            self.set_boundaries(shared, extent);
            self.carve(&mut inner, shared, extent, pages, align, state, Self::give)
        };
        (inner, taken)
    }

    /// At least `wanted` bytes from the kernel or the end of the data segment, `step` if that is more and to be had.
    fn map(&self, wanted: usize, step: usize) -> Option<Region> {
        let order = self.dss();
        let large = if self.retain && wanted < step { step } else { wanted };
        let mapped = |bytes: usize| sys::map(bytes, true).ok().map(|address| (address, bytes));
        let broken = |bytes: usize| dss::take(bytes).map(|address| (address, bytes));
        let first = if order == DSS_PRIMARY { broken(wanted) } else { None };
        let (address, bytes) = first
            .or_else(|| mapped(large))
            .or_else(|| (large > wanted).then(|| mapped(wanted)).flatten())
            .or_else(|| (order == DSS_SECONDARY).then(|| broken(wanted)).flatten())?;
        let advice = match self.thp {
            Thp::Default => None,
            Thp::Always => {
                ahead::note_huge();
                Some(Advice::HugePage)
            }
            Thp::Never => Some(Advice::NoHugePage),
        };
        if let Some(advice) = advice {
            // SAFETY: got just now; the advice doesn't change contents.
            let _ = unsafe { sys::advise(address, bytes, advice) };
        }
        Some(Region { address, bytes, zeroed: true, committed: true, pinned: false })
    }
}
