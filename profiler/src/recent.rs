//! The last sampled allocations, one by one: `experimental.prof_recent.*`, with `prof_recent_alloc_max`.

use core::ffi::{c_char, c_void};
use core::sync::atomic::{AtomicIsize, Ordering};

use alloc::vec::Vec;

use alloc_core::ctl::node::Plain;
use alloc_core::ctl::{Call, Code};
use alloc_core::lock::{Counts, Mutex, Rank};
use alloc_core::message::until_zero;
use pprof_export::writer::SinkError;

use crate::HEAP;
use crate::profiler::Profiler;
use crate::snapshot::push;
use crate::stacks::StackId;
use crate::table::{Array, Zeroed};
use crate::text::Text;

/// Most allocations that are kept, with −1 ("no limit") too: a free looks through all of them.
const ENTRIES_MAX: usize = 1 << 16;

/// One end of an allocation's life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// Number of the thread.
    pub thread: u32,
    /// Its name.
    pub name: u16,
    /// Where.
    pub stack: StackId,
    /// When, in nanoseconds since 1970; 0: not yet.
    pub time_ns: u64,
}

/// An allocation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// First byte of the block.
    pub address: usize,
    /// Bytes asked for.
    pub requested: usize,
    /// Usable bytes.
    pub usable: usize,
    /// How it began.
    pub born: Event,
    /// How it ended.
    pub freed: Event,
}
// SAFETY: integers.
unsafe impl Zeroed for Entry {}

#[derive(Debug)]
struct Ring {
    entries: Array<Entry>,
    /// Allocations ever taken in.
    taken: u64,
}

/// The allocations.
#[derive(Debug)]
#[repr(C)]
pub struct Recent {
    /// As configured or set: −1 no limit, 0 none.
    wanted: AtomicIsize,
    ring: Mutex<Ring>,
}

const EMPTY: Ring = Ring { entries: Array::new(), taken: 0 };

impl Ring {
    /// Oldest first.
    fn in_order(&self) -> impl Iterator<Item = &Entry> {
        let entries = self.entries.as_slice();
        let kept = self.taken.min(entries.len() as u64);
        (self.taken - kept..self.taken).map(|number| &entries[(number % entries.len() as u64) as usize])
    }

    fn resize(&mut self, length: usize) -> bool {
        let mut resized = Ring { entries: Array::new(), taken: 0 };
        if length > 0 && !resized.entries.reserve(length) {
            return false;
        }
        let surplus = self.in_order().count().saturating_sub(length);
        if length > 0 {
            for entry in self.in_order().skip(surplus) {
                resized.entries.as_mut_slice()[resized.taken as usize] = *entry;
                resized.taken += 1;
            }
        }
        self.entries.release();
        *self = resized;
        true
    }
}

impl Recent {
    /// None.
    pub const fn new() -> Self {
        Recent { wanted: AtomicIsize::new(0), ring: Mutex::new(Rank::Stacks, EMPTY) }
    }

    /// `prof_recent_alloc_max`.
    pub fn wanted(&self) -> isize {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Whether any are kept.
    pub fn is_on(&self) -> bool {
        self.wanted() != 0
    }

    /// Keeps so many from now on; −1: as many as there can be. `false`: no memory.
    #[unsafe(link_section = "heapsift_text")]
    pub fn keep(&self, wanted: isize) -> bool {
        let length = usize::try_from(wanted).unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX);
        let mut ring = self.ring.lock();
        let changed = length == ring.entries.as_slice().len() || ring.resize(length);
        if changed {
            self.wanted.store(wanted, Ordering::Relaxed);
        }
        changed
    }

    /// Takes an allocation in; the oldest one goes.
    pub fn sampled(&self, entry: &Entry) {
        let mut ring = self.ring.lock();
        let at = ring.taken;
        let entries = ring.entries.as_mut_slice();
        if !entries.is_empty() {
            let at = (at % entries.len() as u64) as usize;
            entries[at] = *entry;
            ring.taken += 1;
        }
    }

    /// The block at `address` goes away.
    pub fn freed(&self, address: usize, event: &Event) {
        let mut ring = self.ring.lock();
        let live = |entry: &&mut Entry| entry.address == address && entry.freed.time_ns == 0;
        if let Some(entry) = ring.entries.as_mut_slice().iter_mut().find(live) {
            entry.freed = *event;
        }
    }

    /// What the lock has seen.
    pub fn lock_counts(&self) -> Counts {
        self.ring.counts()
    }

    /// Has it count afresh.
    pub fn reset_lock_counts(&self) {
        self.ring.reset_counts();
    }

    /// In the child of a fork: what was being changed is dropped.
    pub fn after_fork(&self) {
        self.ring.after_fork(|ring| *ring = EMPTY);
    }

    fn copy(&self) -> Result<Vec<Entry>, SinkError> {
        let mut copy = Vec::new();
        // Room is made without the lock.
        let length = self.ring.lock().entries.as_slice().len();
        copy.try_reserve_exact(length).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        let ring = self.ring.lock();
        copy.extend(ring.in_order().take(length));
        Ok(copy)
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self::new()
    }
}

