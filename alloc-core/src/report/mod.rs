//! `malloc_stats_print`: the heap's numbers for people, or as JSON.
//!
//! Text goes out piece by piece through a callback; nothing is allocated and no lock is held while it runs. The letters
//! are jemalloc's; those for parts that the report doesn't have change nothing.

use core::fmt::{self, Write};

use crate::ctl::HeapControl;
use crate::decay::Tier;
use crate::size::{self, NBINS, NHBINS};
use crate::stats::ArenaStats;
use crate::sys::PAGE;

/// Which parts are wanted.
#[derive(Clone, Copy, Debug)]
struct Parts {
    json: bool,
    general: bool,
    arenas: bool,
    bins: bool,
    large: bool,
}

impl Parts {
    fn from_letters(letters: &[u8]) -> Self {
        let without = |letter: u8| !letters.contains(&letter);
        Parts {
            json: !without(b'J'),
            general: without(b'g'),
            arenas: without(b'a'),
            bins: without(b'b'),
            large: without(b'l'),
        }
    }
}

/// Collects text into C strings for the callback.
struct Out<'a> {
    sink: &'a mut dyn FnMut(&[u8]),
    buffer: [u8; 512],
    used: usize,
}

impl Out<'_> {
    fn flush(&mut self) {
        if self.used > 0 {
            self.buffer[self.used] = 0;
            (self.sink)(&self.buffer[..=self.used]);
            self.used = 0;
        }
    }
}

impl Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.used == self.buffer.len() - 1 {
                self.flush();
            }
            self.buffer[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}

/// Writes the report. `sink` gets pieces that end in a zero byte.
pub fn print(heap: &'static dyn HeapControl, letters: &[u8], sink: &mut dyn FnMut(&[u8])) {
    let parts = Parts::from_letters(letters);
    let mut out = Out { sink, buffer: [0; 512], used: 0 };
    // Writing into `Out` can't fail.
    let _ = if parts.json { json(heap, parts, &mut out) } else { text(heap, parts, &mut out) };
    out.flush();
}

fn text(heap: &'static dyn HeapControl, parts: Parts, out: &mut Out<'_>) -> fmt::Result {
    out.write_str("___ Begin heapsift statistics ___\n")?;
    if parts.general {
        let options = heap.options();
        writeln!(out, "Version: \"{}\"", env!("CARGO_PKG_VERSION"))?;
        writeln!(out, "Run-time option settings:")?;
        writeln!(out, "  opt.narenas: {}", heap.narenas())?;
        for (name, tier, value) in [
            ("dirty", Tier::Dirty, options.dirty_decay_ms),
            ("muzzy", Tier::Muzzy, options.muzzy_decay_ms),
        ] {
            let now = heap.default_decay_ms(tier);
            writeln!(out, "  opt.{name}_decay_ms: {value} (arenas.{name}_decay_ms: {now})")?;
        }
        writeln!(out, "  opt.tcache: {}", options.tcache)?;
        writeln!(out, "  opt.tcache_max: {}", options.tcache_max)?;
        writeln!(out, "  opt.retain: {}", options.retain)?;
        writeln!(out, "Arenas: {}", heap.narenas())?;
        writeln!(out, "Quantum size: 16\nPage size: {PAGE}")?;
    }
    let stats = heap.stats();
    writeln!(
        out,
        "Allocated: {}, active: {}, metadata: {}, resident: {}, mapped: {}, retained: {}, tcache: {}, dirty: {}, muzzy: {}",
        stats.allocated,
        stats.active,
        stats.metadata,
        stats.resident,
        stats.mapped,
        stats.retained,
        stats.tcache_bytes,
        stats.dirty,
        stats.muzzy,
    )?;
    if parts.arenas {
        for index in 0..heap.narenas() {
            if let Some(arena) = heap.arena_stats(index) {
                arena_text(index, &arena, parts, out)?;
            }
        }
    }
    out.write_str("--- End heapsift statistics ---\n")
}

fn arena_text(index: u32, arena: &ArenaStats, parts: Parts, out: &mut Out<'_>) -> fmt::Result {
    writeln!(out, "\narenas[{index}]:")?;
    writeln!(out, "assigned threads: {}\nuptime: {}", arena.nthreads, arena.uptime_ns)?;
    writeln!(out, "decaying:       npages       sweeps     madvises       purged")?;
    for (name, pages, sweeps, calls, purged) in [
        ("dirty", arena.pdirty, arena.dirty_npurge, arena.dirty_nmadvise, arena.dirty_purged),
        ("muzzy", arena.pmuzzy, arena.muzzy_npurge, arena.muzzy_nmadvise, arena.muzzy_purged),
    ] {
        writeln!(out, "  {name:>7} {pages:>12} {sweeps:>12} {calls:>12} {purged:>12}")?;
    }
    let active = arena.pactive * PAGE;
    writeln!(out, "small: {}\nlarge: {}", arena.small_allocated, arena.large_allocated)?;
    writeln!(out, "active: {active}\nmapped: {}\nretained: {}", arena.mapped, arena.retained)?;
    if parts.bins {
        writeln!(
            out,
            "bins:           size ind    allocated      nmalloc      ndalloc      curregs     curslabs nonfull_slabs regs pgs   util       nfills     nflushes       nslabs     nreslabs"
        )?;
        let mut gap = false;
        for (i, bin) in arena.bins.iter().enumerate() {
            if bin.nslabs == 0 {
                gap = true;
                continue;
            }
            if core::mem::take(&mut gap) {
                out.write_str("                     ---\n")?;
            }
            let regions = size::slab_regions(i);
            let available = bin.curslabs * regions;
            // Thousandths, cut like jemalloc's three digits.
            let util = (bin.curregs * 1000).checked_div(available).map_or(1000, |util| util.min(1000));
            writeln!(
                out,
                "{:>20} {i:>3} {:>12} {:>12} {:>12} {:>12} {:>12} {:>13} {regions:>4} {:>3}  {}.{:03} {:>12} {:>12} {:>12} {:>12}",
                size::class_size(i),
                bin.curregs * size::class_size(i),
                bin.nmalloc,
                bin.ndalloc,
                bin.curregs,
                bin.curslabs,
                bin.nonfull_slabs,
                size::slab_pages(i),
                util / 1000,
                util % 1000,
                bin.nfills,
                bin.nflushes,
                bin.nslabs,
                bin.nreslabs,
            )?;
        }
    }
    if parts.large {
        writeln!(out, "large: nmalloc {} ndalloc {}", arena.large_nmalloc, arena.large_ndalloc)?;
    }
    Ok(())
}

