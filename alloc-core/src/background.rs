//! Background threads: they give unused pages back while the program is busy with other things, or idle.
//!
//! There are none until `background_thread:true` or the control name of the same name asks for them. The first one is
//! started then; it starts others, up to `max_background_threads`, when there are more arenas than threads. Each looks
//! after every so many arenas, and sleeps for a part of the decay time; when there is nothing unused, until a free says
//! that there is. Where memory is short, what is unused goes at once. A child of a fork has none until it asks. Where no other
//! thread is left they end, and the process with them.

use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use crate::arena::Arena;
use crate::decay::Tier;
use crate::first_thread::{self, OwnThread};
use crate::heap::Heap;
use crate::introspect::ArenaSelection;
use crate::lock::{Counts, Mutex, Rank};
use crate::message::{Decimal, warn};
use crate::observer::Observer;
use crate::sys::{self, extra};

/// The shortest sleep of a thread that has something to look after.
const SLEEP_NS_MIN: u64 = 10_000_000;
/// The same of one that has nothing, or only pages inside of slabs.
const SLEEP_NS_CALM: u64 = 100_000_000;
/// So often a thread that has something to look after asks whether memory is short.
const ASK_NS: u64 = 1_000_000_000;
/// Bytes of a thread's stack. Only what is used becomes resident.
const STACK_BYTES: usize = 256 << 10;

/// What a thread has done.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    runs: u64,
    slept_ns: u64,
}

/// A thread.
#[derive(Debug)]
struct Worker {
    thread: libc::pthread_t,
    done: Mutex<Done>,
}

/// The threads of a heap.
#[derive(Debug)]
pub(crate) struct Background {
    /// Taken to start and to stop threads.
    turn: Mutex<()>,
    enabled: AtomicBool,
    /// Whether they are to be started as soon as that is safe.
    due: AtomicBool,
    /// 1: the last one could not be started; 2: nor again, so no thread starts others until they are switched on anew.
    failed: AtomicU32,
    /// At most so many; 0: as configured.
    max: AtomicUsize,
    /// As many as the option allows, made when the first one starts.
    workers: AtomicPtr<Worker>,
}

/// How frees reach a thread that sleeps; part of what all arenas share.
#[derive(Debug)]
pub struct Alarm {
    /// Whether threads do the giving back, so that nobody else need to.
    on: AtomicBool,
    /// Threads that run.
    running: AtomicU32,
    /// What they sleep on, each for its bit; grows by [`RING`] with each alarm. [`STOP`] is in the same word: a thread that has
    /// not seen it would not sleep on what the word is now.
    word: AtomicU32,
}

/// Threads are to stop.
const STOP: u32 = 1;
const RING: u32 = 2;

impl Alarm {
    pub(crate) const fn new() -> Self {
        Alarm { on: AtomicBool::new(false), running: AtomicU32::new(0), word: AtomicU32::new(0) }
    }

    /// Whether threads do the giving back.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Wakes the thread that looks after an arena.
    #[cold]
    pub fn ring(&self, arena: usize) {
        self.ring_for(bit_of(self.thread_for(arena)));
    }

    /// The number of the thread that looks after an arena.
    fn thread_for(&self, arena: usize) -> usize {
        // Acquire: a thread's place is laid out before it is counted.
        arena % (self.running.load(Ordering::Acquire) as usize).max(1)
    }

    /// Wakes threads by their bits; all ones: all.
    pub(crate) fn ring_for(&self, bits: u32) {
        self.word.fetch_add(RING, Ordering::Release);
        extra::futex_wake_bits(&self.word, bits);
    }

    /// What there was to hear until now, for [`Alarm::sleep`]; `None`: threads are to stop.
    fn hear(&self) -> Option<u32> {
        // Acquire: pairs with the Release of whoever rings.
        let word = self.word.load(Ordering::Acquire);
        (word & STOP == 0).then_some(word)
    }

    /// Has thread `number` sleep until then, or until there is more to hear.
    fn sleep(&self, heard: u32, number: usize, until_ns: u64) {
        extra::futex_wait_bits_until(&self.word, heard, bit_of(number), until_ns);
    }

    /// Tells all threads to stop.
    fn stop(&self) {
        self.word.fetch_or(STOP, Ordering::Relaxed);
        extra::futex_wake_bits(&self.word, u32::MAX);
    }

    /// None runs any more.
    fn have_stopped(&self) {
        self.running.store(0, Ordering::Relaxed);
        self.word.fetch_and(!STOP, Ordering::Relaxed);
    }
}

/// A thread's bit in a futex's set. Those that share one are woken together, and find that there is nothing to do.
fn bit_of(number: usize) -> u32 {
    1 << (number % 32)
}

