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

use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicI8, AtomicU64, Ordering, compiler_fence};

use crate::arena::Arena;
use crate::conf::Options;
use crate::events::Events;
use crate::limits::{Limits, OwnLimits};
use crate::observer::ThreadSlot;
use crate::pagemap::{NO_MAP_SHIFT, no_map};
use crate::size::{self, NBINS, NCLASSES, SIZES_CONST};
use crate::wrong::{Kind as Fault, Wrong};

const CLASSES: usize = NCLASSES + 1;

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

/// Bytes that the caches of a thread may hold in blocks of whole pages: at most, where threads are few, and at least. The
/// slab classes of a thread may grow by half as much beyond their first capacity.
pub(crate) const SHARE_MOST: usize = 1 << 20;
const SHARE_LEAST: usize = 64 << 10;
/// So many threads have as much as that.
const THREADS_FEW: usize = 32;

/// What each of so many threads may cache: all together no more than few of them.
pub(crate) fn cache_share(threads: usize) -> usize {
    (SHARE_MOST * THREADS_FEW / threads.max(THREADS_FEW)).max(SHARE_LEAST)
}

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
    /// The topmost block by class; [`NO_BLOCK`] lies below the first.
    pub(crate) top: [*mut *mut u8; CLASSES],
    /// The last slot by class.
    pub(crate) last: [*mut *mut u8; CLASSES],
    /// Copy of [`size::SIZES`], reached from the register that holds the state.
    pub(crate) sizes: [u32; CLASSES],
    /// Blocks ever put on a cache by a free, by class.
    pub(crate) frees: [u64; CLASSES],
    /// Copy of [`size::TABLE`].
    pub(crate) table: [u8; size::TABLE.len()],
    /// Classes by KiB, rounded up, for larger requests.
    pub(crate) large_table: [u8; LARGE_TABLE_LEN],
    pub(crate) kind: Kind,
    /// Above 0 while the thread is inside of an observer or suppressed: nothing is sampled.
    pub(crate) depth: u32,
    /// Slow operations until the next look at the arena's decay.
    pub(crate) ticks: u32,
    /// Whether blocks are cached at all.
    pub(crate) caching: bool,
    pub(crate) arena: Option<&'static Arena>,
    /// The slot below the first, by class; [`no_slot`] until the cache is opened.
    pub(crate) bottom: [*mut *mut u8; CLASSES],
    /// Where that slot is of a class whose cache is open.
    start: [*mut *mut u8; CLASSES],
    /// When the caches were last looked through, in ticks of the processor.
    pub(crate) looked_through: u64,
    /// Whether that is going on: giving blocks back may come to ask for it again.
    pub(crate) is_looking: bool,
    /// Bytes for which the caches of whole pages have slots.
    large_room: usize,
    /// The class from which slots without a block were taken last.
    slots_from: usize,
    /// Bytes for which the caches of slab classes have slots beyond their first capacity.
    grown_room: usize,
    /// What the next fill asks for: few at first and for classes that are rarely used.
    fill_next: [u16; CLASSES],
    /// Slots that a class starts with.
    slots: [u16; CLASSES],
    /// Slots that it can have.
    slots_max: [u16; CLASSES],
    /// Limits that the program has set for this thread; null as long as it has not, and the ones of a thread that had the
    /// state before are there to be used again.
    pub(crate) own_limits: *mut OwnLimits,
    /// Whether they hold.
    pub(crate) has_own_limits: bool,
    /// The slot whose block was taken out, counted from `bottom`; 0: none.
    mark: [u16; CLASSES],
    /// That block.
    marked: [*mut u8; CLASSES],
    /// Classes of which the thread has freed a block while it had no cache for it.
    freed: [bool; CLASSES],
    /// Blocks by class that fills brought less those that flushes took, less the requests that a bin has been told of:
    /// with `frees`, and less what is cached, these are the requests that no bin has been told of yet.
    pub(crate) inflow: [u64; CLASSES],
    /// Whether the program looks at `freed_shown`, so that every free must count there.
    pub(crate) shows_frees: bool,
    /// Bytes of usable size ever freed by the thread, once the program has asked where they are counted.
    pub(crate) freed_shown: u64,
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
static NO_SLOT: NoSlot = NoSlot(UnsafeCell::new(NO_BLOCK));

