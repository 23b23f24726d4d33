//! The report for people: jemalloc's tables.

use core::fmt::{self, Write};

use super::options::{OPTIONS, PROFILING, joined, read};
use super::{Out, Parts, Samples, initialized, load};
use crate::conf::DSS;
use crate::ctl::{self, HeapControl};
use crate::lock::Counts;
use crate::message::until_zero;
use crate::pages::cache::{self, NPAGE_CLASSES};
use crate::size::{self, NBINS, NLEXTENTS};
use crate::snapshot::Which;
use crate::stats::{ARENA_LOCKS, ArenaStats, GLOBAL_LOCKS, SampleSums, Sum};
use crate::sys::{HUGE_PAGE, PAGE};

pub(super) fn write(
    heap: &'static dyn HeapControl,
    parts: Parts,
    arena: &mut ArenaStats,
    out: &mut Out<'_>,
) -> fmt::Result {
    out.write_str("___ Begin jemalloc statistics ___\n")?;
    if parts.general {
        general(heap, out)?;
    }
    totals(heap, parts, arena, out)?;
    let count = initialized(heap);
    if parts.merged && (count > 1 || !parts.arenas) && load(heap, Which::Merged, arena) {
        writeln!(out, "Merged arenas stats:")?;
        one(heap, parts, Some(heap), arena, out)?;
    }
    if parts.destroyed && load(heap, Which::Destroyed, arena) {
        writeln!(out, "Destroyed arenas stats:")?;
        one(heap, parts, None, arena, out)?;
    }
    if parts.arenas {
        for index in 0..heap.narenas() {
            if load(heap, Which::One(index), arena) {
                writeln!(out, "arenas[{index}]:")?;
                if let Some(name) = heap.arena_name(index) {
                    out.write_str("name: ")?;
                    for chunk in until_zero(&name).utf8_chunks() {
                        out.write_str(chunk.valid())?;
                    }
                    out.write_str("\n")?;
                }
                one(heap, parts, None, arena, out)?;
            }
        }
    }
    out.write_str("--- End jemalloc statistics ---\n")
}

fn general(heap: &'static dyn HeapControl, out: &mut Out<'_>) -> fmt::Result {
    writeln!(out, "Version: \"{}\"", ctl::VERSION.to_str().unwrap_or(""))?;
    writeln!(out, "Build-time option settings")?;
    for (name, on) in ctl::CONFIG {
        writeln!(out, "  config.{name}: {on}")?;
    }
    writeln!(out, "  config.malloc_conf: \"\"")?;
    writeln!(out, "System configuration")?;
    writeln!(out, "  thp_mode: \"{}\"", crate::sys::extra::thp_mode())?;
    writeln!(out, "Run-time option settings")?;
    let mut buffer = [0; 64];
    for option in OPTIONS {
        let name = joined("opt.", option.name, &mut buffer);
        let Some(value) = read(heap, name, option.kind) else { continue };
        write!(out, "  opt.{}: ", option.name)?;
        value.write(out)?;
        if let Some(now) = option.now
            && let Some(value) = read(heap, now, option.kind)
        {
            write!(out, " ({now}: ")?;
            value.write(out)?;
            out.write_str(")")?;
        }
        out.write_str("\n")?;
    }
    writeln!(out, "Profiling settings")?;
    for setting in PROFILING {
        let name = joined("prof.", setting.name, &mut buffer);
        if let Some(value) = read(heap, name, setting.kind) {
            write!(out, "  prof.{}: ", setting.name)?;
            value.write(out)?;
            out.write_str("\n")?;
        }
    }
    writeln!(out, "Arenas: {}", heap.narenas())?;
    writeln!(out, "Quantum size: 16")?;
    writeln!(out, "Page size: {PAGE}")?;
    writeln!(out, "Hugepage size: {}", HUGE_PAGE)?;
    let cached = heap.options().cached_classes();
    writeln!(out, "Maximum thread-cached size class: {}", size::class_bytes(cached))?;
    writeln!(out, "Number of bin size classes: {NBINS}")?;
    writeln!(out, "Number of thread-cache bin size classes: {cached}")?;
    writeln!(out, "Number of large size classes: {NLEXTENTS}")
}

