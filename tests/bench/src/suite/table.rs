//! Readings as tables: medians, ratios to the first allocator, geometric means, and who is how far from the best.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Reading;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// CPU time.
    Cpu,
    /// Time on the clock.
    Wall,
    /// Peak of resident memory.
    Peak,
}

impl Quantity {
    /// All, in the order of the tables.
    pub const ALL: [Quantity; 3] = [Quantity::Cpu, Quantity::Wall, Quantity::Peak];

    fn of(self, reading: &Reading) -> f64 {
        match self {
            Quantity::Cpu => reading.cpu,
            Quantity::Wall => reading.wall,
            Quantity::Peak => reading.peak,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Quantity::Cpu => "CPU time, user and system",
            Quantity::Wall => "Time on the clock",
            Quantity::Peak => "Peak of resident memory",
        }
    }

    fn shown(self, value: f64) -> String {
        match self {
            Quantity::Cpu | Quantity::Wall => format!("{value:.3} s"),
            Quantity::Peak => format!("{:.1} MiB", value / 1024.0),
        }
    }
}

/// All readings: by workload, by allocator, one for each round.
#[derive(Debug, Default)]
pub struct Results {
    /// Names of the allocators; the first is what the others are compared with.
    pub allocators: Vec<String>,
    /// Names of the workloads, in order.
    pub workloads: Vec<String>,
    readings: BTreeMap<(usize, usize), Vec<Reading>>,
}

/// The middle of some values; `None` of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[n / 2]),
        n => Some((values[n / 2 - 1] + values[n / 2]) / 2.0),
    }
}

fn geometric_mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp())
}

/// Bounds of the median that hold in 95 of 100 cases, whatever the distribution: two order statistics (binomial with
/// chance one half); smallest and largest where there are too few values for that.
fn bounds(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let (first, last) = (*values.first()?, *values.last()?);
    let mut below = 0.5f64.powi(n as i32);
    let (mut rank, mut term) = (0, below);
    // Chance that at most `rank` values lie below the median.
    while below <= 0.025 && rank + 1 < n {
        rank += 1;
        term *= (n - rank + 1) as f64 / rank as f64;
        below += term;
    }
    Some(if rank == 0 { (first, last) } else { (values[rank - 1], values[n - rank]) })
}

impl Results {
    /// Without readings.
    pub fn new(allocators: Vec<String>, workloads: Vec<String>) -> Self {
        Results { allocators, workloads, readings: BTreeMap::new() }
    }

    /// Adds one.
    pub fn add(&mut self, workload: usize, allocator: usize, reading: Reading) {
        self.readings.entry((workload, allocator)).or_default().push(reading);
    }

    fn values(&self, workload: usize, allocator: usize, quantity: Quantity) -> Vec<f64> {
        let readings = self.readings.get(&(workload, allocator));
        readings.into_iter().flatten().map(|reading| quantity.of(reading)).collect()
    }

    /// Median of an allocator on a workload.
    pub fn median(&self, workload: usize, allocator: usize, quantity: Quantity) -> Option<f64> {
        median(self.values(workload, allocator, quantity))
    }

    /// Ratios to another allocator, round by round.
    pub fn ratios(&self, workload: usize, allocator: usize, base: usize, quantity: Quantity) -> Vec<f64> {
        let (ours, theirs) = (self.values(workload, allocator, quantity), self.values(workload, base, quantity));
        ours.iter().zip(&theirs).filter(|pair| *pair.1 > 0.0).map(|(ours, theirs)| ours / theirs).collect()
    }

    /// Geometric mean, over the workloads that all allocators have run, of an allocator's ratios to the first.
    pub fn mean(&self, allocator: usize, quantity: Quantity) -> Option<f64> {
        let complete = (0..self.workloads.len())
            .filter(|&workload| (0..self.allocators.len()).all(|a| self.median(workload, a, quantity).is_some()));
        let ratios: Vec<f64> =
            complete.filter_map(|workload| median(self.ratios(workload, allocator, 0, quantity))).collect();
        geometric_mean(&ratios)
    }

