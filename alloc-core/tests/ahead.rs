//! Memory that is backed before it is touched, where a heap grows, and what becomes of it when the heap shrinks.
//!
//! One test: it counts what the process has.

mod common;

use std::fs;
use std::os::unix::fs::FileExt;

use alloc_core::{ArenaSelection, Heap};
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const HUGE: usize = 2 * MIB;
/// Small blocks, and ones that no slab stays for.
const SMALL: usize = 64;
const PAGES: usize = 20 * KIB;
/// Blocks of a page that lie in slabs.
const IN_SLABS: usize = 4 * KIB;

const POPULATE_WRITE: i32 = 23;
const COLLAPSE: i32 = 25;

/// The number behind a word at the beginning of a line of a file.
fn number(file: &str, word: &str) -> usize {
    let text = fs::read_to_string(file).expect("a file of the kernel's");
    let line = text.lines().find_map(|line| line.strip_prefix(word)).expect("a line of it");
    line.split_whitespace().next().expect("a number").parse().expect("a number")
}

fn huge_bytes() -> usize {
    number("/proc/self/smaps_rollup", "AnonHugePages:") << 10
}

/// Whether the kernel knows an advice.
fn takes(advice: i32) -> bool {
    let layout = std::alloc::Layout::from_size_align(HUGE, HUGE).expect("a layout");
    // SAFETY: the block is this function's.
    unsafe {
        let block = std::alloc::alloc(layout);
        block.write(1);
        let done = libc::madvise(block.cast(), HUGE, advice) == 0;
        std::alloc::dealloc(block, layout);
        done
    }
}

/// Whether the page of an address is in memory.
fn is_present(address: usize) -> bool {
    let mut entry = [0; 8];
    let map = fs::File::open("/proc/self/pagemap").expect("a file of the kernel's");
    map.read_exact_at(&mut entry, address as u64 / 4096 * 8).expect("an entry");
    u64::from_ne_bytes(entry) >> 63 == 1
}

fn blocks(size: usize, bytes: usize) -> impl Iterator<Item = *mut u8> {
    (0..bytes / size).map(move |_| {
        let block = HEAP.allocate(size);
        assert!(!block.is_null());
        // SAFETY: a fresh block.
        unsafe { block.write(1) };
        block
    })
}

fn large_heap_asks_for_huge_pages() {
    let mode = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    // Then the kernel asks nobody.
    let is_always = mode.contains("[always]");
    let expected = mode.contains("[madvise]") && takes(COLLAPSE);
    let before = huge_bytes();
    let mut held: Vec<*mut u8> = blocks(SMALL, 16 * MIB).collect();
    assert!(is_always || huge_bytes() == before, "a small heap has none");
    held.extend(blocks(SMALL, 32 * MIB));
    let grown = huge_bytes();
    assert_eq!(grown > before, expected || is_always, "{before} and then {grown} bytes");
    // Nearly all of it is used.
    let asked_for = HEAP.stats().active - 32 * MIB + HUGE;
    assert!(is_always || grown - before <= asked_for, "{before} and then {grown} bytes");

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
    let shrunk = huge_bytes();
    // The test has some as well where the kernel asks nobody.
    assert!(shrunk <= if is_always { grown / 2 } else { before }, "{grown} and then {shrunk} bytes");
    let split = number("/proc/vmstat", "thp_split_page ") - split_before;
    assert!(split >= (grown - shrunk) / HUGE, "{split} were split");
    // SAFETY: blocks of ours.
    assert!(held.iter().step_by(1024).all(|&block| unsafe { block.read() } == 1));
}

fn batches_go_with_what_was_used() {
    const BATCH: usize = 64 * KIB;
    let mut held: Vec<*mut u8> = blocks(PAGES, 5 * MIB).collect();
    // Large blocks have none.
    held.extend(blocks(PAGES, PAGES));
    assert!(!is_present(held.last().expect("blocks").addr() + PAGES - 4096));
    // Until the last block of a slab that was handed out lies in the first half of a batch.
    let last = loop {
        held.extend(blocks(IN_SLABS, IN_SLABS));
        let last = held.last().expect("blocks").addr();
        if last % BATCH + IN_SLABS < BATCH / 2 {
            break last;
        }
    };
    let last_page = last / BATCH * BATCH + BATCH - 4096;
    assert_eq!(is_present(last_page), takes(POPULATE_WRITE));
    for block in held {
        // SAFETY: the block is ours.
        unsafe { HEAP.deallocate(block) };
    }
    HEAP.thread_tcache_flush();
    HEAP.arena_purge(ArenaSelection::All);
    assert!(!is_present(last_page));
}

#[test]
fn memory_is_backed_ahead() {
    batches_go_with_what_was_used();
    large_heap_asks_for_huge_pages();
}
