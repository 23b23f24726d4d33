//! What a site's series looks like: a leak, a cache that is full, a step, churn.

use super::lives::{Lives, weights};
use super::{SIGNIFICANT, Site, Slope};
use crate::graph::Node;
use crate::stats::{self, Estimate};

/// What a series is, the most alarming first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// Grows over the whole series and in its second half, and keeps what it was given.
    Leak,
    /// Grows as steadily, but what it was given goes: more load, not a leak.
    Load,
    /// Grew, and whether it still does can't be told.
    Unclear,
    /// Grew at one moment.
    Step,
    /// Grew, and then stopped.
    Plateau,
    /// Does not grow by more than chance explains.
    Steady,
    /// Shrinks.
    Shrinking,
}

impl Shape {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Load => "load",
            Self::Unclear => "unclear",
            Self::Step => "step",
            Self::Plateau => "plateau",
            Self::Steady => "steady",
            Self::Shrinking => "shrinking",
        }
    }
}

/// Less than this share of what came in the first half left in the end: it comes and goes.
const KEPT: f64 = 0.5;
/// More than this share of all growth between two dumps: a step.
const STEP: f64 = 0.6;
/// Grows by less than this share of what it grew in the first half: it has slowed down.
const SLOWER: f64 = 0.75;

/// The first dump of the second half.
pub fn middle(dumps: usize) -> usize {
    if dumps < 4 { 0 } else { (dumps - 1) / 2 }
}

/// A site without its rate and its shape, which depend on the others.
///
/// `work` is a second clock beside the seconds `x`. A machine that is busy with something else stops the program's work
/// but not the time, and what grows with the work then looks as if it had slowed down or sped up. So growth that is
/// steady by either clock is steady; the probability is multiplied by the number of chances there were.
pub fn site(node: Node, values: Vec<Estimate>, lives: &Lives, x: &[f64], work: Option<&[f64]>) -> Site {
    let (dumps, middle) = (x.len(), middle(x.len()));
    let (slope, late) = (lives.slope(x, 0..dumps), lives.slope(x, middle..dumps));
    let by_time = growth(&values, lives, x);
    let probability =
        work.map_or(by_time, |work| (by_time.min(growth(&values, lives, work)) * chances(x, work)).min(1.0));
    let is_slower = is_slower(&values, late, x)
        || work.is_some_and(|work| is_slower(&values, lives.slope(work, middle..dumps), work));
    let end = lives.weight(dumps - 1, |_, _| true);
    let is_known = lives.is_followed() && end > 0.0;
    let old = is_known.then(|| lives.weight(dumps - 1, |first, _| first <= middle) / end);
    let age = is_known.then(|| {
        let last = x[dumps - 1];
        let of = |dump: usize| match dump {
            0 => last - x[0],
            dump => last - 0.5 * (x[dump - 1] + x[dump]),
        };
        (0..dumps).map(|dump| of(dump) * lives.weight(dumps - 1, |first, _| first == dump)).sum::<f64>() / end
    });
    let (came, kept) = lives.kept(1..middle + 1, dumps - 1);
    let kept = (lives.is_followed() && came > 0.0).then(|| kept / came);
    Site {
        node,
        values,
        slope,
        late,
        slope_rate: 1.0,
        probability,
        rate: 1.0,
        is_slower,
        old,
        kept,
        age,
        shape: Shape::Steady,
    }
}

/// The probability that what grows over the whole series and in its second half, by this clock, only seems to.
fn growth(values: &[Estimate], lives: &Lives, clock: &[f64]) -> f64 {
    let (dumps, middle) = (clock.len(), middle(clock.len()));
    let (slope, late) = (lives.slope(clock, 0..dumps), lives.slope(clock, middle..dumps));
    if slope.value <= 0.0 || late.value <= 0.0 {
        return 1.0;
    }
    let chances = [
        slope.probability(),
        late.probability(),
        wander(values, late, clock, middle),
        stats::sign_flip(&lives.turnover(middle, dumps - 1)),
    ];
    chances.into_iter().fold(0.0, f64::max)
}

/// How many independent tests two clocks amount to: 1 where they agree, 2 where they have nothing in common. That is
/// 2 − r², r their correlation (Nyholt 2004, "A simple correction for multiple testing", for two tests).
fn chances(a: &[f64], b: &[f64]) -> f64 {
    let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
    let (a_mean, b_mean) = (mean(a), mean(b));
    let sum = |of: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| of(a - a_mean, b - b_mean)).sum::<f64>();
    let (square_a, square_b) = (sum(|a, _| a * a), sum(|_, b| b * b));
    let common = sum(|a, b| a * b).powi(2);
    if square_a * square_b > 0.0 { 2.0 - common / (square_a * square_b) } else { 2.0 }
}

/// Whether it has certainly slowed down in the second half, by this clock.
fn is_slower(values: &[Estimate], late: Slope, clock: &[f64]) -> bool {
    let middle = middle(clock.len());
    let grown = values[middle].value as f64 - values[0].value as f64;
    let early = grown / (clock[middle] - clock[0]).max(f64::MIN_POSITIVE);
    late.interval().high < SLOWER * early
}

/// The probability that a series that wanders as this one does about its line has such a slope in its second half: the
/// t test of a regression. 0 where there are too few dumps to tell.
fn wander(values: &[Estimate], late: Slope, x: &[f64], from: usize) -> f64 {
    let count = values.len() - from;
    if count < 3 {
        return 0.0;
    }
    let values: Vec<f64> = values[from..].iter().map(|estimate| estimate.value as f64).collect();
    let x = &x[from..];
    let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
    let (x_mean, mean) = (mean(x), mean(&values));
    let rest: f64 = x.iter().zip(&values).map(|(x, value)| (value - mean - late.value * (x - x_mean)).powi(2)).sum();
    let freedom = count as f64 - 2.0;
    let spread: f64 = weights(x, 0..count).iter().map(|weight| weight * weight).sum();
    let error = (rest / freedom * spread).sqrt();
    if error > 0.0 { stats::student_tails(late.value / error, freedom) } else { 0.0 }
}

/// What it is, once its rate is known.
pub fn shape(site: &Site) -> Shape {
    let dumps = site.values.len();
    if site.slope_rate >= SIGNIFICANT {
        return Shape::Steady;
    }
    if site.slope.value < 0.0 {
        return Shape::Shrinking;
    }
    let values: Vec<f64> = site.values.iter().map(|estimate| estimate.value as f64).collect();
    let grown = values[dumps - 1] - values[0];
    let largest = values.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    if dumps > 4 && largest > STEP * grown {
        return Shape::Step;
    }
    if site.rate < SIGNIFICANT {
        return if site.kept.is_some_and(|kept| kept < KEPT) { Shape::Load } else { Shape::Leak };
    }
    if site.is_slower { Shape::Plateau } else { Shape::Unclear }
}

#[cfg(test)]
mod tests {
    use super::chances;

    #[test]
    fn two_clocks_are_one_to_two_tests() {
        let even = [0.0, 1.0, 2.0, 3.0];
        assert!((chances(&even, &[0.0, 5.0, 10.0, 15.0]) - 1.0).abs() < 1e-12);
        assert_eq!(chances(&[-1.0, 1.0, -1.0, 1.0], &[-1.0, -1.0, 1.0, 1.0]), 2.0);
        let paused = chances(&even, &[0.0, 1.0, 9.0, 10.0]);
        assert!((1.05..1.2).contains(&paused), "{paused}");
    }
}
