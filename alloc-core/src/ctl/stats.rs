//! `stats.*`: as of the last write to `epoch`, or the first question.

use crate::conf::DSS;
use crate::lock::Counts;
use crate::pages::FreeExtents;
use crate::pages::cache::NPAGE_CLASSES;
use crate::snapshot::Snapshot;
use crate::stats::{ARENA_LOCKS, ArenaStats, GLOBAL_LOCKS};

use super::indices::which;
use super::{Call, Code, HeapControl, Node};

/// Takes the statistics if nobody has yet.
pub(super) fn ensure_taken(heap: &'static dyn HeapControl) {
    let taken = heap.snapshot().lock().epoch != 0;
    if !taken {
        heap.refresh_snapshot();
    }
}

/// A number of the whole heap.
fn total<T>(call: &Call<'_>, pick: impl FnOnce(&Snapshot) -> T) -> Result<T, Code> {
    call.read_only()?;
    ensure_taken(call.heap);
    Ok(pick(&call.heap.snapshot().lock()))
}

/// A number of the arenas that the name's index stands for.
fn arena<T>(call: &Call<'_>, pick: impl FnOnce(&ArenaStats) -> T) -> Result<T, Code> {
    call.read_only()?;
    ensure_taken(call.heap);
    let snapshot = call.heap.snapshot().lock();
    snapshot.arena(which(call.heap, call.index(2))).map(pick).ok_or(Code::ENOENT)
}

/// Free extents of a class and state; classes that no extent is large enough for have none.
fn free(stats: &ArenaStats, state: usize, class: usize) -> FreeExtents {
    if class < NPAGE_CLASSES { stats.extents[state][class] } else { FreeExtents::default() }
}

/// A counter of a lock, by its name.
fn counter(call: &mut Call<'_>, counts: Counts, name: Counter) -> Result<(), Code> {
    match name {
        Counter::NumOps => call.read(counts.num_ops),
        Counter::NumWait => call.read(counts.num_wait),
        Counter::NumSpinAcq => call.read(counts.num_spin_acq),
        Counter::NumOwnerSwitch => call.read(counts.num_owner_switch),
        Counter::TotalWaitTime => call.read(counts.total_wait_ns),
        Counter::MaxWaitTime => call.read(counts.max_wait_ns),
        Counter::MaxNumThds => call.read(counts.max_num_thds),
    }
}

#[derive(Clone, Copy)]
enum Counter {
    NumOps,
    NumWait,
    NumSpinAcq,
    NumOwnerSwitch,
    TotalWaitTime,
    MaxWaitTime,
    MaxNumThds,
}

macro_rules! total {
    ($name:literal, |$snapshot:ident| $value:expr) => {
        Node {
            name: concat!("stats.", $name),
            handler: |c| {
                let value = total(c, |$snapshot| $value)?;
                c.read(value)
            },
        }
    };
}

macro_rules! arena {
    ($name:literal, |$stats:ident| $value:expr) => {
        Node {
            name: concat!("stats.arenas.<i>.", $name),
            handler: |c| {
                let value = arena(c, |$stats| $value)?;
                c.read(value)
            },
        }
    };
}

/// A number of one of several things in an arena, by the index at component 4.
macro_rules! each {
    ($name:literal, |$stats:ident, $index:ident| $value:expr) => {
        Node {
            name: concat!("stats.arenas.<i>.", $name),
            handler: |c| {
                let $index = c.index(4);
                let value = arena(c, |$stats| $value)?;
                c.read(value)
            },
        }
    };
}