/// The place below the first slot of a cache that has none. Threads use few of the classes: the slots of one are not
/// touched before it has its first block.
const fn no_slot() -> *mut *mut u8 {
    (&raw const NO_SLOT).cast_mut().cast()
}

/// The table and the map of a shared state give class 0 only. Pointers for the other classes would each be one more for the
/// loader to adjust, in every process that starts.
const fn only_first(slot: *mut *mut u8) -> [*mut *mut u8; CLASSES] {
    let mut slots = [null_mut(); CLASSES];
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
        sizes: [0; CLASSES],
        frees: [0; CLASSES],
        table: [0; size::TABLE.len()],
        large_table: [0; LARGE_TABLE_LEN],
        kind,
        depth: 0,
        ticks: 0,
        caching: false,
        arena: None,
        bottom: [null_mut(); CLASSES],
        start: [null_mut(); CLASSES],
        looked_through: 0,
        is_looking: false,
        large_room: 0,
        slots_from: 0,
        grown_room: 0,
        fill_next: [0; CLASSES],
        slots: [0; CLASSES],
        slots_max: [0; CLASSES],
        own_limits: null_mut(),
        has_own_limits: false,
        mark: [0; CLASSES],
        freed: [false; CLASSES],
        marked: [null_mut(); CLASSES],
        inflow: [0; CLASSES],
        shows_frees: false,
        freed_shown: 0,
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

/// Slots that a slab class begins with, which lie side by side for all of them: most threads use most of their classes little,
/// and a page of slots for each of those would be more than the blocks.
const FIRST_SLOTS: usize = 15;
/// Where those of a state are, in bytes, each behind one below the first.
const OFFSET_OF_FIRST_SLOTS: usize = core::mem::size_of::<Thread>().next_multiple_of(64);
/// Where all the other slots of a state begin.
const OFFSET_OF_SLOTS: usize = OFFSET_OF_FIRST_SLOTS + NBINS * (FIRST_SLOTS + 1) * core::mem::size_of::<*mut u8>();

/// Bytes of a thread state with its caches.
pub fn state_bytes(options: &Options) -> usize {
    OFFSET_OF_SLOTS + Limits::of(options).slots_needed(options) * core::mem::size_of::<*mut u8>()
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

    /// Lays the slots out that came with the state, for what the options say.
    ///
    /// # Safety
    /// As [`Thread::lay_out_slots`]; the state has [`state_bytes`] bytes.
    #[unsafe(link_section = "heapsift_text")]
    unsafe fn lay_out_usual_slots(&mut self, options: &Options) {
        let state: *mut u8 = (&raw mut *self).cast();
        // SAFETY: the slots lie behind the state, by the caller's promise.
        unsafe { self.lay_out_slots(state.add(OFFSET_OF_SLOTS).cast(), &Limits::of(options), options) };
    }

    /// Gives each class its slots; [`Thread::empty`] makes caches of them.
    ///
    /// # Safety
    /// All caches are empty, and no other thread looks at the state. There are as many slots from `slot` on as the limits
    /// need, and they stay this state's.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) unsafe fn lay_out_slots(&mut self, mut slot: *mut *mut u8, limits: &Limits, options: &Options) {
        for class in 1..=NCLASSES {
            let slots = limits.capacity_max(class, options);
            self.slots[class] = limits.capacity(class, options) as u16;
            self.slots_max[class] = slots as u16;
            self.start[class] = slot;
            // SAFETY: one slot below the first, and those of the class, by the caller's promise.
            slot = unsafe { slot.add(slots + 1) };
        }
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
        let plain_allocations = !(options.zero || options.junk_alloc);
        self.table = if plain_allocations { size::TABLE } else { [0; size::TABLE.len()] };
        self.large_table = if plain_allocations { LARGE_TABLE } else { [0; LARGE_TABLE_LEN] };
        self.depth = 0;
        self.is_looking = false;
        self.ticks = 0;
        self.allocated = 0;
        self.freed_elsewhere = 0;
        self.frees = [0; CLASSES];
        self.inflow = [0; CLASSES];
        self.shows_frees = false;
        self.freed_shown = 0;
        self.events = Events::NONE;
        self.slot = ThreadSlot { uid: 0, words: [0; 7] };
        self.arena = None;
        self.empty();
        self.set_caching(options.tcache && !options.safety_check);
    }

    /// Makes each cache one that has never held a block. [`Thread::set_caching`] says how many it may hold.
    pub(crate) fn empty(&mut self) {
        for class in 1..=NCLASSES {
            self.close(class);
            self.mark[class] = 0;
            self.freed[class] = false;
            self.fill_next[class] = self.fill_least(class).min(FIRST_SLOTS as u16 / 2);
        }
    }

    /// Makes an empty cache one without slots.
    fn close(&mut self, class: usize) {
        (self.bottom[class], self.top[class], self.last[class]) = (no_slot(), no_slot(), no_slot());
    }

    /// Whether a cache has no slots yet.
    pub(crate) fn is_closed(&self, class: usize) -> bool {
        core::ptr::eq(self.bottom[class], no_slot())
    }

    /// Gives a cache its slots, unless it has them. `false`: it is to have none.
    pub(crate) fn open(&mut self, class: usize) -> bool {
        if !self.is_closed(class) {
            return self.capacity(class) > 0;
        }
        // Those of whole pages grow with use.
        let slots = if self.caching && class <= NBINS { self.slots[class] as usize } else { 0 };
        if !self.caching || self.slots_max[class] == 0 {
            return false;
        }
        let (bottom, slots) =
            if slots > FIRST_SLOTS { (self.first_slots(class), FIRST_SLOTS) } else { (self.start[class], slots) };
        // SAFETY: the slot below the first, and as many more, are the state's own, see `lay_out_slots`.
        self.last[class] = unsafe {
            *bottom = NO_BLOCK;
            bottom.add(slots)
        };
        (self.bottom[class], self.top[class]) = (bottom, bottom);
        slots > 0
    }

    /// The slot below the first ones of a slab class.
    fn first_slots(&mut self, class: usize) -> *mut *mut u8 {
        let state: *mut u8 = (&raw mut *self).cast();
        // SAFETY: they lie behind the state, see `state_bytes`.
        unsafe { state.add(OFFSET_OF_FIRST_SLOTS).cast::<*mut u8>().add((class - 1) * (FIRST_SLOTS + 1)) }
    }

    /// Whether a slab class has no more than its first slots.
    fn has_first_slots(&mut self, class: usize) -> bool {
        class <= NBINS && core::ptr::eq(self.bottom[class], self.first_slots(class))
    }

    /// Moves a slab class from its first slots to all those that it is to have at first. `false`: it is there.
    #[unsafe(link_section = "heapsift_text")]
    fn leave_first_slots(&mut self, class: usize) -> bool {
        if !self.has_first_slots(class) {
            return false;
        }
        let (cached, start) = (self.cached(class), self.start[class]);
        // SAFETY: those up to the topmost, the one below the first included, fit where there are more: see `open`.
        unsafe {
            start.copy_from_nonoverlapping(self.bottom[class], cached + 1);
            // A child of a fork may find itself in between: see `after_fork`.
            compiler_fence(Ordering::SeqCst);
            (self.bottom[class], self.top[class]) = (start, start.add(cached));
            self.last[class] = start.add(self.slots[class] as usize);
        }
        true
    }

    /// In the child of a fork by a signal handler that may have interrupted [`Thread::open`] or
    /// [`Thread::leave_first_slots`]: what is half done is done. The handler may return there, which then does the same once
    /// more.
    pub(crate) fn after_fork(&mut self) {
        for class in 1..=NCLASSES {
            let ends = [self.bottom[class], self.top[class], self.last[class]];
            let closed = ends.map(|at| core::ptr::eq(at, no_slot()));
            if closed != [true; 3] && closed != [false; 3] {
                self.close(class);
                self.open(class);
            } else if class <= NBINS {
                let first = self.first_slots(class);
                let is_first = ends.map(|at| at.addr().wrapping_sub(first.addr()) < (FIRST_SLOTS + 1) * 8);
                if is_first != [true; 3] && is_first != [false; 3] {
                    // The blocks have been copied.
                    let [_, top, _] = ends;
                    let from = if is_first[1] { first } else { self.start[class] };
                    // SAFETY: the topmost block lies above the slot below the first.
                    let cached = unsafe { top.offset_from_unsigned(from) };
                    self.bottom[class] = first;
                    // SAFETY: as many as there were.
                    self.top[class] = unsafe { first.add(cached) };
                    self.leave_first_slots(class);
                }
            }
        }
    }

    /// Switches the cache, which must be empty, on or off.
    pub(crate) fn set_caching(&mut self, on: bool) {
        self.caching = on;
        self.large_room = 0;
        self.grown_room = 0;
        for class in 1..=NCLASSES {
            self.close(class);
        }
    }

    /// What a fill asks for at least: an eighth of the cache, and no more than a page's worth if that is less.
    fn fill_least(&self, class: usize) -> u16 {
        let page_worth = (crate::sys::PAGE / size::class_bytes(class)).max(1);
        (self.slots[class] / 8).clamp(1, page_worth as u16)
    }

    /// How many blocks the next fill of a class should bring; asks for more the next time.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) fn fill_count(&mut self, class: usize) -> usize {
        if class > NBINS {
            return 1;
        }
        let half = |slots: usize| (slots / 2).max(1) as u16;
        if self.fill_next[class] > half(self.capacity(class)) {
            self.leave_first_slots(class);
        }
        let wanted = self.fill_next[class].clamp(1, half(self.capacity(class)));
        let most = half(self.capacity(class).max(self.slots[class] as usize));
        self.fill_next[class] = (wanted * 2).min(most);
        wanted as usize
    }

    /// The class is little used: the next fill brings fewer.
    pub(crate) fn fill_less(&mut self, class: usize) {
        let next = self.fill_next[class];
        self.fill_next[class] = (next / 2).max(self.fill_least(class)).min(next);
    }

    /// Makes room in a full cache: for one more block of a class of whole pages, for half as many again of a slab
    /// class. `false`: the class has enough, or the thread its `share`.
    pub(crate) fn grow(&mut self, class: usize, share: usize) -> bool {
        if self.is_closed(class) {
            // A thread's first free of a class, before it has allocated any, is often that of a block which another thread
            // has given it, beside those of others: kept, it would be this thread's next one, in a cache line of two threads.
            if class <= NBINS && !core::mem::replace(&mut self.freed[class], true) {
                return false;
            }
            if self.open(class) {
                return true;
            }
        }
        if self.leave_first_slots(class) {
            return true;
        }
        let (bytes, capacity) = (size::class_bytes(class), self.capacity(class));
        if class > NBINS && self.large_room + bytes > share {
            self.take_empty_slots(bytes, share);
        }
        let (more, room, limit) = if class > NBINS {
            (1, &mut self.large_room, share)
        } else {
            (capacity / 2, &mut self.grown_room, share / 2)
        };
        if !self.caching
            || more == 0
            || capacity + more > self.slots_max[class] as usize
            || *room + more * bytes > limit
        {
            return false;
        }
        *room += more * bytes;
        // SAFETY: up to the cache's last slot.
        self.last[class] = unsafe { self.last[class].add(more) };
        true
    }

    /// Takes slots without a block from classes of whole pages until there is room for `bytes` more; looks at a few classes,
    /// others each time.
    fn take_empty_slots(&mut self, bytes: usize, share: usize) {
        const LOOKED_AT: usize = 8;
        for _ in 0..LOOKED_AT {
            self.slots_from = if self.slots_from < NCLASSES { self.slots_from.max(NBINS) + 1 } else { NBINS + 1 };
            let class = self.slots_from;
            while self.last[class] > self.top[class] {
                // SAFETY: above the topmost block there is this slot.
                self.last[class] = unsafe { self.last[class].sub(1) };
                self.large_room -= size::class_bytes(class);
            }
            if self.large_room + bytes <= share {
                return;
            }
        }
    }

    /// Takes room back, as far as it is empty: all that a class of whole pages has, what a slab class has grown by.
    pub(crate) fn shrink(&mut self, class: usize) {
        if !self.caching {
            return;
        }
        let (capacity, cached) = (self.capacity(class), self.cached(class));
        let least = if class > NBINS { cached } else { cached.max(self.slots[class] as usize) };
        let room = if class > NBINS { &mut self.large_room } else { &mut self.grown_room };
        if least < capacity {
            *room -= (capacity - least) * size::class_bytes(class);
            // SAFETY: a slot of the cache.
            self.last[class] = unsafe { self.bottom[class].add(least) };
        }
    }

    /// Marks the middle of a cache, or the top of one that `is_idle`; nothing happens when it is empty.
    pub(crate) fn set_mark(&mut self, class: usize, is_idle: bool) {
        self.take_mark(class);
        let cached = self.cached(class);
        let at = if is_idle { cached } else { cached.div_ceil(2) };
        if at > 0 {
            // SAFETY: one of the slots in use.
            unsafe {
                let slot = self.bottom[class].add(at);
                self.marked[class] = *slot;
                *slot = NO_BLOCK;
            }
            self.mark[class] = at as u16;
        }
    }

    /// Takes the mark off, if it is still there; returns how many blocks lie up to it.
    pub(crate) fn take_mark(&mut self, class: usize) -> usize {
        let at = self.mark[class] as usize;
        if at > 0 {
            // SAFETY: the slot that the mark emptied: whoever moves the slots takes the mark off first.
            unsafe { *self.bottom[class].add(at) = self.marked[class] };
            self.mark[class] = 0;
        }
        at
    }

    /// Requests of `class` that were served since this was asked last.
    #[inline]
    pub(crate) fn take_requests(&mut self, class: usize) -> u64 {
        let untold = self.inflow[class].wrapping_add(self.frees[class]).wrapping_sub(self.cached(class) as u64);
        self.inflow[class] = self.inflow[class].wrapping_sub(untold);
        untold
    }

    /// Requests of `class` that no bin has been told of yet, as another thread may ask: a moment's picture.
    pub(crate) fn untold_by_anybody(&mut self, class: usize) -> u64 {
        // SAFETY: fields of this state.
        let (inflow, frees) =
            unsafe { (read_counter(&raw mut self.inflow[class]), read_counter(&raw mut self.frees[class])) };
        let untold = inflow.wrapping_add(frees).wrapping_sub(self.cached_by_anybody(class) as u64);
        // Between the looks a block may have moved.
        untold.cast_signed().max(0) as u64
    }

    /// Bytes of usable size ever freed by the thread, as another thread may ask too.
    pub(crate) fn deallocated(&mut self) -> u64 {
        // SAFETY: fields of this state.
        unsafe {
            let mut sum = read_counter(&raw mut self.freed_elsewhere);
            for class in 1..=NCLASSES {
                let frees = read_counter(&raw mut self.frees[class]);
                sum = sum.wrapping_add(frees.wrapping_mul(size::SIZES[class].into()));
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
    #[inline]
    pub(crate) fn pop(&mut self, class: usize) -> *mut u8 {
        let top = self.top[class];
        // SAFETY: `top` points at a slot, at the one below the first, or at the slot that the mark emptied.
        unsafe {
            let mut block = *top;
            if block == NO_BLOCK {
                if self.mark[class] == 0 {
                    return null_mut();
                }
                self.take_mark(class);
                block = *top;
            }
            self.top[class] = top.sub(1);
            if !is_block(block) {
                // The fast paths that freed it don't look; this is before anybody gets it.
                Wrong::new(block.addr(), Fault::Foreign).tell(b"free");
                return self.pop(class);
            }
            block
        }
    }

    /// Whether `block` is what was freed last into the cache of `class`.
    pub(crate) fn has_on_top(&self, class: usize, block: *mut u8) -> bool {
        // SAFETY: `top` points at a slot or at the one below the first.
        unsafe { *self.top[class] == block }
    }

    /// Puts a freed block on the cache, and counts it. `false`: it is full.
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
        self.frees[class] = self.frees[class].wrapping_add(1);
        true
    }

    /// Blocks in the cache of `class`, as another thread may ask: a moment's picture.
    pub(crate) fn cached_by_anybody(&self, class: usize) -> usize {
        let bytes = self.top[class].addr().saturating_sub(self.bottom[class].addr());
        let cached = bytes / core::mem::size_of::<*mut u8>();
        // Between the looks the cache may have been opened.
        if cached > self.slots_max[class] as usize { 0 } else { cached }
    }

    /// Bytes in the caches, as another thread may ask: a moment's picture.
    pub(crate) fn cached_bytes(&self) -> usize {
        (1..=NCLASSES).map(|class| self.cached_by_anybody(class) * size::class_bytes(class)).sum()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pagemap::{NO_MAP_SHIFT, no_map};

    fn with_state(test: impl FnOnce(&mut Thread)) {
        extern crate std;
        let options = &Options::DEFAULT;
        let mut memory = std::vec![0u64; state_bytes(options) / 8 + 8];
        let start = memory.as_mut_ptr();
        // SAFETY: memory of that size, moved on to the alignment, which nobody else uses.
        let thread = unsafe {
            let aligned = start.byte_add(start.align_offset(64) * 8);
            &mut *Thread::lay_out(aligned.cast(), options, (no_map(), NO_MAP_SHIFT))
        };
        test(thread);
    }

    #[test]
    fn what_was_half_open_at_a_fork_is_opened() {
        with_state(|thread| {
            let class = size::class_of(100);
            assert!((1..=NCLASSES).all(|class| thread.capacity(class) == 0 && thread.cached(class) == 0));
            assert!(thread.open(class) && thread.open(class));
            let (capacity, last, bottom) = (thread.capacity(class), thread.last[class], thread.bottom[class]);
            for step in 0..3 {
                thread.close(class);
                match step {
                    0 => thread.last[class] = last,
                    1 => thread.bottom[class] = bottom,
                    _ => thread.top[class] = bottom,
                }
                thread.after_fork();
                assert_eq!((thread.capacity(class), thread.cached(class)), (capacity, 0), "{step}");
                assert!(thread.pop(class).is_null());
            }
            // Closed ones stay so.
            assert_eq!(thread.capacity(class + 1), 0);
        });
    }

    /// Pushes so many blocks, which are numbers.
    fn push(thread: &mut Thread, class: usize, numbers: core::ops::Range<usize>) -> bool {
        numbers.into_iter().all(|number| thread.push(class, core::ptr::without_provenance_mut(number * 4096)))
    }

    fn popped(thread: &mut Thread, class: usize) -> usize {
        let mut count = 0;
        while !thread.pop(class).is_null() {
            count += 1;
        }
        count
    }

    #[test]
    fn a_class_that_is_used_much_leaves_its_first_slots() {
        with_state(|thread| {
            let class = size::class_of(100);
            assert!(thread.open(class) && push(thread, class, 1..FIRST_SLOTS + 1));
            assert!(!push(thread, class, 99..100) && thread.grow(class, SHARE_MOST));
            assert_eq!(thread.capacity(class), thread.slots[class] as usize);
            assert!(push(thread, class, 99..100));
            assert_eq!(thread.pop(class).addr() / 4096, 99);
            for number in (1..=FIRST_SLOTS).rev() {
                assert_eq!(thread.pop(class).addr() / 4096, number);
            }
            assert!(thread.pop(class).is_null());
            // Fills that come again and again do as much, whole pages have no first slots.
            let class = size::class_of(1000);
            assert!(thread.open(class) && thread.has_first_slots(class));
            let fills: [usize; 4] = core::array::from_fn(|_| thread.fill_count(class));
            assert!(fills[0] < fills[3] && !thread.has_first_slots(class), "{fills:?}");
            assert!(thread.open(NBINS) && !thread.has_first_slots(NBINS + 1));
        });
    }

    #[test]
    fn what_was_half_moved_at_a_fork_is_moved() {
        let class = size::class_of(100);
        for step in 1..7 {
            with_state(|thread| {
                assert!(thread.open(class) && push(thread, class, 1..11));
                let before = (thread.bottom[class], thread.top[class], thread.last[class]);
                assert!(thread.leave_first_slots(class));
                let after = (thread.bottom[class], thread.top[class], thread.last[class]);
                thread.bottom[class] = if step & 1 == 0 { before.0 } else { after.0 };
                thread.top[class] = if step & 2 == 0 { before.1 } else { after.1 };
                thread.last[class] = if step & 4 == 0 { before.2 } else { after.2 };
                thread.after_fork();
                assert_eq!((thread.bottom[class], thread.top[class], thread.last[class]), after, "{step}");
                assert_eq!(popped(thread, class), 10, "{step}");
            });
        }
    }
}
