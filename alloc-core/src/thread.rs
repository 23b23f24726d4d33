//! What a thread keeps for itself: its caches, its counters, its countdown to the next sample.
//!
//! A cache is a stack of block addresses for each class, in an array. Below the first slot lies a null pointer, so
//! popping needs no bound; pushing compares with the last slot. Only the thread itself touches its state, but for its
//! counters, which statistics read.

use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicI8, AtomicU64, Ordering};

use crate::arena::Arena;
use crate::conf::{Options, UNSET};
use crate::events::Events;
use crate::observer::ThreadSlot;
use crate::pagemap::{NO_MAP, NO_MAP_SHIFT};
use crate::size::{self, NBINS, NHBINS};

const CLASSES: usize = NHBINS + 1;

/// What kind of state a thread has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The thread has not allocated yet; the shared empty state.
    Empty,
    /// A state of its own.
    Live,
    /// The thread is ending and its caches are gone; the shared dead state.
    Dead,
}

/// The state of a thread.
#[repr(C)]
pub struct Thread {
    /// Copy of the page map's flat array and shift, for frees.
    pub(crate) map: *const AtomicI8,
    pub(crate) map_shift: usize,
    /// Bytes of usable size until the next sample.
    pub(crate) countdown: u64,
    /// Bytes of usable size ever allocated by the thread.
    pub(crate) allocated: u64,
    /// Bytes of usable size ever freed by the thread.
    pub(crate) deallocated: u64,
    /// The topmost block by class; a null pointer lies below the first.
    pub(crate) top: [*mut *mut u8; CLASSES],
    /// The last slot by class.
    pub(crate) last: [*mut *mut u8; CLASSES],
    /// Copy of [`size::SIZES`], reached from the register that holds the state.
    pub(crate) sizes: [u32; CLASSES],
    /// Copy of [`size::TABLE`].
    pub(crate) table: [u8; size::TABLE.len()],
    pub(crate) kind: Kind,
    /// Above 0 while the thread is inside of an observer or suppressed: nothing is sampled.
    pub(crate) depth: u32,
    /// Slow operations until the next look at the arena's decay.
    pub(crate) ticks: u32,
    /// Whether blocks are cached at all.
    pub(crate) caching: bool,
    pub(crate) arena: Option<&'static Arena>,
    /// The slot below the first, by class.
    pub(crate) bottom: [*mut *mut u8; CLASSES],
    /// What a fill asks for is `capacity >> fill_shift`: fewer for classes that are rarely used.
    pub(crate) fill_shift: [u8; CLASSES],
    /// Allocations by class that no bin has been told of yet.
    pub(crate) requests: [u64; CLASSES],
    pub(crate) events: Events,
    pub(crate) slot: ThreadSlot,
    /// Links in the list of threads (or of unused states). Threads lock.
    pub(crate) next: *mut Thread,
    pub(crate) previous: *mut Thread,
}

impl core::fmt::Debug for Thread {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Thread").field("uid", &self.slot.uid).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A shared state whose fields the fast paths only read.
#[repr(transparent)]
#[derive(Debug)]
pub struct SharedThread(UnsafeCell<Thread>);

// SAFETY: all caches of a shared state are empty and full at once, so the fast paths fall through without a write, and
// the slow paths check `kind` before they write.
unsafe impl Sync for SharedThread {}

/// What lies below the first slot of a cache that has none: nothing to pop, no room to push.
#[repr(transparent)]
struct NoSlot(UnsafeCell<*mut u8>);
// SAFETY: never written: `top == last` for every cache that uses it.
unsafe impl Sync for NoSlot {}
static NO_SLOT: NoSlot = NoSlot(UnsafeCell::new(null_mut()));

const fn shared(kind: Kind) -> SharedThread {
    let none = (&raw const NO_SLOT).cast_mut().cast::<*mut u8>();
    SharedThread(UnsafeCell::new(Thread {
        map: &raw const NO_MAP,
        map_shift: NO_MAP_SHIFT,
        countdown: 0,
        allocated: 0,
        deallocated: 0,
        top: [none; CLASSES],
        last: [none; CLASSES],
        sizes: [0; CLASSES],
        table: [0; size::TABLE.len()],
        kind,
        depth: 0,
        ticks: 0,
        caching: false,
        arena: None,
        bottom: [none; CLASSES],
        fill_shift: [0; CLASSES],
        requests: [0; CLASSES],
        events: Events::NONE,
        slot: ThreadSlot { uid: 0, words: [0; 7] },
        next: null_mut(),
        previous: null_mut(),
    }))
}

/// The state of threads that have not allocated yet.
pub static EMPTY: SharedThread = shared(Kind::Empty);
/// The state of threads that are ending.
pub static DEAD: SharedThread = shared(Kind::Dead);
/// The state of threads while they run an extent hook.
pub static HOOKED: SharedThread = shared(Kind::Dead);

impl SharedThread {
    /// The state as the slot holds it.
    pub fn as_thread(&self) -> *mut Thread {
        self.0.get()
    }
}

/// Slots of the cache of `class` under `options`: jemalloc's rule, twice the regions of a slab within bounds.
pub fn capacity(class: usize, options: &Options) -> usize {
    if size::class_bytes(class) > options.tcache_max.min(size::CACHED_MAX) {
        return 0;
    }
    if options.tcache_ncached_max[class] != UNSET {
        return options.tcache_ncached_max[class] as usize;
    }
    if class > NBINS {
        return options.tcache_nslots_large as usize;
    }
    let regions = size::regions(class);
    let mul = options.lg_tcache_nslots_mul;
    let wanted = if mul >= 0 { regions.checked_shl(mul as u32).unwrap_or(usize::MAX) } else { regions >> -mul.max(-16) };
    let (low, high) = (options.tcache_nslots_small_min as usize, options.tcache_nslots_small_max as usize);
    // Even, so that half of it is a whole number.
    (wanted.clamp(low.min(high).max(2), high.max(2)) + 1) & !1
}

/// Bytes of a thread state with its caches.
pub fn state_bytes(options: &Options) -> usize {
    let slots: usize = (1..=NHBINS).map(|class| capacity(class, options) + 1).sum();
    core::mem::size_of::<Thread>().next_multiple_of(64) + slots * core::mem::size_of::<*mut u8>()
}

impl Thread {
    /// Lays out a fresh state with empty caches at `memory`.
    ///
    /// # Safety
    /// `memory` is the caller's, zeroed or a former state, of [`state_bytes`] bytes, aligned to 64.
    pub(crate) unsafe fn lay_out(memory: *mut u8, options: &Options, map: (*const AtomicI8, usize)) -> *mut Thread {
        let thread = memory.cast::<Thread>();
        // SAFETY: the caller provides the memory; the static states are never written, so reading EMPTY is a plain
        // copy.
        unsafe {
            thread.copy_from_nonoverlapping(EMPTY.as_thread(), 1);
            (*thread).kind = Kind::Live;
            // Only the slow paths fill and check blocks. Where that is wanted, the fast ones find nothing: the empty state's
            // table has no class, its map no slab.
            if !(options.junk_free || options.safety_check) {
                (*thread).map = map.0;
                (*thread).map_shift = map.1;
            }
            (*thread).sizes = size::SIZES;
            if !(options.zero || options.junk_alloc) {
                (*thread).table = size::TABLE;
            }
            (*thread).caching = options.tcache;
            let mut slot = memory.add(core::mem::size_of::<Thread>().next_multiple_of(64)).cast::<*mut u8>();
            for class in 1..=NHBINS {
                let slots = capacity(class, options);
                slot.write(null_mut());
                (*thread).bottom[class] = slot;
                (*thread).top[class] = slot;
                (*thread).last[class] = if options.tcache { slot.add(slots) } else { slot };
                (*thread).fill_shift[class] = 1;
                slot = slot.add(slots + 1);
            }
        }
        thread
    }

