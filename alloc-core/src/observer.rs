//! The one seam between the heap and whoever watches it.
//!
//! The heap calls an [`Observer`] when a thread's byte countdown runs out, when a block out of a flagged page or
//! extent is freed, and at a few moments of a thread's and the process's life. It knows nothing of stacks, profiles
//! or files. Every method runs with the calling thread's reentry depth raised: a block that an observer allocates is
//! never sampled. No heap lock is held during any call.

use crate::ctl::Node;
use crate::lock::Counts;
use crate::stats::SampleSums;
use crate::sys::Entry;

/// One allocation chosen for recording, or a change of one.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// First byte of the block.
    pub address: usize,
    /// The number of the block's arena.
    pub arena: usize,
    /// Bytes that the caller asked for.
    pub requested_bytes: usize,
    /// Bytes that the caller may use; the unit of the countdown.
    pub usable_bytes: usize,
    /// Where the allocator's own slow path stood: that frame and all below it are the allocator's, and a walk of the
    /// stack may start there.
    pub entry: Entry,
}

/// What an observer keeps with each thread. Zeroed when a thread starts; only its own thread touches it.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct ThreadSlot {
    /// Unique number of the thread in this process, from 1, never reused.
    pub uid: u64,
    /// Free for the observer.
    pub words: [usize; 7],
}

/// How an option string was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionVerdict {
    /// Not an option of this observer.
    Unknown,
    /// Taken over.
    Accepted,
    /// The value can't be read: `Invalid conf value`.
    Invalid,
    /// The value is outside of the option's range: `Out-of-range conf value`.
    OutOfRange,
    /// A list of settings can't be read: `Invalid settings for`.
    InvalidSettings,
}

/// Watches a heap. See the module's documentation for when and how it is called.
pub trait Observer: Sync + 'static {
    /// Whether sampling code is compiled in at all.
    const ENABLED: bool;

    /// Offers a `key:value` pair of the configuration that the heap doesn't know. Called before the heap has handed
    /// out a block; must not allocate.
    fn option(&'static self, key: &[u8], value: &[u8]) -> OptionVerdict;

    /// The configuration is complete. Called once, before the first block is handed out; must not allocate.
    fn boot(&'static self);

    /// Late start: the first time that a thread of the process runs with the C library up (the constructor of the
    /// library, or the first slow path of a Rust program). May allocate.
    fn start(&'static self);

    /// The bytes of usable size until the thread's next sample; `i64::MAX as u64` while nothing is sampled.
    fn next_wait(&'static self, slot: &mut ThreadSlot) -> u64;

    /// Whether the wait that the thread runs down was drawn under other settings than those of now, or is shorter than the
    /// one until a sample: that it ran out says nothing then.
    fn is_wait_void(&'static self, slot: &ThreadSlot) -> bool {
        let _ = slot;
        false
    }

    /// A block of that arena is soon told to [`Observer::sampled`] or [`Observer::freed`]: a moment to ask for memory that will
    /// be looked at then.
    fn ask_for(&'static self, address: usize, arena: usize) {
        let _ = (address, arena);
    }

    /// `block` was chosen. Returns whether a record was kept: then the heap flags the block's slab or extent, and
    /// calls [`Observer::freed`] for frees out of it. Must not allocate, must not take a lock of libc or the loader.
    fn sampled(&'static self, slot: &mut ThreadSlot, block: &Block) -> bool;

    /// A block out of a flagged page or extent, of that arena, is going away. Returns whether it had a record (now removed).
    fn freed(&'static self, slot: &mut ThreadSlot, address: usize, arena: usize) -> bool;

    /// The owner of a block out of a flagged page or extent asks for another number of bytes, and the block stays as it
    /// is: its usable size fits.
    fn resized(&'static self, address: usize, requested_bytes: usize) {
        let _ = (address, requested_bytes);
    }

    /// The bytes of usable size until the thread's next guarded block; `None`: none is wanted.
    fn next_guard_wait(&'static self, slot: &mut ThreadSlot) -> Option<u64> {
        let _ = slot;
        None
    }

    /// Writes the calling thread's stack from `entry` on into `frames`: code addresses, leaf first, the allocator's own left
    /// out. Returns how many. Must not allocate.
    fn stack(&'static self, slot: &mut ThreadSlot, entry: &Entry, frames: &mut [usize]) -> usize {
        let _ = (slot, entry, frames);
        0
    }

    /// The process is about to end for what was done to the block at `address`: says from where that was allocated, and
    /// perhaps freed, if it is known. Must not allocate.
    fn tell_history(&'static self, address: usize) {
        let _ = address;
    }

    /// The pages in use by active extents passed their previous maximum (called only while
    /// [`Observer::wants_maxima`] is true, outside of any heap lock).
    fn new_maximum(&'static self, active_bytes: usize);

    /// Whether [`Observer::new_maximum`] should be called.
    fn wants_maxima(&self) -> bool;

    /// Something that was put off may be due (interval dumps and the like). Called without locks from slow paths of
    /// the allocator after [`Observer::sampled`] returned; may allocate and do file IO.
    fn deferred(&'static self, slot: &mut ThreadSlot);

    /// Whether memory is short where the process runs. Asked by background threads, now and then, while pages are unused; may
    /// do file IO.
    fn is_memory_short(&'static self) -> bool {
        false
    }

    /// The thread ends; `slot` is not used again.
    fn thread_exit(&'static self, slot: &mut ThreadSlot);

    /// What was counted of the samples of a class, where that is done; bins are classes from 0, large ones follow.
    fn sample_sums(&'static self, class: usize) -> Option<SampleSums> {
        let _ = class;
        None
    }

    /// What the observer's locks have seen, by jemalloc's names for them (those of [`crate::stats::GLOBAL_LOCKS`] that
    /// begin with `prof`). Others answer nothing.
    fn lock_counts(&'static self, _name: &str) -> Counts {
        Counts::NONE
    }

    /// Has these locks count afresh.
    fn reset_lock_counts(&'static self) {}

    /// This is the child of a fork, and the only thread in it. Locks that other threads held are to be reset here.
    fn fork_child(&'static self);

    /// Control nodes (`prof.*`, `opt.prof*`, `thread.prof.*`) to be found beside the heap's own.
    fn nodes(&self) -> &'static [Node];
}
