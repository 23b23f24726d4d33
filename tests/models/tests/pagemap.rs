//! The page map's tree: two threads that make the same leaf use one of them, and find what the other has put there.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use models::extent::Extent;
use models::lock;
use models::pagemap::PageMap;

const PAGE: usize = 4096;
const GIB: usize = 1 << 30;

/// Any address but null will do.
fn extent(number: usize) -> *mut Extent {
    core::ptr::without_provenance_mut(number << 7)
}

#[test]
fn a_leaf_is_made_once() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        lock::set_spins(0);
        let map = Arc::new(PageMap::new());
        map.boot();
        let _ = (map.extent(0), map.flat(), map.tree_bytes());
        let register = |map: &PageMap, number: usize| {
            assert!(map.prepare(5 * GIB + number * PAGE, PAGE));
            map.set_extent(5 * GIB + number * PAGE, extent(number));
            // At once found again, whichever leaf was kept.
            assert_eq!(map.extent(5 * GIB + number * PAGE), extent(number));
        };
        let other = map.clone();
        let thread = thread::spawn(move || register(&other, 1));
        register(&map, 2);
        thread.join().expect("it ends");
        for number in [1, 2] {
            assert_eq!(map.extent(5 * GIB + number * PAGE), extent(number));
        }
        assert!(map.tree_bytes() == 8 << 18, "{}", map.tree_bytes());
    });
}

#[test]
fn who_has_the_address_finds_the_extent() {
    loom::model(|| {
        let map = Arc::new(PageMap::new());
        map.boot();
        let _ = (map.extent(0), map.flat(), map.tree_bytes());
        let handed = Arc::new(AtomicUsize::new(0));
        let (other_map, other_handed) = (map.clone(), handed.clone());
        let thread = thread::spawn(move || {
            let address = 7 * GIB - PAGE;
            assert!(other_map.prepare(address, 2 * PAGE));
            other_map.set_extent(address, extent(3));
            other_map.set_extent(address + PAGE, extent(4));
            // A program hands addresses over with an order of its own.
            other_handed.store(address, Ordering::Release);
        });
        // An address that nobody has handed over: null, or what is there by now.
        let guess = map.extent(7 * GIB);
        assert!(guess.is_null() || guess == extent(4));
        let address = handed.load(Ordering::Acquire);
        if address != 0 {
            assert_eq!((map.extent(address), map.extent(address + PAGE)), (extent(3), extent(4)));
        }
        thread.join().expect("it ends");
    });
}
