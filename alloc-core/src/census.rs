//! Where the heap's memory is, for profiles: exact totals by size class.

use core::sync::atomic::Ordering;

use crate::heap::{Heap, INTERNAL_ARENA};
use crate::observer::Observer;
use crate::size::{self, NBINS, NCLASSES};
use crate::sys::LG_PAGE;
use crate::thread::{places, read_counter};

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
    /// Usable bytes that the program holds: the sum over all threads.
    pub fn allocated(&'static self) -> usize {
        let threads = self.core.threads.lock();
        let mut freed = self.core.gone_deallocated.load(Ordering::Relaxed);
        let mut allocated = self.core.gone_allocated.load(Ordering::Relaxed);
        let mut thread = threads.first;
        while !thread.is_null() {
            // SAFETY: the list holds live states, and its lock is held. Frees first, as in `stats`.
            unsafe {
                freed = freed.wrapping_add((*thread).deallocated());
                allocated = allocated.wrapping_add(read_counter(&raw mut (*thread).allocated));
                thread = (*thread).next;
            }
        }
        (allocated.wrapping_sub(freed) as i64).max(0) as usize
    }

    /// Usable bytes that the calling thread has allocated less those that it has freed, of whichever thread; 0 when it
    /// is ending. Negative for threads that free what others allocate.
    pub fn thread_allocated_less_freed(&'static self) -> i64 {
        let thread = self.thread();
        // SAFETY: the calling thread's own state, or a shared one, whose counters are 0.
        unsafe { (*thread).allocated.wrapping_sub((*thread).deallocated()) as i64 }
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
