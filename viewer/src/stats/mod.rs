//! How sure a number is: estimates, standard errors and 95 % intervals of sampled sums.
//!
//! Sampling points form a Poisson process of one per R allocated bytes, so a block of s bytes is
//! sampled with p = 1 − e^(−s/R) and stands for 1/p blocks. A row of a profile carries such estimates
//! already: O blocks of b bytes each. From one row follow the number of samples behind it, n = O·p, and
//! its share of the variance of any sum it is part of:
//!
//! - of bytes:   O · b² · (1 − p) / p
//! - of blocks:  O · (1 − p) / p
//!
//! Sums add values and variances. The normal interval holds its 95 % from about eight effective
//! samples on; below, Fay and Feuer's gamma interval for weighted Poisson sums is used. What is certain
//! of a sum, blocks much larger than R, is neither: it moves the interval, and counts for no sample. Differences of
//! two sums combine the two sides' own intervals (MOVER), which is the normal one where both are
//! normal and stays honest where one side has few samples or none.

mod distributions;
mod flip;
mod rates;

pub use distributions::{chi_square_quantile, normal_tail, student_quantile, student_tails};
pub use flip::{Flip, sign_flip};
pub use rates::false_discovery;

/// The normal quantile of a two-sided 95 % interval.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// The smallest probability that is told.
const LEAST_PROBABILITY: f64 = 1e-15;

/// Effective samples from which the normal interval is used.
pub const NORMAL_FROM: f64 = 8.0;

/// How the blocks of one row were sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Probability that a block of this row was sampled, in (0, 1].
    pub probability: f64,
    /// Bytes of one block.
    pub block_bytes: f64,
    /// Mean bytes between two samples, R.
    pub period: f64,
}

impl Sampling {
    /// Blocks of `block_bytes` under a period of `period` bytes; `None` where that means nothing.
    pub fn new(block_bytes: f64, period: f64) -> Option<Self> {
        let usable = block_bytes > 0.0 && period > 0.0 && block_bytes.is_finite() && period.is_finite();
        usable.then(|| Self {
            probability: (-(-block_bytes / period).exp_m1()).clamp(f64::MIN_POSITIVE, 1.0),
            block_bytes,
            period,
        })
    }

    /// Variance of the estimate that one sampled block adds, per estimated block.
    fn spread(&self) -> f64 {
        (1.0 - self.probability) / self.probability
    }

    /// Samples behind `objects` estimated blocks.
    pub fn samples(&self, objects: i64) -> f64 {
        ((objects as f64).abs() * self.probability).round()
    }

    /// What one sample stands for: bytes, or blocks.
    pub fn weight(&self, in_bytes: bool) -> f64 {
        if in_bytes { self.block_bytes / self.probability } else { 1.0 / self.probability }
    }

    /// What `samples` samples add to a sum of bytes, or of blocks.
    pub fn of_samples(&self, samples: f64, in_bytes: bool) -> Part {
        let one = self.weight(in_bytes);
        self.part(samples * one * one * (1.0 - self.probability), samples, in_bytes)
    }

    /// What a row of `objects` estimated blocks adds to a sum of bytes.
    pub fn bytes(&self, objects: i64) -> Part {
        let variance = (objects as f64).abs() * self.block_bytes * self.block_bytes * self.spread();
        self.part(variance, self.samples(objects), true)
    }

    /// What a row of `objects` estimated blocks adds to a sum of blocks.
    pub fn objects(&self, objects: i64) -> Part {
        self.part((objects as f64).abs() * self.spread(), self.samples(objects), false)
    }

    fn part(&self, variance: f64, samples: f64, in_bytes: bool) -> Part {
        let one = self.weight(in_bytes);
        Part {
            variance,
            skew: variance * one * (1.0 - self.probability),
            samples,
            weight: if in_bytes { self.period } else { one },
        }
    }
}

/// A row's share in the uncertainty of a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    /// Variance.
    pub variance: f64,
    /// Variance times what one sample adds beyond what is certain of it: for w that one stands for, (1 − p) · w.
    pub skew: f64,
    /// Samples behind the row.
    pub samples: f64,
    /// What one more sample would have added to the sum.
    pub weight: f64,
}

impl Part {
    /// The part of a row that was multiplied with `factor`.
    pub fn scaled(self, factor: f64) -> Self {
        let factor = factor.abs();
        let square = factor * factor;
        Self {
            variance: self.variance * square,
            skew: self.skew * square * factor,
            weight: self.weight * factor,
            ..self
        }
    }
}

