//! System calls made directly, without the C library: no lock of libc, no `errno`, no allocation.
//!
//! The heap and the profiler run inside of other programs' `malloc`, where a call into libc can come back into the
//! allocator or wait for a lock that the caller holds. Each function returns the kernel's answer as a [`Result`].

#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod arch;
pub mod extra;
#[cfg(test)]
pub(crate) mod fake;
pub mod sandbox;
pub mod socket;

pub use arch::{
    Entry, call_on_stack, entry, load_byte, prefetch_for_write, stack_pointer, syscall, thread_pointer, ticks,
};

/// An error number of the kernel (`ENOMEM` and the like), positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// Out of memory.
pub const ENOMEM: Errno = Errno(12);
/// Something is there.
const EEXIST: Errno = Errno(17);

/// The size of an OS page on this architecture, in bytes.
pub const PAGE: usize = 4096;
/// The size of a huge page, in bytes.
pub const HUGE_PAGE: usize = 2 << 20;
/// log2 of [`PAGE`].
pub const LG_PAGE: u32 = 12;

/// Turns the kernel's return value into a result.
#[inline]
pub fn check(value: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&value) { Err(Errno(-(value as i32))) } else { Ok(value as usize) }
}

const SYS_WRITE: usize = 1;
const SYS_MMAP: usize = 9;
const SYS_MPROTECT: usize = 10;
const SYS_MUNMAP: usize = 11;
const SYS_SCHED_YIELD: usize = 24;
const SYS_MREMAP: usize = 25;
const SYS_MADVISE: usize = 28;
const SYS_GETPID: usize = 39;
const SYS_GETTID: usize = 186;
const SYS_FUTEX: usize = 202;
const SYS_SCHED_GETAFFINITY: usize = 204;
const SYS_CLOCK_GETTIME: usize = 228;
const SYS_OPENAT: usize = 257;
const SYS_READ: usize = 0;
const SYS_CLOSE: usize = 3;
const SYS_TGKILL: usize = 234;
const SYS_EXIT_GROUP: usize = 231;
const SYS_RT_SIGPROCMASK: usize = 14;
const SYS_RT_SIGACTION: usize = 13;

/// A system call on memory. In this crate's own tests it may be refused: see `fake.rs`.
///
/// # Safety
/// As [`syscall`].
#[inline(always)]
unsafe fn memory_call(number: usize, args: [usize; 6]) -> Result<usize, Errno> {
    #[cfg(test)]
    if let Some(errno) = fake::refusal(number) {
        return Err(errno);
    }
    // SAFETY: the caller's promise.
    check(unsafe { syscall(number, args) })
}

/// Maps `bytes` of fresh private memory that reads as zero. `reserve`: the range is mostly never touched and must
/// not count against the overcommit limit.
pub fn map(bytes: usize, reserve: bool) -> Result<usize, Errno> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
    const MAP_NORESERVE: usize = 0x4000;
    let flags = MAP_PRIVATE_ANONYMOUS | if reserve { MAP_NORESERVE } else { 0 };
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
    unsafe { memory_call(SYS_MMAP, [0, bytes, PROT_READ_WRITE, flags, usize::MAX, 0]) }
}

/// Reserves `bytes` of address space that nothing may touch yet.
pub fn reserve(bytes: usize) -> Result<usize, Errno> {
    const PROT_NONE: usize = 0;
    const MAP_PRIVATE_ANONYMOUS_NORESERVE: usize = 0x4022;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
    unsafe { memory_call(SYS_MMAP, [0, bytes, PROT_NONE, MAP_PRIVATE_ANONYMOUS_NORESERVE, usize::MAX, 0]) }
}

/// Maps `bytes` that read as zero and can't be written; they don't count against the overcommit limit.
pub fn map_to_read(bytes: usize) -> Result<usize, Errno> {
    const PROT_READ: usize = 1;
    const MAP_PRIVATE_ANONYMOUS_NORESERVE: usize = 0x4022;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
    unsafe { memory_call(SYS_MMAP, [0, bytes, PROT_READ, MAP_PRIVATE_ANONYMOUS_NORESERVE, usize::MAX, 0]) }
}

