//! The heap of heapsift: arenas, thread caches, slabs, extents, decay.
//!
//! Bytes in, pointers out. The crate knows nothing of profiles: whoever wants to watch implements [`Observer`]. It
//! runs inside of other programs' `malloc`: no call into the C library on the request path, no allocation, no panic.
//!
//! The rooms, from the bottom: `sys` (system calls), `lock`, `base` (metadata), `extent`, `pairing`, `pagemap`,
//! `pages` (extents by arena), `bin` (slabs), `arena`, `thread` and `tls` (caches), `heap` (the paths of requests).
#![no_std]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")))]
compile_error!("heapsift runs on Linux on x86-64 with the GNU C library; other systems are not supported yet");

// Tests inside of the crate share helpers with those outside.
#[cfg(test)]
extern crate self as alloc_core;

pub mod arena;
mod arenas;
pub mod background;
pub mod base;
pub mod bin;
mod caches;
mod census;
mod clear;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
pub mod conf;
pub mod ctl;
pub mod decay;
pub mod events;
pub mod extent;
#[cfg(test)]
mod faults;
pub mod first_thread;
pub mod guarded;
pub mod heap;
mod introspect;
#[cfg(debug_assertions)]
pub mod invariants;
pub mod large;
mod limits;
pub mod lock;
pub mod made;
pub mod message;
pub mod observer;
pub mod pagemap;
pub mod pages;
pub mod pairing;
mod ranks;
mod registry;
mod release;
pub mod report;
mod request;
mod resize;
mod room;
pub mod size;
pub mod snapshot;
mod sparse;
pub mod stats;
/// Atomics. The models of `tests/models` have loom's here.
mod sync {
    pub use core::sync::atomic;
}
pub mod sys;
pub mod thread;
mod tls;
mod weak;
mod wrong;

pub use background::BackgroundStats;
pub use census::ClassTotal;
pub use extent::State;
pub use heap::{Heap, Request, TcacheChoice};
pub use introspect::{ArenaSelection, Suppressed};
pub use observer::{Block, Observer, OptionVerdict, ThreadSlot};
pub use registry::fork_generation;
pub use stats::{ArenaStats, BinStats, Stats};
