//! A system that refuses: for this crate's own tests, calls on memory fail when a plan says so. Other builds have none of it.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

use super::{Errno, SYS_MADVISE, SYS_MMAP, SYS_MPROTECT, SYS_MREMAP, SYS_MUNMAP};

/// Stands for the moving of the data segment's end, which is no single call of the system.
pub(crate) const SBRK: usize = usize::MAX;

/// What may be refused.
pub(crate) const CALLS: [usize; 6] = [SYS_MMAP, SYS_MUNMAP, SYS_MPROTECT, SYS_MADVISE, SYS_MREMAP, SBRK];

static WHICH: AtomicUsize = AtomicUsize::new(0);
static LEFT: AtomicU32 = AtomicU32::new(0);
static PERSISTENT: AtomicU32 = AtomicU32::new(0);
static ERRNO: AtomicI32 = AtomicI32::new(0);
static REFUSED: AtomicU32 = AtomicU32::new(0);

/// From here on the `n`-th call (from 1) among those of `which` (a bit for each of [`CALLS`]) is refused with `errno`, and
/// all after it where that is `persistent`.
pub(crate) fn refuse(which: usize, n: u32, persistent: bool, errno: i32) {
    REFUSED.store(0, Ordering::Relaxed);
    ERRNO.store(errno, Ordering::Relaxed);
    PERSISTENT.store(persistent.into(), Ordering::Relaxed);
    LEFT.store(n, Ordering::Relaxed);
    WHICH.store(which, Ordering::Relaxed);
}

/// Nothing is refused any more; how many calls were.
pub(crate) fn relent() -> u32 {
    WHICH.store(0, Ordering::Relaxed);
    REFUSED.load(Ordering::Relaxed)
}

/// What a call is refused with, if it is its turn.
pub(super) fn refusal(number: usize) -> Option<Errno> {
    let at = CALLS.iter().position(|&call| call == number)?;
    if WHICH.load(Ordering::Relaxed) >> at & 1 == 0 {
        return None;
    }
    let before = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    let refused = match before {
        Ok(1) => true,
        Ok(_) => false,
        Err(_) => PERSISTENT.load(Ordering::Relaxed) != 0,
    };
    refused.then(|| {
        REFUSED.fetch_add(1, Ordering::Relaxed);
        Errno(ERRNO.load(Ordering::Relaxed))
    })
}
