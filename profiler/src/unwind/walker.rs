//! The walk itself.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use alloc_core::sys::Entry;

use super::bounds::{self, Readable, Stack};
use super::chain::Chain;
use super::recall::Trail;
use super::resolve::{self, Module};
use super::rules::{self, Kind, Rule};
use super::{CODE_MIN, Capture, Cut, End, Method};

/// Takes frames, leaf first, and leaves out the allocator's own.
struct Frames<'a> {
    cut: &'a Cut,
    out: &'a mut [MaybeUninit<usize>],
    depth: usize,
    /// Whether the slow path's own frame has been passed.
    outside: bool,
}

impl Frames<'_> {
    /// A return address, and the CFA of the frame that returns to it. `false`: no room.
    #[inline]
    fn push(&mut self, return_address: usize, cfa: usize) -> bool {
        // The slow path's frame is the first whose CFA lies above the address inside of it.
        self.outside |= cfa > self.cut.entry.sp;
        if !self.outside || (self.depth == 0 && self.cut.own.contains(&return_address)) {
            return true;
        }
        match self.out.get_mut(self.depth) {
            Some(slot) => {
                slot.write(return_address);
                self.depth += 1;
                true
            }
            None => false,
        }
    }

    /// Addresses are told as those behind a call. The last one, if there is one, was exact.
    fn last_is_exact(&mut self, address: usize) {
        if let Some(last) = self.depth.checked_sub(1).and_then(|at| self.out.get_mut(at)) {
            last.write(address.wrapping_add(1));
        }
    }

    fn ended(&self, end: End) -> Capture {
        Capture { depth: self.depth, end }
    }
}

/// Steps of a walk, the frames left out included: bounds the time of a walk that goes astray.
const STEPS_MAX: usize = 4096;

/// Walks by unwind tables and frame pointers.
#[inline(never)]
pub(super) fn own(
    method: Method,
    stack: Stack,
    cut: &Cut,
    out: &mut [MaybeUninit<usize>],
    trail: &mut Trail<'_>,
) -> Capture {
    // The frames below are the allocator's: none of them is walked.
    let mut at = cut.entry;
    let mut memory = Readable::new(at.sp, stack);
    let mut frames = Frames { cut, out, depth: 0, outside: false };
    let mut module: Option<Module> = None;
    // The first address is where the slow path is; later ones are where calls return to, one past the call.
    let mut past_call = 0;
    let mut chain = Chain::default();
    // Stacks lie above each other in any order, and a thread has one for its signals: a walk goes down once.
    let mut is_below = false;
    for _ in 0..STEPS_MAX {
        if let Some(module) = &module
            && frames.depth > 0
            && past_call == 1
            && method != Method::FramePointer
        {
            straight(&mut at, module, memory.bounds(), &mut frames, trail);
        }
        let rule = if method == Method::FramePointer && past_call == 1 {
            Rule::UNKNOWN
        } else {
            // One question to the loader for each run of frames in a module: it costs a few nanoseconds, and tells
            // rules of a module that is gone from those of its successor.
            if !module.is_some_and(|m| (m.start..m.end).contains(&at.pc)) {
                module = resolve::module(at.pc);
            }
            match &module {
                None => Rule::UNKNOWN,
                Some(module) => resolve::known_rule(module, at.pc + 1 - past_call),
            }
        };
        let cfa = match rule.kind() {
            Kind::FromStackPointer => at.sp.wrapping_add(rule.cfa_offset()),
            Kind::FromFramePointer => {
                trail.by_frame_pointer();
                at.bp.wrapping_add(rule.cfa_offset())
            }
            Kind::FromWord => {
                trail.by_frame_pointer();
                let address = at.bp.wrapping_add(rule.cfa_offset());
                let Some(cfa) = memory.word(address) else { return frames.ended(End::Lost) };
                trail.word(address, cfa);
                cfa
            }
            Kind::Special if rule == Rule::END => return frames.ended(End::Complete),
            Kind::Special if rule == Rule::OTHER => return frames.ended(End::Lost),
            Kind::Special => {
                // A signal frame: the interrupted registers lie where the kernel has put them.
                trail.lost();
                let Some(interrupted) = signal_frame(&mut memory, at.sp) else { return frames.ended(End::Lost) };
                let goes_down = interrupted.sp <= at.sp;
                if interrupted.pc < CODE_MIN || goes_down && is_below {
                    return frames.ended(End::Lost);
                }
                // The kernel has the handler return to this one's first instruction, as if it had been called before it.
                frames.last_is_exact(at.pc);
                if !frames.push(interrupted.pc.wrapping_add(1), at.sp) {
                    return frames.ended(End::Truncated);
                }
                memory.interrupted_at(interrupted.sp);
                if goes_down {
                    (is_below, chain) = (true, Chain::default());
                }
                at = interrupted;
                past_call = 0;
                continue;
            }
            Kind::Unknown if module.is_some() && bounds::is_start(at.pc) => {
                return frames.ended(End::Complete);
            }
            Kind::Unknown => {
                // Code without tables: a frame pointer is the only lead, where the method allows it.
                trail.lost();
                memory.distrust();
                let leads_on = match method {
                    Method::Auto => chain.leads_on(&mut memory, at.sp, at.bp, module.is_some()),
                    Method::FramePointer => true,
                    Method::Dwarf | Method::Libgcc => false,
                };
                if !leads_on {
                    return frames.ended(End::Lost);
                }
                at.bp.wrapping_add(16)
            }
        };
        if cfa <= at.sp {
            return frames.ended(End::Lost);
        }
        let Some(return_address) = memory.word(cfa.wrapping_sub(8)) else { return frames.ended(End::Lost) };
        trail.word(cfa.wrapping_sub(8), return_address);
        let saved_rbp = match rule.kind() {
            Kind::Unknown => Some(at.bp),
            Kind::FromWord => rule.saved_rbp().map(|offset| at.bp.wrapping_add(offset)),
            _ => rule.saved_rbp().map(|offset| cfa.wrapping_add(offset)),
        };
        if let Some(at_address) = saved_rbp {
            let Some(bp) = memory.word(at_address) else { return frames.ended(End::Lost) };
            trail.saved_bp(at_address, bp);
            at.bp = bp;
        }
        if return_address == 0 {
            return frames.ended(End::Complete);
        }
        if return_address < CODE_MIN {
            return frames.ended(End::Lost);
        }
        if !frames.push(return_address, cfa) {
            return frames.ended(End::Truncated);
        }
        at.pc = return_address;
        at.sp = cfa;
        past_call = 1;
    }
    frames.ended(End::Lost)
}

