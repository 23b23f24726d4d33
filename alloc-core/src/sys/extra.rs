//! Raw system calls for files, names and signals: what the profiler needs beyond the heap.

use core::ffi::CStr;

use super::{Errno, PAGE, SYS_FUTEX, check, syscall};

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
    /// Never wait for the other end of a pipe.
    pub const NONBLOCK: usize = 0o4000;
    /// Only to name files in it; needs no permission to read.
    pub const PATH: usize = 0o10000000;
}

/// `openat(2)`, [`beyond_standard`].
pub fn open_at(directory: usize, path: &CStr, flags: usize, mode: usize) -> Result<usize, Errno> {
    const SYS_OPENAT: usize = 257;
    // SAFETY: the path is a live C string.
    check(unsafe { syscall(SYS_OPENAT, [directory, path.as_ptr().addr(), flags, mode, 0, 0]) })
        .and_then(beyond_standard)
}

/// The first number that isn't that of a standard stream.
const BEYOND_STANDARD: usize = 3;

/// The same file under the lowest number that is free from `least` on.
fn duplicate(fd: usize, least: usize) -> Result<usize, Errno> {
    const SYS_FCNTL: usize = 72;
    const F_DUPFD_CLOEXEC: usize = 1030;
    // SAFETY: touches no memory of ours.
    check(unsafe { syscall(SYS_FCNTL, [fd, F_DUPFD_CLOEXEC, least, 0, 0, 0]) })
}

/// Moves a fresh descriptor beyond the standard streams' numbers. A program that has closed those writes to them all the same,
/// or opens them anew and counts on their numbers.
pub fn beyond_standard(fd: usize) -> Result<usize, Errno> {
    if fd >= BEYOND_STANDARD {
        return Ok(fd);
    }
    let moved = duplicate(fd, BEYOND_STANDARD);
    super::close(fd);
    moved
}

