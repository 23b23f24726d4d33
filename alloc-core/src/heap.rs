//! The heap: the fast paths of allocating and freeing, and what all threads share.
//!
//! There is one heap in a program, a static, composed with its [`Observer`] at compile time. The fast paths touch the
//! thread's own state and one byte of the page map; everything else is in `request.rs` and `release.rs` (slow paths),
//! `resize.rs` (reallocation), `registry.rs` (threads and forks) and `introspect.rs` (statistics and control).

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::arena::{ARENAS_MAX, ArenaTable};
use crate::background::Background;
use crate::base::HugePages;
use crate::caches::Caches;
use crate::conf::{Options, UNSET};
use crate::ctl::NamesCell;
use crate::events::SharedEvents;
use crate::guarded::Guarded;
use crate::lock::{Mutex, Rank};
use crate::made::Made;
use crate::observer::Observer;
use crate::pages::Shared;
use crate::registry::ThreadList;
use crate::snapshot::Snapshot;
use crate::thread::{SHARE_MOST, is_block};
use crate::{arenas, message, size, sys, tls};

/// The index of the arena that the library's own allocations come from.
pub(crate) const INTERNAL_ARENA: usize = ARENAS_MAX;

/// Which thread cache a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcacheChoice {
    /// The calling thread's.
    Automatic,
    /// None.
    None,
    /// One made by `tcache.create`.
    Explicit(u32),
}

/// What an allocation asks for besides its size.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Alignment in bytes, a power of two; 1: none beyond that of the size class.
    pub align: usize,
    /// The block is to read as zero.
    pub zero: bool,
    /// The thread cache.
    pub tcache: TcacheChoice,
    /// The arena; `None`: the thread's.
    pub arena: Option<u32>,
}

impl Request {
    /// What `MALLOCX_*` flags ask for.
    pub fn from_flags(flags: i32) -> Request {
        let flags = flags.cast_unsigned();
        let tcache = match (flags >> 8) & 0xfff {
            0 => TcacheChoice::Automatic,
            1 => TcacheChoice::None,
            n => TcacheChoice::Explicit(n - 2),
        };
        let arena = flags >> 20;
        Request {
            align: 1 << (flags & 0x3f),
            zero: flags & 0x40 != 0,
            // As jemalloc: a block from a named arena doesn't come out of the thread's cache.
            tcache: if arena != 0 && tcache == TcacheChoice::Automatic { TcacheChoice::None } else { tcache },
            arena: (arena != 0).then(|| arena - 1),
        }
    }

    /// A plain request.
    pub const PLAIN: Request = Request { align: 1, zero: false, tcache: TcacheChoice::Automatic, arena: None };
}

const NOT_BOOTED: u32 = 0;
const BOOTING: u32 = 1;
const BOOTED: u32 = 2;

/// What doesn't depend on the observer.
pub(crate) struct Core {
    pub(crate) shared: Shared,
    pub(crate) arenas: ArenaTable,
    boot: AtomicU32,
    options: UnsafeCell<Options>,
    pub(crate) threads: Mutex<ThreadList>,
    /// Bytes in blocks of whole pages that each thread may cache.
    pub(crate) cache_share: AtomicUsize,
    /// Counters of threads that ended, and of work done without a thread state.
    pub(crate) gone_allocated: AtomicU64,
    pub(crate) gone_deallocated: AtomicU64,
    pub(crate) counts: arenas::Counts,
    pub(crate) caches: Caches,
    pub(crate) events: SharedEvents,
    pub(crate) background: Background,
    pub(crate) guarded: Guarded,
    pub(crate) made: Made,
    pub(crate) snapshot: Mutex<Snapshot>,
    pub(crate) names: NamesCell,
    /// Where `sbrk` stands for arenas to come.
    pub(crate) default_dss: AtomicUsize,
    pub(crate) default_dirty_ms: core::sync::atomic::AtomicI64,
    pub(crate) default_muzzy_ms: core::sync::atomic::AtomicI64,
    pub(crate) zero_reallocs: AtomicUsize,
    pub(crate) started: AtomicU32,
}

// SAFETY: `options` is written by the one thread that boots, before `boot` says BOOTED; all else is atomic or locked.
unsafe impl Sync for Core {}

/// A heap and its observer.
pub struct Heap<O: Observer> {
    pub(crate) core: Core,
    pub(crate) observer: O,
}

impl<O: Observer> core::fmt::Debug for Heap<O> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Heap").field("shared", &self.core.shared).finish_non_exhaustive()
    }
}

