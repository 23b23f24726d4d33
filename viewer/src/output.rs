//! Where reports go: standard output, or a file that appears whole or not at all.

mod directory;

pub use directory::NewDirectory;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::run::descriptor;

/// Writes to standard output. A reader that closed its end early is [`Error::BrokenPipe`].
pub fn to_stdout(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|source| Error::io("write", Path::new("standard output"), source))
}

/// Writes to `path`, or to standard output for `-`. A regular file is replaced by a rename, so that
/// nobody ever reads half of it; a device or a pipe is written to as it is, and so is what is open already.
pub fn to_path(path: &Path, bytes: &[u8]) -> Result<()> {
    write_to(path, bytes, SHARED)
}

/// The same for a profile: a new file is its owner's only, as the library's dumps are.
pub fn profile_to_path(path: &Path, bytes: &[u8]) -> Result<()> {
    write_to(path, bytes, PRIVATE)
}

/// The mode of files that are made to be shown, as far as the user's mask allows.
const SHARED: u32 = 0o666;
/// The mode of profiles.
const PRIVATE: u32 = 0o600;

/// `mode` is for a file that isn't there yet.
fn write_to(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    if path == Path::new("-") {
        return to_stdout(bytes);
    }
    let failed = |source| Error::io("write", path, source);
    let target = match Target::of(path).map_err(failed)? {
        // In turn with whatever else is written there.
        Target::Descriptor(1) => return to_stdout(bytes),
        Target::Descriptor(number) => {
            return descriptor(number).and_then(|mut file| file.write_all(bytes)).map_err(failed);
        }
        Target::File(target) => target,
    };
    if fs::metadata(&target).is_ok_and(|found| !found.is_file()) {
        let write = |path: &Path| OpenOptions::new().write(true).open(path)?.write_all(bytes);
        return write(&target).map_err(failed);
    }
    // Until it takes the old file's place nobody reads of the new one what they couldn't read of that.
    let old = fs::metadata(&target).ok().map(|found| found.permissions());
    let first_mode = if old.is_some() { PRIVATE } else { mode };
    let (temporary, file) = create_beside(&target, first_mode).map_err(failed)?;
    let written = write_all(file, bytes, old).and_then(|()| fs::rename(&temporary, &target));
    written.map_err(|source| {
        // Best effort: the reason that matters is the one of the write.
        let _ = fs::remove_file(&temporary);
        failed(source)
    })
}

/// What a path stands for.
enum Target {
    /// A descriptor that is open here: `/dev/stdout`, `/dev/fd/3`. What it leads to may be a file that others write to as
    /// well, whose place a new one must not take.
    Descriptor(RawFd),
    /// A file, which need not be there: through links, the one that they name, so that the links stay.
    File(PathBuf),
}

impl Target {
    fn of(path: &Path) -> io::Result<Self> {
        /// As many as the system follows.
        const LINKS_MAX: usize = 40;
        let descriptors = fs::canonicalize("/proc/self/fd").ok();
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            if let Some(number) = number
                && descriptors.is_some()
                && fs::canonicalize(directory.unwrap_or(Path::new("."))).ok() == descriptors
            {
                return Ok(Self::Descriptor(number));
            }
            let Ok(link) = fs::read_link(&path) else { return Ok(Self::File(path)) };
            let next = path.with_file_name(link);
            // What another process has open may have no path.
            if fs::metadata(&path).is_ok() && fs::metadata(&next).is_err() {
                return Ok(Self::File(path));
            }
            path = next;
        }
        Err(io::Error::from_raw_os_error(libc::ELOOP))
    }
}

fn write_all(mut file: File, bytes: &[u8], permissions: Option<Permissions>) -> io::Result<()> {
    file.write_all(bytes)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    file.sync_all()
}

