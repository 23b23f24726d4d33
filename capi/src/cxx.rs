//! C++ `operator new` and `delete`.
//!
//! A `new` that finds no memory must call the program's new-handler and, without one, throw `std::bad_alloc`. Nothing
//! may be thrown through a Rust frame, so the slow path is a jump to assembly that has unwind tables of its own. The
//! functions of the C++ library are weak: a C program has none, and never calls these.

use core::ffi::c_void;

use alloc_core::message;
use profiler::HEAP;

core::arch::global_asm!(
    ".weak _ZSt15get_new_handlerv",
    ".weak _ZSt17__throw_bad_allocv",
    ".pushsection .text.heapsift_new_slow, \"ax\", @progbits",
    ".hidden heapsift_new_slow",
    ".globl heapsift_new_slow",
    ".type heapsift_new_slow, @function",
    "heapsift_new_slow:",
    ".cfi_startproc",
    "push rdi",
    ".cfi_adjust_cfa_offset 8",
    "push rsi",
    ".cfi_adjust_cfa_offset 8",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "2:",
    "mov rdi, [rsp + 16]",
    "mov rsi, [rsp + 8]",
    "call {attempt}",
    "test rax, rax",
    "jne 3f",
    "mov rax, [rip + _ZSt15get_new_handlerv@GOTPCREL]",
    "test rax, rax",
    "je 4f",
    "call rax",
    "test rax, rax",
    "je 4f",
    "call rax",
    "jmp 2b",
    "4:",
    "mov rax, [rip + _ZSt17__throw_bad_allocv@GOTPCREL]",
    "test rax, rax",
    "je 5f",
    "call rax",
    "5:",
    "call {give_up}",
    "ud2",
    "3:",
    "add rsp, 24",
    ".cfi_adjust_cfa_offset -24",
    "ret",
    ".cfi_endproc",
    ".size heapsift_new_slow, . - heapsift_new_slow",
    ".popsection",
    attempt = sym attempt,
    give_up = sym give_up,
);

unsafe extern "C" {
    fn heapsift_new_slow(bytes: usize, align: usize) -> *mut c_void;
}

/// One try of a `new`; `align` 0 means the default.
extern "C" fn attempt(bytes: usize, align: usize) -> *mut u8 {
    if align == 0 { HEAP.allocate_slow(bytes) } else { HEAP.allocate_aligned(bytes, align, false) }
}

/// No memory and no C++ library to throw.
extern "C" fn give_up() -> ! {
    message::fatal(&[b"operator new: out of memory, and no C++ library to throw bad_alloc"])
}

#[inline(always)]
fn new(bytes: usize) -> *mut c_void {
    HEAP.allocate_or_else(bytes, #[inline(always)] |bytes| {
        // SAFETY: the assembly above takes any size.
        unsafe { heapsift_new_slow(bytes, 0) }.cast()
    })
    .cast()
}

#[inline(always)]
fn new_aligned(bytes: usize, align: usize) -> *mut c_void {
    // SAFETY: as above; C++ gives a power of two.
    unsafe { heapsift_new_slow(bytes, align) }
}

macro_rules! news {
    ($($symbol:literal $name:ident($($arg:ident: $type:ty),*) { $body:expr })*) => {
        $(
            /// A C++ `operator new`; the symbol says which.
            #[unsafe(export_name = $symbol)]
            pub extern "C" fn $name($($arg: $type),*) -> *mut c_void { $body }
        )*
    };
}

news! {
    "_Znwm" new_plain(bytes: usize) { new(bytes) }
    "_Znam" new_array(bytes: usize) { new(bytes) }
    "_ZnwmRKSt9nothrow_t" new_nothrow(bytes: usize, _tag: *const c_void) { HEAP.allocate(bytes).cast() }
    "_ZnamRKSt9nothrow_t" new_array_nothrow(bytes: usize, _tag: *const c_void) { HEAP.allocate(bytes).cast() }
    "_ZnwmSt11align_val_t" new_align(bytes: usize, align: usize) { new_aligned(bytes, align) }
    "_ZnamSt11align_val_t" new_array_align(bytes: usize, align: usize) { new_aligned(bytes, align) }
    "_ZnwmSt11align_val_tRKSt9nothrow_t" new_align_nothrow(bytes: usize, align: usize, _tag: *const c_void) {
        HEAP.allocate_aligned(bytes, align, false).cast()
    }
    "_ZnamSt11align_val_tRKSt9nothrow_t" new_array_align_nothrow(bytes: usize, align: usize, _tag: *const c_void) {
        HEAP.allocate_aligned(bytes, align, false).cast()
    }
}

/// The symbol, a name, and what comes after the pointer; those with a size say how to free by it.
macro_rules! deletes {
    ($($symbol:literal $name:ident($($arg:ident: $type:ty),*) $(sized $size:expr, $align:expr)?;)*) => {
        $(
            /// A C++ `operator delete`; the symbol says which.
            ///
            /// # Safety
            /// `ptr` is null or came from the matching `operator new`, with this size and alignment.
            #[unsafe(export_name = $symbol)]
            pub unsafe extern "C" fn $name(ptr: *mut c_void $(, $arg: $type)*) {
                // SAFETY: the C++ program's promise, as above.
                unsafe { deletes!(@ ptr $(, $size, $align)?) }
            }
        )*
    };
    (@ $ptr:ident) => { HEAP.deallocate($ptr.cast()) };
    (@ $ptr:ident, $size:expr, $align:expr) => { HEAP.deallocate_sized($ptr.cast(), $size, $align) };
}

deletes! {
    "_ZdlPv" delete_plain();
    "_ZdaPv" delete_array();
    "_ZdlPvRKSt9nothrow_t" delete_nothrow(_tag: *const c_void);
    "_ZdaPvRKSt9nothrow_t" delete_array_nothrow(_tag: *const c_void);
    "_ZdlPvm" delete_sized(bytes: usize) sized bytes, 1;
    "_ZdaPvm" delete_array_sized(bytes: usize) sized bytes, 1;
    "_ZdlPvSt11align_val_t" delete_align(_align: usize);
    "_ZdaPvSt11align_val_t" delete_array_align(_align: usize);
    "_ZdlPvmSt11align_val_t" delete_sized_align(bytes: usize, align: usize) sized bytes, align;
    "_ZdaPvmSt11align_val_t" delete_array_sized_align(bytes: usize, align: usize) sized bytes, align;
    "_ZdlPvSt11align_val_tRKSt9nothrow_t" delete_align_nothrow(_align: usize, _tag: *const c_void);
    "_ZdaPvSt11align_val_tRKSt9nothrow_t" delete_array_align_nothrow(_align: usize, _tag: *const c_void);
}
