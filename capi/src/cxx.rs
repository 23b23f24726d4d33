//! C++ `operator new` and `delete`.
//!
//! Two of each do the work: `new(size)` and `new(size, align)`, `delete(ptr)` and `delete(ptr, align)`. The other
//! sixteen are what the C++ standard says they are by default: they call those four, by way of the global offset table,
//! so that a program which replaces the four gets its own through the sixteen as well, whatever pointers it makes.
//!
//! A `new` that finds no memory must call the program's new-handler again and again and, without one, throw
//! `std::bad_alloc`. Nothing may be thrown through a Rust frame, so the slow path is a jump to assembly that has unwind
//! tables of its own. A `new` that must not throw catches what comes, in assembly as well.
//!
//! The leaf says how symbols are exported (`export!`, `own_name!`) and how those of the C++ library are referred to: the
//! shared library weakly, since a C program has none, and never calls these.

use core::arch::{asm, naked_asm};
use core::ffi::c_void;

use alloc_core::message;
use profiler::HEAP;

use crate::errno::{ENOMEM, set_errno};

core::arch::global_asm!(
    ".pushsection heapsift_text, \"ax\", @progbits",
    // void *heapsift_new_slow(size_t bytes, size_t align), align 0: the default
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
    "test rdx, rdx",
    "jne 3f",
    // The handler, if there is a C++ library that has one and the program has set it.
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
    // void *heapsift_new_nothrow(size_t bytes, size_t align): try { return operator new(...); } catch (...) { return 0; }
    ".hidden heapsift_new_nothrow",
    ".globl heapsift_new_nothrow",
    ".type heapsift_new_nothrow, @function",
    "heapsift_new_nothrow:",
    ".cfi_startproc",
    // Indirect, relative, 4 bytes; and relative, 4 bytes.
    ".cfi_personality 0x9b, .Lheapsift_personality",
    ".cfi_lsda 0x1b, .Lheapsift_catch_all",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "mov rax, [rip + _Znwm@GOTPCREL]",
    "test rsi, rsi",
    "je 10f",
    "mov rax, [rip + _ZnwmSt11align_val_t@GOTPCREL]",
    "10:",
    "11:",
    "call rax",
    "12:",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    // Where the unwinder lands, with the exception in rax. It came from a C++ library, which has these.
    ".cfi_adjust_cfa_offset 8",
    "13:",
    "mov rdi, rax",
    "call [rip + __cxa_begin_catch@GOTPCREL]",
    "14:",
    "call [rip + __cxa_end_catch@GOTPCREL]",
    "15:",
    "xor eax, eax",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".cfi_endproc",
    ".size heapsift_new_nothrow, . - heapsift_new_nothrow",
    ".popsection",
    // The table of its call sites: start, length, landing pad and action (1 + the offset of the action), from the start
    // of the function. One action, which catches everything: type 1, the null entry.
    ".pushsection .gcc_except_table.heapsift_new, \"a\", @progbits",
    ".p2align 2",
    ".Lheapsift_catch_all:",
    ".byte 0xff",
    ".byte 0x9b",
    ".uleb128 22f - 20f",
    "20:",
    ".byte 0x01",
    ".uleb128 24f - 23f",
    "23:",
    ".uleb128 11b - heapsift_new_nothrow",
    ".uleb128 12b - 11b",
    ".uleb128 13b - heapsift_new_nothrow",
    ".uleb128 1",
    ".uleb128 13b - heapsift_new_nothrow",
    ".uleb128 15b - 13b",
    ".uleb128 0",
    ".uleb128 0",
    "24:",
    ".byte 1",
    ".byte 0",
    ".p2align 2",
    ".long 0",
    "22:",
    ".popsection",
    ".pushsection .data.rel.ro.heapsift_new, \"aw\", @progbits",
    ".p2align 3",
    ".Lheapsift_personality:",
    ".quad __gxx_personality_v0",
    ".popsection",
    attempt = sym attempt,
    give_up = sym give_up,
);

unsafe extern "C" {
    fn heapsift_new_slow(bytes: usize, align: usize) -> *mut c_void;
    fn heapsift_new_nothrow(bytes: usize, align: usize) -> *mut c_void;
}

/// What came of one try of a `new`, in two registers.
#[repr(C)]
struct Tried {
    block: *mut u8,
    /// Not 0: it is what `new` returns. Else the handler is called, or something thrown.
    is_answer: usize,
}

/// One try of a `new`; `align` 0 means the default.
extern "C" fn attempt(bytes: usize, align: usize) -> Tried {
    let block = if align == 0 { HEAP.allocate_slow(bytes) } else { HEAP.allocate_aligned(bytes, align, false) };
    let mut is_answer = !block.is_null();
    if block.is_null() {
        if HEAP.options().infallible_new {
            let number = message::Decimal::new(bytes as u64);
            let end = b" failed. opt.experimental_infallible_new is true. Aborting.";
            message::safety_check_failed(&[b"Allocation of size ", number.as_bytes(), end], &|| {});
            // The program's hook came back. Nothing is thrown even so: the program says that it can't stand that.
            is_answer = true;
        }
        // As from `malloc`, by which other libraries' operators come to their memory.
        set_errno(ENOMEM);
    }
    Tried { block, is_answer: is_answer.into() }
}

