//! glibc's functions beside the allocation of blocks: hints, and numbers in its forms.

use core::ffi::c_int;
use core::fmt::{self, Write};

use alloc_core::message;
use profiler::HEAP;

/// `malloc_trim(3)`: gives unused pages back; `pad` has no meaning here.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn malloc_trim(_pad: usize) -> c_int {
    c_int::from(HEAP.malloc_trim())
}

/// `mallopt(3)`: hints for glibc's heap are taken (1) and mean nothing here; other parameters, which would promise
/// something, are refused (0).
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn mallopt(parameter: c_int, _value: c_int) -> c_int {
    const HINTS: [c_int; 7] = [
        libc::M_MXFAST,
        libc::M_TRIM_THRESHOLD,
        libc::M_TOP_PAD,
        libc::M_MMAP_THRESHOLD,
        libc::M_MMAP_MAX,
        libc::M_ARENA_TEST,
        libc::M_ARENA_MAX,
    ];
    c_int::from(HINTS.contains(&parameter))
}

fn usage() -> libc::mallinfo2 {
    let stats = HEAP.stats();
    // SAFETY: a struct of integers.
    let mut info: libc::mallinfo2 = unsafe { core::mem::zeroed() };
    info.arena = stats.mapped;
    info.uordblks = stats.allocated;
    info.fordblks = stats.mapped.saturating_sub(stats.allocated);
    info.keepcost = stats.dirty + stats.muzzy;
    info
}

/// `mallinfo2(3)`: mapped, in use, free, and what `malloc_trim` would give back.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn mallinfo2() -> libc::mallinfo2 {
    usage()
}

/// `mallinfo(3)`: as [`mallinfo2`], in `int`s that stop at their maximum.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn mallinfo() -> libc::mallinfo {
    let wide = usage();
    // SAFETY: a struct of integers.
    let mut info: libc::mallinfo = unsafe { core::mem::zeroed() };
    let narrow = |n: usize| c_int::try_from(n).unwrap_or(c_int::MAX);
    info.arena = narrow(wide.arena);
    info.uordblks = narrow(wide.uordblks);
    info.fordblks = narrow(wide.fordblks);
    info.keepcost = narrow(wide.keepcost);
    info
}

/// `malloc_info(3)`: the same numbers as XML, in glibc's outer element. There are no heaps of threads in it, as glibc counts
/// them, and no highest number of bytes, which nobody keeps. 0, or EINVAL for options, of which there are none.
///
/// # Safety
/// `stream` is open for writing.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub unsafe extern "C" fn malloc_info(options: c_int, stream: *mut libc::FILE) -> c_int {
    if options != 0 {
        return libc::EINVAL;
    }
    let usage = usage();
    let mut text = Text { bytes: [0; TEXT_BYTES], used: 0 };
    let written = write!(
        text,
        "<malloc version=\"1\">\n\
         <total type=\"fast\" count=\"0\" size=\"0\"/>\n\
         <total type=\"rest\" count=\"{}\" size=\"{}\"/>\n\
         <total type=\"mmap\" count=\"{}\" size=\"{}\"/>\n\
         <system type=\"current\" size=\"{}\"/>\n\
         <aspace type=\"total\" size=\"{}\"/>\n\
         <aspace type=\"mprotect\" size=\"{}\"/>\n\
         </malloc>\n",
        usage.ordblks,
        usage.fordblks,
        usage.hblks,
        usage.hblkhd,
        usage.arena,
        usage.arena + HEAP.stats().retained,
        usage.arena,
    );
    debug_assert!(written.is_ok());
    // SAFETY: the caller's promise; the text ends in a zero byte. No lock is held: the stream may come to have its buffer now.
    unsafe { libc::fputs(text.bytes.as_ptr().cast(), stream) };
    0
}

/// More than the text of [`malloc_info`] takes, with the largest numbers.
const TEXT_BYTES: usize = 768;

/// A text in place, with a zero byte behind it.
struct Text {
    bytes: [u8; TEXT_BYTES],
    used: usize,
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.bytes[..TEXT_BYTES - 1].get_mut(self.used..self.used + more.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(more.as_bytes());
        self.used += more.len();
        Ok(())
    }
}

/// `malloc_stats(3)`: the statistics on descriptor 2.
#[unsafe(no_mangle)]
#[unsafe(link_section = "heapsift_text")]
pub extern "C" fn malloc_stats() {
    alloc_core::report::print(&HEAP, b"", &mut |piece| message::raw(piece));
}
