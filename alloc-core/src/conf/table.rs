//! The options as data: a name, how its value is read, where it goes.

use core::ffi::CStr;

use crate::decay::Decay;
use crate::observer::OptionVerdict;
use crate::size::{self, NBINS};

use super::options::{Letters, Options, UNSET, Word, ZeroRealloc};
use super::value;

/// How an option's value is read and where it goes.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// `true` or `false`.
    Bool(fn(&mut Options) -> &mut bool),
    /// C `unsigned`, within bounds.
    Unsigned(fn(&mut Options) -> &mut u32, Bounds),
    /// `size_t`, within bounds.
    Size(fn(&mut Options) -> &mut usize, Bounds),
    /// `uint64_t`.
    Wide(fn(&mut Options) -> &mut u64),
    /// `ssize_t` or `int64_t`; smallest and largest value.
    Signed(fn(&mut Options) -> &mut i64, i64, i64),
    /// One of the field's words.
    Word(fn(&mut Options) -> &mut Word),
    /// Letters of `malloc_stats_print`.
    Letters(fn(&mut Options) -> &mut Letters),
    /// Its own rules.
    Special(fn(&mut Options, &[u8]) -> OptionVerdict),
}

/// What an unsigned value may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Smallest value.
    pub min: u64,
    /// Largest value.
    pub max: u64,
    /// Whether values outside are moved to the bounds instead of refused.
    pub clip: bool,
}

/// An option of the heap.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name in `MALLOC_CONF`.
    pub name: &'static str,
    /// Its value.
    pub field: Field,
    /// Whether the option changes anything here; those which do not are taken and told by `opt.*` all the same.
    pub has_effect: bool,
}

const fn real(name: &'static str, field: Field) -> Entry {
    Entry { name, field, has_effect: true }
}

const fn flag(name: &'static str, field: fn(&mut Options) -> &mut bool) -> Entry {
    real(name, Field::Bool(field))
}

const fn without_effect(name: &'static str, field: Field) -> Entry {
    Entry { name, field, has_effect: false }
}

const fn clip(min: u64, max: u64) -> Bounds {
    Bounds { min, max, clip: true }
}

const fn within(min: u64, max: u64) -> Bounds {
    Bounds { min, max, clip: false }
}

const ANY: Bounds = within(0, u64::MAX);
const HUGE_PAGE: u64 = crate::sys::HUGE_PAGE as u64;
const PAGE: u64 = crate::sys::PAGE as u64;

