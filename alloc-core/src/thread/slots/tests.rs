//! What a thread's caches hold as they open, grow, move and shrink.

use super::*;
use crate::pagemap::{NO_MAP_SHIFT, no_map};
extern crate std;

pub(in crate::thread) fn with_state(test: impl FnOnce(&mut Thread)) {
    let options = &Options::DEFAULT;
    let mut memory = std::vec![0u64; state_bytes(options) / 8 + 8];
    let start = memory.as_mut_ptr();
    // SAFETY: memory of that size, moved on to the alignment, which nobody else uses.
    let thread = unsafe {
        let aligned = start.byte_add(start.align_offset(64) * 8);
        &mut *Thread::lay_out(aligned.cast(), options, (no_map(), NO_MAP_SHIFT))
    };
    test(thread);
}

#[test]
fn what_was_half_open_at_a_fork_is_opened() {
    with_state(|thread| {
        let class = size::class_of(100);
        assert!((1..=NCLASSES).all(|class| thread.capacity(class) == 0 && thread.cached(class) == 0));
        assert!(thread.open(class) && thread.open(class));
        let (capacity, last, bottom) = (thread.capacity(class), thread.last[class], thread.bottom[class]);
        for step in 0..2 {
            thread.close(class);
            thread.last[class] = last;
            if step > 0 {
                thread.top[class] = bottom;
            }
            thread.after_fork();
            assert_eq!((thread.capacity(class), thread.cached(class)), (capacity, 0), "{step}");
            assert!(thread.pop(class).is_null());
        }
        // What was half closed is closed.
        for step in 0..2 {
            assert!(thread.open(class) && thread.capacity(class) == capacity);
            thread.last[class] = no_slot();
            if step > 0 {
                thread.top[class] = no_slot();
            }
            thread.after_fork();
            assert!(thread.is_closed(class) && (thread.capacity(class), thread.cached(class)) == (0, 0), "{step}");
        }
        // Closed ones stay so.
        assert_eq!(thread.capacity(class + 1), 0);
    });
}

/// Pushes so many blocks, which are numbers.
fn push(thread: &mut Thread, class: usize, numbers: core::ops::Range<usize>) -> bool {
    numbers.into_iter().all(|number| thread.push(class, core::ptr::without_provenance_mut(number * 4096)))
}

fn popped(thread: &mut Thread, class: usize) -> usize {
    let mut count = 0;
    while !thread.pop(class).is_null() {
        count += 1;
    }
    count
}

#[test]
fn a_class_that_is_used_much_leaves_its_first_slots() {
    with_state(|thread| {
        let class = size::class_of(100);
        assert!(thread.open(class) && push(thread, class, 1..FIRST_SLOTS + 1));
        assert!(!push(thread, class, 99..100) && thread.grow(class, SHARE_MOST));
        assert_eq!(thread.capacity(class), thread.slots[class] as usize);
        assert!(push(thread, class, 99..100));
        assert_eq!(thread.pop(class).addr() / 4096, 99);
        for number in (1..=FIRST_SLOTS).rev() {
            assert_eq!(thread.pop(class).addr() / 4096, number);
        }
        assert!(thread.pop(class).is_null());
        // Fills that come again and again do as much, whole pages have no first slots.
        let class = size::class_of(1000);
        assert!(thread.open(class) && thread.has_first_slots(class));
        let fills: [usize; 4] = core::array::from_fn(|_| thread.fill_count(class));
        assert!(fills[0] < fills[3] && !thread.has_first_slots(class), "{fills:?}");
        assert!(thread.open(NBINS) && !thread.has_first_slots(NBINS + 1));
    });
}

#[test]
fn one_of_many_threads_begins_with_little() {
    with_state(|thread| {
        assert_eq!(
            (class_share(cache_share(THREADS_FEW)), class_share(cache_share(2 * THREADS_FEW))),
            (usize::MAX, SHARE_MOST / 32)
        );
        thread.class_share = 4096;
        let [small, large] = [100, 4000].map(size::class_of);
        assert!(thread.open(small) && thread.open(large) && thread.open(size::class_of(8)));
        assert_eq!(thread.capacity(small), FIRST_SLOTS);
        assert!(thread.grow(small, SHARE_MOST) && thread.capacity(small) == 4096 / size::class_bytes(small));
        assert_eq!(thread.capacity(large), NARROW_SLOTS);
        // It grows by use, and moves when it must. The room is had again.
        let mut number = 1;
        let capacities: [usize; 4] = core::array::from_fn(|_| {
            while push(thread, large, number..number + 1) {
                number += 1;
            }
            assert!(thread.grow(large, SHARE_MOST));
            thread.capacity(large)
        });
        assert_eq!(capacities, [6, 9, 13, 19]);
        assert!(!thread.has_first_slots(large) && thread.grown_room == (19 - NARROW_SLOTS) * 4096);
        assert_eq!((popped(thread, large), number), (13, 14));
        thread.shrink(large);
        assert_eq!((thread.capacity(large), thread.grown_room), (NARROW_SLOTS, 0));
    });
}

