//! Threads of the library's own. There are none unless an option asks for one.
//!
//! A helper thread has all signals blocked that can wait, and a small stack. It starts from a place where the program's own
//! code runs: the constructor of the library, a call that switches profiling on, or (in a Rust program, and in the child of
//! a fork) the slow path of an allocation. A child of a fork gets its helpers back when it has allocated [`BYTES_BEFORE`]:
//! one that only goes on to another program, as most do, never has them. So does a program that has a `malloc` of its own.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use alloc_core::first_thread;
use alloc_core::message::{Decimal, warn};
use alloc_core::sys::Errno;
use alloc_core::sys::sandbox::in_sandbox;

use crate::file::{self, SignalsBlocked};
use crate::{HEAP, control, watch};

/// Bytes that a forked child, or a program with a `malloc` of its own, allocates before it gets helpers.
const BYTES_BEFORE: u64 = 64 << 10;
/// Bytes of a helper's stack. Only what is used becomes resident.
const STACK_BYTES: usize = 512 << 10;

/// A helper thread.
#[derive(Debug)]
pub struct Helper {
    /// For messages.
    what: &'static [u8],
    state: AtomicU32,
    wanted: fn() -> bool,
    /// In the thread that starts it, before it is there.
    prepare: fn(),
    entry: extern "C" fn(*mut c_void) -> *mut c_void,
    /// In the child of a fork: forget the parent's.
    after_fork: fn(),
    /// The process ends.
    stop: fn(),
}

const IDLE: u32 = 0;
const RUNNING: u32 = 1;
/// Couldn't be started; said once, and not tried again.
const FAILED: u32 = 2;

static HELPERS: [Helper; 2] = [
    Helper {
        what: b"watch for dumps that are due",
        state: AtomicU32::new(IDLE),
        wanted: watch::wanted,
        prepare: watch::prepare,
        entry: watch::run,
        after_fork: watch::after_fork,
        stop: watch::stop,
    },
    Helper {
        what: b"serve the control socket",
        state: AtomicU32::new(IDLE),
        wanted: control::wanted,
        prepare: control::prepare,
        entry: control::run,
        after_fork: control::after_fork,
        stop: control::stop,
    },
];

const NOT_DUE: u8 = 0;
const DUE_AT_ONCE: u8 = 1;
const DUE_LATER: u8 = 2;

/// Whether a slow allocation to come starts helpers. Each sample asks.
#[derive(Debug)]
pub struct Due(AtomicU8);

impl Due {
    /// None does.
    pub const fn new() -> Self {
        Due(AtomicU8::new(NOT_DUE))
    }

    /// After how many bytes the calling thread should come back for [`Due::start`].
    #[inline]
    pub fn after(&self) -> Option<u64> {
        match self.0.load(Ordering::Relaxed) {
            NOT_DUE => None,
            DUE_AT_ONCE => Some(0),
            _ => Some(BYTES_BEFORE),
        }
    }

    /// Starts helpers if that is due. Called from slow allocations.
    #[inline]
    pub fn start(&self) {
        if self.0.load(Ordering::Relaxed) != NOT_DUE {
            start();
        }
    }

    fn set(&self, due: u8) {
        self.0.store(due, Ordering::Relaxed);
    }
}

