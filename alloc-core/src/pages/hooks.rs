//! Extent hooks: a program's own source of memory for an arena (`arenas.create`, `arena.<i>.extent_hooks`).
//!
//! The table and the rules are jemalloc's. A hook that is null is not supported; `true` means that it failed or has
//! chosen not to. While a hook runs, its thread allocates without caches from the first arena that has no hooks, so
//! that a hook may use `malloc`.

use core::ffi::{c_uint, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::extent::Extent;
use crate::sys::{self, Advice, PAGE};
use crate::thread::{DEAD, Kind};
use crate::tls;

/// Set in the address that an `alloc` hook returns: the pages can't be given back one by one (HugeTLB).
pub const PINNED: usize = 1;

type Alloc =
    unsafe extern "C" fn(*mut ExtentHooks, *mut c_void, usize, usize, *mut bool, *mut bool, c_uint) -> *mut c_void;
type Dalloc = unsafe extern "C" fn(*mut ExtentHooks, *mut c_void, usize, bool, c_uint) -> bool;
type Destroy = unsafe extern "C" fn(*mut ExtentHooks, *mut c_void, usize, bool, c_uint);
type Part = unsafe extern "C" fn(*mut ExtentHooks, *mut c_void, usize, usize, usize, c_uint) -> bool;
type Split = unsafe extern "C" fn(*mut ExtentHooks, *mut c_void, usize, usize, usize, bool, c_uint) -> bool;
type Merge = unsafe extern "C" fn(*mut ExtentHooks, *mut c_void, usize, *mut c_void, usize, bool, c_uint) -> bool;

/// `extent_hooks_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names are jemalloc's")]
pub struct ExtentHooks {
    pub alloc: Option<Alloc>,
    pub dalloc: Option<Dalloc>,
    pub destroy: Option<Destroy>,
    pub commit: Option<Part>,
    pub decommit: Option<Part>,
    pub purge_lazy: Option<Part>,
    pub purge_forced: Option<Part>,
    pub split: Option<Split>,
    pub merge: Option<Merge>,
}

/// What arenas do that have no hooks of a program's own, for hooks that pass some of their work on.
pub static DEFAULT: ExtentHooks = ExtentHooks {
    alloc: Some(default_alloc),
    dalloc: Some(default_dalloc),
    destroy: Some(default_destroy),
    commit: Some(opt_out),
    decommit: Some(opt_out),
    purge_lazy: Some(default_purge_lazy),
    purge_forced: Some(default_purge_forced),
    split: Some(default_split),
    merge: Some(default_merge),
};

/// `retain`, for the default `dalloc`, which has no arena at hand.
pub(crate) static RETAIN: AtomicBool = AtomicBool::new(true);

unsafe extern "C" fn default_alloc(
    _hooks: *mut ExtentHooks,
    new_address: *mut c_void,
    size: usize,
    align: usize,
    zero: *mut bool,
    commit: *mut bool,
    _arena: c_uint,
) -> *mut c_void {
    let Some(address) = map_aligned(new_address.addr(), size, align.max(PAGE)) else { return null_mut() };
    // SAFETY: the caller passes two flags. Fresh pages are zeros, and there when they are touched.
    unsafe {
        zero.write(true);
        commit.write(true);
    }
    core::ptr::with_exposed_provenance_mut(address)
}

/// Maps `size` bytes aligned to `align`, at `wanted` if that isn't 0.
fn map_aligned(wanted: usize, size: usize, align: usize) -> Option<usize> {
    let slack = if wanted == 0 { align - PAGE } else { 0 };
    let total = size.checked_add(slack)?;
    let address = sys::map_near(wanted, total).ok()?;
    let aligned = (address + align - 1) & !(align - 1);
    let give_back = |from: usize, to: usize| {
        if to > from {
            // SAFETY: mapped just now, and nobody has seen it.
            let _ = unsafe { sys::unmap(from, to - from) };
        }
    };
    if wanted != 0 && address != wanted {
        give_back(address, address + total);
        return None;
    }
    give_back(address, aligned);
    give_back(aligned + size, address + total);
    Some(aligned)
}

unsafe extern "C" fn default_dalloc(
    _hooks: *mut ExtentHooks,
    address: *mut c_void,
    size: usize,
    _committed: bool,
    _arena: c_uint,
) -> bool {
    // SAFETY: the caller gives up the range.
    RETAIN.load(Ordering::Relaxed) || unsafe { sys::unmap(address.addr(), size) }.is_err()
}

unsafe extern "C" fn default_destroy(
    _hooks: *mut ExtentHooks,
    address: *mut c_void,
    size: usize,
    _committed: bool,
    _arena: c_uint,
) {
    // SAFETY: the caller gives up the range.
    let _ = unsafe { sys::unmap(address.addr(), size) };
}

unsafe extern "C" fn opt_out(
    _hooks: *mut ExtentHooks,
    _address: *mut c_void,
    _size: usize,
    _offset: usize,
    _length: usize,
    _arena: c_uint,
) -> bool {
    true
}

unsafe extern "C" fn default_purge_lazy(
    _hooks: *mut ExtentHooks,
    address: *mut c_void,
    _size: usize,
    offset: usize,
    length: usize,
    _arena: c_uint,
) -> bool {
    // SAFETY: the caller gives up the contents.
    unsafe { sys::advise(address.addr() + offset, length, Advice::Free) }.is_err()
}

unsafe extern "C" fn default_purge_forced(
    _hooks: *mut ExtentHooks,
    address: *mut c_void,
    _size: usize,
    offset: usize,
    length: usize,
    _arena: c_uint,
) -> bool {
    // SAFETY: the caller gives up the contents.
    !sys::dont_need_clears() || unsafe { sys::advise(address.addr() + offset, length, Advice::DontNeed) }.is_err()
}

unsafe extern "C" fn default_split(
    _hooks: *mut ExtentHooks,
    _address: *mut c_void,
    _size: usize,
    _size_a: usize,
    _size_b: usize,
    _committed: bool,
    _arena: c_uint,
) -> bool {
    false
}

unsafe extern "C" fn default_merge(
    _hooks: *mut ExtentHooks,
    _address_a: *mut c_void,
    _size_a: usize,
    _address_b: *mut c_void,
    _size_b: usize,
    _committed: bool,
    _arena: c_uint,
) -> bool {
    false
}

/// Memory as an `alloc` hook gave it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub(crate) address: usize,
    pub(crate) bytes: usize,
    pub(crate) zeroed: bool,
    pub(crate) committed: bool,
    pub(crate) pinned: bool,
}

