//! Probes for tracers outside of the process (USDT): `otel_memory:alloc` and `otel_memory:free`, which fleet profilers of
//! OpenTelemetry attach to. They see sampled blocks only.
//!
//! A note in the file says where a `nop` stands and in which registers its arguments are. A tracer that attaches counts up
//! the probe's semaphore and puts a breakpoint on the `nop`. While nobody does, a sample costs one load more.

use core::arch::asm;
use core::sync::atomic::AtomicU16;

use pprof_export::unsample::probability;

/// How many tracers are attached to each probe; they write here themselves.
#[used]
#[unsafe(link_section = ".probes")]
static ALLOC_TRACERS: AtomicU16 = AtomicU16::new(0);
#[used]
#[unsafe(link_section = ".probes")]
static FREE_TRACERS: AtomicU16 = AtomicU16::new(0);

/// A `nop` and the note that describes it: the version of the format is 3.
macro_rules! probe {
    ($name:literal, $arguments:literal, $tracers:ident, $($operand:tt)*) => {
        // SAFETY: a `nop`. The note and the base that it refers to lie in sections of their own.
        unsafe {
            asm!(
                "990: nop",
                ".pushsection .note.stapsdt, \"\", @note",
                ".balign 4",
                ".4byte 992f - 991f, 994f - 993f, 3",
                "991: .asciz \"stapsdt\"",
                "992: .balign 4",
                "993: .8byte 990b",
                ".8byte _.stapsdt.base",
                ".8byte {tracers}",
                ".asciz \"otel_memory\"",
                concat!(".asciz \"", $name, "\""),
                concat!(".asciz \"", $arguments, "\""),
                "994: .balign 4",
                ".popsection",
                // Where this section lies tells a tracer by how much a file was moved when it was prelinked. Only notes
                // refer to it, so the linker must be told to keep it.
                ".ifndef _.stapsdt.base",
                ".pushsection .stapsdt.base, \"aGR\", @progbits, .stapsdt.base, comdat",
                ".weak _.stapsdt.base",
                ".hidden _.stapsdt.base",
                "_.stapsdt.base: .space 1",
                ".size _.stapsdt.base, 1",
                ".popsection",
                ".endif",
                tracers = sym $tracers,
                $($operand)*,
                options(nostack, preserves_flags)
            );
        }
    };
}

/// Whether a tracer is attached to a probe. The word is asked for by where it lies from here: the compiler would look up
/// its address first, in a cache line more.
macro_rules! is_traced {
    ($tracers:ident) => {{
        let tracers: u32;
        // SAFETY: a load of the static.
        unsafe {
            asm!("movzx {:e}, word ptr [rip + {}]", out(reg) tracers, sym $tracers,
                 options(readonly, nostack, preserves_flags));
        }
        tracers != 0
    }};
}

/// A block was sampled.
#[inline]
pub fn allocated(address: usize, usable_bytes: usize, period: u64) {
    if is_traced!(ALLOC_TRACERS) {
        tell_allocated(address, usable_bytes, period);
    }
}

/// A sampled block was freed.
#[inline]
pub fn freed(address: usize) {
    if is_traced!(FREE_TRACERS) {
        tell_freed(address);
    }
}

/// Its third argument is the number of bytes that the sample stands for.
#[cold]
#[inline(never)]
fn tell_allocated(address: usize, usable_bytes: usize, period: u64) {
    let weighted = (usable_bytes as f64 / probability(usable_bytes as u64, period)) as u64;
    probe!("alloc", "8@%rdi 8@%rsi 8@%rdx", ALLOC_TRACERS,
           in("rdi") address, in("rsi") usable_bytes, in("rdx") weighted);
}

#[cold]
#[inline(never)]
fn tell_freed(address: usize) {
    probe!("free", "8@%rdi", FREE_TRACERS, in("rdi") address);
}