    /// Switches the cache, which must be empty, on or off.
    ///
    /// # Safety
    /// `thread` is the caller's, laid out under the same options.
    pub(crate) unsafe fn set_caching(thread: *mut Thread, on: bool, options: &Options) {
        // SAFETY: the array of each class has room for its capacity.
        unsafe {
            (*thread).caching = on;
            for class in 1..=NHBINS {
                let slots = if on { capacity(class, options) } else { 0 };
                (*thread).last[class] = (*thread).bottom[class].add(slots);
            }
        }
    }

    /// Requests of `class` that were served since this was asked last.
    #[inline]
    pub(crate) fn take_requests(&mut self, class: usize) -> u64 {
        core::mem::take(&mut self.requests[class])
    }

    /// Blocks in the cache of `class`.
    #[inline]
    pub(crate) fn cached(&self, class: usize) -> usize {
        // SAFETY: both point into the same array.
        unsafe { self.top[class].offset_from_unsigned(self.bottom[class]) }
    }

    /// Slots of the cache of `class`.
    #[inline]
    pub(crate) fn capacity(&self, class: usize) -> usize {
        // SAFETY: both point into the same array.
        unsafe { self.last[class].offset_from_unsigned(self.bottom[class]) }
    }

    /// Takes the topmost block; null when the cache is empty.
    #[inline(always)]
    pub(crate) fn pop(&mut self, class: usize) -> *mut u8 {
        let top = self.top[class];
        // SAFETY: `top` points at a slot or at the null below the first.
        unsafe {
            let block = *top;
            if !block.is_null() {
                self.top[class] = top.sub(1);
            }
            block
        }
    }

    /// Puts a block on the cache. `false`: it is full.
    #[inline(always)]
    pub(crate) fn push(&mut self, class: usize, block: *mut u8) -> bool {
        let top = self.top[class];
        if top == self.last[class] {
            return false;
        }
        // SAFETY: `top` is below the last slot.
        unsafe {
            let top = top.add(1);
            *top = block;
            self.top[class] = top;
        }
        true
    }

    /// Blocks in the cache of `class`, as another thread may ask: a moment's picture.
    pub(crate) fn cached_by_anybody(&self, class: usize) -> usize {
        self.top[class].addr().saturating_sub(self.bottom[class].addr()) / core::mem::size_of::<*mut u8>()
    }

    /// Bytes in the caches, as another thread may ask: a moment's picture.
    pub(crate) fn cached_bytes(&self) -> usize {
        (1..=NHBINS).map(|class| self.cached_by_anybody(class) * size::class_bytes(class)).sum()
    }

    /// Adds to a counter that other threads read; only its own thread writes it.
    #[inline(always)]
    pub(crate) fn add(counter: &mut u64, bytes: usize) {
        *counter = counter.wrapping_add(bytes as u64);
    }
}

/// Reads a counter of another thread.
///
/// # Safety
/// `counter` is a field of a state that is in the list of threads, whose lock the caller holds.
pub(crate) unsafe fn read_counter(counter: *mut u64) -> u64 {
    // SAFETY: aligned and alive. The owner's plain 8-byte stores are single on this architecture.
    unsafe { AtomicU64::from_ptr(counter) }.load(Ordering::Relaxed)
}

const _: () = assert!(core::mem::align_of::<Thread>() <= 64);
