//! Memory that is backed before it is touched, many pages at a time.
//!
//! A page that is touched for the first time costs a fault. Sixteen that one call backs cost a quarter less, and a huge page of
//! 512 costs two fifths and is read faster afterwards. So where an arena goes on to memory of which nothing is backed yet, for
//! a slab, it asks for more than the page that it needs: for 64 KiB, and where it is large, for a huge page. What is backed
//! for nothing is the rest of one of these, a bounded part of what the arena has in use. Of large blocks, which may be
//! buffers, little may be used: they are backed as they are touched.
//!
//! The kernel is asked for this huge page only (`MADV_COLLAPSE`, Linux 6.1), and never to see to the mapping as a whole: it
//! would back sparse blocks with huge pages as well, and those parts again that were given back.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use super::gather::{Unbacked, down, up};
use super::grow::Thp;
use super::{Inner, Pages, Shared};
use crate::conf::Options;
use crate::extent::State;
use crate::sys::sandbox::in_sandbox;
use crate::sys::{self, Advice, Errno, HUGE_PAGE, LG_PAGE, PAGE};

/// What one call backs where no huge page is asked for.
const BATCH: usize = 64 << 10;
/// Bytes in use from which on an arena asks for a batch.
const BATCH_FROM: usize = 4 << 20;
/// Requests of so many bytes and more get no huge page: not all of such a row may be used.
const HUGE_REQUEST_MAX: usize = HUGE_PAGE / 2;

/// Whether batches can be had.
static BATCHES: AtomicBool = AtomicBool::new(true);

/// Where the kernel backs memory with huge pages: not known, wherever it can, where it is asked to, nowhere.
static MODE: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const ALWAYS: u8 = 1;
const ON_REQUEST: u8 = 2;
const NEVER: u8 = 3;

/// The most that has been backed at a time: free memory as far as that from what is in use may be backed.
static UNIT: AtomicUsize = AtomicUsize::new(PAGE);

/// After a huge page that the kernel refused, or took long for, there is none until then, in ticks.
static NOT_BEFORE: AtomicU64 = AtomicU64::new(0);
/// For how many ticks, the next time.
static WAIT: AtomicU64 = AtomicU64::new(WAIT_LEAST);
/// About half a second, and a minute.
const WAIT_LEAST: u64 = 1 << 30;
const WAIT_MOST: u64 = 1 << 37;
/// Nearly a millisecond. Then single pages cost less: memory is so scattered that the kernel had to move some, or it is a
/// guest's whose host has to find it first.
const LONG: u64 = 1 << 21;

/// Memory to be backed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    address: usize,
    bytes: usize,
}

/// Notes that there may be huge pages in the heap.
pub(super) fn note_huge() {
    UNIT.store(HUGE_PAGE, Ordering::Relaxed);
}

/// To be called before pages of a range are given back: huge pages of which only a part lies in it are made pages, or the
/// kernel would keep all of their memory as long as there is no want of any.
///
/// # Safety
/// The range is the caller's.
pub(crate) unsafe fn split(address: usize, bytes: usize) {
    if UNIT.load(Ordering::Relaxed) != HUGE_PAGE || in_sandbox() {
        return;
    }
    let end = address + bytes;
    // What lies between fills huge pages.
    let head = up(address, HUGE_PAGE).min(end);
    let tail = down(end, HUGE_PAGE).max(head);
    for (from, to) in [(address, head), (tail, end)] {
        if from < to {
            // SAFETY: the advice doesn't change contents. The kernel splits a huge page that it would take a part of.
            let _ = unsafe { sys::advise(from, to - from, Advice::Cold) };
        }
    }
}

/// Up to where free memory beside `[address, end)` may be backed since something there was: to be given back with it.
pub(super) fn backed_around(address: usize, end: usize) -> (usize, usize) {
    let unit = UNIT.load(Ordering::Relaxed);
    (down(address, unit), up(end, unit))
}

/// What the kernel does, by a look if that is not known.
pub(crate) fn mode() -> u8 {
    match MODE.load(Ordering::Relaxed) {
        UNKNOWN => {
            let mode = match sys::extra::thp_mode() {
                "always" => ALWAYS,
                "default" => ON_REQUEST,
                _ => NEVER,
            };
            if mode == ALWAYS {
                note_huge();
            }
            MODE.store(mode, Ordering::Relaxed);
            mode
        }
        known => known,
    }
}

