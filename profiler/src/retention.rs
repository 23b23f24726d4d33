//! Which of the numbered dumps stay: the newest, and those taken when most was allocated.
//!
//! Only files that this process has written are ever removed, and only while they are still the same files.

use alloc::vec::Vec;

use alloc_core::sys::Errno;

use crate::file;
use crate::settings::Path;
use crate::triggers::Keep;

/// A dump of this process that may go some day.
#[derive(Debug)]
struct Written {
    /// From the root, so that the program may change its working directory.
    path: Vec<u8>,
    /// Device and inode.
    identity: (u64, u64),
    /// Bytes allocated when it was taken.
    allocated: u64,
}

/// The dumps that may go, oldest first.
#[derive(Debug)]
pub struct Retention {
    written: Vec<Written>,
}

impl Retention {
    /// None yet.
    pub const NONE: Self = Retention { written: Vec::new() };

    /// A dump has been written: takes note of it, and removes those that are not to be kept any more.
    pub fn wrote(&mut self, path: &[u8], identity: (u64, u64), allocated: u64, keep: Keep) {
        let mut copy = Vec::new();
        if copy.try_reserve_exact(path.len()).is_err() || self.written.try_reserve(1).is_err() {
            // Without memory to remember it, it stays.
            return;
        }
        copy.extend_from_slice(path);
        self.written.push(Written { path: copy, identity, allocated });
        while let Some(surplus) = self.surplus(keep) {
            let gone = self.written.remove(surplus);
            // A file that somebody else has taken care of is no matter.
            let _ = remove(&gone);
        }
    }

    /// The dump that goes first: the smallest of those that aren't among the newest, the oldest of equal ones.
    fn surplus(&self, keep: Keep) -> Option<usize> {
        let old = self.written.len().saturating_sub(keep.newest);
        if old <= keep.largest {
            return None;
        }
        let by_size = self.written[..old].iter().enumerate().min_by_key(|(_, written)| written.allocated);
        by_size.map(|(index, _)| index)
    }
}

fn remove(written: &Written) -> Result<(), Errno> {
    const ENAMETOOLONG: Errno = Errno(36);
    let path = Path::new(&written.path).ok_or(ENAMETOOLONG)?;
    file::remove_if_same(&path, written.identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_and_largest() {
        let scratch = tempfile::TempDir::with_prefix("heapsift-retention-").unwrap();
        let directory = scratch.path();
        let mut retention = Retention::NONE;
        let mut write = |number: usize, allocated, keep| {
            use std::os::unix::fs::MetadataExt;
            let path = directory.join(number.to_string());
            std::fs::write(&path, "x").unwrap();
            let found = std::fs::metadata(&path).unwrap();
            retention.wrote(path.to_str().unwrap().as_bytes(), (found.dev(), found.ino()), allocated, keep);
        };
        let names = || {
            let mut names: std::vec::Vec<usize> = std::fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
                .collect();
            names.sort();
            names
        };
        use std::string::ToString;
        let keep = Keep { newest: 2, largest: 2 };
        for (number, allocated) in [5, 90, 10, 80, 20, 30].into_iter().enumerate() {
            write(number, allocated, keep);
        }
        assert_eq!(names(), [1, 3, 4, 5]);
        // Replaced by somebody: not ours any more.
        std::fs::write(directory.join("6"), "theirs").unwrap();
        std::fs::rename(directory.join("6"), directory.join("4")).unwrap();
        write(7, 40, keep);
        assert_eq!(names(), [1, 3, 4, 5, 7]);
        // Fewer are wanted now.
        write(8, 1, Keep { newest: 1, largest: 1 });
        assert_eq!(names(), [1, 4, 8]);
    }
}
