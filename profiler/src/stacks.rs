//! Stack traces, each kept once: a number for each distinct list of return addresses.
//!
//! The table only grows, up to a fixed size; what doesn't fit is counted under stack 0, which has no frames. Stacks keep
//! their place, so that a dump reads them without the lock.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc_core::lock::{Counts, Mutex, Rank};

use crate::table::{Array, Index, Zeroed, hash};
use crate::unwind::End;

/// Most frames of all stacks together: 40 MiB.
const FRAMES_MAX: usize = 5 << 20;
/// Most stacks: 6 MiB, and 2 MiB for their index.
const STACKS_MAX: usize = 1 << 18;

/// The number of a stack. 0 is the one without frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub u32);

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    hash: u64,
    first: u32,
    depth: u16,
    /// [`COMPLETE`], [`TRUNCATED`] or [`LOST`].
    end: u16,
}
const COMPLETE: u16 = 0;
const TRUNCATED: u16 = 1;
const LOST: u16 = 2;
// SAFETY: integers.
unsafe impl Zeroed for Entry {}

#[derive(Debug)]
struct Inner {
    frames: Array<usize>,
    entries: Array<Entry>,
    index: Index,
    frames_used: usize,
    /// Stacks there are, stack 0 included once the table is made.
    count: usize,
}

/// The table.
#[derive(Debug)]
pub struct Stacks {
    inner: Mutex<Inner>,
    dropped: AtomicU64,
}

/// A stack as it was captured.
#[derive(Clone, Copy, Debug)]
pub struct Stack<'a> {
    /// Return addresses, leaf first.
    pub frames: &'a [usize],
    /// Whether the walk reached the start of the thread.
    pub end: End,
}

/// The stacks that there were at one moment, read without the lock.
#[derive(Clone, Copy, Debug)]
pub struct View {
    frames: &'static [usize],
    entries: &'static [Entry],
}

impl View {
    /// How many stacks there are, number 0 included, which is there even without memory for the table.
    pub fn count(&self) -> usize {
        self.entries.len().max(1)
    }

    /// The stack of a number. One that isn't any has no frames, as number 0.
    pub fn get(&self, id: StackId) -> Stack<'static> {
        let Some(entry) = self.entries.get(id.0 as usize).filter(|_| id.0 != 0) else {
            return Stack { frames: &[], end: End::Lost };
        };
        let end = match entry.end {
            COMPLETE => End::Complete,
            TRUNCATED => End::Truncated,
            _ => End::Lost,
        };
        Stack { frames: &self.frames[entry.first as usize..][..usize::from(entry.depth)], end }
    }
}

impl Stacks {
    /// A table without memory.
    pub const fn new() -> Self {
        Stacks {
            inner: Mutex::new(
                Rank::Stacks,
                Inner { frames: Array::new(), entries: Array::new(), index: Index::new(), frames_used: 0, count: 0 },
            ),
            dropped: AtomicU64::new(0),
        }
    }

    /// The number of a stack, which is made if it is new.
    pub fn intern(&self, frames: &[usize], end: End) -> StackId {
        let end = match end {
            End::Complete => COMPLETE,
            End::Truncated => TRUNCATED,
            End::Lost => LOST,
        };
        let seed = u64::from(end) << 32 | frames.len() as u64;
        let wanted = frames.iter().fold(hash(seed), |state, &frame| hash(state.rotate_left(5) ^ frame as u64));
        let mut inner = self.inner.lock();
        let id = inner.intern(frames, end, wanted);
        drop(inner);
        if id.is_none() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        id.unwrap_or_default()
    }

    /// Samples whose stack found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many stacks there are, number 0 included.
    pub fn count(&self) -> usize {
        self.inner.lock().count
    }

    /// All stacks so far.
    pub fn view(&'static self) -> View {
        let inner = self.inner.lock();
        let (frames, entries) =
            (&inner.frames.as_slice()[..inner.frames_used], &inner.entries.as_slice()[..inner.count]);
        // SAFETY: frames keep their place and never change once their stack has a number; the table is static.
        let frames: &'static [usize] = unsafe { core::slice::from_raw_parts(frames.as_ptr(), frames.len()) };
        // SAFETY: so do entries.
        let entries: &'static [Entry] = unsafe { core::slice::from_raw_parts(entries.as_ptr(), entries.len()) };
        View { frames, entries }
    }

