//! Arenas and threads come and go: creation, binding, exit, and what a fork leaves.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::arena::Arena;
use crate::heap::{Heap, INTERNAL_ARENA};
use crate::message::{Decimal, warn};
use crate::observer::Observer;
use crate::size::NHBINS;
use crate::sys;
use crate::thread::{DEAD, Kind, Thread, read_counter, state_bytes};
use crate::tls;

/// All live threads that have allocated, and states of threads that ended.
#[derive(Debug)]
pub(crate) struct ThreadList {
    pub(crate) first: *mut Thread,
    pub(crate) unused: *mut Thread,
    /// Threads ever started; the last one's number.
    started: u64,
}

// SAFETY: the pointers lead to thread states, whose links the list's lock protects.
unsafe impl Send for ThreadList {}

impl ThreadList {
    pub(crate) const fn new() -> Self {
        ThreadList { first: null_mut(), unused: null_mut(), started: 0 }
    }

    unsafe fn link(&mut self, thread: *mut Thread) {
        // SAFETY: a live state that is in no list.
        unsafe {
            (*thread).previous = null_mut();
            (*thread).next = self.first;
            if !self.first.is_null() {
                (*self.first).previous = thread;
            }
            self.first = thread;
        }
    }

    unsafe fn unlink(&mut self, thread: *mut Thread) {
        // SAFETY: the state is in the list.
        unsafe {
            if (*thread).previous.is_null() {
                self.first = (*thread).next;
            } else {
                (*(*thread).previous).next = (*thread).next;
            }
            if !(*thread).next.is_null() {
                (*(*thread).next).previous = (*thread).previous;
            }
        }
    }

    unsafe fn retire(&mut self, thread: *mut Thread) {
        // SAFETY: a state in no list, whose thread is gone.
        unsafe { (*thread).next = self.unused };
        self.unused = thread;
    }
}

const NOT_STARTED: u32 = 0;
const STARTING: u32 = 1;
const STARTED: u32 = 2;

/// The heap that the C library's callbacks reach: there is one in a program.
static HEAP: AtomicPtr<()> = AtomicPtr::new(null_mut());
static EXIT_KEY: AtomicU32 = AtomicU32::new(0);
static HAVE_EXIT_KEY: AtomicU32 = AtomicU32::new(0);
static FORKS: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_thread_exit<O: Observer>(thread: *mut libc::c_void) {
    // SAFETY: only `start` stores there, a heap of this very type, before it makes the key.
    let heap: &'static Heap<O> = unsafe { &*HEAP.load(Ordering::Acquire).cast::<Heap<O>>() };
    // SAFETY: the key's value is the state of the thread that ends, set by itself.
    unsafe { heap.end_thread(thread.cast()) };
}

unsafe extern "C" fn on_fork_child<O: Observer>() {
    // SAFETY: as in `on_thread_exit`.
    let heap: &'static Heap<O> = unsafe { &*HEAP.load(Ordering::Acquire).cast::<Heap<O>>() };
    heap.after_fork();
}

/// How many forks lie between the first process of the heap and this one.
pub fn fork_generation() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

impl<O: Observer> Heap<O> {
    /// Registers with the C library (thread exit, fork), once; called by a library's constructor, or by the first
    /// thread that allocates. No lock is held.
    pub fn start(&'static self) {
        self.ensure_booted();
        let started = &self.core.started;
        if started.load(Ordering::Acquire) == STARTED
            || started.compare_exchange(NOT_STARTED, STARTING, Ordering::AcqRel, Ordering::Acquire).is_err()
        {
            return;
        }
        if self.options().narenas != 0 {
            // Says at once when that is too many.
            self.narenas_auto();
        }
        HEAP.store((&raw const *self).cast_mut().cast(), Ordering::Release);
        let mut key: libc::pthread_key_t = 0;
        // SAFETY: `key` is alive; the destructor is a plain function.
        if unsafe { libc::pthread_key_create(&raw mut key, Some(on_thread_exit::<O>)) } == 0 {
            EXIT_KEY.store(key, Ordering::Relaxed);
            HAVE_EXIT_KEY.store(1, Ordering::Release);
        }
        // SAFETY: a plain function. Nothing is done before a fork: see `lock.rs`.
        unsafe { libc::pthread_atfork(None, None, Some(on_fork_child::<O>)) };
        started.store(STARTED, Ordering::Release);
        // The first thread got its state before there was a key.
        self.set_exit_key(tls::thread());
        self.observer.start();
    }

