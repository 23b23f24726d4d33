//! What changed between two profiles, and how sure that is: intervals, probabilities, rates of false alarms.
//!
//! Three ways, by what the two sides are ([`Way`]):
//! - two processes: their samples are independent, and their variances add up;
//! - two dumps of one process: a block that lives in both has the same sample in both and says nothing about the
//!   change. What came and what went is compared ([`survivors`]), which is surer;
//! - groups of files: each file is one observation, and how files of one side differ among themselves is part of the
//!   uncertainty ([`groups`]).
//!
//! Each row has a probability that sampling alone made its change, and over all rows q values (Benjamini and
//! Hochberg). Where it is known what came and what went, the sign-flip test answers the other question: is it growth,
//! or ordinary churn? `docs/statistics.md` derives all of it.

mod groups;
mod survivors;

pub(crate) use survivors::STRANGERS;
pub use survivors::{Alone, Fate, Fates, NotOneProcess};

use hashbrown::HashMap;

use crate::graph::{self, Granularity, Graph, Node, Sides};
use crate::model::{Columns, PartCache, Profile, Side};
use crate::stats::{self, Change, Estimate, Flip, Interval};
use groups::Spread;

/// The rate of false alarms up to which a change is called significant.
pub const SIGNIFICANT: f64 = 0.05;

/// How the two sides belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pairing {
    /// By survivors where both are dumps of one process that tell when blocks were born, else as independent.
    #[default]
    Auto,
    /// By survivors, or not at all.
    Survivors,
    /// As independent, whatever they are.
    Independent,
}

/// How they were compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// As two independent profiles; where survivors were looked for, why that was not possible.
    Independent(Option<NotOneProcess>),
    /// By what came and went in one process.
    Survivors,
    /// As groups of so many files, base and new; sums are means of a file.
    Groups(usize, usize),
}

/// What to compare.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The column, with what tells its uncertainty.
    pub columns: Columns,
    /// What makes a row.
    pub granularity: Granularity,
    /// Compare cumulative sums.
    pub by_cum: bool,
    /// How the two sides belong together.
    pub pairing: Pairing,
}

/// What is in only one of the two profiles of a process.
#[derive(Clone, Debug, Default)]
pub struct Turnover {
    /// Blocks that came.
    pub born: Estimate,
    /// Blocks that went.
    pub gone: Estimate,
    /// Samples in both.
    pub survivors: f64,
    flips: Vec<Flip>,
}

/// A sum on both sides, and what to think of its change.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The sums; of groups, the sums of all files.
    pub sides: Sides,
    /// What is shown as base and new: sums, of groups means.
    pub shown: (i128, i128),
    /// New minus base, with its 95 % interval.
    pub change: Change,
    /// The probability that sampling alone (of groups: that and the files' own differences) makes such a change.
    pub noise: Option<f64>,
    /// The rate of false alarms among all rows that are at least as improbable.
    pub noise_rate: Option<f64>,
    /// What came and went, where it is known.
    pub turnover: Option<Turnover>,
    /// The probability that ordinary churn makes such a change, where it is known what came and went.
    pub churn: Option<f64>,
    /// The rate of false alarms that goes with it.
    pub churn_rate: Option<f64>,
}

impl Verdict {
    /// Larger than sampling error explains, all rows considered.
    pub fn is_real(&self) -> bool {
        self.noise_rate.is_some_and(|rate| rate < SIGNIFICANT)
    }

    /// Real, and more than what comes and goes anyhow.
    pub fn is_trend(&self) -> bool {
        self.is_real() && self.churn_rate.is_some_and(|rate| rate < SIGNIFICANT)
    }

