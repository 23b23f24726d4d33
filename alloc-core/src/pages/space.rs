//! Free extents: finding one, cutting it, joining it with its neighbours.

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use super::cache::PAGES_MAX;
use super::gather::Unbacked;
use super::span::Side;
use super::{Inner, Pages, Shared};
use crate::extent::{Extent, State};
use crate::sys::{LG_PAGE, PAGE};

/// Requests of so many pages and more may get a dirty extent that is extended.
const EXTEND_PAGES: usize = 64;
/// So many dirty extents are looked at for that, the largest ones.
const EXTEND_TRIES: usize = 8;

/// Where an extent is looked for, and whether it must not be much larger: a large one with memory behind it is cut before
/// memory is touched for the first time. Free neighbours become one at once, so that after a burst all may be one extent.
const ORDER: [(State, bool); 7] = [
    (State::Pinned, true),
    (State::Dirty, true),
    (State::Muzzy, true),
    (State::Pinned, false),
    (State::Dirty, false),
    (State::Muzzy, false),
    (State::Retained, false),
];

impl Pages {
    /// Finds an extent of at least `pages` pages at an aligned address, cuts it to size, and takes it out of its cache.
    /// Null: there is none. `unbacked`: the part of it, if any, that has no pages yet.
    #[unsafe(link_section = "heapsift_text")]
    pub(super) fn find(
        &self,
        inner: &mut Inner,
        shared: &Shared,
        pages: usize,
        align: usize,
        zero: bool,
        unbacked: &mut Unbacked,
    ) -> *mut Extent {
        // An aligned start is within `align - PAGE` bytes of any page-aligned one.
        let Some(wanted) = pages.checked_add((align - PAGE) >> LG_PAGE) else { return null_mut() };
        if wanted > PAGES_MAX {
            return null_mut();
        }
        let can_split = self.hooks().is_none_or(|hooks| hooks.can_split());
        if !can_split || self.refused_split.load(Ordering::Relaxed) {
            for state in [State::Pinned, State::Dirty, State::Muzzy, State::Retained] {
                let found = inner.cache(state).exact_fit(pages, align);
                if !found.is_null() {
                    // SAFETY: the extent is in that cache.
                    unsafe { inner.cache(state).remove(found) };
                    return found;
                }
            }
            if !can_split {
                return null_mut();
            }
        }
        for (state, near) in ORDER {
            if state == State::Retained && align == PAGE && pages >= EXTEND_PAGES && !zero {
                let found = self.extend_dirty(inner, shared, pages, unbacked);
                if !found.is_null() {
                    return found;
                }
            }
            let cache = inner.cache(state);
            let mut found = null_mut();
            if align > PAGE && (near || state == State::Retained) && cache.pages() >= pages {
                found = cache.aligned_fit(pages, align);
            }
            if found.is_null() && cache.pages() >= wanted {
                found = cache.first_fit(wanted, if near { self.lg_max_fit } else { u32::MAX });
            }
            if !found.is_null() {
                // SAFETY: the extent is in that cache.
                unsafe {
                    inner.cache(state).remove(found);
                    let taken = self.carve(inner, shared, found, pages, align, state, Self::put_back);
                    if state == State::Retained && !taken.is_null() {
                        *unbacked = Unbacked::whole(taken);
                    }
                    return taken;
                }
            }
        }
        null_mut()
    }

    /// A dirty extent, none of which is long enough, together with as much of the unbacked extent beside it as is missing, or
    /// with all of that and as much of the dirty one behind it: less memory is touched for the first time than by an extent
    /// without any, and dirty ones that are too short for large requests don't stay as they are while memory grows, nor do
    /// the gaps between them. Null: there are no such neighbours.
    fn extend_dirty(&self, inner: &mut Inner, shared: &Shared, pages: usize, unbacked: &mut Unbacked) -> *mut Extent {
        let mut tries = [null_mut(); EXTEND_TRIES];
        tries.iter_mut().zip(inner.dirty.largest()).for_each(|(place, dirty)| *place = dirty);
        for dirty in tries.into_iter().take_while(|dirty| !dirty.is_null()) {
            // SAFETY: a live extent in the cache, and neighbours that are in caches of this arena.
            unsafe {
                let Some(missing) = pages.checked_sub((*dirty).pages()).filter(|&missing| missing > 0) else {
                    continue;
                };
                // A program's hook is asked once, about the extent that would do.
                let least = if self.has_hooks() { missing } else { 1 };
                for side in [Side::After, Side::Before] {
                    let Some(gap) = self.beside(inner, shared, dirty, side, State::Retained, least) else { continue };
                    let over = missing.saturating_sub((*gap).pages());
                    let part = if over == 0 {
                        self.part_beside(inner, shared, gap, missing, side, State::Retained)
                    } else if let Some(beyond) = self.beside(inner, shared, gap, side, State::Dirty, over) {
                        self.part_beside(inner, shared, beyond, over, side, State::Dirty)
                    } else {
                        continue;
                    };
                    if part.is_null() {
                        return part;
                    }
                    inner.cache(State::Dirty).remove(dirty);
                    *unbacked = Unbacked::whole(if over == 0 { part } else { gap });
                    let mut whole = dirty;
                    if over > 0 {
                        inner.cache(State::Retained).remove(gap);
                        whole = self.join(inner, shared, whole, gap, side);
                    }
                    return self.join(inner, shared, whole, part, side);
                }
            }
        }
        null_mut()
    }

