//! The heap as control names see it: without its observer's type.

use crate::conf::Options;
use crate::decay::Tier;
use crate::heap::Heap;
use crate::introspect::ArenaSelection;
use crate::observer::Observer;
use crate::stats::{ArenaStats, Stats};

use super::Node;

/// What handlers may ask of a heap; see the methods of the same names of [`Heap`].
#[allow(missing_docs, reason = "documented at Heap")]
pub trait HeapControl: Sync {
    fn options(&'static self) -> &'static Options;
    fn stats(&'static self) -> Stats;
    fn arena_stats(&'static self, index: u32) -> Option<ArenaStats>;
    fn narenas(&'static self) -> u32;
    fn narenas_auto(&'static self) -> u32;
    fn arena_initialized(&'static self, index: u32) -> bool;
    fn arena_purge(&'static self, which: ArenaSelection);
    fn arena_decay(&'static self, which: ArenaSelection);
    fn arena_decay_ms(&'static self, index: u32, tier: Tier) -> Option<i64>;
    fn set_arena_decay_ms(&'static self, index: u32, tier: Tier, ms: i64) -> bool;
    fn default_decay_ms(&'static self, tier: Tier) -> i64;
    fn set_default_decay_ms(&'static self, tier: Tier, ms: i64) -> bool;
    fn thread_arena(&'static self) -> u32;
    fn set_thread_arena(&'static self, index: u32) -> bool;
    fn thread_counters(&'static self) -> (*mut u64, *mut u64);
    fn thread_tcache_enabled(&'static self) -> bool;
    fn set_thread_tcache_enabled(&'static self, on: bool);
    fn thread_tcache_flush(&'static self);
    fn thread_idle(&'static self);
    fn block_arena(&'static self, ptr: *const u8) -> Option<u32>;
    /// The observer's names.
    fn observer_nodes(&'static self) -> &'static [Node];
}

macro_rules! forward {
    ($(fn $name:ident(&'static self $(, $arg:ident: $type:ty)*) $(-> $result:ty)?;)*) => {
        $(fn $name(&'static self $(, $arg: $type)*) $(-> $result)? { Heap::$name(self $(, $arg)*) })*
    };
}

impl<O: Observer> HeapControl for Heap<O> {
    forward! {
        fn options(&'static self) -> &'static Options;
        fn stats(&'static self) -> Stats;
        fn arena_stats(&'static self, index: u32) -> Option<ArenaStats>;
        fn narenas(&'static self) -> u32;
        fn narenas_auto(&'static self) -> u32;
        fn arena_initialized(&'static self, index: u32) -> bool;
        fn arena_purge(&'static self, which: ArenaSelection);
        fn arena_decay(&'static self, which: ArenaSelection);
        fn arena_decay_ms(&'static self, index: u32, tier: Tier) -> Option<i64>;
        fn set_arena_decay_ms(&'static self, index: u32, tier: Tier, ms: i64) -> bool;
        fn default_decay_ms(&'static self, tier: Tier) -> i64;
        fn set_default_decay_ms(&'static self, tier: Tier, ms: i64) -> bool;
        fn thread_arena(&'static self) -> u32;
        fn set_thread_arena(&'static self, index: u32) -> bool;
        fn thread_counters(&'static self) -> (*mut u64, *mut u64);
        fn thread_tcache_enabled(&'static self) -> bool;
        fn set_thread_tcache_enabled(&'static self, on: bool);
        fn thread_tcache_flush(&'static self);
        fn thread_idle(&'static self);
        fn block_arena(&'static self, ptr: *const u8) -> Option<u32>;
    }

    fn observer_nodes(&'static self) -> &'static [Node] {
        self.observer().nodes()
    }
}