/// Creates a new file of this mode in the directory of `target`.
fn create_beside(target: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for attempt in 0..100 {
        let temporary = target.with_file_name(format!(".{name}.{}.{attempt}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// What a text report may do on standard output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Columns of the terminal; `None` in a pipe or a file: nothing is cut.
    pub width: Option<usize>,
    /// Whether colours may be used.
    pub colour: bool,
}

impl Style {
    /// What standard output can show. `NO_COLOR` and a dumb terminal switch colours off.
    pub fn of_stdout() -> Self {
        Self::of(&io::stdout())
    }

    /// What standard error can show.
    pub fn of_stderr() -> Self {
        Self::of(&io::stderr())
    }

    fn of(stream: &(impl IsTerminal + std::os::fd::AsRawFd)) -> Self {
        if !stream.is_terminal() {
            return Self::default();
        }
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let width = crate::run::terminal_columns(stream.as_raw_fd()).filter(|&columns| columns >= 40);
        Self { width, colour: !set("NO_COLOR") && !is_dumb }
    }

    /// A row's name: what follows the function's own name, its place, is dimmed where colours may be used.
    pub fn name(&self, text: &str) -> String {
        match text.split_once("  ") {
            Some((name, place)) if self.colour => format!("{name}  {}", self.paint("2", place)),
            _ => text.to_owned(),
        }
    }

    /// `text` in the colour of an ANSI code, where colours may be used.
    pub fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let scratch = TempDir::with_prefix("heapsift-output-").unwrap();
        let directory = scratch.path();
        let path = directory.join("out");
        to_path(&path, b"one").unwrap();
        to_path(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory).unwrap().count(), 1);

        let error = to_path(&directory.join("absent/out"), b"x").unwrap_err().to_string();
        assert!(error.contains("absent/out: cannot write:"), "{error}");
    }

    #[test]
    fn profiles_are_their_owners() {
        let scratch = TempDir::with_prefix("heapsift-output-modes-").unwrap();
        let directory = scratch.path();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (page, profile) = (directory.join("page.html"), directory.join("a.pb.gz"));
        fs::write(directory.join("any"), b"").unwrap();
        to_path(&page, b"x").unwrap();
        profile_to_path(&profile, b"x").unwrap();
        assert_eq!((mode(&page), mode(&profile)), (mode(&directory.join("any")), 0o600));
        // What was there already is as its owner wants it.
        for (path, wanted) in [(&page, 0o600), (&profile, 0o640)] {
            fs::set_permissions(path, Permissions::from_mode(wanted)).unwrap();
            to_path(path, b"y").unwrap();
            profile_to_path(path, b"z").unwrap();
            assert_eq!(mode(path), wanted);
        }
    }

    #[test]
    fn what_is_open_is_written_to() {
        let mut file = tempfile::Builder::new().prefix("heapsift-output-open-").append(true).tempfile().unwrap();
        file.write_all(b"before ").unwrap();
        for directory in ["/dev/fd", "/proc/self/fd"] {
            to_path(&Path::new(directory).join(file.as_raw_fd().to_string()), b"within ").unwrap();
        }
        file.write_all(b"after").unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), b"before within within after");
        let error = to_path(Path::new("/dev/fd/987654"), b"x").unwrap_err().to_string();
        assert!(error.contains("/dev/fd/987654: cannot write: Bad file descriptor"), "{error}");
        assert!(matches!(Target::of(Path::new("/dev/stderr")).unwrap(), Target::Descriptor(2)));
    }

    #[test]
    fn links_stay() {
        let scratch = TempDir::with_prefix("heapsift-output-links-").unwrap();
        let directory = scratch.path();
        fs::create_dir(directory.join("below")).unwrap();
        let link = directory.join("link");
        symlink("other", &link).unwrap();
        symlink("below/file", directory.join("other")).unwrap();
        for text in ["of a file that was not there", "of one that is"] {
            to_path(&link, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(directory.join("below/file")).unwrap(), text);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        let round = directory.join("round");
        symlink("round", &round).unwrap();
        let error = to_path(&round, b"x").unwrap_err().to_string();
        assert!(error.contains("cannot write: Too many levels"), "{error}");
    }
}
