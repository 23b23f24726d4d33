//! The profiler's control names: jemalloc's answers, before and after profiling is switched on.

use std::ffi::{CStr, CString, c_char};
use std::ptr::null;

use alloc_core::ctl;
use heapsift::HEAP;

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;

/// `mallctl` with an optional value to write and an optional room to read into.
fn control<R, W>(name: &str, old: Option<&mut R>, new: Option<W>) -> i32 {
    let mut length = size_of::<R>();
    let (old, old_length) = match old {
        Some(room) => ((room as *mut R).cast(), &raw mut length),
        None => (std::ptr::null_mut(), std::ptr::null_mut()),
    };
    let (new, new_length) = match &new {
        Some(value) => ((value as *const W).cast(), size_of::<W>()),
        None => (null(), 0),
    };
    // SAFETY: the buffers are alive and have the lengths that are given.
    let answer = unsafe { ctl::by_name(&HEAP, name.as_bytes(), old, old_length, new, new_length) };
    answer.map_or_else(|code| code.0, |()| 0)
}

fn read<R: Default>(name: &str) -> Result<R, i32> {
    let mut value = R::default();
    match control::<R, u8>(name, Some(&mut value), None) {
        0 => Ok(value),
        code => Err(code),
    }
}

fn write<W>(name: &str, value: W) -> i32 {
    control::<u8, W>(name, None, Some(value))
}

fn call(name: &str) -> i32 {
    control::<u8, u8>(name, None, None)
}

fn text(name: &str) -> String {
    let mut pointer: *const c_char = null();
    assert_eq!(control::<*const c_char, u8>(name, Some(&mut pointer), None), 0, "{name}");
    // SAFETY: the names read here answer with C strings that stay.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned()
}

