//! Where the control socket is, and who could have had a hand in it.

#![allow(clippy::result_large_err, reason = "both outcomes hold a path, and there is one for each process")]

use core::ffi::CStr;

use alloc_core::message::Decimal;
use alloc_core::sys::extra::{self, AT_FDCWD, kind, open, retry};
use alloc_core::sys::{self, Errno, socket};

use super::WAITING;
use crate::naming::expand;
use crate::settings::Path;
use crate::{file, sweep};

const ENOENT: Errno = Errno(2);
const EACCES: Errno = Errno(13);
const EEXIST: Errno = Errno(17);
const ENOTDIR: Errno = Errno(20);
const ENAMETOOLONG: Errno = Errno(36);
const ELOOP: Errno = Errno(40);
const EADDRINUSE: Errno = Errno(98);
const ECONNREFUSED: Errno = Errno(111);

/// Where sockets are in the absence of `XDG_RUNTIME_DIR`.
const TEMPORARY: &[u8] = b"/tmp";
const ENDING: &[u8] = b".sock";

/// The socket's file.
#[derive(Debug)]
pub struct Place {
    path: Path,
    /// Device and inode.
    identity: (u64, u64),
    /// The process that listens there.
    pid: i32,
}

impl Place {
    /// Removes the file, if it is still this one. A child that a bare system call has forked ends without a hand in it.
    pub fn remove(&self) {
        if self.pid != sys::getpid() {
            return;
        }
        let found = extra::stat_at(AT_FDCWD, self.path.as_c_str());
        if found.is_ok_and(|stat| stat.identity == self.identity) {
            let _ = extra::unlink(AT_FDCWD, self.path.as_c_str());
        }
    }
}

/// Why there is no socket.
#[derive(Debug)]
pub struct Refused {
    pub path: Path,
    pub what: &'static [u8],
    pub errno: Errno,
}

impl Refused {
    fn new(path: &Path, what: &'static [u8], errno: Errno) -> Self {
        Refused { path: *path, what, errno }
    }

    fn by_system(path: &Path, errno: Errno) -> Self {
        Self::new(path, describe(errno), errno)
    }
}

fn describe(errno: Errno) -> &'static [u8] {
    match errno {
        EADDRINUSE => b"Another process listens there",
        ENAMETOOLONG => b"A socket's path has at most 107 bytes",
        Errno(errno) => file::describe(errno),
    }
}

type Made = Result<(usize, Place), Refused>;

/// In `heapsift` below the user's directory for such things, else in `heapsift-<uid>` below `/tmp`; the name is the process's
/// number.
pub fn in_usual_directory(runtime: &Path) -> Made {
    let user = extra::effective_user();
    // Of a process that root started with the variables of a user, it would be in the user's way.
    let is_own = |path: &Path| extra::stat_at(AT_FDCWD, path.as_c_str()).is_ok_and(|stat| stat.uid == user);
    let mut directory = Path::from_const(b"");
    let fits = if !runtime.as_bytes().is_empty() && is_own(runtime) {
        directory.push(runtime.as_bytes()) && directory.push(b"/heapsift")
    } else {
        directory.push(TEMPORARY)
            && directory.push(b"/heapsift-")
            && directory.push(Decimal::new(user.into()).as_bytes())
    };
    if !fits {
        return Err(Refused::by_system(runtime, ENAMETOOLONG));
    }
    match extra::make_directory(directory.as_c_str(), 0o700) {
        Ok(()) | Err(EEXIST) => {}
        Err(errno) => return Err(Refused::by_system(&directory, errno)),
    }
    let flags = open::DIRECTORY | open::NOFOLLOW | open::CLOEXEC;
    let fd = match extra::open_at(AT_FDCWD, directory.as_c_str(), flags, 0) {
        Ok(fd) => fd,
        // A symbolic link is the one or the other.
        Err(errno @ (ELOOP | ENOTDIR)) => {
            return Err(Refused::new(&directory, b"Not a directory, or a symbolic link", errno));
        }
        Err(errno) => return Err(Refused::by_system(&directory, errno)),
    };
    let sound = extra::stat(fd).is_ok_and(|stat| stat.uid == user && stat.mode & 0o7777 == 0o700);
    if sound {
        sweep::each_name(fd, |name| remove_if_stale(&directory, name));
    }
    sys::close(fd);
    if !sound {
        return Err(Refused::new(&directory, b"The directory must be the user's own, with mode 0700", EACCES));
    }
    listen(&in_directory(&directory, sys::getpid())?)
}

