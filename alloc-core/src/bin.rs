//! The slabs of one size class in one arena: regions go out to thread caches in batches and come back the same way.
//!
//! A slab's free regions are a bitmap in its descriptor. Regions are taken from the current slab, lowest first; when it
//! is full, from the lowest slab that has free ones. An empty slab goes back to the page layer.

mod batch;
mod counts;

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use crate::extent::{Extent, Identity, State};
use crate::lock::{Mutex, Rank};
use crate::pagemap::FLAG;
use crate::pages::{Pages, Shared};
use crate::pairing::PairingHeap;
use crate::size;
use crate::sparse;
use crate::sys;
use crate::wrong::{self, Kind, Wrong};

use batch::{Batch, Shape, Stop};
pub use counts::{BinCounts, Visit};

/// So many blocks of a batch are asked of memory before they are needed.
const AHEAD: usize = 16;
/// A class with so many slabs gets several at once, side by side: those that are not used yet are few beside the others.
const ROWS_FROM: usize = 64;

/// What a bin's lock protects.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Inner {
    current: *mut Extent,
    pub(crate) nonfull: PairingHeap,
    /// Slabs of an older generation were in a bin that a fork dropped; see [`Bin::after_fork`].
    generation: u16,
    pub(crate) counts: BinCounts,
}

// SAFETY: the raw pointers lead to slabs of this bin, which the lock around `Inner` protects.
unsafe impl Send for Inner {}

/// A bin.
#[derive(Debug)]
pub struct Bin {
    pub(crate) inner: Mutex<Inner>,
}

/// Slabs that became empty, linked through their descriptors, to go back to the page layer without the bin's lock.
#[derive(Debug)]
pub struct EmptySlabs {
    first: *mut Extent,
}

impl EmptySlabs {
    /// None.
    pub const fn new() -> Self {
        EmptySlabs { first: null_mut() }
    }

    /// Gives the slabs back.
    pub fn release(self, pages: &Pages, shared: &Shared) {
        let mut slab = self.first;
        while !slab.is_null() {
            // SAFETY: the list holds slabs without regions in use that no bin knows any more.
            unsafe {
                let next = (*slab).links.child;
                pages.deallocate(shared, slab, None);
                slab = next;
            }
        }
    }
}

impl Default for EmptySlabs {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    /// Takes up to `want` regions out of the current slab, lowest first, into `out`.
    ///
    /// # Safety
    /// `out` has room for `want` pointers; the current slab is not null.
    unsafe fn take(&mut self, class: usize, out: *mut *mut u8, want: usize) -> usize {
        let slab = self.current;
        let region_bytes = size::class_bytes(class);
        let mut taken = 0;
        // SAFETY: the bin's lock protects the slab's bitmap; regions lie inside of the slab.
        unsafe {
            let address = (*slab).address();
            let base: *mut u8 = core::ptr::with_exposed_provenance_mut(address);
            let words = size::regions(class).div_ceil(64);
            let free = &mut (*slab).body.free;
            for (word, bits) in free.iter_mut().take(words).enumerate() {
                while *bits != 0 && taken < want {
                    // Free regions that lie side by side, as in a slab that is new or was given back in one go.
                    let first = bits.trailing_zeros();
                    let run = ((*bits >> first).trailing_ones() as usize).min(want - taken);
                    *bits &= !(u64::MAX >> (64 - run) << first);
                    let mut block = base.add((word * 64 + first as usize) * region_bytes);
                    for place in taken..taken + run {
                        *out.add(place) = block;
                        // The program will write to the first ones in a moment.
                        if place < AHEAD {
                            sys::prefetch_for_write(block);
                        }
                        block = block.wrapping_add(region_bytes);
                    }
                    taken += run;
                }
                if taken == want {
                    break;
                }
            }
            (*slab).free_regions -= taken as u16;
        }
        taken
    }

    /// Brings a slab of a dropped generation up to date: its bitmap is the truth, its count and links are not.
    ///
    /// # Safety
    /// `slab` is an active slab of this bin.
    #[cold]
    unsafe fn adopt(&mut self, slab: *mut Extent) {
        // SAFETY: the bin's lock is held.
        unsafe {
            let class = (*slab).class();
            sparse::forget(class, slab);
            (*slab).free_regions = (*slab).count_free() as u16;
            (*slab).set_generation(self.generation);
            (*slab).set_in_bin_heap(false);
            if (*slab).free_regions > 0 {
                self.make_available(slab);
            }
        }
    }

