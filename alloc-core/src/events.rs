//! What happens to a thread after so many bytes: a sample, a line of statistics, a program's callback, a look at the
//! thread's peak, one through its caches.
//!
//! The fast path counts one number down, to whichever of these comes first ([`Heap::arm`]). When it runs out, the slow
//! path looks at all of them ([`Heap::alarm`]), by the thread's exact counters of allocated and freed bytes.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::heap::Heap;
use crate::lock::{Mutex, Rank};
use crate::observer::{Block, Observer};
use crate::request::LOOK_TICKS;
use crate::sys::{self, Entry};
use crate::thread::{Kind, Thread};

mod peak;

/// Most callbacks of programs (jemalloc's number).
pub const HOOKS_MAX: usize = 4;
pub(crate) const NEVER: u64 = u64::MAX;
/// Bytes between two looks at a thread's peak.
const PEAK_STEP: u64 = 64 << 10;
/// Bytes between two looks through a thread's caches: at first, at least (as jemalloc's), and at most.
const LOOK_STEP: u64 = 1 << 20;
const LOOK_STEP_LEAST: u64 = 64 << 10;
const LOOK_STEP_MOST: u64 = 16 << 20;
/// Most bytes that a thread counts by itself towards `stats_interval`.
const STATS_STEP_MAX: u64 = 4 << 20;

/// A program's callback: whether bytes were allocated or freed, and the thread's totals of both.
pub type Callback = unsafe extern "C" fn(bool, u64, u64);

/// When a thread's events are due, in bytes of its own counters.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Events {
    /// A sample is due when more bytes than this have been allocated.
    pub(crate) sample_at: u64,
    /// Something else is: the first of all below, see [`Events::plan`].
    others_at: u64,
    /// The first of the callbacks that want to know of frees.
    pub(crate) deallocated_at: u64,
    /// A guarded block is due with the block that passes this.
    pub(crate) guard_at: u64,
    stats_at: u64,
    peak_at: u64,
    /// Most bytes in use by the thread's own balance, since the start or the last reset.
    peak: u64,
    /// That balance at the last reset, from which it counts.
    peak_from: u64,
    /// How many callbacks the thread knows of.
    hooks: u32,
    hook_allocated_at: [u64; HOOKS_MAX],
    hook_deallocated_at: [u64; HOOKS_MAX],
    /// A look through the caches is due. Threads that find all they need there come to no other one, and those that do
    /// little would keep what they needed when they did much.
    look_at: u64,
    /// Bytes to the one after that.
    look_step: u64,
}

impl Events {
    pub(crate) const NONE: Events = Events {
        sample_at: NEVER,
        others_at: NEVER,
        deallocated_at: NEVER,
        guard_at: NEVER,
        stats_at: NEVER,
        peak_at: NEVER,
        peak: 0,
        peak_from: 0,
        hooks: 0,
        hook_allocated_at: [NEVER; HOOKS_MAX],
        hook_deallocated_at: [NEVER; HOOKS_MAX],
        look_at: NEVER,
        look_step: LOOK_STEP,
    };

    /// Notes the first of what isn't a sample, after any of that was changed. What is due at a number of bytes is due when
    /// more than one less have been allocated.
    pub(crate) fn plan(&mut self) {
        let hooks = self.hook_allocated_at.iter().fold(NEVER, |first, &at| first.min(at));
        let others = self.stats_at.min(self.peak_at).min(self.look_at);
        self.others_at = self.guard_at.min(hooks.min(others).saturating_sub(1));
    }
}

/// A program's callback and how often it wants to be called.
#[derive(Debug)]
struct Hook {
    callback: AtomicUsize,
    interval: AtomicU64,
    alloc_only: AtomicU32,
}

impl Hook {
    fn get(&self) -> (usize, u64, u32) {
        let interval = self.interval.load(Ordering::Relaxed);
        (self.callback.load(Ordering::Relaxed), interval, self.alloc_only.load(Ordering::Relaxed))
    }
}

/// What all threads share of this.
#[derive(Debug)]
pub(crate) struct SharedEvents {
    hooks: [Hook; HOOKS_MAX],
    /// Callbacks in place; written under `adding`, after the callback's own fields.
    count: AtomicU32,
    adding: Mutex<()>,
    /// Bytes allocated since statistics were printed.
    stats_bytes: AtomicU64,
}

