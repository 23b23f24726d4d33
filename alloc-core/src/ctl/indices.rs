//! Which indices exist in the place of an `<i>`.

use crate::pages::cache::NPAGE_CLASSES;
use crate::size::{NBINS, NLEXTENTS};
use crate::snapshot::Which;

use super::HeapControl;

/// `MALLCTL_ARENAS_ALL`.
pub(super) const ARENAS_ALL: usize = 4096;
/// `MALLCTL_ARENAS_DESTROYED`.
pub(super) const ARENAS_DESTROYED: usize = 4097;
/// Page size classes of jemalloc, by which `stats.arenas.<i>.extents.<j>` counts; ours are the first of them.
pub(crate) const NEXTENTS: usize = 199;
const _: () = assert!(NPAGE_CLASSES <= NEXTENTS);
/// Classes of jemalloc's huge page slabs.
pub(crate) const NSLABS: usize = 64;

/// Whether `index` may follow `word`, which follows `parent`.
pub(super) fn exists(heap: &'static dyn HeapControl, parent: &str, word: &str, index: usize) -> bool {
    match (parent, word) {
        // An arena that need not be there yet.
        (_, "arena") => index <= heap.narenas() as usize || index == ARENAS_ALL || index == ARENAS_DESTROYED,
        ("stats", "arenas") => {
            super::stats::ensure_taken(heap);
            heap.snapshot().lock().arena(which(heap, index)).is_some()
        }
        ("experimental", "arenas") => heap.arena_initialized(index.try_into().unwrap_or(u32::MAX)),
        (_, "bin" | "bins") => index < NBINS,
        (_, "lextent" | "lextents") => index < NLEXTENTS,
        (_, "extents") => index < NEXTENTS,
        (_, "nonfull_slabs") => index < NSLABS,
        _ => true,
    }
}

/// The arenas that an index of `stats.arenas` stands for.
pub(super) fn which(heap: &'static dyn HeapControl, index: usize) -> Which {
    // One more than the last index is an old way to say all.
    if index == ARENAS_ALL || index == heap.narenas() as usize {
        Which::Merged
    } else if index == ARENAS_DESTROYED {
        Which::Destroyed
    } else {
        Which::One(index.try_into().unwrap_or(u32::MAX))
    }
}
