//! Programs that lock themselves in a sandbox: from then on a system call that it doesn't know may be the process's end.
//!
//! What heaps ask of the kernel for memory a sandbox knows. The time it often doesn't, since the C library has that
//! without a system call; so the clocks go on by the processor's ticks, at the rate that they had before.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{TRIES, extra, moment};

static IS_ENTERED: AtomicBool = AtomicBool::new(false);
static IN_SANDBOX: AtomicBool = AtomicBool::new(false);
static ARE_TICKS_FORBIDDEN: AtomicBool = AtomicBool::new(false);
static TICKS: AtomicU64 = AtomicU64::new(0);
static MONOTONIC_NS: AtomicU64 = AtomicU64::new(0);
static REALTIME_NS: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds of a tick, times 2^32.
static NS_PER_TICK: AtomicU64 = AtomicU64::new(0);

/// For so long the ticks are compared with the clock, which is good for a thousandth.
const COMPARED_NS: u64 = 100_000;

/// The program is about to have the kernel refuse it what it doesn't need.
pub fn enter_sandbox() {
    if IS_ENTERED.swap(true, Ordering::Relaxed) {
        return;
    }
    let (first_ticks, first_ns) = moment();
    while super::clock_monotonic_ns().wrapping_sub(first_ns) < COMPARED_NS {}
    let (last_ticks, last_ns) = moment();
    let rate = ((last_ns - first_ns) << 32).checked_div(last_ticks.wrapping_sub(first_ticks));
    NS_PER_TICK.store(rate.unwrap_or(0), Ordering::Relaxed);
    TICKS.store(last_ticks, Ordering::Relaxed);
    MONOTONIC_NS.store(last_ns, Ordering::Relaxed);
    // A wait between the two makes it less.
    let ahead = || super::clock_realtime_ns().wrapping_sub(super::clock_monotonic_ns());
    let ahead_ns = core::iter::repeat_with(ahead).take(TRIES).max().unwrap_or_default();
    REALTIME_NS.store(last_ns.wrapping_add(ahead_ns), Ordering::Relaxed);
    // Release: whoever finds it finds the clocks.
    IN_SANDBOX.store(true, Ordering::Release);
}

/// Whether the kernel is asked for memory only: anything else may be the process's end.
#[inline]
pub fn in_sandbox() -> bool {
    IN_SANDBOX.load(Ordering::Acquire)
}

/// The program is about to have the processor fault where its ticks are read, as the strictest of sandboxes does.
pub fn forbid_ticks() {
    ARE_TICKS_FORBIDDEN.store(true, Ordering::Relaxed);
}

/// Whether it has.
#[inline]
pub(super) fn are_ticks_forbidden() -> bool {
    ARE_TICKS_FORBIDDEN.load(Ordering::Relaxed)
}

/// What stands for the processor's ticks then: nanoseconds. In a sandbox, where there are no clocks either, time stands still.
#[cold]
pub(super) fn ticks() -> u64 {
    if in_sandbox() { TICKS.load(Ordering::Relaxed) } else { super::clock_monotonic_ns() }
}

/// Whether system calls are filtered, be it by whoever has started the program (systemd's `SystemCallFilter=`, a container): a
/// filter may end the process for a call that hardly any program makes.
pub fn is_filtered() -> bool {
    const PR_GET_SECCOMP: usize = 21;
    // SAFETY: touches no memory.
    in_sandbox() || unsafe { extra::process_control(PR_GET_SECCOMP, [0; 4]) } != Ok(0)
}

/// A clock in a sandbox, in nanoseconds.
#[cold]
pub(super) fn clock_ns(is_realtime: bool) -> u64 {
    let base_ns = if is_realtime { &REALTIME_NS } else { &MONOTONIC_NS };
    let passed = u128::from(super::ticks().wrapping_sub(TICKS.load(Ordering::Relaxed)));
    let passed_ns = (passed * u128::from(NS_PER_TICK.load(Ordering::Relaxed))) >> 32;
    base_ns.load(Ordering::Relaxed).wrapping_add(passed_ns as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn clocks_go_on_in_a_sandbox() {
        extern crate std;
        const MOST_OFF_NS: u64 = 5_000_000;
        enter_sandbox();
        assert!(in_sandbox());
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut real_ns = |clock| {
            // SAFETY: `time` is alive.
            unsafe { libc::clock_gettime(clock, &raw mut time) };
            time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
        };
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            for (clock, told_ns) in [
                (libc::CLOCK_MONOTONIC, sys::clock_monotonic_ns as fn() -> u64),
                (libc::CLOCK_MONOTONIC, sys::clock_coarse_ns),
                (libc::CLOCK_REALTIME, sys::clock_realtime_ns),
            ] {
                // However long the thread has to wait for the processor between them.
                let (before, told, after) = (real_ns(clock), told_ns(), real_ns(clock));
                assert!((before - MOST_OFF_NS..=after + MOST_OFF_NS).contains(&told), "{before} {told} {after}");
            }
        }
    }
}
