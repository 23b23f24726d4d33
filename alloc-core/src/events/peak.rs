//! The most that a thread had in use by its own balance.

use super::{NEVER, PEAK_STEP};
use crate::heap::Heap;
use crate::observer::Observer;
use crate::thread::{Kind, Thread};

impl<O: Observer> Heap<O> {
    /// Brings the peak up to date.
    ///
    /// # Safety
    /// `thread` is the calling thread's own live state.
    #[inline]
    pub(crate) unsafe fn note_peak(thread: *mut Thread) {
        // SAFETY: the caller's promise.
        unsafe {
            let balance = Self::balance(thread).wrapping_sub((*thread).events.peak_from);
            // A thread that frees what others allocated has one below zero.
            (*thread).events.peak = (*thread).events.peak.max(balance.cast_signed().max(0) as u64);
        }
    }

    /// What a thread has allocated less what it has freed, in bytes, below zero with the sign of two's complement.
    unsafe fn balance(thread: *mut Thread) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { (*thread).allocated.wrapping_sub((*thread).deallocated()) }
    }

    /// Most bytes that the calling thread had in use by its own balance, allocated less freed, since it began, or beyond what
    /// it had when it reset the peak last; looked at every 64 KiB once somebody has asked, and before that now and then.
    pub fn thread_peak(&'static self) -> u64 {
        let thread = self.thread();
        // SAFETY: the calling thread's state; shared states are not written.
        unsafe {
            if (*thread).kind != Kind::Live {
                return 0;
            }
            self.watch_peak(thread);
            Self::note_peak(thread);
            (*thread).events.peak
        }
    }

    /// The peak counts from here on, and from the present balance.
    pub fn reset_thread_peak(&'static self) {
        let thread = self.thread();
        // SAFETY: the calling thread's state; shared states are not written.
        unsafe {
            if (*thread).kind == Kind::Live {
                self.watch_peak(thread);
                (*thread).events.peak = 0;
                (*thread).events.peak_from = Self::balance(thread);
            }
        }
    }

    /// From the first question on the peak is looked at every so many bytes.
    unsafe fn watch_peak(&'static self, thread: *mut Thread) {
        // SAFETY: the caller's promise.
        unsafe {
            if (*thread).events.peak_at == NEVER {
                (*thread).events.peak_at = (*thread).allocated + PEAK_STEP;
                (*thread).events.plan();
                Self::arm(thread);
            }
        }
    }
}
