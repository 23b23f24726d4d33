//! Where resident memory goes: what the program holds, what the allocator holds for it and why, and the rest of the
//! process, as virtual frames above the program's stacks. The values of all rows add up to the resident memory.

use core::sync::atomic::Ordering;

use alloc_core::{ClassTotal, size::NBINS, sys};
use pprof_export::located::Ids;
use pprof_export::unsample::probability;
use pprof_export::writer::{Header, LabelSet, Sink, SinkError, ValueType, VirtualFrame, Writer};

use crate::buckets::Origins;
use crate::ordered::Ordered;
use crate::resident::{self, Resident};
use crate::rows;
use crate::shares::{self, Factors, Share, Shares};
use crate::{HEAP, content};

const TYPES: [ValueType<'static>; 1] = [ValueType { kind: "rss_space", unit: "bytes" }];

/// The parts that are told by stack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Requested,
    Rounding,
    Slack,
}

impl Part {
    const ALL: [(Part, &'static [u8]); 3] = [
        (Part::Requested, b"[in use]"),
        (Part::Rounding, b"[rounding to size classes]"),
        (Part::Slack, b"[slab slack]"),
    ];

    /// Bytes that samples stand for.
    fn bytes(self, share: &Share, origins: &Origins, factors: &[Factors; NBINS + 1]) -> f64 {
        let origin = origins.get(share.bucket);
        let factors = &factors[shares::class_of(origin.usable)];
        let p = probability(origin.usable, origin.period);
        match self {
            Part::Requested => (f64::from(share.count) * origin.usable as f64 - share.unasked) / p * factors.bytes,
            Part::Rounding => share.unasked / p * factors.bytes,
            Part::Slack => share.slack / p * factors.slack,
        }
    }

    /// Bytes of a class of which no sample tells.
    fn unseen(self, factors: &Factors) -> usize {
        match self {
            Part::Requested => factors.unseen_bytes,
            Part::Rounding => 0,
            Part::Slack => factors.unseen_slack,
        }
    }
}

/// Writes the dump. The caller has its turn and isn't sampled.
pub fn write<S: Sink>(sink: S) -> Result<S, SinkError> {
    let profiler = HEAP.observer();
    let period = profiler.settings.interval.load(Ordering::Relaxed);
    let mut stats = content::allocator_stats()?;
    // One after the other, with as little as possible in between.
    let totals = HEAP.class_totals();
    let resident = resident::look()?;
    stats.rss = resident.all;
    let mut shares = shares::gather(profiler, &totals)?;

    let time = sys::clock_realtime_ns() as i64;
    let header = Header { sample_types: &TYPES, default_sample_type: "rss_space", ..Header::heap(period as i64, time) };
    let mut writer = rows::begin(sink, &header, profiler)?;
    let stacks = shares.order(&mut writer, profiler)?;
    let Shares { all, origins, factors } = shares;
    for (part, name) in Part::ALL {
        let frame = writer.virtual_frame(name)?;
        by_stack(&mut writer, frame, &all, &stacks, |share| part.bytes(share, &origins, &factors))?;
        let unseen: usize = factors.iter().map(|factors| part.unseen(factors)).sum();
        let nothing = writer.virtual_frame(b"[no sample]")?;
        put(&mut writer, &[nothing, frame], unseen as i64)?;
    }
    exact_parts(&mut writer, &totals, &resident)?;
    writer.allocator_stats(&stats)?;
    writer.finish()
}

fn put<S: Sink>(writer: &mut Writer<S>, frames: &[VirtualFrame], bytes: i64) -> Result<(), SinkError> {
    writer.row(Ids::NONE, frames, &[bytes], &LabelSet::NONE)
}

/// The rows of a part, one for each stack, under its frame.
fn by_stack<S: Sink>(
    writer: &mut Writer<S>,
    frame: VirtualFrame,
    all: &[Share],
    stacks: &Ordered,
    bytes: impl Fn(&Share) -> f64,
) -> Result<(), SinkError> {
    let mut missing = 0.0;
    for of_stack in all.chunk_by(|a, b| a.stack == b.stack) {
        let exact = of_stack.iter().map(&bytes).sum::<f64>() + missing;
        let rounded = libm::round(exact).max(0.0);
        missing = exact - rounded;
        if rounded > 0.0 {
            let stack = stacks.get(of_stack[0].stack as usize, writer)?;
            let both = [stack.root.unwrap_or(frame), frame];
            let above = if stack.root.is_some() { &both[..] } else { &both[1..] };
            writer.row(stack.ids, above, &[rounded as i64], &LabelSet::NONE)?;
        }
    }
    Ok(())
}

/// What is known exactly.
fn exact_parts<S: Sink>(
    writer: &mut Writer<S>,
    totals: &[ClassTotal; NBINS + 1],
    resident: &Resident,
) -> Result<(), SinkError> {
    let cached: usize = totals.iter().map(|total| total.cached).sum();
    let of_classes: usize = totals.iter().map(|total| total.bytes + total.cached + total.slack()).sum();
    for (name, bytes) in [
        (&b"[thread caches]"[..], cached as i64),
        (b"[dirty pages]", resident.dirty.cast_signed()),
        (b"[muzzy pages]", resident.muzzy.cast_signed()),
        (b"[huge-page excess]", resident.retained.cast_signed()),
        (b"[allocator metadata]", resident.internal.cast_signed()),
        (b"[profiler tables]", resident.tables.cast_signed()),
        (b"[allocated, not resident]", resident.active.cast_signed() - of_classes as i64),
    ] {
        let frame = writer.virtual_frame(name)?;
        put(writer, &[frame], bytes)?;
    }
    let other = writer.virtual_frame(b"[other memory]")?;
    for ((name, length), bytes) in &resident.rest {
        let frame = writer.virtual_frame(&name[..usize::from(*length)])?;
        put(writer, &[frame, other], *bytes)?;
    }
    Ok(())
}
