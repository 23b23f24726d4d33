//! The thread that starts dumps by time, memory and signal.

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use alloc_core::first_thread::OwnThread;
use alloc_core::message::{Decimal, warn};
use alloc_core::sys::{self, extra};

use crate::memory::{self, Groups};
use crate::naming::Trigger;
use crate::{HEAP, dump, helpers};

const MS: u64 = 1_000_000;
/// Nanoseconds between two looks at resident memory, at a limit, and at a limit that is near.
const LOOK_AT_GROWTH: u64 = 500 * MS;
const LOOK_AT_LIMIT: u64 = 250 * MS;
const LOOK_AT_NEAR_LIMIT: u64 = 100 * MS;
/// The process may be moved to another group.
const LOOK_AT_GROUPS: u64 = 5_000 * MS;
/// The thread looks around at least that often: options may change, and a signal may have come as it fell asleep.
const LONGEST_SLEEP: u64 = 500 * MS;
/// After a dump that failed (a full disk), the next is tried after this pause, and each further one after twice the
/// pause, up to the longest.
const PAUSE: u64 = 10_000 * MS;
const LONGEST_PAUSE: u64 = 600_000 * MS;

/// Signals that came, counted; also what the thread sleeps on.
static SIGNALS: AtomicU32 = AtomicU32::new(0);
/// What the program had for the signal before.
static PROGRAM_HANDLER: AtomicUsize = AtomicUsize::new(0);
static PROGRAM_TAKES_INFO: AtomicU32 = AtomicU32::new(0);
/// Marks a handler as installed.
static INSTALLED: AtomicU32 = AtomicU32::new(0);

/// Whether there is anything to watch for. The signal is, with profiling off too: it would end the program.
#[unsafe(link_section = "heapsift_text")]
pub fn wanted() -> bool {
    let settings = &HEAP.observer().settings;
    let triggers = &settings.triggers;
    triggers.signal.load(Ordering::Relaxed) != 0 || settings.enabled.load(Ordering::Relaxed) && triggers.need_a_thread()
}

/// Before the thread starts: a signal that comes now is counted already.
pub fn prepare() {
    let signal = HEAP.observer().settings.triggers.signal.load(Ordering::Relaxed);
    if signal != 0 {
        install(signal);
    }
}

/// In the child of a fork: signals were the parent's.
pub fn after_fork() {
    SIGNALS.store(0, Ordering::Relaxed);
}

/// The process ends: a dump that is being written is waited for, but not for long.
pub fn stop() {
    const MOST: u64 = 2_000 * MS;
    let give_up = sys::clock_monotonic_ns() + MOST;
    while dump::is_running() && sys::clock_monotonic_ns() < give_up {
        sleep(MS);
    }
}

fn sleep(nanoseconds: u64) {
    let nobody = AtomicU32::new(0);
    extra::futex_wait_for(&nobody, 0, nanoseconds);
}

/// The handler: says that the signal came, and nothing else.
extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
    sys::futex_wake(&SIGNALS, 1);
    let program: *mut c_void = core::ptr::with_exposed_provenance_mut(PROGRAM_HANDLER.load(Ordering::Relaxed));
    if program.is_null() {
        return;
    }
    // SAFETY: the program installed this function for this signal, as a handler of that kind.
    unsafe {
        if PROGRAM_TAKES_INFO.load(Ordering::Relaxed) != 0 {
            core::mem::transmute::<*mut c_void, extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)>(program)(
                signal, info, context,
            );
        } else {
            core::mem::transmute::<*mut c_void, extern "C" fn(c_int)>(program)(signal);
        }
    }
}