/// A sum of rows and how sure it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The sum.
    pub value: i128,
    /// Variance of the sum; meaningful only where `unknown` is zero.
    pub variance: f64,
    /// Sum of the rows' own.
    pub skew: f64,
    /// Samples behind the sum.
    pub samples: f64,
    /// The largest that one sample adds.
    pub weight: f64,
    /// Rows whose sampling is not known: with one of them the sum has no interval.
    pub unknown: u32,
}

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Estimate {
    /// A sum of nothing, of which one sample would have been worth `weight`.
    pub fn nothing(weight: f64) -> Self {
        Self { weight, ..Self::default() }
    }

    /// Adds one row; `part` is `None` where it is not known how the row was sampled.
    pub fn add(&mut self, value: i64, part: Option<&Part>) {
        self.value = self.value.saturating_add(i128::from(value));
        match part {
            Some(part) => {
                self.variance += part.variance;
                self.skew += part.skew;
                self.samples += part.samples;
                self.weight = self.weight.max(part.weight);
            }
            None if value != 0 => self.unknown = self.unknown.saturating_add(1),
            None => {}
        }
    }

    /// Adds another sum of independent rows.
    pub fn merge(&mut self, other: &Self) {
        self.value = self.value.saturating_add(other.value);
        self.variance += other.variance;
        self.skew += other.skew;
        self.samples += other.samples;
        self.weight = self.weight.max(other.weight);
        self.unknown = self.unknown.saturating_add(other.unknown);
    }

    /// Standard error, where known.
    pub fn standard_error(&self) -> Option<f64> {
        (self.unknown == 0).then(|| self.variance.max(0.0).sqrt())
    }

    /// The 95 % interval of a sum of one profile (never negative), where known.
    pub fn interval(&self) -> Option<Interval> {
        self.interval_at(Z_95, 0.025)
    }

    /// The interval that leaves out `tail` on each side, where known; `z` is the normal quantile of that tail.
    fn interval_at(&self, z: f64, tail: f64) -> Option<Interval> {
        if self.unknown > 0 {
            return None;
        }
        let (value, variance) = (self.value as f64, self.variance);
        if value < 0.0 {
            let flipped = Self { value: self.value.saturating_neg(), ..*self }.interval_at(z, tail)?;
            return Some(Interval { low: -flipped.high, high: -flipped.low });
        }
        if value > 0.0 && variance <= 0.0 {
            return Some(Interval { low: value, high: value });
        }
        if self.is_normal() {
            let half = z * variance.sqrt();
            return Some(Interval { low: (value - half).max(0.0), high: value + half });
        }
        // Fay and Feuer: a gamma distribution with the sum's mean and variance; for the upper end one
        // more sample of the largest weight is added to both.
        let uncertain = self.uncertain();
        let certain = value - uncertain;
        let low = if uncertain > 0.0 {
            variance / (2.0 * uncertain) * chi_square_quantile(tail, 2.0 * uncertain * uncertain / variance)
        } else {
            0.0
        };
        let (mean, spread) = (uncertain + self.weight, variance + self.weight * self.weight);
        let high = if mean > 0.0 && spread > 0.0 {
            spread / (2.0 * mean) * chi_square_quantile(1.0 - tail, 2.0 * mean * mean / spread)
        } else {
            uncertain
        };
        Some(Interval { low: certain + low, high: (certain + high).max(value) })
    }

    /// The part of the sum that samples tell, if rows of another kind are in it, so large that each of their blocks is
    /// sampled: the sum of as many samples with one weight as have the variance and the skew. All of it where rows are alike.
    fn uncertain(&self) -> f64 {
        let value = (self.value as f64).abs();
        if self.skew > 0.0 { (self.variance * self.variance / self.skew).min(value) } else { value }
    }

    /// Whether the normal interval is good enough.
    fn is_normal(&self) -> bool {
        let uncertain = self.uncertain();
        uncertain != 0.0 && uncertain * uncertain >= NORMAL_FROM * self.variance
    }
}

/// The change between two independent sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// New minus base.
    pub delta: i128,
    /// 95 % interval of the change, where both sides know their sampling.
    pub interval: Option<Interval>,
}

