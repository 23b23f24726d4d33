//! Large blocks of which little is used, and ones at aligned addresses: what becomes resident for them.
//!
//! One test: it counts what the process has.

mod common;

use std::fs;

use alloc_core::Heap;
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const PAGE: usize = 4 * KIB;

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("a file of the kernel's");
    statm.split_whitespace().nth(1).expect("a number").parse::<usize>().expect("a number") * PAGE
}

fn touch(block: *mut u8, bytes: usize) {
    assert!(!block.is_null());
    // SAFETY: a block of at least so many bytes.
    unsafe { block.write_bytes(1, bytes) };
}

fn free(blocks: impl IntoIterator<Item = *mut u8>) {
    // SAFETY: blocks of this test, each once.
    blocks.into_iter().for_each(|block| unsafe { HEAP.deallocate(block) });
}

/// Small numbers that look random.
fn random() -> impl FnMut(usize) -> usize {
    let mut state = 1u64;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

/// Buffers of which a page is used: no more of them is backed.
fn buffers_are_backed_as_they_are_used() {
    for size in [16 * KIB, 40 * KIB, 300 * KIB] {
        let before = resident();
        let count = 64 * MIB / size;
        let blocks: Vec<*mut u8> = (0..count).map(|_| HEAP.allocate(size)).collect();
        blocks.iter().for_each(|&block| touch(block, 200));
        let grown = resident().saturating_sub(before);
        assert!(grown < count * PAGE * 3 / 2 + 2 * MIB, "{size}: {grown} bytes for {count} pages");
        free(blocks);
    }
}

/// Tables of zeros with an entry here and there, which lie where others have.
fn tables_of_zeros_stay_sparse() {
    const SIZE: usize = 2 * MIB;
    let before = resident();
    let mut tables = vec![std::ptr::null_mut::<u8>(); 50];
    let mut random = random();
    for _ in 0..2000 {
        let place = &mut tables[random(50)];
        if !place.is_null() {
            free([*place]);
        }
        *place = HEAP.allocate_zeroed(SIZE + random(16) * PAGE);
        for entry in (0..SIZE).step_by(16 * PAGE) {
            // SAFETY: inside of the table.
            let entry = unsafe { place.add(entry) };
            // SAFETY: as above.
            assert_eq!(unsafe { entry.read() }, 0);
            touch(entry, 1);
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 20 * MIB, "{grown} bytes for {} in use", 50 * SIZE / 16);
    free(tables);
}

/// Blocks at aligned addresses lie where others have, and take no more than others do.
fn aligned_blocks_lie_where_others_have() {
    for (align, most, live) in [(16 * KIB, 64 * KIB, 500), (64 * KIB, 64 * KIB, 500), (2 * MIB, 4 * MIB, 20)] {
        let before = resident();
        let mut blocks = vec![std::ptr::null_mut::<u8>(); live];
        let mut random = random();
        for _ in 0..live * 20 {
            let place = &mut blocks[random(live)];
            if !place.is_null() {
                free([*place]);
            }
            let size = most / 8 + random(most * 7 / 8);
            *place = HEAP.allocate_aligned(size, align, false);
            assert!(place.addr().is_multiple_of(align));
            touch(*place, size);
        }
        let grown = resident().saturating_sub(before);
        // Half of the most is what they have on the average; what is kept for later is less than that.
        assert!(grown < live * most, "{align}: {grown} bytes for {live} blocks of up to {most}");
        free(blocks);
    }
}

#[test]
fn large_blocks_take_what_is_used() {
    touch(HEAP.allocate(MIB), MIB);
    tables_of_zeros_stay_sparse();
    buffers_are_backed_as_they_are_used();
    aligned_blocks_lie_where_others_have();
}
