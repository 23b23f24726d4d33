//! Guarded blocks: now and then a small block is put at the end of a page of its own, between pages that nobody may touch,
//! so that the access that goes beyond it, or comes after its free, ends the process there and then.
//!
//! There is a fixed number of places, each a page with an inaccessible one on either side. A place whose block was freed
//! is inaccessible, keeps what is known of the block, and is used again only after all others that are free: that is how
//! long a use after the free is noticed. A guarded block has a descriptor like a large block, whose bytes are those that
//! were asked for, so that `malloc_usable_size` promises no more than that; it is counted, here and in profiles, with the
//! bytes that its size class would have.
//!
//! When a block is to be guarded is the observer's to say (waits in bytes, as for samples), and so are the stacks.

use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};

use crate::extent::{Extent, State, flag};
use crate::heap::{Heap, Request, TcacheChoice};
use crate::lock::{Mutex, Rank};
use crate::message::{Decimal, safety_check_failed};
use crate::observer::{Observer, ThreadSlot};
use crate::request::Obtained;
use crate::size;
use crate::sys::{self, Access, Advice, Entry, PAGE};
use crate::thread::{Kind, Thread};
use crate::wrong::{self, Wrong};

/// Places in all.
pub const PLACES: usize = 128;
/// Most of them that hold a block at once: the others keep freed ones inaccessible.
const LIVE_MAX: usize = 96;
/// Frames that are kept of a stack.
pub const FRAMES: usize = 32;
/// What lies around a block within its page.
const CANARY: u8 = 0xa9;
/// Bytes before a block that are looked at when it is freed.
const BEFORE: usize = 64;
const POOL_BYTES: usize = (2 * PLACES + 1) * PAGE;

const NEVER_USED: u8 = 0;
const IN_USE: u8 = 1;
const FREED: u8 = 2;

/// Who did something to a block, and from where.
#[derive(Debug)]
struct Trace {
    thread: AtomicU32,
    depth: AtomicUsize,
    frames: UnsafeCell<[usize; FRAMES]>,
}

/// A page for a block. Reads as zero before its first use, except for the descriptor.
#[derive(Debug)]
#[repr(C)]
struct Place {
    extent: Extent,
    state: AtomicU8,
    /// Whether the page is made inaccessible by a mapping of its own, and not by advice (`MADV_GUARD_INSTALL`, Linux 6.13):
    /// the kernel doesn't know that, or has refused it once, as it does where memory is locked.
    by_mapping: AtomicBool,
    /// Whether the page may hold something when it is opened: it could not be emptied, or was not inaccessible since.
    is_full: AtomicBool,
    /// Bytes that the block counts with.
    counted: AtomicUsize,
    allocated: Trace,
    freed: Trace,
}

// SAFETY: frames are written by whoever has the block, before its state says so; a report that reads them while they change
// shows addresses of the one or the other, and changes nothing.
unsafe impl Sync for Place {}

/// The free places, the one that was freed longest ago first.
#[derive(Debug)]
struct Free {
    ring: [u8; PLACES],
    first: usize,
    count: usize,
}

/// All guarded blocks of a heap.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// Where the pages begin; 0: there are none.
    pool: AtomicUsize,
    places: AtomicPtr<Place>,
    free: Mutex<Free>,
    live: AtomicUsize,
}

/// What a report tells of a block, or of its misuse.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// The block.
    pub address: usize,
    /// Its bytes, as asked for.
    pub bytes: usize,
    /// How an access to the address that was asked about would be called.
    pub what: &'static [u8],
    place: usize,
}

/// An event in a block's life.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The thread, by the kernel's number.
    pub thread: u32,
    /// Code addresses, leaf first.
    pub frames: &'a [usize],
}

impl Guarded {
    pub(crate) const fn new() -> Self {
        Guarded {
            pool: AtomicUsize::new(0),
            places: AtomicPtr::new(null_mut()),
            free: Mutex::new(Rank::Stacks, Free { ring: [0; PLACES], first: 0, count: 0 }),
            live: AtomicUsize::new(0),
        }
    }