impl SharedEvents {
    pub(crate) const fn new() -> Self {
        SharedEvents {
            hooks: [const {
                Hook { callback: AtomicUsize::new(0), interval: AtomicU64::new(0), alloc_only: AtomicU32::new(0) }
            }; HOOKS_MAX],
            count: AtomicU32::new(0),
            adding: Mutex::new(Rank::Control, ()),
            stats_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn after_fork(&self) {
        self.adding.after_fork(|()| {});
    }
}

impl<O: Observer> Heap<O> {
    /// Sets a new thread's events.
    ///
    /// # Safety
    /// `thread` is the calling thread's own live state.
    pub(crate) unsafe fn start_events(&'static self, thread: *mut Thread) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.options().stats_interval >= 0 {
                (*thread).events.stats_at = (*thread).allocated + self.stats_step();
            }
            (*thread).events.look_at = (*thread).allocated + LOOK_STEP;
            self.take_hooks(thread);
            if O::ENABLED {
                self.draw_guard(thread, (*thread).allocated);
            }
            (*thread).events.plan();
            self.draw_wait(thread);
        }
    }

    /// Draws a new wait for the thread's next sample, and returns it.
    ///
    /// # Safety
    /// `thread` is the calling thread's own live state.
    pub(crate) unsafe fn draw_wait(&'static self, thread: *mut Thread) -> u64 {
        let mut wait = NEVER;
        // SAFETY: the caller's promise.
        unsafe {
            if O::ENABLED {
                (*thread).depth += 1;
                wait = self.observer.next_wait(&mut (*thread).slot);
                (*thread).depth -= 1;
                (*thread).events.sample_at = (*thread).allocated.saturating_add(wait);
            }
            Self::arm(thread);
        }
        wait
    }

