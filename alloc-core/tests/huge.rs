//! Huge pages where a heap grows, and what becomes of them when it shrinks.
//!
//! One test: it counts what the process has.

mod common;

use std::fs;

use alloc_core::{ArenaSelection, Heap};
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

const MIB: usize = 1 << 20;
const BYTES: usize = 64;

/// The number behind a word at the beginning of a line of a file.
fn number(file: &str, word: &str) -> usize {
    let text = fs::read_to_string(file).expect("a file of the kernel's");
    let line = text.lines().find_map(|line| line.strip_prefix(word)).expect("a line of it");
    line.split_whitespace().next().expect("a number").parse().expect("a number")
}

fn huge_bytes() -> usize {
    number("/proc/self/smaps_rollup", "AnonHugePages:") << 10
}

/// Whether the kernel makes huge pages where it is asked to, and only there.
fn is_on_request() -> bool {
    let mode = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    const COLLAPSE: i32 = 25;
    const HUGE: usize = 2 * MIB;
    let layout = std::alloc::Layout::from_size_align(HUGE, HUGE).expect("a layout");
    // SAFETY: the block is this function's.
    let done = unsafe {
        let block = std::alloc::alloc(layout);
        block.write(1);
        let done = libc::madvise(block.cast(), HUGE, COLLAPSE) == 0;
        std::alloc::dealloc(block, layout);
        done
    };
    mode.contains("[madvise]") && done
}

fn blocks(bytes: usize) -> impl Iterator<Item = *mut u8> {
    (0..bytes / BYTES).map(|_| {
        let block = HEAP.allocate(BYTES);
        assert!(!block.is_null());
        // SAFETY: a fresh block.
        unsafe { block.write(1) };
        block
    })
}

#[test]
fn a_heap_that_grows_asks_for_huge_pages() {
    let expected = is_on_request();
    let before = huge_bytes();
    let mut held: Vec<*mut u8> = blocks(16 * MIB).collect();
    assert_eq!(huge_bytes(), before, "a small heap has none");
    held.extend(blocks(32 * MIB));
    let grown = huge_bytes();
    assert_eq!(grown > before, expected, "{before} and then {grown} bytes");
    let resident = number("/proc/self/smaps_rollup", "Rss:") << 10;
    assert!(resident < 48 * MIB + 12 * MIB, "{} MiB", resident / MIB);

    // Of each 64 KiB a block stays. The memory around it goes, it isn't only out of sight.
    let split_before = number("/proc/vmstat", "thp_split_page ");
    for (i, &block) in held.iter().enumerate() {
        if i % 1024 != 0 {
            // SAFETY: the block is ours.
            unsafe { HEAP.deallocate(block) };
        }
    }
    HEAP.thread_tcache_flush();
    HEAP.arena_purge(ArenaSelection::All);
    assert_eq!(huge_bytes(), before);
    let split = number("/proc/vmstat", "thp_split_page ") - split_before;
    assert!(split >= (grown - before) / (2 * MIB), "{split} were split");
    // SAFETY: blocks of ours.
    assert!(held.iter().step_by(1024).all(|&block| unsafe { block.read() } == 1));
}
