//! Control names: every one of jemalloc's by name and number, its error codes, and that numbers move with the load.

mod common;

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};
use std::sync::Mutex;

use alloc_core::{Heap, Request, TcacheChoice, ctl, size};
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

/// Tests that look at the same numbers take turns.
static TURN: Mutex<()> = Mutex::new(());

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;

fn answer(result: Result<(), ctl::Code>) -> i32 {
    result.map_or_else(|code| code.0, |()| 0)
}

/// Reads into `R`, writes `W`.
fn both<R: Default, W>(name: &str, new: W) -> Result<R, i32> {
    let (mut value, mut length) = (R::default(), size_of::<R>());
    let old = (&raw mut value).cast();
    // SAFETY: the buffers are alive and have the lengths that are given.
    let code = answer(unsafe {
        ctl::by_name(&HEAP, name.as_bytes(), old, &raw mut length, (&raw const new).cast(), size_of::<W>())
    });
    if code == 0 { Ok(value) } else { Err(code) }
}

fn read<R: Default>(name: &str) -> Result<R, i32> {
    let (mut value, mut length) = (R::default(), size_of::<R>());
    // SAFETY: as above.
    let code =
        answer(unsafe { ctl::by_name(&HEAP, name.as_bytes(), (&raw mut value).cast(), &raw mut length, null(), 0) });
    if code == 0 { Ok(value) } else { Err(code) }
}

fn write<W>(name: &str, value: W) -> i32 {
    // SAFETY: as above.
    answer(unsafe {
        ctl::by_name(&HEAP, name.as_bytes(), null_mut(), null_mut(), (&raw const value).cast(), size_of::<W>())
    })
}

fn call(name: &str) -> i32 {
    // SAFETY: no buffers.
    answer(unsafe { ctl::by_name(&HEAP, name.as_bytes(), null_mut(), null_mut(), null(), 0) })
}

/// Bytes that a name answers, whatever its type.
fn width(name: &str) -> Option<usize> {
    [1, 4, 8].into_iter().find(|&width| {
        let (mut room, mut length) = ([0u64; 8], width);
        // SAFETY: the buffer has room for all of these.
        unsafe { ctl::by_name(&HEAP, name.as_bytes(), room.as_mut_ptr().cast(), &raw mut length, null(), 0) }.is_ok()
    })
}

fn number(name: &str) -> usize {
    read::<usize>(name).unwrap_or_else(|code| panic!("{name}: {code}"))
}

fn refresh() {
    assert_eq!(write("epoch", 1u64), 0);
}

const OPTIONS: &str = "abort abort_conf cache_oblivious trust_madvise confirm_conf retain dss narenas percpu_arena \
    oversize_threshold mutex_max_spin zero_realloc junk zero xmalloc utrace experimental_infallible_new \
    disable_large_size_classes debug_double_free_max_scan process_madvise_max_batch lg_extent_max_active_fit \
    dirty_decay_ms muzzy_decay_ms background_thread max_background_threads thp metadata_thp huge_arena_pac_thp tcache \
    tcache_max lg_tcache_nslots_mul tcache_nslots_small_min tcache_nslots_small_max tcache_nslots_large \
    tcache_gc_incr_bytes tcache_gc_delay_bytes lg_tcache_flush_small_div lg_tcache_flush_large_div \
    experimental_tcache_gc stats_print stats_print_opts stats_interval stats_interval_opts lg_san_uaf_align hpa \
    hpa_slab_max_alloc hpa_hugification_threshold hpa_hugify_delay_ms hpa_hugify_sync hpa_hugify_style hpa_dirty_mult \
    hpa_min_purge_interval_ms hpa_min_purge_delay_ms hpa_purge_threshold experimental_hpa_max_purge_nhp \
    experimental_hpa_start_huge_if_thp_always experimental_hpa_enforce_hugify hpa_sec_nshards hpa_sec_max_alloc \
    hpa_sec_max_bytes";

const LOCK: [(&str, usize); 7] = [
    ("num_ops", 8),
    ("num_wait", 8),
    ("num_spin_acq", 8),
    ("num_owner_switch", 8),
    ("total_wait_time", 8),
    ("max_wait_time", 8),
    ("max_num_thds", 4),
];

