//! The n-th call on memory is refused, for each n until nothing is refused any more, once and from there on: requests are
//! answered with null or served, blocks keep their contents, and when the system relents all is as before.
//!
//! Each n has a process of its own, a child of the test's, so that the heap's first steps are among what is refused.

extern crate std;

use std::vec::Vec;

use crate::common::Nobody;
use crate::decay::Tier;
use crate::heap::{Heap, Request, TcacheChoice};
use crate::introspect::ArenaSelection;
use crate::sys::fake;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

/// Exit statuses of a child: all held, and something, or nothing, was refused.
const REFUSED: i32 = 0;
const NOTHING_REFUSED: i32 = 77;

struct Held {
    block: *mut u8,
    size: usize,
    seed: u8,
    zeroed: bool,
}

fn byte(seed: u8, i: usize) -> u8 {
    seed.wrapping_add((i >> 3) as u8) | 1
}

/// Bytes that are written and read: all near both ends, some between.
fn touched(size: usize) -> impl Iterator<Item = usize> {
    (0..size).filter(move |&i| i < 64 || i + 64 > size || i.is_multiple_of(1021))
}

impl Held {
    fn new(block: *mut u8, size: usize, seed: u8, zeroed: bool) -> Option<Self> {
        if block.is_null() {
            return None;
        }
        let held = Held { block, size, seed, zeroed };
        for i in touched(size) {
            // SAFETY: a fresh block of that size.
            unsafe {
                assert!(!held.zeroed || held.block.add(i).read() == 0, "byte {i} of {size} is not zero");
                held.block.add(i).write(byte(seed, i));
            }
        }
        Some(held)
    }

    fn check(&self, kept: usize) {
        for i in touched(self.size).filter(|&i| i < kept) {
            // SAFETY: a block of this test's, with as many bytes.
            assert_eq!(unsafe { self.block.add(i).read() }, byte(self.seed, i), "byte {i} of {}", self.size);
        }
    }

    fn free(self) {
        self.check(self.size);
        // SAFETY: the block is this test's to give up.
        unsafe { HEAP.deallocate(self.block) };
    }
}

/// Some requests of all kinds. `served`: each of them must be.
fn requests(held: &mut Vec<Held>, state: &mut u64, served: bool) {
    let arena = HEAP.create_arena(core::ptr::null_mut());
    let cache = HEAP.create_cache();
    assert!(!served || (arena.is_some() && cache.is_some()));
    for step in 0..100u32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = (*state >> 33) as usize;
        let size = match draw % 16 {
            0 if draw.is_multiple_of(128) => 3 << 20,
            0 => 20_000 + draw % 100_000,
            1..4 => 4_000 + draw % 60_000,
            _ => 1 + draw % 1_000,
        };
        let seed = draw as u8;
        let align = 1 << ((draw >> 8) % 14);
        let block = match draw % 7 {
            0 => HEAP.allocate_zeroed(size),
            1 => HEAP.allocate_with(size, Request { align, ..Request::PLAIN }),
            2 => HEAP.allocate_with(size, Request { tcache: TcacheChoice::None, arena, zero: true, align: 1 }),
            3 if cache.is_some() => {
                let tcache = TcacheChoice::Explicit(cache.expect("as asked"));
                HEAP.allocate_with(size, Request { tcache, ..Request::PLAIN })
            }
            4 if !held.is_empty() => {
                let at = draw / 7 % held.len();
                let old = &held[at];
                // SAFETY: the block is this test's.
                let block = unsafe { HEAP.reallocate(old.block, size) };
                if block.is_null() {
                    // What was there stays there.
                    old.check(old.size);
                } else {
                    let moved = Held { block, ..held.swap_remove(at) };
                    moved.check(moved.size.min(size));
                    held.extend(Held::new(block, size, seed, false));
                }
                assert!(!served || !block.is_null(), "{size} bytes were refused");
                continue;
            }
            _ => HEAP.allocate(size),
        };
        assert!(!served || !block.is_null(), "{size} bytes were refused");
        held.extend(Held::new(block, size, seed, [0, 2].contains(&(draw % 7))));
        if draw.is_multiple_of(3) && !held.is_empty() {
            let at = draw / 21 % held.len();
            held.swap_remove(at).free();
        }
        match step {
            30 => HEAP.arena_purge(ArenaSelection::All),
            60 => HEAP.thread_tcache_flush(),
            70 => {
                HEAP.malloc_trim();
            }
            90 => {
                HEAP.set_arena_decay_ms(HEAP.thread_arena(), Tier::Muzzy, 1);
                HEAP.arena_decay(ArenaSelection::All);
            }
            _ => {}
        }
    }
    if let Some(cache) = cache {
        // SAFETY: nobody uses it any more.
        unsafe { HEAP.destroy_cache(cache) };
    }
    if let Some(arena) = arena {
        HEAP.thread_tcache_flush();
        let (gone, kept): (Vec<Held>, Vec<Held>) =
            held.drain(..).partition(|held| HEAP.block_arena(held.block) == Some(arena));
        gone.iter().for_each(|held| held.check(held.size));
        *held = kept;
        #[cfg(debug_assertions)]
        HEAP.check_arena(arena, |_| {});
        // SAFETY: its blocks are used no more, and none is in a cache.
        unsafe { HEAP.destroy_arena(arena) }.expect("a program's own");
    }
}

