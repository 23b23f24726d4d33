//! Internal waste: usable bytes that nobody asked for, by the stack that allocated the block.

use core::sync::atomic::Ordering;

use alloc::vec::Vec;

use alloc_core::sys;
use pprof_export::writer::{Header, Sink, SinkError, ValueType};

use crate::HEAP;
use crate::buckets::BucketId;
use crate::content;
use crate::ordered::Ordered;
use crate::records::{Moment, Record};
use crate::rows;
use crate::snapshot::push;

/// The columns: wasteful blocks, and what they waste.
const TYPES: [ValueType<'static>; 2] =
    [ValueType { kind: "waste_objects", unit: "count" }, ValueType { kind: "waste_space", unit: "bytes" }];

/// Live samples of one origin with the same waste.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    stack: u32,
    bucket: BucketId,
    unasked: u32,
    count: u32,
}

/// Writes the dump. The caller has its turn and isn't sampled.
pub fn write<S: Sink>(sink: S) -> Result<S, SinkError> {
    let profiler = HEAP.observer();
    let stats = content::allocator_stats()?;
    let period = profiler.settings.interval.load(Ordering::Relaxed);
    let mut wasteful: Vec<Row> = Vec::new();
    let pick = |record: &Record| {
        let Record { bucket, unasked, .. } = *record;
        (unasked > 0).then_some(Row { stack: 0, bucket, unasked, count: 1 })
    };
    profiler.records.snapshot(Moment::Now, pick, |&row| push(&mut wasteful, row))?;
    let origins = profiler.buckets.origins();
    let time = sys::clock_realtime_ns() as i64;
    let header =
        Header { sample_types: &TYPES, default_sample_type: "waste_space", ..Header::heap(period as i64, time) };
    let mut writer = rows::begin(sink, &header, profiler)?;
    let stack_of = |row: &Row| origins.get(row.bucket).stack;
    let stacks = Ordered::of_rows(&mut writer, profiler, &mut wasteful, stack_of, |row, at| row.stack = at)?;
    wasteful.sort_unstable();
    wasteful.dedup_by(|row, kept| {
        let same = Row { count: 0, ..*row } == Row { count: 0, ..*kept };
        if same {
            kept.count = kept.count.saturating_add(row.count);
        }
        same
    });
    rows::write_estimates(
        &mut writer,
        period,
        &stacks,
        &origins,
        wasteful.iter(),
        |row| (row.stack, row.bucket),
        |row, origin, labels, estimator| {
            labels.number("requested", origin.usable.saturating_sub(row.unasked.into()), "bytes");
            estimator.estimate_of(row.count.into(), origin.usable, origin.period, f64::from(row.unasked))
        },
    )?;
    writer.allocator_stats(&stats)?;
    writer.finish()
}
