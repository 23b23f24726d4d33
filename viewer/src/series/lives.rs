//! From which dump to which sampled blocks were there.
//!
//! Rows with equal stack, size, R and labels, the epoch of birth among them, are one kind of block in several dumps. None
//! can be added to a kind after the dump that ends its epoch, so its counts only fall, and how many fall out after each
//! dump is how many lived that long.

use core::ops::Range;

use hashbrown::HashMap;

use super::Slope;
use crate::compare::STRANGERS;
use crate::model::{Columns, Label, LabelValue, PartCache, Profile};
use crate::stats::{Flip, Sampling};

/// What tells kinds apart.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    stack: &'a [u32],
    labels: Vec<Label>,
    period: u64,
}

/// The samples of one row.
#[derive(Clone, Copy)]
struct Seen {
    kind: u32,
    dump: u32,
    samples: u64,
    sampling: Option<Sampling>,
    in_bytes: bool,
    /// Where it is not known how the row was sampled: its value, for a slope without an error.
    value: f64,
}

/// All rows by kind, and whether kinds can be followed from dump to dump.
pub(super) struct Kinds {
    rows: Vec<Seen>,
    reason: Option<String>,
}

impl Kinds {
    pub fn new(profile: &Profile, columns: &Columns) -> Self {
        let epoch = profile.strings.find("epoch");
        let mut cache = PartCache::default();
        let mut known: HashMap<Key<'_>, u32> = HashMap::new();
        let mut births: Vec<i64> = Vec::new();
        let mut youngest = vec![0i64; profile.sources.len()];
        let mut has_epochs = true;
        let mut rows = Vec::with_capacity(profile.row_count());
        for row in 0..profile.row_count() {
            let value = profile.values(row)[columns.column] as f64;
            let sampled = columns.sampling(profile, row, &mut cache);
            let period = sampled.map_or(0.0, |(sampling, _)| sampling.period);
            let is_kept = |label: &&Label| profile.text(label.key) != "period";
            let key = Key {
                stack: profile.stack(row),
                labels: profile.labels(row).iter().filter(is_kept).copied().collect(),
                period: period.to_bits(),
            };
            let born = epoch.and_then(|epoch| {
                key.labels.iter().find(|label| label.key == epoch).and_then(|label| match label.value {
                    LabelValue::Number(number, _) => Some(number),
                    LabelValue::Text(_) => None,
                })
            });
            let dump = profile.source(row);
            if value != 0.0 {
                has_epochs &= born.is_some();
                youngest[dump] = youngest[dump].max(born.unwrap_or(0));
            }
            let next = known.len() as u32;
            let kind = *known.entry(key).or_insert(next);
            if kind == next {
                births.push(born.unwrap_or(0));
            }
            rows.push(Seen {
                kind,
                dump: dump as u32,
                samples: sampled.map_or(0, |(sampling, blocks)| sampling.samples(blocks) as u64),
                sampling: sampled.map(|(sampling, _)| sampling),
                in_bytes: columns.is_space(),
                value,
            });
        }
        let reason = if !has_epochs {
            Some("the rows have no label epoch".to_owned())
        } else if profile.sources.windows(2).any(|two| two[0].is_of_other_program(&two[1])) {
            Some("the dumps are of several programs".to_owned())
        } else if profile.sources.iter().any(|source| source.is_peak) {
            Some("some of them are of the peak, which says nothing of blocks that were born later".to_owned())
        } else if profile.sources.iter().any(|source| source.is_moved) {
            Some("the dumps are of several processes: binaries are mapped at different addresses".to_owned())
        } else {
            strangers(&rows, &births, &youngest)
        };
        Self { rows, reason }
    }

    /// Why kinds can't be followed, if so.
    pub fn not_followed(&self) -> Option<String> {
        self.reason.clone()
    }
}

/// Looks for samples that are older than the dump they first appear in, or that come back.
fn strangers(rows: &[Seen], births: &[i64], youngest: &[i64]) -> Option<String> {
    let mut order: Vec<&Seen> = rows.iter().filter(|seen| seen.samples > 0).collect();
    order.sort_by_key(|seen| (seen.kind, seen.dump));
    let (mut all, mut strange) = (0u64, 0u64);
    for of_kind in order.chunk_by(|a, b| a.kind == b.kind) {
        let mut before: Option<(u32, u64)> = None;
        for of_dump in of_kind.chunk_by(|a, b| a.dump == b.dump) {
            let (dump, samples) = (of_dump[0].dump, of_dump.iter().map(|seen| seen.samples).sum::<u64>());
            let expected = match before {
                Some((last, samples)) if last + 1 == dump => samples,
                Some(_) => 0,
                None if dump > 0 && births[of_kind[0].kind as usize] <= youngest[dump as usize - 1] => 0,
                None => samples,
            };
            all += samples;
            strange += samples.saturating_sub(expected);
            before = Some((dump, samples));
        }
    }
    (strange as f64 > all as f64 * STRANGERS).then(|| {
        let share = strange as f64 / all as f64 * 100.0;
        format!("the dumps are of several processes: {share:.1}% of the samples contradict the label epoch")
    })
}

/// Blocks of equal weight with equal lives.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// First and last dump.
    first: usize,
    last: usize,
    samples: u64,
    weight: f64,
    /// 1 − p: the share of a weight's square that is variance.
    missed: f64,
}

/// The lives of a site's sampled blocks.
pub(super) struct Lives {
    lives: Vec<Life>,
    /// By dump, every row for itself: what there is if nothing can be followed.
    alone: Vec<Life>,
    /// By dump, what has no known sampling.
    unknown: Vec<f64>,
    is_followed: bool,
}

