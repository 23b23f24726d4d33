//! Options, good and bad: what is said about them, and what `opt.*` tells of them afterwards.

use std::path::Path;

use heapsift_tests::Program;
use heapsift_tests::artifacts::Scratch;

use super::{Answers, add};

/// `true` or `false`. (Not those that print or write something at the end.)
const FLAGS: &str = "abort abort_conf background_thread cache_oblivious confirm_conf disable_large_size_classes \
    experimental_hpa_enforce_hugify experimental_hpa_start_huge_if_thp_always experimental_infallible_new \
    experimental_tcache_gc hpa hpa_hugify_sync huge_arena_pac_thp prof prof_accum prof_active prof_gdump \
    prof_leak_error prof_pid_namespace prof_stats prof_sys_thread_name prof_thread_active_init prof_unbias retain tcache \
    trust_madvise utrace xmalloc zero nonsense";

/// Numbers of all types.
const NUMBERS: &str = "calloc_madvise_threshold debug_double_free_max_scan dirty_decay_ms experimental_hpa_max_purge_nhp \
    hpa_hugification_threshold hpa_hugify_delay_ms hpa_min_purge_delay_ms hpa_min_purge_interval_ms hpa_purge_threshold \
    hpa_sec_bytes_after_flush hpa_sec_batch_fill_extra hpa_sec_max_alloc hpa_sec_max_bytes hpa_sec_nshards \
    hpa_slab_max_alloc lg_extent_max_active_fit lg_prof_interval lg_prof_sample lg_san_uaf_align \
    lg_tcache_flush_large_div lg_tcache_flush_small_div lg_tcache_max lg_tcache_nslots_mul max_background_threads \
    mutex_max_spin muzzy_decay_ms narenas oversize_threshold process_madvise_max_batch prof_bt_max \
    prof_recent_alloc_max san_guard_large san_guard_small stats_interval tcache_gc_delay_bytes tcache_gc_incr_bytes \
    tcache_max tcache_nslots_large tcache_nslots_small_max tcache_nslots_small_min";

/// What numbers are tried.
const VALUES: [&str; 16] = [
    "0",
    "1",
    "5",
    "4096",
    "100000",
    "-1",
    "-2",
    "0x20",
    "017",
    "08",
    "19k",
    "1.5",
    "",
    " 3",
    "18446744073709551615",
    "18446744073709551616",
];

/// Words and settings, each after its option.
const WORDS: &str = "dss:primary dss:secondary dss:disabled dss:prim dss:d dss:DISABLED dss: percpu_arena:disabled \
    percpu_arena:percpu percpu_arena:phycpu percpu_arena:phy percpu_arena:cpu thp:default thp:always thp:never thp:nev \
    thp:alwaysx metadata_thp:disabled metadata_thp:auto metadata_thp:always metadata_thp:a metadata_thp:x \
    junk:true junk:false junk:alloc junk:free junk:all junk: zero_realloc:alloc zero_realloc:free zero_realloc:abort \
    zero_realloc:fr prof_time_resolution:default prof_time_resolution:high prof_time_resolution:low \
    hpa_hugify_style:lazy hpa_hugify_style:eager hpa_hugify_style:none hpa_hugify_style:x prof_prefix:here \
    prof_prefix: stats_print_opts:Jmg stats_print_opts:x stats_interval_opts:ax narenas_ratio:2 narenas_ratio:0.5 \
    narenas_ratio:x narenas_ratio:1. narenas:default narenas_ratio:.5 hpa_dirty_mult:0.5 hpa_dirty_mult:-1 \
    hpa_dirty_mult:x hpa_hugification_threshold_ratio:0.5 hpa_hugification_threshold_ratio:2 \
    hpa_hugification_threshold_ratio:x hpa_purge_threshold_ratio:0.5 bin_shards:1-160:16|129-512:4 bin_shards:1-160 \
    bin_shards:1-160:100 bin_shards:1-160:0 bin_shards:x bin_shards:160-1:2 bin_shards:1-99999:2 bin_shards: \
    slab_sizes:1-4096:17|100-200:1 slab_sizes:1-4096:99 slab_sizes:1-2:3| slab_sizes:x slab_sizes:4096-1:2 \
    tcache_ncached_max:256-1024:1001|2048-2048:0 tcache_ncached_max:x tcache_ncached_max:1-2 \
    tcache_ncached_max:1024-256:3 log:x";

