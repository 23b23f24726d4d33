//! Counts of all samples there ever were, by stack, size and sample interval; what they were at the peak, too.
//!
//! A bucket that was found lately is counted in without the lock: threads that sample at the same time meet only where
//! they do so in the same bucket.

use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use alloc_core::lock::{Counts, Mutex, Rank};

use pprof_export::writer::SinkError;

use crate::numbered::{Entry, Key, Numbered};
use crate::stacks::StackId;
use crate::table::{Zeroed, hash, prefetch};

/// The number of a bucket, from 1. It keeps its stack, size and interval for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(pub u32);

/// What the samples of a bucket have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Origin {
    /// Usable bytes of each block.
    pub usable: u64,
    /// Mean distance of samples, in bytes.
    pub period: u64,
    /// Where they were allocated.
    pub stack: StackId,
}

/// How often blocks of one origin were sampled.
#[derive(Debug, Default)]
#[repr(C)]
struct Bucket {
    /// Not written any more once the bucket has its number.
    origin: Origin,
    /// The peak that `at_peak` is for. Written under the lock, as `at_peak` is.
    peak: AtomicU32,
    /// Samples since the profile was last reset.
    count: AtomicU64,
    /// What `count` was at that peak.
    at_peak: AtomicU64,
}
// SAFETY: integers.
unsafe impl Zeroed for Bucket {}

impl Key for Origin {
    fn hash(&self) -> u64 {
        hash(hash(u64::from(self.stack.0) << 32 ^ self.usable) ^ self.period)
    }
}

impl Entry for Bucket {
    type Key = Origin;

    fn new(key: &Origin) -> Self {
        Bucket { origin: *key, ..Bucket::default() }
    }

    fn key(&self) -> &Origin {
        &self.origin
    }
}

impl Bucket {
    /// Samples until peak number `peak`. The lock is held.
    fn until(&self, peak: u32) -> u64 {
        let count = if self.peak.load(Ordering::Relaxed) == peak { &self.at_peak } else { &self.count };
        count.load(Ordering::Relaxed)
    }