/// Numbers for `stats.background_thread`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackgroundStats {
    /// Threads that run.
    pub num_threads: usize,
    /// Rounds that they have made.
    pub num_runs: u64,
    /// Mean nanoseconds between two rounds.
    pub run_interval_ns: u64,
}

/// Whether constructors run already: before that, an allocation may come from the loader.
static CONSTRUCTED: AtomicBool = AtomicBool::new(false);

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructed;

/// Constructors run: the C library can start threads.
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn constructed() {
    CONSTRUCTED.store(true, Ordering::Relaxed);
}

impl Background {
    pub(crate) const fn new() -> Self {
        Background {
            turn: Mutex::new(Rank::Control, ()),
            enabled: AtomicBool::new(false),
            due: AtomicBool::new(false),
            failed: AtomicU32::new(0),
            max: AtomicUsize::new(0),
            workers: AtomicPtr::new(null_mut()),
        }
    }

    /// In the child of a fork: the threads aren't there.
    pub(crate) fn after_fork(&self, alarm: &Alarm) {
        self.turn.after_fork(|()| {});
        self.workers(alarm).for_each(|worker| worker.done.after_fork(|_| {}));
        self.enabled.store(false, Ordering::Relaxed);
        alarm.have_stopped();
        self.due.store(false, Ordering::Relaxed);
        alarm.on.store(false, Ordering::Relaxed);
    }

    fn worker(&self, i: usize) -> Option<&'static Worker> {
        let workers = self.workers.load(Ordering::Acquire);
        // SAFETY: the array has room for as many threads as may run, is laid out before any does, and stays for ever.
        (!workers.is_null()).then(|| unsafe { &*workers.add(i) })
    }

    /// Those that run.
    fn workers(&self, alarm: &Alarm) -> impl Iterator<Item = &'static Worker> {
        (0..alarm.running.load(Ordering::Acquire) as usize).filter_map(|i| self.worker(i))
    }
}

/// What a new thread is told: its number.
extern "C" fn run<O: Observer>(number: *mut c_void) -> *mut c_void {
    if let Some(heap) = crate::registry::the_heap::<O>() {
        let _own = OwnThread::begin();
        extra::set_thread_name(c"heapsift_bg");
        heap.work(number.addr());
    }
    null_mut()
}

impl<O: Observer> Heap<O> {
    /// Whether background threads are wanted.
    pub fn background_thread(&'static self) -> bool {
        let background = &self.core.background;
        background.enabled.load(Ordering::Relaxed) || background.due.load(Ordering::Relaxed)
    }

    /// The most that may run.
    pub fn max_background_threads(&'static self) -> usize {
        match self.core.background.max.load(Ordering::Relaxed) {
            0 => self.options().max_background_threads,
            max => max,
        }
    }

    /// Sets the most that may run; `false`: none, or more than the option allows. Those that run are started afresh.
    pub fn set_max_background_threads(&'static self, max: usize) -> bool {
        if max == 0 || max > self.options().max_background_threads {
            return false;
        }
        let was_on = self.background_thread();
        if was_on && max != self.max_background_threads() {
            self.set_background_thread(false);
            self.core.background.max.store(max, Ordering::Relaxed);
            return self.set_background_thread(true);
        }
        self.core.background.max.store(max, Ordering::Relaxed);
        true
    }

    /// As configured: notes that threads are wanted, for [`Heap::start_background_if_due`].
    pub(crate) fn want_background_threads(&'static self) {
        if self.options().background_thread {
            self.core.background.due.store(true, Ordering::Relaxed);
        }
    }

    /// Starts the first thread if it is wanted and missing. For the constructor of a library; in a Rust program slow
    /// operations come here.
    #[inline]
    pub fn start_background_if_due(&'static self) {
        if self.core.background.due.load(Ordering::Relaxed) && CONSTRUCTED.load(Ordering::Relaxed) {
            self.core.background.due.store(false, Ordering::Relaxed);
            self.set_background_thread(true);
        }
    }

    /// Starts background threads, or stops those that run and waits for their end. `false`: none could be started.
    pub fn set_background_thread(&'static self, on: bool) -> bool {
        self.start();
        let background = &self.core.background;
        // A thread that is starting one may come back here through an allocation.
        if background.turn.held_by_me() {
            return true;
        }
        let _turn = background.turn.lock();
        background.due.store(false, Ordering::Relaxed);
        if background.enabled.load(Ordering::Relaxed) == on {
            return true;
        }
        let alarm = &self.core.shared.alarm;
        if on {
            background.enabled.store(true, Ordering::Relaxed);
            alarm.on.store(true, Ordering::Relaxed);
            if self.start_worker() {
                return true;
            }
        }
        alarm.on.store(false, Ordering::Relaxed);
        alarm.stop();
        for worker in background.workers(alarm) {
            // SAFETY: a thread of ours that nobody else joins.
            unsafe { libc::pthread_join(worker.thread, null_mut()) };
        }
        alarm.have_stopped();
        background.enabled.store(false, Ordering::Relaxed);
        !on
    }

