//! From samples to estimates, and back.
//!
//! Sampling points fall on the stream of allocated bytes like raindrops, one in every R bytes on
//! average, so a block of s bytes is seen with probability
//!
//! ```text
//!     p(s, R) = 1 − e^(−s/R)                      R ≤ 1: every block is recorded, p = 1
//! ```
//!
//! independently of all others. Counting each seen block 1/p times gives sums whose mean is the truth
//! (Horvitz and Thompson), for blocks and for bytes:
//!
//! ```text
//!     objects = n / p            bytes = s · n / p
//! ```
//!
//! for the n seen blocks of one size. The weight is applied per size, never to a mixed sum: unbiasing a
//! sum by its average size is off by 15 % in mild mixes and by far more in bad ones.
//!
//! A file holds integers. [`Estimator`] rounds so that
//! - n comes back: `samples(objects, s, R) == n`, which is what a reader needs to tell how sure the
//!   number is (the variance of a row is `objects · s² · (1 − p) / p`);
//! - sums do not drift: what rounding added to one row of a stack is taken from the next ones.
//!
//! Pure arithmetic, `no_std`; used by the profiler when it writes and by the tools when they read.

/// Probability that a block of `size` bytes is recorded at a mean distance of `period` bytes.
pub fn probability(size: u64, period: u64) -> f64 {
    if period <= 1 {
        return 1.0;
    }
    // A block of 0 bytes counts as one byte: it moves the countdown as well.
    -libm::expm1(-(size.max(1) as f64) / period as f64)
}

/// How many blocks were seen, from an estimate that [`Estimator`] made.
pub fn samples(objects: i64, size: u64, period: u64) -> i64 {
    libm::round(objects as f64 * probability(size, period)) as i64
}

/// Variances of the estimates behind `seen` recorded blocks of `size` bytes: of their number, and of their
/// bytes. Those of several rows add up, and the root of the sum is the standard error of the sum:
///
/// ```text
///     var(objects) = n · (1 − p) / p²            var(bytes) = s² · var(objects)
/// ```
///
/// Both are unbiased, and 0 where every block is recorded.
pub fn variances(seen: u64, size: u64, period: u64) -> (f64, f64) {
    if period <= 1 {
        return (0.0, 0.0);
    }
    let p = probability(size, period);
    let missed = libm::exp(-(size.max(1) as f64) / period as f64);
    let objects = seen as f64 * missed / (p * p);
    (objects, objects * size as f64 * size as f64)
}

/// Makes the estimates of the rows of one column pair, with the rounding errors of a stack carried
/// from row to row. Two of them are needed for a file with allocated and in-use columns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimator {
    /// What the rows of this stack still miss, in blocks and in bytes.
    objects: f64,
    bytes: f64,
}

impl Estimator {
    /// One with nothing carried.
    pub const fn new() -> Self {
        Self { objects: 0.0, bytes: 0.0 }
    }

    /// To be called where a new stack begins: nothing is carried from one stack to another.
    pub fn next_stack(&mut self) {
        *self = Self::new();
    }

    /// The estimated blocks and bytes behind `seen` recorded blocks of `size` bytes each.
    pub fn estimate(&mut self, seen: u64, size: u64, period: u64) -> (i64, i64) {
        self.estimate_at(seen, size, probability(size, period))
    }

    /// As [`Estimator::estimate`], of blocks whose [`probability`] is known.
    #[inline]
    pub fn estimate_at(&mut self, seen: u64, size: u64, p: f64) -> (i64, i64) {
        if p >= 1.0 && self.objects == 0.0 && self.bytes == 0.0 {
            // All are seen, and nothing is to be rounded.
            return (seen as f64 as i64, (seen as f64 * size as f64) as i64);
        }
        self.weigh(seen, p, size as f64)
    }

    /// As [`Estimator::estimate`], of something else than the blocks' size, of which each has `amount` bytes on
    /// average: what is wasted of them, what is unused beside them.
    pub fn estimate_of(&mut self, seen: u64, size: u64, period: u64, amount: f64) -> (i64, i64) {
        self.weigh(seen, probability(size, period), amount)
    }

    fn weigh(&mut self, seen: u64, p: f64, amount: f64) -> (i64, i64) {
        if seen == 0 {
            return (0, 0);
        }
        let objects = self.round_objects(seen as f64, p);
        let exact = seen as f64 / p * amount;
        let bytes = libm::round(exact + self.bytes).max(0.0);
        self.bytes += exact - bytes;
        (objects as i64, bytes as i64)
    }

