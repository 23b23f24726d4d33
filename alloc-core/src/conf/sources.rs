//! Where configuration strings come from.

use core::ffi::{CStr, c_char};

use crate::sys;

core::arch::global_asm!(".weak malloc_conf", ".weak malloc_conf_2_conf_harder");

/// The string that a program put into a global variable; the reference is weak, so that there need not be one.
macro_rules! program_string {
    ($symbol:literal) => {{
        let address: *const *const c_char;
        // SAFETY: reads the global offset table; an undefined weak symbol has address 0.
        unsafe {
            core::arch::asm!(
                concat!("mov {}, qword ptr [rip + ", $symbol, "@GOTPCREL]"),
                out(reg) address, options(nostack, readonly, preserves_flags)
            );
        }
        if address.is_null() {
            None
        } else {
            // SAFETY: a variable of that name is a pointer to a C string or null, by jemalloc's contract.
            unsafe { text(*address) }
        }
    }};
}

unsafe fn text(pointer: *const c_char) -> Option<&'static [u8]> {
    // SAFETY: the caller passes null or a C string that lives as long as the process.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

/// All strings that there are, in order of application, with the names that `confirm_conf` prints.
pub(super) fn all() -> [Option<(&'static [u8], &'static [u8])>; 3] {
    [
        program_string!("malloc_conf").map(|t| (&b"#1 (global variable malloc_conf)"[..], t)),
        environment().map(|t| (&b"#2 (environment variable MALLOC_CONF)"[..], t)),
        program_string!("malloc_conf_2_conf_harder")
            .map(|t| (&b"#3 (global variable malloc_conf_2_conf_harder)"[..], t)),
    ]
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

fn environment() -> Option<&'static [u8]> {
    if is_privileged() {
        return None;
    }
    const NAME: &[u8] = b"MALLOC_CONF=";
    // SAFETY: the C library's variable; null until it has been set up.
    let mut entry = unsafe { environ };
    if entry.is_null() {
        return None;
    }
    loop {
        // SAFETY: `environ` is an array of C strings that ends in null; boot runs before the program may change it,
        // or in a program that obeys the rule not to change it while others read it.
        let value = unsafe { text(*entry) }?;
        if let Some(value) = value.strip_prefix(NAME) {
            return Some(value);
        }
        // SAFETY: not yet at the end.
        entry = unsafe { entry.add(1) };
    }
}

pub(super) fn is_privileged() -> bool {
    // The auxiliary vector, from the kernel: `getauxval` may not be set up yet in a static program.
    const AT_SECURE: usize = 23;
    let Ok(fd) = sys::open_read(c"/proc/self/auxv") else {
        // No /proc: ask the C library.
        // SAFETY: no preconditions.
        return unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    };
    let mut buffer = [0u8; 1024];
    let length = sys::read(fd, &mut buffer).unwrap_or(0);
    sys::close(fd);
    let word = |bytes: &[u8]| usize::from_ne_bytes(bytes.try_into().unwrap_or([0; 8]));
    buffer[..length].chunks_exact(16).find(|pair| word(&pair[..8]) == AT_SECURE).is_some_and(|pair| word(&pair[8..]) != 0)
}
