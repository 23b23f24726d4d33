//! The stack of a sample: recalled, or walked and interned.

use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;

use alloc_core::{ThreadSlot, sys};

use crate::profiler::Profiler;
use crate::sampler::word;
use crate::settings::DEPTH_MAX;
use crate::stacks::StackId;
use crate::unwind::{self, Cut, Recalled, Start, Trail};

/// Frames of a stack for which the smaller buffer is enough: the default of `prof_bt_max`.
const DEPTH_USUAL: u32 = 128;
/// Samples of a thread for which its stack is probed page by page, a microsecond or two each. Only then it is looked for
/// in the list of mappings, which takes longer than many a thread lives.
const SAMPLES_BEFORE_LOOK: usize = 8;

impl Profiler {
    /// Captures the caller's stack into a buffer of `FRAMES` and interns it.
    #[inline(never)]
    fn capture<const FRAMES: usize>(&self, stack: unwind::Stack, cut: &Cut, trail: &mut Trail<'_>) -> StackId {
        let settings = &self.settings;
        // Not cleared: a kilobyte, of which most stacks need little.
        let mut frames = [MaybeUninit::<usize>::uninit(); FRAMES];
        let depth = (settings.depth.load(Ordering::Relaxed) as usize).min(FRAMES);
        let capture = self.hooks.capture(cut, &mut frames[..depth]);
        let capture =
            capture.unwrap_or_else(|| unwind::capture(settings.method(), stack, cut, &mut frames[..depth], trail));
        if capture.end != unwind::End::Complete {
            // Each of them is counted.
            trail.lost();
            self.incomplete.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: a walk writes as many frames as it says.
        let frames = unsafe { core::slice::from_raw_parts(frames.as_ptr().cast::<usize>(), capture.depth) };
        self.stacks.intern(frames, capture.end)
    }

    /// The calling thread's stack from `entry` on.
    #[inline]
    pub(crate) fn interned_stack(&self, slot: &mut ThreadSlot, entry: sys::Entry) -> StackId {
        if self.is_watched() && self.hooks.captures() {
            return self.walk(slot, entry, &mut Trail::none());
        }
        let settings = &self.settings;
        let start = Start::new(entry, settings.method(), settings.depth.load(Ordering::Relaxed) as usize);
        match unwind::recall(&start, &self.sets_used) {
            Recalled::Known(number) => StackId(number),
            Recalled::New(None) => self.walk(slot, entry, &mut Trail::none()),
            Recalled::New(Some(mut place)) => {
                let mut trail = place.trail(&start);
                let stack = self.walk(slot, entry, &mut trail);
                if trail.ended() {
                    place.keep(stack.0);
                }
                stack
            }
        }
    }

    /// The same, walked anew.
    #[inline(never)]
    fn walk(&self, slot: &mut ThreadSlot, entry: sys::Entry, trail: &mut Trail<'_>) -> StackId {
        let known = &mut slot.words[word::STACK];
        let own_stack = if *known < SAMPLES_BEFORE_LOOK {
            *known += 1;
            unwind::Stack::UNKNOWN
        } else {
            // The stack for signals is not the thread's, which is looked for later then.
            if *known == SAMPLES_BEFORE_LOOK && !unwind::on_signal_stack() {
                *known = unwind::stack().word();
            }
            if *known == SAMPLES_BEFORE_LOOK { unwind::Stack::UNKNOWN } else { unwind::Stack::from_word(*known) }
        };
        let cut = Cut { entry, own: unwind::own_module() };
        // The usual depth needs a kilobyte of the program's stack, the greatest four.
        if self.settings.depth.load(Ordering::Relaxed) <= DEPTH_USUAL {
            self.capture::<{ DEPTH_USUAL as usize }>(own_stack, &cut, trail)
        } else {
            self.capture::<{ DEPTH_MAX as usize }>(own_stack, &cut, trail)
        }
    }
}
