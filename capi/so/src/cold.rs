//! The parts of the library's file that are read once, or hardly ever: taken out of memory after that. They lie in pages
//! of their own (`cold.ld`), which the kernel brings back from the file when somebody reads them after all.

unsafe extern "C" {
    // Where they begin and end, from the linker script; no variables.
    static heapsift_cold_start: u8;
    static heapsift_cold_end: u8;
}

core::arch::global_asm!(".hidden heapsift_cold_start", ".hidden heapsift_cold_end");

/// To be called when the loader has done with this library: it has read the relocations, and the kernel has mapped some
/// more along with them, 100 KiB in all.
#[unsafe(link_section = "heapsift_text")]
pub(crate) fn let_go() {
    let cold = (&raw const heapsift_cold_start).addr()..(&raw const heapsift_cold_end).addr();
    // SAFETY: pages of the library's file that are mapped for reading alone: nobody has written to them, so that they
    // read the same when they come back.
    unsafe { alloc_core::sys::let_go_of_file(&cold) };
    // A few addresses of the library's own are looked up there by the first samples of a profiled process.
    profiler::set_own_tables(cold);
}
