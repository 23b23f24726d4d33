//! Files for dumps: complete under their final name, or not there at all.
//!
//! A dump is written to a temporary file in the directory where it is to be, and renamed when all of it has reached
//! the disk. Nothing is followed, and nothing but a regular file is ever replaced.

use core::ffi::CStr;

use alloc_core::first_thread::own_file;
use alloc_core::message::Decimal;
use alloc_core::sys::extra::{self, Stat, kind, open, retry};
use alloc_core::sys::{self, Errno};
use core::sync::atomic::{AtomicUsize, Ordering};
use pprof_export::writer::{Sink, SinkError};

use crate::settings::Path;
use crate::sweep;

const EINTR: Errno = Errno(4);
const EIO: Errno = Errno(5);
const EPERM: Errno = Errno(1);
const EAGAIN: Errno = Errno(11);
const EEXIST: Errno = Errno(17);
const EMLINK: Errno = Errno(31);
const ENOTDIR: Errno = Errno(20);
const EISDIR: Errno = Errno(21);
const EINVAL: Errno = Errno(22);
const ENAMETOOLONG: Errno = Errno(36);
const ENOSYS: Errno = Errno(38);
const ELOOP: Errno = Errno(40);
const EOPNOTSUPP: Errno = Errno(95);

/// The end of a temporary file's name.
pub const TEMPORARY: &[u8] = b".heapsift.tmp";

/// The descriptors of the file that is being written, each plus 1; 0: none. There is one such file at a time.
static OPEN: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// In the child of a fork whose parent was writing a dump in another thread: the child has no use for the descriptors,
/// and would keep the file's lock.
pub fn after_fork() {
    for descriptor in &OPEN {
        if let Some(fd) = descriptor.swap(0, Ordering::Relaxed).checked_sub(1) {
            sys::close(fd);
        }
    }
}

/// A file that is being written. Dropped before [`PartFile::commit`] it leaves nothing behind.
#[derive(Debug)]
pub struct PartFile {
    directory: usize,
    fd: usize,
    temporary: Path,
}

/// Divides a path into the directory, with its slash, and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1))
}

impl PartFile {
    /// Makes a temporary file beside `path`.
    pub fn create(path: &Path) -> Result<Self, Errno> {
        let (directory, name) = split(path.as_bytes());
        let directory = Path::new(if directory.is_empty() { b"." } else { directory }).ok_or(ENAMETOOLONG)?;
        let flags = open::PATH | open::DIRECTORY | open::CLOEXEC;
        let directory = retry(|| extra::open_at(extra::AT_FDCWD, directory.as_c_str(), flags, 0))?;
        sweep::left_behind(directory);
        // Nobody can write to a directory.
        match extra::with_standard_taken(directory, || make_temporary(directory, name)) {
            Ok((fd, temporary)) => {
                OPEN[0].store(directory + 1, Ordering::Relaxed);
                OPEN[1].store(fd + 1, Ordering::Relaxed);
                Ok(PartFile { directory, fd, temporary })
            }
            Err(errno) => {
                sys::close(directory);
                Err(errno)
            }
        }
    }

    /// Which file it is: device and inode.
    pub fn identity(&self) -> Result<(u64, u64), Errno> {
        extra::stat(self.fd).map(|stat| stat.identity)
    }

    /// `path`, whose directory is the one given to [`PartFile::create`], from the root. `None`: there is no saying.
    pub fn absolute(&self, path: &Path) -> Option<Path> {
        let mut link = Path::new(own_file(c"/proc/self/fd/", c"/proc/thread-self/fd/").to_bytes())?;
        link.push(Decimal::new(self.directory as u64).as_bytes()).then_some(())?;
        let mut buffer = [0; crate::settings::PATH_BYTES];
        let mut whole = Path::new(extra::read_link(link.as_c_str(), &mut buffer).ok()?)?;
        let known = whole.as_bytes().starts_with(b"/") && whole.push(b"/") && whole.push(split(path.as_bytes()).1);
        known.then_some(whole)
    }

