//! Frames of many addresses of one binary at once: each unit that holds some is walked once, and of its functions only
//! those with an address in them are looked into.
//!
//! What this reader does not understand (what it finds broken, foremost) it leaves to the other one, which takes addresses
//! one by one. Threads share the units; each reads them through sections of its own, and what it reads is charged to the
//! module's [`Budget`].

mod entries;
mod lines;
mod names;
mod reader;
mod units;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use gimli::UnitRef;

use super::code::Code;
use super::meter::{Budget, Meter};
use super::module::MAX_INLINED;
use super::sections::Sections;
use super::split::Split;
use crate::threads::on_threads;
use entries::Kinds;
use lines::Lines;
use names::Names;
use reader::Reader;
use units::{Owned, Units, within};

/// Units whose ranges a thread reads at once.
const BLOCK: usize = 16;

/// The sections of a little-endian binary.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Its own.
    pub sections: &'a Sections<'a>,
    /// Those of the file that it shares with others.
    pub shared: Option<&'a Sections<'a>>,
    /// The other halves of its units.
    pub split: &'a Split<'a>,
    /// Where its code is.
    pub code: &'a Code,
}

/// A place in the source, in pieces of sections.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// The function's name, or "".
    pub function: &'a [u8],
    /// Its source file.
    pub file: Option<Arc<str>>,
    /// The line, 0 if unknown.
    pub line: u32,
    /// The column, 0 if unknown.
    pub column: u32,
}

/// What became of an address.
#[derive(Clone, Debug, Default)]
pub enum Found<'a> {
    /// It is for the other reader.
    #[default]
    Unsettled,
    /// Its frames, innermost first; none where the debug information says nothing of it.
    Frames(Vec<Frame<'a>>),
}

impl Found<'_> {
    fn has_function(&self) -> bool {
        matches!(self, Self::Frames(frames) if frames.iter().any(|frame| !frame.function.is_empty()))
    }
}

/// A unit's answer for an address: its position among the addresses, the unit's, the answer.
type Answer<'a> = (u32, u32, Found<'a>);

/// Finds the frames of `addresses`, sorted and each once, on up to so many threads, until then. The answers stand in the
/// same order.
pub fn frames<'a>(
    source: Source<'a>,
    budget: &Budget,
    addresses: &[u64],
    workers: usize,
    until: Instant,
) -> Vec<Found<'a>> {
    let (units, aranges) = {
        let meter = Meter::new(budget);
        let dwarf = source.dwarf(&meter);
        (Units::new(&dwarf), units::aranges(&dwarf))
    };
    let is_late = || Instant::now() > until;
    let next = AtomicUsize::new(0);
    let read = on_threads(workers.min(units.len().div_ceil(BLOCK)), || {
        let meter = Meter::new(budget);
        let dwarf = source.dwarf(&meter);
        let mut reader = Reader::new(&units, &dwarf, source.split, &meter);
        let (mut owned, mut is_complete) = (Owned::new(), true);
        loop {
            let first = next.fetch_add(BLOCK, Ordering::Relaxed);
            if first >= units.len() || is_late() {
                break;
            }
            for position in first..units.len().min(first + BLOCK) {
                is_complete &= units::claim(&mut reader, position, &aranges, &mut owned);
            }
        }
        (owned, is_complete)
    });
    let is_complete = units.is_complete() && read.iter().all(|(_, is_complete)| *is_complete) && !is_late();
    let owned = read.into_iter().flat_map(|(owned, _)| owned);
    let mut owned: Owned = owned.filter(|(range, _)| source.code.may_begin(range.begin)).collect();
    owned.sort_unstable_by_key(|(range, unit)| (*unit, range.begin));
    // Each unit with all of its ranges.
    let claims: Vec<&[(gimli::Range, u32)]> = owned.chunk_by(|(_, a), (_, b)| a == b).collect();

    let next = AtomicUsize::new(0);
    let done = on_threads(workers.min(claims.len()), || {
        let meter = Meter::new(budget);
        let dwarf = source.dwarf(&meter);
        let mut reader = Reader::new(&units, &dwarf, source.split, &meter);
        let (mut names, mut kinds, mut answers) = (Names::default(), Kinds::default(), Vec::new());
        while let Some(claim) = claims.get(next.fetch_add(1, Ordering::Relaxed)) {
            if is_late() {
                break;
            }
            // What can't be read any more is not even tried.
            let Ok(claimed) = claimed(claim, addresses, &meter) else { break };
            if !claimed.is_empty() {
                kinds.clear();
                let position = claim[0].1 as usize;
                let known = (&mut names, &mut kinds, source.code);
                frames_of(&mut reader, position, &claimed, addresses, known, &mut answers);
            }
        }
        answers
    });
    let mut done: Vec<Answer<'a>> = done.into_iter().flatten().collect();
    // Of several units that claim an address, one that knows a function at it is believed, and the first of those.
    done.sort_by_key(|(address, unit, found)| (*address, !found.has_function(), *unit));
    let nothing = if is_complete { Found::Frames(Vec::new()) } else { Found::Unsettled };
    let mut found = vec![nothing; addresses.len()];
    for (address, _, answer) in done.into_iter().rev() {
        found[address as usize] = answer;
    }
    found
}

