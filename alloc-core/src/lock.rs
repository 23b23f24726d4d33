//! The heap's mutex: a futex word, the holder's identity, and the data it protects.
//!
//! No lock is taken before a fork (waiting for one there can meet libc's own locks in the other order). Instead the
//! child asks each mutex whether another thread held it, and drops what it protected: see [`Mutex::after_fork`].

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::sys;

/// The order in which locks are taken: a thread that holds one may only take locks of higher rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// Control state (`mallctl`'s epoch and the like).
    Control = 0,
    /// The profiler's dump, one at a time.
    Dump = 1,
    /// The list of threads.
    Threads = 2,
    /// The profiler's shards of live samples.
    Records = 3,
    /// The profiler's stack table and names.
    Stacks = 4,
    /// A bin.
    Bin = 5,
    /// An arena's pages.
    Pages = 6,
    /// The metadata allocator.
    Base = 7,
}

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;
/// Rounds of spinning before a thread sleeps; a critical section of the heap is shorter than a system call.
const SPINS: u32 = 120;

/// A mutual exclusion lock around `T`.
#[derive(Debug)]
pub struct Mutex<T> {
    word: AtomicU32,
    /// Thread pointer of the holder while held; meaningless otherwise.
    holder: AtomicUsize,
    rank: Rank,
    data: UnsafeCell<T>,
}

// SAFETY: the data is only reached through a guard, which one thread holds at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}
// SAFETY: the mutex owns its data.
unsafe impl<T: Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free lock.
    pub const fn new(rank: Rank, data: T) -> Self {
        Mutex { word: AtomicU32::new(FREE), holder: AtomicUsize::new(0), rank, data: UnsafeCell::new(data) }
    }

    /// Waits for the lock.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        // Acquire: pairs with the Release in `Guard::drop`.
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_contended();
        }
        self.taken()
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(self.taken())
    }

    #[inline]
    fn taken(&self) -> Guard<'_, T> {
        // Relaxed: read only by the holder itself and, after a fork, by the only thread left.
        self.holder.store(sys::thread_pointer(), Ordering::Relaxed);
        ranks::took(self.rank);
        Guard { mutex: self }
    }

    #[cold]
    fn lock_contended(&self) {
        for _ in 0..SPINS {
            if self.word.load(Ordering::Relaxed) == FREE
                && self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
            core::hint::spin_loop();
        }
        // Acquire: as in `lock`. From here on the word says that somebody may sleep.
        while self.word.swap(CONTENDED, Ordering::Acquire) != FREE {
            sys::futex_wait(&self.word, CONTENDED);
        }
    }

    /// Whether the calling thread holds the lock.
    pub fn held_by_me(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE && self.holder.load(Ordering::Relaxed) == sys::thread_pointer()
    }

    /// To be called in the child of a fork, its only thread. When another thread of the parent held the lock, its data
    /// may be half changed: `abandon` must bring them to a sound state without following anything in them that the
    /// lock protected; then the lock is free. A lock that the forking thread itself holds (a signal handler that
    /// forks) stays held: its critical section goes on in the child.
    pub fn after_fork(&self, abandon: impl FnOnce(&mut T)) {
        if self.word.load(Ordering::Relaxed) == FREE {
            return;
        }
        if self.held_by_me() {
            self.word.store(HELD, Ordering::Relaxed);
            return;
        }
        // SAFETY: the process has one thread, it doesn't hold the lock, and the holder doesn't exist here.
        abandon(unsafe { &mut *self.data.get() });
        self.word.store(FREE, Ordering::Release);
    }
}

/// Access to the data of a held [`Mutex`].
#[derive(Debug)]
pub struct Guard<'a, T> {
    mutex: &'a Mutex<T>,
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
        ranks::gave(self.mutex.rank);
        // Release: pairs with the Acquire in `lock`.
        if self.mutex.word.swap(FREE, Ordering::Release) == CONTENDED {
            sys::futex_wake(&self.mutex.word, 1);
        }
    }
}

#[cfg(debug_assertions)]
mod ranks {
    //! Which ranks each thread holds, in builds with assertions: a table by thread pointer, no thread-local needed.
    use super::Rank;
    use crate::sys;
    use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

    const SLOTS: usize = 1024;
    static OWNER: [AtomicUsize; SLOTS] = [const { AtomicUsize::new(0) }; SLOTS];
    static HELD: [AtomicU32; SLOTS] = [const { AtomicU32::new(0) }; SLOTS];

    fn slot() -> Option<&'static AtomicU32> {
        let me = sys::thread_pointer();
        let start = me >> 6;
        for probe in 0..SLOTS {
            let i = start.wrapping_add(probe) % SLOTS;
            let owner = OWNER[i].load(Ordering::Relaxed);
            if owner == me
                || (owner == 0 && OWNER[i].compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed).is_ok())
            {
                return Some(&HELD[i]);
            }
        }
        None
    }

    pub(super) fn took(rank: Rank) {
        if let Some(held) = slot() {
            let mask = held.load(Ordering::Relaxed);
            debug_assert!(mask >> (rank as u32) == 0, "lock of rank {rank:?} taken while {mask:#b} are held");
            held.store(mask | 1 << (rank as u32), Ordering::Relaxed);
        }
    }

    pub(super) fn gave(rank: Rank) {
        if let Some(held) = slot() {
            held.store(held.load(Ordering::Relaxed) & !(1 << (rank as u32)), Ordering::Relaxed);
        }
    }
}

#[cfg(not(debug_assertions))]
mod ranks {
    use super::Rank;
    #[inline(always)]
    pub(super) fn took(_: Rank) {}
    #[inline(always)]
    pub(super) fn gave(_: Rank) {}
}
