//! Slabs of one class side by side.
//!
//! In a large heap the slabs of small blocks lie scattered between those of others, one or two to each cache line of the
//! kernel's page tables, and a program that goes through small blocks at random waits for page tables. So where a class has
//! many slabs, and another is made of memory that no page lies behind yet, more are made right behind it.

use core::ptr::null_mut;

use super::span::Side;
use super::{Inner, Pages, Shared};
use crate::extent::{Extent, State};
use crate::sys::{LG_PAGE, PAGE};

/// Pages of a row: 64 KiB, two cache lines of page table entries.
const ROW_PAGES: usize = 16;

impl Pages {
    /// Slabs of `pages` pages each, active and registered with class `class`, linked by `links.child`, lowest first: one,
    /// and in a `row` others right behind it, where no page lies behind any of them. Null when there is no memory.
    #[unsafe(link_section = "heapsift_text")]
    pub fn allocate_slabs(&self, shared: &Shared, pages: usize, class: usize, row: bool) -> *mut Extent {
        let makes_row = row && 2 * pages <= ROW_PAGES && self.guard_every[0] == 0 && !self.has_hooks();
        // SAFETY: what comes is active now and known to this thread only.
        unsafe {
            if !makes_row {
                let slab = self.allocate(shared, pages, PAGE, class, None, false);
                if !slab.is_null() {
                    (*slab).links.child = null_mut();
                }
                return slab;
            }
            let first = self.obtain(shared, pages, PAGE, None, false, ROW_PAGES);
            let mut slab = first;
            while !slab.is_null() {
                self.register(shared, slab, class, true);
                slab = (*slab).links.child;
            }
            first
        }
    }

    /// Makes more slabs behind `slab`, until they have `row` pages together, as long as the extent there has no pages behind
    /// it, and links them. Returns their pages.
    ///
    /// # Safety
    /// `slab` is this thread's, in no cache.
    pub(super) unsafe fn lengthen(&self, inner: &mut Inner, shared: &Shared, slab: *mut Extent, row: usize) -> usize {
        // SAFETY: the caller's promise; what lies behind is in its cache until it is taken out, and this thread's from then
        // on.
        unsafe {
            let (pages, mut last, mut more) = ((*slab).pages(), slab, 0);
            (*slab).links.child = null_mut();
            while more + 2 * pages <= row
                && let Some(behind) = self.beside(inner, shared, last, Side::After, State::Retained, pages)
            {
                let next = self.part_beside(inner, shared, behind, pages, Side::After, State::Retained);
                if next.is_null() {
                    break;
                }
                (*next).set_state(State::Active);
                (*next).set_sampled(false);
                (*next).links.child = null_mut();
                (*last).links.child = next;
                last = next;
                more += pages;
            }
            shared.note_fresh(more << LG_PAGE, &mut inner.lent);
            more
        }
    }
}
