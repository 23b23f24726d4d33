//! Temporary files of dumps whose process was killed: the next dump in the directory removes them.
//!
//! Whoever writes such a file holds a lock on it, which the kernel drops with the process. So the files of other
//! processes, other containers and other machines are left alone for as long as they are being written.

use core::ffi::CStr;

use alloc_core::sys::extra::{self, kind, open, retry};
use alloc_core::sys::{self, Errno};

use crate::file::TEMPORARY;

/// Bytes of names that are read at once, and how often: a directory full of other files must not hold up a dump.
const BUFFER: usize = 4096;
const ROUNDS: usize = 256;

/// Removes what was left behind in an open directory. Nothing depends on it: what can't be done is left undone.
pub fn left_behind(directory: usize) {
    each_name(directory, |name| {
        if is_ours(name) {
            let _ = remove(directory, name);
        }
    });
}

/// Calls `each` with the names in an open directory, as far as a bounded time goes.
pub fn each_name(directory: usize, mut each: impl FnMut(&CStr)) {
    let flags = open::DIRECTORY | open::CLOEXEC;
    let Ok(listing) = retry(|| extra::open_at(directory, c".", flags, 0)) else { return };
    // The kernel's records begin with 8 byte numbers.
    let mut buffer = [0u64; BUFFER / 8];
    // SAFETY: any 8 bytes are a number, and bytes need no alignment.
    let buffer = unsafe { core::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast::<u8>(), BUFFER) };
    for _ in 0..ROUNDS {
        match retry(|| extra::read_directory(listing, buffer)) {
            Ok(n) if n > 0 => extra::entries(&buffer[..n]).for_each(&mut each),
            _ => break,
        }
    }
    sys::close(listing);
}

fn is_ours(name: &CStr) -> bool {
    let name = name.to_bytes();
    name.starts_with(b".") && name.ends_with(TEMPORARY)
}

fn remove(directory: usize, name: &CStr) -> Result<(), Errno> {
    const EPERM: Errno = Errno(1);
    let flags = open::WRITE | open::NOFOLLOW | open::NONBLOCK | open::CLOEXEC;
    let found = extra::stat_at(directory, name)?;
    if found.kind() != kind::REGULAR || found.uid != extra::effective_user() || found.links != 1 {
        return Err(EPERM);
    }
    let fd = extra::open_at(directory, name, flags, 0)?;
    let locked = extra::lock_file(fd);
    let same = extra::stat(fd).is_ok_and(|open| open.identity == found.identity);
    let result = match locked {
        Ok(()) if same => extra::unlink(directory, name),
        _ => Err(EPERM),
    };
    sys::close(fd);
    result
}

#[cfg(test)]
mod tests {
    use crate::file::PartFile;
    use crate::settings::Path;
    use std::fs;
    use std::string::String;
    use std::vec::Vec;

    #[test]
    fn only_what_nobody_writes() {
        let scratch = tempfile::TempDir::with_prefix("heapsift-sweep-").unwrap();
        let directory = scratch.path();
        let names = || {
            let mut names: Vec<String> = fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let path = |name: &str| Path::new(directory.join(name).to_str().unwrap().as_bytes()).unwrap();
        fs::write(directory.join(".a.1.2.heapsift.tmp"), "left").unwrap();
        fs::write(directory.join(".a.1.2.tmp"), "somebody else's").unwrap();
        fs::write(directory.join("victim"), "precious").unwrap();
        std::os::unix::fs::symlink("victim", directory.join(".l.heapsift.tmp")).unwrap();
        fs::hard_link(directory.join("victim"), directory.join(".h.heapsift.tmp")).unwrap();
        for i in 0..300 {
            fs::write(directory.join(std::format!(".{i:0200}.heapsift.tmp")), "").unwrap();
        }
        let first = PartFile::create(&path("first")).unwrap();
        assert_eq!(names().len(), 5, "{:?}", names());
        // The first is being written: the second leaves it alone.
        let second = PartFile::create(&path("second")).unwrap();
        assert_eq!(names().len(), 6, "{:?}", names());
        drop((first, second));
        assert_eq!(names(), [".a.1.2.tmp", ".h.heapsift.tmp", ".l.heapsift.tmp", "victim"]);
    }
}