    /// Whether there are places, and so blocks whose usable size isn't that of a class.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.pool.load(Ordering::Relaxed) != 0
    }

    /// Bytes of pages that blocks are on.
    pub(crate) fn active_bytes(&self) -> usize {
        self.live.load(Ordering::Relaxed) * PAGE
    }

    pub(crate) fn after_fork(&self) {
        // Half changed: what is guarded stays so, and nothing more will be.
        self.free.after_fork(|free| free.count = 0);
    }

    /// The place of a number below [`PLACES`]; `None` while there are none.
    fn place(&self, index: usize) -> Option<&'static Place> {
        // Acquire: pairs with the Release in `start_guarding`.
        let places = self.places.load(Ordering::Acquire);
        // SAFETY: so many places, which are never given back.
        (!places.is_null() && index < PLACES).then(|| unsafe { &*places.add(index) })
    }

    fn page(&self, index: usize) -> usize {
        self.pool.load(Ordering::Relaxed) + (2 * index + 1) * PAGE
    }

    /// Opens the page of a place; `None`: it can't be used. Else whether it reads as zero.
    ///
    /// # Safety
    /// Nobody uses the page.
    unsafe fn open(&self, index: usize, place: &Place) -> Option<bool> {
        let page = self.page(index);
        // SAFETY: the pool's own page, which nobody uses.
        let opened = unsafe {
            if place.by_mapping.load(Ordering::Relaxed) {
                sys::protect(page, PAGE, Access::ReadWrite)
            } else {
                sys::advise(page, PAGE, Advice::GuardRemove)
            }
        };
        opened.is_ok().then(|| !place.is_full.load(Ordering::Relaxed))
    }

    /// Makes the page of a place inaccessible, and empties it, as far as the kernel allows the one and the other.
    ///
    /// # Safety
    /// Nobody uses the page.
    unsafe fn close(&self, index: usize, place: &Place) {
        let page = self.page(index);
        // SAFETY: the pool's own page, which nobody uses.
        let is_empty = unsafe {
            if !place.by_mapping.load(Ordering::Relaxed) && sys::advise(page, PAGE, Advice::GuardInstall).is_ok() {
                true
            } else {
                place.by_mapping.store(true, Ordering::Relaxed);
                let is_empty = sys::advise(page, PAGE, Advice::DontNeed).is_ok();
                sys::protect(page, PAGE, Access::None).is_ok() && is_empty
            }
        };
        place.is_full.store(!is_empty, Ordering::Relaxed);
    }

    /// Takes the place that was freed longest ago; `None`: enough of them hold blocks.
    fn take(&self) -> Option<usize> {
        let mut free = self.free.lock();
        if free.count <= PLACES - LIVE_MAX {
            return None;
        }
        let index = free.ring[free.first].into();
        free.first = (free.first + 1) % PLACES;
        free.count -= 1;
        Some(index)
    }

    fn give(&self, index: usize) {
        let mut free = self.free.lock();
        let at = (free.first + free.count) % PLACES;
        free.ring[at] = index as u8;
        free.count = (free.count + 1).min(PLACES);
    }

    /// The place of a guarded block's descriptor.
    fn index_of(&self, extent: *const Extent) -> usize {
        (extent.addr() - self.places.load(Ordering::Relaxed).addr()) / core::mem::size_of::<Place>()
    }

    /// What there is to say of an address among the guarded pages; `None` for all others.
    fn look_up(&self, address: usize) -> Option<Sighting> {
        let pool = self.pool.load(Ordering::Relaxed);
        if pool == 0 || address.wrapping_sub(pool) >= POOL_BYTES {
            return None;
        }
        let page = (address - pool) / PAGE;
        let sighting = |index: usize, what| {
            let place = self.place(index).filter(|place| place.state.load(Ordering::Relaxed) != NEVER_USED)?;
            let (address, bytes) = (place.extent.address(), place.extent.bytes());
            let is_freed = place.state.load(Ordering::Relaxed) == FREED;
            Some(Sighting { address, bytes, what: if is_freed { &b"use after free"[..] } else { what }, place: index })
        };
        let nothing = Sighting { address: 0, bytes: 0, what: b"wild access", place: PLACES };
        let found = if page % 2 == 1 {
            sighting(page / 2, b"access")
        } else {
            // Between two places: the nearer block is it.
            let before = page.checked_sub(1).and_then(|page| sighting(page / 2, b"overflow"));
            let after = sighting(page / 2, b"underflow");
            match (before, after) {
                (Some(before), Some(after)) => {
                    let (over, under) = (address - (before.address + before.bytes), after.address - address);
                    Some(if over <= under { before } else { after })
                }
                (before, after) => before.or(after),
            }
        };
        Some(found.unwrap_or(nothing))
    }

    /// The lives of the block of a sighting: its allocation, and its free.
    fn known(&self, sighting: &Sighting) -> [Option<Known<'static>>; 2] {
        let Some(place) = self.place(sighting.place) else { return [None; 2] };
        let is_freed = place.state.load(Ordering::Relaxed) == FREED;
        [Some(place.allocated.known()), is_freed.then(|| place.freed.known())]
    }
}

