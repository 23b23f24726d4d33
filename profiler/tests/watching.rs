//! What a program can have told of single samples: hooks, the last allocations, the log of lives, sums by class.

use std::ffi::{CStr, CString, c_char, c_uint, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use alloc_core::ctl;
use heapsift::HEAP;
use heapsift::profile::Kind;
use serde_json::Value;

fn write<W>(name: &str, value: W) -> i32 {
    let none = std::ptr::null_mut;
    let bytes = (&raw const value).cast();
    // SAFETY: the value is alive and of that length.
    let answer = unsafe { ctl::by_name(&HEAP, name.as_bytes(), none(), none().cast(), bytes, size_of::<W>()) };
    answer.map_or_else(|code| code.0, |()| 0)
}

fn read<R: Default>(name: &str) -> R {
    let (mut value, mut length) = (R::default(), size_of::<R>());
    let old = (&raw mut value).cast();
    // SAFETY: room for the value, and its length.
    let answer = unsafe { ctl::by_name(&HEAP, name.as_bytes(), old, &raw mut length, std::ptr::null(), 0) };
    assert_eq!(answer, Ok(()), "{name}");
    value
}

fn call(name: &str) -> i32 {
    let none = std::ptr::null_mut;
    // SAFETY: no buffers.
    let answer = unsafe { ctl::by_name(&HEAP, name.as_bytes(), none(), none().cast(), std::ptr::null(), 0) };
    answer.map_or_else(|code| code.0, |()| 0)
}

static SAMPLED: AtomicUsize = AtomicUsize::new(0);
static FRAMES: AtomicUsize = AtomicUsize::new(0);
static FREED: AtomicUsize = AtomicUsize::new(0);
static DUMPED: AtomicUsize = AtomicUsize::new(0);
static USUAL: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn on_sample(ptr: *const c_void, size: usize, stack: *mut *mut c_void, depth: c_uint, usable: usize) {
    assert!(!ptr.is_null() && size <= usable && !stack.is_null());
    SAMPLED.fetch_add(usable, Ordering::Relaxed);
    FRAMES.fetch_max(depth as usize, Ordering::Relaxed);
    // Hooks may allocate; that is not sampled.
    HEAP.allocate(100);
}

unsafe extern "C" fn on_free(_ptr: *const c_void, usable: usize) {
    FREED.fetch_add(usable, Ordering::Relaxed);
}

unsafe extern "C" fn on_dump(path: *const c_char) {
    // SAFETY: hooks get a C string.
    assert!(unsafe { CStr::from_ptr(path) }.to_bytes().ends_with(b"dump.pb.gz"));
    DUMPED.fetch_add(1, Ordering::Relaxed);
}

unsafe extern "C" fn short_stack(frames: *mut *mut c_void, depth: *mut c_uint, room: c_uint) {
    // SAFETY: the usual function, which was read before, with the same arguments.
    unsafe {
        let usual: extern "C" fn(*mut *mut c_void, *mut c_uint, c_uint) =
            std::mem::transmute(USUAL.load(Ordering::Relaxed));
        usual(frames, depth, room);
        assert!(*depth > 2, "{}", *depth);
        *depth = 2;
    }
}

unsafe extern "C" fn collect(opaque: *mut c_void, text: *const c_char) {
    // SAFETY: the string below, and a C string.
    unsafe { (*opaque.cast::<String>()).push_str(CStr::from_ptr(text).to_str().unwrap()) };
}

#[repr(C)]
struct Receiver(unsafe extern "C" fn(*mut c_void, *const c_char), *mut c_void);

fn recent() -> Value {
    let mut text = String::new();
    assert_eq!(write("experimental.prof_recent.alloc_dump", Receiver(collect, (&raw mut text).cast())), 0);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Blocks of `size` bytes, of which every one is a sample.
#[inline(never)]
fn blocks(size: usize, count: usize) -> Vec<usize> {
    (0..count).map(|_| HEAP.allocate(size).addr()).collect()
}

fn free(blocks: Vec<usize>) {
    for block in blocks {
        // SAFETY: a block of this heap that nobody else has.
        unsafe { HEAP.deallocate(std::ptr::with_exposed_provenance_mut(block)) };
    }
}

/// One test, since the settings are the whole process's.
#[test]
fn samples_are_told_one_by_one() {
    let scratch = tempfile::TempDir::with_prefix("heapsift-watching-").unwrap();
    let directory = scratch.path();
    let path = |name: &str| CString::new(directory.join(name).to_str().unwrap()).unwrap();
    assert_eq!((write("prof.sample", 1usize), write("prof.enable", true)), (0, 0));

    // Hooks.
    assert_eq!(write("experimental.hooks.prof_sample", on_sample as *const ()), 0);
    assert_eq!(write("experimental.hooks.prof_sample_free", on_free as *const ()), 0);
    assert_eq!(write("experimental.hooks.prof_dump", on_dump as *const ()), 0);
    let kept = blocks(1000, 10);
    assert_eq!((SAMPLED.load(Ordering::Relaxed), FREED.load(Ordering::Relaxed)), (10 * 1024, 0));
    assert!(FRAMES.load(Ordering::Relaxed) > 2);
    free(kept);
    assert_eq!(FREED.load(Ordering::Relaxed), 10 * 1024);
    assert_eq!((write("prof.dump", path("dump.pb.gz").as_ptr()), DUMPED.load(Ordering::Relaxed)), (0, 1));
    USUAL.store(read("experimental.hooks.prof_backtrace"), Ordering::Relaxed);
    assert_eq!(write("experimental.hooks.prof_backtrace", short_stack as *const ()), 0);
    FRAMES.store(0, Ordering::Relaxed);
    free(blocks(1000, 1));
    assert!((1..=2).contains(&FRAMES.load(Ordering::Relaxed)));
    assert_eq!(write("experimental.hooks.prof_backtrace", USUAL.load(Ordering::Relaxed)), 0);
    for hook in ["sample", "sample_free", "dump"] {
        assert_eq!(write(&format!("experimental.hooks.prof_{hook}"), 0usize), 0);
    }

    // The last allocations.
    assert_eq!(write("experimental.prof_recent.alloc_max", 4isize), 0);
    let kept = blocks(500, 6);
    free(kept[4..5].to_vec());
    let told = recent();
    assert_eq!((&told["sample_interval"], &told["recent_alloc_max"]), (&Value::from(1), &Value::from(4)));
    let list = told["recent_alloc"].as_array().unwrap();
    let released: Vec<bool> = list.iter().map(|entry| entry["released"].as_bool().unwrap()).collect();
    assert_eq!(released, [false, false, true, false]);
    for entry in list {
        assert_eq!((&entry["size"], &entry["usize"]), (&Value::from(500), &Value::from(512)));
        assert!(entry["alloc_trace"].as_array().unwrap().len() > 2 && entry["alloc_time"].as_u64() > Some(0));
    }
    assert!(list[2]["dalloc_trace"].as_array().unwrap().len() > 2);
    assert_eq!(write("experimental.prof_recent.alloc_max", 0isize), 0);
    free([&kept[..4], &kept[5..]].concat());

    // The log of lives.
    let before = blocks(300, 1);
    assert_eq!(write("prof.log_start", path("log.json").as_ptr()), 0);
    assert_eq!(write("prof.log_start", path("log.json").as_ptr()), 14);
    let kept = blocks(3000, 3);
    std::thread::scope(|scope| scope.spawn(|| free(kept[..2].to_vec())).join().unwrap());
    free(before);
    assert_eq!((call("prof.log_stop"), call("prof.log_stop")), (0, 14));
    free(kept[2..].to_vec());
    let log: Value = serde_json::from_slice(&std::fs::read(directory.join("log.json")).unwrap()).unwrap();
    assert_eq!(log["info"]["prof_time_resolution"], "default");
    let lives: Vec<&Value> =
        log["allocations"].as_array().unwrap().iter().filter(|life| life["usize"] == 3072).collect();
    assert_eq!(lives.len(), 2);
    assert!(log["allocations"].as_array().unwrap().iter().all(|life| life["usize"] != 320));
    for life in lives {
        assert_ne!(life["alloc_thread"], life["free_thread"]);
        assert!(life["free_timestamp"].as_u64() >= life["alloc_timestamp"].as_u64());
        for end in ["alloc_trace", "free_trace"] {
            let trace = &log["stack_traces"][life[end].as_u64().unwrap() as usize];
            assert!(trace.as_array().unwrap().len() > 2, "{trace}");
        }
    }
    // A dump of lifetimes has them as well.
    assert_eq!(write("prof.lifetime_dump", path("lives.lifetime.pb.gz").as_ptr()), 0);
    assert!(heapsift::profile::dump_kind_to_vec(Kind::Lifetime).unwrap().len() > 100);
}
