/* Every name of jemalloc's that can be read and written without harm, as its development head and its release 5.3.0 have
 * them; for differential.c. (5.3.0 crashes where arenas.lookup is asked for what is no block, and under prof:true where
 * prof.prefix gets none.) */
#ifndef CONTROL_NAMES_H
#define CONTROL_NAMES_H
#include <stdbool.h>
#include <stddef.h>

struct name {
    const char *name;
    /* b bool, u unsigned, z size_t, s ssize_t, U uint64_t, c text, p address, 2 two numbers, - none (an action) */
    char type;
    /* Its value is the same in each run and under each allocator. */
    bool constant;
    /* Writing its value, or zeros where it has none, does nothing that others would notice. */
    bool written;
    /* jemalloc 5.3.0 uses the length that it is given for the answer without asking whether there is one. */
    bool needs_length;
};

#define FIXED(name, type) { name, type, true, true, false }
#define MOVING(name, type) { name, type, false, true, false }
#define UNWRITTEN(name, type) { name, type, false, false, false }
#define MEASURED(name, type) { name, type, false, false, true }
#define MUTEX(name) \
    MOVING("stats." name ".num_ops", 'U'), MOVING("stats." name ".num_wait", 'U'), MOVING("stats." name ".num_spin_acq", 'U'), \
    MOVING("stats." name ".num_owner_switch", 'U'), MOVING("stats." name ".total_wait_time", 'U'), \
    MOVING("stats." name ".max_wait_time", 'U'), MOVING("stats." name ".max_num_thds", 'u')
#define SLABS(name) \
    MOVING("stats.arenas.0.hpa_shard." name ".npageslabs_nonhuge", 'z'), MOVING("stats.arenas.0.hpa_shard." name ".npageslabs_huge", 'z'), \
    MOVING("stats.arenas.0.hpa_shard." name ".nactive_nonhuge", 'z'), MOVING("stats.arenas.0.hpa_shard." name ".nactive_huge", 'z'), \
    MOVING("stats.arenas.0.hpa_shard." name ".ndirty_nonhuge", 'z'), MOVING("stats.arenas.0.hpa_shard." name ".ndirty_huge", 'z')