/// All names that can be read and stand in every jemalloc with statistics, with the width of their types.
fn readable() -> Vec<(String, usize)> {
    let mut names: Vec<(String, usize)> = Vec::new();
    let mut add = |prefix: &str, list: &str, width: usize| {
        names.extend(list.split_whitespace().map(|name| (format!("{prefix}{name}"), width)));
    };
    add("", "version epoch max_background_threads", 8);
    add("", "background_thread", 1);
    add(
        "config.",
        "cache_oblivious debug fill lazy_lock opt_safety_checks prof prof_libgcc prof_libunwind prof_frameptr stats utrace xmalloc",
        1,
    );
    add("config.", "malloc_conf", 8);
    add("thread.", "arena", 4);
    add("thread.", "allocated allocatedp deallocated deallocatedp peak.read", 8);
    add("thread.tcache.", "enabled", 1);
    add("arena.0.", "initialized", 1);
    add("arena.0.", "dss oversize_threshold dirty_decay_ms muzzy_decay_ms extent_hooks retain_grow_limit", 8);
    add("arenas.", "narenas nbins nhbins nlextents bin.0.nregs bin.35.nshards", 4);
    add(
        "arenas.",
        "dirty_decay_ms muzzy_decay_ms quantum page hugepage tcache_max bin.0.size bin.35.slab_size lextent.195.size",
        8,
    );
    add(
        "stats.",
        "allocated active metadata metadata_edata metadata_rtree metadata_thp resident mapped retained pinned zero_reallocs \
         background_thread.num_threads background_thread.num_runs background_thread.run_interval",
        8,
    );
    add("", "approximate_stats.active experimental.arenas.0.pactivep", 8);
    for lock in "background_thread max_per_bg_thd ctl prof prof_thds_data prof_dump prof_recent_alloc prof_recent_dump \
        prof_stats"
        .split_whitespace()
    {
        LOCK.iter().for_each(|(counter, width)| add("stats.mutexes.", &format!("{lock}.{counter}"), *width));
    }
    for arena in ["0", "4096"] {
        let prefix = format!("stats.arenas.{arena}.");
        add(&prefix, "nthreads", 4);
        add(
            &prefix,
            "uptime dss dirty_decay_ms muzzy_decay_ms pactive pdirty pmuzzy mapped retained pinned extent_avail \
             dirty_npurge dirty_nmadvise dirty_purged muzzy_npurge muzzy_nmadvise muzzy_purged base internal \
             metadata_edata metadata_rtree metadata_thp tcache_bytes tcache_stashed_bytes resident abandoned_vm \
             hpa_sec_bytes hpa_sec_hits hpa_sec_misses hpa_sec_dalloc_noflush hpa_sec_dalloc_flush hpa_sec_overfills",
            8,
        );
        for sum in ["small", "large"] {
            add(&format!("{prefix}{sum}."), "allocated nmalloc ndalloc nrequests nfills nflushes", 8);
        }
        add(
            &format!("{prefix}bins.7."),
            "nmalloc ndalloc nrequests curregs nfills nflushes nslabs nreslabs curslabs nonfull_slabs",
            8,
        );
        LOCK.iter().for_each(|(counter, width)| add(&format!("{prefix}bins.35.mutex."), counter, *width));
        add(&format!("{prefix}lextents.195."), "nmalloc ndalloc nrequests curlextents", 8);
        add(
            &format!("{prefix}extents.198."),
            "ndirty nmuzzy nretained npinned dirty_bytes muzzy_bytes retained_bytes pinned_bytes",
            8,
        );
        for lock in
            "large extent_avail extents_dirty extents_muzzy extents_retained extents_pinned decay_dirty decay_muzzy \
            base tcache_list hpa_shard hpa_shard_grow hpa_sec"
                .split_whitespace()
        {
            LOCK.iter().for_each(|(counter, width)| add(&format!("{prefix}mutexes.{lock}."), counter, *width));
        }
        add(
            &format!("{prefix}hpa_shard."),
            "npageslabs nactive ndirty npurge_passes npurges nhugifies nhugify_failures ndehugifies \
             slabs.npageslabs_huge full_slabs.nactive_nonhuge empty_slabs.ndirty_huge nonfull_slabs.63.npageslabs_nonhuge",
            8,
        );
    }
    for name in OPTIONS.split_whitespace() {
        names.push((format!("opt.{name}"), 0));
    }
    names
}