/// All options of the heap.
pub static OPTIONS: &[Entry] = &[
    flag("abort_conf", |o| &mut o.abort_conf),
    flag("abort", |o| &mut o.abort),
    flag("confirm_conf", |o| &mut o.confirm_conf),
    flag("retain", |o| &mut o.retain),
    real("dss", Field::Word(|o| &mut o.dss)),
    without_effect("cache_oblivious", Field::Bool(|o| &mut o.cache_oblivious)),
    flag("trust_madvise", |o| &mut o.trust_madvise),
    real("mutex_max_spin", Field::Signed(|o| &mut o.mutex_max_spin, -1, i64::MAX)),
    real(
        "calloc_madvise_threshold",
        Field::Size(|o| &mut o.calloc_madvise_threshold, within(0, size::MAX_SIZE_CLASS as u64)),
    ),
    real("zero_realloc", Field::Special(zero_realloc)),
    real("junk", Field::Special(junk)),
    flag("zero", |o| &mut o.zero),
    flag("xmalloc", |o| &mut o.xmalloc),
    without_effect("utrace", Field::Bool(|o| &mut o.utrace)),
    without_effect("log", Field::Special(|_, _| OptionVerdict::Accepted)),
    flag("experimental_infallible_new", |o| &mut o.infallible_new),
    without_effect("disable_large_size_classes", Field::Bool(|o| &mut o.disable_large_size_classes)),
    real(
        "debug_double_free_max_scan",
        Field::Unsigned(|o| &mut o.debug_double_free_max_scan, within(0, u32::MAX as u64)),
    ),
    without_effect("process_madvise_max_batch", Field::Size(|o| &mut o.process_madvise_max_batch, clip(0, 1024))),
    real("narenas", Field::Special(narenas)),
    real("narenas_ratio", Field::Special(|o, v| fixed(v, &mut o.narenas_ratio, u32::MAX))),
    real("percpu_arena", Field::Word(|o| &mut o.percpu_arena)),
    real("oversize_threshold", Field::Special(oversize_threshold)),
    without_effect("bin_shards", Field::Special(bin_shards)),
    real("slab_sizes", Field::Special(slab_sizes)),
    real("lg_extent_max_active_fit", Field::Size(|o| &mut o.lg_extent_max_active_fit, within(0, 64))),
    real("dirty_decay_ms", Field::Signed(|o| &mut o.dirty_decay_ms, -1, Decay::MS_MAX)),
    real("muzzy_decay_ms", Field::Signed(|o| &mut o.muzzy_decay_ms, -1, Decay::MS_MAX)),
    flag("background_thread", |o| &mut o.background_thread),
    real("max_background_threads", Field::Size(|o| &mut o.max_background_threads, clip(1, 4096))),
    real("thp", Field::Word(|o| &mut o.thp)),
    real("huge_pages_from", Field::Size(|o| &mut o.huge_pages_from, ANY)),
    real("metadata_thp", Field::Word(|o| &mut o.metadata_thp)),
    flag("huge_arena_pac_thp", |o| &mut o.huge_arena_pac_thp),
    flag("tcache", |o| &mut o.tcache),
    real("tcache_max", Field::Size(|o| &mut o.tcache_max, clip(0, size::CACHED_MAX as u64))),
    real("lg_tcache_max", Field::Special(lg_tcache_max)),
    real("tcache_ncached_max", Field::Special(tcache_ncached_max)),
    real("lg_tcache_nslots_mul", Field::Signed(|o| &mut o.lg_tcache_nslots_mul, -16, 16)),
    real("tcache_nslots_small_min", Field::Unsigned(|o| &mut o.tcache_nslots_small_min, clip(1, 2048))),
    real("tcache_nslots_small_max", Field::Unsigned(|o| &mut o.tcache_nslots_small_max, clip(1, 2048))),
    real("tcache_nslots_large", Field::Unsigned(|o| &mut o.tcache_nslots_large, clip(1, 2048))),
    without_effect("tcache_gc_incr_bytes", Field::Size(|o| &mut o.tcache_gc_incr_bytes, clip(1024, u64::MAX))),
    without_effect("tcache_gc_delay_bytes", Field::Size(|o| &mut o.tcache_gc_delay_bytes, ANY)),
    real("lg_tcache_flush_small_div", Field::Unsigned(|o| &mut o.lg_tcache_flush_small_div, clip(1, 16))),
    real("lg_tcache_flush_large_div", Field::Unsigned(|o| &mut o.lg_tcache_flush_large_div, clip(1, 16))),
    without_effect("experimental_tcache_gc", Field::Bool(|o| &mut o.experimental_tcache_gc)),
    flag("stats_print", |o| &mut o.stats_print),
    real("stats_print_opts", Field::Letters(|o| &mut o.stats_print_opts)),
    real("stats_interval", Field::Signed(|o| &mut o.stats_interval, -1, i64::MAX)),
    real("stats_interval_opts", Field::Letters(|o| &mut o.stats_interval_opts)),
    without_effect("lg_san_uaf_align", Field::Special(lg_san_uaf_align)),
    real("san_guard_small", Field::Size(|o| &mut o.san_guard_small, ANY)),
    real("san_guard_large", Field::Size(|o| &mut o.san_guard_large, ANY)),
    flag("safety_check", |o| &mut o.safety_check),
    flag("deepbind", |o| &mut o.deepbind),
    without_effect("hpa", Field::Bool(|o| &mut o.hpa.enabled)),
    without_effect("hpa_slab_max_alloc", Field::Size(|o| &mut o.hpa.slab_max_alloc, clip(PAGE, HUGE_PAGE))),
    without_effect(
        "hpa_hugification_threshold",
        Field::Size(|o| &mut o.hpa.hugification_threshold, clip(PAGE, HUGE_PAGE)),
    ),
    without_effect(
        "hpa_hugification_threshold_ratio",
        Field::Special(|o, v| huge_page_share(v, &mut o.hpa.hugification_threshold)),
    ),
    without_effect("hpa_hugify_delay_ms", Field::Wide(|o| &mut o.hpa.hugify_delay_ms)),
    without_effect("hpa_hugify_sync", Field::Bool(|o| &mut o.hpa.hugify_sync)),
    without_effect("hpa_hugify_style", Field::Word(|o| &mut o.hpa.hugify_style)),
    without_effect("hpa_dirty_mult", Field::Special(hpa_dirty_mult)),
    without_effect("hpa_min_purge_interval_ms", Field::Wide(|o| &mut o.hpa.min_purge_interval_ms)),
    without_effect("hpa_min_purge_delay_ms", Field::Wide(|o| &mut o.hpa.min_purge_delay_ms)),
    without_effect("hpa_purge_threshold", Field::Size(|o| &mut o.hpa.purge_threshold, clip(PAGE, HUGE_PAGE))),
    without_effect("hpa_purge_threshold_ratio", Field::Special(|o, v| huge_page_share(v, &mut o.hpa.purge_threshold))),
    without_effect("experimental_hpa_max_purge_nhp", Field::Signed(|o| &mut o.hpa.max_purge_nhp, -1, i64::MAX)),
    without_effect("experimental_hpa_start_huge_if_thp_always", Field::Bool(|o| &mut o.hpa.start_huge_if_thp_always)),
    without_effect("experimental_hpa_enforce_hugify", Field::Bool(|o| &mut o.hpa.enforce_hugify)),
    without_effect("hpa_sec_nshards", Field::Size(|o| &mut o.hpa.sec_nshards, clip(0, 255))),
    without_effect("hpa_sec_max_alloc", Field::Size(|o| &mut o.hpa.sec_max_alloc, clip(PAGE, 32768))),
    without_effect("hpa_sec_max_bytes", Field::Size(|o| &mut o.hpa.sec_max_bytes, clip(262_144, u64::MAX))),
];

