//! What a program may ask of the heap and change in it while it runs.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::arena::Arena;
use crate::decay::Tier;
use crate::extent::Extent;
use crate::heap::{Heap, INTERNAL_ARENA};
use crate::observer::Observer;
use crate::size::{self, NBINS, NHBINS};
use crate::stats::{ArenaStats, BinStats, Stats};
use crate::sys::{self, LG_PAGE};
use crate::thread::{Kind, Thread, read_counter};
use crate::tls;

/// Which arenas an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArenaSelection {
    /// That one.
    One(u32),
    /// All of them.
    All,
}

/// While it lives, nothing that its thread allocates is sampled.
#[derive(Debug)]
pub struct Suppressed {
    _not_send: core::marker::PhantomData<*mut ()>,
}

impl Drop for Suppressed {
    fn drop(&mut self) {
        let thread = tls::thread();
        // SAFETY: the calling thread's state; shared states are not written.
        unsafe {
            if (*thread).kind == Kind::Live {
                (*thread).depth = (*thread).depth.saturating_sub(1);
            }
        }
    }
}

impl<O: Observer> Heap<O> {
    /// Stops sampling in this thread while the result lives.
    pub fn suppress(&'static self) -> Suppressed {
        let thread = self.thread();
        // SAFETY: as in `Suppressed::drop`.
        unsafe {
            if (*thread).kind == Kind::Live {
                (*thread).depth += 1;
            }
        }
        Suppressed { _not_send: core::marker::PhantomData }
    }

