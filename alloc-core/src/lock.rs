//! The heap's mutex: a futex word, the holder's identity, and the data it protects.
//!
//! No lock is taken before a fork (waiting for one there can meet libc's own locks in the other order). Instead the
//! child asks each mutex whether another thread held it, and drops what it protected: see [`Mutex::after_fork`].

use crate::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use crate::{ranks, sys};

/// The order in which locks are taken: a thread that holds one may only take locks of higher rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// Control state (`mallctl`'s epoch and the like).
    Control = 0,
    /// The profiler's dump, one at a time.
    Dump = 1,
    /// Which caches and which arenas programs have made.
    Made = 2,
    /// The list of threads.
    Threads = 3,
    /// The profiler's shards of live samples.
    Records = 4,
    /// The profiler's stack table and names.
    Stacks = 5,
    /// The giving back of pages inside of an arena's slabs.
    Sparse = 6,
    /// A bin.
    Bin = 7,
    /// The giving back of an arena's pages, one tier at a time.
    Decay = 8,
    /// The growing of an arena.
    Grow = 9,
    /// An arena's pages.
    Pages = 10,
    /// The metadata allocator, and the end of the data segment.
    Base = 11,
}

/// Runs a program's code as if the thread held no lock; see `pages/hooks.rs` for why it can't meet one that it holds.
pub(crate) fn unranked<R>(code: impl FnOnce() -> R) -> R {
    let held = ranks::forget();
    let result = code();
    ranks::remember(held);
    result
}

/// In the child of a fork: the locks that other threads held are not held by threads to come at the same addresses.
pub(crate) fn after_fork() {
    ranks::forget_others();
}

/// Nobody has the lock. Else its word says who does: [`owner`].
const FREE: u32 = 0;
/// In the word beside the owner: somebody may sleep.
const CONTENDED: u32 = 1;

/// The word of a lock that the calling thread has: bits of its thread pointer, which is a multiple of 64. One store takes the
/// lock and says whose it is, so that a signal handler which forks in between finds out.
#[inline]
fn owner() -> u32 {
    (sys::thread_pointer() >> 5) as u32 | 2
}

/// Rounds of spinning before a thread sleeps (`mutex_max_spin`); negative: for ever.
static SPINS: AtomicI64 = AtomicI64::new(600);

/// Sets the rounds of spinning before a thread sleeps, for all locks; negative: for ever.
pub fn set_spins(rounds: i64) {
    SPINS.store(rounds, Ordering::Relaxed);
}

/// What a lock has seen, in jemalloc's terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times that it was taken.
    pub num_ops: u64,
    /// Times that a thread slept for it.
    pub num_wait: u64,
    /// Times that spinning was enough.
    pub num_spin_acq: u64,
    /// Times that it was taken by another thread than before.
    pub num_owner_switch: u64,
    /// Nanoseconds slept.
    pub total_wait_ns: u64,
    /// The longest sleep, in nanoseconds.
    pub max_wait_ns: u64,
    /// Most threads that slept at once.
    pub max_num_thds: u32,
}

impl Counts {
    /// Nothing seen.
    pub const NONE: Counts = Counts {
        num_ops: 0,
        num_wait: 0,
        num_spin_acq: 0,
        num_owner_switch: 0,
        total_wait_ns: 0,
        max_wait_ns: 0,
        max_num_thds: 0,
    };

    /// Adds what another lock has seen; maxima are those of both.
    pub fn merge(&mut self, other: &Counts) {
        self.num_ops += other.num_ops;
        self.num_wait += other.num_wait;
        self.num_spin_acq += other.num_spin_acq;
        self.num_owner_switch += other.num_owner_switch;
        self.total_wait_ns += other.total_wait_ns;
        self.max_wait_ns = self.max_wait_ns.max(other.max_wait_ns);
        self.max_num_thds = self.max_num_thds.max(other.max_num_thds);
    }
}

/// Who took the lock last, and how often it was taken. Written by the holder only.
#[derive(Debug)]
struct Record {
    last: usize,
    num_ops: u64,
}

/// A lock, whatever it protects: one piece of code for all of them. These 32 bytes are what each taking writes; the data
/// follow, so that what they begin with shares the cache line.
#[derive(Debug)]
#[repr(C)]
struct Raw {
    word: AtomicU32,
    rank: Rank,
    /// Thread pointer of the holder, 0 while there is none (and for a moment at its beginning and its end): the word hasn't
    /// room for all of it.
    holder: AtomicUsize,
    record: UnsafeCell<Record>,
}

/// What happens to a lock less often.
#[derive(Debug)]
struct Rest {
    /// Threads that sleep.
    sleepers: AtomicU32,
    /// All but `num_ops`. Written by the holder only.
    counts: UnsafeCell<Counts>,
}