impl Trace {
    fn known(&'static self) -> Known<'static> {
        let depth = self.depth.load(Ordering::Relaxed).min(FRAMES);
        // SAFETY: never given back; see `Place` for who writes.
        let frames = unsafe { core::slice::from_raw_parts(self.frames.get().cast::<usize>(), depth) };
        Known { thread: self.thread.load(Ordering::Relaxed), frames }
    }
}

impl<O: Observer> Heap<O> {
    /// Maps the places for guarded blocks. `false`: there is no memory for them. Called once.
    pub fn start_guarding(&'static self) -> bool {
        let (guarded, shared) = (&self.core.guarded, &self.core.shared);
        let Some(places) = shared.allocate_metadata(PLACES * core::mem::size_of::<Place>(), 128) else { return false };
        let Ok(pool) = sys::map(POOL_BYTES, true) else { return false };
        // SAFETY: mapped just now, and nobody uses it.
        let (by_advice, closed) = unsafe {
            let by_advice = sys::advise(pool, POOL_BYTES, Advice::GuardInstall).is_ok();
            (by_advice, by_advice || sys::protect(pool, POOL_BYTES, Access::None).is_ok())
        };
        if !closed || !shared.map.prepare(pool, POOL_BYTES) {
            // SAFETY: as above.
            let _ = unsafe { sys::unmap(pool, POOL_BYTES) };
            return false;
        }
        guarded.pool.store(pool, Ordering::Relaxed);
        let places = places.cast::<Place>();
        for index in 0..PLACES {
            // SAFETY: room for so many, which read as zero: a descriptor of nothing, and a page that is empty.
            let extent = unsafe {
                (*places.add(index)).by_mapping.store(!by_advice, Ordering::Relaxed);
                &raw mut (*places.add(index)).extent
            };
            // SAFETY: as above.
            unsafe { (*extent).set_flags(flag::GUARDED_BLOCK) };
            shared.map.set_extent(guarded.page(index), extent);
        }
        let mut free = guarded.free.lock();
        free.ring = core::array::from_fn(|index| index as u8);
        free.count = PLACES;
        // Release: pairs with the Acquire in `place`.
        guarded.places.store(places, Ordering::Release);
        true
    }

    /// Draws a new wait for the thread's next guarded block, from `from` allocated bytes on.
    ///
    /// # Safety
    /// `thread` is the calling thread's own live state.
    pub(crate) unsafe fn draw_guard(&'static self, thread: *mut Thread, from: u64) {
        // SAFETY: the caller's promise.
        unsafe {
            (*thread).depth += 1;
            let wait = self.observer.next_guard_wait(&mut (*thread).slot);
            (*thread).depth -= 1;
            (*thread).events.guard_at = wait.map_or(crate::events::NEVER, |wait| from.saturating_add(wait));
        }
    }

    /// A guarded block for this request, if one is due and can be had. The wait for the next one is drawn.
    ///
    /// # Safety
    /// `thread` is the calling thread's own live state.
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn obtain_guarded(
        &'static self,
        thread: *mut Thread,
        size: usize,
        request: &Request,
        entry: &Entry,
    ) -> Option<(Obtained, usize)> {
        let counted = size::usable_size_for(size, request.align);
        // SAFETY: the caller's promise.
        unsafe {
            let end = (*thread).allocated.wrapping_add(counted as u64);
            if counted == 0
                || counted > PAGE
                || request.align > PAGE
                || end <= (*thread).events.guard_at
                || (*thread).depth > 0
            {
                return None;
            }
            self.draw_guard(thread, end);
            (*thread).events.plan();
            if request.arena.is_some() || matches!(request.tcache, TcacheChoice::Explicit(_)) {
                // Of an arena that may be reset.
                return None;
            }
        }
        let guarded = &self.core.guarded;
        guarded.place(0)?;
        let index = guarded.take()?;
        let place = guarded.place(index)?;
        // SAFETY: the place is this thread's from here on.
        let Some(zeroed) = (unsafe { guarded.open(index, place) }) else {
            guarded.give(index);
            return None;
        };
        let bytes = size.max(8);
        let align = request.align.max(if size <= 8 { 8 } else { 16 });
        let (page, room) = (guarded.page(index), (bytes + align - 1) & !(align - 1));
        let address = page + PAGE - room;
        let block: *mut u8 = core::ptr::with_exposed_provenance_mut(address);
        // SAFETY: the page is open, and this thread's; the thread's own live state.
        unsafe {
            block.add(bytes).write_bytes(CANARY, room - bytes);
            let before = BEFORE.min(address - page);
            block.sub(before).write_bytes(CANARY, before);
            self.note(thread, &place.allocated, entry);
            place.extent.set_arena((*thread).arena.map_or(0, crate::arena::Arena::index));
        }
        place.counted.store(counted, Ordering::Relaxed);
        place.extent.set_range(address, bytes);
        place.extent.set_sampled(false);
        place.extent.set_state(State::Active);
        place.state.store(IN_USE, Ordering::Release);
        guarded.live.fetch_add(1, Ordering::Relaxed);
        Some((Obtained { block, usable: bytes, zeroed }, counted))
    }

