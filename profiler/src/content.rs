//! What a heap dump holds: the rows of the profile, the mappings, and the allocator's exact numbers beside them.

use core::sync::atomic::Ordering;

use alloc::vec::Vec;

use alloc_core::{Stats, sys};
use pprof_export::unsample::{Estimator, probability};
use pprof_export::writer::{Header, LabelSet, PEAK_COMMENT, Sink, SinkError, Writer};
use pprof_export::{AllocatorStats, ClassTotal};

use crate::buckets::Origin;
use crate::kind::{Format, Kind};
use crate::ordered::Ordered;
use crate::profiler::Profiler;
use crate::records::Moment;
use crate::rows::{self, Labels};
use crate::snapshot::{Row, Snapshot};
use crate::table::hash;
use crate::{HEAP, heap_v2, lifetimes, memory, slack, waste, waterfall};

/// ENOENT: there is nothing of that kind.
const NOTHING: SinkError = SinkError(2);

/// Writes a dump of what is now. The caller has its turn and isn't sampled.
pub fn write<S: Sink>(kind: Kind, sink: S) -> Result<S, SinkError> {
    match kind {
        Kind::Heap => now(sink),
        Kind::Peak => peak(sink),
        Kind::Waste => waste::write(sink),
        Kind::Lifetime => lifetimes::write(sink),
        Kind::Slack => slack::write(sink),
        Kind::Resident => waterfall::write(sink),
    }
}

/// As [`write()`], in the format that is configured for files.
pub fn write_file<S: Sink>(kind: Kind, sink: S) -> Result<S, SinkError> {
    let profiler = HEAP.observer();
    match (kind, profiler.settings.format()) {
        (Kind::Heap, Format::HeapV2) => heap_v2::write(profiler.end_epoch().moment(), sink),
        (Kind::Peak, Format::HeapV2) => {
            let held = profiler.peak.hold().ok_or(NOTHING)?;
            heap_v2::write(Moment::Peak(held.summit.number), sink)
        }
        _ => write(kind, sink),
    }
}

fn now<S: Sink>(sink: S) -> Result<S, SinkError> {
    let profiler = HEAP.observer();
    // First of all: what the dump itself allocates is none of it.
    let stats = allocator_stats()?;
    let period = profiler.settings.interval.load(Ordering::Relaxed);
    // Samples from here on belong to the next interval, and are left out of this dump.
    let ended = profiler.end_epoch();
    let snapshot = Snapshot::take(profiler, ended.moment())?;
    drop(ended);
    let time = sys::clock_realtime_ns() as i64;
    let mut writer = rows::begin(sink, &Header::heap(period as i64, time), profiler)?;
    write_rows(&mut writer, profiler, &snapshot, period)?;
    writer.allocator_stats(&stats)?;
    writer.finish()
}

/// What lived at the peak, and what had been allocated until then.
fn peak<S: Sink>(sink: S) -> Result<S, SinkError> {
    let profiler = HEAP.observer();
    let held = profiler.peak.hold().ok_or(NOTHING)?;
    let summit = held.summit;
    let period = profiler.settings.interval.load(Ordering::Relaxed);
    let snapshot = Snapshot::take(profiler, Moment::Peak(summit.number))?;
    drop(held);
    let mut writer = rows::begin(sink, &Header::heap(period as i64, summit.time_ns as i64), profiler)?;
    writer.comment(PEAK_COMMENT.as_bytes())?;
    rows::comment(&mut writer, b"bytes allocated then, exactly: ", summit.stats.allocated as u64)?;
    write_rows(&mut writer, profiler, &snapshot, period)?;
    let rss = summit.rss;
    writer.allocator_stats(&AllocatorStats { rss, allocated_max: profiler.peak.maximum(), ..totals(&summit.stats) })?;
    writer.finish()
}

