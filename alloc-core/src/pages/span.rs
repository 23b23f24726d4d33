//! Runs of free pages between blocks in use: what one system call can give back.
//!
//! A heap that shrinks at random leaves dirty extents of a page or two between others that have gone already. They don't
//! become one extent, since some have memory behind them and some don't; but a call may go over those that have none.

use core::ptr::null_mut;

use super::{Inner, Pages, Shared, ahead};
use crate::extent::{Extent, State};
use crate::sys::{LG_PAGE, PAGE};

/// Pages without memory behind them that a call goes over, at most, to reach others: to look at each costs a little.
const BRIDGE_PAGES: usize = 256;
/// Dirty pages that are joined for one call, at most: the lock is held meanwhile.
pub(super) const SPAN_PAGES: usize = 256;

/// A direction from an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

/// A dirty extent that one call gives back together with another.
#[derive(Clone, Copy, Debug)]
struct Reached {
    /// What lies between, if anything does.
    bridge: Option<*mut Extent>,
    dirty: *mut Extent,
}

impl Pages {
    /// The extent right beside `extent`, if it is free, in `state`, of `least` pages and more, and may become one with it: a
    /// program's hook is asked about no other.
    ///
    /// # Safety
    /// `extent` is of this arena, in a cache or the caller's.
    #[inline(always)]
    pub(super) unsafe fn beside(
        &self,
        inner: &mut Inner,
        shared: &Shared,
        extent: *mut Extent,
        side: Side,
        state: State,
        least: usize,
    ) -> Option<*mut Extent> {
        // SAFETY: the caller's promise; a neighbour is checked before it is touched.
        unsafe {
            let neighbour = match side {
                Side::Before => shared.map.extent((*extent).address().wrapping_sub(PAGE)),
                Side::After => shared.map.extent((*extent).end()),
            };
            if !self.in_cache(inner, neighbour, state) || (*neighbour).pages() < least {
                return None;
            }
            let (low, high) = if side == Side::Before { (neighbour, extent) } else { (extent, neighbour) };
            ((*low).end() == (*high).address() && self.can_merge(low, high)).then_some(neighbour)
        }
    }

    /// The next dirty extent on one side, with nothing or little that has no memory between.
    ///
    /// # Safety
    /// As [`Pages::beside`].
    unsafe fn reach(&self, inner: &mut Inner, shared: &Shared, extent: *mut Extent, side: Side) -> Option<Reached> {
        // SAFETY: the caller's promise; what is in a cache is a live extent.
        unsafe {
            if let Some(dirty) = self.beside(inner, shared, extent, side, State::Dirty, 1) {
                return Some(Reached { bridge: None, dirty });
            }
            let bridge = self.beside(inner, shared, extent, side, State::Retained, 1)?;
            if (*bridge).pages() > BRIDGE_PAGES {
                return None;
            }
            let dirty = self.beside(inner, shared, bridge, side, State::Dirty, 1)?;
            Some(Reached { bridge: Some(bridge), dirty })
        }
    }

    /// Dirty pages that one call gives back with those of `extent`, these included; no more than `most` are looked for. It is
    /// `most` as well where no block in use lies at either end: then no more will come.
    ///
    /// # Safety
    /// `extent` is in the cache of dirty extents.
    pub(super) unsafe fn span_pages(
        &self,
        inner: &mut Inner,
        shared: &Shared,
        extent: *mut Extent,
        most: usize,
    ) -> usize {
        // SAFETY: the caller's promise; what is reached is in that cache too.
        unsafe {
            let (mut pages, mut open_ends) = ((*extent).pages(), 0);
            for side in [Side::Before, Side::After] {
                let mut at = extent;
                while pages < most
                    && let Some(reached) = self.reach(inner, shared, at, side)
                {
                    at = reached.dirty;
                    pages += (*at).pages();
                }
                open_ends += u32::from(self.beside(inner, shared, at, side, State::Retained, 1).is_none());
            }
            if open_ends == 0 { most } else { pages }
        }
    }

