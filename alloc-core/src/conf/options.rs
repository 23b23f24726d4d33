//! The options as they were taken: one field for each, with jemalloc's default where nothing else is said.

use core::ffi::CStr;

use crate::size::{self, NBINS, NHBINS};

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

/// Letters for `stats_print_opts` and `stats_interval_opts`.
#[derive(Clone, Copy, Debug)]
pub struct Letters {
    /// The letters and a zero byte.
    pub bytes: [u8; 16],
}

impl Letters {
    /// None.
    pub const NONE: Letters = Letters { bytes: [0; 16] };

    /// The letters.
    pub fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

/// An option whose value is one word of a list.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// The list.
    pub words: &'static [&'static CStr],
    /// Which of them.
    pub index: usize,
}

impl Word {
    const fn new(words: &'static [&'static CStr], index: usize) -> Self {
        Word { words, index }
    }

    /// The word.
    pub fn text(&self) -> &'static CStr {
        self.words[self.index]
    }

    /// Whether it is `word`.
    pub fn is(&self, word: &CStr) -> bool {
        self.text() == word
    }
}

/// `dss` and `arena.<i>.dss`: where `sbrk` stands in the order of sources of memory.
pub const DSS: &[&CStr] = &[c"disabled", c"primary", c"secondary"];
const PERCPU: &[&CStr] = &[c"disabled", c"percpu", c"phycpu"];
const THP: &[&CStr] = &[c"default", c"always", c"never"];
const METADATA_THP: &[&CStr] = &[c"disabled", c"auto", c"always"];
const HUGIFY_STYLE: &[&CStr] = &[c"auto", c"none", c"eager", c"lazy"];

/// A setting by size class: index 0 is unused; a class that was not named has `UNSET`.
pub type ByClass<const N: usize> = [u16; N];
/// The value of a class that was not named.
pub const UNSET: u16 = u16::MAX;

/// jemalloc's huge page allocator, which this heap does not have: the values are kept to be told by `opt.*`.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names are the options'")]
pub struct Hpa {
    pub enabled: bool,
    pub slab_max_alloc: usize,
    pub hugification_threshold: usize,
    pub hugify_delay_ms: u64,
    pub hugify_sync: bool,
    pub hugify_style: Word,
    /// 16.16 fixed point; all ones for -1, "never".
    pub dirty_mult: u32,
    pub min_purge_interval_ms: u64,
    pub min_purge_delay_ms: u64,
    pub purge_threshold: usize,
    pub max_purge_nhp: i64,
    pub start_huge_if_thp_always: bool,
    pub enforce_hugify: bool,
    pub sec_nshards: usize,
    pub sec_max_alloc: usize,
    pub sec_max_bytes: usize,
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
    /// Where `sbrk` stands among the sources of memory.
    pub dss: Word,
    /// Large blocks start at a random cache line of their first page. Without effect: they start at the page.
    pub cache_oblivious: bool,
    /// Believe that `MADV_DONTNEED` makes zeros.
    pub trust_madvise: bool,
    /// Rounds of spinning before a thread sleeps on a lock; -1: for ever.
    pub mutex_max_spin: i64,
    /// From this many bytes on `calloc` has the kernel clear a block.
    pub calloc_madvise_threshold: usize,
    /// What `realloc(ptr, 0)` does.
    pub zero_realloc: ZeroRealloc,
    /// Fill fresh memory with 0xa5.
    pub junk_alloc: bool,
    /// Fill freed memory with 0x5a.
    pub junk_free: bool,
    /// Clear all fresh memory.
    pub zero: bool,
    /// Out of memory ends the process.
    pub xmalloc: bool,
    /// Without effect: there is no `utrace(2)` on Linux.
    pub utrace: bool,
    /// `operator new` ends the process instead of throwing.
    pub infallible_new: bool,
    /// Sizes from 16 KiB up are rounded to pages, not to classes.
    pub disable_large_size_classes: bool,
    /// Entries of a thread cache that are compared with a block that is freed; works with `safety_check`.
    pub debug_double_free_max_scan: u32,
    /// Without effect: purges are not batched over processes.
    pub process_madvise_max_batch: usize,
    /// Automatic arenas; 0: `narenas_ratio` for each CPU.
    pub narenas: u32,
    /// Automatic arenas for each CPU, 16.16 fixed point.
    pub narenas_ratio: u32,
    /// Arenas by CPU.
    pub percpu_arena: Word,
    /// Requests from here on go to one arena of their own; 0: none do.
    pub oversize_threshold: usize,
    /// Locks of a bin, by class.
    pub bin_shards: ByClass<{ NBINS + 1 }>,
    /// Pages of a slab, by class.
    pub slab_sizes: ByClass<{ NBINS + 1 }>,
    /// A dirty extent may be used up to 2^this times the request.
    pub lg_extent_max_active_fit: usize,
    /// Milliseconds until unused pages are purged; 0 at once, -1 never.
    pub dirty_decay_ms: i64,
    /// Milliseconds of the second stage; 0: none.
    pub muzzy_decay_ms: i64,
    /// Purge by threads of the heap's own.
    pub background_thread: bool,
    /// At most so many of them.
    pub max_background_threads: usize,
    /// Huge pages for mappings.
    pub thp: Word,
    /// An arena that has so many bytes in use asks for huge pages as it grows; 0: none does.
    pub huge_pages_from: usize,
    /// Huge pages for the heap's own descriptors.
    pub metadata_thp: Word,
    /// Huge pages for the arena of oversize requests.
    pub huge_arena_pac_thp: bool,
    /// Thread caches.
    pub tcache: bool,
    /// Largest cached size in bytes.
    pub tcache_max: usize,
    /// Slots of a cache, by class.
    pub tcache_ncached_max: ByClass<{ NHBINS + 1 }>,
    /// Slots of a cache = regions of a slab << this.
    pub lg_tcache_nslots_mul: i64,
    /// Least slots of a small class.
    pub tcache_nslots_small_min: u32,
    /// Most slots of a small class.
    pub tcache_nslots_small_max: u32,
    /// Slots of a large class.
    pub tcache_nslots_large: u32,
    /// Bytes between looks at a thread's cache.
    pub tcache_gc_incr_bytes: usize,
    /// Without effect: belongs to jemalloc's older way of shrinking caches.
    pub tcache_gc_delay_bytes: usize,
    /// A full cache of a small class keeps its blocks but for these: blocks >> this.
    pub lg_tcache_flush_small_div: u32,
    /// The same for large classes.
    pub lg_tcache_flush_large_div: u32,
    /// Without effect: there is one way of shrinking caches.
    pub experimental_tcache_gc: bool,
    /// Print statistics at exit.
    pub stats_print: bool,
    /// How.
    pub stats_print_opts: Letters,
    /// Print statistics after so many allocated bytes; -1: never.
    pub stats_interval: i64,
    /// How.
    pub stats_interval_opts: Letters,
    /// Without effect: freed memory is not stashed.
    pub lg_san_uaf_align: i64,
    /// Guard pages around every so many slabs; 0: none.
    pub san_guard_small: usize,
    /// Guard pages around every so many large blocks; 0: none.
    pub san_guard_large: usize,
    /// Everything is checked: blocks in use, sizes, starts of blocks, writes after a free. Nothing is cached.
    pub safety_check: bool,
    /// `RTLD_DEEPBIND` is left to `dlopen`: libraries loaded with it use the C library's `malloc`.
    pub deepbind: bool,
    /// jemalloc's huge page allocator.
    pub hpa: Hpa,
}

