//! An arena: independent bins and pages. Threads are spread over arenas so that they rarely meet at a lock.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::bin::{Bin, EmptySlabs, Visit};
use crate::conf::Options;
use crate::extent::{Extent, State};
use crate::large::LargeBlocks;
use crate::lock::{Mutex, Rank};
use crate::pagemap::large_byte;
use crate::pages::relocate::Relocated;
use crate::pages::{Pages, Settings, Shared};
use crate::size::{self, NBINS};
use crate::sparse::Sparse;
use crate::sys::{self, PAGE};
use crate::wrong::{Kind, Wrong};

/// Largest index of an arena, exclusive (jemalloc's limit).
pub const ARENAS_MAX: usize = 4095;

/// An arena.
#[derive(Debug)]
pub struct Arena {
    index: usize,
    bins: [Bin; NBINS],
    /// The page layer.
    pub pages: Pages,
    /// Threads bound to the arena.
    pub threads: AtomicU32,
    /// Large blocks.
    pub large: LargeBlocks,
    /// When the arena was made.
    pub created_ns: AtomicU64,
    name: Mutex<[u8; NAME_BYTES]>,
    /// When the clock was last looked at, in ticks of the processor.
    looked_at: AtomicU64,
    /// Which other arena is looked at next by whoever works on this one; see [`ArenaTable::tick`].
    next: AtomicUsize,
    /// Who gives back pages inside of slabs.
    pub(crate) sparse: Sparse,
    /// The next one in the list of destroyed arenas.
    pub(crate) next_destroyed: AtomicPtr<Arena>,
}

/// Processor ticks between two looks at the clock: less than half a millisecond.
const CLOCK_TICKS: u64 = 1 << 20;
/// Where nobody has looked at the clock for so many ticks, about a tenth of a second, others look after the arena.
const LEFT_ALONE_TICKS: u64 = 1 << 28;
/// Indices that are asked for another arena at once.
const INDICES: usize = 16;

/// Bytes of an arena's name, the zero byte included.
pub const NAME_BYTES: usize = 32;

