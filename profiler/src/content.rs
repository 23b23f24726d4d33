//! What a heap dump holds: the rows of the profile, the mappings, and the allocator's exact numbers beside them.

use core::sync::atomic::Ordering;

use alloc::vec::Vec;

use alloc_core::message::Decimal;
use alloc_core::sys;
use pprof_export::{AllocatorStats, ClassTotal};
use pprof_export::unsample::Estimator;
use pprof_export::writer::{Header, Label, LabelValue, Row as Sample, Sink, SinkError, Writer};

use crate::profiler::Profiler;
use crate::snapshot::Snapshot;
use crate::unwind::End;
use crate::{HEAP, maps, memory};

/// Writes the profile as it is now. The caller has its turn and isn't sampled.
pub fn write<S: Sink>(sink: S) -> Result<S, SinkError> {
    let profiler = HEAP.observer();
    // First of all: what the dump itself allocates is none of it.
    let stats = allocator_stats()?;
    let period = profiler.settings.interval.load(Ordering::Relaxed);
    // Samples from here on belong to the next interval, and are left out of this dump.
    let epoch = profiler.next_epoch();
    let snapshot = Snapshot::take(profiler, epoch)?;
    let time = sys::clock_realtime_ns() as i64;
    let mut writer = Writer::new(sink, &Header::heap(period as i64, time))?;
    maps::executable(|mapping| writer.mapping(mapping))?;
    writer.comment(concat!("heapsift ", env!("CARGO_PKG_VERSION")).as_bytes())?;
    comment(&mut writer, b"mean bytes between samples: ", period)?;
    comment(&mut writer, b"samples taken: ", profiler.samples.load(Ordering::Relaxed))?;
    for (text, number) in [
        (&b"samples with a stack cut short: "[..], profiler.incomplete.load(Ordering::Relaxed)),
        (b"samples with a stack for which there was no room: ", profiler.stacks.dropped() + profiler.buckets.dropped()),
        (b"samples for which there was no memory: ", profiler.records.dropped()),
    ] {
        if number > 0 {
            comment(&mut writer, text, number)?;
        }
    }
    write_rows(&mut writer, profiler, &snapshot, period)?;
    writer.allocator_stats(&stats)?;
    writer.finish()
}

fn comment<S: Sink>(writer: &mut Writer<S>, text: &[u8], number: u64) -> Result<(), SinkError> {
    let mut line = [0; 100];
    let number = Decimal::new(number);
    let mut used = 0;
    for part in [text, number.as_bytes()] {
        let n = part.len().min(line.len() - used);
        line[used..used + n].copy_from_slice(&part[..n]);
        used += n;
    }
    writer.comment(&line[..used])
}

fn write_rows<S: Sink>(
    writer: &mut Writer<S>,
    profiler: &'static Profiler,
    snapshot: &Snapshot,
    file_period: u64,
) -> Result<(), SinkError> {
    let (mut allocated, mut in_use) = (Estimator::new(), Estimator::new());
    let mut addresses: Vec<u64> = Vec::new();
    let mut root = None;
    let mut current = None;
    for row in &snapshot.rows {
        if current != Some(row.stack) {
            current = Some(row.stack);
            allocated.next_stack();
            in_use.next_stack();
            let stack = &snapshot.stacks[row.stack as usize];
            addresses.clear();
            addresses.try_reserve(stack.frames.len()).map_err(|_| SinkError::OUT_OF_MEMORY)?;
            // A return address may belong to the line, or the function, after the call.
            addresses.extend(stack.frames.iter().map(|&frame| (frame as u64).wrapping_sub(1)));
            let above: Option<&[u8]> = match stack.end {
                _ if stack.frames.is_empty() => Some(b"(truncated)"),
                End::Complete => None,
                End::Truncated => Some(b"[truncated stack]"),
                End::Lost => Some(b"[unknown callers]"),
            };
            root = above.map(|name| writer.virtual_frame(name)).transpose()?;
        }
        let number = |key, value: u64, unit| Label { key, value: LabelValue::Number { value: value as i64, unit } };
        let mut labels = [number("bytes", row.usable, "bytes"); 4];
        let mut used = 1;
        let mut put = |label| {
            labels[used] = label;
            used += 1;
        };
        let name;
        let values = if row.epoch == 0 {
            let (objects, bytes) = allocated.estimate(row.count, row.usable, row.period);
            [objects, bytes, 0, 0]
        } else {
            name = profiler.names.get(row.name);
            let length = name.iter().position(|&b| b == 0).unwrap_or(name.len());
            if length > 0 {
                put(Label { key: "thread", value: LabelValue::Text(&name[..length]) });
            }
            put(number("epoch", row.epoch.into(), "epoch"));
            let (objects, bytes) = in_use.estimate(row.count, row.usable, row.period);
            [0, 0, objects, bytes]
        };
        if row.period != file_period {
            put(number("period", row.period, "bytes"));
        }
        writer.sample(&Sample { stack: &addresses, root, values: &values, labels: &labels[..used] })?;
    }
    Ok(())
}

/// The heap's own numbers, and what the kernel says of the process.
pub fn allocator_stats() -> Result<AllocatorStats, SinkError> {
    let stats = HEAP.stats();
    let rss = memory::resident_bytes().unwrap_or(0);
    // The kernel walks all pages for it and holds up changes of the address space meanwhile.
    const PSS_MAX: u64 = 4 << 30;
    let pss = if rss <= PSS_MAX { memory::shared_bytes().unwrap_or(0) } else { 0 };
    let totals = HEAP.class_totals();
    let mut classes = Vec::new();
    classes.try_reserve_exact(totals.len()).map_err(|_| SinkError::OUT_OF_MEMORY)?;
    classes.extend(totals.iter().filter(|class| class.active > 0).map(|class| ClassTotal {
        size: class.size as u64,
        blocks: class.blocks as u64,
        bytes: class.bytes as u64,
        active: class.active as u64,
        tcache: class.cached as u64,
    }));
    Ok(AllocatorStats {
        allocated: stats.allocated as u64,
        active: stats.active as u64,
        metadata: stats.metadata as u64,
        resident: stats.resident as u64,
        mapped: stats.mapped as u64,
        retained: stats.retained as u64,
        tcache: stats.tcache_bytes as u64,
        dirty: stats.dirty as u64,
        muzzy: stats.muzzy as u64,
        rss,
        pss,
        classes,
        allocated_max: 0,
    })
}