    /// The thread's wait has run out in its last `usable_bytes`, which are a block's: draws the next one. Returns whether
    /// the block is a sample.
    ///
    /// # Safety
    /// `thread` is the calling thread's own live state.
    #[inline]
    unsafe fn ends_wait(&'static self, thread: *mut Thread, usable_bytes: usize) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            if self.observer.is_wait_void(&(*thread).slot) {
                return self.ends_void_wait(thread, usable_bytes);
            }
            self.draw_wait(thread);
            true
        }
    }

    /// The same for a wait that is void. Waits have no memory: a fresh one goes on where that one ended, or where the block
    /// begins, of which the void wait says nothing.
    ///
    /// # Safety
    /// As [`Heap::ends_wait`].
    #[cold]
    unsafe fn ends_void_wait(&'static self, thread: *mut Thread, usable_bytes: usize) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let left = ((*thread).allocated - (*thread).events.sample_at).min(usable_bytes as u64);
            if (*thread).depth == 0 {
                // What the wait was shorter for.
                (*thread).depth += 1;
                self.observer.deferred(&mut (*thread).slot);
                (*thread).depth -= 1;
            }
            let wait = self.draw_wait(thread);
            if self.observer.is_wait_void(&(*thread).slot) || wait >= left {
                (*thread).events.sample_at = (*thread).allocated.saturating_add(wait.saturating_sub(left));
                Self::arm(thread);
                return false;
            }
            self.draw_wait(thread);
            true
        }
    }

    /// Sets the countdown of the fast path to the first event.
    unsafe fn arm(thread: *mut Thread) {
        // SAFETY: the caller's promise. Waits are below 2^63, which a countdown that has run out is not.
        unsafe {
            let events = &(*thread).events;
            let left = events.sample_at.min(events.others_at).saturating_sub((*thread).allocated);
            (*thread).countdown = left.min(i64::MAX as u64);
        }
    }

    /// The countdown ran out at this block, which the thread's counter includes already.
    ///
    /// # Safety
    /// `thread` is the calling thread's own live state, `address` a block of its caller's.
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn alarm(
        &'static self,
        thread: *mut Thread,
        address: usize,
        requested_bytes: usize,
        usable_bytes: usize,
        entry: &Entry,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let allocated = (*thread).allocated;
            if O::ENABLED && allocated > (*thread).events.sample_at {
                let extent = self.core.shared.map.extent(address);
                sys::prefetch_for_write(extent);
                if self.ends_wait(thread, usable_bytes) && (*thread).depth == 0 {
                    (*thread).depth += 1;
                    let arena = self.ask_for_sample(extent, address);
                    let event = Block { address, arena, requested_bytes, usable_bytes, entry: *entry };
                    if self.observer.sampled(&mut (*thread).slot, &event) {
                        self.flag(extent, address, true);
                    }
                    self.observer.deferred(&mut (*thread).slot);
                    (*thread).depth -= 1;
                }
            }
            if allocated > (*thread).events.others_at {
                if O::ENABLED && self.observer.is_wait_void(&(*thread).slot) {
                    // The settings were changed while it was being drawn, and it was written over what was to end it.
                    (*thread).events.sample_at = 0;
                }
                if O::ENABLED && allocated > (*thread).events.guard_at {
                    // That block could not be guarded.
                    self.draw_guard(thread, allocated);
                }
                self.other_events(thread);
                (*thread).events.plan();
            }
            Self::arm(thread);
        }
    }

    unsafe fn other_events(&'static self, thread: *mut Thread) {
        // SAFETY: the caller's promise.
        unsafe {
            let allocated = (*thread).allocated;
            if allocated >= (*thread).events.peak_at {
                (*thread).events.peak_at = allocated + PEAK_STEP;
                Self::note_peak(thread);
            }
            if allocated >= (*thread).events.stats_at {
                let step = self.stats_step();
                let bytes = allocated - ((*thread).events.stats_at - step);
                (*thread).events.stats_at = allocated + step;
                self.count_towards_stats(thread, bytes);
            }
            if allocated >= (*thread).events.look_at {
                // About one each time that there may be one, however much or little the thread does.
                let step = u128::from((*thread).events.look_step);
                let step = match self.look_after(thread) {
                    Some(ticks) => step * u128::from(LOOK_TICKS) / u128::from(ticks),
                    None => step * 2,
                };
                let step = step.clamp(LOOK_STEP_LEAST.into(), LOOK_STEP_MOST.into()) as u64;
                (*thread).events.look_step = step;
                (*thread).events.look_at = allocated + step;
            }
            self.take_hooks(thread);
            if (*thread).depth > 0 {
                // A callback's own allocation: what is due waits until it is done.
                return;
            }
            for i in 0..(*thread).events.hooks as usize {
                if allocated >= (*thread).events.hook_allocated_at[i] {
                    (*thread).events.hook_allocated_at[i] = allocated + self.core.events.interval(i);
                    self.call_hook(thread, i, true, (*thread).deallocated());
                }
            }
        }
    }

    /// The thread, some of whose callbacks want to know of frees, frees `bytes`, not counted yet.
    ///
    /// # Safety
    /// `thread` is the calling thread's own live state.
    #[cold]
    pub(crate) unsafe fn deallocation_events(&'static self, thread: *mut Thread, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let deallocated = (*thread).deallocated().wrapping_add(bytes as u64);
            if deallocated < (*thread).events.deallocated_at || (*thread).depth > 0 {
                return;
            }
            for i in 0..(*thread).events.hooks as usize {
                if deallocated >= (*thread).events.hook_deallocated_at[i] {
                    (*thread).events.hook_deallocated_at[i] = deallocated + self.core.events.interval(i);
                    self.call_hook(thread, i, false, deallocated);
                }
            }
            let events = &mut (*thread).events;
            events.deallocated_at = events.hook_deallocated_at.iter().fold(NEVER, |first, &at| first.min(at));
        }
    }

    unsafe fn call_hook(&'static self, thread: *mut Thread, i: usize, is_allocation: bool, deallocated: u64) {
        let address = self.core.events.hooks[i].callback.load(Ordering::Relaxed);
        // SAFETY: `add_hook` stores a function of this type, which the program promises to be callable for ever.
        let callback = unsafe { core::mem::transmute::<usize, Callback>(address) };
        // SAFETY: the caller's promise.
        unsafe {
            (*thread).depth += 1;
            callback(is_allocation, (*thread).allocated, deallocated);
            (*thread).depth -= 1;
        }
    }

    /// Learns of callbacks that were added since the thread looked last.
    unsafe fn take_hooks(&'static self, thread: *mut Thread) {
        let shared = &self.core.events;
        let count = shared.count.load(Ordering::Acquire);
        // SAFETY: the caller's promise.
        unsafe {
            for i in (*thread).events.hooks as usize..count as usize {
                let interval = shared.interval(i);
                (*thread).events.hook_allocated_at[i] = (*thread).allocated + interval;
                if shared.hooks[i].alloc_only.load(Ordering::Relaxed) == 0 {
                    let at = (*thread).deallocated() + interval;
                    (*thread).events.hook_deallocated_at[i] = at;
                    (*thread).events.deallocated_at = (*thread).events.deallocated_at.min(at);
                    // Frees have no countdown: from here on this thread's take the slow path.
                    (*thread).no_fast_frees();
                }
            }
            (*thread).events.hooks = count;
        }
    }

    /// Adds a callback for all threads, to be called each `interval` bytes (at least 1) that a thread allocates and,
    /// unless `alloc_only`, each `interval` bytes that it frees. `false`: no room for one more. It stays for ever; the same
    /// once more changes nothing.
    pub fn add_thread_hook(&'static self, callback: Callback, interval: u64, alloc_only: bool) -> bool {
        let shared = &self.core.events;
        {
            let _adding = shared.adding.lock();
            let count = shared.count.load(Ordering::Relaxed) as usize;
            let asked = (callback as usize, interval.max(1), u32::from(alloc_only));
            if shared.hooks[..count].iter().any(|hook| hook.get() == asked) {
                return true;
            }
            let Some(hook) = shared.hooks.get(count) else { return false };
            hook.callback.store(asked.0, Ordering::Relaxed);
            hook.interval.store(asked.1, Ordering::Relaxed);
            hook.alloc_only.store(asked.2, Ordering::Relaxed);
            // Release: pairs with the Acquire in `take_hooks`.
            shared.count.store(count as u32 + 1, Ordering::Release);
        }
        self.redraw_waits();
        true
    }

    /// Bytes that a thread counts by itself: a share of the interval, so that many threads don't make it much longer.
    fn stats_step(&'static self) -> u64 {
        ((self.options().stats_interval.max(0) as u64) >> 6).clamp(1, STATS_STEP_MAX)
    }

    unsafe fn count_towards_stats(&'static self, thread: *mut Thread, bytes: u64) {
        let interval = (self.options().stats_interval.max(1)) as u64;
        let sum = &self.core.events.stats_bytes;
        let mut total = sum.fetch_add(bytes, Ordering::Relaxed) + bytes;
        while total >= interval {
            match sum.compare_exchange_weak(total, total % interval, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => total = now,
            }
        }
        // SAFETY: the caller's promise.
        unsafe {
            if total >= interval && (*thread).depth == 0 {
                (*thread).depth += 1;
                let letters = self.options().stats_interval_opts;
                crate::report::print(self, letters.text().to_bytes(), &mut |piece| crate::message::raw(piece));
                (*thread).depth -= 1;
            }
        }
    }

    /// After sampling was switched or retuned, or a callback added: this thread draws a new countdown now, each other
    /// thread at its next allocation.
    ///
    /// The others' countdowns are set to 0, so that [`Observer::next_wait`] is asked at once; the observer says that
    /// the wait was void. The store goes behind the other thread's back: a decrement of its
    /// own at that moment, or a wait that it is drawing, may undo it, and the thread runs on until something else is due.
    pub fn redraw_waits(&'static self) {
        self.redraw_wait();
        let me = crate::tls::thread();
        let threads = self.core.threads.lock();
        let mut thread = threads.first;
        while !thread.is_null() {
            // SAFETY: the list holds live states, and its lock is held.
            unsafe {
                if thread != me {
                    let events = &raw mut (*thread).events;
                    for at in [&raw mut (*events).sample_at, &raw mut (*events).others_at, &raw mut (*thread).countdown]
                    {
                        AtomicU64::from_ptr(at).store(0, Ordering::Relaxed);
                    }
                }
                thread = (*thread).next;
            }
        }
    }

    /// The calling thread draws a new countdown now.
    pub fn redraw_wait(&'static self) {
        let thread = self.thread();
        // SAFETY: the calling thread's own state; shared states are not written.
        unsafe {
            if (*thread).kind == Kind::Live {
                self.take_hooks(thread);
                if O::ENABLED {
                    self.draw_guard(thread, (*thread).allocated);
                }
                (*thread).events.plan();
                self.draw_wait(thread);
            }
        }
    }
}

impl SharedEvents {
    fn interval(&self, i: usize) -> u64 {
        self.hooks[i].interval.load(Ordering::Relaxed)
    }
}
