//! Where a stack ends, and whether an address can be read.

use alloc_core::first_thread::own_file;
use alloc_core::sys::{self, sandbox};

/// The stack of a thread, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack(usize);

/// Bits of the number of an OS page in user space.
const PAGE_BITS: u32 = 47 - sys::LG_PAGE;
/// The main thread's stack grows. The kernel keeps more than that free below its end, whatever else is mapped.
const MAIN_BYTES: usize = 64 << 20;

impl Stack {
    /// One that isn't known. Memory is probed then. Its word is less than that of any stack that is.
    pub const UNKNOWN: Stack = Stack(1 << 10);

    fn new(start: usize, end: usize) -> Stack {
        let (end, pages) = (end >> sys::LG_PAGE, end.saturating_sub(start) >> sys::LG_PAGE);
        Stack(end & ((1 << PAGE_BITS) - 1) | pages.min(usize::MAX >> PAGE_BITS) << PAGE_BITS)
    }

    /// From [`Stack::word`].
    pub fn from_word(word: usize) -> Stack {
        Stack(word)
    }

    /// Above 1000.
    pub fn word(self) -> usize {
        self.0
    }

    fn range(self) -> core::ops::Range<usize> {
        let end = (self.0 & ((1 << PAGE_BITS) - 1)) << sys::LG_PAGE;
        end.saturating_sub((self.0 >> PAGE_BITS) << sys::LG_PAGE)..end
    }
}

/// The stack that the calling thread's stack pointer lies in: its mapping in `/proc/self/maps`, read by system calls into
/// a buffer on the stack. Costs tens of microseconds: callers keep the answer for each thread.
pub fn stack() -> Stack {
    let sp = sys::stack_pointer();
    if sandbox::in_sandbox() {
        return Stack::UNKNOWN;
    }
    let Ok(fd) = sys::open_read(own_file(c"/proc/self/maps", c"/proc/thread-self/maps")) else { return Stack::UNKNOWN };
    let mut lines = Lines::default();
    let mut buffer = [0u8; 4096];
    let stack = loop {
        match sys::read(fd, &mut buffer) {
            Ok(0) | Err(_) => break Stack::UNKNOWN,
            Ok(n) => {
                if let Some(stack) = lines.feed(&buffer[..n], sp) {
                    break stack;
                }
            }
        }
    };
    sys::close(fd);
    stack
}

/// Whether the calling thread runs on the stack that it has for its signals, by the kernel's word.
pub fn on_signal_stack() -> bool {
    const SYS_SIGALTSTACK: usize = 131;
    let mut told = libc::stack_t { ss_sp: core::ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    // SAFETY: `told` is alive, and nothing is to be changed.
    !sandbox::in_sandbox()
        && unsafe { sys::syscall(SYS_SIGALTSTACK, [0, (&raw mut told).addr(), 0, 0, 0, 0]) } == 0
        && told.ss_flags & libc::SS_ONSTACK != 0
}

/// Whether a call that returns to `address` is one of the code that a program starts with, below which no stack goes on:
/// the loader's, which runs the constructors of libraries and has no unwind tables, and the program's own.
#[cold]
pub fn is_start(address: usize) -> bool {
    // Of the loader of glibc 2.36 the last such address is 48 bytes behind its entry point.
    const START_BYTES: usize = 64;
    let starts_at = |entry: usize| address.wrapping_sub(entry) < START_BYTES;
    // SAFETY: plain questions.
    let (program, loader) = unsafe { (libc::getauxval(libc::AT_ENTRY), libc::getauxval(libc::AT_BASE)) };
    let loader: *const libc::Elf64_Ehdr = core::ptr::with_exposed_provenance(loader as usize);
    // SAFETY: where the kernel has mapped the loader, if there is one, it begins with its header, and stays.
    let entry = unsafe { loader.as_ref() }.map(|header| loader.addr() + header.e_entry as usize);
    starts_at(program as usize) || entry.is_some_and(starts_at)
}

/// Reads `START-END … PATH` lines byte by byte.
#[derive(Default)]
struct Lines {
    start: usize,
    end: usize,
    /// 0: in START, 1: in END, 2: in the rest.
    field: u8,
    /// The last 8 bytes.
    tail: u64,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], address: usize) -> Option<Stack> {
        for &byte in bytes {
            match (self.field, byte) {
                (_, b'\n') => {
                    if (self.start..self.end).contains(&address) {
                        let is_main = self.tail.to_be_bytes()[1..] == *b"[stack]";
                        let grown = self.end.saturating_sub(MAIN_BYTES);
                        let start = if is_main { self.start.min(grown) } else { self.start };
                        return Some(Stack::new(start, self.end));
                    }
                    *self = Lines::default();
                }
                (0, b'-') => self.field = 1,
                (1, b' ') => self.field = 2,
                (0, _) => self.start = self.start << 4 | digit(byte),
                (1, _) => self.end = self.end << 4 | digit(byte),
                _ => self.tail = self.tail << 8 | u64::from(byte),
            }
        }
        None
    }
}

fn digit(byte: u8) -> usize {
    (byte as char).to_digit(16).unwrap_or(0) as usize
}

/// Answers whether words of the stack can be read: cheaply inside of the known stack, by asking the kernel elsewhere.
pub(super) struct Readable {
    low: usize,
    /// Nothing from here on belongs to the stack.
    end: usize,
    /// What lies below is known to be mapped.
    high: usize,
    /// A page that the kernel has said is mapped.
    page: usize,
}

