//! Pages inside of slabs that no block uses any more: they go, the blocks beside them stay, and all of it is counted.

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloc_core::decay::Tier;
use alloc_core::{ArenaSelection, Heap, Request, TcacheChoice};
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

const PAGE: usize = 4096;
const BYTES: usize = 1280;
const COUNT: usize = 16_000;
/// One block in so many stays.
const KEPT: usize = 16;

fn own_arena() -> Request {
    let arena = HEAP.create_arena(std::ptr::null_mut()).unwrap();
    Request { arena: Some(arena), tcache: TcacheChoice::None, ..Request::PLAIN }
}

/// Blocks that are told apart by their contents.
fn fill(request: Request) -> Vec<*mut u8> {
    let blocks = (0..COUNT).map(|i| {
        let block = HEAP.allocate_with(BYTES, request);
        assert!(!block.is_null());
        // SAFETY: the block has so many bytes.
        unsafe { block.write_bytes(i as u8 | 1, BYTES) };
        block
    });
    blocks.collect()
}

/// Frees all but some; those are left in `blocks`, with their numbers.
fn thin(blocks: Vec<*mut u8>, request: Request) -> Vec<(usize, *mut u8)> {
    let (kept, freed): (Vec<_>, Vec<_>) = blocks.into_iter().enumerate().partition(|(i, _)| i % KEPT == 0);
    for (_, block) in freed {
        // SAFETY: the block is ours.
        unsafe { HEAP.deallocate_with(block, request) };
    }
    kept
}

fn check(kept: &[(usize, *mut u8)]) {
    for &(i, block) in kept {
        // SAFETY: the block is ours, and was filled.
        let bytes = unsafe { std::slice::from_raw_parts(block, BYTES) };
        assert!(bytes.iter().all(|&byte| byte == i as u8 | 1), "block {i} has changed");
    }
}

/// Whether the system has memory behind the page of `address`.
fn is_resident(address: usize) -> bool {
    let mut answer = 0u8;
    // SAFETY: one page that is mapped, and room for its answer.
    let done =
        unsafe { libc::mincore(std::ptr::with_exposed_provenance_mut(address & !(PAGE - 1)), PAGE, &raw mut answer) };
    assert_eq!(done, 0);
    answer & 1 != 0
}

/// Resident pages among those that blocks have begun on.
fn resident(places: &[usize]) -> usize {
    let mut pages: Vec<usize> = places.iter().map(|address| address & !(PAGE - 1)).collect();
    pages.sort_unstable();
    pages.dedup();
    pages.into_iter().filter(|&page| is_resident(page)).count()
}

fn free_all(kept: Vec<(usize, *mut u8)>, request: Request) {
    for (_, block) in kept {
        // SAFETY: the block is ours.
        unsafe { HEAP.deallocate_with(block, request) };
    }
}

#[test]
fn a_purge_leaves_the_pages_of_blocks() {
    let request = own_arena();
    let blocks = fill(request);
    let places: Vec<usize> = blocks.iter().map(|block| block.addr()).collect();
    let before = resident(&places);
    let kept = thin(blocks, request);
    let counted = HEAP.stats().resident;
    HEAP.arena_purge(ArenaSelection::One(request.arena.unwrap()));
    check(&kept);
    // A block in 16 is one on every sixth page or so.
    let after = resident(&places);
    assert!(after < before / 3, "{after} of {before} pages are resident");
    // What is counted is what is so, as far as other tests leave it alone.
    let fallen = (counted - HEAP.stats().resident) / PAGE;
    assert!(fallen.abs_diff(before - after) < before / 50, "{fallen} counted, {} gone", before - after);

    // The places are used again, and the counts follow.
    let again = fill(request);
    check(&kept);
    let known: HashSet<usize> = places.iter().copied().collect();
    let same = again.iter().filter(|block| known.contains(&block.addr())).count();
    assert!(same > COUNT / 2, "{same}");
    free_all(again.into_iter().enumerate().collect(), request);
    check(&kept);
    free_all(kept, request);
    HEAP.arena_purge(ArenaSelection::One(request.arena.unwrap()));
    let end = HEAP.stats();
    assert!(end.resident <= end.active + end.dirty + end.metadata);
    assert_eq!(resident(&places), 0);
}

#[test]
fn they_go_by_themselves() {
    let request = own_arena();
    let arena = request.arena.unwrap();
    assert!(HEAP.set_arena_decay_ms(arena, Tier::Dirty, 1000));
    let blocks = fill(request);
    let places: Vec<usize> = blocks.iter().map(|block| block.addr()).collect();
    let before = resident(&places);
    let kept = thin(blocks, request);
    // The program goes on, with blocks of another size.
    let start = Instant::now();
    while resident(&places) > before / 3 {
        assert!(start.elapsed() < Duration::from_secs(120), "{} of {before} pages are resident", resident(&places));
        for _ in 0..1000 {
            let block = HEAP.allocate_with(64, request);
            // SAFETY: the block is ours.
            unsafe { HEAP.deallocate_with(block, request) };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    check(&kept);
    assert!(start.elapsed() >= Duration::from_millis(400), "gone after {:?}", start.elapsed());
    free_all(kept, request);
}

#[test]
fn they_stay_where_nothing_is_to_go() {
    let request = own_arena();
    assert!(HEAP.set_arena_decay_ms(request.arena.unwrap(), Tier::Dirty, -1));
    let blocks = fill(request);
    let places: Vec<usize> = blocks.iter().map(|block| block.addr()).collect();
    let before = resident(&places);
    let kept = thin(blocks, request);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let block = HEAP.allocate_with(64, request);
        // SAFETY: the block is ours.
        unsafe { HEAP.deallocate_with(block, request) };
        std::thread::sleep(Duration::from_micros(100));
    }
    assert!(resident(&places) > before * 9 / 10, "{} of {before}", resident(&places));
    free_all(kept, request);
}

#[test]
fn a_child_that_adopts_slabs_keeps_their_blocks() {
    /// Of the 16 blocks of a slab, those that stay.
    const STAY: usize = 4;
    let request = own_arena();
    let (kept, freed): (Vec<_>, Vec<_>) = fill(request).into_iter().enumerate().partition(|(i, _)| i % 16 < STAY);
    free_all(freed, request);
    // Looks at the slabs, and notes beside their bitmaps what it has found.
    HEAP.arena_purge(ArenaSelection::One(request.arena.unwrap()));
    let stop = AtomicBool::new(false);
    let bad = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Holds the lock of the bin again and again, so that a child forgets the slabs.
            while !stop.load(Ordering::Relaxed) {
                free_all(vec![(0, HEAP.allocate_with(BYTES, request))], request);
            }
        });
        // A child meets the lock held in one of three forks or so.
        let bad = (0..30).filter(|_| !child_keeps_blocks(&kept, request)).count();
        stop.store(true, Ordering::Relaxed);
        bad
    });
    assert_eq!(bad, 0, "so many children have lost blocks");
    free_all(kept, request);
}

/// Whether a child that frees half of the blocks finds the others as they were after it has allocated as many again.
fn child_keeps_blocks(kept: &[(usize, *mut u8)], request: Request) -> bool {
    // SAFETY: the child calls nothing but the heap and what the C library's fork leaves in order.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let (gone, rest): (Vec<_>, Vec<_>) = kept.iter().partition(|(i, _)| i % 2 == 0);
        free_all(gone, request);
        fill(request);
        let is_bad = std::panic::catch_unwind(|| check(&rest)).is_err();
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(is_bad)) };
    }
    let mut status = -1;
    // SAFETY: a child of ours, and room for its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status == 0
}
