//! Which ranks of locks each thread holds, in builds with assertions: a table by thread pointer, no thread-local needed.

pub(crate) use checked::{forget, forget_others, gave, remember, took};

#[cfg(debug_assertions)]
mod checked {
    use crate::lock::Rank;
    use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
    use crate::sys;

    const SLOTS: usize = 1024;
    static OWNER: [AtomicUsize; SLOTS] = [const { AtomicUsize::new(0) }; SLOTS];
    static HELD: [AtomicU32; SLOTS] = [const { AtomicU32::new(0) }; SLOTS];

    fn slot() -> Option<&'static AtomicU32> {
        let me = sys::thread_pointer();
        let start = me >> 6;
        for probe in 0..SLOTS {
            let i = start.wrapping_add(probe) % SLOTS;
            let owner = OWNER[i].load(Ordering::Relaxed);
            if owner == me
                || (owner == 0 && OWNER[i].compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed).is_ok())
            {
                return Some(&HELD[i]);
            }
        }
        None
    }

    pub(crate) fn took(rank: Rank) {
        if let Some(held) = slot() {
            let mask = held.load(Ordering::Relaxed);
            debug_assert!(mask >> (rank as u32) == 0, "lock of rank {rank:?} taken while {mask:#b} are held");
            held.store(mask | 1 << (rank as u32), Ordering::Relaxed);
        }
    }

    pub(crate) fn forget_others() {
        let me = sys::thread_pointer();
        for (owner, held) in OWNER.iter().zip(&HELD) {
            if owner.load(Ordering::Relaxed) != me {
                held.store(0, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn forget() -> u32 {
        slot().map_or(0, |held| held.swap(0, Ordering::Relaxed))
    }

    pub(crate) fn remember(mask: u32) {
        if let Some(held) = slot() {
            held.store(mask, Ordering::Relaxed);
        }
    }

    pub(crate) fn gave(rank: Rank) {
        if let Some(held) = slot() {
            held.store(held.load(Ordering::Relaxed) & !(1 << (rank as u32)), Ordering::Relaxed);
        }
    }
}

#[cfg(not(debug_assertions))]
mod checked {
    use crate::lock::Rank;
    #[inline(always)]
    pub(crate) fn took(_: Rank) {}
    #[inline(always)]
    pub(crate) fn gave(_: Rank) {}
    #[inline(always)]
    pub(crate) fn forget_others() {}
    #[inline(always)]
    pub(crate) fn forget() -> u32 {
        0
    }
    #[inline(always)]
    pub(crate) fn remember(_: u32) {}
}
