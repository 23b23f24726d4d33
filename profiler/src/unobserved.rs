//! The observer of a heap without profiling: nobody.

use alloc_core::ctl::Node;
use alloc_core::{Block, Observer, OptionVerdict, ThreadSlot};

/// Sees nothing. The heap's paths contain no sampling at all.
#[derive(Debug)]
pub struct Unobserved;

impl Observer for Unobserved {
    const ENABLED: bool = false;

    fn option(&'static self, _key: &[u8], _value: &[u8]) -> OptionVerdict {
        OptionVerdict::Unknown
    }

    fn boot(&'static self) {}

    fn start(&'static self) {}

    fn next_wait(&'static self, _slot: &mut ThreadSlot) -> u64 {
        i64::MAX as u64
    }

    fn sampled(&'static self, _slot: &mut ThreadSlot, _block: &Block) -> bool {
        false
    }

    fn freed(&'static self, _slot: &mut ThreadSlot, _address: usize, _arena: usize) -> bool {
        false
    }

    fn new_maximum(&'static self, _active_bytes: usize) {}

    fn wants_maxima(&self) -> bool {
        false
    }

    fn deferred(&'static self, _slot: &mut ThreadSlot) {}

    fn thread_exit(&'static self, _slot: &mut ThreadSlot) {}

    fn fork_child(&'static self) {}

    fn nodes(&self) -> &'static [Node] {
        &[]
    }
}