    /// Takes new slabs in, linked by `links.child`: the first one is the current slab now.
    ///
    /// # Safety
    /// They are of the bin's class, all their regions are free, and nobody else knows them.
    unsafe fn add_slabs(&mut self, first: *mut Extent) {
        let mut slab = first;
        while !slab.is_null() {
            self.counts.nslabs += 1;
            self.counts.curslabs += 1;
            // SAFETY: the caller's promise. The link is read before the heap's are written.
            unsafe {
                let next = (*slab).links.child;
                (*slab).set_generation(self.generation);
                if slab != first {
                    self.make_available(slab);
                }
                slab = next;
            }
        }
        self.current = first;
    }

    /// # Safety
    /// A slab of this bin with free regions, not in the heap, not the current one.
    unsafe fn make_available(&mut self, slab: *mut Extent) {
        // SAFETY: the caller says so.
        unsafe {
            self.nonfull.insert(slab);
            (*slab).set_in_bin_heap(true);
        }
        self.counts.nonfull_slabs += 1;
    }

    /// Puts a slab where it belongs after its first region has come back, or its last. All others are in the heap: a slab is,
    /// unless it is the current one or has no free region.
    ///
    /// # Safety
    /// The slab is an active one of this bin and its generation, of `shape`, and not the current one.
    unsafe fn put_first_or_last(&mut self, shape: &Shape, slab: *mut Extent, empty: &mut EmptySlabs) {
        // SAFETY: the bin's lock protects the slab.
        unsafe {
            if usize::from((*slab).free_regions) < shape.regions {
                return self.make_available(slab);
            }
            if (*slab).in_bin_heap() {
                self.nonfull.remove(slab);
                (*slab).set_in_bin_heap(false);
                self.counts.nonfull_slabs -= 1;
                self.counts.absent_pages -= sparse::forget(shape.class, slab);
            }
            self.counts.curslabs -= 1;
            (*slab).links.child = empty.first;
            empty.first = slab;
        }
    }
}

impl Bin {
    /// Makes a bin without slabs in place.
    ///
    /// # Safety
    /// `place` is the caller's, and all its bytes are zero.
    pub(crate) unsafe fn begin(place: *mut Bin) {
        // SAFETY: the caller's promise. No slabs, and nothing counted, is zero.
        unsafe { Mutex::begin(&raw mut (*place).inner, Rank::Bin) };
    }

    /// Takes up to `want` (at least 1) regions; returns how many, 0 when there is no memory.
    ///
    /// # Safety
    /// `out` has room for `want` pointers.
    #[unsafe(link_section = "heapsift_text")]
    pub unsafe fn fill(
        &self,
        class: usize,
        pages: &Pages,
        shared: &Shared,
        out: *mut *mut u8,
        want: usize,
        visit: Visit,
    ) -> usize {
        let mut taken = 0;
        let mut fresh: *mut Extent = null_mut();
        let mut inner = self.inner.lock();
        loop {
            if !inner.current.is_null() {
                // SAFETY: the current slab is set; `out` has room for the rest of `want`.
                taken += unsafe { inner.take(class, out.add(taken), want - taken) };
                if taken == want {
                    break;
                }
                // The current slab is full. It comes back into view when a region of it is freed.
                inner.current = null_mut();
            }
            let next = inner.nonfull.remove_first();
            if !next.is_null() {
                // SAFETY: the heap holds live slabs of this bin.
                let absent = unsafe {
                    (*next).set_in_bin_heap(false);
                    sparse::forget(class, next)
                };
                inner.counts.absent_pages -= absent;
                inner.counts.nonfull_slabs -= 1;
                inner.counts.nreslabs += 1;
                inner.current = next;
                continue;
            }
            if !fresh.is_null() {
                // SAFETY: made below, known to nobody else.
                unsafe { inner.add_slabs(fresh) };
                fresh = null_mut();
                continue;
            }
            if taken > 0 {
                // Good enough: a new slab is made when the caller comes again with nothing.
                break;
            }
            let row = inner.counts.curslabs >= ROWS_FROM;
            drop(inner);
            fresh = Self::make_slabs(class, pages, shared, row);
            inner = self.inner.lock();
            if fresh.is_null() && inner.current.is_null() && inner.nonfull.is_empty() {
                break;
            }
        }
        inner.counts.nmalloc += taken as u64;
        inner.counts.curregs = inner.counts.curregs.wrapping_add(taken);
        inner.counts.nfills += u64::from(visit.by_cache);
        inner.counts.nrequests += visit.requests;
        drop(inner);
        // If another thread brought regions meanwhile.
        EmptySlabs { first: fresh }.release(pages, shared);
        taken
    }

