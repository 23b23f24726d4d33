//! A set of free extents in one state: ordered heaps by size for reuse, and lists by age for giving back.

use core::ptr::null_mut;

use super::FreeExtents;
use crate::extent::{Extent, ListLinks, State};
use crate::pairing::PairingHeap;
use crate::sys::{LG_PAGE, PAGE};

/// Classes of free runs: four per doubling, up to 2^36 pages.
pub const NPAGE_CLASSES: usize = 140;
/// Pages of an extent, at most.
pub(super) const PAGES_MAX: usize = 1 << 35;
const WORDS: usize = NPAGE_CLASSES.div_ceil(64);

/// Requests of so many pages take the extent that fits best.
const BEST_FIT_PAGES: usize = 8;
/// Requests of so many pages look for a tight fit first, since what is left over is then worth the search.
const TIGHT_FIT_PAGES: usize = 64;
/// So many extents are looked at for that.
const TIGHT_FIT_TRIES: usize = 8;

/// The smallest class that holds `pages` (at least 1).
#[inline]
pub fn class_ceil(pages: usize) -> usize {
    debug_assert!(pages > 0);
    if pages <= 4 {
        return pages - 1;
    }
    let lg = (pages - 1).ilog2() as usize;
    4 + (lg - 2) * 4 + (((pages - 1) >> (lg - 2)) & 3)
}

/// Pages of class `class`.
#[inline]
pub fn class_pages(class: usize) -> usize {
    if class < 4 {
        return class + 1;
    }
    let step = class - 4;
    let base = 4usize << (step / 4);
    base + (step % 4 + 1) * (base / 4)
}

/// The largest class that `pages` fill.
#[inline]
pub fn class_floor(pages: usize) -> usize {
    let class = class_ceil(pages).min(NPAGE_CLASSES - 1);
    if class_pages(class) > pages { class - 1 } else { class }
}

/// Extents of so many pages are worth a system call at any time; shorter ones may grow together with their neighbours if
/// they are left alone.
pub(super) const LONG_PAGES: usize = 16;

/// Free extents by age.
#[derive(Debug)]
struct AgeList {
    oldest: *mut Extent,
    newest: *mut Extent,
}

/// The free extents of one state in one arena. Lives under the arena's page lock.
#[derive(Debug)]
pub struct Cache {
    heaps: [PairingHeap; NPAGE_CLASSES],
    occupied: [u64; WORDS],
    /// Short extents, and long ones.
    by_age: [AgeList; 2],
    /// How many extents have entered.
    entered: u64,
    pages: usize,
    by_class: [FreeExtents; NPAGE_CLASSES],
    /// Extents of an older generation were in a cache that a fork dropped.
    pub(super) generation: u16,
}

impl Cache {
    pub(super) const fn new() -> Self {
        Cache {
            heaps: [const { PairingHeap::new() }; NPAGE_CLASSES],
            occupied: [0; WORDS],
            by_age: [const { AgeList { oldest: null_mut(), newest: null_mut() } }; 2],
            entered: 0,
            pages: 0,
            by_class: [FreeExtents { count: 0, bytes: 0 }; NPAGE_CLASSES],
            generation: 0,
        }
    }

    /// Pages in the cache.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// How many extents there are, by class.
    pub(super) fn by_class(&self) -> &[FreeExtents; NPAGE_CLASSES] {
        &self.by_class
    }

    /// Adds a free extent, as the newest.
    ///
    /// # Safety
    /// A live descriptor, in no cache, owned by this arena.
    pub(super) unsafe fn insert(&mut self, extent: *mut Extent) {
        // SAFETY: the caller hands over the extent; the list holds live extents only.
        unsafe {
            let pages = (*extent).pages();
            let class = class_floor(pages);
            self.heaps[class].insert(extent);
            self.occupied[class / 64] |= 1 << (class % 64);
            (*extent).set_generation(self.generation);
            let list = &mut self.by_age[usize::from(pages >= LONG_PAGES)];
            (*extent).body.list = ListLinks { entered: self.entered, next: null_mut(), previous: list.newest };
            self.entered += 1;
            if list.newest.is_null() {
                list.oldest = extent;
            } else {
                (*list.newest).body.list.next = extent;
            }
            list.newest = extent;
            self.pages += pages;
            self.by_class[class].count += 1;
            self.by_class[class].bytes += (*extent).bytes();
        }
    }

    /// Takes an extent out; from here on it is in transit, so that no neighbour merges with it.
    ///
    /// # Safety
    /// The extent is in this cache.
    #[unsafe(link_section = "heapsift_text")]
    pub(super) unsafe fn remove(&mut self, extent: *mut Extent) {
        // SAFETY: the extent is in the cache, so its heap and its list neighbours are.
        unsafe {
            let pages = (*extent).pages();
            let class = class_floor(pages);
            self.heaps[class].remove(extent);
            if self.heaps[class].is_empty() {
                self.occupied[class / 64] &= !(1 << (class % 64));
            }
            let list = &mut self.by_age[usize::from(pages >= LONG_PAGES)];
            let ListLinks { next, previous, .. } = (*extent).body.list;
            if previous.is_null() {
                list.oldest = next;
            } else {
                (*previous).body.list.next = next;
            }
            if next.is_null() {
                list.newest = previous;
            } else {
                (*next).body.list.previous = previous;
            }
            self.pages -= pages;
            self.by_class[class].count -= 1;
            self.by_class[class].bytes -= (*extent).bytes();
            (*extent).set_state(State::Transit);
        }
    }

