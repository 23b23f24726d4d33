//! How the bound on unused pages gives way to programs whose memory comes and goes in a rhythm.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::Shared;
use crate::sys;

/// What the bound has cost: a program whose heap swells and shrinks in a rhythm gets pages back from the kernel that it
/// had to give away a moment ago. It may keep more.
#[derive(Debug)]
pub(super) struct Regret {
    /// Bytes that may be kept beyond the bound.
    allowed: AtomicUsize,
    /// Bytes that the bound has taken lately and that have not been missed yet.
    taken: AtomicUsize,
    /// When it took them, in ticks of the processor.
    taken_at: AtomicU64,
    /// Of those, bytes that have been missed.
    missed: AtomicUsize,
    /// Whether anything was missed before: once is no rhythm.
    is_rhythm: AtomicBool,
    /// When something was missed last.
    missed_at: AtomicU64,
    /// How often anything was missed.
    misses: AtomicU64,
    /// That number when the last thread but one ended last.
    misses_at_end: AtomicU64,
    /// Ends of the last thread but one after which something was missed.
    ends: AtomicU32,
}

/// What is wanted again within so many ticks of the processor, some tenths of a second, is missed.
const MISSED_TICKS: u64 = 1 << 29;
/// What is allowed is halved when nothing has been missed for so many ticks, some seconds.
const FORGIVEN_TICKS: u64 = 1 << 32;
/// Most that is allowed beyond the bound.
const REGRET_BYTES_MAX: usize = 256 << 20;

/// A rhythm is learned so many times faster than by the bytes that were missed: a program whose heap swings by half a
/// gigabyte would otherwise be half done before it has its pages.
const EAGERNESS: usize = 4;

/// Ends of all threads but one that take what is beyond the strict bound, though it is missed each time.
const ENDS: u32 = 16;

impl Regret {
    pub(super) const fn new() -> Self {
        Regret {
            allowed: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            taken_at: AtomicU64::new(0),
            missed: AtomicUsize::new(0),
            is_rhythm: AtomicBool::new(false),
            missed_at: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            misses_at_end: AtomicU64::new(0),
            ends: AtomicU32::new(0),
        }
    }

    /// Bytes that may be kept beyond the bound.
    #[inline]
    pub(super) fn allowed(&self) -> usize {
        self.allowed.load(Ordering::Relaxed)
    }

    /// The bound is about to take pages: what have those of the last time been worth?
    pub(super) fn learn(&self) {
        let now = sys::ticks();
        let allowed = self.allowed.load(Ordering::Relaxed);
        // Relaxed, here as elsewhere: two threads that learn at once may learn a little wrong.
        let missed = self.missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            self.missed_at.store(now, Ordering::Relaxed);
            if self.is_rhythm.swap(true, Ordering::Relaxed) {
                self.allowed.store((allowed + missed * EAGERNESS).min(REGRET_BYTES_MAX), Ordering::Relaxed);
            }
        } else if now.wrapping_sub(self.missed_at.load(Ordering::Relaxed)) > FORGIVEN_TICKS {
            self.missed_at.store(now, Ordering::Relaxed);
            self.allowed.store(allowed / 2, Ordering::Relaxed);
            self.ends.store(0, Ordering::Relaxed);
            if allowed == 0 {
                self.is_rhythm.store(false, Ordering::Relaxed);
            }
        }
    }

    /// The bound has taken so many bytes.
    pub(super) fn note_taken(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        self.taken_at.store(sys::ticks(), Ordering::Relaxed);
    }

    #[cold]
    fn note_fresh(&self, bytes: usize) {
        if sys::ticks().wrapping_sub(self.taken_at.load(Ordering::Relaxed)) > MISSED_TICKS {
            self.taken.store(0, Ordering::Relaxed);
            return;
        }
        let taken = self.taken.load(Ordering::Relaxed);
        let missed = bytes.min(taken);
        self.taken.store(taken - missed, Ordering::Relaxed);
        self.missed.fetch_add(missed, Ordering::Relaxed);
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// The last thread but one has ended: whether what such an end took has been missed often enough to take nothing.
    pub(super) fn is_used_to_ends(&self) -> bool {
        let misses = self.misses.load(Ordering::Relaxed);
        if self.misses_at_end.swap(misses, Ordering::Relaxed) != misses {
            self.ends.fetch_add(1, Ordering::Relaxed);
        }
        self.ends.load(Ordering::Relaxed) > ENDS
    }
}

impl Shared {
    /// So many bytes without pages behind them are about to be used.
    #[inline]
    pub(super) fn note_fresh(&self, bytes: usize) {
        if self.regret.taken.load(Ordering::Relaxed) != 0 {
            self.regret.note_fresh(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rhythm_is_learned_and_a_single_swing_is_not() {
        let regret = Regret::new();
        let swing = || {
            regret.learn();
            regret.note_taken(10 << 20);
            regret.note_fresh(4 << 20);
            regret.note_fresh(100 << 20);
        };
        swing();
        regret.learn();
        assert_eq!(regret.allowed(), 0);
        swing();
        regret.learn();
        assert_eq!(regret.allowed(), (EAGERNESS * 10) << 20);
        (0..100).for_each(|_| swing());
        assert_eq!(regret.allowed(), REGRET_BYTES_MAX);
        // Nothing missed for a long time.
        regret.missed.store(0, Ordering::Relaxed);
        regret.missed_at.store(sys::ticks().wrapping_sub(FORGIVEN_TICKS + 1), Ordering::Relaxed);
        regret.learn();
        assert_eq!(regret.allowed(), REGRET_BYTES_MAX / 2);
        // What was taken long ago isn't missed.
        regret.note_taken(10 << 20);
        regret.taken_at.store(sys::ticks().wrapping_sub(MISSED_TICKS + 1), Ordering::Relaxed);
        regret.note_fresh(1 << 20);
        assert_eq!(regret.missed.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn ends_of_threads_become_a_rhythm_after_many() {
        let regret = Regret::new();
        for end in 0..100 {
            assert_eq!(regret.is_used_to_ends(), end > ENDS, "{end}");
            regret.note_taken(1 << 20);
            regret.note_fresh(1 << 20);
        }
        // Nothing missed: as it was.
        let other = Regret::new();
        assert!((0..100).all(|_| !other.is_used_to_ends()));
    }
}
