//! Giving unused pages back: by the decay curves, all at once, or right when they are freed.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::cache::LONG_PAGES;
use super::span::SPAN_PAGES;
use super::{DIRTY_MS_DEFAULT, Inner, Pages, Shared, ahead, descriptors, dss, tier_state};
use crate::decay::Tier;
use crate::extent::{Extent, State, flag};
use crate::large::LargeBlock;
use crate::lock::{Guard, Mutex};
use crate::sys::{self, Advice, LG_PAGE, PAGE};

/// Where an extent went that was to be given back.
enum Gone {
    /// It doesn't exist any more.
    Unmapped,
    /// The pages may be taken by the kernel.
    Muzzy,
    /// The address space is kept.
    Retained,
}

/// Unused backed bytes that a process may keep in any case; a quarter of what is active comes on top.
const BOUND_BYTES: usize = 16 << 20;

/// What unused backed pages are to come down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    bytes: usize,
    /// Bytes that may stay on top where they are single pages.
    scattered: usize,
}

impl Target {
    /// Unused bytes up to which so many pages that one call gives back are left alone. A heap that shrinks at random leaves
    /// single pages between blocks in use: each would take a call, and all of them few when their neighbours are free too.
    fn for_span_of(self, pages: usize) -> usize {
        self.bytes + self.scattered / LONG_PAGES * LONG_PAGES.saturating_sub(pages)
    }
}

impl Shared {
    /// What to come down to when the unused backed pages of all arenas are beyond their bound. There is one since a
    /// process that has gone idle makes no more calls by which time could be told: the curve alone would let it keep
    /// everything.
    #[inline]
    pub(crate) fn beyond_bound(&self) -> Option<Target> {
        // No bound is lower.
        if self.dirty_bytes.load(Ordering::Relaxed) <= BOUND_BYTES {
            return None;
        }
        let bound = self.strict_bound() + self.regret.allowed();
        // Without blocks in use there is nothing between which pages could be scattered.
        let scattered = bound.min(self.active_bytes.load(Ordering::Relaxed) / 2) / 2;
        let beyond = self.beyond(bound, scattered);
        if beyond.is_none() && self.regret.is_outgrown() { self.outgrown(scattered) } else { beyond }
    }

    /// What to come down to when the process has grown while it kept pages for a rhythm: those are of no use to it, be it that
    /// another arena has them, or that they lie in another place.
    #[cold]
    fn outgrown(&self, scattered: usize) -> Option<Target> {
        let (dirty, bound) = (self.dirty_bytes.load(Ordering::Relaxed), self.strict_bound());
        (dirty > bound).then(|| Target { bytes: dirty.saturating_sub(self.regret.outgrown()).max(bound), scattered })
    }

    /// Unused bytes that any process may keep.
    #[inline]
    pub(super) fn strict_bound(&self) -> usize {
        BOUND_BYTES + self.active_bytes.load(Ordering::Relaxed) / 4
    }

    /// As [`Shared::beyond_bound`], but without what a rhythm allows, nor what is scattered: for the end of the last thread
    /// but one, after which there may be nobody who makes another call. Where that happens again and again, it is a rhythm
    /// too.
    pub(crate) fn beyond_last_bound(&self) -> Option<Target> {
        self.beyond(self.strict_bound(), 0).filter(|_| !self.regret.is_used_to_ends())
    }

    /// How often the bound has taken pages of a heap that shrinks.
    pub(crate) fn shrinks(&self) -> usize {
        self.shrinks.load(Ordering::Relaxed)
    }

    #[inline]
    fn beyond(&self, bound: usize, scattered: usize) -> Option<Target> {
        let left = self.left_beyond.load(Ordering::Relaxed).min(scattered);
        let is_beyond = self.dirty_bytes.load(Ordering::Relaxed) > bound + left;
        is_beyond.then_some(Target { bytes: bound / 16 * 15, scattered })
    }
}

/// The least change of an arena's pages that is told, and what all arenas together may leave untold: 8 MiB.
pub(super) const MANY_PAGES_LEAST: usize = 16;
const UNTOLD_PAGES: usize = 2048;
const MANY_PAGES_MOST: usize = 256;

