//! Walks that were taken before: most samples of a program come from few places, at the same depth of the same stack.
//!
//! A walk depends on where it starts and on the words of the stack that it reads: return addresses, and frame pointers
//! where a frame is found by one. When a sample is taken at the same place with the same registers, those words are
//! compared, in the order in which the walk read them. While they are equal, the walk of now would go to the same places:
//! each word read tells that the frame which holds the next one is there. If all are, its stack is the one of then, which
//! costs five instructions a frame instead of a hundred.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};

use alloc_core::sys::{self, Entry};

use super::Method;
use crate::busy::Busy;

/// Most words of a walk that is kept.
const WORDS: usize = 76;
/// Sets of places at most and at first, and places in each: walks that start at one stack pointer share a set. The most are
/// a megabyte, for programs in which a hundred threads sample.
const LG_SETS: u32 = 8;
const LG_SETS_FIRST: u32 = 1;
const WAYS: usize = 4;
/// So often for each set something that would have been of use must be missing before there are twice as many.
const MISSED: u32 = 8;

/// A walk that was taken.
#[repr(C, align(64))]
struct Walk {
    entry: Entry,
    /// What else decides how a walk is taken, see [`Start::how`].
    how: usize,
    /// The number that was kept with it; 0: no walk.
    number: u32,
    /// How many words were read.
    used: u32,
    /// Whether the frame pointer at the start says where a frame is.
    needs_bp: bool,
    /// Whether it was taken again.
    was_recalled: bool,
    /// What was read: where, in bytes from the stack pointer at the start, and what was there.
    offsets: [u32; WORDS],
    values: [usize; WORDS],
}

/// One page: programs that take few samples use few sets.
#[repr(C, align(4096))]
struct Set {
    busy: Busy,
    kept: UnsafeCell<Kept>,
}

/// What a set keeps.
#[repr(C)]
struct Kept {
    /// The place that the next new walk gets.
    next: u32,
    /// [`Start::tag`] of each walk: those of all places lie in one cache line, the walks do not.
    tags: [u32; WAYS],
    walks: [Walk; WAYS],
}

const _: () = assert!(core::mem::size_of::<Set>() == sys::PAGE);

// SAFETY: all but the flag is touched by whoever has set it, until it is cleared.
unsafe impl Sync for Set {}

const NO_WALK: Walk = Walk {
    entry: Entry { pc: 0, sp: 0, bp: 0 },
    how: 0,
    number: 0,
    used: 0,
    needs_bp: false,
    was_recalled: false,
    offsets: [0; WORDS],
    values: [0; WORDS],
};

static SETS: [Set; 1 << LG_SETS] = [const {
    Set {
        busy: Busy::new(),
        kept: UnsafeCell::new(Kept { next: 0, tags: [0; WAYS], walks: [const { NO_WALK }; WAYS] }),
    }
}; 1 << LG_SETS];

/// How many sets are used. A program whose walks are seldom the same, as one that recurses, is well served by few.
#[derive(Debug)]
pub struct SetsUsed {
    lg: AtomicU32,
    misses: AtomicU32,
}

impl SetsUsed {
    /// The first ones.
    pub const fn new() -> Self {
        SetsUsed { lg: AtomicU32::new(LG_SETS_FIRST), misses: AtomicU32::new(0) }
    }

    #[inline]
    fn lg(&self) -> u32 {
        self.lg.load(Ordering::Relaxed).min(LG_SETS)
    }

    /// A walk that was recalled before had to give way, or its set was in use.
    #[cold]
    fn note_miss(&self) {
        let used = self.lg();
        if used < LG_SETS && self.misses.fetch_add(1, Ordering::Relaxed) >= MISSED << used {
            self.misses.store(0, Ordering::Relaxed);
            // Relaxed, and no exchange: of two threads that do this at once, one goes without.
            self.lg.store(used + 1, Ordering::Relaxed);
        }
    }
}

impl Default for SetsUsed {
    fn default() -> Self {
        Self::new()
    }
}

