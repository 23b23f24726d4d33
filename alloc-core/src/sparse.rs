//! Pages inside of slabs that no block uses any more.
//!
//! A slab goes back to the page layer when it is empty. After a program has freed most of what it had, at random, few
//! slabs are, and each keeps all of its pages for a handful of blocks. Where a slab has several pages, those that no
//! region in use touches are given to the system; the slab stays as it is, and the pages come back, as zeros, when
//! regions on them are used again. That is done for slabs from which nothing has been taken for an eighth of the decay time,
//! and to which nothing has come back between two rounds (what is being emptied will give back more at once, or go as a
//! whole), by whoever gives unused extents back: background threads, or threads that come by.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::arena::Arena;
use crate::bin::{Bin, Inner};
use crate::decay::Tier;
use crate::extent::{Extent, State};
use crate::lock::{Mutex, Rank};
use crate::pages::ahead;
use crate::pairing::PairingHeap;
use crate::size::{self, NBINS};
use crate::sys::{self, Advice, LG_PAGE, PAGE};

/// So many words of a slab's bitmap are left for the regions where the slab's pages are watched one by one.
pub(crate) const WORDS: usize = 4;
/// Slabs looked at before others may have the bin's lock.
const STRIDE: usize = 256;
/// Ranges given back by one thread that came by for something else.
const PASSING: usize = 128;
/// A bin is looked at again after this share of the decay time, and a slab's pages go after twice that.
const ROUNDS: u64 = 16;
/// At least so long.
const ROUND_NS_MIN: u64 = 250_000_000;

/// What a slab with a bitmap of [`WORDS`] words keeps in the rest of its body.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Watched {
    free: [u64; WORDS],
    /// When a round first found it with free regions since regions were last taken; 0: none has.
    since_ns: u64,
    /// Pages that were given back since, a bit each.
    absent: u64,
    /// Free regions when a round came by last.
    seen_free: u16,
    /// Whether a round has given all back that there was, and nothing has happened since.
    settled: bool,
}

/// Which slabs a round takes pages of.
#[derive(Clone, Copy, Debug)]
enum Which {
    /// Those that have been left alone since then.
    LeftAloneSince(u64),
    /// All of them.
    All,
}

/// Whether slabs of a class have several pages and room to watch them. Where everything is checked, none has: what is in
/// free regions is looked at before they are handed out.
fn is_watched(class: usize) -> bool {
    !crate::wrong::is_checked() && (2..=64).contains(&size::slab_pages_of(class)) && size::regions(class) <= WORDS * 64
}

/// The pages of a slab that no region in use touches, a bit each.
fn idle_pages(class: usize, free: &[u64; WORDS]) -> u64 {
    let (reciprocal, regions) = (size::reciprocal(class), size::regions(class));
    let is_idle = |page: &usize| {
        let [first, last] = [page * PAGE, page * PAGE + PAGE - 1].map(|offset| size::index_by(reciprocal, offset));
        // Behind the last region nothing is used.
        let last = last.min(regions - 1);
        (first / 64..=last / 64).all(|word| {
            let from = if word == first / 64 { u64::MAX << (first % 64) } else { u64::MAX };
            let to = if word == last / 64 { u64::MAX >> (63 - last % 64) } else { u64::MAX };
            !free[word] & from & to == 0
        })
    };
    (0..size::slab_pages_of(class)).filter(is_idle).fold(0, |bits, page| bits | 1 << page)
}

/// Forgets what is known of a slab's pages: regions are about to be taken from it, or it leaves the bin. Returns how many
/// of them were given back.
///
/// # Safety
/// A slab of class `class`; its bin's lock is held.
#[inline]
pub(crate) unsafe fn forget(class: usize, slab: *mut Extent) -> usize {
    if size::regions(class) > WORDS * 64 {
        return 0;
    }
    // SAFETY: the caller's promise; with so few regions the bitmap does not reach there.
    unsafe {
        let watched = &mut (*slab).body.watched;
        watched.since_ns = 0;
        core::mem::take(&mut watched.absent).count_ones() as usize
    }
}

/// What a look at a bin has come to.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    /// Ranges of pages given back.
    ranges: usize,
    /// Whether there is more to give back, or will be.
    is_more: bool,
}