    /// Cuts `pages` pages at an aligned address out of a free extent; what is left in front and behind goes to the cache of
    /// `state` by `keep`: [`Pages::put_back`] for an extent that comes from there, [`Pages::give`] for another.
    ///
    /// # Safety
    /// `extent` is free, in no cache, and has so many pages from the first aligned address in it on.
    #[expect(clippy::too_many_arguments, reason = "inside of one module; a struct would only rename them")]
    pub(super) unsafe fn carve(
        &self,
        inner: &mut Inner,
        shared: &Shared,
        extent: *mut Extent,
        pages: usize,
        align: usize,
        state: State,
        keep: unsafe fn(&Self, &mut Inner, &Shared, *mut Extent, State),
    ) -> *mut Extent {
        // SAFETY: the caller hands over the extent.
        unsafe {
            let before = (*extent).address().wrapping_neg() & (align - 1);
            self.cut(inner, shared, extent, before >> LG_PAGE, pages, state, keep)
        }
    }

    /// Cuts `pages` pages out of a free extent, `before` pages from its start; what is left goes the same way as in
    /// [`Pages::carve`].
    ///
    /// # Safety
    /// As [`Pages::carve`]; the extent has so many pages.
    #[expect(clippy::too_many_arguments, reason = "inside of one module; a struct would only rename them")]
    pub(super) unsafe fn cut(
        &self,
        inner: &mut Inner,
        shared: &Shared,
        extent: *mut Extent,
        before: usize,
        pages: usize,
        state: State,
        keep: unsafe fn(&Self, &mut Inner, &Shared, *mut Extent, State),
    ) -> *mut Extent {
        // SAFETY: the caller hands over the extent.
        unsafe {
            let mut taken = extent;
            if before > 0 {
                taken = self.split(inner, shared, extent, before);
                keep(self, inner, shared, extent, state);
                if taken.is_null() {
                    return null_mut();
                }
            }
            if (*taken).pages() > pages {
                let rest = self.split(inner, shared, taken, pages);
                if rest.is_null() {
                    self.give(inner, shared, taken, state);
                    return null_mut();
                }
                keep(self, inner, shared, rest, state);
            }
            taken
        }
    }

    /// Puts a part of a free extent back in the cache that the extent came from: it was merged with its neighbours there.
    ///
    /// # Safety
    /// The extent is the caller's, in no cache, its boundaries are registered.
    pub(super) unsafe fn put_back(&self, inner: &mut Inner, _shared: &Shared, extent: *mut Extent, state: State) {
        // SAFETY: the caller hands over the extent.
        unsafe {
            (*extent).set_state(state);
            inner.cache(state).insert(extent);
        }
    }

    /// An unused descriptor, null when there is no memory.
    #[unsafe(link_section = "heapsift_text")]
    pub(super) fn descriptor(&self, inner: &mut Inner, shared: &Shared) -> *mut Extent {
        inner.descriptors.take(&shared.base)
    }

