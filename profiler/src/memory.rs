//! What the kernel says of this process's memory, and of the limits that hold for it.

use alloc_core::first_thread::own_file;
use alloc_core::sys::{self, extra};

use crate::maps::{self, decimal as number};
use crate::settings::Path;

/// Resident bytes of the process.
pub fn resident_bytes() -> Option<u64> {
    let mut buffer = [0; 128];
    let text = read(own_file(c"/proc/self/statm", c"/proc/thread-self/statm"), &mut buffer)?;
    let pages = number(text.split(|&b| b == b' ').nth(1)?)?;
    Some(pages * sys::PAGE as u64)
}

/// Resident bytes, those shared with other processes divided among them.
pub fn shared_bytes() -> Option<u64> {
    let text = maps::read_file(own_file(c"/proc/self/smaps_rollup", c"/proc/thread-self/smaps_rollup")).ok()?;
    let line = text.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"Pss:"))?;
    Some(number(line.trim_ascii_start())? * 1024)
}

/// The start of a small file.
fn read<'a>(path: &core::ffi::CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let fd = extra::retry(|| sys::open_read(path)).ok()?;
    let mut used = 0;
    while used < buffer.len() {
        match extra::retry(|| sys::read(fd, &mut buffer[used..])) {
            Ok(0) | Err(_) => break,
            Ok(n) => used += n,
        }
    }
    sys::close(fd);
    (used > 0).then_some(&buffer[..used])
}

/// How a control group tells of its memory.
#[derive(Clone, Copy, Debug)]
struct Files {
    used: &'static [u8],
    limits: &'static [&'static [u8]],
    inactive: &'static [u8],
}

const UNIFIED: Files =
    Files { used: b"memory.current", limits: &[b"memory.max", b"memory.high"], inactive: b"inactive_file " };
const LEGACY: Files = Files {
    used: b"memory.usage_in_bytes",
    limits: &[b"memory.limit_in_bytes", b"memory.soft_limit_in_bytes"],
    inactive: b"total_inactive_file ",
};

/// Memory that the process's control groups use and may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in use, without files that the kernel can drop at once.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

impl Usage {
    /// Used hundredths of the limit.
    pub fn percent(&self) -> u64 {
        (u128::from(self.used) * 100 / u128::from(self.limit.max(1))) as u64
    }
}

/// The control group of this process, and the ones around it, whose limits hold as well.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    /// Where the hierarchy is mounted.
    root: Path,
    /// The process's group, below the root: begins with a slash, or is empty.
    group: Path,
    files: Files,
}

impl Groups {
    /// The groups of this process; `None`: none limits memory, or there is no saying.
    pub fn of_this_process() -> Option<Self> {
        let mut buffer = [0; 4096];
        let text = read(own_file(c"/proc/self/cgroup", c"/proc/thread-self/cgroup"), &mut buffer)?;
        Self::new(text, b"/sys/fs/cgroup")
    }

    /// From the text of `/proc/self/cgroup` and the directory where cgroups are mounted.
    fn new(text: &[u8], mount: &[u8]) -> Option<Self> {
        let lines = || {
            text.split(|&b| b == b'\n').filter_map(|line| {
                let mut fields = line.splitn(3, |&b| b == b':');
                Some((fields.next()?, fields.next()?, fields.next()?))
            })
        };
        let group = |path: &[u8]| Path::new(path.strip_suffix(b"/").unwrap_or(path));
        let root = |below: &[u8]| {
            let mut root = Path::new(mount)?;
            root.push(below).then_some(root)
        };
        // Where both are mounted, memory is controlled by the old one.
        if let Some((_, _, path)) =
            lines().find(|(_, names, _)| names.split(|&b| b == b',').any(|name| name == b"memory"))
        {
            return Some(Groups { root: root(b"/memory")?, group: group(path)?, files: LEGACY });
        }
        let (_, _, path) = lines().find(|(number, names, _)| *number == b"0" && names.is_empty())?;
        Some(Groups { root: root(b"")?, group: group(path)?, files: UNIFIED })
    }

    /// The path of a file of the group at `group`.
    fn file(&self, group: &[u8], name: &[u8]) -> Option<Path> {
        let mut path = self.root;
        [group, b"/", name].iter().all(|part| path.push(part)).then_some(path)
    }

    fn number(&self, group: &[u8], name: &[u8]) -> Option<u64> {
        let mut buffer = [0; 32];
        number(read(self.file(group, name)?.as_c_str(), &mut buffer)?)
    }