fn totals(heap: &'static dyn HeapControl, parts: Parts, arena: &mut ArenaStats, out: &mut Out<'_>) -> fmt::Result {
    let (stats, background, locks) = {
        let snapshot = heap.snapshot().lock();
        (snapshot.stats, snapshot.background, snapshot.locks)
    };
    writeln!(
        out,
        "Allocated: {}, active: {}, metadata: {} (n_thp {}, edata {}, rtree {}), resident: {}, mapped: {}, retained: {}, pinned: {}",
        stats.allocated,
        stats.active,
        stats.metadata,
        stats.metadata_thp,
        stats.metadata_edata,
        stats.metadata_rtree,
        stats.resident,
        stats.mapped + stats.metadata,
        stats.retained,
        stats.pinned,
    )?;
    writeln!(out, "Count of realloc(non-null-ptr, 0) calls: {}", stats.zero_reallocs)?;
    writeln!(
        out,
        "Background threads: {}, num_runs: {}, run_interval: {} ns",
        background.num_threads, background.num_runs, background.run_interval_ns
    )?;
    if parts.mutexes {
        let uptime_ns = if load(heap, Which::Merged, arena) { arena.uptime_ns } else { 0 };
        lock_header(out)?;
        for (name, counts) in GLOBAL_LOCKS.iter().zip(&locks) {
            write!(out, "{name:<20}")?;
            lock(counts, uptime_ns, out)?;
            out.write_str("\n")?;
        }
    }
    Ok(())
}

/// How many a second, as jemalloc rounds it.
fn rate(count: u64, uptime_ns: u64) -> u64 {
    match uptime_ns / 1_000_000_000 {
        0 if uptime_ns == 0 => 0,
        0 => count,
        seconds => count / seconds,
    }
}

fn lock_header(out: &mut Out<'_>) -> fmt::Result {
    write!(out, "{:<20}", "")?;
    lock_titles(out)?;
    out.write_str("\n")
}

fn lock_titles(out: &mut Out<'_>) -> fmt::Result {
    write!(
        out,
        "{:>16}{:>8}{:>16}{:>8}{:>16}{:>8}{:>16}{:>8}{:>16}{:>10}{:>16}{:>12}",
        "n_lock_ops",
        "(#/sec)",
        "n_waiting",
        "(#/sec)",
        "n_spin_acq",
        "(#/sec)",
        "n_owner_switch",
        "(#/sec)",
        "total_wait_ns",
        "(#/sec)",
        "max_wait_ns",
        "max_n_thds"
    )
}

fn lock(counts: &Counts, uptime_ns: u64, out: &mut Out<'_>) -> fmt::Result {
    for count in [counts.num_ops, counts.num_wait, counts.num_spin_acq, counts.num_owner_switch] {
        write!(out, "{count:>16}{:>8}", rate(count, uptime_ns))?;
    }
    let waited = counts.total_wait_ns;
    write!(out, "{waited:>16}{:>10}{:>16}{:>12}", rate(waited, uptime_ns), counts.max_wait_ns, counts.max_num_thds)
}

fn one(
    heap: &'static dyn HeapControl,
    parts: Parts,
    samples: Samples,
    arena: &ArenaStats,
    out: &mut Out<'_>,
) -> fmt::Result {
    writeln!(out, "assigned threads: {}", arena.nthreads)?;
    writeln!(out, "uptime: {}", arena.uptime_ns)?;
    writeln!(out, "dss allocation precedence: \"{}\"", DSS[arena.dss].to_str().unwrap_or(""))?;
    decaying(arena, out)?;
    sums(arena, out)?;
    for (name, bytes) in [
        ("active", arena.pactive * PAGE),
        ("mapped", arena.mapped),
        ("retained", arena.retained),
        ("pinned", arena.pinned),
        ("base", arena.base),
        ("internal", arena.internal),
        ("metadata_edata", arena.metadata_edata),
        ("metadata_rtree", arena.metadata_rtree),
        ("metadata_thp", arena.metadata_thp),
        ("tcache_bytes", arena.tcache_bytes),
        ("tcache_stashed_bytes", 0),
        ("resident", arena.resident()),
        ("abandoned_vm", arena.abandoned_vm),
        ("extent_avail", arena.extent_avail),
    ] {
        // The colon belongs to the name; numbers stand in one column.
        write!(out, "{name}:")?;
        writeln!(out, "{bytes:>width$}", width = 36 - name.len())?;
    }
    if parts.mutexes {
        lock_header(out)?;
        for (name, counts) in ARENA_LOCKS.iter().zip(&arena.locks) {
            write!(out, "{name:<20}")?;
            lock(counts, arena.uptime_ns, out)?;
            out.write_str("\n")?;
        }
    }
    if parts.bins {
        bins(heap, parts, samples, arena, out)?;
    }
    if parts.large {
        large(samples, arena, out)?;
    }
    if parts.extents {
        extents(arena, out)?;
    }
    if parts.huge_pages {
        out.write_str("Bytes in small extent cache: 0\nHPA shard stats: there are no huge page slabs\n")?;
    }
    Ok(())
}

