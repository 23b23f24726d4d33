//! Arenas and threads come and go: creation, binding, exit, and what a fork leaves.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::arena::Arena;
use crate::first_thread;
use crate::heap::Heap;
use crate::limits::Limits;
use crate::observer::Observer;
use crate::size;
use crate::snapshot::Snapshot;
use crate::sys;
use crate::thread::{self, DEAD, Kind, Thread, read_counter, state_bytes};
use crate::tls;

/// All live threads that have allocated, and states of threads that ended.
#[derive(Debug)]
pub(crate) struct ThreadList {
    pub(crate) first: *mut Thread,
    pub(crate) unused: *mut Thread,
    /// Threads ever started; the last one's number.
    started: u64,
    /// Threads in the list.
    live: usize,
}

// SAFETY: the pointers lead to thread states, whose links the list's lock protects.
unsafe impl Send for ThreadList {}

impl ThreadList {
    pub(crate) const fn new() -> Self {
        ThreadList { first: null_mut(), unused: null_mut(), started: 0, live: 0 }
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
        self.live += 1;
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
        self.live -= 1;
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

extern "C" fn on_thread_exit<O: Observer>(_: *mut libc::c_void) {
    // SAFETY: only `start` stores there, a heap of this very type, before it makes the key.
    let heap: &'static Heap<O> = unsafe { &*HEAP.load(Ordering::Acquire).cast::<Heap<O>>() };
    if first_thread::note_end() {
        heap.core.shared.alarm.ring_for(u32::MAX);
    }
    // Not what the key has: the first key is 0, and programs set the value of a key that they have yet to make.
    let thread = tls::thread();
    // SAFETY: the calling thread's state, which is live or the dead one.
    unsafe {
        if (*thread).kind == Kind::Live {
            heap.end_thread(thread);
        }
    }
}

unsafe extern "C" fn on_fork_child<O: Observer>() {
    // SAFETY: as in `on_thread_exit`.
    let heap: &'static Heap<O> = unsafe { &*HEAP.load(Ordering::Acquire).cast::<Heap<O>>() };
    heap.after_fork();
}

/// The heap of this program, once it has registered with the C library.
pub(crate) fn the_heap<O: Observer>() -> Option<&'static Heap<O>> {
    let heap = HEAP.load(Ordering::Acquire).cast::<Heap<O>>();
    // SAFETY: only `start` stores there, a heap of the one type that the program has.
    (!heap.is_null()).then(|| unsafe { &*heap })
}

/// How many forks lie between the first process of the heap and this one.
pub fn fork_generation() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

impl<O: Observer> Heap<O> {
    /// Registers with the C library (thread exit, fork), once; called by a library's constructor, or by the first
    /// thread that allocates. No lock is held.
    #[unsafe(link_section = "heapsift_text")]
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
        self.want_background_threads();
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
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) fn start_thread(&'static self) -> *mut Thread {
        self.ensure_booted();
        let options = self.options();
        let (unused, uid) = {
            let mut threads = self.core.threads.lock();
            threads.started += 1;
            let unused = threads.unused;
            if !unused.is_null() {
                // SAFETY: the list holds states without a thread.
                threads.unused = unsafe { (*unused).next };
            }
            (unused, threads.started)
        };
        let map = self.core.shared.map.flat();
        let thread = if unused.is_null() {
            match self.core.shared.allocate_metadata(state_bytes(options), 64) {
                // SAFETY: fresh memory of the right size and alignment.
                Some(fresh) => unsafe { Thread::lay_out(fresh, options, map) },
                None => return DEAD.as_thread(),
            }
        } else {
            // SAFETY: the list holds states without a thread, and this one is out of it now.
            unsafe { (*unused).restart(options, map) };
            unused
        };
        // SAFETY: the state is this thread's from here on.
        unsafe {
            (*thread).slot.uid = uid;
            (*thread).arena = self.choose_arena();
            let share = thread::class_share(self.core.cache_share.load(Ordering::Relaxed));
            if share != usize::MAX && Limits::of(options).are_usual(options) {
                (*thread).class_share = share;
            }
            (*thread).set_odd((*thread).arena.is_some_and(|arena| arena.pages.is_odd()), options);
            (*thread).countdown = u64::MAX >> 1;
            (*thread).looked_through = sys::ticks();
            {
                let mut threads = self.core.threads.lock();
                threads.link(thread);
                self.note_threads(&threads);
            }
            tls::set_thread(thread);
            self.start_events(thread);
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
                self.core.arenas.tick(arena, &self.core.shared);
            }
            let is_last = {
                let mut threads = self.core.threads.lock();
                self.core.gone_allocated.fetch_add((*thread).allocated, Ordering::Relaxed);
                self.core.gone_deallocated.fetch_add((*thread).deallocated(), Ordering::Relaxed);
                threads.unlink(thread);
                threads.retire(thread);
                self.note_threads(&threads);
                threads.first.is_null() || (*threads.first).next.is_null()
            };
            // The one that is left may only wait for others.
            if is_last && let Some(target) = self.core.shared.beyond_last_bound() {
                self.trim_all(target);
            }
        }
    }

    /// Has caches and pages know how many threads there are.
    fn note_threads(&'static self, threads: &ThreadList) {
        self.core.cache_share.store(thread::cache_share(threads.live), Ordering::Relaxed);
        self.core.shared.note_threads(threads.live);
    }

    /// Tells an arena of the requests at a place that no bin has been told of.
    ///
    /// # Safety
    /// The cache is the calling thread's for now.
    pub(crate) unsafe fn tell_requests(cache: *mut Thread, place: usize, arena: Option<&'static Arena>) {
        // SAFETY: the caller's promise.
        let requests = unsafe { (*cache).take_requests(place) };
        if requests > 0
            && let Some(arena) = arena
        {
            arena.count_requests(size::class_at(place), requests);
        }
    }

    /// Empties all caches of the calling thread.
    pub(crate) unsafe fn flush_all(&'static self, thread: *mut Thread) {
        for place in thread::places() {
            // SAFETY: the calling thread's own live state.
            unsafe {
                self.flush(thread, thread, place, 0);
                Self::tell_requests(thread, place, (*thread).arena);
            }
        }
    }

    /// In the child of a fork, its only thread: drops what other threads were changing, and forgets those threads.
    fn after_fork(&'static self) {
        FORKS.fetch_add(1, Ordering::Relaxed);
        crate::lock::after_fork();
        first_thread::after_fork();
        let core = &self.core;
        core.shared.base.after_fork();
        core.shared.map.after_fork();
        Snapshot::after_fork(&core.snapshot);
        core.caches.after_fork();
        core.events.after_fork();
        core.made.after_fork();
        core.guarded.after_fork();
        core.background.after_fork(&core.shared.alarm);
        core.arenas.iter().for_each(Arena::after_fork);
        core.threads.after_fork(|threads| {
            // The links may be half changed: the other threads' states are given up.
            threads.first = null_mut();
            threads.unused = null_mut();
            threads.live = 0;
        });
        let me = tls::thread();
        // SAFETY: the calling thread's state; the other states in the list have no thread in this process.
        unsafe {
            let is_live = (*me).kind == Kind::Live;
            if is_live {
                (*me).after_fork();
            }
            // Where the thread itself holds the lock (its signal handler forks), the list is about to change under its
            // hands: the others' states stay in it, as if their threads were asleep for ever.
            if let Some(mut threads) = core.threads.try_lock() {
                let mut other = threads.first;
                threads.first = null_mut();
                threads.live = 0;
                while !other.is_null() {
                    let next = (*other).next;
                    if other != me {
                        core.gone_allocated.fetch_add(read_counter(&raw mut (*other).allocated), Ordering::Relaxed);
                        core.gone_deallocated.fetch_add((*other).deallocated(), Ordering::Relaxed);
                        threads.retire(other);
                    }
                    other = next;
                }
                if is_live {
                    threads.link(me);
                }
                self.note_threads(&threads);
            }
            if is_live && let Some(arena) = (*me).arena {
                arena.threads.store(1, Ordering::Relaxed);
            }
        }
        self.observer.fork_child();
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::sync::Barrier;

    use super::*;
    use crate::common::Nobody;
    use crate::heap::{Request, TcacheChoice};

    static OURS: Heap<Nobody> = Heap::new(Nobody);

    /// As if a signal handler forked in the middle of a change of the list of threads.
    #[test]
    fn a_thread_that_changes_the_list_may_fork() {
        let block = OURS.allocate(100);
        assert!(!block.is_null());
        let held = OURS.core.threads.lock();
        // SAFETY: the child calls what may be called in one: the heap, `alarm`, `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above; the block is the child's own copy.
            unsafe {
                libc::alarm(20);
                OURS.deallocate(block);
                drop(held);
                // The list is whole: both ways to use it go on.
                OURS.redraw_waits();
                let fresh = OURS.allocate(5000);
                libc::_exit(if fresh.is_null() || OURS.core.threads.lock().first.is_null() { 1 } else { 0 });
            }
        }
        drop(held);
        let mut status = 0;
        // SAFETY: the child is this process's own.
        unsafe {
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            OURS.deallocate(block);
        }
        assert_eq!(status, 0);
    }

    /// As a program does that uses a key before it has made it, which is 0 until then.
    #[test]
    fn a_thread_ends_whatever_the_program_has_set_its_key_to() {
        let live = || OURS.core.threads.lock().live;
        // SAFETY: fresh blocks, given back once; the key exists once there is a thread.
        unsafe {
            OURS.deallocate(OURS.allocate(100));
            let before = live();
            let thread = std::thread::spawn(move || {
                OURS.deallocate(OURS.allocate(100));
                assert_eq!(live(), before + 1);
                let set =
                    libc::pthread_setspecific(EXIT_KEY.load(Ordering::Relaxed), core::ptr::without_provenance(0xff));
                assert_eq!(set, 0);
            });
            thread.join().unwrap();
            assert_eq!(live(), before);
        }
    }

    /// As if another thread had been looking after an arena while that was destroyed.
    #[test]
    fn a_destroyed_arena_is_as_good_as_new_in_a_child() {
        // SAFETY: fresh, and given back once.
        unsafe { OURS.deallocate(OURS.allocate(100)) };
        let index = OURS.create_arena(null_mut()).unwrap();
        let arena = OURS.core.arenas.get(index as usize).unwrap();
        // SAFETY: nobody uses it.
        unsafe { OURS.destroy_arena(index).unwrap() };
        let together = Barrier::new(2);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                arena.pages.locked(|| {
                    together.wait();
                    together.wait();
                });
            });
            together.wait();
            // SAFETY: the child calls what may be called in one: the heap, `alarm`, `_exit`.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: as above.
                unsafe {
                    libc::alarm(20);
                    let again = OURS.create_arena(null_mut());
                    let request = Request { align: 1, zero: false, tcache: TcacheChoice::None, arena: again };
                    let block = OURS.allocate_with(100_000, request);
                    libc::_exit(i32::from(again != Some(index) || block.is_null()));
                }
            }
            together.wait();
            let mut status = 0;
            // SAFETY: the child is this process's own.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
        });
    }
}
