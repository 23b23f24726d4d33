//! The heap against a model: random operations, with contents, alignment and overlap checked.

use alloc_core::observer::{Block, Observer, OptionVerdict, ThreadSlot};
use alloc_core::{Heap, Request};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Samples every 4096 bytes on average of a fixed pattern, and keeps the addresses.
struct Watcher {
    live: std::sync::Mutex<Vec<usize>>,
    sampled: AtomicUsize,
    freed: AtomicUsize,
}

impl Observer for Watcher {
    const ENABLED: bool = true;
    fn option(&'static self, _: &[u8], _: &[u8]) -> OptionVerdict {
        OptionVerdict::Unknown
    }
    fn boot(&'static self) {}
    fn start(&'static self) {}
    fn next_wait(&'static self, slot: &mut ThreadSlot) -> u64 {
        slot.words[0] =
            slot.words[0].wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407 + slot.uid as usize);
        (slot.words[0] >> 40) as u64 % 8192
    }
    fn sampled(&'static self, _: &mut ThreadSlot, block: &Block) -> bool {
        assert!(block.usable_bytes >= block.requested_bytes && block.entry.sp != 0);
        self.sampled.fetch_add(1, Ordering::Relaxed);
        self.live.lock().unwrap().push(block.address);
        true
    }
    fn freed(&'static self, _: &mut ThreadSlot, address: usize, _: usize) -> bool {
        let mut live = self.live.lock().unwrap();
        match live.iter().position(|&a| a == address) {
            Some(i) => {
                live.swap_remove(i);
                self.freed.fetch_add(1, Ordering::Relaxed);
                true
            }
            None => false,
        }
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

static HEAP: Heap<Watcher> = Heap::new(Watcher {
    live: std::sync::Mutex::new(Vec::new()),
    sampled: AtomicUsize::new(0),
    freed: AtomicUsize::new(0),
});

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn size(&mut self) -> usize {
        let lg = self.next() % 22;
        (self.next() % (1 << lg)) as usize
    }
}

struct Held {
    size: usize,
    pattern: u8,
}

fn check(address: usize, held: &Held) {
    // SAFETY: the test holds the block.
    let bytes = unsafe { std::slice::from_raw_parts(address as *const u8, held.size) };
    assert!(bytes.iter().all(|&b| b == held.pattern), "block {address:#x} of {} changed", held.size);
}

fn fill(ptr: *mut u8, size: usize, pattern: u8) {
    // SAFETY: the test holds the block.
    unsafe { ptr.write_bytes(pattern, size) };
}

fn insert(model: &mut BTreeMap<usize, Held>, ptr: *mut u8, size: usize, pattern: u8) {
    let address = ptr.addr();
    assert!(!ptr.is_null());
    if let Some((&below, held)) = model.range(..=address).next_back() {
        assert!(below + held.size.max(1) <= address, "overlap below");
    }
    if let Some((&above, _)) = model.range(address..).next() {
        assert!(address + size.max(1) <= above, "overlap above");
    }
    fill(ptr, size, pattern);
    model.insert(address, Held { size, pattern });
}

fn run(seed: u64, operations: u64) {
    let mut random = Random(seed | 1);
    let mut model: BTreeMap<usize, Held> = BTreeMap::new();
    for i in 0..operations {
        let pattern = i as u8;
        match random.next() % 16 {
            0..=5 => {
                let size = random.size();
                insert(&mut model, HEAP.allocate(size), size, pattern);
            }
            6 => {
                let size = random.size();
                let align = 1usize << (random.next() % 15);
                let ptr = HEAP.allocate_aligned(size, align, false);
                assert_eq!(ptr.addr() % align, 0);
                insert(&mut model, ptr, size, pattern);
            }
            7 => {
                let size = random.size();
                let ptr = HEAP.allocate_zeroed(size);
                // SAFETY: just allocated.
                assert!(unsafe { std::slice::from_raw_parts(ptr, size) }.iter().all(|&b| b == 0));
                insert(&mut model, ptr, size, pattern);
            }
            8 => {
                let size = random.size();
                let request = Request { tcache: alloc_core::TcacheChoice::None, ..Request::PLAIN };
                insert(&mut model, HEAP.allocate_with(size, request), size, pattern);
            }
            n => {
                let Some(&address) = model
                    .range(random.next() as usize % (1 << 47)..)
                    .next()
                    .or_else(|| model.iter().next())
                    .map(|(a, _)| a)
                else {
                    continue;
                };
                let held = model.remove(&address).unwrap();
                check(address, &held);
                let ptr = address as *mut u8;
                // SAFETY: the test holds the block.
                unsafe {
                    assert!(HEAP.usable_size(ptr) >= held.size);
                    if n <= 11 {
                        let size = random.size().max(1);
                        let moved = HEAP.reallocate(ptr, size);
                        let kept = std::slice::from_raw_parts(moved, size.min(held.size));
                        assert!(kept.iter().all(|&b| b == held.pattern));
                        insert(&mut model, moved, size, pattern);
                    } else {
                        HEAP.deallocate(ptr);
                    }
                }
            }
        }
    }
    for (address, held) in model {
        check(address, &held);
        // SAFETY: the test holds the block.
        unsafe { HEAP.deallocate(address as *mut u8) };
    }
}

#[test]
fn model() {
    run(0x5eed, 60_000);
    let threads: Vec<_> = (1..=4u64).map(|seed| std::thread::spawn(move || run(seed * 7919, 20_000))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    // Blocks that cross threads.
    let (send, receive) = std::sync::mpsc::channel::<usize>();
    let consumer = std::thread::spawn(move || {
        for address in receive {
            // SAFETY: the sender gave the block away.
            unsafe { HEAP.deallocate(address as *mut u8) };
        }
    });
    let mut random = Random(99);
    for _ in 0..100_000 {
        send.send(HEAP.allocate(random.size() % 2000).addr()).unwrap();
    }
    drop(send);
    consumer.join().unwrap();
    let stats = HEAP.stats();
    assert_eq!(stats.allocated, 0, "{stats:?}");
    assert!(HEAP.observer().live.lock().unwrap().is_empty());
    assert!(HEAP.observer().sampled.load(Ordering::Relaxed) > 1000);
    assert_eq!(HEAP.observer().sampled.load(Ordering::Relaxed), HEAP.observer().freed.load(Ordering::Relaxed));
    HEAP.malloc_trim();
    let after = HEAP.stats();
    assert_eq!(after.dirty + after.muzzy, 0, "{after:?}");
    assert!(after.allocated <= after.active && after.active <= after.mapped, "{after:?}");
}

#[test]
fn a_small_heap_caches_few_whole_pages() {
    const KIB: usize = 1 << 10;
    // Frees a block of each class of whole pages that is cached, over and over, and tells what of them stays with the thread.
    let cached = || {
        for bytes in (4..64).map(|step| step * 8 * KIB).cycle().take(10_000) {
            // SAFETY: the block is ours.
            unsafe { HEAP.deallocate(HEAP.allocate(bytes)) };
        }
        let stats = HEAP.stats();
        stats.active - stats.allocated
    };
    let of_small = cached();
    assert!(of_small < 384 * KIB, "{of_small}");
    let ballast = HEAP.allocate(32 << 20);
    let of_large = cached();
    assert!((512 * KIB..2048 * KIB).contains(&of_large), "{of_large}");
    // SAFETY: the block is ours.
    unsafe { HEAP.deallocate(ballast) };
}
