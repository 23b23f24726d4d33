//! Changing the size of a block, and asking for it.

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use crate::extent::{Extent, LARGE};
use crate::heap::{Heap, Request};
use crate::observer::Observer;
use crate::pages::relocate::RELOCATE_MIN;
use crate::size::{self, NBINS, SMALL_MAX};
use crate::sys::{self, Entry};
use crate::thread::Thread;
use crate::tls;
use crate::wrong::is_checked;

impl<O: Observer> Heap<O> {
    /// The bytes that the caller may use of a block; 0 for null.
    ///
    /// # Safety
    /// `ptr` is null or a block in use of this heap (anything else ends the process with a line).
    #[inline]
    pub unsafe fn usable_size(&'static self, ptr: *const u8) -> usize {
        let thread = tls::thread();
        // SAFETY: the slot always holds a live state, with a map for every address.
        let byte = unsafe { sys::load_byte((*thread).map, ptr.addr() >> ((*thread).map_shift & 63)) };
        let place = byte.cast_unsigned() & usize::from(!crate::pagemap::FLAG);
        let bytes = size::SIZES.get(place).map_or(0, |&bytes| bytes as usize);
        if bytes > 0 && !is_checked() {
            return bytes;
        }
        // SAFETY: the caller's promise.
        unsafe { self.usable_size_by_extent(ptr) }
    }

    /// [`Heap::usable_size`] of a block without a byte in the map.
    ///
    /// # Safety
    /// As there.
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    unsafe fn usable_size_by_extent(&'static self, ptr: *const u8) -> usize {
        if ptr.is_null() {
            return 0;
        }
        // SAFETY: `extent_of` returns an active extent or doesn't return.
        unsafe {
            let extent = self.extent_of(ptr, b"malloc_usable_size");
            usable_of(extent)
        }
    }

    /// Whether `ptr` lies in an active extent of this heap.
    pub fn owns(&'static self, ptr: *const u8) -> bool {
        let extent = self.core.shared.map.extent(ptr.addr());
        // SAFETY: descriptors are never unmapped, and the state is atomic.
        !extent.is_null() && unsafe { (*extent).state() } == crate::extent::State::Active
    }

    /// Changes the size of a block, which may move; null when there is no memory (the block stays as it was).
    ///
    /// # Safety
    /// `ptr` is a block in use of this heap, the caller's; when the result isn't null, `ptr` is gone.
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    pub unsafe fn reallocate(&'static self, ptr: *mut u8, new_size: usize) -> *mut u8 {
        let thread = tls::thread();
        // SAFETY: the slot always holds a live state, with a map for every address; the block is the caller's. A positive
        // byte is the class of a block that nobody watches.
        unsafe {
            let old = (*(*thread).map.add(ptr.addr() >> ((*thread).map_shift & 63))).load(Ordering::Relaxed);
            if old > 0 && new_size <= SMALL_MAX {
                let place = old as usize;
                if place <= NBINS {
                    return self.reallocate_small(ptr, place, new_size);
                }
                if size::is_slab(place) {
                    return self.reallocate_small_elsewhere(ptr, size::class_at(place), new_size);
                }
            }
            self.reallocate_request(ptr, new_size, &Request::PLAIN, &sys::entry())
        }
    }

    /// Changes the size of a block of a slab class that has no live sample.
    ///
    /// # Safety
    /// As [`Heap::reallocate`]; the block is of class `old`, and `new_size` at most [`SMALL_MAX`].
    #[inline(always)]
    unsafe fn reallocate_small(&'static self, ptr: *mut u8, old: usize, new_size: usize) -> *mut u8 {
        if old == size::class_of(new_size) {
            return ptr;
        }
        // SAFETY: the caller's promise.
        unsafe {
            let fresh = self.allocate_or_else(
                new_size,
                #[inline(always)]
                |size| self.allocate_request(size, &Request::PLAIN, &sys::entry()),
            );
            if !fresh.is_null() {
                // No more than was asked for: a guarded block ends there.
                fresh.copy_from_nonoverlapping(ptr, size::class_bytes(old).min(new_size));
                self.deallocate(ptr);
            }
            fresh
        }
    }

    /// The same for a block at the second place of its class.
    ///
    /// # Safety
    /// As [`Heap::reallocate_small`].
    #[inline(never)]
    unsafe fn reallocate_small_elsewhere(&'static self, ptr: *mut u8, old: usize, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.reallocate_small(ptr, old, new_size) }
    }

    /// As [`Heap::reallocate`], by the rules of the `*allocx` family.
    ///
    /// # Safety
    /// As [`Heap::reallocate`].
    #[inline(never)]
    pub unsafe fn reallocate_with(&'static self, ptr: *mut u8, size: usize, request: Request) -> *mut u8 {
        let entry = sys::entry();
        // SAFETY: the caller's promise.
        unsafe { self.reallocate_request(ptr, size, &request, &entry) }
    }

    unsafe fn reallocate_request(
        &'static self,
        ptr: *mut u8,
        new_size: usize,
        request: &Request,
        entry: &Entry,
    ) -> *mut u8 {
        let thread = self.thread();
        // SAFETY: `extent_of` returns an active extent or doesn't return; the block is the caller's.
        unsafe {
            let extent = self.extent_of(ptr, b"realloc");
            let old_usable = usable_of(extent);
            let new_usable = size::usable_size_for(new_size, request.align);
            if new_usable == 0 {
                return null_mut();
            }
            if ptr.addr() & (request.align - 1) == 0
                && self.resize_block(thread, extent, ptr, new_size, new_usable, request.zero, entry)
            {
                return ptr;
            }
            let fresh = self.relocate_block(thread, extent, ptr, new_size, new_usable, request, entry);
            if !fresh.is_null() {
                return fresh;
            }
            let plain = Request { zero: false, ..*request };
            let fresh = self.allocate_request(new_size, &plain, entry);
            if fresh.is_null() {
                return null_mut();
            }
            let new_usable = if self.core.guarded.is_on() { self.usable_size(fresh) } else { new_usable };
            let kept = old_usable.min(new_usable);
            fresh.copy_from_nonoverlapping(ptr, kept);
            if request.zero && new_usable > kept {
                fresh.add(kept).write_bytes(0, new_usable - kept);
            }
            self.deallocate_with(ptr, *request);
            fresh
        }
    }

