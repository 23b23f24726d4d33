//! `setrlimit` and `prlimit`, for programs that limit their own address space.
//!
//! Most of what the heap has reserved of it nobody needs, but it counts, and all that the program itself maps from then on
//! would be refused.

use core::ffi::{c_int, c_uint};
use core::ptr::null_mut;

use alloc_core::sys::extra;
use libc::{pid_t, rlimit};
use profiler::HEAP;

use crate::errno::set_errno;

/// What both functions do; on success the heap does without what it can do without.
///
/// # Safety
/// As `prlimit(2)`.
unsafe fn set(pid: pid_t, resource: c_uint, new: *const rlimit, old: *mut rlimit) -> c_int {
    // SAFETY: the caller's promise.
    if let Err(error) = unsafe { extra::resource_limits(pid, resource, new.addr(), old.addr()) } {
        set_errno(error.0);
        return -1;
    }
    if resource == libc::RLIMIT_AS as c_uint && !new.is_null() {
        HEAP.look_at_limits();
    }
    0
}

export! {
    "setrlimit" fn setrlimit(resource: c_uint, new: *const rlimit) -> c_int {
        // SAFETY: the caller's promise.
        unsafe { set(0, resource, new, null_mut()) }
    }
    "setrlimit64" fn setrlimit64(resource: c_uint, new: *const rlimit) -> c_int {
        // SAFETY: the caller's promise.
        unsafe { set(0, resource, new, null_mut()) }
    }
    "prlimit" fn prlimit(pid: pid_t, resource: c_uint, new: *const rlimit, old: *mut rlimit) -> c_int {
        // SAFETY: the caller's promise.
        unsafe { set(pid, resource, new, old) }
    }
    "prlimit64" fn prlimit64(pid: pid_t, resource: c_uint, new: *const rlimit, old: *mut rlimit) -> c_int {
        // SAFETY: the caller's promise.
        unsafe { set(pid, resource, new, old) }
    }
}
