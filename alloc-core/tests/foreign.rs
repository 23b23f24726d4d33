//! What threads free of each other's arenas.

mod common;

use std::collections::HashSet;
use std::sync::Mutex;

use alloc_core::Heap;
use alloc_core::snapshot::Which;
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

/// The tests' own order: they look at the sums over the heap.
static TURN: Mutex<()> = Mutex::new(());

/// Runs in a thread of arena `arena`.
fn in_arena<R: Send>(arena: u32, work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            assert!(HEAP.set_thread_arena(arena));
            work()
        });
        thread.join().unwrap()
    })
}

fn some(count: usize, bytes: usize) -> Vec<usize> {
    (0..count).map(|_| HEAP.allocate(bytes).addr()).collect()
}

fn free(blocks: &[usize]) {
    for &block in blocks {
        // SAFETY: the block is ours, and nobody uses it any more.
        unsafe { HEAP.deallocate(core::ptr::with_exposed_provenance_mut(block)) };
    }
}

#[test]
fn small_blocks_go_home() {
    let _turn = TURN.lock().unwrap();
    for (of, to) in [(0, 1), (1, 0), (1, 2)] {
        for bytes in [8, 24, 64, 256] {
            let blocks = in_arena(of, || some(40, bytes));
            // One stays, and with it their slab.
            let (stays, blocks) = blocks.split_first().unwrap();
            let home: HashSet<usize> = blocks.iter().copied().collect();
            let own = in_arena(to, || {
                let first = some(1, bytes);
                free(blocks);
                let own = some(300, bytes);
                free(&own);
                [first, own].concat()
            });
            assert!(own.iter().all(|block| !home.contains(block)), "{bytes} bytes of {of} in {to}");
            // There they are used again.
            let again = in_arena(of, || {
                let again = some(39, bytes);
                free(&again);
                again
            });
            assert!(again.iter().all(|block| home.contains(block)), "{bytes} bytes of {of} in {to}");
            free(&[own[0], *stays]);
        }
    }
}

#[test]
fn larger_blocks_and_those_of_the_same_arena_are_used_again() {
    let _turn = TURN.lock().unwrap();
    for (of, to, bytes) in [(0, 1, 512), (0, 1, 4096), (0, 0, 64), (1, 1, 64)] {
        let blocks = in_arena(of, || some(4, bytes));
        let home: HashSet<usize> = blocks.iter().copied().collect();
        in_arena(to, || {
            let first = some(1, bytes);
            free(&blocks);
            let own = some(4, bytes);
            assert!(own.iter().any(|block| home.contains(block)), "{bytes} bytes of {of} in {to}");
            free(&[own, first].concat());
        });
    }
}

#[test]
fn what_waits_to_go_home_is_not_allocated() {
    let _turn = TURN.lock().unwrap();
    let totals = || HEAP.class_totals().map(|total| total.blocks);
    let before = (totals(), HEAP.stats().allocated, HEAP.allocated());
    let (bytes, count) = (48, 40);
    let blocks = in_arena(1, || some(count, bytes));
    in_arena(2, || {
        let more = some(count, bytes);
        free(&blocks);
        assert_eq!(HEAP.thread_counts(), ((count * bytes) as u64, (count * bytes) as u64));
        assert_eq!(HEAP.stats().allocated, before.1 + count * bytes);
        free(&more);
        assert_eq!((totals(), HEAP.stats().allocated), (before.0, before.1));
        // Neither are they lost when the thread goes to another arena, of the other kind or of the same.
        for arena in [1, 3, 2, 0] {
            assert!(HEAP.set_thread_arena(arena));
            let more = some(count, bytes);
            assert_eq!(HEAP.stats().allocated, before.1 + count * bytes, "{arena}");
            free(&more);
            assert_eq!((totals(), HEAP.stats().allocated), (before.0, before.1), "{arena}");
        }
    });
    assert_eq!((totals(), HEAP.stats().allocated, HEAP.allocated()), before);
    assert_eq!(HEAP.stats().tcache_bytes, 0);
}

#[test]
fn requests_are_told_once() {
    let _turn = TURN.lock().unwrap();
    let requests = || {
        HEAP.refresh_snapshot();
        let snapshot = HEAP.snapshot().lock();
        snapshot.arena(Which::Merged).map_or(0, |stats| stats.bins[4].counts.nrequests)
    };
    let before = requests();
    let blocks = in_arena(1, || some(100, 64));
    in_arena(2, || {
        free(&some(30, 64));
        free(&blocks);
        for arena in [3, 0, 1] {
            assert!(HEAP.set_thread_arena(arena));
            free(&some(10, 64));
        }
        assert_eq!(requests() - before, 160);
    });
    assert_eq!(requests() - before, 160);
}

#[test]
fn limits_of_its_own_stay_with_a_thread() {
    let _turn = TURN.lock().unwrap();
    in_arena(0, || {
        assert_eq!(HEAP.set_thread_ncached_max(b"64-64:10"), Some(true));
        let before = HEAP.stats().tcache_bytes;
        for arena in [1, 2, 3] {
            assert!(HEAP.set_thread_arena(arena));
            free(&some(50, 64));
            assert_eq!(HEAP.thread_ncached_max(64), Some(10));
            let cached = HEAP.stats().tcache_bytes - before;
            assert!((64..=640).contains(&cached), "{cached} in {arena}");
        }
    });
}
