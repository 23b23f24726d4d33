//! The allocator for Rust programs.

use core::alloc::{GlobalAlloc, Layout};

use alloc_core::{Request, TcacheChoice};

use crate::HEAP;

/// The heap as a Rust program's global allocator.
///
/// ```
/// #[global_allocator]
/// static GLOBAL: heapsift::Heapsift = heapsift::Heapsift;
///
/// fn main() {
///     assert_eq!(vec![1, 2, 3].len(), 3);
/// }
/// ```
///
/// `MALLOC_CONF` in the environment configures it, profiling included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heapsift;

/// Whether every block of that size is aligned enough: size classes from 16 bytes up are multiples of 16.
#[inline(always)]
fn aligned_by_size(size: usize, align: usize) -> bool {
    align <= 8 || (align <= 16 && size >= 16)
}

// SAFETY: the heap hands out blocks of at least the size and alignment asked for, each to one owner, and never unwinds.
unsafe impl GlobalAlloc for Heapsift {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if aligned_by_size(layout.size(), layout.align()) {
            HEAP.allocate(layout.size())
        } else {
            HEAP.allocate_aligned(layout.size(), layout.align(), false)
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if aligned_by_size(layout.size(), layout.align()) {
            HEAP.allocate_zeroed(layout.size())
        } else {
            HEAP.allocate_aligned(layout.size(), layout.align(), true)
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller passes a block of this allocator with the layout that it asked for.
        unsafe { HEAP.deallocate_sized(ptr, layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if aligned_by_size(new_size, layout.align()) {
            // SAFETY: the caller passes a block of this allocator and a size above 0.
            unsafe { HEAP.reallocate(ptr, new_size) }
        } else {
            let request = Request { align: layout.align(), zero: false, tcache: TcacheChoice::Automatic, arena: None };
            // SAFETY: as above.
            unsafe { HEAP.reallocate_with(ptr, new_size, request) }
        }
    }
}
