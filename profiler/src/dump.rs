//! Dumps: how they are written, and who waits for whom.
//!
//! One dump is written at a time. A program that asks for one waits its turn; one that starts by itself is left out
//! while another is being written. No lock of the heap or of the sample tables is held while a dump allocates or writes.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;

use alloc_core::lock::{Counts, Mutex, Rank};
use alloc_core::message::{Decimal, warn};
use alloc_core::sys::{self, Errno};
use pprof_export::unsample::Estimator;

use crate::file::{self, PartFile, SignalsBlocked};
use crate::kind::Kind;
use crate::naming::{self, Numbers, Trigger};
use crate::profiler::Profiler;
use crate::retention::Retention;
use crate::settings::Path;
use crate::snapshot::Snapshot;
use crate::{HEAP, content, helpers, journal, own_stack};

/// What the one that writes has to itself.
#[derive(Debug)]
struct Turn {
    numbers: Numbers,
    retention: Retention,
}

const FIRST_TURN: Turn = Turn { numbers: Numbers::NONE, retention: Retention::NONE };
static TURN: Mutex<Turn> = Mutex::new(Rank::Dump, FIRST_TURN);

const EPERM: Errno = Errno(1);
const ENOENT: Errno = Errno(2);
const EDEADLK: Errno = Errno(35);
const ENAMETOOLONG: Errno = Errno(36);
const EEXIST: Errno = Errno(17);

/// In the child of a fork, which counts its own dumps.
pub fn after_fork() {
    TURN.after_fork(|_| {});
    SEEN.after_fork(|seen| *seen = Counts::NONE);
    if !TURN.held_by_me() {
        file::after_fork();
        // Not dropped: another thread may have been changing it.
        core::mem::forget(core::mem::replace(&mut *TURN.lock(), FIRST_TURN));
    }
}

/// Whether a dump is being written.
pub fn is_running() -> bool {
    TURN.try_lock().is_none()
}

/// Whether the calling thread writes a dump, or does something [`between_dumps`].
pub fn has_turn() -> bool {
    TURN.held_by_me()
}

/// Does something that no dump may see half done, when it is this thread's turn. Left out where the thread has that already.
pub fn between_dumps(something: impl FnOnce()) {
    if has_turn() {
        return;
    }
    // A handler that dumps, or ends the process, must not find it half done either.
    let _signals = SignalsBlocked::new();
    let _turn = TURN.lock();
    something();
}

/// What the lock of dumps had seen when it was last free: nobody waits for a dump only to count.
static SEEN: Mutex<Counts> = Mutex::new(Rank::Stacks, Counts::NONE);

/// What the lock of dumps has seen.
pub fn lock_counts() -> Counts {
    let now = TURN.try_lock().map(|turn| turn.counts());
    let mut seen = SEEN.lock();
    if let Some(now) = now {
        *seen = now;
    }
    *seen
}

/// Has it count afresh.
pub fn reset_lock_counts() {
    if !TURN.held_by_me() {
        TURN.reset_counts();
    }
    *SEEN.lock() = Counts::NONE;
}

/// A process with more rights than its caller doesn't write files that its environment or its caller may have named.
fn allowed() -> Result<(), Errno> {
    if alloc_core::conf::is_privileged() { Err(EPERM) } else { Ok(()) }
}

/// Writes a dump to a file of the caller's choice.
pub fn to_path(kind: Kind, path: &[u8]) -> Result<(), Errno> {
    let _suppressed = HEAP.suppress();
    let write = || {
        let path = Path::new(path).ok_or(ENAMETOOLONG)?;
        allowed()?;
        write_whole(&path, |part| fill(kind, part))?;
        Ok(path)
    };
    let path = own_stack::run(write).inspect_err(|&errno| complain(PROFILE, path, errno))?;
    HEAP.observer().hooks.dumped(path.as_c_str());
    Ok(())
}

/// Writes a file, whole or not at all, when it is this thread's turn. Runs on a stack of its own.
fn write_whole(path: &Path, fill: impl FnOnce(&mut PartFile) -> Result<(), Errno>) -> Result<(), Errno> {
    file::check_target(path)?;
    if TURN.held_by_me() {
        return Err(EDEADLK);
    }
    let _turn = TURN.lock();
    let mut part = PartFile::create(path)?;
    fill(&mut part)?;
    part.commit(path, true)
}

