//! The descriptor of an extent: a run of OS pages that is a slab, one large block, or free.
//!
//! A descriptor lives outside of the pages it describes, is 128 bytes long, and stays a descriptor of the same arena
//! for ever: reading the atomic fields of a stale pointer is harmless. Everything but those is protected by the lock of
//! whoever holds the extent: the arena's page lock while it is free, the bin's lock while it is a slab.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::size::{self, MAX_REGIONS, NBINS};
use crate::sparse::Watched;
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
    /// Free, pages backed for ever: an extent hook said so.
    Pinned = 6,
}

/// What is true of all pages of an extent.
pub(crate) mod flag {
    /// They read as zero.
    pub(crate) const ZEROED: u8 = 1;
    /// They can't be touched before a `commit` hook was called.
    pub(crate) const UNCOMMITTED: u8 = 2;
    /// They stay backed for ever.
    pub(crate) const PINNED: u8 = 4;
    /// A guard page lies before them and one behind.
    pub(crate) const GUARDED: u8 = 8;
    /// The descriptor is that of a guarded block, which need not fill its page; see [`crate::guarded`].
    pub(crate) const GUARDED_BLOCK: u8 = 16;
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

/// Links of a free extent in a list of its cache, oldest first.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ListLinks {
    /// How many extents had entered the cache before.
    pub(crate) entered: u64,
    pub(crate) next: *mut Extent,
    pub(crate) previous: *mut Extent,
}

/// A slab's free regions, some of them beside what is known of its pages, or a free extent's place in the list of its
/// cache: never both.
#[repr(C)]
pub union Body {
    pub(crate) free: [u64; MAX_REGIONS / 64],
    pub(crate) watched: Watched,
    pub(crate) list: ListLinks,
}

/// Some bits of [`Extent::identity`].
struct Field {
    shift: u32,
    mask: u64,
}

impl Field {
    const STATE: Field = Field::new(0, 8);
    const CLASS: Field = Field::new(8, 8);
    const FLAGS: Field = Field::new(16, 8);
    const IN_BIN_HEAP: Field = Field::new(24, 1);
    const ARENA: Field = Field::new(32, 16);
    const GENERATION: Field = Field::new(48, 16);

    const fn new(shift: u32, bits: u32) -> Self {
        Field { shift, mask: (1 << bits) - 1 }
    }

    /// Those bits of a word.
    #[inline(always)]
    const fn of(&self, word: u64) -> u64 {
        word >> self.shift & self.mask
    }

    /// A word with those bits alone.
    #[inline(always)]
    const fn with(&self, value: u64) -> u64 {
        (value & self.mask) << self.shift
    }
}

/// What all slabs of a bin have in common while it isn't started afresh, and nothing else: state, class, arena, generation.
#[derive(Clone, Copy)]
pub(crate) struct Identity(u64);

impl Identity {
    const MASK: u64 = !(Field::FLAGS.mask << Field::FLAGS.shift | Field::IN_BIN_HEAP.mask << Field::IN_BIN_HEAP.shift);

    pub(crate) const fn of_slabs(class: usize, arena: usize, generation: u16) -> Self {
        let place = Field::CLASS.with(class as u64) | Field::ARENA.with(arena as u64);
        Identity(Field::STATE.with(State::Active as u64) | place | Field::GENERATION.with(generation as u64))
    }
}

