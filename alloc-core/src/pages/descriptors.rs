//! Where an arena's extent descriptors come from: pages of 31 with a header in front, and back to the OS when a page has
//! none in use.
//!
//! A descriptor's address stays that of a descriptor for ever: a page that was given back reads as zeros, which is an
//! unused descriptor, so that whoever looks at a stale pointer sees nothing to act upon. Lives under the arena's page
//! lock, but for the system call.

use core::ptr::null_mut;

use crate::base::Base;
use crate::extent::{Extent, LARGE, State};
use crate::sys::{self, Advice, PAGE};

/// Descriptors of a page; the header takes the place of one.
pub(super) const PER_PAGE: usize = PAGE / core::mem::size_of::<Extent>() - 1;
/// Pages without a descriptor in use that are kept for the next requests.
const EMPTY_KEPT: usize = 64;
/// Addresses in a page of [`Released`].
const RELEASED_LEN: usize = PAGE / core::mem::size_of::<usize>() - 2;

/// The front of a page.
#[repr(C)]
struct Header {
    /// Links in the list of pages with unused descriptors, or (`next`) in that of pages without others.
    next: *mut Header,
    previous: *mut Header,
    /// Unused descriptors, linked by `child`.
    unused: *mut Extent,
    count: usize,
    /// The pages made before, in a set that can be walked through.
    older: *mut Header,
    /// Headers of an older generation are not in the lists; see [`Descriptors::abandon`].
    generation: usize,
}

const _: () = assert!(core::mem::size_of::<Header>() <= core::mem::size_of::<Extent>());

/// Addresses of pages that were given back. Is itself such a page, which was kept.
#[repr(C)]
struct Released {
    below: *mut Released,
    count: usize,
    pages: [usize; RELEASED_LEN],
}

const _: () = assert!(core::mem::size_of::<Released>() == PAGE);

/// The descriptors of an arena.
#[derive(Debug)]
pub(super) struct Descriptors {
    arena: usize,
    /// Whether all pages must be found, and so none is given back.
    walks: bool,
    partial: *mut Header,
    empty: *mut Header,
    empty_count: usize,
    released: *mut Released,
    released_count: usize,
    newest: *mut Header,
    unused: usize,
    made: usize,
    generation: usize,
}

impl Descriptors {
    pub(super) const fn new(arena: usize, walks: bool) -> Self {
        Descriptors {
            arena,
            walks,
            partial: null_mut(),
            empty: null_mut(),
            empty_count: 0,
            released: null_mut(),
            released_count: 0,
            newest: null_mut(),
            unused: 0,
            made: 0,
            generation: 0,
        }
    }

    /// Descriptors in memory that describe nothing.
    pub(super) fn unused(&self) -> usize {
        self.unused
    }

    /// Descriptors in memory.
    pub(super) fn made(&self) -> usize {
        self.made
    }

    /// Bytes of pages that were given back.
    pub(super) fn released_bytes(&self) -> usize {
        self.released_count * PAGE
    }

    /// An unused descriptor, null when there is no memory.
    pub(super) fn take(&mut self, base: &Base) -> *mut Extent {
        if self.partial.is_null() && !self.find_page(base) {
            return null_mut();
        }
        // SAFETY: a page in the list has unused descriptors, linked by `child`.
        unsafe {
            let header = self.partial;
            let extent = (*header).unused;
            (*header).unused = (*extent).links.child;
            (*header).count -= 1;
            if (*header).count == 0 {
                self.unlink(header);
            }
            self.unused -= 1;
            extent
        }
    }

