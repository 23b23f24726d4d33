//! Sampled blocks by size class: `prof.stats.*`, with `prof_stats:true`.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloc_core::ctl::node::Plain;
use alloc_core::ctl::{Call, Code};
use alloc_core::size::{self, NBINS, NLEXTENTS};
use alloc_core::stats::SampleSums;

use crate::HEAP;

const CLASSES: usize = NBINS + NLEXTENTS;

/// Requested bytes and blocks, as jemalloc's `prof_stats_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sums {
    requested: u64,
    count: u64,
}
// SAFETY: two numbers, no padding.
unsafe impl Plain for Sums {}

#[derive(Debug)]
struct Counter {
    requested: AtomicU64,
    count: AtomicU64,
}

impl Counter {
    const fn new() -> Self {
        Counter { requested: AtomicU64::new(0), count: AtomicU64::new(0) }
    }

    fn add(&self, requested: u64) {
        self.requested.fetch_add(requested, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> Sums {
        Sums { requested: self.requested.load(Ordering::Relaxed), count: self.count.load(Ordering::Relaxed) }
    }
}

/// Samples by class: ever taken, and freed.
#[derive(Debug)]
#[repr(C)]
pub struct ClassStats {
    /// `prof_stats`.
    pub on: AtomicBool,
    taken: [Counter; CLASSES],
    freed: [Counter; CLASSES],
}

fn class(usable: usize) -> usize {
    if usable <= size::SMALL_MAX { size::class_of(usable) - 1 } else { NBINS + size::large_index(usable) }
}

impl ClassStats {
    /// None.
    pub const fn new() -> Self {
        ClassStats {
            on: AtomicBool::new(false),
            taken: [const { Counter::new() }; CLASSES],
            freed: [const { Counter::new() }; CLASSES],
        }
    }

    /// What is told of a class: live blocks, or all that were ever sampled.
    fn sums(&self, class: usize, live: bool) -> Sums {
        // Frees first, so that no more are freed than were taken.
        let freed = if live { self.freed[class].get() } else { Sums::default() };
        let taken = self.taken[class].get();
        Sums {
            requested: taken.requested.saturating_sub(freed.requested),
            count: taken.count.saturating_sub(freed.count),
        }
    }

    /// Both, for the report.
    pub fn told(&self, class: usize) -> Option<SampleSums> {
        if !self.on.load(Ordering::Relaxed) {
            return None;
        }
        let (live, accum) = (self.sums(class, true), self.sums(class, false));
        Some(SampleSums {
            live_requested: live.requested,
            live_count: live.count,
            accum_requested: accum.requested,
            accum_count: accum.count,
        })
    }

    /// A sample was taken.
    pub fn sampled(&self, usable: usize, requested: usize) {
        if self.on.load(Ordering::Relaxed) {
            self.taken[class(usable)].add(requested as u64);
        }
    }

    /// The block of a sample goes away.
    pub fn freed(&self, usable: usize, requested: usize) {
        if self.on.load(Ordering::Relaxed) {
            self.freed[class(usable)].add(requested as u64);
        }
    }
}

impl Default for ClassStats {
    fn default() -> Self {
        Self::new()
    }
}

/// `prof.stats.bins.<i>.…` with `first` 0 and `count` [`NBINS`], `prof.stats.lextents.<i>.…` with those of large classes.
pub fn control(call: &mut Call<'_>, first: usize, count: usize, live: bool) -> Result<(), Code> {
    let profiler = HEAP.observer();
    let stats = &profiler.class_stats;
    let index = call.index(3);
    if !profiler.settings.enabled.load(Ordering::Relaxed) || !stats.on.load(Ordering::Relaxed) || index >= count {
        return Err(Code::ENOENT);
    }
    call.read_only()?;
    call.read(stats.sums(first + index, live))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_count_in_their_class() {
        static STATS: ClassStats = ClassStats::new();
        STATS.sampled(16, 9);
        assert_eq!((STATS.taken[1].get(), STATS.told(1)), (Sums::default(), None));
        STATS.on.store(true, Ordering::Relaxed);
        STATS.sampled(16, 9);
        STATS.sampled(16, 16);
        STATS.freed(16, 9);
        STATS.sampled(14336, 14000);
        STATS.sampled(16384, 14337);
        STATS.sampled(1 << 40, 1 << 40);
        assert_eq!(
            (STATS.taken[1].get(), STATS.freed[1].get()),
            (Sums { requested: 25, count: 2 }, Sums { requested: 9, count: 1 })
        );
        let told = SampleSums { live_requested: 16, live_count: 1, accum_requested: 25, accum_count: 2 };
        assert_eq!(STATS.told(1), Some(told));
        assert_eq!((STATS.taken[NBINS - 1].get().count, STATS.taken[NBINS].get().requested), (1, 14337));
    }
}
