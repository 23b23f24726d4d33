//! Blocks that are to read as zero.

use crate::heap::Heap;
use crate::observer::Observer;
use crate::request::Obtained;
use crate::sys::{self, Advice, PAGE, extra};

/// From so many bytes on it is asked which pages are there: sixteen, for which that takes a tenth of the time of clearing them.
const ASK_FROM: usize = 64 << 10;
/// So many pages are asked about at a time.
const PIECE_PAGES: usize = 256;

impl<O: Observer> Heap<O> {
    /// Has a block read as zero: from `calloc_madvise_threshold` on by having the kernel take its pages away. Of a smaller one,
    /// pages that aren't there are left alone: a table that is hardly used, as many a large block of zeros is, would be
    /// backed as a whole once it lies where another did.
    pub(crate) fn clear(&'static self, found: &Obtained) {
        let (address, bytes) = (found.block.addr(), found.usable);
        let by_kernel = bytes >= self.options().calloc_madvise_threshold.min(ASK_FROM)
            && (address | bytes).is_multiple_of(PAGE)
            // A program's hooks may have mapped a file.
            // SAFETY: the extent of a block in use.
            && unsafe { !self.arena_of(self.core.shared.map.extent(address)).pages.has_hooks() }
            && sys::dont_need_clears();
        if !by_kernel {
            // SAFETY: the block is ours and has so many bytes.
            unsafe { found.block.write_bytes(0, bytes) };
        } else if bytes >= self.options().calloc_madvise_threshold {
            // SAFETY: whole pages of the block, which nobody has seen.
            unsafe { drop_or_clear(address, bytes) };
        } else {
            // SAFETY: as above.
            unsafe { clear_what_is_there(address, bytes) };
        }
    }
}

/// Has the kernel take pages away; where it refuses, as for locked memory, they are written.
///
/// # Safety
/// Whole pages of the caller's, whose contents are given up.
unsafe fn drop_or_clear(address: usize, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if sys::advise(address, bytes, Advice::DontNeed).is_err() {
            write_zeros(address, bytes);
        }
    }
}

/// Writes zeros to those pages that are in memory, where that is most of them. The kernel drops what it has of the others, if
/// it has swapped them out, and all where they are few: a block that was hardly used may be followed by another such one, with
/// its few pages elsewhere.
///
/// # Safety
/// As [`drop_or_clear`].
unsafe fn clear_what_is_there(address: usize, bytes: usize) {
    let mut there = [0; PIECE_PAGES];
    // That of systemd for services doesn't know this call.
    let may_ask = !sys::sandbox::is_filtered();
    for start in (address..address + bytes).step_by(PIECE_PAGES * PAGE) {
        let pages = ((address + bytes - start) / PAGE).min(PIECE_PAGES);
        let there = &mut there[..pages];
        if !may_ask || extra::resident_pages(start, there).is_err() {
            // SAFETY: pages of the caller's.
            unsafe { write_zeros(start, pages * PAGE) };
            continue;
        }
        if there.iter().filter(|&&page| page & 1 != 0).count() < pages / 2 {
            // SAFETY: as above.
            unsafe { drop_or_clear(start, pages * PAGE) };
            continue;
        }
        let mut first = 0;
        for run in there.chunk_by(|a, b| (a ^ b) & 1 == 0) {
            let (from, length) = (start + first * PAGE, run.len() * PAGE);
            // SAFETY: as above.
            unsafe { if run[0] & 1 != 0 { write_zeros(from, length) } else { drop_or_clear(from, length) } };
            first += run.len();
        }
    }
}

unsafe fn write_zeros(address: usize, bytes: usize) {
    // SAFETY: the caller's pages, which are mapped.
    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(address).write_bytes(0, bytes) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_are_not_there_stay_away() {
        const PAGES: usize = 2 * PIECE_PAGES + 7;
        let start = sys::map(PAGES * PAGE, true).unwrap();
        let page = |number: usize| core::ptr::with_exposed_provenance_mut::<u8>(start + number * PAGE);
        // In the first piece few are used, in the second most, of the third the last page.
        let is_used = |number: usize| match number / PIECE_PAGES {
            0 => number % 16 == 3,
            1 => number % 16 != 3,
            _ => number == PAGES - 1,
        };
        for number in (0..PAGES).filter(|&number| is_used(number)) {
            // SAFETY: mapped above.
            unsafe { page(number).write_bytes(0xee, PAGE) };
        }
        // SAFETY: nobody else's.
        unsafe { clear_what_is_there(start, PAGES * PAGE) };
        let mut there = [0; PAGES];
        extra::resident_pages(start, &mut there).unwrap();
        for (number, there) in there.into_iter().enumerate() {
            let stays = number / PIECE_PAGES == 1 && is_used(number);
            assert_eq!(there & 1 != 0, stays, "page {number}");
            // SAFETY: as above.
            let contents = unsafe { core::slice::from_raw_parts(page(number), PAGE) };
            assert!(contents.iter().all(|&byte| byte == 0), "page {number}");
        }
    }

    /// A filter that ends the process for `mincore` may have been there from the start.
    #[test]
    fn a_filter_of_system_calls_is_respected() {
        const BYTES: usize = 32 * PAGE;
        const NONE: usize = 0;
        let start = sys::map(BYTES, true).unwrap();
        // SAFETY: mapped above; the child calls what may be called in one.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u8>(start).write_bytes(0xee, BYTES);
            let child = libc::fork();
            if child == 0 {
                let step = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
                let mut filter = [
                    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
                    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, libc::SYS_mincore as u32),
                    step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_KILL_PROCESS),
                    step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
                ];
                let filter = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, NONE, NONE, NONE);
                let mode = libc::SECCOMP_MODE_FILTER;
                let is_set = libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter, NONE, NONE) == 0;
                clear_what_is_there(start, BYTES);
                let contents = core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<u8>(start), BYTES);
                libc::_exit(i32::from(!is_set || contents.iter().any(|&byte| byte != 0)));
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            assert_eq!(status, 0);
        }
    }
}
