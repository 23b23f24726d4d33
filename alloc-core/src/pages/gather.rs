//! Pages of free extents that are too short for a large request, moved to where it is to lie.
//!
//! Blocks of many megabytes that come and go leave dirty extents of all lengths behind, none of which is long enough for
//! the next one. Touching fresh memory beside them costs a page fault and a cleared page each, and the dirty ones stay as
//! they are. To move page tables costs about a hundredth of that: so the next block lies at unbacked addresses, and gets the
//! pages of dirty extents, which become unbacked instead.
//!
//! Each move leaves the kernel with one more mapping of its own, which never joins its neighbours again. So pages are moved
//! in chunks of a grid, where a chunk seldom lies in two mappings; the grid is the wider, the more an arena has mapped.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::grow::Thp;
use super::{Inner, Pages, Shared, ahead, dss};
use crate::extent::{Extent, State};
use crate::sys::{self, LG_PAGE, PAGE};

/// Missing memory for which pages are moved, at least: for less, the system calls cost what is saved.
pub(super) const MISSING_MIN: usize = 1 << 20;
/// The same where several threads are at work: a move has all of them wait at the kernel's lock of mappings, and interrupts
/// their processors. Two threads with blocks of 1/2 to 4 MiB took half as long again with moves from 256 KiB on.
const MISSING_MIN_OF_THREADS: usize = 2 << 20;
/// Threads up to which there may be just one at work: another often waits for it.
const THREADS_FEW: usize = 2;
/// Bytes that one extent brings, at least.
const SOURCE_MIN: usize = 512 << 10;
/// The least distance of the grid.
const GRID_MIN: usize = 128 << 10;
/// The grid where the kernel may back memory with huge pages, which a move by less would take apart.
const GRID_HUGE: usize = 2 << 20;
/// Chunks that an arena's mappings have at most.
const CHUNKS_MAX: usize = 2048;
/// Chunks that are missing or to be moved, at least: what lies around those that are moved stays behind, and is hard to use.
pub(super) const CHUNKS_MIN: usize = 4;
/// Extents that are taken apart for one request, at most.
const SOURCES: usize = 8;

/// Moves of parts of chunks, at most: each may leave a mapping more than the grid allows for.
const PARTS_MAX: usize = 4096;

/// Whether the kernel has refused to move pages.
static REFUSED: AtomicBool = AtomicBool::new(false);
/// How many parts of chunks were moved.
static PARTS: AtomicUsize = AtomicUsize::new(0);

/// The part of an extent that no page lies behind yet.
#[derive(Clone, Copy, Debug)]
pub struct Unbacked {
    /// Its first byte.
    pub start: usize,
    /// The byte after it.
    pub end: usize,
}

impl Unbacked {
    /// No part of it.
    pub const NONE: Unbacked = Unbacked { start: 0, end: 0 };

    /// Of an extent of the caller's.
    pub(super) unsafe fn whole(extent: *const Extent) -> Self {
        // SAFETY: the caller's extent.
        unsafe { Unbacked { start: (*extent).address(), end: (*extent).end() } }
    }

    /// Its length.
    pub fn bytes(&self) -> usize {
        self.end - self.start
    }
}

/// A run of chunks of a dirty extent that is in transit, and where its pages are to go.
#[derive(Clone, Copy, Debug)]
struct Source {
    extent: *mut Extent,
    to: usize,
}

/// What is to be moved once the lock is released.
#[derive(Debug)]
pub(super) struct Gathered {
    sources: [Source; SOURCES],
    count: usize,
    chunk: usize,
    pub(super) bytes: usize,
}

pub(super) fn up(address: usize, grid: usize) -> usize {
    (address + grid - 1) & !(grid - 1)
}

pub(super) fn down(address: usize, grid: usize) -> usize {
    address & !(grid - 1)
}