    /// Starts one more thread. The turn is this thread's.
    fn start_worker(&'static self) -> bool {
        let background = &self.core.background;
        let running = &self.core.shared.alarm.running;
        let i = running.load(Ordering::Relaxed) as usize;
        let mut workers = background.workers.load(Ordering::Acquire);
        if workers.is_null() {
            let count = self.options().max_background_threads;
            let bytes = count * core::mem::size_of::<Worker>();
            let Some(memory) = self.core.shared.allocate_metadata(bytes, 64) else { return false };
            workers = memory.cast();
            for i in 0..count {
                // SAFETY: fresh memory for so many.
                unsafe {
                    let done = Mutex::new(Rank::Control, Done { runs: 0, slept_ns: 0 });
                    workers.add(i).write(Worker { thread: 0, done });
                }
            }
            background.workers.store(workers, Ordering::Release);
        }
        // Before the thread runs: it takes its share of the arenas by this.
        running.store(i as u32 + 1, Ordering::Release);
        let errno = {
            // What the C library allocates for the thread is no work of the program's.
            let _suppressed = self.suppress();
            // SAFETY: the place of this thread, which doesn't run yet.
            unsafe { spawn(&raw mut (*workers.add(i)).thread, run::<O>, i) }
        };
        // While another thread calls `execve` the kernel starts none: a further one is tried once more, when one of ours wakes.
        let refused = errno != 0 && (i == 0 || errno != libc::EAGAIN || background.failed.load(Ordering::Relaxed) > 0);
        background.failed.store(u32::from(errno != 0) + u32::from(refused), Ordering::Relaxed);
        if errno != 0 {
            running.store(i as u32, Ordering::Release);
        }
        if refused {
            let number = Decimal::new(errno.unsigned_abs().into());
            warn(&[b"cannot start a background thread (errno ", number.as_bytes(), b")"]);
            if self.options().abort {
                crate::sys::abort();
            }
        }
        errno == 0
    }

    /// What thread `number` does until it is told to stop.
    fn work(&'static self, number: usize) {
        let _suppressed = self.suppress();
        let background = &self.core.background;
        let alarm = &self.core.shared.alarm;
        let Some(worker) = background.worker(number) else { return };
        // Whether there was nothing unused the last time that this thread slept to the end.
        let mut is_quiet = false;
        let mut ask_ns = 0;
        while let Some(heard) = alarm.hear().filter(|_| !first_thread::only_own_are_left()) {
            let mut next_ns = self.look_after_arenas(number);
            if next_ns != u64::MAX && sys::clock_monotonic_ns() >= ask_ns {
                if self.observer.is_memory_short() {
                    next_ns = self.purge_arenas(number);
                }
                ask_ns = sys::clock_monotonic_ns() + ASK_NS;
            }
            self.start_others();
            worker.done.lock().runs += 1;
            if next_ns == u64::MAX && is_quiet {
                self.my_arenas(number).for_each(|arena| arena.pages.have_alarm_rung());
                // A free that comes from here on finds that; one that came before is seen now.
                next_ns = self.next_look_ns(number, sys::clock_monotonic_ns());
            }
            let now_ns = sys::clock_monotonic_ns();
            // A program that goes to and fro between no unused page and a few doesn't ring each time.
            let until_ns = match next_ns {
                u64::MAX if is_quiet => u64::MAX,
                u64::MAX => now_ns + SLEEP_NS_CALM,
                _ => next_ns.min(ask_ns).max(now_ns + SLEEP_NS_MIN),
            };
            let longest_ns = if first_thread::has_ended() { now_ns + first_thread::ASK_NS } else { u64::MAX };
            alarm.sleep(heard, number, until_ns.min(longest_ns));
            let woke_ns = sys::clock_monotonic_ns();
            is_quiet = next_ns == u64::MAX && woke_ns >= until_ns;
            worker.done.lock().slept_ns += woke_ns - now_ns;
        }
    }

