//! Where a class has many slabs, they lie side by side.

mod common;

use std::collections::BTreeSet;

use alloc_core::Heap;
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

/// Bytes that one cache line of page table entries stands for.
const LINE: usize = 32 << 10;

/// Allocates so many blocks of each of three sizes in turn, and tells how many of the pages that a line of page table
/// entries stands for the blocks of the first size have, on an average, where they have any.
fn pages_a_line(count: usize, blocks: &mut Vec<*mut u8>) -> f64 {
    let sizes = [64, 48, 80];
    let mut pages = BTreeSet::new();
    for i in 0..3 * count {
        let block = HEAP.allocate(sizes[i % 3]);
        assert!(!block.is_null());
        if i % 3 == 0 {
            pages.insert(block.addr() / 4096);
        }
        blocks.push(block);
    }
    let lines: BTreeSet<usize> = pages.iter().map(|page| page * 4096 / LINE).collect();
    pages.len() as f64 / lines.len() as f64
}

#[test]
fn slabs_of_a_class_lie_side_by_side_where_there_are_many() {
    let (mut few, mut many) = (Vec::new(), Vec::new());
    let scattered = pages_a_line(10_000, &mut few);
    let together = pages_a_line(100_000, &mut many);
    assert!(scattered < 3.5 && together > 4.5, "{scattered:.1} and then {together:.1}");
    // Slabs that were not used are no more than a part of those that are.
    let (used, active) = ((few.len() + many.len()) * 64, HEAP.stats().active);
    assert!(active < used * 105 / 100, "{active} for {used}");
    // Empty slabs go.
    few.append(&mut many);
    for block in few {
        // SAFETY: the blocks are ours.
        unsafe { HEAP.deallocate(block) };
    }
    let left = HEAP.stats().active;
    assert!(left < 1 << 20, "{left}");
}
