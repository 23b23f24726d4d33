//! The page layer of an arena: extents cut out of mappings, reused, split, coalesced, and given back over time.
//!
//! Everything here lives under one lock by arena. The lock is dropped for system calls that take long (`madvise`);
//! extents on their way are in [`State::Transit`] meanwhile, so that no neighbour merges with them.

pub mod cache;

use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use crate::base::Base;
use crate::decay::{Decay, Tier};
use crate::extent::{Extent, LARGE, State};
use crate::lock::{Guard, Mutex, Rank};
use crate::pagemap::PageMap;
use crate::sys::{self, Advice, LG_PAGE, PAGE};
use cache::Cache;

/// The first mapping of an arena, in bytes; later ones grow by an eighth of what the arena has mapped.
const GROW_BYTES_MIN: usize = 2 << 20;
const GROW_BYTES_MAX: usize = 1 << 30;
/// Descriptors taken from the metadata allocator at a time.
const DESCRIPTOR_BATCH: usize = 32;

/// What all arenas of a heap share.
#[derive(Debug)]
pub struct Shared {
    /// Metadata.
    pub base: Base,
    /// From addresses to extents.
    pub map: PageMap,
    /// Age of the next mapping.
    serial: AtomicU64,
    /// Bytes of active extents over all arenas, and the most they have been.
    pub active_bytes: AtomicUsize,
    /// Highest value of `active_bytes` seen while somebody wanted to know.
    pub active_bytes_max: AtomicUsize,
}

impl Shared {
    /// Nothing mapped yet.
    pub const fn new() -> Self {
        Shared {
            base: Base::new(),
            map: PageMap::new(),
            serial: AtomicU64::new(0),
            active_bytes: AtomicUsize::new(0),
            active_bytes_max: AtomicUsize::new(0),
        }
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

/// Counters of giving pages back, by tier.
#[derive(Clone, Copy, Debug, Default)]
pub struct PurgeCounts {
    /// Purge sweeps.
    pub npurge: u64,
    /// `madvise` calls.
    pub nmadvise: u64,
    /// Pages given back.
    pub purged: u64,
}

#[derive(Debug)]
struct Inner {
    dirty: Cache,
    muzzy: Cache,
    retained: Cache,
    decay_dirty: Decay,
    decay_muzzy: Decay,
    counts_dirty: PurgeCounts,
    counts_muzzy: PurgeCounts,
    unused_descriptors: *mut Extent,
    mapped_bytes: usize,
    active_pages: usize,
    descriptors: usize,
}

// SAFETY: the raw pointers lead to descriptors of this arena, which the lock around `Inner` protects.
unsafe impl Send for Inner {}

/// The pages of one arena.
#[derive(Debug)]
pub struct Pages {
    arena: usize,
    inner: Mutex<Inner>,
    /// When the next decay epoch ends, read without the lock.
    deadline_ns: AtomicU64,
    /// Copies of the decay times, read without the lock.
    dirty_ms: AtomicI64,
    muzzy_ms: AtomicI64,
    purging: AtomicBool,
    retain: bool,
    lg_max_fit: u32,
}

/// A picture of the page layer's numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageStats {
    /// Pages in use by slabs and large blocks.
    pub active: usize,
    /// Unused pages, backed.
    pub dirty: usize,
    /// Unused pages, lazily given away.
    pub muzzy: usize,
    /// Address space without pages.
    pub retained: usize,
    /// Bytes mapped, without the retained ones.
    pub mapped_bytes: usize,
    /// Descriptors ever made.
    pub descriptors: usize,
    /// Purge counters.
    pub counts_dirty: PurgeCounts,
    /// Purge counters.
    pub counts_muzzy: PurgeCounts,
}

impl Pages {
    /// The page layer of arena `arena`, with nothing mapped.
    pub const fn new(arena: usize, dirty_ms: i64, muzzy_ms: i64, retain: bool, lg_max_fit: u32) -> Self {
        Pages {
            arena,
            inner: Mutex::new(
                Rank::Pages,
                Inner {
                    dirty: Cache::new(),
                    muzzy: Cache::new(),
                    retained: Cache::new(),
                    decay_dirty: Decay::new(dirty_ms),
                    decay_muzzy: Decay::new(muzzy_ms),
                    counts_dirty: PurgeCounts { npurge: 0, nmadvise: 0, purged: 0 },
                    counts_muzzy: PurgeCounts { npurge: 0, nmadvise: 0, purged: 0 },
                    unused_descriptors: null_mut(),
                    mapped_bytes: 0,
                    active_pages: 0,
                    descriptors: 0,
                },
            ),
            deadline_ns: AtomicU64::new(0),
            dirty_ms: AtomicI64::new(dirty_ms),
            muzzy_ms: AtomicI64::new(muzzy_ms),
            purging: AtomicBool::new(false),
            retain,
            lg_max_fit,
        }
    }