/// Whether the kernel backs memory with huge pages of its own accord.
pub(super) fn is_always() -> bool {
    mode() == ALWAYS
}

/// Bytes in use from which on an arena asks for huge pages; all ones: it doesn't.
pub(super) fn huge_from(options: &Options) -> usize {
    if options.huge_pages_from == 0 { usize::MAX } else { options.huge_pages_from }
}

impl Pages {
    /// What to back now that an extent has been cut out of a free one, of which `unbacked` has no pages; `None`: nothing more
    /// than what will be touched.
    #[inline]
    pub(super) fn ahead(&self, inner: &mut Inner, shared: &Shared, unbacked: &Unbacked) -> Option<Ahead> {
        if up(unbacked.start, BATCH) >= unbacked.end || inner.active_pages << LG_PAGE < BATCH_FROM {
            return None;
        }
        self.worth_backing(inner, shared, unbacked)
    }

    #[cold]
    fn worth_backing(&self, inner: &mut Inner, shared: &Shared, unbacked: &Unbacked) -> Option<Ahead> {
        if self.has_hooks() || in_sandbox() {
            return None;
        }
        let mode = mode();
        let rest = shared.map.extent(unbacked.end);
        let free_to = if self.in_cache(inner, rest, State::Retained) {
            // SAFETY: an extent in this arena's cache, whose lock is held. It begins behind what has been cut off.
            unsafe { (*rest).end() }
        } else {
            unbacked.end
        };
        let unit = |bytes: usize, request_max: usize| {
            let address = up(unbacked.start, bytes);
            (unbacked.bytes() < request_max && address < unbacked.end && address + bytes <= free_to)
                .then_some(Ahead { address, bytes })
        };
        let huge =
            if inner.active_pages << LG_PAGE >= self.huge_from { unit(HUGE_PAGE, HUGE_REQUEST_MAX) } else { None };
        huge.filter(|_| mode == ON_REQUEST && self.asks_for_huge_pages())
            .or_else(|| unit(BATCH, BATCH).filter(|_| BATCHES.load(Ordering::Relaxed)))
    }

    fn asks_for_huge_pages(&self) -> bool {
        self.thp == Thp::Default && sys::ticks() >= NOT_BEFORE.load(Ordering::Relaxed)
    }
}

impl Ahead {
    /// Has the kernel back the memory.
    ///
    /// # Safety
    /// The first byte is the caller's, and reads as zero or doesn't count; the others are the heap's.
    #[cold]
    pub(super) unsafe fn back(self) {
        const EINVAL: Errno = Errno(22);
        // What other threads have in it meanwhile is kept: the advice doesn't change contents.
        if self.bytes == HUGE_PAGE {
            // SAFETY: the caller's promise.
            return unsafe { back_huge(self.address) };
        }
        UNIT.fetch_max(self.bytes, Ordering::Relaxed);
        // SAFETY: the heap's memory.
        if unsafe { sys::advise(self.address, self.bytes, Advice::PopulateWrite) } == Err(EINVAL) {
            BATCHES.store(false, Ordering::Relaxed);
        }
    }
}

/// # Safety
/// As [`Ahead::back`].
unsafe fn back_huge(address: usize) {
    let start = sys::ticks();
    // SAFETY: the caller's byte. The kernel asks for a page to start with.
    let done = unsafe {
        core::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(0);
        sys::advise(address, HUGE_PAGE, Advice::Collapse)
    };
    let now = sys::ticks();
    if done.is_ok() {
        note_huge();
    }
    if done.is_ok() && now.wrapping_sub(start) < LONG {
        WAIT.store(WAIT_LEAST, Ordering::Relaxed);
    } else {
        let wait = WAIT.load(Ordering::Relaxed);
        WAIT.store((wait * 4).min(WAIT_MOST), Ordering::Relaxed);
        NOT_BEFORE.store(now.saturating_add(wait), Ordering::Relaxed);
    }
}