#[test]
fn what_is_only_freed_is_not_kept_for_long() {
    with_state(|thread| {
        let class = size::class_of(100);
        assert!(thread.open(class));
        let fill_up = |thread: &mut Thread| {
            while push(thread, class, 1..2) || thread.grow(class, SHARE_MOST) {}
            thread.capacity(class)
        };
        let grown = fill_up(thread);
        assert!(grown > thread.initial(class));
        let overflow = |thread: &mut Thread, fills| {
            thread.top[class] = thread.bottom[class].wrapping_add(1);
            if thread.note_overflow(class) {
                thread.judge_overflows(class, fills);
            }
        };
        // Other threads want what this one frees, and then no more.
        for i in 0..10 * u64::from(VAIN_OVERFLOWS) {
            assert_eq!(fill_up(thread), grown);
            overflow(thread, i);
        }
        for _ in 0..2 * VAIN_OVERFLOWS {
            overflow(thread, 1000);
        }
        overflow(thread, 1000);
        assert_eq!((fill_up(thread), thread.grown_room), (thread.initial(class), 0));
        // They want it again.
        for i in 0..2 * u64::from(VAIN_OVERFLOWS) {
            overflow(thread, i);
        }
        assert_eq!(fill_up(thread), grown);
        for _ in 0..3 * VAIN_OVERFLOWS {
            overflow(thread, 1000);
        }
        assert_eq!((fill_up(thread), thread.grown_room), (thread.initial(class), 0));
        // What is wanted again is kept as before.
        popped(thread, class);
        assert!(thread.fill_count(class) > 0);
        assert_eq!(fill_up(thread), grown);
    });
}

#[test]
fn caches_are_narrow_while_the_heap_shrinks() {
    with_state(|thread| {
        let [few, many] = [100, 200].map(size::class_of);
        assert!(thread.open(few) && thread.open(many) && push(thread, many, 1..FIRST_SLOTS + 1));
        assert!(thread.grow(many, SHARE_MOST) && push(thread, many, 1..3));
        popped(thread, many);
        let wide = [few, many].map(|class| thread.capacity(class));
        thread.narrow();
        assert_eq!([few, many].map(|class| thread.capacity(class)), [NARROW_SLOTS; 2]);
        // A fill makes them wide.
        assert!(thread.fill_count(few) > 0);
        assert_eq!([few, many].map(|class| thread.capacity(class)), wide);
        // So do many overflows.
        thread.narrow();
        assert!(push(thread, many, 1..NARROW_SLOTS + 1) && !push(thread, many, 9..10));
        let overflows = (0..).take_while(|_| !thread.grow(many, SHARE_MOST)).count();
        assert_eq!(overflows + 1, NARROW_OVERFLOWS as usize);
        assert_eq!([few, many].map(|class| thread.capacity(class)), wide);
    });
}

#[test]
fn what_was_half_moved_at_a_fork_is_moved() {
    let class = size::class_of(100);
    for step in 1..7 {
        with_state(|thread| {
            assert!(thread.open(class) && push(thread, class, 1..11));
            let before = (thread.bottom[class], thread.top[class], thread.last[class]);
            assert!(thread.leave_first_slots(class));
            let after = (thread.bottom[class], thread.top[class], thread.last[class]);
            thread.bottom[class] = if step & 1 == 0 { before.0 } else { after.0 };
            thread.top[class] = if step & 2 == 0 { before.1 } else { after.1 };
            thread.last[class] = if step & 4 == 0 { before.2 } else { after.2 };
            thread.after_fork();
            assert_eq!((thread.bottom[class], thread.top[class], thread.last[class]), after, "{step}");
            assert_eq!(popped(thread, class), 10, "{step}");
        });
    }
}
