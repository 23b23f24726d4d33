//! Arenas that nobody works on: what is unused in them goes while the process is busy elsewhere.

mod common;

use std::time::{Duration, Instant};

use alloc_core::decay::Tier;
use alloc_core::{ArenaStats, Heap, Request, TcacheChoice};
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

const MIB: usize = 1 << 20;

fn dirty_pages(arena: u32) -> usize {
    let mut stats = ArenaStats::NONE;
    assert!(HEAP.arena_stats(arena, &mut stats));
    stats.pdirty
}

#[test]
fn unused_pages_of_idle_arenas_go() {
    let small = Request { tcache: TcacheChoice::None, ..Request::PLAIN };
    // So much is in use that the bound lets all stay.
    let live = HEAP.allocate(1024 * MIB);
    assert!(!live.is_null());
    let made = HEAP.create_arena(std::ptr::null_mut()).unwrap();
    // That of oversize requests, and one that a thread has used.
    let idle = [(HEAP.narenas_auto(), Request::PLAIN), (made, Request { arena: Some(made), ..small })];
    for (arena, request) in idle {
        assert!(HEAP.set_arena_decay_ms(arena, Tier::Dirty, 500));
        let block = HEAP.allocate_with(64 * MIB, request);
        assert!(!block.is_null());
        // SAFETY: the block is ours.
        unsafe { HEAP.deallocate_with(block, request) };
        assert!(dirty_pages(arena) > 0);
    }
    let start = Instant::now();
    while idle.iter().any(|&(arena, _)| dirty_pages(arena) > 0) {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", idle.map(|(arena, _)| dirty_pages(arena)));
        for _ in 0..1000 {
            let block = HEAP.allocate_with(64, small);
            // SAFETY: the block is ours.
            unsafe { HEAP.deallocate_with(block, small) };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: the block is ours.
    unsafe { HEAP.deallocate(live) };
}