    /// An active extent of `pages` pages aligned to `align` bytes, registered with class `class` (a slab class, a
    /// cached large class, or [`LARGE`]). Null when there is no memory.
    pub fn allocate(&self, shared: &Shared, pages: usize, align: usize, class: usize, slab: bool) -> *mut Extent {
        let mut inner = self.inner.lock();
        let extent = self.find(&mut inner, shared, pages, align);
        if extent.is_null() {
            return extent;
        }
        inner.active_pages += pages;
        // SAFETY: `find` returns a live descriptor that is in no cache.
        unsafe {
            (*extent).set_state(State::Active);
            (*extent).set_class(class);
            (*extent).samples.store(0, Ordering::Relaxed);
        }
        drop(inner);
        shared.active_bytes.fetch_add(pages << LG_PAGE, Ordering::Relaxed);
        // SAFETY: active now and known to this thread only.
        unsafe { self.register(shared, extent, class, slab) };
        extent
    }

    /// Makes an active extent known to the page map.
    ///
    /// # Safety
    /// The extent is active and the caller's.
    unsafe fn register(&self, shared: &Shared, extent: *mut Extent, class: usize, slab: bool) {
        // SAFETY: the caller owns the extent.
        let (address, pages) = unsafe { ((*extent).address(), (*extent).pages()) };
        if slab {
            for page in 1..pages.saturating_sub(1) {
                shared.map.set_extent(address + page * PAGE, extent);
            }
            shared.map.set_class(address, pages, class as u8);
        } else if class != LARGE as usize {
            shared.map.set_class(address, 1, class as u8);
        }
    }

    /// Finds, splits and takes out of its cache an extent.
    fn find(&self, inner: &mut Inner, shared: &Shared, pages: usize, align: usize) -> *mut Extent {
        // An aligned start is within `align - PAGE` bytes of any page-aligned one.
        let Some(slack) = align.checked_sub(PAGE) else { return self.find(inner, shared, pages, PAGE) };
        let Some(wanted) = pages.checked_add(slack >> LG_PAGE) else { return null_mut() };
        if wanted > 1 << 35 {
            return null_mut();
        }
        for state in [State::Dirty, State::Muzzy, State::Retained] {
            let lg_max_fit = if state == State::Retained { u32::MAX } else { self.lg_max_fit };
            let found = inner.cache(state).first_fit(wanted, lg_max_fit);
            if !found.is_null() {
                // SAFETY: the extent is in that cache.
                unsafe {
                    inner.cache(state).remove(found);
                    return self.carve(inner, shared, found, pages, align, state);
                }
            }
        }
        self.grow(inner, shared, wanted, pages, align)
    }

    /// Cuts `pages` pages at an aligned address out of a free extent; what is left in front and behind goes (back) to
    /// the cache of `state`.
    ///
    /// # Safety
    /// `extent` is free, in no cache, large enough for any alignment slack.
    unsafe fn carve(
        &self,
        inner: &mut Inner,
        shared: &Shared,
        extent: *mut Extent,
        pages: usize,
        align: usize,
        state: State,
    ) -> *mut Extent {
        // SAFETY: the caller hands over the extent.
        unsafe {
            let start = (*extent).address();
            let aligned = (start + align - 1) & !(align - 1);
            let mut taken = extent;
            if aligned > start {
                taken = self.split(inner, shared, extent, (aligned - start) >> LG_PAGE);
                if taken.is_null() {
                    self.give(inner, shared, extent, state);
                    return null_mut();
                }
                self.give(inner, shared, extent, state);
            }
            if (*taken).pages() > pages {
                let rest = self.split(inner, shared, taken, pages);
                if rest.is_null() {
                    self.give(inner, shared, taken, state);
                    return null_mut();
                }
                self.give(inner, shared, rest, state);
            }
            taken
        }
    }

