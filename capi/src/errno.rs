//! The C library's `errno`: what failing calls leave in it.

use core::ffi::c_int;

pub(crate) const ENOMEM: c_int = 12;

#[cold]
#[inline(never)]
pub(crate) fn set_errno(code: c_int) {
    // SAFETY: the C library's own accessor of the calling thread's `errno`.
    unsafe { *libc::__errno_location() = code };
}
