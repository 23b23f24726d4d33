//! The slow paths of allocating: empty caches, large blocks, samples; and what a thread does now and then.

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use crate::arena::Arena;
use crate::bin::Visit;
use crate::events::NEVER;
use crate::extent::Extent;
use crate::heap::{Heap, Request, TcacheChoice};
use crate::observer::Observer;
use crate::pagemap::large_byte;
use crate::pages::Target;
use crate::size::{self, CLASS_MAX, NBINS, SMALL_MAX};
use crate::sys::{self, Entry, PAGE};
use crate::thread::{Kind, Thread, is_block, places};
use crate::tls;
use crate::wrong;

/// Slow operations of a thread between two looks at its arena's decay.
const TICKS: u32 = 64;
/// Processor ticks between two looks through a thread's caches: about 10 ms.
pub(crate) const LOOK_TICKS: u64 = 1 << 25;

/// A block as it came from below.
pub(crate) struct Obtained {
    pub(crate) block: *mut u8,
    pub(crate) usable: usize,
    pub(crate) zeroed: bool,
}

const NOTHING: Obtained = Obtained { block: null_mut(), usable: 0, zeroed: false };

impl<O: Observer> Heap<O> {
    /// The calling thread's state: its own, or the dead one (no cache) when it is ending or memory is short.
    #[inline]
    pub(crate) fn thread(&'static self) -> *mut Thread {
        let thread = tls::thread();
        // SAFETY: the slot always holds a live state.
        if unsafe { (*thread).kind } == Kind::Empty { self.start_thread() } else { thread }
    }

    /// The slow path of [`Heap::allocate`], for callers that have seen the fast one fail.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    pub extern "C" fn allocate_slow(&'static self, size: usize) -> *mut u8 {
        let block = self.allocate_cached(size);
        if block.is_null() { self.allocate_uncached(size) } else { block }
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    extern "C" fn allocate_uncached(&'static self, size: usize) -> *mut u8 {
        let entry = sys::entry();
        self.allocate_request(size, &Request::PLAIN, &entry)
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) extern "C" fn allocate_slow_or(
        &'static self,
        size: usize,
        failed: extern "C" fn(usize) -> *mut u8,
    ) -> *mut u8 {
        let block = self.allocate_cached(size);
        if block.is_null() { self.allocate_uncached_or(size, failed) } else { block }
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    extern "C" fn allocate_uncached_or(&'static self, size: usize, failed: extern "C" fn(usize) -> *mut u8) -> *mut u8 {
        let entry = sys::entry();
        let block = self.allocate_request(size, &Request::PLAIN, &entry);
        if block.is_null() { failed(size) } else { block }
    }

    /// The fast path for sizes above the table's: a cached block, unless an event is due with it. Null: ask on.
    #[inline(always)]
    fn allocate_cached(&'static self, size: usize) -> *mut u8 {
        if !(size::TABLE_MAX + 1..=CLASS_MAX).contains(&size) {
            return null_mut();
        }
        let thread = tls::thread();
        // SAFETY: the slot always holds a live state. For the shared ones, and where blocks are to be filled, the table gives
        // class 0, whose cache is empty. Indices: the table has an entry for each KiB up to CLASS_MAX, and holds classes.
        unsafe {
            let class = *(&raw const (*thread).large_table).cast::<u8>().add((size + 1023) >> 10) as usize;
            let top_slot = (&raw mut (*thread).top).cast::<*mut *mut u8>().add(class);
            let top = *top_slot;
            let block = *top;
            if !is_block(block) {
                return null_mut();
            }
            core::hint::assert_unchecked(!block.is_null());
            let usable = *(&raw const (*thread).sizes).cast::<u32>().add(class) as u64;
            let (countdown, fired) = (*thread).countdown.overflowing_sub(usable);
            if fired {
                // What comes next counts again, and sees that it is due.
                return null_mut();
            }
            (*thread).countdown = countdown;
            (*thread).allocated = (*thread).allocated.wrapping_add(usable);
            *top_slot = top.sub(1);
            let marks = (*thread).marks;
            if !size::is_slab(class) && !marks.is_null() {
                (*marks.add(block.addr() / PAGE)).store(large_byte(class, false).cast_signed(), Ordering::Relaxed);
            }
            block
        }
    }

    /// A block that reads as zero.
    #[inline(never)]
    pub fn allocate_zeroed(&'static self, size: usize) -> *mut u8 {
        let block = self.allocate_fast(size);
        if !block.is_null() {
            // All that the caller may use, as the slow path does.
            // SAFETY: the block is ours, of that class.
            unsafe { block.write_bytes(0, size::class_bytes(size::class_of(size))) };
            return block;
        }
        let entry = sys::entry();
        self.allocate_request(size, &Request { zero: true, ..Request::PLAIN }, &entry)
    }

    /// A block aligned to `align`, a power of two.
    #[inline(never)]
    pub fn allocate_aligned(&'static self, size: usize, align: usize, zero: bool) -> *mut u8 {
        if let Some(rounded) = size::small_aligned(size, align) {
            let block = self.allocate_fast(rounded);
            if !block.is_null() {
                if zero {
                    // SAFETY: the block is ours, of that class.
                    unsafe { block.write_bytes(0, size::class_bytes(size::class_of(rounded))) };
                }
                return block;
            }
        }
        let entry = sys::entry();
        self.allocate_request(size, &Request { align, zero, ..Request::PLAIN }, &entry)
    }

    /// A block by the rules of the `*allocx` family.
    #[inline(never)]
    pub fn allocate_with(&'static self, size: usize, request: Request) -> *mut u8 {
        let entry = sys::entry();
        self.allocate_request(size, &request, &entry)
    }

    /// Any request, counted and perhaps sampled; frames up to the one of `entry` are the allocator's.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) fn allocate_request(&'static self, size: usize, request: &Request, entry: &Entry) -> *mut u8 {
        let thread = self.thread();
        // SAFETY: the calling thread's state; the shared ones have no wait.
        if O::ENABLED && unsafe { (*thread).events.guard_at } != NEVER {
            // SAFETY: as above.
            if let Some((found, counted)) = unsafe { self.obtain_guarded(thread, size, request, entry) } {
                self.prepare(&found, request.zero);
                self.account(thread, found.block, size, counted, entry);
                return found.block;
            }
        }
        let found = self.obtain_with_room(thread, size, request);
        if found.block.is_null() {
            return null_mut();
        }
        self.prepare(&found, request.zero);
        self.account(thread, found.block, size, found.usable, entry);
        found.block
    }