    /// Puts the file, complete, where `path` says; its directory is the one given to [`PartFile::create`]. A file that
    /// is there is replaced only with `replace`, and only if it is a regular one.
    pub fn commit(&mut self, path: &Path, replace: bool) -> Result<(), Errno> {
        let name = Path::new(split(path.as_bytes()).1).ok_or(ENAMETOOLONG)?;
        let name = name.as_c_str();
        if replace {
            refuse_special(self.directory, name)?;
            self.rename(name, false)?;
        } else {
            match self.rename(name, true) {
                // An old kernel or file system. A second name for the file does the same in two steps.
                Err(ENOSYS | EINVAL) => self.link(name)?,
                result => result?,
            }
        }
        // Nothing is left to remove.
        self.temporary = Path::from_const(b"");
        Ok(())
    }

    fn link(&self, name: &CStr) -> Result<(), Errno> {
        match retry(|| extra::link(self.directory, self.temporary.as_c_str(), name)) {
            Ok(()) => {
                let _ = extra::unlink(self.directory, self.temporary.as_c_str());
                Ok(())
            }
            // No second names either: another process may slip in between looking and renaming.
            Err(EPERM | ENOSYS | EOPNOTSUPP | EMLINK) => {
                if extra::stat_at(self.directory, name).is_ok() {
                    return Err(EEXIST);
                }
                self.rename(name, false)
            }
            Err(errno) => Err(errno),
        }
    }

    fn rename(&self, name: &CStr, keep: bool) -> Result<(), Errno> {
        retry(|| extra::rename(self.directory, self.temporary.as_c_str(), name, keep))
    }

    /// Waits until the contents are on the disk.
    pub fn flush(&self) -> Result<(), Errno> {
        match retry(|| extra::fsync(self.fd)) {
            // A file system without it.
            Err(ENOSYS | EINVAL) => Ok(()),
            result => result,
        }
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.temporary.as_bytes().is_empty() {
            let _ = extra::unlink(self.directory, self.temporary.as_c_str());
        }
        for descriptor in &OPEN {
            descriptor.store(0, Ordering::Relaxed);
        }
        sys::close(self.fd);
        sys::close(self.directory);
    }
}

impl Sink for PartFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        // A file has no reason to ask for patience; but it must not be able to ask for ever.
        const PATIENCE: u32 = 1000;
        let mut rest = bytes;
        let mut asked = 0;
        while !rest.is_empty() {
            match sys::write(self.fd, rest) {
                Ok(0) => return Err(SinkError(EIO.0)),
                Ok(n) => rest = rest.get(n..).unwrap_or(&[]),
                Err(EINTR) => {}
                Err(EAGAIN) if asked < PATIENCE => {
                    asked += 1;
                    sys::yield_now();
                }
                Err(errno) => return Err(SinkError(errno.0)),
            }
        }
        Ok(())
    }
}