impl Default for Due {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether constructors run already: before that, an allocation may come from the loader.
static CONSTRUCTED: AtomicBool = AtomicBool::new(false);
static ENDING: AtomicBool = AtomicBool::new(false);

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructed;

#[unsafe(link_section = "heapsift_text")]
extern "C" fn constructed() {
    CONSTRUCTED.store(true, Ordering::Relaxed);
}

/// Whether the process is ending: nothing new is begun.
pub fn ending() -> bool {
    ENDING.load(Ordering::Relaxed)
}

/// Whether a helper is to end.
pub fn done() -> bool {
    ending() || first_thread::only_own_are_left()
}

/// The heap has registered with the C library. In a C library the constructor calls [`start`] next; a Rust program has
/// no such moment, and its helpers start with its next allocation.
pub fn heap_started() {
    if CONSTRUCTED.load(Ordering::Relaxed) {
        make_due(DUE_AT_ONCE);
    }
}

/// Has helpers start when the process has allocated [`BYTES_BEFORE`].
pub fn start_later() {
    if !alloc_core::conf::is_privileged() {
        // A signal that nobody takes would end the process, and a handler that the program installs is to come after ours.
        watch::prepare();
    }
    make_due(DUE_LATER);
}

fn make_due(due: u8) {
    if any_missing() {
        HEAP.observer().helpers_due.set(due);
        HEAP.redraw_wait();
    }
}

fn any_missing() -> bool {
    HELPERS.iter().any(Helper::missing)
}

/// Starts all helpers that are wanted and don't run. The program's own code is running. A sandbox may not know the calls that
/// their files and sockets take.
#[cold]
#[unsafe(link_section = "heapsift_text")]
pub fn start() {
    HEAP.observer().helpers_due.set(NOT_DUE);
    if alloc_core::conf::is_privileged() || ending() || in_sandbox() {
        return;
    }
    HELPERS.iter().for_each(Helper::start);
}

/// In the child of a fork, its only thread.
pub fn after_fork() {
    for helper in &HELPERS {
        (helper.after_fork)();
        // One that was about to start in another thread of the parent is missing as well.
        if helper.state.load(Ordering::Relaxed) == RUNNING {
            helper.state.store(IDLE, Ordering::Relaxed);
            HEAP.observer().helpers_due.set(DUE_LATER);
        }
    }
}

/// The process ends by `exit`.
pub fn stop() {
    ENDING.store(true, Ordering::Relaxed);
    for helper in HELPERS.iter().filter(|helper| helper.state.load(Ordering::Relaxed) == RUNNING) {
        (helper.stop)();
    }
}

impl Helper {
    fn missing(&self) -> bool {
        self.state.load(Ordering::Relaxed) == IDLE && (self.wanted)()
    }

    #[unsafe(link_section = "heapsift_text")]
    fn start(&self) {
        if !self.missing() || self.state.compare_exchange(IDLE, RUNNING, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        (self.prepare)();
        HEAP.observer().tell_exit();
        if let Err(Errno(errno)) = spawn(self.entry) {
            self.state.store(FAILED, Ordering::Relaxed);
            let number = Decimal::new(errno.unsigned_abs().into());
            warn(&[b"cannot ", self.what, b": ", file::describe(errno), b" (errno ", number.as_bytes(), b")"]);
        }
    }
}

/// Starts a thread that nobody waits for, with all signals blocked that can wait. What it allocates on the way isn't sampled.
fn spawn(entry: extern "C" fn(*mut c_void) -> *mut c_void) -> Result<(), Errno> {
    const EINVAL: i32 = 22;
    let _suppressed = HEAP.suppress();
    // Inherited by the thread.
    let _signals = SignalsBlocked::new();
    let mut attributes = core::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: `attributes` is live memory for them, initialised by the first call and given back by the last; the entry
    // is a plain function that needs no argument.
    unsafe {
        match libc::pthread_attr_init(attributes) {
            0 => {}
            errno => return Err(Errno(errno)),
        }
        libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED);
        let mut thread: libc::pthread_t = 0;
        let mut create = |bytes| {
            libc::pthread_attr_setstacksize(attributes, bytes);
            libc::pthread_create(&raw mut thread, attributes, entry, core::ptr::null_mut())
        };
        let mut errno = create(STACK_BYTES);
        if errno == EINVAL {
            // The program's thread-local variables take more than that.
            errno = create(STACK_BYTES + (8 << 20));
        }
        libc::pthread_attr_destroy(attributes);
        if errno == 0 { Ok(()) } else { Err(Errno(errno)) }
    }
}
