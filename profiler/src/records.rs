//! The samples: those whose blocks live, by address, and counts of all there ever were, by stack and size.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use alloc_core::lock::{Mutex, Rank};
use pprof_export::writer::SinkError;

use crate::stacks::StackId;
use crate::table::{Array, Index, Zeroed, hash};

/// A sample whose block lives.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Record {
    /// First byte of the block; 0: no record.
    pub address: u64,
    /// Bytes asked for.
    pub requested: u64,
    /// Usable bytes: the unit of the countdown.
    pub usable: u64,
    /// The mean distance of samples when it was taken, in bytes.
    pub period: u64,
    /// When, in nanoseconds of the monotonic clock.
    pub birth_ns: u64,
    /// Where.
    pub stack: StackId,
    /// The dump interval in which it was taken, from 1.
    pub epoch: u32,
    /// The thread's name.
    pub name: u32,
    /// Keeps the size a whole number of words.
    pub unused: u32,
}
// SAFETY: integers.
unsafe impl Zeroed for Record {}

const SHARDS: usize = 64;
const SHARD_LEN_MIN: usize = 64;

#[derive(Debug)]
struct Shard {
    slots: Array<Record>,
    used: usize,
}

/// Live samples by address.
#[derive(Debug)]
pub struct Records {
    shards: [Mutex<Shard>; SHARDS],
    dropped: AtomicU64,
}

impl Shard {
    fn position(&self, address: u64) -> Result<usize, usize> {
        let slots = self.slots.as_slice();
        let mut at = hash(address) as usize >> 8 & (slots.len() - 1);
        loop {
            if slots[at].address == address {
                return Ok(at);
            }
            if slots[at].address == 0 {
                return Err(at);
            }
            at = (at + 1) & (slots.len() - 1);
        }
    }

    fn grow(&mut self) -> bool {
        let length = (self.slots.as_slice().len() * 2).max(SHARD_LEN_MIN);
        let mut larger = Shard { slots: Array::new(), used: self.used };
        if !larger.slots.reserve(length) {
            return false;
        }
        for record in self.slots.as_slice() {
            if record.address != 0
                && let Err(at) = larger.position(record.address)
            {
                larger.slots.as_mut_slice()[at] = *record;
            }
        }
        self.slots.release();
        *self = larger;
        true
    }

    fn insert(&mut self, record: &Record) -> bool {
        // A quarter stays free, so that probes are short.
        if (self.used + 1) * 4 > self.slots.as_slice().len() * 3 && !self.grow() {
            return false;
        }
        match self.position(record.address) {
            Ok(at) => self.slots.as_mut_slice()[at] = *record,
            Err(at) => {
                self.slots.as_mut_slice()[at] = *record;
                self.used += 1;
            }
        }
        true
    }

    fn remove(&mut self, address: u64) -> Option<Record> {
        if self.used == 0 {
            return None;
        }
        let mut hole = self.position(address).ok()?;
        let removed = self.slots.as_slice()[hole];
        let slots = self.slots.as_mut_slice();
        let mask = slots.len() - 1;
        // Move up what the hole would cut off from its place.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            if slots[at].address == 0 {
                break;
            }
            let home = hash(slots[at].address) as usize >> 8 & mask;
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                slots[hole] = slots[at];
                hole = at;
            }
        }
        slots[hole].address = 0;
        self.used -= 1;
        Some(removed)
    }
}

impl Records {
    /// None.
    pub const fn new() -> Self {
        Records {
            shards: [const { Mutex::new(Rank::Records, Shard { slots: Array::new(), used: 0 }) }; SHARDS],
            dropped: AtomicU64::new(0),
        }
    }

    fn shard(&self, address: usize) -> &Mutex<Shard> {
        &self.shards[(hash(address as u64) >> 58) as usize % SHARDS]
    }

