//! The slow paths of freeing: full caches, large blocks, samples, what is no block.

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use crate::bin::Visit;
use crate::events::NEVER;
use crate::extent::{Extent, State};
use crate::heap::{Heap, Request, TcacheChoice};
use crate::observer::Observer;
use crate::size::{self, NBINS, NCLASSES, PAIRED, PLACES};
use crate::sys::{self, PAGE};
use crate::thread::{Kind, Thread, share_of};
use crate::tls;
use crate::wrong::{self, Kind as Fault, Wrong};

impl<O: Observer> Heap<O> {
    /// Everything that the fast path of freeing leaves: null, full caches, flagged pages, large blocks, strangers.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) unsafe extern "C" fn deallocate_slow(&'static self, ptr: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            if !self.put_large_in_cache(ptr) {
                self.deallocate_other(ptr);
            }
        }
    }

    /// As [`Heap::deallocate_slow`], for a block whose requested size and alignment are known.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) unsafe extern "C" fn deallocate_slow_sized(&'static self, ptr: *mut u8, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.put_large_in_cache(ptr) {
                return;
            }
            if wrong::is_checked() && !ptr.is_null() {
                return self.deallocate_request(ptr, TcacheChoice::Automatic, Some((size, align)));
            }
            self.deallocate_other(ptr);
        }
    }

    /// The fast path of freeing for large blocks of a cached class: into the thread's cache, the byte of the page map
    /// cleared, by which a second free is found. `false`: ask on.
    #[inline(always)]
    unsafe fn put_large_in_cache(&'static self, ptr: *mut u8) -> bool {
        let thread = tls::thread();
        // SAFETY: as in `deallocate`. A byte that isn't 0 is one of the array, and the thread's own copy of its place is right;
        // the block's byte is the caller's to change.
        unsafe {
            let (map, index) = ((*thread).map, ptr.addr() >> ((*thread).map_shift & 63));
            let flagged = sys::load_byte(map, index);
            // Flagged pages of slabs, and large blocks with a sample, have other bytes, and so has what isn't flagged.
            let class = flagged.wrapping_sub(i8::MIN as isize).cast_unsigned();
            if class.wrapping_sub(NBINS + 1) >= NCLASSES - NBINS || ptr.addr() & (PAGE - 1) != 0 {
                return false;
            }
            let top_slot = (&raw mut (*thread).top).cast::<*mut *mut u8>().add(class);
            let top = *top_slot;
            if top == *(&raw const (*thread).last).cast::<*mut *mut u8>().add(class) {
                self.put_large_in_full_cache(ptr, class);
                return true;
            }
            (*map.add(index)).store(0, Ordering::Relaxed);
            let top = top.add(1);
            *top = ptr;
            *top_slot = top;
            let frees = (&raw mut (*thread).frees).cast::<u64>().add(class);
            *frees = (*frees).wrapping_add(1);
            true
        }
    }

    /// A large block of a cached class, in use and without a sample, of whose class the cache is full.
    ///
    /// # Safety
    /// The calling thread has a live state; nobody uses the block any more.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    unsafe extern "C" fn put_large_in_full_cache(&'static self, ptr: *mut u8, class: usize) {
        let thread = tls::thread();
        // SAFETY: the caller's promise; a block in use has an extent.
        unsafe {
            if !self.put_in_cache(thread, thread, class, ptr) {
                let extent = self.core.shared.map.extent(ptr.addr());
                self.put_back(thread, extent, ptr, class, size::class_bytes(class));
            }
        }
    }

    /// Gives a block back to its arena, past the caches.
    ///
    /// # Safety
    /// `extent` is the active extent of the block, which is of `class` (0: none that is cached) and `usable` bytes, and which
    /// nobody uses any more. `thread` is the calling thread's state.
    #[inline]
    unsafe fn put_back(
        &'static self,
        thread: *mut Thread,
        extent: *mut Extent,
        ptr: *mut u8,
        class: usize,
        usable: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            self.count_freed(thread, usable);
            let arena = self.arena_of(extent);
            if (*extent).is_slab() {
                let mut block = ptr;
                arena.flush(class, &self.core.shared, &raw mut block, 1, Visit::FREE);
            } else {
                arena.deallocate_large(&self.core.shared, extent);
            }
            self.slow_operation(thread, arena);
        }
    }

    /// The fast path of freeing for the blocks of a slab that begin in the page of one with a live sample, and for that one
    /// itself, which is as the others once its sample is forgotten. `false`: ask on.
    #[inline(always)]
    unsafe fn put_flagged_in_cache(&'static self, ptr: *mut u8) -> bool {
        let thread = tls::thread();
        // SAFETY: as above. The descriptor of a block in use is there, and is never unmapped.
        unsafe {
            let flagged = sys::load_byte((*thread).map, ptr.addr() >> ((*thread).map_shift & 63));
            let place = flagged.wrapping_sub(i8::MIN as isize).cast_unsigned();
            if place.wrapping_sub(1) >= PLACES - 1 || !size::is_slab(place) {
                return false;
            }
            let extent = self.core.shared.map.extent(ptr.addr());
            if extent.is_null() || (*thread).has_on_top(place, ptr) {
                return false;
            }
            self.forget(thread, extent, ptr);
            (*thread).push(place, ptr)
        }
    }

    /// The fast path of freeing for large blocks with a live sample, which are as others once that is forgotten. `false`: ask
    /// on.
    #[inline(always)]
    unsafe fn put_sampled_in_cache(&'static self, ptr: *mut u8) -> bool {
        let thread = tls::thread();
        // SAFETY: as above. A flagged page of which no class is told begins with a block in use that has a sample.
        unsafe {
            let flagged = sys::load_byte((*thread).map, ptr.addr() >> ((*thread).map_shift & 63));
            if flagged != isize::from(i8::MIN) || ptr.addr() & (PAGE - 1) != 0 {
                return false;
            }
            let extent = self.core.shared.map.extent(ptr.addr());
            if extent.is_null() || (*extent).is_guarded_block() {
                return false;
            }
            self.forget(thread, extent, ptr);
            self.put_large_in_cache(ptr)
        }
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    unsafe extern "C" fn deallocate_other(&'static self, ptr: *mut u8) {
        if ptr.is_null() {
            return;
        }
        // SAFETY: the calling thread's state; the caller's promise.
        unsafe {
            if self.put_flagged_in_cache(ptr) || self.put_sampled_in_cache(ptr) {
                return;
            }
            if (*tls::thread()).shows_frees && self.deallocate_shown(ptr) {
                return;
            }
            self.deallocate_request(ptr, TcacheChoice::Automatic, None);
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
                && !(*thread).has_on_top(class as usize, ptr)
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
        unsafe { self.deallocate_request(ptr, request.tcache, None) }
    }

    /// As [`Heap::deallocate_with`], for a block whose requested size is known; the alignment is the request's.
    ///
    /// # Safety
    /// As [`Heap::deallocate_with`].
    pub unsafe fn deallocate_sized_with(&'static self, ptr: *mut u8, size: usize, request: Request) {
        // SAFETY: the caller's promise.
        unsafe { self.deallocate_request(ptr, request.tcache, Some((size, request.align))) }
    }

    /// The extent of a block in use; ends the process when `ptr` isn't one.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) unsafe fn extent_of(&'static self, ptr: *const u8, what: &[u8]) -> *mut Extent {
        let extent = self.core.shared.map.extent(ptr.addr());
        if let Err(kind) = self.check_in_use(extent, ptr.addr()) {
            self.tell(Wrong::new(ptr.addr(), kind), what);
            // There is nothing to go on with.
            sys::abort();
        }
        extent
    }

    /// As [`Heap::check_extent`]; in the checked mode a slab's bitmap is asked as well.
    #[inline]
    fn check_in_use(&'static self, extent: *const Extent, address: usize) -> Result<(), Fault> {
        self.check_extent(extent, address)?;
        // SAFETY: an active extent, as has been asked.
        unsafe {
            if wrong::is_checked() && (*extent).is_slab() {
                let class = (*extent).class();
                return self.arena_of(extent).bin(class).check(class, extent, address);
            }
        }
        Ok(())
    }

    /// Whether a block in use may begin at `address` by what `extent`, which is registered there (null: none), says.
    #[inline]
    fn check_extent(&'static self, extent: *const Extent, address: usize) -> Result<(), Fault> {
        // SAFETY: descriptors are never unmapped, and these fields are atomic.
        let Some(extent) = (unsafe { extent.as_ref() }) else { return Err(Fault::Foreign) };
        let (class, begins) = (extent.class(), extent.address() == address);
        if extent.state() != State::Active {
            // The page that the last free of the block left, if nobody has it now.
            return Err(if begins && extent.state() != State::Unused { Fault::Free(0) } else { Fault::Foreign });
        }
        if extent.is_slab() {
            return if address.wrapping_sub(extent.address()) < extent.bytes() { Ok(()) } else { Err(Fault::Foreign) };
        }
        if !begins {
            return Err(if address.wrapping_sub(extent.address()) < extent.bytes() {
                Fault::Inside(extent.address(), extent.bytes())
            } else {
                Fault::Foreign
            });
        }
        let map = &self.core.shared.map;
        if class != 0 && map.class_byte(address) == 0 && map.has_bytes() {
            // In some thread's cache.
            return Err(Fault::Free(extent.bytes()));
        }
        Ok(())
    }

    #[unsafe(link_section = "heapsift_text")]
    unsafe fn deallocate_request(&'static self, ptr: *mut u8, tcache: TcacheChoice, said: Option<(usize, usize)>) {
        let thread = self.thread();
        let extent = self.core.shared.map.extent(ptr.addr());
        if let Err(kind) = self.check_in_use(extent, ptr.addr()) {
            return self.tell(Wrong::new(ptr.addr(), kind), b"free");
        }
        // SAFETY: an active extent; the block is the caller's to give up.
        unsafe {
            if (*extent).is_guarded_block() {
                return self.deallocate_guarded(thread, extent, ptr, said);
            }
            let class = (*extent).class();
            let usable = if class > 0 { size::class_bytes(class) } else { (*extent).bytes() };
            let cache = if class > 0 { self.cache_of(thread, tcache) } else { null_mut() };
            let place = if core::ptr::eq(cache, thread) { self.place_of(extent) } else { class };
            if !cache.is_null() && (*cache).has_on_top(place, ptr) {
                return Wrong::new(ptr.addr(), Fault::Free(usable)).tell(b"free");
            }
            if wrong::is_checked()
                && let Err(kind) = Self::check_size(said, usable)
            {
                return self.tell(Wrong::new(ptr.addr(), kind), b"free");
            }
            self.forget(thread, extent, ptr);
            // Large blocks are not looked at when their pages are used again.
            if self.options().junk_free || (wrong::is_checked() && class > 0) {
                wrong::spoil(ptr, usable);
            }
            let is_live = (*thread).kind == Kind::Live;
            if is_live && (*thread).events.deallocated_at != NEVER {
                self.deallocation_events(thread, usable);
            }
            if !cache.is_null() && self.put_in_cache(thread, cache, place, ptr) {
                // A push counts in the cache that it is to.
                if core::ptr::eq(cache, thread) {
                    (*thread).show_freed(usable);
                } else {
                    self.count_freed(thread, usable);
                }
                return;
            }
            self.put_back(thread, extent, ptr, class, usable);
        }
    }

    /// Counts freed bytes in the thread, or where those of threads without a state are counted.
    ///
    /// # Safety
    /// `thread` is the calling thread's state.
    #[inline]
    pub(crate) unsafe fn count_freed(&'static self, thread: *mut Thread, usable: usize) {
        // SAFETY: a live state is the calling thread's own.
        unsafe {
            if (*thread).kind == Kind::Live {
                (*thread).count_freed(usable);
            } else {
                self.core.gone_deallocated.fetch_add(usable as u64, Ordering::Relaxed);
            }
        }
    }

    /// Where a thread caches the blocks of an active extent that has a class.
    unsafe fn place_of(&'static self, extent: *const Extent) -> usize {
        // SAFETY: the caller's extent.
        unsafe {
            let class = (*extent).class();
            if class <= PAIRED { size::place(class, self.arena_of(extent).pages.is_odd()) } else { class }
        }
    }

    /// Puts a block in a cache, which may have to give others back first. `false`: there is no room for it.
    ///
    /// # Safety
    /// `cache` is the thread's own live state, or a cache that no other thread uses; the block is of the class at `place`, and
    /// nobody uses it.
    unsafe fn put_in_cache(
        &'static self,
        thread: *mut Thread,
        cache: *mut Thread,
        place: usize,
        block: *mut u8,
    ) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let mut share = self.core.cache_share.load(Ordering::Relaxed);
            let is_slab = size::is_slab(place);
            if !is_slab {
                share = share.min(share_of(self.core.shared.active_bytes.load(Ordering::Relaxed)));
            }
            if self.push(cache, place, block) || ((*cache).grow(place, share) && self.push(cache, place, block)) {
                return true;
            }
            let cached = (*cache).cached(place);
            if cached == 0 {
                return false;
            }
            let options = self.options();
            let (small, large) = (options.lg_tcache_flush_small_div, options.lg_tcache_flush_large_div);
            // What goes is at least one block.
            let gone = if (*cache).is_foreign(place) {
                cached
            } else {
                (cached >> if is_slab { small } else { large }).max(1)
            };
            self.flush(thread, cache, place, cached - gone);
            if (*cache).note_overflow(place) {
                let extent = self.core.shared.map.extent(block.addr());
                let (counts, _) = self.arena_of(extent).bin(size::class_at(place)).counts();
                (*cache).judge_overflows(place, counts.nfills);
            }
            // The flush may have come to a look at all caches, which takes unused room back.
            self.push(cache, place, block) || ((*cache).grow(place, share) && self.push(cache, place, block))
        }
    }

    /// Puts a block on a cache and, if it is a large one, says so in the page map. `false`: the cache is full.
    unsafe fn push(&'static self, cache: *mut Thread, place: usize, block: *mut u8) -> bool {
        // SAFETY: as in `put_in_cache`.
        let is_in = unsafe { (*cache).push(place, block) };
        if is_in && !size::is_slab(place) {
            self.core.shared.map.set_class(block.addr(), 1, 0);
        }
        is_in
    }

    /// Tells the observer that a block goes away, if it may be one with a live sample.
    ///
    /// # Safety
    /// `extent` is the active extent of the block, which is the caller's; `thread` the calling thread's state.
    #[inline]
    pub(crate) unsafe fn forget(&'static self, thread: *mut Thread, extent: *mut Extent, ptr: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            if O::ENABLED && (*extent).may_be_sampled(ptr.addr()) {
                self.forget_sample(thread, extent, ptr);
            }
        }
    }

    #[inline(never)]
    unsafe fn forget_sample(&'static self, thread: *mut Thread, extent: *mut Extent, ptr: *mut u8) {
        // SAFETY: an active extent; the thread's own state, or a slot for the occasion.
        unsafe {
            let arena = self.ask_for_sample(extent, ptr.addr());
            let removed = if (*thread).kind == Kind::Live {
                (*thread).depth += 1;
                let removed = self.observer.freed(&mut (*thread).slot, ptr.addr(), arena);
                (*thread).depth -= 1;
                removed
            } else {
                let mut slot = crate::observer::ThreadSlot { uid: 0, words: [0; 7] };
                self.observer.freed(&mut slot, ptr.addr(), arena)
            };
            if removed {
                self.flag(extent, ptr.addr(), false);
            }
        }
    }

    /// Gives blocks of a cache back, the oldest first, until `keep` are left.
    ///
    /// # Safety
    /// `cache` is the thread's own live state, or a cache that no other thread uses; `thread` is the calling thread's
    /// state.
    pub(crate) unsafe fn flush(&'static self, thread: *mut Thread, cache: *mut Thread, place: usize, keep: usize) {
        // SAFETY: the caller's promise; the cache holds blocks of its class that nobody uses.
        unsafe {
            let cached = (*cache).cached(place);
            if cached <= keep {
                return;
            }
            (*cache).take_mark(place);
            let slots = (*cache).bottom[place].add(1);
            let mut left = cached - keep;
            let mut arena = None;
            let shrinks = self.core.shared.shrinks();
            while left > 0 {
                let extent = self.core.shared.map.extent((*slots).addr());
                if extent.is_null() {
                    // The slab that it was in is gone.
                    Wrong::new((*slots).addr(), Fault::Free(size::class_bytes(place))).tell(b"free");
                    left -= 1;
                    *slots = *slots.add(left);
                    continue;
                }
                let owner = self.arena_of(extent);
                let visit = Visit::cache((*cache).take_requests(place));
                left = owner.flush(size::class_at(place), &self.core.shared, slots, left, visit);
                arena = Some(owner);
            }
            slots.copy_from(slots.add(cached - keep), keep);
            (*cache).top[place] = (*cache).bottom[place].add(keep);
            (*cache).inflow[place] = (*cache).inflow[place].wrapping_sub((cached - keep) as u64);
            if let Some(arena) = arena {
                self.slow_operation(thread, (*thread).arena.unwrap_or(arena));
            }
            if self.core.shared.shrinks() != shrinks {
                self.flush_while_shrinking(thread);
            }
        }
    }

    /// Empties and narrows the caches of a thread whose frees have just taken the heap beyond the bound on unused pages: each block in
    /// them may be the last one of its slab, and this may be the end of what the program frees.
    ///
    /// # Safety
    /// `thread` is the calling thread's state.
    #[cold]
    unsafe fn flush_while_shrinking(&'static self, thread: *mut Thread) {
        // SAFETY: a live state is the calling thread's own.
        unsafe {
            if (*thread).kind == Kind::Live && !(*thread).is_looking {
                self.look_through(thread, |_| true, |place| self.flush(thread, thread, place, 0));
                (*thread).narrow();
            }
        }
    }

    /// Empties the caches of slab classes of a thread while the process grows: what the program freed when it did something
    /// else may be the last blocks of as many slabs, whose memory would do. Whole pages are of use where they are: back in the
    /// arena, small requests would cut them up.
    ///
    /// # Safety
    /// `thread` is the calling thread's own live state.
    #[cold]
    pub(crate) unsafe fn flush_for_growth(&'static self, thread: *mut Thread) {
        // SAFETY: the caller's promise.
        unsafe { self.look_through(thread, size::is_slab, |place| self.flush(thread, thread, place, 0)) };
    }
}