    /// Maps new memory and takes an extent of it.
    fn grow(&self, inner: &mut Inner, shared: &Shared, wanted: usize, pages: usize, align: usize) -> *mut Extent {
        let wanted_bytes = wanted << LG_PAGE;
        let step = ((inner.mapped_bytes / 8) & !(GROW_BYTES_MIN - 1)).clamp(GROW_BYTES_MIN, GROW_BYTES_MAX);
        let mut bytes = if self.retain && wanted_bytes < step { step } else { wanted_bytes };
        let address = match sys::map(bytes, true) {
            Ok(address) => address,
            Err(_) if bytes > wanted_bytes => {
                bytes = wanted_bytes;
                match sys::map(bytes, true) {
                    Ok(address) => address,
                    Err(_) => return null_mut(),
                }
            }
            Err(_) => return null_mut(),
        };
        let extent = self.descriptor(inner, shared);
        if extent.is_null() || !shared.map.prepare(address, bytes) {
            // SAFETY: mapped just now, and nobody has seen it.
            let _ = unsafe { sys::unmap(address, bytes) };
            // SAFETY: the descriptor (if there is one) is unused.
            unsafe { inner.drop_descriptor(extent) };
            return null_mut();
        }
        inner.mapped_bytes += bytes;
        // SAFETY: a fresh descriptor for a fresh mapping.
        unsafe {
            (*extent).set_range(address, bytes);
            (*extent).serial = shared.serial.fetch_add(1, Ordering::Relaxed);
            (*extent).set_zeroed(true);
            (*extent).set_state(State::Transit);
            self.set_boundaries(shared, extent);
            self.carve(inner, shared, extent, pages, align, State::Retained)
        }
    }

    /// An unused descriptor, null when there is no memory.
    fn descriptor(&self, inner: &mut Inner, shared: &Shared) -> *mut Extent {
        if inner.unused_descriptors.is_null() {
            let size = core::mem::size_of::<Extent>();
            let Some(batch) = shared.base.allocate(size * DESCRIPTOR_BATCH, size) else { return null_mut() };
            let batch = batch.cast::<Extent>();
            inner.descriptors += DESCRIPTOR_BATCH;
            // Highest first, so that the lowest is handed out first.
            for i in (0..DESCRIPTOR_BATCH).rev() {
                // SAFETY: zeroed memory of the right size and alignment; all fields are valid when zero.
                unsafe {
                    let extent = batch.add(i);
                    (*extent).set_arena(self.arena);
                    inner.drop_descriptor(extent);
                }
            }
        }
        let extent = inner.unused_descriptors;
        // SAFETY: the list holds unused descriptors, linked by `child`.
        unsafe { inner.unused_descriptors = (*extent).links.child };
        extent
    }

    /// Cuts a free extent in two; returns the second part (in no cache), null when there is no descriptor for it.
    ///
    /// # Safety
    /// `extent` is the caller's, in no cache, longer than `pages`.
    unsafe fn split(&self, inner: &mut Inner, shared: &Shared, extent: *mut Extent, pages: usize) -> *mut Extent {
        let rest = self.descriptor(inner, shared);
        if rest.is_null() {
            return rest;
        }
        // SAFETY: the caller owns `extent`, `rest` is fresh.
        unsafe {
            let (address, bytes) = ((*extent).address(), (*extent).bytes());
            let first = pages << LG_PAGE;
            debug_assert!(first < bytes);
            (*rest).set_range(address + first, bytes - first);
            (*rest).serial = (*extent).serial;
            (*rest).set_zeroed((*extent).zeroed());
            (*rest).set_state(State::Transit);
            (*extent).set_range(address, first);
            self.set_boundaries(shared, extent);
            self.set_boundaries(shared, rest);
        }
        rest
    }