#[test]
fn every_name_is_there_by_name_and_number() {
    let _turn = TURN.lock().unwrap();
    // SAFETY: allocated just now. Makes the first arena.
    unsafe { HEAP.deallocate(HEAP.allocate(1)) };
    let mut seen = BTreeSet::new();
    for (name, wanted) in readable() {
        let found = width(&name);
        assert!(found.is_some_and(|found| wanted == 0 || wanted == found), "{name}: {found:?}, not {wanted}");
        let mut mib = [usize::MAX; 7];
        let depth =
            ctl::name_to_mib(&HEAP, name.as_bytes(), &mut mib).unwrap_or_else(|code| panic!("{name}: {code:?}"));
        assert_eq!(depth, name.split('.').count(), "{name}");
        assert!(seen.insert(mib[..depth].to_vec()), "{name} has the number of another");
        let (mut room, mut length) = ([0u64; 2], found.unwrap());
        // SAFETY: the buffer has room.
        let answer = unsafe { ctl::by_mib(&HEAP, &mib[..depth], room.as_mut_ptr().cast(), &raw mut length, null(), 0) };
        assert!(answer.is_ok(), "{name} by number");
        // A shorter array takes what fits.
        let mut part = [usize::MAX; 7];
        assert_eq!(ctl::name_to_mib(&HEAP, name.as_bytes(), &mut part[..depth - 1]), Ok(depth - 1), "{name}");
        assert_eq!(part[..depth - 1], mib[..depth - 1], "{name}");
    }
    assert!(seen.len() > 500, "{}", seen.len());
}

#[test]
fn error_codes() {
    for name in [
        "",
        ".",
        "version.",
        ".version",
        "nothing",
        "thread",
        "thread.arena.more",
        "opt.prof_log",
        "opt.bin_shards",
        "stats.arenas.77.pactive",
        "stats.arenas.4097.pactive",
        "arenas.bin.36.size",
        "arenas.lextent.196.size",
        "stats.arenas.0.bins.x.nmalloc",
        "arena.4098.purge",
        "opt.malloc_conf.global_var",
        "a.b.c.d.e.f.g.h.i",
    ] {
        assert_eq!(call(name), ENOENT, "{name}");
    }
    // An existence test.
    assert_eq!((call("version"), call("opt.narenas"), call("stats.allocated")), (0, 0, 0));
    // Sizes: what fits is copied, and how much that was.
    let (mut value, mut length) = (u64::MAX, 4usize);
    let old: *mut u8 = (&raw mut value).cast();
    // SAFETY: as in `read`.
    let code = answer(unsafe { ctl::by_name(&HEAP, b"arenas.page", old, &raw mut length, null(), 0) });
    assert_eq!((code, length, value), (EINVAL, 4, 0xffff_ffff_0000_1000));
    let (mut value, mut length) = ([u64::MAX; 2], 16usize);
    let old: *mut u8 = (&raw mut value).cast();
    // SAFETY: as in `read`.
    let code = answer(unsafe { ctl::by_name(&HEAP, b"arenas.page", old, &raw mut length, null(), 0) });
    assert_eq!((code, length, value), (EINVAL, 8, [4096, u64::MAX]));
    assert_eq!((write("epoch", 1u32), write("version", 1u64), write("arenas.narenas", 1u32)), (EINVAL, EPERM, EPERM));
    assert_eq!((read::<u64>("thread.idle"), write("thread.idle", 1u64)), (Err(EPERM), EPERM));
    assert_eq!(
        (read::<u32>("tcache.flush"), call("tcache.flush"), call("tcache.destroy")),
        (Err(EPERM), EINVAL, EINVAL)
    );
    assert_eq!((write("tcache.flush", 4000u32), write("tcache.destroy", 4000u32)), (0, 0));
    // Names that need to be read: nothing is made.
    let before = read::<u32>("arenas.narenas");
    for name in ["tcache.create", "arenas.create", "experimental.arenas_create_ext", "experimental.batch_alloc"] {
        assert_eq!(call(name), EINVAL, "{name}");
        let (mut value, mut length) = (0u16, 2usize);
        // SAFETY: as in `read`.
        let code = answer(unsafe {
            ctl::by_name(&HEAP, name.as_bytes(), (&raw mut value).cast(), &raw mut length, null(), 0)
        });
        assert_eq!((code, length), (EINVAL, 0), "{name}");
    }
    assert_eq!(read::<u32>("arenas.narenas"), before);
    assert_eq!((write("max_background_threads", 0usize), write("max_background_threads", 5usize)), (EINVAL, EINVAL));
    assert_eq!((write("arenas.dirty_decay_ms", -2isize), write("arena.0.muzzy_decay_ms", -2isize)), (EFAULT, EFAULT));
    assert_eq!(
        (call("arena.0.reset"), call("arena.0.destroy"), write("thread.arena", 4000u32)),
        (EFAULT, EFAULT, EFAULT)
    );
    assert_eq!(write("arena.0.dss", c"everything".as_ptr()), EINVAL);
    assert_eq!(write("arena.0.retain_grow_limit", 1usize), EFAULT);
    assert_eq!(both::<u32, _>("arenas.lookup", null::<u8>()), Err(EINVAL));
    assert_eq!(
        (call("experimental.hooks.thread_event"), write("experimental.hooks.thread_event", 1u64)),
        (EINVAL, EINVAL)
    );
    assert_eq!(both::<[u64; 5], _>("experimental.utilization.query", null::<u8>()), Err(EINVAL));
}

