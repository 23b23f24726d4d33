//! Who wants to know of each sample, beside the counts and records that all are kept in: the watch for peaks, the program's
//! hooks, the last allocations, the log of lives, the sums by class, the counts of stacks that free.

use core::sync::atomic::Ordering;

use alloc_core::{Block, ThreadSlot, sys};

use crate::frees::Free;
use crate::journal::Life;
use crate::lifetimes::class_of;
use crate::names::Names;
use crate::profiler::Profiler;
use crate::recent::{Entry, Event};
use crate::records::Record;
use crate::stacks::StackId;

impl Profiler {
    /// Has samples ask everybody who may want to know more of them: to be called before such a one is switched on. There is
    /// no way back, so that nobody is left out who is switched on at the same time as another one is switched off.
    pub(crate) fn watch(&self) {
        self.watched.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Switches the watch for peaks on or off.
    pub(crate) fn watch_peak(&self, on: bool) {
        if on {
            self.watch();
        }
        self.peak.set(on);
        if !on {
            self.records.forget_peak();
        }
    }

    /// Tells of a sample to whoever wants to know of each.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell_start(&'static self, slot: &mut ThreadSlot, block: &Block, stack: StackId) {
        let (requested, usable) = (block.requested_bytes, block.usable_bytes);
        self.class_stats.sampled(usable, requested);
        if self.recent.is_on() {
            let time_ns = sys::clock_realtime_ns();
            let born = Event { thread: slot.uid as u32, name: Names::current(slot), stack, time_ns };
            self.recent.sampled(&Entry { address: block.address, requested, usable, born, freed: Event::default() });
        }
        if self.hooks.hears_samples() {
            self.hooks.sampled(block.address, requested, self.stacks.get(stack).frames, usable);
        }
        // With its record: if this block makes the peak, it is part of it.
        self.peak.account();
    }

    /// Counts the lifetime of a sampled block, and tells of its free to whoever wants to know of each.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell_end(&'static self, slot: &mut ThreadSlot, record: &Record, age_ns: u64) {
        let as_event = self.recent.is_on() || self.journal.wants(record.birth);
        let by_stack = self.settings.lifetime_frees.load(Ordering::Relaxed) && !record.is_forgotten();
        let origin = self.buckets.origin(record.bucket);
        let (address, usable) = (record.address as usize, origin.usable as usize);
        self.class_stats.freed(usable, usable.saturating_sub(record.unasked as usize));
        let class = class_of(age_ns, record.is_of(slot));
        // One that was forgotten isn't to be.
        let mut is_counted = record.is_forgotten();
        if as_event || by_stack {
            let time_ns = as_event.then(sys::clock_realtime_ns);
            self.refresh(slot, sys::ticks());
            let stack = self.interned_stack(slot, sys::entry());
            let name = Names::current(slot);
            if by_stack {
                is_counted = self.frees.add(&Free { bucket: record.bucket, stack, class: class as u16, name });
            }
            if let Some(time_ns) = time_ns {
                let freed = Event { thread: slot.uid as u32, name, stack, time_ns };
                let born_ns = time_ns.saturating_sub(age_ns);
                let born = Event { thread: record.thread, name: record.name, stack: origin.stack, time_ns: born_ns };
                self.recent.freed(address, &freed);
                if self.journal.wants(record.birth) {
                    self.journal.ended(&Life { usable: origin.usable, born, freed });
                }
            }
        }
        if !is_counted {
            self.lifetimes.freed(record.bucket, class);
        }
        self.hooks.freed(address, usable);
    }
}