    /// Fills a block as the request and the options say.
    #[inline]
    fn prepare(&'static self, found: &Obtained, zero: bool) {
        let options = self.options();
        if zero || options.zero {
            if !found.zeroed {
                self.clear(found);
            }
        } else if options.junk_alloc {
            // SAFETY: as above.
            unsafe { found.block.write_bytes(0xa5, found.usable) };
        }
    }

    /// Counts an allocation, and samples it when the countdown runs out.
    #[inline]
    pub(crate) fn account(
        &'static self,
        thread: *mut Thread,
        block: *mut u8,
        requested: usize,
        usable: usize,
        entry: &Entry,
    ) {
        // SAFETY: the thread's own state, or the dead one, which is only read.
        unsafe {
            if (*thread).kind != Kind::Live {
                self.core.gone_allocated.fetch_add(usable as u64, Ordering::Relaxed);
                return;
            }
            Thread::add(&mut (*thread).allocated, usable);
            if O::ENABLED {
                // Waits are below 2^63: a greater countdown is one that the fast path has run down already.
                let due = (*thread).countdown >> 63 != 0;
                let (countdown, fired) = (*thread).countdown.overflowing_sub(usable as u64);
                (*thread).countdown = countdown;
                if fired || due {
                    self.alarm(thread, block.addr(), requested, usable, entry);
                }
            }
        }
    }

    /// Before the observer is told of `address`, a block in use of `extent`, and [`Heap::flag`] after it: asks for what both
    /// will lock, all at once. Samples are so far apart that little of it is near the processor. Returns the number of the
    /// block's arena.
    ///
    /// # Safety
    /// The block is the caller's, and `extent` that of it.
    pub(crate) unsafe fn ask_for_sample(&'static self, extent: *const Extent, address: usize) -> usize {
        // SAFETY: the block is in use, so its extent is active and stays so.
        unsafe {
            let arena = (*extent).arena();
            self.observer.ask_for(address, arena);
            if (*extent).is_slab() {
                sys::prefetch_for_write(self.arena_of(extent).bin((*extent).class()));
            }
            arena
        }
    }

    /// Notes that a live sample is (no longer) at `address`, a block in use of `extent`.
    pub(crate) unsafe fn flag(&'static self, extent: *mut Extent, address: usize, sampled: bool) {
        let shared = &self.core.shared;
        // SAFETY: the block is in use, so its extent is active and stays so.
        unsafe {
            let class = (*extent).class();
            if (*extent).is_slab() {
                self.arena_of(extent).bin(class).flag(extent, shared, address, sampled);
            } else {
                (*extent).set_sampled(sampled);
                shared.map.set_class((*extent).address(), 1, large_byte(class, sampled));
            }
        }
    }

