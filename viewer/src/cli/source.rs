//! Where source files are: as pprof looks for them, and a little further.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// More than any source file has.
const BYTES_MAX: u64 = 64 << 20;

/// Finds and reads source files.
#[derive(Debug)]
pub struct Sources {
    directories: Vec<PathBuf>,
    is_confined: bool,
}

impl Sources {
    /// Looks in these directories, separated by colons, and those above them; without any, in the working
    /// directory.
    pub fn new(search: &str) -> Self {
        let mut directories: Vec<PathBuf> =
            search.split(':').filter(|part| !part.is_empty()).map(PathBuf::from).collect();
        if directories.is_empty() {
            directories.extend(std::env::current_dir().ok());
        }
        Self { directories, is_confined: false }
    }

    /// Looks in these directories and below them, and nowhere else: not where an absolute path of a profile or a link
    /// leads.
    pub fn confined(search: &str) -> Self {
        let Self { directories, .. } = Self::new(search);
        let directories = directories.into_iter().filter_map(|directory| fs::canonicalize(directory).ok()).collect();
        Self { directories, is_confined: true }
    }

    /// The lines of a file named in a profile.
    ///
    /// # Errors
    /// Says that it is nowhere, or cannot be read.
    pub fn read(&self, path: &str) -> Result<Vec<String>, String> {
        let Some(file) = self.find(Path::new(path)) else {
            return Err(format!("{path} is not here; see --source-path and --trim-path"));
        };
        let failed = |error: std::io::Error| format!("{}: {error}", file.display());
        let mut text = Vec::new();
        File::open(&file).and_then(|opened| opened.take(BYTES_MAX).read_to_end(&mut text)).map_err(failed)?;
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    fn find(&self, path: &Path) -> Option<PathBuf> {
        // Not a device, whatever a profile says.
        let exists = |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file()) && self.is_allowed(path);
        if path.is_absolute() && exists(path) {
            return Some(path.to_owned());
        }
        if path.is_relative() {
            let above = self.directories.iter().flat_map(|directory| directory.ancestors());
            return above.map(|directory| directory.join(path)).find(|path| exists(path));
        }
        // A file of another machine, or not where it is said to be: its path from some directory on.
        let mut parts = path.components();
        parts.next();
        while parts.next().is_some() {
            let rest = parts.as_path();
            if rest.as_os_str().is_empty() {
                break;
            }
            let found = self.directories.iter().map(|directory| directory.join(rest)).find(|path| exists(path));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn is_allowed(&self, path: &Path) -> bool {
        let is_below = |path: PathBuf| self.directories.iter().any(|directory| path.starts_with(directory));
        !self.is_confined || fs::canonicalize(path).is_ok_and(is_below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_confined_read_nothing_from_elsewhere() {
        let scratch = tempfile::TempDir::with_prefix("heapsift-sources-").unwrap();
        let root = scratch.path();
        let inside = root.join("app/src");
        fs::create_dir_all(&inside).unwrap();
        fs::write(root.join("secret"), "secret\n").unwrap();
        fs::write(inside.join("a.c"), "one\ntwo\n").unwrap();
        std::os::unix::fs::symlink(root.join("secret"), inside.join("link.c")).unwrap();
        let app = root.join("app");
        let sources = Sources::confined(app.to_str().unwrap());
        for path in ["src/a.c", "/build/app/src/a.c", inside.join("a.c").to_str().unwrap()] {
            assert_eq!(sources.read(path).unwrap(), ["one", "two"], "{path}");
        }
        let secret = root.join("secret");
        for path in
            ["../secret", "src/link.c", "/x/../secret", secret.to_str().unwrap(), "secret", "/etc/passwd", "", "src"]
        {
            assert!(sources.read(path).is_err(), "{path}");
        }
        // `list` reads what the user's own profile names.
        assert!(Sources::new(app.to_str().unwrap()).read(secret.to_str().unwrap()).is_ok());
    }
}
