//! How many blocks of which sizes a thread caches: what the options say, or the program for a thread of its own.

use crate::conf::{self, Options, UNSET};
use crate::heap::Heap;
use crate::observer::Observer;
use crate::size::{self, NBINS, NCLASSES, NHBINS, PAIRED};
use crate::thread::{Kind, Thread, foreign_slots};

/// Slots of a class above jemalloc's largest cached one.
const LARGE_SLOTS: usize = 8;
/// Most slots that a cache of a slab class grows to, and most bytes in it, where the options are jemalloc's defaults.
const GROWN_SLOTS: usize = 1024;
const GROWN_BYTES: usize = 128 << 10;

/// What a thread's caches are to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Size of the largest cached class.
    pub(crate) max: usize,
    /// Slots by class, [`UNSET`] where a rule gives them.
    pub(crate) counts: [u16; NHBINS + 1],
}

/// Limits of a state's own, with slots that are used instead of those that came with the state.
#[derive(Debug)]
pub(crate) struct OwnLimits {
    limits: Limits,
    slots: *mut *mut u8,
    /// How many.
    length: usize,
}

impl Limits {
    /// What the options say.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) fn of(options: &Options) -> Self {
        Limits { max: size::class_bytes(options.cached_classes()), counts: options.tcache_ncached_max }
    }

    /// Slots of all classes, with one below the first of each.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) fn slots_needed(&self, options: &Options) -> usize {
        let of_class = |class| {
            let foreign = if class <= PAIRED { foreign_slots(class, self.capacity(class, options)) + 1 } else { 0 };
            self.capacity_max(class, options) + 1 + foreign
        };
        (1..=NCLASSES).map(of_class).sum()
    }

    /// Slots that the cache of `class` has at first under these limits and `options`: jemalloc's rule, twice the regions of a slab within
    /// bounds, for the classes that it caches; a few for the larger ones, unless larger caches have been ruled out. Those of
    /// whole pages get theirs one by one, as they are used.
    pub(crate) fn capacity(&self, class: usize, options: &Options) -> usize {
        let bytes = size::class_bytes(class);
        if bytes > size::CACHED_MAX {
            return if self.max < size::CACHED_MAX { 0 } else { LARGE_SLOTS };
        }
        if bytes > self.max {
            return 0;
        }
        if self.counts[class] != UNSET {
            return self.counts[class] as usize;
        }
        if class > NBINS {
            return options.tcache_nslots_large as usize;
        }
        // As many as jemalloc has, whose slabs are smaller.
        let regions = size::regions_fewest(class);
        let mul = options.lg_tcache_nslots_mul;
        let wanted =
            if mul >= 0 { regions.checked_shl(mul as u32).unwrap_or(usize::MAX) } else { regions >> -mul.max(-16) };
        let (low, high) = (options.tcache_nslots_small_min as usize, options.tcache_nslots_small_max as usize);
        // Even, so that half of it is a whole number.
        (wanted.clamp(low.min(high).max(2), high.max(2)) + 1) & !1
    }

    /// What the cache of `class` may grow to when its thread overflows it again and again: more for slab classes, unless the
    /// options say how many slots a class is to have.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) fn capacity_max(&self, class: usize, options: &Options) -> usize {
        let first = self.capacity(class, options);
        if class > NBINS || first == 0 {
            return first;
        }
        if !Self::are_free(options) || self.counts[class] != UNSET {
            return first;
        }
        first.max((GROWN_BYTES / size::class_bytes(class)).min(GROWN_SLOTS))
    }

    /// Whether the options say nothing of how many slots slab classes are to have.
    fn are_free(options: &Options) -> bool {
        let default = &Options::DEFAULT;
        options.tcache_nslots_small_min == default.tcache_nslots_small_min
            && options.tcache_nslots_small_max == default.tcache_nslots_small_max
            && options.lg_tcache_nslots_mul == default.lg_tcache_nslots_mul
    }

    /// Whether nobody has said of any class how many slots it is to have.
    pub(crate) fn are_usual(&self, options: &Options) -> bool {
        Self::are_free(options) && self.counts.iter().all(|&count| count == UNSET)
    }
}

impl Thread {
    /// The limits that the thread has of its own, if it has, and their slots.
    pub(crate) fn own_slots(&self) -> Option<(Limits, *mut *mut u8)> {
        // SAFETY: made for this state, and never given back.
        self.has_own_limits.then(|| unsafe { ((*self.own_limits).limits, (*self.own_limits).slots) })
    }

