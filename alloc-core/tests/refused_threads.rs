//! The system has no more threads: the background thread that wanted another says so once.

mod common;

use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use alloc_core::decay::Tier;
use alloc_core::{Heap, Request, TcacheChoice};
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);
static TOLD: AtomicU32 = AtomicU32::new(0);

/// What the heap has to say goes here.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "jemalloc's name")]
static malloc_message: unsafe extern "C" fn(*mut c_void, *const c_char) = count;

unsafe extern "C" fn count(_: *mut c_void, line: *const c_char) {
    // SAFETY: the heap passes a C string.
    let line = unsafe { CStr::from_ptr(line) };
    if line.to_string_lossy().contains("cannot start a background thread") {
        TOLD.fetch_add(1, Ordering::Relaxed);
    }
}

/// Has the system refuse threads to the whole process.
fn refuse_threads() {
    let step = |code: u32, jt, k| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    let is = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(is, 2, libc::SYS_clone as u32),
        step(is, 1, libc::SYS_clone3 as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EAGAIN as u32),
    ];
    let filter = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let all = libc::SECCOMP_FILTER_FLAG_TSYNC;
    // SAFETY: the filter is alive.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1usize, 0usize, 0usize, 0usize), 0);
        assert_eq!(libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, all, &raw const filter), 0);
    }
}

#[test]
fn what_is_refused_is_told_once() {
    assert!(HEAP.set_background_thread(true));
    refuse_threads();
    // More arenas than threads, and unused pages for these to look at.
    let arenas = [(); 3].map(|()| HEAP.create_arena(std::ptr::null_mut()).expect("an arena"));
    assert!(arenas.iter().all(|&arena| HEAP.set_arena_decay_ms(arena, Tier::Dirty, 100)));
    let (start, before) = (Instant::now(), HEAP.background_stats().num_runs);
    while HEAP.background_stats().num_runs < before + 5 {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", HEAP.background_stats());
        for arena in arenas {
            let request = Request { arena: Some(arena), tcache: TcacheChoice::None, ..Request::PLAIN };
            let block = HEAP.allocate_with(16 << 20, request);
            assert!(!block.is_null());
            // SAFETY: the block is ours.
            unsafe { HEAP.deallocate_with(block, request) };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(TOLD.load(Ordering::Relaxed), 1);
}
