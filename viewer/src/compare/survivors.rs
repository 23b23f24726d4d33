//! Which samples of two dumps of one process are the same.
//!
//! A dump ends an epoch, and a block's label `epoch` says in which one it was born. So the blocks in the later dump that
//! were born no later than the youngest one of the earlier dump were in the earlier dump too: they are its survivors,
//! and must be found there with the same stack, size and labels, at least as many. What the earlier dump has more is
//! gone, what the later one has more was born since.
//!
//! Nothing in a file says which process it is of. But two processes map their binaries at different addresses, and
//! where they don't, the later dump would have "survivors" that the earlier one has not.

use core::fmt;

use hashbrown::HashMap;

use crate::model::{Columns, Label, LabelValue, PartCache, Profile, Side, Str};
use crate::stats::Part;

/// What became of the samples of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Samples of the row.
    pub all: u64,
    /// Of them, those that are in both dumps.
    pub survived: u64,
}

/// By row, what became of its samples.
#[derive(Debug)]
pub struct Fates {
    rows: Vec<Fate>,
}

/// What a row has on its side only.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    /// Samples.
    pub samples: u64,
    /// What each of them stands for.
    pub weight: f64,
    /// Both multiplied.
    pub value: i64,
    /// What it adds to the uncertainty of a sum.
    pub part: Part,
}

/// Why two profiles cannot be compared by survivors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOneProcess {
    /// There is not exactly one file on each side.
    Groups,
    /// Values were multiplied.
    Scaled,
    /// Rows do not say when their blocks were born.
    NoEpochs,
    /// How blocks were sampled is not known.
    NoPeriod,
    /// One of them is of the peak, whose interval goes on after it.
    Peak,
    /// The programs' own binaries are not the same.
    Programs,
    /// A binary is mapped at different addresses.
    Moved,
    /// The later profile has this many old samples in a hundred thousand that the earlier one has not.
    Strangers(u32),
}

impl fmt::Display for NotOneProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Groups => f.write_str("there is not exactly one file on each side"),
            Self::Scaled => f.write_str("one side has been multiplied"),
            Self::NoEpochs => f.write_str("the rows have no label epoch"),
            Self::NoPeriod => f.write_str("it is not known how the blocks were sampled"),
            Self::Peak => f.write_str(
                "one of them is of the peak, which says nothing of blocks that were born later in its interval",
            ),
            Self::Programs => f.write_str("they are of two programs"),
            Self::Moved => f.write_str("they are of two processes: binaries are mapped at different addresses"),
            Self::Strangers(share) => write!(
                f,
                "they are of two processes: {:.1}% of the later one's old samples are not in the earlier one",
                f64::from(*share) / 1000.0
            ),
        }
    }
}

/// Old samples without a match, of which this share is let pass: a thread may free blocks, and be renamed, while a dump
/// copies its tables.
pub(crate) const STRANGERS: f64 = 0.002;

/// Samples of one kind.
#[derive(Default)]
struct Kind {
    is_old: bool,
    earlier: u64,
    later: u64,
    /// Of the survivors, how many have not yet been given to a row, by side.
    left: [u64; 2],
}

