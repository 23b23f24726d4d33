//! The bound on unused pages: what a heap that shrinks at random may keep, and how few system calls the rest takes.
//!
//! One test: the bound is that of the process.

mod common;

use alloc_core::{Heap, Request, TcacheChoice};
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

const MIB: usize = 1 << 20;
/// Blocks of five pages.
const BYTES: usize = 20 << 10;
const COUNT: usize = 20_000;

/// What the unused pages of a process come down to: 16 MiB, and a quarter of what is active.
fn bound(active: usize) -> usize {
    16 * MIB + active / 4
}

/// An arena tells the process of changes of its active and of its dirty pages when they are as many as this: what is compared
/// may be off by so much, both here and there.
const UNTOLD: usize = MIB;

/// What they come to at most where an arena has told of little.
fn most(active: usize) -> usize {
    bound(active + UNTOLD) + UNTOLD
}

/// Shuffles as Fisher and Yates do, with the generator of Numerical Recipes.
fn shuffle(blocks: &mut [*mut u8]) {
    let mut state = 1u32;
    for i in (1..blocks.len()).rev() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        blocks.swap(i, state as usize % (i + 1));
    }
}

#[test]
fn a_heap_that_shrinks_at_random_keeps_little() {
    whole_pages();
    small_blocks();
    cut_off();
}

fn whole_pages() {
    let request = Request { tcache: TcacheChoice::None, ..Request::PLAIN };
    let mut blocks: Vec<*mut u8> = (0..COUNT).map(|_| HEAP.allocate_with(BYTES, request)).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    shuffle(&mut blocks);
    let mut free = |count: usize| {
        for block in blocks.drain(..count) {
            // SAFETY: the block is ours.
            unsafe { HEAP.deallocate_with(block, request) };
        }
        HEAP.stats()
    };
    // Every second block: their pages are short runs, of which more may stay than the bound says, up to half as much again.
    let half = free(COUNT / 2);
    let range = bound(half.active) + MIB..bound(half.active) * 3 / 2 + MIB;
    assert!(range.contains(&half.dirty), "{} of {}", half.dirty / MIB, half.active / MIB);
    let none = free(COUNT - COUNT / 2);
    assert!(none.dirty <= most(none.active), "{}", none.dirty / MIB);

    let mut arena = alloc_core::ArenaStats::NONE;
    assert!(HEAP.arena_stats(0, &mut arena));
    let (calls, pages) = (arena.dirty_nmadvise, arena.dirty_purged);
    assert!(pages as usize * 4096 > COUNT * BYTES * 9 / 10, "{pages}");
    assert!(pages > 9 * calls, "{pages} pages in {calls} calls");
}

/// Blocks of many classes, by way of the thread's caches: what these hold in the end must not keep slabs alive by the
/// thousand.
fn small_blocks() {
    let before = HEAP.stats();
    let sizes = (16..1024).step_by(7).cycle();
    let mut blocks: Vec<*mut u8> = sizes.take(400_000).map(|bytes| HEAP.allocate(bytes)).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    let full = HEAP.stats();
    assert!(full.active - before.active > 200 * MIB);
    shuffle(&mut blocks);
    for block in blocks {
        // SAFETY: the block is ours.
        unsafe { HEAP.deallocate(block) };
    }
    let empty = HEAP.stats();
    let active = empty.active - before.active;
    assert!(active < 8 * MIB, "{active} bytes of slabs are active");
    assert!(empty.dirty <= most(empty.active), "{} of {}", empty.dirty, empty.active);
}

/// What a large block has lost that was made smaller is as free as any other memory.
fn cut_off() {
    let before = HEAP.stats();
    let block = HEAP.allocate(512 * MIB);
    // SAFETY: the block is ours; made smaller it stays where it is.
    let smaller = unsafe { HEAP.reallocate(block, BYTES) };
    assert_eq!(smaller, block);
    let after = HEAP.stats();
    assert!(after.active < before.active + MIB, "{} of {}", after.active, before.active);
    // Of two arenas, neither of which has told of all.
    assert!(after.dirty < 64 * MIB, "{} of {}", after.dirty / MIB, after.active / MIB);
    // SAFETY: the block is ours.
    unsafe { HEAP.deallocate(smaller) };
}
