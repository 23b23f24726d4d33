//! Slab slack: free blocks in slabs that can't be given back, by the stacks whose blocks keep them.
//!
//! A sampled block stays in its slab, whose occupancy is looked up when the dump is written. The free bytes of a slab
//! are shared equally among its blocks in use, so that the samples' shares, weighted as all samples are, add up to an
//! estimate of all of them. They are then multiplied, by size class, to make the exact total of the class, where the samples
//! are of all its blocks.

use core::sync::atomic::Ordering;

use alloc_core::size::NBINS;
use alloc_core::sys;
use pprof_export::writer::{Header, Row as Sample, Sink, SinkError, ValueType};

use crate::HEAP;
use crate::buckets::Origin;
use crate::content;
use crate::rows::{self, Labels};
use crate::shares::{self, Shares};
use crate::stacks::StackId;

/// The columns: blocks in slabs that are not full, and the free bytes that they keep.
const TYPES: [ValueType<'static>; 2] =
    [ValueType { kind: "slack_objects", unit: "count" }, ValueType { kind: "slack_space", unit: "bytes" }];

/// Writes the dump. The caller has its turn and isn't sampled.
pub fn write<S: Sink>(sink: S) -> Result<S, SinkError> {
    let profiler = HEAP.observer();
    let stats = content::allocator_stats()?;
    let totals = HEAP.class_totals();
    let period = profiler.settings.interval.load(Ordering::Relaxed);
    let mut shares = shares::gather(profiler, &totals)?;

    let time = sys::clock_realtime_ns() as i64;
    let header =
        Header { sample_types: &TYPES, default_sample_type: "slack_space", ..Header::heap(period as i64, time) };
    let mut writer = rows::begin(sink, &header, profiler)?;
    let stacks = shares.order(&mut writer, profiler)?;
    let Shares { all, origins, factors } = shares;
    rows::write_estimates(
        &mut writer,
        period,
        &stacks,
        &origins,
        all.iter().filter(|share| share.slack > 0.0),
        |share| (share.stack, share.bucket),
        |share, origin, labels, estimator| {
            labels.number("occupancy", share.percent.into(), "percent");
            let each = share.slack / f64::from(share.count) * factors[shares::class_of(origin.usable)].slack;
            estimator.estimate_of(share.count.into(), origin.usable, origin.period, each)
        },
    )?;
    // What no sample tells of.
    let unseen = writer.virtual_frame(b"[slabs without a sample]")?;
    for (total, factors) in totals.iter().zip(&factors).take(NBINS) {
        if factors.unseen_slack > 0 {
            let origin = Origin { usable: total.size as u64, period, stack: StackId(0) };
            let values = [0, factors.unseen_slack as i64];
            let labels = Labels::new(&origin, period);
            writer.sample(&Sample { stack: &[], root: Some(unseen), values: &values, labels: labels.as_slice() })?;
        }
    }
    writer.allocator_stats(&stats)?;
    writer.finish()
}