/// How a walk is about to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    entry: Entry,
    how: usize,
}

impl Start {
    /// A walk by the calling thread from `entry` on, of at most `depth` frames.
    pub fn new(entry: Entry, method: Method, depth: usize) -> Start {
        // Of a thread that ended and whose stack has a new owner, the thread pointer is the same only if the stack is.
        let how = sys::thread_pointer() ^ (depth << 50) ^ ((method as usize) << 48);
        Start { entry, how }
    }

    /// Most other walks have another one.
    #[inline]
    fn tag(&self) -> u32 {
        let Entry { pc, sp, .. } = self.entry;
        ((sp ^ pc.rotate_left(32) ^ self.how).wrapping_mul(SPREAD) >> 32) as u32
    }
}

/// 2^64 divided by the golden ratio.
const SPREAD: usize = 0x9e37_79b9_7f4a_7c15;

/// What is known about a walk.
#[derive(Debug)]
pub enum Recalled {
    /// It was taken before, and this number kept with it.
    Known(u32),
    /// It is new, as far as can be told; its trail is to be kept here, if there is room now.
    New(Option<Place>),
}

/// A place for a walk, held until it is dropped.
#[derive(Debug)]
pub struct Place {
    set: &'static Set,
    way: usize,
}

impl core::fmt::Debug for Set {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Set").finish_non_exhaustive()
    }
}

/// Looks for a walk from `start` on. Never waits: when another thread, or the function that a signal handler has
/// interrupted, is at the same places, there is none. (In the child of a fork, places that threads of the parent held stay
/// held, and out of use.)
#[inline]
pub fn recall(start: &Start, used: &SetsUsed) -> Recalled {
    let set = &SETS[(start.entry.sp >> 3).wrapping_mul(SPREAD) >> (usize::BITS - used.lg())];
    if !set.busy.take() {
        used.note_miss();
        return Recalled::New(None);
    }
    // SAFETY: the flag is this thread's now.
    let kept = unsafe { &mut *set.kept.get() };
    let tag = start.tag();
    for (walk, _) in kept.walks.iter_mut().zip(&kept.tags).filter(|&(_, &kept)| kept == tag) {
        // SAFETY: the thread that calls runs on this stack.
        if unsafe { walk.is_taken_from(start) } {
            let number = walk.number;
            if !walk.was_recalled {
                // Not written each time: other threads read that line.
                walk.was_recalled = true;
            }
            set.busy.give();
            return Recalled::Known(number);
        }
    }
    let way = (kept.next as usize + 1) % WAYS;
    kept.next = way as u32;
    kept.tags[way] = tag;
    if core::mem::take(&mut kept.walks[way].was_recalled) {
        used.note_miss();
    }
    Recalled::New(Some(Place { set, way }))
}

impl Walk {
    /// Whether a walk from `start` on would read what this one has read.
    ///
    /// # Safety
    /// The calling thread stands at `start`.
    #[inline]
    unsafe fn is_taken_from(&self, start: &Start) -> bool {
        let Entry { pc, sp, bp } = self.entry;
        let same = sp == start.entry.sp && pc == start.entry.pc && self.how == start.how && self.number != 0;
        if !same || (self.needs_bp && bp != start.entry.bp) {
            return false;
        }
        let words = self.offsets.iter().zip(&self.values).take(self.used as usize);
        for (&offset, &value) in words {
            // SAFETY: words above the stack pointer of the calling thread. All those before were equal, so the walk of
            // then and one of now have the same frames up to the one that holds this word: it is in use, and mapped.
            if unsafe { core::ptr::with_exposed_provenance::<usize>(sp + offset as usize).read() } != value {
                return false;
            }
        }
        true
    }
}

impl Place {
    fn walk(&mut self) -> &mut Walk {
        // SAFETY: the set's flag is held by this place.
        unsafe { &mut (&mut *self.set.kept.get()).walks[self.way] }
    }

