//! The heap's control names.

use core::ffi::CStr;

use crate::decay::Tier;
use crate::introspect::ArenaSelection;
use crate::lock::{Mutex, Rank};
use crate::size::{self, NBINS, NHBINS};
use crate::stats::{ArenaStats, Stats};
use crate::sys::PAGE;

use super::{Call, Code, Node};

/// `MALLCTL_ARENAS_ALL`.
const ARENAS_ALL: usize = 4096;
/// Large classes: those from 16 KiB up to the largest, four for each doubling.
const NLEXTENTS: usize = 196;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!("heapsift-", env!("CARGO_PKG_VERSION"), "\0").as_bytes())
{
    Ok(text) => text,
    Err(_) => c"heapsift",
};

/// The statistics as of the last write to `epoch`, as jemalloc keeps them.
struct Snapshot {
    epoch: u64,
    stats: Stats,
    taken: bool,
}

static SNAPSHOT: Mutex<Snapshot> = Mutex::new(
    Rank::Control,
    Snapshot {
        epoch: 1,
        stats: Stats {
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
        },
        taken: false,
    },
);


fn refresh(call: &Call<'_>) -> u64 {
    let stats = call.heap.stats();
    let mut snapshot = SNAPSHOT.lock();
    snapshot.stats = stats;
    snapshot.taken = true;
    snapshot.epoch += 1;
    snapshot.epoch
}

/// The child of a fork must not find the snapshot locked by a thread that isn't there.
pub(crate) fn after_fork() {
    SNAPSHOT.after_fork(|snapshot| snapshot.taken = false);
}

fn epoch(call: &mut Call<'_>) -> Result<(), Code> {
    let epoch = match call.written::<u64>()? {
        Some(_) => refresh(call),
        None => SNAPSHOT.lock().epoch,
    };
    call.read(epoch)
}

fn total(call: &mut Call<'_>, pick: fn(&Stats) -> usize) -> Result<(), Code> {
    call.read_only()?;
    let taken = SNAPSHOT.lock().taken;
    if !taken {
        refresh(call);
    }
    let value = pick(&SNAPSHOT.lock().stats);
    call.read(value)
}

fn selection(call: &Call<'_>) -> Result<ArenaSelection, Code> {
    let index = call.index(1);
    // An index equal to the number of arenas also means all of them; deprecated, but in use.
    if index == ARENAS_ALL || index == call.heap.narenas() as usize {
        Ok(ArenaSelection::All)
    } else if index < call.heap.narenas() as usize {
        Ok(ArenaSelection::One(index as u32))
    } else {
        Err(Code::ENOENT)
    }
}

fn arena_index(call: &Call<'_>) -> Result<u32, Code> {
    let index = call.index(1);
    if index < call.heap.narenas() as usize { Ok(index as u32) } else { Err(Code::ENOENT) }
}

fn arena_decay_ms(call: &mut Call<'_>, tier: Tier) -> Result<(), Code> {
    let index = arena_index(call)?;
    let ms = call.heap.arena_decay_ms(index, tier).ok_or(Code::EFAULT)?;
    call.read(ms as isize)?;
    if let Some(ms) = call.written::<isize>()?
        && !call.heap.set_arena_decay_ms(index, tier, ms as i64)
    {
        return Err(Code::EFAULT);
    }
    Ok(())
}

fn default_decay_ms(call: &mut Call<'_>, tier: Tier) -> Result<(), Code> {
    let ms = call.heap.default_decay_ms(tier);
    call.read(ms as isize)?;
    if let Some(ms) = call.written::<isize>()?
        && !call.heap.set_default_decay_ms(tier, ms as i64)
    {
        return Err(Code::EFAULT);
    }
    Ok(())
}

fn bin_index(call: &Call<'_>, position: usize) -> Result<usize, Code> {
    let index = call.index(position);
    if index < NBINS { Ok(index) } else { Err(Code::ENOENT) }
}

/// Bytes of the large class at jemalloc's index.
fn large_class_bytes(index: usize) -> usize {
    let step = index + 1;
    // 16 KiB is the last class of its doubling; the next ones are 20, 24, 28, 32 KiB and so on.
    if index == 0 {
        return 16384;
    }
    let step = step - 2;
    let base = 16384usize << (step / 4);
    base + (step % 4 + 1) * (base / 4)
}

