//! Several files that appear together or not at all: as a directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The end of a temporary directory's name.
const ENDING: &str = ".tmp";

/// A directory that is being filled under another name; dropped before [`NewDirectory::finish`], it is removed.
#[derive(Debug)]
pub struct NewDirectory {
    target: PathBuf,
    temporary: PathBuf,
    /// Locked as long as it is being filled, so that one which a killed process left can be told.
    directory: File,
    is_finished: bool,
}

impl NewDirectory {
    /// Begins a directory that will be called `target`, and removes what killed processes left of earlier attempts.
    ///
    /// # Errors
    /// There is something else of this name than an empty directory, or none can be made beside it.
    pub fn create(target: &Path) -> Result<Self> {
        let failed = |source| Error::io("write", target, source);
        match fs::read_dir(target).map(Iterator::count) {
            Ok(0) => {}
            Ok(_) => {
                let reason = "the directory is there and not empty; choose another, or remove it".to_owned();
                return Err(Error::Input { path: target.to_owned(), reason });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let missing = || io::Error::new(io::ErrorKind::InvalidInput, "the path names no directory");
        let name = target.file_name().ok_or_else(missing).map_err(failed)?.to_string_lossy().into_owned();
        let start = format!(".{name}.");
        sweep(target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")), &start);
        let mut attempt = 0;
        loop {
            let temporary = target.with_file_name(format!("{start}{}.{attempt}{ENDING}", std::process::id()));
            attempt += 1;
            match fs::create_dir(&temporary) {
                Ok(()) => {
                    let directory = File::open(&temporary).map_err(failed)?;
                    // Where locks don't work, leftovers stay.
                    let _ = directory.try_lock();
                    return Ok(Self { target: target.to_owned(), temporary, directory, is_finished: false });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// A new file in it.
    ///
    /// # Errors
    /// It can't be made.
    pub fn file(&self, name: &str) -> Result<File> {
        let made = OpenOptions::new().write(true).create_new(true).open(self.temporary.join(name));
        made.map_err(|source| Error::io("write", &self.target.join(name), source))
    }

    /// Gives the directory its name, after its files are safe.
    ///
    /// # Errors
    /// The system refuses.
    pub fn finish(mut self, files: impl IntoIterator<Item = File>) -> Result<()> {
        let done = files
            .into_iter()
            .try_for_each(|file| file.sync_all())
            .and_then(|()| self.directory.sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.target));
        self.is_finished = done.is_ok();
        done.map_err(|source| Error::io("write", &self.target, source))
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if !self.is_finished {
            // Best effort: why there is no directory is told elsewhere.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// Removes the temporary directories that begin like this and that no process holds. That it can't is no reason not
/// to go on.
fn sweep(parent: &Path, start: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let numbers = name.to_str().and_then(|name| name.strip_prefix(start)?.strip_suffix(ENDING));
        let is_ours = numbers
            .and_then(|numbers| numbers.split_once('.'))
            .is_some_and(|(pid, attempt)| pid.parse::<u32>().is_ok() && attempt.parse::<u32>().is_ok());
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_ours && is_directory && File::open(entry.path()).is_ok_and(|found| found.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_directory_appears_whole_or_not_at_all() {
        let scratch = tempfile::TempDir::with_prefix("heapsift-directory-").unwrap();
        let parent = scratch.path();
        let target = parent.join("out");
        let names = || {
            let mut names: Vec<_> = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        // What a killed process left goes; what somebody else called so stays.
        fs::create_dir(parent.join(".out.1.0.tmp")).unwrap();
        fs::create_dir(parent.join(".out.mine.tmp")).unwrap();

        let unfinished = NewDirectory::create(&target).unwrap();
        unfinished.file("a").unwrap().write_all(b"x").unwrap();
        // One that is being written is left alone.
        let other = NewDirectory::create(&target).unwrap();
        assert_eq!(names().len(), 3);
        drop(unfinished);
        let file = other.file("a").unwrap();
        other.finish([file]).unwrap();
        assert_eq!(names(), [".out.mine.tmp", "out"]);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 1);

        let error = NewDirectory::create(&target).unwrap_err().to_string();
        assert!(error.contains("not empty"), "{error}");
        // An empty one may be there.
        fs::remove_file(target.join("a")).unwrap();
        NewDirectory::create(&target).unwrap().finish([]).unwrap();
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }
}
