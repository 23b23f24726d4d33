//! Caches of programs' own, requests counted by class, and what happens after so many bytes.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use alloc_core::snapshot::Which;
use alloc_core::{Heap, Request, TcacheChoice};
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

fn with_cache(index: u32) -> Request {
    Request { tcache: TcacheChoice::Explicit(index), ..Request::PLAIN }
}

/// Requests of the class of 64 bytes, over all arenas.
fn requests() -> u64 {
    HEAP.refresh_snapshot();
    let snapshot = HEAP.snapshot().lock();
    snapshot.arena(Which::Merged).map_or(0, |stats| stats.bins[4].counts.nrequests)
}

#[test]
fn a_cache_of_ones_own() {
    let (one, other) = (HEAP.create_cache().unwrap(), HEAP.create_cache().unwrap());
    assert_ne!(one, other);
    let block = HEAP.allocate_with(5000, with_cache(one));
    // SAFETY: the block is ours.
    unsafe { HEAP.deallocate_with(block, with_cache(one)) };
    assert_ne!(HEAP.allocate_with(5000, with_cache(other)), block);
    assert_ne!(HEAP.allocate(5000), block);
    // Last in, first out.
    assert_eq!(HEAP.allocate_with(5000, with_cache(one)), block);
    let cached = HEAP.stats().tcache_bytes;
    // SAFETY: the block is ours, and so are the caches.
    unsafe {
        HEAP.deallocate_with(block, with_cache(one));
        assert_eq!(HEAP.stats().tcache_bytes, cached + 5120);
        HEAP.flush_cache(one);
        // This block at least went back, and whatever the fills of that cache had brought besides.
        assert!(HEAP.stats().tcache_bytes <= cached);
        HEAP.destroy_cache(one);
    }
    assert_eq!(HEAP.create_cache(), Some(one));
}

#[test]
fn every_request_is_counted() {
    let count = || {
        let before = requests();
        for _ in 0..1000 {
            // SAFETY: allocated just now.
            unsafe { HEAP.deallocate(HEAP.allocate(64)) };
        }
        requests() - before
    };
    assert_eq!(count(), 1000);
    let before = requests();
    assert_eq!(std::thread::spawn(count).join().unwrap(), 1000);
    let cache = HEAP.create_cache().unwrap();
    for _ in 0..10 {
        let block = HEAP.allocate_with(64, with_cache(cache));
        // SAFETY: allocated just now.
        unsafe { HEAP.deallocate_with(block, with_cache(cache)) };
        let block = HEAP.allocate_with(64, Request { tcache: TcacheChoice::None, ..Request::PLAIN });
        // SAFETY: allocated just now.
        unsafe { HEAP.deallocate_with(block, Request { tcache: TcacheChoice::None, ..Request::PLAIN }) };
    }
    assert_eq!(requests() - before, 1020);
}

#[test]
fn the_counters_of_a_thread_move_with_each_call() {
    let (allocated, freed) = (HEAP.thread_allocated_counter(), HEAP.thread_deallocated_counter());
    // SAFETY: counters of this thread, which lives.
    let look = || unsafe { (allocated.read_volatile(), freed.read_volatile()) };
    let cache = HEAP.create_cache().unwrap();
    // In every way of freeing: the thread's cache, full and not, one of the program's own, none, and no slab at all.
    for (bytes, usable, request) in [
        (64, 64, Request::PLAIN),
        (5000, 5120, with_cache(cache)),
        (64, 64, Request { tcache: TcacheChoice::None, ..Request::PLAIN }),
        (100_000, 106_496, Request::PLAIN),
        (3 << 20, 3 << 20, Request::PLAIN),
    ] {
        let before = look();
        let mut blocks = Vec::new();
        blocks.reserve_exact(3000);
        for count in 1..=if usable < 10_000 { 3000 } else { 10 } {
            blocks.push(HEAP.allocate_with(bytes, request));
            assert_eq!(look(), (before.0 + count * usable, before.1), "{bytes}");
        }
        let full = look();
        for (count, block) in (1..).zip(blocks) {
            // SAFETY: allocated above.
            unsafe { HEAP.deallocate_with(block, request) };
            assert_eq!(look(), (full.0, full.1 + count * usable), "{bytes}");
            assert_eq!(HEAP.thread_counts(), look(), "{bytes}");
        }
        // SAFETY: allocated just now.
        unsafe { HEAP.deallocate(HEAP.allocate(40)) };
        assert_eq!(look(), (full.0 + 48, full.1 + (full.0 - before.0) + 48));
    }
}

