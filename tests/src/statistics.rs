//! What a sampled estimate may look like when the truth is known.
//!
//! Each block of s bytes is in the sample with probability p = 1 − e^(−s/R), alone, and weighs s/p. The sum over a
//! site of n such blocks has the variance n·s²·(1 − p)/p, whatever was sampled: that is exact, and comes from the
//! truth, not from the estimate.

/// Probability that a block of `size` bytes is sampled.
pub fn chance(size: f64, interval: f64) -> f64 {
    -(-size / interval).exp_m1()
}

/// Variance of the estimated bytes of a site with these (size, count) pairs.
pub fn variance(sizes: &[(u64, u64)], interval: f64) -> f64 {
    let part = |&(size, count): &(u64, u64)| {
        let (size, p) = (size as f64, chance(size as f64, interval));
        count as f64 * size * size * (1.0 - p) / p
    };
    sizes.iter().map(part).sum()
}

/// Expected number of samples of such a site.
pub fn expected_samples(sizes: &[(u64, u64)], interval: f64) -> f64 {
    sizes.iter().map(|&(size, count)| count as f64 * chance(size as f64, interval)).sum()
}

/// How many of `trials` may fail, each with probability `chance`, before a run of so many has probability below
/// `doubt`.
pub fn failures_allowed(trials: u32, chance: f64, doubt: f64) -> u32 {
    // The upper tail, from the top down, so that small terms are added first.
    let mut log_term = f64::from(trials) * chance.ln();
    let mut tail = 0.0;
    for failures in (0..=trials).rev() {
        tail += log_term.exp();
        if tail > doubt {
            return failures;
        }
        // P(k − 1) = P(k) · k/(n − k + 1) · (1 − p)/p
        let next = f64::from(failures) / f64::from(trials - failures + 1) * (1.0 - chance) / chance;
        log_term += next.ln();
    }
    0
}

/// Mean and standard deviation (of the sample, n − 1) of some numbers.
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, (squares / (n - 1.0)).sqrt())
}

/// The middle of some numbers.
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "nothing has no middle");
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_blocks_weigh_the_interval() {
        let interval = 524_288.0;
        // 100 MiB in blocks of 64 bytes: 200 samples, ± 7 %.
        let sizes = [(64, 100 * 16_384)];
        assert!((expected_samples(&sizes, interval) - 200.0).abs() < 0.1);
        let error = variance(&sizes, interval).sqrt() / (100.0 * 1_048_576.0);
        assert!((error - 1.0 / 200f64.sqrt()).abs() < 1e-4, "{error}");
    }

    #[test]
    fn blocks_above_the_interval_are_all_but_certain() {
        let sizes = [(16 << 20, 3)];
        assert!(variance(&sizes, 524_288.0) < 1e4);
        assert!((expected_samples(&sizes, 524_288.0) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn allowed_failures_follow_the_binomial_distribution() {
        // Binomial(20, 0.05): P(X >= 6) = 0.00033, P(X >= 5) = 0.0026.
        assert_eq!(failures_allowed(20, 0.05, 0.001), 5);
        assert_eq!(failures_allowed(20, 0.05, 0.0001), 6);
        assert_eq!(failures_allowed(1, 0.05, 0.1), 0);
    }

    #[test]
    fn deviations() {
        let (mean, deviation) = mean_and_deviation(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert!((mean - 5.0).abs() < 1e-12 && (deviation - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }
}
