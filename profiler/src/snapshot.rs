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

/// Copies what `profiler` has of a moment, one piece after the other; nobody's allocation waits for more than one piece:
/// `live` makes rows of the blocks in use that were born no later than dump interval `epoch`, `ever` of the counts of all
/// that was allocated.
pub fn collect<T>(
    profiler: &'static Profiler,
    moment: Moment,
    epoch: u32,
    live: impl Fn(&Record) -> T,
    ever: impl Fn(BucketId, u64) -> T,
) -> Result<Vec<T>, SinkError> {
    let mut rows: Vec<T> = Vec::new();
    // Live blocks first: a sample is counted before it gets a record, so that no stack has more blocks in use than it ever
    // allocated.
    profiler.records.snapshot(moment, |record: &Record| {
        if record.epoch > epoch { Ok(()) } else { push(&mut rows, live(record)) }
    })?;
    let mut failed = Ok(());
    let peak = match moment {
        Moment::Now => None,
        Moment::Peak(number) => Some(number),
    };
    profiler.buckets.snapshot(peak, |bucket, count| {
        if failed.is_ok() {
            failed = push(&mut rows, ever(bucket, count));
        }
    });
    failed.map(|()| rows)
}

impl Snapshot {
    /// What `profiler` has of a moment, as by [`collect`]. Blocks in use that were born after dump interval `epoch` are left
    /// out, so that those that are in form one moment.
    pub fn take(profiler: &'static Profiler, moment: Moment, epoch: u32) -> Result<Self, SinkError> {
        let live = |&Record { bucket, epoch, name, labels, .. }: &Record| {
            Row { stack: 0, epoch: epoch.max(1), bucket, name, labels, count: 1 }
        };
        let ever = |bucket, count| Row { stack: 0, epoch: 0, bucket, name: 0, labels: 0, count };
        let mut rows = collect(profiler, moment, epoch, live, ever)?;
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
    sort_from(&mut stacks, 0, 0);
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

/// A frame by its distance from the root; none beyond the leaf.
fn frame_at(stack: &(Stack<'_>, u32), depth: usize) -> Option<usize> {
    stack.0.frames.len().checked_sub(depth + 1).map(|at| stack.0.frames[at])
}

/// Sorts stacks that agree in their `depth` outermost frames: root first, then by number. A quicksort by one frame after
/// the other, since most stacks share most of their frames, which needn't be compared again and again.
fn sort_from(mut stacks: &mut [(Stack<'_>, u32)], mut depth: usize, level: u32) {
    /// Fewer stacks are compared as they are, and so are those that divide badly.
    const FEW: usize = 12;
    const LEVEL_MAX: u32 = 48;
    loop {
        if stacks.len() <= FEW || level > LEVEL_MAX {
            let rest = |stack: &Stack<'_>| stack.frames.len().saturating_sub(depth);
            stacks.sort_unstable_by(|(a, a_id), (b, b_id)| {
                let (a, b) = (&a.frames[..rest(a)], &b.frames[..rest(b)]);
                a.iter().rev().cmp(b.iter().rev()).then(a_id.cmp(b_id))
            });
            return;
        }
        let of = |at: usize| frame_at(&stacks[at], depth);
        let (a, b, c) = (of(0), of(stacks.len() / 2), of(stacks.len() - 1));
        let pivot = a.max(b).min(a.min(b).max(c));
        // Less before `low`, greater from `high` on, equal in between.
        let (mut low, mut at, mut high) = (0, 0, stacks.len());
        while at < high {
            match frame_at(&stacks[at], depth).cmp(&pivot) {
                core::cmp::Ordering::Less => {
                    stacks.swap(low, at);
                    low += 1;
                    at += 1;
                }
                core::cmp::Ordering::Equal => at += 1,
                core::cmp::Ordering::Greater => {
                    high -= 1;
                    stacks.swap(at, high);
                }
            }
        }
        let (less, rest) = stacks.split_at_mut(low);
        let (equal, greater) = rest.split_at_mut(high - low);
        sort_from(less, depth, level + 1);
        sort_from(greater, depth, level + 1);
        if pivot.is_none() {
            equal.sort_unstable_by_key(|&(_, id)| id);
            return;
        }
        stacks = equal;
        depth += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::Origin;
    use crate::unwind::End;

    #[test]
    fn stacks_are_sorted_root_first() {
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for count in [0, 1, 5, 13, 300, 5000] {
            let frames: Vec<Vec<usize>> =
                (0..count).map(|_| (0..random(12)).map(|_| random(3) as usize).collect()).collect();
            let mut stacks: Vec<(Stack<'_>, u32)> = frames
                .iter()
                .enumerate()
                .map(|(id, frames)| (Stack { frames, end: End::Complete }, id as u32))
                .collect();
            let shown = |stacks: &[(Stack<'_>, u32)]| -> Vec<(Vec<usize>, u32)> {
                stacks.iter().map(|(stack, id)| (stack.frames.iter().rev().copied().collect(), *id)).collect()
            };
            let mut wanted = shown(&stacks);
            wanted.sort();
            sort_from(&mut stacks, 0, 0);
            assert_eq!(shown(&stacks), wanted);
        }
    }

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