#[test]
fn numbers_move_with_the_load() {
    let _turn = TURN.lock().unwrap();
    let arena: u32 = read("arenas.create").unwrap();
    let own = |name: &str| number(&format!("stats.arenas.{arena}.{name}"));
    let request = Request { arena: Some(arena), tcache: TcacheChoice::None, ..Request::PLAIN };
    refresh();
    let before: Vec<_> = ["small.allocated", "large.allocated", "pactive"].map(own).to_vec();
    assert_eq!(before, [0, 0, 0]);
    let small: Vec<_> = (0..1000).map(|_| HEAP.allocate_with(100, request)).collect();
    let large: Vec<_> = (0..10).map(|_| HEAP.allocate_with(100_000, request)).collect();
    // Nothing moves before the epoch does.
    assert_eq!(own("small.allocated"), 0);
    refresh();
    assert_eq!((own("small.allocated"), own("bins.7.curregs"), own("bins.7.nmalloc")), (112_000, 1000, 1000));
    assert_eq!((own("bins.7.nrequests"), own("bins.7.nslabs"), own("bins.7.curslabs")), (1000, 4, 4));
    assert_eq!((own("large.allocated"), own("large.nmalloc"), own("large.nrequests")), (1_064_960, 10, 10));
    // 112 KiB is the class of 100 KiB.
    assert_eq!((own("lextents.11.curlextents"), number("arenas.lextent.11.size")), (10, 114_688));
    assert_eq!(own("pactive"), 4 * 7 + 10 * 26);
    assert!(number("stats.allocated") <= number("stats.active") && number("stats.active") <= number("stats.mapped"));
    assert!(own("bins.7.mutex.num_ops") >= 1000 && own("mutexes.extents_dirty.num_ops") >= 18);
    let pactive: *const usize =
        core::ptr::with_exposed_provenance(number(&format!("experimental.arenas.{arena}.pactivep")));
    // SAFETY: the counter stays in place.
    assert_eq!(unsafe { pactive.read_volatile() }, own("pactive"));
    let name = format!("arena.{arena}.initialized");
    assert_eq!((read::<bool>(&name), read::<bool>("arena.4096.initialized")), (Ok(true), Ok(true)));
    assert_eq!(both::<u32, _>("arenas.lookup", small[0]), Ok(arena));

    // How full the extents are.
    #[allow(clippy::type_complexity, reason = "the C struct is this")]
    let query = |ptr: *mut u8| both::<[usize; 6], _>("experimental.utilization.query", ptr).unwrap();
    let [_, free, regions, bytes, bin_free, bin_regions] = query(small[999]);
    assert_eq!((free, regions, bytes, bin_free, bin_regions), (24, 256, 7 * 4096, 24, 1024));
    assert_eq!(query(large[0])[1..4], [0, 1, 106_496]);
    assert_eq!(query(null_mut()), [0; 6]);
    let pair = both::<[usize; 6], _>("experimental.utilization.batch_query", [small[0], large[0]]).unwrap();
    assert_eq!(pair, [0, 256, 7 * 4096, 0, 1, 106_496]);

    // SAFETY: the blocks are ours.
    unsafe {
        small.into_iter().for_each(|block| HEAP.deallocate_with(block, request));
        large.into_iter().for_each(|block| HEAP.deallocate_with(block, request));
    }
    refresh();
    assert_eq!((own("small.allocated"), own("bins.7.ndalloc"), own("large.ndalloc")), (0, 1000, 10));
    let dirty = own("pdirty");
    assert!(dirty >= 250, "{dirty}");
    let by_class: usize = (0..199).map(|class| own(&format!("extents.{class}.dirty_bytes"))).sum();
    assert_eq!(by_class, dirty * 4096);
    assert_eq!(call(&format!("arena.{arena}.purge")), 0);
    refresh();
    // With the slab that the bin had kept for its next request.
    assert_eq!((own("pdirty"), own("dirty_purged"), own("dirty_npurge"), own("pactive")), (0, dirty + 7, 1, 0));
    assert_eq!(call("stats.mutexes.reset"), 0);
    refresh();
    assert!(own("bins.7.mutex.num_ops") < 10);
}

