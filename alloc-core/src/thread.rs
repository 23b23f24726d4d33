//! What a thread keeps for itself: its caches, its counters, its countdown to the next sample.
//!
//! A cache is a stack of block addresses for each class, in an array. Below the first slot lies [`NO_BLOCK`], so popping
//! needs no bound; pushing compares with the last slot. Only the thread itself touches its state, but for its counters,
//! which statistics read.
//!
//! [`NO_BLOCK`] is an address that no block has, since it is odd, and not null: one test tells it and the unaligned
//! addresses that wrong frees put on a cache from a block, so that these don't come out of it again.
//!
//! What of a cache is not needed is found by a mark: now and then the block in the middle of the stack is taken out of
//! its slot, which then holds [`NO_BLOCK`] like the place below the first. A thread that pops down to it comes to the slow
//! path, which puts the block back; if the mark is still there at the next look, the lower half was not used meanwhile
//! and goes back to its slabs. Then the topmost block is the mark: if it is still there at the look after that, nothing of
//! the class was used, and all of it goes. The fast paths know nothing of this.

mod places;
mod slots;

use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicI8, AtomicI64, AtomicU64, Ordering};

use crate::arena::Arena;
use crate::conf::Options;
use crate::events::Events;
use crate::limits::OwnLimits;
use crate::observer::ThreadSlot;
use crate::pagemap::{NO_MAP_SHIFT, no_map};
use crate::size::{self, PLACES, SIZES_CONST};
use crate::wrong::{Kind as Fault, Wrong};

pub(crate) use places::{foreign_slots, places};
pub use slots::state_bytes;
pub(crate) use slots::{SHARE_MOST, cache_share, class_share, share_of};

/// What slots without a block hold.
pub(crate) const NO_BLOCK: *mut u8 = core::ptr::without_provenance_mut(1);

/// Whether what a slot holds may be a block: the smallest alignment of a block is 8.
#[inline(always)]
pub(crate) fn is_block(held: *mut u8) -> bool {
    held.addr() & 7 == 0
}

/// Classes of requests above [`size::TABLE_MAX`], one for each KiB up to [`size::CLASS_MAX`].
const LARGE_TABLE_LEN: usize = (size::CLASS_MAX >> 10) + 1;

const fn make_large_table() -> [u8; LARGE_TABLE_LEN] {
    let mut table = [0u8; LARGE_TABLE_LEN];
    let mut class = 1usize;
    let mut i = 0;
    while i < LARGE_TABLE_LEN {
        while (SIZES_CONST[class] as usize) < i << 10 {
            class += 1;
        }
        table[i] = class as u8;
        i += 1;
    }
    table
}

