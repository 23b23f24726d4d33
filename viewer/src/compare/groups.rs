//! Two groups of files: Welch's test over the files, never surer than sampling lets it be.
//!
//! Each file gives one estimate of a row's sum. How these differ among themselves shows both the sampling error and what
//! the programs do differently from run to run. With few files that spread is itself a poor estimate, and may come out
//! far too small by chance; the sampling error is known, so the wider of both intervals is told, and the larger
//! probability.

use crate::graph::Sides;
use crate::model::{Columns, Profile, Side};
use crate::stats::{self, Change, Estimate, Interval};

/// Sum and sum of squares of the files' estimates, by side. Rows are added file by file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    source: Option<usize>,
    current: f64,
    sides: [(f64, f64); 2],
}

/// What a group's row comes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub means: (i128, i128),
    pub change: Change,
    pub probability: Option<f64>,
}

impl Spread {
    pub fn add(&mut self, profile: &Profile, columns: &Columns, row: usize) {
        let source = profile.source(row);
        if self.source != Some(source) {
            self.close(profile);
            self.source = Some(source);
        }
        self.current += profile.values(row)[columns.column] as f64;
    }

    fn close(&mut self, profile: &Profile) {
        if let Some(source) = self.source {
            let (sum, squares) = &mut self.sides[usize::from(profile.sources[source].side == Side::Base)];
            *sum += self.current;
            *squares += self.current * self.current;
            self.current = 0.0;
        }
    }

    /// Compares the means of `sizes` files, base and new.
    pub fn judge(mut self, profile: &Profile, sides: &Sides, sizes: (usize, usize)) -> Judged {
        self.close(profile);
        let (base_files, new_files) = (sizes.0 as f64, sizes.1 as f64);
        let (base, new) = (mean(&sides.base, base_files), mean(&sides.new, new_files));
        let sampled = Change::between(&base, &new);
        let mut judged =
            Judged { means: (base.value, new.value), change: sampled, probability: Change::probability(&base, &new) };
        let [(new_sum, new_squares), (base_sum, base_squares)] = self.sides;
        let squares = |sum: f64, squares: f64, n: f64| (squares - sum * sum / n).max(0.0);
        let (of_base, of_new) = (squares(base_sum, base_squares, base_files), squares(new_sum, new_squares, new_files));
        let Some((error, freedom)) = standard_error((of_base, base_files), (of_new, new_files)) else {
            return judged;
        };
        let delta = sampled.delta as f64;
        if error > 0.0 && delta != 0.0 {
            let tails = stats::student_tails(delta.abs() / error, freedom);
            judged.probability = judged.probability.map(|p| p.max(tails));
        }
        let half = stats::student_quantile(0.05, freedom) * error;
        judged.change.interval = sampled
            .interval
            .map(|interval| Interval { low: interval.low.min(delta - half), high: interval.high.max(delta + half) });
        judged
    }
}

/// The mean of `files` files whose sum is `sum`.
fn mean(sum: &Estimate, files: f64) -> Estimate {
    Estimate {
        value: (sum.value as f64 / files).round() as i128,
        variance: sum.variance / (files * files),
        skew: sum.skew / (files * files * files),
        weight: sum.weight / files,
        ..*sum
    }
}

/// The standard error of the difference of two means, and its degrees of freedom; from sums of squared deviations and
/// numbers of files. A side of one file has the other's spread. `None` with one file on each side.
fn standard_error(base: (f64, f64), new: (f64, f64)) -> Option<(f64, f64)> {
    let spread = |(squares, files): (f64, f64)| (files > 1.0).then(|| squares / (files - 1.0));
    let (one, other) = (spread(base), spread(new));
    match (one, other) {
        (None, None) => None,
        (Some(spread), None) => Some(((spread * (1.0 / base.1 + 1.0 / new.1)).sqrt(), base.1 - 1.0)),
        (None, Some(spread)) => Some(((spread * (1.0 / base.1 + 1.0 / new.1)).sqrt(), new.1 - 1.0)),
        (Some(one), Some(other)) => {
            let (a, b) = (one / base.1, other / new.1);
            let variance = a + b;
            // Welch and Satterthwaite.
            let freedom = variance * variance / (a * a / (base.1 - 1.0) + b * b / (new.1 - 1.0));
            let freedom = if freedom.is_finite() { freedom } else { base.1 + new.1 - 2.0 };
            Some((variance.sqrt(), freedom))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn welch_is_welch() {
        // Means 20 and 26, variances 4 and 16 of 5 and 4 files.
        let (error, freedom) = standard_error((16.0, 5.0), (48.0, 4.0)).unwrap();
        assert!((error - (0.8f64 + 4.0).sqrt()).abs() < 1e-12);
        let want = 4.8f64.powi(2) / (0.64 / 4.0 + 16.0 / 3.0);
        assert!((freedom - want).abs() < 1e-12, "{freedom}");
        // One file has the spread of the others.
        let (error, freedom) = standard_error((16.0, 5.0), (0.0, 1.0)).unwrap();
        assert!((error - (4.0f64 * 1.2).sqrt()).abs() < 1e-12 && freedom == 4.0);
        assert_eq!(standard_error((0.0, 1.0), (0.0, 1.0)), None);
    }
}
