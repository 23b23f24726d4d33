//! `libheapsift.so`: the shared library. See `capi/src` for what it exports.
//!
//! The configuration variables are plain exported data here: a program's own definition wins through the global offset
//! table. In the static library they must be weak, which is why there are two leaves.

/// Functions under the names that programs call them by.
macro_rules! export {
    (naked $symbol:literal fn $name:ident $body:block) => {
        /// What the symbol says.
        #[unsafe(naked)]
        #[unsafe(export_name = $symbol)]
        #[unsafe(link_section = "heapsift_text")]
        unsafe extern "C" fn $name() $body
    };
    ($($symbol:literal fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $(
            /// What the symbol says.
            #[unsafe(export_name = $symbol)]
            #[unsafe(link_section = concat!("heapsift_text.", $symbol))]
            unsafe extern "C" fn $name($($arg: $type),*) $(-> $result)? $body
        )*
    };
}

/// A second name for an exported symbol, which no other library can take.
macro_rules! own_name {
    ($own:literal, $symbol:literal, $name:ident) => {
        core::arch::global_asm!(concat!(".set ", $own, ", ", $symbol));
    };
}

core::arch::global_asm!(
    ".weak _ZSt15get_new_handlerv",
    ".weak _ZSt17__throw_bad_allocv",
    ".weak __gxx_personality_v0",
    ".weak __cxa_begin_catch",
    ".weak __cxa_end_catch",
);

#[cfg(cold_sections)]
mod cold;
#[path = "../../src/cxx.rs"]
mod cxx;
mod deepbind;
#[path = "../../src/errno.rs"]
mod errno;
#[path = "../../src/exports.rs"]
mod exports;
#[path = "../../src/glibc.rs"]
mod glibc;
#[path = "../../src/jemalloc.rs"]
mod jemalloc;
mod limits;
#[path = "../../src/process.rs"]
mod process;
mod sandbox;
mod settings;

use core::ffi::c_char;

pub(crate) use settings::is_malloc_ours;

/// A variable that the program may set before the first allocation.
#[repr(transparent)]
struct Variable<T>(core::cell::UnsafeCell<T>);
// SAFETY: written by the program only, by jemalloc's contract before threads start.
unsafe impl<T> Sync for Variable<T> {}

#[unsafe(no_mangle)]
#[used]
static malloc_conf: Variable<*const c_char> = Variable(core::cell::UnsafeCell::new(core::ptr::null()));
#[unsafe(no_mangle)]
#[used]
static malloc_conf_2_conf_harder: Variable<*const c_char> = Variable(core::cell::UnsafeCell::new(core::ptr::null()));
#[unsafe(no_mangle)]
#[used]
static malloc_message: Variable<Option<alloc_core::message::Sink>> = Variable(core::cell::UnsafeCell::new(None));

// The addresses of this library, from its ELF header to its end: frames in there are never part of a stack. Read by the
// profiler, which may have samples to take before our constructor runs: see `unwind::own_module`.
core::arch::global_asm!(
    ".pushsection .data.rel.ro.heapsift_own_module, \"aw\", @progbits",
    ".p2align 3",
    ".globl heapsift_own_module",
    ".hidden heapsift_own_module",
    ".hidden __ehdr_start",
    ".hidden _end",
    "heapsift_own_module: .quad __ehdr_start, _end",
    ".popsection",
);

/// The constructor runs. The loader has been at work long before.
pub(crate) fn loader_is_ready() {
    #[cfg(cold_sections)]
    cold::let_go();
}
