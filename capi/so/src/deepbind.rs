//! `dlopen`, for libraries that are loaded with `RTLD_DEEPBIND`: PHP does that with all its extensions.
//!
//! Such a library looks its symbols up in itself and in what it was linked with before it looks in the program. So it
//! finds the C library's `malloc` and `free` rather than ours, and the first block that it frees for somebody else, or
//! somebody else for it, ends the process. The flag is taken out here; `deepbind:true` leaves it in.
//!
//! The C library looks at the return address to see who calls: that decides in which directories a library is looked
//! for. So its function is jumped to, not called.

use core::ffi::c_int;
use core::sync::atomic::{AtomicUsize, Ordering};

use profiler::HEAP;

export! {
    naked "dlopen" fn dlopen {
        core::arch::naked_asm!(
            // void *dlopen(const char *file, int mode)
            ".cfi_startproc",
            "push rdi",
            ".cfi_adjust_cfa_offset 8",
            "mov edi, esi",
            "call {next}",
            "pop rdi",
            ".cfi_adjust_cfa_offset -8",
            "mov esi, edx",
            "test rax, rax",
            "je 2f",
            "jmp rax",
            // There is none, and `dlerror` says so.
            "2:",
            "ret",
            ".cfi_endproc",
            next = sym next,
        )
    }
}

/// Where to go on, and with which mode; in two registers, by the C calling convention.
#[repr(C)]
struct Next {
    function: usize,
    mode: usize,
}

/// The next `dlopen` after ours, once it has been looked up; 0: not yet.
static FOUND: AtomicUsize = AtomicUsize::new(0);

extern "C" fn next(mode: c_int) -> Next {
    let mut function = FOUND.load(Ordering::Relaxed);
    if function == 0 {
        // SAFETY: a name that ends with a zero byte. The caller is about to call the loader itself.
        function = unsafe { libc::dlsym(libc::RTLD_NEXT, c"dlopen".as_ptr()) }.expose_provenance();
        FOUND.store(function, Ordering::Relaxed);
    }
    let mode = if HEAP.options().deepbind { mode } else { mode & !libc::RTLD_DEEPBIND };
    Next { function, mode: mode.cast_unsigned() as usize }
}