impl Shared {
    /// Says how many arenas there may be.
    pub(crate) fn note_arenas(&self, count: u32) {
        let many = (UNTOLD_PAGES / count.max(1) as usize).clamp(MANY_PAGES_LEAST, MANY_PAGES_MOST);
        self.many_pages.store(many, Ordering::Relaxed);
    }
}

impl Inner {
    /// Tells the sums over all arenas of the active and dirty pages that came or went since the last time, when they are
    /// many: all threads write those sums.
    #[inline]
    pub(super) fn tell(&mut self, shared: &Shared) {
        let many = shared.many_pages.load(Ordering::Relaxed);
        tell(&shared.dirty_bytes, &mut self.told_dirty, self.dirty.pages(), many);
        tell(&shared.active_bytes, &mut self.told_active, self.active_pages, many);
    }
}

#[inline]
fn tell(sum: &AtomicUsize, told: &mut usize, pages: usize, many: usize) {
    if pages.abs_diff(*told) >= many || (pages == 0 && *told != 0) {
        sum.fetch_add(pages.wrapping_sub(*told) << LG_PAGE, Ordering::Relaxed);
        *told = pages;
    }
}

impl Pages {
    /// Whether an epoch has ended by `now_ns`.
    #[inline]
    pub fn due(&self, now_ns: u64) -> bool {
        now_ns >= self.deadline_ns.load(Ordering::Relaxed)
    }

    /// Gives back what the curves say at `now_ns`.
    #[unsafe(link_section = "heapsift_text")]
    pub fn decay(&self, shared: &Shared, now_ns: u64) {
        for tier in [Tier::Dirty, Tier::Muzzy] {
            // Another thread may be at it.
            if let Some(_turn) = self.decaying(tier).try_lock() {
                self.purge_tier(shared, tier, Some(now_ns));
            }
        }
        let inner = self.inner.lock();
        let next = inner.decay_dirty.deadline_ns().min(inner.decay_muzzy.deadline_ns());
        self.deadline_ns.store(next, Ordering::Relaxed);
    }

    /// When a background thread is to look at the unused pages again; all ones: there are none that would go.
    pub fn next_look_ns(&self, now_ns: u64) -> u64 {
        let inner = self.inner.lock();
        let tiers = [(&inner.dirty, &inner.decay_dirty), (&inner.muzzy, &inner.decay_muzzy)];
        tiers.map(|(cache, decay)| decay.next_look_ns(now_ns, cache.pages())).into_iter().fold(u64::MAX, u64::min)
    }

    /// Gives back all unused pages.
    pub fn purge(&self, shared: &Shared) {
        for tier in [Tier::Dirty, Tier::Muzzy] {
            let _turn = self.decaying(tier).lock();
            self.purge_tier(shared, tier, None);
        }
    }

    /// Gives back what is beyond the bound on unused pages, as far as this arena has it.
    #[inline]
    pub(super) fn keep_bound(&self, shared: &Shared) {
        if let Some(target) = shared.beyond_bound() {
            self.trim(shared, target);
        }
    }

    /// Gives dirty pages of this arena back, long extents first, until all arenas together have no more than the target.
    #[cold]
    pub(crate) fn trim(&self, shared: &Shared, target: Target) {
        if self.dirty_ms.load(Ordering::Relaxed) != DIRTY_MS_DEFAULT {
            return;
        }
        // Another thread may be at it.
        let Some(_turn) = self.decaying(Tier::Dirty).try_lock() else { return };
        shared.regret.learn();
        let mut inner = self.inner.lock();
        inner.counts_dirty.npurge += 1;
        let before = inner.dirty.pages();
        while let Some((extent, excess)) = self.worth_a_call(&mut inner, shared, target) {
            inner = self.purge_one(inner, shared, Tier::Dirty, extent, excess, false);
            inner.tell(shared);
        }
        // In a program that wants the same pages again and again nothing shrinks.
        if inner.dirty.pages() < before && shared.regret.allowed() == 0 {
            shared.shrinks.fetch_add(1, Ordering::Relaxed);
        }
        let left = shared.dirty_bytes.load(Ordering::Relaxed).saturating_sub(target.bytes);
        shared.left_beyond.store(left, Ordering::Relaxed);
        let unused = inner.dirty.pages();
        inner.decay_dirty.purged_to(unused);
        inner.lent += shared.regret.note_taken(before.saturating_sub(unused) << LG_PAGE);
        drop(inner);
        self.release_descriptors();
    }