/// A program's hooks of one arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hooks {
    pub(crate) table: *mut ExtentHooks,
    pub(crate) arena: c_uint,
}

fn pointer(address: usize) -> *mut c_void {
    core::ptr::with_exposed_provenance_mut(address)
}

impl Hooks {
    fn table(&self) -> &ExtentHooks {
        // SAFETY: whoever installs a table promises that it stays valid while the arena uses it.
        unsafe { &*self.table }
    }

    pub(crate) fn can_split(&self) -> bool {
        self.table().split.is_some()
    }

    /// Asks for `bytes` aligned to `align`.
    pub(crate) fn alloc(&self, bytes: usize, align: usize) -> Option<Region> {
        let alloc = self.table().alloc?;
        let (mut zeroed, mut committed) = (false, true);
        // SAFETY: the hook takes these; the flags are alive.
        let answer = outside(|| unsafe {
            alloc(self.table, null_mut(), bytes, align, &raw mut zeroed, &raw mut committed, self.arena)
        });
        let (address, pinned) = (answer.addr() & !PINNED, answer.addr() & PINNED != 0);
        let usable = address != 0 && address & (align - 1) == 0 && address >> 47 == 0;
        usable.then(|| {
            answer.expose_provenance();
            Region { address, bytes, zeroed, committed, pinned }
        })
    }

    /// Whether the program took the range back.
    ///
    /// # Safety (of this and the next)
    /// Nobody uses the range any more.
    pub(crate) unsafe fn dalloc(&self, address: usize, bytes: usize, committed: bool) -> bool {
        let Some(dalloc) = self.table().dalloc else { return false };
        // SAFETY: the hook takes these; the caller's promise.
        outside(|| unsafe { !dalloc(self.table, pointer(address), bytes, committed, self.arena) })
    }

    pub(crate) unsafe fn destroy(&self, address: usize, bytes: usize, committed: bool) {
        if let Some(destroy) = self.table().destroy {
            // SAFETY: the hook takes these; the caller's promise.
            outside(|| unsafe { destroy(self.table, pointer(address), bytes, committed, self.arena) });
        }
    }

    /// Calls a hook for all pages of an extent; whether it is there and did it.
    unsafe fn whole(&self, hook: Option<Part>, extent: *const Extent) -> bool {
        let Some(hook) = hook else { return false };
        // SAFETY: the caller's extent.
        let (address, bytes) = unsafe { ((*extent).address(), (*extent).bytes()) };
        // SAFETY: the hook takes these; the extent is the caller's, and so are its contents.
        outside(|| unsafe { !hook(self.table, pointer(address), bytes, 0, bytes, self.arena) })
    }

    /// # Safety (of these four)
    /// The extent is the caller's, its contents are given up.
    pub(crate) unsafe fn commit(&self, extent: *const Extent) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.whole(self.table().commit, extent) }
    }

    pub(crate) unsafe fn decommit(&self, extent: *const Extent) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.whole(self.table().decommit, extent) }
    }

    pub(crate) unsafe fn purge_lazy(&self, extent: *const Extent) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.whole(self.table().purge_lazy, extent) }
    }

    pub(crate) unsafe fn purge_forced(&self, extent: *const Extent) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.whole(self.table().purge_forced, extent) }
    }

    /// Whether an extent may be cut in two.
    pub(crate) fn split(&self, address: usize, bytes: usize, first: usize, committed: bool) -> bool {
        let Some(split) = self.table().split else { return false };
        // SAFETY: the hook takes these.
        outside(|| unsafe { !split(self.table, pointer(address), bytes, first, bytes - first, committed, self.arena) })
    }

    /// Whether two adjacent extents may be made one.
    pub(crate) fn merge(&self, low: &Extent, high: &Extent) -> bool {
        let Some(merge) = self.table().merge else { return false };
        let (a, b) = (pointer(low.address()), pointer(high.address()));
        // SAFETY: the hook takes these.
        outside(|| unsafe { !merge(self.table, a, low.bytes(), b, high.bytes(), low.committed(), self.arena) })
    }
}

/// Runs code of the program in the middle of the heap's: what it allocates must not touch the thread's caches, which
/// may be half changed, nor the arena whose hook this is.
fn outside<R>(hook: impl FnOnce() -> R) -> R {
    let thread = tls::thread();
    // SAFETY: the C library's own accessor of the calling thread's `errno`.
    let errno = unsafe { &mut *libc::__errno_location() };
    let errno_before = *errno;
    // SAFETY: the calling thread's state, or a shared one; it comes back below.
    let is_live = unsafe { (*thread).kind } == Kind::Live;
    if is_live {
        // SAFETY: a state without caches, which is never written.
        unsafe { tls::set_thread(DEAD.as_thread()) };
    }
    let result = crate::lock::unranked(hook);
    if is_live {
        // SAFETY: the calling thread's own state.
        unsafe { tls::set_thread(thread) };
    }
    *errno = errno_before;
    result
}