    /// Adds a live sample. `false`: no memory; it is counted as dropped.
    pub fn insert(&self, record: &Record) -> bool {
        let kept = self.shard(record.address as usize).lock().insert(record);
        if !kept {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        kept
    }

    /// Takes the sample of a block out, if it has one.
    pub fn remove(&self, address: usize) -> Option<Record> {
        self.shard(address).lock().remove(address as u64)
    }

    /// Samples that found no memory.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Hands out all records, shard by shard: they are copied while the shard is locked, handed out afterwards.
    pub fn snapshot(&self, mut take: impl FnMut(&Record) -> Result<(), SinkError>) -> Result<(), SinkError> {
        let mut copy: Vec<Record> = Vec::new();
        for shard in &self.shards {
            loop {
                // Room is made without the lock; a few more may come before it is taken again.
                let wanted = shard.lock().used;
                copy.clear();
                copy.try_reserve(wanted + wanted / 8 + 16).map_err(|_| SinkError::OUT_OF_MEMORY)?;
                let held = shard.lock();
                if held.used <= copy.capacity() {
                    let live = held.slots.as_slice().iter().filter(|record| record.address != 0);
                    copy.extend(live.take(held.used));
                    break;
                }
            }
            copy.iter().try_for_each(&mut take)?;
        }
        Ok(())
    }

    /// Forgets all.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.slots.release();
            shard.used = 0;
        }
    }

    /// In the child of a fork: a shard that was being changed is dropped.
    pub fn after_fork(&self) {
        for shard in &self.shards {
            shard.after_fork(|shard| *shard = Shard { slots: Array::new(), used: 0 });
        }
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::new()
    }
}

/// How often blocks of one size were sampled on one stack at one interval.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Bucket {
    /// Samples; 0: no bucket.
    pub count: u64,
    /// Usable bytes of each block.
    pub usable: u64,
    /// Mean distance of samples, in bytes.
    pub period: u64,
    /// Where.
    pub stack: StackId,
    /// Keeps the size a whole number of words.
    pub unused: u32,
}
// SAFETY: integers.
unsafe impl Zeroed for Bucket {}

/// Most buckets: 8 MiB, and 2 MiB for their index.
const BUCKETS_MAX: usize = 1 << 18;
/// Of them, those kept back for stack 0, which takes what finds no bucket of its own.
const BUCKETS_BACK: usize = 1 << 12;

#[derive(Debug)]
struct Inner {
    /// Bucket 0 is not used.
    slots: Array<Bucket>,
    index: Index,
    /// The next bucket; 0: no memory yet.
    next: usize,
}

/// Counts of all samples ever taken.
#[derive(Debug)]
pub struct Buckets {
    inner: Mutex<Inner>,
    dropped: AtomicU64,
}

fn hash_of(bucket: &Bucket) -> u64 {
    hash(hash(u64::from(bucket.stack.0) << 32 ^ bucket.usable) ^ bucket.period)
}

impl Buckets {
    /// None.
    pub const fn new() -> Self {
        Buckets {
            inner: Mutex::new(Rank::Stacks, Inner { slots: Array::new(), index: Index::new(), next: 0 }),
            dropped: AtomicU64::new(0),
        }
    }

    /// Counts a sample. Returns the stack under which it is counted: 0 when the table is full.
    pub fn add(&self, stack: StackId, usable: u64, period: u64) -> StackId {
        let wanted = Bucket { count: 1, usable, period, stack, unused: 0 };
        let nowhere = Bucket { stack: StackId(0), ..wanted };
        let mut inner = self.inner.lock();
        if inner.add(&wanted, BUCKETS_MAX - BUCKETS_BACK) {
            return stack;
        }
        inner.add(&nowhere, BUCKETS_MAX);
        drop(inner);
        self.dropped.fetch_add(1, Ordering::Relaxed);
        nowhere.stack
    }

