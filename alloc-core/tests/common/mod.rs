//! A heap that nobody watches, for tests of what does not depend on an observer.

use alloc_core::observer::{Block, Observer, OptionVerdict, ThreadSlot};

/// Sees nothing, but has the fast path count.
#[derive(Debug)]
pub struct Nobody;

impl Observer for Nobody {
    const ENABLED: bool = true;
    fn option(&'static self, _: &[u8], _: &[u8]) -> OptionVerdict {
        OptionVerdict::Unknown
    }
    fn boot(&'static self) {}
    fn start(&'static self) {}
    fn next_wait(&'static self, _: &mut ThreadSlot) -> u64 {
        i64::MAX as u64
    }
    fn sampled(&'static self, _: &mut ThreadSlot, _: &Block) -> bool {
        panic!("nothing is to be sampled");
    }
    fn freed(&'static self, _: &mut ThreadSlot, _: usize, _: usize) -> bool {
        false
    }
    fn new_maximum(&'static self, _: usize) {}
    fn wants_maxima(&self) -> bool {
        false
    }
    fn deferred(&'static self, _: &mut ThreadSlot) {}
    fn thread_exit(&'static self, _: &mut ThreadSlot) {}
    fn fork_child(&'static self) {}
    fn nodes(&self) -> &'static [alloc_core::ctl::Node] {
        &[]
    }
}
