//! The profile at one moment, as rows in the order in which a dump writes them.

use alloc::vec::Vec;

use pprof_export::writer::SinkError;

use crate::buckets::{BucketId, Origins};
use crate::profiler::Profiler;
use crate::records::{Moment, Record};
use crate::stacks::{Stack, StackId};

/// Samples of one origin, thread, labels and age; or, with epoch 0, all that there ever were of that origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Place of the stack in [`Snapshot::stacks`].
    pub stack: u32,
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

/// Rows and their stacks.
#[derive(Debug)]
pub struct Snapshot {
    /// Sorted by frames, root first.
    pub stacks: Vec<Stack<'static>>,
    /// Sorted by stack.
    pub rows: Vec<Row>,
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

impl Snapshot {
    /// Copies what `profiler` has of a moment, one piece after the other; nobody's allocation waits for more than one
    /// piece. Blocks in use that were born after dump interval `epoch` are left out, so that those that are in form one
    /// moment.
    pub fn take(profiler: &'static Profiler, moment: Moment, epoch: u32) -> Result<Self, SinkError> {
        let mut rows: Vec<Row> = Vec::new();
        // Live blocks first: a sample is counted before it gets a record, so that no stack has more blocks in use than
        // it ever allocated.
        profiler.records.snapshot(moment, |record: &Record| {
            if record.epoch > epoch {
                return Ok(());
            }
            let Record { bucket, epoch, name, labels, .. } = *record;
            push(&mut rows, Row { stack: 0, epoch: epoch.max(1), bucket, name, labels, count: 1 })
        })?;
        let mut failed = Ok(());
        let peak = match moment {
            Moment::Now => None,
            Moment::Peak(number) => Some(number),
        };
        profiler.buckets.snapshot(peak, |bucket, count| {
            if failed.is_ok() {
                failed = push(&mut rows, Row { stack: 0, epoch: 0, bucket, name: 0, labels: 0, count });
            }
        });
        failed?;
        // After the rows, so that it has all their buckets.
        let origins = profiler.buckets.origins();
        let stacks = order_stacks(profiler, &mut rows, |row| origins.get(row.bucket).stack, |row, at| row.stack = at)?;
        rows.sort_unstable();
        rows.dedup_by(|row, kept| {
            let same = Row { count: 0, ..*row } == Row { count: 0, ..*kept };
            if same {
                kept.count += row.count;
            }
            same
        });
        Ok(Snapshot { stacks, rows, origins })
    }
}

/// The stacks of `rows`, sorted root first; each row is told the place of its own among them.
pub fn order_stacks<T>(
    profiler: &'static Profiler,
    rows: &mut [T],
    stack_of: impl Fn(&T) -> StackId,
    place_at: impl Fn(&mut T, u32),
) -> Result<Vec<Stack<'static>>, SinkError> {
    const UNSEEN: u32 = u32::MAX;
    let most = rows.iter().map(|row| stack_of(row).0).max().map_or(0, |id| id as usize + 1);
    let mut place = Vec::new();
    place.try_reserve_exact(most).map_err(|_| SinkError::OUT_OF_MEMORY)?;
    place.resize(most, UNSEEN);
    let mut stacks: Vec<(Stack<'static>, u32)> = Vec::new();
    for row in rows.iter() {
        let id = stack_of(row);
        if place[id.0 as usize] == UNSEEN {
            place[id.0 as usize] = 0;
            push(&mut stacks, (profiler.stacks.get(id), id.0))?;
        }
    }
    stacks.sort_unstable_by(|(a, a_id), (b, b_id)| {
        a.frames.iter().rev().cmp(b.frames.iter().rev()).then(a_id.cmp(b_id))
    });
    for (at, (_, id)) in stacks.iter().enumerate() {
        place[*id as usize] = at as u32;
    }
    for row in rows {
        let at = place[stack_of(row).0 as usize];
        place_at(row, at);
    }
    let mut sorted = Vec::new();
    sorted.try_reserve_exact(stacks.len()).map_err(|_| SinkError::OUT_OF_MEMORY)?;
    sorted.extend(stacks.into_iter().map(|(stack, _)| stack));
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
        let stacks: Vec<_> = snapshot.stacks.iter().map(|stack| stack.frames).collect();
        assert_eq!(stacks, [&[11, 20, 1], &[10, 30, 1]]);
        let usable = |row: &Row| snapshot.origins.get(row.bucket).usable;
        let rows: Vec<_> = snapshot.rows.iter().map(|r| (r.stack, r.epoch, usable(r), r.count)).collect();
        // The block of epoch 3 was born after the dump began; its allocation is counted.
        assert_eq!(
            rows,
            [(0, 0, 64, 2), (0, 1, 64, 1), (1, 0, 64, 3), (1, 0, 128, 1), (1, 1, 64, 2), (1, 1, 128, 1), (1, 2, 64, 1)]
        );
    }
}