/// No memory and no C++ library to throw.
extern "C" fn give_up() -> ! {
    message::fatal(&[b"operator new: out of memory, and no C++ library to throw bad_alloc"])
}

/// Whether a symbol leads to our own function: nothing has taken its place.
macro_rules! in_use {
    ($symbol:literal, $own:literal) => {{
        let (used, own): (usize, usize);
        // SAFETY: takes two addresses.
        unsafe {
            asm!(
                concat!("mov {}, qword ptr [rip + ", $symbol, "@GOTPCREL]"),
                concat!("lea {}, [rip + ", $own, "]"),
                out(reg) used, out(reg) own, options(nostack, readonly, preserves_flags)
            );
        }
        used == own
    }};
}

own_name!("heapsift_own_new", "_Znwm", new_plain);
own_name!("heapsift_own_new_align", "_ZnwmSt11align_val_t", new_align);

export! {
    "_Znwm" fn new_plain(bytes: usize) -> *mut c_void {
        HEAP.allocate_or_else(bytes, #[inline(always)] |bytes| {
            // SAFETY: the assembly above takes any size.
            unsafe { heapsift_new_slow(bytes, 0) }.cast()
        })
        .cast()
    }

    "_ZnwmSt11align_val_t" fn new_align(bytes: usize, align: usize) -> *mut c_void {
        // SAFETY: the assembly above takes any size; C++ gives a power of two.
        unsafe { heapsift_new_slow(bytes, align) }
    }

    "_ZnwmRKSt9nothrow_t" fn new_nothrow(bytes: usize, _tag: *const c_void) -> *mut c_void {
        if in_use!("_Znwm", "heapsift_own_new") {
            let block = HEAP.allocate(bytes);
            if !block.is_null() {
                return block.cast();
            }
        }
        // SAFETY: the assembly above takes any size.
        unsafe { heapsift_new_nothrow(bytes, 0) }
    }

    "_ZnwmSt11align_val_tRKSt9nothrow_t" fn new_align_nothrow(bytes: usize, align: usize, _tag: *const c_void)
        -> *mut c_void
    {
        if in_use!("_ZnwmSt11align_val_t", "heapsift_own_new_align") {
            let block = HEAP.allocate_aligned(bytes, align, false);
            if !block.is_null() {
                return block.cast();
            }
        }
        // SAFETY: as above.
        unsafe { heapsift_new_nothrow(bytes, align) }
    }

    "_ZdlPv" fn delete_plain(ptr: *mut c_void) {
        // SAFETY: the C++ program's promise that a `new` gave it.
        unsafe { HEAP.deallocate_owned(ptr.cast()) }
    }

    "_ZdlPvSt11align_val_t" fn delete_align(ptr: *mut c_void, _align: usize) {
        // SAFETY: as above.
        unsafe { HEAP.deallocate_owned(ptr.cast()) }
    }
}

/// Operators that are other operators: arguments beyond the other's are left where they are.
macro_rules! forward {
    ($($symbol:literal $name:ident => $target:literal;)*) => {
        $(export! { naked $symbol fn $name {
            naked_asm!(concat!("jmp qword ptr [rip + ", $target, "@GOTPCREL]"))
        } })*
    };
}

forward! {
    "_Znam" new_array => "_Znwm";
    "_ZnamSt11align_val_t" new_array_align => "_ZnwmSt11align_val_t";
    "_ZnamRKSt9nothrow_t" new_array_nothrow => "_ZnwmRKSt9nothrow_t";
    "_ZnamSt11align_val_tRKSt9nothrow_t" new_array_align_nothrow => "_ZnwmSt11align_val_tRKSt9nothrow_t";
    "_ZdaPv" delete_array => "_ZdlPv";
    "_ZdlPvm" delete_sized => "_ZdlPv";
    "_ZdaPvm" delete_array_sized => "_ZdaPv";
    "_ZdlPvRKSt9nothrow_t" delete_nothrow => "_ZdlPv";
    "_ZdaPvRKSt9nothrow_t" delete_array_nothrow => "_ZdaPv";
    "_ZdaPvSt11align_val_t" delete_array_align => "_ZdlPvSt11align_val_t";
    "_ZdlPvSt11align_val_tRKSt9nothrow_t" delete_align_nothrow => "_ZdlPvSt11align_val_t";
    "_ZdaPvSt11align_val_tRKSt9nothrow_t" delete_array_align_nothrow => "_ZdaPvSt11align_val_t";
}

/// Those whose size stands between: the alignment moves to its place.
macro_rules! forward_sized_align {
    ($($symbol:literal $name:ident => $target:literal;)*) => {
        $(export! { naked $symbol fn $name {
            naked_asm!("mov rsi, rdx", concat!("jmp qword ptr [rip + ", $target, "@GOTPCREL]"))
        } })*
    };
}

forward_sized_align! {
    "_ZdlPvmSt11align_val_t" delete_sized_align => "_ZdlPvSt11align_val_t";
    "_ZdaPvmSt11align_val_t" delete_array_sized_align => "_ZdaPvSt11align_val_t";
}