/// Has the signal counted. A handler that the program has already stays in effect behind ours; one that it installs
/// later takes the signal away.
fn install(signal: u32) {
    if INSTALLED.swap(signal, Ordering::Relaxed) == signal {
        return;
    }
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zero is a value of the structure: no flags, no handler, an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_signal as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
    // Interrupted calls of the program go on, and its own stack for signals is used where it has one.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: both structures are alive; what is asked for first is what was there.
    let answer = unsafe {
        let answer = libc::sigaction(signal as c_int, core::ptr::null(), before.as_mut_ptr());
        let before = before.assume_init();
        if answer == 0 && before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != libc::SIG_IGN {
            PROGRAM_TAKES_INFO.store(u32::from(before.sa_flags & libc::SA_SIGINFO != 0), Ordering::Relaxed);
            PROGRAM_HANDLER.store(before.sa_sigaction, Ordering::Relaxed);
        }
        libc::sigaction(signal as c_int, &raw const action, null_mut())
    };
    if answer != 0 {
        warn(&[b"prof_signal: signal ", Decimal::new(signal.into()).as_bytes(), b" can't be handled"]);
    }
}

/// Something that is looked at from time to time.
#[derive(Debug)]
struct Clock {
    next: u64,
}

impl Clock {
    /// Whether it is time; then the next time is `period` after this one, or after now if that is past.
    fn is_due(&mut self, now: u64, period: u64) -> bool {
        if now < self.next {
            return false;
        }
        let on_time = self.next.saturating_add(period);
        self.next = if on_time > now { on_time } else { now.saturating_add(period) };
        true
    }
}

/// Growth of resident memory since the lowest value after the last such dump.
#[derive(Debug)]
struct Growth {
    lowest: u64,
}

impl Growth {
    fn is_due(&mut self, resident: u64, percent: u64) -> bool {
        if self.lowest == 0 || resident < self.lowest {
            self.lowest = resident;
        }
        let due = u128::from(resident) * 100 >= u128::from(self.lowest) * (100 + u128::from(percent));
        if due {
            self.lowest = resident;
        }
        due
    }
}

/// Nearness of a limit, told once until it is far again.
#[derive(Debug)]
struct Nearness {
    told: bool,
}

impl Nearness {
    /// `stalled`: hundredths of a per cent.
    fn is_due(&mut self, used_percent: u64, stalled: u64, percent: u64) -> bool {
        const AT_EASE: u64 = 100;
        // Around the mark it must not be told again and again.
        const FAR: u64 = 5;
        if used_percent >= percent || stalled >= memory::STALLED {
            return !core::mem::replace(&mut self.told, true);
        }
        if used_percent + FAR <= percent && stalled <= AT_EASE {
            self.told = false;
        }
        false
    }
}

/// Puts dumps off while they fail.
#[derive(Debug)]
struct Pause {
    until: u64,
    length: u64,
}

impl Pause {
    fn dump(&mut self, now: u64, trigger: Trigger) {
        if now < self.until {
            return;
        }
        if dump::automatic(trigger).is_ok() {
            self.length = 0;
        } else {
            self.length = (self.length * 2).clamp(PAUSE, LONGEST_PAUSE);
            self.until = now.saturating_add(self.length);
        }
    }
}