/// As [`map`], at `wanted` if the kernel has room there, anywhere else if not; `wanted` 0 says nothing.
pub fn map_near(wanted: usize, bytes: usize) -> Result<usize, Errno> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_PRIVATE_ANONYMOUS_NORESERVE: usize = 0x4022;
    // SAFETY: without MAP_FIXED an anonymous mapping touches no existing memory.
    unsafe { memory_call(SYS_MMAP, [wanted, bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE, usize::MAX, 0]) }
}

/// Moves the end of the data segment up by `bytes` (0: not at all); where it was before. By the C library, which keeps a
/// copy of the end and would move it back at the program's next `sbrk` if it didn't know. It takes no lock for that.
pub fn move_data_end(bytes: usize) -> Option<usize> {
    let bytes = isize::try_from(bytes).ok()?;
    #[cfg(test)]
    if fake::refusal(fake::SBRK).is_some() {
        return None;
    }
    // SAFETY: the C library's own accessor of the calling thread's `errno`; a move up touches no existing memory.
    unsafe {
        let errno = libc::__errno_location();
        let errno_before = *errno;
        let before = libc::sbrk(bytes);
        *errno = errno_before;
        (before.addr() != usize::MAX).then(|| before.expose_provenance())
    }
}

/// Whether [`Advice::DontNeed`] really leaves zeros: some emulators only pretend. Tried once, unless
/// [`trust_advice`] was called.
pub fn dont_need_clears() -> bool {
    match CLEARS.load(core::sync::atomic::Ordering::Relaxed) {
        0 => {
            let clears = try_dont_need();
            CLEARS.store(if clears { 1 } else { 2 }, core::sync::atomic::Ordering::Relaxed);
            clears
        }
        answer => answer == 1,
    }
}

static CLEARS: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

/// Has [`dont_need_clears`] answer yes without a trial (`trust_madvise`).
pub fn trust_advice() {
    CLEARS.store(1, core::sync::atomic::Ordering::Relaxed);
}

fn try_dont_need() -> bool {
    let Ok(address) = map(PAGE, true) else { return true };
    let word: *mut u64 = core::ptr::with_exposed_provenance_mut(address);
    // SAFETY: the page was mapped just now and is this function's alone.
    unsafe {
        word.write_volatile(u64::MAX);
        let done = advise(address, PAGE, Advice::DontNeed).is_ok();
        let clears = done && word.read_volatile() == 0;
        let _ = unmap(address, PAGE);
        clears
    }
}

/// Gives a mapped range back to the kernel.
///
/// # Safety
/// Nothing may use `[address, address + bytes)` afterwards, and it must be page aligned.
pub unsafe fn unmap(address: usize, bytes: usize) -> Result<(), Errno> {
    // SAFETY: the caller gives up the range.
    unsafe { memory_call(SYS_MUNMAP, [address, bytes, 0, 0, 0, 0]) }.map(|_| ())
}

/// Advice for [`advise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Advice {
    /// Drop the pages now; they read as zero afterwards.
    DontNeed = 4,
    /// The kernel may drop the pages when it needs memory.
    Free = 8,
    /// Back the range with huge pages.
    HugePage = 14,
    /// Do not back the range with huge pages.
    NoHugePage = 15,
    /// Leave the range out of core dumps.
    DontDump = 16,
    /// The pages won't be needed soon (Linux 5.4).
    Cold = 20,
    /// Have pages behind all of the range, as if it were written to (Linux 5.14).
    PopulateWrite = 23,
    /// Make the range, which must have a page, huge pages now (Linux 6.1).
    Collapse = 25,
    /// Make the pages inaccessible and give them back, without a mapping of their own (Linux 6.13).
    GuardInstall = 102,
    /// Make them accessible again.
    GuardRemove = 103,
}

/// Whether the page at `address` can't be taken from memory: the program has locked it, or has not mapped it.
pub fn is_locked(address: usize) -> bool {
    // SAFETY: nothing happens to what is in the page.
    unsafe { advise(address, PAGE, Advice::Cold) }.is_err()
}