    /// Counts a sample taken after peak number `peak`. The lock is held.
    fn add(&self, peak: u32) {
        if peak > self.peak.load(Ordering::Relaxed) {
            self.at_peak.store(self.count.load(Ordering::Relaxed), Ordering::Relaxed);
            self.peak.store(peak, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// The same without the lock, where that is enough.
    fn add_unlocked(&self, origin: &Origin, peak: u32) -> bool {
        let known = self.origin == *origin && peak <= self.peak.load(Ordering::Relaxed);
        if known {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        known
    }
}

/// Most buckets: 12 MiB, and 2 MiB for their index.
pub const BUCKETS_MAX: usize = 1 << 18;
/// Of them, those kept back for stack 0, which takes what finds no bucket of its own.
const BUCKETS_BACK: usize = 1 << 12;
/// Buckets that are found without the lock.
const RECENT: usize = 128;

/// The table.
#[derive(Debug)]
pub struct Buckets {
    inner: Mutex<Numbered<Bucket>>,
    /// Where the buckets are, once there is one.
    start: AtomicPtr<Bucket>,
    /// Numbers of buckets that were found lately, by the upper bits of their hash; 0: none.
    recent: [AtomicU32; RECENT],
    /// Samples that were forgotten.
    forgotten: AtomicU64,
    dropped: AtomicU64,
}

/// The origins of all buckets there are at one moment, read without the lock.
#[derive(Clone, Copy, Debug)]
pub struct Origins {
    start: NonNull<Bucket>,
    length: usize,
}

// SAFETY: only reads what never changes once a bucket has its number, in memory that is never given back.
unsafe impl Send for Origins {}
// SAFETY: as above.
unsafe impl Sync for Origins {}

impl Origins {
    /// The first number that no bucket of that moment has.
    pub fn count(&self) -> u32 {
        self.length as u32
    }

    /// Asks for the memory of a bucket's origin.
    pub fn prefetch(&self, id: BucketId) {
        prefetch(self.start.as_ptr().wrapping_add(id.0 as usize));
    }

    /// The origin of a bucket's samples.
    pub fn get(&self, id: BucketId) -> Origin {
        let at = id.0 as usize;
        if at == 0 || at >= self.length {
            return Origin::default();
        }
        // SAFETY: inside of the table, whose memory stays; the fields of an origin are not written any more once there
        // is a number, and only they are read.
        unsafe { (&raw const (*self.start.as_ptr().add(at)).origin).read() }
    }
}

impl Buckets {
    /// None.
    pub const fn new() -> Self {
        Buckets {
            inner: Mutex::new(Rank::Stacks, Numbered::new()),
            start: AtomicPtr::new(null_mut()),
            recent: [const { AtomicU32::new(0) }; RECENT],
            forgotten: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Counts a sample, taken after peak number `peak`. Returns the bucket under which it is counted, which is one of
    /// stack 0 when the table is full; `None` when not even that has room.
    #[inline]
    pub fn add(&self, origin: Origin, peak: u32) -> Option<BucketId> {
        let recent = &self.recent[(origin.hash() >> (u64::BITS - RECENT.ilog2())) as usize];
        // Acquire: pairs with the Release below.
        let id = recent.load(Ordering::Acquire);
        if id != 0 {
            // SAFETY: a bucket that has its number. It was complete, and `start` was set, before the number was stored.
            let bucket = unsafe { &*self.start.load(Ordering::Relaxed).add(id as usize) };
            if bucket.add_unlocked(&origin, peak) {
                return Some(BucketId(id));
            }
        }
        self.add_locked(&origin, peak, recent)
    }

    /// The same for a bucket that wasn't found lately; the next time it is.
    #[cold]
    #[inline(never)]
    fn add_locked(&self, origin: &Origin, peak: u32, recent: &AtomicU32) -> Option<BucketId> {
        let mut inner = self.inner.lock();
        if let Some(id) = add(&mut inner, origin, peak, BUCKETS_MAX - BUCKETS_BACK) {
            self.start.store(inner.as_mut_ptr(), Ordering::Relaxed);
            drop(inner);
            // Release: whoever finds the number finds the bucket.
            recent.store(id.0, Ordering::Release);
            return Some(id);
        }
        let id = add(&mut inner, &Origin { stack: StackId(0), ..*origin }, peak, BUCKETS_MAX);
        drop(inner);
        self.dropped.fetch_add(1, Ordering::Relaxed);
        id
    }

    /// Samples that found no bucket of their own.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Samples ever counted.
    pub fn taken(&self) -> u64 {
        let mut sum = self.forgotten.load(Ordering::Relaxed);
        let add = |_, count| {
            sum += count;
            Ok(())
        };
        self.snapshot(None, add).map_or(0, |()| sum)
    }

    /// The origins of all buckets so far.
    pub fn origins(&'static self) -> Origins {
        let mut inner = self.inner.lock();
        let length = inner.count();
        let start = NonNull::new(inner.as_mut_ptr()).unwrap_or(NonNull::dangling());
        Origins { start, length }
    }

    /// The first number that no bucket has yet.
    pub fn count(&self) -> u32 {
        self.inner.lock().count() as u32
    }

    /// The origin of one bucket's samples.
    pub fn origin(&self, id: BucketId) -> Origin {
        self.inner.lock().get(id.0).map_or(Origin::default(), |bucket| bucket.origin)
    }

    /// Hands out the buckets with samples, copied in pieces, so that a sampling thread never waits long: their numbers,
    /// and their samples so far or, with a `peak`, until that one.
    /// The first error of `take` ends it.
    pub fn snapshot(
        &self,
        peak: Option<u32>,
        mut take: impl FnMut(BucketId, u64) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        const PIECE: usize = 128;
        let mut piece = [0u64; PIECE];
        let mut at = 1;
        loop {
            let n = {
                let inner = self.inner.lock();
                let buckets = inner.piece(at, PIECE);
                for (count, bucket) in piece.iter_mut().zip(buckets) {
                    *count = peak.map_or_else(|| bucket.count.load(Ordering::Relaxed), |peak| bucket.until(peak));
                }
                buckets.len()
            };
            if n == 0 {
                return Ok(());
            }
            for (i, &count) in piece[..n].iter().enumerate() {
                if count > 0 {
                    take(BucketId((at + i) as u32), count)?;
                }
            }
            at += n;
        }
    }

    /// Forgets all counts. Buckets keep their numbers: a sample that is being taken has one already.
    pub fn clear(&self) {
        const PIECE: usize = 1024;
        let mut at = 1;
        loop {
            let inner = self.inner.lock();
            let buckets = inner.piece(at, PIECE);
            if buckets.is_empty() {
                return;
            }
            for bucket in buckets {
                self.forgotten.fetch_add(bucket.count.swap(0, Ordering::Relaxed), Ordering::Relaxed);
                bucket.at_peak.store(0, Ordering::Relaxed);
                bucket.peak.store(0, Ordering::Relaxed);
            }
            at += buckets.len();
        }
    }

    /// What the lock has seen.
    pub fn lock_counts(&self) -> Counts {
        self.inner.counts()
    }

    /// Has it count afresh.
    pub fn reset_lock_counts(&self) {
        self.inner.reset_counts();
    }

    /// In the child of a fork: counts are single words; a bucket that was being made is dropped. Counts that were being
    /// forgotten are left to [`crate::profiler::Profiler`], which starts over with that.
    pub fn after_fork(&self) {
        self.inner.after_fork(Numbered::after_fork);
    }
}

/// Counts a sample in the bucket of its origin, which is made if there is room below `limit`.
fn add(buckets: &mut Numbered<Bucket>, origin: &Origin, peak: u32, limit: usize) -> Option<BucketId> {
    let id = buckets.number(origin, limit, BUCKETS_MAX)?;
    buckets.get(id)?.add(peak);
    Some(BucketId(id))
}

impl Default for Buckets {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn origin(stack: u32) -> Origin {
        Origin { usable: 64, period: 4096, stack: StackId(stack) }
    }

    fn all(buckets: &Buckets, peak: Option<u32>) -> Vec<(u32, u64)> {
        let mut counts = Vec::new();
        let result = buckets.snapshot(peak, |id, count| {
            counts.push((id.0, count));
            Ok(())
        });
        assert_eq!(result, Ok(()));
        counts
    }

    #[test]
    fn buckets_count() {
        static BUCKETS: Buckets = Buckets::new();
        for i in 0..10_000 {
            BUCKETS.add(origin(i % 1000), 0);
        }
        let origins = BUCKETS.origins();
        let counts = all(&BUCKETS, None);
        assert!((0..).zip(&counts).all(|(n, &(id, count))| origins.get(BucketId(id)) == origin(n) && count == 10));
        assert_eq!(counts.len(), 1000);
        assert_eq!(origins.get(BucketId(0)), Origin::default());
        assert_eq!(origins.get(BucketId(1001)), Origin::default());
        assert_eq!(BUCKETS.taken(), 10_000);
        BUCKETS.clear();
        assert!(all(&BUCKETS, None).is_empty());
        // Numbers stay.
        assert_eq!(BUCKETS.add(origin(7), 0), Some(BucketId(8)));
        assert_eq!(BUCKETS.taken(), 10_001);
    }

    #[test]
    fn threads_count_every_sample() {
        static BUCKETS: Buckets = Buckets::new();
        const THREADS: u32 = 4;
        const SAMPLES: u32 = 20_000;
        let work = |thread: u32| {
            for i in 0..SAMPLES {
                // Buckets that all threads have, and others; peaks come meanwhile.
                let stack = if i % 3 == 0 { i % 100 } else { i % 50 + 1000 * (thread + 1) };
                assert!(BUCKETS.add(origin(stack), i / 1000).is_some());
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| std::thread::spawn(move || work(thread))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(BUCKETS.taken(), u64::from(THREADS * SAMPLES));
        let origins = BUCKETS.origins();
        for (id, count) in all(&BUCKETS, None) {
            let stack = origins.get(BucketId(id)).stack.0;
            let expected = |all: u32, own: u32| {
                if stack < 1000 {
                    (0..SAMPLES).filter(|i| i % 3 == 0 && i % 100 == stack).count() * all as usize
                } else {
                    (0..SAMPLES).filter(|i| i % 3 != 0 && i % 50 == stack % 1000).count() * own as usize
                }
            };
            assert_eq!(count, expected(THREADS, 1) as u64, "{stack}");
        }
    }

    #[test]
    fn counts_at_a_peak_stay() {
        let buckets = Buckets::new();
        let at = |peak| all(&buckets, peak);
        for stack in [1, 1, 2] {
            buckets.add(origin(stack), 0);
        }
        // The first peak is now.
        assert_eq!(at(Some(1)), [(1, 2), (2, 1)]);
        for stack in [2, 3, 2] {
            buckets.add(origin(stack), 1);
        }
        assert_eq!(at(Some(1)), [(1, 2), (2, 1)]);
        assert_eq!(at(None), [(1, 2), (2, 3), (3, 1)]);
        // The second one.
        assert_eq!(at(Some(2)), at(None));
        buckets.add(origin(1), 2);
        // A thread that has read the number of the peak before it moved on.
        buckets.add(origin(1), 1);
        assert_eq!(at(Some(2)), [(1, 2), (2, 3), (3, 1)]);
        assert_eq!(at(None), [(1, 4), (2, 3), (3, 1)]);
    }

    #[test]
    fn full_buckets_go_to_stack_0() {
        static BUCKETS: Buckets = Buckets::new();
        let end = (BUCKETS_MAX + 1000) as u32;
        for i in 1..end {
            let id = BUCKETS.add(origin(i), 0).unwrap();
            let stack = BUCKETS.origins().get(id).stack;
            assert_eq!(stack.0, if (i as usize) < BUCKETS_MAX - BUCKETS_BACK { i } else { 0 });
        }
        let (mut sum, mut lost) = (0, 0);
        let origins = BUCKETS.origins();
        for (id, count) in all(&BUCKETS, None) {
            sum += count;
            lost += if origins.get(BucketId(id)).stack.0 == 0 { count } else { 0 };
        }
        assert_eq!((sum, lost), (u64::from(end) - 1, BUCKETS.dropped()));
    }
}
