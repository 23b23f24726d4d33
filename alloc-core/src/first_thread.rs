//! The process's first thread, which a program may end before the others (`pthread_exit` in `main`).
//!
//! The process goes on, but `/proc/self` stands for the thread that is gone: most files there are empty, or can't be opened.
//! And once the program's other threads have ended too, the C library would wait for the allocator's own, which block
//! all signals that can wait: next to nothing but SIGKILL would end the process.

use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::sys::{self, sandbox};

/// So often a thread of the allocator's own asks whether there are others, once the first one has ended.
pub const ASK_NS: u64 = 500_000_000;

static HAS_ENDED: AtomicBool = AtomicBool::new(false);
/// Threads of the allocator's own that run.
static OWN: AtomicU32 = AtomicU32::new(0);

/// Whether it has ended.
pub fn has_ended() -> bool {
    HAS_ENDED.load(Ordering::Relaxed)
}

/// The calling thread ends, without the process. `true`: it is the first one.
pub(crate) fn note_end() -> bool {
    let is_first = !sandbox::in_sandbox() && sys::gettid() == sys::getpid();
    if is_first {
        HAS_ENDED.store(true, Ordering::Relaxed);
    }
    is_first
}

/// In the child of a fork, whose only thread is its first.
pub(crate) fn after_fork() {
    HAS_ENDED.store(false, Ordering::Relaxed);
    OWN.store(0, Ordering::Relaxed);
}

/// Which of two names a file of the process's own has now: the one below `/proc/self`, which is what those know who grant or
/// emulate such files, or the one below `/proc/thread-self`.
pub fn own_file(usual: &'static CStr, by_thread: &'static CStr) -> &'static CStr {
    if has_ended() { by_thread } else { usual }
}

/// A thread of the allocator's own, while it runs.
#[derive(Debug)]
pub struct OwnThread(());

impl OwnThread {
    /// The calling thread is one. Counted by itself: then no more are counted than there are.
    pub fn begin() -> Self {
        OWN.fetch_add(1, Ordering::Relaxed);
        OwnThread(())
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        OWN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether all threads of the program's own have ended. Those of the allocator's own are to end then: with the last one the
/// C library ends the process, as it would have done without them.
pub fn only_own_are_left() -> bool {
    // One may begin or end between the two counts: the program's must not be taken for it.
    let own = OWN.load(Ordering::Relaxed);
    has_ended() && other_threads().is_some_and(|others| others <= own.min(OWN.load(Ordering::Relaxed)))
}

/// How many threads the process has besides the first one; `None` while that is there, or the kernel doesn't tell.
fn other_threads() -> Option<u32> {
    let mut buffer = [0; 512];
    let fd = sys::open_read(c"/proc/self/stat").ok()?;
    let read = sys::read(fd, &mut buffer);
    sys::close(fd);
    others_in(&buffer[..read.ok()?])
}

/// The second field is a name in brackets, which may have brackets and spaces in it. The third one is `Z` for a thread that has
/// ended and is kept, as the first one is for the others' sake; the twentieth counts threads, that one among them.
fn others_in(stat: &[u8]) -> Option<u32> {
    let behind_name = stat.iter().rposition(|&b| b == b')')? + 2;
    let mut fields = stat.get(behind_name..)?.split(|&b| b == b' ');
    fields.next().filter(|state| *state == b"Z")?;
    core::str::from_utf8(fields.nth(16)?).ok()?.parse::<u32>().ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_counted_once_the_first_one_is_gone() {
        let stat =
            b"87 (a) b) (c 1) Z 1 87 87 0 -1 4194304 91 0 0 0 0 0 0 0 39 19 3 0 2483 4558848 274 18446744073709551615";
        assert_eq!(others_in(stat), Some(2));
        assert_eq!(others_in(&stat[..60]), None);
        assert_eq!(others_in(b"87 (a)"), None);
        assert_eq!(others_in(b"87 (a) S 1 87 87 0 -1 4194304 91 0 0 0 0 0 0 0 39 19 3 0 2483"), None);
        assert_eq!(other_threads(), None);
    }

    #[test]
    fn it_has_not_ended() {
        assert!(!has_ended() && !only_own_are_left());
        assert_eq!(own_file(c"/proc/self/maps", c"/proc/thread-self/maps"), c"/proc/self/maps");
    }
}
