//! `prof.reset`: all samples are forgotten while others are taken.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::dump;
use crate::profiler::Profiler;

/// Counts the moments at which samples begin to be forgotten, and those at which they are: odd in between.
#[derive(Debug)]
pub struct Resets(AtomicU32);

impl Resets {
    /// There was none.
    pub const fn new() -> Self {
        Resets(AtomicU32::new(0))
    }

    /// To be asked before a sample is counted.
    #[inline]
    pub fn count(&self) -> u32 {
        // Acquire: pairs with the AcqRel in `begin` and `end`. What is forgotten lies between the two.
        self.0.load(Ordering::Acquire)
    }

    /// Whether samples were being forgotten at any time since there were `count`.
    #[inline]
    pub fn any_since(&self, count: u32) -> bool {
        count & 1 != 0 || self.count() != count
    }

    fn begin(&self) {
        // One that was left half done by the parent of a fork has begun already.
        self.0.fetch_or(1, Ordering::AcqRel);
    }

    fn end(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Default for Resets {
    fn default() -> Self {
        Self::new()
    }
}

impl Profiler {
    /// Forgets all samples, once no dump is being written: one would find counts without records, or records without counts.
    pub(crate) fn reset(&self) {
        dump::between_dumps(|| self.forget());
    }

    fn forget(&self) {
        self.resets.begin();
        self.buckets.clear();
        self.records.clear();
        // Frees count the lives of samples that aren't forgotten.
        self.lifetimes.clear(self.buckets.count());
        self.frees.clear();
        self.peak.forget();
        self.resets.end();
    }

    /// In the child of a fork: what another thread was forgetting is forgotten.
    pub(crate) fn end_reset_after_fork(&self) {
        if self.resets.count() & 1 != 0 && !dump::has_turn() {
            self.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::HEAP;

    /// Takes a sample, and says whether it was forgotten at once.
    fn is_forgotten() -> bool {
        let block = HEAP.allocate(1000);
        assert!(!block.is_null());
        let record = HEAP.observer().records.remove(block.addr(), HEAP.arena_at(block.addr()), 0);
        // SAFETY: allocated above.
        unsafe { HEAP.deallocate(block) };
        record.expect("every block is sampled").is_forgotten()
    }

    #[test]
    fn what_is_sampled_during_a_reset_is_forgotten() {
        let profiler = HEAP.observer();
        profiler.enable(true);
        profiler.set_interval(1);
        assert!(!is_forgotten());
        profiler.resets.begin();
        // Its count may be gone by the end, and its record lie where the reset has been.
        assert!(is_forgotten());
        profiler.resets.end();
        assert!(!is_forgotten());
    }

    #[test]
    fn a_child_ends_what_its_parent_had_begun() {
        let profiler = HEAP.observer();
        profiler.end_reset_after_fork();
        assert_eq!(profiler.resets.count(), 0);
        profiler.resets.begin();
        profiler.end_reset_after_fork();
        assert_eq!(profiler.resets.count(), 2);
    }
}
