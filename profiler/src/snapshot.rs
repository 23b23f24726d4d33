//! The profile at one moment, and its rows in the order in which a dump writes them.
//!
//! Rows are lists of what belongs to a bucket, and of buckets that belong to a stack, so that only stacks need be sorted.

use alloc::vec::Vec;

use pprof_export::writer::SinkError;

use crate::buckets::{BucketId, Origins};
use crate::order::{self, Placed};
use crate::profiler::Profiler;
use crate::records::{Moment, Record};
use crate::stacks::{Stack, StackId, View};
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
    /// The stacks of all rows, sorted by frames, root first.
    order: Vec<Placed>,
    /// By number of the stack: the first bucket of it with samples; 0: none has any.
    firsts: Vec<u32>,
    /// By number.
    buckets: Vec<OfBucket>,
    live: Vec<Live>,
    view: View,
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
/// `live` makes rows of the blocks in use that were born no later than dump interval `epoch`, `ever` of the counts of all
/// that was allocated.
pub fn collect<T: Copy + Default>(
    profiler: &'static Profiler,
    moment: Moment,
    epoch: u32,
    live: impl Fn(&Record) -> T,
    ever: impl Fn(BucketId, u64) -> T,
) -> Result<Vec<T>, SinkError> {
    let mut rows: Vec<T> = Vec::new();
    // Live blocks first: a sample is counted before it gets a record, so that no stack has more blocks in use than it ever
    // allocated.
    let pick = |record: &Record| (record.epoch <= epoch).then(|| live(record));
    profiler.records.snapshot(moment, pick, |&row| push(&mut rows, row))?;
    profiler.buckets.snapshot(moment.peak(), |bucket, count| push(&mut rows, ever(bucket, count)))?;
    Ok(rows)
}

impl Snapshot {
    /// What `profiler` has of a moment, one piece after the other; nobody's allocation waits for more than one piece. Blocks in
    /// use that were born after dump interval `epoch` are left out, so that those that are in form one moment.
    pub fn take(profiler: &'static Profiler, moment: Moment, epoch: u32) -> Result<Self, SinkError> {
        let mut buckets: Vec<OfBucket> = Vec::new();
        let mut live: Vec<Live> = Vec::new();
        reach(&mut buckets, profiler.buckets.count() as usize)?;
        // Live blocks first, as in `collect`.
        let pick = |record: &Record| {
            let Record { bucket, epoch: birth, name, labels, .. } = *record;
            (birth <= epoch).then_some((bucket, Live { epoch: birth.max(1), name, labels, count: 1, next: 0 }))
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
        let mut order = Vec::new();
        order.try_reserve_exact(stacks).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        let numbered = (0..).map(StackId).zip(&firsts).filter(|&(_, &first)| first != 0);
        order.extend(numbered.map(|(id, _)| Placed::new(&view, id)));
        order::sort(&view, &mut order);
        Ok(Snapshot { order, firsts, buckets, live, view, origins })
    }

    /// Hands out the stacks, sorted by frames, root first, each with its rows: first what was ever allocated, then what is in
    /// use by age.
    pub fn for_each(
        &self,
        mut each: impl FnMut(&Stack<'static>, &[Row]) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        /// So many stacks ahead, memory is asked for what will be looked at.
        const AHEAD: usize = 6;
        let mut rows: Vec<Row> = Vec::new();
        for (at, stack) in self.order.iter().enumerate() {
            if let Some(later) = self.order.get(at + AHEAD) {
                self.fetch(later);
            }
            rows.clear();
            self.rows_of(stack.id, &mut rows)?;
            rows.sort_unstable();
            rows.dedup_by(|row, kept| {
                let same = Row { count: 0, ..*row } == Row { count: 0, ..*kept };
                if same {
                    kept.count += row.count;
                }
                same
            });
            each(&self.view.stack(stack.span), &rows)?;
        }
        Ok(())
    }

    fn rows_of(&self, stack: StackId, rows: &mut Vec<Row>) -> Result<(), SinkError> {
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

    /// Asks for what will be looked at of a stack.
    fn fetch(&self, stack: &Placed) {
        const LINE: usize = 64 / core::mem::size_of::<usize>();
        let frames = self.view.frames(stack.span);
        frames.iter().step_by(LINE).chain(frames.last()).for_each(|frame| prefetch(frame));
        let first = self.firsts[stack.id.0 as usize];
        prefetch(&self.buckets[first as usize]);
        self.origins.prefetch(BucketId(first));
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

/// The stacks of `rows`, sorted root first; each row is told the place of its own among them.
pub fn order_stacks<T>(
    profiler: &'static Profiler,
    rows: &mut [T],
    stack_of: impl Fn(&T) -> StackId,
    place_at: impl Fn(&mut T, u32),
) -> Result<Vec<Stack<'static>>, SinkError> {
    const UNSEEN: u32 = u32::MAX;
    let view = profiler.stacks.view();
    let mut place = Vec::new();
    place.try_reserve_exact(view.count()).map_err(|_| SinkError::OUT_OF_MEMORY)?;
    place.resize(view.count(), UNSEEN);
    let mut order: Vec<Placed> = Vec::new();
    for row in rows.iter() {
        let id = stack_of(row);
        if place[id.0 as usize] == UNSEEN {
            place[id.0 as usize] = 0;
            push(&mut order, Placed::new(&view, id))?;
        }
    }
    order::sort(&view, &mut order);
    for (at, stack) in (0..).zip(&order) {
        place[stack.id.0 as usize] = at;
    }
    for row in rows {
        let at = place[stack_of(row).0 as usize];
        place_at(row, at);
    }
    let mut sorted = Vec::new();
    sorted.try_reserve_exact(order.len()).map_err(|_| SinkError::OUT_OF_MEMORY)?;
    sorted.extend(order.iter().map(|stack| view.stack(stack.span)));
    Ok(sorted)
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
            assert!(PROFILER.records.insert(&record));
        }
        let snapshot = Snapshot::take(&PROFILER, Moment::Now, 2).unwrap();
        let (mut stacks, mut rows) = (Vec::new(), Vec::new());
        let each = |stack: &Stack<'static>, of_stack: &[Row]| {
            let usable = |row: &Row| snapshot.origins.get(row.bucket).usable;
            rows.extend(of_stack.iter().map(|r| (stacks.len(), r.epoch, usable(r), r.count)));
            stacks.push(stack.frames);
            Ok(())
        };
        assert_eq!(snapshot.for_each(each), Ok(()));
        assert_eq!(stacks, [&[11, 20, 1], &[10, 30, 1]]);
        // The block of epoch 3 was born after the dump began; its allocation is counted.
        assert_eq!(
            rows,
            [(0, 0, 64, 2), (0, 1, 64, 1), (1, 0, 64, 3), (1, 0, 128, 1), (1, 1, 64, 2), (1, 1, 128, 1), (1, 2, 64, 1)]
        );
    }
}