    /// Registers the first and the last page of an extent.
    ///
    /// # Safety
    /// The extent is the caller's.
    unsafe fn set_boundaries(&self, shared: &Shared, extent: *mut Extent) {
        // SAFETY: the caller owns the extent.
        unsafe {
            shared.map.set_extent((*extent).address(), extent);
            shared.map.set_extent((*extent).end() - PAGE, extent);
        }
    }

    /// Puts a free extent in the cache of `state`, merged with its free neighbours of that cache.
    ///
    /// # Safety
    /// The extent is the caller's, in no cache, its boundaries are registered.
    unsafe fn give(&self, inner: &mut Inner, shared: &Shared, extent: *mut Extent, state: State) {
        // SAFETY: the caller hands over the extent; neighbours are checked before they are touched.
        unsafe {
            let mut whole = extent;
            let before = shared.map.extent((*whole).address().wrapping_sub(PAGE));
            if self.mergeable(inner, before, state) && (*before).end() == (*whole).address() {
                inner.cache(state).remove(before);
                self.merge(inner, shared, before, whole);
                whole = before;
            }
            let after = shared.map.extent((*whole).end());
            if self.mergeable(inner, after, state) && (*after).address() == (*whole).end() {
                inner.cache(state).remove(after);
                self.merge(inner, shared, whole, after);
            }
            (*whole).set_state(state);
            inner.cache(state).insert(whole);
        }
    }

    /// Whether a neighbour lies in this arena's cache of `state`.
    fn mergeable(&self, inner: &mut Inner, neighbour: *mut Extent, state: State) -> bool {
        // SAFETY: descriptors are never unmapped, arena and state are atomic. If both match, the lock held here
        // protects the rest.
        !neighbour.is_null()
            && unsafe {
                (*neighbour).arena() == self.arena
                    && (*neighbour).state() == state
                    && (*neighbour).generation == inner.cache(state).generation
            }
    }

    /// Makes two adjacent extents one, `low`.
    ///
    /// # Safety
    /// Both are free, in no cache, and adjacent.
    unsafe fn merge(&self, inner: &mut Inner, shared: &Shared, low: *mut Extent, high: *mut Extent) {
        // SAFETY: the caller owns both.
        unsafe {
            // Inner boundaries must not lead to a descriptor that no longer covers them.
            shared.map.set_extent((*low).end() - PAGE, null_mut());
            shared.map.set_extent((*high).address(), null_mut());
            (*low).set_range((*low).address(), (*low).bytes() + (*high).bytes());
            (*low).serial = (*low).serial.min((*high).serial);
            (*low).set_zeroed((*low).zeroed() && (*high).zeroed());
            self.set_boundaries(shared, low);
            inner.drop_descriptor(high);
        }
    }