    /// Writes down from where the calling thread does something to a block.
    unsafe fn note(&'static self, thread: *mut Thread, trace: &Trace, entry: &Entry) {
        // SAFETY: the place is the caller's, and so is the thread's state; the dead one is not written.
        unsafe {
            let frames = &mut *trace.frames.get();
            let depth = if (*thread).kind == Kind::Live {
                (*thread).depth += 1;
                let depth = self.observer.stack(&mut (*thread).slot, entry, frames);
                (*thread).depth -= 1;
                depth
            } else {
                self.observer.stack(&mut ThreadSlot { uid: 0, words: [0; 7] }, entry, frames)
            };
            trace.depth.store(depth, Ordering::Relaxed);
            let thread = if sys::sandbox::in_sandbox() { 0 } else { sys::gettid() };
            trace.thread.store(thread.cast_unsigned(), Ordering::Relaxed);
        }
    }

    /// Frees a guarded block.
    ///
    /// # Safety
    /// `extent` is the active descriptor of a guarded block, which begins at `ptr`; `thread` is the calling thread's state.
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn deallocate_guarded(
        &'static self,
        thread: *mut Thread,
        extent: *mut Extent,
        ptr: *mut u8,
        said: Option<(usize, usize)>,
    ) {
        let guarded = &self.core.guarded;
        let index = guarded.index_of(extent);
        let Some(place) = guarded.place(index) else { return };
        let counted = place.counted.load(Ordering::Relaxed);
        if wrong::is_checked()
            && let Err(kind) = Self::check_size(said, counted)
        {
            return self.tell(Wrong::new(ptr.addr(), kind), b"free");
        }
        if place.state.compare_exchange(IN_USE, FREED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return self.tell(Wrong::new(ptr.addr(), wrong::Kind::Free(place.extent.bytes())), b"free");
        }
        // SAFETY: the block was in use and is the caller's to give up; the canaries are on its page.
        unsafe {
            self.note(thread, &place.freed, &sys::entry());
            let (bytes, page) = (place.extent.bytes(), guarded.page(index));
            let before =
                core::slice::from_raw_parts(ptr.sub(BEFORE.min(ptr.addr() - page)), BEFORE.min(ptr.addr() - page));
            let after = core::slice::from_raw_parts(ptr.add(bytes), page + PAGE - ptr.addr() - bytes);
            if before.iter().chain(after).any(|&byte| byte != CANARY) {
                let is_before = before.iter().any(|&byte| byte != CANARY);
                self.tell_written(ptr.addr(), bytes, if is_before { b"before" } else { b"behind" });
            }
            self.forget(thread, extent, ptr);
            if (*thread).kind == Kind::Live {
                if (*thread).events.deallocated_at != crate::events::NEVER {
                    self.deallocation_events(thread, counted);
                }
                (*thread).count_freed(counted);
            } else {
                self.core.gone_deallocated.fetch_add(counted as u64, Ordering::Relaxed);
            }
            // Not active: whoever frees it again is told.
            place.extent.set_state(State::Retained);
            guarded.close(index, place);
        }
        guarded.live.fetch_sub(1, Ordering::Relaxed);
        guarded.give(index);
    }

    /// The bytes around a block are not those that were put there.
    #[cold]
    fn tell_written(&'static self, address: usize, bytes: usize, side: &[u8]) {
        let (hex, bytes) = (Decimal::hex(address as u64), Decimal::new(bytes as u64));
        let parts: [&[u8]; 6] = [b"write ", side, b" a block of ", bytes.as_bytes(), b" bytes at 0x", hex.as_bytes()];
        safety_check_failed(&parts, &|| self.observer.tell_history(address));
    }

    /// What there is to say of an access to `address`, if that lies among guarded pages.
    pub fn guarded_at(&'static self, address: usize) -> Option<Sighting> {
        self.core.guarded.look_up(address)
    }

    /// From where the block of a sighting was allocated and, if it was, freed.
    pub fn guarded_history(&'static self, sighting: &Sighting) -> [Option<Known<'static>>; 2] {
        self.core.guarded.known(sighting)
    }
}
