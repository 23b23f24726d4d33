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
    /// Bytes by which the process has grown since, though it kept pages beyond the strict bound.
    outgrown: AtomicUsize,
    /// When pages were missed that had been taken because of that, in ticks; 0: never.
    growth_missed_at: AtomicU64,
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

/// Growth beside pages that are kept is worth a look at them from so many bytes on.
const OUTGROWN_BYTES: usize = 4 << 20;

/// After a miss of what such growth has taken, none is believed for so many ticks.
const GROWTH_BELIEVED_TICKS: u64 = 4 * FORGIVEN_TICKS;

/// Memory that is used for the first time is much from so many bytes on.
const GROWTH_BYTES: usize = 512 << 10;

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
            outgrown: AtomicUsize::new(0),
            growth_missed_at: AtomicU64::new(0),
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

    /// Whether the process has grown by so much beside what it keeps that this should give way.
    #[inline]
    pub(super) fn is_outgrown(&self) -> bool {
        self.outgrown() >= OUTGROWN_BYTES
    }

    /// Bytes by which it has.
    pub(super) fn outgrown(&self) -> usize {
        self.outgrown.load(Ordering::Relaxed)
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

    /// The bound has taken so many bytes. Returns how many of them it took because the process has grown.
    pub(super) fn note_taken(&self, bytes: usize) -> usize {
        // Relaxed: what comes in between may be forgotten.
        let for_growth = self.outgrown().min(bytes);
        self.outgrown.store(self.outgrown() - for_growth, Ordering::Relaxed);
        self.taken.fetch_add(bytes - for_growth, Ordering::Relaxed);
        self.taken_at.store(sys::ticks(), Ordering::Relaxed);
        for_growth
    }

    /// Returns how many of the bytes are growth, as far as can be told: they were not missed.
    #[cold]
    fn note_fresh(&self, bytes: usize) -> usize {
        if sys::ticks().wrapping_sub(self.taken_at.load(Ordering::Relaxed)) > MISSED_TICKS {
            self.taken.store(0, Ordering::Relaxed);
            return bytes;
        }
        let taken = self.taken.load(Ordering::Relaxed);
        let missed = bytes.min(taken);
        self.taken.store(taken - missed, Ordering::Relaxed);
        self.missed.fetch_add(missed, Ordering::Relaxed);
        self.misses.fetch_add(1, Ordering::Relaxed);
        bytes - missed
    }

    /// The process has grown by so many bytes while it keeps pages beyond the strict bound.
    #[cold]
    fn note_growth(&self, bytes: usize) {
        let missed_at = self.growth_missed_at.load(Ordering::Relaxed);
        if missed_at == 0 || sys::ticks().wrapping_sub(missed_at) > GROWTH_BELIEVED_TICKS {
            self.outgrown.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// An arena that had to give pages away for growth wants pages: if that was just now, there was a rhythm after all.
    #[cold]
    fn note_fresh_after_growth(&self) {
        let now = sys::ticks();
        if now.wrapping_sub(self.taken_at.load(Ordering::Relaxed)) <= MISSED_TICKS {
            self.growth_missed_at.store(now.max(1), Ordering::Relaxed);
            self.outgrown.store(0, Ordering::Relaxed);
        }
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
    /// An arena is about to use so many bytes without pages behind them; it has had to give `lent` bytes for growth.
    #[inline]
    pub(super) fn note_fresh(&self, bytes: usize, lent: &mut usize) {
        self.count_growth(bytes);
        let regret = &self.regret;
        let mut growth = bytes;
        if regret.taken.load(Ordering::Relaxed) != 0 {
            growth = regret.note_fresh(bytes);
        }
        if core::mem::take(lent) != 0 {
            regret.note_fresh_after_growth();
        }
        if regret.allowed() != 0 && self.dirty_bytes.load(Ordering::Relaxed) > self.strict_bound() {
            regret.note_growth(growth);
        }
    }

    #[inline]
    fn count_growth(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let fresh = self.fresh_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if fresh >= GROWTH_BYTES.max(self.active_bytes.load(Ordering::Relaxed) / 8) {
            // Relaxed, and no exchange: what another thread adds meanwhile may be forgotten.
            self.fresh_bytes.store(0, Ordering::Relaxed);
            self.growths.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the process has used an eighth more memory for the first time, and half a mebibyte at least. Then it is time
    /// to see whether there isn't some that nobody needs.
    #[inline]
    pub(crate) fn growths(&self) -> usize {
        self.growths.load(Ordering::Relaxed)
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
