//! How long sampled blocks lived, counted when they are freed: integers by bucket, class of age, and whether the thread
//! that frees is the one that allocated.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use alloc::vec::Vec;

use alloc_core::message::until_zero;
use alloc_core::sys;
use pprof_export::located::{Ids, JoinedIds};
use pprof_export::unsample::Estimator;
use pprof_export::writer::{DROP_FREES, Header, LabelSet, Sink, SinkError, ValueType, Writer};

use crate::buckets::{BUCKETS_MAX, BucketId, Origins};
use crate::frees::Free;
use crate::names::Name;
use crate::ordered::Ordered;
use crate::rows::{self, Labels};
use crate::snapshot::push;
use crate::stacks::StackId;
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

/// The number of a class of age, of blocks that the thread frees that allocated them, or another one.
pub fn class_of(age_ns: u64, same_thread: bool) -> usize {
    age_class(age_ns) * 2 + usize::from(same_thread)
}

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

    /// Counts a block of `bucket` that was freed, by its class.
    pub fn freed(&self, bucket: BucketId, class: usize) {
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

/// Freed samples of one bucket, class of age, and thread; where it is known, of one stack that frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    /// The places of the stack that allocated, and of the one that freed.
    stack: u32,
    freed: u32,
    bucket: BucketId,
    class: u16,
    /// What freed: a stack, in a thread of that name. 0: not known.
    by: StackId,
    name: Name,
    count: u64,
}

/// Writes the dump. The caller has its turn and isn't sampled.
pub fn write<S: Sink>(sink: S) -> Result<S, SinkError> {
    let profiler = HEAP.observer();
    let stats = content::allocator_stats()?;
    let period = profiler.settings.interval.load(Ordering::Relaxed);
    let mut found: Vec<Row> = Vec::new();
    profiler.frees.snapshot(|free, count| {
        let &Free { bucket, stack: by, class, name } = free;
        push(&mut found, Row { stack: 0, freed: 0, bucket, class, by, name: profiler.names.get(name), count })
    })?;
    let knows_stacks = !found.is_empty();
    // After those frees: their buckets are among them.
    let origins = profiler.buckets.origins();
    for class in 0..COUNTERS {
        for bucket in 1..origins.count() {
            let Some(count) = profiler.lifetimes.counter(class, bucket as usize) else { break };
            let count = u64::from(count.load(Ordering::Relaxed));
            if count > 0 {
                let (bucket, class) = (BucketId(bucket), class as u16);
                push(&mut found, Row { stack: 0, freed: 0, bucket, class, by: StackId(0), name: [0; 16], count })?;
            }
        }
    }
    let time = sys::clock_realtime_ns() as i64;
    let mut header = Header { sample_types: &TYPES, default_sample_type: "space", ..Header::heap(period as i64, time) };
    if knows_stacks {
        header.drop_frames = DROP_FREES;
    }
    let mut writer = rows::begin(sink, &header, profiler)?;
    writer.comment(b"blocks that were freed, by how long they had lived; those that live are not among them")?;
    let without = profiler.frees.dropped();
    if without > 0 {
        rows::comment(&mut writer, b"samples with a freeing stack for which there was no room: ", without)?;
    }
    let stack_of = |row: &Row| origins.get(row.bucket).stack;
    let stacks = Ordered::of_rows(&mut writer, profiler, &mut found, stack_of, |row, at| row.stack = at)?;
    let freeing = Ordered::of_rows(&mut writer, profiler, &mut found, |row| row.by, |row, at| row.freed = at)?;
    found.sort_unstable();
    write_rows(&mut writer, period, &found, &origins, &stacks, &freeing)?;
    writer.allocator_stats(&stats)?;
    writer.finish()
}

/// Writes the rows. A stack that frees stands below the one that allocated, so that sums by that one stay what they are.
fn write_rows<S: Sink>(
    writer: &mut Writer<S>,
    period: u64,
    rows: &[Row],
    origins: &Origins,
    stacks: &Ordered,
    freeing: &Ordered,
) -> Result<(), SinkError> {
    let mut estimator = Estimator::new();
    let mut label_set = LabelSet::NONE;
    let mut both = JoinedIds::new();
    for of_stack in rows.chunk_by(|a, b| a.stack == b.stack) {
        // Carried on from one stack that frees to the next.
        estimator.next_stack();
        let stack = stacks.get(of_stack[0].stack as usize, writer)?;
        for row in of_stack {
            let origin = origins.get(row.bucket);
            let mut labels = Labels::new(&origin, period);
            labels.text("lifetime", AGES[usize::from(row.class) / 2].1.as_bytes());
            labels.text("freed_by", if row.class & 1 != 0 { b"same thread" } else { b"other thread" });
            labels.text("freed_thread", until_zero(&row.name));
            writer.labels(labels.as_slice(), &mut label_set)?;
            let (objects, bytes) = estimator.estimate(row.count, origin.usable, origin.period);
            both.clear();
            if row.by != StackId(0) {
                let by = freeing.get(row.freed as usize, writer)?;
                both.push(by.ids, by.root.as_slice())?;
                both.push(Ids::NONE, &[writer.virtual_frame(b"[freed by]")?])?;
            }
            both.push(stack.ids, &[])?;
            writer.row(both.ids(), stack.root.as_slice(), &[objects, bytes], &label_set)?;
        }
    }
    Ok(())
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
        LIFETIMES.freed(BucketId(1), class_of(5, true));
        assert!(LIFETIMES.counter(0, 1).is_none());
        LIFETIMES.prepare();
        for _ in 0..3 {
            LIFETIMES.freed(BucketId(7), class_of(5, true));
        }
        LIFETIMES.freed(BucketId(7), class_of(u64::MAX, false));
        LIFETIMES.freed(BucketId(BUCKETS_MAX as u32), class_of(5, true));
        let all = |bucket: usize| {
            let count = |class| LIFETIMES.counter(class, bucket).unwrap().load(Ordering::Relaxed);
            std::array::from_fn::<u32, COUNTERS, _>(count)
        };
        let counts = all(7);
        assert_eq!((counts[1], counts[COUNTERS - 2], counts.iter().sum::<u32>()), (3, 1, 4));
        assert_eq!([0, 6, 8, BUCKETS_MAX - 1].map(all), [[0; COUNTERS]; 4]);
        LIFETIMES.freed(BucketId(FIRST as u32), class_of(5, true));
        assert_eq!([FIRST - 1, FIRST, FIRST + 1].map(|bucket| all(bucket)[1]), [0, 1, 0]);
        LIFETIMES.clear(8);
        assert_eq!(all(7), [0; COUNTERS]);
    }
}
