//! When unused pages go back to the OS: jemalloc's decay curve.
//!
//! Pages that became unused at one moment are let go over `decay_ms`, along smootherstep (6x^5 − 15x^4 + 10x^3): few at
//! first, most in the middle. Time is cut into [`STEPS`] epochs; a backlog remembers how many pages became unused in
//! each, and the limit is the sum of the backlog weighted by the curve. Pure arithmetic: no clock, no lock, no pages.

/// Epochs in which a page decays.
pub const STEPS: usize = 200;
/// Fixed-point bits of a weight of the curve.
const LG_ONE: u32 = 24;

/// Which unused pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Still backed by memory.
    Dirty,
    /// Given to the kernel lazily.
    Muzzy,
}

const fn make_curve() -> [u64; STEPS] {
    let mut curve = [0u64; STEPS];
    let mut i = 0;
    while i < STEPS {
        let x = (i + 1) as f64 / STEPS as f64;
        let y = x * x * x * (x * (x * 6.0 - 15.0) + 10.0);
        curve[i] = (y * (1u64 << LG_ONE) as f64) as u64;
        i += 1;
    }
    curve
}

/// The share of pages still kept, by epochs to go (index 0: about to be gone), in 2^-24.
static CURVE: [u64; STEPS] = make_curve();

/// The decay of one tier of one arena.
#[derive(Debug)]
pub struct Decay {
    /// Milliseconds until an unused page is gone; 0 at once, negative never.
    pub ms: i64,
    epoch_start_ns: u64,
    /// Unused pages when the last epoch ended.
    pages_before: usize,
    /// Pages that became unused in each epoch, the latest last.
    backlog: [u32; STEPS],
}

impl Decay {
    /// The longest time, in milliseconds: that of jemalloc, which fits in nanoseconds.
    pub const MS_MAX: i64 = 18_446_744_072_000;

    /// A decay without a backlog.
    pub const fn new(ms: i64) -> Self {
        Decay { ms, epoch_start_ns: 0, pages_before: 0, backlog: [0; STEPS] }
    }

    fn epoch_ns(&self) -> u64 {
        (self.ms.max(1) as u64).saturating_mul(1_000_000) / STEPS as u64
    }

    /// Sets a new time and starts afresh: what is unused now counts as just become so.
    pub fn reset(&mut self, ms: i64, now_ns: u64) {
        *self = Decay { ms, epoch_start_ns: now_ns, pages_before: 0, backlog: [0; STEPS] };
    }

    /// When the next epoch ends, in nanoseconds of the monotonic clock.
    pub fn deadline_ns(&self) -> u64 {
        if self.ms <= 0 { u64::MAX } else { self.epoch_start_ns.saturating_add(self.epoch_ns()) }
    }

    /// How many of `unused` pages may stay at `now_ns`. Moves on by whole epochs.
    pub fn limit(&mut self, now_ns: u64, unused: usize) -> usize {
        if self.ms < 0 {
            return usize::MAX;
        }
        if self.ms == 0 {
            return 0;
        }
        if self.epoch_start_ns == 0 || now_ns < self.epoch_start_ns {
            // The first look, or a clock that went back.
            self.epoch_start_ns = now_ns;
        }
        let passed = (now_ns - self.epoch_start_ns) / self.epoch_ns().max(1);
        if passed > 0 {
            let shift = (passed as usize).min(STEPS);
            self.backlog.copy_within(shift.., 0);
            self.backlog[STEPS - shift..].fill(0);
            self.backlog[STEPS - 1] = unused.saturating_sub(self.pages_before).min(u32::MAX as usize) as u32;
            self.epoch_start_ns += passed * self.epoch_ns();
            self.pages_before = unused;
        }
        let sum: u64 = self.backlog.iter().zip(&CURVE).map(|(&pages, &weight)| pages as u64 * weight).sum();
        let limit = (sum >> LG_ONE) as usize;
        // What became unused in the epoch that is still running is kept.
        limit.saturating_add(unused.saturating_sub(self.pages_before))
    }

    /// When a background thread that has looked at `now_ns`, and left so many pages, is to look again; all ones: there is no
    /// need to. What is freed meanwhile begins to age with that look, and there may be much of it where there is little now:
    /// so it comes soon, however long it takes until the pages that are known of are due.
    pub fn next_look_ns(&self, now_ns: u64, unused: usize) -> u64 {
        /// Pages that are worth a look in each epoch.
        const MANY: usize = 1024;
        if unused == 0 || self.ms < 0 {
            return u64::MAX;
        }
        now_ns.saturating_add(self.epoch_ns() * if unused < MANY { 2 } else { 1 })
    }

    /// Tells how many unused pages are left after a purge.
    pub fn purged_to(&mut self, unused: usize) {
        self.pages_before = self.pages_before.min(unused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_smootherstep() {
        let mut decay = Decay::new(10_000);
        let start = 1_000_000_000u64;
        decay.reset(10_000, start);
        let mut unused = 100_000usize;
        for step in 1..=220u64 {
            let limit = decay.limit(start + step * 50_000_000, unused);
            if unused > limit {
                unused = limit;
                decay.purged_to(unused);
            }
            // The pages count as unused from the end of the first epoch on.
            let x = 1.0 - (step.saturating_sub(1) as f64 / STEPS as f64).min(1.0);
            let want = 100_000.0 * x * x * x * (x * (x * 6.0 - 15.0) + 10.0);
            assert!((unused as f64 - want).abs() < 1_500.0, "step {step}: {unused} against {want}");
        }
        assert_eq!(unused, 0);
    }

    /// A page is freed, by which a background thread wakes, and all others right after it has looked.
    #[test]
    fn what_is_freed_between_two_looks_follows_the_curve() {
        for ms in [1000, 10_000, 3_600_000] {
            let mut decay = Decay::new(ms);
            let freed_ns = 1_000_000_000u64;
            decay.reset(ms, freed_ns - 1_000_000_000);
            assert_eq!(decay.limit(freed_ns, 1), 1);
            let (mut now_ns, mut looked_at, mut unused) = (freed_ns, 1, 100_000usize);
            while unused > 0 {
                now_ns = decay.next_look_ns(now_ns, looked_at);
                unused = unused.min(decay.limit(now_ns, unused));
                decay.purged_to(unused);
                looked_at = unused;
                let x = (1.0 - (now_ns - freed_ns) as f64 / (ms as f64 * 1e6)).max(0.0);
                let want = 100_000.0 * x * x * x * (x * (x * 6.0 - 15.0) + 10.0);
                assert!((unused as f64 - want).abs() < 4_000.0, "{ms} ms, {x}: {unused} against {want}");
            }
        }
        assert_eq!((Decay::new(-1).next_look_ns(1, 1), Decay::new(1).next_look_ns(1, 0)), (u64::MAX, u64::MAX));
    }

    #[test]
    fn extremes() {
        assert_eq!(Decay::new(-1).limit(5, 10), usize::MAX);
        assert_eq!(Decay::new(0).limit(5, 10), 0);
    }
}