/// `madvise(2)`.
///
/// # Safety
/// With [`Advice::DontNeed`], [`Advice::Free`] and [`Advice::GuardInstall`] the contents of the range are given up; nobody
/// may rely on them.
pub unsafe fn advise(address: usize, bytes: usize, advice: Advice) -> Result<(), Errno> {
    // SAFETY: the caller owns the range and its contents.
    unsafe { memory_call(SYS_MADVISE, [address, bytes, advice as usize, 0, 0, 0]) }.map(|_| ())
}

/// Takes the whole pages of a range out of memory that is mapped from a file; they come back when they are read.
///
/// # Safety
/// The pages are mapped from a file, and nobody has changed them: what was written to a private mapping would be lost.
#[unsafe(link_section = "heapsift_text")]
pub unsafe fn let_go_of_file(range: &core::ops::Range<usize>) {
    let (start, end) = (range.start.next_multiple_of(PAGE), range.end & !(PAGE - 1));
    if start < end && !sandbox::in_sandbox() {
        // SAFETY: the caller's promise. Where the kernel refuses, the pages stay.
        let _ = unsafe { advise(start, end - start, Advice::DontNeed) };
    }
}

/// What may be done to memory; the numbers are `mprotect`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Access {
    /// Nothing.
    None = 0,
    /// It may be read.
    Read = 1,
    /// It may be read and written.
    ReadWrite = 3,
}

/// Says what may be done to a range.
///
/// # Safety
/// The caller owns the range, and nothing does to it what it forbids.
pub unsafe fn protect(address: usize, bytes: usize, access: Access) -> Result<(), Errno> {
    // SAFETY: the caller owns the range.
    unsafe { memory_call(SYS_MPROTECT, [address, bytes, access as usize, 0, 0, 0]) }.map(|_| ())
}

/// Whether the kernel has all of a range, which is mapped, as one mapping of memory that may be moved.
pub fn is_one_mapping(address: usize, bytes: usize) -> bool {
    // No room in any address space for a mapping of so many bytes that begins where programs have theirs.
    const TOO_LONG: usize = (1 << 47) - (1 << 30);
    // The kernel asks whether the old range lies in one mapping before it looks for room for the new one, of which there is
    // none: the call has no effect.
    // SAFETY: what may not move can't grow beyond what lies above it.
    check(unsafe { syscall(SYS_MREMAP, [address, bytes, TOO_LONG, 0, 0, 0]) }) == Err(ENOMEM)
}

/// Moves the pages behind `[from, from + bytes)` to `to`, where they replace what is mapped; `from` stays mapped, without
/// pages. After a failure `to` is mapped, perhaps without its pages. `false`: `from` is not mapped any more.
///
/// # Safety
/// The caller owns both ranges; they don't overlap; nothing uses what was in `to`. `from` [`is_one_mapping`]: of another
/// range some kernels move a part before they fail, or let others have `to` for a while.
pub unsafe fn take_pages(from: usize, bytes: usize, to: usize) -> Result<bool, Errno> {
    const MREMAP_MAYMOVE_FIXED: usize = 3;
    const DONTUNMAP: usize = 4;
    // SAFETY: the caller owns both ranges.
    let moved = |flags| unsafe { memory_call(SYS_MREMAP, [from, bytes, bytes, flags, to, 0]) };
    let Err(error) = moved(MREMAP_MAYMOVE_FIXED | DONTUNMAP) else { return Ok(true) };
    #[cfg(test)]
    // SAFETY: the caller's range: a kernel that refuses late has unmapped it.
    unsafe {
        syscall(SYS_MUNMAP, [to, bytes, 0, 0, 0, 0]);
    }
    // The kernel unmaps the target of a move before it takes what it needs for it, which may fail. Mostly it is still there.
    if matches!(map_unused(to, bytes), Ok(()) | Err(EEXIST)) {
        return Err(error);
    }
    // Beyond a limit of address space, which a program may set itself when it has more already, there is nothing to be had
    // but what is there.
    moved(MREMAP_MAYMOVE_FIXED).map(|_| false)
}

