//! The heap's numbers as OpenMetrics text, version 1.0: what Prometheus and others collect.

use core::fmt::{self, Write};

use crate::ctl::HeapControl;
use crate::lock::Counts;
use crate::size;
use crate::snapshot::Which;
use crate::stats::{ARENA_LOCKS, ArenaStats, GLOBAL_LOCKS};
use crate::sys::LG_PAGE;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a family of numbers is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Goes up and down.
    Gauge,
    /// Goes up only, from the start of the process; its sample's name ends in `_total`.
    Counter,
}

/// Writes the head of a family. Its name ends in `_` and the unit, where it has one.
///
/// # Errors
/// Those of `out`.
pub fn family(out: &mut dyn Write, name: &str, kind: Metric, unit: &str, help: &str) -> fmt::Result {
    debug_assert!(unit.is_empty() || name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')));
    let kind = if kind == Metric::Gauge { "gauge" } else { "counter" };
    writeln!(out, "# TYPE {name} {kind}")?;
    if !unit.is_empty() {
        writeln!(out, "# UNIT {name} {unit}")?;
    }
    writeln!(out, "# HELP {name} {help}")
}

/// Writes a family of one number.
///
/// # Errors
/// Those of `out`.
pub fn single(out: &mut dyn Write, name: &str, kind: Metric, unit: &str, help: &str, value: u64) -> fmt::Result {
    family(out, name, kind, unit, help)?;
    let total = if kind == Metric::Counter { "_total" } else { "" };
    writeln!(out, "{name}{total} {value}")
}

/// What arenas have done since the process started, those that are gone included: numbers that never fall.
#[derive(Default)]
struct Done {
    requests: u64,
    fills: u64,
    flushes: u64,
    /// Pages given back, and the system calls for it, of dirty and of muzzy pages.
    purged: [(u64, u64); 2],
    lock_waits: u64,
    lock_wait_ns: u64,
}

impl Done {
    fn add(&mut self, arena: &ArenaStats) {
        let (small, large) = (arena.small(), arena.large());
        self.requests += small.nrequests + large.nrequests;
        self.fills += small.nfills;
        self.flushes += small.nflushes + large.nflushes;
        let purged = [(arena.dirty_purged, arena.dirty_nmadvise), (arena.muzzy_purged, arena.muzzy_nmadvise)];
        for (sum, (pages, calls)) in self.purged.iter_mut().zip(purged) {
            *sum = (sum.0 + pages, sum.1 + calls);
        }
        let locks = ARENA_LOCKS.iter().zip(&arena.locks).filter(|(name, _)| !SAME_LOCK.contains(name));
        for lock in locks.map(|(_, lock)| lock).chain(arena.bins.iter().map(|bin| &bin.lock)) {
            self.add_lock(lock);
        }
    }

    fn add_lock(&mut self, lock: &Counts) {
        self.lock_waits += lock.num_wait;
        self.lock_wait_ns += lock.total_wait_ns;
    }
}

/// Other names of the lock that is told as `extents_dirty`.
const SAME_LOCK: [&str; 3] = ["extent_avail", "extents_muzzy", "extents_pinned"];

/// Writes what the heap has to tell, as of the statistics taken last, without the end of the text.
pub(super) fn write(heap: &'static dyn HeapControl, arena: &mut ArenaStats, out: &mut dyn Write) -> fmt::Result {
    use Metric::{Counter, Gauge};
    writeln!(out, "# TYPE heapsift_build info\n# HELP heapsift_build The allocator.")?;
    writeln!(out, "heapsift_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))?;
    let mut done = Done::default();
    let (stats, background) = {
        let snapshot = heap.snapshot().lock();
        // Not those of the busiest background thread: which one that is changes.
        let lasting = GLOBAL_LOCKS.iter().zip(&snapshot.locks).filter(|(name, _)| **name != "max_per_bg_thd");
        lasting.for_each(|(_, lock)| done.add_lock(lock));
        // One by one: an arena that was destroyed since has left its place, but not the sum of all.
        let each = (0..snapshot.narenas).map(Which::One).chain([Which::Destroyed]);
        each.filter_map(|which| snapshot.arena(which)).for_each(|one| done.add(one));
        if let Some(all) = snapshot.arena(Which::Merged) {
            arena.clone_from(all);
        }
        (snapshot.stats, snapshot.background)
    };
    for (name, help, value) in [
        ("heapsift_allocated_bytes", "Usable bytes of all blocks that the program holds.", stats.allocated),
        ("heapsift_active_bytes", "Pages of slabs and large blocks.", stats.active),
        ("heapsift_metadata_bytes", "The allocator's own descriptors, tables and blocks.", stats.metadata),
        ("heapsift_resident_bytes", "Upper bound of the allocator's resident memory.", stats.resident),
        (
            "heapsift_mapped_bytes",
            "Active, dirty, muzzy and pinned pages, and metadata.",
            stats.mapped + stats.metadata,
        ),
        ("heapsift_retained_bytes", "Address space kept without pages.", stats.retained),
        ("heapsift_pinned_bytes", "Unused pages that a program's hooks keep backed for ever.", stats.pinned),
        ("heapsift_thread_cache_bytes", "Free blocks in thread caches.", stats.tcache_bytes),
        ("heapsift_dirty_bytes", "Unused pages that are backed.", stats.dirty),
        ("heapsift_muzzy_bytes", "Unused pages that were lazily given away.", stats.muzzy),
    ] {
        single(out, name, Gauge, "bytes", help, value as u64)?;
    }
    single(out, "heapsift_arenas", Gauge, "", "Arenas.", super::initialized(heap) as u64)?;
    single(out, "heapsift_arena_threads", Gauge, "", "Threads bound to an arena.", arena.nthreads.into())?;
    let threads = background.num_threads as u64;
    single(out, "heapsift_background_threads", Gauge, "", "Threads that give unused pages back.", threads)?;
    let zero = stats.zero_reallocs as u64;
    for (name, help, value) in [
        ("heapsift_requests", "Blocks that the program has asked for.", done.requests),
        ("heapsift_zero_reallocs", "Calls of realloc for a block and no bytes.", zero),
        ("heapsift_arena_fills", "Batches of blocks that thread caches took from arenas.", done.fills),
        ("heapsift_arena_flushes", "Batches of blocks that thread caches gave back.", done.flushes),
        ("heapsift_lock_waits", "Times that a thread slept for a lock of the allocator.", done.lock_waits),
    ] {
        single(out, name, Counter, "", help, value)?;
    }
    let name = "heapsift_lock_wait_seconds";
    family(out, name, Counter, "seconds", "Time that threads waited for locks of the allocator.")?;
    writeln!(out, "{name}_total {}.{:09}", done.lock_wait_ns / NS_PER_S, done.lock_wait_ns % NS_PER_S)?;
    let name = "heapsift_purged_bytes";
    family(
        out,
        name,
        Counter,
        "bytes",
        "Unused pages given back to the system: dirty ones, and those that were muzzy.",
    )?;
    for (state, (pages, _)) in STATES.iter().zip(done.purged) {
        writeln!(out, "{name}_total{{state=\"{state}\"}} {}", pages << LG_PAGE)?;
    }
    let name = "heapsift_purge_calls";
    family(out, name, Counter, "", "System calls for that.")?;
    for (state, (_, calls)) in STATES.iter().zip(done.purged) {
        writeln!(out, "{name}_total{{state=\"{state}\"}} {calls}")?;
    }
    let name = "heapsift_class_blocks";
    family(out, name, Gauge, "", "Blocks out of arenas, those in thread caches included, by size class in bytes.")?;
    let bins = arena.bins.iter().enumerate().map(|(i, bin)| (size::class_size(i), bin.counts.curregs));
    let large = arena.large.iter().enumerate().map(|(i, class)| (size::large_class_size(i), class.curlextents));
    for (bytes, blocks) in bins.chain(large) {
        if blocks > 0 {
            writeln!(out, "{name}{{class=\"{bytes}\"}} {blocks}")?;
        }
    }
    Ok(())
}

const STATES: [&str; 2] = ["dirty", "muzzy"];
const NS_PER_S: u64 = 1_000_000_000;