impl Gathered {
    pub(super) const NONE: Gathered =
        Gathered { sources: [Source { extent: null_mut(), to: 0 }; SOURCES], count: 0, chunk: 0, bytes: 0 };

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Shared {
    /// Says how many threads there are.
    pub(crate) fn note_threads(&self, live: usize) {
        let least = if live > THREADS_FEW { MISSING_MIN_OF_THREADS } else { MISSING_MIN };
        self.missing_min.store(least, Ordering::Relaxed);
    }
}

impl Inner {
    /// Counts an extent in transit that a move of `moved` bytes of it has torn: most of these are not mapped any more.
    ///
    /// # Safety
    /// The extent is the caller's.
    pub(super) unsafe fn abandon_torn(&mut self, extent: *const Extent, moved: usize) {
        // SAFETY: the caller's promise.
        self.abandoned_bytes += unsafe { (*extent).bytes() };
        self.mapped_bytes -= moved;
    }
}

impl Pages {
    /// The grid of this arena's moves; `None`: pages aren't moved here.
    pub(super) fn grid(&self, inner: &Inner) -> Option<usize> {
        // A program's own memory is the program's, and the data segment is to stay one mapping; without address space that is
        // kept there is nowhere to move to.
        if !self.retain || self.has_hooks() || dss::is_used() {
            return None;
        }
        if REFUSED.load(Ordering::Relaxed) {
            return None;
        }
        let least = if ahead::is_always() || self.thp == Thp::Always { GRID_HUGE } else { GRID_MIN };
        Some(least.max((inner.mapped_bytes / CHUNKS_MAX).next_power_of_two()))
    }

    /// Takes dirty extents for the unbacked part of an extent out of their cache; none where that part is to read as `zero`.
    /// What is left will be touched for the first time, and is noted as such.
    pub(super) fn gather(&self, inner: &mut Inner, shared: &Shared, unbacked: &Unbacked, zero: bool) -> Gathered {
        let gathered = if zero { Gathered::NONE } else { self.take_sources(inner, shared, unbacked) };
        shared.note_fresh(unbacked.bytes() - gathered.bytes, &mut inner.lent);
        gathered
    }

    fn take_sources(&self, inner: &mut Inner, shared: &Shared, unbacked: &Unbacked) -> Gathered {
        let mut gathered = Gathered::NONE;
        let least = shared.missing_min.load(Ordering::Relaxed);
        if unbacked.bytes() < least || inner.dirty.pages() << LG_PAGE < least {
            return gathered;
        }
        let Some(grid) = self.grid(inner).filter(|grid| unbacked.bytes() >= grid * CHUNKS_MIN) else { return gathered };
        gathered.chunk = grid;
        let (mut to, end) = (up(unbacked.start, grid), down(unbacked.end, grid));
        while to < end && gathered.count < SOURCES {
            let usable = |extent: *mut Extent| {
                // SAFETY: an extent in the cache, whose lock is held.
                let (start, end) = unsafe { ((*extent).address(), (*extent).end()) };
                down(end, grid).saturating_sub(up(start, grid))
            };
            let Some(extent) = inner.dirty.largest().take(SOURCES).find(|&extent| usable(extent) >= SOURCE_MIN) else {
                break;
            };
            let bytes = usable(extent).min(end - to);
            // SAFETY: the extent is in the cache; what is cut off it goes back there.
            let extent = unsafe {
                inner.dirty.remove(extent);
                self.carve(inner, shared, extent, bytes >> LG_PAGE, grid, State::Dirty, Self::put_back)
            };
            if extent.is_null() {
                break;
            }
            gathered.sources[gathered.count] = Source { extent, to };
            gathered.count += 1;
            gathered.bytes += bytes;
            to += bytes;
        }
        gathered
    }

    /// Moves the pages, if there are any. The lock is not held.
    #[inline]
    pub(super) fn move_in(&self, shared: &Shared, gathered: &Gathered) {
        if !gathered.is_empty() {
            self.move_sources(shared, gathered);
        }
    }

