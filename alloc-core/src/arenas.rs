//! Which arenas there are, and which one a thread or a request uses.
//!
//! Indices: the automatic arenas come first, then the one for oversize requests, then those that programs make.
//! Automatic arenas and the oversize one are made when they are first needed.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::arena::Arena;
use crate::heap::{Heap, INTERNAL_ARENA};
use crate::message::{Decimal, warn};
use crate::observer::Observer;
use crate::pages::Settings;
use crate::sys;
use crate::thread::{Kind, Thread};

/// How many arenas there may be; 0 until somebody asks.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Automatic arenas.
    auto: AtomicU32,
    /// CPUs that `percpu_arena` spreads threads over, 0: it is off.
    by_cpu: AtomicU32,
    /// All indices that are taken.
    pub(crate) total: AtomicU32,
}

impl Counts {
    pub(crate) const fn new() -> Self {
        Counts { auto: AtomicU32::new(0), by_cpu: AtomicU32::new(0), total: AtomicU32::new(0) }
    }

    /// Arenas that threads are bound to by the CPU that they run on.
    pub(crate) fn by_cpu(&self) -> u32 {
        self.by_cpu.load(Ordering::Relaxed)
    }
}

impl<O: Observer> Heap<O> {
    /// How many arena indices are taken, by arenas that need not have been made yet.
    pub fn narenas(&'static self) -> u32 {
        self.narenas_auto();
        self.core.counts.total.load(Ordering::Relaxed)
    }

    /// How many automatic arenas there may be: `narenas`, or `narenas_ratio` for each CPU that this process may use.
    pub fn narenas_auto(&'static self) -> u32 {
        let known = self.core.counts.auto.load(Ordering::Relaxed);
        if known != 0 { known } else { self.count_arenas() }
    }