    /// Takes back an active extent.
    ///
    /// # Safety
    /// The extent is active, of this arena, and nobody uses its memory any more.
    pub unsafe fn deallocate(&self, shared: &Shared, extent: *mut Extent, slab: bool) {
        // SAFETY: the caller gives up the extent.
        let pages = unsafe {
            let (address, pages) = ((*extent).address(), (*extent).pages());
            if slab {
                for page in 1..pages.saturating_sub(1) {
                    shared.map.set_extent(address + page * PAGE, null_mut());
                }
                shared.map.set_class(address, pages, 0);
            } else if (*extent).class() != LARGE as usize || (*extent).samples.load(Ordering::Relaxed) > 0 {
                shared.map.set_class(address, 1, 0);
            }
            (*extent).set_zeroed(false);
            pages
        };
        shared.active_bytes.fetch_sub(pages << LG_PAGE, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        inner.active_pages -= pages;
        // SAFETY: as above; the state changes under the lock.
        unsafe { self.give(&mut inner, shared, extent, State::Dirty) };
        drop(inner);
        if self.dirty_ms.load(Ordering::Relaxed) == 0 {
            self.decay(shared, sys::clock_coarse_ns());
        }
    }

    /// Cuts the end off an active large extent.
    ///
    /// # Safety
    /// The extent is the caller's, active, no slab, longer than `pages`; nobody uses the pages after.
    pub unsafe fn shrink(&self, shared: &Shared, extent: *mut Extent, pages: usize) -> bool {
        let mut inner = self.inner.lock();
        // SAFETY: the caller owns the extent.
        unsafe {
            let cut = (*extent).pages() - pages;
            let rest = self.split(&mut inner, shared, extent, pages);
            if rest.is_null() {
                return false;
            }
            (*rest).set_zeroed(false);
            inner.active_pages -= cut;
            shared.active_bytes.fetch_sub(cut << LG_PAGE, Ordering::Relaxed);
            self.give(&mut inner, shared, rest, State::Dirty);
        }
        true
    }

    /// Lets an active large extent grow in place to `pages`, if the neighbour behind it is free and long enough.
    /// Returns whether it did, and whether the new pages read as zero.
    ///
    /// # Safety
    /// The extent is the caller's, active, no slab, shorter than `pages`.
    pub unsafe fn expand(&self, shared: &Shared, extent: *mut Extent, pages: usize) -> Option<bool> {
        let mut inner = self.inner.lock();
        // SAFETY: the caller owns the extent; the neighbour is checked before it is touched.
        unsafe {
            let more = pages - (*extent).pages();
            let after = shared.map.extent((*extent).end());
            let state = [State::Dirty, State::Muzzy, State::Retained]
                .into_iter()
                .find(|&state| self.mergeable(&mut inner, after, state))?;
            if (*after).address() != (*extent).end() || (*after).pages() < more {
                return None;
            }
            inner.cache(state).remove(after);
            if (*after).pages() > more {
                let rest = self.split(&mut inner, shared, after, more);
                if rest.is_null() {
                    self.give(&mut inner, shared, after, state);
                    return None;
                }
                self.give(&mut inner, shared, rest, state);
            }
            let zeroed = (*after).zeroed();
            self.merge(&mut inner, shared, extent, after);
            inner.active_pages += more;
            shared.active_bytes.fetch_add(more << LG_PAGE, Ordering::Relaxed);
            Some(zeroed)
        }
    }

    /// Whether an epoch has ended by `now_ns`.
    #[inline]
    pub fn due(&self, now_ns: u64) -> bool {
        now_ns >= self.deadline_ns.load(Ordering::Relaxed)
    }

    /// Gives back what the curves say at `now_ns`.
    pub fn decay(&self, shared: &Shared, now_ns: u64) {
        self.purge_tier(shared, Tier::Dirty, Some(now_ns));
        self.purge_tier(shared, Tier::Muzzy, Some(now_ns));
        let mut inner = self.inner.lock();
        let next = inner.decay_dirty.deadline_ns().min(inner.decay_muzzy.deadline_ns());
        let _ = &mut inner;
        self.deadline_ns.store(next, Ordering::Relaxed);
    }

    /// Gives back all unused pages.
    pub fn purge(&self, shared: &Shared) {
        self.purge_tier(shared, Tier::Dirty, None);
        self.purge_tier(shared, Tier::Muzzy, None);
    }

    fn purge_tier(&self, shared: &Shared, tier: Tier, now_ns: Option<u64>) {
        if self.purging.swap(true, Ordering::Acquire) {
            // Another thread is at it.
            return;
        }
        let mut inner = self.inner.lock();
        let unused = inner.cache(tier_state(tier)).pages();
        let limit = match now_ns {
            Some(now_ns) => inner.decay_of(tier).limit(now_ns, unused),
            None => 0,
        };
        if unused > limit {
            inner.counts_of(tier).npurge += 1;
        }
        // Straight to the OS, unless dirty pages have a second stage before them.
        let lazily = tier == Tier::Dirty && now_ns.is_some() && inner.decay_muzzy.ms != 0;
        loop {
            let unused = inner.cache(tier_state(tier)).pages();
            let extent = inner.cache(tier_state(tier)).oldest();
            if unused <= limit || extent.is_null() {
                break;
            }
            inner = self.purge_one(inner, shared, tier, extent, unused - limit, lazily);
        }
        let unused = inner.cache(tier_state(tier)).pages();
        inner.decay_of(tier).purged_to(unused);
        drop(inner);
        self.purging.store(false, Ordering::Release);
    }

    /// Gives back up to `excess` pages of `extent`; the lock is dropped for the system call.
    fn purge_one<'a>(
        &'a self,
        mut inner: Guard<'a, Inner>,
        shared: &Shared,
        tier: Tier,
        extent: *mut Extent,
        excess: usize,
        lazily: bool,
    ) -> Guard<'a, Inner> {
        let state = tier_state(tier);
        // SAFETY: the extent is in the cache of `state`, whose lock is held; in transit nobody else touches it.
        unsafe {
            inner.cache(state).remove(extent);
            if (*extent).pages() > excess {
                let rest = self.split(&mut inner, shared, extent, excess);
                if !rest.is_null() {
                    self.give(&mut inner, shared, rest, state);
                }
            }
            let (address, bytes) = ((*extent).address(), (*extent).bytes());
            drop(inner);
            let advice = if lazily { Advice::Free } else { Advice::DontNeed };
            let done = sys::advise(address, bytes, advice).is_ok();
            let mut inner = self.inner.lock();
            let counts = inner.counts_of(tier);
            counts.nmadvise += 1;
            counts.purged += (bytes >> LG_PAGE) as u64;
            if !done {
                // The pages stay backed, so they aren't zero; they are still good for reuse from the last cache.
                (*extent).set_zeroed(false);
                self.give(&mut inner, shared, extent, State::Retained);
            } else if lazily {
                self.give(&mut inner, shared, extent, State::Muzzy);
            } else {
                (*extent).set_zeroed(true);
                self.give(&mut inner, shared, extent, State::Retained);
            }
            inner
        }
    }

