//! Resizing in place, where there is no room to grow.

mod common;

use alloc_core::{Heap, Request};
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

#[test]
fn a_size_that_will_do_is_kept() {
    const SIZE: usize = 48 << 10;
    let blocks: Vec<*mut u8> = (0..64).map(|_| HEAP.allocate_with(SIZE, Request::PLAIN)).collect();
    let block = blocks[30];
    // SAFETY: the block is in use, and nobody else's.
    unsafe {
        assert_eq!(HEAP.resize_in_place(block, 16 << 10, 1 << 40, 1, false), SIZE);
        // Down to the most that was asked for, and back as far as its old neighbour.
        assert_eq!(HEAP.resize_in_place(block, 16 << 10, 8 << 10, 1, false), 24 << 10);
        assert_eq!(HEAP.resize_in_place(block, SIZE, 0, 1, false), SIZE);
        assert_eq!(HEAP.resize_in_place(block, 1 << 40, 0, 1, false), SIZE);
    }
    for block in blocks {
        // SAFETY: as above, and not used any more.
        unsafe { HEAP.deallocate(block) };
    }
}