/// Reads `value` into its field.
pub(super) fn set(entry: &Entry, options: &mut Options, value: &[u8]) -> OptionVerdict {
    let answer = match entry.field {
        Field::Bool(field) => value::boolean(value).ok_or(OptionVerdict::Invalid).map(|on| *field(options) = on),
        Field::Unsigned(field, bounds) => bounded(value, bounds).map(|n| *field(options) = n as u32),
        Field::Size(field, bounds) => bounded(value, bounds).map(|n| *field(options) = n as usize),
        Field::Wide(field) => value::wrapped(value).ok_or(OptionVerdict::Invalid).map(|n| *field(options) = n),
        Field::Signed(field, min, max) => match value::signed(value) {
            None => Err(OptionVerdict::Invalid),
            Some(n) if n < min || n > max => Err(OptionVerdict::OutOfRange),
            Some(n) => {
                *field(options) = n;
                Ok(())
            }
        },
        Field::Word(field) => {
            let word = field(options);
            let found = word.words.iter().position(|candidate| candidate.to_bytes() == value);
            found.ok_or(OptionVerdict::Invalid).map(|index| word.index = index)
        }
        Field::Letters(field) => {
            letters(field(options), value);
            Ok(())
        }
        Field::Special(parse) => return parse(options, value),
    };
    answer.map_or_else(|verdict| verdict, |()| OptionVerdict::Accepted)
}

fn bounded(value: &[u8], bounds: Bounds) -> Result<u64, OptionVerdict> {
    value::clipped(value, bounds.min, bounds.max, bounds.clip)
}

/// Adds letters; unknown and repeated ones are left out, as jemalloc does.
fn letters(letters: &mut Letters, value: &[u8]) {
    for &letter in value.iter().filter(|letter| b"Jgmdablxeh".contains(letter)) {
        let length = letters.text().to_bytes().len();
        if !letters.text().to_bytes().contains(&letter) && length + 1 < letters.bytes.len() {
            letters.bytes[length] = letter;
        }
    }
}

fn narenas(options: &mut Options, value: &[u8]) -> OptionVerdict {
    if value == b"default" {
        options.narenas = 0;
        return OptionVerdict::Accepted;
    }
    match value::clipped(value, 1, u64::MAX, false) {
        Ok(n) => {
            options.narenas = n.min(u32::MAX.into()) as u32;
            OptionVerdict::Accepted
        }
        Err(verdict) => verdict,
    }
}

/// Below the smallest large size nothing is oversize, as in jemalloc.
fn oversize_threshold(options: &mut Options, value: &[u8]) -> OptionVerdict {
    match value::clipped(value, 0, size::MAX_SIZE_CLASS as u64, false) {
        Ok(bytes) if bytes < size::large_class_size(0) as u64 => options.oversize_threshold = 0,
        Ok(bytes) => options.oversize_threshold = bytes as usize,
        Err(verdict) => return verdict,
    }
    OptionVerdict::Accepted
}

fn lg_tcache_max(options: &mut Options, value: &[u8]) -> OptionVerdict {
    match value::clipped(value, 0, size::CACHED_MAX.ilog2().into(), true) {
        Ok(lg) => {
            options.tcache_max = 1 << lg;
            OptionVerdict::Accepted
        }
        Err(verdict) => verdict,
    }
}

