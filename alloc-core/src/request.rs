//! The slow paths of allocating and freeing: empty and full caches, large blocks, samples.

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use crate::arena::Arena;
use crate::bin::Visit;
use crate::events::NEVER;
use crate::extent::{Extent, State};
use crate::heap::{Heap, Request, TcacheChoice};
use crate::message::{Decimal, fatal};
use crate::observer::Observer;
use crate::pagemap::FLAG;
use crate::size::{self, CLASS_MAX, NBINS, NCLASSES, SMALL_MAX};
use crate::sys::{self, Entry, PAGE};
use crate::thread::{Kind, Thread};
use crate::tls;

/// Slow operations of a thread between two looks at its arena's decay.
const TICKS: u32 = 64;
/// Processor ticks between two looks through a thread's caches: about 10 ms.
const LOOK_TICKS: u64 = 1 << 25;

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
        if !block.is_null() {
            return block;
        }
        let entry = sys::entry();
        self.allocate_request(size, &Request::PLAIN, &entry)
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) extern "C" fn allocate_slow_or(&'static self, size: usize, failed: extern "C" fn(usize) -> *mut u8) -> *mut u8 {
        let block = self.allocate_cached(size);
        if !block.is_null() {
            return block;
        }
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
        let class = size::class_of(size);
        // SAFETY: the slot always holds a live state; the shared ones, which have a cache of class 0 only, are not plain.
        unsafe {
            if !(*thread).is_plain() {
                return null_mut();
            }
            let top = (*thread).top[class];
            let block = *top;
            if block.is_null() {
                return null_mut();
            }
            let usable = size::class_bytes(class) as u64;
            let (countdown, ended) = (*thread).countdown.overflowing_sub(usable);
            if ended || countdown >> 63 != 0 {
                return null_mut();
            }
            (*thread).countdown = countdown;
            (*thread).allocated = (*thread).allocated.wrapping_add(usable);
            (*thread).top[class] = top.sub(1);
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
        let found = self.obtain(thread, size, request);
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

    /// Has a block read as zero: from `calloc_madvise_threshold` on by having the kernel take its pages away, unless
    /// they are of a program's hooks, and so perhaps of a file.
    fn clear(&'static self, found: &Obtained) {
        let address = found.block.addr();
        let by_kernel = found.usable >= self.options().calloc_madvise_threshold
            && (address | found.usable).is_multiple_of(sys::PAGE)
            // SAFETY: the extent of a block in use.
            && unsafe { !self.arena_of(self.core.shared.map.extent(address)).pages.has_hooks() }
            && sys::dont_need_clears();
        // SAFETY: the pages are the block's alone, and nobody has seen them.
        if by_kernel && unsafe { sys::advise(address, found.usable, sys::Advice::DontNeed) }.is_ok() {
            return;
        }
        // SAFETY: the block is ours and has `usable` bytes.
        unsafe { found.block.write_bytes(0, found.usable) };
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

    /// Notes that a live sample is (no longer) at `address`, a block in use.
    pub(crate) unsafe fn flag(&'static self, address: usize, sampled: bool) {
        let shared = &self.core.shared;
        let extent = shared.map.extent(address);
        // SAFETY: the block is in use, so its extent is active and stays so.
        unsafe {
            let class = (*extent).class();
            if (*extent).is_slab() {
                self.arena_of(extent).bin(class).flag(class, extent, shared, address, sampled);
            } else {
                (*extent).set_sampled(sampled);
                let flag = if sampled { FLAG } else { 0 };
                shared.map.set_class((*extent).address(), 1, class as u8 | flag);
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
            return self.obtain_large(thread, size, request);
        };
        let usable = size::class_bytes(class);
        let cache = self.cache_of(thread, request.tcache);
        let may_cache = request.arena.is_none() || matches!(request.tcache, TcacheChoice::Explicit(_));
        if !cache.is_null() && may_cache {
            // SAFETY: the thread's own live state, or a cache that the program lets no other thread use.
            unsafe {
                let block = (*cache).pop(class);
                if !block.is_null() {
                    return Obtained { block, usable, zeroed: false };
                }
                if class <= NBINS && (*cache).capacity(class) > 0 {
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
            let want = (*cache).fill_count(class);
            let slots = (*cache).bottom[class].add(1);
            let visit = Visit::cache((*cache).take_requests(class) + 1);
            let got = arena.fill(class, &self.core.shared, slots, want, visit);
            if got == 0 {
                return null_mut();
            }
            // Lowest address on top: it goes out first, so that the memory in use stays low and dense.
            core::slice::from_raw_parts_mut(slots, got).reverse();
            (*cache).top[class] = slots.add(got).sub(1);
            // Before the look at all caches that may follow. The bin knows of this request already.
            let block = (*cache).pop(class);
            (*cache).inflow[class] = (*cache).inflow[class].wrapping_add(got as u64 - 1);
            self.slow_operation(thread, arena);
            block
        }
    }

    #[unsafe(link_section = "heapsift_text")]
    fn obtain_large(&'static self, thread: *mut Thread, size: usize, request: &Request) -> Obtained {
        let usable = size::usable_size_for(size, request.align);
        if usable == 0 {
            return NOTHING;
        }
        let Some(arena) = self.arena_for_large(thread, usable, request.arena) else { return NOTHING };
        let class = size::large_class(usable);
        let extent = arena.allocate_large(&self.core.shared, usable, request.align, class, 1);
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
    pub(crate) fn trim_all(&'static self, bytes: usize) {
        for arena in self.core.arenas.iter() {
            arena.pages.trim(&self.core.shared, bytes);
        }
    }

    /// Looks through the thread's caches when that is due.
    ///
    /// # Safety
    /// `thread` is the calling thread's own live state.
    pub(crate) unsafe fn look_after(&'static self, thread: *mut Thread) {
        // SAFETY: the caller's promise.
        unsafe {
            let now = sys::ticks();
            if now.wrapping_sub((*thread).looked_through) < LOOK_TICKS || (*thread).is_looking {
                return;
            }
            (*thread).looked_through = now;
            (*thread).is_looking = true;
            for class in 1..=NCLASSES {
                self.give_idle(thread, class);
            }
            (*thread).is_looking = false;
        }
    }

    /// Gives the lower half of a cache back when it was not used since the last look.
    unsafe fn give_idle(&'static self, thread: *mut Thread, class: usize) {
        // SAFETY: the calling thread's own live state.
        unsafe {
            let cached = (*thread).cached(class);
            if cached == 0 {
                (*thread).shrink(class);
                return;
            }
            let idle = (*thread).take_mark(class);
            if idle > 0 {
                (*thread).fill_less(class);
                self.flush(thread, thread, class, cached - idle);
                (*thread).shrink(class);
            }
            (*thread).set_mark(class);
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
            if let Some(bytes) = self.core.shared.beyond_bound() {
                self.trim_all(bytes);
            }
            (*thread).ticks = (*thread).ticks.wrapping_sub(1);
            if (*thread).ticks >= TICKS {
                Self::note_peak(thread);
                (*thread).ticks = TICKS;
                self.start_background_if_due();
                self.look_after(thread);
                arena.tick(&self.core.shared);
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

    /// Everything that the fast path of freeing leaves: null, full caches, flagged slabs, large blocks, strangers.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) unsafe extern "C" fn deallocate_slow(&'static self, ptr: *mut u8) {
        if ptr.is_null() {
            return;
        }
        // SAFETY: the calling thread's state; the caller's promise.
        unsafe {
            if (*tls::thread()).shows_frees && self.deallocate_shown(ptr) {
                return;
            }
            self.deallocate_request(ptr, TcacheChoice::Automatic)
        }
    }

    /// The fast path of freeing for a thread whose program looks at the counter of freed bytes. `false`: ask on.
    unsafe fn deallocate_shown(&'static self, ptr: *mut u8) -> bool {
        let thread = tls::thread();
        let (map, shift) = self.core.shared.map.flat();
        // SAFETY: as in `deallocate`.
        unsafe {
            let class = (*map.add(ptr.addr() >> (shift & 63))).load(Ordering::Relaxed) as isize;
            let done = class > 0
                && self.options().has_plain_frees()
                && (*thread).events.deallocated_at == NEVER
                && (*thread).push(class as usize, ptr);
            if done {
                (*thread).show_freed(size::class_bytes(class as usize));
            }
            done
        }
    }

    /// Frees a block by the rules of the `*allocx` family.
    ///
    /// # Safety
    /// `ptr` is a block of this heap that nobody uses any more.
    pub unsafe fn deallocate_with(&'static self, ptr: *mut u8, request: Request) {
        // SAFETY: the caller's promise.
        unsafe { self.deallocate_request(ptr, request.tcache) }
    }

    /// The extent of a block in use; ends the process when `ptr` isn't one.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) unsafe fn extent_of(&'static self, ptr: *const u8, what: &[u8]) -> *mut Extent {
        let address = ptr.addr();
        let extent = self.core.shared.map.extent(address);
        // SAFETY: descriptors are never unmapped, and these fields are atomic.
        let valid = !extent.is_null()
            && unsafe {
                (*extent).state() == State::Active
                    && ((*extent).is_slab() || (*extent).address() == address)
                    && address.wrapping_sub((*extent).address()) < (*extent).bytes()
            };
        if !valid {
            let hex = Decimal::hex(address as u64);
            fatal(&[what, b" of 0x", hex.as_bytes(), b", which is not a block in use of this heap"]);
        }
        extent
    }

    #[unsafe(link_section = "heapsift_text")]
    unsafe fn deallocate_request(&'static self, ptr: *mut u8, tcache: TcacheChoice) {
        let thread = self.thread();
        // SAFETY: `extent_of` returns an active extent or doesn't return; the block is the caller's to give up.
        unsafe {
            let extent = self.extent_of(ptr, b"free");
            let class = (*extent).class();
            let usable = if class > 0 { size::class_bytes(class) } else { (*extent).bytes() };
            self.forget(thread, extent, ptr);
            if self.options().junk_free {
                ptr.write_bytes(0x5a, usable);
            }
            let is_live = (*thread).kind == Kind::Live;
            if is_live && (*thread).events.deallocated_at != NEVER {
                self.deallocation_events(thread, usable);
            }
            let cache = if class > 0 { self.cache_of(thread, tcache) } else { null_mut() };
            if !cache.is_null() && self.put_in_cache(thread, cache, class, ptr) {
                // A push counts in the cache that it is to.
                if core::ptr::eq(cache, thread) {
                    (*thread).show_freed(usable);
                } else if is_live {
                    (*thread).count_freed(usable);
                }
                return;
            }
            if is_live {
                (*thread).count_freed(usable);
            } else {
                self.core.gone_deallocated.fetch_add(usable as u64, Ordering::Relaxed);
            }
            let arena = self.arena_of(extent);
            if class > 0 {
                let mut block = ptr;
                arena.flush(class, &self.core.shared, &raw mut block, 1, Visit::FREE);
            } else {
                arena.deallocate_large(&self.core.shared, extent);
            }
            self.slow_operation(thread, arena);
        }
    }

    /// Puts a block in a cache, which may have to give others back first. `false`: there is no room for it.
    ///
    /// # Safety
    /// `cache` is the thread's own live state, or a cache that no other thread uses; the block is of `class`, and nobody
    /// uses it.
    unsafe fn put_in_cache(
        &'static self,
        thread: *mut Thread,
        cache: *mut Thread,
        class: usize,
        block: *mut u8,
    ) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            if (*cache).push(class, block) || ((*cache).grow(class) && (*cache).push(class, block)) {
                return true;
            }
            let cached = (*cache).cached(class);
            if cached == 0 {
                return false;
            }
            let options = self.options();
            let (small, large) = (options.lg_tcache_flush_small_div, options.lg_tcache_flush_large_div);
            // What goes is at least one block.
            let gone = (cached >> if class <= NBINS { small } else { large }).max(1);
            self.flush(thread, cache, class, cached - gone);
            // The flush may have come to a look at all caches, which takes unused room back.
            (*cache).push(class, block) || ((*cache).grow(class) && (*cache).push(class, block))
        }
    }

    /// Tells the observer that a block goes away, if it may be one with a live sample.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) unsafe fn forget(&'static self, thread: *mut Thread, extent: *mut Extent, ptr: *mut u8) {
        // SAFETY: an active extent; the thread's own state, or a slot for the occasion.
        unsafe {
            if !O::ENABLED || !(*extent).may_be_sampled(ptr.addr()) {
                return;
            }
            let removed = if (*thread).kind == Kind::Live {
                (*thread).depth += 1;
                let removed = self.observer.freed(&mut (*thread).slot, ptr.addr());
                (*thread).depth -= 1;
                removed
            } else {
                let mut slot = crate::observer::ThreadSlot { uid: 0, words: [0; 7] };
                self.observer.freed(&mut slot, ptr.addr())
            };
            if removed {
                self.flag(ptr.addr(), false);
            }
        }
    }

    /// Gives blocks of a cache back, the oldest first, until `keep` are left.
    ///
    /// # Safety
    /// `cache` is the thread's own live state, or a cache that no other thread uses; `thread` is the calling thread's
    /// state.
    pub(crate) unsafe fn flush(&'static self, thread: *mut Thread, cache: *mut Thread, class: usize, keep: usize) {
        // SAFETY: the caller's promise; the cache holds blocks of `class` that nobody uses.
        unsafe {
            let cached = (*cache).cached(class);
            if cached <= keep {
                return;
            }
            (*cache).take_mark(class);
            let slots = (*cache).bottom[class].add(1);
            let mut left = cached - keep;
            let mut arena = None;
            while left > 0 {
                let extent = self.core.shared.map.extent((*slots).addr());
                let owner = self.arena_of(extent);
                let visit = Visit::cache((*cache).take_requests(class));
                left = owner.flush(class, &self.core.shared, slots, left, visit);
                arena = Some(owner);
            }
            slots.copy_from(slots.add(cached - keep), keep);
            (*cache).top[class] = (*cache).bottom[class].add(keep);
            (*cache).inflow[class] = (*cache).inflow[class].wrapping_sub((cached - keep) as u64);
            if let Some(arena) = arena {
                self.slow_operation(thread, (*thread).arena.unwrap_or(arena));
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
        self.obtain(crate::thread::DEAD.as_thread(), layout.size(), &request).block
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
                let mut block = ptr;
                self.arena_of(extent).flush(class, &self.core.shared, &raw mut block, 1, Visit::FREE);
            } else {
                self.arena_of(extent).deallocate_large(&self.core.shared, extent);
            }
        }
    }
}
