//! The page layer of an arena: extents cut out of mappings, reused, split, coalesced, and given back over time.
//!
//! Everything here lives under one lock by arena. The lock is dropped for system calls that take long and for a
//! program's hooks where that can be; extents on their way are in [`State::Transit`] meanwhile, so that no neighbour
//! merges with them. `space` has the free extents, `gather` and `relocate` move pages between them, `grow` has the sources
//! of memory, `free` active extents that become free, `row` slabs side by side, `resize` blocks that grow and shrink in
//! place, `ahead` what is backed before it is touched, `purge` the giving back, `hooks` a program's own sources, `whole`
//! what is done to an arena as a whole; `shared` is what all arenas share.

pub(crate) mod ahead;
pub mod cache;
mod descriptors;
mod dss;
mod free;
pub mod gather;
mod grow;
mod guards;
pub mod hooks;
mod numbers;
mod purge;
mod regret;
pub mod relocate;
mod resize;
mod row;
mod shared;
mod space;
mod span;
mod whole;

use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::conf::Options;
use crate::decay::{Decay, Tier};
use crate::extent::{Extent, LARGE, State, flag};
use crate::large::LargeBlock;
use crate::lock::{Guard, Mutex, Rank};
use crate::pagemap::large_byte;
use crate::size::{self, MAX_SIZE_CLASS};
use crate::sys::{LG_PAGE, PAGE};
use cache::Cache;
use descriptors::Descriptors;
use gather::{Gathered, Unbacked};
use hooks::{ExtentHooks, Hooks};
pub use numbers::{FreeByClass, FreeExtents, PageLocks, PageStats};
pub(crate) use purge::Target;
pub use shared::{Apart, Shared};

/// The decay time that nobody has chosen: then unused pages have a bound as well.
const DIRTY_MS_DEFAULT: i64 = Options::DEFAULT.dirty_decay_ms;

/// Counters of giving pages back, by tier.
#[derive(Clone, Copy, Debug, Default)]
pub struct PurgeCounts {
    /// Purge sweeps.
    pub npurge: u64,
    /// Extents given back, one system call each.
    pub nmadvise: u64,
    /// Pages given back.
    pub purged: u64,
}

#[derive(Debug)]
struct Inner {
    dirty: Cache,
    muzzy: Cache,
    retained: Cache,
    pinned: Cache,
    decay_dirty: Decay,
    decay_muzzy: Decay,
    counts_dirty: PurgeCounts,
    counts_muzzy: PurgeCounts,
    mapped_bytes: usize,
    active_pages: usize,
    descriptors: Descriptors,
    /// Dirty and active pages that the sums of `Shared` count for this arena.
    told_dirty: usize,
    told_active: usize,
    /// Bytes that were taken from this arena because the process has grown; see [`regret::Regret`].
    lent: usize,
    /// Bytes that the child of a fork has lost sight of, or that a move has torn.
    abandoned_bytes: usize,
}

// SAFETY: the raw pointers lead to descriptors of this arena, which the lock around `Inner` protects.
unsafe impl Send for Inner {}

/// What an arena's page layer is made with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The arena's index.
    pub arena: usize,
    /// Milliseconds until unused pages are given back; 0 at once, -1 never.
    pub dirty_ms: i64,
    /// Milliseconds of the second stage.
    pub muzzy_ms: i64,
    /// A program's hooks, or null.
    pub hooks: *mut ExtentHooks,
    /// Where `sbrk` stands: an index into [`crate::conf::DSS`].
    pub dss: usize,
    /// Whether all extents can be found, for arenas that are reset or destroyed.
    pub tracks: bool,
    /// Whether mappings ask for huge pages whatever `thp` says.
    pub huge_pages: bool,
}