    /// The decay time of a tier, in milliseconds.
    pub fn decay_ms(&self, tier: Tier) -> i64 {
        match tier {
            Tier::Dirty => self.dirty_ms.load(Ordering::Relaxed),
            Tier::Muzzy => self.muzzy_ms.load(Ordering::Relaxed),
        }
    }

    /// Sets the decay time of a tier.
    pub fn set_decay_ms(&self, shared: &Shared, tier: Tier, ms: i64) {
        let now_ns = sys::clock_monotonic_ns();
        let mut inner = self.inner.lock();
        inner.decay_of(tier).reset(ms, now_ns);
        match tier {
            Tier::Dirty => self.dirty_ms.store(ms, Ordering::Relaxed),
            Tier::Muzzy => self.muzzy_ms.store(ms, Ordering::Relaxed),
        }
        drop(inner);
        self.decay(shared, now_ns);
    }

    /// The numbers as they are now.
    pub fn stats(&self) -> PageStats {
        let inner = self.inner.lock();
        let retained = inner.retained.pages();
        PageStats {
            active: inner.active_pages,
            dirty: inner.dirty.pages(),
            muzzy: inner.muzzy.pages(),
            retained,
            mapped_bytes: inner.mapped_bytes.saturating_sub(retained << LG_PAGE),
            descriptors: inner.descriptors,
            counts_dirty: inner.counts_dirty,
            counts_muzzy: inner.counts_muzzy,
        }
    }

    /// In the child of a fork.
    pub fn after_fork(&self) {
        self.purging.store(false, Ordering::Relaxed);
        self.inner.after_fork(|inner| {
            inner.dirty.abandon();
            inner.muzzy.abandon();
            inner.retained.abandon();
            inner.unused_descriptors = null_mut();
        });
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

    /// Puts a descriptor on the list of unused ones.
    ///
    /// # Safety
    /// Null, or a descriptor of this arena that describes nothing any more.
    unsafe fn drop_descriptor(&mut self, extent: *mut Extent) {
        if extent.is_null() {
            return;
        }
        // SAFETY: the caller gives up the descriptor.
        unsafe {
            (*extent).set_state(State::Unused);
            (*extent).set_class(LARGE as usize);
            (*extent).links.child = self.unused_descriptors;
        }
        self.unused_descriptors = extent;
    }
}