/// The most of a walk, in a tight loop: frames of one module with ordinary rules that are known, on the thread's own
/// stack, once the allocator's own are passed. Stops before the first frame that is anything else.
#[inline(always)]
fn straight(
    at: &mut Entry,
    module: &Module,
    stack: core::ops::Range<usize>,
    frames: &mut Frames<'_>,
    trail: &mut Trail<'_>,
) {
    let Entry { mut pc, mut sp, mut bp } = *at;
    let code_bytes = module.end - module.start;
    let mut depth = frames.depth;
    while let Some(slot) = frames.out.get_mut(depth) {
        if pc.wrapping_sub(module.start) >= code_bytes {
            break;
        }
        let Some(rule) = rules::find(pc, module.identity) else { break };
        let base = match rule.kind() {
            Kind::FromStackPointer => sp,
            Kind::FromFramePointer => bp,
            Kind::FromWord | Kind::Special | Kind::Unknown => break,
        };
        let cfa = base.wrapping_add(rule.cfa_offset());
        // The word below the CFA lies between the stack pointer and the stack's end.
        if cfa <= sp || cfa > stack.end || cfa & 7 != 0 {
            break;
        }
        // SAFETY: inside of the thread's stack, above its stack pointer; only this thread unmaps its own stack.
        let return_address = unsafe { core::ptr::with_exposed_provenance::<usize>(cfa - 8).read() };
        if return_address < CODE_MIN {
            break;
        }
        if rule.kind() == Kind::FromFramePointer {
            trail.by_frame_pointer();
        }
        if let Some(offset) = rule.saved_rbp() {
            let saved = cfa.wrapping_add(offset);
            if !stack.contains(&saved) {
                break;
            }
            // SAFETY: as above; aligned as the CFA is, to which a rule adds whole words.
            bp = unsafe { core::ptr::with_exposed_provenance::<usize>(saved).read() };
            trail.saved_bp(saved, bp);
        }
        trail.word(cfa - 8, return_address);
        slot.write(return_address);
        depth += 1;
        (pc, sp) = (return_address, cfa);
    }
    frames.depth = depth;
    *at = Entry { pc, sp, bp };
}

/// The interrupted registers in the kernel's signal frame on x86-64: `sp` points at a `ucontext_t`, whose general
/// registers begin at offset 40 in the order r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
fn signal_frame(memory: &mut Readable, sp: usize) -> Option<Entry> {
    let register = |memory: &mut Readable, index: usize| memory.word(sp.checked_add(40 + index * 8)?);
    let (bp, interrupted_sp, pc) = (register(memory, 10)?, register(memory, 15)?, register(memory, 16)?);
    Some(Entry { pc, sp: interrupted_sp, bp })
}

struct LibgccWalk<'a, 'b> {
    frames: &'a mut Frames<'b>,
    end: End,
    /// The last frame's address.
    last: usize,
}