    fn set_exit_key(&'static self, thread: *mut Thread) {
        // SAFETY: the calling thread's state.
        let live = unsafe { (*thread).kind } == Kind::Live;
        if live && HAVE_EXIT_KEY.load(Ordering::Acquire) == 1 {
            // SAFETY: the key exists. May allocate: the thread has its state by now.
            unsafe { libc::pthread_setspecific(EXIT_KEY.load(Ordering::Relaxed), thread.cast()) };
        }
    }

    /// Makes the calling thread's state; the dead one when there is no memory for it.
    #[cold]
    #[inline(never)]
    pub(crate) fn start_thread(&'static self) -> *mut Thread {
        self.ensure_booted();
        let options = self.options();
        let (memory, uid) = {
            let mut threads = self.core.threads.lock();
            threads.started += 1;
            let unused = threads.unused;
            if !unused.is_null() {
                // SAFETY: the list holds states without a thread.
                threads.unused = unsafe { (*unused).next };
            }
            (unused.cast::<u8>(), threads.started)
        };
        let memory = if memory.is_null() {
            match self.core.shared.base.allocate(state_bytes(options), 64) {
                Some(fresh) => fresh,
                None => return DEAD.as_thread(),
            }
        } else {
            memory
        };
        // SAFETY: fresh memory or an unused state, of the right size and alignment.
        let thread = unsafe { Thread::lay_out(memory, options, self.core.shared.map.flat()) };
        // SAFETY: the state is this thread's from here on.
        unsafe {
            (*thread).slot.uid = uid;
            (*thread).arena = self.choose_arena();
            (*thread).countdown = u64::MAX >> 1;
            self.core.threads.lock().link(thread);
            tls::set_thread(thread);
            if O::ENABLED {
                (*thread).depth += 1;
                (*thread).countdown = self.observer.next_wait(&mut (*thread).slot);
                (*thread).depth -= 1;
            }
        }
        self.start();
        self.set_exit_key(thread);
        thread
    }

    /// Gives back what an ending thread holds.
    ///
    /// # Safety
    /// `thread` is the calling thread's own state.
    unsafe fn end_thread(&'static self, thread: *mut Thread) {
        // SAFETY: the calling thread's own state, live until it is retired here.
        unsafe {
            if O::ENABLED {
                (*thread).depth += 1;
                self.observer.thread_exit(&mut (*thread).slot);
            }
            self.flush_all(thread);
            tls::set_thread(DEAD.as_thread());
            if let Some(arena) = (*thread).arena {
                arena.threads.fetch_sub(1, Ordering::Relaxed);
                arena.tick(&self.core.shared);
            }
            let mut threads = self.core.threads.lock();
            self.core.gone_allocated.fetch_add((*thread).allocated, Ordering::Relaxed);
            self.core.gone_deallocated.fetch_add((*thread).deallocated, Ordering::Relaxed);
            threads.unlink(thread);
            threads.retire(thread);
        }
    }

    /// Empties all caches of the calling thread.
    pub(crate) unsafe fn flush_all(&'static self, thread: *mut Thread) {
        for class in 1..=NHBINS {
            // SAFETY: the calling thread's own live state.
            unsafe { self.flush(thread, class, 0) };
        }
    }

    /// How many arenas there may be.
    pub fn narenas(&'static self) -> u32 {
        self.narenas_auto()
    }

    /// How many automatic arenas there may be: `narenas`, or `narenas_ratio` for each CPU that this process may use.
    pub fn narenas_auto(&'static self) -> u32 {
        let known = self.core.narenas.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let options = self.options();
        let wanted = match (options.narenas, usable_cpus()) {
            (0, 1) => 1,
            // A share of an arena counts as one, and so does none at all.
            (0, cpus) => ((u64::from(cpus) * u64::from(options.narenas_ratio)) >> 16).max(1),
            (wanted, _) => wanted.into(),
        };
        let count = wanted.min(INTERNAL_ARENA as u64 - 1) as u32;
        let first = self.core.narenas.swap(count, Ordering::Relaxed) == 0;
        if first && wanted > count.into() {
            let limit = Decimal::new(count.into());
            warn(&[b"Reducing narenas to limit (", limit.as_bytes(), b")"]);
        }
        count
    }

