//! `prctl`, for programs that lock themselves in a sandbox.
//!
//! Afterwards a system call that the sandbox doesn't know ends the process. What heaps ask of the kernel for memory it knows;
//! that somebody wants to know a thread's name or the time it doesn't. So the library asks for nothing but memory from the call
//! on that begins every sandbox of a program without privileges.

use core::ffi::{c_int, c_ulong};

use alloc_core::sys::{extra, sandbox};
use profiler::HEAP;

use crate::errno::set_errno;

const PR_SET_TSC: c_int = 26;
const PR_TSC_SIGSEGV: c_ulong = 2;
const SECCOMP_MODE_STRICT: c_ulong = 1;
const SECCOMP_MODE_FILTER: c_ulong = 2;

/// Whether a call does more than ask: one without a filter tells programs, by its error, whether the kernel takes filters.
fn begins_sandbox(operation: c_int, a: c_ulong, b: c_ulong) -> bool {
    match operation {
        libc::PR_SET_NO_NEW_PRIVS => a == 1,
        libc::PR_SET_SECCOMP => a == SECCOMP_MODE_STRICT || a == SECCOMP_MODE_FILTER && b != 0,
        _ => false,
    }
}

export! {
    "prctl" fn prctl(operation: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int {
        if begins_sandbox(operation, a, b) {
            HEAP.look_before_sandbox();
            sandbox::enter_sandbox();
        }
        if [(PR_SET_TSC, PR_TSC_SIGSEGV), (libc::PR_SET_SECCOMP, SECCOMP_MODE_STRICT)].contains(&(operation, a)) {
            sandbox::forbid_ticks();
        }
        let arguments = [a, b, c, d].map(|value| value as usize);
        // SAFETY: what the C library's function does.
        match unsafe { extra::process_control(operation as usize, arguments) } {
            Ok(value) => value as c_int,
            Err(error) => {
                set_errno(error.0);
                -1
            }
        }
    }
}
