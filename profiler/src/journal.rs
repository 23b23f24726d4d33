//! Sampled blocks from their allocation to their free, one by one, as JSON: jemalloc's `prof.log_*`, `prof_log`.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloc::vec::Vec;

use alloc_core::lock::{Mutex, Rank};
use alloc_core::message::until_zero;
use alloc_core::sys;
use pprof_export::writer::{Sink, SinkError};

use crate::HEAP;
use crate::profiler::Profiler;
use crate::recent::Event;
use crate::settings::Path;
use crate::snapshot::push;
use crate::stacks::StackId;
use crate::table::{Array, Zeroed};
use crate::text::Text;

/// Most lives that are kept: 64 MiB. Later ones are counted only.
const LIVES_MAX: usize = 1 << 20;
/// Room at first.
const LIVES_MIN: usize = 1 << 10;

/// A block's life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    /// Usable bytes.
    pub usable: u64,
    /// How it began.
    pub born: Event,
    /// How it ended.
    pub freed: Event,
}
// SAFETY: integers.
unsafe impl Zeroed for Life {}

#[derive(Debug)]
struct Lives {
    all: Array<Life>,
    used: usize,
    path: Path,
    numbered: u64,
}

/// The lives that ended since the log was started.
#[derive(Debug)]
#[repr(C)]
pub struct Journal {
    on: AtomicBool,
    /// When it was started, in ticks of the processor and in nanoseconds since 1970.
    started: AtomicU64,
    started_ns: AtomicU64,
    dropped: AtomicU64,
    lives: Mutex<Lives>,
}

const NONE: Lives = Lives { all: Array::new(), used: 0, path: Path::from_const(b""), numbered: 0 };

impl Journal {
    /// Off.
    pub const fn new() -> Self {
        Journal {
            on: AtomicBool::new(false),
            started: AtomicU64::new(0),
            started_ns: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            lives: Mutex::new(Rank::Stacks, NONE),
        }
    }

    /// Whether lives are kept.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Whether a block that was born then belongs to it.
    pub fn wants(&self, birth_ticks: u64) -> bool {
        self.is_on() && birth_ticks >= self.started.load(Ordering::Relaxed)
    }

    /// Begins, to be written to `path` (empty: `<prefix>.<pid>.<number>.json`). `false`: it has begun already.
    pub fn start(&self, path: Path) -> bool {
        let mut lives = self.lives.lock();
        if self.is_on() {
            return false;
        }
        lives.path = path;
        lives.used = 0;
        self.dropped.store(0, Ordering::Relaxed);
        self.started.store(sys::ticks(), Ordering::Relaxed);
        self.started_ns.store(sys::clock_realtime_ns(), Ordering::Relaxed);
        self.on.store(true, Ordering::Relaxed);
        true
    }

    /// Ends it: where it is to be written, and the number of the log; `None`: it hasn't begun.
    pub fn stop(&self) -> Option<(Path, u64)> {
        let mut lives = self.lives.lock();
        if !self.on.swap(false, Ordering::Relaxed) {
            return None;
        }
        lives.numbered += 1;
        Some((lives.path, lives.numbered - 1))
    }

