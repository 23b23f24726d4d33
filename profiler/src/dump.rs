//! Dumps: what starts them, what they are called, and how they are written.
//!
//! One dump is written at a time. A program that asks for one waits its turn; one that starts by itself is left out
//! while another is being written. No lock of the heap or of the sample tables is held while a dump allocates or writes.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;

use alloc_core::lock::{Mutex, Rank};
use alloc_core::message::{Decimal, warn};
use alloc_core::sys::{self, Errno, extra};
use pprof_export::AllocatorStats;
use pprof_export::unsample::Estimator;
use pprof_export::writer::{Header, Label, LabelValue, Row as Sample, Sink, SinkError, Writer};

use crate::HEAP;
use crate::file::{self, PartFile, SignalsBlocked};
use crate::maps;
use crate::profiler::Profiler;
use crate::settings::Path;
use crate::snapshot::Snapshot;
use crate::unwind::End;

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
    write(Vec::new()).map_err(|error| Errno(error.0))
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
    write(&mut *part).map_err(|error| Errno(error.0))?;
    part.flush()
}

/// Writes the profile as it is now. The caller has its turn and isn't sampled.
fn write<S: Sink>(sink: S) -> Result<S, SinkError> {
    let profiler = HEAP.observer();
    // First of all: what the dump itself allocates is none of it.
    let stats = allocator_stats();
    let period = profiler.settings.interval.load(Ordering::Relaxed);
    // Samples from here on belong to the next interval, and are left out of this dump.
    let epoch = profiler.next_epoch();
    let snapshot = Snapshot::take(profiler, epoch)?;
    let time = sys::clock_realtime_ns() as i64;
    let mut writer = Writer::new(sink, &Header::heap(period as i64, time))?;
    maps::executable(|mapping| writer.mapping(mapping))?;
    writer.comment(concat!("heapsift ", env!("CARGO_PKG_VERSION")).as_bytes())?;
    comment(&mut writer, b"mean bytes between samples: ", period)?;
    comment(&mut writer, b"samples taken: ", profiler.samples.load(Ordering::Relaxed))?;
    for (text, number) in [
        (&b"samples with a stack cut short: "[..], profiler.incomplete.load(Ordering::Relaxed)),
        (b"samples with a stack for which there was no room: ", profiler.stacks.dropped() + profiler.buckets.dropped()),
        (b"samples for which there was no memory: ", profiler.records.dropped()),
    ] {
        if number > 0 {
            comment(&mut writer, text, number)?;
        }
    }
    write_rows(&mut writer, profiler, &snapshot, period)?;
    writer.allocator_stats(&stats)?;
    writer.finish()
}

fn comment<S: Sink>(writer: &mut Writer<S>, text: &[u8], number: u64) -> Result<(), SinkError> {
    let mut line = [0; 100];
    let number = Decimal::new(number);
    let mut used = 0;
    for part in [text, number.as_bytes()] {
        let n = part.len().min(line.len() - used);
        line[used..used + n].copy_from_slice(&part[..n]);
        used += n;
    }
    writer.comment(&line[..used])
}

fn write_rows<S: Sink>(
    writer: &mut Writer<S>,
    profiler: &'static Profiler,
    snapshot: &Snapshot,
    file_period: u64,
) -> Result<(), SinkError> {
    let (mut allocated, mut in_use) = (Estimator::new(), Estimator::new());
    let mut addresses: Vec<u64> = Vec::new();
    let mut root = None;
    let mut current = None;
    for row in &snapshot.rows {
        if current != Some(row.stack) {
            current = Some(row.stack);
            allocated.next_stack();
            in_use.next_stack();
            let stack = &snapshot.stacks[row.stack as usize];
            addresses.clear();
            addresses.try_reserve(stack.frames.len()).map_err(|_| SinkError::OUT_OF_MEMORY)?;
            // A return address may belong to the line, or the function, after the call.
            addresses.extend(stack.frames.iter().map(|&frame| (frame as u64).wrapping_sub(1)));
            let above: Option<&[u8]> = match stack.end {
                _ if stack.frames.is_empty() => Some(b"(truncated)"),
                End::Complete => None,
                End::Truncated => Some(b"[truncated stack]"),
                End::Lost => Some(b"[unknown callers]"),
            };
            root = above.map(|name| writer.virtual_frame(name)).transpose()?;
        }
        let number = |key, value: u64, unit| Label { key, value: LabelValue::Number { value: value as i64, unit } };
        let mut labels = [number("bytes", row.usable, "bytes"); 4];
        let mut used = 1;
        let mut put = |label| {
            labels[used] = label;
            used += 1;
        };
        let name;
        let values = if row.epoch == 0 {
            let (objects, bytes) = allocated.estimate(row.count, row.usable, row.period);
            [objects, bytes, 0, 0]
        } else {
            name = profiler.names.get(row.name);
            let length = name.iter().position(|&b| b == 0).unwrap_or(name.len());
            if length > 0 {
                put(Label { key: "thread", value: LabelValue::Text(&name[..length]) });
            }
            put(number("epoch", row.epoch.into(), "epoch"));
            let (objects, bytes) = in_use.estimate(row.count, row.usable, row.period);
            [0, 0, objects, bytes]
        };
        if row.period != file_period {
            put(number("period", row.period, "bytes"));
        }
        writer.sample(&Sample { stack: &addresses, root, values: &values, labels: &labels[..used] })?;
    }
    Ok(())
}

/// The heap's own numbers, and what the kernel says of the process.
fn allocator_stats() -> AllocatorStats {
    let stats = HEAP.stats();
    let rss = resident_bytes().unwrap_or(0);
    // The kernel walks all pages for it and holds up changes of the address space meanwhile.
    const PSS_MAX: u64 = 4 << 30;
    let pss = if rss <= PSS_MAX { shared_bytes().unwrap_or(0) } else { 0 };
    AllocatorStats {
        allocated: stats.allocated as u64,
        active: stats.active as u64,
        metadata: stats.metadata as u64,
        resident: stats.resident as u64,
        mapped: stats.mapped as u64,
        retained: stats.retained as u64,
        tcache: stats.tcache_bytes as u64,
        dirty: stats.dirty as u64,
        muzzy: stats.muzzy as u64,
        rss,
        pss,
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    core::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

fn resident_bytes() -> Option<u64> {
    let text = maps::read_file(c"/proc/self/statm").ok()?;
    let pages = number(text.split(|&b| b == b' ').nth(1)?)?;
    Some(pages * sys::PAGE as u64)
}

fn shared_bytes() -> Option<u64> {
    let text = maps::read_file(c"/proc/self/smaps_rollup").ok()?;
    let line = text.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"Pss:"))?;
    Some(number(line.trim_ascii_start())? * 1024)
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
        assert!(resident_bytes().unwrap() > 1 << 20);
        assert!(shared_bytes().unwrap() > 0);
    }
}
