//! What the live samples stand for: blocks, rounding to size classes, and free room of slabs, each calibrated to the
//! exact totals of the size classes, where the samples are of all blocks.

use alloc::vec::Vec;

use alloc_core::ClassTotal;
use alloc_core::size::{self, NBINS, SMALL_MAX};
use pprof_export::unsample::probability;
use pprof_export::writer::{Sink, SinkError, Writer};

use crate::HEAP;
use crate::buckets::{BucketId, Origins};
use crate::ordered::Ordered;
use crate::profiler::Profiler;
use crate::records::{Moment, Record};
use crate::snapshot::push;

/// Live samples of one origin in slabs that are filled alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// Place of the stack in the sorted list.
    pub stack: u32,
    /// Stack, size and interval.
    pub bucket: BucketId,
    /// Hundredths of the slab's blocks that are in use.
    pub percent: u8,
    /// Samples.
    pub count: u32,
    /// Usable bytes that nobody asked for, of all of them together.
    pub unasked: f64,
    /// Bytes of free blocks in their slabs, shared among the blocks in use.
    pub slack: f64,
}

impl Share {
    fn key(&self) -> (u32, BucketId, u8) {
        (self.stack, self.bucket, self.percent)
    }
}

/// By which factors the estimates of a size class come out as the exact totals, and what of those they don't tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Factors {
    /// Of bytes in use.
    pub bytes: f64,
    /// Of free bytes in slabs.
    pub slack: f64,
    /// Bytes in use that no sample tells of.
    pub unseen_bytes: usize,
    /// Free bytes in slabs that none tells of.
    pub unseen_slack: usize,
}

/// An estimate and its variance.
#[derive(Clone, Copy, Debug, Default)]
struct Estimate {
    bytes: f64,
    variance: f64,
    slack: f64,
}

impl Estimate {
    /// Whether the samples can be those of all blocks of a class. They aren't where profiling was off for a while, or some
    /// threads are not sampled: then the others' stacks must not be made to hold what is missing.
    fn is_of_all(&self, exact: usize) -> bool {
        // Standard errors: samples of all blocks are short of them by more in fewer than one of a thousand classes.
        const ERRORS: f64 = 3.0;
        let missing = exact as f64 - self.bytes;
        // The variance there would be if the exact total were what was sampled.
        missing <= 0.0 || missing * missing <= ERRORS * ERRORS * self.variance * exact as f64 / self.bytes
    }

    fn factors(&self, total: &ClassTotal) -> Factors {
        let is_of_all = self.is_of_all(total.bytes);
        // The factor, and what is left over.
        let divide = |exact: usize, estimate: f64| match exact as f64 {
            _ if estimate <= 0.0 => (0.0, exact),
            exact if is_of_all || exact <= estimate => (exact / estimate, 0),
            exact => {
                // Whole bytes, so that all comes to the exact total.
                let left = (exact - estimate) as usize;
                ((exact - left as f64) / estimate, left)
            }
        };
        let (bytes, unseen_bytes) = divide(total.bytes, self.bytes);
        let (slack, unseen_slack) = divide(total.slack(), self.slack);
        Factors { bytes, slack, unseen_bytes, unseen_slack }
    }
}

/// The place of a size among [`alloc_core::Heap::class_totals`].
pub fn class_of(usable: u64) -> usize {
    let usable = usable as usize;
    if usable <= SMALL_MAX { size::class_of(usable) - 1 } else { NBINS }
}

/// All live samples by stack, and what makes their estimates exact.
#[derive(Debug)]
pub struct Shares {
    /// Sorted by stack once [`Shares::order`] has been called.
    pub all: Vec<Share>,
    /// What their buckets stand for.
    pub origins: Origins,
    /// By size class.
    pub factors: [Factors; NBINS + 1],
}

/// Looks at all live samples; `totals` are the exact ones, of a moment ago.
pub fn gather(profiler: &'static Profiler, totals: &[ClassTotal; NBINS + 1]) -> Result<Shares, SinkError> {
    let all = collect(profiler)?;
    let origins = profiler.buckets.origins();
    let factors = factors(&all, &origins, totals);
    Ok(Shares { all, origins, factors })
}

impl Shares {
    /// Sorts by stack, as rows stand in a file, and puts those together that differ in nothing. Returns the stacks.
    pub fn order<S: Sink>(
        &mut self,
        writer: &mut Writer<S>,
        profiler: &'static Profiler,
    ) -> Result<Ordered, SinkError> {
        let Shares { all, origins, .. } = self;
        let stack_of = |share: &Share| origins.get(share.bucket).stack;
        let stacks = Ordered::of_rows(writer, profiler, all, stack_of, |share, at| share.stack = at)?;
        merge(all);
        Ok(stacks)
    }
}

/// All live samples, in the order in which they are found.
fn collect(profiler: &'static Profiler) -> Result<Vec<Share>, SinkError> {
    let mut shares = Vec::new();
    let pick = |&Record { address, bucket, unasked, .. }: &Record| Some((address, bucket, unasked));
    profiler.records.snapshot(Moment::Now, pick, |&(address, bucket, unasked)| {
        let mut share = Share { bucket, percent: 100, count: 1, unasked: unasked.into(), ..Share::default() };
        // A block that is freed meanwhile may be anything by now; what can't be is left out.
        let slab = HEAP.utilization(core::ptr::with_exposed_provenance(address as usize));
        if slab.blocks > 1 && slab.free > 0 && slab.free < slab.blocks {
            let used = slab.blocks - slab.free;
            share.percent = (used * 100 / slab.blocks) as u8;
            share.slack = (slab.bytes / slab.blocks * slab.free) as f64 / used as f64;
        }
        push(&mut shares, share)
    })?;
    Ok(shares)
}

/// Sorts, and puts those together that differ in nothing.
fn merge(shares: &mut Vec<Share>) {
    shares.sort_unstable_by_key(Share::key);
    shares.dedup_by(|share, kept| {
        let same = share.key() == kept.key();
        if same {
            kept.count += share.count;
            kept.unasked += share.unasked;
            kept.slack += share.slack;
        }
        same
    });
}

/// The factors for each class.
fn factors(shares: &[Share], origins: &Origins, totals: &[ClassTotal; NBINS + 1]) -> [Factors; NBINS + 1] {
    let mut estimates = [Estimate::default(); NBINS + 1];
    for share in shares {
        let origin = origins.get(share.bucket);
        let p = probability(origin.usable, origin.period);
        let estimate = &mut estimates[class_of(origin.usable)];
        let each = origin.usable as f64 / p;
        estimate.bytes += f64::from(share.count) * each;
        estimate.variance += f64::from(share.count) * each * each * (1.0 - p);
        estimate.slack += share.slack / p;
    }
    core::array::from_fn(|class| estimates[class].factors(&totals[class]))
}
