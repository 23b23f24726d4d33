//! An intrusive pairing heap of extents, the oldest and lowest one at the root.
//!
//! Insertion is constant time, removal logarithmic on average; the links live in the descriptors. Whoever owns the heap
//! holds its lock.

use core::ptr::null_mut;

use crate::extent::{Extent, Links};

/// The heap. All extents in it must stay alive and untouched in their links while they are in it.
#[derive(Debug)]
pub struct PairingHeap {
    root: *mut Extent,
}

const NO_LINKS: Links = Links { child: null_mut(), sibling: null_mut(), previous: null_mut() };

impl PairingHeap {
    /// A heap without extents.
    pub const fn new() -> Self {
        PairingHeap { root: null_mut() }
    }

    /// The oldest, lowest extent; null when there is none.
    #[inline]
    pub fn first(&self) -> *mut Extent {
        self.root
    }

    /// Whether there is no extent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.root.is_null()
    }

    /// An extent that `fits`, among the first `tries` of a walk from the root; null when none of them does.
    pub fn some(&self, tries: usize, fits: impl Fn(*const Extent) -> bool) -> *mut Extent {
        let mut at = self.root;
        for _ in 0..tries {
            if at.is_null() || fits(at) {
                return at;
            }
            // SAFETY: all that links lead to is in this heap.
            at = unsafe { Self::after(at) };
        }
        null_mut()
    }

    /// The next one of a walk that comes to parents before their children; null after the last one.
    ///
    /// # Safety
    /// `extent` is in a heap.
    pub(crate) unsafe fn after(mut extent: *mut Extent) -> *mut Extent {
        // SAFETY: all extents reached by links are in the heap.
        unsafe {
            if !(*extent).links.child.is_null() {
                return (*extent).links.child;
            }
            while !extent.is_null() && (*extent).links.sibling.is_null() {
                // Up to the parent, past the siblings on the left.
                loop {
                    let below = extent;
                    extent = (*extent).links.previous;
                    if extent.is_null() || (*extent).links.child == below {
                        break;
                    }
                }
            }
            if extent.is_null() { extent } else { (*extent).links.sibling }
        }
    }

    /// Makes `a` and `b` one tree.
    ///
    /// # Safety
    /// Both are roots of trees of this heap, not null, without siblings.
    unsafe fn meld(a: *mut Extent, b: *mut Extent) -> *mut Extent {
        // SAFETY: the caller passes live descriptors whose links this heap owns.
        unsafe {
            let (winner, loser) = if (*a).key() <= (*b).key() { (a, b) } else { (b, a) };
            let child = (*winner).links.child;
            (*loser).links.sibling = child;
            if !child.is_null() {
                (*child).links.previous = loser;
            }
            (*loser).links.previous = winner;
            (*winner).links.child = loser;
            winner
        }
    }

    /// Adds an extent.
    ///
    /// # Safety
    /// `extent` is alive, in no heap, and stays alive until it is removed.
    pub unsafe fn insert(&mut self, extent: *mut Extent) {
        // SAFETY: the caller hands over the links of a live descriptor; the root is in this heap.
        unsafe {
            (*extent).links = NO_LINKS;
            self.root = if self.root.is_null() { extent } else { Self::meld(self.root, extent) };
        }
    }

    /// Melds a list of siblings: pairs from left to right, then the results from right to left.
    ///
    /// # Safety
    /// `first` is null or the first child of an extent that is leaving this heap.
    unsafe fn meld_siblings(first: *mut Extent) -> *mut Extent {
        // SAFETY: all extents reached by sibling links are in this heap.
        unsafe {
            let mut pairs: *mut Extent = null_mut();
            let mut rest = first;
            while !rest.is_null() {
                let a = rest;
                let b = (*a).links.sibling;
                (*a).links.sibling = null_mut();
                (*a).links.previous = null_mut();
                let tree = if b.is_null() {
                    rest = null_mut();
                    a
                } else {
                    rest = (*b).links.sibling;
                    (*b).links.sibling = null_mut();
                    (*b).links.previous = null_mut();
                    Self::meld(a, b)
                };
                (*tree).links.sibling = pairs;
                pairs = tree;
            }
            let mut root: *mut Extent = null_mut();
            while !pairs.is_null() {
                let next = (*pairs).links.sibling;
                (*pairs).links.sibling = null_mut();
                root = if root.is_null() { pairs } else { Self::meld(root, pairs) };
                pairs = next;
            }
            root
        }
    }

    /// Takes the first extent out; null when there is none.
    #[unsafe(link_section = "heapsift_text")]
    pub fn remove_first(&mut self) -> *mut Extent {
        let first = self.root;
        if !first.is_null() {
            // SAFETY: the root is a live extent of this heap, its children too.
            unsafe { self.root = Self::meld_siblings((*first).links.child) };
        }
        first
    }

    /// Takes `extent` out.
    ///
    /// # Safety
    /// `extent` is in this heap.
    #[unsafe(link_section = "heapsift_text")]
    pub unsafe fn remove(&mut self, extent: *mut Extent) {
        if extent == self.root {
            self.remove_first();
            return;
        }
        // SAFETY: the extent is in this heap and not its root, so it has a previous one, and its neighbours are in
        // the heap as well.
        unsafe {
            let Links { child, sibling, previous } = (*extent).links;
            if (*previous).links.child == extent {
                (*previous).links.child = sibling;
            } else {
                (*previous).links.sibling = sibling;
            }
            if !sibling.is_null() {
                (*sibling).links.previous = previous;
            }
            let tree = Self::meld_siblings(child);
            if !tree.is_null() {
                self.root = Self::meld(self.root, tree);
            }
        }
    }
}

