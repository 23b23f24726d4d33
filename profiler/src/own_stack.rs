//! Work that needs more of a stack than the program's thread may have left: a dump takes some thirty kilobytes, and a
//! coroutine may have no more than that.

use core::ffi::c_void;

use alloc_core::sys::{self, Access};

use crate::file::SignalsBlocked;

/// Bytes of the stack, a page at its end that nothing may touch included. Only what is used becomes resident.
const BYTES: usize = 256 << 10;

struct Work<F, R> {
    work: Option<F>,
    result: Option<R>,
}

extern "C" fn enter<F: FnOnce() -> R, R>(work: *mut c_void) {
    // SAFETY: `run` passes its own, which waits meanwhile.
    let Work { work, result } = unsafe { &mut *work.cast::<Work<F, R>>() };
    *result = work.take().map(|work| work());
}

/// Does the work on a stack of its own; on the caller's where there is no memory for one. Signals wait meanwhile: a handler
/// may want to find its thread's stack where it is, from the stack pointer up to the end, as those of garbage collectors do
/// that stop threads.
#[inline(never)]
pub fn run<F: FnOnce() -> R, R>(work: F) -> R {
    let _signals = SignalsBlocked::new();
    let Ok(start) = sys::map(BYTES, true) else { return work() };
    let mut work = Work { work: Some(work), result: None };
    // SAFETY: the stack is mapped, and nobody else's. What runs there returns: it doesn't unwind, since a panic ends the
    // process, and the program's functions that jump out of others are not called there.
    unsafe {
        // Where it can't be protected, the stack is long enough all the same.
        let _ = sys::protect(start, sys::PAGE, Access::None);
        sys::call_on_stack(start + BYTES, enter::<F, R>, (&raw mut work).cast());
        // Nothing but memory is lost where that is refused.
        let _ = sys::unmap(start, BYTES);
    }
    let Some(result) = work.result else { unreachable!("the work was done") };
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn work_is_done_elsewhere() {
        let here = sys::stack_pointer();
        let mut words = [0usize; 1000];
        let (there, sum) = run(|| {
            words.iter_mut().enumerate().for_each(|(i, word)| *word = i);
            (sys::stack_pointer(), words.iter().sum::<usize>())
        });
        assert!(here.abs_diff(there) > BYTES || there < here - 16 * core::mem::size_of_val(&words));
        assert_eq!((sum, words[999]), (499_500, 999));
        // One within the other, and what they return comes back.
        assert_eq!(run(|| run(|| std::string::String::from("inner")) + " outer"), "inner outer");
    }

    #[test]
    fn handlers_run_on_the_callers_stack() {
        static AT: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn handle(_: i32) {
            AT.store(sys::stack_pointer(), Ordering::Relaxed);
        }
        // SAFETY: the handler does what is allowed in one; the signal goes to this thread.
        let there = unsafe {
            libc::signal(libc::SIGUSR2, handle as extern "C" fn(i32) as usize);
            run(|| {
                libc::raise(libc::SIGUSR2);
                sys::stack_pointer()
            })
        };
        let (at, here) = (AT.load(Ordering::Relaxed), sys::stack_pointer());
        assert!(at != 0 && at.abs_diff(here) < BYTES && at.abs_diff(there) > BYTES, "{at:x} {here:x} {there:x}");
    }

    #[test]
    fn debuggers_find_the_caller() {
        let trace = run(|| std::string::ToString::to_string(&std::backtrace::Backtrace::force_capture()));
        for name in ["call_on_stack", "debuggers_find_the_caller", "start_thread"] {
            assert!(trace.contains(name), "no {name} in {trace}");
        }
    }
}
