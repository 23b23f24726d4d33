//! The profile at one moment, and its rows by stack.
//!
//! Rows are lists of what belongs to a bucket, and of buckets that belong to a stack, so that they need not be sorted.

use alloc::vec::Vec;

use pprof_export::writer::SinkError;

use crate::buckets::{BucketId, Origins};
use crate::profiler::Profiler;
use crate::records::{Moment, Record};
use crate::stacks::{StackId, View};
use crate::table::prefetch;

/// Samples of one origin, thread, labels and age; or, with epoch 0, all that there ever were of that origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The dump interval in which the blocks were born; 0: the row counts allocations, not blocks in use.
    pub epoch: u32,
    /// Size and sample interval.
    pub bucket: BucketId,
    /// Number of the thread's name.
    pub name: u16,
    /// Labels of the program's choice.
    pub labels: u16,
    /// Samples.
    pub count: u64,
}

/// Samples of a bucket whose blocks live, of one thread, labels and age (as far as those are put together while they are
/// found).
#[derive(Clone, Copy, Debug, Default)]
struct Live {
    epoch: u32,
    name: u16,
    labels: u16,
    count: u32,
    /// Plus 1: the place of the bucket's next; 0: this is the last one.
    next: u32,
}

/// What there is of a bucket.
#[derive(Clone, Copy, Debug, Default)]
struct OfBucket {
    /// Samples there ever were.
    ever: u64,
    /// Plus 1: the place of the first whose blocks live; 0: there is none.
    live: u32,
    /// The next bucket of the same stack; 0: this is the last one.
    next: u32,
}

/// Rows, found by stack.
#[derive(Debug)]
pub struct Snapshot {
    /// By number of the stack: the first bucket of it with samples; 0: none has any.
    firsts: Vec<u32>,
    /// How many stacks have any.
    stacks: usize,
    /// By number.
    buckets: Vec<OfBucket>,
    live: Vec<Live>,
    /// All stacks.
    pub view: View,
    /// What the rows' buckets stand for.
    pub origins: Origins,
}

/// Appends without ending the process when there is no memory.
pub fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), SinkError> {
    if list.len() == list.capacity() {
        list.try_reserve(1).map_err(|_| SinkError::OUT_OF_MEMORY)?;
    }
    list.push(item);
    Ok(())
}

/// Copies what `profiler` has of a moment, one piece after the other; nobody's allocation waits for more than one piece:
/// `live` makes rows of the blocks in use, `ever` of the counts of all that was allocated.
pub fn collect<T: Copy + Default>(
    profiler: &'static Profiler,
    moment: Moment,
    live: impl Fn(&Record) -> T,
    ever: impl Fn(BucketId, u64) -> T,
) -> Result<Vec<T>, SinkError> {
    let mut rows: Vec<T> = Vec::new();
    // Live blocks first: a sample is counted before it gets a record, so that no stack has more blocks in use than it ever
    // allocated.
    profiler.records.snapshot(moment, |record| Some(live(record)), |&row| push(&mut rows, row))?;
    profiler.buckets.snapshot(moment.peak(), |bucket, count| push(&mut rows, ever(bucket, count)))?;
    Ok(rows)
}

impl Snapshot {
    /// What `profiler` has of a moment, one piece after the other; nobody's allocation waits for more than one piece.
    pub fn take(profiler: &'static Profiler, moment: Moment) -> Result<Self, SinkError> {
        let mut buckets: Vec<OfBucket> = Vec::new();
        let mut live: Vec<Live> = Vec::new();
        reach(&mut buckets, profiler.buckets.count() as usize)?;
        // Live blocks first, as in `collect`.
        let pick = |record: &Record| {
            let Record { bucket, epoch: birth, name, labels, .. } = *record;
            Some((bucket, Live { epoch: birth.max(1), name, labels, count: 1, next: 0 }))
        };
        profiler.records.snapshot(moment, pick, |&(bucket, found)| {
            reach(&mut buckets, bucket.0 as usize + 1)?;
            add_live(&mut buckets[bucket.0 as usize].live, &mut live, found)
        })?;
        profiler.buckets.snapshot(moment.peak(), |bucket, count| {
            reach(&mut buckets, bucket.0 as usize + 1)?;
            buckets[bucket.0 as usize].ever = count;
            Ok(())
        })?;
        // After the rows, so that they have all buckets and stacks of theirs.
        let origins = profiler.buckets.origins();
        let view = profiler.stacks.view();
        let mut firsts = Vec::new();
        firsts.try_reserve_exact(view.count()).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        firsts.resize(view.count(), 0);
        let mut stacks = 0;
        for (id, bucket) in (0..).zip(&mut buckets) {
            if bucket.ever > 0 || bucket.live > 0 {
                let first: &mut u32 = &mut firsts[origins.get(BucketId(id)).stack.0 as usize];
                stacks += usize::from(*first == 0);
                bucket.next = core::mem::replace(first, id);
            }
        }
        Ok(Snapshot { firsts, stacks, buckets, live, view, origins })
    }

    /// How many stacks there are.
    pub fn count(&self) -> usize {
        self.stacks
    }