    /// Puts a page with unused descriptors into the list, which has none. `false`: no memory.
    fn find_page(&mut self, base: &Base) -> bool {
        let mut header = self.empty;
        if header.is_null() {
            header = self.reclaim();
            if header.is_null() {
                let Some(page) = base.allocate(PAGE, PAGE) else { return false };
                header = page.cast();
                // SAFETY: a fresh page of zeros.
                unsafe { (*header).older = self.newest };
                self.newest = header;
            }
            // SAFETY: a page of zeros, of which nobody knows.
            unsafe { self.lay_out(header) };
        } else {
            // SAFETY: the list holds pages without a descriptor in use.
            self.empty = unsafe { (*header).next };
            self.empty_count -= 1;
        }
        // SAFETY: all its descriptors are unused, and it is in no list now.
        unsafe { self.link(header) };
        true
    }

    /// A page that was given back; null: there is none.
    fn reclaim(&mut self) -> *mut Header {
        let top = self.released;
        if top.is_null() {
            return null_mut();
        }
        // SAFETY: the stack holds pages of this set. The page that holds the addresses is used last, cleared.
        unsafe {
            if (*top).count > 0 {
                (*top).count -= 1;
                self.released_count -= 1;
                return core::ptr::with_exposed_provenance_mut((*top).pages[(*top).count]);
            }
            self.released = (*top).below;
            top.write_bytes(0, 1);
        }
        top.cast()
    }

    /// # Safety
    /// A page of zeros but for `older`, the caller's.
    unsafe fn lay_out(&mut self, header: *mut Header) {
        // SAFETY: descriptors are valid when zero, and lie behind the header.
        unsafe {
            (*header).generation = self.generation;
            let first = header.cast::<Extent>();
            // Highest first, so that the lowest is handed out first.
            for i in (1..=PER_PAGE).rev() {
                let extent = first.add(i);
                (*extent).set_arena(self.arena);
                (*extent).links.child = (*header).unused;
                (*header).unused = extent;
            }
            (*header).count = PER_PAGE;
        }
        self.unused += PER_PAGE;
        self.made += PER_PAGE;
    }

    /// # Safety
    /// The page is in no list and has unused descriptors.
    unsafe fn link(&mut self, header: *mut Header) {
        // SAFETY: the caller's promise; the list holds live pages.
        unsafe {
            (*header).previous = null_mut();
            (*header).next = self.partial;
            if !self.partial.is_null() {
                (*self.partial).previous = header;
            }
        }
        self.partial = header;
    }