impl Arena {
    /// Makes an arena in metadata memory; `None`: no memory.
    #[unsafe(link_section = "heapsift_text")]
    pub fn create(settings: &Settings, shared: &Shared, options: &Options) -> Option<&'static Arena> {
        let memory = shared.allocate_metadata(core::mem::size_of::<Arena>(), 64)?.cast::<Arena>();
        // SAFETY: fresh memory of the right size and alignment, all zeros, which is never given back. Of what isn't written,
        // zero is the value: counters, the name, and the next arena in a list.
        unsafe {
            (&raw mut (*memory).index).write(settings.arena);
            for bin in 0..NBINS {
                Bin::begin(&raw mut (*memory).bins[bin]);
            }
            Pages::begin(&raw mut (*memory).pages, settings, options);
            (&raw mut (*memory).created_ns).write(AtomicU64::new(sys::clock_coarse_ns()));
            Mutex::begin(&raw mut (*memory).name, Rank::Base);
            (&raw mut (*memory).sparse).write(Sparse::new());
            let arena = &*memory;
            arena.appear(shared);
            Some(arena)
        }
    }

    /// The background thread that is to look after the arena may be asleep.
    fn appear(&self, shared: &Shared) {
        if shared.alarm.is_on() {
            self.pages.have_alarm_rung();
        }
    }

    /// Makes a destroyed arena a new one.
    pub(crate) fn revive(&self, settings: &Settings, shared: &Shared) {
        for bin in &self.bins {
            bin.restart();
        }
        self.pages.restart(settings);
        self.large.clear();
        self.created_ns.store(sys::clock_coarse_ns(), Ordering::Relaxed);
        *self.name.lock() = [0; NAME_BYTES];
        self.appear(shared);
    }

    /// The name that a program gave, zero padded; all zeros: none.
    pub fn name(&self) -> [u8; NAME_BYTES] {
        *self.name.lock()
    }

    /// Gives the arena a name, cut to what there is room for.
    pub fn set_name(&self, name: &[u8]) {
        let length = name.len().min(NAME_BYTES - 1);
        let mut bytes = [0; NAME_BYTES];
        bytes[..length].copy_from_slice(&name[..length]);
        *self.name.lock() = bytes;
    }

    /// The arena's number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The bin of class `class` (from 1).
    #[inline]
    pub fn bin(&self, class: usize) -> &Bin {
        &self.bins[class - 1]
    }

    /// Takes up to `want` blocks of a cached class; returns how many, 0 when there is no memory.
    ///
    /// # Safety
    /// `out` has room for `want` pointers; `class` is in `1..=NCLASSES`.
    #[unsafe(link_section = "heapsift_text")]
    pub unsafe fn fill(&self, class: usize, shared: &Shared, out: *mut *mut u8, want: usize, visit: Visit) -> usize {
        if class <= NBINS {
            // SAFETY: the caller provides the room.
            return unsafe { self.bin(class).fill(class, &self.pages, shared, out, want, visit) };
        }
        let bytes = size::class_bytes(class);
        let extent = self.allocate_large(shared, bytes, PAGE, class, visit, false);
        if extent.is_null() {
            return 0;
        }
        // SAFETY: a live active extent; room for at least one pointer.
        unsafe { *out = core::ptr::with_exposed_provenance_mut((*extent).address()) };
        1
    }

    /// Gives the empty slabs back that bins keep for their next request.
    pub(crate) fn give_back_empty_slabs(&self, shared: &Shared) {
        let mut empty = EmptySlabs::new();
        for class in 1..=NBINS {
            self.bin(class).give_up_current(class, &mut empty);
        }
        empty.release(&self.pages, shared);
    }

    /// Puts back those of `blocks` that belong to this arena, the others move to the front; returns how many are left.
    ///
    /// # Safety
    /// The blocks are of class `class`, in use, and nobody uses them any more.
    pub unsafe fn flush(
        &self,
        class: usize,
        shared: &Shared,
        blocks: *mut *mut u8,
        count: usize,
        visit: Visit,
    ) -> usize {
        if class <= NBINS {
            let mut empty = EmptySlabs::new();
            // SAFETY: the caller hands over the blocks.
            let left = unsafe { self.bin(class).flush(class, self.index, shared, blocks, count, &mut empty, visit) };
            empty.release(&self.pages, shared);
            return left;
        }
        let bytes = size::class_bytes(class);
        // What the cache has to tell is told with the first block.
        let (mut visit, mut left) = (visit, 0);
        for i in 0..count {
            // SAFETY: the caller passes `count` live blocks, each the start of an extent; what a wrong free has put among
            // them is found here. Descriptors are never unmapped, and these fields are atomic.
            unsafe {
                let block = *blocks.add(i);
                let extent = shared.map.extent(block.addr());
                let is_whole = !extent.is_null()
                    && (*extent).state() == State::Active
                    && (*extent).class() == class
                    && (*extent).address() == block.addr();
                if !is_whole {
                    Wrong::new(block.addr(), Kind::Free(bytes)).tell(b"free");
                } else if (*extent).arena() == self.index {
                    self.pages.deallocate(shared, extent, Some(&self.large.of(bytes, visit)));
                    visit = Visit::FREE;
                } else {
                    *blocks.add(left) = block;
                    left += 1;
                }
            }
        }
        if visit.by_cache {
            self.pages.locked(|| self.large.of(bytes, visit).flushed());
        }
        left
    }

    /// Counts requests of a cached class that a cache has served.
    pub fn count_requests(&self, class: usize, requests: u64) {
        if class <= NBINS {
            self.bin(class).count_requests(requests);
        } else {
            let visit = Visit { requests, by_cache: false };
            self.pages.locked(|| self.large.of(size::class_bytes(class), visit).flushed());
        }
    }

    /// A large extent of `bytes` (whole pages). `class`: a cached large class, or 0; `zero`: it is to read as zero, if that
    /// costs nothing. Null: no memory.
    #[unsafe(link_section = "heapsift_text")]
    pub fn allocate_large(
        &self,
        shared: &Shared,
        bytes: usize,
        align: usize,
        class: usize,
        visit: Visit,
        zero: bool,
    ) -> *mut Extent {
        self.pages.allocate(shared, bytes / PAGE, align, class, Some(&self.large.of(bytes, visit)), zero)
    }

    /// Takes back a large extent.
    ///
    /// # Safety
    /// The extent is active, large, of this arena, and nobody uses its memory any more.
    pub unsafe fn deallocate_large(&self, shared: &Shared, extent: *mut Extent) {
        // SAFETY: the caller gives up the extent.
        unsafe {
            self.pages.deallocate(shared, extent, Some(&self.large.of((*extent).bytes(), Visit::FREE)));
        }
    }

    /// Changes the length of a large extent in place. Returns whether the pages that came on (if any) read as zero;
    /// `None`: not possible.
    ///
    /// # Safety
    /// The extent is active, large, of this arena, and the caller's; when it shrinks, nobody uses its end any more.
    pub unsafe fn resize_large(&self, shared: &Shared, extent: *mut Extent, bytes: usize, zero: bool) -> Option<bool> {
        // SAFETY: the caller owns the extent.
        unsafe {
            let before = (*extent).bytes();
            let zeroed = if bytes < before {
                if !self.pages.shrink(shared, extent, bytes / PAGE) {
                    return None;
                }
                false
            } else {
                self.pages.expand(shared, extent, bytes / PAGE, zero)?
            };
            self.pages.locked(|| {
                self.large.of(bytes, Visit::REQUEST).came();
                self.large.of(before, Visit::FREE).went();
            });
            let class = size::large_class(bytes);
            (*extent).set_class(class);
            let is_sampled = (*extent).samples.load(Ordering::Relaxed) > 0;
            shared.map.set_class((*extent).address(), 1, large_byte(class, is_sampled));
            Some(zeroed)
        }
    }

    /// A large extent of `bytes` that begins with what is in `extent`, which stays until [`Arena::deallocate_hollow`].
    /// `None`: not possible.
    ///
    /// # Safety
    /// The extent is active, large, of any arena without hooks, shorter, and the caller's.
    pub unsafe fn relocate_large(&self, shared: &Shared, extent: *mut Extent, bytes: usize) -> Option<Relocated> {
        let block = self.large.of(bytes, Visit::REQUEST);
        // SAFETY: the caller owns the extent.
        unsafe { self.pages.relocate(shared, extent, bytes / PAGE, size::large_class(bytes), &block) }
    }

    /// Takes back a large extent that was relocated.
    ///
    /// # Safety
    /// As [`Arena::deallocate_large`]; `relocated` is what [`Arena::relocate_large`] said of the extent.
    pub unsafe fn deallocate_hollow(&self, shared: &Shared, extent: *mut Extent, relocated: &Relocated) {
        // SAFETY: the caller gives up the extent.
        unsafe {
            self.pages.deallocate_hollow(shared, extent, relocated, &self.large.of((*extent).bytes(), Visit::FREE));
        }
    }

    /// Whether the clock was looked at less than so long ago, at `now` in ticks of the processor.
    fn was_looked_at(&self, now: u64, ticks: u64) -> bool {
        now.wrapping_sub(self.looked_at.load(Ordering::Relaxed)) < ticks
    }

    /// Gives pages back when an epoch of the decay has ended.
    fn give_back_due(&self, shared: &Shared, now_ns: u64) {
        self.give_back_idle_pages(now_ns, true);
        if self.pages.due(now_ns) {
            self.pages.decay(shared, now_ns);
        }
    }

    /// In the child of a fork.
    pub fn after_fork(&self) {
        for bin in &self.bins {
            bin.after_fork();
        }
        self.pages.after_fork();
        self.sparse.after_fork();
        self.name.after_fork(|_| {});
        self.threads.store(0, Ordering::Relaxed);
    }
}

