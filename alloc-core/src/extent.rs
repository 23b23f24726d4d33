//! The descriptor of an extent: a run of OS pages that is a slab, one large block, or free.
//!
//! A descriptor lives outside of the pages it describes, is 128 bytes long, and stays a descriptor of the same arena
//! for ever: reading the atomic fields of a stale pointer is harmless. Everything but those is protected by the lock of
//! whoever holds the extent: the arena's page lock while it is free, the bin's lock while it is a slab.

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicUsize, Ordering};

use crate::size::MAX_REGIONS;
use crate::sys::LG_PAGE;

/// What the pages of an extent are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The descriptor describes nothing.
    Unused = 0,
    /// In use as a slab or a large block.
    Active = 1,
    /// Free, pages still backed.
    Dirty = 2,
    /// Free, given to the kernel lazily (`MADV_FREE`).
    Muzzy = 3,
    /// Free, address space only; reads as zero.
    Retained = 4,
    /// On its way between two of these; nobody else's neighbour.
    Transit = 5,
}

/// The class of an extent that isn't a slab nor of a cached large class.
pub const LARGE: u8 = 0;

/// Links of an extent in an ordered heap; see [`crate::pairing`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Links {
    pub(crate) child: *mut Extent,
    pub(crate) sibling: *mut Extent,
    /// The parent for a first child, else the sibling on the left.
    pub(crate) previous: *mut Extent,
}

/// Links of a free extent in its cache's list, oldest first.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ListLinks {
    pub(crate) next: *mut Extent,
    pub(crate) previous: *mut Extent,
}

/// A slab's free regions, or a free extent's place in the list of its cache: never both.
#[repr(C)]
pub union Body {
    pub(crate) free: [u64; MAX_REGIONS / 64],
    pub(crate) list: ListLinks,
}

/// A run of pages.
#[repr(C, align(128))]
pub struct Extent {
    address: AtomicUsize,
    bytes: AtomicUsize,
    /// When the address space was mapped: the age of the extent, for reuse oldest first.
    pub(crate) serial: u64,
    pub(crate) links: Links,
    state: AtomicU8,
    class: AtomicU8,
    zeroed: AtomicU8,
    /// Whether the extent is in its bin's heap of slabs with free regions. Bin lock.
    pub(crate) in_bin_heap: bool,
    arena: AtomicU16,
    /// The structure (bin or page cache) generation that the links and counts belong to; see `fork.rs`.
    pub(crate) generation: u16,
    /// Free regions of a slab. Bin lock.
    pub(crate) free_regions: u32,
    /// Live samples inside of the extent; its map bytes are flagged while there are any. Flag lock of the arena.
    pub(crate) samples: AtomicU32,
    pub(crate) body: Body,
}

const _: () = assert!(core::mem::size_of::<Extent>() == 128);

impl core::fmt::Debug for Extent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Extent({:#x}+{:#x} {:?} class {})", self.address(), self.bytes(), self.state(), self.class())
    }
}

impl Extent {
    /// First byte.
    #[inline]
    pub fn address(&self) -> usize {
        self.address.load(Ordering::Relaxed)
    }

    /// Length in bytes, whole pages.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Length in OS pages.
    #[inline]
    pub fn pages(&self) -> usize {
        self.bytes() >> LG_PAGE
    }

    /// First byte after the extent.
    #[inline]
    pub fn end(&self) -> usize {
        self.address() + self.bytes()
    }

    /// What the pages are.
    #[inline]
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            1 => State::Active,
            2 => State::Dirty,
            3 => State::Muzzy,
            4 => State::Retained,
            5 => State::Transit,
            _ => State::Unused,
        }
    }

    /// The size class of the slab or of the cached large block; [`LARGE`] for others.
    #[inline]
    pub fn class(&self) -> usize {
        self.class.load(Ordering::Relaxed) as usize
    }

    /// Index of the arena that the descriptor belongs to.
    #[inline]
    pub fn arena(&self) -> usize {
        self.arena.load(Ordering::Relaxed) as usize
    }

    /// Whether the pages read as zero.
    #[inline]
    pub fn zeroed(&self) -> bool {
        self.zeroed.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn set_range(&self, address: usize, bytes: usize) {
        self.address.store(address, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn set_class(&self, class: usize) {
        self.class.store(class as u8, Ordering::Relaxed);
    }

    pub(crate) fn set_zeroed(&self, zeroed: bool) {
        self.zeroed.store(u8::from(zeroed), Ordering::Relaxed);
    }

    pub(crate) fn set_arena(&self, arena: usize) {
        self.arena.store(arena as u16, Ordering::Relaxed);
    }

    /// Order of reuse: age, then address.
    #[inline]
    pub(crate) fn key(&self) -> (u64, usize) {
        (self.serial, self.address())
    }
}