/// Whole strings, most of them malformed.
const STRINGS: [&str; 50] = [
    "narenas",
    "narenas:",
    "narenas:2,",
    "narenas:2,,zero:true",
    ",",
    ",zero:true",
    ":",
    ":1",
    "zero",
    "zero:",
    "zero:true",
    "zero:true,zero:false",
    "zero:TRUE",
    "zero: true",
    " zero:true",
    "zero :true",
    "zero:true ",
    "zero:true;narenas:2",
    "zero=true",
    "ze-ro:true",
    "zero:true,junk",
    "zero:true,junk:",
    "zero:true\n",
    "Zero:true",
    "zero:true:false",
    "foo:bar",
    "foo:bar,zero:true",
    "experimental_foo:1",
    "experimental_foo:1,abort_conf:true",
    "hpa_sec_bytes_after_flush:1,abort_conf:true",
    "abort_conf:true",
    "abort_conf:true,foo:bar",
    "foo:bar,abort_conf:true",
    "abort_conf:true,narenas:0",
    "abort_conf:true,zero",
    "abort_conf:true,zero:true,",
    "abort_conf:true,lg_prof_sample:64",
    "abort_conf:true,percpu_arena:x",
    "confirm_conf:true",
    "confirm_conf:true,narenas:2,zero:maybe,foo:1",
    "confirm_conf:false,narenas:2",
    "confirm_conf:true,tcache_max:99999999",
    "percpu_arena:percpu,narenas:1",
    "prof_leak_error:true",
    "prof_leak_error:true,lg_prof_sample:0",
    "prof_leak_error:true,prof_leak:false,prof:false,prof_gdump:true,lg_prof_interval:30",
    "dirty_decay_ms:18446744072000,muzzy_decay_ms:18446744072001",
    "dirty_decay_ms:9223372036854775807",
    "lg_tcache_max:3",
    "tcache_max:1000,narenas:0x3,dirty_decay_ms:010",
];

/// All that is tried.
fn strings() -> Vec<String> {
    let all = |names: &'static str, values: &'static [&'static str]| {
        names.split_whitespace().flat_map(move |name| values.iter().map(move |value| format!("{name}:{value}")))
    };
    let fixed = WORDS.split_whitespace().chain(STRINGS).map(str::to_owned);
    all(FLAGS, &["true", "false", "yes", "1"]).chain(all(NUMBERS, &VALUES)).chain(fixed).collect()
}

/// What a library says of each, and what it tells of its options afterwards.
pub fn answers(driver: &Path, library: &Path) -> Answers {
    let scratch = Scratch::new("options");
    let mut answers = Answers::new();
    for conf in strings() {
        let mut names: Vec<&str> = conf.split(',').filter_map(|pair| pair.split(':').next()).collect();
        for (name, more) in [
            ("lg_tcache_max", &["tcache_max"][..]),
            ("tcache_max", &["arenas.tcache_max", "arenas.nhbins"]),
            ("percpu_arena", &["narenas"]),
        ] {
            if names.contains(&name) {
                names.extend(more);
            }
        }
        names.sort_unstable();
        names.dedup();
        let ended = Program::new(driver)
            .arg("options")
            .args(names)
            .under(&conf)
            .library(library)
            .directory(scratch.path())
            .run();
        let call = format!("MALLOC_CONF={}", conf.escape_default());
        let told = ended.complaints();
        let lines = told.lines().map(|line| line.replacen("<jemalloc>: ", "", 1).replacen("<heapsift>: ", "", 1));
        let mut lines: Vec<String> = lines.collect();
        if ended.status != 0 {
            lines.push(format!("status {}", ended.status));
        }
        lines.extend(ended.text().lines().map(|line| line.replace(" => 0", "")));
        add(&mut answers, &call, &lines.join("; "));
    }
    answers
}