/// A run of pages.
#[repr(C, align(128))]
pub struct Extent {
    address: AtomicUsize,
    bytes: AtomicUsize,
    /// When the address space was mapped: the age of the extent, for reuse oldest first.
    pub(crate) serial: u64,
    pub(crate) links: Links,
    /// What is small, in one word: a [`Field`] each.
    identity: AtomicU64,
    /// Free regions of a slab. Bin lock.
    pub(crate) free_regions: u16,
    /// Live samples inside of the extent; the map bytes of their pages are flagged. Bin lock for slabs.
    pub(crate) samples: AtomicU16,
    /// For a slab, a bit for each region that had a sample since there was none, by its index modulo 32. Bin lock.
    sampled_regions: AtomicU32,
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
        match self.get(Field::STATE) {
            1 => State::Active,
            2 => State::Dirty,
            3 => State::Muzzy,
            4 => State::Retained,
            5 => State::Transit,
            6 => State::Pinned,
            _ => State::Unused,
        }
    }

    /// The size class of the slab or of the cached large block; [`LARGE`] for others.
    #[inline]
    pub fn class(&self) -> usize {
        self.get(Field::CLASS) as usize
    }

    /// Whether the class is one of slabs. Of an extent in use: whether it is a slab.
    #[inline]
    pub fn is_slab(&self) -> bool {
        (1..=NBINS).contains(&self.class())
    }

    /// Index of the arena that the descriptor belongs to.
    #[inline]
    pub fn arena(&self) -> usize {
        self.get(Field::ARENA) as usize
    }

    /// Whether it is one of those slabs.
    #[inline(always)]
    pub(crate) fn is_one_of(&self, slabs: Identity) -> bool {
        self.identity.load(Ordering::Relaxed) & Identity::MASK == slabs.0
    }

    /// Whether the extent is in its bin's heap of slabs with free regions.
    #[inline]
    pub(crate) fn in_bin_heap(&self) -> bool {
        self.get(Field::IN_BIN_HEAP) != 0
    }

    /// The generation of the structure (bin or page cache) that the links and counts belong to; see `fork.rs`.
    #[inline]
    pub(crate) fn generation(&self) -> u16 {
        self.get(Field::GENERATION) as u16
    }

    #[inline(always)]
    fn get(&self, field: Field) -> u64 {
        field.of(self.identity.load(Ordering::Relaxed))
    }

    /// Only the extent's owner changes anything: no other change is lost.
    #[inline(always)]
    fn put(&self, field: Field, value: u64) {
        let others = self.identity.load(Ordering::Relaxed) & !(field.mask << field.shift);
        self.identity.store(others | field.with(value), Ordering::Relaxed);
    }

    /// Whether the pages read as zero.
    #[inline]
    pub fn zeroed(&self) -> bool {
        self.has(flag::ZEROED)
    }

    /// Whether the pages may be touched: an extent hook may have to be asked first.
    #[inline]
    pub fn committed(&self) -> bool {
        !self.has(flag::UNCOMMITTED)
    }

    /// Whether the pages stay backed for ever.
    #[inline]
    pub fn pinned(&self) -> bool {
        self.has(flag::PINNED)
    }

    /// Whether there are guard pages before and behind the extent, which are no part of it.
    #[inline]
    pub fn guarded(&self) -> bool {
        self.has(flag::GUARDED)
    }

    /// Whether it is one of [`crate::guarded`], and so of no arena's pages.
    #[inline]
    pub(crate) fn is_guarded_block(&self) -> bool {
        self.has(flag::GUARDED_BLOCK)
    }

    #[inline]
    fn has(&self, flag: u8) -> bool {
        self.flags() & flag != 0
    }

    /// All flags, for an extent that is cut in two.
    pub(crate) fn flags(&self) -> u8 {
        self.get(Field::FLAGS) as u8
    }

    pub(crate) fn set_flags(&self, flags: u8) {
        self.put(Field::FLAGS, flags.into());
    }

    /// Sets or clears a flag; only the extent's owner does.
    #[inline]
    pub(crate) fn set(&self, flag: u8, on: bool) {
        let flags = self.flags();
        self.set_flags(if on { flags | flag } else { flags & !flag });
    }

    /// Free regions of a slab, by its bitmap. Where that is short, other things stand behind it.
    ///
    /// # Safety
    /// The extent is a slab, and nobody changes its bitmap meanwhile.
    pub(crate) unsafe fn count_free(&self) -> usize {
        let words = size::regions(self.class()).div_ceil(64);
        // SAFETY: the caller's promise; all bits are an array of words.
        unsafe { self.body.free.iter().take(words).map(|word| word.count_ones() as usize).sum() }
    }

    /// Whether the block at `address`, in use, may be one with a live sample.
    #[inline]
    pub(crate) fn may_be_sampled(&self, address: usize) -> bool {
        if self.samples.load(Ordering::Relaxed) == 0 {
            return false;
        }
        if !self.is_slab() {
            return true;
        }
        // Relaxed: whoever frees the block has it from the thread that allocated it, and its bit was set before that.
        let region = size::region_index(self.class(), address - self.address());
        self.sampled_regions.load(Ordering::Relaxed) >> (region % 32) & 1 != 0
    }

    /// Counts a live sample in or out.
    pub(crate) fn count_sample(&self, address: usize, sampled: bool) {
        let before = self.samples.load(Ordering::Relaxed);
        let after = if sampled { before + 1 } else { before.saturating_sub(1) };
        self.samples.store(after, Ordering::Relaxed);
        if after == 0 {
            self.sampled_regions.store(0, Ordering::Relaxed);
        } else if sampled {
            let region = size::region_index(self.class(), address - self.address());
            let regions = self.sampled_regions.load(Ordering::Relaxed) | 1 << (region % 32);
            self.sampled_regions.store(regions, Ordering::Relaxed);
        }
    }

    /// Says that the extent, not a slab, holds a live sample or none.
    pub(crate) fn set_sampled(&self, sampled: bool) {
        self.samples.store(u16::from(sampled), Ordering::Relaxed);
        self.sampled_regions.store(0, Ordering::Relaxed);
    }

    pub(crate) fn set_range(&self, address: usize, bytes: usize) {
        self.address.store(address, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_state(&self, state: State) {
        self.put(Field::STATE, state as u64);
    }

    pub(crate) fn set_class(&self, class: usize) {
        self.put(Field::CLASS, class as u64);
    }

    pub(crate) fn set_zeroed(&self, zeroed: bool) {
        self.set(flag::ZEROED, zeroed);
    }

    pub(crate) fn set_arena(&self, arena: usize) {
        self.put(Field::ARENA, arena as u64);
    }

    /// Written under the bin's lock.
    #[inline]
    pub(crate) fn set_in_bin_heap(&self, is_in: bool) {
        self.put(Field::IN_BIN_HEAP, is_in.into());
    }

    #[inline]
    pub(crate) fn set_generation(&self, generation: u16) {
        self.put(Field::GENERATION, generation.into());
    }

    /// Order of reuse: age, then address.
    #[inline]
    pub(crate) fn key(&self) -> (u64, usize) {
        (self.serial, self.address())
    }
}