    /// Cuts a free extent in two; returns the second part (in no cache), null when there is no descriptor for it, or the
    /// program's hook does not allow it.
    ///
    /// # Safety
    /// `extent` is the caller's, in no cache, longer than `pages`.
    #[unsafe(link_section = "heapsift_text")]
    pub(super) unsafe fn split(
        &self,
        inner: &mut Inner,
        shared: &Shared,
        extent: *mut Extent,
        pages: usize,
    ) -> *mut Extent {
        // SAFETY: the caller owns `extent`.
        let (address, bytes, committed) = unsafe { ((*extent).address(), (*extent).bytes(), (*extent).committed()) };
        let first = pages << LG_PAGE;
        debug_assert!(first < bytes);
        let rest = self.descriptor(inner, shared);
        if rest.is_null() {
            return rest;
        }
        if self.hooks().is_some_and(|hooks| !hooks.split(address, bytes, first, committed)) {
            self.refused_split.store(true, Ordering::Relaxed);
            // SAFETY: the descriptor is unused.
            unsafe { inner.descriptors.put(rest) };
            return null_mut();
        }
        // SAFETY: the caller owns `extent`, `rest` is fresh.
        unsafe {
            (*rest).set_range(address + first, bytes - first);
            (*rest).serial = (*extent).serial;
            (*rest).set_flags((*extent).flags());
            (*rest).set_state(State::Transit);
            (*extent).set_range(address, first);
            // The first page of the first part is registered.
            shared.map.set_extent(address + first - PAGE, extent);
            self.set_boundaries(shared, rest);
        }
        rest
    }

    /// Registers the first and the last page of an extent.
    ///
    /// # Safety
    /// The extent is the caller's.
    pub(super) unsafe fn set_boundaries(&self, shared: &Shared, extent: *mut Extent) {
        // SAFETY: the caller owns the extent.
        unsafe {
            shared.map.set_extent((*extent).address(), extent);
            shared.map.set_extent((*extent).end() - PAGE, extent);
        }
    }

    /// Puts a free extent in the cache of `state`, merged with its free neighbours of that cache.
    ///
    /// # Safety
    /// The extent is the caller's, in no cache, its boundaries are registered.
    #[unsafe(link_section = "heapsift_text")]
    pub(super) unsafe fn give(&self, inner: &mut Inner, shared: &Shared, extent: *mut Extent, state: State) {
        // SAFETY: the caller hands over the extent; neighbours are checked before they are touched.
        unsafe {
            let mut whole = extent;
            for side in [Side::Before, Side::After] {
                if let Some(neighbour) = self.beside(inner, shared, whole, side, state, 1) {
                    inner.cache(state).remove(neighbour);
                    whole = self.join(inner, shared, whole, neighbour, side);
                }
            }
            (*whole).set_state(state);
            inner.cache(state).insert(whole);
        }
    }

    /// Whether a neighbour lies in this arena's cache of `state`.
    pub(super) fn in_cache(&self, inner: &mut Inner, neighbour: *mut Extent, state: State) -> bool {
        // SAFETY: descriptors are never unmapped, arena and state are atomic. If both match, the lock held here
        // protects the rest.
        !neighbour.is_null()
            && unsafe {
                (*neighbour).arena() == self.arena
                    && (*neighbour).state() == state
                    && (*neighbour).generation() == inner.cache(state).generation
            }
    }

    /// Whether two adjacent extents may be made one: both with pages or both without, and the program's hook agrees.
    ///
    /// # Safety
    /// Both are this arena's, and their owners don't change them meanwhile.
    pub(super) unsafe fn can_merge(&self, low: *const Extent, high: *const Extent) -> bool {
        // SAFETY: the caller's promise.
        let (low, high) = unsafe { (&*low, &*high) };
        low.committed() == high.committed()
            && low.pinned() == high.pinned()
            // What can't be cut again stays as long as it was asked for.
            && self.hooks().is_none_or(|hooks| hooks.can_split() && hooks.merge(low, high))
    }

    /// Makes two adjacent extents one, `low`.
    ///
    /// # Safety
    /// Both are free, in no cache, and adjacent.
    pub(super) unsafe fn merge(&self, inner: &mut Inner, shared: &Shared, low: *mut Extent, high: *mut Extent) {
        // SAFETY: the caller owns both.
        unsafe {
            // Inner boundaries must not lead to a descriptor that no longer covers them.
            if (*low).bytes() > PAGE {
                shared.map.set_extent((*low).end() - PAGE, null_mut());
            }
            shared.map.set_extent((*high).address(), null_mut());
            (*low).set_range((*low).address(), (*low).bytes() + (*high).bytes());
            (*low).serial = (*low).serial.min((*high).serial);
            (*low).set_zeroed((*low).zeroed() && (*high).zeroed());
            // The first page is registered.
            shared.map.set_extent((*low).end() - PAGE, low);
            inner.descriptors.put(high);
        }
    }
}