/// Writes a dump under a name made of the prefix, the process and numbers, if there is a prefix, and nothing against it. What
/// goes wrong is told.
pub fn to_numbered(kind: Kind, trigger: Trigger) -> Result<(), Errno> {
    let _suppressed = HEAP.suppress();
    let prefix = *HEAP.observer().settings.prefix.lock();
    if prefix.as_bytes().is_empty() {
        return if trigger.is_for_a_caller() { Err(ENOENT) } else { Ok(()) };
    }
    if TURN.held_by_me() {
        return Err(EDEADLK);
    }
    let written = own_stack::run(|| write_in_turn(&prefix, kind, trigger));
    if let Err(errno) = written
        && (trigger.is_asked_for() || may_complain_again())
    {
        complain(PROFILE, prefix.as_bytes(), errno);
    }
    if let Some(name) = written? {
        HEAP.observer().hooks.dumped(name.as_c_str());
    }
    Ok(())
}

/// Does so, and returns the name; `None`: not now. Runs on a stack of its own.
fn write_in_turn(prefix: &Path, kind: Kind, trigger: Trigger) -> Result<Option<Path>, Errno> {
    allowed()?;
    let mut turn = match TURN.try_lock() {
        Some(turn) => turn,
        None if trigger.is_asked_for() => TURN.lock(),
        None => return Ok(None),
    };
    if helpers::ending() && trigger != Trigger::Final && !trigger.is_for_a_caller() {
        // The process ends: what begins now might not be finished.
        return Ok(None);
    }
    write_numbered(&mut turn, prefix, kind, trigger).map(Some)
}

fn write_numbered(turn: &mut Turn, prefix: &Path, kind: Kind, trigger: Trigger) -> Result<Path, Errno> {
    let settings = &HEAP.observer().settings;
    let with_namespace = settings.pid_namespace.load(Ordering::Relaxed);
    let next_name = |numbers: &mut Numbers| {
        numbers.name(prefix, with_namespace, trigger, kind.ending(settings.format())).ok_or(ENAMETOOLONG)
    };
    let mut name = next_name(&mut turn.numbers)?;
    let mut part = PartFile::create(&name)?;
    let allocated = HEAP.stats().allocated as u64;
    fill(kind, &mut part)?;
    // Another process of the same number (in a container, all are 1) may have left dumps: none is lost, and many are
    // passed over in few steps.
    let mut taken = 0;
    while let Err(errno) = part.commit(&name, false) {
        if errno != EEXIST || taken > 40 {
            return Err(errno);
        }
        turn.numbers.skip(if taken < 8 { 0 } else { 1 << (taken - 8).min(40) });
        taken += 1;
        name = next_name(&mut turn.numbers)?;
    }
    // The final ones are out of the reckoning: there is one of each, and they are what most look for.
    if trigger != Trigger::Final
        && kind != Kind::Peak
        && let Some(keep) = settings.triggers.keep()
        && let Ok(identity) = part.identity()
    {
        let path = part.absolute(&name).unwrap_or(name);
        turn.retention.wrote(path.as_bytes(), identity, allocated, keep);
    }
    Ok(name)
}

/// A dump that starts by itself, unless sampling is off. One that a signal asks for is written while it pauses, too.
pub fn automatic(trigger: Trigger) -> Result<(), Errno> {
    let settings = &HEAP.observer().settings;
    let enabled = settings.enabled.load(Ordering::Relaxed);
    if trigger == Trigger::Signal && !enabled && may_complain_again() {
        warn(&[b"a signal asks for a heap profile, but profiling is off"]);
    }
    if enabled && (settings.active.load(Ordering::Relaxed) || trigger == Trigger::Signal) {
        to_numbered(Kind::Heap, trigger)
    } else {
        Ok(())
    }
}

/// Writes the log of lives to `path`, or to `<prefix>.<pid>.<number>.json`.
pub fn journal(path: &Path, number: u64) -> Result<(), Errno> {
    let _suppressed = HEAP.suppress();
    let write = || {
        allowed()?;
        let mut target = *path;
        if target.as_bytes().is_empty() {
            target = naming::expand(&HEAP.observer().settings.prefix.lock()).ok_or(ENAMETOOLONG)?;
            for part in [Decimal::new(sys::getpid() as u64), Decimal::new(number)] {
                (target.push(b".") && target.push(part.as_bytes())).then_some(()).ok_or(ENAMETOOLONG)?;
            }
            target.push(b".json").then_some(()).ok_or(ENAMETOOLONG)?;
        }
        write_whole(&target, |part| {
            journal::write(HEAP.observer(), &mut *part).map_err(|error| Errno(error.0))?;
            part.flush()
        })
    };
    let result = own_stack::run(write);
    if let Err(errno) = result {
        let prefix = *HEAP.observer().settings.prefix.lock();
        complain(b"log of samples", if path.as_bytes().is_empty() { &prefix } else { path }.as_bytes(), errno);
    }
    result
}

