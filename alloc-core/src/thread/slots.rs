//! The slots of a thread's caches: where they lie, how many a class has, what a fill is to bring, and the mark that tells
//! what of a cache was not used.

use core::sync::atomic::{Ordering, compiler_fence};

use super::{NO_BLOCK, Thread, foreign_slots, no_slot, places};
use crate::conf::Options;
use crate::limits::Limits;
use crate::size::{self, NBINS, NCLASSES, PAIRED};

/// Bytes that the caches of a thread may hold in blocks of whole pages: at most, where threads are few, and at least. The
/// slab classes of a thread may grow by half as much beyond their first capacity.
pub(crate) const SHARE_MOST: usize = 1 << 20;
const SHARE_LEAST: usize = 64 << 10;
/// The same of a thread in a small heap.
const SHARE_OF_SMALL: usize = 256 << 10;
/// So many threads have as much as that.
const THREADS_FEW: usize = 32;

/// What each of so many threads may cache: all together no more than few of them.
pub(crate) fn cache_share(threads: usize) -> usize {
    (SHARE_MOST * THREADS_FEW / threads.max(THREADS_FEW)).max(SHARE_LEAST)
}

/// What a thread of a heap with so many bytes in use may cache of whole pages: what a small heap keeps for later is not to be
/// half of it.
pub(crate) fn share_of(active: usize) -> usize {
    (active / 8).max(SHARE_OF_SMALL)
}

/// What each slab class of a new thread may hold before it grows, in bytes, where there are so many threads that they have
/// this `share`: the caches of threads that wait for work would be most of the memory. In any case it has [`NARROW_SLOTS`].
pub(crate) fn class_share(share: usize) -> usize {
    if share < SHARE_MOST { share / 16 } else { usize::MAX }
}

/// Slots of a slab class while the heap shrinks.
const NARROW_SLOTS: usize = 4;
/// So many overflows of such a cache are of a heap that still shrinks.
const NARROW_OVERFLOWS: u16 = 256;

/// After so many overflows without a fill, be it another thread's, what a slab class has grown by is of no use.
const VAIN_OVERFLOWS: u8 = 32;

/// Slots that a slab class begins with, which lie side by side for all of them: most threads use most of their classes little,
/// and a page of slots for each of those would be more than the blocks.
const FIRST_SLOTS: usize = 15;
/// Where those of a state are, in bytes, each behind one below the first.
const OFFSET_OF_FIRST_SLOTS: usize = core::mem::size_of::<Thread>().next_multiple_of(64);
/// Where all the other slots of a state begin.
pub(super) const OFFSET_OF_SLOTS: usize =
    OFFSET_OF_FIRST_SLOTS + NBINS * (FIRST_SLOTS + 1) * core::mem::size_of::<*mut u8>();

/// Bytes of a thread state with its caches.
pub fn state_bytes(options: &Options) -> usize {
    OFFSET_OF_SLOTS + Limits::of(options).slots_needed(options) * core::mem::size_of::<*mut u8>()
}

