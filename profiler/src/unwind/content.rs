//! What a module is, told by a word of its content: a library that was built anew and loaded again often has its extent,
//! its tables' place and the loader's record at the same addresses as the one before.
//!
//! The word is part of the build id, which lies in the module's first page as linkers lay modules out; where that is gets
//! looked for once. A module without one is told by its last function.

use core::ops::Range;

use alloc_core::sys;

use crate::image::Image;
use crate::sync::atomic::{AtomicU64, Ordering};

/// log2 of the modules whose places are remembered; of others they are looked for again and again.
const LG_PLACES: u32 = 6;
/// A place that says: there is none.
const NOWHERE: u64 = 1;

/// By key: the place, and the key XOR the place. A torn pair fails the comparison.
static PLACES: [[AtomicU64; 2]; 1 << LG_PLACES] = [const { [const { AtomicU64::new(0) }; 2] }; 1 << LG_PLACES];

/// A word of the module at `range`, whose search table is at `eh_frame_hdr` (0: it has none), and which stays mapped
/// meanwhile. `key`, not 0, is the same for modules that have all of these addresses in common.
#[inline]
pub(super) fn word(key: u64, range: Range<usize>, eh_frame_hdr: usize) -> u64 {
    let [place, check] = &PLACES[(key >> (u64::BITS - LG_PLACES)) as usize];
    // Relaxed: the words carry their own check.
    let mut at = place.load(Ordering::Relaxed);
    if check.load(Ordering::Relaxed) ^ at != key {
        at = build_id_place(&range);
        place.store(at, Ordering::Relaxed);
        check.store(at ^ key, Ordering::Relaxed);
    }
    if at == NOWHERE {
        return last_function(&range, eh_frame_hdr);
    }
    // SAFETY: in the module's first page. Whatever module is there now has its header in it, so it can be read.
    unsafe { core::ptr::with_exposed_provenance::<u64>(at as usize).read_unaligned() }
}

#[cold]
#[inline(never)]
fn build_id_place(range: &Range<usize>) -> u64 {
    let place = image(range).map_or(0, |image| image.build_id_at);
    let first_page = range.start..range.end.min(range.start + sys::PAGE);
    if first_page.contains(&place) && first_page.end - place >= size_of::<u64>() { place as u64 } else { NOWHERE }
}

/// What a module's image says of itself.
pub(super) fn image(range: &Range<usize>) -> Option<Image> {
    Image::read(range.start, sys::PAGE, |at, out| {
        if !range.contains(&at) || range.end - at < out.len() {
            return 0;
        }
        // SAFETY: the loader has mapped the module there, and a return address into it is on this stack, so it stays mapped.
        // Its first page and segments that are said to be readable are asked for, in the module's range.
        unsafe { out.as_mut_ptr().copy_from_nonoverlapping(core::ptr::with_exposed_provenance(at), out.len()) };
        out.len()
    })
}

/// Where the last function lies and how its description begins; 0 where there is no search table of the usual format.
#[cold]
fn last_function(range: &Range<usize>, eh_frame_hdr: usize) -> u64 {
    /// Version 1; a distance, a number and distances from the table, of 4 bytes each.
    const USUAL: u32 = u32::from_le_bytes([1, 0x1b, 0x03, 0x3b]);
    const HEAD_BYTES: usize = 12;
    // Of a description: behind its length and its kind, the function's place and length, and what its frame is like.
    const FROM: usize = 8;
    let word = |at: usize| {
        let is_there = range.contains(&at) && range.end - at >= size_of::<u64>();
        // SAFETY: in the module; the tables that are read are in one piece, and end with a word of 4 bytes more.
        is_there.then(|| unsafe { core::ptr::with_exposed_provenance::<u64>(at).read_unaligned() })
    };
    let told = || {
        word(eh_frame_hdr).filter(|&head| head as u32 == USUAL)?;
        let count = word(eh_frame_hdr + 8)? as u32;
        let entry = word(eh_frame_hdr + HEAD_BYTES + count.checked_sub(1)? as usize * 8)?;
        let description = eh_frame_hdr.wrapping_add_signed((entry >> 32) as i32 as isize) + FROM;
        Some(entry ^ word(description)?.rotate_left(16) ^ word(description + 8)?.rotate_left(32))
    };
    told().unwrap_or(0)
}
