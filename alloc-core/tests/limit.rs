//! Under a limit of address space what an arena keeps without use is there for others, and for longer blocks.
//!
//! One test: the limit is the process's.

mod common;

use std::fs;

use alloc_core::{ArenaSelection, Heap};
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

const MIB: usize = 1 << 20;
/// A little is left when blocks of whole mebibytes take it up.
const LIMIT: usize = 400 * MIB + MIB / 2;

fn address_space() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("a file of the kernel's");
    statm.split_whitespace().next().expect("a number").parse::<usize>().expect("a number") * 4096
}

fn set_limit(bytes: usize) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is alive.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_AS, &raw mut limit), 0);
        limit.rlim_cur = bytes as u64;
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &raw const limit), 0);
    }
}

/// Maps pages until no more can be had.
fn use_up() {
    let (access, flags) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: they replace no mapping.
    while unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0) } != libc::MAP_FAILED {}
}

/// Allocates so many blocks, each of which must be there, and frees them.
fn come_and_go(count: usize, bytes: usize) {
    let blocks: Vec<*mut u8> = (0..count).map(|_| HEAP.allocate(bytes)).collect();
    let served = blocks.iter().filter(|block| !block.is_null()).count();
    assert_eq!(served, count, "blocks of {} MiB", bytes / MIB);
    for block in blocks {
        // SAFETY: a block of this test, of so many bytes.
        unsafe {
            block.write_bytes(1, 1);
            HEAP.deallocate(block);
        }
    }
}

#[test]
fn unused_address_space_is_not_lost() {
    come_and_go(1, MIB);
    // What the page map has to give up is not to be what makes room.
    set_limit(LIMIT);
    HEAP.look_at_limits();
    let before = address_space();
    assert!(before < 4 << 30, "{before}");
    set_limit(before + LIMIT);
    for _ in 0..3 {
        // Of the arena of large requests, and of the thread's.
        come_and_go(1, 220 * MIB);
        come_and_go(240, MIB);
        come_and_go(1, 260 * MIB);
    }
    // The first picture needs memory.
    HEAP.refresh_snapshot();
    // Right at the limit as well.
    come_and_go(1, 220 * MIB);
    use_up();
    come_and_go(1, 100 * MIB);
    come_and_go(90, MIB);
    // Nor is a dump refused: what the library allocates for itself is of an arena of its own.
    use_up();
    let layout = std::alloc::Layout::new::<[u64; 3000]>();
    let own = HEAP.internal_allocate(layout);
    assert!(!own.is_null());
    // SAFETY: a block of this test.
    unsafe { HEAP.internal_deallocate(own, layout) };
    come_and_go(90, MIB);
    // Nothing would come back of what were given up now.
    set_limit(0);
    assert!(HEAP.allocate(300 * MIB).is_null());
    come_and_go(90, MIB);
    // A block that moves has its place torn out of the heap's memory, where the kernel does so: that is not mapped any more.
    HEAP.arena_purge(ArenaSelection::All);
    let [block, behind] = [(); 2].map(|()| HEAP.allocate(4 * MIB));
    // SAFETY: blocks of this test.
    unsafe {
        block.write(7);
        let moved = HEAP.reallocate(block, 7 * MIB);
        assert!(!moved.is_null() && moved != block && moved.read() == 7);
        HEAP.deallocate(moved);
        HEAP.deallocate(behind);
    }
    HEAP.arena_purge(ArenaSelection::All);
    HEAP.refresh_snapshot();
    let stats = HEAP.snapshot().lock().stats;
    assert!(stats.mapped < 3 * MIB, "{stats:?}");
}