    /// Arena `index`, made if need be; `None`: out of range or no memory.
    pub(crate) fn arena(&'static self, index: usize) -> Option<&'static Arena> {
        let slot = self.core.arenas.slot(index)?;
        let known = slot.load(Ordering::Acquire);
        if !known.is_null() {
            // SAFETY: arenas are never unmapped once they are in the table.
            return Some(unsafe { &*known });
        }
        if index != INTERNAL_ARENA && index > 0 && index as u32 >= self.narenas() {
            return None;
        }
        let decay_ms = (
            self.core.default_dirty_ms.load(Ordering::Relaxed),
            self.core.default_muzzy_ms.load(Ordering::Relaxed),
        );
        let made = Arena::create(index, &self.core.shared, self.options(), decay_ms)?;
        // Release: pairs with the Acquire above. A loser's arena is unused metadata for good: rare and small.
        match slot.compare_exchange(
            null_mut(),
            (&raw const *made).cast_mut(),
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => Some(made),
            // SAFETY: the winner's arena, in the table for good.
            Err(winner) => Some(unsafe { &*winner }),
        }
    }

    /// The arena for a new thread: one without threads, else the one with the fewest.
    fn choose_arena(&'static self) -> Option<&'static Arena> {
        let first = self.arena(0)?;
        if first.threads.load(Ordering::Relaxed) == 0 {
            first.threads.fetch_add(1, Ordering::Relaxed);
            return Some(first);
        }
        let mut best = first;
        let mut fewest = first.threads.load(Ordering::Relaxed);
        for index in 1..self.narenas() as usize {
            let Some(arena) = self.core.arenas.get(index) else {
                if let Some(fresh) = self.arena(index) {
                    best = fresh;
                }
                break;
            };
            let threads = arena.threads.load(Ordering::Relaxed);
            if threads < fewest {
                (best, fewest) = (arena, threads);
            }
            if fewest == 0 {
                break;
            }
        }
        best.threads.fetch_add(1, Ordering::Relaxed);
        Some(best)
    }

    /// In the child of a fork, its only thread: drops what other threads were changing, and forgets those threads.
    fn after_fork(&'static self) {
        FORKS.fetch_add(1, Ordering::Relaxed);
        let core = &self.core;
        core.shared.base.after_fork();
        crate::ctl::after_fork();
        core.arenas.iter().for_each(Arena::after_fork);
        core.threads.after_fork(|threads| {
            // The links may be half changed: the other threads' states are given up.
            threads.first = null_mut();
            threads.unused = null_mut();
        });
        let me = tls::thread();
        // SAFETY: the calling thread's state; the other states in the list have no thread in this process.
        unsafe {
            let mut threads = core.threads.lock();
            let mut other = threads.first;
            threads.first = null_mut();
            while !other.is_null() {
                let next = (*other).next;
                if other != me {
                    core.gone_allocated.fetch_add(read_counter(&raw mut (*other).allocated), Ordering::Relaxed);
                    core.gone_deallocated.fetch_add(read_counter(&raw mut (*other).deallocated), Ordering::Relaxed);
                    threads.retire(other);
                }
                other = next;
            }
            if (*me).kind == Kind::Live {
                threads.link(me);
                if let Some(arena) = (*me).arena {
                    arena.threads.store(1, Ordering::Relaxed);
                }
            }
        }
        self.observer.fork_child();
    }
}

/// CPUs that this process may use: the affinity mask, or the cgroup's quota when that is lower.
fn usable_cpus() -> u32 {
    let cpus = sys::affinity_cpus();
    let mut text = [0u8; 64];
    let Ok(fd) = sys::open_read(c"/sys/fs/cgroup/cpu.max") else { return cpus };
    let length = sys::read(fd, &mut text).unwrap_or(0);
    sys::close(fd);
    match quota_cpus(&text[..length]) {
        Some(quota) => cpus.min(quota),
        None => cpus,
    }
}

/// `cpu.max` of a cgroup: `QUOTA PERIOD` in microseconds, or `max PERIOD`.
fn quota_cpus(text: &[u8]) -> Option<u32> {
    let mut fields = text.split(|b| b.is_ascii_whitespace()).filter(|f| !f.is_empty()).map(|field| {
        field.iter().try_fold(0u64, |n, b| {
            b.is_ascii_digit().then(|| n.checked_mul(10)?.checked_add(u64::from(b - b'0'))).flatten()
        })
    });
    let (quota, period) = (fields.next()??, fields.next()??);
    (period > 0).then(|| quota.div_ceil(period).clamp(1, 4096) as u32)
}

#[cfg(test)]
mod tests {
    use super::quota_cpus;

    #[test]
    fn cgroup_quota() {
        assert_eq!(quota_cpus(b"max 100000\n"), None);
        assert_eq!(quota_cpus(b"150000 100000\n"), Some(2));
        assert_eq!(quota_cpus(b"10000 100000\n"), Some(1));
        assert_eq!(quota_cpus(b""), None);
        assert_eq!(quota_cpus(b"100000 0\n"), None);
    }
}