/// The seven counters of a lock.
macro_rules! lock {
    ($($prefix:literal => |$call:ident| $counts:expr;)*) => {
        &[$(
            lock!(@ $prefix, "num_ops", NumOps, |$call| $counts),
            lock!(@ $prefix, "num_wait", NumWait, |$call| $counts),
            lock!(@ $prefix, "num_spin_acq", NumSpinAcq, |$call| $counts),
            lock!(@ $prefix, "num_owner_switch", NumOwnerSwitch, |$call| $counts),
            lock!(@ $prefix, "total_wait_time", TotalWaitTime, |$call| $counts),
            lock!(@ $prefix, "max_wait_time", MaxWaitTime, |$call| $counts),
            lock!(@ $prefix, "max_num_thds", MaxNumThds, |$call| $counts),
        )*
        Node {
            name: "stats.mutexes.reset",
            // Without looking at what the caller reads or writes, as in jemalloc.
            handler: |c| {
                c.heap.reset_lock_counts();
                Ok(())
            },
        }]
    };
    (@ $prefix:literal, $counter:literal, $which:ident, |$call:ident| $counts:expr) => {
        Node {
            name: concat!("stats.", $prefix, ".", $counter),
            handler: |$call| {
                let counts = $counts?;
                counter($call, counts, Counter::$which)
            },
        }
    };
}

/// A lock that belongs to no arena.
fn global_lock(call: &Call<'_>, name: &str) -> Result<Counts, Code> {
    total(call, |s| named(&GLOBAL_LOCKS, &s.locks, name))
}

/// A lock of an arena.
fn arena_lock(call: &Call<'_>, name: &str) -> Result<Counts, Code> {
    arena(call, |s| named(&ARENA_LOCKS, &s.locks, name))
}

fn named(names: &[&str], counts: &[Counts], name: &str) -> Counts {
    names.iter().position(|&known| known == name).map_or(Counts::NONE, |position| counts[position])
}

/// Locks.
pub(super) static MUTEX_NODES: &[Node] = lock! {
    "mutexes.background_thread" => |c| global_lock(c, "background_thread");
    "mutexes.max_per_bg_thd" => |c| global_lock(c, "max_per_bg_thd");
    "mutexes.ctl" => |c| global_lock(c, "ctl");
    "mutexes.prof" => |c| global_lock(c, "prof");
    "mutexes.prof_thds_data" => |c| global_lock(c, "prof_thds_data");
    "mutexes.prof_dump" => |c| global_lock(c, "prof_dump");
    "mutexes.prof_recent_alloc" => |c| global_lock(c, "prof_recent_alloc");
    "mutexes.prof_recent_dump" => |c| global_lock(c, "prof_recent_dump");
    "mutexes.prof_stats" => |c| global_lock(c, "prof_stats");
    "arenas.<i>.bins.<i>.mutex" => |c| arena(c, |s| s.bins[c.index(4)].lock);
    "arenas.<i>.mutexes.large" => |c| arena_lock(c, "large");
    "arenas.<i>.mutexes.extent_avail" => |c| arena_lock(c, "extent_avail");
    "arenas.<i>.mutexes.extents_dirty" => |c| arena_lock(c, "extents_dirty");
    "arenas.<i>.mutexes.extents_muzzy" => |c| arena_lock(c, "extents_muzzy");
    "arenas.<i>.mutexes.extents_retained" => |c| arena_lock(c, "extents_retained");
    "arenas.<i>.mutexes.extents_pinned" => |c| arena_lock(c, "extents_pinned");
    "arenas.<i>.mutexes.decay_dirty" => |c| arena_lock(c, "decay_dirty");
    "arenas.<i>.mutexes.decay_muzzy" => |c| arena_lock(c, "decay_muzzy");
    "arenas.<i>.mutexes.base" => |c| arena_lock(c, "base");
    "arenas.<i>.mutexes.tcache_list" => |c| arena_lock(c, "tcache_list");
    "arenas.<i>.mutexes.hpa_shard" => |c| arena_lock(c, "hpa_shard");
    "arenas.<i>.mutexes.hpa_shard_grow" => |c| arena_lock(c, "hpa_shard_grow");
    "arenas.<i>.mutexes.hpa_sec" => |c| arena_lock(c, "hpa_sec");
};

