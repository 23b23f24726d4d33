//! Where source files are: as pprof looks for them, and a little further.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// More than any source file has.
const BYTES_MAX: u64 = 64 << 20;

/// Finds and reads source files.
pub struct Sources {
    directories: Vec<PathBuf>,
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
        Self { directories }
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
        let exists = |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file());
        if path.is_absolute() && exists(path) {
            return Some(path.to_owned());
        }
        if path.is_relative() {
            let above = self.directories.iter().flat_map(|directory| directory.ancestors());
            return above.map(|directory| directory.join(path)).find(|path| exists(path));
        }
        // A file of another machine: its path from some directory on.
        let mut parts = path.components();
        parts.next();
        while parts.next().is_some() {
            let rest = parts.as_path();
            if rest.as_os_str().is_empty() {
                break;
            }
            let found =
                self.directories.iter().map(|directory| directory.join(rest)).find(|path| exists(path));
            if found.is_some() {
                return found;
            }
        }
        None
    }
}
