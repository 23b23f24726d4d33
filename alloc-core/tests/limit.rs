//! Under a limit of address space what an arena keeps without use is there for others, and for longer blocks.
//!
//! One test: the limit is the process's.

mod common;

use std::fs;

use alloc_core::Heap;
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

const MIB: usize = 1 << 20;
const LIMIT: usize = 400 * MIB;

fn address_space() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("a file of the kernel's");
    statm.split_whitespace().next().expect("a number").parse::<usize>().expect("a number") * 4096
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
    let most = (address_space() + LIMIT) as u64;
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the limit is alive.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    for _ in 0..3 {
        // Of the arena of large requests, and of the thread's.
        come_and_go(1, 220 * MIB);
        come_and_go(240, MIB);
        come_and_go(1, 260 * MIB);
    }
}
