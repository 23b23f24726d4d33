//! The observer: takes samples, keeps them, and starts dumps.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use alloc_core::ctl::Node;
use alloc_core::lock::Counts;
use alloc_core::stats::SampleSums;
use alloc_core::{Block, Observer, OptionVerdict, ThreadSlot, sys};
use pprof_export::unsample::probability;

use crate::buckets::{Buckets, Origin};
use crate::class_stats::ClassStats;
use crate::clock::Clock;
use crate::frees::Frees;
use crate::guard;
use crate::hooks::Hooks;
use crate::journal::Journal;
use crate::labels::Labels;
use crate::lifetimes::{Lifetimes, class_of};
use crate::names::Names;
use crate::naming::Trigger;
use crate::peak::Peak;
use crate::recent::Recent;
use crate::records::{Ended, Record, Records};
use crate::reset::Resets;
use crate::sampler::{self, NEVER, Seed, choice, word};
use crate::settings::{Path, Settings};
use crate::stacks::Stacks;
use crate::unwind;
use crate::{HEAP, dump, helpers, nodes, probes};

/// Watches the heap of this program.
///
/// What each sample asks for comes first, in two cache lines: what lies between two samples leaves none of them near the
/// processor.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Profiler {
    pub(crate) clock: Clock,
    pub(crate) lifetimes: Lifetimes,
    /// Grows when waits that have been drawn are no longer right.
    generation: AtomicUsize,
    /// The number of the dump interval, from 1; moved on by each dump.
    pub(crate) epoch: AtomicU32,
    /// Whether anything was ever switched on that wants more of samples than their counts: the watch for peaks, the
    /// program's hooks, the last allocations, the log, sums by class, the stacks that free. Only then a
    /// sample asks each of them.
    pub(crate) watched: AtomicBool,
    pub(crate) helpers_due: helpers::Due,
    interval_due: AtomicBool,
    maximum_due: AtomicBool,
    seed: Seed,
    pub(crate) resets: Resets,
    pub(crate) sets_used: unwind::SetsUsed,
    pub(crate) settings: Settings,
    started: AtomicBool,
    exit_registered: AtomicBool,
    pub(crate) hooks: Hooks,
    pub(crate) peak: Peak,
    pub(crate) recent: Recent,
    pub(crate) journal: Journal,
    pub(crate) class_stats: ClassStats,
    pub(crate) frees: Frees,
    pub(crate) buckets: Buckets,
    pub(crate) records: Records,
    pub(crate) stacks: Stacks,
    pub(crate) names: Names,
    pub(crate) labels: Labels,
    /// Samples whose stack doesn't reach the start of its thread.
    pub(crate) incomplete: AtomicU64,
    /// Bytes allocated (as the samples tell) since the last interval dump.
    interval_bytes: AtomicU64,
}

impl Profiler {
    /// A profiler that is off until the configuration says otherwise.
    pub const fn new() -> Self {
        Profiler {
            seed: Seed::new(),
            resets: Resets::new(),
            sets_used: unwind::SetsUsed::new(),
            watched: AtomicBool::new(false),
            helpers_due: helpers::Due::new(),
            settings: Settings::new(),
            stacks: Stacks::new(),
            records: Records::new(),
            buckets: Buckets::new(),
            names: Names::new(),
            labels: Labels::new(),
            peak: Peak::new(),
            lifetimes: Lifetimes::new(),
            recent: Recent::new(),
            journal: Journal::new(),
            class_stats: ClassStats::new(),
            frees: Frees::new(),
            hooks: Hooks::new(),
            clock: Clock::new(),
            epoch: AtomicU32::new(1),
            incomplete: AtomicU64::new(0),
            // Not 0, which a new thread's slot holds.
            generation: AtomicUsize::new(1),
            interval_bytes: AtomicU64::new(0),
            started: AtomicBool::new(false),
            exit_registered: AtomicBool::new(false),
            interval_due: AtomicBool::new(false),
            maximum_due: AtomicBool::new(false),
        }
    }

    fn samples_now(&self, slot: &ThreadSlot) -> bool {
        let settings = &self.settings;
        settings.enabled.load(Ordering::Relaxed)
            && settings.active.load(Ordering::Relaxed)
            && match slot.words[word::CHOICES] & (choice::ACTIVE | choice::INACTIVE) {
                0 => settings.thread_active_init.load(Ordering::Relaxed),
                chosen => chosen == choice::ACTIVE,
            }
    }

