//! How long sampled blocks lived, counted when they are freed: integers by bucket, class of age, and whether the thread
//! that frees is the one that allocated.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use alloc::vec::Vec;

use alloc_core::sys;
use pprof_export::writer::{Header, Sink, SinkError, ValueType};

use crate::buckets::{BUCKETS_MAX, BucketId};
use crate::ordered::Ordered;
use crate::rows;
use crate::snapshot::push;
use crate::table::RESERVED;
use crate::{HEAP, content};

/// Upper bounds of the classes of age in nanoseconds, and how each class is called.
const AGES: [(u64, &str); 12] = [
    (10_000, "<10us"),
    (100_000, "10us-100us"),
    (1_000_000, "100us-1ms"),
    (10_000_000, "1ms-10ms"),
    (100_000_000, "10ms-100ms"),
    (1_000_000_000, "100ms-1s"),
    (10_000_000_000, "1s-10s"),
    (60_000_000_000, "10s-1min"),
    (600_000_000_000, "1min-10min"),
    (3_600_000_000_000, "10min-1h"),
    (86_400_000_000_000, "1h-1d"),
    (u64::MAX, ">1d"),
];
const COUNTERS: usize = AGES.len() * 2;

fn age_class(age_ns: u64) -> usize {
    AGES.iter().position(|&(bound, _)| age_ns < bound).unwrap_or(AGES.len() - 1)
}

/// The counters, backed by memory as they are touched: for each class of age and thread those of all buckets side by side,
/// since the blocks of most programs are freed in few classes, and the memory of the others is never touched. Those of the
/// first buckets lie together, in a page before all others, which is enough for many a small program.
#[derive(Debug)]
pub struct Lifetimes {
    counters: AtomicPtr<AtomicU32>,
}

/// Buckets whose counters fill the first page.
const FIRST: usize = PAGE_COUNTERS / COUNTERS;
const PAGE_COUNTERS: usize = sys::PAGE / 4;
const BYTES: usize = (PAGE_COUNTERS + BUCKETS_MAX * COUNTERS) * 4;

