//! Active extents that grow and shrink in place.

use super::gather::{Gathered, Unbacked};
use super::span::Side;
use super::{Pages, Shared};
use crate::extent::{Extent, State};

impl Pages {
    /// Cuts the end off an active large extent.
    ///
    /// # Safety
    /// The extent is the caller's, active, no slab, longer than `pages`; nobody uses the pages after.
    pub unsafe fn shrink(&self, shared: &Shared, extent: *mut Extent, pages: usize) -> bool {
        let mut inner = self.inner.lock();
        // SAFETY: the caller owns the extent.
        unsafe {
            if (*extent).guarded() {
                return false;
            }
            let cut = (*extent).pages() - pages;
            let rest = self.split(&mut inner, shared, extent, pages);
            if rest.is_null() {
                return false;
            }
            (*rest).set_zeroed(false);
            inner.active_pages -= cut;
            let state = if (*rest).pinned() { State::Pinned } else { State::Dirty };
            self.give(&mut inner, shared, rest, state);
            inner.tell(shared);
        }
        drop(inner);
        self.after_free(shared);
        true
    }

    /// Lets an active large extent grow in place to `pages`, if the neighbour behind it is free and long enough.
    /// Returns whether it did, and whether the new pages read as zero, which is worth more where `zero`.
    ///
    /// # Safety
    /// The extent is the caller's, active, no slab, shorter than `pages`.
    pub unsafe fn expand(&self, shared: &Shared, extent: *mut Extent, pages: usize, zero: bool) -> Option<bool> {
        let mut inner = self.inner.lock();
        // SAFETY: the caller owns the extent; the neighbour is checked before it is touched.
        unsafe {
            if (*extent).guarded() {
                return None;
            }
            let more = pages - (*extent).pages();
            let (state, after) = [State::Dirty, State::Pinned, State::Muzzy, State::Retained]
                .into_iter()
                .find_map(|state| Some((state, self.beside(&mut inner, shared, extent, Side::After, state, more)?)))?;
            let after = self.part_beside(&mut inner, shared, after, more, Side::After, state);
            if after.is_null() {
                return None;
            }
            let zeroed = (*after).zeroed();
            let gathered = if state == State::Retained {
                self.gather(&mut inner, shared, &Unbacked::whole(after), zero)
            } else {
                Gathered::NONE
            };
            self.merge(&mut inner, shared, extent, after);
            inner.active_pages += more;
            inner.tell(shared);
            drop(inner);
            self.move_in(shared, &gathered);
            Some(zeroed && gathered.is_empty())
        }
    }
}
