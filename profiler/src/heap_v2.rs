//! Dumps as jemalloc's text, which `jeprof` and those who learned from it read (`prof_format:heap_v2`).
//!
//! ```text
//! heap_v2/<R>
//!   t*: <live blocks>: <their bytes> [<blocks ever allocated>: <their bytes>]
//!   t<thread>: … <name>
//! @ <leaf> <caller> …
//!   t*: …
//!   t<thread>: …
//!
//! MAPPED_LIBRARIES:
//! <as /proc/self/maps>
//! ```
//!
//! A reader takes the n blocks and s bytes of a line for samples of blocks of s/n bytes, and multiplies both by
//! 1 / (1 − e^(−s/n/R)). So what is written is what comes out right by that: see [`distorted`].

use core::sync::atomic::Ordering;

use alloc::vec::Vec;

use alloc_core::message::{Decimal, until_zero};
use pprof_export::unsample::probability;
use pprof_export::writer::{Sink, SinkError};

use crate::buckets::{BucketId, Origins};
use crate::names::Name;
use crate::profiler::Profiler;
use crate::records::{Moment, Record};
use crate::snapshot::{collect, push};
use crate::stacks::StackId;
use crate::text::Text;
use crate::{HEAP, maps};

/// Samples of one origin and thread; thread 0: all that there ever were of the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    stack: StackId,
    thread: u32,
    name: u16,
    bucket: BucketId,
    count: u64,
}

/// Blocks and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    objects: f64,
    bytes: f64,
}

/// What the numbers of a file mean.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// The interval that readers are told.
    period: u64,
    /// What readers make of the numbers are estimates; otherwise they get the samples as they are (`prof_unbias:false`).
    unbiased: bool,
}

impl Sum {
    fn add(&mut self, count: u64, usable: u64, period: u64, scale: Scale) {
        let objects = if scale.unbiased { count as f64 / probability(usable, period) } else { count as f64 };
        self.objects += objects;
        self.bytes += objects * usable as f64;
    }
}

/// Numbers of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers {
    objects: u64,
    bytes: u64,
}

