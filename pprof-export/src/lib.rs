//! The pprof heap profile format: streaming writer, bounded reader, one schema.
//!
//! Two users, two halves:
//! - the profiler, inside somebody else's process: [`writer`] and [`unsample`]. `no_std` with `alloc`;
//!   no panic on purpose, memory bounded by the number of distinct addresses and strings;
//! - the tools, offline: [`schema`], [`reader`] and [`encode_gzip`] (feature `reader`). Files may be
//!   hostile, so everything read is bounded and checked.
//!
//! `docs/dump-format.md` says what a heap profile of ours contains; the format itself is
//! `perftools.profiles.Profile` of google/pprof, gzipped.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(feature = "reader", test))]
extern crate std;

mod address_table;
mod allocator_stats;
mod gzip;
mod intern;
pub mod located;
mod records;
pub mod unsample;
mod wire;
pub mod writer;

#[cfg(feature = "reader")]
mod encode;
#[cfg(feature = "reader")]
pub mod reader;
#[cfg(feature = "reader")]
pub mod schema;

pub use allocator_stats::{AllocatorStats, ClassTotal};
#[cfg(feature = "reader")]
pub use encode::encode_gzip;