    /// The dirty extent to give back next until the target is reached, and how many pages may go with it.
    fn worth_a_call(&self, inner: &mut Inner, shared: &Shared, target: Target) -> Option<(*mut Extent, usize)> {
        let dirty_bytes = shared.dirty_bytes.load(Ordering::Relaxed);
        // What has lain there longest has had most time for its neighbours to be freed.
        [inner.dirty.worthiest(), inner.dirty.oldest()].into_iter().filter(|extent| !extent.is_null()).find_map(
            |extent| {
                // SAFETY: an extent in the cache, whose lock is held.
                let (pages, span) = unsafe { ((*extent).pages(), self.span_pages(inner, shared, extent, LONG_PAGES)) };
                let excess = dirty_bytes.saturating_sub(target.for_span_of(span)) >> LG_PAGE;
                // A short one goes as a whole: the rest would take a call too.
                let whole = if pages < LONG_PAGES { pages } else { 1 };
                (excess > 0).then_some((extent, excess.max(whole)))
            },
        )
    }

    /// Gives pages of descriptors back that extents needed which don't exist any more.
    #[unsafe(link_section = "heapsift_text")]
    fn release_descriptors(&self) {
        let mut inner = self.inner.lock();
        while let Some(page) = inner.descriptors.take_excess() {
            drop(inner);
            let done = descriptors::release_page(page);
            inner = self.inner.lock();
            if !done {
                return inner.descriptors.put_back(page);
            }
            // SAFETY: given back just now, and taken out of the set before.
            unsafe { inner.descriptors.note_released(page) };
        }
    }

    fn decaying(&self, tier: Tier) -> &Mutex<()> {
        match tier {
            Tier::Dirty => &self.decaying_dirty,
            Tier::Muzzy => &self.decaying_muzzy,
        }
    }

    #[unsafe(link_section = "heapsift_text")]
    fn purge_tier(&self, shared: &Shared, tier: Tier, now_ns: Option<u64>) {
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
        inner.tell(shared);
        drop(inner);
        self.release_descriptors();
    }

