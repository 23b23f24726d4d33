//! The profile of this program, for the program itself.
//!
//! ```no_run
//! # fn serve(body: Vec<u8>) {}
//! heapsift::profile::set_enabled(true);
//! // … later, for instance behind `/debug/pprof/heap`:
//! match heapsift::profile::dump_to_vec() {
//!     Ok(pprof) => serve(pprof),
//!     Err(error) => eprintln!("no profile: {error}"),
//! }
//! ```
//!
//! `MALLOC_CONF=prof:true` in the environment enables profiling from the first allocation on. A dump is gzip pprof and
//! holds what lives and what was ever allocated; names are not in it but build ids and addresses, which `heapsift` and
//! `go tool pprof` resolve with the binary at hand.

use core::fmt;
use core::sync::atomic::Ordering;

use alloc::vec::Vec;

use alloc_core::sys::Errno;

use crate::HEAP;
use crate::dump;
pub use crate::kind::Kind;
use crate::labels::Refusal;
use crate::naming::Trigger;
use crate::settings::Path;

/// Why there is no dump, or why a setting was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    errno: i32,
}

impl Error {
    /// The error number of the operating system.
    pub fn errno(self) -> i32 {
        self.errno
    }
}

impl From<Errno> for Error {
    fn from(Errno(errno): Errno) -> Self {
        Error { errno }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = core::str::from_utf8(crate::file::describe(self.errno)).unwrap_or("Error");
        write!(f, "{text} (errno {})", self.errno)
    }
}

impl core::error::Error for Error {}

const EINVAL: i32 = 22;
const ENAMETOOLONG: i32 = 36;

/// The profile as it is now: gzip pprof. Other threads go on allocating meanwhile.
///
/// # Errors
/// Memory is used up, or a dump is being written by this very thread.
pub fn dump_to_vec() -> Result<Vec<u8>, Error> {
    Ok(dump::to_vec(Kind::Heap)?)
}

/// As [`dump_to_vec`], of any kind.
///
/// # Errors
/// As there; or there is nothing of that kind, as no peak while `prof_peak` is off.
pub fn dump_kind_to_vec(kind: Kind) -> Result<Vec<u8>, Error> {
    Ok(dump::to_vec(kind)?)
}

/// Writes the profile to `path`, whole or not at all. A regular file that is there is replaced; nothing else is.
///
/// # Errors
/// The file can't be written; a line on the standard error output says so, too.
pub fn dump_to_file(path: &str) -> Result<(), Error> {
    Ok(dump::to_path(Kind::Heap, path.as_bytes())?)
}

/// As [`dump_to_file`], of any kind.
///
/// # Errors
/// As there; or there is nothing of that kind.
pub fn dump_kind_to_file(kind: Kind, path: &str) -> Result<(), Error> {
    Ok(dump::to_path(kind, path.as_bytes())?)
}

/// Writes the profile to the next numbered file, `<prefix>.<pid>.<number>.m<number>.heap.pb.gz`.
///
/// # Errors
/// The prefix is empty, or the file can't be written.
pub fn dump() -> Result<(), Error> {
    Ok(dump::to_numbered(Kind::Heap, Trigger::Manual)?)
}

/// Whether the set of samples at the moment of most allocated memory is kept (`prof_peak`).
pub fn is_watching_peak() -> bool {
    HEAP.ensure_booted();
    HEAP.observer().peak.is_on()
}

/// Begins to keep the samples of the moment of most allocated memory, or stops. Costs a record for each sampled block
/// that was freed since that moment. What was kept before is forgotten.
pub fn set_watching_peak(on: bool) {
    HEAP.ensure_booted();
    HEAP.observer().watch_peak(on);
}

/// Whether there is a profile of this process: `prof:true`, or switched on since.
pub fn is_enabled() -> bool {
    HEAP.ensure_booted();
    HEAP.observer().settings.enabled.load(Ordering::Relaxed)
}

/// Switches profiling on or off. What was sampled before stays in the profile.
pub fn set_enabled(on: bool) {
    HEAP.observer().enable(on);
}

/// Whether allocations are sampled now: profiling is enabled, and not paused.
pub fn is_active() -> bool {
    is_enabled() && HEAP.observer().settings.active.load(Ordering::Relaxed)
}

/// Pauses sampling, or goes on with it. Frees are followed all the while.
pub fn set_active(on: bool) {
    HEAP.ensure_booted();
    HEAP.observer().settings.active.store(on, Ordering::Relaxed);
    HEAP.observer().retune();
}

/// The mean number of allocated bytes between two samples.
pub fn sample_interval() -> u64 {
    HEAP.ensure_booted();
    HEAP.observer().settings.interval.load(Ordering::Relaxed)
}

/// Sets it, for samples to come.
///
/// # Errors
/// 0 bytes.
pub fn set_sample_interval(bytes: u64) -> Result<(), Error> {
    if bytes == 0 {
        return Err(Error { errno: EINVAL });
    }
    HEAP.ensure_booted();
    HEAP.observer().set_interval(bytes);
    Ok(())
}

/// Sets the first part of the names of numbered dumps, a directory included; empty: none are written.
///
/// # Errors
/// It is too long, or holds a zero byte.
pub fn set_prefix(prefix: &str) -> Result<(), Error> {
    HEAP.ensure_booted();
    let path = Path::new(prefix.as_bytes()).ok_or(Error { errno: ENAMETOOLONG })?;
    *HEAP.observer().settings.prefix.lock() = path;
    Ok(())
}

/// Puts a label on what the calling thread allocates from now on, in place of an earlier one with that key: rows of blocks in
/// use have it beside the thread's name. A key has up to 63 ASCII characters, a value up to 63 bytes; a thread has at most
/// four labels, a process 4095 different keys and values. For few values (tenants, kinds of requests), not for numbers of
/// requests.
///
/// # Errors
/// EINVAL: the key or the value can't be a label; ENOSPC: there are too many labels; EAGAIN: the thread is ending.
pub fn set_label(key: &str, value: &str) -> Result<(), Error> {
    change_label(key.as_bytes(), Some(value.as_bytes()))
}

/// Takes a label of the calling thread away.
///
/// # Errors
/// As [`set_label`]. That there is none is no error.
pub fn unset_label(key: &str) -> Result<(), Error> {
    change_label(key.as_bytes(), None)
}

/// [`set_label`] and [`unset_label`] (`None`) by bytes, for the C libraries.
#[doc(hidden)]
pub fn change_label(key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
    const EAGAIN: i32 = 11;
    const ENOSPC: i32 = 28;
    HEAP.ensure_booted();
    let changed = HEAP.with_slot(|slot| HEAP.observer().labels.change(slot, key, value));
    changed.unwrap_or(Err(Refusal::Thread)).map_err(|refusal| {
        let errno = match refusal {
            Refusal::Text => EINVAL,
            Refusal::Full => ENOSPC,
            Refusal::Thread => EAGAIN,
        };
        Error { errno }
    })
}

/// Forgets all samples: dumps start anew.
pub fn reset() {
    HEAP.observer().reset();
}
