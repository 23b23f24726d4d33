//! The statistics as they were at one moment: what control names and reports tell until the next refresh.

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use crate::arena::{ARENAS_MAX, Arena};
use crate::background::BackgroundStats;
use crate::extent::Extent;
use crate::heap::{Heap, INTERNAL_ARENA};
use crate::lock::{Counts, Mutex, Rank};
use crate::observer::Observer;
use crate::size::{self, NBINS, NCLASSES};
use crate::stats::{ARENA_LOCKS, ArenaStats, GLOBAL_LOCKS, Stats};
use crate::sys::{self, LG_PAGE};
use crate::thread::{Thread, places, read_counter};

/// Which arenas' numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// That arena's.
    One(u32),
    /// Those of all arenas together.
    Merged,
    /// Those of destroyed arenas together.
    Destroyed,
}

/// A picture of all statistics.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with each refresh; 0: none yet.
    pub epoch: u64,
    /// Totals.
    pub stats: Stats,
    /// Background threads.
    pub background: BackgroundStats,
    /// What the locks of [`GLOBAL_LOCKS`] have seen.
    pub locks: [Counts; GLOBAL_LOCKS.len()],
    /// How many arena indices there are.
    pub narenas: u32,
    /// By index; null while nobody has asked since the arena was made. Two more for [`Which::Merged`] and
    /// [`Which::Destroyed`].
    arenas: *mut *mut ArenaStats,
}

// SAFETY: the arrays belong to the snapshot alone.
unsafe impl Send for Snapshot {}

const MERGED: usize = ARENAS_MAX;
const DESTROYED: usize = ARENAS_MAX + 1;

impl Snapshot {
    pub(crate) const fn new() -> Self {
        Snapshot {
            epoch: 0,
            stats: Stats::NONE,
            background: BackgroundStats { num_threads: 0, num_runs: 0, run_interval_ns: 0 },
            locks: [Counts::NONE; GLOBAL_LOCKS.len()],
            narenas: 0,
            arenas: null_mut(),
        }
    }

    /// A snapshot, to be taken under the control lock.
    pub(crate) const fn locked() -> Mutex<Snapshot> {
        Mutex::new(Rank::Control, Snapshot::new())
    }

    /// The numbers of an arena; `None`: there is none.
    pub fn arena(&self, which: Which) -> Option<&ArenaStats> {
        let index = match which {
            Which::One(index) if index < self.narenas => index as usize,
            Which::One(_) => return None,
            Which::Merged => MERGED,
            Which::Destroyed => DESTROYED,
        };
        if self.arenas.is_null() {
            return None;
        }
        // SAFETY: the array has a place for each index, null or a picture that stays.
        let stats = unsafe { (*self.arenas.add(index)).as_ref() }?;
        (stats.initialized || which == Which::Merged).then_some(stats)
    }

    /// The place for an arena's numbers, made if need be; `None`: no memory.
    fn place(&mut self, index: usize, allocate: &dyn Fn(usize) -> Option<*mut u8>) -> Option<&mut ArenaStats> {
        if self.arenas.is_null() {
            self.arenas = allocate((DESTROYED + 1) * core::mem::size_of::<*mut ArenaStats>())?.cast();
        }
        // SAFETY: the array has a place for each index; it began as zeros, null pointers.
        unsafe {
            let slot = &mut *self.arenas.add(index);
            if slot.is_null() {
                let fresh = allocate(core::mem::size_of::<ArenaStats>())?.cast::<ArenaStats>();
                (*fresh).clear();
                *slot = fresh;
            }
            slot.as_mut()
        }
    }

    /// In the child of a fork: what another thread was taking is half a picture.
    pub(crate) fn after_fork(lock: &Mutex<Snapshot>) {
        lock.after_fork(|snapshot| snapshot.epoch = snapshot.epoch.wrapping_add(1));
    }
}