    #[cold]
    fn move_sources(&self, shared: &Shared, gathered: &Gathered) {
        for source in &gathered.sources[..gathered.count] {
            let extent = source.extent;
            // SAFETY: the extent is in transit, and this thread's; its pages are no one's. Where they go, nothing lies yet, in an
            // extent that is this thread's as well.
            unsafe {
                let moved = move_pages((*extent).address(), (*extent).bytes(), source.to, gathered.chunk, None);
                let mut inner = self.inner.lock();
                let state = match moved {
                    Moved::All => State::Retained,
                    Moved::Partly => State::Dirty,
                    Moved::Torn => {
                        inner.abandon_torn(extent, (*extent).bytes());
                        continue;
                    }
                };
                (*extent).set_zeroed(moved == Moved::All);
                self.give(&mut inner, shared, extent, state);
                inner.tell(shared);
            }
        }
    }
}

/// What takes the contents of so many bytes from the first address to the second.
type Copy = unsafe fn(usize, usize, usize);

/// What has come of pages that were to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moved {
    /// All have.
    All,
    /// Not all have.
    Partly,
    /// Some of the addresses that they had are nobody's any more: the whole range stays in transit.
    Torn,
}

/// Moves pages. What can't be moved is given to `otherwise`.
///
/// # Safety
/// The caller owns both ranges, whole chunks; unless there is an `otherwise`, their contents are given up.
pub(super) unsafe fn move_pages(from: usize, bytes: usize, to: usize, chunk: usize, otherwise: Option<Copy>) -> Moved {
    // What pages were moved from is not locked afterwards, whatever comes there.
    if !sys::is_locked(from) && !sys::is_locked(to) {
        // SAFETY: the caller's promise.
        return unsafe { move_chunks(from, bytes, to, chunk, otherwise) };
    }
    if let Some(otherwise) = otherwise {
        // SAFETY: the caller's ranges.
        unsafe { otherwise(from, bytes, to) };
    }
    Moved::Partly
}

/// Does so, in halves where they lie in several mappings, down to single chunks. One that does, too, as the grid was narrower
/// once, goes in parts as long as these are few. What lies in two mappings then stays: programs give the kernel advice on parts
/// of their blocks.
///
/// # Safety
/// As [`move_pages`].
unsafe fn move_chunks(from: usize, bytes: usize, to: usize, chunk: usize, otherwise: Option<Copy>) -> Moved {
    if sys::is_one_mapping(from, bytes) {
        // SAFETY: the caller's ranges, of which the first is one mapping.
        let error = match unsafe { sys::take_pages(from, bytes, to) } {
            Ok(true) => return Moved::All,
            Ok(false) => return Moved::Torn,
            Err(error) => error,
        };
        // Too many mappings are no reason to give up moving.
        if error != sys::ENOMEM {
            REFUSED.store(true, Ordering::Relaxed);
        }
    } else if bytes > chunk || takes_parts(bytes) {
        let chunk = if bytes > chunk { chunk } else { GRID_MIN };
        let half = down(bytes / 2 + chunk - 1, chunk);
        // SAFETY: parts of the caller's ranges.
        return unsafe {
            let first = move_chunks(from, half, to, chunk, otherwise);
            first.max(move_chunks(from + half, bytes - half, to + half, chunk, otherwise))
        };
    }
    if let Some(otherwise) = otherwise {
        // SAFETY: the caller's ranges.
        unsafe { otherwise(from, bytes, to) };
    }
    Moved::Partly
}

/// Whether a chunk of so many bytes is moved in parts.
#[cold]
fn takes_parts(bytes: usize) -> bool {
    // A huge page isn't taken apart for it.
    (GRID_MIN + 1..GRID_HUGE).contains(&bytes) && PARTS.fetch_add(1, Ordering::Relaxed) < PARTS_MAX
}

