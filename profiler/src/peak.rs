//! The moment at which the program held the most memory.
//!
//! Threads add what they have allocated less what they have freed to one total whenever they take a sample or free one,
//! so that the total is as near to the truth as a thread's next sample. When it passes the last peak by a 64th, the
//! exact sum is taken; if that says so too, a new peak begins. Records and buckets note which peak they are before or
//! after (see `records` and `buckets`), so that finding one copies nothing.

use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use alloc_core::lock::{Mutex, Rank};
use alloc_core::sys::{self, sandbox};
use alloc_core::{Stats, ThreadSlot};

use crate::busy::Busy;
use crate::sampler::word;
use crate::{HEAP, memory};

/// By how much memory must grow for a new peak: a 64th, 1.6 %. With what is between two looks it stays below 2 % for
/// heaps that are large compared with the sample interval.
const LG_STEP: u32 = 6;
/// A look that found no peak isn't repeated before another 512th.
const LG_PAUSE: u32 = 9;

/// What was true at a peak.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summit {
    /// Number of the peak, from 1; 0: there was none yet.
    pub number: u32,
    /// The heap's numbers.
    pub stats: Stats,
    /// Resident bytes of the process.
    pub rss: u64,
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
}

/// Watches for peaks.
#[derive(Debug)]
#[repr(C)]
pub struct Peak {
    on: AtomicBool,
    number: AtomicU32,
    /// What threads have added up.
    allocated: AtomicI64,
    /// The total at which the exact sum is asked for.
    trigger: AtomicI64,
    /// The most that the exact sum has been.
    maximum: AtomicU64,
    /// A thread looks for a peak, or a dump of the present one is being written.
    busy: Busy,
    summit: Mutex<Summit>,
}

const NONE: Summit = Summit { number: 0, stats: Stats::NONE, rss: 0, time_ns: 0 };

impl Peak {
    /// Off.
    pub const fn new() -> Self {
        Peak {
            on: AtomicBool::new(false),
            number: AtomicU32::new(0),
            allocated: AtomicI64::new(0),
            trigger: AtomicI64::new(0),
            maximum: AtomicU64::new(0),
            busy: Busy::new(),
            summit: Mutex::new(Rank::Stacks, NONE),
        }
    }

    /// Whether peaks are watched for.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// The number of the last peak; 0: there was none.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// Whether there is a peak to be shown.
    pub fn is_found(&self) -> bool {
        self.summit.lock().number > 0
    }

    /// The number that frees have to know: 0 while nobody watches.
    pub fn kept(&self) -> u32 {
        if self.is_on() { self.number() } else { 0 }
    }

    /// The most that was found allocated.
    pub fn maximum(&self) -> u64 {
        self.maximum.load(Ordering::Relaxed)
    }

    /// Switches the watch on or off. What was found before is forgotten: frees haven't been followed.
    pub fn set(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
        self.forget();
    }

    /// Starts over, with the present as the first peak to come.
    pub fn forget(&self) {
        *self.summit.lock() = NONE;
        self.maximum.store(0, Ordering::Relaxed);
        self.trigger.store(0, Ordering::Relaxed);
    }

    /// The last peak, if there was one; no new one begins while the result lives.
    pub fn hold(&self) -> Option<Held<'_>> {
        while !self.busy.take() {
            sys::yield_now();
        }
        let held = Held { peak: self, summit: *self.summit.lock() };
        (held.summit.number > 0).then_some(held)
    }

    /// Adds what the calling thread has allocated and freed since it was last here, and looks for a peak.
    #[inline]
    pub fn account(&self, slot: &mut ThreadSlot) {
        if self.is_on() {
            self.add(slot);
        }
    }

    fn add(&self, slot: &mut ThreadSlot) {
        let net = HEAP.thread_allocated_less_freed() as usize;
        let grown = net.wrapping_sub(slot.words[word::TOLD]) as i64;
        slot.words[word::TOLD] = net;
        let total = self.allocated.fetch_add(grown, Ordering::Relaxed) + grown;
        if total >= self.trigger.load(Ordering::Relaxed) && self.busy.take() {
            self.look();
            self.busy.give();
        }
    }

    /// Takes the exact sum; begins a new peak if it is one.
    #[cold]
    fn look(&self) {
        let exact = HEAP.allocated() as i64;
        // The sum that was added up is put right: it misses what threads hold that haven't sampled for long.
        self.allocated.store(exact, Ordering::Relaxed);
        self.maximum.fetch_max(exact.unsigned_abs(), Ordering::Relaxed);
        let last = self.summit.lock().stats.allocated as i64;
        let wanted = last + (last >> LG_STEP);
        if exact <= wanted {
            self.trigger.store(wanted.max(exact + (wanted >> LG_PAUSE)), Ordering::Relaxed);
            return;
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let mut stats = HEAP.stats();
        stats.allocated = exact as usize;
        // Not told where it can't be asked for.
        let rss = if sandbox::in_sandbox() { None } else { memory::resident_bytes() }.unwrap_or(0);
        let summit = Summit { number, stats, rss, time_ns: sys::clock_realtime_ns() };
        *self.summit.lock() = summit;
        self.trigger.store(exact + (exact >> LG_STEP), Ordering::Relaxed);
    }

    /// In the child of a fork, which goes on from its parent's peak.
    pub fn after_fork(&self) {
        self.busy.give();
        self.summit.after_fork(|summit| *summit = NONE);
    }
}

impl Default for Peak {
    fn default() -> Self {
        Self::new()
    }
}

/// A peak that stays the last one.
#[derive(Debug)]
pub struct Held<'a> {
    peak: &'a Peak,
    /// What was true then.
    pub summit: Summit,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.peak.busy.give();
    }
}
