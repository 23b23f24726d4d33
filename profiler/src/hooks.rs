//! A program's own functions for what happens to samples: jemalloc's `experimental.hooks.prof_*`.
//!
//! They run in the thread that allocates or frees, without a lock held, and what they allocate isn't sampled.

use core::ffi::{c_char, c_uint, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicUsize, Ordering};

use alloc_core::ctl::{Call, Code};
use alloc_core::sys;

use crate::HEAP;
use crate::unwind::{self, Capture, Cut, End};

type Backtrace = unsafe extern "C" fn(*mut *mut c_void, *mut c_uint, c_uint);
type Dumped = unsafe extern "C" fn(*const c_char);
type Sampled = unsafe extern "C" fn(*const c_void, usize, *mut *mut c_void, c_uint, usize);
type Freed = unsafe extern "C" fn(*const c_void, usize);

/// The functions, by address and [`Which`]; 0: none.
#[derive(Debug)]
pub struct Hooks([AtomicUsize; 4]);

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// `experimental.hooks.prof_backtrace`.
    Backtrace,
    /// `experimental.hooks.prof_dump`.
    Dumped,
    /// `experimental.hooks.prof_sample`.
    Sampled,
    /// `experimental.hooks.prof_sample_free`.
    Freed,
}

impl Hooks {
    /// None.
    pub const fn new() -> Self {
        Hooks([const { AtomicUsize::new(0) }; 4])
    }

    fn get(&self, which: Which) -> usize {
        self.0[which as usize].load(Ordering::Relaxed)
    }

    /// Whether the program wants to hear of samples.
    pub fn hears_samples(&self) -> bool {
        self.get(Which::Sampled) != 0
    }

    /// The stack as the program captures it, if it does: leading frames of the allocator's own module are cut off.
    pub fn capture(&self, cut: &Cut, frames: &mut [MaybeUninit<usize>]) -> Option<Capture> {
        let hook = self.get(Which::Backtrace);
        if hook == 0 {
            return None;
        }
        // SAFETY: what the program has set is a function of this type.
        let hook = unsafe { core::mem::transmute::<usize, Backtrace>(hook) };
        let mut length: c_uint = 0;
        // Written first: a hook may say that there is more than it wrote.
        frames.fill(MaybeUninit::new(0));
        let room = frames.len() as c_uint;
        // SAFETY: room for so many addresses, and a place for their number.
        unsafe { hook(frames.as_mut_ptr().cast(), &raw mut length, room) };
        let length = length.min(room) as usize;
        // SAFETY: all of them are written, see above.
        let found = unsafe { core::slice::from_raw_parts_mut(frames.as_mut_ptr().cast::<usize>(), length) };
        let own = found.iter().take_while(|&frame| cut.own.contains(frame)).count();
        found.copy_within(own.., 0);
        let end = if length as c_uint == room { End::Truncated } else { End::Complete };
        Some(Capture { depth: length - own, end })
    }

    /// Whether the program captures stacks.
    pub fn captures(&self) -> bool {
        self.get(Which::Backtrace) != 0
    }

    /// Tells of a sampled block.
    pub fn sampled(&self, address: usize, requested: usize, frames: &'static [usize], usable: usize) {
        let hook = self.get(Which::Sampled);
        if hook != 0 {
            // SAFETY: what the program has set is a function of this type.
            let hook = unsafe { core::mem::transmute::<usize, Sampled>(hook) };
            let stack = frames.as_ptr().cast_mut().cast();
            let block = core::ptr::with_exposed_provenance(address);
            // SAFETY: as many addresses as are told; hooks only read them.
            unsafe { hook(block, requested, stack, frames.len() as c_uint, usable) };
        }
    }

    /// Tells of a sampled block that goes away.
    pub fn freed(&self, address: usize, usable: usize) {
        let hook = self.get(Which::Freed);
        if hook != 0 {
            // SAFETY: what the program has set is a function of this type.
            let hook = unsafe { core::mem::transmute::<usize, Freed>(hook) };
            // SAFETY: the block is still there.
            unsafe { hook(core::ptr::with_exposed_provenance(address), usable) };
        }
    }

    /// Tells of a dump that was written.
    pub fn dumped(&self, path: &core::ffi::CStr) {
        let hook = self.get(Which::Dumped);
        if hook != 0 {
            // SAFETY: what the program has set is a function of this type.
            let hook = unsafe { core::mem::transmute::<usize, Dumped>(hook) };
            // SAFETY: a C string that lives during the call.
            unsafe { hook(path.as_ptr()) };
        }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Self::new()
    }
}

/// What captures stacks unless the program does, for programs that pass on to it.
unsafe extern "C" fn usual(frames: *mut *mut c_void, length: *mut c_uint, room: c_uint) {
    // SAFETY: the caller provides room for so many addresses.
    let out = unsafe { core::slice::from_raw_parts_mut(frames.cast::<MaybeUninit<usize>>(), room as usize) };
    let profiler = HEAP.observer();
    let cut = Cut { entry: sys::entry(), own: unwind::own_module() };
    let captured =
        unwind::capture(profiler.settings.method(), unwind::Stack::UNKNOWN, &cut, out, &mut unwind::Trail::none());
    // SAFETY: the caller provides a place for the number.
    unsafe { *length = captured.depth as c_uint };
}

/// Reads and sets one, with jemalloc's answers.
pub fn control(call: &mut Call<'_>, which: Which) -> Result<(), Code> {
    if !call.has_buffer() && !call.writes() {
        return Err(Code::EINVAL);
    }
    let profiler = HEAP.observer();
    if call.writes() && !profiler.settings.enabled.load(Ordering::Relaxed) {
        return Err(Code::ENOENT);
    }
    let place = &profiler.hooks.0[which as usize];
    let written = call.written::<usize>()?;
    let before = match (which, place.load(Ordering::Relaxed)) {
        (Which::Backtrace, 0) => usual as *const () as usize,
        (_, set) => set,
    };
    if let Some(hook) = written {
        if which == Which::Backtrace && hook == 0 {
            return Err(Code::EINVAL);
        }
        profiler.watch();
        let is_usual = which == Which::Backtrace && hook == usual as *const () as usize;
        place.store(if is_usual { 0 } else { hook }, Ordering::Relaxed);
    }
    call.read(before)
}
