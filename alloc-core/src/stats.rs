//! The numbers that a heap tells about itself.

use crate::bin::BinCounts;
use crate::lock::Counts;
use crate::pages::cache::NPAGE_CLASSES;
use crate::pages::{FreeByClass, FreeExtents};
use crate::size::{self, NBINS, NLEXTENTS};

/// Totals over all arenas, in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Usable bytes of all blocks that the program holds; exact.
    pub allocated: usize,
    /// Pages of slabs and large blocks.
    pub active: usize,
    /// The heap's own descriptors, tables, and the library's own blocks.
    pub metadata: usize,
    /// Of these, descriptors of extents.
    pub metadata_edata: usize,
    /// Of these, the map from addresses to extents; estimated from the pages that are mapped.
    pub metadata_rtree: usize,
    /// Huge pages that were asked for them (`metadata_thp`); a count, as in jemalloc.
    pub metadata_thp: usize,
    /// An upper bound of resident memory: active, dirty, pinned and metadata.
    pub resident: usize,
    /// Active, dirty, muzzy and pinned pages.
    pub mapped: usize,
    /// Address space kept without pages.
    pub retained: usize,
    /// Unused pages that a program's hooks keep backed for ever.
    pub pinned: usize,
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
        metadata_edata: 0,
        metadata_rtree: 0,
        metadata_thp: 0,
        resident: 0,
        mapped: 0,
        retained: 0,
        pinned: 0,
        tcache_bytes: 0,
        dirty: 0,
        muzzy: 0,
        zero_reallocs: 0,
    };
}

/// Numbers of a bin.
#[derive(Clone, Copy, Debug, Default)]
pub struct BinStats {
    /// As jemalloc names them.
    pub counts: BinCounts,
    /// What the locks of the bin have seen.
    pub lock: Counts,
}

/// Numbers of a large class.
#[derive(Clone, Copy, Debug, Default)]
pub struct LargeStats {
    /// Blocks handed to thread caches or callers.
    pub nmalloc: u64,
    /// Blocks that came back.
    pub ndalloc: u64,
    /// Requests that were served, by thread caches too.
    pub nrequests: u64,
    /// Fills of thread caches.
    pub nfills: u64,
    /// Flushes of thread caches.
    pub nflushes: u64,
    /// Blocks that are out.
    pub curlextents: usize,
}

/// Names of an arena's locks, in jemalloc's order.
pub const ARENA_LOCKS: [&str; 13] = [
    "large",
    "extent_avail",
    "extents_dirty",
    "extents_muzzy",
    "extents_retained",
    "extents_pinned",
    "decay_dirty",
    "decay_muzzy",
    "base",
    "tcache_list",
    "hpa_shard",
    "hpa_shard_grow",
    "hpa_sec",
];

/// Names of the locks that belong to no arena, in jemalloc's order.
pub const GLOBAL_LOCKS: [&str; 9] = [
    "background_thread",
    "max_per_bg_thd",
    "ctl",
    "prof",
    "prof_thds_data",
    "prof_dump",
    "prof_recent_alloc",
    "prof_recent_dump",
    "prof_stats",
];

/// Sums by size: small or large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in `BinStats` and `LargeStats`")]
pub struct Sum {
    pub allocated: usize,
    pub nmalloc: u64,
    pub ndalloc: u64,
    pub nrequests: u64,
    pub nfills: u64,
    pub nflushes: u64,
}

/// What an observer has counted of the samples of a class (`prof_stats`): bytes that were asked for, and blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SampleSums {
    pub live_requested: u64,
    pub live_count: u64,
    pub accum_requested: u64,
    pub accum_count: u64,
}

impl SampleSums {
    /// By jemalloc's names.
    pub fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("prof_live_requested", self.live_requested),
            ("prof_live_count", self.live_count),
            ("prof_accum_requested", self.accum_requested),
            ("prof_accum_count", self.accum_count),
        ]
    }
}

