//! The heap's numbers as OpenMetrics text, version 1.0: what Prometheus and others collect.

use core::fmt::{self, Write};

use crate::ctl::HeapControl;
use crate::size;
use crate::snapshot::Which;
use crate::stats::ArenaStats;

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

/// Writes what the heap has to tell, without the end of the text.
pub(super) fn write(heap: &'static dyn HeapControl, arena: &mut ArenaStats, out: &mut dyn Write) -> fmt::Result {
    use Metric::{Counter, Gauge};
    writeln!(out, "# TYPE heapsift_build info\n# HELP heapsift_build The allocator.")?;
    writeln!(out, "heapsift_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))?;
    let stats = heap.stats();
    for (name, help, value) in [
        ("heapsift_allocated_bytes", "Usable bytes of all blocks that the program holds.", stats.allocated),
        ("heapsift_active_bytes", "Pages of slabs and large blocks.", stats.active),
        ("heapsift_metadata_bytes", "The allocator's own descriptors, tables and blocks.", stats.metadata),
        ("heapsift_resident_bytes", "Upper bound of the allocator's resident memory.", stats.resident),
        ("heapsift_mapped_bytes", "Active, dirty, muzzy and pinned pages.", stats.mapped),
        ("heapsift_retained_bytes", "Address space kept without pages.", stats.retained),
        ("heapsift_thread_cache_bytes", "Free blocks in thread caches.", stats.tcache_bytes),
        ("heapsift_dirty_bytes", "Unused pages that are backed.", stats.dirty),
        ("heapsift_muzzy_bytes", "Unused pages that were lazily given away.", stats.muzzy),
    ] {
        single(out, name, Gauge, "bytes", help, value as u64)?;
    }
    let found = super::load(heap, Which::Merged, arena);
    single(out, "heapsift_arenas", Gauge, "", "Arenas.", super::initialized(heap) as u64)?;
    let threads = if found { arena.nthreads } else { 0 };
    single(out, "heapsift_arena_threads", Gauge, "", "Threads bound to an arena.", threads.into())?;
    let background = heap.background_stats().num_threads as u64;
    single(out, "heapsift_background_threads", Gauge, "", "Threads that give unused pages back.", background)?;
    if !found {
        return Ok(());
    }
    let (small, large) = (arena.small(), arena.large());
    let pages = [
        ("heapsift_purged", "Unused pages given back to the system.", arena.dirty_purged + arena.muzzy_purged),
        ("heapsift_purge_calls", "System calls for that.", arena.dirty_nmadvise + arena.muzzy_nmadvise),
        ("heapsift_arena_fills", "Batches of blocks that thread caches took from arenas.", small.nfills),
        ("heapsift_arena_flushes", "Batches of blocks that thread caches gave back.", small.nflushes + large.nflushes),
    ];
    for (name, help, value) in pages {
        single(out, name, Counter, "", help, value)?;
    }
    let name = "heapsift_class_blocks";
    family(out, name, Gauge, "", "Blocks out of arenas, those in thread caches included, by size class in bytes.")?;
    let bins = arena.bins.iter().map(|bin| bin.counts.curregs).enumerate();
    let large = arena.large.iter().map(|class| class.curlextents);
    for (class, blocks) in bins.chain(large.enumerate().map(|(i, blocks)| (size::NBINS + i, blocks))) {
        if blocks > 0 {
            writeln!(out, "{name}{{class=\"{}\"}} {blocks}", size::class_size(class))?;
        }
    }
    Ok(())
}
