//! What a program that swells and shrinks may keep beyond the bound on unused pages, and what becomes of that when it grows.
//!
//! One test: the bound is that of the process.

mod common;

use alloc_core::Heap;
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

const MIB: usize = 1 << 20;

fn resident() -> usize {
    let stats = HEAP.stats();
    stats.active + stats.dirty
}

#[test]
fn what_is_kept_for_a_rhythm_gives_way_to_growth() {
    // Large enough for the arena of such blocks, whose pages no other arena can use.
    let (count, bytes) = (10, 13 * MIB);
    for _ in 0..60 {
        let blocks: Vec<*mut u8> = (0..count).map(|_| HEAP.allocate(bytes)).collect();
        for block in blocks {
            assert!(!block.is_null());
            // SAFETY: the block is ours.
            unsafe { HEAP.deallocate(block) };
        }
    }
    let kept = HEAP.stats().dirty;
    assert!(kept > count * bytes / 2, "the rhythm wasn't learned: {} MiB", kept / MIB);
    // What is wanted right after the bound has taken pages counts as missed, not as growth.
    std::thread::sleep(std::time::Duration::from_millis(600));
    // Small blocks, until they are half as many bytes: with what any process may keep they take no more than there was.
    let before = resident();
    let mut most = 0;
    let small: Vec<*mut u8> = (0..count * bytes / 200).map(|_| HEAP.allocate(100)).collect();
    for block in small {
        assert!(!block.is_null());
        most = most.max(resident());
        // SAFETY: the block is ours.
        unsafe { HEAP.deallocate(block) };
    }
    assert!(most < before + 8 * MIB, "{} MiB and then {} MiB", before / MIB, most / MIB);
}