impl Rest {
    const fn new() -> Self {
        Rest { sleepers: AtomicU32::new(0), counts: UnsafeCell::new(Counts::NONE) }
    }
}

impl Raw {
    const fn new(rank: Rank) -> Self {
        Raw {
            word: AtomicU32::new(FREE),
            rank,
            holder: AtomicUsize::new(0),
            record: UnsafeCell::new(Record { last: 0, num_ops: 0 }),
        }
    }

    #[inline]
    fn take(&self) -> bool {
        // Acquire: pairs with the Release in `give`.
        self.word.compare_exchange(FREE, owner(), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Counts that the calling thread has taken the lock, and signs.
    #[inline]
    fn taken(&self, rest: &Rest) {
        let me = sys::thread_pointer();
        // Relaxed: read only by the holder itself and, after a fork, by the only thread left.
        self.holder.store(me, Ordering::Relaxed);
        // SAFETY: this thread has the lock.
        let record = unsafe { &mut *self.record.get() };
        record.num_ops += 1;
        if record.last != me {
            record.last = me;
            // SAFETY: as above.
            unsafe { (*rest.counts.get()).num_owner_switch += 1 };
        }
        ranks::took(self.rank);
    }

    #[inline]
    fn give(&self) {
        ranks::gave(self.rank);
        // Before the lock is free: whoever takes it next must not be mistaken for this thread by `after_fork`.
        self.holder.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire in `take`.
        if self.word.swap(FREE, Ordering::Release) & CONTENDED != 0 {
            sys::futex_wake(&self.word, 1);
        }
    }

    /// Waits for the lock. Every process with threads comes here.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    fn take_contended(&self, rest: &Rest) {
        let spins = SPINS.load(Ordering::Relaxed);
        let mut round = 0;
        while spins < 0 || round < spins {
            if self.word.load(Ordering::Relaxed) == FREE && self.take() {
                // SAFETY: this thread has the lock.
                unsafe { (*rest.counts.get()).num_spin_acq += 1 };
                return;
            }
            core::hint::spin_loop();
            round += 1;
        }
        let sleepers = rest.sleepers.fetch_add(1, Ordering::Relaxed) + 1;
        let start_ns = sys::clock_monotonic_ns();
        // Taken by one who has waited, the lock says that others may be waiting too.
        let mine = owner() | CONTENDED;
        // Acquire: as in `take`.
        while let Err(word) = self.word.compare_exchange(FREE, mine, Ordering::Acquire, Ordering::Relaxed) {
            let waited = word | CONTENDED;
            let is_marked = word == waited
                || self.word.compare_exchange(word, waited, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if is_marked {
                sys::futex_wait(&self.word, waited);
            }
        }
        rest.sleepers.fetch_sub(1, Ordering::Relaxed);
        let wait_ns = sys::clock_monotonic_ns().saturating_sub(start_ns);
        // SAFETY: this thread has the lock.
        let counts = unsafe { &mut *rest.counts.get() };
        counts.num_wait += 1;
        counts.total_wait_ns += wait_ns;
        counts.max_wait_ns = counts.max_wait_ns.max(wait_ns);
        counts.max_num_thds = counts.max_num_thds.max(sleepers);
    }

    fn held_by_me(&self) -> bool {
        let holder = self.holder.load(Ordering::Relaxed);
        self.word.load(Ordering::Relaxed) & !CONTENDED == owner() && (holder == 0 || holder == sys::thread_pointer())
    }
}

/// A mutual exclusion lock around `T`.
#[derive(Debug)]
#[repr(C)]
pub struct Mutex<T> {
    raw: Raw,
    data: UnsafeCell<T>,
    rest: Rest,
}

// SAFETY: the data is only reached through a guard, which one thread holds at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}
// SAFETY: the mutex owns its data.
unsafe impl<T: Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free lock.
    pub const fn new(rank: Rank, data: T) -> Self {
        Mutex { raw: Raw::new(rank), data: UnsafeCell::new(data), rest: Rest::new() }
    }

    /// Makes a free lock in place, where all bytes are zero; returns where the data goes.
    ///
    /// # Safety
    /// `place` is the caller's, zeroed; nobody uses the lock before the data is a value of its type.
    pub unsafe fn begin(place: *mut Self, rank: Rank) -> *mut T {
        // All else is zero in a free lock that has counted nothing.
        const { assert!(FREE == 0) };
        // SAFETY: fields of the caller's place.
        unsafe {
            (&raw mut (*place).raw.rank).write(rank);
            UnsafeCell::raw_get(&raw const (*place).data)
        }
    }

    /// Waits for the lock.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        if !self.raw.take() {
            self.raw.take_contended(&self.rest);
        }
        self.raw.taken(&self.rest);
        Guard { mutex: self }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.raw.take().then(|| {
            self.raw.taken(&self.rest);
            Guard { mutex: self }
        })
    }

    /// What the lock has seen, the taking of it for this question included.
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// Starts counting afresh.
    pub fn reset_counts(&self) {
        let _guard = self.lock();
        // SAFETY: this thread has the lock while the guard lives.
        unsafe {
            (*self.raw.record.get()).num_ops = 0;
            *self.rest.counts.get() = Counts::NONE;
        }
    }

    /// Whether the calling thread holds the lock.
    pub fn held_by_me(&self) -> bool {
        self.raw.held_by_me()
    }

    /// To be called in the child of a fork, its only thread. When another thread of the parent held the lock, its data
    /// may be half changed: `abandon` must bring them to a sound state without following anything in them that the
    /// lock protected; then the lock is free. A lock that the forking thread itself holds (a signal handler that
    /// forks) stays held: its critical section goes on in the child.
    pub fn after_fork(&self, abandon: impl FnOnce(&mut T)) {
        let raw = &self.raw;
        self.rest.sleepers.store(0, Ordering::Relaxed);
        if raw.word.load(Ordering::Relaxed) == FREE {
            return;
        }
        if raw.held_by_me() {
            raw.word.store(owner(), Ordering::Relaxed);
            return;
        }
        // SAFETY: the process has one thread, it doesn't hold the lock, and the holder doesn't exist here.
        abandon(unsafe { &mut *self.data.get() });
        raw.holder.store(0, Ordering::Relaxed);
        raw.word.store(FREE, Ordering::Release);
    }
}

