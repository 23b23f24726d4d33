//! The cache of unwind rules: what is found for an address is what was stored for it, whatever else is being stored in the
//! same place.

use loom::thread;
use models::rules;

const MODULE: u64 = 0x1234_5678_9abc;
const OTHER_MODULE: u64 = 0x7777_0000_1111;

/// Two addresses whose entries share a place: found by storing one and looking whether the other is gone.
fn neighbours() -> (usize, usize) {
    let first = 0x40_1000;
    let found = std::sync::OnceLock::new();
    let kept = std::sync::Arc::new(found);
    let out = kept.clone();
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 1_000_000;
    builder.check(move || {
        rules::store(first, MODULE, 1);
        let second = (first + 1..).find(|&second| {
            rules::store(second, MODULE, 2);
            rules::find(first, MODULE).is_none()
        });
        let _ = kept.set(second.expect("there are many"));
    });
    (first, *out.get().expect("the model has run"))
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
        let writer = thread::spawn(|| rules::store(0x40_1000, MODULE, 5));
        assert_eq!(rules::find(0x40_1000, MODULE), Some(5));
        writer.join().expect("it ends");
    });
}
