//! What the library does for itself in the process: its constructor, its private allocator, its last words.

use core::alloc::{GlobalAlloc, Layout};

use profiler::HEAP;

use crate::{is_malloc_ours, loader_is_ready};

/// The allocator behind the library's own collections (dumps): a private arena, never sampled, so that the library
/// neither recurses into the public `malloc` nor appears in its own profile.
struct Private;

// SAFETY: the heap hands out blocks of at least the layout's size and alignment, exclusively.
unsafe impl GlobalAlloc for Private {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.internal_allocate(layout)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller passes a block of `alloc`.
        unsafe { HEAP.internal_deallocate(ptr, layout) }
    }
}

#[global_allocator]
static PRIVATE: Private = Private;

// The number: before the constructors of a program that contains the library.
#[used]
#[unsafe(link_section = ".init_array.00050")]
static CONSTRUCTOR: extern "C" fn() = construct;

#[unsafe(link_section = "heapsift_text")]
extern "C" fn construct() {
    // A hook without captured state needs no memory. It must not return: nothing may unwind into the program.
    std::panic::set_hook(Box::new(|info| {
        let mut number = alloc_core::message::Decimal::new(0);
        let mut file: &[u8] = b"?";
        if let Some(location) = info.location() {
            file = location.file().as_bytes();
            number = alloc_core::message::Decimal::new(location.line().into());
        }
        alloc_core::message::fatal(&[b"internal error at ", file, b":", number.as_bytes()])
    }));
    loader_is_ready();
    HEAP.start();
    alloc_core::background::constructed();
    let in_use = is_malloc_ours();
    if in_use {
        HEAP.start_background_if_due();
    }
    if HEAP.options().stats_print {
        // SAFETY: a plain function.
        unsafe { libc::atexit(print_stats) };
    }
    // A program with a malloc of its own may never have a block of ours, and may insist on a single thread, as the processes
    // that Chromium forks others from do. There, threads start when the heap is used.
    if in_use {
        profiler::start_helpers();
    } else {
        profiler::start_helpers_later();
    }
}

extern "C" fn print_stats() {
    alloc_core::report::print(&HEAP, HEAP.options().stats_print_opts.text().to_bytes(), &mut |piece| {
        alloc_core::message::raw(piece)
    });
}