impl Readable {
    /// `sp`: the stack pointer now; `stack`: the thread's own.
    pub(super) fn new(sp: usize, stack: Stack) -> Self {
        // A thread on another stack (signal stack, coroutine) is anywhere else, and between the two there may be holes.
        let range = stack.range();
        let (end, high) = if range.contains(&sp) { (range.end, range.end) } else { (usize::MAX, 0) };
        Readable { low: sp, end, high, page: 0 }
    }

    /// From here on an address may be anything: a frame pointer of code without tables has led to it. Where a pool of
    /// stacks was one mapping when it was looked for, part of it may be gone by now.
    pub(super) fn distrust(&mut self) {
        if self.high != 0 {
            (self.high, self.page) = (0, self.low & !(sys::PAGE - 1));
        }
    }

    /// The walk goes on at `sp`, where a signal has interrupted what it came from: perhaps on another stack, which is not
    /// known then. What a function that returns has taken from the stack is below `sp`, where its tables still look for it.
    pub(super) fn interrupted_at(&mut self, sp: usize) {
        // No signal's frame is put there.
        const RED_ZONE: usize = 128;
        if !self.bounds().contains(&sp) {
            *self = Readable::new(sp.saturating_sub(RED_ZONE), Stack::UNKNOWN);
        }
    }

    /// The thread's own stack from the stack pointer on, as far as it is known; empty where it isn't.
    #[inline]
    pub(super) fn bounds(&self) -> core::ops::Range<usize> {
        self.low..self.high
    }

    /// The word at `address`, if it is aligned, above the stack pointer, and mapped.
    #[inline]
    pub(super) fn word(&mut self, address: usize) -> Option<usize> {
        if address & 7 != 0 || address < self.low {
            return None;
        }
        if address >= self.high && !self.probe(address) {
            return None;
        }
        // SAFETY: inside of the thread's stack, above its stack pointer, or on a page that the kernel says is mapped;
        // only this thread unmaps its own stacks.
        Some(unsafe { core::ptr::with_exposed_provenance::<usize>(address).read() })
    }

    #[cold]
    fn probe(&mut self, address: usize) -> bool {
        if address >= self.end {
            return false;
        }
        let page = address & !(sys::PAGE - 1);
        if page == self.page {
            return true;
        }
        const SYS_RT_SIGPROCMASK: usize = 14;
        const NO_SUCH_CHANGE: usize = usize::MAX;
        const EINVAL: isize = -22;
        // The kernel copies the new mask before it looks at what is to be done with it: the cheapest call that tells
        // whether 8 bytes can be read, and has no effect.
        // SAFETY: the change that is asked for doesn't exist.
        let answer = unsafe { sys::syscall(SYS_RT_SIGPROCMASK, [NO_SUCH_CHANGE, address, 0, 8, 0, 0]) };
        let is_mapped = answer == EINVAL;
        if is_mapped {
            self.page = page;
        }
        is_mapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_stack() {
        let here = sys::stack_pointer();
        let range = stack().range();
        assert!(range.contains(&here) && range.end - here < 64 << 20);
        std::thread::spawn(|| {
            let here = sys::stack_pointer();
            let range = stack().range();
            assert!(range.contains(&here) && range.end - range.start < 8 << 20);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_main_stack_may_grow() {
        let feed = |text: &str, address| Lines::default().feed(text.as_bytes(), address).map(Stack::range);
        let maps = "7000000-7100000 rw-p 0 00:00 0 \n7ff0000000-7ff0100000 rw-p 0 00:00 0   [stack]\n7ff1000000-7ff1001000 r-xp 0 00:00 0  [vdso]\n";
        assert_eq!(feed(maps, 0x700_0010), Some(0x700_0000..0x710_0000));
        assert_eq!(feed(maps, 0x7f_f000_0010), Some(0x7f_f010_0000 - MAIN_BYTES..0x7f_f010_0000));
        assert_eq!(feed(maps, 0x7f_f100_0010), Some(0x7f_f100_0000..0x7f_f100_1000));
        assert_eq!(feed(maps, 0x10), None);
        assert!(Stack::UNKNOWN.range().is_empty() && Stack::UNKNOWN.word() != 0);
        assert_eq!(Stack::new(0, (1 << 47) - 4096).range().end, (1 << 47) - 4096);
    }

    #[test]
    fn probes_unknown_memory() {
        let sp = sys::stack_pointer();
        for stack in [Stack::UNKNOWN, Stack::new(sp + (1 << 20), sp + (2 << 20))] {
            let mut readable = Readable::new(sp, stack);
            assert!(readable.word((sp + 64) & !7).is_some());
            assert!(readable.word(usize::MAX & !4095).is_none());
            assert!(readable.word(sp - 4096).is_none());
        }
    }

    #[test]
    fn probes_what_was_mapped_once() {
        let start = sys::map(4 * sys::PAGE, false).unwrap();
        let (sp, end) = (start + 64, start + 4 * sys::PAGE);
        let mut readable = Readable::new(sp, Stack::new(start, end));
        assert!(readable.word(end - 8).is_some() && readable.word(end).is_none());
        // SAFETY: mapped above, for nobody else.
        unsafe { sys::unmap(start + 2 * sys::PAGE, 2 * sys::PAGE) }.unwrap();
        readable.distrust();
        assert!(readable.bounds().is_empty());
        assert!(readable.word(sp).is_some() && readable.word(start + 2 * sys::PAGE - 8).is_some());
        assert!(readable.word(start + 2 * sys::PAGE).is_none() && readable.word(sp - 8).is_none());
        // What lies above the stack is none of it, mapped or not.
        let here = 0usize;
        assert!(readable.word((&raw const here).addr()).is_none());
        // SAFETY: as above.
        unsafe { sys::unmap(start, 2 * sys::PAGE) }.unwrap();
    }
}