    /// Switches profiling on or off in the running process.
    pub(crate) fn enable(&'static self, on: bool) {
        HEAP.ensure_booted();
        if on {
            self.prepare();
        }
        self.settings.enabled.store(on, Ordering::Relaxed);
        if on && self.started.load(Ordering::Relaxed) {
            self.register_exit();
            helpers::start();
        }
        self.retune();
    }

    /// Sets the mean distance of samples, of those to come.
    pub(crate) fn set_interval(&'static self, bytes: u64) {
        self.settings.set_interval(bytes);
        self.retune();
    }

    /// Waits drawn so far are void.
    pub(crate) fn retune(&'static self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.peak.look_soon();
        HEAP.redraw_waits();
    }

    /// Begins a new dump interval.
    pub(crate) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// As [`Profiler::next_epoch`], for a dump of the one that ends. The caller has its turn.
    pub(crate) fn end_epoch(&self) -> Ended<'_> {
        let ended = self.records.end(self.epoch.load(Ordering::Relaxed));
        self.next_epoch();
        ended
    }

    fn prepare(&self) {
        self.seed.set(self.settings.seed());
        self.clock.start();
        self.lifetimes.prepare();
        unwind::make_tables();
    }

    /// Has the end of the process told, once.
    fn register_exit(&self) {
        let settings = &self.settings;
        let wanted =
            [&settings.final_dump, &settings.leak, &settings.log].iter().any(|flag| flag.load(Ordering::Relaxed));
        if wanted {
            self.tell_exit();
        }
    }

    /// Has the end of the process told to [`dump::at_exit`], once.
    pub(crate) fn tell_exit(&self) {
        if !self.exit_registered.swap(true, Ordering::Relaxed) {
            // SAFETY: a plain function.
            unsafe { libc::atexit(dump::at_exit) };
        }
    }

    /// Reads the thread's name again after a few milliseconds: a system call, as dear as all the rest of a sample.
    #[inline]
    pub(crate) fn refresh(&self, slot: &mut ThreadSlot, ticks: u64) {
        // 1 to 8 ms on processors of today.
        const PAUSE_TICKS: u64 = 1 << 23;
        if slot.words[word::NAME_ID] == 0 || ticks.wrapping_sub(slot.words[word::READ] as u64) > PAUSE_TICKS {
            slot.words[word::READ] = ticks as usize;
            self.names.refresh(slot);
        }
    }

    /// Counts the bytes that a sample stands for, and notes when a dump is due for them.
    #[cold]
    #[inline(never)]
    fn count_towards_dump(&self, interval: u64, usable: u64, period: u64) {
        let bytes = (usable as f64 / probability(usable, period)) as u64;
        let mut sum = self.interval_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        while sum >= interval {
            let rest = sum % interval;
            match self.interval_bytes.compare_exchange_weak(sum, rest, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    self.interval_due.store(true, Ordering::Relaxed);
                    return;
                }
                Err(now) => sum = now,
            }
        }
    }
}

impl Default for Profiler {
    fn default() -> Self {
        Self::new()
    }
}

/// Usable bytes that were not asked for, as records hold them.
fn unasked(usable: usize, requested: usize) -> u32 {
    u32::try_from(usable.saturating_sub(requested)).unwrap_or(u32::MAX)
}

/// Whether a flag is set, which it isn't any more then. All threads read it at each sample: only who finds it set writes.
#[inline]
fn take(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed) && flag.swap(false, Ordering::Relaxed)
}

impl Observer for Profiler {
    const ENABLED: bool = true;

    fn option(&'static self, key: &[u8], value: &[u8]) -> OptionVerdict {
        self.settings.set(key, value)
    }

