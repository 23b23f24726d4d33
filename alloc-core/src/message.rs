//! Lines for people: `<heapsift>: ` and a text, by `malloc_message` where a program has set it, else by one write to
//! descriptor 2. Nothing here allocates.

use crate::sys;

/// The longest line, in bytes; longer ones are cut.
const LINE_BYTES: usize = 1024;

/// A `malloc_message` function: an opaque pointer (null here) and a C string.
pub type Sink = unsafe extern "C" fn(*mut core::ffi::c_void, *const core::ffi::c_char);

core::arch::global_asm!(".weak malloc_message");

/// The program's `malloc_message`, if it has set one. The reference is weak: there need not be such a variable.
fn sink() -> Option<Sink> {
    let address: *const Option<Sink>;
    // SAFETY: reads the global offset table; an undefined weak symbol has address 0.
    unsafe {
        core::arch::asm!(
            "mov {}, qword ptr [rip + malloc_message@GOTPCREL]",
            out(reg) address, options(nostack, readonly, preserves_flags)
        );
    }
    if address.is_null() {
        None
    } else {
        // SAFETY: a variable of that name is a function pointer or null, by jemalloc's contract.
        unsafe { address.read_volatile() }
    }
}

/// Writes `<heapsift>: `, the parts and a line feed.
pub fn warn(parts: &[&[u8]]) {
    let mut line = [0u8; LINE_BYTES];
    let mut used = 0;
    let mut put = |part: &[u8]| {
        // Two bytes stay free for the line feed and the zero byte.
        let n = part.len().min(LINE_BYTES - 2 - used);
        line[used..used + n].copy_from_slice(&part[..n]);
        used += n;
    };
    put(b"<heapsift>: ");
    for part in parts {
        put(part);
    }
    line[used] = b'\n';
    raw(&line[..used + 2]);
}

/// Writes bytes whose last one is a zero, which isn't shown.
pub fn raw(line_with_zero: &[u8]) {
    if let Some(sink) = sink() {
        // SAFETY: the program that set `malloc_message` promises a function that takes these; the bytes end in zero.
        unsafe { sink(core::ptr::null_mut(), line_with_zero.as_ptr().cast()) };
        return;
    }
    let mut rest = &line_with_zero[..line_with_zero.len().saturating_sub(1)];
    while !rest.is_empty() {
        match sys::write(2, rest) {
            Ok(n) if n > 0 => rest = &rest[n.min(rest.len())..],
            Err(sys::Errno(4)) => {}
            _ => return,
        }
    }
}

/// The program's own way out of a failed check (`experimental.hooks.safety_check_abort`), 0: none.
static SAFETY_HOOK: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);

/// Sets what is called instead of ending the process when a check of a block fails.
///
/// # Safety
/// 0, or the address of a function that takes a C string and may be called for ever.
pub unsafe fn set_safety_hook(hook: usize) {
    SAFETY_HOOK.store(hook, core::sync::atomic::Ordering::Relaxed);
}

/// A check of a block failed: calls the program's hook, or says why and ends the process by `SIGABRT`. Where a hook
/// returns, the caller leaves the block alone.
#[cold]
pub fn safety_check_failed(parts: &[&[u8]]) {
    let hook = SAFETY_HOOK.load(core::sync::atomic::Ordering::Relaxed);
    if hook == 0 {
        fatal(parts);
    }
    let mut line = [0u8; LINE_BYTES];
    let mut used = 0;
    for part in parts {
        let n = part.len().min(LINE_BYTES - 1 - used);
        line[used..used + n].copy_from_slice(&part[..n]);
        used += n;
    }
    // SAFETY: `set_safety_hook` takes such a function only; the line ends in zero.
    unsafe {
        let hook = core::mem::transmute::<usize, unsafe extern "C" fn(*const core::ffi::c_char)>(hook);
        hook(line.as_ptr().cast());
    }
}

/// Says why and ends the process by `SIGABRT`.
#[cold]
pub fn fatal(parts: &[&[u8]]) -> ! {
    warn(parts);
    sys::abort()
}

/// A number as text, in a buffer of its own.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; 20],
    start: u8,
}

impl Decimal {
    /// `value` in base 10.
    pub fn new(value: u64) -> Self {
        Self::in_base(value, 10)
    }

    /// `value` in base 16, without a prefix.
    pub fn hex(value: u64) -> Self {
        Self::in_base(value, 16)
    }

    fn in_base(mut value: u64, base: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut start = 20;
        loop {
            start -= 1;
            digits[start] = b"0123456789abcdef"[(value % base) as usize];
            value /= base;
            if value == 0 {
                break;
            }
        }
        Decimal { digits, start: start as u8 }
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start as usize..]
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn numbers_as_text() {
        assert_eq!(Decimal::new(0).as_bytes(), b"0");
        assert_eq!(Decimal::new(u64::MAX).as_bytes(), b"18446744073709551615");
        assert_eq!(Decimal::hex(0xdead_beef).as_bytes(), b"deadbeef");
    }
}