/// Numbers of an arena, or of several together.
#[derive(Clone, Copy, Debug)]
pub struct ArenaStats {
    /// Whether there is or was such an arena.
    pub initialized: bool,
    /// Threads bound to the arena.
    pub nthreads: u32,
    /// Nanoseconds since the arena was made.
    pub uptime_ns: u64,
    /// Where `sbrk` stands: an index into [`crate::conf::DSS`].
    pub dss: usize,
    /// Decay time of dirty pages.
    pub dirty_decay_ms: i64,
    /// Decay time of muzzy pages.
    pub muzzy_decay_ms: i64,
    /// Active pages.
    pub pactive: usize,
    /// Dirty pages.
    pub pdirty: usize,
    /// Muzzy pages.
    pub pmuzzy: usize,
    /// Mapped bytes, metadata included.
    pub mapped: usize,
    /// Retained bytes.
    pub retained: usize,
    /// Bytes that stay backed for ever.
    pub pinned: usize,
    /// Descriptors without a use.
    pub extent_avail: usize,
    /// Bytes that the child of a fork has lost sight of.
    pub abandoned_vm: usize,
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
    /// Bytes of metadata; the first arena has those that belong to no other.
    pub base: usize,
    /// Bytes of the library's own blocks, and of pages that wait for more of them; told of the first arena.
    pub internal: usize,
    /// Bytes of descriptors.
    pub metadata_edata: usize,
    /// Bytes of the map from addresses to extents.
    pub metadata_rtree: usize,
    /// Huge pages that were asked for metadata.
    pub metadata_thp: usize,
    /// Bytes in the caches of the arena's threads.
    pub tcache_bytes: usize,
    /// By bin.
    pub bins: [BinStats; NBINS],
    /// Bytes of large blocks, those in thread caches included.
    pub large_allocated: usize,
    /// By large class.
    pub large: [LargeStats; NLEXTENTS],
    /// Free extents by size class: dirty, muzzy, retained, pinned.
    pub extents: FreeByClass,
    /// What the locks of [`ARENA_LOCKS`] have seen.
    pub locks: [Counts; ARENA_LOCKS.len()],
}

impl ArenaStats {
    /// Nothing.
    pub const NONE: ArenaStats = ArenaStats {
        initialized: false,
        nthreads: 0,
        uptime_ns: 0,
        dss: 0,
        dirty_decay_ms: 0,
        muzzy_decay_ms: 0,
        pactive: 0,
        pdirty: 0,
        pmuzzy: 0,
        mapped: 0,
        retained: 0,
        pinned: 0,
        extent_avail: 0,
        abandoned_vm: 0,
        dirty_npurge: 0,
        dirty_nmadvise: 0,
        dirty_purged: 0,
        muzzy_npurge: 0,
        muzzy_nmadvise: 0,
        muzzy_purged: 0,
        base: 0,
        internal: 0,
        metadata_edata: 0,
        metadata_rtree: 0,
        metadata_thp: 0,
        tcache_bytes: 0,
        bins: [BinStats { counts: BinCounts::NONE, lock: Counts::NONE }; NBINS],
        large_allocated: 0,
        large: [LargeStats { nmalloc: 0, ndalloc: 0, nrequests: 0, nfills: 0, nflushes: 0, curlextents: 0 }; NLEXTENTS],
        extents: [[FreeExtents { count: 0, bytes: 0 }; NPAGE_CLASSES]; 4],
        locks: [Counts::NONE; ARENA_LOCKS.len()],
    };

    /// Sets all to nothing, without a copy on the stack.
    pub fn clear(&mut self) {
        static NOTHING: ArenaStats = ArenaStats::NONE;
        // SAFETY: plain numbers; the two don't overlap.
        unsafe { core::ptr::copy_nonoverlapping(&raw const NOTHING, self, 1) };
    }

    /// An upper bound of the arena's resident bytes. It can be less than what is active: pages inside of slabs are given back.
    pub fn resident(&self) -> usize {
        let absent: usize = self.bins.iter().map(|bin| bin.counts.absent_pages).sum();
        (self.pactive + self.pdirty).saturating_sub(absent) * crate::sys::PAGE + self.pinned + self.base + self.internal
    }