static const struct name every_name[] = {
    FIXED("version", 'c'), MOVING("epoch", 'U'), FIXED("background_thread", 'b'), FIXED("max_background_threads", 'z'),
    FIXED("config.cache_oblivious", 'b'), FIXED("config.debug", 'b'), FIXED("config.fill", 'b'), FIXED("config.lazy_lock", 'b'),
    FIXED("config.malloc_conf", 'c'), FIXED("config.opt_safety_checks", 'b'), FIXED("config.prof", 'b'),
    FIXED("config.prof_libgcc", 'b'), FIXED("config.prof_libunwind", 'b'), FIXED("config.prof_frameptr", 'b'),
    FIXED("config.stats", 'b'), FIXED("config.utrace", 'b'), FIXED("config.xmalloc", 'b'),

    FIXED("opt.abort", 'b'), FIXED("opt.abort_conf", 'b'), FIXED("opt.cache_oblivious", 'b'), FIXED("opt.trust_madvise", 'b'),
    FIXED("opt.confirm_conf", 'b'), FIXED("opt.experimental_hpa_start_huge_if_thp_always", 'b'),
    FIXED("opt.experimental_hpa_enforce_hugify", 'b'), FIXED("opt.huge_arena_pac_thp", 'b'), FIXED("opt.hpa", 'b'),
    FIXED("opt.hpa_slab_max_alloc", 'z'), FIXED("opt.hpa_hugification_threshold", 'z'), FIXED("opt.hpa_hugify_delay_ms", 'U'),
    FIXED("opt.hpa_hugify_sync", 'b'), FIXED("opt.hpa_hugify_style", 'c'), FIXED("opt.hpa_min_purge_interval_ms", 'U'),
    FIXED("opt.hpa_min_purge_delay_ms", 'U'), FIXED("opt.experimental_hpa_max_purge_nhp", 's'),
    FIXED("opt.hpa_purge_threshold", 'z'), FIXED("opt.hpa_dirty_mult", 'u'), FIXED("opt.hpa_sec_nshards", 'z'),
    FIXED("opt.hpa_sec_max_alloc", 'z'), FIXED("opt.hpa_sec_max_bytes", 'z'), FIXED("opt.hpa_sec_bytes_after_flush", 'z'),
    FIXED("opt.hpa_sec_batch_fill_extra", 'z'), FIXED("opt.metadata_thp", 'c'), FIXED("opt.retain", 'b'), FIXED("opt.dss", 'c'),
    FIXED("opt.narenas", 'u'), FIXED("opt.percpu_arena", 'c'), FIXED("opt.oversize_threshold", 'z'),
    FIXED("opt.background_thread", 'b'), FIXED("opt.max_background_threads", 'z'), FIXED("opt.mutex_max_spin", 'U'),
    FIXED("opt.dirty_decay_ms", 's'), FIXED("opt.muzzy_decay_ms", 's'), FIXED("opt.stats_print", 'b'),
    FIXED("opt.stats_print_opts", 'c'), FIXED("opt.stats_interval", 's'), FIXED("opt.stats_interval_opts", 'c'),
    FIXED("opt.junk", 'c'), FIXED("opt.zero", 'b'), FIXED("opt.utrace", 'b'), FIXED("opt.xmalloc", 'b'),
    FIXED("opt.experimental_infallible_new", 'b'), FIXED("opt.experimental_tcache_gc", 'b'), FIXED("opt.tcache", 'b'),
    FIXED("opt.tcache_max", 'z'), FIXED("opt.tcache_nslots_small_min", 'u'), FIXED("opt.tcache_nslots_small_max", 'u'),
    FIXED("opt.tcache_nslots_large", 'u'), FIXED("opt.lg_tcache_nslots_mul", 's'), FIXED("opt.tcache_gc_incr_bytes", 'z'),
    FIXED("opt.tcache_gc_delay_bytes", 'z'), FIXED("opt.lg_tcache_flush_small_div", 'u'),
    FIXED("opt.lg_tcache_flush_large_div", 'u'), FIXED("opt.thp", 'c'), FIXED("opt.lg_extent_max_active_fit", 'z'),
    FIXED("opt.lg_san_uaf_align", 's'), FIXED("opt.zero_realloc", 'c'), FIXED("opt.disable_large_size_classes", 'b'),
    FIXED("opt.debug_double_free_max_scan", 'u'), FIXED("opt.process_madvise_max_batch", 'z'), FIXED("opt.prof", 'b'),
    FIXED("opt.prof_prefix", 'c'), FIXED("opt.prof_active", 'b'), FIXED("opt.prof_thread_active_init", 'b'),
    FIXED("opt.prof_bt_max", 'u'), FIXED("opt.lg_prof_sample", 'z'), FIXED("opt.prof_accum", 'b'),
    FIXED("opt.lg_prof_interval", 's'), FIXED("opt.prof_gdump", 'b'), FIXED("opt.prof_final", 'b'), FIXED("opt.prof_leak", 'b'),
    FIXED("opt.prof_leak_error", 'b'), FIXED("opt.prof_pid_namespace", 'b'), FIXED("opt.prof_recent_alloc_max", 's'),
    FIXED("opt.prof_stats", 'b'), FIXED("opt.prof_sys_thread_name", 'b'), FIXED("opt.prof_time_resolution", 'c'),
    FIXED("opt.malloc_conf.symlink", 'c'), FIXED("opt.malloc_conf.env_var", 'c'), FIXED("opt.malloc_conf.global_var", 'c'),
    FIXED("opt.malloc_conf.global_var_2_conf_harder", 'c'), FIXED("opt.slab_sizes", 'c'), FIXED("opt.bin_shards", 'c'),
    FIXED("opt.narenas_ratio", 'u'), FIXED("opt.tcache_ncached_max", 'c'), FIXED("opt.lg_tcache_max", 'z'),
    FIXED("opt.calloc_madvise_threshold", 'z'), FIXED("opt.prof_unbias", 'b'), FIXED("opt.prof_log", 'b'),
    FIXED("opt.san_guard_small", 'z'), FIXED("opt.san_guard_large", 'z'), FIXED("opt.log", 'c'),

    FIXED("thread.arena", 'u'), MOVING("thread.allocated", 'U'), MOVING("thread.allocatedp", 'p'),
    MOVING("thread.deallocated", 'U'), MOVING("thread.deallocatedp", 'p'), MOVING("thread.idle", '-'),
    FIXED("thread.tcache.enabled", 'b'), FIXED("thread.tcache.max", 'z'), MOVING("thread.tcache.flush", '-'),
    MOVING("thread.peak.read", 'U'), MOVING("thread.peak.reset", '-'), FIXED("thread.prof.name", 'c'),
    FIXED("thread.prof.active", 'b'), UNWRITTEN("thread.tcache.ncached_max.write", 'c'),
    MEASURED("tcache.create", 'u'), UNWRITTEN("tcache.flush", 'u'), UNWRITTEN("tcache.destroy", 'u'),

    FIXED("arena.0.initialized", 'b'), MOVING("arena.0.decay", '-'), MOVING("arena.0.purge", '-'), MOVING("arena.0.reset", '-'),
    MOVING("arena.0.destroy", '-'), FIXED("arena.0.dss", 'c'), FIXED("arena.0.oversize_threshold", 'z'),
    FIXED("arena.0.dirty_decay_ms", 's'), FIXED("arena.0.muzzy_decay_ms", 's'), MOVING("arena.0.extent_hooks", 'p'),
    FIXED("arena.0.retain_grow_limit", 'z'), FIXED("arena.4096.initialized", 'b'), MOVING("arena.4096.decay", '-'),
    MOVING("arena.4096.purge", '-'), FIXED("arena.4096.dss", 'c'), FIXED("arena.4097.initialized", 'b'),
    FIXED("arena.4096.dirty_decay_ms", 's'), MOVING("arena.4096.extent_hooks", 'p'),

    FIXED("arenas.narenas", 'u'), FIXED("arenas.dirty_decay_ms", 's'), FIXED("arenas.muzzy_decay_ms", 's'),
    FIXED("arenas.quantum", 'z'), FIXED("arenas.page", 'z'), FIXED("arenas.hugepage", 'z'), FIXED("arenas.tcache_max", 'z'),
    FIXED("arenas.nbins", 'u'), FIXED("arenas.nhbins", 'u'), FIXED("arenas.bin.0.size", 'z'), FIXED("arenas.bin.0.nregs", 'u'),
    FIXED("arenas.bin.0.slab_size", 'z'), FIXED("arenas.bin.0.nshards", 'u'), FIXED("arenas.nlextents", 'u'),
    FIXED("arenas.lextent.0.size", 'z'), MEASURED("arenas.create", 'u'),

    FIXED("prof.thread_active_init", 'b'), FIXED("prof.active", 'b'), MOVING("prof.dump", '-'), FIXED("prof.gdump", 'b'),
    UNWRITTEN("prof.reset", '-'), FIXED("prof.interval", 'U'), FIXED("prof.lg_sample", 'z'),
    MOVING("prof.stats.bins.0.live", '2'),
    MOVING("prof.stats.bins.0.accum", '2'), MOVING("prof.stats.lextents.0.live", '2'), MOVING("prof.stats.lextents.0.accum", '2'),

    MOVING("stats.allocated", 'z'), MOVING("stats.active", 'z'), MOVING("stats.metadata", 'z'), MOVING("stats.metadata_edata", 'z'),
    MOVING("stats.metadata_rtree", 'z'), MOVING("stats.metadata_thp", 'z'), MOVING("stats.resident", 'z'),
    MOVING("stats.mapped", 'z'), MOVING("stats.retained", 'z'), MOVING("stats.pinned", 'z'), FIXED("stats.zero_reallocs", 'z'),
    FIXED("stats.background_thread.num_threads", 'z'), MOVING("stats.background_thread.num_runs", 'U'),
    MOVING("stats.background_thread.run_interval", 'U'), MOVING("approximate_stats.active", 'z'),
    MUTEX("mutexes.background_thread"), MUTEX("mutexes.max_per_bg_thd"), MUTEX("mutexes.ctl"), MUTEX("mutexes.prof"),
    MUTEX("mutexes.prof_thds_data"), MUTEX("mutexes.prof_dump"), MUTEX("mutexes.prof_recent_alloc"),
    MUTEX("mutexes.prof_recent_dump"), MUTEX("mutexes.prof_stats"), MOVING("stats.mutexes.reset", '-'),

    MOVING("stats.arenas.0.nthreads", 'u'), MOVING("stats.arenas.0.uptime", 'U'), FIXED("stats.arenas.0.dss", 'c'),
    FIXED("stats.arenas.0.dirty_decay_ms", 's'), FIXED("stats.arenas.0.muzzy_decay_ms", 's'), MOVING("stats.arenas.0.pactive", 'z'),
    MOVING("stats.arenas.0.pdirty", 'z'), MOVING("stats.arenas.0.pmuzzy", 'z'), MOVING("stats.arenas.0.mapped", 'z'),
    MOVING("stats.arenas.0.retained", 'z'), MOVING("stats.arenas.0.pinned", 'z'), MOVING("stats.arenas.0.extent_avail", 'z'),
    MOVING("stats.arenas.0.dirty_npurge", 'U'), MOVING("stats.arenas.0.dirty_nmadvise", 'U'), MOVING("stats.arenas.0.dirty_purged", 'U'),
    MOVING("stats.arenas.0.muzzy_npurge", 'U'), MOVING("stats.arenas.0.muzzy_nmadvise", 'U'), MOVING("stats.arenas.0.muzzy_purged", 'U'),
    MOVING("stats.arenas.0.base", 'z'), MOVING("stats.arenas.0.internal", 'z'), MOVING("stats.arenas.0.metadata_edata", 'z'),
    MOVING("stats.arenas.0.metadata_rtree", 'z'), MOVING("stats.arenas.0.metadata_thp", 'z'), MOVING("stats.arenas.0.tcache_bytes", 'z'),
    MOVING("stats.arenas.0.tcache_stashed_bytes", 'z'), MOVING("stats.arenas.0.resident", 'z'), MOVING("stats.arenas.0.abandoned_vm", 'z'),
    MOVING("stats.arenas.0.hpa_sec_bytes", 'z'), MOVING("stats.arenas.0.hpa_sec_hits", 'z'), MOVING("stats.arenas.0.hpa_sec_misses", 'z'),
    MOVING("stats.arenas.0.hpa_sec_dalloc_noflush", 'z'), MOVING("stats.arenas.0.hpa_sec_dalloc_flush", 'z'),
    MOVING("stats.arenas.0.hpa_sec_overfills", 'z'),
    MOVING("stats.arenas.0.small.allocated", 'z'), MOVING("stats.arenas.0.small.nmalloc", 'U'), MOVING("stats.arenas.0.small.ndalloc", 'U'),
    MOVING("stats.arenas.0.small.nrequests", 'U'), MOVING("stats.arenas.0.small.nfills", 'U'), MOVING("stats.arenas.0.small.nflushes", 'U'),
    MOVING("stats.arenas.0.large.allocated", 'z'), MOVING("stats.arenas.0.large.nmalloc", 'U'), MOVING("stats.arenas.0.large.ndalloc", 'U'),
    MOVING("stats.arenas.0.large.nrequests", 'U'), MOVING("stats.arenas.0.large.nfills", 'U'), MOVING("stats.arenas.0.large.nflushes", 'U'),
    MOVING("stats.arenas.0.bins.0.nmalloc", 'U'), MOVING("stats.arenas.0.bins.0.ndalloc", 'U'), MOVING("stats.arenas.0.bins.0.nrequests", 'U'),
    MOVING("stats.arenas.0.bins.0.nfills", 'U'), MOVING("stats.arenas.0.bins.0.nflushes", 'U'), MOVING("stats.arenas.0.bins.0.nslabs", 'U'),
    MOVING("stats.arenas.0.bins.0.nreslabs", 'U'), MOVING("stats.arenas.0.bins.0.curregs", 'z'), MOVING("stats.arenas.0.bins.0.curslabs", 'z'),
    MOVING("stats.arenas.0.bins.0.nonfull_slabs", 'z'), MUTEX("arenas.0.bins.0.mutex"),
    MOVING("stats.arenas.0.lextents.0.nmalloc", 'U'), MOVING("stats.arenas.0.lextents.0.ndalloc", 'U'),
    MOVING("stats.arenas.0.lextents.0.nrequests", 'U'), MOVING("stats.arenas.0.lextents.0.curlextents", 'z'),
    MOVING("stats.arenas.0.extents.0.ndirty", 'z'), MOVING("stats.arenas.0.extents.0.nmuzzy", 'z'),
    MOVING("stats.arenas.0.extents.0.nretained", 'z'), MOVING("stats.arenas.0.extents.0.npinned", 'z'),
    MOVING("stats.arenas.0.extents.0.dirty_bytes", 'z'), MOVING("stats.arenas.0.extents.0.muzzy_bytes", 'z'),
    MOVING("stats.arenas.0.extents.0.retained_bytes", 'z'), MOVING("stats.arenas.0.extents.0.pinned_bytes", 'z'),
    MUTEX("arenas.0.mutexes.large"), MUTEX("arenas.0.mutexes.extent_avail"), MUTEX("arenas.0.mutexes.extents_dirty"),
    MUTEX("arenas.0.mutexes.extents_muzzy"), MUTEX("arenas.0.mutexes.extents_retained"), MUTEX("arenas.0.mutexes.extents_pinned"),
    MUTEX("arenas.0.mutexes.decay_dirty"), MUTEX("arenas.0.mutexes.decay_muzzy"), MUTEX("arenas.0.mutexes.base"),
    MUTEX("arenas.0.mutexes.tcache_list"), MUTEX("arenas.0.mutexes.hpa_shard"), MUTEX("arenas.0.mutexes.hpa_shard_grow"),
    MUTEX("arenas.0.mutexes.hpa_sec"),
    MOVING("stats.arenas.0.hpa_shard.npageslabs", 'z'), MOVING("stats.arenas.0.hpa_shard.nactive", 'z'),
    MOVING("stats.arenas.0.hpa_shard.ndirty", 'z'), MOVING("stats.arenas.0.hpa_shard.npurge_passes", 'U'),
    MOVING("stats.arenas.0.hpa_shard.npurges", 'U'), MOVING("stats.arenas.0.hpa_shard.nhugifies", 'U'),
    MOVING("stats.arenas.0.hpa_shard.nhugify_failures", 'U'), MOVING("stats.arenas.0.hpa_shard.ndehugifies", 'U'),
    SLABS("slabs"), SLABS("full_slabs"), SLABS("empty_slabs"), SLABS("nonfull_slabs.0"),
    MOVING("stats.arenas.4096.pactive", 'z'), MOVING("stats.arenas.4096.bins.0.nmalloc", 'U'),

    UNWRITTEN("experimental.hooks.prof_backtrace", 'p'), UNWRITTEN("experimental.hooks.prof_dump", 'p'),
    UNWRITTEN("experimental.hooks.prof_sample", 'p'), UNWRITTEN("experimental.hooks.prof_sample_free", 'p'),
    UNWRITTEN("experimental.hooks.safety_check_abort", 'p'), UNWRITTEN("experimental.hooks.thread_event", '-'),
    UNWRITTEN("experimental.hooks.install", '-'), UNWRITTEN("experimental.hooks.remove", '-'),
    UNWRITTEN("experimental.thread.activity_callback", '-'), MOVING("experimental.arenas.0.pactivep", 'p'),
    MEASURED("experimental.arenas_create_ext", 'u'), FIXED("experimental.prof_recent.alloc_max", 's'),
    UNWRITTEN("experimental.prof_recent.alloc_dump", '-'), MEASURED("experimental.batch_alloc", 'z'),
    UNWRITTEN("experimental.utilization.query", '-'), UNWRITTEN("experimental.utilization.batch_query", '-'),
    { NULL, 0, false, false, false },
};
#endif
