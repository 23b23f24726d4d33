//! A series of dumps of one program: what grows, what only grew, and what comes and goes.
//!
//! The slope of each site is the least-squares line through its estimates, which is a sum over sampled blocks: a block
//! that is in the dumps a to b adds its weight times Σ L(i) over those dumps, L(i) = (x(i) − x̄) / Σ (x − x̄)². Blocks are
//! sampled independently of each other, so the variance of the slope is the sum of the squares, each with its own
//! (1 − p). That needs the life of each sampled block, which epochs tell ([`lives`]); it is exact however much of a site
//! survives from dump to dump. Where epochs are missing, dumps are taken as independent, or as sharing all they can,
//! whichever is less sure.
//!
//! A slope alone calls every cache that was filled during the series a leak. So the second half of the series is looked
//! at for itself ([`shape`]): a leak still grows there, by more than sampling error, more than ordinary turnover
//! (sign-flip test) and more than the site's own ups and downs explain, and keeps what it was given. It may do so by
//! either of two clocks, seconds and the bytes that the program has allocated.

mod lives;
mod shape;

pub use shape::{Shape, middle};

use crate::graph::{self, Granularity, Graph, Node};
use crate::model::{Columns, PartCache, Profile};
use crate::stats::{self, Estimate, Interval, Z_95};
use lives::{Kinds, Lives};

/// The rate of false alarms up to which growth is believed.
pub const SIGNIFICANT: f64 = 0.01;

/// What to look at.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The column, with what tells its uncertainty.
    pub columns: Columns,
    /// What makes a site.
    pub granularity: Granularity,
    /// Cumulative sums.
    pub by_cum: bool,
}

/// A least-squares line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slope {
    /// Growth per second, or per dump.
    pub value: f64,
    /// Its standard error, from sampling.
    pub error: f64,
}

impl Slope {
    /// The 95 % interval.
    pub fn interval(&self) -> Interval {
        Interval { low: self.value - Z_95 * self.error, high: self.value + Z_95 * self.error }
    }

    /// The probability that sampling alone makes a slope this far from 0.
    pub fn probability(&self) -> f64 {
        match (self.value == 0.0, self.error > 0.0) {
            (true, _) => 1.0,
            (false, true) => 2.0 * stats::normal_tail(self.value.abs() / self.error),
            (false, false) => 1e-15,
        }
    }
}

/// One site over the series.
#[derive(Clone, Debug)]
pub struct Site {
    /// Who it is.
    pub node: Node,
    /// What it held in each dump.
    pub values: Vec<Estimate>,
    /// Growth over the whole series.
    pub slope: Slope,
    /// Growth in the second half.
    pub late: Slope,
    /// The rate of false alarms among all sites whose slope is as surely not 0.
    pub slope_rate: f64,
    /// The probability that what looks like steady growth, over the whole and in the second half, is none.
    pub probability: f64,
    /// The rate of false alarms among all sites that grow as surely.
    pub rate: f64,
    /// Whether it grows more slowly in the second half, for certain.
    pub is_slower: bool,
    /// Share of what it holds in the end that was there before the second half, where that is known.
    pub old: Option<f64>,
    /// Share of what came in the first half that is still there in the end, where that is known and something came.
    pub kept: Option<f64>,
    /// Mean age of what it holds in the end, in seconds (or dumps); what was there in the first dump counts from there.
    pub age: Option<f64>,
    /// What it is.
    pub shape: Shape,
}

impl Site {
    /// Lower end of the growth's interval, times the share that is old: what surely grows and stays.
    pub fn score(&self) -> f64 {
        self.slope.interval().low.max(0.0) * self.old.unwrap_or(1.0)
    }
}

/// All sites over the series.
#[derive(Debug)]
pub struct Series {
    /// Seconds since the first dump, or numbers of the dumps where times are missing or equal.
    pub x: Vec<f64>,
    /// Whether `x` counts seconds.
    pub is_timed: bool,
    /// Sites: leaks by score, then the others by what they grew.
    pub sites: Vec<Site>,
    /// Of all sites together.
    pub total: Vec<Estimate>,
    /// Growth of all together.
    pub total_slope: Slope,
    /// Why samples could not be followed from dump to dump, if so.
    pub not_followed: Option<String>,
}

