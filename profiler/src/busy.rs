//! A flag that one thread at a time may have. Whoever does not get it goes on without: nothing waits for it, so that it may
//! be asked for in a signal handler and while other threads fork.

use crate::sync::atomic::{AtomicU32, Ordering};

/// The flag. Zero bytes are one that nobody has.
#[derive(Debug)]
pub struct Busy(AtomicU32);

impl Busy {
    /// A flag that nobody has.
    pub const fn new() -> Self {
        Busy(AtomicU32::new(0))
    }

    /// Takes the flag, if nobody has it. Then what those before have written is there to be seen.
    #[inline]
    pub fn take(&self) -> bool {
        // Acquire: pairs with the Release in `give`. The look before saves the others a cache line that is written.
        self.0.load(Ordering::Relaxed) == 0
            && self.0.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives the flag up, which the caller has.
    #[inline]
    pub fn give(&self) {
        // Release: pairs with the Acquire in `take`.
        self.0.store(0, Ordering::Release);
    }
}

impl Default for Busy {
    fn default() -> Self {
        Self::new()
    }
}
