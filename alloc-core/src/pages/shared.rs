//! What all arenas of a heap share.

use core::sync::atomic::{AtomicU64, AtomicUsize};

use super::regret::Regret;
use super::{gather, purge};
use crate::background::Alarm;
use crate::base::Base;
use crate::pagemap::PageMap;

/// A word that all threads write, in cache lines of its own: what stands beside it is read at every lookup.
#[derive(Debug)]
#[repr(align(128))]
pub struct Apart<T>(T);

impl<T> core::ops::Deref for Apart<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// What all arenas of a heap share.
#[derive(Debug)]
pub struct Shared {
    /// Metadata.
    pub base: Base,
    /// From addresses to extents.
    pub map: PageMap,
    /// Age of the next mapping.
    pub(super) serial: AtomicU64,
    /// Bytes of active extents over all arenas, as each arena last told.
    pub active_bytes: Apart<AtomicUsize>,
    /// Highest value of `active_bytes` seen while somebody wanted to know.
    pub active_bytes_max: AtomicUsize,
    /// Unused backed bytes over all arenas, as each arena last told.
    pub(super) dirty_bytes: Apart<AtomicUsize>,
    /// The change of an arena's pages from which it is told.
    pub(super) many_pages: AtomicUsize,
    /// Bytes that a large request lacks from which on pages are moved there; see [`gather`].
    pub(super) missing_min: AtomicUsize,
    /// How often the bound has taken pages of a heap that shrinks.
    pub(super) shrinks: AtomicUsize,
    /// How often the process has used much more memory for the first time: see [`Shared::growths`].
    pub(super) growths: AtomicUsize,
    /// Bytes of that since it was last much.
    pub(super) fresh_bytes: AtomicUsize,
    /// What the last look at the bound on unused pages has left beyond it.
    pub(super) left_beyond: AtomicUsize,
    /// What the bound on unused pages has cost.
    pub(super) regret: Regret,
    /// How background threads are woken.
    pub alarm: Alarm,
}

impl Shared {
    /// Nothing mapped yet.
    pub const fn new() -> Self {
        Shared {
            base: Base::new(),
            map: PageMap::new(),
            serial: AtomicU64::new(0),
            active_bytes: Apart(AtomicUsize::new(0)),
            active_bytes_max: AtomicUsize::new(0),
            dirty_bytes: Apart(AtomicUsize::new(0)),
            many_pages: AtomicUsize::new(purge::MANY_PAGES_LEAST),
            missing_min: AtomicUsize::new(gather::MISSING_MIN),
            shrinks: AtomicUsize::new(0),
            growths: AtomicUsize::new(0),
            fresh_bytes: AtomicUsize::new(0),
            left_beyond: AtomicUsize::new(0),
            regret: Regret::new(),
            alarm: Alarm::new(),
        }
    }

    /// As [`Base::allocate`]; what goes of the page map may make room for it.
    pub(crate) fn allocate_metadata(&self, bytes: usize, align: usize) -> Option<*mut u8> {
        let got = self.base.allocate(bytes, align);
        if got.is_none() && self.map.narrow() { self.base.allocate(bytes, align) } else { got }
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}