/// The thread.
pub extern "C" fn run(_: *mut c_void) -> *mut c_void {
    let _own = OwnThread::begin();
    extra::set_thread_name(c"heapsift-watch");
    let triggers = &HEAP.observer().settings.triggers;
    let mut seen = SIGNALS.load(Ordering::Relaxed);
    // Signals that came before this thread was there count.
    let mut pending = seen != 0;
    let start = sys::clock_monotonic_ns();
    let mut groups = None;
    let mut groups_look = Clock { next: start };
    let interval = || triggers.interval_ms.load(Ordering::Relaxed).saturating_mul(MS);
    let mut time = Clock { next: start.saturating_add(interval()) };
    let (mut growth_look, mut limit_look) = (Clock { next: start }, Clock { next: start });
    let (mut growth, mut near) = (Growth { lowest: 0 }, Nearness { told: false });
    let mut pause = Pause { until: 0, length: 0 };
    while !helpers::done() {
        if core::mem::take(&mut pending) {
            // Somebody waits for it, and is told when it fails.
            let _ = dump::automatic(Trigger::Signal);
        }
        let now = sys::clock_monotonic_ns();
        let mut wake = now.saturating_add(LONGEST_SLEEP);
        if interval() != 0 {
            if time.is_due(now, interval()) {
                pause.dump(now, Trigger::Time);
            }
            wake = wake.min(time.next);
        }
        let percent = triggers.growth_percent.load(Ordering::Relaxed);
        if percent != 0 {
            if growth_look.is_due(now, LOOK_AT_GROWTH)
                && let Some(resident) = memory::resident_bytes()
                && growth.is_due(resident, percent.into())
            {
                pause.dump(now, Trigger::Resident);
            }
            wake = wake.min(growth_look.next);
        }
        let percent = u64::from(triggers.limit_percent.load(Ordering::Relaxed));
        if percent != 0 && groups_look.is_due(now, LOOK_AT_GROUPS) {
            groups = Groups::of_this_process();
        }
        if let Some(groups) = groups.filter(|_| percent != 0) {
            if limit_look.is_due(now, LOOK_AT_LIMIT) {
                let used = groups.usage(percent).map_or(0, |usage| usage.percent());
                if used + 10 >= percent {
                    limit_look.next = now.saturating_add(LOOK_AT_NEAR_LIMIT);
                }
                if near.is_due(used, groups.stalled().unwrap_or(0), percent) {
                    pause.dump(now, Trigger::Limit);
                }
            }
            wake = wake.min(limit_look.next);
        }
        let now = sys::clock_monotonic_ns();
        if SIGNALS.load(Ordering::Relaxed) == seen && wake > now {
            extra::futex_wait_for(&SIGNALS, seen, wake - now);
        }
        let count = SIGNALS.load(Ordering::Relaxed);
        pending = count != seen;
        seen = count;
    }
    null_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_keeps_time_and_skips_what_it_missed() {
        let mut clock = Clock { next: 100 };
        assert!(!clock.is_due(99, 10));
        assert!(clock.is_due(100, 10) && clock.next == 110);
        assert!(clock.is_due(113, 10) && clock.next == 120);
        assert!(clock.is_due(1_000, 10) && clock.next == 1_010);
        assert!(!clock.is_due(1_009, 10));
        let mut far = Clock { next: u64::MAX };
        assert!(!far.is_due(5, u64::MAX));
    }

    #[test]
    fn the_programs_handler_runs_after_ours() {
        static COUNTED: AtomicU32 = AtomicU32::new(0);
        extern "C" fn count(_: c_int) {
            COUNTED.fetch_add(1, Ordering::Relaxed);
        }
        let before = SIGNALS.load(Ordering::Relaxed);
        // SAFETY: a plain function that counts; the signal is used by nothing else here, and sent to this thread.
        unsafe {
            libc::signal(libc::SIGURG, count as extern "C" fn(c_int) as usize);
            install(libc::SIGURG as u32);
            install(libc::SIGURG as u32);
            libc::raise(libc::SIGURG);
        }
        assert_eq!((COUNTED.load(Ordering::Relaxed), SIGNALS.load(Ordering::Relaxed)), (1, before + 1));
    }

    #[test]
    fn growth_is_counted_from_the_lowest_point() {
        let mut growth = Growth { lowest: 0 };
        for (resident, due) in [
            (1000, false),
            (1199, false),
            (1200, true),
            (1300, false),
            (1440, true),
            (500, false),
            (599, false),
            (600, true),
            (700, false),
        ] {
            assert_eq!(growth.is_due(resident, 20), due, "{resident}");
        }
    }

    #[test]
    fn a_near_limit_is_told_once() {
        let mut near = Nearness { told: false };
        for (used, stalled, due) in [
            (50, 0, false),
            (90, 0, true),
            (95, 0, false),
            (88, 0, false),
            (91, 0, false),
            (85, 0, false),
            (90, 0, true),
            (20, 0, false),
            (20, 1500, true),
            (20, 500, false),
            (20, 1500, false),
            (20, 50, false),
            (20, 1000, true),
        ] {
            assert_eq!(near.is_due(used, stalled, 90), due, "{used} {stalled}");
        }
    }
}
