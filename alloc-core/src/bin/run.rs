//! Regions that go back to their slab, one after the other.

use crate::extent::Extent;
use crate::size;
use crate::wrong::Kind;

/// What the slabs of a class look like.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) class: usize,
    pub(super) bytes: usize,
    pub(super) regions: usize,
    reciprocal: u64,
    /// Bytes up to the end of the last region; a slab may have a rest behind it.
    pub(super) used: usize,
}

impl Shape {
    pub(super) fn of(class: usize) -> Self {
        // What looks for a region's bit relies on it.
        let regions = size::regions(class).min(size::MAX_REGIONS);
        let bytes = size::class_bytes(class);
        Shape { class, bytes, regions, reciprocal: size::reciprocal(class), used: bytes * regions }
    }

    /// What is wrong with a free of `address` in a slab that begins at `start` and has no region in use there.
    #[cold]
    pub(super) fn fault(&self, start: usize, address: usize) -> Kind {
        let offset = address - start;
        let inside = offset % self.bytes;
        if offset >= self.used {
            Kind::Foreign
        } else if inside != 0 {
            Kind::Inside(address - inside, self.bytes)
        } else {
            Kind::Free(self.bytes)
        }
    }
}

/// Blocks of one slab that come back one after the other, as those that were allocated together often do. What is written
/// by each of them is kept here until the last: a processor would wait for its own last store each time.
pub(super) struct Run {
    slab: *mut Extent,
    pub(super) start: usize,
    /// A word of the slab's bitmap, and its bits so far.
    word: usize,
    bits: u64,
}

impl Run {
    /// # Safety
    /// `slab` is an active slab, and the lock of its bin is held as long as there is the run.
    #[inline]
    pub(super) unsafe fn of(slab: *mut Extent) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Run { slab, start: (*slab).address(), word: 0, bits: (*slab).body.free[0] } }
    }

    /// Puts the region at `offset` back, if there is one in use: see [`Shape::fault`].
    ///
    /// # Safety
    /// `offset` is less than [`Shape::used`] of the slab's shape; nobody uses the block there any more.
    #[inline(always)]
    pub(super) unsafe fn put(&mut self, shape: &Shape, offset: usize) -> bool {
        let region = size::index_by(shape.reciprocal, offset);
        if region * shape.bytes != offset {
            return false;
        }
        if region / 64 != self.word {
            // SAFETY: the bitmap has a bit for each of MAX_REGIONS, and both regions are of them.
            unsafe {
                let free = &mut (*self.slab).body.free;
                *free.get_unchecked_mut(self.word) = self.bits;
                self.word = region / 64;
                self.bits = *free.get_unchecked(self.word);
            }
        }
        let bit = 1 << (region % 64);
        let was_in_use = self.bits & bit == 0;
        self.bits |= bit;
        was_in_use
    }
}

/// Puts those of `blocks` back that lie in `slab`, up to the first that doesn't, or that is no region in use. Returns how many
/// those are.
///
/// # Safety
/// `slab` is an active slab of `shape`, and the lock of its bin is held. Nobody uses the blocks any more.
#[inline(never)]
#[unsafe(link_section = "heapsift_text")]
pub(super) unsafe fn put_run(shape: &Shape, slab: *mut Extent, blocks: &[*mut u8]) -> usize {
    let (shape, mut back) = (*shape, 0);
    // SAFETY: the caller's promise; what lies before `used` is asked first.
    unsafe {
        let mut run = Run::of(slab);
        while let Some(block) = blocks.get(back) {
            let offset = block.addr().wrapping_sub(run.start);
            if offset >= shape.used || !run.put(&shape, offset) {
                break;
            }
            back += 1;
        }
        *(*slab).body.free.get_unchecked_mut(run.word) = run.bits;
    }
    back
}