    /// The arena of an active extent.
    pub(crate) unsafe fn arena_of(&'static self, extent: *const Extent) -> &'static Arena {
        // SAFETY: the caller's extent is alive. Its arena made it, so the arena is in the table.
        unsafe { self.core.arenas.get((*extent).arena()).unwrap_unchecked() }
    }

    /// Finds a block for a request, without counting it.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) fn obtain(&'static self, thread: *mut Thread, size: usize, request: &Request) -> Obtained {
        let align = request.align;
        let class = if let Some(rounded) = size::small_aligned(size, align) {
            size::class_of(rounded)
        } else if size <= CLASS_MAX && align <= PAGE {
            size::class_of(size.max(SMALL_MAX + 1))
        } else {
            return self.obtain_large(thread, size::usable_size_for(size, align), request);
        };
        let usable = size::class_bytes(class);
        let cache = self.cache_of(thread, request.tcache);
        let may_cache = request.arena.is_none() || matches!(request.tcache, TcacheChoice::Explicit(_));
        if !cache.is_null() && may_cache {
            // SAFETY: the thread's own live state, or a cache that the program lets no other thread use.
            unsafe {
                let place = (*cache).place(class);
                let block = (*cache).pop(place);
                if !block.is_null() {
                    if class > NBINS {
                        // In use again.
                        self.core.shared.map.set_class(block.addr(), 1, large_byte(class, false));
                    }
                    return Obtained { block, usable, zeroed: false };
                }
                if class <= NBINS && (*cache).open(place) {
                    let block = self.fill(thread, cache, class, request.arena);
                    return Obtained { block, usable, zeroed: false };
                }
            }
        }
        if class > NBINS {
            return self.obtain_large(thread, usable, request);
        }
        let Some(arena) = self.arena_for(thread, request.arena) else { return NOTHING };
        let mut block = null_mut();
        // SAFETY: room for one pointer.
        let n = unsafe { arena.fill(class, &self.core.shared, &raw mut block, 1, Visit::REQUEST) };
        self.slow_operation(thread, arena);
        if n != 0 && wrong::is_checked() {
            // SAFETY: out of its slab just now.
            unsafe { self.check_untouched(block, usable) };
        }
        if n == 0 { NOTHING } else { Obtained { block, usable, zeroed: false } }
    }

    /// Fills the empty cache of `class` and takes a block of it; null: no memory.
    ///
    /// # Safety
    /// `cache` is the thread's own live state, or a cache that no other thread uses.
    unsafe fn fill(
        &'static self,
        thread: *mut Thread,
        cache: *mut Thread,
        class: usize,
        arena: Option<u32>,
    ) -> *mut u8 {
        let Some(arena) = self.arena_for(thread, arena) else { return null_mut() };
        // SAFETY: the caller's promise; the cache is empty and has `capacity` slots above its bottom.
        unsafe {
            let place = (*cache).place(class);
            let want = (*cache).fill_count(place);
            let slots = (*cache).bottom[place].add(1);
            let visit = Visit::cache((*cache).take_requests(place) + 1);
            let got = arena.fill(class, &self.core.shared, slots, want, visit);
            if got == 0 {
                return null_mut();
            }
            // Lowest address on top: it goes out first, so that the memory in use stays low and dense.
            core::slice::from_raw_parts_mut(slots, got).reverse();
            (*cache).top[place] = slots.add(got).sub(1);
            // Before the look at all caches that may follow. The bin knows of this request already.
            let block = (*cache).pop(place);
            (*cache).inflow[place] = (*cache).inflow[place].wrapping_add(got as u64 - 1);
            self.slow_operation(thread, arena);
            block
        }
    }

    #[unsafe(link_section = "heapsift_text")]
    fn obtain_large(&'static self, thread: *mut Thread, usable: usize, request: &Request) -> Obtained {
        if usable == 0 {
            return NOTHING;
        }
        let Some(arena) = self.arena_for_large(thread, usable, request.arena) else { return NOTHING };
        let class = size::large_class(usable);
        let zero = request.zero || self.options().zero;
        let extent = arena.allocate_large(&self.core.shared, usable, request.align, class, Visit::REQUEST, zero);
        self.slow_operation(thread, arena);
        if extent.is_null() {
            return NOTHING;
        }
        // SAFETY: a fresh active extent.
        let (address, zeroed) = unsafe { ((*extent).address(), (*extent).zeroed()) };
        Obtained { block: core::ptr::with_exposed_provenance_mut(address), usable, zeroed }
    }

    /// Unused pages are beyond their bound, and the arena that was worked on has too few of them.
    #[cold]
    pub(crate) fn trim_all(&'static self, target: Target) {
        for arena in self.core.arenas.iter() {
            arena.pages.trim(&self.core.shared, target);
        }
    }

