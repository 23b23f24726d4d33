//! Where the heap's memory is, for profiles: exact totals by size class.

use core::sync::atomic::{AtomicI64, Ordering};

use crate::heap::{Heap, INTERNAL_ARENA};
use crate::observer::Observer;
use crate::size::{self, NBINS, NCLASSES};
use crate::sys::LG_PAGE;
use crate::thread::{Kind, places, read_counter};

/// What the program holds of one size class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassTotal {
    /// Usable bytes of a block; 0: all large blocks together.
    pub size: usize,
    /// Blocks that the program holds.
    pub blocks: usize,
    /// Their usable bytes.
    pub bytes: usize,
    /// Pages behind them and behind what is free among them, in bytes.
    pub active: usize,
    /// Bytes of such blocks in thread caches.
    pub cached: usize,
}

impl ClassTotal {
    /// Bytes of slabs that are neither in a block of the program nor in a thread cache.
    pub fn slack(&self) -> usize {
        self.active.saturating_sub(self.bytes + self.cached)
    }
}

impl<O: Observer> Heap<O> {
    /// Usable bytes that the program holds, the sum over all threads; and how many threads that was. What each of them holds
    /// has been told with it.
    pub fn tell_balances(&'static self) -> (usize, usize) {
        let mut count = 0;
        let allocated = self.sum_balances(|told, balance| {
            told.store(balance, Ordering::Relaxed);
            count += 1;
        });
        (allocated, count)
    }

    /// By how much the calling thread's balance has risen since it was told last: usable bytes that it has allocated less
    /// those that it has freed, of whichever thread. 0 when it is ending.
    pub fn tell_balance(&'static self) -> i64 {
        let thread = self.thread();
        // SAFETY: the calling thread's own state, or a shared one, which is only read.
        unsafe {
            if (*thread).kind != Kind::Live {
                return 0;
            }
            let balance = (*thread).allocated.wrapping_sub((*thread).deallocated()) as i64;
            // Not as one step: who sums all up may come in between, and then a little of the rise is told twice.
            let before = (*thread).told.load(Ordering::Relaxed);
            (*thread).told.store(balance, Ordering::Relaxed);
            balance.wrapping_sub(before)
        }
    }

    /// Usable bytes that the program holds: the sum over all threads.
    pub fn allocated(&'static self) -> usize {
        self.sum_balances(|_, _| {})
    }

    /// The sum over all threads; hands each one's part to `note`, with where it keeps what it has told.
    fn sum_balances(&'static self, mut note: impl FnMut(&AtomicI64, i64)) -> usize {
        let threads = self.core.threads.lock();
        let gone = self.core.gone_deallocated.load(Ordering::Relaxed);
        let mut sum = self.core.gone_allocated.load(Ordering::Relaxed).wrapping_sub(gone) as i64;
        let mut thread = threads.first;
        while !thread.is_null() {
            // SAFETY: the list holds live states, and its lock is held. Frees first, as in `stats`.
            unsafe {
                let freed = (*thread).deallocated();
                let balance = read_counter(&raw mut (*thread).allocated).wrapping_sub(freed) as i64;
                note(&(*thread).told, balance);
                sum = sum.wrapping_add(balance);
                thread = (*thread).next;
            }
        }
        sum.max(0) as usize
    }

    /// Exact totals by class, the large blocks last; the library's own blocks are left out. One moment's picture of a
    /// heap that nobody changes meanwhile; else the numbers of a class may be a few blocks apart.
    pub fn class_totals(&'static self) -> [ClassTotal; NBINS + 1] {
        self.ensure_booted();
        let mut cached = [0usize; NCLASSES + 1];
        {
            let threads = self.core.threads.lock();
            let mut thread = threads.first;
            while !thread.is_null() {
                // SAFETY: the list holds live states, and its lock is held; the owner moves its tops meanwhile.
                unsafe {
                    for place in places() {
                        cached[size::class_at(place)] += (*thread).cached_by_anybody(place);
                    }
                    thread = (*thread).next;
                }
            }
        }
        let mut totals = [ClassTotal::default(); NBINS + 1];
        let [small @ .., large] = &mut totals;
        for arena in self.core.arenas.iter().filter(|arena| arena.index() != INTERNAL_ARENA) {
            for (i, total) in small.iter_mut().enumerate() {
                let (counts, _) = arena.bin(i + 1).counts();
                total.blocks += counts.curregs;
                total.active += counts.curslabs * (size::slab_pages(i) << LG_PAGE);
            }
            large.blocks += arena.large.classes.iter().map(crate::large::LargeCounts::current).sum::<usize>();
            large.active += arena.large.bytes.load(Ordering::Relaxed);
        }
        for (i, total) in small.iter_mut().enumerate() {
            let size = size::class_size(i);
            total.size = size;
            total.cached = cached[i + 1].min(total.blocks) * size;
            total.blocks -= cached[i + 1].min(total.blocks);
            total.bytes = total.blocks * size;
        }
        for (class, cached) in cached.iter().enumerate().skip(NBINS + 1) {
            large.cached += cached * size::class_bytes(class);
            large.blocks = large.blocks.saturating_sub(*cached);
        }
        large.bytes = large.active.saturating_sub(large.cached);
        totals
    }
}
