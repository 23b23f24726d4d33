//! The C functions of `libheapsift.a`. See `capi/src` for what it exports, and `capi/a` for why this is a crate.
//!
//! The configuration variables are weak here, so that a program may define its own.

#[path = "../../src/errno.rs"]
mod errno;
#[path = "../../src/exports.rs"]
mod exports;
#[path = "../../src/glibc.rs"]
mod glibc;
#[path = "../../src/jemalloc.rs"]
mod jemalloc;
#[path = "../../src/process.rs"]
mod process;

use core::sync::atomic::{AtomicBool, Ordering};

core::arch::global_asm!(
    ".macro heapsift_variable name",
    ".pushsection .data.\\name, \"aw\", @progbits",
    ".p2align 3",
    ".weak \\name",
    ".type \\name, @object",
    ".size \\name, 8",
    "\\name: .quad 0",
    ".popsection",
    ".endm",
    "heapsift_variable malloc_conf",
    "heapsift_variable malloc_conf_2_conf_harder",
    "heapsift_variable malloc_message",
);

unsafe extern "C" {
    // The linker's own names for the bounds of a section.
    #[link_name = "__start_heapsift_text"]
    static OWN_START: u8;
    #[link_name = "__stop_heapsift_text"]
    static OWN_END: u8;
}

/// Two addresses.
#[repr(transparent)]
struct Bounds([*const u8; 2]);
// SAFETY: never written, and nobody reads what lies there.
unsafe impl Sync for Bounds {}

/// The addresses of the exported functions, which lie side by side in a section of their own: frames in there are never
/// part of a stack. (The program is one module with the library. The frames further in are cut by the stack pointer.) Read
/// by the profiler: see `unwind::own_module`.
#[unsafe(no_mangle)]
#[used]
static heapsift_own_module: Bounds = Bounds([&raw const OWN_START, &raw const OWN_END]);

/// Read by the profiler: see `unwind::resolve::ready`.
#[unsafe(no_mangle)]
#[used]
static heapsift_loader_ready: AtomicBool = AtomicBool::new(false);

/// Whether the process calls our `malloc`: a program that had one of its own wouldn't have got this one from the archive.
pub(crate) fn is_malloc_ours() -> bool {
    true
}

/// The constructor runs: the C library is set up.
pub(crate) fn loader_is_ready() {
    heapsift_loader_ready.store(true, Ordering::Release);
    profiler::make_tables();
}