/// 4 in 16.16 fixed point.
const FOUR: u32 = 4 << 16;

impl Options {
    /// Whether a freed block may go to a cache as it is: nothing is to be written into it, or checked.
    pub fn has_plain_frees(&self) -> bool {
        !(self.junk_free || self.safety_check)
    }

    /// Classes that thread caches hold, by jemalloc's count: up to the one of `tcache_max`, the first at least.
    pub fn cached_classes(&self) -> usize {
        size::class_of(self.tcache_max.clamp(1, size::CACHED_MAX))
    }

    /// jemalloc's defaults, but for `oversize_threshold` (see ARCHITECTURE.md) and what has no effect here.
    pub const DEFAULT: Options = Options {
        abort_conf: false,
        abort: false,
        confirm_conf: false,
        retain: true,
        dss: Word::new(DSS, 2),
        cache_oblivious: false,
        trust_madvise: false,
        mutex_max_spin: 600,
        calloc_madvise_threshold: 8 << 20,
        zero_realloc: ZeroRealloc::Free,
        junk_alloc: false,
        junk_free: false,
        zero: false,
        xmalloc: false,
        utrace: false,
        infallible_new: false,
        disable_large_size_classes: true,
        debug_double_free_max_scan: 32,
        process_madvise_max_batch: 0,
        narenas: 0,
        narenas_ratio: FOUR,
        percpu_arena: Word::new(PERCPU, 0),
        oversize_threshold: 8 << 20,
        bin_shards: [UNSET; NBINS + 1],
        slab_sizes: [UNSET; NBINS + 1],
        lg_extent_max_active_fit: 6,
        dirty_decay_ms: 10_000,
        muzzy_decay_ms: 0,
        background_thread: false,
        max_background_threads: 4,
        thp: Word::new(THP, 0),
        huge_pages_from: 32 << 20,
        metadata_thp: Word::new(METADATA_THP, 0),
        huge_arena_pac_thp: false,
        tcache: true,
        tcache_max: size::CACHED_MAX,
        tcache_ncached_max: [UNSET; NHBINS + 1],
        lg_tcache_nslots_mul: 1,
        tcache_nslots_small_min: 20,
        tcache_nslots_small_max: 200,
        tcache_nslots_large: 20,
        tcache_gc_incr_bytes: 65536,
        tcache_gc_delay_bytes: 0,
        lg_tcache_flush_small_div: 1,
        lg_tcache_flush_large_div: 1,
        experimental_tcache_gc: true,
        stats_print: false,
        stats_print_opts: Letters::NONE,
        stats_interval: -1,
        stats_interval_opts: Letters::NONE,
        lg_san_uaf_align: -1,
        san_guard_small: 0,
        san_guard_large: 0,
        safety_check: false,
        deepbind: false,
        hpa: Hpa {
            enabled: false,
            slab_max_alloc: 65536,
            hugification_threshold: 1_992_294,
            hugify_delay_ms: 10_000,
            hugify_sync: false,
            hugify_style: Word::new(HUGIFY_STYLE, 3),
            dirty_mult: 1 << 14,
            min_purge_interval_ms: 5000,
            min_purge_delay_ms: 0,
            purge_threshold: 4096,
            max_purge_nhp: -1,
            start_huge_if_thp_always: true,
            enforce_hugify: false,
            sec_nshards: 2,
            sec_max_alloc: 32768,
            sec_max_bytes: 262_144,
        },
    };
}
