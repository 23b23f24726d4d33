//! The moment at which the program held the most memory.
//!
//! Whenever threads take a sample or free one, they add up by how much what they have allocated less what they have freed
//! has risen. What has fallen isn't taken off: a thread that only frees may be sampled, and those whose blocks it frees
//! not. So the exact sum is at most by that rise above what it was at the last look, but for what each thread does until
//! its next sample. Once the rise could have led past the last peak by a 64th, the exact sum is taken again; if it has,
//! a new peak begins. Records and buckets note which peak they are before or after (see `records` and `buckets`), so
//! that finding one copies nothing.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use alloc_core::Stats;
use alloc_core::lock::{Mutex, Rank};
use alloc_core::sys::{self, sandbox};

use crate::busy::Busy;
use crate::{HEAP, memory};

/// By how much memory must grow for a new peak: a 64th, 1.6 %. With what is between two looks it stays below 2 % for
/// heaps that are large compared with the sample interval.
const LG_STEP: u32 = 6;
/// A look isn't repeated before another 512th.
const LG_PAUSE: u32 = 9;
/// Where looks find no peak, one after the other, they are further and further apart: by this number of ticks of the processor
/// (some 40 microseconds) at first, and for each thread in the end. A look takes about a hundredth of that.
const LG_APART: u32 = 17;
/// However close together they are, there is one when threads have risen by so much each, on the average: what rose by that
/// has taken them longer than the look does.
const LG_RISEN: u32 = 15;

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
    /// Bytes by which threads have risen since the last look.
    risen: AtomicU64,
    /// How many call for the next one; 0: it is due.
    room: AtomicU64,
    /// When the last one was, in ticks.
    looked: AtomicU64,
    /// How many ticks after that the next one may be.
    apart: AtomicU64,
    /// How many bytes call for it before.
    pressing: AtomicU64,
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
            risen: AtomicU64::new(0),
            room: AtomicU64::new(0),
            looked: AtomicU64::new(0),
            apart: AtomicU64::new(0),
            pressing: AtomicU64::new(0),
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
        self.look_soon();
    }

    /// Has the exact sum taken at the next sample: it may have changed by more than threads tell.
    pub fn look_soon(&self) {
        self.room.store(0, Ordering::Relaxed);
        self.apart.store(0, Ordering::Relaxed);
    }

    /// The last peak, if there was one; no new one begins while the result lives.
    pub fn hold(&self) -> Option<Held<'_>> {
        while !self.busy.take() {
            sys::yield_now();
        }
        let held = Held { peak: self, summit: *self.summit.lock() };
        (held.summit.number > 0).then_some(held)
    }

    /// Adds by how much the calling thread has risen since it was last here, and looks for a peak.
    #[inline]
    pub fn account(&self) {
        if self.is_on() {
            self.add();
        }
    }

    fn add(&self) {
        let rise = HEAP.tell_balance().max(0).unsigned_abs();
        let risen = match rise {
            // Most frees: nothing to be written.
            0 => self.risen.load(Ordering::Relaxed),
            rise => self.risen.fetch_add(rise, Ordering::Relaxed) + rise,
        };
        let room = self.room.load(Ordering::Relaxed);
        // A block that is as large as that may be all that the peak consists of.
        if risen >= room && (rise >= room || self.may_look(risen)) && self.busy.take() {
            self.look();
            self.busy.give();
        }
    }

    fn may_look(&self, risen: u64) -> bool {
        let apart = self.apart.load(Ordering::Relaxed);
        apart == 0
            || risen >= self.pressing.load(Ordering::Relaxed)
            || sys::ticks().wrapping_sub(self.looked.load(Ordering::Relaxed)) >= apart
    }

    /// Takes the exact sum; begins a new peak if it is one.
    #[cold]
    fn look(&self) {
        // Before the sum is taken: what threads tell meanwhile may not be in it.
        self.risen.store(0, Ordering::Relaxed);
        let (allocated, threads) = HEAP.tell_balances();
        let exact = allocated as u64;
        self.maximum.fetch_max(exact, Ordering::Relaxed);
        let last = self.summit.lock().stats.allocated as u64;
        let found = exact > last + (last >> LG_STEP);
        let highest = if found { exact } else { last };
        let wanted = highest + (highest >> LG_STEP);
        let apart = match self.apart.load(Ordering::Relaxed) {
            _ if found => 0,
            before => (before * 2).max(1 << LG_APART).min((threads as u64) << LG_APART),
        };
        self.looked.store(sys::ticks(), Ordering::Relaxed);
        self.apart.store(apart, Ordering::Relaxed);
        self.pressing.store((threads as u64) << LG_RISEN, Ordering::Relaxed);
        self.room.store((wanted - exact).max(wanted >> LG_PAUSE), Ordering::Relaxed);
        if self.summit.lock().stats.allocated as u64 != last {
            // The profile was reset meanwhile: the room is that of a peak that is forgotten.
            self.look_soon();
        }
        if !found {
            return;
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let mut stats = HEAP.stats();
        stats.allocated = allocated;
        // Not told where it can't be asked for.
        let rss = if sandbox::in_sandbox() { None } else { memory::resident_bytes() }.unwrap_or(0);
        let summit = Summit { number, stats, rss, time_ns: sys::clock_realtime_ns() };
        *self.summit.lock() = summit;
    }

    /// In the child of a fork, which goes on from its parent's peak.
    pub fn after_fork(&self) {
        self.busy.give();
        self.summit.after_fork(|summit| *summit = NONE);
        self.look_soon();
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
