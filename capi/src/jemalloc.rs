//! jemalloc's own functions, and ours beside them: blocks with flags, control names, statistics, labels.
//!
//! Thin doors as those of [`exports`](crate::exports), and in the same section; `errno` is left alone.

use core::ffi::{c_char, c_int, c_void};

use alloc_core::ctl::{self, Code, HeapControl};
use alloc_core::{Request, message, size};
use profiler::HEAP;

fn request(flags: c_int) -> Request {
    Request::from_flags(flags)
}

/// Whether flags leave it open which thread cache takes a freed block (bits 8 to 19).
#[inline(always)]
fn names_no_cache(flags: c_int) -> bool {
    flags as u32 & 0xfff00 == 0
}

/// `mallocx`: null without `errno` when there is no memory.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn mallocx(bytes: usize, flags: c_int) -> *mut c_void {
    HEAP.allocate_with(bytes, request(flags)).cast()
}

/// `rallocx`.
///
/// # Safety
/// `ptr` is a block of the caller's, gone when the result isn't null.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn rallocx(ptr: *mut c_void, bytes: usize, flags: c_int) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { HEAP.reallocate_with(ptr.cast(), bytes.max(1), request(flags)) }.cast()
}

/// `xallocx`: resizes in place; returns the resulting usable size.
///
/// # Safety
/// `ptr` is a block of the caller's.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn xallocx(ptr: *mut c_void, bytes: usize, extra: usize, flags: c_int) -> usize {
    let request = request(flags);
    // SAFETY: the caller's promise.
    unsafe { HEAP.resize_in_place(ptr.cast(), bytes, extra, request.align, request.zero) }
}

/// `sallocx`: usable bytes.
///
/// # Safety
/// `ptr` is null or a block in use.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn sallocx(ptr: *const c_void, _flags: c_int) -> usize {
    // SAFETY: the caller's promise.
    unsafe { HEAP.usable_size(ptr.cast()) }
}

/// `dallocx`.
///
/// # Safety
/// `ptr` is null or a block that nobody uses any more.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn dallocx(ptr: *mut c_void, flags: c_int) {
    // SAFETY: the caller's promise.
    unsafe {
        if names_no_cache(flags) {
            HEAP.deallocate(ptr.cast());
        } else if !ptr.is_null() {
            HEAP.deallocate_with(ptr.cast(), request(flags));
        }
    }
}

/// `sdallocx`.
///
/// # Safety
/// As [`dallocx`]; `bytes` is between the requested and the usable size.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn sdallocx(ptr: *mut c_void, bytes: usize, flags: c_int) {
    // SAFETY: the caller's promise.
    unsafe {
        if names_no_cache(flags) {
            HEAP.deallocate_sized(ptr.cast(), bytes, 1 << (flags & 0x3f));
        } else if !ptr.is_null() {
            HEAP.deallocate_sized_with(ptr.cast(), bytes, request(flags));
        }
    }
}

/// `nallocx`: the usable size that such a request would get; 0 when it is too large.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn nallocx(bytes: usize, flags: c_int) -> usize {
    size::usable_size_for(bytes, request(flags).align)
}

fn answer(result: Result<(), Code>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(Code(code)) => code,
    }
}

fn control() -> &'static dyn HeapControl {
    HEAP.ensure_booted();
    &HEAP
}

/// `mallctl`.
///
/// # Safety
/// `name` is a C string; the buffers are null or as the name's type demands.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn mallctl(
    name: *const c_char,
    old: *mut c_void,
    old_length: *mut usize,
    new: *mut c_void,
    new_length: usize,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(name) = ctl::node::text(name) else { return Code::EINVAL.0 };
        answer(ctl::by_name(control(), name, old.cast(), old_length, new.cast_const().cast(), new_length))
    }
}

/// `mallctlnametomib`.
///
/// # Safety
/// `name` is a C string; `mib` has room for `*length` numbers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn mallctlnametomib(name: *const c_char, mib: *mut usize, length: *mut usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(name) = ctl::node::text(name) else { return Code::EINVAL.0 };
        if mib.is_null() || length.is_null() {
            return Code::EINVAL.0;
        }
        let room = core::slice::from_raw_parts_mut(mib, *length);
        match ctl::name_to_mib(control(), name, room) {
            Ok(depth) => {
                *length = depth;
                0
            }
            Err(Code(code)) => code,
        }
    }
}

/// `mallctlbymib`.
///
/// # Safety
/// `mib` holds `mib_length` numbers; the buffers are as for [`mallctl`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn mallctlbymib(
    mib: *const usize,
    mib_length: usize,
    old: *mut c_void,
    old_length: *mut usize,
    new: *mut c_void,
    new_length: usize,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        // An empty list may come without an address.
        let mib = if mib_length == 0 { &[] } else { core::slice::from_raw_parts(mib, mib_length) };
        answer(ctl::by_mib(control(), mib, old.cast(), old_length, new.cast_const().cast(), new_length))
    }
}

/// `heapsift_metrics`: all numbers as OpenMetrics text; `write` null means descriptor 2 (or `malloc_message`).
///
/// # Safety
/// `write` takes `opaque` and a C string.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn heapsift_metrics(
    write: Option<unsafe extern "C" fn(*mut c_void, *const c_char)>,
    opaque: *mut c_void,
) {
    profiler::metrics::print_c(&mut |piece| match write {
        // SAFETY: the caller's promise; the piece ends in a zero byte.
        Some(write) => unsafe { write(opaque, piece.as_ptr().cast()) },
        None => message::raw(piece),
    });
}

/// `heapsift_label_set`: a label on what the calling thread allocates from now on. 0, or an error number: EINVAL, ENOSPC,
/// EAGAIN.
///
/// # Safety
/// Null or C strings.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn heapsift_label_set(key: *const c_char, value: *const c_char) -> c_int {
    // SAFETY: the caller's promise. Null is as an empty text, which can't be a label.
    let (key, value) = unsafe { (ctl::node::text(key), ctl::node::text(value)) };
    label(key.unwrap_or(b""), Some(value.unwrap_or(b"")))
}

/// `heapsift_label_unset`: takes it away.
///
/// # Safety
/// Null or a C string.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn heapsift_label_unset(key: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    label(unsafe { ctl::node::text(key) }.unwrap_or(b""), None)
}

fn label(key: &[u8], value: Option<&[u8]>) -> c_int {
    profiler::profile::change_label(key, value).map_or_else(profiler::profile::Error::errno, |()| 0)
}

/// `malloc_stats_print`: `write` null means descriptor 2 (or `malloc_message`).
///
/// # Safety
/// `write` takes `opaque` and a C string; `letters` is null or a C string.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn malloc_stats_print(
    write: Option<unsafe extern "C" fn(*mut c_void, *const c_char)>,
    opaque: *mut c_void,
    letters: *const c_char,
) {
    // SAFETY: the caller's promise.
    let letters = unsafe { ctl::node::text(letters) }.unwrap_or(b"");
    alloc_core::report::print(control(), letters, &mut |piece| match write {
        // SAFETY: the caller's promise; the piece ends in a zero byte.
        Some(write) => unsafe { write(opaque, piece.as_ptr().cast()) },
        None => message::raw(piece),
    });
}