impl Series {
    /// Looks at the sources of `profile`, which must be in the order of their times; at least three.
    ///
    /// # Errors
    /// The column counts what was ever allocated: it grows wherever a program does anything, and nothing of it goes.
    pub fn new(profile: &mut Profile, options: &Options) -> Result<Self, String> {
        let columns = &options.columns;
        let kind = &profile.sample_types[columns.column].kind;
        if kind.starts_with("alloc_") {
            let of_use = kind.replacen("alloc_", "inuse_", 1);
            return Err(format!(
                "{kind} never shrinks, so that all of it would look like leaks; {of_use} tells what stays"
            ));
        }
        let graph_options = graph::Options { granularity: options.granularity, ..graph::Options::default() };
        let mut graph = Graph::new(profile, columns, graph_options);
        let dumps = profile.sources.len();
        let (x, is_timed) = times(profile);
        let work = if is_timed { work(profile) } else { None };
        let kinds = Kinds::new(profile, columns);

        let mut members: Vec<Vec<u32>> = vec![Vec::new(); graph.node_numbers()];
        graph.for_each_member(profile, columns, options.by_cum, |row, node| members[node as usize].push(row as u32));
        let mut cache = PartCache::default();
        let mut values = |rows: &[u32]| {
            let mut values = vec![Estimate::nothing(columns.weight_of_nothing()); dumps];
            for &row in rows {
                let row = row as usize;
                let part = columns.part(profile, row, &mut cache);
                values[profile.source(row)].add(profile.values(row)[columns.column], part.as_ref());
            }
            values
        };
        let all: Vec<u32> =
            (0..profile.row_count() as u32).filter(|&row| profile.values(row as usize)[columns.column] != 0).collect();
        let total = values(&all);
        let total_slope = Lives::of(&kinds, &all, dumps).slope(&x, 0..dumps);
        let nodes = core::mem::take(&mut graph.nodes);
        let mut sites: Vec<Site> = nodes
            .into_iter()
            .filter(|node| !members[node.index as usize].is_empty())
            .map(|node| {
                let rows = &members[node.index as usize];
                let lives = Lives::of(&kinds, rows, dumps);
                shape::site(node, values(rows), &lives, &x, work.as_deref())
            })
            .collect();
        let rates = |probability: fn(&Site) -> f64| {
            let probabilities: Vec<_> = sites.iter().map(|site| Some(probability(site))).collect();
            stats::false_discovery(&probabilities)
        };
        let rates: Vec<_> =
            rates(|site| site.slope.probability()).into_iter().zip(rates(|site| site.probability)).collect();
        for (site, (slope, steady)) in sites.iter_mut().zip(rates) {
            (site.slope_rate, site.rate) = (slope.unwrap_or(1.0), steady.unwrap_or(1.0));
            site.shape = shape::shape(site);
        }
        sites.sort_by_cached_key(|site| {
            let grown = site.values[dumps - 1].value - site.values[0].value;
            let score = if site.shape == Shape::Leak { site.score() } else { 0.0 };
            // Floats that are not negative sort as their bits do.
            let name = graph::printable(profile, &site.node.key).into_owned();
            (site.shape, u64::MAX - score.to_bits(), -grown, name, site.node.index)
        });
        Ok(Self { x, is_timed, sites, total, total_slope, not_followed: kinds.not_followed() })
    }
}

/// Seconds since the first dump; numbers if times are missing, equal or not in order.
fn times(profile: &Profile) -> (Vec<f64>, bool) {
    let times: Vec<i64> = profile.sources.iter().map(|source| source.time_nanos).collect();
    let first = times.first().copied().unwrap_or(0);
    if first > 0 && times.windows(2).all(|pair| pair[0] < pair[1]) {
        return (times.iter().map(|&time| (time - first) as f64 / 1e9).collect(), true);
    }
    ((0..times.len()).map(|at| at as f64).collect(), false)
}

/// The bytes that the program had allocated by each dump, since the first: how far its work had come. None where that
/// isn't known, or where the program did nothing between two dumps.
fn work(profile: &Profile) -> Option<Vec<f64>> {
    let column = profile.sample_types.iter().position(|of| of.kind == "alloc_space")?;
    let mut bytes = vec![0.0; profile.sources.len()];
    for row in 0..profile.row_count() {
        bytes[profile.source(row)] += profile.values(row)[column] as f64;
    }
    let first = *bytes.first()?;
    bytes.iter_mut().for_each(|bytes| *bytes -= first);
    bytes.windows(2).all(|pair| pair[0] < pair[1]).then_some(bytes)
}
