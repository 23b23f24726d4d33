//! Stack traces from inside of an allocation: no allocation, no lock, bounded in time and depth.
//!
//! The walker follows the unwind tables (`.eh_frame`) that every module carries for exceptions, so that it needs no
//! frame pointers. A rule for each code address is looked up once and cached in a lock-free table. Code without tables
//! (just-in-time compilers, assembly) is crossed by frame pointers. What a walk could not follow to the start of its
//! thread is marked, never silently short.

mod bounds;
mod chain;
mod content;
mod made;
mod met;
mod recall;
mod resolve;
mod rules;
mod walker;

pub use bounds::{Stack, on_signal_stack, stack};
pub use met::{Met, met};
pub use recall::{Place, Recalled, SetsUsed, Start, Trail, recall};
pub(crate) use resolve::set_own_tables;

use core::mem::MaybeUninit;
use core::ops::Range;

use alloc_core::sys::Entry;

/// Addresses below this are no code.
const CODE_MIN: usize = 4096;

/// How stacks are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Unwind tables, and frame pointers through code that has none.
    Auto,
    /// Frame pointers alone: fast, but stops at the first function compiled without them.
    FramePointer,
    /// Unwind tables alone.
    Dwarf,
    /// The compiler's unwinder, `_Unwind_Backtrace`.
    Libgcc,
}

/// Which frames at the leaf end belong to the allocator.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Where the allocator's slow path stands: its frame and all below it go.
    pub entry: Entry,
    /// Code addresses of the allocator's own module, or of its entry points when the program contains it; may be empty.
    /// Frames of it that follow go too.
    pub own: Range<usize>,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the start of the thread or the program.
    Complete,
    /// The buffer was full.
    Truncated,
    /// There was no rule for a frame, or its memory can't be the stack.
    Lost,
}

/// A captured stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Frames written.
    pub depth: usize,
    /// How the walk ended.
    pub end: End,
}

/// Writes the return addresses of the calling thread's stack into `frames`, leaf first, the allocator's own cut off.
///
/// `stack` is the thread's own ([`stack()`]); where it isn't known, or the thread runs on another one, memory is probed
/// before it is read. The walk's `trail` is written down.
#[inline(never)]
pub fn capture(
    method: Method,
    stack: Stack,
    cut: &Cut,
    frames: &mut [MaybeUninit<usize>],
    trail: &mut Trail<'_>,
) -> Capture {
    // First of all: before that, even the question for tables ends in a crash.
    if !resolve::ready() {
        trail.lost();
        return Capture { depth: 0, end: End::Lost };
    }
    let by_libgcc = method == Method::Libgcc || !resolve::available() || !resolve::has_tables(cut.entry.pc);
    if !by_libgcc {
        return walker::own(method, stack, cut, frames, trail);
    }
    trail.lost();
    walker::libgcc(cut, frames)
}

/// Has the compiler's unwinder sort the frames that are registered with it, where it will be used: it allocates for that,
/// once, while it holds a lock, and must not meet a sample then. To be called where allocating is allowed.
pub fn prepare() {
    let entry = alloc_core::sys::entry();
    if resolve::ready() && !(resolve::available() && resolve::has_tables(entry.pc)) {
        walker::libgcc(&Cut { entry, own: 0..0 }, &mut [MaybeUninit::uninit(); 4]);
    }
}

/// Makes tables for a static program that has none, which takes a millisecond.
pub fn make_tables() {
    if resolve::ready() && resolve::available() {
        resolve::make_tables(alloc_core::sys::entry().pc);
    }
}

/// Where the loaded module that holds `address` lies (the base of its symbols' addresses), and its path, empty for the
/// program itself; `None` when there is none, or the C library can't tell without a lock. The path is the loader's, good
/// for as long as the module stays loaded.
pub fn module_place(address: usize) -> Option<(usize, &'static [u8])> {
    if resolve::ready() { resolve::place(address) } else { None }
}

/// The addresses of the allocator's own code, whose frames are left out of stacks, as a C library says by a symbol of this
/// name: without a call, since the loader and the constructors of other libraries allocate before its own constructor runs.
/// Empty in a Rust program, where only the frames between the heap and its caller are left out.
// Not inlined: a file that defines the symbol must not call it weak.
#[inline(never)]
pub fn own_module() -> Range<usize> {
    let bounds: *const [usize; 2] = alloc_core::weak_symbol!(hidden "heapsift_own_module");
    // SAFETY: not null, so the library's two addresses, which are never written once it is loaded.
    let [start, end] = if bounds.is_null() { [0; 2] } else { unsafe { *bounds } };
    start..end
}

/// The code range of the loaded module that holds `address`; empty when there is none.
pub fn module_of(address: usize) -> Range<usize> {
    resolve::module(address).map_or(0..0, |module| module.start..module.end)
}