fn arena_stats(call: &mut Call<'_>) -> Result<ArenaStats, Code> {
    call.read_only()?;
    let index = call.index(2);
    if index >= call.heap.narenas() as usize {
        return Err(Code::ENOENT);
    }
    call.heap.arena_stats(index as u32).ok_or(Code::ENOENT)
}

macro_rules! node {
    ($name:literal, $handler:expr) => {
        Node { name: $name, handler: $handler }
    };
}

macro_rules! constant {
    ($name:literal, $value:expr) => {
        Node {
            name: $name,
            handler: |c| {
                c.read_only()?;
                c.read($value)
            },
        }
    };
}

macro_rules! config {
    ($name:literal, $value:literal) => {
        Node {
            name: concat!("config.", $name),
            handler: |c| {
                c.read_only()?;
                c.read_bool($value)
            },
        }
    };
}

macro_rules! arena {
    ($name:literal, |$stats:ident| $value:expr) => {
        Node {
            name: concat!("stats.arenas.<i>.", $name),
            handler: |c| {
                let $stats = arena_stats(c)?;
                c.read($value)
            },
        }
    };
}

macro_rules! bin {
    ($name:literal, |$bin:ident| $value:expr) => {
        Node {
            name: concat!("stats.arenas.<i>.bins.<i>.", $name),
            handler: |c| {
                let index = bin_index(c, 4)?;
                let $bin = arena_stats(c)?.bins[index];
                c.read($value)
            },
        }
    };
}

