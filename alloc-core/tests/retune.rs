//! Threads draw new waits when the observer's settings change, at whichever instant that is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use alloc_core::Heap;
use alloc_core::observer::{Block, Observer, OptionVerdict, ThreadSlot};

/// Samples every block, or none; at an instant of the test's choice another thread switches it on.
struct Switched {
    on: AtomicBool,
    generation: AtomicUsize,
    switched_at: Mutex<Option<Instant>>,
    sampled: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq)]
enum Instant {
    /// A wait was made under the settings of before, and is not kept yet.
    Drawn,
    /// It is kept, and was found to be no void one.
    Kept,
}

impl Switched {
    fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed);
        HEAP.redraw_waits();
    }

    fn passes(&self, instant: Instant) {
        if self.switched_at.lock().unwrap().take_if(|at| *at == instant).is_some() {
            std::thread::scope(|threads| threads.spawn(|| self.switch(true)).join()).unwrap();
        }
    }
}

impl Observer for Switched {
    const ENABLED: bool = true;
    fn option(&'static self, _: &[u8], _: &[u8]) -> OptionVerdict {
        OptionVerdict::Unknown
    }
    fn boot(&'static self) {}
    fn start(&'static self) {}
    fn next_wait(&'static self, slot: &mut ThreadSlot) -> u64 {
        slot.words[0] = self.generation.load(Ordering::Relaxed);
        let wait = if self.on.load(Ordering::Relaxed) { 0 } else { i64::MAX as u64 };
        self.passes(Instant::Drawn);
        wait
    }
    fn is_wait_void(&'static self, slot: &ThreadSlot) -> bool {
        let is_void = slot.words[0] != self.generation.load(Ordering::Relaxed);
        if !is_void {
            self.passes(Instant::Kept);
        }
        is_void
    }
    fn sampled(&'static self, _: &mut ThreadSlot, _: &Block) -> bool {
        self.sampled.fetch_add(1, Ordering::Relaxed);
        false
    }
    fn freed(&'static self, _: &mut ThreadSlot, _: usize, _: usize) -> bool {
        false
    }
    fn new_maximum(&'static self, _: usize) {}
    fn wants_maxima(&self) -> bool {
        false
    }
    fn deferred(&'static self, _: &mut ThreadSlot) {}
    fn thread_exit(&'static self, _: &mut ThreadSlot) {}
    fn fork_child(&'static self) {}
    fn nodes(&self) -> &'static [alloc_core::ctl::Node] {
        &[]
    }
}

static HEAP: Heap<Switched> = Heap::new(Switched {
    on: AtomicBool::new(false),
    generation: AtomicUsize::new(1),
    switched_at: Mutex::new(None),
    sampled: AtomicUsize::new(0),
});

fn allocate(bytes: usize) {
    let block = HEAP.allocate(bytes);
    assert!(!block.is_null());
    // SAFETY: allocated above.
    unsafe { HEAP.deallocate(block) };
}

// One test, since there is one heap.
#[test]
fn a_thread_that_draws_while_sampling_is_switched_on_samples() {
    let observer = HEAP.observer();
    for instant in [Instant::Drawn, Instant::Kept] {
        observer.switch(false);
        allocate(100);
        // A change that this thread has still to hear of.
        std::thread::scope(|threads| threads.spawn(|| observer.switch(false)).join()).unwrap();
        *observer.switched_at.lock().unwrap() = Some(instant);
        allocate(100);
        assert!(observer.switched_at.lock().unwrap().is_none());
        // More than lies between two looks of a thread at what else is due to it.
        (0..32).for_each(|_| allocate(1 << 20));
        let before = observer.sampled.load(Ordering::Relaxed);
        (0..10).for_each(|_| allocate(100));
        assert_eq!(observer.sampled.load(Ordering::Relaxed) - before, 10);
    }
}
