//! `malloc_stats_print`: the heap's numbers for people, or as JSON.
//!
//! Takes the statistics afresh, as a write to `epoch` does. Text goes out piece by piece through a callback; no lock is
//! held while it runs. The letters, the JSON keys and the tables are jemalloc's.

mod json;
pub mod metrics;
mod options;
mod text;

use core::alloc::Layout;
use core::fmt::{self, Write};

use crate::ctl::HeapControl;
use crate::snapshot::Which;
use crate::stats::ArenaStats;

/// Which parts are wanted.
#[derive(Clone, Copy, Debug)]
struct Parts {
    json: bool,
    general: bool,
    merged: bool,
    destroyed: bool,
    arenas: bool,
    bins: bool,
    large: bool,
    mutexes: bool,
    extents: bool,
    huge_pages: bool,
}

impl Parts {
    fn from_letters(letters: &[u8]) -> Self {
        let without = |letter: u8| !letters.contains(&letter);
        Parts {
            json: !without(b'J'),
            general: without(b'g'),
            merged: without(b'm'),
            destroyed: without(b'd'),
            arenas: without(b'a'),
            bins: without(b'b'),
            large: without(b'l'),
            mutexes: without(b'x'),
            extents: without(b'e'),
            huge_pages: without(b'h'),
        }
    }
}

/// Whom to ask for sums of samples by class, where they are told: they are those of all arenas.
type Samples = Option<&'static dyn HeapControl>;

/// Bytes of a piece.
const PIECE_BYTES: usize = 32 << 10;

/// What a report needs besides a little stack.
struct Work {
    buffer: [u8; PIECE_BYTES],
    arena: ArenaStats,
}

/// Collects text into C strings for the callback.
struct Out<'a> {
    sink: &'a mut dyn FnMut(&[u8]),
    buffer: &'a mut [u8; PIECE_BYTES],
    used: usize,
}

impl Out<'_> {
    fn flush(&mut self) {
        if self.used > 0 {
            self.buffer[self.used] = 0;
            (self.sink)(&self.buffer[..=self.used]);
            self.used = 0;
        }
    }
}

impl Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.used == PIECE_BYTES - 1 {
                self.flush();
            }
            // A zero byte would end the C string early.
            let n = rest.len().min(PIECE_BYTES - 1 - self.used);
            self.buffer[self.used..self.used + n].copy_from_slice(&rest[..n]);
            self.used += n;
            rest = &rest[n..];
        }
        Ok(())
    }
}

/// What an observer adds to the metrics.
pub type MoreMetrics<'a> = dyn FnMut(&mut dyn Write) -> fmt::Result + 'a;

/// Writes all numbers as OpenMetrics text; `more` writes families of its own before the end. `sink` gets pieces that end in
/// a zero byte.
pub fn print_metrics(heap: &'static dyn HeapControl, more: &mut MoreMetrics<'_>, sink: &mut dyn FnMut(&[u8])) {
    with_work(heap, sink, &mut |arena, out| {
        metrics::write(heap, arena, out)?;
        more(out)?;
        out.write_str("# EOF\n")
    });
}

/// Writes the report. `sink` gets pieces that end in a zero byte.
pub fn print(heap: &'static dyn HeapControl, letters: &[u8], sink: &mut dyn FnMut(&[u8])) {
    let parts = Parts::from_letters(letters);
    with_work(heap, sink, &mut |arena, out| {
        if parts.json { json::write(heap, parts, arena, out) } else { text::write(heap, parts, arena, out) }
    });
}

/// Takes statistics, and has them written with what a report needs.
fn with_work(
    heap: &'static dyn HeapControl,
    sink: &mut dyn FnMut(&[u8]),
    write: &mut dyn FnMut(&mut ArenaStats, &mut Out<'_>) -> fmt::Result,
) {
    heap.refresh_snapshot();
    let layout = Layout::new::<Work>();
    let work = heap.internal_allocate(layout).cast::<Work>();
    if work.is_null() {
        crate::message::warn(&[b"no memory to print statistics"]);
        return;
    }
    // SAFETY: a fresh block of that layout; any bytes are a buffer, and `clear` makes the rest numbers.
    unsafe {
        (*work).arena.clear();
        let mut out = Out { sink, buffer: &mut (*work).buffer, used: 0 };
        // Writing into `Out` can't fail.
        let _ = write(&mut (*work).arena, &mut out);
        out.flush();
        heap.internal_deallocate(work.cast(), layout);
    }
}

/// Copies an arena's numbers out of the snapshot; `false`: there are none.
fn load(heap: &'static dyn HeapControl, which: Which, into: &mut ArenaStats) -> bool {
    let snapshot = heap.snapshot().lock();
    let found = snapshot.arena(which);
    if let Some(found) = found {
        into.clone_from(found);
    }
    found.is_some()
}

/// Arenas that there are.
fn initialized(heap: &'static dyn HeapControl) -> usize {
    let snapshot = heap.snapshot().lock();
    (0..snapshot.narenas).filter(|&index| snapshot.arena(Which::One(index)).is_some()).count()
}
