//! What a program may ask of the heap and change in it while it runs.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::arena::{Arena, NAME_BYTES};
use crate::decay::{Decay, Tier};
use crate::extent::{Extent, State};
use crate::heap::{Heap, INTERNAL_ARENA};
use crate::message::Decimal;
use crate::observer::Observer;
use crate::pages::hooks::{self, ExtentHooks};
use crate::size;
use crate::sys;
use crate::thread::Kind;
use crate::tls;

/// Which arenas an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArenaSelection {
    /// That one.
    One(u32),
    /// All of them.
    All,
}

/// The counter of threads that have none.
static NO_THREAD: AtomicU64 = AtomicU64::new(0);

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

    /// The number of the arena that has the memory at `address`; 0: it isn't the heap's.
    #[inline]
    pub fn arena_at(&'static self, address: usize) -> usize {
        let extent = self.core.shared.map.extent(address);
        // SAFETY: descriptors are never unmapped, and the arena's number is atomic.
        unsafe { extent.as_ref() }.map_or(0, Extent::arena)
    }

    pub(crate) fn arenas(&'static self) -> impl Iterator<Item = &'static Arena> {
        self.core.arenas.iter()
    }

    /// Counts a `realloc(ptr, 0)`.
    pub fn count_zero_realloc(&'static self) {
        self.core.zero_reallocs.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn zero_reallocs(&'static self) -> usize {
        self.core.zero_reallocs.load(Ordering::Relaxed)
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
            arena.give_back_empty_slabs(&self.core.shared);
            arena.give_back_all_idle_pages();
            arena.pages.purge(&self.core.shared);
        }
    }

    /// Gives back what the decay curves say now.
    pub fn arena_decay(&'static self, which: ArenaSelection) {
        let now_ns = sys::clock_monotonic_ns();
        for arena in self.selected(which) {
            arena.give_back_empty_slabs(&self.core.shared);
            arena.pages.decay(&self.core.shared, now_ns);
        }
    }

    /// The decay time of an arena's tier in milliseconds; `None` while the arena doesn't exist.
    pub fn arena_decay_ms(&'static self, index: u32, tier: Tier) -> Option<i64> {
        self.selected(ArenaSelection::One(index)).next().map(|arena| arena.pages.decay_ms(tier))
    }

    /// Sets it; `false`: no such arena, or the value is below -1 or above [`Decay::MS_MAX`].
    pub fn set_arena_decay_ms(&'static self, index: u32, tier: Tier, ms: i64) -> bool {
        if !(-1..=Decay::MS_MAX).contains(&ms) {
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

    /// Sets the decay time of arenas to come; `false`: the value is below -1 or above [`Decay::MS_MAX`].
    pub fn set_default_decay_ms(&'static self, tier: Tier, ms: i64) -> bool {
        if !(-1..=Decay::MS_MAX).contains(&ms) {
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

    /// Whether `percpu_arena` binds threads to arena `index`, so that nobody else may.
    pub fn is_cpu_arena(&'static self, index: u32) -> bool {
        self.narenas_auto();
        index < self.core.counts.by_cpu()
    }

    /// Binds the calling thread to an arena; `false`: it can't be made, or there is no such one.
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

    /// Bytes that the calling thread has allocated and freed so far; 0 while it has no state of its own.
    pub fn thread_counts(&'static self) -> (u64, u64) {
        let thread = self.thread();
        // SAFETY: the calling thread's state.
        unsafe { if (*thread).kind == Kind::Live { ((*thread).allocated, (*thread).deallocated()) } else { (0, 0) } }
    }

    /// Where the calling thread counts its allocated bytes; valid while the thread lives.
    pub fn thread_allocated_counter(&'static self) -> *mut u64 {
        let thread = self.thread();
        // SAFETY: the calling thread's state.
        unsafe { if (*thread).kind == Kind::Live { &raw mut (*thread).allocated } else { NO_THREAD.as_ptr() } }
    }

    /// Where the calling thread counts its freed bytes; valid while the thread lives. Its frees are slower from here on.
    pub fn thread_deallocated_counter(&'static self) -> *mut u64 {
        let thread = self.thread();
        // SAFETY: the calling thread's state.
        unsafe { if (*thread).kind == Kind::Live { (*thread).freed_counter() } else { NO_THREAD.as_ptr() } }
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
            // Where everything is checked, nothing is cached.
            let on = on && !self.options().safety_check;
            if (*thread).kind != Kind::Live || (*thread).caching == on {
                return;
            }
            self.flush_all(thread);
            if !on {
                // What the thread had set for its caches goes with them.
                let _threads = self.core.threads.lock();
                (*thread).drop_own_limits(self.options());
            }
            (*thread).set_caching(on);
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

    /// The calling thread will be idle: its cache is emptied, and where there are arenas enough for it to have one nearly
    /// to itself, that gives back what is due.
    pub fn thread_idle(&'static self) {
        self.thread_tcache_flush();
        // SAFETY: the calling thread's state.
        let arena = unsafe { (*self.thread()).arena };
        if let Some(arena) = arena
            && self.narenas_auto() > 2 * sys::affinity_cpus()
        {
            arena.pages.purge(&self.core.shared);
        }
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

/// How full the extent of a block is, for programs that move blocks together (`experimental.utilization`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utilization {
    /// The slab that the bin takes blocks from now.
    pub current_slab: usize,
    /// Free blocks of the extent.
    pub free: usize,
    /// Blocks of the extent.
    pub blocks: usize,
    /// Bytes of the extent.
    pub bytes: usize,
    /// Free blocks of all slabs of the bin.
    pub bin_free: usize,
    /// Blocks of all slabs of the bin.
    pub bin_blocks: usize,
}

impl<O: Observer> Heap<O> {
    fn block_extent(&'static self, ptr: *const u8) -> *const Extent {
        let extent = self.core.shared.map.extent(ptr.addr());
        // SAFETY: descriptors are never unmapped, and the state is atomic.
        let active = !extent.is_null() && unsafe { (*extent).state() } == State::Active;
        if active { extent } else { core::ptr::null() }
    }

    /// The arena that a block in use belongs to; `None` for anything else.
    pub fn block_arena(&'static self, ptr: *const u8) -> Option<u32> {
        // SAFETY: descriptors are never unmapped, and the arena is atomic.
        unsafe { self.block_extent(ptr).as_ref() }.map(|extent| extent.arena() as u32)
    }

    /// The extent of this heap that begins at `address`: its end, what it is, and whether it is the library's own; `None`
    /// where none begins.
    pub fn extent_at(&'static self, address: usize) -> Option<(usize, State, bool)> {
        let extent = self.core.shared.map.extent(address);
        // SAFETY: descriptors are never unmapped, and these fields are atomic.
        let extent = unsafe { extent.as_ref() }.filter(|extent| extent.address() == address && extent.bytes() > 0)?;
        Some((extent.end(), extent.state(), extent.arena() == INTERNAL_ARENA))
    }

    /// Where the heap's own descriptors, thread states and tables are: first addresses and ends of ranges, of which much
    /// was never touched. Without the blocks that [`Heap::extent_at`] calls the library's own.
    pub fn metadata_ranges(&'static self) -> impl Iterator<Item = (usize, usize)> {
        let shared = &self.core.shared;
        shared.base.blocks().chain(shared.map.ranges()).chain(core::iter::once(self.core.arenas.range()))
    }

    /// How full the extent of a block is; nothing for what is no block in use.
    pub fn utilization(&'static self, ptr: *const u8) -> Utilization {
        let extent = self.block_extent(ptr);
        if extent.is_null() {
            return Utilization::default();
        }
        // SAFETY: the extent is active, and stays so as long as the caller has the block.
        unsafe {
            let bytes = (*extent).bytes();
            let class = (*extent).class();
            if !(*extent).is_slab() {
                return Utilization { blocks: 1, bytes, ..Utilization::default() };
            }
            let blocks = size::regions(class);
            let (free, current_slab, counts) = self.arena_of(extent).bin(class).fullness(extent);
            let bin_blocks = counts.curslabs * blocks;
            let bin_free = bin_blocks.saturating_sub(counts.curregs);
            Utilization { current_slab, free, blocks, bytes, bin_free, bin_blocks }
        }
    }

    /// The address of an arena's number of active pages, for ever in place; `None` while the arena doesn't exist.
    pub fn active_pages_counter(&'static self, index: u32) -> Option<*const usize> {
        self.core.arenas.get(index as usize).map(|arena| arena.pages.active_pages_counter())
    }

    /// The table of hooks of an arena, which may be the default one; `None`: out of range.
    pub fn arena_hooks(&'static self, index: u32) -> Option<*mut ExtentHooks> {
        match self.core.arenas.get(index as usize) {
            Some(arena) => Some(arena.pages.hooks_table()),
            // An arena that will be made when it is needed.
            None if !self.is_made(index as usize) && index < self.narenas() => Some(DEFAULT_HOOKS),
            None => None,
        }
    }

    /// Sets the table of hooks of an arena, which is made if need be; `false`: it can't be.
    pub fn set_arena_hooks(&'static self, index: u32, table: *mut ExtentHooks) -> bool {
        let arena = if index < self.narenas() { self.arena(index as usize) } else { None };
        if let Some(arena) = arena {
            arena.pages.set_hooks(table);
        }
        arena.is_some()
    }

    /// Where `sbrk` stands for an arena: an index into [`crate::conf::DSS`]; and a new place.
    pub fn arena_dss(&'static self, index: u32, new: Option<usize>) -> Option<usize> {
        let arena = self.core.arenas.get(index as usize)?;
        let before = arena.pages.dss();
        if let Some(new) = new {
            arena.pages.set_dss(new);
        }
        Some(before)
    }

    /// Locks of a bin of class `class`.
    pub fn bin_shards(&'static self, _class: usize) -> u32 {
        1
    }

    /// Where `sbrk` stands for arenas to come; and a new place.
    pub fn default_dss(&'static self, new: Option<usize>) -> usize {
        self.ensure_booted();
        match new {
            Some(new) => self.core.default_dss.swap(new, Ordering::Relaxed),
            None => self.core.default_dss.load(Ordering::Relaxed),
        }
    }

    /// From how many bytes on an arena's extents are given back at once; and a new number.
    pub fn arena_purge_from_bytes(&'static self, index: u32, new: Option<usize>) -> Option<usize> {
        Some(self.core.arenas.get(index as usize)?.pages.purge_from_bytes(new))
    }

    /// By how many bytes an arena grows at most beyond what is needed; and a new number.
    pub fn arena_grow_limit(&'static self, index: u32, new: Option<usize>) -> Option<usize> {
        Some(self.core.arenas.get(index as usize)?.pages.grow_limit(new))
    }

    /// An arena's name, zero terminated: the program's, or what it is.
    pub fn arena_name(&'static self, index: u32) -> Option<[u8; NAME_BYTES]> {
        let arena = self.core.arenas.get(index as usize)?;
        let name = arena.name();
        if name[0] != 0 {
            return Some(name);
        }
        let number = Decimal::new(index.into());
        let (kind, number): (&[u8], &[u8]) = if self.is_oversize_arena(index as usize) {
            (b"auto_oversize", b"")
        } else if self.is_made(index as usize) {
            (b"manual_", number.as_bytes())
        } else {
            (b"auto_", number.as_bytes())
        };
        let mut name = [0; NAME_BYTES];
        name[..kind.len()].copy_from_slice(kind);
        name[kind.len()..][..number.len()].copy_from_slice(number);
        Some(name)
    }

    /// Gives an arena a name; `false`: there is no such arena.
    pub fn set_arena_name(&'static self, index: u32, name: &[u8]) -> bool {
        let arena = self.core.arenas.get(index as usize);
        if let Some(arena) = arena {
            arena.set_name(name);
        }
        arena.is_some()
    }

    /// Memory for the heap's own tables, for ever.
    pub fn allocate_metadata(&'static self, bytes: usize) -> Option<*mut u8> {
        self.core.shared.allocate_metadata(bytes, 64)
    }
}

const DEFAULT_HOOKS: *mut ExtentHooks = (&raw const hooks::DEFAULT).cast_mut();