/// The arenas by index, and after them the one of the library itself. Mapped at boot; arenas are never unmapped once
/// they are in it.
#[derive(Debug)]
pub(crate) struct ArenaTable {
    slots: AtomicPtr<[AtomicPtr<Arena>; ARENAS_MAX + 1]>,
    /// All arenas but the library's own have indices below this.
    bound: AtomicUsize,
}

impl ArenaTable {
    pub(crate) const fn new() -> Self {
        ArenaTable { slots: AtomicPtr::new(null_mut()), bound: AtomicUsize::new(0) }
    }

    /// Maps the table. Without memory for it there is no arena; whoever wants one tries again.
    pub(crate) fn boot(&self) {
        let bytes = (ARENAS_MAX + 1) * core::mem::size_of::<*mut Arena>();
        let Ok(address) = sys::map(bytes, true) else { return };
        let slots = core::ptr::with_exposed_provenance_mut(address);
        // Release: pairs with the Acquire in `slots`.
        if self.slots.compare_exchange(null_mut(), slots, Ordering::Release, Ordering::Relaxed).is_err() {
            // SAFETY: mapped just now, and nobody has seen it: another thread was faster.
            let _ = unsafe { sys::unmap(address, bytes) };
        }
    }

    /// Whether there is a table; maps it where that failed before.
    pub(crate) fn is_there(&self) -> bool {
        if self.slots().is_empty() {
            self.boot();
        }
        !self.slots().is_empty()
    }

