//! Arenas that programs make: `arenas.create`, `arena.<i>.reset`, `arena.<i>.destroy`, names and hooks.

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use crate::arena::{ARENAS_MAX, Arena};
use crate::extent::Extent;
use crate::heap::Heap;
use crate::lock::{Mutex, Rank};
use crate::observer::{Observer, ThreadSlot};
use crate::pages::Settings;
use crate::pages::hooks::ExtentHooks;
use crate::size::{self, NBINS};

/// Arenas that were destroyed; their indices and descriptors are used again.
#[derive(Debug)]
pub(crate) struct Made {
    destroyed: Mutex<*const Arena>,
}

// SAFETY: arenas are never unmapped; the lock protects the list.
unsafe impl Send for Made {}
// SAFETY: as above.
unsafe impl Sync for Made {}

impl Made {
    pub(crate) const fn new() -> Self {
        Made { destroyed: Mutex::new(Rank::Made, core::ptr::null()) }
    }

    pub(crate) fn after_fork(&self) {
        self.destroyed.after_fork(|first| *first = core::ptr::null());
        // Those in the table are seen to from there. Another thread may have been looking after one while it was destroyed.
        let first = || self.destroyed.try_lock().map_or(core::ptr::null(), |first| *first);
        // A thread that forks in the middle of something may hold any lock.
        let mut next = crate::lock::unranked(first);
        // SAFETY: arenas are never unmapped.
        while let Some(arena) = unsafe { next.as_ref() } {
            arena.after_fork();
            next = arena.next_destroyed.load(Ordering::Relaxed);
        }
    }
}

/// Why an arena can't be reset or destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMade;

impl<O: Observer> Heap<O> {
    /// Whether programs make arenas of this index.
    pub fn is_made(&'static self, index: usize) -> bool {
        index >= self.narenas_auto() as usize && !self.is_oversize_arena(index) && index < ARENAS_MAX
    }

    /// Makes an arena with a program's hooks (null: none); its index, `None` when there is no memory or index left.
    pub fn create_arena(&'static self, hooks: *mut ExtentHooks) -> Option<u32> {
        let options = self.options();
        let total = self.narenas() as usize;
        if !self.core.arenas.is_there() {
            return None;
        }
        let mut destroyed = self.core.made.destroyed.lock();
        let settings = |index| Settings {
            arena: index,
            dirty_ms: self.core.default_dirty_ms.load(Ordering::Relaxed),
            muzzy_ms: self.core.default_muzzy_ms.load(Ordering::Relaxed),
            hooks: null_mut(),
            dss: self.core.default_dss.load(Ordering::Relaxed),
            tracks: true,
            huge_pages: false,
        };
        let arena = if destroyed.is_null() {
            let total = (self.core.counts.total.load(Ordering::Relaxed) as usize).max(total);
            if total >= ARENAS_MAX {
                return None;
            }
            let fresh = Arena::create(&settings(total), &self.core.shared, options)?;
            self.core.counts.total.store(total as u32 + 1, Ordering::Relaxed);
            fresh
        } else {
            // SAFETY: arenas are never unmapped.
            let arena = unsafe { &**destroyed };
            *destroyed = arena.next_destroyed.load(Ordering::Relaxed);
            arena.revive(&settings(arena.index()), &self.core.shared);
            arena
        };
        arena.pages.set_hooks(hooks);
        let slot = self.core.arenas.slot(arena.index())?;
        self.core.arenas.expect(arena.index());
        // Release: pairs with the Acquire of those who look the arena up.
        slot.store((&raw const *arena).cast_mut(), Ordering::Release);
        Some(arena.index() as u32)
    }

    fn made_arena(&'static self, index: u32) -> Result<&'static Arena, NotMade> {
        if self.is_made(index as usize) { self.core.arenas.get(index as usize).ok_or(NotMade) } else { Err(NotMade) }
    }

    /// Throws all blocks of a program's own arena away.
    ///
    /// # Safety
    /// Nobody uses a block of the arena any more, nor has one in a cache, nor allocates from it meanwhile.
    pub unsafe fn reset_arena(&'static self, index: u32) -> Result<(), NotMade> {
        let arena = self.made_arena(index)?;
        let shared = &self.core.shared;
        // Other threads may come by to give back pages inside of its slabs.
        arena.sparse.between_rounds(|| (1..=NBINS).for_each(|class| arena.bin(class).reset()));
        // SAFETY: the caller's promise.
        unsafe {
            arena.pages.for_each_active(|extent| {
                let class = (*extent).class();
                let is_slab = (*extent).is_slab();
                self.forget_all(extent, is_slab.then_some(class));
                if is_slab {
                    let live = size::regions(class) - (*extent).free_regions as usize;
                    let bytes = live * size::class_bytes(class);
                    self.core.gone_deallocated.fetch_add(bytes as u64, Ordering::Relaxed);
                    arena.pages.deallocate(shared, extent, None);
                } else {
                    self.core.gone_deallocated.fetch_add((*extent).bytes() as u64, Ordering::Relaxed);
                    arena.deallocate_large(shared, extent);
                }
            });
        }
        Ok(())
    }

    /// Tells the observer that the blocks of an extent are gone.
    unsafe fn forget_all(&'static self, extent: *mut Extent, class: Option<usize>) {
        // SAFETY: the caller's active extent.
        unsafe {
            if !O::ENABLED || (*extent).samples.load(Ordering::Relaxed) == 0 {
                return;
            }
            let mut slot = ThreadSlot { uid: 0, words: [0; 7] };
            let (count, step) = class.map_or((1, 0), |class| (size::regions(class), size::class_bytes(class)));
            for region in 0..count {
                self.observer.freed(&mut slot, (*extent).address() + region * step, (*extent).arena());
            }
            // `deallocate` clears the flagged byte of a large block by this.
            (*extent).set_sampled(class.is_none());
        }
    }

    /// Resets a program's own arena and gives all its memory up; its index may be used again.
    ///
    /// # Safety
    /// As [`Heap::reset_arena`], and nobody uses the index any more.
    pub unsafe fn destroy_arena(&'static self, index: u32) -> Result<(), NotMade> {
        let arena = self.made_arena(index)?;
        if arena.threads.load(Ordering::Relaxed) != 0 {
            return Err(NotMade);
        }
        // SAFETY: the caller's promise.
        unsafe {
            self.reset_arena(index)?;
            arena.pages.give_up_all(&self.core.shared);
        }
        self.remove_arena(arena);
        let mut destroyed = self.core.made.destroyed.lock();
        arena.next_destroyed.store(destroyed.cast_mut(), Ordering::Relaxed);
        *destroyed = arena;
        Ok(())
    }
}