/// Has `open` find all numbers of standard streams taken, by `fd` where they are free: what the program writes to them must
/// not get into a new file even before that is moved.
pub fn with_standard_taken<T>(fd: usize, open: impl FnOnce() -> T) -> T {
    let Ok(lowest) = duplicate(fd, 0) else { return open() };
    if lowest >= BEYOND_STANDARD {
        super::close(lowest);
        return open();
    }
    let opened = with_standard_taken(fd, open);
    super::close(lowest);
    opened
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

/// Makes a directory.
pub fn make_directory(path: &CStr, mode: usize) -> Result<(), Errno> {
    const SYS_MKDIRAT: usize = 258;
    // SAFETY: the path is a live C string.
    check(unsafe { syscall(SYS_MKDIRAT, [AT_FDCWD, path.as_ptr().addr(), mode, 0, 0, 0]) }).map(|_| ())
}

/// Whether there is such a process, as far as this one can see.
pub fn process_exists(pid: i32) -> bool {
    const SYS_KILL: usize = 62;
    const ESRCH: Errno = Errno(3);
    // SAFETY: signal 0 is sent to nobody.
    check(unsafe { syscall(SYS_KILL, [pid as usize, 0, 0, 0, 0, 0]) }) != Err(ESRCH)
}

/// Values of [`Stat::kind`].
pub mod kind {
    /// A regular file.
    pub const REGULAR: u32 = 0o100000;
    /// A directory.
    pub const DIRECTORY: u32 = 0o040000;
    /// A socket.
    pub const SOCKET: u32 = 0o140000;
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

/// `prctl(2)`.
///
/// # Safety
/// The arguments must be valid for that operation.
#[inline]
pub unsafe fn process_control(operation: usize, [a, b, c, d]: [usize; 4]) -> Result<usize, Errno> {
    const SYS_PRCTL: usize = 157;
    // SAFETY: the caller's promise.
    check(unsafe { syscall(SYS_PRCTL, [operation, a, b, c, d, 0]) })
}

/// `prlimit(2)`: `new` and `old` are addresses of limits, or 0.
///
/// # Safety
/// Limits can be read at `new` and written at `old`, where those aren't 0; what can't be mapped at all is an error.
pub unsafe fn resource_limits(pid: i32, resource: u32, new: usize, old: usize) -> Result<(), Errno> {
    const SYS_PRLIMIT64: usize = 302;
    // SAFETY: the caller's promise.
    check(unsafe { syscall(SYS_PRLIMIT64, [pid as usize, resource as usize, new, old, 0, 0]) }).map(|_| ())
}

/// Bytes of memory that the machine has.
pub fn physical_bytes() -> Option<usize> {
    const SYS_SYSINFO: usize = 99;
    // Where these are in the kernel's answer.
    const TOTAL: usize = 4;
    const UNIT: usize = 13;
    let mut info = [0u64; 14];
    // SAFETY: the kernel writes 112 bytes into `info`.
    check(unsafe { syscall(SYS_SYSINFO, [info.as_mut_ptr().addr(), 0, 0, 0, 0, 0]) }).ok()?;
    (info[TOTAL] as usize).checked_mul(info[UNIT] as u32 as usize)
}

/// `mlockall(2)`.
pub fn lock_all(flags: usize) -> Result<(), Errno> {
    const SYS_MLOCKALL: usize = 151;
    // SAFETY: contents of memory stay.
    check(unsafe { syscall(SYS_MLOCKALL, [flags, 0, 0, 0, 0, 0]) }).map(|_| ())
}

/// The calling thread's name, zero padded.
pub fn thread_name() -> [u8; 16] {
    const PR_GET_NAME: usize = 16;
    let mut name = [0u8; 16];
    // SAFETY: the kernel writes 16 bytes into `name`.
    let _ = unsafe { process_control(PR_GET_NAME, [name.as_mut_ptr().addr(), 0, 0, 0]) };
    name
}

/// The kernel's setting for transparent huge pages, as jemalloc names it.
pub fn thp_mode() -> &'static str {
    if super::sandbox::in_sandbox() {
        return "not supported";
    }
    let mut text = [0u8; 64];
    let Ok(fd) = super::open_read(c"/sys/kernel/mm/transparent_hugepage/enabled") else { return "not supported" };
    let length = super::read(fd, &mut text).unwrap_or(0);
    super::close(fd);
    // The one in brackets counts.
    let chosen = |word: &[u8]| text[..length].windows(word.len()).any(|part| part == word);
    if chosen(b"[always]") {
        "always"
    } else if chosen(b"[madvise]") {
        "default"
    } else if chosen(b"[never]") {
        "never"
    } else {
        "not supported"
    }
}

/// Copies memory of this process that may not be mapped; returns how many bytes there were.
pub fn read_memory(address: usize, buffer: &mut [u8]) -> usize {
    const SYS_PROCESS_VM_READV: usize = 310;
    let local = [buffer.as_mut_ptr().addr(), buffer.len()];
    let remote = [address, buffer.len()];
    // SAFETY: the kernel copies at most the buffer's length into it. By the thread: the first one, whose number the process
    // has, may have ended, and has no memory then.
    let n = unsafe {
        syscall(
            SYS_PROCESS_VM_READV,
            [super::gettid() as usize, local.as_ptr().addr(), 1, remote.as_ptr().addr(), 1, 0],
        )
    };
    n.max(0) as usize
}

/// A set of signals: bit n − 1 for signal n.
pub type SignalSet = u64;

/// All signals but those that say that a thread's own code is wrong, that by which a sandbox answers in the kernel's place
/// (a process ends where one of these comes and is blocked), and those of the C library: who changes the process's user or
/// group there waits for every thread to answer its signal.
pub const DEFERRABLE: SignalSet = {
    const LEFT: [u32; 9] = [4, 5, 6, 7, 8, 11, 31, 32, 33];
    let mut set = !0;
    let mut i = 0;
    while i < LEFT.len() {
        set &= !(1 << (LEFT[i] - 1));
        i += 1;
    }
    set
};

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

/// Unblocks signals in the calling thread.
pub fn unblock_signals(set: SignalSet) {
    signal_mask(1, set);
}

/// Sends the calling thread a signal.
pub fn raise(signal: i32) {
    const SYS_TGKILL: usize = 234;
    // SAFETY: touches no memory.
    unsafe { syscall(SYS_TGKILL, [super::getpid() as usize, super::gettid() as usize, signal as usize, 0, 0, 0]) };
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

/// What `stat(2)` tells of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Device and inode: which file it is.
    pub identity: (u64, u64),
    /// Names that the file has.
    pub links: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
}

impl Stat {
    /// From the kernel's structure on x86-64: 144 bytes.
    fn new(raw: &[u64; 18]) -> Self {
        Stat { identity: (raw[0], raw[1]), links: raw[2], mode: raw[3] as u32, uid: (raw[3] >> 32) as u32 }
    }

    /// The type bits; see [`kind`].
    pub fn kind(&self) -> u32 {
        self.mode & 0o170000
    }
}

/// Asks for a file by name; a symbolic link is not followed.
pub fn stat_at(directory: usize, path: &CStr) -> Result<Stat, Errno> {
    const SYS_NEWFSTATAT: usize = 262;
    const AT_SYMLINK_NOFOLLOW: usize = 0x100;
    let mut raw = [0u64; 18];
    let args = [directory, path.as_ptr().addr(), raw.as_mut_ptr().addr(), AT_SYMLINK_NOFOLLOW, 0, 0];
    // SAFETY: the path is a live C string; the kernel writes 144 bytes into the live buffer.
    check(unsafe { syscall(SYS_NEWFSTATAT, args) })?;
    Ok(Stat::new(&raw))
}

/// Asks for an open file.
pub fn stat(fd: usize) -> Result<Stat, Errno> {
    const SYS_FSTAT: usize = 5;
    let mut raw = [0u64; 18];
    // SAFETY: the kernel writes 144 bytes into the live buffer.
    check(unsafe { syscall(SYS_FSTAT, [fd, raw.as_mut_ptr().addr(), 0, 0, 0, 0]) })?;
    Ok(Stat::new(&raw))
}

/// Gives a file a second name in the same directory; fails with `EEXIST` when there is such a name.
pub fn link(directory: usize, from: &CStr, to: &CStr) -> Result<(), Errno> {
    const SYS_LINKAT: usize = 265;
    // SAFETY: both paths are live C strings.
    check(unsafe { syscall(SYS_LINKAT, [directory, from.as_ptr().addr(), directory, to.as_ptr().addr(), 0, 0]) })
        .map(|_| ())
}

/// Locks an open file for its holder alone, without waiting. The lock goes with the last descriptor, also when the
/// process is killed.
pub fn lock_file(fd: usize) -> Result<(), Errno> {
    const LOCK_EX_NB: usize = 2 | 4;
    // SAFETY: touches no memory of ours.
    check(unsafe { syscall(73, [fd, LOCK_EX_NB, 0, 0, 0, 0]) }).map(|_| ())
}

/// Reads entries of an open directory into `buffer`, as [`entries`] reads them; 0 bytes at the end.
pub fn read_directory(fd: usize, buffer: &mut [u8]) -> Result<usize, Errno> {
    const SYS_GETDENTS64: usize = 217;
    // SAFETY: the kernel writes at most the buffer's length.
    check(unsafe { syscall(SYS_GETDENTS64, [fd, buffer.as_mut_ptr().addr(), buffer.len(), 0, 0, 0]) })
}

/// The names in what [`read_directory`] has read.
pub fn entries(buffer: &[u8]) -> impl Iterator<Item = &CStr> {
    // `struct linux_dirent64`: inode and offset (8 bytes each), the record's length (2), the type (1), the name.
    let mut rest = buffer;
    core::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*rest.get(16)?, *rest.get(17)?]));
        let name = CStr::from_bytes_until_nul(rest.get(19..length)?).ok()?;
        rest = &rest[length..];
        Some(name)
    })
}

