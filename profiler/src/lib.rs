//! A jemalloc-compatible allocator with a sampled heap profiler.
//!
//! For Rust programs: [`Heapsift`] is the allocator, [`profile`] what it knows. The C libraries wrap [`HEAP`].
//!
//! The heap is `alloc_core`'s; this crate watches it. One allocation in every 512 KiB on average is sampled: its stack
//! is captured (`unwind`) and kept once (`stacks`), counted by size (`buckets`), and the live block is
//! remembered by its address (`records`) until it is freed. A dump (`dump`) copies these tables piece by
//! piece (`snapshot`) and writes them as pprof, without stopping anybody.
//!
//! Everything up to the return from `malloc` runs without allocating and without locks of libc or the loader. Only
//! dumps allocate: in the C libraries from a private arena, in a Rust program from the heap itself, unsampled.
#![no_std]

#[cfg(feature = "profiling")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod global;
#[cfg(not(feature = "profiling"))]
mod unobserved;

#[cfg(feature = "profiling")]
mod buckets;
#[cfg(feature = "profiling")]
mod busy;
#[cfg(feature = "profiling")]
mod capture;
#[cfg(feature = "profiling")]
mod class_stats;
#[cfg(feature = "profiling")]
mod clock;
#[cfg(feature = "profiling")]
mod content;
#[cfg(feature = "profiling")]
mod control;
#[cfg(feature = "profiling")]
mod dump;
#[cfg(feature = "profiling")]
mod file;
#[cfg(feature = "profiling")]
mod frees;
#[cfg(feature = "profiling")]
mod guard;
#[cfg(feature = "profiling")]
mod heap_v2;
#[cfg(feature = "profiling")]
mod helpers;
#[cfg(feature = "profiling")]
mod hooks;
#[cfg(feature = "profiling")]
pub mod image;
#[cfg(feature = "profiling")]
mod journal;
#[cfg(feature = "profiling")]
mod kept;
#[cfg(feature = "profiling")]
mod kind;
#[cfg(feature = "profiling")]
mod labels;
#[cfg(feature = "profiling")]
mod lifetimes;
#[cfg(feature = "profiling")]
#[doc(hidden)]
pub mod maps;
#[cfg(feature = "profiling")]
mod memory;
#[cfg(feature = "profiling")]
pub mod metrics;
#[cfg(feature = "profiling")]
mod names;
#[cfg(feature = "profiling")]
mod naming;
#[cfg(feature = "profiling")]
mod nodes;
#[cfg(feature = "profiling")]
mod numbered;
#[cfg(feature = "profiling")]
mod ordered;
#[cfg(feature = "profiling")]
mod own_stack;
#[cfg(feature = "profiling")]
mod peak;
#[cfg(feature = "profiling")]
mod probes;
#[cfg(feature = "profiling")]
pub mod profile;
#[cfg(feature = "profiling")]
mod profiler;
#[cfg(feature = "profiling")]
mod ranges;
#[cfg(feature = "profiling")]
mod recent;
#[cfg(feature = "profiling")]
mod records;
#[cfg(feature = "profiling")]
mod reset;
#[cfg(feature = "profiling")]
mod resident;
#[cfg(feature = "profiling")]
mod retention;
#[cfg(feature = "profiling")]
mod rows;
#[cfg(feature = "profiling")]
mod sampler;
#[cfg(feature = "profiling")]
mod settings;
#[cfg(feature = "profiling")]
mod shares;
#[cfg(feature = "profiling")]
mod slack;
#[cfg(feature = "profiling")]
mod snapshot;
#[cfg(feature = "profiling")]
mod stacks;
/// Atomics. The models of `tests/models` have loom's here.
#[cfg(feature = "profiling")]
mod sync {
    pub use core::sync::atomic;
}
#[cfg(feature = "profiling")]
mod sweep;
#[cfg(feature = "profiling")]
mod table;
#[cfg(feature = "profiling")]
mod text;
#[cfg(feature = "profiling")]
mod triggers;
#[cfg(feature = "profiling")]
pub mod unwind;
#[cfg(feature = "profiling")]
mod waste;
#[cfg(feature = "profiling")]
mod watch;
#[cfg(feature = "profiling")]
mod watchers;
#[cfg(feature = "profiling")]
mod waterfall;

pub use global::Heapsift;
#[cfg(feature = "profiling")]
pub use profiler::Profiler;
#[cfg(not(feature = "profiling"))]
pub use unobserved::Unobserved;

use alloc_core::Heap;

/// The heap of this program and its observer: the one place where the two meet.
#[cfg(feature = "profiling")]
pub static HEAP: Heap<Profiler> = Heap::new(Profiler::new());

/// The heap of this program, unobserved.
#[cfg(not(feature = "profiling"))]
pub static HEAP: Heap<Unobserved> = Heap::new(Unobserved);

/// Says where a shared library that holds the allocator has its unwind tables, in pages that are mapped for reading alone
/// and that hold nothing else which is read often. Each time that something has been looked up there, which is seldom, the
/// pages are taken out of memory again.
#[cfg(feature = "profiling")]
pub fn set_own_tables(range: core::ops::Range<usize>) {
    unwind::set_own_tables(range);
}

/// Makes unwind tables for a static program that has none, if it takes stacks. To be called when the C library can tell where
/// code is, which is after the heap has started.
#[cfg(feature = "profiling")]
pub fn make_tables() {
    use core::sync::atomic::Ordering::Relaxed;
    let settings = &HEAP.observer().settings;
    if settings.enabled.load(Relaxed) || settings.guard.load(Relaxed) != 0 {
        unwind::make_tables();
    }
}

/// Starts the threads that options ask for. To be called where the program's own code runs and the heap has started: at
/// the end of a library's constructor.
#[cfg(feature = "profiling")]
pub fn start_helpers() {
    helpers::start();
}

/// As [`start_helpers`], where nothing may ever be allocated: the threads start when something has been.
#[cfg(feature = "profiling")]
pub fn start_helpers_later() {
    helpers::start_later();
}