    /// Keeps a life.
    pub fn ended(&self, life: &Life) {
        let mut lives = self.lives.lock();
        if !self.is_on() {
            return;
        }
        if lives.used == lives.all.as_slice().len() {
            let length = (lives.used * 2).clamp(LIVES_MIN, LIVES_MAX);
            let mut larger = Array::new();
            if lives.used == LIVES_MAX || !larger.reserve(length) {
                drop(lives);
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let used = lives.used;
            larger.as_mut_slice()[..used].copy_from_slice(lives.all.as_slice());
            lives.all.release();
            lives.all = larger;
        }
        let at = lives.used;
        lives.all.as_mut_slice()[at] = *life;
        lives.used += 1;
    }

    /// In the child of a fork: what was being changed is dropped.
    pub fn after_fork(&self) {
        self.lives.after_fork(|lives| *lives = NONE);
    }

    fn take(&self) -> Result<Vec<Life>, SinkError> {
        let mut copy = Vec::new();
        let used = self.lives.lock().used;
        copy.try_reserve_exact(used).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        let mut lives = self.lives.lock();
        copy.extend_from_slice(&lives.all.as_slice()[..used.min(lives.used)]);
        lives.all.release();
        lives.used = 0;
        Ok(copy)
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

/// Sorted, each once.
fn distinct<T: Ord + Copy>(items: impl Iterator<Item = T>) -> Result<Vec<T>, SinkError> {
    let mut all = Vec::new();
    for item in items {
        push(&mut all, item)?;
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Writes what was kept, and forgets it. The caller has its turn and isn't sampled.
pub fn write<S: Sink>(profiler: &'static Profiler, sink: S) -> Result<S, SinkError> {
    let journal = &profiler.journal;
    let lives = journal.take()?;
    let events = || lives.iter().flat_map(|life| [&life.born, &life.freed]);
    let threads: Vec<(u32, u16)> = distinct(events().map(|event| (event.thread, event.name)))?;
    let stacks: Vec<StackId> = distinct(events().map(|event| event.stack))?;

    let mut out = Text::new(sink);
    out.put(b"{\"info\":{")?;
    let duration = sys::clock_realtime_ns().saturating_sub(journal.started_ns.load(Ordering::Relaxed));
    let interval = profiler.settings.interval.load(Ordering::Relaxed);
    out.fields(&[
        ("duration", duration),
        ("lg_sample_rate", crate::settings::lg(interval) as u64),
        ("sample_interval", interval),
        ("pid", sys::getpid() as u64),
        ("dropped", journal.dropped.load(Ordering::Relaxed)),
    ])?;
    out.put(concat!(",\"version\":\"heapsift ", env!("CARGO_PKG_VERSION"), "\"").as_bytes())?;
    out.put(b",\"prof_time_resolution\":")?;
    out.quoted(profiler.settings.time_resolution().to_bytes())?;
    out.put(b"},\n\"threads\":[")?;
    for (i, &(thread, name)) in threads.iter().enumerate() {
        out.put(if i == 0 { b"{" } else { b",{" })?;
        out.fields(&[("thr_uid", thread.into())])?;
        out.put(b",\"thr_name\":")?;
        out.quoted(until_zero(&profiler.names.get(name)))?;
        out.put(b"}")?;
    }
    out.put(b"],\n\"stack_traces\":[")?;
    for (i, &stack) in stacks.iter().enumerate() {
        out.put(if i == 0 { b"" } else { b",\n" })?;
        out.addresses(profiler.stacks.get(stack).frames)?;
    }
    out.put(b"],\n\"allocations\":[")?;
    // Each is in its list, which was made of them.
    let thread_at = |event: &Event| threads.binary_search(&(event.thread, event.name)).unwrap_or(0) as u64;
    let stack_at = |event: &Event| stacks.binary_search(&event.stack).unwrap_or(0) as u64;
    for (i, life) in lives.iter().enumerate() {
        out.put(if i == 0 { b"{" } else { b",\n{" })?;
        out.fields(&[
            ("alloc_thread", thread_at(&life.born)),
            ("free_thread", thread_at(&life.freed)),
            ("alloc_trace", stack_at(&life.born)),
            ("free_trace", stack_at(&life.freed)),
            ("alloc_timestamp", life.born.time_ns),
            ("free_timestamp", life.freed.time_ns),
            ("usize", life.usable),
        ])?;
        out.put(b"}")?;
    }
    out.put(b"]}\n")?;
    out.finish()
}

/// Ends the log and writes it; `false`: there is none, or it can't be written.
pub fn stop() -> bool {
    let profiler = HEAP.observer();
    let Some((path, number)) = profiler.journal.stop() else { return false };
    crate::dump::journal(&path, number).is_ok()
}