/// Numbers of the whole heap and of arenas.
pub(super) static NODES: &[Node] = &[
    total!("allocated", |s| s.stats.allocated),
    total!("active", |s| s.stats.active),
    total!("metadata", |s| s.stats.metadata),
    total!("metadata_edata", |s| s.stats.metadata_edata),
    total!("metadata_rtree", |s| s.stats.metadata_rtree),
    total!("metadata_thp", |s| s.stats.metadata_thp),
    total!("resident", |s| s.stats.resident),
    total!("mapped", |s| s.stats.mapped + s.stats.metadata),
    total!("retained", |s| s.stats.retained),
    total!("pinned", |s| s.stats.pinned),
    // A count that is kept anyway: jemalloc tells it as it is, too, without a write to `epoch`.
    Node {
        name: "stats.zero_reallocs",
        handler: |c| {
            c.read_only()?;
            c.read(c.heap.zero_reallocs())
        },
    },
    total!("background_thread.num_threads", |s| s.background.num_threads),
    total!("background_thread.num_runs", |s| s.background.num_runs),
    total!("background_thread.run_interval", |s| s.background.run_interval_ns),
    Node {
        name: "approximate_stats.active",
        handler: |c| {
            c.read_only()?;
            c.read(c.heap.active_now())
        },
    },
    arena!("nthreads", |s| s.nthreads),
    arena!("uptime", |s| s.uptime_ns),
    Node {
        name: "stats.arenas.<i>.dss",
        handler: |c| {
            let word = arena(c, |s| DSS[s.dss])?;
            c.read_text(word)
        },
    },
    arena!("dirty_decay_ms", |s| s.dirty_decay_ms as isize),
    arena!("muzzy_decay_ms", |s| s.muzzy_decay_ms as isize),
    arena!("pactive", |s| s.pactive),
    arena!("pdirty", |s| s.pdirty),
    arena!("pmuzzy", |s| s.pmuzzy),
    arena!("mapped", |s| s.mapped),
    arena!("retained", |s| s.retained),
    arena!("pinned", |s| s.pinned),
    arena!("extent_avail", |s| s.extent_avail),
    arena!("dirty_npurge", |s| s.dirty_npurge),
    arena!("dirty_nmadvise", |s| s.dirty_nmadvise),
    arena!("dirty_purged", |s| s.dirty_purged),
    arena!("muzzy_npurge", |s| s.muzzy_npurge),
    arena!("muzzy_nmadvise", |s| s.muzzy_nmadvise),
    arena!("muzzy_purged", |s| s.muzzy_purged),
    arena!("base", |s| s.base),
    arena!("internal", |s| s.internal),
    arena!("metadata_edata", |s| s.metadata_edata),
    arena!("metadata_rtree", |s| s.metadata_rtree),
    arena!("metadata_thp", |s| s.metadata_thp),
    arena!("tcache_bytes", |s| s.tcache_bytes),
    // Freed blocks are not stashed (`lg_san_uaf_align`).
    arena!("tcache_stashed_bytes", |_s| 0usize),
    arena!("resident", |s| s.resident()),
    arena!("abandoned_vm", |s| s.abandoned_vm),
    arena!("small.allocated", |s| s.small().allocated),
    arena!("small.nmalloc", |s| s.small().nmalloc),
    arena!("small.ndalloc", |s| s.small().ndalloc),
    arena!("small.nrequests", |s| s.small().nrequests),
    arena!("small.nfills", |s| s.small().nfills),
    arena!("small.nflushes", |s| s.small().nflushes),
    arena!("large.allocated", |s| s.large().allocated),
    arena!("large.nmalloc", |s| s.large().nmalloc),
    arena!("large.ndalloc", |s| s.large().ndalloc),
    arena!("large.nrequests", |s| s.large().nrequests),
    arena!("large.nfills", |s| s.large().nfills),
    arena!("large.nflushes", |s| s.large().nflushes),
    each!("bins.<i>.nmalloc", |s, i| s.bins[i].counts.nmalloc),
    each!("bins.<i>.ndalloc", |s, i| s.bins[i].counts.ndalloc),
    each!("bins.<i>.nrequests", |s, i| s.bins[i].counts.nrequests),
    each!("bins.<i>.curregs", |s, i| s.bins[i].counts.curregs),
    each!("bins.<i>.nfills", |s, i| s.bins[i].counts.nfills),
    each!("bins.<i>.nflushes", |s, i| s.bins[i].counts.nflushes),
    each!("bins.<i>.nslabs", |s, i| s.bins[i].counts.nslabs),
    each!("bins.<i>.nreslabs", |s, i| s.bins[i].counts.nreslabs),
    each!("bins.<i>.curslabs", |s, i| s.bins[i].counts.curslabs),
    each!("bins.<i>.nonfull_slabs", |s, i| s.bins[i].counts.nonfull_slabs),
    each!("lextents.<i>.nmalloc", |s, i| s.large[i].nmalloc),
    each!("lextents.<i>.ndalloc", |s, i| s.large[i].ndalloc),
    each!("lextents.<i>.nrequests", |s, i| s.large[i].nrequests),
    each!("lextents.<i>.curlextents", |s, i| s.large[i].curlextents),
    each!("extents.<i>.ndirty", |s, i| free(s, 0, i).count),
    each!("extents.<i>.nmuzzy", |s, i| free(s, 1, i).count),
    each!("extents.<i>.nretained", |s, i| free(s, 2, i).count),
    each!("extents.<i>.npinned", |s, i| free(s, 3, i).count),
    each!("extents.<i>.dirty_bytes", |s, i| free(s, 0, i).bytes),
    each!("extents.<i>.muzzy_bytes", |s, i| free(s, 1, i).bytes),
    each!("extents.<i>.retained_bytes", |s, i| free(s, 2, i).bytes),
    each!("extents.<i>.pinned_bytes", |s, i| free(s, 3, i).bytes),
];