#[test]
fn arenas_come_and_go() {
    let _turn = TURN.lock().unwrap();
    let arena: u32 = both("arenas.create", null_mut::<u8>()).unwrap();
    let request = Request { arena: Some(arena), tcache: TcacheChoice::None, ..Request::PLAIN };
    let fill = || {
        for i in 0..2000 {
            let block = HEAP.allocate_with(i * 40 + 1, request);
            assert!(!block.is_null());
            assert_eq!(HEAP.block_arena(block), Some(arena));
        }
    };
    fill();
    let name = |suffix: &str| format!("arena.{arena}.{suffix}");
    let mut text = [0u8; 32];
    let buffer = text.as_mut_ptr();
    let get_name = || {
        let (mut room, mut length) = (buffer, 8usize);
        // SAFETY: the name goes where `room` points.
        let answer =
            unsafe { ctl::by_name(&HEAP, name("name").as_bytes(), (&raw mut room).cast(), &raw mut length, null(), 0) };
        assert!(answer.is_ok());
        // SAFETY: the name ends in zero.
        unsafe { CStr::from_ptr(buffer.cast_const().cast::<c_char>()) }.to_str().unwrap().to_owned()
    };
    assert_eq!(get_name(), format!("manual_{arena}"));
    assert_eq!(write(&name("name"), c"for pictures".as_ptr()), 0);
    assert_eq!(get_name(), "for pictures");
    let before = HEAP.stats();
    assert_eq!(call(&name("reset")), 0);
    let after = HEAP.stats();
    // 80 MB of blocks are gone, pages are left.
    assert!(before.allocated - after.allocated > 79_000_000 && before.active - after.active > 79_000_000);
    fill();
    // A thread that is bound keeps an arena from being destroyed.
    let home: u32 = both("thread.arena", arena).unwrap();
    assert_eq!((read("thread.arena"), call(&name("destroy"))), (Ok(arena), EFAULT));
    assert_eq!(write("thread.arena", home), 0);
    let mapped = HEAP.stats().mapped + HEAP.stats().retained;
    assert_eq!(call(&name("destroy")), 0);
    assert!(mapped - (HEAP.stats().mapped + HEAP.stats().retained) > 79_000_000);
    assert_eq!(read::<bool>(&name("initialized")), Ok(false));
    assert!(HEAP.allocate_with(1, request).is_null());
    refresh();
    assert_eq!(read::<usize>(&format!("stats.arenas.{arena}.pactive")), Err(ENOENT));
    assert!(number("stats.arenas.4097.large.ndalloc") > 3000);
    // The index is used again, with a clean slate.
    assert_eq!(read::<u32>("arenas.create"), Ok(arena));
    refresh();
    assert_eq!(number(&format!("stats.arenas.{arena}.small.nmalloc")), 0);
    assert_eq!(get_name(), format!("manual_{arena}"));
    fill();
    assert_eq!(call(&name("destroy")), 0);
}

#[test]
fn many_blocks_at_once() {
    let mut blocks = [null_mut::<u8>(); 64];
    #[repr(C)]
    struct Batch(*mut *mut u8, usize, usize, i32);
    let filled = both::<usize, _>("experimental.batch_alloc", Batch(blocks.as_mut_ptr(), 64, 500, 0x40));
    assert_eq!(filled, Ok(64));
    for block in blocks {
        // SAFETY: the blocks are ours, of 500 bytes that were asked to be zero.
        unsafe {
            assert!(std::slice::from_raw_parts(block, 500).iter().all(|&b| b == 0));
            HEAP.deallocate(block);
        }
    }
}

