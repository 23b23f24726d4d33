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

    /// When at least `pages` pages will have become due, or all that there are, if no page is freed or reused until then;
    /// not before an epoch has ended.
    pub fn due_ns(&self, pages: usize) -> u64 {
        if self.ms <= 0 {
            return if self.ms == 0 { 0 } else { u64::MAX };
        }
        let wanted = (pages as u64) << LG_ONE;
        let due_after = |epochs: usize| -> u64 {
            let kept = |i: usize| i.checked_sub(epochs).map_or(0, |i| CURVE[i]);
            self.backlog.iter().enumerate().map(|(i, &n)| u64::from(n) * (CURVE[i] - kept(i))).sum()
        };
        // Grows with the number of epochs.
        let (mut low, mut high) = (1, STEPS);
        while low < high {
            let middle = (low + high) / 2;
            if due_after(middle) >= wanted {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        self.epoch_start_ns.saturating_add(self.epoch_ns().saturating_mul(low as u64))
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

    #[test]
    fn tells_when_pages_are_due() {
        let mut decay = Decay::new(10_000);
        decay.reset(10_000, 1_000_000_000);
        decay.limit(1_050_000_000, 100_000);
        // A tenth of the pages have gone when x^3 (6 x^2 - 15 x + 10) is 0.1: at a quarter of the time.
        let at_ms = decay.due_ns(10_000) / 1_000_000;
        assert!((3_400..3_700).contains(&at_ms), "{at_ms}");
        assert_eq!(decay.due_ns(200_000), 1_050_000_000 + 10_000_000_000);
        assert_eq!((Decay::new(0).due_ns(1), Decay::new(-1).due_ns(1)), (0, u64::MAX));
    }

    #[test]
    fn extremes() {
        assert_eq!(Decay::new(-1).limit(5, 10), usize::MAX);
        assert_eq!(Decay::new(0).limit(5, 10), 0);
    }
}
