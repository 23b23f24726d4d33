//! The C library's functions, the same for the shared and the static library.
//!
//! Each is a thin door: it turns C's conventions (null and `errno`, flags in an `int`) into calls of the heap. Nothing
//! here calls an exported function, which another library may have replaced. `errno` is set by failing calls only.
//!
//! They lie in a section of their own, so that their frames can be told from a program's in a static executable too.

use core::ffi::{c_int, c_void};
use core::ptr::null_mut;

use alloc_core::conf::ZeroRealloc;
use alloc_core::{message, size};
use profiler::HEAP;

use crate::errno::{ENOMEM, set_errno};

const EINVAL: c_int = 22;
const PAGE: usize = alloc_core::sys::PAGE;

/// Ends a call that found no memory.
#[cold]
#[inline(never)]
fn out_of_memory() -> *mut c_void {
    if HEAP.options().xmalloc {
        message::fatal(&[b"Error in malloc(): out of memory"]);
    }
    set_errno(ENOMEM);
    null_mut()
}

#[inline(always)]
fn or_errno(block: *mut u8) -> *mut c_void {
    if block.is_null() { out_of_memory() } else { block.cast() }
}

extern "C" fn malloc_failed(_bytes: usize) -> *mut u8 {
    out_of_memory().cast()
}

/// `malloc(3)`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text.malloc")]
pub extern "C" fn malloc(bytes: usize) -> *mut c_void {
    HEAP.allocate_or(bytes, malloc_failed).cast()
}

/// `free(3)`.
///
/// # Safety
/// `ptr` is null or a block that nobody uses any more.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text.free")]
pub unsafe extern "C" fn free(ptr: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.deallocate(ptr.cast()) }
}

/// `calloc(3)`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn calloc(count: usize, bytes: usize) -> *mut c_void {
    calloc_inner(count, bytes)
}

#[inline(always)]
fn calloc_inner(count: usize, bytes: usize) -> *mut c_void {
    match count.checked_mul(bytes) {
        Some(total) => or_errno(HEAP.allocate_zeroed(total)),
        None => out_of_memory(),
    }
}

/// `realloc(3)`.
///
/// # Safety
/// `ptr` is null or a block of the caller's, gone when the result isn't null.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn realloc(ptr: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { realloc_inner(ptr, bytes) }
}

#[inline(always)]
unsafe fn realloc_inner(ptr: *mut c_void, bytes: usize) -> *mut c_void {
    if ptr.is_null() {
        return malloc_plain(bytes);
    }
    if bytes == 0 {
        HEAP.count_zero_realloc();
        match HEAP.options().zero_realloc {
            ZeroRealloc::Free => {
                // SAFETY: the caller's promise.
                unsafe { HEAP.deallocate(ptr.cast()) };
                return null_mut();
            }
            ZeroRealloc::Abort => {
                let what: &[u8] = b"Called realloc(non-null-ptr, 0) with zero_realloc:abort set";
                message::safety_check_failed(&[what], &|| {});
                return null_mut();
            }
            ZeroRealloc::Alloc => {}
        }
    }
    // SAFETY: the caller's promise.
    or_errno(unsafe { HEAP.reallocate(ptr.cast(), bytes.max(1)) })
}

#[inline]
fn malloc_plain(bytes: usize) -> *mut c_void {
    or_errno(HEAP.allocate(bytes))
}

/// `reallocarray(3)`.
///
/// # Safety
/// As [`realloc`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn reallocarray(ptr: *mut c_void, count: usize, bytes: usize) -> *mut c_void {
    match count.checked_mul(bytes) {
        // SAFETY: the caller's promise.
        Some(total) => unsafe { realloc_inner(ptr, total) },
        None => out_of_memory(),
    }
}

/// C23 `free_sized`; null is a no-op.
///
/// # Safety
/// As [`free`]; `bytes` is what was asked for.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn free_sized(ptr: *mut c_void, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.deallocate_sized(ptr.cast(), bytes, 1) }
}

