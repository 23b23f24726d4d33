//! The whole chain in a Rust program: the heap as global allocator, sampled, dumped, read back, against known truth.

use std::ffi::c_void;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use heapsift::profile;
use pprof_export::reader::{Limits, decode};
use pprof_export::schema::{Profile, Sample};

#[global_allocator]
static GLOBAL: heapsift::Heapsift = heapsift::Heapsift;

const INTERVAL: u64 = 4096;

/// A call site of its own for each `SITE`.
#[inline(never)]
fn allocate<const SITE: usize>(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        blocks.push(black_box(vec![black_box(SITE as u8); bytes]));
    }
    black_box(blocks)
}

fn site_of<const SITE: usize>() -> u64 {
    allocate::<SITE> as fn(usize, usize) -> Vec<Vec<u8>> as usize as u64
}

unsafe extern "C-unwind" {
    /// Of the unwinder that the standard library is linked to: the start of the function that this address is in.
    fn _Unwind_FindEnclosingFunction(pc: *mut c_void) -> *mut c_void;
}

/// The start of the function that a call returns to.
fn start_of_function(return_address: u64) -> u64 {
    // SAFETY: it looks the address up in the unwind tables of what is loaded, whatever it is; nothing is unloaded here.
    unsafe { _Unwind_FindEnclosingFunction((return_address - 1) as *mut c_void) as u64 }
}

struct Dump(Profile);

impl Dump {
    fn now() -> Self {
        Dump(decode(&profile::dump_to_vec().unwrap(), &Limits::DEFAULT).unwrap())
    }

    fn text(&self, index: i64) -> &str {
        &self.0.string_table[index as usize]
    }

    fn label(&self, sample: &Sample, key: &str) -> Option<i64> {
        sample.label.iter().find(|label| self.text(label.key) == key).map(|label| label.num)
    }

    /// The rows whose stack passes through a site.
    fn rows(&self, site: u64) -> impl Iterator<Item = &Sample> {
        self.0.sample.iter().filter(move |sample| {
            sample.location_id.iter().any(|id| {
                let address = self.0.location[*id as usize - 1].address;
                start_of_function(address) == site
            })
        })
    }

    /// The sum of a column over the rows of a site with blocks of that size.
    fn sum(&self, site: u64, usable: i64, column: usize) -> i64 {
        self.rows(site).filter(|row| self.label(row, "bytes") == Some(usable)).map(|row| row.value[column]).sum()
    }
}

fn standard_error(count: usize, usable: i64) -> f64 {
    let p = -(-(usable as f64) / INTERVAL as f64).exp_m1();
    usable as f64 * (count as f64 * (1.0 - p) / p).sqrt()
}

fn check<const SITE: usize>(dump: &Dump, count: usize, usable: i64, columns: &[usize]) {
    for &column in columns {
        let estimate = dump.sum(site_of::<SITE>(), usable, column) as f64;
        let truth = count as f64 * usable as f64;
        let error = standard_error(count, usable);
        // Rows are rounded to whole blocks, so that a sum may be off by one in each.
        assert!(
            (estimate - truth).abs() <= 5.0 * error + 2.0 * usable as f64,
            "site {SITE}, column {column}: {estimate}, true {truth} ± {error}"
        );
    }
}