#[test]
fn background_threads_give_pages_back() {
    let _turn = TURN.lock().unwrap();
    assert_eq!(read::<bool>("background_thread"), Ok(false));
    assert_eq!((write("background_thread", true), read::<bool>("background_thread")), (0, Ok(true)));
    let arena: u32 = read("arenas.create").unwrap();
    assert_eq!(write(&format!("arena.{arena}.dirty_decay_ms"), 200isize), 0);
    let request = Request { arena: Some(arena), tcache: TcacheChoice::None, ..Request::PLAIN };
    // The threads come to rest first, so that a free has to wake one.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let block = HEAP.allocate_with(40 << 20, request);
    // SAFETY: the block is ours.
    unsafe { HEAP.deallocate_with(block, request) };
    let dirty = || {
        refresh();
        number(&format!("stats.arenas.{arena}.pdirty"))
    };
    assert!(dirty() > 0);
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while dirty() > 0 {
        assert!(std::time::Instant::now() < limit, "{} pages are left", dirty());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(number("stats.background_thread.num_threads") >= 1 && number("stats.background_thread.num_runs") >= 2);
    assert_eq!((write("max_background_threads", 2usize), read::<usize>("max_background_threads")), (0, Ok(2)));
    assert_eq!((write("background_thread", false), read::<bool>("background_thread")), (0, Ok(false)));
    refresh();
    assert_eq!(number("stats.background_thread.num_threads"), 0);
}

/// Writes a string through its pointer, as `thread.tcache.ncached_max.write` wants it.
fn settings(text: &std::ffi::CStr) -> i32 {
    write("thread.tcache.ncached_max.write", text.as_ptr())
}

#[test]
fn a_thread_sets_how_much_it_caches() {
    let slots = |bytes: usize| both::<usize, usize>("thread.tcache.ncached_max.read_sizeclass", bytes);
    // Blocks of a class that are in the thread's cache, beyond those that were, when so many have been freed.
    let stay = |bytes: usize, count: usize| {
        let blocks: Vec<_> = (0..count).map(|_| HEAP.allocate(bytes)).collect();
        let before = HEAP.stats().tcache_bytes;
        // SAFETY: allocated just now.
        blocks.iter().for_each(|&block| unsafe { HEAP.deallocate(block) });
        HEAP.stats().tcache_bytes.saturating_sub(before) / size::usable_size_for(bytes, 1)
    };
    std::thread::spawn(move || {
        let (max, usual) = (number("thread.tcache.max"), slots(160).unwrap());
        assert_eq!((max, usual), (32768, 200));
        assert_eq!(settings(c"8-128:1|160-160:11|4096:1001"), 22);
        assert_eq!(settings(c"8-128:1|160-160:11|4096-4096:1001"), 0);
        assert_eq!([slots(8), slots(160), slots(161), slots(4096)], [Ok(1), Ok(11), Ok(128), Ok(1001)]);
        assert!((1..=11).contains(&stay(160, 30)) && (800..=900).contains(&stay(4096, 900)) && stay(100, 10) <= 1);
        // The rest is as it was, and stays so when the largest size changes.
        assert_eq!(both::<usize, usize>("thread.tcache.max", 3000), Ok(max));
        assert_eq!(number("thread.tcache.max"), 3072);
        assert_eq!([slots(160), slots(3072), slots(4096), slots(100_000)], [Ok(11), Ok(20), Ok(0), Ok(0)]);
        assert!(stay(160, 30) <= 11 && (stay(4096, 30), stay(100_000, 3)) == (0, 0));
        assert_eq!(write("thread.tcache.max", usize::MAX), 0);
        assert_eq!((number("thread.tcache.max"), slots(4096)), (32768, Ok(1001)));
        // Half a number is none, and what isn't asked well changes nothing.
        assert_eq!(write("thread.tcache.max", 1u32), 22);
        assert_eq!((slots(9 << 20), slots(8 << 20)), (Err(22), Ok(0)));
        assert_eq!(read::<usize>("thread.tcache.ncached_max.read_sizeclass"), Err(22));
        assert_eq!((settings(c""), write("thread.tcache.ncached_max.write", std::ptr::null::<u8>())), (0, 22));
        let long = std::ffi::CString::new(vec![b'1'; 1000]).unwrap();
        assert_eq!((settings(&long), slots(160)), (22, Ok(11)));
        assert_eq!(write("thread.tcache.enabled", false), 0);
        assert_eq!((settings(c"160-160:5"), slots(160)), (2, Ok(0)));
        // As under jemalloc, what was set goes with the caches.
        assert_eq!(write("thread.tcache.enabled", true), 0);
        assert_eq!(slots(160), Ok(usual));
        assert_eq!((settings(c"160-160:11"), slots(160)), (0, Ok(11)));
    })
    .join()
    .unwrap();
    // Whoever gets the state next has the usual limits.
    std::thread::spawn(move || assert_eq!((number("thread.tcache.max"), slots(160)), (32768, Ok(200)))).join().unwrap();
}
