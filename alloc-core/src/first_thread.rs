//! The process's first thread, which a program may end before the others (`pthread_exit` in `main`).
//!
//! The process goes on, but `/proc/self` stands for the thread that is gone: most files there are empty, or can't be opened.

use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::sys::{self, sandbox};

static HAS_ENDED: AtomicBool = AtomicBool::new(false);
/// Whether it has ended.
pub fn has_ended() -> bool {
    HAS_ENDED.load(Ordering::Relaxed)
}

/// The calling thread ends, without the process.
pub(crate) fn note_end() {
    if !sandbox::in_sandbox() && sys::gettid() == sys::getpid() {
        HAS_ENDED.store(true, Ordering::Relaxed);
    }
}

/// In the child of a fork, whose only thread is its first.
pub(crate) fn after_fork() {
    HAS_ENDED.store(false, Ordering::Relaxed);
}

/// Which of two names a file of the process's own has now: the one below `/proc/self`, which is what those know who grant or
/// emulate such files, or the one below `/proc/thread-self`.
pub fn own_file(usual: &'static CStr, by_thread: &'static CStr) -> &'static CStr {
    if has_ended() { by_thread } else { usual }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_not_ended() {
        assert!(!has_ended());
        assert_eq!(own_file(c"/proc/self/maps", c"/proc/thread-self/maps"), c"/proc/self/maps");
    }
}
