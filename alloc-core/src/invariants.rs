//! What must hold of extents between operations, laid open for tests. Only in builds with assertions.

use core::sync::atomic::Ordering;

use crate::extent::{Extent, State};
use crate::heap::Heap;
use crate::observer::Observer;
use crate::pagemap::{FLAG, PageMap, large_byte};
use crate::size;
use crate::sys::{LG_PAGE, PAGE};

/// An extent as it stands.
#[derive(Clone, Copy, Debug)]
pub struct ExtentView {
    /// First byte.
    pub address: usize,
    /// Length in bytes.
    pub bytes: usize,
    /// What it is.
    pub state: State,
    /// The class of a slab, 1 to [`size::NBINS`]; `None` for all else.
    pub slab_class: Option<usize>,
    /// Free regions of a slab.
    pub free_regions: usize,
}

/// Fails where the page map doesn't say of an extent what its descriptor says. `is_odd`: slabs of its arena have the second
/// places of their classes.
fn check_map(map: &PageMap, extent: &Extent, is_odd: bool) {
    let found = |address: usize| core::ptr::eq(map.extent(address), extent);
    assert!(
        extent.address().is_multiple_of(PAGE) && extent.bytes().is_multiple_of(PAGE) && extent.bytes() > 0,
        "{extent:?}"
    );
    assert!(found(extent.address()), "{extent:?}: another one at its first page");
    if extent.state() != State::Active {
        assert!(found(extent.end() - PAGE), "{extent:?}: another one at its last page");
        return;
    }
    let (class, sampled) = (extent.class(), extent.samples.load(Ordering::Relaxed) > 0);
    let is_slab = extent.is_slab();
    let mut flagged = 0;
    for page in 0..if is_slab { extent.pages() } else { 1 } {
        let address = extent.address() + (page << LG_PAGE);
        assert!(found(address), "{extent:?}: another one at page {page}");
        let mut byte = map.class_byte(address);
        if is_slab {
            flagged += usize::from(byte & FLAG != 0);
            byte &= !FLAG;
        }
        let place = size::place(class, is_odd);
        let expected = if is_slab { place as u8 } else { large_byte(class, sampled) };
        // Without the flat array all bytes are 0, and those of large blocks in caches are, which a test sees none of.
        assert!(byte == expected || !map.has_bytes(), "{extent:?}: class byte {byte:#x}");
    }
    // A page of a slab stays flagged until the slab has no sample.
    assert!(!is_slab || (flagged > 0) == sampled || !map.has_bytes(), "{extent:?}: {flagged} pages flagged");
}

impl Extent {
    /// Fails unless a slab's bitmap has as many free regions as its count says.
    fn check_bitmap(&self) {
        let regions = size::regions(self.class());
        // SAFETY: a slab's body is its bitmap; the caller keeps others from changing it.
        let (free, ones) = unsafe { (&self.body.free, self.count_free()) };
        let inside: usize = (0..regions).filter(|region| free[region / 64] >> (region % 64) & 1 != 0).count();
        assert_eq!((ones, inside), (self.free_regions as usize, self.free_regions as usize), "{self:?}");
        assert_eq!(self.bytes(), size::slab_pages(self.class() - 1) << LG_PAGE, "{self:?}");
    }
}

impl<O: Observer> Heap<O> {
    /// Checks each extent of a program's own arena, and shows it. Panics where the page map, a slab's bitmap or its count
    /// contradict each other. Nobody else may use the arena meanwhile.
    pub fn check_arena(&'static self, index: u32, mut show: impl FnMut(ExtentView)) {
        let Some(arena) = self.core.arenas.get(index as usize).filter(|_| self.is_made(index as usize)) else {
            panic!("arena {index} is no arena of the program");
        };
        // SAFETY: the caller keeps others out, and nothing is freed here.
        unsafe {
            arena.pages.for_each_extent(|extent| {
                let extent = &*extent;
                check_map(&self.core.shared.map, extent, arena.pages.is_odd());
                assert_eq!(extent.arena(), index as usize, "{extent:?}");
                let is_slab = extent.state() == State::Active && extent.is_slab();
                if is_slab {
                    extent.check_bitmap();
                }
                show(ExtentView {
                    address: extent.address(),
                    bytes: extent.bytes(),
                    state: extent.state(),
                    slab_class: is_slab.then(|| extent.class()),
                    free_regions: if is_slab { extent.free_regions as usize } else { 0 },
                });
            });
        }
    }

    /// Checks the extent of a block that the caller has, as [`Heap::check_arena`] does, and that the block begins where one
    /// of its class does and isn't free. Nobody else may use its slab meanwhile.
    pub fn check_block(&'static self, block: *const u8) {
        // SAFETY: descriptors are never unmapped.
        let Some(extent) = (unsafe { self.core.shared.map.extent(block.addr()).as_ref() }) else {
            panic!("{block:?} is in no extent");
        };
        assert_eq!(extent.state(), State::Active, "{extent:?} of {block:?}");
        // SAFETY: an active extent has an arena.
        let arena = unsafe { self.arena_of(extent) };
        check_map(&self.core.shared.map, extent, arena.pages.is_odd());
        if !extent.is_slab() {
            assert_eq!(extent.address(), block.addr(), "{extent:?}");
            return;
        }
        extent.check_bitmap();
        let region = size::region_index(extent.class(), block.addr() - extent.address());
        assert_eq!(extent.address() + region * size::class_bytes(extent.class()), block.addr(), "{extent:?}");
        // SAFETY: as in `check_bitmap`.
        assert_eq!(unsafe { extent.body.free[region / 64] } >> (region % 64) & 1, 0, "{extent:?}: {block:?} is free");
    }
}