static LARGE_TABLE: [u8; LARGE_TABLE_LEN] = make_large_table();

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
    /// The page map's flat array, for marking large blocks as in use; null where there is none.
    pub(crate) marks: *const AtomicI8,
    /// Bytes of usable size until the next sample.
    pub(crate) countdown: u64,
    /// Bytes of usable size ever allocated by the thread.
    pub(crate) allocated: u64,
    /// Bytes of usable size ever freed by the thread other than into its caches: see [`Thread::deallocated`].
    pub(crate) freed_elsewhere: u64,
    /// The topmost block by place; [`NO_BLOCK`] lies below the first.
    pub(crate) top: [*mut *mut u8; PLACES],
    /// The last slot by place.
    pub(crate) last: [*mut *mut u8; PLACES],
    /// Copy of [`size::SIZES`], reached from the register that holds the state.
    pub(crate) sizes: [u32; PLACES],
    /// Blocks ever put on a cache by a free, by place.
    pub(crate) frees: [u64; PLACES],
    /// Copy of [`size::TABLE`], with the places from which the thread allocates.
    pub(crate) table: [u8; size::TABLE.len()],
    /// Such places by KiB, rounded up, for larger requests.
    pub(crate) large_table: [u8; LARGE_TABLE_LEN],
    /// The observer's words, in a cache line. The next one has what slow paths and samples look at.
    pub(crate) slot: ThreadSlot,
    pub(crate) kind: Kind,
    /// Whether blocks are cached at all.
    pub(crate) caching: bool,
    /// Whether the thread allocates from the second places of slab classes, as its arena has an odd number.
    is_odd: bool,
    /// Whether the program looks at `freed_shown`, so that every free must count there.
    pub(crate) shows_frees: bool,
    /// Above 0 while the thread is inside of an observer or suppressed: nothing is sampled.
    pub(crate) depth: u32,
    /// Slow operations until the next look at the arena's decay.
    pub(crate) ticks: u32,
    pub(crate) arena: Option<&'static Arena>,
    /// The growths of the process after which the thread has emptied its caches.
    pub(crate) growths: usize,
    pub(crate) events: Events,
    /// The slot below the first, by place; [`no_slot`] until the cache is opened.
    pub(crate) bottom: [*mut *mut u8; PLACES],
    /// Where that slot is of a place whose cache is open.
    start: [*mut *mut u8; PLACES],
    /// When the caches were last looked through, in ticks of the processor.
    pub(crate) looked_through: u64,
    /// Whether that is going on: giving blocks back may come to ask for it again.
    pub(crate) is_looking: bool,
    /// Overflows until narrow caches become wide again; 0: they are.
    narrow: u16,
    /// Bytes for which the caches of whole pages have slots.
    large_room: usize,
    /// The class from which slots without a block were taken last.
    slots_from: usize,
    /// Bytes for which the caches of slab classes have slots beyond their first capacity.
    grown_room: usize,
    /// What a slab class may hold before it grows, in bytes.
    pub(crate) class_share: usize,
    /// What the next fill asks for: few at first and for classes that are rarely used.
    fill_next: [u16; PLACES],
    /// Slots that a place starts with.
    slots: [u16; PLACES],
    /// Slots that it can have.
    slots_max: [u16; PLACES],
    /// Limits that the program has set for this thread; null as long as it has not, and the ones of a thread that had the
    /// state before are there to be used again.
    pub(crate) own_limits: *mut OwnLimits,
    /// Whether they hold.
    pub(crate) has_own_limits: bool,
    /// The slot whose block was taken out, counted from `bottom`; 0: none.
    mark: [u16; PLACES],
    /// That block.
    marked: [*mut u8; PLACES],
    /// Places of which the thread has freed a block while it had no cache for it.
    freed: [bool; PLACES],
    /// How often a cache has overflowed since it was last filled, by place, and how often others had filled theirs when that
    /// was looked at last.
    overflows: [u8; PLACES],
    fills: [u8; PLACES],
    /// Blocks by place that fills brought less those that flushes took, less the requests that a bin has been told of:
    /// with `frees`, and less what is cached, these are the requests that no bin has been told of yet.
    pub(crate) inflow: [u64; PLACES],
    /// Bytes of usable size ever freed by the thread, once the program has asked where they are counted.
    pub(crate) freed_shown: u64,
    /// The balance that was told last, by the thread or by who sums all up: see [`crate::heap::Heap::tell_balance`].
    pub(crate) told: AtomicI64,
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
static NO_SLOT: NoSlot = NoSlot(UnsafeCell::new(NO_BLOCK));

/// The place below the first slot of a cache that has none. Threads use few of the classes: the slots of one are not
/// touched before it has its first block.
const fn no_slot() -> *mut *mut u8 {
    (&raw const NO_SLOT).cast_mut().cast()
}

/// The table and the map of a shared state give class 0 only. Pointers for the other classes would each be one more for the
/// loader to adjust, in every process that starts.
const fn only_first(slot: *mut *mut u8) -> [*mut *mut u8; PLACES] {
    let mut slots = [null_mut(); PLACES];
    slots[0] = slot;
    slots
}