/// Maps memory that reads as zero at `address`, where nothing may be mapped: all of the range, or an error.
#[cold]
pub fn map_unused(address: usize, bytes: usize) -> Result<(), Errno> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_PRIVATE_ANONYMOUS_NORESERVE_FIXED_NOREPLACE: usize = 0x10_4022;
    let args = [address, bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE_FIXED_NOREPLACE, usize::MAX, 0];
    // SAFETY: it replaces no mapping.
    let mapped = check(unsafe { syscall(SYS_MMAP, args) })?;
    if mapped != address {
        // Before Linux 4.17 the address is a wish.
        // SAFETY: mapped just now.
        let _ = unsafe { unmap(mapped, bytes) };
        return Err(EEXIST);
    }
    Ok(())
}

/// Maps a page where one is. Takes no more address space than there is: an error beyond a limit of it, but not right at one.
///
/// # Safety
/// Nobody uses the page.
#[cold]
pub unsafe fn map_again(address: usize) -> Result<(), Errno> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_PRIVATE_ANONYMOUS_NORESERVE_FIXED: usize = 0x4032;
    let args = [address, PAGE, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE_FIXED, usize::MAX, 0];
    // SAFETY: the caller's page.
    unsafe { memory_call(SYS_MMAP, args) }.map(|_| ())
}

/// Lets another thread run.
pub fn yield_now() {
    // SAFETY: touches no memory.
    unsafe { syscall(SYS_SCHED_YIELD, [0; 6]) };
}

/// Sleeps while `*word == expected`.
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, expected: u32) {
    const FUTEX_WAIT_PRIVATE: usize = 128;
    // SAFETY: the word outlives the call; the kernel only reads it.
    unsafe { syscall(SYS_FUTEX, [word.as_ptr().addr(), FUTEX_WAIT_PRIVATE, expected as usize, 0, 0, 0]) };
}

/// Wakes up to `count` sleepers on `word`.
pub fn futex_wake(word: &core::sync::atomic::AtomicU32, count: u32) {
    const FUTEX_WAKE_PRIVATE: usize = 129;
    // SAFETY: the kernel uses the address as a key only.
    unsafe { syscall(SYS_FUTEX, [word.as_ptr().addr(), FUTEX_WAKE_PRIVATE, count as usize, 0, 0, 0]) };
}

const CLOCK_REALTIME: usize = 0;
const CLOCK_MONOTONIC: usize = 1;
const CLOCK_MONOTONIC_COARSE: usize = 6;

fn clock_ns(clock: usize) -> u64 {
    if sandbox::in_sandbox() {
        return sandbox::clock_ns(clock == CLOCK_REALTIME);
    }
    let mut time = [0u64; 2];
    // SAFETY: the kernel writes 16 bytes into `time`, which is alive.
    unsafe { syscall(SYS_CLOCK_GETTIME, [clock, time.as_mut_ptr().addr(), 0, 0, 0, 0]) };
    time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1])
}

/// Nanoseconds of the monotonic clock.
pub fn clock_monotonic_ns() -> u64 {
    clock_ns(CLOCK_MONOTONIC)
}

/// Nanoseconds of the monotonic clock as of the last timer tick (1 to 10 ms).
pub fn clock_coarse_ns() -> u64 {
    clock_ns(CLOCK_MONOTONIC_COARSE)
}

/// Nanoseconds since 1970.
pub fn clock_realtime_ns() -> u64 {
    clock_ns(CLOCK_REALTIME)
}

/// So often two clocks are read one after the other: the thread may have to wait for the processor in between.
const TRIES: usize = 5;

/// Ticks of the processor and nanoseconds of the monotonic clock at one moment: of several pairs that around which the
/// ticks moved least. A rate between two moments with a wait in one of them would be wrong by many times.
pub fn moment() -> (u64, u64) {
    let pair = || {
        let before = ticks();
        let ns = clock_monotonic_ns();
        (ticks().wrapping_sub(before), before, ns)
    };
    let (apart, before, ns) = core::iter::repeat_with(pair).take(TRIES).min().unwrap_or_default();
    (before.wrapping_add(apart / 2), ns)
}

/// The process id.
pub fn getpid() -> i32 {
    // SAFETY: touches no memory.
    (unsafe { syscall(SYS_GETPID, [0; 6]) }) as i32
}

/// The thread id.
pub fn gettid() -> i32 {
    // SAFETY: touches no memory.
    (unsafe { syscall(SYS_GETTID, [0; 6]) }) as i32
}