impl Bin {
    /// Gives back idle pages of slabs, in at most `most` ranges.
    fn give_back_idle_pages(&self, arena: usize, class: usize, now_ns: u64, which: Which, most: usize) -> Looked {
        let mut looked = Looked::default();
        let mut inner = self.inner.lock();
        let mut slab = inner.nonfull.first();
        // Slabs come and go whenever the lock is free, so the walk may begin anew; it ends all the same.
        let mut steps = 2 * inner.counts.nonfull_slabs + STRIDE;
        while !slab.is_null() && steps > 0 {
            if looked.ranges >= most {
                looked.is_more = true;
                break;
            }
            steps -= 1;
            // SAFETY: the heap holds live slabs of this bin, whose lock is held; their classes have room for `watched`.
            let gone = unsafe { inner.look_at(class, slab, now_ns, which, &mut looked) };
            if gone || steps.is_multiple_of(STRIDE) {
                // Others may have the lock.
                drop(inner);
                inner = self.inner.lock();
                // SAFETY: descriptors stay descriptors; atomic fields tell whether it still is in this heap.
                let stayed = unsafe {
                    (*slab).state() == State::Active
                        && (*slab).class() == class
                        && (*slab).arena() == arena
                        && (*slab).in_bin_heap()
                };
                if !stayed {
                    slab = inner.nonfull.first();
                    continue;
                }
            }
            // SAFETY: it is in the heap.
            slab = unsafe { PairingHeap::after(slab) };
        }
        looked
    }
}

impl Inner {
    /// Looks at one slab. Returns whether pages of it went.
    ///
    /// # Safety
    /// A slab in this bin's heap, of a class that is watched.
    unsafe fn look_at(
        &mut self,
        class: usize,
        slab: *mut Extent,
        now_ns: u64,
        which: Which,
        looked: &mut Looked,
    ) -> bool {
        // SAFETY: the caller's promise, for the slab and for what its body is.
        let (free_regions, watched) = unsafe { ((*slab).free_regions, &mut (*slab).body.watched) };
        let is_quiet = core::mem::replace(&mut watched.seen_free, free_regions) == free_regions;
        if watched.since_ns == 0 {
            watched.since_ns = now_ns;
            watched.settled = false;
        }
        watched.settled &= is_quiet;
        if let Which::LeftAloneSince(before_ns) = which {
            if watched.since_ns > before_ns || !is_quiet {
                // There may be; the bitmap is looked at when it is time.
                looked.is_more = true;
                return false;
            }
            if watched.settled {
                return false;
            }
        }
        let idle = idle_pages(class, &watched.free) & !watched.absent;
        if idle == 0 {
            watched.settled = true;
            return false;
        }
        // SAFETY: as above.
        let address = unsafe { (*slab).address() };
        let (mut rest, mut gone) = (idle, 0);
        while rest != 0 {
            let first = rest.trailing_zeros();
            let count = (rest >> first).trailing_ones();
            let run = if count == 64 { u64::MAX } else { ((1u64 << count) - 1) << first };
            // SAFETY: no region in use touches these pages, and the lock keeps regions from being taken.
            let is_gone = unsafe {
                let (start, bytes) = (address + (first as usize) * PAGE, count as usize * PAGE);
                ahead::split(start, bytes);
                sys::advise(start, bytes, Advice::DontNeed).is_ok()
            };
            if is_gone {
                gone |= run;
            }
            looked.ranges += 1;
            rest &= !run;
        }
        watched.absent |= gone;
        self.counts.absent_pages += gone.count_ones() as usize;
        gone != 0
    }
}

/// Who gives idle pages of an arena back, and when.
#[derive(Debug)]
pub(crate) struct Sparse {
    turn: Mutex<Round>,
    /// When the next round begins, or goes on.
    due_ns: AtomicU64,
    /// Whether a round would find something.
    is_more: AtomicBool,
}

#[derive(Debug)]
struct Round {
    class: usize,
    is_more: bool,
}

impl Sparse {
    pub(crate) const fn new() -> Self {
        Sparse {
            turn: Mutex::new(Rank::Sparse, Round { class: 1, is_more: false }),
            due_ns: AtomicU64::new(0),
            is_more: AtomicBool::new(true),
        }
    }

    /// Has bins forget their slabs while nobody walks through these.
    pub(crate) fn between_rounds(&self, forget: impl FnOnce()) {
        let _round = self.turn.lock();
        forget();
    }

