//! `opt.*`: the options as they were taken, read only.

use crate::conf::{Options, SOURCES, junk_word, position, zero_realloc_word};

use super::{Call, Code, Node};

macro_rules! option_nodes {
    ($($name:literal => |$options:ident, $call:ident| $read:expr;)*) => {
        /// The heap's options.
        pub(super) static NODES: &[Node] = &[$(Node {
            name: concat!("opt.", $name),
            handler: |$call: &mut Call<'_>| -> Result<(), Code> {
                $call.read_only()?;
                let $options: &'static Options = $call.heap.options();
                $read
            },
        }),*];
    };
}

/// A source's string as it was found; there is no such name where nothing was.
fn source(call: &mut Call<'_>, position: usize) -> Result<(), Code> {
    let text = SOURCES[position].c_text().ok_or(Code::ENOENT)?;
    call.read_text(text)
}

option_nodes! {
    "abort" => |o, c| c.read_bool(o.abort);
    "abort_conf" => |o, c| c.read_bool(o.abort_conf);
    "cache_oblivious" => |o, c| c.read_bool(o.cache_oblivious);
    "trust_madvise" => |o, c| c.read_bool(o.trust_madvise);
    "confirm_conf" => |o, c| c.read_bool(o.confirm_conf);
    "experimental_hpa_start_huge_if_thp_always" => |o, c| c.read_bool(o.hpa.start_huge_if_thp_always);
    "experimental_hpa_enforce_hugify" => |o, c| c.read_bool(o.hpa.enforce_hugify);
    "huge_arena_pac_thp" => |o, c| c.read_bool(o.huge_arena_pac_thp);
    "hpa" => |o, c| c.read_bool(o.hpa.enabled);
    "hpa_slab_max_alloc" => |o, c| c.read(o.hpa.slab_max_alloc);
    "hpa_hugification_threshold" => |o, c| c.read(o.hpa.hugification_threshold);
    "hpa_hugify_delay_ms" => |o, c| c.read(o.hpa.hugify_delay_ms);
    "hpa_hugify_sync" => |o, c| c.read_bool(o.hpa.hugify_sync);
    "hpa_hugify_style" => |o, c| c.read_text(o.hpa.hugify_style.text());
    "hpa_min_purge_interval_ms" => |o, c| c.read(o.hpa.min_purge_interval_ms);
    "hpa_min_purge_delay_ms" => |o, c| c.read(o.hpa.min_purge_delay_ms);
    "experimental_hpa_max_purge_nhp" => |o, c| c.read(o.hpa.max_purge_nhp as isize);
    "hpa_purge_threshold" => |o, c| c.read(o.hpa.purge_threshold);
    "hpa_dirty_mult" => |o, c| c.read(o.hpa.dirty_mult);
    "hpa_sec_nshards" => |o, c| c.read(o.hpa.sec_nshards);
    "hpa_sec_max_alloc" => |o, c| c.read(o.hpa.sec_max_alloc);
    "hpa_sec_max_bytes" => |o, c| c.read(o.hpa.sec_max_bytes);
    "metadata_thp" => |o, c| c.read_text(o.metadata_thp.text());
    "retain" => |o, c| c.read_bool(o.retain);
    "dss" => |o, c| c.read_text(o.dss.text());
    // What has been made of it, by `percpu_arena` as well; too large a number stays what it was.
    "narenas" => |o, c| c.read(o.narenas.max(c.heap.narenas_auto()));
    "percpu_arena" => |o, c| c.read_text(o.percpu_arena.text());
    "oversize_threshold" => |o, c| c.read(o.oversize_threshold);
    "background_thread" => |o, c| c.read_bool(o.background_thread);
    "max_background_threads" => |o, c| c.read(o.max_background_threads);
    "mutex_max_spin" => |o, c| c.read(o.mutex_max_spin);
    "dirty_decay_ms" => |o, c| c.read(o.dirty_decay_ms as isize);
    "muzzy_decay_ms" => |o, c| c.read(o.muzzy_decay_ms as isize);
    "stats_print" => |o, c| c.read_bool(o.stats_print);
    "stats_print_opts" => |o, c| c.read_text(o.stats_print_opts.text());
    "stats_interval" => |o, c| c.read(o.stats_interval);
    "stats_interval_opts" => |o, c| c.read_text(o.stats_interval_opts.text());
    "junk" => |o, c| c.read_text(junk_word(o));
    "zero" => |o, c| c.read_bool(o.zero);
    "utrace" => |o, c| c.read_bool(o.utrace);
    "xmalloc" => |o, c| c.read_bool(o.xmalloc);
    "experimental_infallible_new" => |o, c| c.read_bool(o.infallible_new);
    "experimental_tcache_gc" => |o, c| c.read_bool(o.experimental_tcache_gc);
    "tcache" => |o, c| c.read_bool(o.tcache);
    "tcache_max" => |o, c| c.read(o.tcache_max);
    "tcache_nslots_small_min" => |o, c| c.read(o.tcache_nslots_small_min);
    "tcache_nslots_small_max" => |o, c| c.read(o.tcache_nslots_small_max);
    "tcache_nslots_large" => |o, c| c.read(o.tcache_nslots_large);
    "lg_tcache_nslots_mul" => |o, c| c.read(o.lg_tcache_nslots_mul as isize);
    "tcache_gc_incr_bytes" => |o, c| c.read(o.tcache_gc_incr_bytes);
    "tcache_gc_delay_bytes" => |o, c| c.read(o.tcache_gc_delay_bytes);
    "lg_tcache_flush_small_div" => |o, c| c.read(o.lg_tcache_flush_small_div);
    "lg_tcache_flush_large_div" => |o, c| c.read(o.lg_tcache_flush_large_div);
    "thp" => |o, c| c.read_text(o.thp.text());
    "huge_pages_from" => |o, c| c.read(o.huge_pages_from);
    "lg_extent_max_active_fit" => |o, c| c.read(o.lg_extent_max_active_fit);
    "lg_san_uaf_align" => |o, c| c.read(o.lg_san_uaf_align as isize);
    "zero_realloc" => |o, c| c.read_text(zero_realloc_word(o));
    "disable_large_size_classes" => |o, c| c.read_bool(o.disable_large_size_classes);
    "debug_double_free_max_scan" => |o, c| c.read(o.debug_double_free_max_scan);
    "process_madvise_max_batch" => |o, c| c.read(o.process_madvise_max_batch);
    "safety_check" => |o, c| c.read_bool(o.safety_check);
    "deepbind" => |o, c| c.read_bool(o.deepbind);
    "malloc_conf.symlink" => |_o, c| source(c, position::SYMLINK);
    "malloc_conf.env_var" => |_o, c| source(c, position::ENVIRONMENT);
    "malloc_conf.global_var" => |_o, c| source(c, position::GLOBAL);
    "malloc_conf.global_var_2_conf_harder" => |_o, c| source(c, position::GLOBAL_HARDER);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options that jemalloc tells by no name, and those told by another.
    const NO_NODE: [&str; 10] = [
        "slab_sizes",
        "bin_shards",
        "narenas_ratio",
        "tcache_ncached_max",
        "lg_tcache_max",
        "calloc_madvise_threshold",
        "san_guard_small",
        "san_guard_large",
        "log",
        "hpa_hugification_threshold_ratio",
    ];

    #[test]
    fn every_option_is_told() {
        for entry in crate::conf::OPTIONS {
            let told = NODES.iter().any(|node| node.name.strip_prefix("opt.") == Some(entry.name));
            let silent = NO_NODE.contains(&entry.name) || entry.name == "hpa_purge_threshold_ratio";
            assert!(told != silent, "{}", entry.name);
        }
    }
}
