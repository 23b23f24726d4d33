//! The samples whose blocks live, by address; and those whose blocks lived at the peak of memory, or when a dump began.
//!
//! A record isn't copied when a new peak is found: it stays where it is, and its birth tells whether it was there. Only
//! when its block is freed does it go to a list beside the table, until the next peak makes that list void. So it is with
//! what is freed while a dump copies the table: a program that frees much meanwhile would be told to hold too little.

mod gone;

use alloc::vec::Vec;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use alloc_core::lock::{Counts, Mutex, Rank};
use alloc_core::{ThreadSlot, sys};
use pprof_export::writer::SinkError;

use crate::buckets::BucketId;
use crate::table::{Array, Zeroed, hash};
use gone::Gone;

/// A sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// First byte of the block; 0: no record.
    pub address: u64,
    /// When it was allocated, in ticks of the processor.
    pub birth: u64,
    /// Its stack, usable size and sample interval.
    pub bucket: BucketId,
    /// Usable bytes that nobody asked for; at most 4 GiB are told.
    pub unasked: u32,
    /// The dump interval in which it was allocated, from 1; the greatest number: the sample was forgotten, and stays for
    /// the flag of its slab.
    pub epoch: u32,
    /// How many peaks there had been.
    pub peak: u32,
    /// The number of the thread that allocated it.
    pub thread: u32,
    /// The thread's name.
    pub name: u16,
    /// Labels of the program's choice.
    pub labels: u16,
}
// SAFETY: integers.
unsafe impl Zeroed for Record {}

/// The dump interval of samples that were forgotten.
const FORGOTTEN: u32 = u32::MAX;

/// Records are spread by the arena of their block, and then by its address: threads of different arenas seldom meet, and
/// no table is long.
const ARENAS: usize = 4;
const SHARDS_OF_ARENA: usize = 16;
const SHARDS: usize = ARENAS * SHARDS_OF_ARENA;
/// What each shard begins with. All of that lies together: a page for each shard would be most of the memory that a small
/// program is profiled with.
const SHARD_LEN_FIRST: usize = 16;
/// What it has at least when that is too little.
const SHARD_LEN_MIN: usize = 64;

/// What every sample needs comes first.
#[derive(Debug)]
#[repr(C)]
struct Shard {
    slots: Array<Record>,
    used: usize,
    /// Those of the last peak.
    gone: Gone,
    /// Those of the dump interval that a dump is being made of.
    late: Gone,
}

const EMPTY: Shard = Shard { slots: Array::new(), used: 0, gone: Gone::NONE, late: Gone::NONE };

/// A shard and its lock, in cache lines of their own.
#[derive(Debug)]
#[repr(align(64))]
struct Apart(Mutex<Shard>);

impl core::ops::Deref for Apart {
    type Target = Mutex<Shard>;
    #[inline]
    fn deref(&self) -> &Mutex<Shard> {
        &self.0
    }
}

/// Live samples by address. Each method that looks for one wants the number of its block's arena, always the same one.
#[derive(Debug)]
pub struct Records {
    shards: [Apart; SHARDS],
    /// What the shards begin with; null until there is a sample.
    first: AtomicPtr<Record>,
    /// The dump interval that a snapshot is to have the blocks of; 0: none is.
    ended: AtomicU32,
    dropped: AtomicU64,
}

/// A dump interval that has ended: what was allocated until then is kept for [`Moment::EndOf`] it when it is freed, as long
/// as this lives. One at a time.
#[derive(Debug)]
pub struct Ended<'a> {
    records: &'a Records,
    interval: u32,
}

impl Ended<'_> {
    /// The moment.
    pub fn moment(&self) -> Moment {
        Moment::EndOf(self.interval)
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.records.ended.store(0, Ordering::Relaxed);
        for shard in &self.records.shards {
            // Taken out of it under the lock, given back without.
            let mut late = core::mem::replace(&mut shard.lock().late, Gone::NONE);
            late.release();
        }
    }
}

impl Record {
    /// Whether the profile was reset since it was taken.
    pub fn is_forgotten(&self) -> bool {
        self.epoch == FORGOTTEN
    }

    /// Whether a thread is the one that allocated its block.
    pub fn is_of(&self, slot: &ThreadSlot) -> bool {
        u64::from(self.thread) == slot.uid & u64::from(u32::MAX)
    }

    /// Leaves it to nobody but the free of its block.
    pub fn forget(&mut self) {
        self.epoch = FORGOTTEN;
    }
}