    /// Joins `extent` with dirty ones that one call gives back together with it, and with what lies between, as long as
    /// there are no more than `most` dirty pages. Returns the whole, and its dirty pages.
    ///
    /// # Safety
    /// `extent` is dirty, and the caller's.
    pub(super) unsafe fn join_span(
        &self,
        inner: &mut Inner,
        shared: &Shared,
        extent: *mut Extent,
        most: usize,
    ) -> (*mut Extent, usize) {
        // SAFETY: the caller's promise; what is reached is in its cache until it is taken out, and this thread's from then on.
        unsafe {
            let (mut whole, mut pages) = (extent, (*extent).pages());
            for side in [Side::Before, Side::After] {
                while let Some(Reached { bridge, dirty }) = self.reach(inner, shared, whole, side) {
                    if pages + (*dirty).pages() > most {
                        break;
                    }
                    pages += (*dirty).pages();
                    for (part, state) in
                        bridge.map(|bridge| (bridge, State::Retained)).into_iter().chain([(dirty, State::Dirty)])
                    {
                        inner.cache(state).remove(part);
                        whole = self.join(inner, shared, whole, part, side);
                    }
                }
            }
            (whole, pages)
        }
    }

    /// Joins a free extent with those parts of free ones beside it that may have been backed ahead of their use, and returns
    /// the whole.
    ///
    /// # Safety
    /// `extent` is dirty, and the caller's.
    pub(super) unsafe fn join_backed(&self, inner: &mut Inner, shared: &Shared, extent: *mut Extent) -> *mut Extent {
        // SAFETY: the caller's promise; a neighbour is in its cache until it is taken out.
        unsafe {
            let mut whole = extent;
            let (from, to) = ahead::backed_around((*extent).address(), (*extent).end());
            for (side, bytes) in [(Side::Before, (*extent).address() - from), (Side::After, to - (*extent).end())] {
                if bytes > 0
                    && let Some(neighbour) = self.beside(inner, shared, whole, side, State::Retained, 1)
                {
                    let pages = (bytes >> LG_PAGE).min((*neighbour).pages());
                    let part = self.part_beside(inner, shared, neighbour, pages, side, State::Retained);
                    if !part.is_null() {
                        whole = self.join(inner, shared, whole, part, side);
                    }
                }
            }
            whole
        }
    }

    /// Takes the `pages` pages of a free extent that lie towards another one, of which it is on that `side`, out of the cache
    /// of `state`; the rest stays. Null: there was no descriptor for the rest, and all of it is there.
    ///
    /// # Safety
    /// `extent` is in that cache, and has so many pages.
    pub(super) unsafe fn part_beside(
        &self,
        inner: &mut Inner,
        shared: &Shared,
        extent: *mut Extent,
        pages: usize,
        side: Side,
        state: State,
    ) -> *mut Extent {
        // SAFETY: the caller's promise.
        unsafe {
            inner.cache(state).remove(extent);
            let all = (*extent).pages();
            if all == pages {
                return extent;
            }
            let second = self.split(inner, shared, extent, if side == Side::After { pages } else { all - pages });
            if second.is_null() {
                self.give(inner, shared, extent, state);
                return null_mut();
            }
            let (part, rest) = if side == Side::After { (extent, second) } else { (second, extent) };
            self.give(inner, shared, rest, state);
            part
        }
    }

    /// Makes two adjacent extents one, and returns it.
    ///
    /// # Safety
    /// As [`Pages::merge`]; `other` lies on that side of `extent`.
    #[inline(always)]
    pub(super) unsafe fn join(
        &self,
        inner: &mut Inner,
        shared: &Shared,
        extent: *mut Extent,
        other: *mut Extent,
        side: Side,
    ) -> *mut Extent {
        let (low, high) = if side == Side::Before { (other, extent) } else { (extent, other) };
        // SAFETY: the caller's promise.
        unsafe { self.merge(inner, shared, low, high) };
        low
    }
}
