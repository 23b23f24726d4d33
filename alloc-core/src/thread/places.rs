//! Which caches of a thread hold what.
//!
//! A line of the processor's cache often holds two small blocks. Where a thread frees one that another thread has allocated and
//! gets it again with its next request, its neighbours are still the other thread's: both write to the line from then on, and
//! each waits for the other. So small classes have two places in a thread's caches and in the bytes of the page map, one for the
//! slabs of arenas with even numbers and one for those of odd ones. A thread allocates from the place of its own arena's kind.
//! What it frees at the other one goes back to the arena that it came from, some at a time. The fast paths know nothing of
//! this: what they look up is a place.

use super::{LARGE_TABLE, LARGE_TABLE_LEN, Thread};
use crate::conf::Options;
use crate::size::{self, NCLASSES, PAIRED, PLACES};

/// A cache of blocks that go back to where they came from has slots for so many bytes, or for two blocks.
const FOREIGN_BYTES: usize = 16 << 10;

/// All places of classes.
pub(crate) fn places() -> core::ops::Range<usize> {
    1..PLACES
}

/// Slots of the cache at the other place of a slab class, which has so many at first at its own.
pub(crate) fn foreign_slots(class: usize, first: usize) -> usize {
    first.min((FOREIGN_BYTES / size::class_bytes(class)).max(2))
}

impl Thread {
    /// Has the fast paths allocate from the thread's places.
    pub(super) fn fill_tables(&mut self, options: &Options) {
        let plain_allocations = !(options.zero || options.junk_alloc);
        self.table = if plain_allocations { size::TABLE } else { [0; size::TABLE.len()] };
        self.large_table = if plain_allocations { LARGE_TABLE } else { [0; LARGE_TABLE_LEN] };
        if self.is_odd && plain_allocations {
            // These are the smallest sizes.
            self.table[..=size::class_bytes(PAIRED)].iter_mut().for_each(|place| *place += NCLASSES as u8);
        }
    }

    /// Has the thread allocate from the places of arenas whose number is odd or not. Blocks at the others' places that it frees
    /// go back to where they came from, rather than to the next request: what shares a line of the processor's cache with
    /// them is another thread's. All caches are empty.
    ///
    /// # Safety
    /// The slots of the state are those that it was laid out with.
    pub(crate) unsafe fn set_odd(&mut self, is_odd: bool, options: &Options) {
        if self.is_odd == is_odd {
            return;
        }
        self.is_odd = is_odd;
        // SAFETY: the caller's promise.
        unsafe { self.lay_out_again(options) };
        self.fill_tables(options);
        for place in places() {
            // No requests are untold.
            self.inflow[place] = self.frees[place].wrapping_neg();
        }
    }

    /// The place of `class` from which the thread allocates.
    #[inline]
    pub(crate) fn place(&self, class: usize) -> usize {
        size::place(class, self.is_odd)
    }

    /// Whether what is freed at a place goes back to its arena.
    #[inline]
    pub(crate) fn is_foreign(&self, place: usize) -> bool {
        if self.is_odd { place <= PAIRED } else { place > NCLASSES }
    }

    /// Whether the thread allocates from second places.
    pub(crate) fn is_odd(&self) -> bool {
        self.is_odd
    }

    /// Lays the slots out anew, those that came with the state or those of its own limits, and makes caches of them that have
    /// never held a block. All caches are empty.
    ///
    /// # Safety
    /// As [`Thread::lay_out_usual_slots`]; its own limits have as many slots as they need.
    pub(crate) unsafe fn lay_out_again(&mut self, options: &Options) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.own_slots() {
                Some((limits, slots)) => self.lay_out_slots(slots, &limits, options),
                None => self.lay_out_usual_slots(options),
            }
        }
        self.empty();
        self.set_caching(self.caching);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;
    use crate::thread::slots::{OFFSET_OF_SLOTS, state_bytes, tests::with_state};

    #[test]
    fn room_is_free_again_after_a_change() {
        with_state(|thread| {
            let options = &Options::DEFAULT;
            let (small, large) = (size::class_of(64), size::class_of(20 << 10));
            for is_odd in [true, false, true] {
                // Both grow, and are emptied.
                for class in [small, large] {
                    let place = thread.place(class);
                    thread.open(place);
                    while thread.grow(place, 1 << 20) {}
                    assert!(thread.capacity(place) > 0);
                }
                assert!(thread.large_room > 0 && thread.grown_room > 0);
                // SAFETY: the slots came with the state.
                unsafe { thread.set_odd(is_odd, options) };
                assert_eq!((thread.large_room, thread.grown_room), (0, 0));
                assert!(places().all(|place| thread.capacity(place) == 0));
            }
        });
    }

    #[test]
    fn each_place_has_slots_of_its_own() {
        with_state(|thread| {
            let options = &Options::DEFAULT;
            let state = (&raw const *thread).addr();
            for is_odd in [false, true, false] {
                // SAFETY: the slots came with the state.
                unsafe { thread.set_odd(is_odd, options) };
                let of = |place: usize| {
                    thread.start[place].addr()..thread.start[place].addr() + 8 * (1 + thread.slots_max[place] as usize)
                };
                let mut slots: Vec<_> = places().map(of).collect();
                slots.sort_by_key(|slots| slots.start);
                assert!(slots.windows(2).all(|two| two[0].end == two[1].start));
                assert_eq!(slots[0].start, state + OFFSET_OF_SLOTS);
                assert_eq!(slots.last().map(|last| last.end), Some(state + state_bytes(options)));
                for class in 1..=NCLASSES {
                    let (place, other) = (thread.place(class), size::place(class, !is_odd));
                    assert!(!thread.is_foreign(place) && thread.slots[place] > 0);
                    assert!(
                        other == place || (thread.is_foreign(other) && thread.slots_max[other] <= thread.slots[place])
                    );
                    assert_eq!((size::class_at(place), size::class_at(other)), (class, class));
                }
                for (bytes, &place) in thread.table.iter().enumerate() {
                    assert_eq!(usize::from(place), thread.place(size::class_of(bytes)), "{bytes} bytes");
                }
            }
        });
    }
}