impl Change {
    /// The change from `base` to `new`.
    pub fn between(base: &Estimate, new: &Estimate) -> Self {
        let interval = Self::interval_at(base, new, Z_95, 0.025);
        Self { delta: new.value.saturating_sub(base.value), interval }
    }

    fn interval_at(base: &Estimate, new: &Estimate, z: f64, tail: f64) -> Option<Interval> {
        let delta = new.value.saturating_sub(base.value) as f64;
        base.interval_at(z, tail).zip(new.interval_at(z, tail)).map(|(b, n)| {
            let (b_value, n_value) = (base.value as f64, new.value as f64);
            let below = ((n_value - n.low).powi(2) + (b.high - b_value).powi(2)).sqrt();
            let above = ((n.high - n_value).powi(2) + (b_value - b.low).powi(2)).sqrt();
            Interval { low: delta - below, high: delta + above }
        })
    }

    /// The probability that sampling alone makes a change of this size or more, in either direction, where
    /// known: the level of the widest interval that leaves 0 out. Never below 10⁻¹⁵.
    pub fn probability(base: &Estimate, new: &Estimate) -> Option<f64> {
        if base.unknown + new.unknown > 0 {
            return None;
        }
        let delta = new.value.saturating_sub(base.value) as f64;
        if delta == 0.0 {
            return Some(1.0);
        }
        let variance = base.variance + new.variance;
        if base.is_normal() && new.is_normal() && variance > 0.0 {
            return Some((2.0 * normal_tail(delta.abs() / variance.sqrt())).max(LEAST_PROBABILITY));
        }
        // Intervals grow with z.
        const LARGEST_Z: f64 = 7.941;
        let leaves_zero_out =
            |z: f64| Self::interval_at(base, new, z, normal_tail(z)).is_some_and(|i| i.low > 0.0 || i.high < 0.0);
        if leaves_zero_out(LARGEST_Z) {
            return Some(LEAST_PROBABILITY);
        }
        let (mut low, mut high) = (0.0, LARGEST_Z);
        for _ in 0..24 {
            let middle = 0.5 * (low + high);
            if leaves_zero_out(middle) { low = middle } else { high = middle }
        }
        Some((2.0 * normal_tail(low)).min(1.0))
    }

