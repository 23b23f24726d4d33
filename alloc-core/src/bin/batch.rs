//! Blocks that go back to their slabs, one after the other.

use super::AHEAD;
use crate::extent::{Extent, Identity};
use crate::pagemap::Extents;
use crate::size;
use crate::sys;
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

    /// The region that begins at `offset`; `None` if none does.
    #[inline(always)]
    fn region(&self, offset: usize) -> Option<usize> {
        if offset >= self.used {
            return None;
        }
        let region = size::index_by(self.reciprocal, offset);
        (region * self.bytes == offset).then_some(region)
    }

    /// Whether a region in use begins at `address`.
    ///
    /// # Safety
    /// `slab` is an active slab of this shape, and the lock of its bin is held.
    pub(super) unsafe fn is_in_use(&self, slab: *const Extent, address: usize) -> bool {
        // SAFETY: the caller's promise; the bitmap has a bit for each region.
        unsafe {
            let region = self.region(address.wrapping_sub((*slab).address()));
            region.is_some_and(|region| (*slab).body.free[region / 64] >> (region % 64) & 1 == 0)
        }
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

/// Why [`Batch::put`] has stopped.
pub(super) enum Stop {
    /// No block is left.
    End,
    /// All the slab's regions were in use before, or none is any more.
    Turned(*mut Extent),
    /// The next block is in no slab of the bin and of its generation: in this extent, or, if null, in none.
    Strange(*mut Extent),
    /// The next block is no region in use of the slab that it lies in.
    Wrong(*mut Extent),
}

/// The slabs that blocks are to go back to.
pub(super) struct Batch<'a> {
    pub(super) extents: Extents<'a>,
    pub(super) shape: Shape,
    /// Those of the bin; of its generation, once its lock is held.
    pub(super) slabs: Identity,
}

impl Batch<'_> {
    /// Asks for the memory of a block's slab: its descriptor, and the bitmap in the second line of that.
    #[inline(always)]
    pub(super) fn ask(&self, block: *mut u8) {
        let slab = self.extents.of(block.addr());
        sys::prefetch_for_write(slab);
        sys::prefetch_for_write(slab.wrapping_byte_add(core::mem::offset_of!(Extent, body)));
    }

    /// Puts blocks back from number `next` on, and moves it on, until there is something to do besides. A function of its
    /// own: what its caller does then would leave the processor's registers to it.
    ///
    /// # Safety
    /// The lock of the bin is held, and nobody uses the blocks any more.
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    pub(super) unsafe fn put(&self, blocks: &[*mut u8], next: &mut usize) -> Stop {
        let mut i = *next;
        let stop = loop {
            let Some(&block) = blocks.get(i) else { break Stop::End };
            if let Some(&later) = blocks.get(i + AHEAD) {
                self.ask(later);
            }
            let slab = self.extents.of(block.addr());
            // SAFETY: descriptors are never unmapped, and these fields are atomic; what is none of the bin's slabs isn't
            // written. The bitmap has a bit for each region of a shape.
            unsafe {
                if slab.is_null() || !(*slab).is_one_of(self.slabs) {
                    break Stop::Strange(slab);
                }
                let start = (*slab).address();
                let Some(mut region) = self.shape.region(block.addr().wrapping_sub(start)) else {
                    break Stop::Wrong(slab);
                };
                let first = i;
                let step = self.step(blocks, i);
                if step != 0 {
                    i += self.put_row(slab, &blocks[i..], region, step);
                } else {
                    // Blocks that were allocated together often come back so. What is written by each of them is kept here
                    // until the last: a processor would wait for its own last store each time.
                    let free = (&raw mut (*slab).body.free).cast::<u64>();
                    let mut word = region / 64;
                    let mut bits = *free.add(word);
                    while bits >> (region % 64) & 1 == 0 {
                        bits |= 1 << (region % 64);
                        i += 1;
                        let neighbour =
                            blocks.get(i).and_then(|&block| self.shape.region(block.addr().wrapping_sub(start)));
                        let Some(neighbour) = neighbour else { break };
                        if neighbour / 64 != word {
                            *free.add(word) = bits;
                            word = neighbour / 64;
                            bits = *free.add(word);
                        }
                        region = neighbour;
                    }
                    *free.add(word) = bits;
                }
                if i == first {
                    break Stop::Wrong(slab);
                }
                let before = (*slab).free_regions;
                let after = before + (i - first) as u16;
                (*slab).free_regions = after;
                if before == 0 || usize::from(after) == self.shape.regions {
                    break Stop::Turned(slab);
                }
            }
        };
        *next = i;
        stop
    }

    /// The distance between blocks, from number `i` on, where many seem to follow one another, upwards or downwards; else 0.
    /// Few in a row are not looked for: the processor can't foresee where they begin.
    #[inline(always)]
    fn step(&self, blocks: &[*mut u8], i: usize) -> usize {
        const MANY: usize = 8;
        let distance = blocks.get(i + MANY - 1).map_or(0, |later| later.addr().wrapping_sub(blocks[i].addr()));
        let many = self.shape.bytes * (MANY - 1);
        match distance {
            _ if distance == many => self.shape.bytes,
            _ if distance == many.wrapping_neg() => self.shape.bytes.wrapping_neg(),
            _ => 0,
        }
    }

    /// Puts the first blocks back, the very first of which is that region, as long as each is `step` from the one before,
    /// and all in one word of the bitmap. Returns how many.
    ///
    /// # Safety
    /// As for [`Batch::put`]; the slab is one of the bin's.
    #[inline(never)]
    #[unsafe(link_section = "heapsift_text")]
    unsafe fn put_row(&self, slab: *mut Extent, blocks: &[*mut u8], region: usize, step: usize) -> usize {
        let (bit, is_upwards) = (region % 64, step == self.shape.bytes);
        let most = if is_upwards { (64 - bit).min(self.shape.regions - region) } else { bit + 1 };
        let mut length = 1;
        while length < most.min(blocks.len()) && blocks[length].addr() == blocks[length - 1].addr().wrapping_add(step) {
            length += 1;
        }
        let lowest = if is_upwards { bit } else { bit + 1 - length };
        let row = u64::MAX >> (64 - length) << lowest;
        // SAFETY: the caller's promise; the bitmap has a bit for each region of a shape.
        unsafe {
            let word = (&raw mut (*slab).body.free).cast::<u64>().add(region / 64);
            let is_in_use = *word & row == 0;
            // Where one of them isn't in use, they are looked at one by one.
            let (row, length) = if is_in_use { (row, length) } else { (1 << bit, (!*word >> bit & 1) as usize) };
            *word |= row;
            length
        }
    }
}
