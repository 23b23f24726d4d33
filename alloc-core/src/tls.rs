//! The calling thread's state behind one 8-byte slot in initial-exec thread-local storage.
//!
//! The slot starts out pointing at [`crate::thread::EMPTY`], whose caches are empty and full at once, so that the fast
//! paths need no null check. Stable Rust has no way to ask for the initial-exec model, so the slot is laid out and read
//! by inline assembly; a library that holds it loads with `dlopen` too, since 8 bytes fit the loader's surplus.

use crate::thread::{EMPTY, Thread};

core::arch::global_asm!(
    ".pushsection .tdata.__heapsift_thread_0_1, \"awT\", @progbits",
    ".p2align 3",
    ".globl __heapsift_thread_0_1",
    ".hidden __heapsift_thread_0_1",
    ".type __heapsift_thread_0_1, @object",
    ".size __heapsift_thread_0_1, 8",
    "__heapsift_thread_0_1:",
    ".quad {empty}",
    ".popsection",
    empty = sym EMPTY,
);

/// The calling thread's state: its own, [`EMPTY`], or [`crate::thread::DEAD`].
#[inline(always)]
pub fn thread() -> *mut Thread {
    let thread: *mut Thread;
    // SAFETY: the slot is laid out above; the loader fills in its offset before any code of this module runs.
    unsafe {
        core::arch::asm!(
            "mov {0}, qword ptr [rip + __heapsift_thread_0_1@GOTTPOFF]",
            "mov {0}, qword ptr fs:[{0}]",
            out(reg) thread,
            options(readonly, nostack, preserves_flags),
        );
    }
    thread
}

/// Sets the calling thread's state.
///
/// # Safety
/// `thread` is the calling thread's own state, `EMPTY` or `DEAD`.
pub unsafe fn set_thread(thread: *mut Thread) {
    // SAFETY: as in `thread`; the caller vouches for the value.
    unsafe {
        core::arch::asm!(
            "mov {offset}, qword ptr [rip + __heapsift_thread_0_1@GOTTPOFF]",
            "mov qword ptr fs:[{offset}], {value}",
            offset = out(reg) _,
            value = in(reg) thread,
            options(nostack, preserves_flags),
        );
    }
}
