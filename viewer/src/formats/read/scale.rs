//! From sampled counts to estimates, as jeprof and pprof do it for text profiles: a line's mean size
//! decides how likely its blocks were to be seen.

/// Counts and bytes of a line, as estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    pub objects: f64,
    pub bytes: f64,
}

/// Estimates of a line that counts `objects` of `bytes` together, sampled every `period` bytes; a
/// period of 0 or 1 means that everything was counted.
///
/// Both numbers are divided by 1 − e^(−mean size / period). Jemalloc prints numbers of which exactly
/// this makes the right ones, mixed sizes included.
pub fn estimate(objects: u64, bytes: u64, period: u64) -> Estimate {
    let (objects, bytes) = (objects as f64, bytes as f64);
    if period <= 1 || objects == 0.0 || bytes == 0.0 {
        return Estimate { objects, bytes };
    }
    let probability = -(-(bytes / objects) / period as f64).exp_m1();
    Estimate { objects: objects / probability, bytes: bytes / probability }
}

/// Rounds `shares` so that they sum to `total`, rounded: each down, and the largest remainders up.
/// Where their sum is another one, they are brought to it in proportion; of nothing, the first gets all.
pub fn apportion(total: f64, shares: &[f64]) -> Vec<i64> {
    let whole = total.round() as i64;
    let sum: f64 = shares.iter().sum();
    if sum <= 0.0 {
        let mut only = vec![0; shares.len()];
        only.iter_mut().take(1).for_each(|first| *first = whole);
        return only;
    }
    let factor = whole as f64 / sum;
    let exact: Vec<f64> = shares.iter().map(|share| share * factor).collect();
    let mut rounded: Vec<i64> = exact.iter().map(|share| share.floor() as i64).collect();
    let given = rounded.iter().fold(0i64, |sum, &share| sum.saturating_add(share));
    let mut order: Vec<usize> = (0..shares.len()).collect();
    let remainder = |index: usize| exact[index] - exact[index].floor();
    order.sort_by(|&a, &b| remainder(b).total_cmp(&remainder(a)).then(a.cmp(&b)));
    let left = usize::try_from(whole.saturating_sub(given)).unwrap_or(0);
    for &index in order.iter().take(left) {
        rounded[index] += 1;
    }
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_the_period_counts_for_more() {
        let one = estimate(1, 524_288, 524_288);
        assert!((one.objects - 1.0 / (1.0 - (-1f64).exp())).abs() < 1e-12);
        assert_eq!(estimate(3, 48, 1).bytes, 48.0);
        assert_eq!(estimate(0, 0, 1024), Estimate::default());
        // Small blocks: about one period each.
        assert!((estimate(1, 16, 1 << 19).bytes - 524_296.0).abs() < 0.01);
    }

    #[test]
    fn shares_sum_to_the_total() {
        assert_eq!(apportion(10.0, &[3.4, 3.3, 3.3]), [4, 3, 3]);
        assert_eq!(apportion(7.0, &[1.0, 1.0]), [4, 3]);
        assert_eq!(apportion(5.0, &[0.0, 0.0]), [5, 0]);
        let shares: Vec<f64> = (0..100).map(|i| f64::from(i) * 0.37).collect();
        let total: f64 = shares.iter().sum();
        assert_eq!(apportion(total, &shares).iter().sum::<i64>(), total.round() as i64);
    }
}