const _: () = assert!(GRID_MIN.is_multiple_of(PAGE));

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;

    const CHUNK: usize = GRID_MIN;
    const BYTES: usize = 8 * CHUNK;

    fn word(address: usize) -> *mut usize {
        core::ptr::with_exposed_provenance_mut(address)
    }

    fn pages(address: usize) -> impl Iterator<Item = *mut usize> {
        (address..address + BYTES).step_by(PAGE).map(word)
    }

    /// Where two mappings meet inside of a chunk.
    const MEET: usize = 2 * CHUNK + 3 * PAGE;

    /// Two ranges of chunks, the first one's pages numbered; it is two mappings, which meet so far from its start.
    fn ranges(meet: usize) -> (usize, usize) {
        let start = sys::map(2 * BYTES + CHUNK, true).unwrap();
        let from = up(start, CHUNK);
        for (number, page) in pages(from).enumerate() {
            // SAFETY: mapped above.
            unsafe { page.write(number + 1) };
        }
        let middle = from + meet;
        // SAFETY: as above; the advice changes no contents.
        unsafe { sys::advise(middle, from + BYTES - middle, sys::Advice::NoHugePage) }.unwrap();
        (from, from + BYTES)
    }

    fn numbers(address: usize) -> std::vec::Vec<usize> {
        // SAFETY: mapped by `ranges`, and nothing unmaps it.
        pages(address).map(|page| unsafe { page.read() }).collect()
    }

    unsafe fn copy(from: usize, bytes: usize, to: usize) {
        // SAFETY: both are of `ranges`.
        unsafe { word(to).cast::<u8>().copy_from_nonoverlapping(word(from).cast(), bytes) };
    }

    #[test]
    fn a_range_is_one_mapping_or_not() {
        let (from, _) = ranges(MEET);
        let (middle, numbered) = (from + MEET, numbers(from));
        assert!(sys::is_one_mapping(from, 2 * CHUNK) && sys::is_one_mapping(from, middle - from));
        assert!(sys::is_one_mapping(middle, CHUNK) && sys::is_one_mapping(middle - PAGE, PAGE));
        assert!(!sys::is_one_mapping(middle - PAGE, 2 * PAGE) && !sys::is_one_mapping(from, BYTES));
        assert_eq!(numbers(from), numbered);
    }

    #[test]
    fn chunks_in_two_mappings_are_not_moved() {
        let (from, to) = ranges(MEET);
        let numbered = numbers(from);
        // SAFETY: the ranges of this test.
        assert_eq!(unsafe { move_pages(from, BYTES, to, CHUNK, None) }, Moved::Partly);
        let (moved, left) = (numbers(to), numbers(from));
        for (i, &number) in numbered.iter().enumerate() {
            let is_there = i * PAGE / CHUNK != 2;
            assert_eq!((moved[i], left[i]), if is_there { (number, 0) } else { (0, number) }, "page {i}");
        }
        let (from, to) = ranges(MEET);
        // SAFETY: as above.
        assert_eq!(unsafe { move_pages(from, BYTES, to, CHUNK, Some(copy)) }, Moved::Partly);
        assert_eq!(numbers(to), numbered);
        // What lay to a narrower grid goes in parts of wider chunks.
        let (from, to) = ranges(3 * CHUNK);
        // SAFETY: as above.
        assert_eq!(unsafe { move_pages(from, BYTES, to, 4 * CHUNK, None) }, Moved::All);
        assert_eq!(numbers(to), numbered);
        assert!(!REFUSED.load(Ordering::Relaxed));
    }

    #[test]
    fn pages_come_with_their_mapping_beyond_a_limit_of_address_space() {
        let (from, to) = ranges(MEET);
        // SAFETY: the ranges of this test; the child calls what may be called in one.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let least = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_AS, &raw const least);
                let moved = move_pages(from, BYTES, to, CHUNK, Some(copy));
                let is_there = pages(to).zip(1..).all(|(page, number)| page.read() == number);
                libc::_exit(i32::from(moved != Moved::Torn || !is_there));
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            assert_eq!(status, 0);
        }
    }
}
