//! Where configuration strings come from.

use core::cell::Cell;
use core::ffi::{CStr, c_char};
use core::ptr::null;

use crate::sys;

/// A place that configuration may come from.
#[derive(Debug)]
pub struct Source {
    /// What `confirm_conf` calls it.
    pub what: &'static str,
    /// A C string that stays for ever, null where there is none.
    found: Cell<*const c_char>,
}

// SAFETY: `found` is written by `find` alone, while the one thread that boots the heap reads the configuration.
unsafe impl Sync for Source {}

impl Source {
    const fn new(what: &'static str) -> Self {
        Source { what, found: Cell::new(null()) }
    }

    /// What was found there.
    pub fn text(&self) -> Option<&'static [u8]> {
        self.c_text().map(CStr::to_bytes)
    }

    /// What was found there, with its zero byte.
    pub fn c_text(&self) -> Option<&'static CStr> {
        let found = self.found.get();
        // SAFETY: set by `find`, which gives it a C string that stays.
        (!found.is_null()).then(|| unsafe { CStr::from_ptr(found) })
    }
}

pub(crate) mod position {
    //! Position of each source in [`super::SOURCES`].

    pub(crate) const GLOBAL: usize = 1;
    pub(crate) const SYMLINK: usize = 2;
    pub(crate) const ENVIRONMENT: usize = 3;
    pub(crate) const GLOBAL_HARDER: usize = 4;
}

/// All sources, in order of application; jemalloc's numbers and names for them. The first has no equal here.
pub static SOURCES: [Source; 5] = [
    Source::new("string specified via --with-malloc-conf"),
    Source::new("string pointed to by the global variable malloc_conf"),
    Source::new("\"name\" of the file referenced by the symbolic link named /etc/malloc.conf"),
    Source::new("value of the environment variable MALLOC_CONF"),
    Source::new("string pointed to by the global variable malloc_conf_2_conf_harder"),
];

/// The string that a program put into a global variable, if there is one.
macro_rules! program_string {
    ($symbol:literal) => {{
        let address: *const *const c_char = crate::weak_symbol!($symbol);
        // SAFETY: a variable of that name is a pointer to a C string or null, by jemalloc's contract.
        if address.is_null() { null() } else { unsafe { *address } }
    }};
}

/// Looks at all sources, once, while the heap boots.
pub(super) fn find() {
    SOURCES[position::GLOBAL].found.set(program_string!("malloc_conf"));
    if !is_privileged() {
        SOURCES[position::SYMLINK].found.set(link_name());
        SOURCES[position::ENVIRONMENT].found.set(variable(b"MALLOC_CONF"));
    }
    SOURCES[position::GLOBAL_HARDER].found.set(program_string!("malloc_conf_2_conf_harder"));
}

/// Longest name that a link can have, in bytes.
const LINK_BYTES: usize = libc::PATH_MAX as usize - 1;

/// Where the name of the link is kept.
struct LinkName(core::cell::UnsafeCell<[u8; LINK_BYTES + 1]>);
// SAFETY: written by `link_name` alone, while the one thread that boots the heap reads the configuration.
unsafe impl Sync for LinkName {}
static LINK_NAME: LinkName = LinkName(core::cell::UnsafeCell::new([0; LINK_BYTES + 1]));

fn link_name() -> *const c_char {
    // SAFETY: the heap boots once, in one thread.
    let buffer = unsafe { &mut *LINK_NAME.0.get() };
    match sys::extra::read_link(c"/etc/malloc.conf", &mut buffer[..LINK_BYTES]) {
        Ok(name) if !name.is_empty() => buffer.as_ptr().cast(),
        _ => null(),
    }
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// A variable of the environment; null where there is none. Not by `getenv`, which programs may have put one of their own in the
/// place of.
pub(super) fn variable(name: &[u8]) -> *const c_char {
    // SAFETY: the C library's variable; null until it has been set up.
    let mut entry = unsafe { environ };
    if entry.is_null() {
        return null();
    }
    loop {
        // SAFETY: `environ` is an array of C strings that ends in null; boot runs before the program may change it,
        // or in a program that obeys the rule not to change it while others read it.
        let variable = unsafe { *entry };
        if variable.is_null() {
            return null();
        }
        // SAFETY: a C string of the environment.
        let text = unsafe { CStr::from_ptr(variable) }.to_bytes_with_nul();
        if let Some([b'=', value @ ..]) = text.strip_prefix(name) {
            return value.as_ptr().cast();
        }
        // SAFETY: the array goes on, to its null.
        entry = unsafe { entry.add(1) };
    }
}

#[unsafe(link_section = "heapsift_text")]
pub(super) fn is_privileged() -> bool {
    const AT_SECURE: usize = libc::AT_SECURE as usize;
    // SAFETY: no preconditions.
    let known = |what| unsafe { libc::getauxval(what) };
    // In a static program the C library may not have its auxiliary vector yet: then not even the page size is known, and the
    // kernel is asked.
    if known(libc::AT_PAGESZ) != 0 {
        return known(libc::AT_SECURE) != 0;
    }
    let Ok(fd) = sys::open_read(c"/proc/self/auxv") else { return known(libc::AT_SECURE) != 0 };
    let mut buffer = [0u8; 1024];
    let length = sys::read(fd, &mut buffer).unwrap_or(0);
    sys::close(fd);
    let word = |bytes: &[u8]| usize::from_ne_bytes(bytes.try_into().unwrap_or([0; 8]));
    buffer[..length]
        .chunks_exact(16)
        .find(|pair| word(&pair[..8]) == AT_SECURE)
        .is_some_and(|pair| word(&pair[8..]) != 0)
}
