//! Where binaries and debug files are looked for.
//!
//! A path comes from a file that may be hostile: only regular files are opened, and a build id must be
//! hexadecimal before it becomes part of a path. Nothing is ever executed, and nothing is fetched from the network.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// Larger files are refused.
pub const MAX_FILE: u64 = 4 << 30;
/// Bytes of holes that a file may have; more only beside contents.
const HOLES: u64 = 64 << 20;
/// Where distributions install debug files.
const SYSTEM: &str = "/usr/lib/debug";

/// What a mapping says about its file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The path as the profile has it, without ` (deleted)`.
    pub path: String,
    /// The build id in lower-case hexadecimal, or "".
    pub build_id: String,
    /// What lies at that path now is not what was mapped, and no build id tells.
    pub is_gone: bool,
}

impl Wanted {
    /// From the texts of a mapping. A build id that is none counts as absent.
    pub fn new(path: &str, build_id: &str) -> Self {
        let build_id = build_id.to_ascii_lowercase();
        let hexadecimal = build_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let plausible = hexadecimal && (8..=128).contains(&build_id.len()) && build_id.len().is_multiple_of(2);
        let build_id = if plausible { build_id } else { String::new() };
        let kept = path.strip_suffix(" (deleted)");
        Self { path: kept.unwrap_or(path).to_owned(), is_gone: kept.is_some() && build_id.is_empty(), build_id }
    }

    /// Whether the mapping is of a file at all, rather than `[vdso]` or `//anon`.
    pub fn is_file(&self) -> bool {
        !self.path.is_empty() && !self.path.starts_with('[') && !self.path.starts_with("//")
    }

    /// The path below a directory: without root and `..`.
    fn relative(&self) -> PathBuf {
        let names = Path::new(&self.path).components();
        names.filter(|part| matches!(part, Component::Normal(_))).collect()
    }

    /// Files that may be what was mapped, best first.
    pub fn binaries(&self, search: &[PathBuf]) -> Vec<PathBuf> {
        let (relative, mut paths) = (self.relative(), Vec::new());
        let name = relative.file_name().map(PathBuf::from).unwrap_or_default();
        for dir in search {
            if !self.build_id.is_empty() {
                paths.push(dir.join(&self.build_id));
                paths.push(dir.join(&self.build_id).join(&name));
                paths.push(dir.join(".build-id").join(&self.build_id[..2]).join(&self.build_id[2..]));
            }
            paths.push(dir.join(&relative));
            paths.push(dir.join(&name));
        }
        // The user's directories come first: they say where to look on purpose.
        if Path::new(&self.path).is_absolute() && !self.is_gone {
            paths.push(PathBuf::from(&self.path));
        }
        paths
    }

    /// Files that may hold its debug information apart, best first. `link` is what the binary says.
    pub fn debug_files(&self, search: &[PathBuf], link: Option<&Path>) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        // What is installed belongs to what lies at the path now.
        let system = (!self.is_gone).then_some(Path::new(SYSTEM));
        let roots = || search.iter().map(PathBuf::as_path).chain(system);
        if !self.build_id.is_empty() {
            for root in roots() {
                paths.extend(by_build_id(root, &self.build_id));
            }
        }
        let relative = self.relative();
        let mut suffixed = relative.clone().into_os_string();
        suffixed.push(".debug");
        let own = Path::new(&suffixed);
        for root in roots() {
            paths.push(root.join(own));
            paths.extend(own.file_name().map(|name| root.join(name)));
        }
        let link = link.and_then(Path::file_name);
        if let Some(link) = link {
            if let Some(parent) = Path::new(&self.path).parent().filter(|dir| dir.is_absolute()) {
                paths.push(parent.join(link));
                paths.push(parent.join(".debug").join(link));
            }
            let parent = relative.parent().unwrap_or(Path::new(""));
            for root in roots() {
                paths.push(root.join(parent).join(link));
                paths.push(root.join(link));
            }
        }
        paths
    }
}

/// Where debug files with a build id lie below a directory.
pub fn by_build_id(root: &Path, id: &str) -> Vec<PathBuf> {
    let (Some(head), Some(tail)) = (id.get(..2), id.get(2..)) else { return Vec::new() };
    let name = format!("{tail}.debug");
    vec![root.join(".build-id").join(head).join(&name), root.join(head).join(&name)]
}

/// Where the shared part of several debug files may lie, as `file` names it.
pub fn shared_parts(file: &Path, name: &Path, id: &str, search: &[PathBuf]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for root in search.iter().map(PathBuf::as_path).chain([Path::new(SYSTEM)]) {
        paths.extend(by_build_id(root, id));
    }
    paths.extend(file.parent().map(|parent| parent.join(name)));
    paths
}

/// Opens a regular file of acceptable length; never waits for the other end of a pipe.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 GiB"));
    }
    // Holes cost nothing on the disk and their whole length in memory. A file system that compresses saves less.
    let stored = metadata.blocks().saturating_mul(512);
    if metadata.len() > HOLES.saturating_add(stored.saturating_mul(64)) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "nothing but holes"));
    }
    Ok(file)
}

/// The checksum by which `.gnu_debuglink` names a file: CRC-32 as in gzip.
pub fn checksum(file: &mut File) -> io::Result<u32> {
    let table: [u32; 256] = core::array::from_fn(|byte| {
        (0..8).fold(byte as u32, |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    file.seek(SeekFrom::Start(0))?;
    let (mut crc, mut buffer) = (!0u32, vec![0; 64 << 10]);
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(!crc);
        }
        for &byte in &buffer[..length] {
            crc = table[(crc as u8 ^ byte) as usize] ^ (crc >> 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_cannot_lead_elsewhere() {
        for id in ["../../etc/passwd", "ab/../../cd", "abc", "", "0123456", "zz00112233"] {
            assert_eq!(Wanted::new("/bin/x", id).build_id, "", "{id}");
        }
        assert_eq!(Wanted::new("/bin/x", "00AABBCCDD").build_id, "00aabbccdd");
    }

    #[test]
    fn paths_stay_below_the_search_directory() {
        let wanted = Wanted::new("/../a/../../b (deleted)", "");
        assert_eq!(wanted.binaries(&[PathBuf::from("/s")])[0], Path::new("/s/a/b"));
        assert!(!Wanted::new("[vdso]", "").is_file() && !Wanted::new("//anon", "").is_file());
    }

    #[test]
    fn only_regular_files() {
        assert!(open(Path::new("/dev/null")).is_err());
        assert!(open(Path::new("/")).is_err());
    }

    #[test]
    fn a_hole_is_no_file() {
        let file = tempfile::NamedTempFile::with_prefix("heapsift-hole-").unwrap();
        file.as_file().set_len(32 << 20).unwrap();
        assert!(open(file.path()).is_ok());
        file.as_file().set_len(3 << 30).unwrap();
        assert_eq!(open(file.path()).unwrap_err().to_string(), "nothing but holes");
    }
}