    /// The stacks, by number.
    pub fn stacks(&self) -> impl Iterator<Item = StackId> {
        (0..).map(StackId).zip(&self.firsts).filter(|&(_, &first)| first != 0).map(|(id, _)| id)
    }

    /// Makes `rows` those of a stack: first what was ever allocated, then what is in use by age.
    pub fn rows_of(&self, stack: StackId, rows: &mut Vec<Row>) -> Result<(), SinkError> {
        rows.clear();
        self.gather(stack, rows)?;
        rows.sort_unstable();
        rows.dedup_by(|row, kept| {
            let same = Row { count: 0, ..*row } == Row { count: 0, ..*kept };
            if same {
                kept.count += row.count;
            }
            same
        });
        Ok(())
    }

    fn gather(&self, stack: StackId, rows: &mut Vec<Row>) -> Result<(), SinkError> {
        let mut id = self.firsts[stack.0 as usize];
        while id != 0 {
            let of_bucket = &self.buckets[id as usize];
            let bucket = BucketId(id);
            if of_bucket.ever > 0 {
                push(rows, Row { epoch: 0, bucket, name: 0, labels: 0, count: of_bucket.ever })?;
            }
            let mut next = of_bucket.live;
            while let Some(at) = next.checked_sub(1) {
                let live = &self.live[at as usize];
                let Live { epoch, name, labels, count, .. } = *live;
                push(rows, Row { epoch, bucket, name, labels, count: count.into() })?;
                next = live.next;
            }
            id = of_bucket.next;
        }
        Ok(())
    }

    /// Asks for the memory that [`Snapshot::rows_of`] will look at first.
    pub fn prefetch(&self, stack: StackId) {
        let first = self.firsts[stack.0 as usize];
        prefetch(&self.buckets[first as usize]);
        self.origins.prefetch(BucketId(first));
    }

    /// Asks for what it will look at then, which the first tells of.
    pub fn prefetch_live(&self, stack: StackId) {
        let first = self.firsts[stack.0 as usize];
        let at = self.buckets[first as usize].live.checked_sub(1);
        if let Some(live) = at.and_then(|at| self.live.get(at as usize)) {
            prefetch(live);
        }
    }
}

/// Gives buckets below `count` a place.
fn reach(buckets: &mut Vec<OfBucket>, count: usize) -> Result<(), SinkError> {
    if count > buckets.len() {
        buckets.try_reserve(count - buckets.len()).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        buckets.resize(count, OfBucket::default());
    }
    Ok(())
}

/// Adds a live sample to those of its bucket, of which `first` says where they are.
fn add_live(first: &mut u32, live: &mut Vec<Live>, found: Live) -> Result<(), SinkError> {
    /// So many are compared with it; the others are put together when rows are handed out.
    const COMPARED: usize = 4;
    let mut next = *first;
    for _ in 0..COMPARED {
        let Some(at) = next.checked_sub(1) else { break };
        let known = &mut live[at as usize];
        if (known.epoch, known.name, known.labels) == (found.epoch, found.name, found.labels) {
            known.count = known.count.saturating_add(1);
            return Ok(());
        }
        next = known.next;
    }
    let place = u32::try_from(live.len() + 1).map_err(|_| SinkError::OUT_OF_MEMORY)?;
    push(live, Live { next: core::mem::replace(first, place), ..found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::Origin;
    use crate::unwind::End;

    #[test]
    fn rows_are_grouped_and_sorted() {
        static PROFILER: Profiler = Profiler::new();
        let a = PROFILER.stacks.intern(&[10, 30, 1], End::Complete);
        let b = PROFILER.stacks.intern(&[11, 20, 1], End::Complete);
        for (address, stack, usable, epoch) in
            [(16, a, 64, 1), (32, a, 64, 1), (48, b, 64, 1), (64, a, 64, 2), (80, a, 128, 1), (96, b, 64, 3)]
        {
            let bucket = PROFILER.buckets.add(Origin { usable, period: 4096, stack }, 0).unwrap();
            let record = Record { address, bucket, epoch, ..Record::default() };
            assert!(PROFILER.records.insert(&record, 0));
        }
        let snapshot = Snapshot::take(&PROFILER, Moment::EndOf(2)).unwrap();
        let usable = |row: &Row| snapshot.origins.get(row.bucket).usable;
        let (mut of_stack, mut rows) = (Vec::new(), Vec::new());
        for (at, id) in snapshot.stacks().enumerate() {
            snapshot.rows_of(id, &mut of_stack).unwrap();
            rows.extend(of_stack.iter().map(|r| (at, r.epoch, usable(r), r.count)));
        }
        assert_eq!(snapshot.stacks().collect::<Vec<_>>(), [a, b]);
        // The block of epoch 3 was born after the dump began; its allocation is counted.
        assert_eq!(
            rows,
            [(0, 0, 64, 3), (0, 0, 128, 1), (0, 1, 64, 2), (0, 1, 128, 1), (0, 2, 64, 1), (1, 0, 64, 2), (1, 1, 64, 1)]
        );
    }
}