impl Shard {
    fn position(&self, address: u64) -> Result<usize, usize> {
        let slots = self.slots.as_slice();
        let mut at = home(address, slots.len());
        loop {
            if slots[at].address == address {
                return Ok(at);
            }
            if slots[at].address == 0 {
                return Err(at);
            }
            at = next(at, slots.len());
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> bool {
        // By half: a table is never less than half full, which bounds the memory of a record.
        let length = (self.slots.as_slice().len() * 3 / 2).max(SHARD_LEN_MIN);
        let mut larger = Shard { used: self.used, ..EMPTY };
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
        self.slots = larger.slots;
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
        let length = slots.len();
        let distance = |from: usize, to: usize| if to >= from { to - from } else { to + length - from };
        // Move up what the hole would cut off from its place.
        let mut at = hole;
        loop {
            at = next(at, length);
            if slots[at].address == 0 {
                break;
            }
            if distance(home(slots[at].address, length), at) >= distance(hole, at) {
                slots[hole] = slots[at];
                hole = at;
            }
        }
        slots[hole].address = 0;
        self.used -= 1;
        Some(removed)
    }

    fn live(&self) -> impl Iterator<Item = &Record> {
        self.slots.as_slice().iter().filter(|record| record.address != 0 && record.epoch != FORGOTTEN)
    }

    /// Whether a snapshot of a moment has the record of a block that lives.
    fn is_of(record: &Record, moment: Moment) -> bool {
        match moment {
            Moment::Now => true,
            Moment::EndOf(interval) => record.epoch <= interval,
            Moment::Peak(peak) => record.peak < peak,
        }
    }

    /// Records of blocks that lived at a moment and have been freed since.
    fn freed_since(&self, moment: Moment) -> &[Record] {
        match moment {
            Moment::Now => &[],
            Moment::EndOf(interval) => self.late.of(interval),
            Moment::Peak(peak) => self.gone.of(peak),
        }
    }

    fn at(&self, moment: Moment) -> impl Iterator<Item = &Record> {
        self.live().filter(move |record| Self::is_of(record, moment)).chain(self.freed_since(moment))
    }
}

/// Where the search for an address begins.
fn home(address: u64, length: usize) -> usize {
    // The upper bits of the hash have chosen the shard; those below them, times the length, divided by 2^32.
    let bits = hash(address) >> 8 & 0xffff_ffff;
    ((bits * length as u64) >> 32) as usize
}

fn next(at: usize, length: usize) -> usize {
    if at + 1 == length { 0 } else { at + 1 }
}

/// Which records a snapshot has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Those whose blocks live, one shard after the other.
    Now,
    /// Those whose blocks lived when a dump interval ended, while [`Ended`] stands for it.
    EndOf(u32),
    /// Those whose blocks lived at the peak of that number.
    Peak(u32),
}

impl Moment {
    /// The number of the peak, if it is one.
    pub fn peak(self) -> Option<u32> {
        match self {
            Moment::Now | Moment::EndOf(_) => None,
            Moment::Peak(number) => Some(number),
        }
    }
}

impl Records {
    /// None.
    pub const fn new() -> Self {
        Records {
            shards: [const { Apart(Mutex::new(Rank::Records, EMPTY)) }; SHARDS],
            first: AtomicPtr::new(null_mut()),
            ended: AtomicU32::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    fn shard_of(address: usize, arena: usize) -> usize {
        let of_arena = (hash(address as u64) >> (u64::BITS - SHARDS_OF_ARENA.ilog2())) as usize;
        arena % ARENAS * SHARDS_OF_ARENA + of_arena
    }

    fn shard(&self, address: usize, arena: usize) -> &Mutex<Shard> {
        &self.shards[Self::shard_of(address, arena)]
    }

    /// What shard number `shard`, which the caller has locked and which has no slots yet, begins with. Empty: no memory.
    #[cold]
    fn first_slots(&self, shard: usize) -> Array<Record> {
        let mut first = self.first.load(Ordering::Acquire);
        if first.is_null() {
            let mut made = Array::new();
            if !made.reserve(SHARDS * SHARD_LEN_FIRST) {
                return Array::new();
            }
            first = made.as_mut_ptr();
            // AcqRel: whoever reads the pointer finds the memory as it was mapped.
            if let Err(other) = self.first.compare_exchange(null_mut(), first, Ordering::AcqRel, Ordering::Acquire) {
                made.release();
                first = other;
            }
        }
        // SAFETY: each shard has a part of its own, and none yet, or has dropped it in the child of a fork. The memory is
        // never given back.
        let mut slots = unsafe { Array::part(first.add(shard * SHARD_LEN_FIRST), SHARD_LEN_FIRST) };
        slots.as_mut_slice().fill(Record::default());
        slots
    }

    /// Asks for the lock that the sample of a block is kept behind.
    #[inline]
    pub fn ask_for(&self, address: usize, arena: usize) {
        sys::prefetch_for_write(self.shard(address, arena));
    }

    /// Adds a live sample. `false`: no memory; it is counted as dropped.
    #[inline]
    pub fn insert(&self, record: &Record, arena: usize) -> bool {
        let number = Self::shard_of(record.address as usize, arena);
        let kept = {
            let mut shard = self.shards[number].lock();
            if shard.slots.as_slice().is_empty() {
                shard.slots = self.first_slots(number);
            }
            shard.insert(record)
        };
        if !kept {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        kept
    }

    /// Takes the sample of a block out, if it has one. When its block lived at peak number `peak` (0: there was none), or when
    /// a dump began that is being made, it is kept beside the table.
    #[inline]
    pub fn remove(&self, address: usize, arena: usize, peak: u32) -> Option<Record> {
        let mut shard = self.shard(address, arena).lock();
        let removed = shard.remove(address as u64)?;
        // The caller may have learned the number before a newer peak, of which others have kept records here. Its block was
        // counted in that one, too.
        let peak = if peak == 0 { 0 } else { peak.max(shard.gone.of) };
        let ended = self.ended.load(Ordering::Relaxed);
        let kept_for_peak = removed.peak >= peak || removed.is_forgotten() || shard.gone.keep(&removed, peak);
        // No interval is as late as that of forgotten ones.
        let kept_for_dump = removed.epoch > ended || shard.late.keep(&removed, ended);
        if !kept_for_peak || !kept_for_dump {
            drop(shard);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Some(removed)
    }

    /// Has what was allocated in dump interval `interval` and before kept when it is freed. To be called before the next
    /// interval begins, by who has the turn to make a dump.
    pub fn end(&self, interval: u32) -> Ended<'_> {
        self.ended.store(interval, Ordering::Relaxed);
        Ended { records: self, interval }
    }

    /// The record of a live block, changed by `change`. Returns whether there is one.
    pub fn change(&self, address: usize, arena: usize, change: impl FnOnce(&mut Record)) -> bool {
        let mut shard = self.shard(address, arena).lock();
        if shard.used == 0 {
            return false;
        }
        let Ok(at) = shard.position(address as u64) else { return false };
        change(&mut shard.slots.as_mut_slice()[at]);
        true
    }

    /// Samples that found no memory.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Hands out what `pick` takes of the records of a moment, shard by shard: it is copied while the shard is locked, handed
    /// out afterwards.
    pub fn snapshot<T: Copy + Default>(
        &self,
        moment: Moment,
        pick: impl Fn(&Record) -> Option<T>,
        take: impl FnMut(&T) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        let (mut copy, mut take): (Vec<T>, _) = (Vec::new(), take);
        for shard in &self.shards {
            loop {
                // Room is made, and its pages are touched, without the lock; a few more may come before it is taken again.
                let most = |shard: &Shard| shard.used + shard.freed_since(moment).len();
                let wanted = most(&shard.lock());
                copy.clear();
                let room = wanted + wanted / 8 + 16;
                if room > copy.capacity() {
                    copy.try_reserve_exact(room).map_err(|_| SinkError::OUT_OF_MEMORY)?;
                    copy.resize(copy.capacity(), T::default());
                    copy.clear();
                }
                let held = shard.lock();
                let room = copy.capacity();
                if most(&held) <= room {
                    copy.extend(held.at(moment).filter_map(&pick).take(room));
                    break;
                }
            }
            copy.iter().try_for_each(&mut take)?;
        }
        Ok(())
    }

    /// Forgets all. Records of live blocks stay as such until the blocks are freed: their pages are flagged, and only a
    /// free that finds a record takes the flag away.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.slots.as_mut_slice().iter_mut().for_each(Record::forget);
            shard.gone.release();
            shard.late.release();
        }
    }

    /// What the locks of all shards have seen.
    pub fn lock_counts(&self) -> Counts {
        self.shards.iter().fold(Counts::NONE, |mut sum, shard| {
            sum.merge(&shard.counts());
            sum
        })
    }

    /// Has them count afresh.
    pub fn reset_lock_counts(&self) {
        self.shards.iter().for_each(|shard| shard.reset_counts());
    }

    /// Gives back what is kept for a peak.
    pub fn forget_peak(&self) {
        for shard in &self.shards {
            shard.lock().gone.release();
        }
    }

    /// In the child of a fork: a shard that was being changed is dropped. A dump that was being made is the parent's.
    pub fn after_fork(&self) {
        let is_dumped = self.ended.swap(0, Ordering::Relaxed) != 0;
        for shard in &self.shards {
            shard.after_fork(|shard| *shard = EMPTY);
            if is_dumped {
                shard.lock().late.of = 0;
            }
        }
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
