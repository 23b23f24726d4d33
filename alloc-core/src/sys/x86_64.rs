//! The system call instruction and the thread pointer on x86-64.

use core::arch::{asm, naked_asm};
use core::ffi::c_void;
use core::sync::atomic::AtomicI8;

/// Reads `bytes[index]`, widened with its sign, in one instruction. (The compiler would read it, compare it as a byte, and
/// widen it afterwards, in the middle of the fast path of freeing.)
///
/// # Safety
/// The array has such an element.
#[inline(always)]
pub unsafe fn load_byte(bytes: *const AtomicI8, index: usize) -> isize {
    let value: isize;
    // SAFETY: the caller's element. A load of a byte is a relaxed atomic one on this architecture.
    unsafe {
        asm!("movsx {}, byte ptr [{} + {}]", out(reg) value, in(reg) bytes, in(reg) index,
             options(readonly, nostack, preserves_flags));
    }
    value
}

/// Makes system call `number`; returns the kernel's value (`-4095..0` is an error number).
///
/// # Safety
/// The arguments must be valid for that system call.
#[inline]
pub unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the kernel preserves all registers but rax, rcx and r11; what memory it touches is the caller's matter.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result,
             in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
             in("r10") args[3], in("r8") args[4], in("r9") args[5],
             out("rcx") _, out("r11") _, options(nostack));
    }
    result
}

/// The address of the calling thread's control block: unique among live threads, the same in a forked child.
#[inline]
pub fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: the psABI keeps the thread pointer in the first word of the thread control block.
    unsafe { asm!("mov {}, fs:[0]", out(reg) pointer, options(nostack, readonly, preserves_flags)) };
    pointer
}

/// The stack pointer of the function that this is inlined into.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// Where a function stands: what a walk of the stack starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Address of the code.
    pub pc: usize,
    /// The stack pointer there.
    pub sp: usize,
    /// The frame pointer register there, whatever it holds.
    pub bp: usize,
}

/// The function that this is inlined into, as it stands.
#[inline(always)]
pub fn entry() -> Entry {
    let (pc, sp, bp);
    // SAFETY: copies registers.
    unsafe {
        asm!(
            "lea {0}, [rip]", "mov {1}, rsp", "mov {2}, rbp",
            out(reg) pc, out(reg) sp, out(reg) bp, options(nomem, nostack, preserves_flags)
        );
    }
    Entry { pc, sp, bp }
}

/// Asks for the cache line at an address, to be written to: nothing happens when there is no memory.
#[inline]
pub fn prefetch_for_write<T>(address: *const T) {
    // SAFETY: a hint, which reads and writes nothing as far as the program can tell, at any address. Processors without
    // it take it for a no-op.
    unsafe { asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly)) };
}

/// A counter that grows by some billions a second: cheaper than a clock, for telling whether to look at one.
#[inline]
pub fn ticks() -> u64 {
    if super::sandbox::are_ticks_forbidden() {
        return super::sandbox::ticks();
    }
    // SAFETY: reads the time stamp counter, which user programs may unless they have forbidden it to themselves.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Calls `work(argument)` with the stack pointer at `top`, and comes back. Debuggers and unwinders find the caller by the
/// frame pointer.
///
/// # Safety
/// There is a stack below `top`, a multiple of 16, which is the caller's; `work` returns, and `argument` is what it wants.
#[unsafe(naked)]
pub unsafe extern "C" fn call_on_stack(top: usize, work: extern "C" fn(*mut c_void), argument: *mut c_void) {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}