impl Numbers {
    fn add(&mut self, other: Numbers) {
        self.objects = self.objects.saturating_add(other.objects);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The numbers from which a reader makes the estimate `sum` again: with c blocks, s bytes for which
/// s / (1 − e^(−s/c/R)) is the estimated bytes. c is the estimated blocks times the chance that one of the average size
/// is sampled; the blocks that come out of it are right for blocks of one size, and near it for mixed ones.
fn distorted(sum: Sum, scale: Scale) -> Numbers {
    if sum.objects <= 0.0 {
        return Numbers::default();
    }
    let Scale { period, unbiased: true } = scale else {
        return Numbers { objects: sum.objects as u64, bytes: sum.bytes as u64 };
    };
    let scaled = |objects: f64, bytes: f64| match objects * period as f64 {
        _ if period <= 1 => bytes,
        unit => bytes / -libm::expm1(-bytes / unit),
    };
    let chance = if period <= 1 { 1.0 } else { -libm::expm1(-(sum.bytes / sum.objects) / period as f64) };
    let mut objects = libm::round(sum.objects * chance).max(1.0);
    if period > 1 && objects * period as f64 > sum.bytes {
        // No number of bytes would do: the least that comes out is R for each block.
        objects = libm::floor(sum.bytes / period as f64).max(1.0);
    }
    // What comes out grows with the bytes, and is no less than they are.
    let (mut low, mut high) = (1.0, libm::ceil(sum.bytes));
    while high - low > 0.5 {
        let middle = libm::floor(f64::midpoint(low, high));
        if middle == low {
            break;
        }
        if scaled(objects, middle) < sum.bytes { low = middle } else { high = middle }
    }
    let nearer_low = sum.bytes - scaled(objects, low) < scaled(objects, high) - sum.bytes;
    Numbers { objects: objects as u64, bytes: if nearer_low { low } else { high } as u64 }
}

/// Writes the dump of a moment. The caller has its turn and isn't sampled.
pub fn write<S: Sink>(moment: Moment, sink: S) -> Result<S, SinkError> {
    let profiler = HEAP.observer();
    let live = |record: &Record| {
        let (thread, name, bucket) = (record.thread.max(1), record.name, record.bucket);
        Row { stack: StackId(0), thread, name, bucket, count: 1 }
    };
    let ever = |bucket, count| Row { stack: StackId(0), thread: 0, name: 0, bucket, count };
    let mut rows = collect(profiler, moment, live, ever)?;
    let origins = profiler.buckets.origins();
    let view = profiler.stacks.view();
    for row in &mut rows {
        row.stack = origins.get(row.bucket).stack;
    }
    rows.sort_unstable();
    // The file has one interval: the smallest, since no other is below what a sample of it stands for.
    let now = profiler.settings.interval.load(Ordering::Relaxed);
    let period = rows.iter().map(|row| origins.get(row.bucket).period).min().map_or(now, |least| least.min(now)).max(1);
    let scale = Scale { period, unbiased: profiler.settings.unbiased.load(Ordering::Relaxed) };

    let mut out = Text::new(sink);
    out.put(b"heap_v2/")?;
    out.number(period)?;
    out.put(b"\n")?;
    head(&mut out, profiler, &rows, &origins, scale)?;
    for of_stack in rows.chunk_by(|a, b| a.stack == b.stack) {
        let stack = view.get(of_stack[0].stack);
        out.put(b"@")?;
        for (i, &frame) in stack.frames.iter().enumerate() {
            // Readers take the first address as it is, and callers' as return addresses.
            let address = if i == 0 { frame.wrapping_sub(1) } else { frame };
            out.put(b" 0x")?;
            out.put(Decimal::hex(address as u64).as_bytes())?;
        }
        if stack.frames.is_empty() {
            // Where no stack was kept.
            out.put(b" 0x1")?;
        }
        out.put(b"\n")?;
        let (live, ever) = of_all(of_stack, &origins, scale);
        line(&mut out, b"*", live, ever, b"")?;
        for of_thread in threads(of_stack) {
            let live = distorted(sum(of_thread, &origins, scale), scale);
            line(&mut out, Decimal::new(of_thread[0].thread.into()).as_bytes(), live, Numbers::default(), b"")?;
        }
    }
    out.put(b"\nMAPPED_LIBRARIES:\n")?;
    maps::as_text(|text| out.put(text))?;
    out.finish()
}

/// The sums of all stacks: of all threads, and of each.
fn head<S: Sink>(
    out: &mut Text<S>,
    profiler: &Profiler,
    rows: &[Row],
    origins: &Origins,
    scale: Scale,
) -> Result<(), SinkError> {
    let (mut live, mut ever) = (Numbers::default(), Numbers::default());
    let mut by_thread: Vec<(u32, u16, Numbers)> = Vec::new();
    for of_stack in rows.chunk_by(|a, b| a.stack == b.stack) {
        let (stack_live, stack_ever) = of_all(of_stack, origins, scale);
        live.add(stack_live);
        ever.add(stack_ever);
        for of_thread in threads(of_stack) {
            let Some(Row { thread, name, .. }) = of_thread.last().copied() else { continue };
            push(&mut by_thread, (thread, name, distorted(sum(of_thread, origins, scale), scale)))?;
        }
    }
    line(out, b"*", live, ever, b"")?;
    by_thread.sort_unstable_by_key(|&(thread, name, _)| (thread, name));
    for of_thread in by_thread.chunk_by(|a, b| a.0 == b.0) {
        let mut live = Numbers::default();
        of_thread.iter().for_each(|&(_, _, numbers)| live.add(numbers));
        let (thread, name, _) = of_thread[of_thread.len() - 1];
        let name: Name = profiler.names.get(name);
        line(out, Decimal::new(thread.into()).as_bytes(), live, Numbers::default(), until_zero(&name))?;
    }
    Ok(())
}

fn sum(rows: &[Row], origins: &Origins, scale: Scale) -> Sum {
    let mut sum = Sum::default();
    for row in rows {
        let origin = origins.get(row.bucket);
        sum.add(row.count, origin.usable, origin.period, scale);
    }
    sum
}

/// What lives of a stack's rows, and what was ever allocated.
fn of_all(rows: &[Row], origins: &Origins, scale: Scale) -> (Numbers, Numbers) {
    let (ever, live) = rows.split_at(rows.partition_point(|row| row.thread == 0));
    (distorted(sum(live, origins, scale), scale), distorted(sum(ever, origins, scale), scale))
}

/// A stack's live rows by thread.
fn threads(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    rows[rows.partition_point(|row| row.thread == 0)..].chunk_by(|a, b| a.thread == b.thread)
}

/// A line of numbers.
fn line<S: Sink>(out: &mut Text<S>, thread: &[u8], live: Numbers, ever: Numbers, name: &[u8]) -> Result<(), SinkError> {
    out.put(b"  t")?;
    out.put(thread)?;
    for (before, number) in
        [(&b": "[..], live.objects), (b": ", live.bytes), (b" [", ever.objects), (b": ", ever.bytes)]
    {
        out.put(before)?;
        out.number(number)?;
    }
    out.put(b"]")?;
    if !name.is_empty() {
        out.put(b" ")?;
        out.put(name)?;
    }
    out.put(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: u64 = 512 << 10;
    const SCALE: Scale = Scale { period: R, unbiased: true };

    /// As jeprof reads a line.
    fn read(numbers: Numbers, period: u64) -> Sum {
        let (objects, bytes) = (numbers.objects as f64, numbers.bytes as f64);
        let scale = 1.0 / (1.0 - (-(bytes / objects) / period as f64).exp());
        Sum { objects: objects * scale, bytes: bytes * scale }
    }

    #[test]
    fn one_size_comes_back_exactly() {
        for (count, usable) in [(1, 16), (7, 64), (3, 4096), (1, 512 << 10), (5, 8 << 20), (2, 3 << 30)] {
            let mut sum = Sum::default();
            sum.add(count, usable, R, SCALE);
            assert_eq!(distorted(sum, SCALE), Numbers { objects: count, bytes: count * usable });
        }
    }

    #[test]
    fn bytes_of_mixed_sizes_come_back() {
        let mut state = 1u64;
        for _ in 0..1000 {
            let (mut sum, mut count) = (Sum::default(), 0);
            for _ in 0..1 + state % 6 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                count += 1;
                sum.add(1 + (state >> 60), 16 << ((state >> 40) % 22), R, SCALE);
            }
            let back = read(distorted(sum, SCALE), R);
            let error = (back.bytes - sum.bytes).abs();
            assert!(error <= 1e-6 * sum.bytes + 2.0, "{count}: {sum:?} became {back:?}");
        }
    }

    #[test]
    fn every_byte_sampled() {
        let mut sum = Sum::default();
        let scale = Scale { period: 1, unbiased: true };
        sum.add(3, 48, 1, scale);
        sum.add(1, 4096, 1, scale);
        assert_eq!(distorted(sum, scale), Numbers { objects: 4, bytes: 4240 });
        assert_eq!(distorted(Sum::default(), SCALE), Numbers::default());
    }

    #[test]
    fn samples_as_they_are() {
        let (mut sum, scale) = (Sum::default(), Scale { period: R, unbiased: false });
        sum.add(3, 48, R, scale);
        sum.add(1, 4096, R, scale);
        assert_eq!(distorted(sum, scale), Numbers { objects: 4, bytes: 4240 });
    }
}