impl Fates {
    /// Looks for survivors.
    ///
    /// # Errors
    /// Says why there is no knowing.
    pub fn new(profile: &Profile, columns: &Columns) -> Result<Self, NotOneProcess> {
        let one = |side: Side| {
            let mut of = profile.sources.iter().filter(|source| source.side == side);
            of.next().filter(|_| of.next().is_none()).ok_or(NotOneProcess::Groups)
        };
        let (base, new) = (one(Side::Base)?, one(Side::New)?);
        if base.is_of_other_program(new) {
            return Err(NotOneProcess::Programs);
        }
        if base.is_moved || new.is_moved {
            return Err(NotOneProcess::Moved);
        }
        if base.is_peak || new.is_peak {
            return Err(NotOneProcess::Peak);
        }
        let later = if new.time_nanos >= base.time_nanos { Side::New } else { Side::Base };
        let (Some(epoch), Some(objects)) = (profile.strings.find("epoch"), columns.objects()) else {
            return Err(NotOneProcess::NoEpochs);
        };

        let mut cache = PartCache::default();
        let mut rows = vec![Fate::default(); profile.row_count()];
        let mut kinds: HashMap<Key<'_>, Kind> = HashMap::new();
        let mut keys = Vec::new();
        let mut youngest = [0i64; 2];
        for (row, fate) in rows.iter_mut().enumerate() {
            if profile.values(row)[objects] == 0 {
                continue;
            }
            if profile.scale(row, objects).is_some() {
                return Err(NotOneProcess::Scaled);
            }
            let (sampling, blocks) = columns.sampling(profile, row, &mut cache).ok_or(NotOneProcess::NoPeriod)?;
            fate.all = sampling.samples(blocks) as u64;
            let born = epoch_of(profile, row, epoch).ok_or(NotOneProcess::NoEpochs)?;
            let is_later = profile.side(row) == later;
            let most = &mut youngest[usize::from(is_later)];
            *most = (*most).max(born);
            let key = Key::of(profile, row, sampling.period);
            let kind = kinds.entry(key.clone()).or_default();
            kind.is_old = true;
            *(if is_later { &mut kind.later } else { &mut kind.earlier }) += fate.all;
            keys.push((row, is_later, born, key));
        }
        if keys.is_empty() {
            return Err(NotOneProcess::NoEpochs);
        }

        for &(_, is_later, born, ref key) in &keys {
            if is_later && born > youngest[0] {
                // All rows of a kind have one epoch.
                if let Some(kind) = kinds.get_mut(key) {
                    kind.is_old = false;
                }
            }
        }
        let (mut old, mut strangers) = (0u64, 0u64);
        for kind in kinds.values_mut().filter(|kind| kind.is_old) {
            old += kind.later;
            strangers += kind.later.saturating_sub(kind.earlier);
            kind.left = [kind.later.min(kind.earlier); 2];
        }
        // Where nothing was born in between, it may be any two dumps.
        let allowed = if youngest[1] > youngest[0] { old as f64 * STRANGERS } else { 0.0 };
        if strangers as f64 > allowed {
            let share = (strangers as f64 / old as f64 * 100_000.0).ceil();
            return Err(NotOneProcess::Strangers(share as u32));
        }
        for (row, is_later, _, key) in &keys {
            if let Some(kind) = kinds.get_mut(key) {
                let left = &mut kind.left[usize::from(*is_later)];
                rows[*row].survived = rows[*row].all.min(*left);
                *left -= rows[*row].survived;
            }
        }
        Ok(Self { rows })
    }

    /// The part of a row that is on its side only; `None` where there is none.
    pub fn only_here(&self, profile: &Profile, columns: &Columns, row: usize, cache: &mut PartCache) -> Option<Alone> {
        let fate = self.rows[row];
        let (sampling, _) = columns.sampling(profile, row, cache).filter(|_| fate.all > fate.survived)?;
        // In samples: the integer estimates of a row would not survive a subtraction.
        let samples = fate.all - fate.survived;
        let weight = sampling.weight(columns.is_space());
        let value = (weight * samples as f64).round() as i64;
        Some(Alone { samples, weight, value, part: sampling.of_samples(samples as f64, columns.is_space()) })
    }

    /// What became of a row's samples.
    pub fn of(&self, row: usize) -> Fate {
        self.rows[row]
    }
}

fn epoch_of(profile: &Profile, row: usize, key: Str) -> Option<i64> {
    profile.labels(row).iter().find(|label| label.key == key).and_then(|label| match label.value {
        LabelValue::Number(number, _) => Some(number),
        LabelValue::Text(_) => None,
    })
}

/// What makes samples of two rows the same kind: the stack, the labels, and the period in force, which is a label only
/// where it is not the file's.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key<'a> {
    stack: &'a [u32],
    labels: Vec<Label>,
    period: u64,
}

impl<'a> Key<'a> {
    fn of(profile: &'a Profile, row: usize, period: f64) -> Self {
        let is_kept = |label: &&Label| profile.text(label.key) != "period";
        Self {
            stack: profile.stack(row),
            labels: profile.labels(row).iter().filter(is_kept).copied().collect(),
            period: period.to_bits(),
        }
    }
}