const fn shared(kind: Kind) -> SharedThread {
    let none = no_slot();
    SharedThread(UnsafeCell::new(Thread {
        map: no_map(),
        map_shift: NO_MAP_SHIFT,
        marks: core::ptr::null(),
        countdown: 0,
        allocated: 0,
        freed_elsewhere: 0,
        top: only_first(none),
        last: only_first(none),
        sizes: [0; PLACES],
        frees: [0; PLACES],
        table: [0; size::TABLE.len()],
        large_table: [0; LARGE_TABLE_LEN],
        kind,
        depth: 0,
        ticks: 0,
        growths: 0,
        caching: false,
        arena: None,
        is_odd: false,
        bottom: [null_mut(); PLACES],
        start: [null_mut(); PLACES],
        looked_through: 0,
        is_looking: false,
        narrow: 0,
        large_room: 0,
        slots_from: 0,
        grown_room: 0,
        class_share: usize::MAX,
        fill_next: [0; PLACES],
        slots: [0; PLACES],
        slots_max: [0; PLACES],
        own_limits: null_mut(),
        has_own_limits: false,
        mark: [0; PLACES],
        freed: [false; PLACES],
        overflows: [0; PLACES],
        fills: [0; PLACES],
        marked: [null_mut(); PLACES],
        inflow: [0; PLACES],
        shows_frees: false,
        freed_shown: 0,
        told: AtomicI64::new(0),
        events: Events::NONE,
        slot: ThreadSlot { uid: 0, words: [0; 7] },
        next: null_mut(),
        previous: null_mut(),
    }))
}

/// The state of threads that have not allocated yet.
pub static EMPTY: SharedThread = shared(Kind::Empty);
/// The state of threads that are ending, and of those that run an extent hook.
pub static DEAD: SharedThread = shared(Kind::Dead);

impl SharedThread {
    /// The state as the slot holds it.
    pub fn as_thread(&self) -> *mut Thread {
        self.0.get()
    }
}