/// jemalloc's names for one end of an allocation.
fn event(out: &mut Text<Vec<u8>>, profiler: &'static Profiler, event: &Event, of: &str) -> Result<(), SinkError> {
    let key = |out: &mut Text<Vec<u8>>, what: &[u8]| {
        out.put(b",\"")?;
        out.put(of.as_bytes())?;
        out.put(what)?;
        out.put(b"\":")
    };
    key(out, b"_thread_uid")?;
    out.number(event.thread.into())?;
    key(out, b"_thread_name")?;
    out.quoted(until_zero(&profiler.names.get(event.name)))?;
    key(out, b"_time")?;
    out.number(event.time_ns)?;
    key(out, b"_trace")?;
    out.addresses(profiler.stacks.get(event.stack).frames)
}

/// All of it as JSON.
fn json(profiler: &'static Profiler) -> Result<Vec<u8>, SinkError> {
    let entries = profiler.recent.copy()?;
    let mut out = Text::new(Vec::new());
    out.put(b"{\"sample_interval\":")?;
    out.number(profiler.settings.interval.load(Ordering::Relaxed))?;
    out.put(b",\"recent_alloc_max\":")?;
    let wanted = profiler.recent.wanted();
    if wanted < 0 {
        out.put(b"-1")?;
    } else {
        out.number(wanted as u64)?;
    }
    out.put(b",\"recent_alloc\":[")?;
    for (i, entry) in entries.iter().enumerate() {
        out.put(if i == 0 { b"{" } else { b",{" })?;
        out.fields(&[("size", entry.requested as u64), ("usize", entry.usable as u64)])?;
        let released = entry.freed.time_ns != 0;
        out.put(if released { b",\"released\":true" } else { b",\"released\":false" })?;
        event(&mut out, profiler, &entry.born, "alloc")?;
        if released {
            event(&mut out, profiler, &entry.freed, "dalloc")?;
        }
        out.put(b"}")?;
    }
    out.put(b"]}")?;
    out.finish()
}

fn enabled() -> Result<&'static Profiler, Code> {
    let profiler = HEAP.observer();
    if profiler.settings.enabled.load(Ordering::Relaxed) { Ok(profiler) } else { Err(Code::ENOENT) }
}

/// `experimental.prof_recent.alloc_max`.
pub fn alloc_max(call: &mut Call<'_>) -> Result<(), Code> {
    let profiler = enabled()?;
    let written = call.written::<isize>()?;
    let before = profiler.recent.wanted();
    if let Some(wanted) = written {
        if wanted < -1 {
            return Err(Code::EINVAL);
        }
        if wanted != 0 {
            profiler.watch();
        }
        if !profiler.recent.keep(wanted) {
            return Err(Code::EAGAIN);
        }
    }
    call.read(before)
}

/// What `experimental.prof_recent.alloc_dump` is written.
#[repr(C)]
#[derive(Clone, Copy)]
struct Receiver {
    write: usize,
    opaque: *mut c_void,
}
// SAFETY: an address and a pointer, no padding.
unsafe impl Plain for Receiver {}

/// `experimental.prof_recent.alloc_dump`.
pub fn alloc_dump(call: &mut Call<'_>) -> Result<(), Code> {
    let profiler = enabled()?;
    call.write_only()?;
    let receiver = call.written::<Receiver>()?.ok_or(Code::EINVAL)?;
    if receiver.write == 0 {
        return Err(Code::EINVAL);
    }
    // SAFETY: the caller passes a function of jemalloc's type for this.
    let write =
        unsafe { core::mem::transmute::<usize, unsafe extern "C" fn(*mut c_void, *const c_char)>(receiver.write) };
    let _suppressed = HEAP.suppress();
    let mut text = json(profiler).map_err(|_| Code::EAGAIN)?;
    push(&mut text, 0).map_err(|_| Code::EAGAIN)?;
    // SAFETY: a C string that lives during the call, and the caller's own pointer.
    unsafe { write(receiver.opaque, text.as_ptr().cast()) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: usize) -> Entry {
        Entry { address, ..Entry::default() }
    }

    #[test]
    fn the_newest_are_kept() {
        let recent = Recent::new();
        recent.sampled(&entry(1));
        assert!(recent.copy().unwrap().is_empty());
        assert!(recent.keep(3) && recent.is_on());
        (1..=5).for_each(|address| recent.sampled(&entry(address)));
        let addresses = || recent.copy().unwrap().iter().map(|entry| entry.address).collect::<Vec<_>>();
        assert_eq!(addresses(), [3, 4, 5]);
        recent.freed(4, &Event { time_ns: 9, thread: 2, ..Event::default() });
        assert_eq!(recent.copy().unwrap()[1].freed.thread, 2);
        assert!(recent.keep(2));
        assert_eq!(addresses(), [4, 5]);
        assert!(recent.keep(4));
        recent.sampled(&entry(6));
        assert_eq!(addresses(), [4, 5, 6]);
        assert!(recent.keep(0) && !recent.is_on());
        assert!(addresses().is_empty());
    }
}