    /// The extent that entered the cache first; null when there is none.
    pub(super) fn oldest(&self) -> *mut Extent {
        let [short, long] = self.by_age.each_ref().map(|list| list.oldest);
        // SAFETY: what is in a list is a live extent of this cache.
        let is_older = |a: *mut Extent, b: *mut Extent| unsafe { (*a).body.list.entered < (*b).body.list.entered };
        if long.is_null() || (!short.is_null() && is_older(short, long)) { short } else { long }
    }

    /// The extent to give back first where system calls are to be few: the oldest of the long ones, or one of the longest
    /// that there are. Null when there is none.
    pub(super) fn worthiest(&self) -> *mut Extent {
        let long = self.by_age[1].oldest;
        if long.is_null() { self.largest().next().unwrap_or(null_mut()) } else { long }
    }

    /// Finds the oldest, lowest extent among the size classes that fit `pages`, with size classes above
    /// `pages << lg_max_fit` left out. Null when there is none. For [`BEST_FIT_PAGES`] and more only the smallest class
    /// that has an extent counts: long extents that are split for shorter requests are what large ones then lack.
    pub(super) fn first_fit(&self, pages: usize, lg_max_fit: u32) -> *mut Extent {
        let start = class_ceil(pages);
        if start >= NPAGE_CLASSES {
            return null_mut();
        }
        if pages >= TIGHT_FIT_PAGES {
            let tight = self.tight_fit(pages);
            if !tight.is_null() {
                return tight;
            }
        }
        let mut best: *mut Extent = null_mut();
        let mut word = start / 64;
        let mut bits = self.occupied[word] & (u64::MAX << (start % 64));
        loop {
            while bits != 0 {
                let class = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if lg_max_fit < 64 && class_pages(class) >> lg_max_fit > pages {
                    return best;
                }
                let candidate = self.heaps[class].first();
                // SAFETY: an occupied heap has a live first extent.
                if best.is_null() || unsafe { (*candidate).key() < (*best).key() } {
                    best = candidate;
                }
                if pages >= BEST_FIT_PAGES {
                    return best;
                }
            }
            word += 1;
            if word == WORDS {
                return best;
            }
            bits = self.occupied[word];
        }
    }

    /// An extent of the class below that is long enough all the same: the classes are a quarter apart, and a block that
    /// comes back is just as long as the next one of its size. Null: the few that are looked at are shorter.
    fn tight_fit(&self, pages: usize) -> *mut Extent {
        // SAFETY: what is in a heap is a live extent, and the lock over this cache is held.
        self.heaps[class_floor(pages)].some(TIGHT_FIT_TRIES, |extent| unsafe { (*extent).pages() >= pages })
    }

    /// An extent that holds `pages` pages from an aligned address on, though it may be shorter than one that does so wherever
    /// it begins: blocks of such requests begin where the next one wants to. Null: the few of each class that are looked at
    /// don't.
    pub(super) fn aligned_fit(&self, pages: usize, align: usize) -> *mut Extent {
        let longest = class_ceil(pages + ((align - PAGE) >> LG_PAGE)).min(NPAGE_CLASSES);
        (class_floor(pages)..longest)
            .map(|class| {
                self.heaps[class].some(TIGHT_FIT_TRIES, |extent| {
                    // SAFETY: what is in a heap is a live extent, and the lock over this cache is held.
                    let (start, end) = unsafe { ((*extent).address(), (*extent).end()) };
                    (start + (start.wrapping_neg() & (align - 1))).saturating_add(pages << LG_PAGE) <= end
                })
            })
            .find(|found| !found.is_null())
            .unwrap_or(null_mut())
    }

    /// The first extent of each size class, the largest classes first.
    pub(super) fn largest(&self) -> impl Iterator<Item = *mut Extent> {
        let words = self.occupied.iter().enumerate().rev();
        words.flat_map(move |(word, &bits)| {
            let classes = (0..64).rev().filter(move |bit| bits >> bit & 1 != 0);
            classes.map(move |bit| self.heaps[word * 64 + bit].first())
        })
    }

    /// An extent of just `pages` pages at an aligned address, for memory that can't be cut. Only the first one of the size
    /// class is looked at. Null: it isn't such a one.
    pub(super) fn exact_fit(&self, pages: usize, align: usize) -> *mut Extent {
        let found = self.heaps[class_floor(pages)].first();
        // SAFETY: what is in a heap is a live extent.
        let fits = !found.is_null() && unsafe { (*found).pages() == pages && (*found).address() & (align - 1) == 0 };
        if fits { found } else { null_mut() }
    }

    /// Forgets all extents without looking at one, for the child of a fork.
    pub(super) fn abandon(&mut self) {
        let generation = self.generation.wrapping_add(1);
        *self = Cache::new();
        self.generation = generation;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_classes() {
        for pages in 1..100_000 {
            let ceil = class_ceil(pages);
            assert!(class_pages(ceil) >= pages && (ceil == 0 || class_pages(ceil - 1) < pages), "{pages}");
            let floor = class_floor(pages);
            assert!(class_pages(floor) <= pages && class_pages(floor + 1) > pages, "{pages}");
        }
        assert!(class_pages(NPAGE_CLASSES - 1) >= PAGES_MAX);
    }
}
