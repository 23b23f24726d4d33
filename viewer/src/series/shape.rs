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

/// The first dump of the second half.
pub fn middle(dumps: usize) -> usize {
    if dumps < 4 { 0 } else { (dumps - 1) / 2 }
}

/// A site without its rate and its shape, which depend on the others.
pub fn site(node: Node, values: Vec<Estimate>, lives: &Lives, x: &[f64]) -> Site {
    let (dumps, middle) = (x.len(), middle(x.len()));
    let (slope, late) = (lives.slope(x, 0..dumps), lives.slope(x, middle..dumps));
    let is_growth = slope.value > 0.0 && late.value > 0.0;
    let probability = if is_growth {
        [
            slope.probability(),
            late.probability(),
            wander(&values, late, x, middle),
            stats::sign_flip(&lives.turnover(middle, dumps - 1)),
        ]
        .into_iter()
        .fold(0.0, f64::max)
    } else {
        1.0
    };
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
    Site { node, values, slope, late, slope_rate: 1.0, probability, rate: 1.0, old, kept, age, shape: Shape::Steady }
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
    let rest: f64 =
        x.iter().zip(&values).map(|(x, value)| (value - mean - late.value * (x - x_mean)).powi(2)).sum();
    let freedom = count as f64 - 2.0;
    let spread: f64 = weights(x, 0..count).iter().map(|weight| weight * weight).sum();
    let error = (rest / freedom * spread).sqrt();
    if error > 0.0 { stats::student_tails(late.value / error, freedom) } else { 0.0 }
}

/// What it is, once its rate is known.
pub fn shape(site: &Site, x: &[f64]) -> Shape {
    let dumps = x.len();
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
    // Has it slowed down for certain?
    let middle = middle(dumps);
    let early = (values[middle] - values[0]) / (x[middle] - x[0]).max(f64::MIN_POSITIVE);
    if site.late.interval().high < 0.75 * early { Shape::Plateau } else { Shape::Unclear }
}
