//! Where a stack ends, and whether an address can be read.

use alloc_core::sys;

/// The end (highest address) of the mapping that the calling thread's stack pointer lies in, from `/proc/self/maps`,
/// read by system calls into a buffer on the stack. 0 when it can't be found. Costs tens of microseconds: callers keep
/// the answer for each thread.
pub fn stack_high() -> usize {
    let sp = sys::stack_pointer();
    let Ok(fd) = sys::open_read(c"/proc/self/maps") else { return 0 };
    let mut lines = Lines::default();
    let mut buffer = [0u8; 4096];
    let high = loop {
        match sys::read(fd, &mut buffer) {
            Ok(0) | Err(_) => break 0,
            Ok(n) => {
                if let Some(high) = lines.feed(&buffer[..n], sp) {
                    break high;
                }
            }
        }
    };
    sys::close(fd);
    high
}

/// Reads `START-END …` lines byte by byte.
#[derive(Default)]
struct Lines {
    start: usize,
    end: usize,
    /// 0: in START, 1: in END, 2: in the rest.
    field: u8,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], address: usize) -> Option<usize> {
        for &byte in bytes {
            match (self.field, byte) {
                (_, b'\n') => *self = Lines::default(),
                (0, b'-') => self.field = 1,
                (1, b' ') => {
                    if (self.start..self.end).contains(&address) {
                        return Some(self.end);
                    }
                    self.field = 2;
                }
                (0, _) => self.start = self.start << 4 | digit(byte),
                (1, _) => self.end = self.end << 4 | digit(byte),
                _ => {}
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
    high: usize,
    /// A page that the kernel has said is mapped.
    page: usize,
}

impl Readable {
    /// `sp`: the stack pointer now; `stack_high`: the end of the thread's stack, 0 if not known.
    pub(super) fn new(sp: usize, stack_high: usize) -> Self {
        // A thread on another stack (signal stack, coroutine) is anywhere else. The known stack counts only if the
        // stack pointer is within a sane distance below its end.
        const STACK_BYTES_MAX: usize = 1 << 30;
        let known = stack_high > sp && stack_high - sp < STACK_BYTES_MAX;
        Readable { low: sp, high: if known { stack_high } else { 0 }, page: 0 }
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
        if self.high != 0 {
            // On the thread's own stack nothing above its end belongs to it.
            return false;
        }
        let page = address & !(sys::PAGE - 1);
        if page == self.page {
            return true;
        }
        const SYS_PROCESS_VM_READV: usize = 310;
        let mut word = 0usize;
        let local = [(&raw mut word).addr(), 8];
        let remote = [address, 8];
        // SAFETY: the kernel copies 8 bytes into `word`, or fails.
        let read = unsafe {
            sys::syscall(
                SYS_PROCESS_VM_READV,
                [sys::getpid() as usize, local.as_ptr().addr(), 1, remote.as_ptr().addr(), 1, 0],
            )
        };
        if read == 8 {
            self.page = page;
        }
        read == 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_stack() {
        let here = sys::stack_pointer();
        let high = stack_high();
        assert!(high > here && high - here < 64 << 20);
        std::thread::spawn(|| {
            let here = sys::stack_pointer();
            let high = stack_high();
            assert!(high > here && high - here < 4 << 20);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn probes_unknown_memory() {
        let sp = sys::stack_pointer();
        let mut readable = Readable::new(sp, 0);
        assert!(readable.word((sp + 64) & !7).is_some());
        assert!(readable.word(usize::MAX & !4095).is_none());
        assert!(readable.word(sp - 4096).is_none());
    }
}