/// Positions of the sorted addresses in a unit's sorted ranges.
fn claimed(ranges: &[(gimli::Range, u32)], addresses: &[u64], meter: &Meter<'_>) -> gimli::Result<Vec<u32>> {
    let mut claimed: Vec<u32> = Vec::new();
    for (range, _) in ranges {
        let mut within = within(addresses, range);
        // Ranges may overlap.
        within.start = within.start.max(claimed.last().map_or(0, |&last| last as usize + 1));
        meter.charge(1 + within.len() as u64)?;
        claimed.extend(within.map(|address| address as u32));
    }
    Ok(claimed)
}

/// The frames of the addresses that one unit claims.
fn frames_of<'a, 'm>(
    reader: &mut Reader<'_, 'a, 'm>,
    position: usize,
    claimed: &[u32],
    addresses: &[u64],
    known: (&mut Names<'a>, &mut Kinds, &Code),
    out: &mut Vec<Answer<'a>>,
) {
    let number = position as u32;
    let Ok(answers) = frames_in(reader, position, claimed, addresses, known) else {
        out.extend(claimed.iter().map(|&address| (address, number, Found::Unsettled)));
        return;
    };
    // Neither a function nor a line: perhaps another unit knows more.
    let known = answers.into_iter().filter(|(_, frames)| !frames.is_empty());
    out.extend(known.map(|(address, frames)| (address, number, Found::Frames(frames))));
}

/// The frames of these addresses as a unit has them.
fn frames_in<'a, 'm>(
    reader: &mut Reader<'_, 'a, 'm>,
    position: usize,
    claimed: &[u32],
    addresses: &[u64],
    (names, kinds, code): (&mut Names<'a>, &mut Kinds, &Code),
) -> gimli::Result<Vec<(u32, Vec<Frame<'a>>)>> {
    let skeleton = reader.unit(position).ok_or(gimli::Error::MissingUnitDie)?;
    let half = reader.half(&skeleton)?;
    let meter = reader.meter();
    // Functions are in the other half, if there is one; lines are not.
    let unit = half.as_ref().map_or(UnitRef::new(reader.dwarf(), &skeleton), |(dwarf, unit)| UnitRef::new(dwarf, unit));
    let wanted: Vec<u64> = claimed.iter().map(|&address| addresses[address as usize]).collect();
    let chains = walk::chains(unit, &wanted, code, meter, kinds)?;
    let mut lines = Lines::new(UnitRef::new(reader.dwarf(), &skeleton), meter, &wanted, code)?;
    let mut answers = Vec::with_capacity(claimed.len());
    for ((&address, chain), at) in claimed.iter().zip(&chains).zip(0..) {
        meter.charge(1 + chain.len().min(MAX_INLINED) as u64)?;
        let mut frames = Vec::with_capacity(chain.len().clamp(1, MAX_INLINED));
        let (mut file, mut line, mut column) = lines.place(at);
        for call in chain.iter().rev().take(MAX_INLINED) {
            let function = names.name(reader, position, unit, half.is_some(), call.offset).unwrap_or_default();
            frames.push(Frame { function, file, line, column });
            (file, line, column) = (lines.file(call.file), call.line, call.column);
        }
        if chain.is_empty() && (file.is_some() || line != 0) {
            frames.push(Frame { function: &[], file, line, column });
        }
        answers.push((address, frames));
    }
    Ok(answers)
}
