//! `prof_guard`: when a block is to be guarded, and what is said when one is used wrongly.
//!
//! The heap puts the blocks where every wrong access faults (`alloc_core::guarded`). The fault is a SIGSEGV, whose handler
//! tells such an access from all others by its address, says where it came from and where the block was allocated and
//! freed, and lets the default action end the process at the same instruction. Other faults are the program's. The handler
//! is installed only where `prof_guard` is set. It allocates nothing and takes no lock.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use alloc_core::first_thread::own_file;
use alloc_core::guarded::{FRAMES, Known};
use alloc_core::message::{self, Decimal};
use alloc_core::sys::{self, Entry};

use crate::HEAP;
use crate::profiler::Profiler;
use crate::unwind::{self, Cut, Stack, Trail};

/// Bytes of a path that a line has room for.
const PATH_BYTES: usize = 512;

/// A line of a report, in parts.
type Say = fn(&[&[u8]]);

/// Begins to guard blocks, if the options ask for it.
pub fn start(profiler: &Profiler) {
    if profiler.settings.guard.load(Ordering::Relaxed) == 0 {
        return;
    }
    if HEAP.start_guarding() {
        install();
    } else {
        message::warn(&[b"prof_guard: no memory for guarded blocks"]);
    }
}

/// Writes the calling thread's stack into `frames`, leaf first; returns how many.
pub fn stack(profiler: &Profiler, entry: &Entry, frames: &mut [usize]) -> usize {
    let cut = Cut { entry: *entry, own: unwind::own_module() };
    walk(profiler, &cut, frames)
}

fn walk(profiler: &Profiler, cut: &Cut, frames: &mut [usize]) -> usize {
    let mut found = [MaybeUninit::<usize>::uninit(); FRAMES];
    let room = frames.len().min(FRAMES);
    let method = profiler.settings.method();
    let capture = unwind::capture(method, Stack::UNKNOWN, cut, &mut found[..room], &mut Trail::none());
    for (frame, found) in frames.iter_mut().zip(&found[..capture.depth]) {
        // SAFETY: a walk writes as many frames as it says. A return address lies one past the call.
        *frame = unsafe { found.assume_init() }.wrapping_sub(1);
    }
    capture.depth
}

/// Says what is known of the block at `address`: of a guarded one its allocation and its free, of a sampled one the
/// allocation.
pub fn tell_history(profiler: &'static Profiler, address: usize) {
    if let Some(sighting) = HEAP.guarded_at(address) {
        tell_lives(HEAP.guarded_history(&sighting), message::warn);
        return;
    }
    let mut bucket = None;
    profiler.records.change(address, HEAP.arena_at(address), |record| bucket = Some(record.bucket));
    if let Some(bucket) = bucket {
        message::warn(&[b"  allocated at"]);
        let frames = profiler.stacks.get(profiler.buckets.origin(bucket).stack).frames;
        frames.iter().for_each(|frame| tell_frame(frame.wrapping_sub(1), message::warn));
    }
}

fn tell_lives([allocated, freed]: [Option<Known<'static>>; 2], say: Say) {
    for (what, known) in [(&b"freed"[..], freed), (b"allocated", allocated)] {
        if let Some(known) = known {
            let thread = Decimal::new(known.thread.into());
            say(&[b"  ", what, b" by thread ", thread.as_bytes(), b" at"]);
            known.frames.iter().for_each(|&frame| tell_frame(frame, say));
        }
    }
}

/// A line for a code address: the module that it lies in, and the offset that `addr2line -e MODULE` takes.
fn tell_frame(address: usize, say: Say) {
    let hex = Decimal::hex(address as u64);
    let mut buffer = [0u8; PATH_BYTES];
    let Some((base, name)) = unwind::module_place(address) else {
        return say(&[b"    0x", hex.as_bytes()]);
    };
    let name = if name.is_empty() {
        // The program itself.
        sys::extra::read_link(own_file(c"/proc/self/exe", c"/proc/thread-self/exe"), &mut buffer).unwrap_or(b"program")
    } else {
        &name[..name.len().min(PATH_BYTES)]
    };
    let offset = Decimal::hex(address.wrapping_sub(base) as u64);
    say(&[b"    0x", hex.as_bytes(), b" ", name, b"+0x", offset.as_bytes()]);
}

// ---- the signal ----

/// What the program had installed before.
struct Before(UnsafeCell<MaybeUninit<libc::sigaction>>);
// SAFETY: written before our handler is installed, which reads it.
unsafe impl Sync for Before {}
static BEFORE: Before = Before(UnsafeCell::new(MaybeUninit::zeroed()));
/// The handler among it; apart, since it may be there for one time only.
static BEFORE_HANDLER: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
/// Whether a report is being written: there is one in a process.
static REPORTING: AtomicU32 = AtomicU32::new(0);

fn install() {
    // SAFETY: zero is a value of the structure: no flags, no handler, an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_fault as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
    // SAFETY: both structures are alive; what was there is asked for first, and nobody reads it yet.
    unsafe {
        let before = (*BEFORE.0.get()).as_mut_ptr();
        if libc::sigaction(libc::SIGSEGV, core::ptr::null(), before) == 0 {
            BEFORE_HANDLER.store((*before).sa_sigaction, Ordering::Relaxed);
            // A stack of its own where the program expects that: the faults that we look for happen on good stacks.
            action.sa_flags = libc::SA_SIGINFO | ((*before).sa_flags & libc::SA_ONSTACK);
            libc::sigaction(libc::SIGSEGV, &raw const action, null_mut());
        }
    }
}

/// Has the next fault end the process.
fn restore_default() {
    // SAFETY: as in `install`: zero is the default action.
    let action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the structure is alive; the call may be made in a handler.
    unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, null_mut()) };
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both. A code above 0: a fault, and not another process's wish.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    let sighting = if code > 0 { HEAP.guarded_at(address) } else { None };
    let Some(sighting) = sighting else {
        // SAFETY: what the kernel has passed.
        return unsafe { pass_on(signal, info, context) };
    };
    if REPORTING.swap(1, Ordering::Relaxed) != 0 {
        // Another thread is about to end the process.
        let nobody = AtomicU32::new(0);
        sys::extra::futex_wait_for(&nobody, 0, 10_000_000_000);
    } else {
        // SAFETY: the context of a handler that takes one.
        let context = unsafe { &*context.cast::<libc::ucontext_t>() };
        report(address, &sighting, context);
    }
    restore_default();
}

