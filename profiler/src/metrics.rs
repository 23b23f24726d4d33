//! All numbers of the allocator and the profiler as OpenMetrics text, in one call.
//!
//! ```
//! let mut text = Vec::new();
//! heapsift::metrics::print(&mut |piece| text.extend_from_slice(piece));
//! assert!(text.ends_with(b"# EOF\n"));
//! ```

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use alloc_core::report::metrics::{Metric, single};

use crate::{HEAP, memory};

pub use alloc_core::report::metrics::CONTENT_TYPE;

/// Gives `sink` the text, piece by piece. Takes statistics afresh, and no lock is held while `sink` runs. Without memory
/// for it, a line on the standard error output says so, and nothing is given.
pub fn print(sink: &mut dyn FnMut(&[u8])) {
    print_c(&mut |piece| sink(piece.strip_suffix(b"\0").unwrap_or(piece)));
}

/// As [`print`], in pieces that end in a zero byte.
pub fn print_c(sink: &mut dyn FnMut(&[u8])) {
    HEAP.ensure_booted();
    alloc_core::report::print_metrics(&HEAP, &mut profiler_families, sink);
}

/// What the profiler adds to the heap's own families.
fn profiler_families(out: &mut dyn Write) -> fmt::Result {
    use Metric::{Counter, Gauge};
    let profiler = HEAP.observer();
    let settings = &profiler.settings;
    let enabled = settings.enabled.load(Ordering::Relaxed);
    let active = enabled && settings.active.load(Ordering::Relaxed);
    single(out, "heapsift_profiling_enabled", Gauge, "", "1 while there is a profile.", enabled.into())?;
    single(out, "heapsift_profiling_active", Gauge, "", "1 while allocations are sampled.", active.into())?;
    let interval = settings.interval.load(Ordering::Relaxed);
    let help = "Mean bytes between two samples.";
    single(out, "heapsift_sample_interval_bytes", Gauge, "bytes", help, interval)?;
    let samples = profiler.buckets.taken();
    single(out, "heapsift_samples", Counter, "", "Samples taken.", samples)?;
    let incomplete = profiler.incomplete.load(Ordering::Relaxed);
    let help = "Samples whose stack doesn't reach the start of its thread.";
    single(out, "heapsift_incomplete_samples", Counter, "", help, incomplete)?;
    let dropped = profiler.buckets.dropped() + profiler.records.dropped();
    single(out, "heapsift_dropped_samples", Counter, "", "Samples for which there was no memory.", dropped)?;
    let stacks = (profiler.stacks.count() as u64).saturating_sub(1);
    single(out, "heapsift_stacks", Gauge, "", "Different stacks that were sampled.", stacks)?;
    if profiler.peak.is_on() {
        let help = "Most usable bytes that were allocated at one time, since the watch for it began.";
        single(out, "heapsift_peak_allocated_bytes", Gauge, "bytes", help, profiler.peak.maximum())?;
    }
    if let Some(resident) = memory::resident_bytes() {
        let help = "Resident memory of the whole process.";
        single(out, "heapsift_process_resident_bytes", Gauge, "bytes", help, resident)?;
    }
    Ok(())
}