fn decaying(arena: &ArenaStats, out: &mut Out<'_>) -> fmt::Result {
    writeln!(out, "decaying:  time       npages       sweeps     madvises       purged")?;
    for (name, ms, pages, sweeps, calls, purged) in [
        ("dirty", arena.dirty_decay_ms, arena.pdirty, arena.dirty_npurge, arena.dirty_nmadvise, arena.dirty_purged),
        ("muzzy", arena.muzzy_decay_ms, arena.pmuzzy, arena.muzzy_npurge, arena.muzzy_nmadvise, arena.muzzy_purged),
    ] {
        write!(out, "{name:>8}:")?;
        if ms < 0 {
            write!(out, "{:>6}", "N/A")?
        } else {
            write!(out, "{ms:>6}")?
        };
        writeln!(out, " {pages:>12} {sweeps:>12} {calls:>12} {purged:>12}")?;
    }
    Ok(())
}

fn sums(arena: &ArenaStats, out: &mut Out<'_>) -> fmt::Result {
    write!(out, "{:<17}{:>20}", "", "allocated")?;
    for title in ["nmalloc", "ndalloc", "nrequests", "nfill", "nflush"] {
        write!(out, "{title:>16}{:>10}", "(#/sec)")?;
    }
    out.write_str("\n")?;
    let (small, large) = (arena.small(), arena.large());
    let total = Sum {
        allocated: small.allocated + large.allocated,
        nmalloc: small.nmalloc + large.nmalloc,
        ndalloc: small.ndalloc + large.ndalloc,
        nrequests: small.nrequests + large.nrequests,
        nfills: small.nfills + large.nfills,
        nflushes: small.nflushes + large.nflushes,
    };
    for (name, sum) in [("small:", small), ("large:", large), ("total:", total)] {
        write!(out, "{name:<17}{:>20}", sum.allocated)?;
        for count in [sum.nmalloc, sum.ndalloc, sum.nrequests, sum.nfills, sum.nflushes] {
            write!(out, "{count:>16}{:>10}", rate(count, arena.uptime_ns))?;
        }
        out.write_str("\n")?;
    }
    out.write_str("\n")
}

/// The share of regions that is in use, in thousandths, cut like jemalloc's: 1 for a full bin, and one without slabs.
fn utilization(regions: usize, available: usize, out: &mut Out<'_>) -> fmt::Result {
    match (regions * 1000).checked_div(available) {
        None | Some(1000..) => write!(out, "{:>7}", "1"),
        Some(share) => write!(out, "  0.{share:03}"),
    }
}

/// The columns of `prof_stats`, or what stands above them.
fn sampled(sums: SampleSums, titles: bool, out: &mut Out<'_>) -> fmt::Result {
    for ((title, sum), width) in sums.named().into_iter().zip([21, 17, 21, 17]) {
        if titles {
            write!(out, "{title:>width$}")?;
        } else {
            write!(out, "{sum:>width$}")?;
        }
    }
    Ok(())
}

