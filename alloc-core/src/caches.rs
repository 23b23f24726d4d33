//! Thread caches that programs make (`tcache.create`, `MALLOCX_TCACHE`), and the settings of automatic ones.
//!
//! A cache of a program's own has the layout of a thread's, so that the same paths fill and flush it. The program sees
//! to it that no two threads use one at a time.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::heap::{Heap, TcacheChoice};
use crate::lock::{Mutex, Rank};
use crate::observer::Observer;
use crate::size::NCLASSES;
use crate::thread::{Thread, state_bytes};

/// Caches that there may be at once: what the flags of `mallocx` have room for.
pub const CACHES_MAX: usize = (1 << 12) - 2;

type Slots = [AtomicPtr<Thread>; CACHES_MAX];

#[derive(Debug)]
struct Inner {
    /// States without a use, linked by `next`.
    unused: *mut Thread,
}

// SAFETY: the states in the list belong to nobody; the lock protects the list.
unsafe impl Send for Inner {}

/// All caches of programs' own.
#[derive(Debug)]
pub(crate) struct Caches {
    slots: AtomicPtr<Slots>,
    /// One more than the highest index ever used.
    bound: AtomicU32,
    inner: Mutex<Inner>,
}

impl Caches {
    pub(crate) const fn new() -> Self {
        Caches {
            slots: AtomicPtr::new(null_mut()),
            bound: AtomicU32::new(0),
            inner: Mutex::new(Rank::Made, Inner { unused: null_mut() }),
        }
    }

    fn slots(&self) -> &[AtomicPtr<Thread>] {
        let slots = self.slots.load(Ordering::Acquire);
        // SAFETY: the table reads as zeros, null pointers, and is never given back.
        if slots.is_null() { &[] } else { unsafe { &*slots } }
    }

    /// The cache at an index, null when there is none.
    #[inline]
    fn get(&self, index: u32) -> *mut Thread {
        self.slots().get(index as usize).map_or(null_mut(), |slot| slot.load(Ordering::Acquire))
    }

    pub(crate) fn after_fork(&self) {
        // A cache that was on its way in or out of the list is lost to it.
        self.inner.after_fork(|inner| inner.unused = null_mut());
    }

    /// Calls `f` with each cache; a moment's picture for statistics.
    pub(crate) fn for_each(&self, mut f: impl FnMut(*mut Thread)) {
        let _inner = self.inner.lock();
        let bound = self.bound.load(Ordering::Relaxed) as usize;
        for slot in self.slots().iter().take(bound) {
            let cache = slot.load(Ordering::Acquire);
            if !cache.is_null() {
                f(cache);
            }
        }
    }
}

impl<O: Observer> Heap<O> {
    /// The cache that a request uses: the thread's, one of the program's own, or null.
    #[inline]
    pub(crate) fn cache_of(&'static self, thread: *mut Thread, choice: TcacheChoice) -> *mut Thread {
        match choice {
            // SAFETY: the calling thread's state.
            TcacheChoice::Automatic if unsafe { (*thread).caching } => thread,
            // Where everything is checked, nothing is cached.
            TcacheChoice::Explicit(index) if !self.options().safety_check => self.core.caches.get(index),
            _ => null_mut(),
        }
    }

    /// Makes a cache; its index, `None` when there is no memory or no index left.
    pub fn create_cache(&'static self) -> Option<u32> {
        let options = self.options();
        let caches = &self.core.caches;
        let mut inner = caches.inner.lock();
        if caches.slots.load(Ordering::Relaxed).is_null() {
            let slots = self.core.shared.allocate_metadata(core::mem::size_of::<Slots>(), 64)?;
            caches.slots.store(slots.cast(), Ordering::Release);
        }
        let index = caches.slots().iter().position(|slot| slot.load(Ordering::Relaxed).is_null())?;
        let memory = if inner.unused.is_null() {
            self.core.shared.allocate_metadata(state_bytes(options), 64)?
        } else {
            let unused = inner.unused;
            // SAFETY: the list holds states without a use.
            inner.unused = unsafe { (*unused).next };
            unused.cast()
        };
        // SAFETY: fresh memory or a former state, of the right size and alignment.
        let cache = unsafe { Thread::lay_out(memory, options, self.core.shared.map.flat()) };
        // SAFETY: nobody else knows the cache yet.
        unsafe { (*cache).set_caching(true) };
        caches.slots()[index].store(cache, Ordering::Release);
        caches.bound.fetch_max(index as u32 + 1, Ordering::Relaxed);
        Some(index as u32)
    }

    /// Empties a cache; nothing happens when there is no such one.
    ///
    /// # Safety
    /// No other thread uses that cache meanwhile.
    pub unsafe fn flush_cache(&'static self, index: u32) {
        let cache = self.core.caches.get(index);
        if !cache.is_null() {
            let thread = self.thread();
            for class in 1..=NCLASSES {
                // SAFETY: the cache is this thread's for now, by the caller's promise.
                unsafe { self.flush(thread, cache, class, 0) };
            }
        }
    }

    /// Empties a cache and gives up its index; nothing happens when there is no such one.
    ///
    /// # Safety
    /// No other thread uses that cache meanwhile, and nobody afterwards.
    pub unsafe fn destroy_cache(&'static self, index: u32) {
        // SAFETY: the caller's promise; the calling thread's own state.
        unsafe {
            self.flush_cache(index);
            let (cache, arena) = (self.core.caches.get(index), (*self.thread()).arena);
            if !cache.is_null() {
                (1..=NCLASSES).for_each(|class| Self::tell_requests(cache, class, arena));
            }
        }
        let mut inner = self.core.caches.inner.lock();
        let Some(slot) = self.core.caches.slots().get(index as usize) else { return };
        let cache = slot.swap(null_mut(), Ordering::AcqRel);
        if !cache.is_null() {
            // SAFETY: nobody can find the cache any more.
            unsafe { (*cache).next = inner.unused };
            inner.unused = cache;
        }
    }

    /// Allocations by class out of caches of programs' own that no bin has been told of yet, and the bytes in them.
    pub(crate) fn explicit_cache_stats(&'static self, requests: &mut [u64; NCLASSES + 1]) -> usize {
        let mut bytes = 0;
        self.core.caches.for_each(|cache| {
            // SAFETY: states are never unmapped; counters are read as such.
            unsafe {
                for (class, sum) in requests.iter_mut().enumerate().skip(1) {
                    *sum += (*cache).untold_by_anybody(class);
                }
                bytes += (*cache).cached_bytes();
            }
        });
        bytes
    }
}
