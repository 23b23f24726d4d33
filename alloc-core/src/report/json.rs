//! The report as JSON.

use core::fmt::{self, Write};

use super::options::{OPTIONS, PROFILING, joined, quoted, read};
use super::{Out, Parts, Samples, initialized, load};
use crate::conf::DSS;
use crate::ctl::{self, HeapControl};
use crate::lock::Counts;
use crate::message::until_zero;
use crate::pages::cache::NPAGE_CLASSES;
use crate::size::{self, NBINS, NLEXTENTS};
use crate::snapshot::Which;
use crate::stats::{ARENA_LOCKS, ArenaStats, GLOBAL_LOCKS, SampleSums, Sum};
use crate::sys::{HUGE_PAGE, PAGE};

/// Writes members and elements with the commas between them.
struct Json<'a, 'b> {
    out: &'a mut Out<'b>,
    /// Whether something stands before in the present object or array.
    follows: bool,
}

impl Json<'_, '_> {
    fn comma(&mut self) -> fmt::Result {
        if core::mem::replace(&mut self.follows, true) { self.out.write_str(",") } else { Ok(()) }
    }

    fn key(&mut self, key: &str) -> fmt::Result {
        self.comma()?;
        write!(self.out, "\"{key}\":")
    }

    fn number(&mut self, key: &str, value: impl fmt::Display) -> fmt::Result {
        self.key(key)?;
        write!(self.out, "{value}")
    }

    fn text(&mut self, key: &str, value: &[u8]) -> fmt::Result {
        self.key(key)?;
        quoted(value, self.out)
    }

    fn open(&mut self, bracket: char) -> fmt::Result {
        self.follows = false;
        self.out.write_char(bracket)
    }

    fn close(&mut self, bracket: char) -> fmt::Result {
        self.follows = true;
        self.out.write_char(bracket)
    }

    fn object(&mut self, key: &str, members: impl FnOnce(&mut Self) -> fmt::Result) -> fmt::Result {
        self.key(key)?;
        self.open('{')?;
        members(self)?;
        self.close('}')
    }

    fn array(&mut self, key: &str, elements: impl FnOnce(&mut Self) -> fmt::Result) -> fmt::Result {
        self.key(key)?;
        self.open('[')?;
        elements(self)?;
        self.close(']')
    }

    fn element(&mut self, members: impl FnOnce(&mut Self) -> fmt::Result) -> fmt::Result {
        self.comma()?;
        self.open('{')?;
        members(self)?;
        self.close('}')
    }
}

type Members<'a, 'b, 'c> = &'a mut Json<'b, 'c>;

pub(super) fn write(
    heap: &'static dyn HeapControl,
    parts: Parts,
    arena: &mut ArenaStats,
    out: &mut Out<'_>,
) -> fmt::Result {
    let mut json = Json { out, follows: false };
    json.open('{')?;
    json.object("jemalloc", |j| {
        if parts.general {
            general(heap, j)?;
        }
        j.object("stats", |j| totals(heap, parts, j))?;
        if parts.merged || parts.destroyed || parts.arenas {
            j.object("stats.arenas", |j| arenas(heap, parts, arena, j))?;
        }
        Ok(())
    })?;
    json.close('}')?;
    json.out.write_str("\n")
}

fn general(heap: &'static dyn HeapControl, j: Members<'_, '_, '_>) -> fmt::Result {
    j.text("version", ctl::VERSION.to_bytes())?;
    j.object("config", |j| {
        for (name, on) in ctl::CONFIG {
            j.number(name, on)?;
        }
        j.text("malloc_conf", b"")
    })?;
    j.object("system", |j| j.text("thp_mode", crate::sys::extra::thp_mode().as_bytes()))?;
    let mut buffer = [0; 64];
    j.object("opt", |j| {
        for option in OPTIONS {
            let name = joined("opt.", option.name, &mut buffer);
            if let Some(value) = read(heap, name, option.kind) {
                j.key(option.name.strip_prefix("malloc_conf.").unwrap_or(option.name))?;
                value.write(j.out)?;
            }
        }
        Ok(())
    })?;
    j.object("prof", |j| {
        for setting in PROFILING {
            let name = joined("prof.", setting.name, &mut buffer);
            if let Some(value) = read(heap, name, setting.kind) {
                j.key(setting.name)?;
                value.write(j.out)?;
            }
        }
        Ok(())
    })?;
    j.object("arenas", |j| {
        j.number("narenas", heap.narenas())?;
        j.number("dirty_decay_ms", heap.default_decay_ms(crate::decay::Tier::Dirty))?;
        j.number("muzzy_decay_ms", heap.default_decay_ms(crate::decay::Tier::Muzzy))?;
        j.number("quantum", 16)?;
        j.number("page", PAGE)?;
        j.number("hugepage", HUGE_PAGE)?;
        let cached = heap.options().cached_classes();
        j.number("tcache_max", size::class_bytes(cached))?;
        j.number("nbins", NBINS)?;
        j.number("nhbins", cached)?;
        j.array("bin", |j| {
            for i in 0..NBINS {
                j.element(|j| {
                    j.number("size", size::class_size(i))?;
                    j.number("nregs", size::slab_regions(i))?;
                    j.number("slab_size", size::slab_pages(i) * PAGE)?;
                    j.number("nshards", heap.bin_shards(i + 1))
                })?;
            }
            Ok(())
        })?;
        j.number("nlextents", NLEXTENTS)?;
        j.array("lextent", |j| {
            (0..NLEXTENTS).try_for_each(|i| j.element(|j| j.number("size", size::large_class_size(i))))
        })
    })
}

