//! The mutex: one holder at a time, which sees what the last one wrote; nobody sleeps for ever.

use loom::cell::UnsafeCell;
use loom::thread;
use models::lock::{self, Mutex, Rank};
use models::sync::atomic::prepare_in;
use std::sync::Arc;

/// Data that loom watches: two threads in it at once, or one that does not see the other's writes, is an error.
struct Watched(UnsafeCell<u32>);

impl Watched {
    fn add(&self) -> u32 {
        // SAFETY: loom says whether this is right.
        self.0.with_mut(|value| unsafe {
            *value += 1;
            *value
        })
    }
}

fn model(preemptions: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(check);
}

#[test]
fn one_at_a_time_with_sleep() {
    model(3, || {
        lock::set_spins(0);
        let mutex = Arc::new(Mutex::new(Rank::Bin, Watched(UnsafeCell::new(0))));
        prepare_in(&*mutex);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let mutex = mutex.clone();
                thread::spawn(move || mutex.lock().add())
            })
            .collect();
        let own = mutex.lock().add();
        let mut all: Vec<u32> = threads.into_iter().map(|thread| thread.join().expect("it ends")).collect();
        all.push(own);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
        assert_eq!(mutex.counts().num_ops, 4);
    });
}

#[test]
fn one_at_a_time_with_spinning_and_trying() {
    model(3, || {
        lock::set_spins(2);
        let mutex = Arc::new(Mutex::new(Rank::Bin, Watched(UnsafeCell::new(0))));
        prepare_in(&*mutex);
        let other = mutex.clone();
        let thread = thread::spawn(move || other.try_lock().map_or(0, |held| held.add()));
        let own = mutex.lock().add();
        let tried = thread.join().expect("it ends");
        assert!(matches!((own, tried), (1, 0 | 2) | (2, 1)), "{own} {tried}");
        assert!(!mutex.held_by_me());
    });
}

#[test]
fn a_holder_knows_itself() {
    model(2, || {
        lock::set_spins(0);
        let mutex = Arc::new(Mutex::new(Rank::Bin, ()));
        prepare_in(&*mutex);
        let other = mutex.clone();
        let thread = thread::spawn(move || {
            // Whatever the other does, this thread never takes its lock for its own.
            assert!(!other.held_by_me());
            let held = other.lock();
            assert!(other.held_by_me());
            drop(held);
            assert!(!other.held_by_me());
        });
        drop(mutex.lock());
        thread.join().expect("it ends");
    });
}