    fn arenas(&'static self) -> impl Iterator<Item = &'static Arena> {
        self.core.arenas.iter()
    }

    /// Totals. `allocated` comes from the threads' own counters and is exact when no thread allocates meanwhile.
    pub fn stats(&'static self) -> Stats {
        self.ensure_booted();
        let mut stats = Stats { tcache_bytes: self.explicit_cache_stats(&mut [0; NHBINS + 1]), ..Stats::default() };
        {
            let threads = self.core.threads.lock();
            let mut allocated = self.core.gone_allocated.load(Ordering::Relaxed);
            let mut deallocated = self.core.gone_deallocated.load(Ordering::Relaxed);
            let mut thread = threads.first;
            while !thread.is_null() {
                // SAFETY: the list holds live states, and its lock is held.
                unsafe {
                    // Frees first: a block that moves from one sum to the other meanwhile must not make it negative.
                    deallocated = deallocated.wrapping_add(read_counter(&raw mut (*thread).deallocated));
                    allocated = allocated.wrapping_add(read_counter(&raw mut (*thread).allocated));
                    stats.tcache_bytes += (*thread).cached_bytes();
                    thread = (*thread).next;
                }
            }
            stats.allocated = (allocated.wrapping_sub(deallocated) as i64).max(0) as usize;
        }
        for arena in self.arenas() {
            let pages = arena.pages.stats();
            if arena.index() == INTERNAL_ARENA {
                stats.metadata += pages.active << LG_PAGE;
            } else {
                stats.active += pages.active << LG_PAGE;
            }
            stats.dirty += pages.dirty << LG_PAGE;
            stats.muzzy += pages.muzzy << LG_PAGE;
            stats.mapped += pages.mapped_bytes;
            stats.retained += pages.retained << LG_PAGE;
        }
        stats.metadata += self.core.shared.base.allocated();
        stats.resident = stats.active + stats.dirty + stats.metadata;
        stats.zero_reallocs = self.core.zero_reallocs.load(Ordering::Relaxed);
        stats
    }

    /// Counts a `realloc(ptr, 0)`.
    pub fn count_zero_realloc(&'static self) {
        self.core.zero_reallocs.fetch_add(1, Ordering::Relaxed);
    }

    /// Numbers of an arena; `None` while it doesn't exist.
    pub fn arena_stats(&'static self, index: u32) -> Option<ArenaStats> {
        let arena = self.arenas().find(|arena| arena.index() == index as usize)?;
        let pages = arena.pages.stats();
        let mut bins = [BinStats::default(); NBINS];
        let mut small_allocated = 0;
        for (i, bin) in bins.iter_mut().enumerate() {
            *bin = arena.bin(i + 1).counts().0;
            small_allocated += bin.curregs * size::class_size(i);
        }
        for (class, requests) in self.untold_requests(arena).iter().enumerate().skip(1).take(NBINS) {
            bins[class - 1].nrequests += requests;
        }
        Some(ArenaStats {
            nthreads: arena.threads.load(Ordering::Relaxed),
            uptime_ns: sys::clock_coarse_ns().saturating_sub(arena.created_ns),
            pactive: pages.active,
            pdirty: pages.dirty,
            pmuzzy: pages.muzzy,
            mapped: pages.mapped_bytes,
            retained: pages.retained << LG_PAGE,
            dirty_npurge: pages.counts_dirty.npurge,
            dirty_nmadvise: pages.counts_dirty.nmadvise,
            dirty_purged: pages.counts_dirty.purged,
            muzzy_npurge: pages.counts_muzzy.npurge,
            muzzy_nmadvise: pages.counts_muzzy.nmadvise,
            muzzy_purged: pages.counts_muzzy.purged,
            base: pages.descriptors * core::mem::size_of::<Extent>() + core::mem::size_of::<Arena>(),
            internal: if arena.index() == INTERNAL_ARENA { pages.active << LG_PAGE } else { 0 },
            small_allocated,
            large_allocated: arena.large_bytes.load(Ordering::Relaxed),
            large_nmalloc: arena.large.iter().map(|counts| counts.nmalloc.load(Ordering::Relaxed)).sum(),
            large_ndalloc: arena.large.iter().map(|counts| counts.ndalloc.load(Ordering::Relaxed)).sum(),
            bins,
        })
    }

    /// Requests by class that threads and caches have served out of an arena and not told its bins yet.
    fn untold_requests(&'static self, arena: &Arena) -> [u64; NHBINS + 1] {
        let mut requests = [0; NHBINS + 1];
        if arena.index() == 0 {
            // A program's own cache belongs to no arena.
            self.explicit_cache_stats(&mut requests);
        }
        let threads = self.core.threads.lock();
        let mut thread = threads.first;
        while !thread.is_null() {
            // SAFETY: the list holds live states, and its lock is held.
            unsafe {
                if (*thread).arena.is_some_and(|bound| core::ptr::eq(bound, arena)) {
                    for (class, sum) in requests.iter_mut().enumerate() {
                        *sum += read_counter((&raw mut (*thread).requests).cast::<u64>().add(class));
                    }
                }
                thread = (*thread).next;
            }
        }
        requests
    }

    /// Whether the arena exists.
    pub fn arena_initialized(&'static self, index: u32) -> bool {
        self.core.arenas.get(index as usize).is_some()
    }

    fn selected(&'static self, which: ArenaSelection) -> impl Iterator<Item = &'static Arena> {
        self.arenas().filter(move |arena| match which {
            ArenaSelection::All => true,
            ArenaSelection::One(index) => arena.index() == index as usize,
        })
    }

    /// Gives all unused pages back.
    pub fn arena_purge(&'static self, which: ArenaSelection) {
        for arena in self.selected(which) {
            arena.pages.purge(&self.core.shared);
        }
    }

    /// Gives back what the decay curves say now.
    pub fn arena_decay(&'static self, which: ArenaSelection) {
        let now_ns = sys::clock_monotonic_ns();
        for arena in self.selected(which) {
            arena.pages.decay(&self.core.shared, now_ns);
        }
    }

    /// The decay time of an arena's tier in milliseconds; `None` while the arena doesn't exist.
    pub fn arena_decay_ms(&'static self, index: u32, tier: Tier) -> Option<i64> {
        self.selected(ArenaSelection::One(index)).next().map(|arena| arena.pages.decay_ms(tier))
    }

    /// Sets it; `false`: no such arena, or the value is below -1.
    pub fn set_arena_decay_ms(&'static self, index: u32, tier: Tier, ms: i64) -> bool {
        if ms < -1 {
            return false;
        }
        self.selected(ArenaSelection::One(index)).next().is_some_and(|arena| {
            arena.pages.set_decay_ms(&self.core.shared, tier, ms);
            true
        })
    }

    /// The decay time of arenas to come.
    pub fn default_decay_ms(&'static self, tier: Tier) -> i64 {
        self.ensure_booted();
        match tier {
            Tier::Dirty => self.core.default_dirty_ms.load(Ordering::Relaxed),
            Tier::Muzzy => self.core.default_muzzy_ms.load(Ordering::Relaxed),
        }
    }

    /// Sets the decay time of arenas to come; `false`: the value is below -1.
    pub fn set_default_decay_ms(&'static self, tier: Tier, ms: i64) -> bool {
        if ms < -1 {
            return false;
        }
        match tier {
            Tier::Dirty => self.core.default_dirty_ms.store(ms, Ordering::Relaxed),
            Tier::Muzzy => self.core.default_muzzy_ms.store(ms, Ordering::Relaxed),
        }
        true
    }

    /// The arena of the calling thread.
    pub fn thread_arena(&'static self) -> u32 {
        let thread = self.thread();
        // SAFETY: the calling thread's state.
        unsafe { (*thread).arena }.map_or(0, |arena| arena.index() as u32)
    }

    /// Binds the calling thread to an arena; `false`: no such arena.
    pub fn set_thread_arena(&'static self, index: u32) -> bool {
        if index >= self.narenas() {
            return false;
        }
        let Some(arena) = self.arena(index as usize) else { return false };
        let thread = self.thread();
        // SAFETY: the calling thread's state; shared states are not written.
        unsafe {
            if (*thread).kind == Kind::Live {
                // Blocks in the caches keep their arena; only new ones come from the other.
                self.flush_all(thread);
                self.bind(thread, arena);
            }
        }
        true
    }

    /// Where the calling thread counts its allocated and deallocated bytes; valid while the thread lives.
    pub fn thread_counters(&'static self) -> (*mut u64, *mut u64) {
        static NO_THREAD: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
        let thread = self.thread();
        // SAFETY: the calling thread's state.
        unsafe {
            if (*thread).kind == Kind::Live {
                (&raw mut (*thread).allocated, &raw mut (*thread).deallocated)
            } else {
                (NO_THREAD[0].as_ptr(), NO_THREAD[1].as_ptr())
            }
        }
    }

    /// Whether the calling thread caches blocks.
    pub fn thread_tcache_enabled(&'static self) -> bool {
        // SAFETY: the calling thread's state.
        unsafe { (*self.thread()).caching }
    }

    /// Switches the calling thread's cache on or off.
    pub fn set_thread_tcache_enabled(&'static self, on: bool) {
        let thread = self.thread();
        // SAFETY: the calling thread's own state; shared states are not written.
        unsafe {
            if (*thread).kind != Kind::Live || (*thread).caching == on {
                return;
            }
            self.flush_all(thread);
            Thread::set_caching(thread, on, self.options());
        }
    }

    /// Empties the calling thread's cache.
    pub fn thread_tcache_flush(&'static self) {
        let thread = self.thread();
        // SAFETY: the calling thread's own state.
        unsafe {
            if (*thread).kind == Kind::Live {
                self.flush_all(thread);
            }
        }
    }

    /// The calling thread will be idle: its cache is emptied.
    pub fn thread_idle(&'static self) {
        self.thread_tcache_flush();
    }

    /// Lets `f` at what the observer keeps with the calling thread; `None` when the thread is ending.
    pub fn with_slot<R>(&'static self, f: impl FnOnce(&mut crate::observer::ThreadSlot) -> R) -> Option<R> {
        let thread = self.thread();
        // SAFETY: the calling thread's own state. Nothing is sampled meanwhile, so nobody else has the slot.
        unsafe {
            if (*thread).kind != Kind::Live {
                return None;
            }
            (*thread).depth += 1;
            let result = f(&mut (*thread).slot);
            (*thread).depth -= 1;
            Some(result)
        }
    }

    /// Gives all unused pages back, of the calling thread's cache too. Returns whether there were any.
    pub fn malloc_trim(&'static self) -> bool {
        self.thread_tcache_flush();
        let before = self.stats();
        self.arena_purge(ArenaSelection::All);
        before.dirty + before.muzzy > 0
    }
}

impl<O: Observer> Heap<O> {
    /// The arena that a block in use belongs to; `None` for anything else.
    pub fn block_arena(&'static self, ptr: *const u8) -> Option<u32> {
        let extent = self.core.shared.map.extent(ptr.addr());
        if extent.is_null() {
            return None;
        }
        // SAFETY: descriptors are never unmapped, and these fields are atomic.
        let (active, arena) = unsafe { ((*extent).state() == crate::extent::State::Active, (*extent).arena()) };
        active.then_some(arena as u32)
    }
}