    /// The integer nearest to seen/p plus what is carried, among those from which `seen` comes back.
    fn round_objects(&mut self, seen: f64, p: f64) -> f64 {
        let exact = seen / p;
        // n comes back from x if |x·p − n| < 1/2. The interval is at least one wide, and where it is
        // exactly that (p = 1) `exact` is an integer in its middle, so it always holds an integer.
        let (low, high) = (libm::ceil((seen - 0.5) / p), libm::floor((seen + 0.5) / p));
        let mut rounded = libm::round(exact + self.objects).max(low).min(high).max(1.0);
        // The ends themselves may round to the neighbour of n.
        if libm::round(rounded * p) > seen {
            rounded -= 1.0;
        } else if libm::round(rounded * p) < seen {
            rounded += 1.0;
        }
        self.objects += exact - rounded;
        rounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn probabilities() {
        assert_eq!(probability(8, 1), 1.0);
        assert_eq!(probability(8, 0), 1.0);
        assert!((probability(512 << 10, 512 << 10) - 0.632_120_558_8).abs() < 1e-9);
        // Where 1 − exp(−x) would lose all digits.
        assert!((probability(1, 1 << 60) * (1u64 << 60) as f64 - 1.0).abs() < 1e-12);
        assert_eq!(probability(0, 4096), probability(1, 4096));
        assert_eq!(probability(u64::MAX, 2), 1.0);
    }

    #[test]
    fn variances_are_those_of_the_sum() {
        // All 1000 blocks of one size are drawn with p; the mean square of the error must be the variance.
        let (size, period, blocks) = (1u64 << 18, 1u64 << 19, 1000u64);
        let (p, mut state, rounds) = (probability(size, period), 3, 4000);
        let (mut square, mut estimated) = (0.0, 0.0);
        for _ in 0..rounds {
            let draw = |_: &u64| (next(&mut state) as f64 / (1u64 << 31) as f64) < p;
            let seen = (0..blocks).filter(draw).count() as u64;
            square += libm::pow(seen as f64 / p - blocks as f64, 2.0) / f64::from(rounds);
            estimated += variances(seen, size, period).0 / f64::from(rounds);
        }
        assert!((square / estimated - 1.0).abs() < 0.1, "{square} {estimated}");
        assert_eq!(variances(5, 64, 1), (0.0, 0.0));
        assert_eq!(variances(5, 64, 4096).1, variances(5, 64, 4096).0 * 4096.0);
    }

    #[test]
    fn one_sample_of_the_period_is_not_truncated() {
        // 1.58 blocks: truncated it would lose 37 %.
        assert_eq!(Estimator::new().estimate(1, 512 << 10, 512 << 10), (2, 829_411));
    }

    /// A cheap generator, good enough to choose test cases.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn samples_come_back() {
        let mut state = 1;
        for stack in 0..3000u64 {
            let mut estimator = Estimator::new();
            for _ in 0..50 {
                let lg = next(&mut state) % 34;
                let size = 1 + next(&mut state) % (1u64 << lg);
                let period = 1 + next(&mut state) % (1u64 << (next(&mut state) % 31));
                let seen = 1 + next(&mut state) % [1, 3, 1000, 1 << 30][(stack % 4) as usize];
                let (objects, bytes) = estimator.estimate(seen, size, period);
                assert_eq!(samples(objects, size, period) as u64, seen, "{seen} × {size} at {period}");
                assert!(objects >= 1 && bytes >= 0);
            }
        }
    }

    #[test]
    fn sums_do_not_drift() {
        // A row each of sizes up to half the period: the carried error never exceeds one row's rounding.
        let (mut estimator, mut state) = (Estimator::new(), 7);
        let (mut objects, mut bytes, mut exact_objects, mut exact_bytes) = (0i64, 0i64, 0.0, 0.0);
        for _ in 0..10_000 {
            let size = 1 + next(&mut state) % (MIB / 4);
            let (o, b) = estimator.estimate(1, size, MIB / 2);
            objects += o;
            bytes += b;
            exact_objects += 1.0 / probability(size, MIB / 2);
            exact_bytes += size as f64 / probability(size, MIB / 2);
        }
        assert!((objects as f64 - exact_objects).abs() <= 1.0, "{objects} {exact_objects}");
        assert!((bytes as f64 - exact_bytes).abs() <= 1.0, "{bytes} {exact_bytes}");
    }

    #[test]
    fn huge_numbers_saturate() {
        let mut estimator = Estimator::new();
        let (objects, bytes) = estimator.estimate(u64::MAX, u64::MAX, u64::MAX);
        assert_eq!((objects, bytes), (i64::MAX, i64::MAX));
        estimator.next_stack();
        assert_eq!(estimator.estimate(0, 8, 8), (0, 0));
    }
}
