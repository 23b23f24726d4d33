//! Frame pointers through code without unwind tables.
//!
//! Such code is written in assembly, or compiled by a just-in-time compiler, while the program runs or long before: V8's
//! builtins are a part of `node`, and lie between its C++ and the JavaScript that calls it. Most of it keeps frame
//! pointers, but some of it uses the register for something else. So a step is not taken until frame pointers are known
//! to lead on, frame by frame, to code that has tables: words that lie on the stack for other reasons hardly ever do.
//!
//! In code that belongs to no module one step is also taken to what lies behind a call: Java's compilers keep no frame
//! pointer, but what they call does, and so leads to one function of the program more.

use alloc_core::sys::{extra, sandbox};

use super::bounds::Readable;
use super::resolve;
use super::rules::Rule;

/// Frames of one run without tables that are looked at, as many as a stack has at most. What leads on for so long is no
/// accident either.
const FRAMES_MAX: usize = 512;

/// What a walk knows of its frame pointers.
#[derive(Default)]
pub(super) struct Chain {
    /// They lead on below this.
    good_below: usize,
    /// The CFA of the last step that was taken to what lies behind a call: they lead nowhere further on.
    broken_beyond: usize,
}

impl Chain {
    /// Whether the step by frame pointer `bp` is to be taken, out of a frame without tables whose stack pointer is `sp`.
    pub(super) fn leads_on(&mut self, memory: &mut Readable, sp: usize, bp: usize, in_module: bool) -> bool {
        if sp < self.good_below {
            return true;
        }
        if sp != self.broken_beyond
            && let Some(good_below) = to_tables(memory, sp, bp)
        {
            self.good_below = good_below;
            return true;
        }
        self.broken_beyond = bp.wrapping_add(16);
        !in_module && self.broken_beyond > sp && memory.word(bp.wrapping_add(8)).is_some_and(is_behind_call)
    }
}

/// Whether an instruction ends at `address` that calls. The kernel copies it, since anything may be there.
fn is_behind_call(address: usize) -> bool {
    let mut code = [0; 7];
    if sandbox::in_sandbox() || extra::read_memory(address.wrapping_sub(code.len()), &mut code) != code.len() {
        return false;
    }
    // The opcode, and how many bytes come after it: none but the distance, or all that the operand's kinds take.
    let calls_by = |after: usize| code[6 - after] == 0xff && code[7 - after] >> 3 & 7 == 2;
    code[2] == 0xe8 || [1, 2, 3, 5, 6].into_iter().any(calls_by)
}

/// Follows frame pointers from `bp`, in a frame whose stack pointer is `sp`, to the first return address that has an
/// unwind rule, or as far as is looked. The CFA of the frame that returns there; `None` if they lead elsewhere.
///
/// Code without tables that keeps no frame pointer, called by code that does and has tables, passes too: its caller is
/// missing from the stack then.
fn to_tables(memory: &mut Readable, mut sp: usize, mut bp: usize) -> Option<usize> {
    for _ in 0..FRAMES_MAX {
        let cfa = bp.checked_add(16)?;
        if cfa <= sp || cfa & 7 != 0 {
            return None;
        }
        let return_address = memory.word(cfa - 8)?;
        if has_rule(return_address) {
            return Some(cfa);
        }
        if return_address < super::CODE_MIN {
            return None;
        }
        bp = memory.word(bp)?;
        sp = cfa;
    }
    Some(sp)
}

fn has_rule(return_address: usize) -> bool {
    resolve::module(return_address).is_some_and(|module| resolve::known_rule(&module, return_address) != Rule::UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::super::walker::tests::{captured, heapsift_test_framed, heapsift_test_frameless};
    use super::super::{End, Method};
    use alloc_core::sys;
    use core::sync::atomic::{AtomicUsize, Ordering};

    // Calls itself as often as it is told, and then the function that it is given.
    core::arch::global_asm!(
        "heapsift_test_recursive:",
        "push rbp",
        "mov rbp, rsp",
        "dec rsi",
        "jz 2f",
        "call heapsift_test_recursive",
        "jmp 3f",
        "2: call rdi",
        "3: pop rbp",
        "ret",
        // Has something else in the register, and calls the function by way of one that keeps frame pointers.
        "heapsift_test_broken:",
        "push rbp",
        "mov ebp, 7000",
        "call 2f",
        "pop rbp",
        "ret",
        "2: push rbp",
        "mov rbp, rsp",
        "call rdi",
        "pop rbp",
        "ret",
    );
    unsafe extern "C" {
        fn heapsift_test_broken(callee: extern "C" fn(), times: usize);
        fn heapsift_test_recursive(callee: extern "C" fn(), times: usize);
    }

    /// Where the code lies that was made last, one page.
    static MADE: AtomicUsize = AtomicUsize::new(0);

    /// Runs a copy of a function, where no module is.
    fn run_elsewhere(function: *const (), callee: extern "C" fn(), times: usize) {
        let page = sys::map(sys::PAGE, false).expect("a page");
        MADE.store(page, Ordering::Relaxed);
        let to: *mut u8 = core::ptr::with_exposed_provenance_mut(page);
        // SAFETY: the function is shorter, and stands for itself. Nobody else has the page.
        unsafe {
            to.copy_from_nonoverlapping(function.cast(), 64);
            assert_eq!(libc::mprotect(to.cast(), sys::PAGE, libc::PROT_READ | libc::PROT_EXEC), 0);
            core::mem::transmute::<*mut u8, unsafe extern "C" fn(extern "C" fn(), usize)>(to)(callee, times);
        }
    }

    fn is_made(frame: usize) -> bool {
        frame - frame % sys::PAGE == MADE.load(Ordering::Relaxed)
    }

    // One test, since there is one page.
    #[test]
    fn code_in_no_module_is_crossed_where_frame_pointers_lead_on() {
        extern "C" fn framed() {
            let (frames, end) = captured(Method::Auto);
            assert_eq!(end, End::Complete);
            assert_eq!(frames.iter().filter(|&&frame| is_made(frame)).count(), 1, "{frames:x?}");
        }
        extern "C" fn frameless() {
            let (frames, end) = captured(Method::Auto);
            assert_eq!(end, End::Lost);
            assert!(frames.last().is_some_and(|&frame| is_made(frame)), "{frames:x?}");
        }
        extern "C" fn broken() {
            let (frames, end) = captured(Method::Auto);
            assert_eq!(end, End::Lost);
            assert_eq!(frames.iter().rev().take_while(|&&frame| is_made(frame)).count(), 2, "{frames:x?}");
        }
        extern "C" fn deep() {
            let (frames, end) = captured(Method::Auto);
            assert_eq!((frames.len(), end), (512, End::Truncated));
            assert!(frames[10..].iter().all(|&frame| is_made(frame)), "{frames:x?}");
        }
        run_elsewhere(heapsift_test_framed as *const (), framed, 0);
        run_elsewhere(heapsift_test_frameless as *const (), frameless, 0);
        run_elsewhere(heapsift_test_broken as *const (), broken, 0);
        run_elsewhere(heapsift_test_recursive as *const (), deep, 1000);
    }
}