    /// Whether the change is larger than sampling error explains (its interval leaves zero out).
    pub fn is_significant(&self) -> bool {
        self.interval.is_some_and(|i| i.low > 0.0 || i.high < 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: f64 = 524_288.0;

    #[test]
    fn a_row_gives_its_samples_back() {
        // 100 samples of 64-byte blocks.
        let sampling = Sampling::new(64.0, R).unwrap();
        let objects = (100.0 / sampling.probability).round() as i64;
        assert_eq!(sampling.bytes(objects).samples, 100.0);
        // Small blocks: each sample is worth about R, the error is R times the root of n.
        let error = sampling.bytes(objects).variance.sqrt();
        assert!((error / (R * 10.0) - 1.0).abs() < 1e-3, "{error}");
    }

    #[test]
    fn large_blocks_are_certain() {
        let sampling = Sampling::new(64.0 * R, R).unwrap();
        let mut sum = Estimate::default();
        sum.add(64 * 524_288, Some(&sampling.bytes(1)));
        let interval = sum.interval().unwrap();
        assert!((interval.high - interval.low) < 1.0, "{interval:?}");
    }

    #[test]
    fn certain_blocks_move_the_interval_and_are_no_samples() {
        let (small, large) = (Sampling::new(1024.0, R).unwrap(), Sampling::new(16.0 * R, R).unwrap());
        for in_bytes in [true, false] {
            let sum = |samples: f64, blocks: i64| {
                let mut sum = Estimate::nothing(if in_bytes { R } else { 0.0 });
                let add = |sum: &mut Estimate, sampling: &Sampling, samples: f64| {
                    let value = (samples * sampling.weight(in_bytes)).round() as i64;
                    sum.add(value, Some(&sampling.of_samples(samples, in_bytes)));
                };
                if samples > 0.0 {
                    add(&mut sum, &small, samples);
                }
                add(&mut sum, &large, blocks as f64);
                (sum.value as f64, sum.interval().unwrap())
            };
            for samples in [1.0, 3.0, 7.0, 20.0] {
                let ((few, alone), (many, mixed)) = (sum(samples, 0), sum(samples, 10));
                let unit = alone.high - alone.low;
                assert!((mixed.low - alone.low - (many - few)).abs() < unit * 1e-3, "{alone:?} {mixed:?} {samples}");
                assert!((mixed.high - alone.high - (many - few)).abs() < unit * 1e-3, "{alone:?} {mixed:?} {samples}");
            }
            let (all, certain) = sum(0.0, 10);
            assert!(certain.high - certain.low < all * 1e-3, "{certain:?}");
        }
    }

    #[test]
    fn nonsense_has_no_sampling() {
        assert!(Sampling::new(0.0, R).is_none());
        assert!(Sampling::new(64.0, 0.0).is_none());
        assert!(Sampling::new(f64::NAN, R).is_none());
    }

    #[test]
    fn an_unknown_row_takes_the_interval_away() {
        let mut sum = Estimate::default();
        sum.add(5, None);
        assert_eq!(sum.interval(), None);
        assert_eq!(sum.standard_error(), None);
    }

    #[test]
    fn no_sample_still_bounds_from_above() {
        let interval = Estimate::nothing(R).interval().unwrap();
        assert_eq!(interval.low, 0.0);
        assert!((interval.high / R - 3.6889).abs() < 1e-3, "{interval:?}");
    }

    /// A small generator of uniform numbers, enough for a simulation with a fixed seed.
    struct Uniform(u64);

    impl Uniform {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    /// Samples `blocks` of `size` bytes and returns the estimate of their bytes.
    fn sampled(rng: &mut Uniform, sizes: &[(u32, f64)]) -> Estimate {
        let mut sum = Estimate::nothing(R);
        for &(blocks, size) in sizes {
            let sampling = Sampling::new(size, R).unwrap();
            let hits = (0..blocks).filter(|_| rng.next() < sampling.probability).count() as f64;
            let objects = (hits / sampling.probability).round() as i64;
            let part = sampling.bytes(objects);
            sum.add((objects as f64 * size).round() as i64, Some(&part));
        }
        sum
    }

    #[test]
    fn intervals_cover_the_truth() {
        let mut rng = Uniform(7);
        // About 2, 12 and 60 samples; small blocks, and blocks around R.
        for sizes in [
            &[(256u32, 4096.0)] as &[(u32, f64)],
            &[(1024, 4096.0), (4, 524_288.0)],
            &[(4096, 4096.0), (30, 600_000.0)],
            // About 4, and 8, beside blocks that are certain.
            &[(512, 4096.0), (10, 16.0 * R)],
            &[(1024, 4096.0), (10, 16.0 * R)],
        ] {
            let truth: f64 = sizes.iter().map(|&(n, size)| f64::from(n) * size).sum();
            let runs = 1500;
            let covered = (0..runs)
                .filter(|_| {
                    let interval = sampled(&mut rng, sizes).interval().unwrap();
                    interval.low <= truth && truth <= interval.high
                })
                .count();
            let share = covered as f64 / f64::from(runs);
            assert!(share >= 0.93, "{sizes:?}: {share}");
        }
    }

    #[test]
    fn the_probability_fits_the_interval() {
        let mut rng = Uniform(5);
        for (base, new) in [(0u32, 400u32), (20, 700), (200, 2000), (1024, 1500), (4096, 5000), (700, 20)] {
            for _ in 0..40 {
                let (base, new) = (sampled(&mut rng, &[(base, 4096.0)]), sampled(&mut rng, &[(new, 4096.0)]));
                let change = Change::between(&base, &new);
                let p = Change::probability(&base, &new).unwrap();
                assert_eq!(change.is_significant(), p < 0.05, "{change:?} {p}");
            }
        }
        let certain = sampled(&mut rng, &[(2, 64.0 * R)]);
        let other = sampled(&mut rng, &[(3, 64.0 * R)]);
        assert_eq!(Change::probability(&certain, &other), Some(LEAST_PROBABILITY));
        assert_eq!(Change::probability(&certain, &certain), Some(1.0));
    }

    #[test]
    fn an_unchanged_site_is_rarely_significant() {
        let mut rng = Uniform(11);
        for blocks in [32, 256, 2048] {
            let sizes = [(blocks, 8192.0)];
            let runs = 1000;
            let false_alarms = (0..runs)
                .filter(|_| {
                    let (base, new) = (sampled(&mut rng, &sizes), sampled(&mut rng, &sizes));
                    Change::between(&base, &new).is_significant()
                })
                .count();
            assert!(false_alarms <= 70, "{blocks}: {false_alarms} of {runs}");
        }
    }
}
