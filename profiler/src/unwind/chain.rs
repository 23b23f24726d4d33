//! Frame pointers through code of a module that has no unwind tables for it.
//!
//! Such code is written in assembly, or compiled long before the program runs by a just-in-time compiler: V8's builtins
//! are a part of `node`, and lie between its C++ and the JavaScript that calls it. Most of it keeps frame pointers, but
//! some of it uses the register for something else. So a step is not taken until frame pointers are known to lead on,
//! frame by frame, to code that has tables: words that lie on the stack for other reasons hardly ever do.

use super::bounds::Readable;
use super::resolve;
use super::rules::Rule;

/// Frames of one run without tables.
const FRAMES_MAX: usize = 512;

/// Follows frame pointers from `bp`, in a frame whose stack pointer is `sp`, to the first return address that has an
/// unwind rule. The CFA of the frame that returns there; `None` if they lead elsewhere.
///
/// Code without tables that keeps no frame pointer, called by code that does and has tables, passes too: its caller is
/// missing from the stack then.
pub(super) fn to_tables(memory: &mut Readable, mut sp: usize, mut bp: usize) -> Option<usize> {
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
    None
}

fn has_rule(return_address: usize) -> bool {
    resolve::module(return_address)
        .is_some_and(|module| resolve::known_rule(&module, return_address, 1) != Rule::UNKNOWN)
}