/// Access to the data of a held [`Mutex`].
#[derive(Debug)]
pub struct Guard<'a, T> {
    mutex: &'a Mutex<T>,
}

impl<T> Guard<'_, T> {
    /// What the lock has seen.
    pub fn counts(&self) -> Counts {
        // SAFETY: the guard's existence means that this thread holds the lock.
        unsafe { Counts { num_ops: (*self.mutex.raw.record.get()).num_ops, ..*self.mutex.rest.counts.get() } }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard's existence means that this thread holds the lock.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed mutably.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.raw.give();
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::time::Duration;

    #[test]
    fn counts_what_it_sees() {
        static LOCK: Mutex<u32> = Mutex::new(Rank::Base, 0);
        for _ in 0..3 {
            *LOCK.lock() += 1;
        }
        assert_eq!((LOCK.counts().num_ops, LOCK.counts().num_owner_switch), (4, 1));
        let held = LOCK.lock();
        let others: std::vec::Vec<_> = (0..2).map(|_| std::thread::spawn(|| *LOCK.lock() += 1)).collect();
        // Until both sleep.
        while LOCK.rest.sleepers.load(Ordering::Relaxed) < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20));
        drop(held);
        others.into_iter().for_each(|other| other.join().unwrap());
        let counts = LOCK.counts();
        assert_eq!((*LOCK.lock(), counts.num_ops, counts.num_wait, counts.max_num_thds), (5, 9, 2, 2));
        // The main thread, the others, the main thread.
        assert_eq!(counts.num_owner_switch, 4);
        assert!(counts.max_wait_ns >= 10_000_000 && counts.total_wait_ns >= 2 * 10_000_000, "{counts:?}");
        LOCK.reset_counts();
        assert_eq!(LOCK.counts().num_ops, 1);
    }

    #[test]
    fn a_child_keeps_its_own_locks_and_frees_those_of_others() {
        let mutex = Mutex::new(Rank::Control, 1);
        drop(mutex.lock());
        // Another thread has taken the lock and not signed it yet; the last one to hold it was this one.
        mutex.raw.word.store(owner() ^ 64, Ordering::Relaxed);
        assert!(!mutex.held_by_me());
        mutex.after_fork(|data| *data = 2);
        assert_eq!(mutex.try_lock().as_deref(), Some(&2));

        let held = mutex.lock();
        mutex.after_fork(|data| *data = 3);
        assert!(mutex.held_by_me() && mutex.try_lock().is_none());
        drop(held);
        assert_eq!(*mutex.lock(), 2);

        // This thread has taken the lock just now, or is about to free it, and a signal handler forks.
        mutex.raw.word.store(owner() | CONTENDED, Ordering::Relaxed);
        mutex.after_fork(|data| *data = 4);
        assert!(mutex.try_lock().is_none());
        mutex.raw.give();
        assert_eq!(*mutex.lock(), 2);
    }
}
