//! What a bin counts, and what its visitors have to tell.

/// Counters of a bin, as jemalloc names them.
#[derive(Clone, Copy, Debug, Default)]
pub struct BinCounts {
    /// Regions handed to thread caches or callers.
    pub nmalloc: u64,
    /// Regions that came back.
    pub ndalloc: u64,
    /// Requests that were served, most of them out of thread caches; a cache tells when it is filled or flushed.
    pub nrequests: u64,
    /// Regions out now.
    pub curregs: usize,
    /// Fills of thread caches.
    pub nfills: u64,
    /// Flushes of thread caches.
    pub nflushes: u64,
    /// Slabs ever made.
    pub nslabs: u64,
    /// Times that a slab with free regions became the current one again.
    pub nreslabs: u64,
    /// Slabs now.
    pub curslabs: usize,
    /// Slabs with free regions, the current one aside.
    pub nonfull_slabs: usize,
    /// Pages of slabs that no region in use touches, and that were given back; see [`crate::sparse`].
    pub absent_pages: usize,
}

impl BinCounts {
    /// Nothing yet.
    pub const NONE: BinCounts = BinCounts {
        nmalloc: 0,
        ndalloc: 0,
        nrequests: 0,
        nfills: 0,
        nflushes: 0,
        nslabs: 0,
        nreslabs: 0,
        curregs: 0,
        curslabs: 0,
        nonfull_slabs: 0,
        absent_pages: 0,
    };
}

/// Who comes to a bin, or to the large blocks of a class.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// Requests served since the last visit.
    pub requests: u64,
    /// Whether a cache is filled or flushed.
    pub by_cache: bool,
}

impl Visit {
    /// A request that no cache serves.
    pub const REQUEST: Visit = Visit { requests: 1, by_cache: false };
    /// A free that no cache takes.
    pub const FREE: Visit = Visit { requests: 0, by_cache: false };

    /// A cache that has served so many requests.
    pub fn cache(requests: u64) -> Self {
        Visit { requests, by_cache: true }
    }
}
