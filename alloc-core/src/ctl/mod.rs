//! `mallctl`: names and numbers for everything that a program may ask of the heap or change in it.
//!
//! Names come from flat tables, the heap's and its observer's, and are found in a tree. A name's number (MIB) has one
//! component for each of its own: for `<i>` the index, for a word its position among those that may stand there.
//! Positions are stable within a build and mean nothing beyond it, as in jemalloc.

mod arena;
pub mod control;
mod experimental;
mod general;
mod indices;
mod names;
pub mod node;
mod opt;
mod stats;
mod thread;

pub use control::HeapControl;
pub(crate) use general::{CONFIG, VERSION};
pub(crate) use indices::{NEXTENTS, NSLABS};
pub use names::Names;
pub(crate) use names::NamesCell;
pub use node::{Call, Code, Node, TextSink};

/// Most components of a name.
pub const DEPTH_MAX: usize = 7;

/// The heap's names.
static TABLES: &[&[Node]] = &[
    general::NODES,
    thread::NODES,
    opt::NODES,
    thread::TCACHE_NODES,
    arena::NODES,
    stats::NODES,
    stats::MUTEX_NODES,
    stats::HUGE_PAGE_NODES,
    experimental::NODES,
];

fn names(heap: &'static dyn HeapControl) -> Result<&'static Names, Code> {
    heap.control_names().ok_or(Code::EAGAIN)
}

/// `mallctl`.
///
/// # Safety
/// The buffers are as `mallctl` describes them.
pub unsafe fn by_name(
    heap: &'static dyn HeapControl,
    name: &[u8],
    old: *mut u8,
    old_length: *mut usize,
    new: *const u8,
    new_length: usize,
) -> Result<(), Code> {
    let mut mib = [0; DEPTH_MAX];
    let (depth, handler) = names(heap)?.find(heap, name, &mut mib)?;
    let handler = handler.ok_or(Code::ENOENT)?;
    // SAFETY: the caller's buffers.
    handler(&mut unsafe { Call::new(heap, &mib[..depth], old, old_length, new, new_length) })
}

/// `mallctlbymib`.
///
/// # Safety
/// As [`by_name`].
pub unsafe fn by_mib(
    heap: &'static dyn HeapControl,
    mib: &[usize],
    old: *mut u8,
    old_length: *mut usize,
    new: *const u8,
    new_length: usize,
) -> Result<(), Code> {
    let handler = names(heap)?.at(heap, mib)?;
    // SAFETY: the caller's buffers.
    handler(&mut unsafe { Call::new(heap, mib, old, old_length, new, new_length) })
}

/// As [`by_name`] with text for values: numbers in decimal, `true` and `false`, texts as they are. `old` gets what is read.
/// A name that is an action takes neither.
///
/// # Errors
/// As `mallctl`; what can't be said as text (structures, addresses to be written) is [`Code::EINVAL`].
pub fn by_name_as_text(
    heap: &'static dyn HeapControl,
    name: &[u8],
    new: Option<&core::ffi::CStr>,
    old: Option<&mut TextSink<'_>>,
) -> Result<(), Code> {
    let mut mib = [0; DEPTH_MAX];
    let (depth, handler) = names(heap)?.find(heap, name, &mut mib)?;
    // The sink for as long as the call only.
    let old = old.map(|old| old as &mut TextSink<'_>);
    handler.ok_or(Code::ENOENT)?(&mut Call::as_text(heap, &mib[..depth], new, old))
}

/// `mallctlnametomib`: fills `mib` and returns how many components it has now.
pub fn name_to_mib(heap: &'static dyn HeapControl, name: &[u8], mib: &mut [usize]) -> Result<usize, Code> {
    names(heap)?.find(heap, name, mib).map(|(depth, _)| depth)
}
