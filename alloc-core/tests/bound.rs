//! The bound on unused pages: what a heap that shrinks at random may keep, and how few system calls the rest takes.

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

#[test]
fn short_runs_of_pages_are_left_alone_until_they_are_long_or_too_many() {
    let request = Request { tcache: TcacheChoice::None, ..Request::PLAIN };
    let mut blocks: Vec<*mut u8> = (0..COUNT).map(|_| HEAP.allocate_with(BYTES, request)).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    // Fisher and Yates, with the generator of Numerical Recipes.
    let mut state = 1u32;
    for i in (1..COUNT).rev() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        blocks.swap(i, state as usize % (i + 1));
    }
    let mut free = |count: usize| {
        for block in blocks.drain(..count) {
            // SAFETY: the block is ours.
            unsafe { HEAP.deallocate_with(block, request) };
        }
        HEAP.stats()
    };
    // Every second block: their pages are short runs, of which more may stay than the bound says, up to twice as much.
    let half = free(COUNT / 2);
    let most = 2 * bound(half.active) + MIB;
    assert!((bound(half.active) + MIB..most).contains(&half.dirty), "{} of {}", half.dirty / MIB, half.active / MIB);
    let none = free(COUNT - COUNT / 2);
    assert!(none.dirty <= bound(none.active), "{}", none.dirty / MIB);

    let mut arena = alloc_core::ArenaStats::NONE;
    assert!(HEAP.arena_stats(0, &mut arena));
    let (calls, pages) = (arena.dirty_nmadvise, arena.dirty_purged);
    assert!(pages as usize * 4096 > COUNT * BYTES * 9 / 10, "{pages}");
    assert!(pages > 9 * calls, "{pages} pages in {calls} calls");
}