    /// The stack of a number that [`Stacks::intern`] has given.
    pub fn get(&'static self, id: StackId) -> Stack<'static> {
        self.view().get(id)
    }

    /// What the lock has seen.
    pub fn lock_counts(&self) -> Counts {
        self.inner.counts()
    }

    /// Has it count afresh.
    pub fn reset_lock_counts(&self) {
        self.inner.reset_counts();
    }

    /// In the child of a fork: a stack that was being added is dropped.
    pub fn after_fork(&self) {
        self.inner.after_fork(|inner| {
            let Inner { index, entries, count, .. } = inner;
            index.rebuild(*count as u32, |id| entries.as_slice()[id as usize].hash);
        });
    }
}

impl Inner {
    fn intern(&mut self, frames: &[usize], end: u16, wanted: u64) -> Option<StackId> {
        if self.count == 0 && !self.make() {
            return None;
        }
        let Inner { frames: all, entries, index, .. } = self;
        let known = index.find(wanted, |id| {
            let entry = entries.as_slice()[id as usize];
            entry.hash == wanted
                && entry.end == end
                && all.as_slice()[entry.first as usize..][..entry.depth as usize] == *frames
        });
        if known.is_some() {
            return known.map(StackId);
        }
        if self.count == STACKS_MAX || self.frames_used + frames.len() > FRAMES_MAX {
            return None;
        }
        let id = self.count;
        self.frames.place(self.frames_used, frames);
        let entry = Entry { hash: wanted, first: self.frames_used as u32, depth: frames.len() as u16, end };
        self.entries.place(id, &[entry]);
        let entries = &self.entries;
        if !self.index.insert(id as u32, |id| entries.as_slice()[id as usize].hash) {
            return None;
        }
        self.frames_used += frames.len();
        self.count += 1;
        Some(StackId(id as u32))
    }

    fn make(&mut self) -> bool {
        let made = self.frames.reserve(FRAMES_MAX) && self.entries.reserve(STACKS_MAX);
        if made {
            self.count = 1;
        } else {
            self.frames.release();
            self.entries.release();
        }
        made
    }
}

impl Default for Stacks {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interns_once() {
        static STACKS: Stacks = Stacks::new();
        let a = STACKS.intern(&[1, 2, 3], End::Complete);
        let b = STACKS.intern(&[1, 2, 4], End::Complete);
        let c = STACKS.intern(&[1, 2, 3], End::Truncated);
        assert!(a != b && a != c && a.0 != 0);
        assert_eq!(STACKS.intern(&[1, 2, 3], End::Complete), a);
        assert_eq!(STACKS.get(b).frames, &[1, 2, 4]);
        assert_eq!(STACKS.get(c).end, End::Truncated);
        let many: std::vec::Vec<StackId> = (0..10_000).map(|i| STACKS.intern(&[i, i * 7], End::Complete)).collect();
        for (i, id) in many.iter().enumerate() {
            assert_eq!(STACKS.get(*id).frames, &[i, i * 7]);
        }
    }

    #[test]
    fn stack_0_needs_no_table() {
        static STACKS: Stacks = Stacks::new();
        let view = STACKS.view();
        assert_eq!((view.count(), view.get(StackId(0)).frames.len(), view.get(StackId(9)).frames.len()), (1, 0, 0));
    }

    #[test]
    fn memory_is_bounded() {
        static STACKS: Stacks = Stacks::new();
        let mut frames = [0; 64];
        for i in 0..STACKS_MAX + 1000 {
            frames[0] = i;
            STACKS.intern(&frames, End::Complete);
        }
        assert_eq!(STACKS.count(), FRAMES_MAX / 64 + 1);
        assert_eq!(STACKS.dropped() as usize, STACKS_MAX + 1000 - FRAMES_MAX / 64);
        // Known stacks are still found.
        frames[0] = 5;
        assert_eq!(STACKS.get(STACKS.intern(&frames, End::Complete)).frames, &frames);
    }
}
