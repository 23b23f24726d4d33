//! Lines for people: `<heapsift>: ` and a text, by `malloc_message` where a program has set it, else by one write to
//! descriptor 2. Nothing here allocates.

use crate::sys::{self, extra};

/// The longest line, in bytes; longer ones are cut.
const LINE_BYTES: usize = 1024;

/// A `malloc_message` function: an opaque pointer (null here) and a C string.
pub type Sink = unsafe extern "C" fn(*mut core::ffi::c_void, *const core::ffi::c_char);

/// The program's `malloc_message`, if it has set one.
fn sink() -> Option<Sink> {
    let address: *const Option<Sink> = crate::weak_symbol!("malloc_message");
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
    raw(compose(&mut line, parts));
}

/// As [`warn`], to descriptor 2 whatever the program has set: for signal handlers.
pub fn say(parts: &[&[u8]]) {
    let mut line = [0u8; LINE_BYTES];
    direct(compose(&mut line, parts));
}

fn compose<'a>(line: &'a mut [u8; LINE_BYTES], parts: &[&[u8]]) -> &'a [u8] {
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
    &line[..used + 2]
}

/// Writes bytes whose last one is a zero, which isn't shown.
pub fn raw(line_with_zero: &[u8]) {
    let Some(sink) = sink() else { return direct(line_with_zero) };
    if held::keep(line_with_zero) {
        return;
    }
    // SAFETY: the program that set `malloc_message` promises a function that takes these; the bytes end in zero.
    unsafe { sink(core::ptr::null_mut(), line_with_zero.as_ptr().cast()) };
}

/// Writes to descriptor 2. Beyond a limit on the size of files, or where nobody reads a pipe any more, the kernel answers
/// with a signal besides the error, which must not end a program for a line of ours.
fn direct(line_with_zero: &[u8]) {
    const SIGPIPE_AND_SIGXFSZ: extra::SignalSet = 1 << (13 - 1) | 1 << (25 - 1);
    let blocked_before = extra::block_signals(SIGPIPE_AND_SIGXFSZ);
    let mut rest = &line_with_zero[..line_with_zero.len().saturating_sub(1)];
    while !rest.is_empty() {
        match sys::write(2, rest) {
            Ok(n) if n > 0 => rest = &rest[n.min(rest.len())..],
            Err(sys::Errno(4)) => {}
            _ => {
                // What the program itself has blocked may be waiting for it.
                while extra::take_pending(SIGPIPE_AND_SIGXFSZ & !blocked_before) {}
                break;
            }
        }
    }
    extra::set_blocked_signals(blocked_before);
}

pub(crate) mod held {
    //! While the heap boots, lines for `malloc_message` are kept until that is done: a program's function may allocate.

    use core::cell::UnsafeCell;
    use core::sync::atomic::{AtomicUsize, Ordering};

    use crate::sys;

    const BYTES: usize = 8192;

    struct Lines(UnsafeCell<[u8; BYTES]>);
    // SAFETY: only the thread that is in `BOOTING` touches them.
    unsafe impl Sync for Lines {}

    static LINES: Lines = Lines(UnsafeCell::new([0; BYTES]));
    /// Bytes of lines that are kept, each line with its zero.
    static USED: AtomicUsize = AtomicUsize::new(0);
    /// The thread that boots the heap, 0: nobody does.
    static BOOTING: AtomicUsize = AtomicUsize::new(0);

    fn is_mine() -> bool {
        BOOTING.load(Ordering::Relaxed) == sys::thread_pointer()
    }

    /// The calling thread boots the heap from here on.
    pub(crate) fn begin() {
        BOOTING.store(sys::thread_pointer(), Ordering::Relaxed);
    }

    /// Keeps a line, if it is the booting thread's. What there is no room for goes to descriptor 2.
    pub(super) fn keep(line_with_zero: &[u8]) -> bool {
        if !is_mine() {
            return false;
        }
        let used = USED.load(Ordering::Relaxed);
        match used + line_with_zero.len() {
            end if end <= BYTES => {
                // SAFETY: this thread boots, nobody else looks at the lines.
                unsafe { (&mut *LINES.0.get())[used..end].copy_from_slice(line_with_zero) };
                USED.store(end, Ordering::Relaxed);
            }
            _ => super::direct(line_with_zero),
        }
        true
    }

    /// The heap can be used: tells the lines that were kept.
    pub(crate) fn end() {
        BOOTING.store(0, Ordering::Relaxed);
        let used = USED.swap(0, Ordering::Relaxed);
        if used > 0 {
            // SAFETY: nothing is kept any more, so the lines stay as they are.
            let lines = unsafe { &(&*LINES.0.get())[..used] };
            lines.split_inclusive(|&b| b == 0).for_each(super::raw);
        }
    }

    /// The thread whose process ends in the middle of the boot, while it tells why.
    static ENDING: AtomicUsize = AtomicUsize::new(0);

    /// Tells the lines that were kept, one more, and ends the process, if the calling thread boots the heap.
    pub(super) fn end_process_while_booting(line_with_zero: &[u8]) {
        if is_mine() {
            keep(line_with_zero);
            ENDING.store(sys::thread_pointer(), Ordering::Relaxed);
            end();
            sys::abort();
        }
    }

    /// Ends the process if the calling thread tells why it does, and its `malloc_message` asks for memory, which there
    /// will never be any of.
    pub(crate) fn abort_if_ending() {
        if ENDING.load(Ordering::Relaxed) == sys::thread_pointer() {
            // SAFETY: this thread alone is left to look at the lines.
            let lines = unsafe { &*LINES.0.get() };
            lines.split_inclusive(|&b| b == 0).for_each(super::direct);
            sys::abort();
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

/// A check of a block failed: hands the line that says why to the program's hook, or writes it, has `more` say more, and
/// ends the process by `SIGABRT`. Where a hook returns, the caller leaves the block alone.
#[cold]
pub fn safety_check_failed(parts: &[&[u8]], more: &dyn Fn()) {
    let mut line = [0u8; LINE_BYTES];
    let line = compose(&mut line, parts);
    let hook = SAFETY_HOOK.load(core::sync::atomic::Ordering::Relaxed);
    if hook == 0 {
        held::end_process_while_booting(line);
        raw(line);
        more();
        sys::abort();
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
    let mut line = [0u8; LINE_BYTES];
    let line = compose(&mut line, parts);
    held::end_process_while_booting(line);
    raw(line);
    sys::abort()
}

/// The text in a buffer: what stands before the first zero byte.
pub fn until_zero(buffer: &[u8]) -> &[u8] {
    let length = buffer.iter().position(|&b| b == 0).unwrap_or(buffer.len());
    &buffer[..length]
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
