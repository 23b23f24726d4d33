//! What is shared between threads without a lock, as it is in the product, with loom's atomics in the place of the
//! processor's: loom then runs a test in every order in which threads can be interleaved, and with every value that a load
//! may see.
//!
//! The files are the product's own. They find `crate::sync` and `crate::sys` here, as they do in their own crates.
//!
//! | structure | file | model |
//! | --- | --- | --- |
//! | the mutex on a futex | `alloc-core/src/lock.rs` | `tests/lock.rs` |
//! | leaves of the page map's tree | `alloc-core/src/pagemap.rs` | `tests/pagemap.rs` |
//! | the cache of unwind rules | `profiler/src/unwind/rules.rs` | `tests/rules.rs` |
//! | the flag over walks that are recalled, and over the peak | `profiler/src/busy.rs` | `tests/busy.rs` |
//! | where the profiler's tables are | `profiler/src/ranges.rs` | `tests/ranges.rs` |
//! | modules that walks have met | `profiler/src/kept.rs` | `tests/kept.rs` |
//!
//! Other atomics are counters and settings, each of which stands for itself, or have one writer.
#![allow(dead_code, reason = "a model needs a part of each file")]

#[path = "../../../profiler/src/busy.rs"]
pub mod busy;
pub mod extent;
#[path = "../../../profiler/src/kept.rs"]
pub mod kept;
#[path = "../../../alloc-core/src/lock.rs"]
pub mod lock;
#[path = "../../../alloc-core/src/pagemap.rs"]
pub mod pagemap;
#[path = "../../../profiler/src/ranges.rs"]
pub mod ranges;
#[path = "../../../alloc-core/src/ranks.rs"]
mod ranks;
#[path = "../../../profiler/src/unwind/rules.rs"]
mod rules_as_they_are;
pub mod sync;
pub mod sys;

pub mod rules {
    //! The cache of unwind rules; a rule is a number.

    use super::rules_as_they_are::{Rule, find as find_rule, store as store_rule};

    fn rule(offset: i32) -> Rule {
        Rule::new(true, offset, None)
    }

    /// Caches the rule of that number.
    pub fn store(address: usize, module: u64, offset: i32) {
        store_rule(address, module, rule(offset));
    }

    /// The number of the rule that is cached.
    pub fn find(address: usize, module: u64) -> Option<i32> {
        find_rule(address, module).map(|rule| rule.cfa_offset() as i32)
    }
}