    #[cold]
    #[unsafe(link_section = "heapsift_text")]
    fn count_arenas(&'static self) -> u32 {
        let options = self.options();
        let cpus = usable_cpus();
        let mut wanted = match (options.narenas, cpus) {
            (0, 1) => 1,
            // A share of an arena counts as one, and so does none at all.
            (0, cpus) => ((u64::from(cpus) * u64::from(options.narenas_ratio)) >> 16).max(1),
            (wanted, _) => wanted.into(),
        };
        if !options.percpu_arena.is(c"disabled") {
            // CPU numbers know nothing of a quota.
            let cpus = sys::affinity_cpus();
            let by_cpu = if options.percpu_arena.is(c"phycpu") { cpus.div_ceil(2) } else { cpus };
            wanted = if options.narenas == 0 { by_cpu.into() } else { wanted.max(by_cpu.into()) };
            self.core.counts.by_cpu.store(by_cpu, Ordering::Relaxed);
        }
        let count = wanted.min(INTERNAL_ARENA as u64 - 1) as u32;
        let oversize = u32::from(options.oversize_threshold != 0);
        let total = &self.core.counts.total;
        // Whoever comes second finds what the first has counted.
        let first = total.compare_exchange(0, count + oversize, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        self.core.counts.auto.store(count, Ordering::Relaxed);
        self.core.shared.note_arenas(count);
        if first && wanted > count.into() {
            let limit = Decimal::new(count.into());
            warn(&[b"Reducing narenas to limit (", limit.as_bytes(), b")"]);
        }
        count
    }

    /// Whether `index` is that of the arena for oversize requests.
    pub(crate) fn is_oversize_arena(&'static self, index: usize) -> bool {
        self.options().oversize_threshold != 0 && index == self.narenas_auto() as usize
    }

    /// Finds out about the machine what would take system calls later, for the calling thread as well: the program is about
    /// to have the kernel refuse them.
    pub fn look_before_sandbox(&'static self) {
        self.start();
        self.narenas_auto();
        crate::pages::ahead::mode();
        // The thread's state and its arena come with its first block.
        let block = self.allocate(1);
        // SAFETY: fresh, and nobody else's.
        unsafe { self.deallocate(block) };
    }

    /// To be called when the program has set itself limits: of address space the heap doesn't keep what it can do without.
    pub fn look_at_limits(&'static self) {
        self.core.shared.map.narrow();
    }

    /// To be called before the program locks all that it has mapped, which counts as memory then. What is locked is memory of
    /// the machine; there may be more that isn't.
    pub fn look_before_lock(&'static self) {
        if let Some(bytes) = crate::sys::extra::physical_bytes() {
            self.core.shared.map.narrow_to(bytes.saturating_mul(4));
        }
    }

    /// Arena `index`, made if need be; `None`: out of range, made by programs only, or no memory.
    #[unsafe(link_section = "heapsift_text")]
    pub(crate) fn arena(&'static self, index: usize) -> Option<&'static Arena> {
        if !self.core.arenas.is_there() {
            return None;
        }
        let slot = self.core.arenas.slot(index)?;
        let known = slot.load(Ordering::Acquire);
        if !known.is_null() {
            // SAFETY: arenas are never unmapped once they are in the table.
            return Some(unsafe { &*known });
        }
        if index > 0
            && index != INTERNAL_ARENA
            && index >= self.narenas_auto() as usize
            && !self.is_oversize_arena(index)
        {
            return None;
        }
        let options = self.options();
        let settings = Settings {
            arena: index,
            dirty_ms: self.core.default_dirty_ms.load(Ordering::Relaxed),
            muzzy_ms: self.core.default_muzzy_ms.load(Ordering::Relaxed),
            hooks: null_mut(),
            dss: self.core.default_dss.load(Ordering::Relaxed),
            tracks: false,
            huge_pages: options.huge_arena_pac_thp && self.is_oversize_arena(index),
        };
        let made = Arena::create(&settings, &self.core.shared, options)?;
        self.core.arenas.expect(index);
        // Release: pairs with the Acquire above. A loser's arena is unused metadata for good: rare and small.
        match slot.compare_exchange(null_mut(), (&raw const *made).cast_mut(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(made),
            // SAFETY: the winner's arena, in the table for good.
            Err(winner) => Some(unsafe { &*winner }),
        }
    }

    /// The arena of a request: the one it names, the thread's, or the first.
    pub(crate) fn arena_for(&'static self, thread: *mut Thread, wanted: Option<u32>) -> Option<&'static Arena> {
        if let Some(index) = wanted {
            return self.arena(index as usize);
        }
        // SAFETY: the calling thread's state.
        let bound = unsafe { (*thread).arena };
        let by_cpu = self.core.counts.by_cpu.load(Ordering::Relaxed);
        if by_cpu != 0
            && let Some(arena) = self.arena_of_cpu(thread, by_cpu)
        {
            return Some(arena);
        }
        match bound {
            Some(arena) => Some(arena),
            // A thread without a state may be in the middle of a hook of the first arena's.
            None if self.core.arenas.get(0).is_some_and(|first| first.pages.has_hooks()) => self.arena(INTERNAL_ARENA),
            None => self.arena(0),
        }
    }

    /// The arena of a large request: oversize ones of threads that use automatic arenas go to an arena of their own,
    /// so that they don't tear holes into the others.
    pub(crate) fn arena_for_large(
        &'static self,
        thread: *mut Thread,
        bytes: usize,
        wanted: Option<u32>,
    ) -> Option<&'static Arena> {
        let threshold = self.options().oversize_threshold;
        if wanted.is_none() && threshold != 0 && bytes >= threshold {
            let auto = self.narenas_auto();
            // SAFETY: the calling thread's state. One without an arena may be in the middle of a hook of that very arena's.
            let is_auto = unsafe { (*thread).arena }.is_some_and(|arena| arena.index() < auto as usize);
            if is_auto && let Some(arena) = self.arena(auto as usize) {
                return Some(arena);
            }
        }
        self.arena_for(thread, wanted)
    }

    /// With `percpu_arena`: the arena of the CPU that the thread runs on, to which it is bound from here on. A thread
    /// that a program has bound to an arena of its own stays there.
    #[cold]
    fn arena_of_cpu(&'static self, thread: *mut Thread, by_cpu: u32) -> Option<&'static Arena> {
        // SAFETY: the calling thread's state; shared states are not written. Here no arena is odd: see `Pages::begin`.
        unsafe {
            // A thread without an arena may be in the middle of a hook of that very one's.
            let bound = (*thread).arena?;
            // With `phycpu` the upper half of the CPUs are the second threads of the lower half.
            let index = sys::cpu()? % by_cpu;
            if bound.index() == index as usize {
                return Some(bound);
            }
            if bound.index() >= by_cpu as usize {
                return None;
            }
            let arena = self.arena(index as usize)?;
            self.bind(thread, arena);
            Some(arena)
        }
    }

    /// Binds a thread to an arena. Blocks in its caches keep theirs.
    ///
    /// # Safety
    /// `thread` is the calling thread's state. Its caches are empty, or both arenas are odd, or neither is.
    pub(crate) unsafe fn bind(&'static self, thread: *mut Thread, arena: &'static Arena) {
        // SAFETY: the caller's promise; shared states are not written.
        unsafe {
            if (*thread).kind == Kind::Live {
                if arena.pages.is_odd() != (*thread).is_odd() {
                    // Other threads look at states in the list under its lock.
                    let _threads = self.core.threads.lock();
                    (*thread).set_odd(arena.pages.is_odd(), self.options());
                }
                arena.threads.fetch_add(1, Ordering::Relaxed);
                if let Some(old) = (*thread).arena.replace(arena) {
                    old.threads.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// The arena for a new thread: one without threads, else the one with the fewest.
    pub(crate) fn choose_arena(&'static self) -> Option<&'static Arena> {
        /// Threads that start at the same moment see the same arenas; after so many tries one takes what it has found.
        const TRIES: u32 = 8;
        for round in 1.. {
            let (arena, threads) = self.least_used_arena()?;
            let taken = arena.threads.compare_exchange(threads, threads + 1, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                return Some(arena);
            }
            if round == TRIES {
                arena.threads.fetch_add(1, Ordering::Relaxed);
                return Some(arena);
            }
        }
        None
    }

    /// An arena without threads, made if need be, else the one with the fewest; and how many it has.
    fn least_used_arena(&'static self) -> Option<(&'static Arena, u32)> {
        let first = self.arena(0)?;
        let mut least = (first, first.threads.load(Ordering::Relaxed));
        for index in 1..self.narenas_auto() as usize {
            if least.1 == 0 {
                break;
            }
            let known = self.core.arenas.get(index);
            let Some(arena) = known.or_else(|| self.arena(index)) else { break };
            let threads = arena.threads.load(Ordering::Relaxed);
            if threads < least.1 {
                least = (arena, threads);
            }
        }
        Some(least)
    }
}

/// CPUs that this process may use: the affinity mask, or the cgroup's quota when that is lower.
#[unsafe(link_section = "heapsift_text")]
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