fn bins(
    heap: &'static dyn HeapControl,
    parts: Parts,
    samples: Samples,
    arena: &ArenaStats,
    out: &mut Out<'_>,
) -> fmt::Result {
    write!(out, "{:<5}{:>15}{:>4}{:>13}", "bins:", "size", "ind", "allocated")?;
    for title in ["nmalloc", "ndalloc"] {
        write!(out, "{title:>13}{:>8}", "(#/sec)")?;
    }
    write!(out, "{:>13}{:>10}", "nrequests", "(#/sec)")?;
    let sums = |class| samples.and_then(|heap| heap.sample_sums(class));
    let has_samples = sums(0).is_some();
    if has_samples {
        sampled(SampleSums::default(), true, out)?;
    }
    write!(
        out,
        "{:>9}{:>13}{:>13}{:>15}{:>5}{:>4}{:>7}",
        "nshards", "curregs", "curslabs", "nonfull_slabs", "regs", "pgs", "util"
    )?;
    for title in ["nfills", "nflushes"] {
        write!(out, "{title:>13}{:>8}", "(#/sec)")?;
    }
    write!(out, "{:>13}{:>13}{:>8}", "nslabs", "nreslabs", "(#/sec)")?;
    if parts.mutexes {
        lock_titles(out)?;
    }
    out.write_str("\n")?;
    let uptime_ns = arena.uptime_ns;
    let mut gap = false;
    for (i, bin) in arena.bins.iter().enumerate() {
        let counts = &bin.counts;
        let sums = sums(i).unwrap_or_default();
        if counts.nslabs == 0 && sums.accum_count == 0 {
            gap = true;
            continue;
        }
        if core::mem::take(&mut gap) {
            writeln!(out, "{:>20}", "---")?;
        }
        let regions = size::slab_regions(i);
        let bytes = size::class_size(i);
        write!(out, "{bytes:>20}{i:>4}{:>13}", counts.curregs * bytes)?;
        for count in [counts.nmalloc, counts.ndalloc] {
            write!(out, "{count:>13}{:>8}", rate(count, uptime_ns))?;
        }
        write!(out, "{:>13}{:>10}", counts.nrequests, rate(counts.nrequests, uptime_ns))?;
        if has_samples {
            sampled(sums, false, out)?;
        }
        write!(
            out,
            "{:>9}{:>13}{:>13}{:>15}{regions:>5}{:>4}",
            heap.bin_shards(i + 1),
            counts.curregs,
            counts.curslabs,
            counts.nonfull_slabs,
            size::slab_pages(i),
        )?;
        utilization(counts.curregs, counts.curslabs * regions, out)?;
        for count in [counts.nfills, counts.nflushes] {
            write!(out, "{count:>13}{:>8}", rate(count, uptime_ns))?;
        }
        write!(out, "{:>13}{:>13}{:>8}", counts.nslabs, counts.nreslabs, rate(counts.nreslabs, uptime_ns))?;
        if parts.mutexes {
            lock(&bin.lock, uptime_ns, out)?;
        }
        out.write_str("\n")?;
    }
    if gap { writeln!(out, "{:>20}", "---") } else { Ok(()) }
}

fn large(samples: Samples, arena: &ArenaStats, out: &mut Out<'_>) -> fmt::Result {
    write!(out, "{:<6}{:>14}{:>4}{:>13}", "large:", "size", "ind", "allocated")?;
    for title in ["nmalloc", "ndalloc", "nrequests"] {
        write!(out, "{title:>13}{:>8}", "(#/sec)")?;
    }
    let sums = |class| samples.and_then(|heap| heap.sample_sums(class));
    let has_samples = sums(NBINS).is_some();
    if has_samples {
        sampled(SampleSums::default(), true, out)?;
    }
    writeln!(out, "{:>13}", "curlextents")?;
    let mut gap = false;
    for (i, class) in arena.large.iter().enumerate() {
        let sums = sums(NBINS + i).unwrap_or_default();
        if class.nmalloc == 0 && sums.accum_count == 0 {
            gap = true;
            continue;
        }
        if core::mem::take(&mut gap) {
            writeln!(out, "{:>20}", "---")?;
        }
        let bytes = size::large_class_size(i);
        write!(out, "{bytes:>20}{:>4}{:>13}", NBINS + i, class.curlextents * bytes)?;
        for count in [class.nmalloc, class.ndalloc, class.nrequests] {
            write!(out, "{count:>13}{:>8}", rate(count, arena.uptime_ns))?;
        }
        if has_samples {
            sampled(sums, false, out)?;
        }
        writeln!(out, "{:>13}", class.curlextents)?;
    }
    if gap { writeln!(out, "{:>20}", "---") } else { Ok(()) }
}

fn extents(arena: &ArenaStats, out: &mut Out<'_>) -> fmt::Result {
    write!(out, "{:<8}{:>12}{:>4}", "extents:", "size", "ind")?;
    for title in ["ndirty", "dirty", "nmuzzy", "muzzy", "nretained", "retained", "npinned", "pinned", "ntotal", "total"]
    {
        write!(out, "{title:>13}")?;
    }
    out.write_str("\n")?;
    let mut gap = false;
    for class in 0..NPAGE_CLASSES {
        let states = arena.extents.map(|by_class| by_class[class]);
        let count: usize = states.iter().map(|free| free.count).sum();
        if count == 0 {
            gap = true;
            continue;
        }
        if core::mem::take(&mut gap) {
            writeln!(out, "{:>20}", "---")?;
        }
        write!(out, "{:>20}{class:>4}", cache::class_pages(class) * PAGE)?;
        for free in states {
            write!(out, "{:>13}{:>13}", free.count, free.bytes)?;
        }
        let bytes: usize = states.iter().map(|free| free.bytes).sum();
        writeln!(out, "{count:>13}{bytes:>13}")?;
    }
    if gap { writeln!(out, "{:>20}", "---") } else { Ok(()) }
}