    /// Samples that found no bucket of their own.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many buckets there are.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.inner.lock().next.saturating_sub(1)
    }

    /// Hands out the buckets, copied in pieces, so that a sampling thread never waits long.
    pub fn snapshot(&self, mut take: impl FnMut(&Bucket)) {
        const PIECE: usize = 64;
        let mut piece = [Bucket::default(); PIECE];
        let mut at = 1;
        loop {
            let n = {
                let inner = self.inner.lock();
                let n = inner.next.saturating_sub(at).min(PIECE);
                if n > 0 {
                    piece[..n].copy_from_slice(&inner.slots.as_slice()[at..at + n]);
                }
                n
            };
            if n == 0 {
                return;
            }
            piece[..n].iter().for_each(&mut take);
            at += n;
        }
    }

    /// Forgets all counts.
    pub fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.slots.release();
        inner.index.clear();
        inner.next = 0;
    }

    /// In the child of a fork: counts are single words; a bucket that was being made is dropped.
    pub fn after_fork(&self) {
        self.inner.after_fork(|inner| {
            let Inner { slots, index, next } = inner;
            index.rebuild(*next as u32, |id| hash_of(&slots.as_slice()[id as usize]));
        });
    }
}

impl Inner {
    fn add(&mut self, bucket: &Bucket, limit: usize) -> bool {
        if self.next == 0 {
            if !self.slots.reserve(BUCKETS_MAX) {
                return false;
            }
            self.next = 1;
        }
        let slots = self.slots.as_mut_slice();
        let known = self.index.find(hash_of(bucket), |id| {
            let other = &slots[id as usize];
            other.stack == bucket.stack && other.usable == bucket.usable && other.period == bucket.period
        });
        if let Some(id) = known {
            slots[id as usize].count += 1;
            return true;
        }
        if self.next >= limit {
            return false;
        }
        slots[self.next] = *bucket;
        if !self.index.insert(self.next as u32, |id| hash_of(&slots[id as usize])) {
            return false;
        }
        self.next += 1;
        true
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn records_against_a_map() {
        let records = Records::new();
        let mut model: HashMap<u64, u64> = HashMap::new();
        let mut state = 1u64;
        for i in 0..200_000u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let address = (state >> 40 & 0x3fff) * 16 + 0x7f00_0000_0000;
            if state >> 33 & 1 == 0 {
                records.insert(&Record { address, usable: i, ..Record::default() });
                model.insert(address, i);
            } else {
                assert_eq!(records.remove(address as usize).map(|r| r.usable), model.remove(&address));
            }
        }
        let mut seen = 0;
        let copied = records.snapshot(|record| {
            assert_eq!(model.get(&record.address), Some(&record.usable));
            seen += 1;
            Ok(())
        });
        assert_eq!(copied, Ok(()));
        assert_eq!(seen, model.len());
    }

    #[test]
    fn buckets_count() {
        let buckets = Buckets::new();
        for i in 0..10_000u32 {
            buckets.add(StackId(i % 1000), 64, 4096);
        }
        let (mut n, mut sum) = (0, 0);
        buckets.snapshot(|bucket| {
            n += 1;
            sum += bucket.count;
        });
        assert_eq!((n, sum), (1000, 10_000));
    }

    #[test]
    fn full_buckets_go_to_stack_0() {
        let buckets = Buckets::new();
        let all = (BUCKETS_MAX + 1000) as u32;
        for i in 1..all {
            let stack = buckets.add(StackId(i), 64, 4096);
            assert_eq!(stack.0, if (i as usize) < BUCKETS_MAX - BUCKETS_BACK { i } else { 0 });
        }
        let (mut sum, mut lost) = (0, 0);
        buckets.snapshot(|bucket| {
            sum += bucket.count;
            lost += if bucket.stack.0 == 0 { bucket.count } else { 0 };
        });
        assert_eq!((sum, lost), (u64::from(all) - 1, buckets.dropped()));
        buckets.clear();
        assert_eq!(buckets.used(), 0);
    }
}