    /// The trail of a walk that starts now, to be written down here.
    pub fn trail(&mut self, start: &Start) -> Trail<'_> {
        let walk = self.walk();
        walk.number = 0;
        (walk.entry, walk.how) = (start.entry, start.how);
        Trail { used: 0, needs_bp: false, bp: FramePointer::AtStart, walk: Some(walk) }
    }

    /// Keeps `number`, not 0, with a walk that came to its end.
    pub fn keep(mut self, number: u32) {
        self.walk().number = number;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.set.busy.give();
    }
}

/// Where the frame pointer comes from at some point of a walk.
enum FramePointer {
    /// It is the register's at the start.
    AtStart,
    /// It was read here, which no frame depends on yet.
    Read(usize, usize),
    /// It is part of the trail.
    Noted,
}

/// What a walk has read, as far as its way depends on it.
pub struct Trail<'a> {
    /// Null: it isn't kept.
    walk: Option<&'a mut Walk>,
    used: usize,
    needs_bp: bool,
    bp: FramePointer,
}

impl core::fmt::Debug for Trail<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Trail").field("used", &self.used).finish_non_exhaustive()
    }
}

impl Trail<'_> {
    /// The trail of a walk that nobody will recall.
    pub const fn none() -> Trail<'static> {
        Trail { walk: None, used: 0, needs_bp: false, bp: FramePointer::AtStart }
    }

    /// A return address was read.
    #[inline(always)]
    pub(super) fn word(&mut self, address: usize, value: usize) {
        let Some(walk) = &mut self.walk else { return };
        let offset = address.wrapping_sub(walk.entry.sp);
        match (walk.offsets.get_mut(self.used), walk.values.get_mut(self.used), u32::try_from(offset)) {
            (Some(at), Some(kept), Ok(offset)) => {
                (*at, *kept) = (offset, value);
                self.used += 1;
            }
            _ => self.walk = None,
        }
    }

    /// A saved frame pointer was read.
    #[inline(always)]
    pub(super) fn saved_bp(&mut self, address: usize, value: usize) {
        self.bp = FramePointer::Read(address, value);
    }

    /// A frame is where the frame pointer says.
    #[inline(always)]
    pub(super) fn by_frame_pointer(&mut self) {
        match core::mem::replace(&mut self.bp, FramePointer::Noted) {
            FramePointer::AtStart => {
                (self.needs_bp, self.bp) = (true, FramePointer::AtStart);
            }
            FramePointer::Read(address, value) => self.word(address, value),
            FramePointer::Noted => {}
        }
    }

    /// The walk depends on more than words of the stack.
    pub fn lost(&mut self) {
        self.walk = None;
    }

    /// The walk came to its end. `false`: it can't be recalled.
    pub fn ended(self) -> bool {
        let Some(walk) = self.walk else { return false };
        (walk.used, walk.needs_bp) = (self.used as u32, self.needs_bp);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::{Cut, Stack, capture, stack};
    use core::mem::MaybeUninit;
    use std::sync::Mutex;
    use std::vec::Vec;

    #[test]
    fn sets_are_added_when_walks_are_missed() {
        let used = SetsUsed::new();
        for lg in LG_SETS_FIRST..LG_SETS {
            for _ in 0..=MISSED << lg {
                assert_eq!(used.lg(), lg);
                used.note_miss();
            }
        }
        for _ in 0..1000 {
            assert_eq!(used.lg(), LG_SETS);
            used.note_miss();
        }
    }

    static USED: SetsUsed = SetsUsed::new();
    /// Stacks by number, from 1.
    static KNOWN: Mutex<Vec<Vec<usize>>> = Mutex::new(Vec::new());
    std::thread_local!(static RECALLED: core::cell::Cell<usize> = const { core::cell::Cell::new(0) });

    fn walked(entry: Entry, stack: Stack, trail: &mut Trail<'_>) -> Vec<usize> {
        let mut frames = [MaybeUninit::uninit(); 256];
        let captured = capture(Method::Auto, stack, &Cut { entry, own: 0..0 }, &mut frames, trail);
        // SAFETY: so many frames were written.
        frames[..captured.depth].iter().map(|frame| unsafe { frame.assume_init() }).collect()
    }

    /// Takes the stack from its caller on as a sample would, and compares it with one that is walked for certain.
    #[inline(never)]
    fn observe(own: Stack) {
        let entry = sys::entry();
        let certain = walked(entry, own, &mut Trail::none());
        let start = Start::new(entry, Method::Auto, 256);
        match recall(&start, &USED) {
            Recalled::Known(number) => {
                RECALLED.set(RECALLED.get() + 1);
                assert_eq!(KNOWN.lock().unwrap()[number as usize - 1], certain);
            }
            Recalled::New(None) => {}
            Recalled::New(Some(mut place)) => {
                let mut trail = place.trail(&start);
                let frames = walked(entry, own, &mut trail);
                let whole = trail.ended();
                assert_eq!(frames, certain);
                let mut known = KNOWN.lock().unwrap();
                known.push(frames);
                if whole {
                    place.keep(known.len() as u32);
                }
            }
        }
    }

    /// Calls in an order that `path` decides, through frames of several sizes.
    #[inline(never)]
    fn small(path: u64, left: u32, own: Stack) -> u64 {
        if left == 0 {
            observe(own);
            return path;
        }
        let next = if path & 1 == 0 { small(path >> 2, left - 1, own) } else { large(path >> 2, left - 1, own) };
        if path & 2 == 0 {
            observe(own);
        }
        next.wrapping_add(1)
    }

    #[inline(never)]
    fn large(path: u64, left: u32, own: Stack) -> u64 {
        let room = std::hint::black_box([path; 31]);
        let next =
            if path & 2 == 0 { small(path >> 2, left.saturating_sub(1), own) } else { by_library(path, left, own) };
        next.wrapping_add(room[(path % 31) as usize])
    }

    /// Through code of the C library, which is compiled by another compiler.
    fn by_library(path: u64, left: u32, own: Stack) -> u64 {
        std::thread_local!(static ARGUMENTS: core::cell::Cell<(u64, u32, Stack)> = const { core::cell::Cell::new((0, 0, Stack::UNKNOWN)) });
        unsafe extern "C" fn compare(_: *const core::ffi::c_void, _: *const core::ffi::c_void) -> i32 {
            let (path, left, own) = ARGUMENTS.get();
            small(path >> 3, left.saturating_sub(2), own);
            0
        }
        ARGUMENTS.set((path, left, own));
        let mut two = [0u64; 2];
        // SAFETY: two values of 8 bytes.
        unsafe { libc::qsort(two.as_mut_ptr().cast(), 2, 8, Some(compare)) };
        path
    }

    fn many(seed: u64) {
        let own = stack();
        let mut random = seed;
        for _ in 0..2000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Few paths, so that many come again.
            small(random % 64 * 0x9e37_79b9, (random >> 32) as u32 % 9, own);
        }
        assert!(RECALLED.get() > 500, "{}", RECALLED.get());
    }

    #[test]
    fn a_recalled_walk_is_the_walk() {
        many(1);
        // Threads that get the stack of one that has ended.
        for seed in 2..6 {
            std::thread::spawn(move || many(seed)).join().unwrap();
        }
    }

    #[test]
    fn long_walks_are_not_kept() {
        let mut place = Place { set: &SETS[0], way: 0 };
        assert!(SETS[0].busy.take());
        let start = Start::new(Entry { pc: 1, sp: 1 << 20, bp: 0 }, Method::Auto, 9);
        let mut trail = place.trail(&start);
        (0..WORDS).for_each(|i| trail.word((1 << 20) + i * 8, i));
        assert!(trail.ended());
        let mut trail = place.trail(&start);
        (0..=WORDS).for_each(|i| trail.word((1 << 20) + i * 8, i));
        assert!(!trail.ended());
        let mut trail = place.trail(&start);
        trail.word((1 << 20) + (1 << 32), 0);
        assert!(!trail.ended());
    }
}