/// At a path of the user's choice, in which `%p` and others are filled in; in it, if it is a directory.
pub fn at_path(pattern: &Path) -> Made {
    let path = expand(pattern).ok_or_else(|| Refused::by_system(pattern, ENAMETOOLONG))?;
    let is_directory = extra::stat_at(AT_FDCWD, path.as_c_str()).is_ok_and(|stat| stat.kind() == kind::DIRECTORY);
    let path = if is_directory { in_directory(&path, sys::getpid())? } else { path };
    let end = path.as_bytes().iter().rposition(|&b| b == b'/');
    let directory = match end {
        None => Path::from_const(b"."),
        Some(0) => Path::from_const(b"/"),
        Some(end) => Path::new(&path.as_bytes()[..end]).unwrap_or(path),
    };
    let flags = open::DIRECTORY | open::NOFOLLOW | open::PATH | open::CLOEXEC;
    let fd = extra::open_at(AT_FDCWD, directory.as_c_str(), flags, 0)
        .map_err(|errno| Refused::by_system(&directory, errno))?;
    let stat = extra::stat(fd);
    sys::close(fd);
    const STICKY: u32 = 0o1000;
    let is_safe = stat.is_ok_and(|stat| {
        let owner = stat.uid == 0 || stat.uid == extra::effective_user();
        owner && (stat.mode & 0o022 == 0 || stat.mode & STICKY != 0)
    });
    if !is_safe {
        return Err(Refused::new(&directory, b"Others may change what is in this directory", EACCES));
    }
    listen(&path)
}

/// The socket of a process in a directory.
fn in_directory(directory: &Path, pid: i32) -> Result<Path, Refused> {
    let mut path = *directory;
    let pid = Decimal::new(pid as u64);
    let fits = path.push(b"/") && path.push(pid.as_bytes()) && path.push(ENDING);
    fits.then_some(path).ok_or_else(|| Refused::by_system(directory, ENAMETOOLONG))
}

/// Makes the socket. One that nobody listens at any more is replaced, anything else is not.
fn listen(path: &Path) -> Made {
    let name = path.as_c_str();
    match extra::stat_at(AT_FDCWD, name) {
        Err(ENOENT) => {}
        Ok(stat) if stat.kind() == kind::SOCKET && stat.uid == extra::effective_user() => {
            if !is_abandoned(name) {
                return Err(Refused::by_system(path, EADDRINUSE));
            }
            let _ = extra::unlink(AT_FDCWD, name);
        }
        Ok(_) => return Err(Refused::new(path, b"There is something else than a socket of this user", EEXIST)),
        Err(errno) => return Err(Refused::by_system(path, errno)),
    }
    let fd = socket::stream().map_err(|errno| Refused::by_system(path, errno))?;
    let made = (|| {
        // Before it has a name: the file is never open to anybody else.
        extra::set_mode(fd, 0o600)?;
        socket::bind(fd, name)?;
        let stat = extra::stat_at(AT_FDCWD, name)?;
        let place = Place { path: *path, identity: stat.identity, pid: sys::getpid() };
        if stat.kind() != kind::SOCKET || stat.uid != extra::effective_user() || stat.mode & 0o177 != 0 {
            place.remove();
            return Err(EACCES);
        }
        match socket::listen(fd, WAITING) {
            Ok(()) => Ok(place),
            Err(errno) => {
                place.remove();
                Err(errno)
            }
        }
    })();
    match made {
        Ok(place) => Ok((fd, place)),
        Err(errno) => {
            sys::close(fd);
            Err(Refused::by_system(path, errno))
        }
    }
}

