//! `MALLOC_CONF`: jemalloc's syntax, names, ranges and messages, read once when the heap boots.
//!
//! Sources, later ones win: the program's `malloc_conf`, the environment's `MALLOC_CONF` (not in set-uid programs), the
//! program's `malloc_conf_2_conf_harder`. The name of a symlink at `/etc/malloc.conf`, which jemalloc reads too, is not
//! a source here: a file name is no place for the configuration of a process that may run with other rights.
//!
//! Nothing here allocates; a bad option is told once and the program runs on, unless `abort_conf:true`.

mod parse;
mod sources;
mod table;

pub use parse::{boolean, clipped, number, signed};
pub use table::{Field, OPTIONS, Option as OptionEntry};

use crate::observer::OptionVerdict;

/// What `realloc(ptr, 0)` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroRealloc {
    /// Gives a new smallest block.
    Alloc,
    /// Frees and returns null.
    Free,
    /// Ends the process.
    Abort,
}

/// Letters for `stats_print_opts`.
#[derive(Clone, Copy, Debug)]
pub struct Letters {
    /// The letters and a zero byte.
    pub bytes: [u8; 32],
}

/// The options of the heap, as configured.
#[derive(Debug)]
pub struct Options {
    /// Bad options end the process.
    pub abort_conf: bool,
    /// Warnings end the process.
    pub abort: bool,
    /// Print each source and each option taken.
    pub confirm_conf: bool,
    /// Keep unused address space.
    pub retain: bool,
    /// Automatic arenas; 0: four per CPU.
    pub narenas: u32,
    /// Milliseconds until unused pages are purged; 0 at once, -1 never.
    pub dirty_decay_ms: i64,
    /// Milliseconds of the second stage; 0: none.
    pub muzzy_decay_ms: i64,
    /// Thread caches.
    pub tcache: bool,
    /// Largest cached size in bytes.
    pub tcache_max: usize,
    /// Slots of a cache = regions of a slab << this.
    pub lg_tcache_nslots_mul: i64,
    /// Least slots of a small class.
    pub tcache_nslots_small_min: u32,
    /// Most slots of a small class.
    pub tcache_nslots_small_max: u32,
    /// Slots of a large class.
    pub tcache_nslots_large: u32,
    /// Clear all fresh memory.
    pub zero: bool,
    /// Fill fresh memory with 0xa5.
    pub junk_alloc: bool,
    /// Fill freed memory with 0x5a.
    pub junk_free: bool,
    /// What `realloc(ptr, 0)` does.
    pub zero_realloc: ZeroRealloc,
    /// Out of memory ends the process.
    pub xmalloc: bool,
    /// Print statistics at exit.
    pub stats_print: bool,
    /// How.
    pub stats_print_opts: Letters,
    /// A dirty extent may be used up to 2^this times the request.
    pub lg_extent_max_active_fit: usize,
}

impl Options {
    /// jemalloc's defaults.
    pub const DEFAULT: Options = Options {
        abort_conf: false,
        abort: false,
        confirm_conf: false,
        retain: true,
        narenas: 0,
        dirty_decay_ms: 10_000,
        muzzy_decay_ms: 0,
        tcache: true,
        tcache_max: crate::size::CACHED_MAX,
        lg_tcache_nslots_mul: 1,
        tcache_nslots_small_min: 20,
        tcache_nslots_small_max: 200,
        tcache_nslots_large: 20,
        zero: false,
        junk_alloc: false,
        junk_free: false,
        zero_realloc: ZeroRealloc::Free,
        xmalloc: false,
        stats_print: false,
        stats_print_opts: Letters { bytes: [0; 32] },
        lg_extent_max_active_fit: 6,
    };
}

/// Whether the process runs with rights that its caller doesn't have (set-uid and the like): its environment is not
/// to be trusted.
pub fn is_privileged() -> bool {
    sources::is_privileged()
}

/// Reads all sources into `options`. Pairs that the heap doesn't know go to `offer`.
pub fn load(options: &mut Options, offer: &mut dyn FnMut(&[u8], &[u8]) -> OptionVerdict) {
    let found = sources::all();
    // jemalloc reads everything twice: first for `confirm_conf` alone, so that it covers all sources.
    for (_, text) in found.iter().flatten() {
        parse::scan_for_confirm(text, options);
    }
    for (name, text) in found.iter().flatten() {
        if options.confirm_conf {
            crate::message::warn(&[b"malloc_conf ", name, b": \"", text, b"\""]);
        }
        let faults = parse::apply(text, options, offer);
        if faults && options.abort_conf {
            crate::message::fatal(&[b"Abort (abort_conf:true) on invalid conf value (see above)."]);
        }
    }
}
