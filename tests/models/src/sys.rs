//! The system as far as the models need it: threads have numbers, futexes are queues of loom, memory reads as zeros.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Mutex;

use crate::sync::atomic::{AtomicU32, Ordering, prepare};

/// log2 of the bytes of a page.
pub const LG_PAGE: u32 = 12;
const MAP_MAX: usize = 1 << 30;

/// An error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(
    /// It.
    pub i32,
);

/// What the kernel is told of memory.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "they are alloc_core's")]
pub enum Advice {
    DontDump,
    NoHugePage,
}

/// What may be done to memory.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "they are alloc_core's")]
pub enum Access {
    Read,
    ReadWrite,
}

loom::lazy_static! {
    static ref QUEUE: (loom::sync::Mutex<()>, loom::sync::Condvar) = (loom::sync::Mutex::new(()), loom::sync::Condvar::new());
    static ref MEMORY: Memory = Memory::default();
    /// Threads that have a number: no atomic of the model.
    static ref THREADS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
}

/// What was mapped in a run, given back at its end.
#[derive(Default)]
struct Memory(Mutex<Vec<(usize, Layout)>>);

impl Drop for Memory {
    fn drop(&mut self) {
        for &(address, layout) in self.0.get_mut().expect("no thread panics in here").iter() {
            // SAFETY: allocated by `map` with this layout, and the run that used it is over.
            unsafe { dealloc(core::ptr::with_exposed_provenance_mut(address), layout) };
        }
    }
}

/// A number of the thread's own.
pub fn thread_pointer() -> usize {
    loom::thread_local! {
        static NUMBER: usize = 128 * (1 + THREADS.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    }
    NUMBER.with(|number| *number)
}

/// There is no time in a model.
pub fn clock_monotonic_ns() -> u64 {
    0
}

/// Sleeps until woken, if the word is as expected. As in the kernel, looking and going to sleep are one step.
pub fn futex_wait(word: &AtomicU32, expected: u32) {
    let (lock, queue) = &*QUEUE;
    let held = lock.lock().expect("no thread panics in here");
    if word.load(Ordering::Relaxed) == expected {
        drop(queue.wait(held).expect("no thread panics in here"));
    }
}

/// Wakes sleepers.
pub fn futex_wake(_: &AtomicU32, count: u32) {
    let (lock, queue) = &*QUEUE;
    let _held = lock.lock().expect("no thread panics in here");
    for _ in 0..count {
        queue.notify_one();
    }
}

/// Address space is no matter.
pub fn address_space_limit() -> Option<usize> {
    None
}

/// As [`reserve`].
///
/// # Errors
/// Always.
pub fn map_unused(_: usize, bytes: usize) -> Result<(), Errno> {
    reserve(bytes).map(|_| ())
}

/// Address space; there is none in a model.
///
/// # Errors
/// Always.
pub fn reserve(_: usize) -> Result<usize, Errno> {
    const ENOMEM: i32 = 12;
    Err(Errno(ENOMEM))
}

/// As [`reserve`].
///
/// # Errors
/// Always.
pub fn map_to_read(bytes: usize) -> Result<usize, Errno> {
    reserve(bytes)
}

/// Nothing is locked in a model.
pub fn is_locked(_: usize) -> bool {
    false
}

/// All memory of a model may be written.
///
/// # Errors
/// None.
///
/// # Safety
/// None is needed.
pub unsafe fn protect(_: usize, _: usize, _: Access) -> Result<(), Errno> {
    Ok(())
}

/// Zeroed memory; none where that would be very much.
///
/// # Errors
/// There is none.
pub fn map(bytes: usize, _: bool) -> Result<usize, Errno> {
    if bytes > MAP_MAX {
        return Err(Errno(12));
    }
    let layout = Layout::from_size_align(bytes, 4096).map_err(|_| Errno(12))?;
    // SAFETY: the length is not zero.
    let address = unsafe { alloc_zeroed(layout) }.expose_provenance();
    MEMORY.0.lock().expect("no thread panics in here").push((address, layout));
    // The models use the first words and the last one.
    prepare(address, 64);
    prepare(address + bytes - 8, 8);
    Ok(address)
}

/// Is forgotten; the end of the run gives it back, so that no address comes twice in a run.
///
/// # Safety
/// None is needed.
///
/// # Errors
/// None.
pub unsafe fn unmap(_: usize, _: usize) -> Result<(), Errno> {
    Ok(())
}

/// Is forgotten.
///
/// # Safety
/// None is needed.
///
/// # Errors
/// None.
pub unsafe fn advise(_: usize, _: usize, _: Advice) -> Result<(), Errno> {
    Ok(())
}
