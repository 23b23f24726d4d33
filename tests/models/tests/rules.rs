//! The cache of unwind rules: what is found for an address is what was stored for it, whatever else is being stored in the
//! same place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::thread;
use models::rules;

const MODULE: u64 = 0x1234_5678_9abc;
const OTHER_MODULE: u64 = 0x7777_0000_1111;

/// Two addresses whose entries share a place: found by storing one and looking whether the other is gone.
fn neighbours() -> (usize, usize) {
    let first = 0x40_1000;
    let shares_place = |second: usize| {
        let shares = Arc::new(AtomicBool::new(false));
        let told = shares.clone();
        // A table of its own for each: one that is full grows, and what it knew is gone then too.
        loom::model(move || {
            rules::store(first, MODULE, 1);
            rules::store(second, MODULE, 2);
            told.store(rules::find(first, MODULE).is_none(), Ordering::Relaxed);
        });
        shares.load(Ordering::Relaxed)
    };
    (first, (first + 1..).find(|&second| shares_place(second)).expect("there are many"))
}

#[test]
fn no_rule_is_taken_for_another() {
    let (first, second) = neighbours();
    for (address, module) in [
        (second, MODULE),
        // The library was unloaded, and another one is where it was.
        (first, OTHER_MODULE),
    ] {
        loom::model(move || {
            // Twice: all that a store may touch has to be there before there are threads.
            rules::store(first, MODULE, 1);
            rules::store(first, MODULE, 1);
            let writer = thread::spawn(move || rules::store(address, module, 2));
            rules::store(first, MODULE, 3);
            assert!(matches!(rules::find(first, MODULE), None | Some(3)));
            assert!(matches!(rules::find(address, module), None | Some(2)));
            writer.join().expect("it ends");
        });
    }
}

#[test]
fn a_rule_that_is_stored_twice_stays() {
    loom::model(|| {
        rules::store(0x40_1000, MODULE, 5);
        rules::store(0x40_1000, MODULE, 5);
        let writer = thread::spawn(|| rules::store(0x40_1000, MODULE, 5));
        assert_eq!(rules::find(0x40_1000, MODULE), Some(5));
        writer.join().expect("it ends");
    });
}