unsafe extern "C" {
    fn _Unwind_Backtrace(step: extern "C" fn(*mut c_void, *mut c_void) -> i32, state: *mut c_void) -> i32;
    fn _Unwind_GetIPInfo(context: *mut c_void, is_exact: *mut i32) -> usize;
    fn _Unwind_GetCFA(context: *mut c_void) -> usize;
}

/// Walks by the compiler's unwinder. It may take the loader's lock on C libraries without `_dl_find_object`.
#[inline(never)]
pub(super) fn libgcc(cut: &Cut, out: &mut [MaybeUninit<usize>]) -> Capture {
    const GO_ON: i32 = 0;
    const STOP: i32 = 4;
    extern "C" fn step(context: *mut c_void, state: *mut c_void) -> i32 {
        // SAFETY: the unwinder passes on the state that it was given below.
        let walk = unsafe { &mut *state.cast::<LibgccWalk<'_, '_>>() };
        let mut is_interrupted = 0;
        // SAFETY: the unwinder's own context.
        let (pc, cfa) = unsafe { (_Unwind_GetIPInfo(context, &raw mut is_interrupted), _Unwind_GetCFA(context)) };
        if pc < CODE_MIN {
            // Beyond the outermost frame the unwinder reports one more, without an address. Where it finds no tables,
            // it ends as if that were the outermost frame, but reports none beyond.
            walk.end = if pc == 0 { End::Complete } else { End::Lost };
            return STOP;
        }
        if is_interrupted != 0 {
            walk.frames.last_is_exact(walk.last);
        }
        walk.last = pc;
        // For the unwinder, a frame's CFA is the stack pointer at the call; the callee's CFA is the same address.
        if !walk.frames.push(pc.wrapping_add(usize::from(is_interrupted != 0)), cfa) {
            walk.end = End::Truncated;
            return STOP;
        }
        GO_ON
    }
    let mut frames = Frames { cut, out, depth: 0, outside: false };
    let mut walk = LibgccWalk { frames: &mut frames, end: End::Lost, last: 0 };
    // SAFETY: the callback and its state are alive during the call.
    unsafe { _Unwind_Backtrace(step, (&raw mut walk).cast()) };
    // The start-up code of a static executable isn't among the registered frames.
    let at_start = walk.end == End::Lost && bounds::is_start(walk.last);
    let end = if at_start { End::Complete } else { walk.end };
    frames.ended(end)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::unwind::{capture, stack};

    /// Numbers as room for numbers: nothing but numbers is ever written there.
    fn room(frames: &mut [usize]) -> &mut [MaybeUninit<usize>] {
        // SAFETY: the same memory, and a number is a value of either type.
        unsafe { core::slice::from_raw_parts_mut(frames.as_mut_ptr().cast(), frames.len()) }
    }

    fn both(own: &mut [usize], reference: &mut [usize]) -> (Capture, Capture) {
        let cut = Cut { entry: alloc_core::sys::entry(), own: 0..0 };
        (
            capture(Method::Auto, stack(), &cut, room(own), &mut Trail::none()),
            capture(Method::Libgcc, Stack::UNKNOWN, &cut, room(reference), &mut Trail::none()),
        )
    }

    /// Compares from the first frame on that both walks share: the caller of this function.
    #[inline(never)]
    fn compare() {
        let (mut own, mut reference) = ([0; 512], [0; 512]);
        let (a, b) = both(&mut own, &mut reference);
        let (own, reference) = (&own[..a.depth], &reference[..b.depth]);
        let common = own.iter().rev().zip(reference.iter().rev()).take_while(|(x, y)| x == y).count();
        // The innermost frames differ by where the two walks were called from.
        assert!(common + 4 >= own.len() && common >= 4, "{own:x?}\n{reference:x?}");
        assert_eq!((a.end, b.end), (End::Complete, End::Complete));
    }

    #[inline(never)]
    fn deep(depth: usize) -> usize {
        let room = std::hint::black_box([depth as u8; 40]);
        if depth == 0 {
            compare();
            return 0;
        }
        deep(depth - 1) + usize::from(room[depth % 40])
    }

    extern "C" fn order(a: *const c_void, b: *const c_void) -> i32 {
        compare();
        // SAFETY: qsort passes pointers into the array below.
        unsafe { *a.cast::<i32>() - *b.cast::<i32>() }
    }

    #[test]
    fn equals_libgcc() {
        compare();
        deep(100);
        std::thread::spawn(|| deep(37)).join().unwrap();
        let mut numbers = [5i32, 3, 9, 1];
        // SAFETY: four numbers of four bytes.
        unsafe { libc::qsort(numbers.as_mut_ptr().cast(), 4, 4, Some(order)) };
        assert_eq!(numbers, [1, 3, 5, 9]);
    }

    // Functions without unwind tables that call the function they are given: one with a frame pointer, and one that keeps
    // in its place the address of two numbers of its own.
    core::arch::global_asm!(
        ".globl heapsift_test_framed, heapsift_test_frameless",
        "heapsift_test_framed:",
        "push rbp",
        "mov rbp, rsp",
        "call rdi",
        "pop rbp",
        "ret",
        "heapsift_test_frameless:",
        "push rbp",
        "push 5000",
        "push 7000",
        "mov rbp, rsp",
        "call rdi",
        "add rsp, 16",
        "pop rbp",
        "ret",
        // With tables, by which its frame is where rbx says.
        "heapsift_test_by_rbx:",
        ".cfi_startproc",
        "push rbx",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbx, -16",
        "mov rbx, rsp",
        ".cfi_def_cfa_register rbx",
        "call rdi",
        "pop rbx",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    );
    unsafe extern "C" {
        fn heapsift_test_by_rbx(callee: extern "C" fn());
        pub(in crate::unwind) fn heapsift_test_framed(callee: extern "C" fn());
        pub(in crate::unwind) fn heapsift_test_frameless(callee: extern "C" fn());
    }

    pub(in crate::unwind) fn captured(method: Method) -> (std::vec::Vec<usize>, End) {
        let cut = Cut { entry: alloc_core::sys::entry(), own: 0..0 };
        let mut frames = [0; 512];
        let capture = capture(method, stack(), &cut, room(&mut frames), &mut Trail::none());
        (frames[..capture.depth].to_vec(), capture.end)
    }

    #[test]
    fn frame_pointers_lead_through_code_without_tables() {
        extern "C" fn nested() {
            // SAFETY: it calls the function.
            unsafe { heapsift_test_framed(innermost) };
            std::hint::black_box(());
        }
        extern "C" fn innermost() {
            let (frames, end) = captured(Method::Auto);
            assert_eq!(end, End::Complete);
            let asm = heapsift_test_framed as *const () as usize;
            let through = frames.iter().filter(|&&frame| (asm..asm + 10).contains(&frame)).count();
            assert_eq!(through, 2, "{frames:x?}");
            let nested = nested as extern "C" fn() as usize;
            assert!(frames.iter().any(|&frame| (nested..nested + 100).contains(&frame)), "{frames:x?}");
            assert_eq!(captured(Method::Dwarf).1, End::Lost);
        }
        // SAFETY: it calls the function.
        unsafe { heapsift_test_framed(nested) };
    }

    /// A walk from here is lost in the code of so many bytes.
    fn is_lost_in(code: *const (), bytes: usize) {
        let (frames, end) = captured(Method::Auto);
        assert_eq!(end, End::Lost);
        let last = *frames.last().expect("this function's");
        assert!((code.addr()..code.addr() + bytes).contains(&last), "{frames:x?}");
    }

    #[test]
    fn what_is_no_frame_pointer_is_not_followed() {
        extern "C" fn innermost() {
            is_lost_in(heapsift_test_frameless as *const (), 40);
        }
        // SAFETY: it calls the function.
        unsafe { heapsift_test_frameless(innermost) };
    }

    #[test]
    fn what_tables_say_is_not_guessed_at() {
        // Its frame pointer is its caller's, and leads past it.
        extern "C" fn between() {
            // SAFETY: it calls the function.
            unsafe { heapsift_test_by_rbx(innermost) };
            std::hint::black_box(());
        }
        extern "C" fn innermost() {
            is_lost_in(heapsift_test_by_rbx as *const (), 10);
        }
        // SAFETY: it calls the function.
        unsafe { heapsift_test_framed(between) };
    }

    #[test]
    fn truncation_is_told() {
        let cut = Cut { entry: alloc_core::sys::entry(), own: 0..0 };
        let mut frames = [0; 3];
        let capture = capture(Method::Auto, stack(), &cut, room(&mut frames), &mut Trail::none());
        assert_eq!((capture.depth, capture.end), (3, End::Truncated));
    }

    #[test]
    fn cut_leaves_the_caller_first() {
        #[inline(never)]
        fn slow_path(frames: &mut [usize]) -> Capture {
            let cut = Cut { entry: alloc_core::sys::entry(), own: 0..0 };
            let captured = capture(Method::Auto, stack(), &cut, room(frames), &mut Trail::none());
            std::hint::black_box(captured)
        }
        #[inline(never)]
        fn program(frames: &mut [usize]) -> Capture {
            std::hint::black_box(slow_path(std::hint::black_box(frames)))
        }
        let mut frames = [0; 64];
        let captured = program(&mut frames);
        assert!(captured.depth > 2);
        let start = program as fn(&mut [usize]) -> Capture as usize;
        assert!((start..start + 200).contains(&frames[0]), "{:x} not in {start:x}", frames[0]);
    }
}
