//! `setrlimit`, `prlimit` and `mlockall`, for programs that limit their own address space, or lock it in memory.
//!
//! Most of what the heap has reserved of it nobody needs, but it counts: all that the program itself maps from then on would
//! be refused, and so would be the locking, or take seconds.

use core::ffi::{c_int, c_uint};
use core::ptr::null_mut;

use alloc_core::sys::{Errno, extra};
use libc::{pid_t, rlimit};
use profiler::HEAP;

use crate::errno::set_errno;

fn answer(result: Result<(), Errno>) -> c_int {
    let Err(error) = result else { return 0 };
    set_errno(error.0);
    -1
}

/// What the functions for limits do; then the heap does without what it can do without.
///
/// # Safety
/// As `prlimit(2)`.
unsafe fn set(pid: pid_t, resource: c_uint, new: *const rlimit, old: *mut rlimit) -> c_int {
    // SAFETY: the caller's promise.
    let result = unsafe { extra::resource_limits(pid, resource, new.addr(), old.addr()) };
    if resource == libc::RLIMIT_AS as c_uint && !new.is_null() {
        HEAP.look_at_limits();
    }
    answer(result)
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
    "mlockall" fn mlockall(flags: c_int) -> c_int {
        HEAP.look_before_lock();
        answer(extra::lock_all(flags as usize))
    }
}