fn make_temporary(directory: usize, name: &[u8]) -> Result<(usize, Path), Errno> {
    // A file name has at most 255 bytes.
    const NAME_MAX: usize = 200;
    let name = &name[..name.len().min(NAME_MAX)];
    let pid = Decimal::new(sys::getpid() as u64);
    for _ in 0..100 {
        let random = Decimal::hex(extra::random());
        let mut temporary = Path::from_const(b"");
        let parts = [b".", name, b".", pid.as_bytes(), b".", random.as_bytes(), TEMPORARY];
        if !parts.iter().all(|part| temporary.push(part)) {
            return Err(ENAMETOOLONG);
        }
        let flags = open::WRITE | open::CREATE | open::EXCLUSIVE | open::NOFOLLOW | open::CLOEXEC;
        match extra::open_at(directory, temporary.as_c_str(), flags, 0o600) {
            Ok(fd) => {
                // Says that somebody is writing it. One that sweeps may have been faster, and taken it for left behind.
                let swept = extra::lock_file(fd) == Err(EAGAIN) || extra::stat(fd).is_ok_and(|stat| stat.links == 0);
                if swept {
                    sys::close(fd);
                    continue;
                }
                // A strange umask must not lock the owner out; a file system without permissions is no reason to stop.
                let _ = extra::set_mode(fd, 0o600);
                return Ok((fd, temporary));
            }
            Err(EEXIST | EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(EEXIST)
}

/// Refuses a target that exists and isn't a regular file of one name.
pub fn refuse_special(directory: usize, name: &CStr) -> Result<(), Errno> {
    let stat = match retry(|| extra::stat_at(directory, name)) {
        Err(Errno(2)) => return Ok(()),
        result => result?,
    };
    match stat.kind() {
        kind::REGULAR if stat.links <= 1 => Ok(()),
        // Whoever gave it the other name may count on its contents.
        kind::REGULAR => Err(EMLINK),
        kind::LINK => Err(ELOOP),
        kind::DIRECTORY => Err(EISDIR),
        // Pipes, sockets, devices.
        _ => Err(EINVAL),
    }
}

/// Removes a file if it is still the one of that device and inode.
pub fn remove_if_same(path: &Path, identity: (u64, u64)) -> Result<(), Errno> {
    const ENOENT: Errno = Errno(2);
    match extra::stat_at(extra::AT_FDCWD, path.as_c_str())? {
        Stat { identity: found, mode, .. } if found == identity && mode & 0o170000 == kind::REGULAR => {
            extra::unlink(extra::AT_FDCWD, path.as_c_str())
        }
        _ => Err(ENOENT),
    }
}

/// As [`refuse_special`] for a whole path, before any work is put into a dump.
pub fn check_target(path: &Path) -> Result<(), Errno> {
    match split(path.as_bytes()).1 {
        b"" => Err(EISDIR),
        _ => refuse_special(extra::AT_FDCWD, path.as_c_str()),
    }
}

/// What an error number means; the C library's table is no place to go from here.
pub fn describe(errno: i32) -> &'static [u8] {
    match Errno(errno) {
        EPERM => b"Operation not permitted",
        Errno(2) => b"No such file or directory",
        EINTR => b"Interrupted",
        EIO => b"Input/output error",
        EAGAIN => b"Resource temporarily unavailable",
        Errno(12) => b"Cannot allocate memory",
        Errno(13) => b"Permission denied",
        EEXIST => b"File exists",
        ENOTDIR => b"Not a directory",
        EISDIR => b"Is a directory",
        EINVAL => b"Not a regular file",
        Errno(23 | 24) => b"Too many open files",
        Errno(27) => b"File too large",
        Errno(28) => b"No space left on device",
        Errno(30) => b"Read-only file system",
        EMLINK => b"Has other names (hard links)",
        Errno(35) => b"A dump is being written by this thread",
        Errno(38) => b"Function not implemented",
        ENAMETOOLONG => b"File name too long",
        ELOOP => b"Is a symbolic link",
        Errno(122) => b"Disk quota exceeded",
        _ => b"Error",
    }
}

/// While it lives, signals wait: a handler must not find a dump half done (and perhaps end the process or dump itself),
/// and a write beyond a limit must be an error, not the end of somebody else's process.
#[derive(Debug)]
pub struct SignalsBlocked {
    before: extra::SignalSet,
}

const SIGPIPE: u32 = 13;
const SIGXFSZ: u32 = 25;

const fn bit(signal: u32) -> extra::SignalSet {
    1 << (signal - 1)
}

impl SignalsBlocked {
    /// Blocks all signals that can wait.
    pub fn new() -> Self {
        SignalsBlocked { before: extra::block_signals(extra::DEFERRABLE) }
    }
}

impl Default for SignalsBlocked {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        for signal in [SIGXFSZ, SIGPIPE] {
            // Sent to this thread by a failed write of ours; what the caller had blocked is the caller's.
            if self.before & bit(signal) == 0 {
                while extra::take_pending(bit(signal)) {}
            }
        }
        extra::set_blocked_signals(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::string::ToString;
    use tempfile::TempDir;

    struct Directory(TempDir);

    impl Directory {
        fn new(name: &str) -> Self {
            Directory(TempDir::with_prefix(std::format!("heapsift-file-{name}-")).unwrap())
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn path(&self, name: &str) -> Path {
            Path::new(self.file(name).to_str().unwrap().as_bytes()).unwrap()
        }

        fn names(&self) -> std::vec::Vec<std::string::String> {
            let mut names: std::vec::Vec<_> = std::fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_string())
                .collect();
            names.sort();
            names
        }
    }

    #[test]
    fn complete_or_not_at_all() {
        let directory = Directory::new("whole");
        let path = directory.path("a.pb.gz");
        let mut file = PartFile::create(&path).unwrap();
        file.write(b"half").unwrap();
        assert!(!directory.file("a.pb.gz").exists() && directory.names().len() == 1);
        drop(file);
        assert!(directory.names().is_empty());

        let mut file = PartFile::create(&path).unwrap();
        file.write(b"whole").unwrap();
        file.flush().unwrap();
        file.commit(&path, false).unwrap();
        drop(file);
        assert_eq!(directory.names(), ["a.pb.gz"]);
        assert_eq!(std::fs::read(directory.file("a.pb.gz")).unwrap(), b"whole");
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(directory.file("a.pb.gz")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_there_stays_unless_it_may_go() {
        let directory = Directory::new("replace");
        let path = directory.path("a");
        std::fs::write(directory.file("a"), "old").unwrap();
        let mut file = PartFile::create(&path).unwrap();
        file.write(b"new").unwrap();
        assert_eq!(file.commit(&path, false), Err(EEXIST));
        assert_eq!(std::fs::read(directory.file("a")).unwrap(), b"old");
        file.commit(&path, true).unwrap();
        drop(file);
        assert_eq!(std::fs::read(directory.file("a")).unwrap(), b"new");
        assert_eq!(directory.names(), ["a"]);
    }

    #[test]
    fn special_files_are_refused() {
        let directory = Directory::new("special");
        std::fs::write(directory.file("victim"), "precious").unwrap();
        std::os::unix::fs::symlink("victim", directory.file("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", directory.file("dangling")).unwrap();
        std::fs::hard_link(directory.file("victim"), directory.file("twin")).unwrap();
        std::fs::create_dir(directory.file("dir")).unwrap();
        let fifo = directory.path("fifo");
        // SAFETY: a live C string.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_c_str().as_ptr(), 0o600) }, 0);
        let before = directory.names();
        for (name, errno) in [("link", ELOOP), ("dangling", ELOOP), ("dir", EISDIR), ("fifo", EINVAL), ("twin", EMLINK)]
        {
            let path = directory.path(name);
            assert_eq!(check_target(&path), Err(errno), "{name}");
            let mut file = PartFile::create(&path).unwrap();
            assert_eq!(file.commit(&path, true), Err(errno), "{name}");
            drop(file);
        }
        assert_eq!(check_target(&Path::new(b"/dev/full").unwrap()), Err(EINVAL));
        assert_eq!(check_target(&Path::new(b"/tmp/").unwrap()), Err(EISDIR));
        assert_eq!(directory.names(), before);
        assert_eq!(std::fs::read(directory.file("victim")).unwrap(), b"precious");
    }

    #[test]
    fn no_directory() {
        let path = Path::new(b"/nonexistent-directory/a").unwrap();
        assert_eq!(PartFile::create(&path).map(|_| ()), Err(Errno(2)));
        let path = Path::new(b"/dev/null/a").unwrap();
        assert_eq!(PartFile::create(&path).map(|_| ()), Err(ENOTDIR));
    }

    #[test]
    fn long_names() {
        let directory = Directory::new("long");
        let path = directory.path(&"n".repeat(255));
        let mut file = PartFile::create(&path).unwrap();
        file.commit(&path, false).unwrap();
        drop(file);
        assert_eq!(directory.names().len(), 1);
        let path = directory.path(&"n".repeat(256));
        assert_eq!(PartFile::create(&path).unwrap().commit(&path, false), Err(ENAMETOOLONG));
        assert_eq!(directory.names().len(), 1);
    }

    #[test]
    fn a_pending_signal_of_ours_is_taken() {
        let blocked = SignalsBlocked::new();
        // SAFETY: sends a blocked signal to this thread.
        unsafe { libc::raise(libc::SIGXFSZ) };
        // The default action would end the process here.
        drop(blocked);
    }
}
