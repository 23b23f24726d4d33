//! From ticks of the processor to nanoseconds.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc_core::sys;

/// Measures how long a tick is.
#[derive(Debug)]
pub struct Clock {
    first_ticks: AtomicU64,
    first_ns: AtomicU64,
    /// Nanoseconds in 2^24 ticks, as measured last.
    scale: AtomicU64,
    /// So many ticks after the start that is measured again: each time after twice as many, until it is exact enough.
    good_for: AtomicU64,
}

/// So long is measured for the scale: its error is below one in ten thousand then.
const MEASURE_NS: u64 = 100_000_000;
const LG_UNIT: u32 = 24;

impl Clock {
    /// One that wasn't started.
    pub const fn new() -> Self {
        Clock {
            first_ticks: AtomicU64::new(0),
            first_ns: AtomicU64::new(0),
            scale: AtomicU64::new(0),
            good_for: AtomicU64::new(0),
        }
    }

    /// Begins to measure, if that has not begun.
    pub fn start(&self) {
        if self.first_ns.load(Ordering::Relaxed) == 0 {
            let (ticks, ns) = sys::moment();
            self.first_ticks.store(ticks, Ordering::Relaxed);
            self.first_ns.store(ns, Ordering::Relaxed);
        }
    }

    /// Nanoseconds from then, in ticks, to now.
    pub fn nanoseconds_since(&self, then: u64) -> u64 {
        let now = sys::ticks();
        if now.wrapping_sub(self.first_ticks.load(Ordering::Relaxed)) >= self.good_for.load(Ordering::Relaxed) {
            self.measure();
        }
        // A processor whose ticks lag behind those of the one that read the others must not make a block older than the process.
        let ticks = now.wrapping_sub(then).cast_signed().max(0).cast_unsigned();
        let scale = self.scale.load(Ordering::Relaxed);
        ((u128::from(ticks) * u128::from(scale)) >> LG_UNIT).min(u64::MAX.into()) as u64
    }

    /// Measures the scale: some system calls, which take longer than all the rest of a sample.
    #[cold]
    fn measure(&self) {
        let (ticks, ns) = sys::moment();
        let ns = ns.saturating_sub(self.first_ns.load(Ordering::Relaxed)).max(1);
        let passed = ticks.wrapping_sub(self.first_ticks.load(Ordering::Relaxed)).max(1);
        let scale = ((u128::from(ns) << LG_UNIT) / u128::from(passed)).clamp(1, u64::MAX.into()) as u64;
        self.scale.store(scale, Ordering::Relaxed);
        let good_for = if ns >= MEASURE_NS { u64::MAX } else { passed.saturating_mul(2) };
        self.good_for.store(good_for, Ordering::Relaxed);
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_take_as_long_as_the_clock_says() {
        static CLOCK: Clock = Clock::new();
        CLOCK.start();
        // However long the thread has to wait for the processor between two clocks.
        let (before_start, start, after_start) = (sys::clock_monotonic_ns(), sys::ticks(), sys::clock_monotonic_ns());
        for pause_ms in [1, 10, 120] {
            std::thread::sleep(std::time::Duration::from_millis(pause_ms));
            let least = (sys::clock_monotonic_ns() - after_start) as f64;
            let told = CLOCK.nanoseconds_since(start) as f64;
            let most = (sys::clock_monotonic_ns() - before_start) as f64;
            assert!((least * 0.95..=most * 1.05).contains(&told), "{told} of {least} to {most}");
        }
        assert_eq!(CLOCK.nanoseconds_since(sys::ticks() + (1 << 40)), 0);
        // Exact enough, for good.
        assert_eq!(CLOCK.good_for.load(Ordering::Relaxed), u64::MAX);
    }
}