    /// # Safety
    /// The page is in the list.
    unsafe fn unlink(&mut self, header: *mut Header) {
        // SAFETY: as above.
        unsafe {
            let (next, previous) = ((*header).next, (*header).previous);
            if previous.is_null() {
                self.partial = next;
            } else {
                (*previous).next = next;
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
        }
    }

    /// Takes a descriptor back.
    ///
    /// # Safety
    /// Null, or a descriptor of this arena that describes nothing any more.
    pub(super) unsafe fn put(&mut self, extent: *mut Extent) {
        if extent.is_null() {
            return;
        }
        // SAFETY: the caller gives up the descriptor; the page that it lies in begins with its header.
        unsafe {
            (*extent).set_state(State::Unused);
            (*extent).set_class(LARGE as usize);
            (*extent).set_flags(0);
            let header = extent.map_addr(|address| address & !(PAGE - 1)).cast::<Header>();
            if (*header).generation != self.generation {
                // What it knew of its other descriptors is lost; they are never used again, nor given back.
                (*header).generation = self.generation;
                (*header).unused = null_mut();
                (*header).count = 0;
            }
            (*extent).links.child = (*header).unused;
            (*header).unused = extent;
            (*header).count += 1;
            if (*header).count == 1 {
                self.link(header);
            }
            if (*header).count == PER_PAGE && !self.walks {
                self.unlink(header);
                (*header).next = self.empty;
                self.empty = header;
                self.empty_count += 1;
            }
        }
        self.unused += 1;
    }

    /// Takes a page out that may be given back: there are more than enough without a descriptor in use.
    pub(super) fn take_excess(&mut self) -> Option<usize> {
        if self.empty_count <= EMPTY_KEPT {
            return None;
        }
        let page = self.empty;
        // SAFETY: the list holds pages without a descriptor in use.
        self.empty = unsafe { (*page).next };
        self.empty_count -= 1;
        self.unused -= PER_PAGE;
        self.made -= PER_PAGE;
        Some(page.expose_provenance())
    }

    /// Takes a page back whose memory couldn't be given back.
    pub(super) fn put_back(&mut self, page: usize) {
        let page: *mut Header = core::ptr::with_exposed_provenance_mut(page);
        // SAFETY: one of `take_excess`, as it was.
        unsafe { (*page).next = self.empty };
        self.empty = page;
        self.empty_count += 1;
        self.unused += PER_PAGE;
        self.made += PER_PAGE;
    }

    /// Notes a page that [`Descriptors::take_excess`] has given out: it reads as zeros now.
    ///
    /// # Safety
    /// It does, and nobody uses it.
    pub(super) unsafe fn note_released(&mut self, page: usize) {
        // SAFETY: the caller's promise: where there is no room for the address, the page itself makes some.
        unsafe {
            if self.released.is_null() || (*self.released).count == RELEASED_LEN {
                let top: *mut Released = core::ptr::with_exposed_provenance_mut(page);
                (*top).below = self.released;
                self.released = top;
                return;
            }
            let top = self.released;
            (*top).pages[(*top).count] = page;
            (*top).count += 1;
        }
        self.released_count += 1;
    }

    /// All pages, the newest first; for sets that can be walked through. Pages are added in front only.
    pub(super) fn newest_page(&self) -> *mut Extent {
        self.newest.cast()
    }

    /// The page that was made before `page`, one of [`Descriptors::newest_page`].
    ///
    /// # Safety
    /// It is such a page.
    pub(super) unsafe fn older_page(page: *mut Extent) -> *mut Extent {
        // SAFETY: `older` is written once, before the page can be seen.
        unsafe { (*page.cast::<Header>()).older.cast() }
    }

    /// Forgets all unused descriptors without looking at one, for the child of a fork.
    pub(super) fn abandon(&mut self) {
        *self = Descriptors {
            newest: self.newest,
            made: self.made,
            generation: self.generation + 1,
            ..Descriptors::new(self.arena, self.walks)
        };
    }
}

/// Gives a page's memory back. `false`: it stays as it is.
pub(super) fn release_page(page: usize) -> bool {
    // SAFETY: a page that was taken out of its set; nobody relies on its contents.
    sys::dont_need_clears() && unsafe { sys::advise(page, PAGE, Advice::DontNeed) }.is_ok()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;
    use std::vec::Vec;

    #[test]
    fn pages_go_and_come_back() {
        let base = Base::new();
        let mut set = Descriptors::new(7, false);
        let mut held: Vec<*mut Extent> = (0..10_000).map(|_| set.take(&base)).collect();
        assert_eq!(held.iter().collect::<HashSet<_>>().len(), held.len());
        // SAFETY: unused descriptors are given back once each.
        assert!(held.iter().all(|&extent| unsafe { (*extent).arena() } == 7));
        for extent in held.drain(..) {
            // SAFETY: as above.
            unsafe { set.put(extent) };
        }
        let made = set.made();
        assert_eq!(set.unused(), made);
        let mut gone = 0;
        while let Some(page) = set.take_excess() {
            assert!(release_page(page));
            // SAFETY: just given back.
            unsafe { set.note_released(page) };
            gone += 1;
        }
        assert_eq!(set.made(), EMPTY_KEPT * PER_PAGE);
        assert_eq!(set.made() + gone * PER_PAGE, made);
        let again: Vec<*mut Extent> = (0..made).map(|_| set.take(&base)).collect();
        assert_eq!(again.iter().collect::<HashSet<_>>().len(), made);
        // SAFETY: descriptors of this set.
        assert!(again.iter().all(|&extent| unsafe { (*extent).arena() } == 7));
        assert_eq!((set.unused(), set.made(), set.released_bytes()), (0, made, 0));
    }
}