impl Thread {
    /// Lays out a fresh state with empty caches at `memory`.
    ///
    /// # Safety
    /// `memory` is the caller's, zeroed or a former state, of [`state_bytes`] bytes, aligned to 64.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) unsafe fn lay_out(memory: *mut u8, options: &Options, map: (*const AtomicI8, usize)) -> *mut Thread {
        let thread = memory.cast::<Thread>();
        // SAFETY: the caller provides the memory; the static states are never written, so reading EMPTY is a plain
        // copy.
        unsafe {
            thread.copy_from_nonoverlapping(EMPTY.as_thread(), 1);
            (*thread).sizes = size::SIZES;
            (*thread).lay_out_usual_slots(options);
            (*thread).restart(options, map);
        }
        thread
    }

    /// Makes a laid-out state, fresh or of a thread that has ended, ready for another thread: empty, all counters 0.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) fn restart(&mut self, options: &Options, map: (*const AtomicI8, usize)) {
        self.kind = Kind::Live;
        if self.has_own_limits {
            self.has_own_limits = false;
            // SAFETY: the thread whose limits these were has ended and has emptied its caches; nobody else has the state.
            unsafe { self.lay_out_usual_slots(options) };
        }
        // Only the slow paths fill and check blocks. Where that is wanted, the fast ones find nothing: a table without
        // classes, a map without slabs.
        (self.map, self.map_shift) = map;
        self.marks = if map.1 == NO_MAP_SHIFT { core::ptr::null() } else { map.0 };
        if !options.has_plain_frees() {
            self.no_fast_frees();
        }
        self.depth = 0;
        self.is_looking = false;
        self.ticks = 0;
        self.allocated = 0;
        self.freed_elsewhere = 0;
        self.frees = [0; PLACES];
        self.inflow = [0; PLACES];
        self.shows_frees = false;
        self.freed_shown = 0;
        self.told = AtomicI64::new(0);
        self.events = Events::NONE;
        self.slot = ThreadSlot { uid: 0, words: [0; 7] };
        self.arena = None;
        self.class_share = usize::MAX;
        self.empty();
        self.set_caching(options.tcache && !options.safety_check);
        self.fill_tables(options);
    }

    /// Requests at `place` that were served since this was asked last.
    #[inline]
    pub(crate) fn take_requests(&mut self, place: usize) -> u64 {
        let untold = self.inflow[place].wrapping_add(self.frees[place]).wrapping_sub(self.cached(place) as u64);
        self.inflow[place] = self.inflow[place].wrapping_sub(untold);
        untold
    }

    /// Requests at `place` that no bin has been told of yet, as another thread may ask: a moment's picture.
    pub(crate) fn untold_by_anybody(&mut self, place: usize) -> u64 {
        // SAFETY: fields of this state.
        let (inflow, frees) =
            unsafe { (read_counter(&raw mut self.inflow[place]), read_counter(&raw mut self.frees[place])) };
        let untold = inflow.wrapping_add(frees).wrapping_sub(self.cached_by_anybody(place) as u64);
        // Between the looks a block may have moved.
        untold.cast_signed().max(0) as u64
    }

    /// Bytes of usable size ever freed by the thread, as another thread may ask too.
    pub(crate) fn deallocated(&mut self) -> u64 {
        // SAFETY: fields of this state.
        unsafe {
            let mut sum = read_counter(&raw mut self.freed_elsewhere);
            for place in places() {
                let frees = read_counter(&raw mut self.frees[place]);
                sum = sum.wrapping_add(frees.wrapping_mul(size::SIZES[place].into()));
            }
            sum
        }
    }

    /// Counts bytes that were freed other than into the thread's own caches.
    pub(crate) fn count_freed(&mut self, bytes: usize) {
        self.freed_elsewhere = self.freed_elsewhere.wrapping_add(bytes as u64);
        self.show_freed(bytes);
    }

    /// Counts freed bytes where the program looks for them.
    #[inline]
    pub(crate) fn show_freed(&mut self, bytes: usize) {
        if self.shows_frees {
            self.freed_shown = self.freed_shown.wrapping_add(bytes as u64);
        }
    }

    /// Where the program finds the freed bytes from here on. The fast path of freeing doesn't count them, so it finds
    /// nothing from here on.
    pub(crate) fn freed_counter(&mut self) -> *mut u64 {
        if !self.shows_frees {
            self.freed_shown = self.deallocated();
            self.shows_frees = true;
            self.no_fast_frees();
        }
        &raw mut self.freed_shown
    }

    /// Has all frees take the slow path.
    pub(crate) fn no_fast_frees(&mut self) {
        (self.map, self.map_shift) = (no_map(), NO_MAP_SHIFT);
    }

    /// Blocks in the cache at `place`.
    #[inline]
    pub(crate) fn cached(&self, place: usize) -> usize {
        // SAFETY: both point into the same array.
        unsafe { self.top[place].offset_from_unsigned(self.bottom[place]) }
    }

    /// Slots of the cache at `place`.
    #[inline]
    pub(crate) fn capacity(&self, place: usize) -> usize {
        // SAFETY: both point into the same array.
        unsafe { self.last[place].offset_from_unsigned(self.bottom[place]) }
    }

    /// Takes the topmost block; null when the cache is empty.
    #[inline]
    pub(crate) fn pop(&mut self, place: usize) -> *mut u8 {
        let top = self.top[place];
        // SAFETY: `top` points at a slot, at the one below the first, or at the slot that the mark emptied.
        unsafe {
            let mut block = *top;
            if block == NO_BLOCK {
                if self.mark[place] == 0 {
                    return null_mut();
                }
                self.take_mark(place);
                block = *top;
            }
            self.top[place] = top.sub(1);
            if !is_block(block) {
                // The fast paths that freed it don't look; this is before anybody gets it.
                Wrong::new(block.addr(), Fault::Foreign).tell(b"free");
                return self.pop(place);
            }
            block
        }
    }

    /// Whether `block` is what was freed last into the cache at `place`.
    pub(crate) fn has_on_top(&self, place: usize, block: *mut u8) -> bool {
        // SAFETY: `top` points at a slot or at the one below the first.
        unsafe { *self.top[place] == block }
    }

    /// Puts a freed block on the cache, and counts it. `false`: it is full.
    #[inline(always)]
    pub(crate) fn push(&mut self, place: usize, block: *mut u8) -> bool {
        let top = self.top[place];
        if top == self.last[place] {
            return false;
        }
        // SAFETY: `top` is below the last slot.
        unsafe {
            let top = top.add(1);
            *top = block;
            self.top[place] = top;
        }
        self.frees[place] = self.frees[place].wrapping_add(1);
        true
    }

    /// Blocks in the cache at `place`, as another thread may ask: a moment's picture.
    pub(crate) fn cached_by_anybody(&self, place: usize) -> usize {
        let bytes = self.top[place].addr().saturating_sub(self.bottom[place].addr());
        let cached = bytes / core::mem::size_of::<*mut u8>();
        // Between the looks the cache may have been opened.
        if cached > self.slots_max[place] as usize { 0 } else { cached }
    }

    /// Bytes in the caches, as another thread may ask: a moment's picture.
    pub(crate) fn cached_bytes(&self) -> usize {
        places().map(|place| self.cached_by_anybody(place) * size::class_bytes(place)).sum()
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