    /// Looks through the thread's caches when that is due: at least [`LOOK_TICKS`] after the last look. Returns how long ago
    /// that was, in ticks of the processor.
    ///
    /// # Safety
    /// `thread` is the calling thread's own live state.
    pub(crate) unsafe fn look_after(&'static self, thread: *mut Thread) -> Option<u64> {
        // SAFETY: the caller's promise.
        unsafe {
            let now = sys::ticks();
            let passed = now.wrapping_sub((*thread).looked_through);
            if passed < LOOK_TICKS || (*thread).is_looking {
                return None;
            }
            (*thread).looked_through = now;
            self.look_through(thread, |_| true, |place| self.give_idle(thread, place));
            Some(passed)
        }
    }

    /// Does something with the caches of those places that are open, unless that is going on.
    ///
    /// # Safety
    /// `thread` is the calling thread's own live state.
    pub(crate) unsafe fn look_through(
        &'static self,
        thread: *mut Thread,
        which: impl Fn(usize) -> bool,
        look: impl Fn(usize),
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if (*thread).is_looking {
                return;
            }
            (*thread).is_looking = true;
            // Most threads use few of the classes.
            for place in places().filter(|&place| which(place) && !(*thread).is_closed(place)) {
                look(place);
            }
            (*thread).is_looking = false;
        }
    }

    /// Gives the lower half of a cache back when it was not used since the last look, and all that the thread has no use for.
    unsafe fn give_idle(&'static self, thread: *mut Thread, place: usize) {
        // SAFETY: the calling thread's own live state.
        unsafe {
            let cached = (*thread).cached(place);
            if cached == 0 {
                (*thread).shrink(place);
                return;
            }
            if (*thread).is_foreign(place) {
                return self.flush(thread, thread, place, 0);
            }
            let idle = (*thread).take_mark(place);
            if idle > 0 {
                (*thread).fill_less(place);
                self.flush(thread, thread, place, cached - idle);
                (*thread).shrink(place);
            }
            (*thread).set_mark(place, idle > 0);
        }
    }

    /// Takes part in the arena's upkeep now and then, and watches for new maxima.
    #[inline]
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) fn slow_operation(&'static self, thread: *mut Thread, arena: &'static Arena) {
        // SAFETY: the calling thread's state; the dead one isn't written.
        unsafe {
            if (*thread).kind != Kind::Live {
                return;
            }
            if let Some(target) = self.core.shared.beyond_bound() {
                self.trim_all(target);
            }
            let growths = self.core.shared.growths();
            if (*thread).growths != growths {
                (*thread).growths = growths;
                self.flush_for_growth(thread);
            }
            (*thread).ticks = (*thread).ticks.wrapping_sub(1);
            if (*thread).ticks >= TICKS {
                Self::note_peak(thread);
                (*thread).ticks = TICKS;
                self.start_background_if_due();
                self.look_after(thread);
                self.core.arenas.tick(arena, &self.core.shared);
            }
            if O::ENABLED && self.observer.wants_maxima() && (*thread).depth == 0 {
                let shared = &self.core.shared;
                let active = shared.active_bytes.load(Ordering::Relaxed);
                if active > shared.active_bytes_max.load(Ordering::Relaxed)
                    && active > shared.active_bytes_max.fetch_max(active, Ordering::Relaxed)
                {
                    (*thread).depth += 1;
                    self.observer.new_maximum(active);
                    (*thread).depth -= 1;
                }
            }
        }
    }

    /// A block for the library itself: from a private arena, never sampled, counted as metadata.
    pub fn internal_allocate(&'static self, layout: core::alloc::Layout) -> *mut u8 {
        self.ensure_booted();
        let request = Request {
            align: layout.align(),
            zero: false,
            tcache: TcacheChoice::None,
            arena: Some(crate::heap::INTERNAL_ARENA as u32),
        };
        self.obtain_with_room(crate::thread::DEAD.as_thread(), layout.size(), &request).block
    }

    /// Frees a block of [`Heap::internal_allocate`].
    ///
    /// # Safety
    /// `ptr` came from there and nobody uses it any more.
    pub unsafe fn internal_deallocate(&'static self, ptr: *mut u8, _layout: core::alloc::Layout) {
        // SAFETY: the caller's promise.
        unsafe {
            let extent = self.extent_of(ptr, b"free");
            let class = (*extent).class();
            if class > 0 {
                if wrong::is_checked() {
                    wrong::spoil(ptr, size::class_bytes(class));
                }
                let mut block = ptr;
                self.arena_of(extent).flush(class, &self.core.shared, &raw mut block, 1, Visit::FREE);
            } else {
                self.arena_of(extent).deallocate_large(&self.core.shared, extent);
            }
        }
    }
}