/// The pages of one arena.
#[derive(Debug)]
pub struct Pages {
    arena: usize,
    is_odd: bool,
    inner: Mutex<Inner>,
    /// One thread grows the arena at a time.
    growing: Mutex<()>,
    /// One thread gives pages of a tier back at a time.
    decaying_dirty: Mutex<()>,
    decaying_muzzy: Mutex<()>,
    /// When the next decay epoch ends, read without the lock.
    deadline_ns: AtomicU64,
    /// Whether the next free of pages wakes the background thread that looks after this arena.
    rings: AtomicBool,
    /// Copies of the decay times, read without the lock.
    dirty_ms: AtomicI64,
    muzzy_ms: AtomicI64,
    hooks: AtomicPtr<ExtentHooks>,
    /// Whether the hooks have refused to have an extent cut: then no more is asked of them than is needed.
    refused_split: AtomicBool,
    /// Where `sbrk` stands: an index into [`crate::conf::DSS`].
    dss: AtomicU8,
    /// Extents of so many bytes are given back at once when they are freed.
    purge_from_bytes: AtomicUsize,
    /// Most bytes by which the arena grows beyond what is needed.
    grow_limit: AtomicUsize,
    /// Extents until the next one with guard pages: slabs, large blocks. Unused where there are to be none.
    until_guard: [AtomicUsize; 2],
    guard_every: [usize; 2],
    retain: bool,
    thp: grow::Thp,
    /// Bytes in use from which on the arena asks for huge pages as it grows.
    huge_from: usize,
    lg_max_fit: u32,
}