impl Default for PairingHeap {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;
    use std::vec::Vec;

    fn extent(serial: u64, address: usize) -> *mut Extent {
        // SAFETY: all fields of a descriptor are valid when zero.
        let mut e: Box<Extent> = Box::new(unsafe { core::mem::zeroed() });
        e.serial = serial;
        e.set_range(address, 4096);
        Box::into_raw(e)
    }

    #[test]
    fn orders_and_removes() {
        let mut random = 12345u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let mut heap = PairingHeap::new();
        let mut shadow: Vec<((u64, usize), *mut Extent)> = Vec::new();
        for _ in 0..20_000 {
            match next() % 5 {
                0..=2 => {
                    let e = extent(next() % 4, (next() % (1 << 40)) as usize & !4095);
                    // SAFETY: a fresh descriptor in no heap.
                    unsafe {
                        if shadow.iter().any(|s| s.0 == (*e).key()) {
                            drop(Box::from_raw(e));
                            continue;
                        }
                        shadow.push(((*e).key(), e));
                        heap.insert(e);
                    }
                }
                3 => {
                    let first = heap.remove_first();
                    let lowest = shadow.iter().enumerate().min_by_key(|(_, s)| s.0).map(|(i, _)| i);
                    match lowest {
                        None => assert!(first.is_null()),
                        Some(i) => {
                            assert_eq!(first, shadow[i].1);
                            // SAFETY: removed from the heap, made by `extent`.
                            drop(unsafe { Box::from_raw(shadow.swap_remove(i).1) });
                        }
                    }
                }
                _ if !shadow.is_empty() => {
                    let i = (next() % shadow.len() as u64) as usize;
                    let (_, e) = shadow.swap_remove(i);
                    // SAFETY: in the heap, made by `extent`.
                    unsafe {
                        heap.remove(e);
                        drop(Box::from_raw(e));
                    }
                }
                _ => {}
            }
        }
        let fits = |wanted: *const Extent| heap.some(usize::MAX, |e| core::ptr::eq(e, wanted)) == wanted.cast_mut();
        assert!(shadow.iter().all(|&(_, e)| fits(e)), "a walk comes to all of them");
        assert!(heap.some(usize::MAX, |_| false).is_null());
        assert!(shadow.len() > 100 && heap.some(0, |_| true).is_null());
        let mut last = (0, 0);
        while !heap.is_empty() {
            let first = heap.remove_first();
            // SAFETY: removed from the heap, made by `extent`.
            unsafe {
                assert!((*first).key() >= last);
                last = (*first).key();
                drop(Box::from_raw(first));
            }
        }
    }
}
