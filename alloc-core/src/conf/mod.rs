//! `MALLOC_CONF`: jemalloc's syntax, names, ranges and messages, read once when the heap boots.
//!
//! Sources, later ones win: the program's `malloc_conf`, the name of the symbolic link `/etc/malloc.conf`, the
//! environment's `MALLOC_CONF`, the program's `malloc_conf_2_conf_harder`. The link and the environment are not looked
//! at in a process that has more rights than its caller.
//!
//! Nothing here allocates; a bad option is told and the program runs on, unless `abort_conf:true`.

mod options;
mod parse;
mod sources;
mod table;
mod value;

pub use options::{ByClass, DSS, Hpa, Letters, Options, UNSET, Word, ZeroRealloc};
pub(crate) use sources::position;
pub use sources::{SOURCES, Source};
pub use table::{Bounds, Entry, Field, NCACHED_MAX, OPTIONS, read_ncached_max};
pub(crate) use table::{junk_word, zero_realloc_word};
pub use value::{boolean, bytes, clipped, fixed_point, number, signed};

use core::ffi::c_char;

use crate::message::{Decimal, warn};
use crate::observer::OptionVerdict;

/// Whether the process runs with rights that its caller doesn't have (set-uid and the like): its environment is not
/// to be trusted.
pub fn is_privileged() -> bool {
    sources::is_privileged()
}

/// A variable of the environment, null where there is none and in a process with more rights than its caller. To be called while
/// nobody changes the environment.
pub fn environment(name: &[u8]) -> *const c_char {
    if is_privileged() { core::ptr::null() } else { sources::variable(name) }
}

/// The same, to be called while the heap boots, before the program may change its environment.
pub fn environment_at_boot(name: &[u8]) -> Option<&'static [u8]> {
    // SAFETY: null or a C string of the environment, which lives for as long as it isn't changed.
    unsafe { crate::ctl::node::text(environment(name)) }
}

/// Reads all sources into `options`. Pairs that the heap doesn't know go to `offer`.
#[unsafe(link_section = "heapsift_text")]
pub fn load(options: &mut Options, offer: &mut dyn FnMut(&[u8], &[u8]) -> OptionVerdict) {
    sources::find();
    // jemalloc reads everything twice: first for `confirm_conf` alone, so that it covers all sources.
    for text in SOURCES.iter().filter_map(Source::text) {
        parse::scan_for_confirm(text, options);
    }
    let mut faults = false;
    for (i, source) in SOURCES.iter().enumerate() {
        let text = source.text();
        if options.confirm_conf {
            let number = Decimal::new(i as u64 + 1);
            let (what, value) = (source.what.as_bytes(), text.unwrap_or(b""));
            warn(&[b"malloc_conf #", number.as_bytes(), b" (", what, b"): \"", value, b"\""]);
        }
        // Those of the sources before as well, whichever of them asks for the end.
        faults |= text.is_some_and(|text| parse::apply(text, options, offer));
        if faults && options.abort_conf {
            abort();
        }
    }
    if !options.safety_check {
        // Without the checks there is nothing that would scan; `opt.*` says so.
        options.debug_double_free_max_scan = 0;
    }
}

/// Reads one text into `options`, as [`load`] does with each of its sources. Returns whether something was wrong.
pub fn apply(text: &[u8], options: &mut Options, offer: &mut dyn FnMut(&[u8], &[u8]) -> OptionVerdict) -> bool {
    parse::scan_for_confirm(text, options);
    parse::apply(text, options, offer)
}

/// Ends the process for a bad option, as `abort_conf:true` asks.
pub fn abort() -> ! {
    crate::message::fatal(&[b"Abort (abort_conf:true) on invalid conf value (see above)."])
}