/// C23 `free_aligned_sized`; null is a no-op.
///
/// # Safety
/// As [`free`]; `align` and `bytes` are what was asked for.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn free_aligned_sized(ptr: *mut c_void, align: usize, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.deallocate_sized(ptr.cast(), bytes, align) }
}

/// `cfree`, an old name of `free`.
///
/// # Safety
/// As [`free`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn cfree(ptr: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.deallocate(ptr.cast()) }
}

/// `posix_memalign(3)`: the error is returned, `errno` stays.
///
/// # Safety
/// `out` is writable.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, bytes: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { posix_memalign_inner(out, align, bytes) }
}

unsafe fn posix_memalign_inner(out: *mut *mut c_void, align: usize, bytes: usize) -> c_int {
    if !align.is_power_of_two() || align < core::mem::size_of::<*mut c_void>() {
        return EINVAL;
    }
    let block = HEAP.allocate_aligned(bytes, align, false);
    if block.is_null() {
        return ENOMEM;
    }
    // SAFETY: the caller's promise.
    unsafe { *out = block.cast() };
    0
}

/// `aligned_alloc(3)`: the size need not be a multiple of the alignment.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn aligned_alloc(align: usize, bytes: usize) -> *mut c_void {
    aligned_inner(align, bytes)
}

fn aligned_inner(align: usize, bytes: usize) -> *mut c_void {
    if !align.is_power_of_two() {
        set_errno(EINVAL);
        return null_mut();
    }
    or_errno(HEAP.allocate_aligned(bytes, align, false))
}

/// `memalign(3)`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn memalign(align: usize, bytes: usize) -> *mut c_void {
    aligned_inner(align, bytes)
}

/// `valloc(3)`: aligned to a page.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn valloc(bytes: usize) -> *mut c_void {
    aligned_inner(PAGE, bytes)
}

/// `pvalloc(3)`: whole pages.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn pvalloc(bytes: usize) -> *mut c_void {
    pvalloc_inner(bytes)
}

fn pvalloc_inner(bytes: usize) -> *mut c_void {
    match size::page_ceil(bytes) {
        Some(rounded) => or_errno(HEAP.allocate_aligned(rounded.max(PAGE), PAGE, false)),
        None => out_of_memory(),
    }
}

/// The C library's own names of its functions. A program whose `malloc` and `free` are its own calls them for what was there
/// before; the functions of the family that it leaves alone are these, and must work on the same heap.
macro_rules! c_library_names {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $call:expr;)*) => {
        $(
            /// As the function without the prefix.
            ///
            /// # Safety
            /// As that.
            #[unsafe(no_mangle)]
            #[unsafe(link_section = "heapsift_text")]
            #[allow(unused_unsafe, reason = "some of the functions are safe")]
            pub unsafe extern "C" fn $name($($arg: $type),*) $(-> $result)? {
                // SAFETY: the caller's promise.
                unsafe { $call }
            }
        )*
    };
}

c_library_names! {
    __libc_malloc(bytes: usize) -> *mut c_void = malloc_plain(bytes);
    __libc_free(ptr: *mut c_void) = HEAP.deallocate(ptr.cast());
    __libc_cfree(ptr: *mut c_void) = HEAP.deallocate(ptr.cast());
    __libc_calloc(count: usize, bytes: usize) -> *mut c_void = calloc_inner(count, bytes);
    __libc_realloc(ptr: *mut c_void, bytes: usize) -> *mut c_void = realloc_inner(ptr, bytes);
    __libc_memalign(align: usize, bytes: usize) -> *mut c_void = aligned_inner(align, bytes);
    __libc_valloc(bytes: usize) -> *mut c_void = aligned_inner(PAGE, bytes);
    __libc_pvalloc(bytes: usize) -> *mut c_void = pvalloc_inner(bytes);
    __posix_memalign(out: *mut *mut c_void, align: usize, bytes: usize) -> c_int = posix_memalign_inner(out, align, bytes);
}

/// `malloc_usable_size(3)`.
///
/// # Safety
/// `ptr` is null or a block in use.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn malloc_usable_size(ptr: *mut c_void) -> usize {
    // SAFETY: the caller's promise.
    unsafe { HEAP.usable_size(ptr.cast()) }
}
