//! Huge pages for a heap that grows.
//!
//! A page that is touched for the first time costs a fault, and the processor's tables for it later: a huge page of 512
//! costs two fifths of what those cost one by one, and memory that lies in huge pages is read faster. So where an arena that
//! is large enough goes on to a huge page's worth of memory, of which nothing is backed yet, it asks for that page at once.
//! What is backed for nothing is the rest of one huge page, a bounded part of what the arena has in use.
//!
//! The kernel is asked for this page only (`MADV_COLLAPSE`, Linux 6.1), and never to see to the mapping as a whole: it would
//! back sparse blocks with huge pages as well, and those parts again that were given back.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::gather::{Unbacked, down, up};
use super::grow::Thp;
use super::{Inner, Pages, Shared};
use crate::conf::Options;
use crate::extent::State;
use crate::sys::{self, Advice, HUGE_PAGE, LG_PAGE};

/// Requests of so many bytes and more are left alone: not all of such a block may be used.
const REQUEST_MAX: usize = HUGE_PAGE / 2;

/// Whether the kernel backs memory with huge pages where it is asked to: not known, yes, no.
static ON_REQUEST: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

/// Whether there may be huge pages in the heap.
static SEEN: AtomicBool = AtomicBool::new(false);

/// After a request that the kernel refused, or took long for, there is none until then, in ticks.
static NOT_BEFORE: AtomicU64 = AtomicU64::new(0);
/// For how many ticks, the next time.
static WAIT: AtomicU64 = AtomicU64::new(WAIT_LEAST);
/// About half a second, and a minute.
const WAIT_LEAST: u64 = 1 << 30;
const WAIT_MOST: u64 = 1 << 37;
/// Nearly a millisecond. Then single pages cost less: memory is so scattered that the kernel had to move some, or it is a
/// guest's whose host has to find it first.
const LONG: u64 = 1 << 21;

/// Notes that there may be huge pages in the heap.
pub(crate) fn note() {
    SEEN.store(true, Ordering::Relaxed);
}

/// To be called before pages of a range are given back: huge pages of which only a part lies in it are made pages, or the
/// kernel would keep all of their memory as long as there is no want of any.
///
/// # Safety
/// The range is the caller's.
pub(crate) unsafe fn split(address: usize, bytes: usize) {
    if !SEEN.load(Ordering::Relaxed) || sys::sandbox::in_sandbox() {
        return;
    }
    let end = address + bytes;
    let (first, last) = (up(address, HUGE_PAGE), down(end, HUGE_PAGE));
    // Where the range lies in one, or fills some and begins and ends in others.
    let parts = if first > last { [(address, end), (end, end)] } else { [(address, first), (last, end)] };
    for (from, to) in parts {
        if from < to {
            // SAFETY: the advice doesn't change contents. The kernel splits a huge page that it would take a part of.
            let _ = unsafe { sys::advise(from, to - from, Advice::Cold) };
        }
    }
}

fn is_on_request() -> bool {
    match ON_REQUEST.load(Ordering::Relaxed) {
        UNKNOWN => {
            let is = sys::extra::thp_mode() == "default";
            ON_REQUEST.store(if is { YES } else { NO }, Ordering::Relaxed);
            is
        }
        known => known == YES,
    }
}

/// Bytes in use from which on an arena asks; all ones: it doesn't.
pub(super) fn from(options: &Options) -> usize {
    if options.huge_pages_from == 0 { usize::MAX } else { options.huge_pages_from }
}

impl Pages {
    /// The address of the huge page that memory is worth which an arena goes on to; `None`: there is none, or it isn't worth it.
    ///
    /// `unbacked` is the part without pages of an extent that has just been cut out of a free one.
    #[inline]
    pub(super) fn huge_page(&self, inner: &mut Inner, shared: &Shared, unbacked: &Unbacked) -> Option<usize> {
        let address = up(unbacked.start, HUGE_PAGE);
        if address >= unbacked.end || inner.active_pages << LG_PAGE < self.huge_from {
            return None;
        }
        self.whole_huge_page(inner, shared, unbacked, address)
    }

    #[cold]
    fn whole_huge_page(
        &self,
        inner: &mut Inner,
        shared: &Shared,
        unbacked: &Unbacked,
        address: usize,
    ) -> Option<usize> {
        let is_wanted = self.thp == Thp::Default && !self.has_hooks() && unbacked.bytes() < REQUEST_MAX;
        if !is_wanted
            || sys::sandbox::in_sandbox()
            || sys::ticks() < NOT_BEFORE.load(Ordering::Relaxed)
            || !is_on_request()
        {
            return None;
        }
        let rest = shared.map.extent(unbacked.end);
        // SAFETY: an extent in this arena's cache, whose lock is held.
        let is_free = self.in_cache(inner, rest, State::Retained)
            && unsafe { (*rest).address() == unbacked.end && (*rest).end() >= address + HUGE_PAGE };
        is_free.then_some(address)
    }
}

/// Has the kernel back a huge page.
///
/// # Safety
/// The byte at `address` is the caller's, and reads as zero or doesn't count; the others are the heap's.
#[cold]
pub(super) unsafe fn back(address: usize) {
    let start = sys::ticks();
    // SAFETY: the caller's byte. The kernel asks for a page to start with. What other threads have in the rest meanwhile
    // is kept: the advice doesn't change contents.
    let done = unsafe {
        core::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(0);
        sys::advise(address, HUGE_PAGE, Advice::Collapse)
    };
    let now = sys::ticks();
    if done.is_ok() {
        note();
    }
    if done.is_ok() && now.wrapping_sub(start) < LONG {
        WAIT.store(WAIT_LEAST, Ordering::Relaxed);
    } else {
        let wait = WAIT.load(Ordering::Relaxed);
        WAIT.store((wait * 4).min(WAIT_MOST), Ordering::Relaxed);
        NOT_BEFORE.store(now.saturating_add(wait), Ordering::Relaxed);
    }
}