    /// The first address and the end of the table.
    pub(crate) fn range(&self) -> (usize, usize) {
        let slots = self.slots().as_ptr_range();
        (slots.start.addr(), slots.end.addr())
    }

    /// All slots; none before the boot.
    pub(crate) fn slots(&self) -> &[AtomicPtr<Arena>] {
        let slots = self.slots.load(Ordering::Acquire);
        // SAFETY: the table reads as zeros, null pointers, and is never unmapped.
        if slots.is_null() { &[] } else { unsafe { &*slots } }
    }

    /// The slot of an index; `None`: out of range.
    #[inline]
    pub(crate) fn slot(&self, index: usize) -> Option<&AtomicPtr<Arena>> {
        self.slots().get(index)
    }

    /// Arena `index`, if it has been made.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&'static Arena> {
        // Acquire: pairs with the Release of whoever put the arena there.
        let arena = self.slot(index)?.load(Ordering::Acquire);
        // SAFETY: arenas are never unmapped once they are in the table.
        if arena.is_null() { None } else { Some(unsafe { &*arena }) }
    }

    /// Has due pages of an arena that is worked on given back, unless background threads do that; and those of another one.
    /// An arena whose threads sleep or have ended, or that of oversize requests, would keep what is unused for as long as
    /// the process works elsewhere.
    pub(crate) fn tick(&self, arena: &Arena, shared: &Shared) {
        if shared.alarm.is_on() {
            return;
        }
        // The clock takes a system call, and moves on each millisecond or less often.
        let ticks = sys::ticks();
        if arena.was_looked_at(ticks, CLOCK_TICKS) {
            return;
        }
        arena.looked_at.store(ticks, Ordering::Relaxed);
        let now_ns = sys::clock_coarse_ns();
        arena.give_back_due(shared, now_ns);
        if let Some(other) = self.next_after(arena)
            && !other.was_looked_at(ticks, LEFT_ALONE_TICKS)
            // A program's hooks are called by those who use the arena.
            && !other.pages.has_hooks()
        {
            other.give_back_due(shared, now_ns);
        }
    }

    /// Another arena than the one that is worked on: each in its turn. `None`: there are none among the next few indices.
    fn next_after(&self, arena: &Arena) -> Option<&'static Arena> {
        (0..INDICES).find_map(|_| {
            // Relaxed, and no exchange: threads that come at once may look at the same one.
            let (next, bound) = (arena.next.load(Ordering::Relaxed), self.bound.load(Ordering::Relaxed));
            arena.next.store(if next < bound { next + 1 } else { 0 }, Ordering::Relaxed);
            if next < bound { self.get(next).filter(|other| other.index != arena.index) } else { None }
        })
    }

    /// To be called before an arena is put in the slot of `index`.
    pub(crate) fn expect(&self, index: usize) {
        if index < ARENAS_MAX {
            // Release: pairs with the Acquire in `iter`.
            self.bound.fetch_max(index + 1, Ordering::Release);
        }
    }

    /// All arenas that there are.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static Arena> {
        // Acquire: whoever knows of an arena finds it.
        let bound = self.bound.load(Ordering::Acquire);
        (0..bound).chain(core::iter::once(ARENAS_MAX)).filter_map(|index| self.get(index))
    }
}