    #[unsafe(link_section = "heapsift_text")]
    fn boot(&'static self) {
        let settings = &self.settings;
        settings.control.boot();
        // SAFETY: the heap boots once, and nobody asks for the settings before that.
        unsafe { settings.freeze() };
        if settings.peak.load(Ordering::Relaxed) {
            self.watch_peak(true);
        }
        let recent = settings.recent.load(Ordering::Relaxed);
        if recent != 0 {
            self.watch();
            self.recent.keep(recent);
        }
        if settings.stats.load(Ordering::Relaxed) {
            self.watch();
            self.class_stats.on.store(true, Ordering::Relaxed);
        }
        if settings.lifetime_frees.load(Ordering::Relaxed) {
            self.watch();
        }
        if settings.enabled.load(Ordering::Relaxed) {
            self.prepare();
            if settings.log.load(Ordering::Relaxed) {
                self.watch();
                self.journal.start(Path::from_const(b""));
            }
        }
        if settings.leak_error.load(Ordering::Relaxed) && !settings.final_dump.load(Ordering::Relaxed) {
            alloc_core::message::warn(&[b"prof_leak_error is set w/o prof_final."]);
        }
    }

    #[unsafe(link_section = "heapsift_text")]
    fn start(&'static self) {
        self.started.store(true, Ordering::Relaxed);
        unwind::prepare();
        if self.settings.enabled.load(Ordering::Relaxed) {
            self.register_exit();
        }
        guard::start(self);
        helpers::heap_started();
    }

    #[inline]
    fn next_wait(&'static self, slot: &mut ThreadSlot) -> u64 {
        let generation = self.generation.load(Ordering::Relaxed);
        slot.words[word::DRAWN] = generation;
        let wait = if self.samples_now(slot) {
            sampler::wait(slot, &self.seed, self.settings.interval.load(Ordering::Relaxed))
        } else {
            NEVER
        };
        match self.helpers_due.after() {
            Some(sooner) if sooner < wait => {
                slot.words[word::DRAWN] = generation.wrapping_sub(1);
                sooner
            }
            _ => wait,
        }
    }

    #[inline]
    fn is_wait_void(&'static self, slot: &ThreadSlot) -> bool {
        slot.words[word::DRAWN] != self.generation.load(Ordering::Relaxed)
    }

    #[inline]
    fn ask_for(&'static self, address: usize, arena: usize) {
        self.records.ask_for(address, arena);
    }

    #[inline]
    fn sampled(&'static self, slot: &mut ThreadSlot, block: &Block) -> bool {
        if !self.samples_now(slot) {
            return false;
        }
        let stack = self.interned_stack(slot, block.entry);
        let birth = sys::ticks();
        self.refresh(slot, birth);
        let period = self.settings.interval.load(Ordering::Relaxed);
        let usable = block.usable_bytes as u64;
        let watched = self.is_watched();
        // Counted before there is a record, so that a dump never finds more blocks in use than were allocated.
        let resets = self.resets.count();
        let peak = if watched { self.peak.number() } else { 0 };
        let Some(bucket) = self.buckets.add(Origin { usable, period, stack }, peak) else { return false };
        let dump_interval = self.settings.dump_interval.load(Ordering::Relaxed);
        if dump_interval != 0 {
            self.count_towards_dump(dump_interval, usable, period);
        }
        let record = Record {
            address: block.address as u64,
            birth,
            bucket,
            unasked: unasked(block.usable_bytes, block.requested_bytes),
            epoch: self.epoch.load(Ordering::Relaxed),
            peak,
            thread: slot.uid as u32,
            name: Names::current(slot),
            labels: Labels::current(slot),
        };
        let kept = self.records.insert(&record, block.arena);
        if self.resets.any_since(resets) {
            // Its count may be gone.
            self.records.change(block.address, block.arena, Record::forget);
        }
        probes::allocated(block.address, block.usable_bytes, period);
        if watched {
            self.tell_start(slot, block, stack);
        }
        kept
    }

    #[inline]
    fn freed(&'static self, slot: &mut ThreadSlot, address: usize, arena: usize) -> bool {
        let watched = self.is_watched();
        let mut peak = 0;
        if watched {
            // Before the block is gone: the heap hasn't counted its free yet.
            self.peak.account();
            peak = self.peak.kept();
        }
        let Some(record) = self.records.remove(address, arena, peak) else { return false };
        probes::freed(address);
        let age_ns = self.clock.nanoseconds_since(record.birth);
        if watched {
            // Of forgotten ones too: who has heard of the sample waits for its end.
            self.tell_end(slot, &record, age_ns);
        } else if !record.is_forgotten() {
            self.lifetimes.freed(record.bucket, class_of(age_ns, record.is_of(slot)));
        }
        true
    }

