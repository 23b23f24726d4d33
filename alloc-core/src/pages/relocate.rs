//! A large block that can't grow where it is: its pages are moved to where there is room, rather than its bytes copied.

use core::ptr::null_mut;

use super::cache::PAGES_MAX;
use super::gather::{CHUNKS_MIN, Moved, Unbacked, down, move_pages, up};
use super::{Inner, Pages, Shared};
use crate::extent::{Extent, LARGE, State};
use crate::large::LargeBlock;
use crate::lock::Guard;
use crate::sys::{LG_PAGE, PAGE};

/// Blocks of so many bytes and more are moved.
pub const RELOCATE_MIN: usize = 4 << 20;

/// Where a block went.
#[derive(Clone, Copy, Debug)]
pub struct Relocated {
    /// The block's new extent, active.
    pub extent: *mut Extent,
    /// What has come of the part of the old one, still active, whose pages were to be moved.
    moved: Moved,
    part: Unbacked,
}

impl Pages {
    /// An active extent of `pages` pages, registered with class `class`, that begins with what is in `extent`, which may be
    /// another arena's, and counts it in. Most of its pages are those of the old one, which stays active until
    /// [`Pages::deallocate_hollow`]. `None`: it can't be done here.
    ///
    /// # Safety
    /// The extent is the caller's, active, no slab, shorter than `pages`, not of a program's hooks; nobody uses it meanwhile.
    pub unsafe fn relocate(
        &self,
        shared: &Shared,
        extent: *mut Extent,
        pages: usize,
        class: usize,
        block: &LargeBlock<'_>,
    ) -> Option<Relocated> {
        // SAFETY: the caller owns the extent, and `fresh` is this thread's until it is returned.
        unsafe {
            let (from, bytes) = ((*extent).address(), (*extent).bytes());
            if (*extent).guarded() || (*extent).pinned() {
                return None;
            }
            let (mut inner, fresh, grid) = self.room(shared, from, bytes, pages)?;
            let to = (*fresh).address();
            let rest = Unbacked { start: to + bytes, end: (*fresh).end() };
            let gathered = self.gather(&mut inner, shared, &rest, false);
            inner.active_pages += pages;
            block.came();
            inner.tell(shared);
            (*fresh).set_state(State::Active);
            (*fresh).set_sampled(false);
            (*fresh).set_zeroed(false);
            drop(inner);
            self.move_in(shared, &gathered);
            let whole = Unbacked { start: up(from, grid), end: down(from + bytes, grid) };
            for (start, end) in [(from, whole.start), (whole.end, from + bytes)] {
                copy(start, end - start, to + (start - from));
            }
            let moved = move_pages(whole.start, whole.bytes(), to + (whole.start - from), grid, Some(copy));
            self.register(shared, fresh, class, false);
            Some(Relocated { extent: fresh, moved, part: whole })
        }
    }

    /// An extent of `pages` pages without memory, in transit, that lies to the grid of moves as address `like` does; and the
    /// grid. `None`: there is none, or the grid is too wide for so many `bytes` to be moved by it.
    fn room(
        &self,
        shared: &Shared,
        like: usize,
        bytes: usize,
        pages: usize,
    ) -> Option<(Guard<'_, Inner>, *mut Extent, usize)> {
        let mut inner = self.inner.lock();
        let grid = self.grid(&inner).filter(|grid| bytes / CHUNKS_MIN >= *grid)?;
        let wanted = pages.checked_add(grid >> LG_PAGE)?;
        let mut found = take_retained(&mut inner, wanted);
        if found.is_null() {
            drop(inner);
            let _growing = self.growing.lock();
            inner = self.inner.lock();
            // Another thread may have grown the arena meanwhile.
            found = take_retained(&mut inner, wanted);
            if found.is_null() {
                (inner, found) = self.grow(inner, shared, wanted, PAGE);
            }
        }
        if found.is_null() {
            return None;
        }
        // SAFETY: the extent is in transit, and this thread's; so are the parts that it is cut into.
        let taken = unsafe {
            let before = (like.wrapping_sub((*found).address()) & (grid - 1)) >> LG_PAGE;
            self.cut(&mut inner, shared, found, before, pages, State::Retained, Self::give)
        };
        (!taken.is_null()).then_some((inner, taken, grid))
    }

    /// Takes back an active large extent, of which a part may have no pages any more.
    ///
    /// # Safety
    /// As [`Pages::deallocate`]; `relocated` is what [`Pages::relocate`] said of the extent.
    pub unsafe fn deallocate_hollow(
        &self,
        shared: &Shared,
        extent: *mut Extent,
        &Relocated { moved, part: hollow, .. }: &Relocated,
        block: &LargeBlock<'_>,
    ) {
        if moved == Moved::Partly || hollow.bytes() == 0 {
            // SAFETY: the caller's promise.
            return unsafe { self.deallocate(shared, extent, Some(block)) };
        }
        // SAFETY: the caller gives up the extent; the parts that it is cut into are nobody else's.
        unsafe {
            let mut inner = self.inner.lock();
            (*extent).set_zeroed(false);
            (*extent).set_class(LARGE as usize);
            inner.active_pages -= (*extent).pages();
            block.went();
            if moved == Moved::Torn {
                // The page map stays as it is: another thread may have memory there already.
                (*extent).set_state(State::Transit);
                inner.abandon_torn(extent, hollow.bytes());
                return inner.tell(shared);
            }
            shared.map.set_class((*extent).address(), 1, 0);
            let mut middle = extent;
            if hollow.start > (*extent).address() {
                middle = self.split(&mut inner, shared, extent, (hollow.start - (*extent).address()) >> LG_PAGE);
                self.give(&mut inner, shared, extent, State::Dirty);
            }
            if !middle.is_null() {
                let mut state = State::Retained;
                if (*middle).end() > hollow.end {
                    let rest = self.split(&mut inner, shared, middle, hollow.bytes() >> LG_PAGE);
                    if rest.is_null() {
                        state = State::Dirty;
                    } else {
                        self.give(&mut inner, shared, rest, State::Dirty);
                    }
                }
                (*middle).set_zeroed(state == State::Retained);
                self.give(&mut inner, shared, middle, state);
            }
            inner.tell(shared);
        }
        self.after_free(shared);
    }
}

fn take_retained(inner: &mut Inner, pages: usize) -> *mut Extent {
    let found = if pages > PAGES_MAX { null_mut() } else { inner.retained.first_fit(pages, u32::MAX) };
    if !found.is_null() {
        // SAFETY: the extent is in that cache.
        unsafe { inner.retained.remove(found) };
    }
    found
}

/// Copies what can't be moved.
unsafe fn copy(from: usize, bytes: usize, to: usize) {
    let (from, to) = (core::ptr::with_exposed_provenance::<u8>(from), core::ptr::with_exposed_provenance_mut::<u8>(to));
    // SAFETY: the caller owns both ranges, which are apart.
    unsafe { to.copy_from_nonoverlapping(from, bytes) };
}