fn lg_san_uaf_align(options: &mut Options, value: &[u8]) -> OptionVerdict {
    match value::signed(value) {
        Some(-1) => options.lg_san_uaf_align = -1,
        Some(lg) if lg >= 0 => options.lg_san_uaf_align = lg.clamp(crate::sys::LG_PAGE.into(), 63),
        _ => return OptionVerdict::Invalid,
    }
    OptionVerdict::Accepted
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

/// The word that `junk` stands at.
pub(crate) fn junk_word(options: &Options) -> &'static CStr {
    match (options.junk_alloc, options.junk_free) {
        (true, true) => c"true",
        (true, false) => c"alloc",
        (false, true) => c"free",
        (false, false) => c"false",
    }
}

/// The word that `zero_realloc` stands at.
pub(crate) fn zero_realloc_word(options: &Options) -> &'static CStr {
    match options.zero_realloc {
        ZeroRealloc::Alloc => c"alloc",
        ZeroRealloc::Free => c"free",
        ZeroRealloc::Abort => c"abort",
    }
}

fn fixed(value: &[u8], field: &mut u32, max: u32) -> OptionVerdict {
    match value::fixed_point(value) {
        Some(n) if n <= max => {
            *field = n;
            OptionVerdict::Accepted
        }
        _ => OptionVerdict::Invalid,
    }
}

/// A share of a huge page, from 0 to 1.
fn huge_page_share(value: &[u8], field: &mut usize) -> OptionVerdict {
    let mut ratio = 0;
    let verdict = fixed(value, &mut ratio, 1 << 16);
    if verdict == OptionVerdict::Accepted {
        *field = ((HUGE_PAGE * u64::from(ratio)) >> 16) as usize;
    }
    verdict
}

fn hpa_dirty_mult(options: &mut Options, value: &[u8]) -> OptionVerdict {
    if value == b"-1" {
        options.hpa.dirty_mult = u32::MAX;
        return OptionVerdict::Accepted;
    }
    fixed(value, &mut options.hpa.dirty_mult, u32::MAX)
}

/// The classes from the one that holds `start` bytes to the one that holds `end`, of those up to `largest` bytes.
fn classes(range: &value::Range, largest: usize) -> core::ops::RangeInclusive<usize> {
    if range.start > largest || range.start > range.end {
        // Nothing.
        #[allow(clippy::reversed_empty_ranges, reason = "an empty range is what is meant")]
        return 1..=0;
    }
    size::class_of(range.start)..=size::class_of(range.end.min(largest))
}

const SHARDS_MAX: usize = 64;

fn bin_shards(options: &mut Options, value: &[u8]) -> OptionVerdict {
    for range in value::ranges(value) {
        match range {
            Some(range) if (1..=SHARDS_MAX).contains(&range.value) => {
                options.bin_shards[classes(&range, size::SMALL_MAX)].fill(range.value as u16);
            }
            _ => return OptionVerdict::InvalidSettings,
        }
    }
    OptionVerdict::Accepted
}

fn slab_sizes(options: &mut Options, value: &[u8]) -> OptionVerdict {
    if value == b"default" {
        options.slab_sizes = [UNSET; NBINS + 1];
        return OptionVerdict::Accepted;
    }
    for range in value::ranges(value) {
        let Some(range) = range else { return OptionVerdict::InvalidSettings };
        for class in 1..=NBINS {
            if (range.start..=range.end).contains(&size::class_bytes(class)) {
                options.slab_sizes[class] = range.value.min(size::slab_pages_max(class)) as u16;
            }
        }
    }
    OptionVerdict::Accepted
}

fn tcache_ncached_max(options: &mut Options, value: &[u8]) -> OptionVerdict {
    match read_ncached_max(value, &mut options.tcache_ncached_max) {
        true => OptionVerdict::Accepted,
        false => OptionVerdict::InvalidSettings,
    }
}

/// Most slots of a cache.
pub const NCACHED_MAX: usize = 8191;

/// Reads `8-128:1|160-160:11` into slots by class; a fault changes nothing.
pub fn read_ncached_max<const N: usize>(value: &[u8], slots: &mut super::options::ByClass<N>) -> bool {
    if value::ranges(value).any(|range| range.is_none()) {
        return false;
    }
    for range in value::ranges(value).flatten() {
        slots[classes(&range, size::CACHED_MAX)].fill(range.value.min(NCACHED_MAX) as u16);
    }
    true
}