    /// The tables as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let width = self.workloads.iter().map(String::len).max().unwrap_or(0).max("geometric mean".len());
        let wide = |name: &str| name.len().max(9);
        for quantity in Quantity::ALL {
            let _ = writeln!(out, "{}: ratios to {} (medians of the rounds)", quantity.title(), self.allocators[0]);
            let _ = write!(out, "{:width$}  {:>12}", "", self.allocators[0]);
            for name in &self.allocators[1..] {
                let _ = write!(out, "  {name:>0$}", wide(name));
            }
            out.push('\n');
            for (workload, name) in self.workloads.iter().enumerate() {
                let first = self.median(workload, 0, quantity).map_or("-".into(), |value| quantity.shown(value));
                let _ = write!(out, "{name:width$}  {first:>12}");
                for (allocator, column) in self.allocators.iter().enumerate().skip(1) {
                    let ratio = median(self.ratios(workload, allocator, 0, quantity));
                    let cell = ratio.map_or("-".into(), |ratio| format!("{ratio:.3}"));
                    let _ = write!(out, "  {cell:>0$}", wide(column));
                }
                out.push('\n');
            }
            let _ = write!(out, "{:width$}  {:>12}", "geometric mean", "1");
            for (allocator, column) in self.allocators.iter().enumerate().skip(1) {
                let cell = self.mean(allocator, quantity).map_or("-".into(), |mean| format!("{mean:.3}"));
                let _ = write!(out, "  {cell:>0$}", wide(column));
            }
            out.push_str("\n\n");
        }
        out
    }

    /// Where `subject` is more than `limit` times the best of `peers`: workload, peer, ratio, and its bounds.
    pub fn behind(&self, subject: usize, peers: &[usize], quantity: Quantity, limit: f64) -> Vec<Behind> {
        let mut found = Vec::new();
        for (workload, name) in self.workloads.iter().enumerate() {
            let best = peers
                .iter()
                .filter_map(|&peer| Some((self.median(workload, peer, quantity)?, peer)))
                .min_by(|a, b| a.0.total_cmp(&b.0));
            let Some((_, peer)) = best else { continue };
            let ratios = self.ratios(workload, subject, peer, quantity);
            if let (Some(ratio), Some((low, high))) = (median(ratios.clone()), bounds(ratios))
                && ratio > limit
            {
                let peer = self.allocators[peer].clone();
                found.push(Behind { workload: name.clone(), peer, ratio, low, high });
            }
        }
        found
    }

    /// Everything, for programs.
    pub fn json(&self) -> Value {
        let mut workloads = Map::new();
        for (workload, name) in self.workloads.iter().enumerate() {
            let mut row = Map::new();
            for (allocator, column) in self.allocators.iter().enumerate() {
                let list = |quantity| self.values(workload, allocator, quantity);
                let value = json!({
                    "cpu_seconds": list(Quantity::Cpu),
                    "wall_seconds": list(Quantity::Wall),
                    "peak_kib": list(Quantity::Peak),
                });
                row.insert(column.clone(), value);
            }
            workloads.insert(name.clone(), Value::Object(row));
        }
        let means: Map<String, Value> = self
            .allocators
            .iter()
            .enumerate()
            .map(|(allocator, name)| {
                let [cpu, wall, peak] = Quantity::ALL.map(|quantity| self.mean(allocator, quantity));
                (name.clone(), json!({ "cpu": cpu, "wall": wall, "peak": peak }))
            })
            .collect();
        json!({ "base": self.allocators[0], "geometric_means": means, "workloads": workloads })
    }
}

/// A workload on which an allocator is behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Behind {
    /// The workload.
    pub workload: String,
    /// Who is best there.
    pub peer: String,
    /// How far behind: median of the rounds.
    pub ratio: f64,
    /// Lower bound of that, 95 %.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(cpu: f64, peak: f64) -> Reading {
        Reading { cpu, wall: cpu, peak }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut results = Results::new(vec!["a".into(), "b".into()], vec!["w".into(), "x".into()]);
        // The machine is twice as slow in the second round.
        for (first, second) in [(1.0, 0.5), (2.0, 1.0), (1.0, 0.6)] {
            results.add(0, 0, reading(first, 100.0));
            results.add(0, 1, reading(second, 200.0));
        }
        assert_eq!(median(results.ratios(0, 1, 0, Quantity::Cpu)), Some(0.5));
        // A workload that one has not run doesn't count in the mean.
        results.add(1, 0, reading(1.0, 100.0));
        assert!((results.mean(1, Quantity::Peak).unwrap() - 2.0).abs() < 1e-9);
        let behind = results.behind(1, &[0], Quantity::Peak, 1.25);
        assert_eq!((behind.len(), behind[0].ratio), (1, 2.0));
        assert!(results.text().contains("geometric mean"));
    }

    #[test]
    fn bounds_are_order_statistics() {
        let values: Vec<f64> = (1..=11).map(f64::from).collect();
        // P(at most 1 of 11 below the median) = 12/2048 = 0.006, at most 2: 0.033.
        assert_eq!(bounds(values), Some((2.0, 10.0)));
        assert_eq!(bounds(vec![3.0, 1.0]), Some((1.0, 3.0)));
        assert_eq!(bounds(vec![]), None);
    }
}
