//! Memory for the heap's own descriptors: blocks from the OS, cut from the front, never given back one by one.
//!
//! Who needs a piece again and again keeps a free list of its own (extent descriptors by arena, thread states).

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

/// The metadata allocator.
#[derive(Debug)]
pub struct Base {
    inner: Mutex<Inner>,
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
            let wanted = bytes.checked_add(PAGE - 1)? & !(PAGE - 1);
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
            inner.next = address;
            inner.end = address + block;
            start = address;
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
}