/// One test, since the profile is the whole process's.
#[test]
fn estimates_are_right() {
    profile::set_sample_interval(INTERVAL).unwrap();
    profile::set_enabled(true);
    assert!(profile::is_active());
    assert!(profile::set_sample_interval(0).is_err());

    let small = allocate::<1>(50_000, 64);
    let middle = allocate::<2>(3000, 1000);
    let large = allocate::<3>(20, 1 << 20);
    let from_threads: Vec<_> = (0..4).map(|_| thread::spawn(|| allocate::<4>(10_000, 100))).collect();
    let from_threads: Vec<_> = from_threads.into_iter().map(|thread| thread.join().unwrap()).collect();

    let dump = Dump::now();
    check::<1>(&dump, 50_000, 64, &[1, 3]);
    check::<2>(&dump, 3000, 1024, &[1, 3]);
    check::<3>(&dump, 20, 1 << 20, &[1, 3]);
    check::<4>(&dump, 40_000, 112, &[1, 3]);
    assert_eq!(dump.sum(site_of::<3>(), 1 << 20, 2), 20);
    assert_eq!(dump.0.period, INTERVAL as i64);
    let types: Vec<&str> = dump.0.sample_type.iter().map(|t| dump.text(t.r#type)).collect();
    assert_eq!(types, ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]);

    // What the stacks are made of: this binary first, with a build id; each stack from its thread's start.
    let exe = std::env::current_exe().unwrap();
    assert_eq!(dump.text(dump.0.mapping[0].filename), exe.to_str().unwrap());
    let libc = dump.0.mapping.iter().find(|m| dump.text(m.filename).ends_with("libc.so.6")).unwrap();
    assert_eq!(dump.text(libc.build_id).len(), 40);
    assert!(dump.0.function.iter().all(|f| !dump.text(f.name).contains("callers")));
    let stats = dump.0.allocator_stats.as_ref().unwrap();
    assert!(stats.allocated > 20 << 20 && stats.active >= stats.allocated && stats.rss > 20 << 20);
    for row in &dump.0.sample {
        let in_use = row.value[2] != 0;
        assert_eq!(in_use, dump.label(row, "epoch") == Some(1));
        assert!(dump.label(row, "bytes").is_some() && dump.label(row, "period").is_none());
    }

    // Freed by another thread than the one that allocated.
    drop((small, middle, large));
    thread::spawn(move || drop(from_threads)).join().unwrap();
    let dump = Dump::now();
    for (site, usable) in
        [(site_of::<1>(), 64), (site_of::<2>(), 1024), (site_of::<3>(), 1 << 20), (site_of::<4>(), 112)]
    {
        assert_eq!((dump.sum(site, usable, 2), dump.sum(site, usable, 3)), (0, 0));
        assert!(dump.sum(site, usable, 1) > 0);
    }

    // Another interval: new rows carry it, old ones say theirs.
    profile::set_sample_interval(1000).unwrap();
    let finer = allocate::<5>(20_000, 64);
    let dump = Dump::now();
    assert_eq!(dump.0.period, 1000);
    assert!(dump.rows(site_of::<5>()).all(|row| dump.label(row, "period").is_none()));
    let old = dump.rows(site_of::<1>()).map(|row| dump.label(row, "period"));
    assert!(old.eq(dump.rows(site_of::<1>()).map(|_| Some(INTERVAL as i64))));
    let estimate = dump.sum(site_of::<5>(), 64, 3) as f64;
    let p = -(-64f64 / 1000.0).exp_m1();
    let error = 64.0 * (20_000.0 * (1.0 - p) / p).sqrt();
    assert!((estimate - 1_280_000.0).abs() <= 5.0 * error + 128.0, "{estimate}");
    drop(finer);

    // Paused: nothing is sampled, frees are followed.
    let kept = allocate::<6>(5000, 64);
    profile::set_active(false);
    let unseen = allocate::<7>(5000, 64);
    drop(kept);
    let dump = Dump::now();
    assert_eq!((dump.sum(site_of::<7>(), 64, 1), dump.sum(site_of::<6>(), 64, 3)), (0, 0));
    drop(unseen);
    profile::set_active(true);

    // Dumps while others allocate, free and rename themselves; afterwards nothing is left of it.
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    drop(allocate::<8>(100, 300));
                }
            });
        }
        for _ in 0..30 {
            let dump = Dump::now();
            let site = site_of::<8>();
            assert!(dump.sum(site, 320, 2) <= dump.sum(site, 320, 0));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(Dump::now().sum(site_of::<8>(), 320, 2), 0);

    // Files.
    let scratch = tempfile::TempDir::with_prefix("heapsift-global-").unwrap();
    let directory = scratch.path();
    let path = directory.join("a.pb.gz");
    profile::dump_to_file(path.to_str().unwrap()).unwrap();
    assert!(decode(&std::fs::read(&path).unwrap(), &Limits::DEFAULT).is_ok());
    profile::set_prefix(directory.join("numbered").to_str().unwrap()).unwrap();
    profile::dump().unwrap();
    let numbered = directory.join(format!("numbered.{}.0.m0.heap.pb.gz", std::process::id()));
    assert!(numbered.exists());
    let missing = profile::dump_to_file(directory.join("none/a").to_str().unwrap()).unwrap_err();
    assert_eq!((missing.errno(), missing.to_string().as_str()), (2, "No such file or directory (errno 2)"));

    profile::reset();
    let dump = Dump::now();
    assert_eq!(dump.sum(site_of::<1>(), 64, 1), 0);
}
