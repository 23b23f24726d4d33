//! `secure_getenv`, by which jemalloc asks for its settings: a program may be linked with that library, as Debian's Redis is.
//!
//! Its `malloc` is then ours, but its constructor runs all the same, and would obey `MALLOC_CONF` a second time: an empty dump
//! beside each final one, a background thread, a second report at exit, and with `abort_conf` the end of the process over
//! options that only we have. So it finds no such variable.
//!
//! All others are found here, too: the C library's function never calls a `getenv` of the program's, and such a one may wait for
//! a lock that the program's own `secure_getenv` holds when it calls this one, as Firefox's does.

use core::ffi::{CStr, c_char};

export! {
    "secure_getenv" fn secure_getenv(name: *const c_char) -> *mut c_char {
        // SAFETY: a C string, as the caller of the C library's function has to pass.
        let name = unsafe { CStr::from_ptr(name) };
        if name == c"MALLOC_CONF" && is_malloc_ours() {
            return core::ptr::null_mut();
        }
        alloc_core::conf::environment(name.to_bytes()).cast_mut()
    }
}

/// Whether the process calls our `malloc`, and not one of the program, or of a library that comes before ours.
pub(crate) fn is_malloc_ours() -> bool {
    let called: usize;
    // SAFETY: reads the global offset table, in which the loader has put the first `malloc` of all.
    unsafe {
        core::arch::asm!(
            "mov {}, qword ptr [rip + malloc@GOTPCREL]",
            out(reg) called,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    profiler::unwind::own_module().contains(&called)
}
