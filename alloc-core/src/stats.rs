//! The numbers that a heap tells about itself.

use crate::bin::BinCounts;
use crate::size::NBINS;

/// Totals over all arenas, in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Usable bytes of all blocks that the program holds; exact.
    pub allocated: usize,
    /// Pages of slabs and large blocks.
    pub active: usize,
    /// The heap's own descriptors, tables, and the library's own blocks.
    pub metadata: usize,
    /// An upper bound of resident memory: active, dirty and metadata.
    pub resident: usize,
    /// Active, dirty and muzzy pages.
    pub mapped: usize,
    /// Address space kept without pages.
    pub retained: usize,
    /// Blocks in thread caches (free for the program, in use for the arenas).
    pub tcache_bytes: usize,
    /// Unused pages, backed.
    pub dirty: usize,
    /// Unused pages, lazily given away.
    pub muzzy: usize,
    /// Calls of `realloc(ptr, 0)`; a count.
    pub zero_reallocs: usize,
}

impl Stats {
    /// All zero.
    pub const NONE: Stats = Stats {
        allocated: 0,
        active: 0,
        metadata: 0,
        resident: 0,
        mapped: 0,
        retained: 0,
        tcache_bytes: 0,
        dirty: 0,
        muzzy: 0,
        zero_reallocs: 0,
    };
}

/// Numbers of a bin, as jemalloc names them.
pub type BinStats = BinCounts;

/// Numbers of an arena.
#[derive(Clone, Copy, Debug)]
pub struct ArenaStats {
    /// Threads bound to the arena.
    pub nthreads: u32,
    /// Nanoseconds since the arena was made.
    pub uptime_ns: u64,
    /// Active pages.
    pub pactive: usize,
    /// Dirty pages.
    pub pdirty: usize,
    /// Muzzy pages.
    pub pmuzzy: usize,
    /// Mapped bytes.
    pub mapped: usize,
    /// Retained bytes.
    pub retained: usize,
    /// Sweeps over dirty pages.
    pub dirty_npurge: u64,
    /// System calls for them.
    pub dirty_nmadvise: u64,
    /// Pages given back.
    pub dirty_purged: u64,
    /// Sweeps over muzzy pages.
    pub muzzy_npurge: u64,
    /// System calls for them.
    pub muzzy_nmadvise: u64,
    /// Pages given back.
    pub muzzy_purged: u64,
    /// Bytes of descriptors.
    pub base: usize,
    /// Bytes of the library's own blocks in this arena.
    pub internal: usize,
    /// Usable bytes out of slabs (thread caches included).
    pub small_allocated: usize,
    /// Bytes of large blocks (thread caches included).
    pub large_allocated: usize,
    /// Large allocations.
    pub large_nmalloc: u64,
    /// Large deallocations.
    pub large_ndalloc: u64,
    /// By bin.
    pub bins: [BinStats; NBINS],
}
