//! `secure_getenv`, by which jemalloc asks for its settings: a program may be linked with that library, as Debian's Redis is.
//!
//! Its `malloc` is then ours, but its constructor runs all the same, and would obey `MALLOC_CONF` a second time: an empty dump
//! beside each final one, a background thread, a second report at exit, and with `abort_conf` the end of the process over
//! options that only we have. So it finds no such variable.

use core::ffi::{CStr, c_char};

export! {
    "secure_getenv" fn secure_getenv(name: *const c_char) -> *mut c_char {
        // SAFETY: a C string, as the caller of the C library's function has to pass.
        let ours = unsafe { CStr::from_ptr(name) } == c"MALLOC_CONF" && is_malloc_ours();
        if ours || alloc_core::conf::is_privileged() {
            return core::ptr::null_mut();
        }
        // SAFETY: as above; otherwise what the C library's function does.
        unsafe { libc::getenv(name) }
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