    /// Gives back up to `excess` pages of `extent`, and of what one system call gives back with it; the lock is dropped
    /// for that call.
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
            let (extent, pages) = if tier == Tier::Dirty && !lazily && !self.has_hooks() {
                let (whole, pages) = self.join_span(&mut inner, shared, extent, excess.min(SPAN_PAGES));
                (self.join_backed(&mut inner, shared, whole), pages)
            } else {
                (extent, (*extent).pages())
            };
            drop(inner);
            let gone = self.let_go(shared, extent, lazily);
            let mut inner = self.inner.lock();
            let counts = inner.counts_of(tier);
            counts.nmadvise += 1;
            counts.purged += pages as u64;
            self.put_away(&mut inner, shared, extent, gone);
            inner
        }
    }

    /// Gives an extent back right when it is freed.
    ///
    /// # Safety
    /// The extent is active no more, registered by its boundaries only, and the caller's; `pages` of it were active.
    #[cold]
    pub(super) unsafe fn deallocate_to_os(
        &self,
        shared: &Shared,
        extent: *mut Extent,
        pages: usize,
        large: Option<&LargeBlock<'_>>,
    ) {
        // SAFETY: the caller gives up the extent.
        unsafe {
            (*extent).set_state(State::Transit);
            let bytes = (*extent).bytes();
            let gone = self.let_go(shared, extent, false);
            let mut inner = self.inner.lock();
            inner.active_pages -= pages;
            if let Some(block) = large {
                block.went();
            }
            inner.tell(shared);
            inner.counts_dirty.nmadvise += 1;
            inner.counts_dirty.purged += (bytes >> LG_PAGE) as u64;
            self.put_away(&mut inner, shared, extent, gone);
        }
    }

    /// Gives the pages of an extent back, with its address space where that is possible and wanted.
    ///
    /// # Safety
    /// The extent is in transit and the caller's; its contents are given up. The lock is not held.
    unsafe fn let_go(&self, shared: &Shared, extent: *mut Extent, lazily: bool) -> Gone {
        // SAFETY: the caller's promise.
        unsafe {
            let (address, bytes) = ((*extent).address(), (*extent).bytes());
            let Some(hooks) = self.hooks() else {
                if lazily && sys::advise(address, bytes, Advice::Free).is_ok() {
                    return Gone::Muzzy;
                }
                if !self.retain && !dss::has(address) {
                    self.forget_boundaries(shared, extent);
                    if sys::unmap(address, bytes).is_ok() {
                        return Gone::Unmapped;
                    }
                    self.set_boundaries(shared, extent);
                }
                ahead::split(address, bytes);
                let done = sys::advise(address, bytes, Advice::DontNeed).is_ok();
                // Where that failed the pages stay as they are, still good for reuse from the last cache.
                (*extent).set_zeroed(done && sys::dont_need_clears());
                return Gone::Retained;
            };
            let committed = (*extent).committed();
            if lazily && hooks.purge_lazy(extent) {
                return Gone::Muzzy;
            }
            self.forget_boundaries(shared, extent);
            if hooks.dalloc(address, bytes, committed) {
                return Gone::Unmapped;
            }
            self.set_boundaries(shared, extent);
            if !committed {
                return Gone::Retained;
            }
            if hooks.decommit(extent) {
                (*extent).set(flag::UNCOMMITTED, true);
                (*extent).set_zeroed(true);
            } else {
                let purged = hooks.purge_forced(extent);
                (*extent).set_zeroed(purged);
                if !purged && !lazily {
                    hooks.purge_lazy(extent);
                }
            }
            Gone::Retained
        }
    }

    /// Before the address space goes: from then on another arena may register what comes there.
    unsafe fn forget_boundaries(&self, shared: &Shared, extent: *mut Extent) {
        // SAFETY: the caller owns the extent.
        unsafe {
            shared.map.set_extent((*extent).address(), null_mut());
            shared.map.set_extent((*extent).end() - PAGE, null_mut());
        }
    }

    unsafe fn put_away(&self, inner: &mut Inner, shared: &Shared, extent: *mut Extent, gone: Gone) {
        // SAFETY: the caller hands over the extent, which is in no cache.
        unsafe {
            match gone {
                Gone::Unmapped => {
                    inner.mapped_bytes -= (*extent).bytes();
                    inner.descriptors.put(extent);
                }
                Gone::Muzzy => self.give(inner, shared, extent, State::Muzzy),
                Gone::Retained => self.give(inner, shared, extent, State::Retained),
            }
        }
    }

    /// Gives all free extents up, with their address space: the arena is destroyed.
    pub(super) fn unmap_all(&self, shared: &Shared) {
        for state in [State::Retained, State::Pinned] {
            self.unmap_cache(shared, state, |address, bytes, committed| {
                // SAFETY: what is free is nobody's.
                unsafe {
                    match self.hooks() {
                        Some(hooks) => hooks.destroy(address, bytes, committed),
                        // What can't be unmapped is lost.
                        None if dss::has(address) => {
                            let _ = sys::advise(address, bytes, Advice::DontNeed);
                        }
                        None => {
                            let _ = sys::unmap(address, bytes);
                        }
                    }
                }
                true
            });
        }
    }

    /// Gives free extents of a cache up, the longest first, as long as `unmap` says that it has: it gets an address, bytes, and
    /// whether there are pages behind them. The lock is not held meanwhile.
    pub(super) fn unmap_cache(&self, shared: &Shared, state: State, mut unmap: impl FnMut(usize, usize, bool) -> bool) {
        let mut inner = self.inner.lock();
        loop {
            let Some(extent) = inner.cache(state).largest().next() else { break };
            // SAFETY: the extent is in that cache, whose lock is held; in transit nobody else touches it.
            unsafe {
                inner.cache(state).remove(extent);
                self.forget_boundaries(shared, extent);
                drop(inner);
                let is_gone = unmap((*extent).address(), (*extent).bytes(), (*extent).committed());
                if !is_gone {
                    self.set_boundaries(shared, extent);
                }
                inner = self.inner.lock();
                self.put_away(&mut inner, shared, extent, if is_gone { Gone::Unmapped } else { Gone::Retained });
                if !is_gone {
                    break;
                }
            }
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
        self.ring_if_asked(shared);
    }
}