impl Lives {
    pub fn of(kinds: &Kinds, rows: &[u32], dumps: usize) -> Self {
        let mut seen: Vec<Seen> = rows.iter().map(|&row| kinds.rows[row as usize]).collect();
        seen.sort_by_key(|seen| (seen.kind, seen.dump));
        let mut lives = Self {
            lives: Vec::new(),
            alone: Vec::new(),
            unknown: vec![0.0; dumps],
            is_followed: kinds.reason.is_none(),
        };
        for of_kind in seen.chunk_by(|a, b| a.kind == b.kind) {
            let Some(sampling) = of_kind[0].sampling else {
                of_kind.iter().for_each(|seen| lives.unknown[seen.dump as usize] += seen.value);
                continue;
            };
            let life = |first: usize, last: usize, samples: u64| Life {
                first,
                last,
                samples,
                weight: sampling.weight(of_kind[0].in_bytes),
                missed: 1.0 - sampling.probability,
            };
            // Those that are there, oldest first: since which dump, how many.
            let mut there: Vec<(usize, u64)> = Vec::new();
            let mut count = 0u64;
            let end = |there: &mut Vec<(usize, u64)>, last: usize, mut gone: u64, lives: &mut Self| {
                while let Some((first, samples)) = there.first_mut().filter(|_| gone > 0) {
                    let taken = gone.min(*samples);
                    lives.lives.push(life(*first, last, taken));
                    (*samples, gone) = (*samples - taken, gone - taken);
                    if *samples == 0 {
                        there.remove(0);
                    }
                }
            };
            let mut at = 0;
            for dump in 0..dumps {
                let mut samples = 0;
                while let Some(seen) = of_kind.get(at).filter(|seen| seen.dump as usize == dump) {
                    samples += seen.samples;
                    at += 1;
                }
                if samples < count {
                    end(&mut there, dump - 1, count - samples, &mut lives);
                } else if samples > count {
                    there.push((dump, samples - count));
                }
                if samples > 0 {
                    lives.alone.push(life(dump, dump, samples));
                }
                count = samples;
            }
            end(&mut there, dumps - 1, count, &mut lives);
        }
        lives
    }

    pub fn is_followed(&self) -> bool {
        self.is_followed
    }

    /// The least-squares line through the dumps of a window.
    pub fn slope(&self, x: &[f64], window: Range<usize>) -> Slope {
        let weights = weights(x, window.clone());
        let mut sums = vec![0.0; x.len() + 1];
        for (at, weight) in window.clone().zip(&weights) {
            sums[at + 1] = sums[at] + weight;
        }
        // All weights together are 0, exactly: what is there all the time does not grow.
        sums[window.end..].fill(0.0);
        let fit = |lives: &[Life]| {
            lives.iter().fold((0.0, 0.0), |(value, variance), life| {
                let part = sums[life.last + 1] - sums[life.first];
                let (samples, weight) = (life.samples as f64, life.weight);
                (value + samples * weight * part, variance + samples * (weight * part).powi(2) * life.missed)
            })
        };
        let (followed, mut variance) = fit(&self.lives);
        if !self.is_followed {
            variance = f64::max(variance, fit(&self.alone).1);
        }
        let unknown: f64 = window.clone().map(|at| self.unknown[at] * weights[at - window.start]).sum();
        // Without any knowledge of the sampling there is no telling what the error is.
        let error = if self.unknown.iter().any(|&value| value != 0.0) { f64::INFINITY } else { variance.sqrt() };
        Slope { value: followed + unknown, error }
    }

    /// Samples that came and went between two dumps; where they can't be followed, all of both.
    pub fn turnover(&self, from: usize, to: usize) -> Vec<Flip> {
        let flip = |life: &Life, came: bool, went: bool| Flip {
            weight: life.weight,
            came: if came { life.samples } else { 0 },
            went: if went { life.samples } else { 0 },
        };
        let is_at = |life: &Life, dump: usize| (life.first..=life.last).contains(&dump);
        if self.is_followed {
            let lives = self.lives.iter();
            return lives
                .map(|life| (life, is_at(life, from), is_at(life, to)))
                .filter(|(_, before, after)| before != after)
                .map(|(life, before, after)| flip(life, after, before))
                .collect();
        }
        self.alone.iter().map(|life| flip(life, life.last == to, life.last == from)).collect()
    }

    /// The weight of what is there in dump `at` and of which `is_wanted` says yes to its first and last dump.
    pub fn weight(&self, at: usize, is_wanted: impl Fn(usize, usize) -> bool) -> f64 {
        let there = self.lives.iter().filter(|life| (life.first..=life.last).contains(&at));
        there.filter(|life| is_wanted(life.first, life.last)).map(|life| life.samples as f64 * life.weight).sum()
    }

    /// The weight of what came in the dumps of a window, and of it what is there in dump `end`.
    pub fn kept(&self, window: Range<usize>, end: usize) -> (f64, f64) {
        let came = self.lives.iter().filter(|life| window.contains(&life.first));
        came.fold((0.0, 0.0), |(came, kept), life| {
            let weight = life.samples as f64 * life.weight;
            (came + weight, kept + if life.last >= end { weight } else { 0.0 })
        })
    }
}

/// Weights of a least-squares slope.
pub(super) fn weights(x: &[f64], window: Range<usize>) -> Vec<f64> {
    let x = &x[window];
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let spread: f64 = x.iter().map(|x| (x - mean).powi(2)).sum();
    x.iter().map(|x| if spread > 0.0 { (x - mean) / spread } else { 0.0 }).collect()
}