    /// Tries to give a block `new_usable` bytes where it is. A change counts as a free and an allocation.
    #[expect(clippy::too_many_arguments, reason = "inside of one file; a struct would only rename them")]
    unsafe fn resize_block(
        &'static self,
        thread: *mut Thread,
        extent: *mut Extent,
        ptr: *mut u8,
        new_size: usize,
        new_usable: usize,
        zero: bool,
        entry: &Entry,
    ) -> bool {
        // SAFETY: the caller passes the block's active extent.
        unsafe {
            let old_usable = usable_of(extent);
            if (*extent).is_guarded_block() {
                // It ends where its page does.
                return new_size == old_usable;
            }
            if new_usable == old_usable {
                if O::ENABLED && (*extent).may_be_sampled(ptr.addr()) {
                    self.observer.resized(ptr.addr(), new_size);
                }
                return true;
            }
            if (*extent).is_slab() || new_usable <= SMALL_MAX {
                return false;
            }
            let arena = self.arena_of(extent);
            let resized = arena.resize_large(&self.core.shared, extent, new_usable, zero || self.options().zero);
            let (done, zeroed) = (resized.is_some(), resized.unwrap_or(false));
            if done && new_usable > old_usable && (zero || self.options().zero) && !zeroed {
                ptr.add(old_usable).write_bytes(0, new_usable - old_usable);
            }
            if !done {
                return false;
            }
            // A resized block is a new one to the observer.
            self.forget(thread, extent, ptr);
            self.count_freed(thread, old_usable);
            self.account(thread, ptr, new_size, new_usable, entry);
            self.slow_operation(thread, arena);
            true
        }
    }

    /// Tries to give a large block `new_usable` bytes elsewhere, with the pages that it has; null: it stays as it is.
    #[expect(clippy::too_many_arguments, reason = "inside of one file; a struct would only rename them")]
    unsafe fn relocate_block(
        &'static self,
        thread: *mut Thread,
        extent: *mut Extent,
        ptr: *mut u8,
        new_size: usize,
        new_usable: usize,
        request: &Request,
        entry: &Entry,
    ) -> *mut u8 {
        // SAFETY: the caller passes the block's active extent.
        unsafe {
            let old_usable = (*extent).bytes();
            if (*extent).class() != LARGE as usize
                || (*extent).is_guarded_block()
                || old_usable < RELOCATE_MIN
                || new_usable <= old_usable
                || request.align > sys::PAGE
            {
                return null_mut();
            }
            let options = self.options();
            if request.zero || options.zero || options.junk_alloc || options.junk_free {
                return null_mut();
            }
            let before = self.arena_of(extent);
            // A program's own memory is not moved.
            if before.pages.has_hooks() {
                return null_mut();
            }
            let Some(arena) = self.arena_for_large(thread, new_usable, request.arena) else { return null_mut() };
            let Some(relocated) = arena.relocate_large(&self.core.shared, extent, new_usable) else {
                return null_mut();
            };
            self.forget(thread, extent, ptr);
            self.count_freed(thread, old_usable);
            before.deallocate_hollow(&self.core.shared, extent, &relocated);
            let fresh = core::ptr::with_exposed_provenance_mut((*relocated.extent).address());
            self.account(thread, fresh, new_size, new_usable, entry);
            self.slow_operation(thread, arena);
            fresh
        }
    }

    /// Resizes a block without moving it, to at least `size` and if possible `size + extra` bytes; returns the
    /// resulting usable size, the old one when nothing could be done (`xallocx`).
    ///
    /// # Safety
    /// `ptr` is a block in use of this heap, the caller's.
    #[inline(never)]
    pub unsafe fn resize_in_place(
        &'static self,
        ptr: *mut u8,
        size: usize,
        extra: usize,
        align: usize,
        zero: bool,
    ) -> usize {
        let entry = sys::entry();
        let thread = self.thread();
        // SAFETY: the caller's promise.
        unsafe {
            let extent = self.extent_of(ptr, b"xallocx");
            let old_usable = usable_of(extent);
            if ptr.addr() & (align - 1) != 0 || (*extent).is_guarded_block() {
                return old_usable;
            }
            let most = size.saturating_add(extra).min(size::MAX_SIZE_CLASS);
            for wanted in [most, size] {
                let usable = size::usable_size_for(wanted, align);
                if usable != 0 && self.resize_block(thread, extent, ptr, wanted, usable, zero, &entry) {
                    return usable;
                }
                // What fits behind the block isn't known. A size between the two stays as it is, and isn't cut back.
                if most == size || old_usable >= size {
                    break;
                }
            }
            usable_of(extent)
        }
    }
}

/// Usable bytes of the block(s) of an active extent.
unsafe fn usable_of(extent: *const Extent) -> usize {
    // SAFETY: the caller's extent is active.
    unsafe {
        let class = (*extent).class();
        if class > 0 { size::class_bytes(class) } else { (*extent).bytes() }
    }
}
