//! `opt.*`: the options as they were taken, read only.

use crate::conf::{Options, ZeroRealloc};

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

option_nodes! {
    "abort" => |o, c| c.read_bool(o.abort);
    "abort_conf" => |o, c| c.read_bool(o.abort_conf);
    "confirm_conf" => |o, c| c.read_bool(o.confirm_conf);
    "retain" => |o, c| c.read_bool(o.retain);
    "narenas" => |_o, c| c.read(c.heap.narenas());
    "dirty_decay_ms" => |o, c| c.read(o.dirty_decay_ms as isize);
    "muzzy_decay_ms" => |o, c| c.read(o.muzzy_decay_ms as isize);
    "tcache" => |o, c| c.read_bool(o.tcache);
    "tcache_max" => |o, c| c.read(o.tcache_max);
    "lg_tcache_nslots_mul" => |o, c| c.read(o.lg_tcache_nslots_mul as isize);
    "tcache_nslots_small_min" => |o, c| c.read(o.tcache_nslots_small_min);
    "tcache_nslots_small_max" => |o, c| c.read(o.tcache_nslots_small_max);
    "tcache_nslots_large" => |o, c| c.read(o.tcache_nslots_large);
    "zero" => |o, c| c.read_bool(o.zero);
    "junk" => |o, c| c.read_text(match (o.junk_alloc, o.junk_free) {
        (true, true) => c"true",
        (true, false) => c"alloc",
        (false, true) => c"free",
        (false, false) => c"false",
    });
    "zero_realloc" => |o, c| c.read_text(match o.zero_realloc {
        ZeroRealloc::Alloc => c"alloc",
        ZeroRealloc::Free => c"free",
        ZeroRealloc::Abort => c"abort",
    });
    "xmalloc" => |o, c| c.read_bool(o.xmalloc);
    "stats_print" => |o, c| c.read_bool(o.stats_print);
    "stats_print_opts" => |o, c| c.read(o.stats_print_opts.bytes.as_ptr());
    "lg_extent_max_active_fit" => |o, c| c.read(o.lg_extent_max_active_fit);
}