fn write_rows<S: Sink>(
    writer: &mut Writer<S>,
    profiler: &'static Profiler,
    snapshot: &Snapshot,
    file_period: u64,
) -> Result<(), SinkError> {
    /// So many stacks ahead, and then as many again, memory is asked for what will be looked at.
    const AHEAD: usize = 8;
    let stacks = Ordered::new(writer, snapshot.view, snapshot.count(), snapshot.stacks())?;
    let mut alike = AlikeRows::new()?;
    let mut rows = Vec::new();
    for at in 0..stacks.len() {
        if let Some(later) = stacks.id(at + 2 * AHEAD) {
            snapshot.prefetch(later);
        }
        if let Some(later) = stacks.id(at + AHEAD) {
            snapshot.prefetch_live(later);
        }
        stacks.prefetch(at + AHEAD);
        let stack = stacks.get(at, writer)?;
        snapshot.rows_of(stack.id, &mut rows)?;
        let (mut allocated, mut in_use) = (Estimator::new(), Estimator::new());
        for row in &rows {
            let origin = snapshot.origins.get(row.bucket);
            let alike = alike.of(writer, profiler, row, &origin, file_period)?;
            let values = if row.epoch == 0 {
                let (objects, bytes) = allocated.estimate_at(row.count, origin.usable, alike.probability);
                [objects, bytes, 0, 0]
            } else {
                let (objects, bytes) = in_use.estimate_at(row.count, origin.usable, alike.probability);
                [0, 0, objects, bytes]
            };
            writer.row(stack.ids, stack.root.as_slice(), &values, &alike.labels)?;
        }
    }
    Ok(())
}

/// What rows have in common that differ in nothing but stack and count.
#[derive(Debug, Default)]
struct Alike {
    /// Size, interval, age, thread's name and labels; `None`: it is of no row yet.
    of: Option<(u64, u64, u32, u16, u16)>,
    labels: LabelSet,
    probability: f64,
}

/// That of the rows that were met last: there are few sizes, threads and ages among many rows.
struct AlikeRows(Vec<Alike>);

impl AlikeRows {
    const COUNT: usize = 64;

    fn new() -> Result<Self, SinkError> {
        let mut all = Vec::new();
        all.try_reserve_exact(Self::COUNT).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        all.resize_with(Self::COUNT, Alike::default);
        Ok(AlikeRows(all))
    }

    fn of<S: Sink>(
        &mut self,
        writer: &mut Writer<S>,
        profiler: &'static Profiler,
        row: &Row,
        origin: &Origin,
        file_period: u64,
    ) -> Result<&Alike, SinkError> {
        let of = Some((origin.usable, origin.period, row.epoch, row.name, row.labels));
        let others = u64::from(row.epoch) << 32 | u64::from(row.name) << 16 | u64::from(row.labels);
        let at = hash(origin.usable ^ others.rotate_left(20)) as usize >> 32;
        let alike = &mut self.0[at % Self::COUNT];
        if alike.of != of {
            let mut labels = Labels::new(origin, file_period);
            // What was ever allocated is not told by thread or age.
            let name;
            if row.epoch != 0 {
                name = profiler.names.get(row.name);
                labels.thread(&name);
                labels.number("epoch", row.epoch.into(), "epoch");
            }
            if row.labels != 0 {
                for (key, value) in profiler.labels.get(row.labels) {
                    labels.text(key, value);
                }
            }
            alike.of = None;
            writer.labels(labels.as_slice(), &mut alike.labels)?;
            alike.probability = probability(origin.usable, origin.period);
            alike.of = of;
        }
        Ok(alike)
    }
}

/// The heap's own numbers, and what the kernel says of the process.
pub fn allocator_stats() -> Result<AllocatorStats, SinkError> {
    let stats = HEAP.stats();
    let rss = memory::resident_bytes().unwrap_or(0);
    // The kernel walks all pages for it and holds up changes of the address space meanwhile.
    const PSS_MAX: u64 = 4 << 30;
    let pss = if rss <= PSS_MAX { memory::shared_bytes().unwrap_or(0) } else { 0 };
    let by_class = HEAP.class_totals();
    let mut classes = Vec::new();
    classes.try_reserve_exact(by_class.len()).map_err(|_| SinkError::OUT_OF_MEMORY)?;
    classes.extend(by_class.iter().filter(|class| class.active > 0).map(|class| ClassTotal {
        size: class.size as u64,
        blocks: class.blocks as u64,
        bytes: class.bytes as u64,
        active: class.active as u64,
        tcache: class.cached as u64,
    }));
    let allocated_max = HEAP.observer().peak.maximum();
    Ok(AllocatorStats { rss, pss, classes, allocated_max, ..totals(&stats) })
}

/// The heap's totals as a file has them.
fn totals(stats: &Stats) -> AllocatorStats {
    AllocatorStats {
        allocated: stats.allocated as u64,
        active: stats.active as u64,
        metadata: stats.metadata as u64,
        resident: stats.resident as u64,
        mapped: stats.mapped as u64,
        retained: stats.retained as u64,
        tcache: stats.tcache_bytes as u64,
        dirty: stats.dirty as u64,
        muzzy: stats.muzzy as u64,
        ..AllocatorStats::default()
    }
}
