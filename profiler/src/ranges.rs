//! A list of address ranges that threads add to and take from without a lock, and that anybody may read meanwhile.

use crate::sync::atomic::{AtomicUsize, Ordering};

/// Up to `N` ranges. None begins at address 0.
#[derive(Debug)]
pub struct Ranges<const N: usize> {
    places: [Place; N],
}

#[derive(Debug)]
struct Place {
    /// 0: nobody's.
    start: AtomicUsize,
    /// 0: not there yet, or no longer.
    bytes: AtomicUsize,
}

impl<const N: usize> Ranges<N> {
    /// None.
    pub const fn new() -> Self {
        Ranges { places: [const { Place { start: AtomicUsize::new(0), bytes: AtomicUsize::new(0) } }; N] }
    }

    /// Adds a range, which only the caller takes out again. `false`: there is no room.
    pub fn add(&self, start: usize, bytes: usize) -> bool {
        for place in &self.places {
            if place.start.load(Ordering::Relaxed) == 0
                // Acquire: the length of the range that was here before is gone. Release: whoever reads this start sees that.
                && place.start.compare_exchange(0, start, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                // Release: whoever reads this length then sees this start.
                place.bytes.store(bytes, Ordering::Release);
                return true;
            }
        }
        false
    }

    /// Takes the range out that begins at `start`, if there is one.
    pub fn remove(&self, start: usize) {
        // Relaxed: the caller has added it, or was told of it by who did.
        if let Some(place) = self.places.iter().find(|place| place.start.load(Ordering::Relaxed) == start) {
            place.bytes.store(0, Ordering::Relaxed);
            // Release: pairs with the Acquire in `add`.
            place.start.store(0, Ordering::Release);
        }
    }

    /// The ranges, first address and length. One that comes or goes meanwhile may be among them; none is made of two.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize)> {
        self.places.iter().filter_map(|place| {
            // Acquire: a length that was here before this start is not seen any more.
            let start = place.start.load(Ordering::Acquire);
            // Acquire: if the length is another range's, its start is seen below.
            let bytes = place.bytes.load(Ordering::Acquire);
            let is_same = place.start.load(Ordering::Relaxed) == start;
            (start != 0 && bytes > 0 && is_same).then_some((start, bytes))
        })
    }
}

impl<const N: usize> Default for Ranges<N> {
    fn default() -> Self {
        Self::new()
    }
}