fn json(heap: &'static dyn HeapControl, parts: Parts, out: &mut Out<'_>) -> fmt::Result {
    write!(out, "{{\"jemalloc\":{{")?;
    let options = heap.options();
    if parts.general {
        write!(
            out,
            "\"version\":\"heapsift-{}\",\"opt\":{{\"narenas\":{},\"dirty_decay_ms\":{},\"muzzy_decay_ms\":{},\"tcache\":{},\"tcache_max\":{},\"retain\":{}}},",
            env!("CARGO_PKG_VERSION"),
            heap.narenas(),
            options.dirty_decay_ms,
            options.muzzy_decay_ms,
            options.tcache,
            options.tcache_max,
            options.retain,
        )?;
        write!(
            out,
            "\"arenas\":{{\"narenas\":{},\"dirty_decay_ms\":{},\"muzzy_decay_ms\":{},\"quantum\":16,\"page\":{PAGE},\"hugepage\":2097152,\"tcache_max\":{},\"nbins\":{NBINS},\"nhbins\":{NHBINS},\"bin\":[",
            heap.narenas(),
            heap.default_decay_ms(Tier::Dirty),
            heap.default_decay_ms(Tier::Muzzy),
            options.tcache_max,
        )?;
        for i in 0..NBINS {
            write!(
                out,
                "{}{{\"size\":{},\"nregs\":{},\"slab_size\":{},\"nshards\":1}}",
                if i > 0 { "," } else { "" },
                size::class_size(i),
                size::slab_regions(i),
                size::slab_pages(i) * PAGE,
            )?;
        }
        out.write_str("]},")?;
    }
    let stats = heap.stats();
    write!(
        out,
        "\"stats\":{{\"allocated\":{},\"active\":{},\"metadata\":{},\"resident\":{},\"mapped\":{},\"retained\":{},\"tcache_bytes\":{},\"dirty\":{},\"muzzy\":{},\"zero_reallocs\":{}}}",
        stats.allocated,
        stats.active,
        stats.metadata,
        stats.resident,
        stats.mapped,
        stats.retained,
        stats.tcache_bytes,
        stats.dirty,
        stats.muzzy,
        stats.zero_reallocs,
    )?;
    if parts.arenas {
        out.write_str(",\"stats.arenas\":{")?;
        let mut first = true;
        for index in 0..heap.narenas() {
            if let Some(arena) = heap.arena_stats(index) {
                out.write_str(if core::mem::take(&mut first) { "" } else { "," })?;
                arena_json(index, &arena, parts, out)?;
            }
        }
        out.write_str("}")?;
    }
    out.write_str("}}\n")
}

fn arena_json(index: u32, arena: &ArenaStats, parts: Parts, out: &mut Out<'_>) -> fmt::Result {
    write!(
        out,
        "\"{index}\":{{\"nthreads\":{},\"uptime_ns\":{},\"pactive\":{},\"pdirty\":{},\"pmuzzy\":{},\"mapped\":{},\"retained\":{},\"dirty_npurge\":{},\"dirty_nmadvise\":{},\"dirty_purged\":{},\"muzzy_npurge\":{},\"muzzy_nmadvise\":{},\"muzzy_purged\":{},\"base\":{},\"internal\":{},\"small\":{{\"allocated\":{}}},\"large\":{{\"allocated\":{},\"nmalloc\":{},\"ndalloc\":{}}}",
        arena.nthreads,
        arena.uptime_ns,
        arena.pactive,
        arena.pdirty,
        arena.pmuzzy,
        arena.mapped,
        arena.retained,
        arena.dirty_npurge,
        arena.dirty_nmadvise,
        arena.dirty_purged,
        arena.muzzy_npurge,
        arena.muzzy_nmadvise,
        arena.muzzy_purged,
        arena.base,
        arena.internal,
        arena.small_allocated,
        arena.large_allocated,
        arena.large_nmalloc,
        arena.large_ndalloc,
    )?;
    if parts.bins {
        out.write_str(",\"bins\":[")?;
        for (i, bin) in arena.bins.iter().enumerate() {
            write!(
                out,
                "{}{{\"nmalloc\":{},\"ndalloc\":{},\"curregs\":{},\"nfills\":{},\"nflushes\":{},\"nslabs\":{},\"nreslabs\":{},\"curslabs\":{},\"nonfull_slabs\":{}}}",
                if i > 0 { "," } else { "" },
                bin.nmalloc,
                bin.ndalloc,
                bin.curregs,
                bin.nfills,
                bin.nflushes,
                bin.nslabs,
                bin.nreslabs,
                bin.curslabs,
                bin.nonfull_slabs,
            )?;
        }
        out.write_str("]")?;
    }
    out.write_str("}")
}
