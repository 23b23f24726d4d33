//! Dumps: what starts them, what they are called, and how they are written.
//!
//! One dump is written at a time. A program that asks for one waits its turn; one that starts by itself is left out
//! while another is being written. No lock of the heap or of the sample tables is held while a dump allocates or writes.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;

use alloc_core::lock::{Mutex, Rank};
use alloc_core::message::{Decimal, warn};
use alloc_core::sys::{self, Errno, extra};
use pprof_export::unsample::Estimator;

use crate::HEAP;
use crate::content;
use crate::file::{self, PartFile, SignalsBlocked};
use crate::profiler::Profiler;
use crate::settings::Path;
use crate::snapshot::Snapshot;

/// What starts a dump that nobody named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// `prof.dump` without a name.
    Manual,
    /// So many bytes have been allocated.
    Interval,
    /// More pages are in use than ever before.
    Maximum,
    /// The process ends.
    Final,
}

/// How many dumps there were, for their names.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    all: u64,
    by_trigger: [u64; 3],
}

const NO_DUMPS: Numbers = Numbers { all: 0, by_trigger: [0; 3] };
static TURN: Mutex<Numbers> = Mutex::new(Rank::Dump, NO_DUMPS);

const EPERM: Errno = Errno(1);
const ENOENT: Errno = Errno(2);
const EDEADLK: Errno = Errno(35);
const ENAMETOOLONG: Errno = Errno(36);
const EEXIST: Errno = Errno(17);

/// In the child of a fork, which counts its own dumps.
pub fn after_fork() {
    TURN.after_fork(|_| {});
    if !TURN.held_by_me() {
        *TURN.lock() = NO_DUMPS;
    }
}

/// A process with more rights than its caller doesn't write files that its environment or its caller may have named.
fn allowed() -> Result<(), Errno> {
    if alloc_core::conf::is_privileged() { Err(EPERM) } else { Ok(()) }
}

/// Writes a dump to a file of the caller's choice.
pub fn to_path(path: &[u8]) -> Result<(), Errno> {
    let _suppressed = HEAP.suppress();
    let result = Path::new(path).ok_or(ENAMETOOLONG).and_then(|path| {
        allowed()?;
        file::check_target(&path)?;
        if TURN.held_by_me() {
            return Err(EDEADLK);
        }
        let _signals = SignalsBlocked::new();
        let _turn = TURN.lock();
        let mut part = PartFile::create(&path)?;
        fill(&mut part)?;
        part.commit(&path, true)
    });
    if let Err(errno) = result {
        complain(path, errno);
    }
    result
}

/// Writes a dump under a name made of the prefix, the process and numbers.
pub fn to_numbered(trigger: Trigger) -> Result<(), Errno> {
    let _suppressed = HEAP.suppress();
    let prefix = *HEAP.observer().settings.prefix.lock();
    if prefix.as_bytes().is_empty() {
        return if trigger == Trigger::Manual { Err(ENOENT) } else { Ok(()) };
    }
    if TURN.held_by_me() {
        return Err(EDEADLK);
    }
    let result = allowed().and_then(|()| {
        let _signals = SignalsBlocked::new();
        let mut turn = match (trigger, TURN.try_lock()) {
            (_, Some(turn)) => turn,
            (Trigger::Manual | Trigger::Final, None) => TURN.lock(),
            (Trigger::Interval | Trigger::Maximum, None) => return Ok(()),
        };
        let mut name = name(&prefix, &mut turn, trigger).ok_or(ENAMETOOLONG)?;
        let mut part = PartFile::create(&name)?;
        fill(&mut part)?;
        // Another process of the same number (in a container, all are 1) may have left dumps: none is lost.
        for _ in 0..10_000 {
            match part.commit(&name, false) {
                Err(EEXIST) => name = self::name(&prefix, &mut turn, trigger).ok_or(ENAMETOOLONG)?,
                result => return result,
            }
        }
        Err(EEXIST)
    });
    if let Err(errno) = result
        && (matches!(trigger, Trigger::Manual | Trigger::Final) || may_complain_again())
    {
        complain(prefix.as_bytes(), errno);
    }
    result
}

/// A dump that starts by itself, unless sampling is off.
pub fn automatic(trigger: Trigger) {
    let settings = &HEAP.observer().settings;
    if settings.enabled.load(Ordering::Relaxed) && settings.active.load(Ordering::Relaxed) {
        // A failure has been told; nobody is there to hear more.
        let _ = to_numbered(trigger);
    }
}

/// Writes a dump into memory.
pub fn to_vec() -> Result<Vec<u8>, Errno> {
    let _suppressed = HEAP.suppress();
    if TURN.held_by_me() {
        return Err(EDEADLK);
    }
    let _signals = SignalsBlocked::new();
    let _turn = TURN.lock();
    content::write(Vec::new()).map_err(|error| Errno(error.0))
}

/// The process ends by `exit` or by returning from `main`.
pub extern "C" fn at_exit() {
    let profiler = HEAP.observer();
    let settings = &profiler.settings;
    if !settings.enabled.load(Ordering::Relaxed) {
        return;
    }
    if settings.final_dump.load(Ordering::Relaxed) {
        let _ = to_numbered(Trigger::Final);
    }
    if settings.leak.load(Ordering::Relaxed) {
        let _suppressed = HEAP.suppress();
        let leaked = tell_leaks(profiler);
        if leaked && settings.leak_error.load(Ordering::Relaxed) {
            // What the program has printed must not be lost with it.
            // SAFETY: a null stream stands for all of them.
            unsafe { libc::fflush(core::ptr::null_mut()) };
            // SAFETY: ends the process.
            unsafe { libc::_exit(1) };
        }
    }
}