    /// `new`, `gone`, `grown`, `shrunk` or `same`.
    pub fn kind(&self) -> &'static str {
        match self.shown {
            (base, new) if base == new => "same",
            (0, _) => "new",
            (_, 0) => "gone",
            (base, new) if new > base => "grown",
            _ => "shrunk",
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who it is.
    pub node: Node,
    /// What changed.
    pub verdict: Verdict,
}

/// All rows that hold anything on either side.
#[derive(Debug)]
pub struct Comparison {
    /// Trends first, then what is real, then the rest; within each the larger change first.
    pub rows: Vec<Row>,
    /// The sum over all rows.
    pub total: Verdict,
    /// How it was done.
    pub way: Way,
}

/// What is collected of one node, or of all.
#[derive(Clone, Default)]
struct Parts {
    turnover: Turnover,
    spread: Spread,
}

impl Comparison {
    /// Compares the two sides of `profile`.
    ///
    /// # Errors
    /// Survivors were asked for and there is no knowing them.
    pub fn new(profile: &mut Profile, options: &Options) -> Result<Self, NotOneProcess> {
        let columns = &options.columns;
        let graph_options = graph::Options { granularity: options.granularity, ..graph::Options::default() };
        let mut graph = Graph::new(profile, columns, graph_options);
        let (way, fates) = choose(profile, options)?;
        let sizes = match way {
            Way::Groups(base, new) => (base, new),
            _ => (1, 1),
        };

        let nothing = Estimate::nothing(columns.weight_of_nothing());
        let empty = Parts {
            turnover: Turnover { born: nothing, gone: nothing, ..Turnover::default() },
            spread: Spread::default(),
        };
        let mut parts: HashMap<u32, Parts> = HashMap::new();
        let mut all = empty.clone();
        if !matches!(way, Way::Independent(_)) {
            let mut cache = PartCache::default();
            let mut add = |profile: &Profile, row: usize, parts: &mut Parts| match &fates {
                Some(fates) => parts.turnover.add(profile, columns, row, fates, &mut cache),
                None => parts.spread.add(profile, columns, row),
            };
            graph.for_each_member(profile, columns, options.by_cum, |row, node| {
                add(profile, row, parts.entry(node).or_insert_with(|| empty.clone()));
            });
            (0..profile.row_count())
                .filter(|&row| profile.values(row)[columns.column] != 0)
                .for_each(|row| add(profile, row, &mut all));
        }

        let judge = |sides: Sides, parts: Parts| judge(profile, &way, sides, parts, sizes);
        let mut total = judge(graph.total, all);
        let mut rows: Vec<Row> = core::mem::take(&mut graph.nodes)
            .into_iter()
            .map(|node| {
                let sides = if options.by_cum { node.cum } else { node.flat };
                let parts = parts.remove(&node.index).unwrap_or_else(|| empty.clone());
                Row { verdict: judge(sides, parts), node }
            })
            .filter(|row| row.verdict.sides.new.value != 0 || row.verdict.sides.base.value != 0)
            .collect();
        set_rates(&mut rows);
        rows.sort_by_cached_key(|row| {
            let size = row.verdict.change.delta.unsigned_abs();
            let name = graph::printable(profile, &row.node.key).into_owned();
            (!row.verdict.is_trend(), !row.verdict.is_real(), u128::MAX - size, name, row.node.index)
        });
        (total.noise_rate, total.churn_rate) = (total.noise, total.churn);
        Ok(Self { rows, total, way })
    }
}

/// Which way it is, and what became of each sample if that is known.
fn choose(profile: &Profile, options: &Options) -> Result<(Way, Option<Fates>), NotOneProcess> {
    let count = |side: Side| profile.sources.iter().filter(|source| source.side == side).count();
    let (base, new) = (count(Side::Base), count(Side::New));
    if base > 1 || new > 1 {
        if options.pairing == Pairing::Survivors {
            return Err(NotOneProcess::Groups);
        }
        return Ok((Way::Groups(base.max(1), new.max(1)), None));
    }
    if options.pairing == Pairing::Independent {
        return Ok((Way::Independent(None), None));
    }
    match Fates::new(profile, &options.columns) {
        Ok(fates) => Ok((Way::Survivors, Some(fates))),
        Err(reason) if options.pairing == Pairing::Survivors => Err(reason),
        Err(reason) => Ok((Way::Independent(Some(reason)), None)),
    }
}

impl Turnover {
    fn add(&mut self, profile: &Profile, columns: &Columns, row: usize, fates: &Fates, cache: &mut PartCache) {
        let is_new = profile.side(row) == Side::New;
        self.survivors += if is_new { fates.of(row).survived as f64 } else { 0.0 };
        let Some(alone) = fates.only_here(profile, columns, row, cache) else { return };
        let side = if is_new { &mut self.born } else { &mut self.gone };
        side.add(alone.value, Some(&alone.part));
        let (came, went) = if is_new { (alone.samples, 0) } else { (0, alone.samples) };
        match self.flips.iter_mut().find(|known| known.weight == alone.weight) {
            Some(known) => {
                known.came += came;
                known.went += went;
            }
            None => self.flips.push(Flip { weight: alone.weight, came, went }),
        }
    }
}

/// The change between two sums of one process, of which `gone` and `born` are on one side only.
pub(crate) fn change_of(sides: &Sides, gone: &Estimate, born: &Estimate) -> Change {
    let (delta, of) = (sides.net(), Change::between(gone, born));
    // Around the difference of the rows' own integers, from which that of the samples is bytes away.
    let offset = (delta - of.delta) as f64;
    let interval = of.interval.map(|i| Interval { low: i.low + offset, high: i.high + offset });
    Change { delta, interval }
}

fn judge(profile: &Profile, way: &Way, sides: Sides, parts: Parts, sizes: (usize, usize)) -> Verdict {
    let mut verdict = Verdict {
        shown: (sides.base.value, sides.new.value),
        change: sides.change(),
        noise: None,
        noise_rate: None,
        turnover: None,
        churn: None,
        churn_rate: None,
        sides,
    };
    match way {
        Way::Independent(_) => verdict.noise = Change::probability(&sides.base, &sides.new),
        Way::Survivors => {
            let turnover = parts.turnover;
            verdict.change = change_of(&sides, &turnover.gone, &turnover.born);
            verdict.noise = Change::probability(&turnover.gone, &turnover.born);
            verdict.churn = Some(stats::sign_flip(&turnover.flips));
            verdict.turnover = Some(turnover);
        }
        Way::Groups(..) => {
            let judged = parts.spread.judge(profile, &sides, sizes);
            (verdict.shown, verdict.change, verdict.noise) = (judged.means, judged.change, judged.probability);
        }
    }
    verdict
}

fn set_rates(rows: &mut [Row]) {
    let noise: Vec<_> = rows.iter().map(|row| row.verdict.noise).collect();
    let churn: Vec<_> = rows.iter().map(|row| row.verdict.churn).collect();
    let rates = stats::false_discovery(&noise).into_iter().zip(stats::false_discovery(&churn));
    for (row, (noise, churn)) in rows.iter_mut().zip(rates) {
        (row.verdict.noise_rate, row.verdict.churn_rate) = (noise, churn);
    }
}
