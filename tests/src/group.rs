//! Groups of processes with a limit on their memory.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

/// A memory cgroup below the one of this process.
#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    /// One with a limit in bytes; `None`: none can be made here.
    pub fn new(limit: u64) -> Option<Self> {
        let text = fs::read_to_string("/proc/self/cgroup").ok()?;
        let legacy = text.lines().find_map(|line| line.split_once(":memory:"));
        let (parent, file) = match legacy {
            Some((_, path)) => (format!("/sys/fs/cgroup/memory{path}"), "memory.limit_in_bytes"),
            None => {
                let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
                (format!("/sys/fs/cgroup{path}"), "memory.max")
            }
        };
        // Kept, since it can't be removed as other directories are, file by file.
        let group = Group(TempDir::with_prefix_in("heapsift-", parent).ok()?.keep());
        fs::write(group.0.join(file), limit.to_string()).ok()?;
        Some(group)
    }

    /// The file that a process joins it by.
    pub fn processes(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Busy until the last process in it is reaped.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
