//! What a thread has in its caches when the process grows.

mod common;

use alloc_core::Heap;
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

#[test]
fn caches_of_another_time_are_emptied_while_the_process_grows() {
    // Freed one slab after the other again and again, so that the last blocks are of as many slabs.
    let (slabs, of_slab) = (200, 256);
    let blocks: Vec<*mut u8> = (0..slabs * of_slab).map(|_| HEAP.allocate(48)).collect();
    let freed = blocks.len() * 48;
    for first in 0..of_slab {
        for block in blocks.iter().skip(first).step_by(of_slab) {
            // SAFETY: the block is ours.
            unsafe { HEAP.deallocate(*block) };
        }
    }
    let before = HEAP.stats();
    assert!(before.active > before.allocated + (1 << 20), "{before:?}");
    // Other blocks take what those slabs have held.
    let others = freed * 3 / 4 / 5120;
    assert!((0..others).all(|_| !HEAP.allocate(5000).is_null()));
    let after = HEAP.stats();
    assert!(after.resident < before.resident + freed / 3, "{before:?}, then {after:?}");
    assert!(after.active < after.allocated + freed / 4, "{after:?}");
}