    /// All bins together.
    pub fn small(&self) -> Sum {
        let mut sum = Sum::default();
        for (i, bin) in self.bins.iter().enumerate() {
            let counts = &bin.counts;
            sum.allocated += counts.curregs * size::class_size(i);
            sum.nmalloc += counts.nmalloc;
            sum.ndalloc += counts.ndalloc;
            sum.nrequests += counts.nrequests;
            sum.nfills += counts.nfills;
            sum.nflushes += counts.nflushes;
        }
        sum
    }

    /// All large classes together.
    pub fn large(&self) -> Sum {
        let mut sum = Sum { allocated: self.large_allocated, ..Sum::default() };
        for class in &self.large {
            sum.nmalloc += class.nmalloc;
            sum.ndalloc += class.ndalloc;
            sum.nrequests += class.nrequests;
            sum.nfills += class.nfills;
            sum.nflushes += class.nflushes;
        }
        sum
    }

    /// Adds another arena's numbers.
    pub fn merge(&mut self, other: &ArenaStats) {
        self.initialized |= other.initialized;
        self.nthreads += other.nthreads;
        self.uptime_ns = self.uptime_ns.max(other.uptime_ns);
        self.pactive += other.pactive;
        self.pdirty += other.pdirty;
        self.pmuzzy += other.pmuzzy;
        self.mapped += other.mapped;
        self.retained += other.retained;
        self.pinned += other.pinned;
        self.extent_avail += other.extent_avail;
        self.base += other.base;
        self.internal += other.internal;
        self.metadata_edata += other.metadata_edata;
        self.metadata_rtree += other.metadata_rtree;
        self.metadata_thp += other.metadata_thp;
        self.tcache_bytes += other.tcache_bytes;
        self.large_allocated += other.large_allocated;
        for (sum, each) in self.bins.iter_mut().zip(&other.bins) {
            sum.counts.curregs += each.counts.curregs;
            sum.counts.curslabs += each.counts.curslabs;
            sum.counts.nonfull_slabs += each.counts.nonfull_slabs;
            sum.counts.absent_pages += each.counts.absent_pages;
        }
        for (sum, each) in self.large.iter_mut().zip(&other.large) {
            sum.curlextents += each.curlextents;
        }
        for (sum, each) in self.extents.as_flattened_mut().iter_mut().zip(other.extents.as_flattened()) {
            sum.count += each.count;
            sum.bytes += each.bytes;
        }
        self.merge_history(other);
    }

    /// Adds what another arena has done, not what it has: it is destroyed.
    pub fn merge_history(&mut self, other: &ArenaStats) {
        self.initialized = true;
        self.abandoned_vm += other.abandoned_vm;
        self.dirty_npurge += other.dirty_npurge;
        self.dirty_nmadvise += other.dirty_nmadvise;
        self.dirty_purged += other.dirty_purged;
        self.muzzy_npurge += other.muzzy_npurge;
        self.muzzy_nmadvise += other.muzzy_nmadvise;
        self.muzzy_purged += other.muzzy_purged;
        for (sum, each) in self.bins.iter_mut().zip(&other.bins) {
            sum.counts.nmalloc += each.counts.nmalloc;
            sum.counts.ndalloc += each.counts.ndalloc;
            sum.counts.nrequests += each.counts.nrequests;
            sum.counts.nfills += each.counts.nfills;
            sum.counts.nflushes += each.counts.nflushes;
            sum.counts.nslabs += each.counts.nslabs;
            sum.counts.nreslabs += each.counts.nreslabs;
            sum.lock.merge(&each.lock);
        }
        for (sum, each) in self.large.iter_mut().zip(&other.large) {
            sum.nmalloc += each.nmalloc;
            sum.ndalloc += each.ndalloc;
            sum.nrequests += each.nrequests;
            sum.nfills += each.nfills;
            sum.nflushes += each.nflushes;
        }
        for (sum, each) in self.locks.iter_mut().zip(&other.locks) {
            sum.merge(each);
        }
    }
}
