//! Dumps by their names: `<prefix>.<pid>.<seq>.<kind><n>.heap.pb.gz`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use crate::error::{Error, Result};

/// A dump file, as its name describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Where it is.
    pub path: PathBuf,
    /// Process it is of.
    pub pid: u32,
    /// Number within the process.
    pub sequence: u64,
    /// `f` final, `m` manual, `i` interval, `u` maximum, ….
    pub kind: char,
    /// When it was written.
    pub written: SystemTime,
    /// Its length.
    pub bytes: u64,
}

impl Dump {
    /// Reads a name; `None` if it is not a dump's.
    pub fn parse(path: &Path, written: SystemTime, bytes: u64) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let stem = name.strip_suffix(".heap.pb.gz").or_else(|| name.strip_suffix(".heap"))?;
        let mut parts = stem.rsplit('.');
        let (kind, sequence, pid) = (parts.next()?, parts.next()?, parts.next()?);
        parts.next()?; // There is a prefix.
        Some(Self {
            path: path.to_owned(),
            pid: pid.parse().ok()?,
            sequence: sequence.parse().ok()?,
            kind: kind.chars().next().filter(char::is_ascii_lowercase)?,
            written,
            bytes,
        })
    }
}

/// All dumps in a directory, by process and number.
pub fn dumps_in(directory: &Path) -> io::Result<Vec<Dump>> {
    let mut dumps = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Follows links: a directory of links to dumps is a fine thing.
        let Ok(found) = fs::metadata(entry.path()) else {
            continue;
        };
        if found.is_file() {
            let written = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            dumps.extend(Dump::parse(&entry.path(), written, found.len()));
        }
    }
    dumps.sort_by(|a, b| (a.pid, a.sequence, &a.path).cmp(&(b.pid, b.sequence, &b.path)));
    Ok(dumps)
}

/// As [`dumps_in`], of a directory that must hold some.
///
/// # Errors
/// It can't be read, or holds none.
pub fn some_dumps_in(directory: &Path) -> Result<Vec<Dump>> {
    let dumps = dumps_in(directory).map_err(|source| Error::io("read", directory, source))?;
    if dumps.is_empty() {
        return Err(Error::input(directory, "the directory holds no dump (*.heap.pb.gz)"));
    }
    Ok(dumps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_their_end() {
        let parse = |name: &str| Dump::parse(Path::new(name), SystemTime::UNIX_EPOCH, 1);
        let dump = parse("/d/heapsift.my.app.123.4.f.heap.pb.gz").unwrap();
        assert_eq!((dump.pid, dump.sequence, dump.kind), (123, 4, 'f'));
        let dump = parse("heapsift.9.0.i17.heap").unwrap();
        assert_eq!((dump.pid, dump.sequence, dump.kind), (9, 0, 'i'));
        for other in ["notes.txt", "heapsift.heap.pb.gz", "1.2.f.heap.pb.gz", ".heapsift.1.2.f.heap.pb.gz.tmp"] {
            assert!(parse(other).is_none(), "{other}");
        }
    }
}
