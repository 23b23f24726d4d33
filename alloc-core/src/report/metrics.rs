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
        ("allocated", "Usable bytes of all blocks that the program holds.", stats.allocated),
        ("active", "Pages of slabs and large blocks.", stats.active),
        ("metadata", "The allocator's own descriptors, tables and blocks.", stats.metadata),
        ("resident", "Upper bound of the allocator's resident memory.", stats.resident),
        ("mapped", "Active, dirty, muzzy and pinned pages.", stats.mapped),
        ("retained", "Address space kept without pages.", stats.retained),
        ("thread_cache", "Free blocks in thread caches.", stats.tcache_bytes),
        ("dirty", "Unused pages that are backed.", stats.dirty),
        ("muzzy", "Unused pages that were lazily given away.", stats.muzzy),
    ] {
        family_of_bytes(out, name, help, value as u64)?;
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
        ("purged", "Unused pages given back to the system.", arena.dirty_purged + arena.muzzy_purged),
        ("purge_calls", "System calls for that.", arena.dirty_nmadvise + arena.muzzy_nmadvise),
        ("arena_fills", "Batches of blocks that thread caches took from arenas.", small.nfills + large.nfills),
        ("arena_flushes", "Batches of blocks that thread caches gave back.", small.nflushes + large.nflushes),
    ];
    for (name, help, value) in pages {
        let mut buffer = Name::new();
        write!(buffer, "heapsift_{name}")?;
        single(out, buffer.as_str(), Counter, "", help, value)?;
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

fn family_of_bytes(out: &mut dyn Write, name: &str, help: &str, value: u64) -> fmt::Result {
    let mut buffer = Name::new();
    write!(buffer, "heapsift_{name}_bytes")?;
    single(out, buffer.as_str(), Metric::Gauge, "bytes", help, value)
}

/// A short name in place.
struct Name {
    bytes: [u8; 48],
    length: usize,
}

impl Name {
    fn new() -> Self {
        Name { bytes: [0; 48], length: 0 }
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or("")
    }
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self.bytes.get_mut(self.length..self.length + text.len()).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}