    /// Bytes of files that were not used for long, which the kernel drops first.
    fn inactive(&self, group: &[u8]) -> u64 {
        let mut buffer = [0; 8192];
        let file = self.file(group, b"memory.stat");
        let text = file.and_then(|file| read(file.as_c_str(), &mut buffer)).unwrap_or(b"");
        let line = text.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(self.files.inactive));
        line.and_then(number).unwrap_or(0)
    }

    /// The group, the one around it, and so on to the root of what is mounted here.
    fn each(&self) -> impl Iterator<Item = &[u8]> {
        let mut next = Some(self.group.as_bytes());
        core::iter::from_fn(move || {
            let group = next?;
            next = group.iter().rposition(|&b| b == b'/').map(|slash| &group[..slash]);
            Some(group)
        })
    }

    /// The usage that is nearest to its limit. Dropped files are looked at only where `percent` is reached with them.
    pub fn usage(&self, percent: u64) -> Option<Usage> {
        let usages = self.each().filter_map(|group| {
            let used = self.number(group, self.files.used)?;
            // No limit is a word, or a number beyond any memory.
            let limits = self.files.limits.iter().filter_map(|name| self.number(group, name));
            let limit = limits.filter(|&limit| limit > 0 && limit < 1 << 60).min()?;
            let mut usage = Usage { used, limit };
            if usage.percent() >= percent {
                usage.used = used.saturating_sub(self.inactive(group));
            }
            Some(usage)
        });
        usages.max_by_key(Usage::percent)
    }

    /// The share of the last ten seconds in which all tasks of the group waited for memory, in hundredths of a per
    /// cent; `None`: the kernel doesn't say.
    pub fn stalled(&self) -> Option<u64> {
        let mut buffer = [0; 256];
        let text = read(self.file(self.group.as_bytes(), b"memory.pressure")?.as_c_str(), &mut buffer)?;
        let line = text.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"full avg10="))?;
        let dot = line.iter().position(|&b| b == b'.')?;
        Some(number(line)? * 100 + number(line.get(dot + 1..dot + 3)?)?)
    }
}

/// A tenth of the time lost is trouble whatever the sums say: `memory.high` slows a group down instead of refusing. In the
/// unit of [`Groups::stalled`].
pub const STALLED: u64 = 1000;

/// Whether the process's groups are near a limit, or wait for memory.
pub fn is_short() -> bool {
    // What the kernel reclaims at once is not counted, and there is not much else that could go.
    const NEAR_PERCENT: u64 = 90;
    let is_near = |groups: &Groups| groups.usage(NEAR_PERCENT).is_some_and(|usage| usage.percent() >= NEAR_PERCENT);
    let waits = |groups: &Groups| groups.stalled().is_some_and(|stalled| stalled >= STALLED);
    !sys::sandbox::in_sandbox() && Groups::of_this_process().is_some_and(|groups| is_near(&groups) || waits(&groups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn this_process() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        assert!(shared_bytes().unwrap() > 0);
    }

    #[test]
    fn unified_groups() {
        let scratch = tempfile::TempDir::with_prefix("heapsift-groups-").unwrap();
        let mount = scratch.path();
        let inner = mount.join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        let groups = Groups::new(b"1:name=systemd:/x\n0::/outer/inner\n", mount.to_str().unwrap().as_bytes()).unwrap();
        let groups_seen: std::vec::Vec<_> = groups.each().collect();
        assert_eq!(groups_seen, [&b"/outer/inner"[..], b"/outer", b""]);
        assert_eq!((groups.usage(0), groups.stalled()), (None, None));

        let write = |name: &str, text: &str| fs::write(mount.join(name), text).unwrap();
        write("outer/inner/memory.current", "900\n");
        write("outer/inner/memory.max", "max\n");
        assert_eq!(groups.usage(0), None);
        write("outer/inner/memory.high", "1000\n");
        assert_eq!(groups.usage(0), Some(Usage { used: 900, limit: 1000 }));
        // The group around it is nearer to its limit.
        write("outer/memory.current", "1960\n");
        write("outer/memory.max", "2000\n");
        assert_eq!(groups.usage(0).unwrap().percent(), 98);
        write("outer/memory.stat", "anon 100\ninactive_file 1000\nactive_file 5\n");
        assert_eq!(groups.usage(99).unwrap(), Usage { used: 1960, limit: 2000 });
        assert_eq!(groups.usage(50).unwrap(), Usage { used: 900, limit: 1000 });
        write(
            "outer/inner/memory.pressure",
            "some avg10=40.00 avg60=1.00 avg300=0.50 total=5\nfull avg10=12.34 avg60=0.10 avg300=0.00 total=3\n",
        );
        assert_eq!(groups.stalled(), Some(1234));
    }

    #[test]
    fn legacy_groups() {
        let scratch = tempfile::TempDir::with_prefix("heapsift-legacy-").unwrap();
        let mount = scratch.path();
        fs::create_dir_all(mount.join("memory/box")).unwrap();
        let text = b"9:name=systemd:/\n4:cpu,memory:/box\n0::/\n";
        let groups = Groups::new(text, mount.to_str().unwrap().as_bytes()).unwrap();
        let write = |name: &str, text: &str| fs::write(mount.join("memory/box").join(name), text).unwrap();
        write("memory.usage_in_bytes", "50\n");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(groups.usage(0), None);
        write("memory.limit_in_bytes", "100\n");
        write("memory.stat", "inactive_file 1\ntotal_inactive_file 20\n");
        assert_eq!(groups.usage(0), Some(Usage { used: 30, limit: 100 }));
    }

    #[test]
    fn no_groups() {
        assert!(Groups::new(b"", b"/sys/fs/cgroup").is_none());
        assert!(Groups::new(b"garbage\n::\n1:cpu:/x", b"/sys/fs/cgroup").is_none());
        // The root group has no slash to cut off.
        assert!(Groups::new(b"0::/\n", b"/m").unwrap().each().eq([&b""[..]]));
    }
}
