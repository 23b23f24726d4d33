//! The options as data: one row gives the parser and the `opt.*` control node.

use crate::observer::OptionVerdict;

use super::{Letters, Options, ZeroRealloc, parse};

/// How an option's value is read and where it goes.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// `true` or `false`.
    Bool(fn(&mut Options) -> &mut bool),
    /// C `unsigned`.
    Unsigned {
        /// Where it goes.
        field: fn(&mut Options) -> &mut u32,
        /// Smallest value.
        min: u32,
        /// Largest value.
        max: u32,
        /// Whether values outside are moved to the bounds instead of refused.
        clip: bool,
    },
    /// `size_t`.
    Size {
        /// Where it goes.
        field: fn(&mut Options) -> &mut usize,
        /// Smallest value.
        min: usize,
        /// Largest value.
        max: usize,
        /// Whether values outside are moved to the bounds instead of refused.
        clip: bool,
    },
    /// `ssize_t`.
    Signed {
        /// Where it goes.
        field: fn(&mut Options) -> &mut i64,
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// Its own rules.
    Special(fn(&mut Options, &[u8]) -> OptionVerdict),
}

/// An option of the heap.
#[derive(Clone, Copy, Debug)]
pub struct Option {
    /// Name in `MALLOC_CONF`.
    pub name: &'static str,
    /// Its value.
    pub field: Field,
}

const fn flag(name: &'static str, field: fn(&mut Options) -> &mut bool) -> Option {
    Option { name, field: Field::Bool(field) }
}

/// The largest decay time: what fits in nanoseconds.
const DECAY_MS_MAX: i64 = i64::MAX / 1_000_000;

/// All options of the heap.
pub static OPTIONS: &[Option] = &[
    flag("abort_conf", |o| &mut o.abort_conf),
    flag("abort", |o| &mut o.abort),
    flag("confirm_conf", |o| &mut o.confirm_conf),
    flag("retain", |o| &mut o.retain),
    Option { name: "narenas", field: Field::Special(narenas) },
    Option {
        name: "dirty_decay_ms",
        field: Field::Signed { field: |o| &mut o.dirty_decay_ms, min: -1, max: DECAY_MS_MAX },
    },
    Option {
        name: "muzzy_decay_ms",
        field: Field::Signed { field: |o| &mut o.muzzy_decay_ms, min: -1, max: DECAY_MS_MAX },
    },
    flag("tcache", |o| &mut o.tcache),
    Option {
        name: "tcache_max",
        field: Field::Size { field: |o| &mut o.tcache_max, min: 0, max: crate::size::CACHED_MAX, clip: true },
    },
    Option { name: "lg_tcache_max", field: Field::Special(lg_tcache_max) },
    Option {
        name: "lg_tcache_nslots_mul",
        field: Field::Signed { field: |o| &mut o.lg_tcache_nslots_mul, min: -16, max: 16 },
    },
    Option {
        name: "tcache_nslots_small_min",
        field: Field::Unsigned { field: |o| &mut o.tcache_nslots_small_min, min: 1, max: 2048, clip: true },
    },
    Option {
        name: "tcache_nslots_small_max",
        field: Field::Unsigned { field: |o| &mut o.tcache_nslots_small_max, min: 1, max: 2048, clip: true },
    },
    Option {
        name: "tcache_nslots_large",
        field: Field::Unsigned { field: |o| &mut o.tcache_nslots_large, min: 1, max: 2048, clip: true },
    },
    flag("zero", |o| &mut o.zero),
    Option { name: "junk", field: Field::Special(junk) },
    Option { name: "zero_realloc", field: Field::Special(zero_realloc) },
    flag("xmalloc", |o| &mut o.xmalloc),
    flag("stats_print", |o| &mut o.stats_print),
    Option { name: "stats_print_opts", field: Field::Special(stats_print_opts) },
    Option {
        name: "lg_extent_max_active_fit",
        field: Field::Size { field: |o| &mut o.lg_extent_max_active_fit, min: 0, max: 64, clip: true },
    },
    // Read and checked so that existing configurations run on; the heap has no such thing (yet), and there is no
    // `opt.*` node that claims otherwise.
    Option { name: "background_thread", field: Field::Special(no_effect_bool) },
    Option { name: "max_background_threads", field: Field::Special(no_effect_number) },
    Option { name: "metadata_thp", field: Field::Special(no_effect_text) },
    Option { name: "thp", field: Field::Special(no_effect_text) },
    Option { name: "percpu_arena", field: Field::Special(no_effect_text) },
    Option { name: "oversize_threshold", field: Field::Special(no_effect_number) },
    Option { name: "cache_oblivious", field: Field::Special(no_effect_bool) },
];

fn narenas(options: &mut Options, value: &[u8]) -> OptionVerdict {
    if value == b"default" {
        options.narenas = 0;
        return OptionVerdict::Accepted;
    }
    match parse::clipped(value, 1, (crate::arena::ARENAS_MAX - 1) as u64, false) {
        Ok(n) => {
            options.narenas = n as u32;
            OptionVerdict::Accepted
        }
        Err(verdict) => verdict,
    }
}

fn lg_tcache_max(options: &mut Options, value: &[u8]) -> OptionVerdict {
    match parse::clipped(value, 0, 15, true) {
        Ok(lg) => {
            options.tcache_max = 1 << lg;
            OptionVerdict::Accepted
        }
        Err(verdict) => verdict,
    }
}

fn junk(options: &mut Options, value: &[u8]) -> OptionVerdict {
    (options.junk_alloc, options.junk_free) = match value {
        b"true" => (true, true),
        b"false" => (false, false),
        b"alloc" => (true, false),
        b"free" => (false, true),
        _ => return OptionVerdict::Invalid,
    };
    OptionVerdict::Accepted
}

fn zero_realloc(options: &mut Options, value: &[u8]) -> OptionVerdict {
    options.zero_realloc = match value {
        b"alloc" => ZeroRealloc::Alloc,
        b"free" => ZeroRealloc::Free,
        b"abort" => ZeroRealloc::Abort,
        _ => return OptionVerdict::Invalid,
    };
    OptionVerdict::Accepted
}

fn stats_print_opts(options: &mut Options, value: &[u8]) -> OptionVerdict {
    let mut letters = Letters { bytes: [0; 32] };
    // Unknown letters are left out, as jemalloc does.
    let known = value.iter().filter(|b| b"Jgmdablxeh".contains(b));
    for (slot, letter) in letters.bytes[..31].iter_mut().zip(known) {
        *slot = *letter;
    }
    options.stats_print_opts = letters;
    OptionVerdict::Accepted
}

fn no_effect_bool(_: &mut Options, value: &[u8]) -> OptionVerdict {
    if parse::boolean(value).is_some() { OptionVerdict::Accepted } else { OptionVerdict::Invalid }
}

fn no_effect_number(_: &mut Options, value: &[u8]) -> OptionVerdict {
    if parse::number(value).is_some() { OptionVerdict::Accepted } else { OptionVerdict::Invalid }
}

fn no_effect_text(_: &mut Options, value: &[u8]) -> OptionVerdict {
    const WORDS: [&[u8]; 7] =
        [b"disabled", b"auto", b"always", b"default", b"never", b"percpu", b"phycpu"];
    if WORDS.contains(&value) { OptionVerdict::Accepted } else { OptionVerdict::Invalid }
}