/// `<prefix>[.<namespace>].<pid>.<number>.<kind>[<number>].heap.pb.gz`; takes the numbers.
fn name(prefix: &Path, numbers: &mut Numbers, trigger: Trigger) -> Option<Path> {
    let mut name = *prefix;
    let mut put = |text: &[u8]| name.push(text).then_some(());
    if HEAP.observer().settings.pid_namespace.load(Ordering::Relaxed) {
        put(b".")?;
        put(Decimal::new(pid_namespace()).as_bytes())?;
    }
    put(b".")?;
    put(Decimal::new(sys::getpid() as u64).as_bytes())?;
    put(b".")?;
    put(Decimal::new(numbers.all).as_bytes())?;
    let kind = match trigger {
        Trigger::Manual => b".m",
        Trigger::Interval => b".i",
        Trigger::Maximum => b".u",
        Trigger::Final => b".f",
    };
    put(kind)?;
    numbers.all += 1;
    if let Some(number) = numbers.by_trigger.get_mut(trigger as usize) {
        put(Decimal::new(*number).as_bytes())?;
        *number += 1;
    }
    put(b".heap.pb.gz")?;
    Some(name)
}

/// The number of the pid namespace, as `/proc` tells it; 0 if it doesn't.
fn pid_namespace() -> u64 {
    let mut buffer = [0; 64];
    let link = extra::read_link(c"/proc/self/ns/pid", &mut buffer).unwrap_or(b"");
    link.iter().filter(|b| b.is_ascii_digit()).fold(0, |n: u64, b| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0')))
}

fn complain(path: &[u8], errno: Errno) {
    let number = Decimal::new(errno.0.unsigned_abs().into());
    warn(&[b"cannot write heap profile ", path, b": ", file::describe(errno.0), b" (errno ", number.as_bytes(), b")"]);
}

/// At most one line in ten seconds about dumps that nobody waits for.
fn may_complain_again() -> bool {
    const PAUSE_NS: u64 = 10_000_000_000;
    static LAST_NS: AtomicU64 = AtomicU64::new(0);
    let (now, last) = (sys::clock_monotonic_ns().max(1), LAST_NS.load(Ordering::Relaxed));
    (last == 0 || now.saturating_sub(last) >= PAUSE_NS)
        && LAST_NS.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

fn fill(part: &mut PartFile) -> Result<(), Errno> {
    content::write(&mut *part).map_err(|error| Errno(error.0))?;
    part.flush()
}

/// Prints what is still in use. Returns whether there is anything.
fn tell_leaks(profiler: &'static Profiler) -> bool {
    let Ok(snapshot) = Snapshot::take(profiler, profiler.next_epoch()) else { return false };
    let (mut objects, mut bytes, mut contexts) = (0u64, 0u64, 0u64);
    let mut estimator = Estimator::new();
    let mut current = None;
    for row in snapshot.rows.iter().filter(|row| row.epoch != 0) {
        if current != Some(row.stack) {
            current = Some(row.stack);
            contexts += 1;
            estimator.next_stack();
        }
        let (row_objects, row_bytes) = estimator.estimate(row.count, row.usable, row.period);
        objects = objects.saturating_add(row_objects as u64);
        bytes = bytes.saturating_add(row_bytes as u64);
    }
    if contexts == 0 {
        return false;
    }
    let s = |n: u64| if n == 1 { &b""[..] } else { b"s" };
    let texts = [bytes, objects, contexts].map(Decimal::new);
    warn(&[
        b"Leak approximation summary: ~", texts[0].as_bytes(), b" byte", s(bytes),
        b", ~", texts[1].as_bytes(), b" object", s(objects),
        b", >= ", texts[2].as_bytes(), b" context", s(contexts),
    ]);
    warn(&[b"Run heapsift on dump output for leak detail"]);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_up() {
        let prefix = Path::new(b"/tmp/p").unwrap();
        let mut numbers = NO_DUMPS;
        let pid = sys::getpid();
        let mut next = |trigger| {
            let path = name(&prefix, &mut numbers, trigger).unwrap();
            std::string::String::from_utf8(path.as_bytes().to_vec()).unwrap()
        };
        assert_eq!(next(Trigger::Manual), std::format!("/tmp/p.{pid}.0.m0.heap.pb.gz"));
        assert_eq!(next(Trigger::Interval), std::format!("/tmp/p.{pid}.1.i0.heap.pb.gz"));
        assert_eq!(next(Trigger::Interval), std::format!("/tmp/p.{pid}.2.i1.heap.pb.gz"));
        assert_eq!(next(Trigger::Maximum), std::format!("/tmp/p.{pid}.3.u0.heap.pb.gz"));
        assert_eq!(next(Trigger::Manual), std::format!("/tmp/p.{pid}.4.m1.heap.pb.gz"));
        assert_eq!(next(Trigger::Final), std::format!("/tmp/p.{pid}.5.f.heap.pb.gz"));
    }

    #[test]
    fn numbers_of_the_process() {
        assert!(pid_namespace() > 0);
    }
}
