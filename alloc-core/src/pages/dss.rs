//! Memory at the end of the data segment (`sbrk`), where `dss` asks for it.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::lock::{Mutex, Rank};
use crate::sys::{self, PAGE};

/// Lowest and highest address ever taken. The lock orders those who move the end.
static LOW: AtomicUsize = AtomicUsize::new(usize::MAX);
static HIGH: AtomicUsize = AtomicUsize::new(0);
static MOVING: Mutex<()> = Mutex::new(Rank::Base, ());

/// Moves the end of the data segment by `bytes` (whole pages); the address of the new memory, which reads as zero.
pub(super) fn take(bytes: usize) -> Option<usize> {
    let _moving = MOVING.lock();
    let end = sys::move_data_end(0)?;
    let start = end.checked_next_multiple_of(PAGE)?;
    let wanted = start.checked_add(bytes)?;
    // A move of the program's own, in another thread at the same time, shows here; then what was got is lost.
    if sys::move_data_end(wanted - end)? != end {
        return None;
    }
    LOW.fetch_min(start, Ordering::Relaxed);
    HIGH.fetch_max(wanted, Ordering::Relaxed);
    Some(start)
}

/// Whether an address may come from here: such memory can't be unmapped.
pub(super) fn has(address: usize) -> bool {
    (LOW.load(Ordering::Relaxed)..HIGH.load(Ordering::Relaxed)).contains(&address)
}

/// Whether there is any such memory.
pub(super) fn is_used() -> bool {
    HIGH.load(Ordering::Relaxed) != 0
}

/// In the child of a fork.
pub(super) fn after_fork() {
    MOVING.after_fork(|()| {});
}