/// Gives the calling thread a name of at most 15 bytes.
pub fn set_thread_name(name: &CStr) {
    const PR_SET_NAME: usize = 15;
    // SAFETY: the kernel reads a C string.
    let _ = unsafe { process_control(PR_SET_NAME, [name.as_ptr().addr(), 0, 0, 0]) };
}

/// The name of this machine (or container), zero padded.
pub fn host_name() -> [u8; 65] {
    const SYS_UNAME: usize = 63;
    // `struct utsname`: six fields of 65 bytes, the second is the name.
    let mut fields = [[0u8; 65]; 6];
    // SAFETY: the kernel writes 390 bytes into the live buffer.
    unsafe { syscall(SYS_UNAME, [fields.as_mut_ptr().addr(), 0, 0, 0, 0, 0]) };
    fields[1]
}

/// The user whose rights the process uses.
pub fn effective_user() -> u32 {
    // SAFETY: touches no memory.
    (unsafe { syscall(107, [0; 6]) }) as u32
}

/// Sleeps while `*word == expected`, at most so long.
pub fn futex_wait_for(word: &core::sync::atomic::AtomicU32, expected: u32, nanoseconds: u64) {
    const FUTEX_WAIT_PRIVATE: usize = 128;
    let time = [nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000];
    let args = [word.as_ptr().addr(), FUTEX_WAIT_PRIVATE, expected as usize, time.as_ptr().addr(), 0, 0];
    // SAFETY: the word and the time outlive the call; the kernel only reads them.
    unsafe { syscall(SYS_FUTEX, args) };
}