impl Lifetimes {
    /// Without memory.
    pub const fn new() -> Self {
        Lifetimes { counters: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Reserves address space; what can't be reserved isn't counted.
    pub fn prepare(&self) {
        if !self.counters.load(Ordering::Relaxed).is_null() {
            return;
        }
        let Ok(address) = sys::map(BYTES, true) else { return };
        // SAFETY: fresh memory of our own; the advice doesn't change its contents.
        let _ = unsafe { sys::advise(address, BYTES, sys::Advice::NoHugePage) };
        let fresh = core::ptr::with_exposed_provenance_mut(address);
        let none = core::ptr::null_mut();
        // Release: the zeros are there for whoever finds the pointer.
        if self.counters.compare_exchange(none, fresh, Ordering::Release, Ordering::Relaxed).is_err() {
            // SAFETY: mapped above, and nobody has seen it.
            let _ = unsafe { sys::unmap(address, BYTES) };
        } else {
            RESERVED.add(address, BYTES);
        }
    }

    /// The counter of one class and bucket.
    fn counter(&self, class: usize, bucket: usize) -> Option<&AtomicU32> {
        // Acquire: pairs with the Release in `prepare`.
        let start = self.counters.load(Ordering::Acquire);
        if start.is_null() || class >= COUNTERS || bucket >= BUCKETS_MAX {
            return None;
        }
        let at = if bucket < FIRST { bucket * COUNTERS + class } else { PAGE_COUNTERS + class * BUCKETS_MAX + bucket };
        // SAFETY: inside of the mapping, which is never given back; zeros are values.
        Some(unsafe { &*start.add(at) })
    }

    /// Counts a block of `bucket` that was freed at that age.
    pub fn freed(&self, bucket: BucketId, age_ns: u64, same_thread: bool) {
        let class = age_class(age_ns) * 2 + usize::from(same_thread);
        if let Some(counter) = self.counter(class, bucket.0 as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets the counts of buckets up to number `end`.
    pub fn clear(&self, end: u32) {
        for class in 0..COUNTERS {
            for counter in (0..end as usize).map_while(|bucket| self.counter(class, bucket)) {
                // Not written where it is 0 already: that would only touch memory.
                if counter.load(Ordering::Relaxed) != 0 {
                    counter.store(0, Ordering::Relaxed);
                }
            }
        }
    }
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self::new()
    }
}

/// The columns: freed blocks, and their usable bytes.
const TYPES: [ValueType<'static>; 2] =
    [ValueType { kind: "objects", unit: "count" }, ValueType { kind: "space", unit: "bytes" }];

/// Freed samples of one bucket, class of age, and thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    stack: u32,
    bucket: BucketId,
    counter: u8,
    count: u32,
}

/// Writes the dump. The caller has its turn and isn't sampled.
pub fn write<S: Sink>(sink: S) -> Result<S, SinkError> {
    let profiler = HEAP.observer();
    let stats = content::allocator_stats()?;
    let period = profiler.settings.interval.load(Ordering::Relaxed);
    let mut found: Vec<Row> = Vec::new();
    let origins = profiler.buckets.origins();
    for class in 0..COUNTERS {
        for bucket in 1..origins.count() {
            let Some(count) = profiler.lifetimes.counter(class, bucket as usize) else { break };
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                push(&mut found, Row { stack: 0, bucket: BucketId(bucket), counter: class as u8, count })?;
            }
        }
    }
    let time = sys::clock_realtime_ns() as i64;
    let header = Header { sample_types: &TYPES, default_sample_type: "space", ..Header::heap(period as i64, time) };
    let mut writer = rows::begin(sink, &header, profiler)?;
    writer.comment(b"blocks that were freed, by how long they had lived; those that live are not among them")?;
    let stack_of = |row: &Row| origins.get(row.bucket).stack;
    let stacks = Ordered::of_rows(&mut writer, profiler, &mut found, stack_of, |row, at| row.stack = at)?;
    found.sort_unstable();
    rows::write_estimates(
        &mut writer,
        period,
        &stacks,
        &origins,
        found.iter(),
        |row| (row.stack, row.bucket),
        |row, origin, labels, estimator| {
            labels.text("lifetime", AGES[usize::from(row.counter) / 2].1.as_bytes());
            labels.text("freed_by", if row.counter & 1 != 0 { b"same thread" } else { b"other thread" });
            estimator.estimate(row.count.into(), origin.usable, origin.period)
        },
    )?;
    writer.allocator_stats(&stats)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_class_each() {
        assert!(AGES.is_sorted_by_key(|&(bound, _)| bound));
        for (age, name) in [(0, "<10us"), (9_999, "<10us"), (10_000, "10us-100us"), (5_000_000_000, "1s-10s")] {
            assert_eq!(AGES[age_class(age)].1, name);
        }
        assert_eq!(AGES[age_class(u64::MAX)].1, ">1d");
    }

    #[test]
    fn counts_and_forgets() {
        static LIFETIMES: Lifetimes = Lifetimes::new();
        LIFETIMES.freed(BucketId(1), 5, true);
        assert!(LIFETIMES.counter(0, 1).is_none());
        LIFETIMES.prepare();
        for _ in 0..3 {
            LIFETIMES.freed(BucketId(7), 5, true);
        }
        LIFETIMES.freed(BucketId(7), u64::MAX, false);
        LIFETIMES.freed(BucketId(BUCKETS_MAX as u32), 5, true);
        let all = |bucket: usize| {
            let count = |class| LIFETIMES.counter(class, bucket).unwrap().load(Ordering::Relaxed);
            std::array::from_fn::<u32, COUNTERS, _>(count)
        };
        let counts = all(7);
        assert_eq!((counts[1], counts[COUNTERS - 2], counts.iter().sum::<u32>()), (3, 1, 4));
        assert_eq!([0, 6, 8, BUCKETS_MAX - 1].map(all), [[0; COUNTERS]; 4]);
        LIFETIMES.freed(BucketId(FIRST as u32), 5, true);
        assert_eq!([FIRST - 1, FIRST, FIRST + 1].map(|bucket| all(bucket)[1]), [0, 1, 0]);
        LIFETIMES.clear(8);
        assert_eq!(all(7), [0; COUNTERS]);
    }
}