impl<O: Observer> Heap<O> {
    /// The statistics as of the last refresh.
    pub fn snapshot(&'static self) -> &'static Mutex<Snapshot> {
        &self.core.snapshot
    }

    /// Takes the statistics afresh; the new epoch.
    pub fn refresh_snapshot(&'static self) -> u64 {
        self.ensure_booted();
        // There is always a first arena to tell of.
        let _ = self.arena(0);
        let background = self.background_stats();
        let (starting, busiest) = self.background_lock_counts();
        let narenas = self.narenas();
        let allocate = |bytes: usize| self.core.shared.allocate_metadata(bytes, 64);
        let mut guard = self.core.snapshot.lock();
        let own = guard.counts();
        // Of no earlier moment than those of the picture before: counters never fall.
        let stats = self.stats();
        let snapshot = &mut *guard;
        (snapshot.stats, snapshot.background, snapshot.narenas) = (stats, background, narenas);
        for (counts, name) in snapshot.locks.iter_mut().zip(GLOBAL_LOCKS) {
            *counts = match name {
                "background_thread" => starting,
                "max_per_bg_thd" => busiest,
                "ctl" => own,
                prof => self.observer.lock_counts(prof),
            };
        }
        if let Some(merged) = snapshot.place(MERGED, &allocate) {
            merged.clear();
        }
        for index in 0..narenas as usize {
            let arena = self.core.arenas.get(index);
            let Some(place) = snapshot.place(index, &allocate) else { break };
            let place: *mut ArenaStats = place;
            // SAFETY: the place of this arena; that of all together is another one.
            let place = unsafe { &mut *place };
            match arena {
                Some(arena) => self.fill_arena_stats(arena, place),
                None => place.initialized = false,
            }
            if place.initialized
                && let Some(merged) = snapshot.place(MERGED, &allocate)
            {
                merged.merge(place);
            }
        }
        if let Some(merged) = snapshot.place(MERGED, &allocate) {
            merged.dss = self.default_dss(None);
            merged.dirty_decay_ms = self.default_decay_ms(crate::decay::Tier::Dirty);
            merged.muzzy_decay_ms = self.default_decay_ms(crate::decay::Tier::Muzzy);
            // Sums are those of the arenas as they are told, whatever happened since the totals were taken.
            let (active, metadata) = (merged.pactive << LG_PAGE, merged.base + merged.internal);
            snapshot.stats = Stats {
                allocated: stats.allocated.min(active),
                active,
                metadata,
                metadata_edata: merged.metadata_edata,
                metadata_rtree: merged.metadata_rtree,
                resident: merged.resident(),
                mapped: merged.mapped.saturating_sub(metadata),
                dirty: merged.pdirty << LG_PAGE,
                muzzy: merged.pmuzzy << LG_PAGE,
                retained: merged.retained,
                ..stats
            };
        }
        snapshot.epoch += 1;
        snapshot.epoch
    }

    /// Takes an arena that is destroyed out of the table, and its last numbers: every picture has them once.
    pub(crate) fn remove_arena(&'static self, arena: &Arena) {
        let allocate = |bytes: usize| self.core.shared.allocate_metadata(bytes, 64);
        let mut snapshot = self.core.snapshot.lock();
        if let Some(slot) = self.core.arenas.slot(arena.index()) {
            slot.store(null_mut(), Ordering::Release);
        }
        let Some(last) = snapshot.place(arena.index(), &allocate) else { return };
        self.fill_arena_stats(arena, last);
        last.initialized = false;
        let last: *const ArenaStats = last;
        if let Some(destroyed) = snapshot.place(DESTROYED, &allocate) {
            // SAFETY: the place of the arena; that of all destroyed ones is another one.
            destroyed.merge_history(unsafe { &*last });
        }
    }

    /// Has all locks count afresh.
    pub fn reset_lock_counts(&'static self) {
        self.reset_background_lock_counts();
        self.observer.reset_lock_counts();
        self.core.snapshot.reset_counts();
        self.core.threads.reset_counts();
        self.core.shared.base.reset_lock_counts();
        for arena in self.arenas() {
            arena.pages.reset_lock_counts();
            for class in 1..=NBINS {
                arena.bin(class).reset_lock_counts();
            }
        }
    }

    /// Active bytes of all arenas, now.
    pub fn active_now(&'static self) -> usize {
        self.ensure_booted();
        let arenas = self.arenas().filter(|arena| arena.index() != INTERNAL_ARENA);
        arenas.map(|arena| arena.pages.active_pages() << LG_PAGE).sum()
    }

    /// Calls `f` with each live thread's state.
    fn for_each_thread(&'static self, mut f: impl FnMut(*mut Thread)) {
        let threads = self.core.threads.lock();
        let mut thread = threads.first;
        while !thread.is_null() {
            f(thread);
            // SAFETY: the list holds live states, and its lock is held.
            thread = unsafe { (*thread).next };
        }
    }

    /// Totals. `allocated` comes from the threads' own counters and is exact when no thread allocates meanwhile.
    pub fn stats(&'static self) -> Stats {
        self.ensure_booted();
        let (mut released, mut absent) = (0, 0);
        let mut stats = Stats { tcache_bytes: self.explicit_cache_stats(&mut [0; NCLASSES + 1]), ..Stats::default() };
        let mut allocated = self.core.gone_allocated.load(Ordering::Relaxed);
        let mut deallocated = self.core.gone_deallocated.load(Ordering::Relaxed);
        // SAFETY: live states; counters are read as such.
        self.for_each_thread(|thread| unsafe {
            // Frees first: a block that moves from one sum to the other meanwhile must not make it negative.
            deallocated = deallocated.wrapping_add((*thread).deallocated());
            allocated = allocated.wrapping_add(read_counter(&raw mut (*thread).allocated));
            stats.tcache_bytes += (*thread).cached_bytes();
        });
        stats.allocated = allocated.wrapping_sub(deallocated).cast_signed().max(0) as usize;
        for arena in self.arenas() {
            let pages = arena.pages.stats();
            if arena.index() == INTERNAL_ARENA {
                stats.metadata += pages.active << LG_PAGE;
            } else {
                stats.active += pages.active << LG_PAGE;
                absent += arena.absent_bytes();
            }
            stats.dirty += pages.dirty << LG_PAGE;
            stats.muzzy += pages.muzzy << LG_PAGE;
            stats.pinned += pages.pinned << LG_PAGE;
            stats.mapped += pages.mapped_bytes;
            stats.retained += pages.retained << LG_PAGE;
            stats.metadata_edata += pages.descriptors * core::mem::size_of::<Extent>();
            released += pages.released_descriptor_bytes;
            stats.metadata_rtree += map_bytes(pages.mapped_bytes);
        }
        stats.active += self.core.guarded.active_bytes();
        stats.mapped += self.core.guarded.active_bytes();
        // Blocks that came and went between the two looks.
        stats.allocated = stats.allocated.min(stats.active);
        stats.metadata += self.core.shared.base.allocated().saturating_sub(released) + stats.metadata_rtree;
        stats.metadata_thp = self.core.shared.base.huge();
        stats.resident = (stats.active + stats.dirty + stats.pinned + stats.metadata).saturating_sub(absent);
        stats.zero_reallocs = self.zero_reallocs();
        stats
    }

    /// Numbers of an arena now; `false` while it doesn't exist.
    pub fn arena_stats(&'static self, index: u32, out: &mut ArenaStats) -> bool {
        let arena = self.core.arenas.get(index as usize);
        if let Some(arena) = arena {
            self.fill_arena_stats(arena, out);
        }
        arena.is_some()
    }

    pub(crate) fn fill_arena_stats(&'static self, arena: &Arena, out: &mut ArenaStats) {
        let pages = arena.pages.stats();
        let shared = &self.core.shared;
        out.clear();
        out.initialized = true;
        out.nthreads = arena.threads.load(Ordering::Relaxed);
        out.uptime_ns = sys::clock_coarse_ns().saturating_sub(arena.created_ns.load(Ordering::Relaxed));
        out.dss = arena.pages.dss();
        out.dirty_decay_ms = arena.pages.decay_ms(crate::decay::Tier::Dirty);
        out.muzzy_decay_ms = arena.pages.decay_ms(crate::decay::Tier::Muzzy);
        (out.pactive, out.pdirty, out.pmuzzy) = (pages.active, pages.dirty, pages.muzzy);
        out.mapped = pages.mapped_bytes;
        out.retained = pages.retained << LG_PAGE;
        out.pinned = pages.pinned << LG_PAGE;
        out.extent_avail = pages.unused_descriptors;
        out.abandoned_vm = pages.abandoned_bytes;
        out.dirty_npurge = pages.counts_dirty.npurge;
        out.dirty_nmadvise = pages.counts_dirty.nmadvise;
        out.dirty_purged = pages.counts_dirty.purged;
        out.muzzy_npurge = pages.counts_muzzy.npurge;
        out.muzzy_nmadvise = pages.counts_muzzy.nmadvise;
        out.muzzy_purged = pages.counts_muzzy.purged;
        out.metadata_edata = pages.descriptors * core::mem::size_of::<Extent>();
        out.metadata_rtree = map_bytes(pages.mapped_bytes);
        out.base = core::mem::size_of::<Arena>() + out.metadata_edata + out.metadata_rtree;
        if arena.index() == 0 {
            self.add_common(out);
        }
        out.mapped += out.base;
        for (i, bin) in out.bins.iter_mut().enumerate() {
            (bin.counts, bin.lock) = arena.bin(i + 1).counts();
        }
        out.large_allocated = arena.large.bytes.load(Ordering::Relaxed);
        for (out, counts) in out.large.iter_mut().zip(&arena.large.classes) {
            out.curlextents = counts.current();
            out.ndalloc = counts.ndalloc.load(Ordering::Relaxed);
            out.nmalloc = counts.nmalloc.load(Ordering::Relaxed);
            out.nrequests = counts.nrequests.load(Ordering::Relaxed);
            // As jemalloc has it: each block is a batch of its own.
            out.nfills = out.nmalloc;
            out.nflushes = counts.nflushes.load(Ordering::Relaxed);
        }
        self.add_untold(arena, out);
        arena.pages.free_extents(&mut out.extents);
        let locks = arena.pages.lock_counts();
        for (counts, name) in out.locks.iter_mut().zip(ARENA_LOCKS) {
            *counts = match name {
                // One lock has all of these.
                "extent_avail" | "extents_dirty" | "extents_muzzy" | "extents_pinned" => locks.extents,
                "extents_retained" => locks.growing,
                "decay_dirty" => locks.decay_dirty,
                "decay_muzzy" => locks.decay_muzzy,
                // All arenas share these two, which are told of the first.
                "base" if arena.index() == 0 => shared.base.lock_counts(),
                "tcache_list" if arena.index() == 0 => self.core.threads.counts(),
                _ => Counts::NONE,
            };
        }
    }

    /// Metadata that belongs to no arena, and the library's own blocks.
    fn add_common(&'static self, out: &mut ArenaStats) {
        let mut elsewhere = 0;
        for arena in self.arenas() {
            let pages = arena.pages.stats();
            let descriptors = pages.descriptors * core::mem::size_of::<Extent>();
            let own = core::mem::size_of::<Arena>() + descriptors + pages.released_descriptor_bytes;
            if arena.index() == INTERNAL_ARENA {
                let map = map_bytes(pages.mapped_bytes);
                out.internal = (pages.active + pages.dirty) << LG_PAGE;
                out.metadata_rtree += map;
                out.metadata_edata += descriptors;
                out.base += map;
                out.mapped += pages.mapped_bytes;
                elsewhere += pages.released_descriptor_bytes;
            } else {
                elsewhere += own;
            }
        }
        out.base += self.core.shared.base.allocated().saturating_sub(elsewhere);
        out.metadata_thp += self.core.shared.base.huge();
    }

    /// Requests that threads and caches have served and not told yet, and the bytes that they hold.
    fn add_untold(&'static self, arena: &Arena, out: &mut ArenaStats) {
        let mut requests = [0; NCLASSES + 1];
        if arena.index() == 0 {
            // A program's own cache belongs to no arena.
            out.tcache_bytes = self.explicit_cache_stats(&mut requests);
        }
        // SAFETY: live states; counters are read as such.
        self.for_each_thread(|thread| unsafe {
            if (*thread).arena.is_some_and(|bound| core::ptr::eq(bound, arena)) {
                for place in places() {
                    requests[size::class_at(place)] += (*thread).untold_by_anybody(place);
                }
                out.tcache_bytes += (*thread).cached_bytes();
            }
        });
        for (class, &untold) in requests.iter().enumerate().skip(1) {
            if class <= NBINS {
                out.bins[class - 1].counts.nrequests += untold;
            } else {
                out.large[size::large_index(size::class_bytes(class))].nrequests += untold;
            }
        }
    }
}

/// What the map from addresses to extents needs for so many mapped bytes: a pointer and a class byte for each page.
fn map_bytes(mapped: usize) -> usize {
    (mapped >> LG_PAGE) * (core::mem::size_of::<*mut Extent>() + 1)
}