/// How many CPUs the calling thread may run on, at least 1.
pub fn affinity_cpus() -> u32 {
    let mut mask = [0u64; 128];
    // SAFETY: the kernel writes at most the given number of bytes into `mask`.
    let answer = unsafe {
        syscall(SYS_SCHED_GETAFFINITY, [0, core::mem::size_of_val(&mask), mask.as_mut_ptr().addr(), 0, 0, 0])
    };
    match check(answer) {
        Ok(bytes) => mask[..(bytes / 8).min(mask.len())].iter().map(|w| w.count_ones()).sum::<u32>().max(1),
        Err(_) => 1,
    }
}

/// To how many bytes of address space the process is limited, if it is (`ulimit -v`).
pub fn address_space_limit() -> Option<usize> {
    if sandbox::in_sandbox() {
        return None;
    }
    const RLIMIT_AS: u32 = 9;
    // What counts, and what it may be set to.
    let mut limits = [u64::MAX; 2];
    // SAFETY: of the calling process, no new limits; the kernel writes 16 bytes into `limits`.
    let answer = unsafe { extra::resource_limits(0, RLIMIT_AS, 0, limits.as_mut_ptr().addr()) };
    (answer.is_ok() && limits[0] != u64::MAX).then_some(limits[0] as usize)
}

/// The CPU that the calling thread runs on, as of a moment ago.
pub fn cpu() -> Option<u32> {
    if sandbox::in_sandbox() {
        return None;
    }
    const SYS_GETCPU: usize = 309;
    let mut cpu = 0u32;
    // SAFETY: the kernel writes 4 bytes into `cpu`.
    check(unsafe { syscall(SYS_GETCPU, [(&raw mut cpu).addr(), 0, 0, 0, 0, 0]) }).ok().map(|_| cpu)
}

/// Opens `path` (which must end in a zero byte) read-only.
pub fn open_read(path: &core::ffi::CStr) -> Result<usize, Errno> {
    const AT_FDCWD: usize = -100isize as usize;
    const O_CLOEXEC: usize = 0o2000000;
    // SAFETY: the path is a live C string.
    check(unsafe { syscall(SYS_OPENAT, [AT_FDCWD, path.as_ptr().addr(), O_CLOEXEC, 0, 0, 0]) })
}

/// Reads into `buffer`; 0 at the end of the file.
pub fn read(fd: usize, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into the live buffer.
    check(unsafe { syscall(SYS_READ, [fd, buffer.as_mut_ptr().addr(), buffer.len(), 0, 0, 0]) })
}

/// Writes from `buffer`; may write less.
pub fn write(fd: usize, buffer: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads from the live buffer.
    check(unsafe { syscall(SYS_WRITE, [fd, buffer.as_ptr().addr(), buffer.len(), 0, 0, 0]) })
}

/// Closes a descriptor.
pub fn close(fd: usize) {
    // SAFETY: touches no memory of ours.
    unsafe { syscall(SYS_CLOSE, [fd, 0, 0, 0, 0, 0]) };
}

/// Ends the process by `SIGABRT`, whatever handler or mask is in place.
pub fn abort() -> ! {
    const SIGABRT: usize = 6;
    let unblock = 1u64 << (SIGABRT - 1);
    for round in 0..2 {
        if round == 1 {
            // The handler returned: restore the default action and try again.
            let action = [0usize; 4];
            // SAFETY: a kernel sigaction of zeros is "default"; the kernel reads it from the live array.
            unsafe { syscall(SYS_RT_SIGACTION, [SIGABRT, action.as_ptr().addr(), 0, 8, 0, 0]) };
        }
        // SAFETY: SIG_UNBLOCK with a live 8 byte mask.
        unsafe { syscall(SYS_RT_SIGPROCMASK, [1, (&raw const unblock).addr(), 0, 8, 0, 0]) };
        // SAFETY: sends a signal to this thread.
        unsafe { syscall(SYS_TGKILL, [getpid() as usize, gettid() as usize, SIGABRT, 0, 0, 0]) };
    }
    loop {
        // SAFETY: ends the process.
        unsafe { syscall(SYS_EXIT_GROUP, [134, 0, 0, 0, 0, 0]) };
    }
}