fn lock(j: Members<'_, '_, '_>, name: &str, counts: &Counts) -> fmt::Result {
    j.object(name, |j| {
        j.number("num_ops", counts.num_ops)?;
        j.number("num_wait", counts.num_wait)?;
        j.number("num_spin_acq", counts.num_spin_acq)?;
        j.number("num_owner_switch", counts.num_owner_switch)?;
        j.number("total_wait_time", counts.total_wait_ns)?;
        j.number("max_wait_time", counts.max_wait_ns)?;
        j.number("max_num_thds", counts.max_num_thds)
    })
}

fn totals(heap: &'static dyn HeapControl, parts: Parts, j: Members<'_, '_, '_>) -> fmt::Result {
    let (stats, background, locks) = {
        let snapshot = heap.snapshot().lock();
        (snapshot.stats, snapshot.background, snapshot.locks)
    };
    j.number("allocated", stats.allocated)?;
    j.number("active", stats.active)?;
    j.number("metadata", stats.metadata)?;
    j.number("metadata_edata", stats.metadata_edata)?;
    j.number("metadata_rtree", stats.metadata_rtree)?;
    j.number("metadata_thp", stats.metadata_thp)?;
    j.number("resident", stats.resident)?;
    j.number("mapped", stats.mapped + stats.metadata)?;
    j.number("retained", stats.retained)?;
    j.number("pinned", stats.pinned)?;
    j.number("zero_reallocs", stats.zero_reallocs)?;
    j.object("background_thread", |j| {
        j.number("num_threads", background.num_threads)?;
        j.number("num_runs", background.num_runs)?;
        j.number("run_interval", background.run_interval_ns)
    })?;
    if parts.mutexes {
        j.object("mutexes", |j| GLOBAL_LOCKS.iter().zip(&locks).try_for_each(|(name, counts)| lock(j, name, counts)))?;
    }
    Ok(())
}

fn arenas(heap: &'static dyn HeapControl, parts: Parts, arena: &mut ArenaStats, j: Members<'_, '_, '_>) -> fmt::Result {
    if parts.merged && initialized(heap) > 0 && load(heap, Which::Merged, arena) {
        j.object("merged", |j| one(parts, arena, None, Some(heap), j))?;
    }
    if parts.destroyed && load(heap, Which::Destroyed, arena) {
        j.object("destroyed", |j| one(parts, arena, None, None, j))?;
    }
    if parts.arenas {
        for index in 0..heap.narenas() {
            if load(heap, Which::One(index), arena) {
                let number = crate::message::Decimal::new(index.into());
                let key = core::str::from_utf8(number.as_bytes()).unwrap_or("");
                let name = heap.arena_name(index);
                j.object(key, |j| one(parts, arena, name, None, j))?;
            }
        }
    }
    Ok(())
}

fn sum(j: Members<'_, '_, '_>, key: &str, sum: &Sum) -> fmt::Result {
    j.object(key, |j| {
        j.number("allocated", sum.allocated)?;
        j.number("nmalloc", sum.nmalloc)?;
        j.number("ndalloc", sum.ndalloc)?;
        j.number("nrequests", sum.nrequests)?;
        j.number("nfills", sum.nfills)?;
        j.number("nflushes", sum.nflushes)
    })
}

fn sampled(samples: Samples, class: usize, j: Members<'_, '_, '_>) -> fmt::Result {
    let sums = samples.and_then(|heap| heap.sample_sums(class));
    sums.iter().flat_map(SampleSums::named).try_for_each(|(key, value)| j.number(key, value))
}

