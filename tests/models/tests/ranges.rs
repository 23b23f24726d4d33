//! The list of ranges: whoever reads it finds none that is put together from two.

use std::sync::Arc;

use loom::thread;
use models::ranges::Ranges;
use models::sync::atomic::prepare_in;

const RANGES: [(usize, usize); 3] = [(0x1000, 1), (0x2000, 2), (0x3000, 3)];

fn list() -> Arc<Ranges<2>> {
    let list = Arc::new(Ranges::new());
    prepare_in(&*list);
    list
}

#[test]
fn a_range_is_seen_as_it_was_added() {
    loom::model(|| {
        let list = list();
        assert!(list.add(RANGES[0].0, RANGES[0].1));
        let other = list.clone();
        let writer = thread::spawn(move || {
            other.remove(RANGES[0].0);
            // In the same place.
            assert!(other.add(RANGES[1].0, RANGES[1].1));
        });
        assert!(list.iter().all(|range| RANGES.contains(&range)));
        writer.join().expect("it ends");
        assert_eq!(list.iter().collect::<Vec<_>>(), [RANGES[1]]);
    });
}

#[test]
fn threads_that_add_get_places_of_their_own() {
    loom::model(|| {
        let list = list();
        let other = list.clone();
        let writer = thread::spawn(move || assert!(other.add(RANGES[1].0, RANGES[1].1)));
        assert!(list.add(RANGES[0].0, RANGES[0].1));
        writer.join().expect("it ends");
        let mut found: Vec<_> = list.iter().collect();
        found.sort_unstable();
        assert_eq!(found, RANGES[..2]);
        assert!(!list.add(RANGES[2].0, RANGES[2].1));
        list.remove(RANGES[0].0);
        assert!(list.add(RANGES[2].0, RANGES[2].1));
    });
}