impl Pages {
    /// Makes a page layer with nothing mapped, in place. What is zero in it is not written: most of it is heaps of
    /// extents by size, of which an arena that is little used never touches more than a few.
    ///
    /// # Safety
    /// `place` is the caller's, and all its bytes are zero.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) unsafe fn begin(place: *mut Pages, settings: &Settings, options: &Options) {
        let guard_every = [options.san_guard_small, options.san_guard_large];
        // SAFETY: fields of the caller's place. Of the rest, zero is the value: caches without an extent, counters, and the
        // deadline.
        unsafe {
            let inner = Mutex::begin(&raw mut (*place).inner, Rank::Pages);
            (&raw mut (*inner).decay_dirty).write(Decay::new(settings.dirty_ms));
            (&raw mut (*inner).decay_muzzy).write(Decay::new(settings.muzzy_ms));
            (&raw mut (*inner).descriptors).write(Descriptors::new(settings.arena, settings.tracks));
            (&raw mut (*place).arena).write(settings.arena);
            // Where threads follow the processor from arena to arena, these are all alike.
            (&raw mut (*place).is_odd).write(settings.arena % 2 == 1 && options.percpu_arena.is(c"disabled"));
            Mutex::begin(&raw mut (*place).growing, Rank::Grow);
            Mutex::begin(&raw mut (*place).decaying_dirty, Rank::Decay);
            Mutex::begin(&raw mut (*place).decaying_muzzy, Rank::Decay);
            (&raw mut (*place).dirty_ms).write(AtomicI64::new(settings.dirty_ms));
            (&raw mut (*place).muzzy_ms).write(AtomicI64::new(settings.muzzy_ms));
            (&raw mut (*place).hooks).write(AtomicPtr::new(settings.hooks));
            (&raw mut (*place).dss).write(AtomicU8::new(settings.dss as u8));
            // Never: jemalloc gives extents of `oversize_threshold` back at once, and pays for it again and again.
            (&raw mut (*place).purge_from_bytes).write(AtomicUsize::new(MAX_SIZE_CLASS + PAGE));
            (&raw mut (*place).grow_limit).write(AtomicUsize::new(MAX_SIZE_CLASS));
            (&raw mut (*place).until_guard).write(guard_every.map(AtomicUsize::new));
            (&raw mut (*place).guard_every).write(guard_every);
            (&raw mut (*place).retain).write(options.retain);
            (&raw mut (*place).thp).write(grow::Thp::of(options, settings.huge_pages));
            (&raw mut (*place).huge_from).write(ahead::huge_from(options));
            (&raw mut (*place).lg_max_fit).write(options.lg_extent_max_active_fit.min(64) as u32);
        }
    }

    /// Whether slabs have the second places of their classes, by which threads tell the blocks of their own arena from half of
    /// all others.
    #[inline]
    pub(crate) fn is_odd(&self) -> bool {
        self.is_odd
    }

    fn hooks(&self) -> Option<Hooks> {
        // Acquire: pairs with the Release in `set_hooks`.
        let table = self.hooks.load(Ordering::Acquire);
        (!table.is_null()).then_some(Hooks { table, arena: self.arena as u32 })
    }

    /// Whether a program's hooks give the memory.
    pub fn has_hooks(&self) -> bool {
        !self.hooks.load(Ordering::Relaxed).is_null()
    }

    /// The table of hooks: a program's, or the default one.
    pub fn hooks_table(&self) -> *mut ExtentHooks {
        let table = self.hooks.load(Ordering::Relaxed);
        if table.is_null() { (&raw const hooks::DEFAULT).cast_mut() } else { table }
    }

    /// Sets the table of hooks; the default one or null mean none.
    pub fn set_hooks(&self, table: *mut ExtentHooks) {
        let is_default = core::ptr::eq(table, &raw const hooks::DEFAULT);
        self.refused_split.store(false, Ordering::Relaxed);
        self.hooks.store(if is_default { null_mut() } else { table }, Ordering::Release);
    }

    /// An active extent of `pages` pages aligned to `align` bytes, registered with class `class`: a slab class, or for a
    /// `large` block, which is counted in, a cached large class or [`LARGE`]. `zero`: what reads as zero is worth more than what
    /// is backed. Null when there is no memory.
    #[unsafe(link_section = "heapsift_text")]
    pub fn allocate(
        &self,
        shared: &Shared,
        pages: usize,
        align: usize,
        class: usize,
        large: Option<&LargeBlock<'_>>,
        zero: bool,
    ) -> *mut Extent {
        let align = align.max(PAGE);
        if self.guard_every[usize::from(large.is_some())] != 0
            && align == PAGE
            // A program's own memory may be anything; its protection is the program's.
            && !self.has_hooks()
            && let Some(extent) = self.allocate_guarded(shared, pages, class, large)
        {
            return extent;
        }
        let extent = self.obtain(shared, pages, align, large, zero, 0);
        if !extent.is_null() {
            // SAFETY: active now and known to this thread only.
            unsafe { self.register(shared, extent, class, large.is_none()) };
        }
        extent
    }

    /// Finds an extent or grows for it, and makes it active. Where there is to be a `row` of so many pages, it is the first
    /// slab of it: see [`Pages::lengthen`].
    #[unsafe(link_section = "heapsift_text")]
    fn obtain(
        &self,
        shared: &Shared,
        pages: usize,
        align: usize,
        large: Option<&LargeBlock<'_>>,
        zero: bool,
        row: usize,
    ) -> *mut Extent {
        let mut unbacked = Unbacked::NONE;
        let mut inner = self.inner.lock();
        let mut extent = self.find(&mut inner, shared, pages, align, zero, &mut unbacked);
        if extent.is_null() {
            drop(inner);
            (inner, extent) = self.find_or_grow(shared, pages, align, zero, &mut unbacked);
            if extent.is_null() {
                drop(inner);
                // No more memory from the OS. Unused extents of different states may be long enough together, or what goes with
                // their address space may make room for new memory; so does what goes of the page map.
                self.purge(shared);
                shared.map.narrow();
                (inner, extent) = self.find_or_grow(shared, pages, align, zero, &mut unbacked);
            }
            if extent.is_null() {
                return extent;
            }
        }
        let gathered =
            if unbacked.bytes() > 0 { self.gather(&mut inner, shared, &unbacked, zero) } else { Gathered::NONE };
        let mut more = 0;
        if row > 0 {
            // SAFETY: found just now. Memory that something lies behind is worth more than the place beside others.
            more = unsafe { self.lengthen(&mut inner, shared, extent, if unbacked.bytes() > 0 { row } else { 0 }) };
            unbacked.end += more << LG_PAGE;
        }
        // Not for large blocks: of many a buffer little is ever used.
        let ahead = if large.is_none() { self.ahead(&mut inner, shared, &unbacked) } else { None };
        inner.active_pages += pages + more;
        inner.tell(shared);
        if let Some(block) = large {
            block.came();
        }
        // SAFETY: a live descriptor that is in no cache, of this thread alone.
        unsafe {
            (*extent).set_state(State::Active);
            (*extent).set_sampled(false);
            let committed = (*extent).committed();
            if !gathered.is_empty() {
                (*extent).set_zeroed(false);
            }
            drop(inner);
            self.move_in(shared, &gathered);
            if let Some(ahead) = ahead {
                ahead.back();
            }
            if !committed {
                return self.commit(shared, extent, large);
            }
        }
        extent
    }

    fn find_or_grow(
        &self,
        shared: &Shared,
        pages: usize,
        align: usize,
        zero: bool,
        unbacked: &mut Unbacked,
    ) -> (Guard<'_, Inner>, *mut Extent) {
        let _growing = self.growing.lock();
        let mut inner = self.inner.lock();
        // Another thread may have grown the arena meanwhile.
        let extent = self.find(&mut inner, shared, pages, align, zero, unbacked);
        if !extent.is_null() {
            return (inner, extent);
        }
        let (inner, extent) = self.grow(inner, shared, pages, align);
        if !extent.is_null() {
            // SAFETY: this thread's.
            *unbacked = unsafe { Unbacked::whole(extent) };
        }
        (inner, extent)
    }

    /// Asks the program's hook for pages behind an active extent; null: there are none, and the extent is free again.
    #[cold]
    unsafe fn commit(&self, shared: &Shared, extent: *mut Extent, large: Option<&LargeBlock<'_>>) -> *mut Extent {
        // SAFETY: the caller's extent.
        unsafe {
            if self.hooks().is_some_and(|hooks| hooks.commit(extent)) {
                (*extent).set(flag::UNCOMMITTED, false);
                return extent;
            }
            let pages = (*extent).pages();
            let mut inner = self.inner.lock();
            inner.active_pages -= pages;
            if let Some(block) = large {
                block.went();
            }
            self.give(&mut inner, shared, extent, State::Retained);
        }
        null_mut()
    }

    /// Makes an active extent known to the page map.
    ///
    /// # Safety
    /// The extent is active and the caller's.
    unsafe fn register(&self, shared: &Shared, extent: *mut Extent, class: usize, slab: bool) {
        // SAFETY: the caller owns the extent.
        let (address, pages) = unsafe {
            (*extent).set_class(class);
            ((*extent).address(), (*extent).pages())
        };
        if slab {
            for page in 1..pages.saturating_sub(1) {
                shared.map.set_extent(address + page * PAGE, extent);
            }
            shared.map.set_class(address, pages, size::place(class, self.is_odd) as u8);
        } else if class != LARGE as usize {
            shared.map.set_class(address, 1, large_byte(class, false));
        }
    }

    /// Where `sbrk` stands among the sources of memory: an index into [`crate::conf::DSS`].
    pub fn dss(&self) -> usize {
        self.dss.load(Ordering::Relaxed).into()
    }

    /// Sets where `sbrk` stands.
    pub fn set_dss(&self, index: usize) {
        self.dss.store(index as u8, Ordering::Relaxed);
    }

    /// From how many bytes on extents are given back at once; and a new number.
    pub fn purge_from_bytes(&self, new: Option<usize>) -> usize {
        exchange(&self.purge_from_bytes, new)
    }

    /// By how many bytes the arena grows at most beyond what is needed; and a new number.
    pub fn grow_limit(&self, new: Option<usize>) -> usize {
        exchange(&self.grow_limit, new)
    }

    /// In the child of a fork.
    pub fn after_fork(&self) {
        dss::after_fork();
        self.rings.store(false, Ordering::Relaxed);
        for lock in [&self.growing, &self.decaying_dirty, &self.decaying_muzzy] {
            lock.after_fork(|()| {});
        }
        self.inner.after_fork(|inner| {
            let caches = [&mut inner.dirty, &mut inner.muzzy, &mut inner.retained, &mut inner.pinned];
            inner.abandoned_bytes += caches.iter().map(|cache| cache.pages() << LG_PAGE).sum::<usize>();
            caches.into_iter().for_each(Cache::abandon);
            inner.descriptors.abandon();
        });
    }
}

fn exchange(value: &AtomicUsize, new: Option<usize>) -> usize {
    match new {
        Some(new) => value.swap(new, Ordering::Relaxed),
        None => value.load(Ordering::Relaxed),
    }
}

fn tier_state(tier: Tier) -> State {
    match tier {
        Tier::Dirty => State::Dirty,
        Tier::Muzzy => State::Muzzy,
    }
}

impl Inner {
    fn cache(&mut self, state: State) -> &mut Cache {
        match state {
            State::Dirty => &mut self.dirty,
            State::Muzzy => &mut self.muzzy,
            State::Pinned => &mut self.pinned,
            _ => &mut self.retained,
        }
    }

    fn decay_of(&mut self, tier: Tier) -> &mut Decay {
        match tier {
            Tier::Dirty => &mut self.decay_dirty,
            Tier::Muzzy => &mut self.decay_muzzy,
        }
    }

    fn counts_of(&mut self, tier: Tier) -> &mut PurgeCounts {
        match tier {
            Tier::Dirty => &mut self.counts_dirty,
            Tier::Muzzy => &mut self.counts_muzzy,
        }
    }
}