    /// New slabs, linked as by [`Pages::allocate_slabs`].
    fn make_slabs(class: usize, pages: &Pages, shared: &Shared, row: bool) -> *mut Extent {
        let first = pages.allocate_slabs(shared, size::slab_pages_of(class), class, row);
        let (mut slab, regions) = (first, size::regions(class));
        while !slab.is_null() {
            // SAFETY: fresh active extents that nobody else knows.
            unsafe {
                (*slab).free_regions = regions as u16;
                (*slab).set_in_bin_heap(false);
                for (i, word) in (*slab).body.free.iter_mut().enumerate() {
                    let rest = regions.saturating_sub(i * 64);
                    *word = if rest >= 64 { u64::MAX } else { (1u64 << rest) - 1 };
                }
                if wrong::is_checked() {
                    // As if all regions had been freed.
                    wrong::spoil(core::ptr::with_exposed_provenance_mut((*slab).address()), (*slab).bytes());
                }
                slab = (*slab).links.child;
            }
        }
        first
    }

    /// Puts back those of `blocks[..count]` that belong to arena `arena`; the others stay, moved to the front. Returns
    /// how many are left. Slabs that became empty are added to `empty`. What is no region in use is told, and dropped.
    ///
    /// # Safety
    /// The blocks were freed as regions of slabs of class `class`, and nobody uses them any more.
    #[expect(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
    pub unsafe fn flush(
        &self,
        class: usize,
        arena: usize,
        shared: &Shared,
        blocks: *mut *mut u8,
        count: usize,
        empty: &mut EmptySlabs,
        visit: Visit,
    ) -> usize {
        // SAFETY: the caller passes `count` blocks.
        let blocks = unsafe { core::slice::from_raw_parts_mut(blocks, count) };
        let shape = Shape::of(class);
        let mut batch = Batch { extents: shared.map.extents(), shape, slabs: Identity::of_slabs(class, arena, 0) };
        blocks.iter().take(AHEAD).for_each(|&block| batch.ask(block));
        let mut inner = self.inner.lock();
        batch.slabs = Identity::of_slabs(class, arena, inner.generation);
        let (mut next, mut left, mut dropped, mut wrong) = (0, 0, 0, None);
        loop {
            // SAFETY: the lock is held, and the blocks are the caller's to give up. Descriptors are never unmapped; what is no
            // slab of this bin is only asked what it is.
            let kind = unsafe {
                match batch.put(blocks, &mut next) {
                    Stop::End => break,
                    Stop::Turned(slab) => {
                        if slab != inner.current {
                            inner.put_first_or_last(&batch.shape, slab, empty);
                        }
                        continue;
                    }
                    Stop::Strange(slab) if is_slab_of(slab, class) => {
                        if (*slab).arena() == arena {
                            inner.adopt(slab);
                        } else {
                            blocks[left] = blocks[next];
                            left += 1;
                            next += 1;
                        }
                        continue;
                    }
                    // The slab that it was in is gone.
                    Stop::Strange(_) => Kind::Free(batch.shape.bytes),
                    Stop::Wrong(slab) => batch.shape.fault((*slab).address(), blocks[next].addr()),
                }
            };
            wrong = Some(Wrong::new(blocks[next].addr(), kind));
            dropped += 1;
            next += 1;
        }
        let back = count - left - dropped;
        inner.counts.ndalloc += back as u64;
        inner.counts.curregs = inner.counts.curregs.wrapping_sub(back);
        inner.counts.nflushes += u64::from(visit.by_cache);
        inner.counts.nrequests += visit.requests;
        drop(inner);
        if let Some(wrong) = wrong {
            wrong.tell(b"free");
        }
        left
    }