/// Names of jemalloc's huge page allocator: there is none here, so there is nothing to count.
macro_rules! nothing {
    ($($name:literal: $type:ty;)*) => {
        /// Names that always answer nothing.
        pub(super) static HUGE_PAGE_NODES: &[Node] = &[$(Node {
            name: concat!("stats.arenas.<i>.", $name),
            handler: |c| {
                let nothing: $type = arena(c, |_| 0)?;
                c.read(nothing)
            },
        }),*];
    };
}

nothing! {
    "hpa_sec_bytes": usize;
    "hpa_sec_hits": usize;
    "hpa_sec_misses": usize;
    "hpa_sec_dalloc_noflush": usize;
    "hpa_sec_dalloc_flush": usize;
    "hpa_sec_overfills": usize;
    "hpa_shard.npageslabs": usize;
    "hpa_shard.nactive": usize;
    "hpa_shard.ndirty": usize;
    "hpa_shard.npurge_passes": u64;
    "hpa_shard.npurges": u64;
    "hpa_shard.nhugifies": u64;
    "hpa_shard.nhugify_failures": u64;
    "hpa_shard.ndehugifies": u64;
    "hpa_shard.slabs.npageslabs_nonhuge": usize;
    "hpa_shard.slabs.npageslabs_huge": usize;
    "hpa_shard.slabs.nactive_nonhuge": usize;
    "hpa_shard.slabs.nactive_huge": usize;
    "hpa_shard.slabs.ndirty_nonhuge": usize;
    "hpa_shard.slabs.ndirty_huge": usize;
    "hpa_shard.full_slabs.npageslabs_nonhuge": usize;
    "hpa_shard.full_slabs.npageslabs_huge": usize;
    "hpa_shard.full_slabs.nactive_nonhuge": usize;
    "hpa_shard.full_slabs.nactive_huge": usize;
    "hpa_shard.full_slabs.ndirty_nonhuge": usize;
    "hpa_shard.full_slabs.ndirty_huge": usize;
    "hpa_shard.empty_slabs.npageslabs_nonhuge": usize;
    "hpa_shard.empty_slabs.npageslabs_huge": usize;
    "hpa_shard.empty_slabs.nactive_nonhuge": usize;
    "hpa_shard.empty_slabs.nactive_huge": usize;
    "hpa_shard.empty_slabs.ndirty_nonhuge": usize;
    "hpa_shard.empty_slabs.ndirty_huge": usize;
    "hpa_shard.nonfull_slabs.<i>.npageslabs_nonhuge": usize;
    "hpa_shard.nonfull_slabs.<i>.npageslabs_huge": usize;
    "hpa_shard.nonfull_slabs.<i>.nactive_nonhuge": usize;
    "hpa_shard.nonfull_slabs.<i>.nactive_huge": usize;
    "hpa_shard.nonfull_slabs.<i>.ndirty_nonhuge": usize;
    "hpa_shard.nonfull_slabs.<i>.ndirty_huge": usize;
}
