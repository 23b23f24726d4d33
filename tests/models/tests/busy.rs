//! The flag that nobody waits for: one thread at a time has it, and sees what those before have written.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;
use models::busy::Busy;
use models::sync::atomic::prepare_in;

struct Guarded {
    busy: Busy,
    count: UnsafeCell<usize>,
}

// SAFETY: what is counted is touched by whoever has the flag; loom fails the model where that is not so.
unsafe impl Sync for Guarded {}
// SAFETY: as above.
unsafe impl Send for Guarded {}

/// Counts one more, if the flag can be had.
fn try_counting(guarded: &Guarded) -> usize {
    if !guarded.busy.take() {
        return 0;
    }
    // SAFETY: the flag is this thread's.
    guarded.count.with_mut(|count| unsafe { *count += 1 });
    guarded.busy.give();
    1
}

#[test]
fn one_at_a_time_sees_what_the_others_did() {
    loom::model(|| {
        let guarded = Arc::new(Guarded { busy: Busy::new(), count: UnsafeCell::new(0) });
        prepare_in(&guarded.busy);
        let threads = [(); 2].map(|()| {
            let guarded = guarded.clone();
            thread::spawn(move || try_counting(&guarded))
        });
        let mut counted = try_counting(&guarded);
        for thread in threads {
            counted += thread.join().expect("it ends");
        }
        // Whoever came first had the flag.
        assert!(counted >= 1);
        assert!(guarded.busy.take());
        // SAFETY: as above.
        assert_eq!(guarded.count.with(|count| unsafe { *count }), counted);
    });
}