/// Writes a dump into memory.
pub fn to_vec(kind: Kind) -> Result<Vec<u8>, Errno> {
    let _suppressed = HEAP.suppress();
    if TURN.held_by_me() {
        return Err(EDEADLK);
    }
    own_stack::run(|| {
        let _turn = TURN.lock();
        content::write(kind, Vec::new()).map_err(|error| Errno(error.0))
    })
}

/// The process ends by `exit` or by returning from `main`.
pub extern "C" fn at_exit() {
    if sys::sandbox::in_sandbox() {
        // The good end of a program is not to become a bad one, or none: where the kernel ends this thread, others live on.
        return;
    }
    let profiler = HEAP.observer();
    let settings = &profiler.settings;
    helpers::stop();
    if !settings.enabled.load(Ordering::Relaxed) {
        return;
    }
    journal::stop();
    if settings.final_dump.load(Ordering::Relaxed) {
        let _ = to_numbered(Kind::Heap, Trigger::Final);
        if profiler.peak.is_found() {
            let _ = to_numbered(Kind::Peak, Trigger::Peak);
        }
    }
    if settings.leak.load(Ordering::Relaxed) {
        let _suppressed = HEAP.suppress();
        let leaked = tell_leaks(profiler);
        if leaked && settings.leak_error.load(Ordering::Relaxed) {
            warn(&[b"Exiting with error code because memory leaks were detected"]);
            // What the program has printed must not be lost with it.
            // SAFETY: a null stream stands for all of them.
            unsafe { libc::fflush(core::ptr::null_mut()) };
            // SAFETY: ends the process.
            unsafe { libc::_exit(1) };
        }
    }
}

/// What most files are.
const PROFILE: &[u8] = b"heap profile";

fn complain(what: &[u8], path: &[u8], errno: Errno) {
    let number = Decimal::new(errno.0.unsigned_abs().into());
    warn(&[b"cannot write ", what, b" ", path, b": ", file::describe(errno.0), b" (errno ", number.as_bytes(), b")"]);
    if HEAP.options().abort {
        alloc_core::sys::abort();
    }
}

/// At most one line in ten seconds about dumps that nobody waits for.
fn may_complain_again() -> bool {
    const PAUSE_NS: u64 = 10_000_000_000;
    static LAST_NS: AtomicU64 = AtomicU64::new(0);
    let (now, last) = (sys::clock_monotonic_ns().max(1), LAST_NS.load(Ordering::Relaxed));
    (last == 0 || now.saturating_sub(last) >= PAUSE_NS)
        && LAST_NS.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

fn fill(kind: Kind, part: &mut PartFile) -> Result<(), Errno> {
    content::write_file(kind, &mut *part).map_err(|error| Errno(error.0))?;
    part.flush()
}

/// Prints what is still in use. Returns whether there is anything.
fn tell_leaks(profiler: &'static Profiler) -> bool {
    let Ok(snapshot) = Snapshot::take(profiler, profiler.end_epoch().moment()) else { return false };
    let (mut objects, mut bytes, mut contexts) = (0u64, 0u64, 0u64);
    let mut estimator = Estimator::new();
    let mut rows = Vec::new();
    for stack in snapshot.stacks() {
        if snapshot.rows_of(stack, &mut rows).is_err() {
            return false;
        }
        estimator.next_stack();
        contexts += u64::from(rows.iter().any(|row| row.epoch != 0));
        for row in rows.iter().filter(|row| row.epoch != 0) {
            let origin = snapshot.origins.get(row.bucket);
            let (row_objects, row_bytes) = estimator.estimate(row.count, origin.usable, origin.period);
            objects = objects.saturating_add(row_objects as u64);
            bytes = bytes.saturating_add(row_bytes as u64);
        }
    }
    if contexts == 0 {
        return false;
    }
    let s = |n: u64| if n == 1 { &b""[..] } else { b"s" };
    let texts = [bytes, objects, contexts].map(Decimal::new);
    warn(&[
        b"Leak approximation summary: ~",
        texts[0].as_bytes(),
        b" byte",
        s(bytes),
        b", ~",
        texts[1].as_bytes(),
        b" object",
        s(objects),
        b", >= ",
        texts[2].as_bytes(),
        b" context",
        s(contexts),
    ]);
    warn(&[b"Run heapsift on dump output for leak detail"]);
    true
}