/// Whether nobody listens at a socket's file.
fn is_abandoned(path: &CStr) -> bool {
    let Ok(fd) = socket::stream() else { return false };
    let answer = retry(|| socket::connect(fd, path));
    sys::close(fd);
    answer == Err(ECONNREFUSED)
}

/// Removes the socket of a process that is gone. Another container may have one of that number: then somebody listens.
fn remove_if_stale(directory: &Path, name: &CStr) {
    let Some(digits) = name.to_bytes().strip_suffix(ENDING) else { return };
    let pid = core::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<i32>().ok());
    let Some(pid) = pid.filter(|&pid| pid > 0 && !extra::process_exists(pid)) else { return };
    if let Ok(path) = in_directory(directory, pid)
        && is_abandoned(path.as_c_str())
    {
        let _ = extra::unlink(AT_FDCWD, path.as_c_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn path(text: &std::path::Path) -> Path {
        Path::new(text.to_str().unwrap().as_bytes()).unwrap()
    }

    #[test]
    fn places_are_made_replaced_and_refused() {
        let scratch = tempfile::TempDir::with_prefix("heapsift-place-").unwrap();
        let base = scratch.path();
        let file = base.join("heapsift").join(std::format!("{}.sock", std::process::id()));
        let (fd, place) = in_usual_directory(&path(base)).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(base.join("heapsift")).unwrap().permissions().mode() & 0o777, 0o700);
        // Somebody listens.
        assert_eq!(in_usual_directory(&path(base)).unwrap_err().errno, EADDRINUSE);
        // Nobody does any more; neither at that of a process that can't be.
        sys::close(fd);
        let gone = base.join("heapsift/2147483600.sock");
        drop(std::os::unix::net::UnixListener::bind(&gone).unwrap());
        let (fd, second) = in_usual_directory(&path(base)).unwrap();
        assert!(!gone.exists() && file.exists());
        assert_eq!(place.path.as_bytes(), second.path.as_bytes());
        second.remove();
        assert!(!file.exists());
        sys::close(fd);
        // Something else is in the way.
        fs::write(&file, "precious").unwrap();
        assert_eq!(in_usual_directory(&path(base)).unwrap_err().errno, EEXIST);
        // A directory that others may use, and one that is a link.
        fs::set_permissions(base.join("heapsift"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(in_usual_directory(&path(base)).unwrap_err().errno, EACCES);
        fs::rename(base.join("heapsift"), base.join("elsewhere")).unwrap();
        symlink("elsewhere", base.join("heapsift")).unwrap();
        assert!(matches!(in_usual_directory(&path(base)).unwrap_err().errno, ELOOP | ENOTDIR));
    }

    #[test]
    fn paths_of_choice() {
        let scratch = tempfile::TempDir::with_prefix("heapsift-path-").unwrap();
        let base = scratch.path();
        let (fd, place) = at_path(&path(&base.join("c-%p"))).unwrap();
        assert!(base.join(std::format!("c-{}", std::process::id())).exists());
        place.remove();
        sys::close(fd);
        let (fd, place) = at_path(&path(base)).unwrap();
        assert!(base.join(std::format!("{}.sock", std::process::id())).exists());
        place.remove();
        sys::close(fd);
        assert_eq!(at_path(&path(&base.join("x".repeat(120)))).unwrap_err().errno, ENAMETOOLONG);
        assert_eq!(at_path(&path(&base.join("absent/x"))).unwrap_err().errno, ENOENT);
        fs::set_permissions(base, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(at_path(&path(&base.join("x"))).unwrap_err().errno, EACCES);
    }
}