impl<O: Observer> Heap<O> {
    /// A heap that has not asked the OS for anything yet.
    pub const fn new(observer: O) -> Self {
        Heap {
            core: Core {
                shared: Shared::new(),
                arenas: ArenaTable::new(),
                boot: AtomicU32::new(NOT_BOOTED),
                options: UnsafeCell::new(Options::DEFAULT),
                threads: Mutex::new(Rank::Threads, ThreadList::new()),
                cache_share: AtomicUsize::new(SHARE_MOST),
                gone_allocated: AtomicU64::new(0),
                gone_deallocated: AtomicU64::new(0),
                counts: arenas::Counts::new(),
                caches: Caches::new(),
                events: SharedEvents::new(),
                background: Background::new(),
                guarded: Guarded::new(),
                made: Made::new(),
                snapshot: Snapshot::locked(),
                names: NamesCell::new(),
                default_dss: AtomicUsize::new(0),
                default_dirty_ms: core::sync::atomic::AtomicI64::new(0),
                default_muzzy_ms: core::sync::atomic::AtomicI64::new(0),
                zero_reallocs: AtomicUsize::new(0),
                started: AtomicU32::new(0),
            },
            observer,
        }
    }

    /// The observer.
    pub fn observer(&'static self) -> &'static O {
        &self.observer
    }

    /// The configuration; boots the heap if need be.
    pub fn options(&'static self) -> &'static Options {
        self.ensure_booted();
        // SAFETY: written only before BOOTED was stored, which `ensure_booted` has seen.
        unsafe { &*self.core.options.get() }
    }

    /// Reads the configuration and reserves the page map, once.
    #[inline]
    pub fn ensure_booted(&'static self) {
        // Acquire: pairs with the Release in `boot`.
        if self.core.boot.load(Ordering::Acquire) != BOOTED {
            self.boot();
        }
    }

    #[cold]
    #[unsafe(link_section = "heapsift_text")]
    fn boot(&'static self) {
        let boot = &self.core.boot;
        if boot.compare_exchange(NOT_BOOTED, BOOTING, Ordering::Acquire, Ordering::Acquire).is_err() {
            message::held::abort_if_ending();
            while boot.load(Ordering::Acquire) == BOOTING {
                sys::yield_now();
            }
            return;
        }
        message::held::begin();
        self.core.shared.map.boot();
        self.core.arenas.boot();
        // SAFETY: BOOTING belongs to this thread, nobody reads the options before BOOTED.
        let options = unsafe { &mut *self.core.options.get() };
        crate::conf::load(options, &mut |key, value| self.observer.option(key, value));
        for class in 1..=size::NBINS {
            if options.slab_sizes[class] != UNSET {
                size::set_slab_pages(class, options.slab_sizes[class].into());
            }
        }
        crate::lock::set_spins(options.mutex_max_spin);
        crate::pages::hooks::RETAIN.store(options.retain, Ordering::Relaxed);
        self.core.shared.base.set_huge_pages(match options.metadata_thp.index {
            0 => HugePages::Disabled,
            1 => HugePages::Auto,
            _ => HugePages::Always,
        });
        if options.safety_check {
            crate::wrong::check_everything();
        }
        if options.trust_madvise {
            sys::trust_advice();
        }
        self.core.default_dss.store(options.dss.index, Ordering::Relaxed);
        self.core.default_dirty_ms.store(options.dirty_decay_ms, Ordering::Relaxed);
        self.core.default_muzzy_ms.store(options.muzzy_decay_ms, Ordering::Relaxed);
        self.observer.boot();
        // Release: pairs with the Acquire in `ensure_booted`.
        boot.store(BOOTED, Ordering::Release);
        message::held::end();
    }

    /// A block of at least `size` bytes, aligned for any type of that size; null when there is no memory.
    ///
    /// About 16 instructions for sizes up to 4 KiB when the thread's cache has a block.
    #[inline(always)]
    pub fn allocate(&'static self, size: usize) -> *mut u8 {
        self.allocate_inner(size, |heap, size| heap.allocate_slow(size))
    }

    /// As [`Heap::allocate`], but a cold `failed` decides what comes back instead of null (a C++ exception, an error
    /// number).
    #[inline(always)]
    pub fn allocate_or(&'static self, size: usize, failed: extern "C" fn(usize) -> *mut u8) -> *mut u8 {
        self.allocate_inner(
            size,
            #[inline(always)]
            move |heap, size| heap.allocate_slow_or(size, failed),
        )
    }

    /// As [`Heap::allocate`], with another slow path, which must do all that [`Heap::allocate`] does.
    #[inline(always)]
    pub fn allocate_or_else(&'static self, size: usize, slow: impl Fn(usize) -> *mut u8) -> *mut u8 {
        self.allocate_inner(
            size,
            #[inline(always)]
            move |_, size| slow(size),
        )
    }

    /// A block out of the thread's cache, counted; null: ask on.
    #[inline(always)]
    pub(crate) fn allocate_fast(&'static self, size: usize) -> *mut u8 {
        self.allocate_inner(
            size,
            #[inline(always)]
            |_, _| core::ptr::null_mut(),
        )
    }

    #[inline(always)]
    fn allocate_inner(&'static self, size: usize, slow: impl Fn(&'static Self, usize) -> *mut u8) -> *mut u8 {
        let thread = tls::thread();
        if size > size::TABLE_MAX {
            return slow(self, size);
        }
        // SAFETY: the slot always holds a live state. For the shared ones the table gives class 0, whose cache is
        // empty. Indices: the table has an entry for each size up to TABLE_MAX and holds classes only.
        unsafe {
            let class = *(&raw const (*thread).table).cast::<u8>().add(size) as usize;
            let top_slot = (&raw mut (*thread).top).cast::<*mut *mut u8>().add(class);
            let top = *top_slot;
            let block = *top;
            if !is_block(block) {
                return slow(self, size);
            }
            // What isn't NO_BLOCK was freed, and null isn't.
            core::hint::assert_unchecked(!block.is_null());
            let usable = *(&raw const (*thread).sizes).cast::<u32>().add(class) as u64;
            if O::ENABLED {
                let (countdown, fired) = (*thread).countdown.overflowing_sub(usable);
                (*thread).countdown = countdown;
                if fired {
                    // The slow path sees by the wrapped countdown that the sample is due.
                    return slow(self, size);
                }
            }
            (*thread).allocated = (*thread).allocated.wrapping_add(usable);
            *top_slot = top.sub(1);
            block
        }
    }

    /// Frees a block; null is allowed. What was freed last into the thread's cache is not taken a second time.
    ///
    /// # Safety
    /// `ptr` is null or a block of this heap that nobody uses any more.
    #[inline(always)]
    pub unsafe fn deallocate(&'static self, ptr: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            self.deallocate_inner::<true>(
                ptr,
                #[inline(always)]
                |ptr| self.deallocate_slow(ptr),
            )
        }
    }

    /// As [`Heap::deallocate`], for callers whose language or library sees to it that no block is freed twice: two
    /// instructions less, and a second free is noticed later.
    ///
    /// # Safety
    /// As [`Heap::deallocate`].
    #[inline(always)]
    pub unsafe fn deallocate_owned(&'static self, ptr: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            self.deallocate_inner::<false>(
                ptr,
                #[inline(always)]
                |ptr| self.deallocate_slow(ptr),
            )
        }
    }

    #[inline(always)]
    unsafe fn deallocate_inner<const TWICE: bool>(&'static self, ptr: *mut u8, slow: impl Fn(*mut u8)) {
        let thread = tls::thread();
        // SAFETY: the slot always holds a live state; the map has a byte for every address of user space (or, with the
        // shift of an absent map, two bytes for all). A positive byte is a class.
        unsafe {
            let class = sys::load_byte((*thread).map, ptr.addr() >> ((*thread).map_shift & 63));
            if class <= 0 {
                return slow(ptr);
            }
            let class = class as usize;
            let top_slot = (&raw mut (*thread).top).cast::<*mut *mut u8>().add(class);
            let top = *top_slot;
            if top == *(&raw const (*thread).last).cast::<*mut *mut u8>().add(class) {
                return slow(ptr);
            }
            if TWICE && *top == ptr {
                return slow(ptr);
            }
            let top = top.add(1);
            *top = ptr;
            *top_slot = top;
            let frees = (&raw mut (*thread).frees).cast::<u64>().add(class);
            *frees = (*frees).wrapping_add(1);
        }
    }

    /// Frees a block whose requested size and alignment the caller knows. They are compared with the block's where
    /// everything is checked.
    ///
    /// # Safety
    /// As [`Heap::deallocate`]; `size` and `align` are those of the allocation.
    #[inline(always)]
    pub unsafe fn deallocate_sized(&'static self, ptr: *mut u8, size: usize, align: usize) {
        // The page map is needed anyway, to see whether the slab holds a sample; it knows the class as well.
        // SAFETY: the caller's promise.
        unsafe {
            self.deallocate_inner::<false>(
                ptr,
                #[inline(always)]
                |ptr| self.deallocate_slow_sized(ptr, size, align),
            );
        }
    }
}