fn one(
    parts: Parts,
    arena: &ArenaStats,
    name: Option<[u8; crate::arena::NAME_BYTES]>,
    samples: Samples,
    j: Members<'_, '_, '_>,
) -> fmt::Result {
    if let Some(name) = name {
        j.text("name", until_zero(&name))?;
    }
    j.number("nthreads", arena.nthreads)?;
    j.number("uptime_ns", arena.uptime_ns)?;
    j.text("dss", DSS[arena.dss].to_bytes())?;
    j.number("dirty_decay_ms", arena.dirty_decay_ms)?;
    j.number("muzzy_decay_ms", arena.muzzy_decay_ms)?;
    j.number("pactive", arena.pactive)?;
    j.number("pdirty", arena.pdirty)?;
    j.number("pmuzzy", arena.pmuzzy)?;
    j.number("dirty_npurge", arena.dirty_npurge)?;
    j.number("dirty_nmadvise", arena.dirty_nmadvise)?;
    j.number("dirty_purged", arena.dirty_purged)?;
    j.number("muzzy_npurge", arena.muzzy_npurge)?;
    j.number("muzzy_nmadvise", arena.muzzy_nmadvise)?;
    j.number("muzzy_purged", arena.muzzy_purged)?;
    sum(j, "small", &arena.small())?;
    sum(j, "large", &arena.large())?;
    j.number("mapped", arena.mapped)?;
    j.number("retained", arena.retained)?;
    j.number("pinned", arena.pinned)?;
    j.number("base", arena.base)?;
    j.number("internal", arena.internal)?;
    j.number("metadata_edata", arena.metadata_edata)?;
    j.number("metadata_rtree", arena.metadata_rtree)?;
    j.number("metadata_thp", arena.metadata_thp)?;
    j.number("tcache_bytes", arena.tcache_bytes)?;
    j.number("tcache_stashed_bytes", 0)?;
    j.number("resident", arena.resident())?;
    j.number("abandoned_vm", arena.abandoned_vm)?;
    j.number("extent_avail", arena.extent_avail)?;
    if parts.mutexes {
        j.object("mutexes", |j| {
            ARENA_LOCKS.iter().zip(&arena.locks).try_for_each(|(name, counts)| lock(j, name, counts))
        })?;
    }
    if parts.bins {
        j.array("bins", |j| {
            arena.bins.iter().enumerate().try_for_each(|(i, bin)| {
                j.element(|j| {
                    let counts = &bin.counts;
                    j.number("nmalloc", counts.nmalloc)?;
                    j.number("ndalloc", counts.ndalloc)?;
                    j.number("curregs", counts.curregs)?;
                    j.number("nrequests", counts.nrequests)?;
                    sampled(samples, i, j)?;
                    j.number("nfills", counts.nfills)?;
                    j.number("nflushes", counts.nflushes)?;
                    j.number("nslabs", counts.nslabs)?;
                    j.number("nreslabs", counts.nreslabs)?;
                    j.number("curslabs", counts.curslabs)?;
                    j.number("nonfull_slabs", counts.nonfull_slabs)?;
                    if parts.mutexes { lock(j, "mutex", &bin.lock) } else { Ok(()) }
                })
            })
        })?;
    }
    if parts.large {
        j.array("lextents", |j| {
            arena.large.iter().enumerate().try_for_each(|(i, class)| {
                j.element(|j| {
                    j.number("nmalloc", class.nmalloc)?;
                    j.number("ndalloc", class.ndalloc)?;
                    j.number("nrequests", class.nrequests)?;
                    sampled(samples, NBINS + i, j)?;
                    j.number("curlextents", class.curlextents)
                })
            })
        })?;
    }
    if parts.extents {
        j.array("extents", |j| {
            (0..ctl::NEXTENTS).try_for_each(|class| {
                j.element(|j| {
                    let of = |state: usize| {
                        if class < NPAGE_CLASSES { arena.extents[state][class] } else { Default::default() }
                    };
                    for (key, state) in [("ndirty", 0), ("nmuzzy", 1), ("nretained", 2), ("npinned", 3)] {
                        j.number(key, of(state).count)?;
                    }
                    for (key, state) in
                        [("dirty_bytes", 0), ("muzzy_bytes", 1), ("retained_bytes", 2), ("pinned_bytes", 3)]
                    {
                        j.number(key, of(state).bytes)?;
                    }
                    Ok(())
                })
            })
        })?;
    }
    if parts.huge_pages {
        huge_pages(j)?;
    }
    Ok(())
}

/// jemalloc's huge page allocator: there is none here, so there is nothing to count.
fn huge_pages(j: Members<'_, '_, '_>) -> fmt::Result {
    j.number("sec_bytes", 0)?;
    j.object("hpa_shard", |j| {
        for key in [
            "npageslabs",
            "nactive",
            "ndirty",
            "npurge_passes",
            "npurges",
            "nhugifies",
            "nhugify_failures",
            "ndehugifies",
        ] {
            j.number(key, 0)?;
        }
        let slabs = |j: &mut Json<'_, '_>| {
            for key in [
                "npageslabs_huge",
                "nactive_huge",
                "ndirty_huge",
                "npageslabs_nonhuge",
                "nactive_nonhuge",
                "ndirty_nonhuge",
            ] {
                j.number(key, 0)?;
            }
            Ok(())
        };
        for key in ["slabs", "full_slabs", "empty_slabs"] {
            j.object(key, slabs)?;
        }
        j.array("nonfull_slabs", |j| (0..ctl::NSLABS).try_for_each(|_| j.element(slabs)))
    })
}
