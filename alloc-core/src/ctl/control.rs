//! The heap as control names see it: without its observer's type.

use crate::background::BackgroundStats;
use crate::conf::Options;
use crate::decay::Tier;
use crate::events::Callback;
use crate::heap::{Heap, Request};
use crate::introspect::{ArenaSelection, Utilization};
use crate::lock::Mutex;
use crate::made::NotMade;
use crate::observer::Observer;
use crate::pages::hooks::ExtentHooks;
use crate::snapshot::Snapshot;
use crate::stats::{ArenaStats, SampleSums, Stats};

use super::{Names, Node};

/// Makes [`HeapControl`] of the heap's methods: those that are safe, and those that trust their caller.
macro_rules! control {
    (
        safe { $(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)* }
        trusting { $(fn $uname:ident($($uarg:ident: $utype:ty),*) $(-> $uresult:ty)?;)* }
    ) => {
        /// What handlers may ask of a heap; see the methods of the same names of [`Heap`].
        #[allow(missing_docs, clippy::missing_safety_doc, reason = "documented at Heap")]
        pub trait HeapControl: Sync {
            $(fn $name(&'static self $(, $arg: $type)*) $(-> $result)?;)*
            $(unsafe fn $uname(&'static self $(, $uarg: $utype)*) $(-> $uresult)?;)*
            /// The observer's names.
            fn observer_nodes(&'static self) -> &'static [Node];
            /// See [`Observer::sample_sums`].
            fn sample_sums(&'static self, class: usize) -> Option<SampleSums>;
            /// All names, as a tree; `None`: no memory for it.
            fn control_names(&'static self) -> Option<&'static Names>;
        }

        impl<O: Observer> HeapControl for Heap<O> {
            $(fn $name(&'static self $(, $arg: $type)*) $(-> $result)? { Heap::$name(self $(, $arg)*) })*
            $(unsafe fn $uname(&'static self $(, $uarg: $utype)*) $(-> $uresult)? {
                // SAFETY: the caller's promise.
                unsafe { Heap::$uname(self $(, $uarg)*) }
            })*

            fn observer_nodes(&'static self) -> &'static [Node] {
                self.observer().nodes()
            }

            fn sample_sums(&'static self, class: usize) -> Option<SampleSums> {
                self.observer().sample_sums(class)
            }

            fn control_names(&'static self) -> Option<&'static Names> {
                self.core.names.get(self)
            }
        }
    };
}

control! {
    safe {
        fn options() -> &'static Options;
        fn stats() -> Stats;
        fn arena_stats(index: u32, out: &mut ArenaStats) -> bool;
        fn snapshot() -> &'static Mutex<Snapshot>;
        fn refresh_snapshot() -> u64;
        fn reset_lock_counts();
        fn active_now() -> usize;
        fn zero_reallocs() -> usize;
        fn allocate_metadata(bytes: usize) -> Option<*mut u8>;
        fn internal_allocate(layout: core::alloc::Layout) -> *mut u8;
        fn narenas() -> u32;
        fn narenas_auto() -> u32;
        fn bin_shards(class: usize) -> u32;
        fn is_made(index: usize) -> bool;
        fn create_arena(hooks: *mut ExtentHooks) -> Option<u32>;
        fn arena_initialized(index: u32) -> bool;
        fn arena_purge(which: ArenaSelection);
        fn arena_decay(which: ArenaSelection);
        fn arena_decay_ms(index: u32, tier: Tier) -> Option<i64>;
        fn set_arena_decay_ms(index: u32, tier: Tier, ms: i64) -> bool;
        fn default_decay_ms(tier: Tier) -> i64;
        fn set_default_decay_ms(tier: Tier, ms: i64) -> bool;
        fn arena_hooks(index: u32) -> Option<*mut ExtentHooks>;
        fn set_arena_hooks(index: u32, table: *mut ExtentHooks) -> bool;
        fn arena_dss(index: u32, new: Option<usize>) -> Option<usize>;
        fn default_dss(new: Option<usize>) -> usize;
        fn arena_purge_from_bytes(index: u32, new: Option<usize>) -> Option<usize>;
        fn arena_grow_limit(index: u32, new: Option<usize>) -> Option<usize>;
        fn arena_name(index: u32) -> Option<[u8; crate::arena::NAME_BYTES]>;
        fn set_arena_name(index: u32, name: &[u8]) -> bool;
        fn active_pages_counter(index: u32) -> Option<*const usize>;
        fn thread_arena() -> u32;
        fn is_cpu_arena(index: u32) -> bool;
        fn set_thread_arena(index: u32) -> bool;
        fn thread_counts() -> (u64, u64);
        fn thread_allocated_counter() -> *mut u64;
        fn thread_deallocated_counter() -> *mut u64;
        fn thread_tcache_enabled() -> bool;
        fn set_thread_tcache_enabled(on: bool);
        fn thread_tcache_max() -> usize;
        fn set_thread_tcache_max(bytes: usize) -> bool;
        fn thread_ncached_max(bytes: usize) -> Option<usize>;
        fn set_thread_ncached_max(settings: &[u8]) -> Option<bool>;
        fn thread_tcache_flush();
        fn thread_idle();
        fn thread_peak() -> u64;
        fn reset_thread_peak();
        fn add_thread_hook(callback: Callback, interval: u64, alloc_only: bool) -> bool;
        fn create_cache() -> Option<u32>;
        fn block_arena(ptr: *const u8) -> Option<u32>;
        fn utilization(ptr: *const u8) -> Utilization;
        fn allocate_with(size: usize, request: Request) -> *mut u8;
        fn background_thread() -> bool;
        fn set_background_thread(on: bool) -> bool;
        fn max_background_threads() -> usize;
        fn set_max_background_threads(max: usize) -> bool;
        fn background_stats() -> BackgroundStats;
    }
    trusting {
        fn flush_cache(index: u32);
        fn destroy_cache(index: u32);
        fn reset_arena(index: u32) -> Result<(), NotMade>;
        fn destroy_arena(index: u32) -> Result<(), NotMade>;
        fn internal_deallocate(ptr: *mut u8, layout: core::alloc::Layout);
    }
}