/// One test, since the settings are the whole process's.
#[test]
fn names_answer_as_in_jemalloc() {
    // Without a profile.
    assert_eq!(read::<bool>("opt.prof"), Ok(false));
    assert_eq!(read::<bool>("prof.active"), Ok(false));
    assert_eq!((write("prof.active", false), write("prof.active", true)), (0, ENOENT));
    assert_eq!((write("prof.gdump", false), write("prof.gdump", true)), (ENOENT, ENOENT));
    for name in ["prof.dump", "prof.prefix", "prof.reset", "thread.prof.name"] {
        assert_eq!(call(name), ENOENT, "{name}");
    }
    assert_eq!(read::<bool>("thread.prof.active"), Ok(false));
    assert_eq!((write("thread.prof.active", true), write("prof.thread_active_init", true)), (ENOENT, ENOENT));
    assert_eq!((read::<usize>("prof.lg_sample"), read::<u64>("prof.interval")), (Ok(19), Ok(0)));
    assert_eq!((read::<usize>("opt.lg_prof_sample"), read::<isize>("opt.lg_prof_interval")), (Ok(19), Ok(-1)));
    assert_eq!((read::<u32>("opt.prof_bt_max"), read::<bool>("opt.prof_active")), (Ok(128), Ok(true)));
    assert_eq!((text("opt.prof_prefix").as_str(), text("opt.prof_unwind").as_str()), ("heapsift", "auto"));
    assert_eq!((call("prof.nothing"), read::<bool>("opt.prof_log")), (ENOENT, Ok(false)));
    assert_eq!((read::<bool>("opt.prof_stats"), read::<isize>("opt.prof_recent_alloc_max")), (Ok(false), Ok(0)));
    assert_eq!((text("opt.prof_time_resolution").as_str(), text("opt.prof_format").as_str()), ("default", "pprof"));
    for name in ["prof.log_start", "prof.log_stop", "prof.lifetime_dump", "experimental.prof_recent.alloc_dump"] {
        assert_eq!(call(name), ENOENT, "{name}");
    }
    assert_eq!(read::<isize>("experimental.prof_recent.alloc_max"), Err(ENOENT));
    assert_eq!(read::<[u64; 2]>("prof.stats.bins.0.live"), Err(ENOENT));
    for name in ["backtrace", "dump", "sample", "sample_free"].map(|name| format!("experimental.hooks.prof_{name}")) {
        assert_eq!((call(&name), write(&name, 1usize), write(&name, 1u32)), (EINVAL, ENOENT, ENOENT), "{name}");
        assert_eq!(read::<usize>(&name).is_ok_and(|hook| hook != 0), name.ends_with("backtrace"), "{name}");
    }

    // Switched on in the running process; what was configured stays as it was.
    assert_eq!(write("prof.enable", true), 0);
    assert_eq!((read::<bool>("opt.prof"), read::<bool>("prof.active")), (Ok(false), Ok(true)));
    assert_eq!(read::<bool>("thread.prof.active"), Ok(true));
    assert_eq!((write("thread.prof.active", false), read::<bool>("thread.prof.active")), (0, Ok(false)));
    assert_eq!((write("thread.prof.active", true), read::<bool>("thread.prof.active")), (0, Ok(true)));
    assert_eq!((write("prof.active", 1u32), read::<u32>("prof.active")), (EINVAL, Err(EINVAL)));
    assert_eq!((write("prof.lg_sample", 12usize), read::<u8>("prof.dump")), (EPERM, Err(EPERM)));

    // Without `prof_stats` there are none.
    assert_eq!(read::<[u64; 2]>("prof.stats.bins.0.live"), Err(ENOENT));
    assert_eq!((call("prof.log_stop"), read::<u8>("prof.log_start")), (EFAULT, Err(EPERM)));
    assert_eq!(
        (write("experimental.prof_recent.alloc_max", -2isize), read::<isize>("experimental.prof_recent.alloc_max")),
        (EINVAL, Ok(0))
    );
    assert_eq!(write("experimental.hooks.prof_backtrace", 0usize), EINVAL);

    // Intervals.
    assert_eq!((write("prof.sample", 1000usize), read::<usize>("prof.sample")), (0, Ok(1000)));
    assert_eq!((write("prof.sample", 0usize), read::<usize>("prof.lg_sample")), (EINVAL, Ok(9)));
    assert_eq!((write("prof.reset", 12usize), read::<usize>("prof.sample")), (0, Ok(4096)));
    assert_eq!((write("prof.reset", 99usize), read::<usize>("prof.lg_sample")), (0, Ok(63)));
    assert_eq!((call("prof.reset"), read::<usize>("prof.lg_sample")), (0, Ok(63)));
    assert_eq!(write("prof.reset", 12u32), EINVAL);

    // Epochs.
    let before: u64 = read("prof.epoch").unwrap();
    assert_eq!((write("prof.epoch", 1u64), read::<u64>("prof.epoch")), (0, Ok(before + 1)));

    // Thread names.
    assert_eq!(text("thread.prof.name"), "");
    let long = CString::new("a name that is too long").unwrap();
    assert_eq!((write("thread.prof.name", long.as_ptr()), text("thread.prof.name").as_str()), (0, "a name that is "));
    let control_character = CString::new("a\nb").unwrap();
    assert_eq!(write("thread.prof.name", control_character.as_ptr()), EINVAL);
    assert_eq!(write("thread.prof.name", null::<c_char>()), EINVAL);
    let mut room: *const c_char = null();
    assert_eq!(control("thread.prof.name", Some(&mut room), Some(long.as_ptr())), EPERM);

    // Dumps.
    let scratch = tempfile::TempDir::with_prefix("heapsift-control-").unwrap();
    let directory = scratch.path();
    let in_directory = |name: &str| CString::new(directory.join(name).to_str().unwrap()).unwrap();
    assert_eq!(write("prof.prefix", null::<c_char>()), EFAULT);
    assert_eq!(write("prof.prefix", in_directory("p").as_ptr()), 0);
    assert_eq!((call("prof.dump"), call("prof.dump")), (0, 0));
    let pid = std::process::id();
    for number in 0..2 {
        assert!(directory.join(format!("p.{pid}.{number}.m{number}.heap.pb.gz")).exists());
    }
    // A dump of another process with the same number is not overwritten.
    std::fs::write(directory.join(format!("p.{pid}.2.m2.heap.pb.gz")), "theirs").unwrap();
    assert_eq!(call("prof.dump"), 0);
    assert!(directory.join(format!("p.{pid}.3.m3.heap.pb.gz")).exists());
    assert_eq!(std::fs::read(directory.join(format!("p.{pid}.2.m2.heap.pb.gz"))).unwrap(), b"theirs");
    assert_eq!(write("prof.dump", in_directory("named").as_ptr()), 0);
    assert_eq!(write("prof.dump", in_directory("named").as_ptr()), 0);
    assert_eq!(write("prof.dump", in_directory("none/named").as_ptr()), EFAULT);
    std::os::unix::fs::symlink("named", directory.join("link")).unwrap();
    assert_eq!(write("prof.dump", in_directory("link").as_ptr()), EFAULT);
    assert_eq!(write("prof.prefix", c"".as_ptr()), 0);
    assert_eq!(call("prof.dump"), EFAULT);
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 6);

    // Locks: the tables of stacks and samples, and the turn to dump.
    assert_eq!(write("epoch", 1u64), 0);
    for name in ["prof", "prof_thds_data", "prof_dump"] {
        let taken: u64 = read(&format!("stats.mutexes.{name}.num_ops")).unwrap();
        assert!(taken > 0, "{name}");
    }
    let before: u64 = read("stats.mutexes.prof_dump.num_ops").unwrap();
    assert_eq!((call("stats.mutexes.reset"), write("epoch", 1u64)), (0, 0));
    assert!(read::<u64>("stats.mutexes.prof_dump.num_ops").unwrap() < before);
}