    /// The arenas that a thread looks after.
    fn my_arenas(&'static self, number: usize) -> impl Iterator<Item = &'static Arena> {
        let alarm = &self.core.shared.alarm;
        self.core.arenas.iter().filter(move |arena| alarm.thread_for(arena.index()) == number)
    }

    /// Gives back what is due in the arenas of a thread; when there will be more.
    fn look_after_arenas(&'static self, number: usize) -> u64 {
        let now_ns = sys::clock_monotonic_ns();
        for arena in self.my_arenas(number) {
            arena.pages.decay(&self.core.shared, now_ns);
            arena.give_back_idle_pages(now_ns, false);
        }
        self.next_look_ns(number, now_ns)
    }

    /// Gives back all that is unused in the arenas of a thread, where any of it ever goes; when there will be more.
    fn purge_arenas(&'static self, number: usize) -> u64 {
        for arena in self.my_arenas(number).filter(|arena| arena.pages.decay_ms(Tier::Dirty) >= 0) {
            self.arena_purge(ArenaSelection::One(arena.index() as u32));
        }
        self.next_look_ns(number, sys::clock_monotonic_ns())
    }

    /// When there will be something to give back in the arenas of a thread; all ones: there is nothing unused.
    fn next_look_ns(&'static self, number: usize, now_ns: u64) -> u64 {
        let each = self.my_arenas(number).map(|arena| {
            let idle_ns = arena.next_idle_pages_ns().max(now_ns + SLEEP_NS_CALM);
            arena.pages.next_look_ns(now_ns).min(idle_ns)
        });
        each.min().unwrap_or(u64::MAX)
    }

    /// One thread for each arena, as far as that is allowed.
    fn start_others(&'static self) {
        let background = &self.core.background;
        let most = self.core.arenas.iter().count().min(self.max_background_threads());
        let alarm = &self.core.shared.alarm;
        while (alarm.running.load(Ordering::Relaxed) as usize) < most && background.failed.load(Ordering::Relaxed) < 2 {
            // Somebody who stops the threads holds it, and waits for this one.
            let Some(_turn) = background.turn.try_lock() else { return };
            if alarm.hear().is_none() || !self.start_worker() {
                return;
            }
            // The arenas are shared out anew: one may have gone from a thread that has not looked at it yet to one that
            // sleeps.
            alarm.ring_for(u32::MAX);
        }
    }

    /// Numbers of the threads.
    pub fn background_stats(&'static self) -> BackgroundStats {
        let mut num_threads = 0;
        let mut sum = Done::default();
        for worker in self.core.background.workers(&self.core.shared.alarm) {
            num_threads += 1;
            let done = *worker.done.lock();
            sum.runs += done.runs;
            sum.slept_ns += done.slept_ns;
        }
        let run_interval_ns = sum.slept_ns.checked_div(sum.runs).unwrap_or(0);
        BackgroundStats { num_threads, num_runs: sum.runs, run_interval_ns }
    }

    /// What the lock for starting and stopping has seen, and the busiest thread's own.
    pub fn background_lock_counts(&'static self) -> (Counts, Counts) {
        let background = &self.core.background;
        let each = background.workers(&self.core.shared.alarm).map(|worker| worker.done.counts());
        (background.turn.counts(), each.max_by_key(|counts| counts.num_ops).unwrap_or(Counts::NONE))
    }

    /// Has these locks count afresh.
    pub(crate) fn reset_background_lock_counts(&'static self) {
        let background = &self.core.background;
        background.turn.reset_counts();
        background.workers(&self.core.shared.alarm).for_each(|worker| worker.done.reset_counts());
    }
}

/// Starts a thread with all signals blocked that can wait; an error number, 0: it runs.
///
/// # Safety
/// `thread` is writable.
unsafe fn spawn(thread: *mut libc::pthread_t, entry: extern "C" fn(*mut c_void) -> *mut c_void, number: usize) -> i32 {
    const EINVAL: i32 = 22;
    // Inherited by the thread.
    let before = extra::block_signals(extra::DEFERRABLE);
    let mut attributes = core::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: `attributes` is live memory for them, initialised by the first call and given back by the last; the entry
    // is a plain function that takes its argument for a number.
    let errno = unsafe {
        match libc::pthread_attr_init(attributes) {
            0 => {
                let create = |bytes| {
                    libc::pthread_attr_setstacksize(attributes, bytes);
                    libc::pthread_create(thread, attributes, entry, core::ptr::without_provenance_mut(number))
                };
                let mut errno = create(STACK_BYTES);
                if errno == EINVAL {
                    // The program's thread-local variables take more than that.
                    errno = create(STACK_BYTES + (8 << 20));
                }
                libc::pthread_attr_destroy(attributes);
                errno
            }
            errno => errno,
        }
    };
    extra::set_blocked_signals(before);
    errno
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_before_the_sleep_is_heard() {
        let (alarm, limit_ns) = (Alarm::new(), sys::clock_monotonic_ns() + 20_000_000_000);
        let heard = alarm.hear().unwrap();
        alarm.ring(0);
        alarm.sleep(heard, 0, limit_ns);
        let heard = alarm.hear().unwrap();
        alarm.stop();
        // Of two threads one has looked already, the other hasn't.
        assert!(alarm.hear().is_none());
        alarm.sleep(heard, 0, limit_ns);
        assert!(sys::clock_monotonic_ns() < limit_ns, "slept to the end");
        alarm.have_stopped();
        assert!(alarm.hear().is_some());
    }
}