/// Sleeps while `*word == expected`, until the monotonic clock says `until_ns` (all ones: for ever), or until a wake-up
/// for one of these bits.
pub fn futex_wait_bits_until(word: &core::sync::atomic::AtomicU32, expected: u32, bits: u32, until_ns: u64) {
    const FUTEX_WAIT_BITSET_PRIVATE: usize = 128 + 9;
    let time = [until_ns / 1_000_000_000, until_ns % 1_000_000_000];
    let time = if until_ns == u64::MAX { 0 } else { time.as_ptr().addr() };
    let args = [word.as_ptr().addr(), FUTEX_WAIT_BITSET_PRIVATE, expected as usize, time, 0, bits as usize];
    // SAFETY: the word and the time outlive the call; the kernel only reads them.
    unsafe { syscall(SYS_FUTEX, args) };
}

/// Wakes all who sleep on `word` for one of these bits.
pub fn futex_wake_bits(word: &core::sync::atomic::AtomicU32, bits: u32) {
    const FUTEX_WAKE_BITSET_PRIVATE: usize = 128 + 10;
    let all = i32::MAX as usize;
    let args = [word.as_ptr().addr(), FUTEX_WAKE_BITSET_PRIVATE, all, 0, 0, bits as usize];
    // SAFETY: the kernel uses the address as a key only.
    unsafe { syscall(SYS_FUTEX, args) };
}

/// Makes a system call again for as long as a signal interrupts it.
pub fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    const EINTR: Errno = Errno(4);
    loop {
        match call() {
            Err(EINTR) => {}
            result => return result,
        }
    }
}

/// Reads at an offset of a file.
pub fn read_at(fd: usize, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    const SYS_PREAD64: usize = 17;
    let args = [fd, buffer.as_mut_ptr().expose_provenance(), buffer.len(), offset as usize, 0, 0];
    // SAFETY: the kernel writes into the buffer, no more than its length.
    check(unsafe { syscall(SYS_PREAD64, args) })
}

/// Bytes of a range of whole pages that memory of the process's own stands behind, as the file `/proc/self/pagemap` tells
/// since Linux 6.7: pages that were only read, which all are the kernel's one page of zeros, are not among them.
pub fn backed_bytes(pagemap: usize, start: usize, end: usize) -> Result<u64, Errno> {
    const SYS_IOCTL: usize = 16;
    const PAGEMAP_SCAN: usize = 0xc060_6610;
    const PRESENT: u64 = 1 << 3;
    const ZERO_PAGE: u64 = 1 << 5;
    const REGIONS: usize = 64;
    let mut regions = [[0u64; 3]; REGIONS];
    let vec = regions.as_mut_ptr().expose_provenance() as u64;
    let (mut at, mut found) = (start as u64, 0);
    while at < end as u64 {
        // The last four: which of these flags must be clear, which of them count, those of which any must be set, and those
        // that regions are told with.
        let mut scan: [u64; 12] =
            [96, 0, at, end as u64, 0, vec, REGIONS as u64, 0, ZERO_PAGE, PRESENT | ZERO_PAGE, 0, PRESENT];
        let args = [pagemap, PAGEMAP_SCAN, scan.as_mut_ptr().expose_provenance(), 0, 0, 0];
        // SAFETY: the kernel reads and writes the request, and as many regions as there is room for.
        let filled = check(unsafe { syscall(SYS_IOCTL, args) })?;
        found += regions[..filled.min(REGIONS)].iter().map(|[first, end, _]| end - first).sum::<u64>();
        let walked = scan[4];
        if walked <= at {
            break;
        }
        at = walked;
    }
    Ok(found)
}

/// Says of each page from `address` on whether it is in memory: bit 0 of its byte.
pub fn resident_pages(address: usize, pages: &mut [u8]) -> Result<(), Errno> {
    const SYS_MINCORE: usize = 27;
    // SAFETY: the kernel writes a byte for each page, for which there is room.
    check(unsafe { syscall(SYS_MINCORE, [address, pages.len() * PAGE, pages.as_mut_ptr().addr(), 0, 0, 0]) })
        .map(|_| ())
}