    pub(crate) fn after_fork(&self) {
        self.turn.after_fork(|round| *round = Round { class: 1, is_more: false });
    }
}

impl Arena {
    /// Nanoseconds between two rounds; `None`: none of this arena's pages goes by itself, or only with its hooks' consent.
    fn round_ns(&self) -> Option<u64> {
        let ms = self.pages.decay_ms(Tier::Dirty);
        if ms < 0 || self.pages.has_hooks() {
            return None;
        }
        Some((ms as u64).saturating_mul(1_000_000 / ROUNDS).max(ROUND_NS_MIN))
    }

    /// Gives back what is due at `now_ns` of pages inside of slabs. A thread that is `passing` by does part of a round.
    pub(crate) fn give_back_idle_pages(&self, now_ns: u64, passing: bool) {
        if now_ns < self.sparse.due_ns.load(Ordering::Relaxed) || !sys::dont_need_clears() {
            return;
        }
        // Another thread may be at it.
        let (Some(round_ns), Some(mut round)) = (self.round_ns(), self.sparse.turn.try_lock()) else { return };
        let which = Which::LeftAloneSince(now_ns.saturating_sub(2 * round_ns));
        let mut left = if passing { PASSING } else { usize::MAX };
        while round.class <= NBINS {
            let class = round.class;
            if is_watched(class) {
                let looked = self.bin(class).give_back_idle_pages(self.index(), class, now_ns, which, left);
                round.is_more |= looked.is_more;
                left = left.saturating_sub(looked.ranges);
                if left == 0 {
                    return;
                }
            }
            round.class += 1;
            // A bin at a time is enough for a thread that has other things to do.
            if passing && round.class <= NBINS {
                return;
            }
        }
        self.sparse.is_more.store(round.is_more, Ordering::Relaxed);
        self.sparse.due_ns.store(now_ns + round_ns, Ordering::Relaxed);
        *round = Round { class: 1, is_more: false };
    }

    /// Gives back all idle pages inside of slabs.
    pub(crate) fn give_back_all_idle_pages(&self) {
        if self.pages.has_hooks() || !sys::dont_need_clears() {
            return;
        }
        let (_round, now_ns) = (self.sparse.turn.lock(), sys::clock_coarse_ns());
        for class in (1..=NBINS).filter(|&class| is_watched(class)) {
            self.bin(class).give_back_idle_pages(self.index(), class, now_ns, Which::All, usize::MAX);
        }
    }

    /// When a background thread should come for pages inside of slabs; all ones: when there are unused extents again.
    pub(crate) fn next_idle_pages_ns(&self) -> u64 {
        let is_more = self.sparse.is_more.load(Ordering::Relaxed) && self.round_ns().is_some();
        if is_more { self.sparse.due_ns.load(Ordering::Relaxed) } else { u64::MAX }
    }

    /// Bytes of the pages inside of slabs that were given back and not used since.
    pub(crate) fn absent_bytes(&self) -> usize {
        (1..=NBINS).map(|class| self.bin(class).counts().0.absent_pages << LG_PAGE).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_no_region_touches_are_idle() {
        let class = (1..=NBINS).find(|&class| size::class_bytes(class) == 1280).unwrap();
        assert_eq!((size::slab_pages_of(class), size::regions(class)), (5, 16));
        let all = 0xffff;
        assert_eq!(idle_pages(class, &[all, 0, 0, 0]), 0b11111);
        // 3840 to 5119: two pages.
        assert_eq!(idle_pages(class, &[all & !(1 << 3), 0, 0, 0]), 0b11100);
        assert_eq!(idle_pages(class, &[all & !(1 << 15), 0, 0, 0]), 0b01111);
        assert_eq!(idle_pages(class, &[0; 4]), 0);
        for class in (1..=NBINS).filter(|&class| is_watched(class)) {
            let regions = size::regions(class);
            for used in 0..regions {
                let mut free = [u64::MAX; WORDS];
                free[used / 64] &= !(1 << (used % 64));
                let idle = idle_pages(class, &free);
                let (first, last) = (used * size::class_bytes(class), (used + 1) * size::class_bytes(class) - 1);
                for page in 0..size::slab_pages_of(class) {
                    let touches = page >= first / PAGE && page <= last / PAGE;
                    assert_eq!(idle >> page & 1 == 0, touches, "class {class} region {used} page {page}");
                }
            }
        }
    }
}