    /// Goes back to what the options say. All caches are empty.
    pub(crate) fn drop_own_limits(&mut self, options: &Options) {
        if core::mem::take(&mut self.has_own_limits) {
            // SAFETY: the slots that came with the state are there still, and nothing lies in those of its own limits.
            unsafe { self.lay_out_again(options) };
        }
    }

    /// The limits that hold for the thread.
    fn limits(&self, options: &Options) -> Limits {
        // SAFETY: made for this state, and never given back.
        if self.has_own_limits { unsafe { (*self.own_limits).limits } } else { Limits::of(options) }
    }
}

impl<O: Observer> Heap<O> {
    /// Size of the largest class that the calling thread caches, by `thread.tcache.max` or the options; a few blocks of
    /// larger ones are cached unless it is less than [`size::CACHED_MAX`].
    pub fn thread_tcache_max(&'static self) -> usize {
        // SAFETY: the calling thread's state; shared ones have no limits of their own.
        unsafe { (*self.thread()).limits(self.options()) }.max
    }

    /// Has the calling thread cache classes up to the one of `bytes`, at most [`size::CACHED_MAX`]; its caches are emptied.
    /// `false`: there is no memory for it, or the thread has no caches of its own.
    pub fn set_thread_tcache_max(&'static self, bytes: usize) -> bool {
        let max = size::class_bytes(size::class_of(bytes.clamp(1, size::CACHED_MAX)));
        self.change_limits(|limits| limits.max = max)
    }

    /// Blocks of the class of `bytes` that the calling thread's cache holds before it is used enough to grow. `None`:
    /// larger than any class that jemalloc might cache, 8 MiB.
    pub fn thread_ncached_max(&'static self, bytes: usize) -> Option<usize> {
        const LIMIT: usize = 8 << 20;
        // SAFETY: the calling thread's state.
        let thread = unsafe { &*self.thread() };
        match bytes {
            bytes if bytes > LIMIT => None,
            bytes if !thread.caching || bytes > size::CLASS_MAX => Some(0),
            bytes => Some(thread.limits(self.options()).capacity(size::class_of(bytes.max(1)), self.options())),
        }
    }

    /// Sets the slots of the calling thread's caches by settings such as `8-128:1|160-160:11`; its caches are emptied.
    /// `None`: the settings make no sense, and nothing has changed; `Some(false)` as for
    /// [`Heap::set_thread_tcache_max`].
    pub fn set_thread_ncached_max(&'static self, settings: &[u8]) -> Option<bool> {
        // SAFETY: as above.
        let mut counts = unsafe { (*self.thread()).limits(self.options()) }.counts;
        if !conf::read_ncached_max(settings, &mut counts) {
            return None;
        }
        Some(self.change_limits(|limits| limits.counts = counts))
    }

    fn change_limits(&'static self, change: impl FnOnce(&mut Limits)) -> bool {
        let (thread, options) = (self.thread(), self.options());
        // SAFETY: the calling thread's own state; shared ones are not written. Other threads look at states in the list
        // under its lock only.
        unsafe {
            if (*thread).kind != Kind::Live {
                return false;
            }
            let mut limits = (*thread).limits(options);
            change(&mut limits);
            let Some(own) = self.own_limits(&mut *thread, limits.slots_needed(options)) else { return false };
            self.flush_all(thread);
            let _threads = self.core.threads.lock();
            (*own).limits = limits;
            (*thread).has_own_limits = true;
            (*thread).class_share = usize::MAX;
            (*thread).lay_out_again(options);
        }
        true
    }

    /// A state's own limits, with so many slots at least; those in use stay as they are until they are changed. Nothing is
    /// given back, but what was made for a state is used again by it.
    fn own_limits(&'static self, thread: &mut Thread, length: usize) -> Option<*mut OwnLimits> {
        let shared = &self.core.shared;
        if thread.own_limits.is_null() {
            let own: *mut OwnLimits = shared.allocate_metadata(core::mem::size_of::<OwnLimits>(), 64)?.cast();
            // SAFETY: fresh memory of that size.
            unsafe {
                own.write(OwnLimits { limits: Limits::of(self.options()), slots: core::ptr::null_mut(), length: 0 });
            }
            thread.own_limits = own;
        }
        let own = thread.own_limits;
        // SAFETY: made above, or before for this state.
        unsafe {
            if (*own).length < length {
                let length = length.next_power_of_two();
                let slots = shared.allocate_metadata(length * core::mem::size_of::<*mut u8>(), 64)?;
                ((*own).slots, (*own).length) = (slots.cast(), length);
            }
        }
        Some(own)
    }
}
