//! Raw system calls for files, names and signals: what the profiler needs beyond the heap.

use core::ffi::CStr;

use super::{Errno, check, syscall};

/// The working directory, for calls that take a directory.
pub const AT_FDCWD: usize = -100isize as usize;
/// Flags of [`open_at`].
pub mod open {
    /// Write only.
    pub const WRITE: usize = 0o1;
    /// Make the file.
    pub const CREATE: usize = 0o100;
    /// Fail if the file exists.
    pub const EXCLUSIVE: usize = 0o200;
    /// Not into a forked program's successor.
    pub const CLOEXEC: usize = 0o2000000;
    /// Don't follow a symbolic link.
    pub const NOFOLLOW: usize = 0o400000;
    /// Fail if it is no directory.
    pub const DIRECTORY: usize = 0o200000;
    /// Only to name files in it; needs no permission to read.
    pub const PATH: usize = 0o10000000;
}

/// `openat(2)`.
pub fn open_at(directory: usize, path: &CStr, flags: usize, mode: usize) -> Result<usize, Errno> {
    const SYS_OPENAT: usize = 257;
    // SAFETY: the path is a live C string.
    check(unsafe { syscall(SYS_OPENAT, [directory, path.as_ptr().addr(), flags, mode, 0, 0]) })
}

/// `fsync(2)`.
pub fn fsync(fd: usize) -> Result<(), Errno> {
    // SAFETY: touches no memory of ours.
    check(unsafe { syscall(74, [fd, 0, 0, 0, 0, 0]) }).map(|_| ())
}

/// `fchmod(2)`: permissions whatever the umask says.
pub fn set_mode(fd: usize, mode: usize) -> Result<(), Errno> {
    // SAFETY: touches no memory of ours.
    check(unsafe { syscall(91, [fd, mode, 0, 0, 0, 0]) }).map(|_| ())
}

/// Renames within a directory; with `keep`, fails with `EEXIST` when the target exists.
pub fn rename(directory: usize, from: &CStr, to: &CStr, keep: bool) -> Result<(), Errno> {
    const SYS_RENAMEAT2: usize = 316;
    let args = [directory, from.as_ptr().addr(), directory, to.as_ptr().addr(), usize::from(keep), 0];
    // SAFETY: both paths are live C strings.
    check(unsafe { syscall(SYS_RENAMEAT2, args) }).map(|_| ())
}

/// `unlinkat(2)`.
pub fn unlink(directory: usize, path: &CStr) -> Result<(), Errno> {
    const SYS_UNLINKAT: usize = 263;
    // SAFETY: the path is a live C string.
    check(unsafe { syscall(SYS_UNLINKAT, [directory, path.as_ptr().addr(), 0, 0, 0, 0]) }).map(|_| ())
}

/// The type bits (`S_IFMT`) of a file, a symbolic link not followed.
pub fn file_type(directory: usize, path: &CStr) -> Result<u32, Errno> {
    const SYS_NEWFSTATAT: usize = 262;
    const AT_SYMLINK_NOFOLLOW: usize = 0x100;
    // `struct stat` on x86-64: 144 bytes, the mode at offset 24.
    let mut stat = [0u32; 36];
    let args = [directory, path.as_ptr().addr(), stat.as_mut_ptr().addr(), AT_SYMLINK_NOFOLLOW, 0, 0];
    // SAFETY: the path is a live C string; the kernel writes 144 bytes into the live buffer.
    check(unsafe { syscall(SYS_NEWFSTATAT, args) })?;
    Ok(stat[6] & 0o170000)
}

/// Values of [`file_type`].
pub mod kind {
    /// A regular file.
    pub const REGULAR: u32 = 0o100000;
    /// A directory.
    pub const DIRECTORY: u32 = 0o040000;
    /// A symbolic link.
    pub const LINK: u32 = 0o120000;
}

/// Where a symbolic link leads; the bytes are put into `buffer`.
pub fn read_link<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    const SYS_READLINK: usize = 89;
    // SAFETY: the path is a live C string; the kernel writes at most the buffer's length.
    let n = check(unsafe {
        syscall(SYS_READLINK, [path.as_ptr().addr(), buffer.as_mut_ptr().addr(), buffer.len(), 0, 0, 0])
    })?;
    Ok(&buffer[..n])
}

/// A random number from the kernel; the clock and the stack's address where it has none to give at once.
pub fn random() -> u64 {
    const SYS_GETRANDOM: usize = 318;
    const GRND_NONBLOCK: usize = 1;
    let mut value = 0u64;
    // SAFETY: the kernel writes 8 bytes into `value`.
    let n = unsafe { syscall(SYS_GETRANDOM, [(&raw mut value).addr(), 8, GRND_NONBLOCK, 0, 0, 0]) };
    if n == 8 { value } else { super::clock_monotonic_ns() ^ (super::stack_pointer() as u64) << 20 }
}

/// The calling thread's name, zero padded.
pub fn thread_name() -> [u8; 16] {
    const SYS_PRCTL: usize = 157;
    const PR_GET_NAME: usize = 16;
    let mut name = [0u8; 16];
    // SAFETY: the kernel writes 16 bytes into `name`.
    unsafe { syscall(SYS_PRCTL, [PR_GET_NAME, name.as_mut_ptr().addr(), 0, 0, 0, 0]) };
    name
}

/// Copies memory of this process that may not be mapped; returns how many bytes there were.
pub fn read_memory(address: usize, buffer: &mut [u8]) -> usize {
    const SYS_PROCESS_VM_READV: usize = 310;
    let local = [buffer.as_mut_ptr().addr(), buffer.len()];
    let remote = [address, buffer.len()];
    // SAFETY: the kernel copies at most the buffer's length into it.
    let n = unsafe {
        syscall(
            SYS_PROCESS_VM_READV,
            [super::getpid() as usize, local.as_ptr().addr(), 1, remote.as_ptr().addr(), 1, 0],
        )
    };
    n.max(0) as usize
}

/// A set of signals: bit n − 1 for signal n.
pub type SignalSet = u64;

/// Blocks signals in the calling thread; returns what was blocked before.
pub fn block_signals(set: SignalSet) -> SignalSet {
    signal_mask(0, set)
}

/// Sets the calling thread's blocked signals.
pub fn set_blocked_signals(set: SignalSet) {
    signal_mask(2, set);
}

fn signal_mask(how: usize, set: SignalSet) -> SignalSet {
    const SYS_RT_SIGPROCMASK: usize = 14;
    let mut before = 0u64;
    // SAFETY: the kernel reads and writes 8 bytes each.
    unsafe {
        syscall(SYS_RT_SIGPROCMASK, [how, (&raw const set).addr(), (&raw mut before).addr(), 8, 0, 0]);
    }
    before
}

/// Takes a pending signal of the set, if there is one, without waiting.
pub fn take_pending(set: SignalSet) -> bool {
    const SYS_RT_SIGTIMEDWAIT: usize = 128;
    let no_time = [0u64; 2];
    // SAFETY: the kernel reads the set and the time.
    let signal =
        unsafe { syscall(SYS_RT_SIGTIMEDWAIT, [(&raw const set).addr(), 0, no_time.as_ptr().addr(), 8, 0, 0]) };
    signal > 0
}