    /// Gives up the current slab of a bin of `class`, which is kept when its last region comes back, if no region is in use.
    pub(crate) fn give_up_current(&self, class: usize, empty: &mut EmptySlabs) {
        let mut inner = self.inner.lock();
        let (slab, shape) = (inner.current, Shape::of(class));
        // SAFETY: the bin's lock protects its slabs.
        unsafe {
            if !slab.is_null() && usize::from((*slab).free_regions) == shape.regions {
                inner.current = null_mut();
                inner.put_first_or_last(&shape, slab, empty);
            }
        }
    }

    /// Notes that a live sample is (no longer) at `address`: its page is flagged, and no page of a slab that has no sample.
    ///
    /// # Safety
    /// `slab` is an active slab of this bin that holds a block of the caller.
    #[inline]
    pub unsafe fn flag(&self, slab: *mut Extent, shared: &Shared, address: usize, sampled: bool) {
        let _inner = self.inner.lock();
        // SAFETY: the caller's block keeps the slab alive; the lock orders changes of the flags.
        unsafe {
            (*slab).count_sample(address, sampled);
            let byte = shared.map.class_byte(address);
            if sampled {
                shared.map.set_class(address, 1, byte | FLAG);
            } else if (*slab).samples.load(Ordering::Relaxed) == 0 {
                shared.map.set_class((*slab).address(), (*slab).pages(), byte & !FLAG);
            }
        }
    }

    /// How a slab stands, and the bin: free regions of the slab, the slab that regions come from now, the counters.
    ///
    /// # Safety
    /// `slab` is an active slab of this bin.
    pub unsafe fn fullness(&self, slab: *const Extent) -> (usize, usize, BinCounts) {
        let inner = self.inner.lock();
        // SAFETY: the caller says so; the lock protects the count, and the current slab is alive.
        unsafe {
            let current = inner.current.as_ref().map_or(0, Extent::address);
            ((*slab).free_regions as usize, current, inner.counts)
        }
    }

    /// Whether a region in use begins at `address`.
    ///
    /// # Safety
    /// `slab` is an active slab of this bin, and `address` lies in it.
    pub(crate) unsafe fn check(&self, class: usize, slab: *const Extent, address: usize) -> Result<(), Kind> {
        let _inner = self.inner.lock();
        let shape = Shape::of(class);
        // SAFETY: the caller says so.
        unsafe { if shape.is_in_use(slab, address) { Ok(()) } else { Err(shape.fault((*slab).address(), address)) } }
    }

    /// Counts requests that a cache has served.
    pub fn count_requests(&self, requests: u64) {
        self.inner.lock().counts.nrequests += requests;
    }

    /// The counters as they are now, and those of the lock.
    pub fn counts(&self) -> (BinCounts, crate::lock::Counts) {
        let inner = self.inner.lock();
        (inner.counts, inner.counts())
    }

    /// Has the lock count afresh.
    pub fn reset_lock_counts(&self) {
        self.inner.reset_counts();
    }

    /// Forgets all slabs: the arena is reset.
    pub fn reset(&self) {
        let mut inner = self.inner.lock();
        inner.current = null_mut();
        inner.nonfull = PairingHeap::new();
        let counts = &mut inner.counts;
        counts.ndalloc += counts.curregs as u64;
        (counts.curregs, counts.curslabs, counts.nonfull_slabs, counts.absent_pages) = (0, 0, 0, 0);
    }

    /// Counts afresh, without slabs.
    pub fn restart(&self) {
        self.reset();
        self.inner.lock().counts = BinCounts::default();
        self.inner.reset_counts();
    }

    /// In the child of a fork: when another thread was inside, all slabs are forgotten; each is adopted again when a
    /// region of it is freed.
    pub fn after_fork(&self) {
        self.inner.after_fork(|inner| {
            inner.current = null_mut();
            inner.nonfull = PairingHeap::new();
            inner.generation = inner.generation.wrapping_add(1);
            (inner.counts.nonfull_slabs, inner.counts.absent_pages) = (0, 0);
        });
    }
}

/// Whether an extent, if there is one, is a slab of class `class` of any bin.
fn is_slab_of(extent: *const Extent, class: usize) -> bool {
    // SAFETY: descriptors are never unmapped, and these fields are atomic.
    unsafe { extent.as_ref() }.is_some_and(|extent| extent.state() == State::Active && extent.class() == class)
}