static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn count(is_allocation: bool, _allocated: u64, _deallocated: u64) {
    if is_allocation { &ALLOCATED } else { &FREED }.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn callbacks_and_peaks() {
    HEAP.reset_thread_peak();
    let blocks: Vec<_> = (0..1000).map(|_| HEAP.allocate(1000)).collect();
    let peak = HEAP.thread_peak();
    assert!((1_000_000..1_200_000).contains(&peak), "{peak}");
    // SAFETY: the blocks are ours.
    blocks.into_iter().for_each(|block| unsafe { HEAP.deallocate(block) });
    assert_eq!(HEAP.thread_peak(), peak);
    HEAP.reset_thread_peak();
    assert!(HEAP.thread_peak() < 100_000);

    assert!(HEAP.add_thread_hook(count, 10_240, false));
    let (before, freed_before) = (ALLOCATED.load(Ordering::Relaxed), FREED.load(Ordering::Relaxed));
    for _ in 0..1000 {
        // SAFETY: allocated just now.
        unsafe { HEAP.deallocate(HEAP.allocate(1000)) };
    }
    let (after, freed_after) = (ALLOCATED.load(Ordering::Relaxed), FREED.load(Ordering::Relaxed));
    assert_eq!((after - before, freed_after - freed_before), (100, 100));
    for more in 0..3 {
        assert!(HEAP.add_thread_hook(count, u64::MAX / 2 + more, true));
    }
    // There is no room, which the same callback as before doesn't need.
    assert!(!HEAP.add_thread_hook(count, 1, true));
    assert!(HEAP.add_thread_hook(count, 10_240, false) && HEAP.add_thread_hook(count, u64::MAX / 2, true));
}

static DEPTH: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn allocate(_is_allocation: bool, _allocated: u64, _deallocated: u64) {
    assert_eq!(DEPTH.fetch_add(1, Ordering::Relaxed), 0);
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: allocated just now.
    unsafe { HEAP.deallocate(HEAP.allocate(1000)) };
    DEPTH.fetch_sub(1, Ordering::Relaxed);
}

#[test]
fn a_callback_may_allocate() {
    for (more, alloc_only) in [false, true].into_iter().enumerate() {
        assert!(HEAP.add_thread_hook(allocate, 1000 + more as u64, alloc_only));
        let before = CALLS.load(Ordering::Relaxed);
        for _ in 0..100 {
            // SAFETY: allocated just now.
            unsafe { HEAP.deallocate(HEAP.allocate(100_000)) };
        }
        assert!(CALLS.load(Ordering::Relaxed) - before >= 200);
    }
}

#[test]
fn a_peak_counts_from_its_reset() {
    let kept = HEAP.allocate(10 << 20);
    HEAP.reset_thread_peak();
    assert_eq!(HEAP.thread_peak(), 0);
    let block = HEAP.allocate(100_000);
    // SAFETY: allocated just now.
    assert_eq!(HEAP.thread_peak(), unsafe { HEAP.usable_size(block) } as u64);
    // SAFETY: allocated above.
    unsafe {
        HEAP.deallocate(kept);
        HEAP.deallocate(block);
    }
    HEAP.reset_thread_peak();
    let block = HEAP.allocate(5 << 20);
    assert_eq!(HEAP.thread_peak(), 5 << 20);
    // SAFETY: allocated just now.
    unsafe { HEAP.deallocate(block) };
}