impl Thread {
    /// Lays the slots out that came with the state, for what the options say.
    ///
    /// # Safety
    /// As [`Thread::lay_out_slots`]; the state has [`state_bytes`] bytes.
    #[unsafe(link_section = "heapsift_text")]
    pub(super) unsafe fn lay_out_usual_slots(&mut self, options: &Options) {
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
            let (first, most) = (limits.capacity(class, options), limits.capacity_max(class, options));
            self.lay_out_place(self.place(class), first, most, &mut slot);
            if class <= PAIRED {
                let few = foreign_slots(class, first);
                self.lay_out_place(size::place(class, !self.is_odd()), few, few, &mut slot);
            }
        }
    }

    /// Takes the slots of a place from those that begin at `slot`.
    fn lay_out_place(&mut self, place: usize, first: usize, most: usize, slot: &mut *mut *mut u8) {
        self.slots[place] = first as u16;
        self.slots_max[place] = most as u16;
        self.start[place] = *slot;
        // One below the first.
        *slot = slot.wrapping_add(most + 1);
    }

    /// Makes each cache one that has never held a block. [`Thread::set_caching`] says how many it may hold.
    pub(crate) fn empty(&mut self) {
        for place in places() {
            self.close(place);
            self.mark[place] = 0;
            self.freed[place] = false;
            self.overflows[place] = 0;
            self.fill_next[place] = self.fill_least(place).min(FIRST_SLOTS as u16 / 2);
        }
    }

    /// Makes an empty cache one without slots.
    fn close(&mut self, place: usize) {
        self.set_ends(place, [no_slot(); 3]);
    }

    /// Sets where a cache begins, what its topmost block is, and where it ends; the end first, and the beginning last: see
    /// [`Thread::after_fork`].
    fn set_ends(&mut self, place: usize, [bottom, top, last]: [*mut *mut u8; 3]) {
        self.last[place] = last;
        compiler_fence(Ordering::SeqCst);
        self.top[place] = top;
        compiler_fence(Ordering::SeqCst);
        self.bottom[place] = bottom;
    }

    /// Whether a cache has no slots yet.
    pub(crate) fn is_closed(&self, place: usize) -> bool {
        core::ptr::eq(self.bottom[place], no_slot())
    }

    /// Gives a cache its slots, unless it has them. `false`: it is to have none.
    pub(crate) fn open(&mut self, place: usize) -> bool {
        if !self.is_closed(place) {
            return self.capacity(place) > 0;
        }
        // Those of whole pages grow with use.
        let slots = if self.caching && size::is_slab(place) { self.initial(place) } else { 0 };
        if !self.caching || self.slots_max[place] == 0 {
            return false;
        }
        let (bottom, slots) = if self.slots[place] as usize > FIRST_SLOTS && self.has_few_first(place) {
            (self.first_slots(place), slots.min(FIRST_SLOTS))
        } else {
            (self.start[place], slots)
        };
        // SAFETY: the slot below the first, and as many more, are the state's own, see `lay_out_slots`.
        let last = unsafe {
            *bottom = NO_BLOCK;
            bottom.add(slots)
        };
        self.set_ends(place, [bottom, bottom, last]);
        slots > 0
    }

    /// Slots that a slab class has before it grows.
    fn initial(&self, place: usize) -> usize {
        let slots = self.slots[place] as usize;
        if self.class_share == usize::MAX {
            return slots;
        }
        slots.min((self.class_share / size::class_bytes(size::class_at(place))).max(NARROW_SLOTS))
    }

    /// Whether a place may begin with few slots beside those of the others: those from which slab classes are allocated.
    fn has_few_first(&self, place: usize) -> bool {
        size::is_slab(place) && !self.is_foreign(place)
    }

    /// The slot below the first ones of a slab class.
    fn first_slots(&mut self, place: usize) -> *mut *mut u8 {
        let class = size::class_at(place);
        let state: *mut u8 = (&raw mut *self).cast();
        // SAFETY: they lie behind the state, see `state_bytes`.
        unsafe { state.add(OFFSET_OF_FIRST_SLOTS).cast::<*mut u8>().add((class - 1) * (FIRST_SLOTS + 1)) }
    }

    /// Whether a slab class has no more than its first slots.
    fn has_first_slots(&mut self, place: usize) -> bool {
        self.has_few_first(place) && core::ptr::eq(self.bottom[place], self.first_slots(place))
    }

    /// Moves a slab class from its first slots to all those that it is to have before it grows. `false`: it has them.
    fn leave_first_slots(&mut self, place: usize) -> bool {
        let slots = self.initial(place);
        let leaves = slots > FIRST_SLOTS && self.has_first_slots(place);
        if leaves {
            self.move_slots(place, slots);
        }
        leaves
    }

    /// Moves a slab class from its first slots to where it has more of them: `capacity`.
    #[unsafe(link_section = "heapsift_text")]
    fn move_slots(&mut self, place: usize, capacity: usize) {
        let (cached, start) = (self.cached(place), self.start[place]);
        // SAFETY: those up to the topmost, the one below the first included, fit where there are more: see `open`.
        unsafe {
            start.copy_from_nonoverlapping(self.bottom[place], cached + 1);
            // A child of a fork may find itself in between: see `after_fork`.
            compiler_fence(Ordering::SeqCst);
            (self.bottom[place], self.top[place]) = (start, start.add(cached));
            self.last[place] = start.add(capacity);
        }
    }

    /// In the child of a fork by a signal handler that may have interrupted [`Thread::open`], [`Thread::close`] or
    /// [`Thread::move_slots`]: what is half done is done. The handler may return there, which then does the same once
    /// more.
    pub(crate) fn after_fork(&mut self) {
        for place in places() {
            let ends = [self.bottom[place], self.top[place], self.last[place]];
            let closed = ends.map(|at| core::ptr::eq(at, no_slot()));
            if closed != [true; 3] && closed != [false; 3] {
                // The end is set first: it tells which way it was.
                let was_opening = !closed[2];
                self.close(place);
                if was_opening {
                    self.open(place);
                }
            } else if self.has_few_first(place) {
                let first = self.first_slots(place);
                let is_first = ends.map(|at| at.addr().wrapping_sub(first.addr()) < (FIRST_SLOTS + 1) * 8);
                if is_first != [true; 3] && is_first != [false; 3] {
                    // The blocks have been copied.
                    let from = if is_first[1] { first } else { self.start[place] };
                    // SAFETY: the topmost block lies above the slot below the first.
                    let cached = unsafe { self.top[place].offset_from_unsigned(from) };
                    self.bottom[place] = first;
                    // SAFETY: as many as there were.
                    self.top[place] = unsafe { first.add(cached) };
                    self.move_slots(place, self.initial(place).max(cached));
                }
            }
        }
    }

    /// Switches the cache, which must be empty, on or off.
    pub(crate) fn set_caching(&mut self, on: bool) {
        self.caching = on;
        self.narrow = 0;
        self.large_room = 0;
        self.grown_room = 0;
        for place in places() {
            self.close(place);
        }
    }

    /// What a fill asks for at least: an eighth of the cache, and no more than a page's worth if that is less.
    fn fill_least(&self, place: usize) -> u16 {
        let page_worth = (crate::sys::PAGE / size::class_bytes(place)).max(1);
        (self.slots[place] / 8).clamp(1, page_worth as u16)
    }

    /// How many blocks the next fill of a class should bring; asks for more the next time.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) fn fill_count(&mut self, place: usize) -> usize {
        if !size::is_slab(place) {
            return 1;
        }
        if self.narrow > 0 {
            self.widen();
        }
        self.overflows[place] = 0;
        let half = |slots: usize| (slots / 2).max(1) as u16;
        if self.fill_next[place] > half(self.capacity(place)) {
            self.leave_first_slots(place);
        }
        let wanted = self.fill_next[place].clamp(1, half(self.capacity(place)));
        let most = half(self.capacity(place).max(self.slots[place] as usize));
        self.fill_next[place] = (wanted * 2).min(most);
        wanted as usize
    }

    /// The class is little used: the next fill brings fewer.
    pub(crate) fn fill_less(&mut self, place: usize) {
        let next = self.fill_next[place];
        self.fill_next[place] = (next / 2).max(self.fill_least(place)).min(next);
    }

    /// Makes room in a full cache: for one more block of a class of whole pages, for half as many again of a slab
    /// class. `false`: the class has enough, or the thread its `share`.
    pub(crate) fn grow(&mut self, place: usize, share: usize) -> bool {
        if self.is_closed(place) {
            // A thread's first free of a class, before it has allocated any, is often that of a block which another thread
            // has given it, beside those of others: kept, it would be this thread's next one, in a cache line of two threads.
            // What isn't to be kept goes to its arena with others.
            if self.has_few_first(place) && !core::mem::replace(&mut self.freed[place], true) {
                return false;
            }
            if self.open(place) {
                return true;
            }
        }
        if size::is_slab(place) && self.narrow > 0 {
            self.narrow -= 1;
            if self.narrow > 0 {
                return false;
            }
            self.widen();
            return true;
        }
        if self.leave_first_slots(place) {
            return true;
        }
        let (bytes, capacity) = (size::class_bytes(place), self.capacity(place));
        let is_large = !size::is_slab(place);
        if is_large && self.large_room + bytes > share {
            self.take_empty_slots(bytes, share);
        }
        let (more, room, limit) =
            if is_large { (1, &mut self.large_room, share) } else { (capacity / 2, &mut self.grown_room, share / 2) };
        if !self.caching
            || more == 0
            || (!is_large && self.overflows[place] >= VAIN_OVERFLOWS)
            || capacity + more > self.slots_max[place] as usize
            || *room + more * bytes > limit
        {
            return false;
        }
        *room += more * bytes;
        if capacity + more > FIRST_SLOTS && self.has_first_slots(place) {
            self.move_slots(place, capacity + more);
        } else {
            // SAFETY: up to the cache's last slot.
            self.last[place] = unsafe { self.last[place].add(more) };
        }
        true
    }

    /// A full cache has given blocks back. Returns whether [`Thread::judge_overflows`] is due, as it is after so many of a slab
    /// class.
    pub(crate) fn note_overflow(&mut self, place: usize) -> bool {
        self.overflows[place] += 1;
        if self.overflows[place] > VAIN_OVERFLOWS && self.narrow == 0 {
            self.shrink(place);
        }
        let is_due = self.overflows[place].is_multiple_of(VAIN_OVERFLOWS);
        if is_due && !size::is_slab(place) {
            self.overflows[place] = 0;
        }
        is_due && size::is_slab(place)
    }

    /// Where a cache overflows on and on, and none was filled from the same bin meanwhile (of `fills` in all), the program only
    /// frees: each block that stays in the cache at the end may be the last one of its slab. What another thread gets again is
    /// worth a large cache: each overflow takes a lock.
    pub(crate) fn judge_overflows(&mut self, place: usize, fills: u64) {
        let fills = fills as u8;
        self.overflows[place] = if self.fills[place] == fills { VAIN_OVERFLOWS } else { 0 };
        self.fills[place] = fills;
    }

    /// Takes slots without a block from classes of whole pages until there is room for `bytes` more; looks at a few classes,
    /// others each time.
    fn take_empty_slots(&mut self, bytes: usize, share: usize) {
        const LOOKED_AT: usize = 4;
        let (mut class, mut room) = (self.slots_from, self.large_room);
        for _ in 0..LOOKED_AT {
            class = if class < NCLASSES { class.max(NBINS) + 1 } else { NBINS + 1 };
            // SAFETY: the topmost block, or the slot below the first, lies no higher than the last slot.
            let empty = unsafe { self.last[class].offset_from_unsigned(self.top[class]) };
            if empty > 0 {
                self.last[class] = self.top[class];
                room -= empty * size::class_bytes(class);
                if room + bytes <= share {
                    break;
                }
            }
        }
        (self.slots_from, self.large_room) = (class, room);
    }

    /// Takes room back, as far as it is empty: all that a class of whole pages has, what a slab class has grown by.
    pub(crate) fn shrink(&mut self, place: usize) {
        if !self.caching {
            return;
        }
        let (capacity, cached) = (self.capacity(place), self.cached(place));
        let is_slab = size::is_slab(place);
        let least = if is_slab { cached.max(self.initial(place)) } else { cached };
        let room = if is_slab { &mut self.grown_room } else { &mut self.large_room };
        if least < capacity {
            *room -= (capacity - least) * size::class_bytes(place);
            // SAFETY: a slot of the cache.
            self.last[place] = unsafe { self.bottom[place].add(least) };
        }
    }

    /// Leaves the caches few slots until a fill or many overflows: what a program frees last stays in them, and each block
    /// may be the last one of its slab.
    pub(crate) fn narrow(&mut self) {
        if !self.caching {
            return;
        }
        self.narrow = NARROW_OVERFLOWS;
        for place in places() {
            if self.is_closed(place) {
                continue;
            }
            self.shrink(place);
            if size::is_slab(place) {
                let slots = self.capacity(place).min(NARROW_SLOTS.max(self.cached(place)));
                // SAFETY: a slot of the cache.
                self.last[place] = unsafe { self.bottom[place].add(slots) };
            }
        }
    }

    /// Gives slab classes the slots back that [`Thread::narrow`] took.
    fn widen(&mut self) {
        self.narrow = 0;
        for place in places().filter(|&place| size::is_slab(place)) {
            if !self.is_closed(place) {
                let slots = self.initial(place);
                let slots = if self.has_first_slots(place) { slots.min(FIRST_SLOTS) } else { slots };
                // SAFETY: a slot of the cache: see `open` and `leave_first_slots`.
                self.last[place] = unsafe { self.bottom[place].add(slots) };
            }
        }
    }

    /// Marks the middle of a cache, or the top of one that `is_idle`; nothing happens when it is empty.
    pub(crate) fn set_mark(&mut self, place: usize, is_idle: bool) {
        self.take_mark(place);
        let cached = self.cached(place);
        let at = if is_idle { cached } else { cached.div_ceil(2) };
        if at > 0 {
            // SAFETY: one of the slots in use.
            unsafe {
                let slot = self.bottom[place].add(at);
                self.marked[place] = *slot;
                *slot = NO_BLOCK;
            }
            self.mark[place] = at as u16;
        }
    }

    /// Takes the mark off, if it is still there; returns how many blocks lie up to it.
    pub(crate) fn take_mark(&mut self, place: usize) -> usize {
        let at = self.mark[place] as usize;
        if at > 0 {
            // SAFETY: the slot that the mark emptied: whoever moves the slots takes the mark off first.
            unsafe { *self.bottom[place].add(at) = self.marked[place] };
            self.mark[place] = 0;
        }
        at
    }
}

#[cfg(test)]
pub(super) mod tests;
