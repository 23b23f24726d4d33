//! Memory for the heap's own descriptors: blocks from the OS, cut from the front, never given back one by one.
//!
//! Who needs a piece again and again keeps a free list of its own (extent descriptors by arena, thread states).

use core::mem::size_of;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::lock::{Mutex, Rank};
use crate::sys::{self, Advice, HUGE_PAGE, PAGE};

/// The first block; each further one doubles until [`BLOCK_BYTES_MAX`]. Untouched pages of a block cost nothing.
const BLOCK_BYTES_MIN: usize = 256 << 10;
const BLOCK_BYTES_MAX: usize = 8 << 20;
/// Metadata from which on [`HugePages::Auto`] asks for huge pages.
const AUTO_BYTES: usize = 8 << 20;

#[derive(Debug)]
struct Inner {
    next: usize,
    end: usize,
    block_bytes: usize,
}

/// What a block begins with.
#[derive(Debug)]
struct Header {
    /// The block that was mapped before; 0: none.
    previous: usize,
    bytes: usize,
}

/// The metadata allocator.
#[derive(Debug)]
pub struct Base {
    inner: Mutex<Inner>,
    /// The block that was mapped last; 0: none.
    last: AtomicUsize,
    allocated: AtomicUsize,
    mapped: AtomicUsize,
    /// Huge pages that were asked for.
    huge: AtomicUsize,
    /// When huge pages are asked for (`metadata_thp`), a [`HugePages`].
    huge_pages: AtomicU8,
}

/// Which blocks of metadata are to be of huge pages (`metadata_thp`, its words in this order).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HugePages {
    /// None.
    Disabled,
    /// Those mapped once there are 8 MiB, so that small processes stay small.
    Auto,
    /// All that are large enough.
    Always,
}

impl Base {
    /// An allocator without a block.
    pub const fn new() -> Self {
        Base {
            inner: Mutex::new(Rank::Base, Inner { next: 0, end: 0, block_bytes: BLOCK_BYTES_MIN }),
            last: AtomicUsize::new(0),
            allocated: AtomicUsize::new(0),
            mapped: AtomicUsize::new(0),
            huge: AtomicUsize::new(0),
            huge_pages: AtomicU8::new(HugePages::Disabled as u8),
        }
    }

    /// `bytes` of zeroed memory aligned to `align` (a power of two up to a page), or `None` when the OS has none.
    #[unsafe(link_section = "heapsift_text")]
    pub fn allocate(&self, bytes: usize, align: usize) -> Option<*mut u8> {
        debug_assert!(align.is_power_of_two() && align <= PAGE);
        let mut inner = self.inner.lock();
        let mut start = (inner.next + align - 1) & !(align - 1);
        if inner.next == 0 || start.checked_add(bytes)? > inner.end {
            let room = bytes.checked_add(align.max(size_of::<Header>()))?;
            let wanted = room.checked_add(PAGE - 1)? & !(PAGE - 1);
            let mut block = inner.block_bytes.max(wanted);
            let address = match sys::map(block, true) {
                Ok(address) => address,
                // Memory is short: just what is needed.
                Err(_) => {
                    block = wanted;
                    sys::map(block, true).ok()?
                }
            };
            let mapped = self.mapped.fetch_add(block, Ordering::Relaxed);
            self.ask_for_huge_pages(address, block, mapped);
            inner.block_bytes = (inner.block_bytes * 2).min(BLOCK_BYTES_MAX);
            let previous = self.last.load(Ordering::Relaxed);
            // SAFETY: mapped just now, and nobody has seen it.
            unsafe {
                core::ptr::with_exposed_provenance_mut::<Header>(address).write(Header { previous, bytes: block });
            }
            // Release: pairs with the Acquire in `blocks`; the header is there for whoever finds the block.
            self.last.store(address, Ordering::Release);
            inner.end = address + block;
            start = (address + size_of::<Header>()).next_multiple_of(align);
        }
        inner.next = start + bytes;
        self.allocated.fetch_add(bytes, Ordering::Relaxed);
        Some(core::ptr::with_exposed_provenance_mut(start))
    }

    /// Sets which blocks mapped from now on are to be of huge pages.
    pub fn set_huge_pages(&self, which: HugePages) {
        self.huge_pages.store(which as u8, Ordering::Relaxed);
    }

    /// Asks for huge pages in a new block, if they are wanted; `mapped` bytes were there before.
    fn ask_for_huge_pages(&self, address: usize, bytes: usize, mapped: usize) {
        let which = self.huge_pages.load(Ordering::Relaxed);
        let wanted = which == HugePages::Always as u8 || (which == HugePages::Auto as u8 && mapped >= AUTO_BYTES);
        let start = address.next_multiple_of(HUGE_PAGE);
        let end = (address + bytes) & !(HUGE_PAGE - 1);
        // SAFETY: the mapping is this allocator's own, and the advice leaves contents alone.
        if wanted && start < end && unsafe { sys::advise(start, end - start, Advice::HugePage) }.is_ok() {
            self.huge.fetch_add((end - start) / HUGE_PAGE, Ordering::Relaxed);
        }
    }

    /// How many huge pages were asked for.
    pub fn huge(&self) -> usize {
        self.huge.load(Ordering::Relaxed)
    }

    /// Bytes handed out.
    pub fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Bytes of address space taken from the OS.
    pub fn mapped(&self) -> usize {
        self.mapped.load(Ordering::Relaxed)
    }

    /// The first address and the end of each block, the newest first. Of most of them some pages are untouched.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        // Acquire: pairs with the Release in `allocate`.
        let mut next = self.last.load(Ordering::Acquire);
        core::iter::from_fn(move || {
            let start = next;
            // SAFETY: blocks begin with a header, and are never unmapped.
            let header = unsafe { core::ptr::with_exposed_provenance::<Header>(start).as_ref() }?;
            next = header.previous;
            Some((start, start + header.bytes))
        })
    }

    /// What the lock has seen.
    pub fn lock_counts(&self) -> crate::lock::Counts {
        self.inner.counts()
    }

    /// Has the lock count afresh.
    pub fn reset_lock_counts(&self) {
        self.inner.reset_counts();
    }

    /// In the child of a fork.
    pub fn after_fork(&self) {
        // The block that was being cut is given up: its `next` may not cover the last piece handed out.
        self.inner.after_fork(|inner| *inner = Inner { next: 0, end: 0, block_bytes: BLOCK_BYTES_MIN });
    }
}

impl Default for Base {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_counted_not_their_bytes() {
        static BASE: Base = Base::new();
        BASE.set_huge_pages(HugePages::Always);
        for _ in 0..3 {
            BASE.allocate(BLOCK_BYTES_MAX, PAGE).unwrap();
        }
        // None where the kernel has none.
        assert!(BASE.huge() <= BASE.mapped() / HUGE_PAGE, "{}", BASE.huge());
    }

    #[test]
    fn blocks_hold_what_is_handed_out() {
        let base = Base::new();
        assert_eq!(base.blocks().count(), 0);
        for (bytes, align) in [(64, 8), (PAGE, PAGE), (BLOCK_BYTES_MIN, PAGE), (3 << 20, 64), (24, 64), (8 << 20, PAGE)]
        {
            let start = base.allocate(bytes, align).unwrap().addr();
            assert_eq!(start % align, 0);
            let holding = base.blocks().filter(|&(from, to)| from < start && start + bytes <= to);
            assert_eq!(holding.count(), 1, "{bytes} bytes at {start:#x}");
        }
        assert_eq!(base.blocks().map(|(from, to)| to - from).sum::<usize>(), base.mapped());
    }
}
