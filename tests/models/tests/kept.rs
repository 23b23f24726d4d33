//! The list that only grows: whoever reads it finds whole records.

use std::sync::Arc;

use loom::thread;
use models::kept::Kept;
use models::sync::atomic::prepare_in;

const RECORDS: [[u64; 2]; 3] = [[10, 11], [20, 21], [30, 31]];

fn list() -> Arc<Kept<2, 2>> {
    let list = Arc::new(Kept::new());
    prepare_in(&*list);
    list
}

#[test]
fn a_record_is_seen_as_it_was_added() {
    loom::model(|| {
        let list = list();
        let other = list.clone();
        let writer = thread::spawn(move || other.add(1, &RECORDS[0]));
        assert!(list.newest_first().all(|record| record == RECORDS[0]));
        writer.join().expect("it ends");
        assert_eq!(list.newest_first().collect::<Vec<_>>(), [RECORDS[0]]);
        assert!(list.has(1) && !list.has(2));
    });
}

#[test]
fn threads_that_add_get_places_of_their_own_while_there_are_any() {
    loom::model(|| {
        let list = list();
        let other = list.clone();
        let writer = thread::spawn(move || other.add(2, &RECORDS[1]));
        list.add(1, &RECORDS[0]);
        writer.join().expect("it ends");
        let mut found: Vec<_> = list.newest_first().collect();
        found.sort_unstable();
        assert_eq!(found, RECORDS[..2]);
        assert!(list.has(3), "there is no place");
        list.add(3, &RECORDS[2]);
        assert_eq!(list.newest_first().count(), 2);
    });
}