/// All names but `opt.*`.
pub(super) static NODES: &[Node] = &[
    node!("version", |c| {
        c.read_only()?;
        c.read_text(VERSION)
    }),
    node!("epoch", epoch),
    config!("cache_oblivious", false),
    config!("debug", false),
    config!("fill", true),
    config!("lazy_lock", false),
    config!("opt_safety_checks", false),
    config!("prof", true),
    config!("prof_libgcc", true),
    config!("prof_libunwind", false),
    config!("prof_frameptr", true),
    config!("stats", true),
    config!("utrace", false),
    config!("xmalloc", true),
    node!("config.malloc_conf", |c| {
        c.read_only()?;
        c.read_text(c"")
    }),
    node!("thread.arena", |c| {
        let arena = c.heap.thread_arena();
        c.read(arena)?;
        if let Some(index) = c.written::<u32>()?
            && !c.heap.set_thread_arena(index)
        {
            return Err(Code::EFAULT);
        }
        Ok(())
    }),
    node!("thread.allocated", |c| {
        c.read_only()?;
        // SAFETY: the calling thread's own counter.
        let value = unsafe { *c.heap.thread_counters().0 };
        c.read(value)
    }),
    node!("thread.allocatedp", |c| {
        c.read_only()?;
        let counter = c.heap.thread_counters().0;
        c.read(counter)
    }),
    node!("thread.deallocated", |c| {
        c.read_only()?;
        // SAFETY: the calling thread's own counter.
        let value = unsafe { *c.heap.thread_counters().1 };
        c.read(value)
    }),
    node!("thread.deallocatedp", |c| {
        c.read_only()?;
        let counter = c.heap.thread_counters().1;
        c.read(counter)
    }),
    node!("thread.idle", |c| {
        c.void()?;
        c.heap.thread_idle();
        Ok(())
    }),
    node!("thread.tcache.enabled", |c| {
        let enabled = c.heap.thread_tcache_enabled();
        if let Some(on) = c.written_bool()? {
            c.heap.set_thread_tcache_enabled(on);
        }
        c.read_bool(enabled)
    }),
    node!("thread.tcache.flush", |c| {
        c.void()?;
        if !c.heap.thread_tcache_enabled() {
            return Err(Code::EFAULT);
        }
        c.heap.thread_tcache_flush();
        Ok(())
    }),
    node!("arena.<i>.initialized", |c| {
        c.read_only()?;
        let index = arena_index(c)?;
        c.read_bool(c.heap.arena_initialized(index))
    }),
    node!("arena.<i>.decay", |c| {
        c.void()?;
        c.heap.arena_decay(selection(c)?);
        Ok(())
    }),
    node!("arena.<i>.purge", |c| {
        c.void()?;
        c.heap.arena_purge(selection(c)?);
        Ok(())
    }),
    node!("arena.<i>.dirty_decay_ms", |c| arena_decay_ms(c, Tier::Dirty)),
    node!("arena.<i>.muzzy_decay_ms", |c| arena_decay_ms(c, Tier::Muzzy)),
    node!("arenas.narenas", |c| {
        c.read_only()?;
        c.read(c.heap.narenas())
    }),
    node!("arenas.dirty_decay_ms", |c| default_decay_ms(c, Tier::Dirty)),
    node!("arenas.muzzy_decay_ms", |c| default_decay_ms(c, Tier::Muzzy)),
    constant!("arenas.quantum", 16usize),
    constant!("arenas.page", PAGE),
    constant!("arenas.hugepage", 2usize << 20),
    node!("arenas.tcache_max", |c| {
        c.read_only()?;
        c.read(c.heap.options().tcache_max)
    }),
    constant!("arenas.nbins", NBINS as u32),
    constant!("arenas.nhbins", NHBINS as u32),
    node!("arenas.bin.<i>.size", |c| {
        c.read_only()?;
        c.read(size::class_size(bin_index(c, 2)?))
    }),
    node!("arenas.bin.<i>.nregs", |c| {
        c.read_only()?;
        c.read(size::slab_regions(bin_index(c, 2)?) as u32)
    }),
    node!("arenas.bin.<i>.slab_size", |c| {
        c.read_only()?;
        c.read(size::slab_pages(bin_index(c, 2)?) * PAGE)
    }),
    node!("arenas.bin.<i>.nshards", |c| {
        c.read_only()?;
        bin_index(c, 2)?;
        c.read(1u32)
    }),
    constant!("arenas.nlextents", NLEXTENTS as u32),
    node!("arenas.lextent.<i>.size", |c| {
        c.read_only()?;
        let index = c.index(2);
        if index >= NLEXTENTS {
            return Err(Code::ENOENT);
        }
        c.read(large_class_bytes(index))
    }),
    node!("arenas.lookup", |c| {
        let ptr = c.written::<*const u8>()?.ok_or(Code::EINVAL)?;
        let arena = c.heap.block_arena(ptr).ok_or(Code::EINVAL)?;
        c.read(arena)
    }),
    node!("stats.allocated", |c| total(c, |s| s.allocated)),
    node!("stats.active", |c| total(c, |s| s.active)),
    node!("stats.metadata", |c| total(c, |s| s.metadata)),
    node!("stats.resident", |c| total(c, |s| s.resident)),
    node!("stats.mapped", |c| total(c, |s| s.mapped)),
    node!("stats.retained", |c| total(c, |s| s.retained)),
    node!("stats.zero_reallocs", |c| total(c, |s| s.zero_reallocs)),
    arena!("nthreads", |s| s.nthreads),
    arena!("uptime", |s| s.uptime_ns),
    arena!("pactive", |s| s.pactive),
    arena!("pdirty", |s| s.pdirty),
    arena!("pmuzzy", |s| s.pmuzzy),
    arena!("mapped", |s| s.mapped),
    arena!("retained", |s| s.retained),
    arena!("dirty_npurge", |s| s.dirty_npurge),
    arena!("dirty_nmadvise", |s| s.dirty_nmadvise),
    arena!("dirty_purged", |s| s.dirty_purged),
    arena!("muzzy_npurge", |s| s.muzzy_npurge),
    arena!("muzzy_nmadvise", |s| s.muzzy_nmadvise),
    arena!("muzzy_purged", |s| s.muzzy_purged),
    arena!("base", |s| s.base),
    arena!("internal", |s| s.internal),
    arena!("small.allocated", |s| s.small_allocated),
    arena!("large.allocated", |s| s.large_allocated),
    arena!("large.nmalloc", |s| s.large_nmalloc),
    arena!("large.ndalloc", |s| s.large_ndalloc),
    bin!("nmalloc", |b| b.nmalloc),
    bin!("ndalloc", |b| b.ndalloc),
    bin!("curregs", |b| b.curregs),
    bin!("nfills", |b| b.nfills),
    bin!("nflushes", |b| b.nflushes),
    bin!("nslabs", |b| b.nslabs),
    bin!("nreslabs", |b| b.nreslabs),
    bin!("curslabs", |b| b.curslabs),
    bin!("nonfull_slabs", |b| b.nonfull_slabs),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_classes() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(large_class_bytes), [16384, 20480, 24576, 28672, 32768, 40960]);
        assert_eq!(large_class_bytes(NLEXTENTS - 1), size::MAX_SIZE_CLASS);
    }
}