/// Says what access faulted, and all that is known of the block.
fn report(address: usize, sighting: &alloc_core::guarded::Sighting, context: &libc::ucontext_t) {
    const WRITE: i64 = 2;
    let registers = &context.uc_mcontext.gregs;
    let [pc, sp, bp] = [libc::REG_RIP, libc::REG_RSP, libc::REG_RBP].map(|at| registers[at as usize] as usize);
    let how: &[u8] = if registers[libc::REG_ERR as usize] & WRITE != 0 { b"write" } else { b"read" };
    let at = Decimal::hex(address as u64);
    if sighting.bytes == 0 {
        message::say(&[sighting.what, b" (", how, b") at 0x", at.as_bytes(), b", between guarded blocks"]);
    } else {
        let block = Decimal::hex(sighting.address as u64);
        let bytes = Decimal::new(sighting.bytes as u64);
        let (distance, where_to): (usize, &[u8]) = if address < sighting.address {
            (sighting.address - address, b" bytes before a block of ")
        } else if address - sighting.address < sighting.bytes {
            (address - sighting.address, b" bytes into a block of ")
        } else {
            (address - sighting.address - sighting.bytes, b" bytes behind a block of ")
        };
        let distance = Decimal::new(distance as u64);
        message::say(&[
            sighting.what,
            b" (",
            how,
            b") at 0x",
            at.as_bytes(),
            b", ",
            distance.as_bytes(),
            where_to,
            bytes.as_bytes(),
            b" bytes at 0x",
            block.as_bytes(),
        ]);
    }
    let thread = Decimal::new(sys::gettid().cast_unsigned().into());
    message::say(&[b"  accessed by thread ", thread.as_bytes(), b" at"]);
    tell_frame(pc, message::say);
    let mut frames = [0; FRAMES];
    // Own frames are not left out: the access may be one of ours.
    let depth = walk(HEAP.observer(), &Cut { entry: Entry { pc, sp, bp }, own: 0..0 }, &mut frames);
    frames[..depth].iter().for_each(|&frame| tell_frame(frame, message::say));
    tell_lives(HEAP.guarded_history(sighting), message::say);
}

/// Does with a signal what the program had meant to be done.
///
/// # Safety
/// What the kernel has passed to a handler.
unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: written before the handler was installed; the kernel's own arguments.
    unsafe {
        let before = (*BEFORE.0.get()).assume_init_ref();
        let is_fault = (*info).si_code > 0;
        let handler = BEFORE_HANDLER.load(Ordering::Relaxed);
        if handler == libc::SIG_DFL || (handler == libc::SIG_IGN && is_fault) {
            restore_default();
            if !is_fault {
                // Pending until the handler returns. A fault comes again by itself.
                sys::extra::raise(signal);
            }
            return;
        }
        if handler == libc::SIG_IGN {
            return;
        }
        if before.sa_flags & libc::SA_RESETHAND != 0 {
            BEFORE_HANDLER.store(libc::SIG_DFL, Ordering::Relaxed);
        }
        // The kernel takes the mask back when our handler returns.
        // Its first word is the kernel's set.
        sys::extra::block_signals((&raw const before.sa_mask).cast::<u64>().read());
        if before.sa_flags & libc::SA_NODEFER != 0 {
            sys::extra::unblock_signals(1 << (signal - 1));
        }
        let handler: *mut c_void = core::ptr::with_exposed_provenance_mut(handler);
        if before.sa_flags & libc::SA_SIGINFO != 0 {
            core::mem::transmute::<*mut c_void, extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)>(handler)(
                signal, info, context,
            );
        } else {
            core::mem::transmute::<*mut c_void, extern "C" fn(c_int)>(handler)(signal);
        }
    }
}