    fn resized(&'static self, address: usize, requested_bytes: usize) {
        self.records.change(address, HEAP.arena_at(address), |record| {
            let usable = self.buckets.origin(record.bucket).usable as usize;
            let before = core::mem::replace(&mut record.unasked, unasked(usable, requested_bytes));
            if self.is_watched() {
                self.class_stats.freed(usable, usable.saturating_sub(before as usize));
                self.class_stats.sampled(usable, requested_bytes);
            }
        });
    }

    fn next_guard_wait(&'static self, slot: &mut ThreadSlot) -> Option<u64> {
        match self.settings.guard.load(Ordering::Relaxed) {
            0 => None,
            mean => Some(sampler::wait(slot, &self.seed, mean)),
        }
    }

    fn stack(&'static self, _slot: &mut ThreadSlot, entry: &sys::Entry, frames: &mut [usize]) -> usize {
        guard::stack(self, entry, frames)
    }

    fn tell_history(&'static self, address: usize) {
        guard::tell_history(self, address);
    }

    fn new_maximum(&'static self, _active_bytes: usize) {
        // Put off to the next sample, where a dump may allocate.
        self.maximum_due.store(true, Ordering::Relaxed);
    }

    fn wants_maxima(&self) -> bool {
        self.settings.maximum_dumps.load(Ordering::Relaxed)
    }

    fn deferred(&'static self, _slot: &mut ThreadSlot) {
        self.helpers_due.start();
        let is_due = |due| take(due) && !sys::sandbox::in_sandbox();
        if is_due(&self.interval_due) {
            // A failure has been told; nobody is there to hear more.
            let _ = dump::automatic(Trigger::Interval);
        }
        // `prof.gdump` may have been switched off since the maximum was noted.
        if is_due(&self.maximum_due) && self.wants_maxima() {
            let _ = dump::automatic(Trigger::Maximum);
        }
    }

    fn thread_exit(&'static self, _slot: &mut ThreadSlot) {
        self.peak.account();
    }

    fn sample_sums(&'static self, class: usize) -> Option<SampleSums> {
        if self.settings.enabled.load(Ordering::Relaxed) { self.class_stats.told(class) } else { None }
    }

    fn lock_counts(&'static self, name: &str) -> Counts {
        let mut counts = Counts::NONE;
        match name {
            "prof" => {
                counts.merge(&self.stacks.lock_counts());
                counts.merge(&self.buckets.lock_counts());
            }
            "prof_thds_data" => {
                counts.merge(&self.records.lock_counts());
                counts.merge(&self.names.lock_counts());
            }
            "prof_recent_alloc" => counts.merge(&self.recent.lock_counts()),
            "prof_dump" => counts.merge(&dump::lock_counts()),
            _ => {}
        }
        counts
    }

    fn reset_lock_counts(&'static self) {
        self.stacks.reset_lock_counts();
        self.buckets.reset_lock_counts();
        self.records.reset_lock_counts();
        self.names.reset_lock_counts();
        self.recent.reset_lock_counts();
        dump::reset_lock_counts();
    }

    fn is_memory_short(&'static self) -> bool {
        crate::memory::is_short()
    }

    fn fork_child(&'static self) {
        let chosen = self.settings.seed();
        HEAP.with_slot(|slot| self.seed.set_in_child(chosen, Some(slot)))
            .unwrap_or_else(|| self.seed.set_in_child(chosen, None));
        self.stacks.after_fork();
        self.records.after_fork();
        self.buckets.after_fork();
        self.names.after_fork();
        self.labels.after_fork();
        self.peak.after_fork();
        self.recent.after_fork();
        self.journal.after_fork();
        self.frees.after_fork();
        self.settings.prefix.after_fork(|_| {});
        self.end_reset_after_fork();
        self.interval_due.store(false, Ordering::Relaxed);
        self.maximum_due.store(false, Ordering::Relaxed);
        dump::after_fork();
        helpers::after_fork();
        // The child draws its own waits: parent and child must not sample in step.
        HEAP.redraw_wait();
    }

    fn nodes(&self) -> &'static [Node] {
        nodes::NODES
    }
}