/// What a child does; its exit status.
fn work(which: usize, n: u32, persistent: bool, errno: i32) -> i32 {
    fake::refuse(which, n, persistent, errno);
    let mut held = Vec::new();
    let mut state = 5;
    requests(&mut held, &mut state, false);
    // Threads that may not get a state of their own.
    let other = std::thread::spawn(move || {
        let (mut held, mut state) = (Vec::new(), 9);
        requests(&mut held, &mut state, false);
        held.into_iter().for_each(Held::free);
    });
    other.join().expect("nothing of it failed");
    let refused = fake::relent();
    held.iter().for_each(|held| held.check(held.size));
    requests(&mut held, &mut state, true);
    held.into_iter().for_each(Held::free);
    HEAP.thread_tcache_flush();
    HEAP.arena_purge(ArenaSelection::All);
    assert_eq!(HEAP.stats().allocated, 0);
    if refused > 0 { REFUSED } else { NOTHING_REFUSED }
}

/// Runs [`work`] in a child under these options.
fn in_child(conf: &str, which: usize, n: u32, persistent: bool, errno: i32) -> i32 {
    // SAFETY: the child is alone with a copy of this thread; the heap has not been used in this process. What it does
    // besides (threads, environment, memory of the C library) works in a child of the C library's fork.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let answer = std::panic::catch_unwind(|| {
            // SAFETY: the process has one thread; a hang ends it.
            unsafe {
                libc::alarm(60);
                std::env::set_var("MALLOC_CONF", conf);
            }
            work(which, n, persistent, errno)
        });
        // SAFETY: ends the child without the test harness's own end.
        unsafe { libc::_exit(answer.unwrap_or(1)) };
    }
    let mut status = 0;
    // SAFETY: the child is this process's own.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

/// For each n until nothing is refused any more; how many n there were.
fn each(conf: &str, which: usize, errno: i32) -> u32 {
    // In the short form about three more for each doubling.
    let divisor = if std::env::var_os("HEAPSIFT_LONG").is_some_and(|value| value == "1") { u32::MAX } else { 4 };
    let mut highest = 0;
    for persistent in [false, true] {
        let mut n = 1;
        loop {
            let answer = in_child(conf, which, n, persistent, errno);
            if answer == NOTHING_REFUSED {
                break;
            }
            assert_eq!(answer, REFUSED, "{conf}: calls {which:#b}, number {n}, persistent: {persistent}");
            // The first ones are the heap's start, each of its own kind.
            n += if n < 12 { 1 } else { 1 + n / divisor };
        }
        highest = n;
    }
    highest
}

const ENOMEM: i32 = 12;
const EAGAIN: i32 = 11;
const MAP: usize = 1;
const UNMAP: usize = 2;
const PROTECT: usize = 4;
const ADVISE: usize = 8;
const ALL: usize = 0x3f;

#[test]
fn memory_is_refused() {
    assert!(each("", MAP, ENOMEM) > 5);
    assert!(each("", ALL, ENOMEM) > 15);
}

#[test]
fn memory_is_refused_where_address_space_is_given_back() {
    // Background work and retained space are other paths; the end of the data segment as well.
    assert!(each("retain:false,dirty_decay_ms:0", MAP, ENOMEM) > 15);
    assert!(each("retain:false,dirty_decay_ms:0", ALL, ENOMEM) > 15);
    assert!(each("dss:primary", ALL, ENOMEM) > 15);
}

#[test]
fn giving_back_is_refused() {
    assert!(each("dirty_decay_ms:0,muzzy_decay_ms:0", ADVISE, EAGAIN) > 15);
    assert!(each("muzzy_decay_ms:1", ADVISE, ENOMEM) > 3);
    assert!(each("retain:false,dirty_decay_ms:0", UNMAP, ENOMEM) > 15);
    // Huge pages are asked for, and split.
    assert!(each("huge_pages_from:1,dirty_decay_ms:0", ADVISE, EAGAIN) > 15);
}

#[test]
fn guard_pages_are_refused() {
    let conf = "san_guard_small:3,san_guard_large:2";
    assert!(each(conf, PROTECT, ENOMEM) > 15);
    assert!(each(conf, ALL, ENOMEM) > 15);
}
