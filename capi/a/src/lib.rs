//! `libheapsift.a`: the static library. See `capi/src` for what it exports.
//!
//! The configuration variables are weak here, so that a program may define its own.

#[path = "../../src/cxx.rs"]
mod cxx;
#[path = "../../src/exports.rs"]
mod exports;
#[path = "../../src/process.rs"]
mod process;

use core::ops::Range;

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

/// A static program has one module, the program itself: the allocator's frames are cut by their stack addresses alone.
pub(crate) fn own_module() -> Range<usize> {
    0..0
}
