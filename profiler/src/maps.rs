//! The executable mappings of this process, with build ids, for a dump.

use alloc::vec::Vec;

use alloc_core::first_thread::own_file;
use alloc_core::message::Decimal;
use alloc_core::sys::{self, extra};
use pprof_export::writer::{Mapping, SinkError};

use crate::image::Image;
use crate::unwind;

const EINTR: sys::Errno = sys::Errno(4);

/// Reads a file by system calls.
pub fn read_file(path: &core::ffi::CStr) -> Result<Vec<u8>, SinkError> {
    let fd = sys::open_read(path).map_err(|errno| SinkError(errno.0))?;
    let mut text = Vec::new();
    let mut buffer = [0u8; 4096];
    let result = loop {
        match sys::read(fd, &mut buffer) {
            Ok(0) => break Ok(()),
            Ok(n) => {
                if text.try_reserve(n).is_err() {
                    break Err(SinkError::OUT_OF_MEMORY);
                }
                text.extend_from_slice(&buffer[..n]);
            }
            Err(EINTR) => {}
            Err(errno) => break Err(SinkError(errno.0)),
        }
    };
    sys::close(fd);
    result.map(|()| text)
}

/// The list of all mappings as the kernel writes it. `None`, without /proc: addresses without files are better than no dump.
fn list() -> Result<Option<Vec<u8>>, SinkError> {
    match read_file(own_file(c"/proc/self/maps", c"/proc/thread-self/maps")) {
        Ok(text) => Ok(Some(text)),
        Err(SinkError::OUT_OF_MEMORY) => Err(SinkError::OUT_OF_MEMORY),
        Err(_) => Ok(None),
    }
}

/// What mappings can't tell.
#[derive(Debug)]
pub enum Unknown {
    /// There is no list of them.
    All,
    /// These modules, which stacks have met, have been unloaded, and others have come in their place.
    Replaced(Vec<unwind::Met>),
}

/// Hands out all executable mappings, those of the program's own binary first, and in the end the code of modules that are
/// not loaded any more, where nothing else has come in its place.
pub fn executable(mut take: impl FnMut(&Mapping<'_>) -> Result<(), SinkError>) -> Result<Unknown, SinkError> {
    let Some(text) = list()? else { return Ok(Unknown::All) };
    let lines = lines_of(&text)?;
    let mut buffer = [0u8; 4096];
    let program = extra::read_link(own_file(c"/proc/self/exe", c"/proc/thread-self/exe"), &mut buffer).unwrap_or(b"");
    let program = program.strip_suffix(DELETED).unwrap_or(program);
    for own in [true, false] {
        for (at, line) in lines.iter().enumerate() {
            if !line.executable || (line.path == program) != own {
                continue;
            }
            let image = image_of(&lines, at);
            let build_id = image.as_ref().map_or(&[][..], Image::build_id);
            let path = match line.path {
                b"" => b"//anon",
                // Nothing else tells what lies at that path now from what was mapped.
                _ if build_id.is_empty() => line.listed,
                path => path,
            };
            let Line { start, limit, offset, .. } = *line;
            take(&Mapping { start, limit, offset, path, build_id })?;
        }
    }
    Ok(Unknown::Replaced(unloaded(&lines, take)?))
}

/// The ELF image that a line is part of: the file's first mapping begins with its header.
fn image_of(lines: &[Line<'_>], at: usize) -> Option<Image> {
    let mut before = lines[..=at].iter().rev().take_while(|line| line.path == lines[at].path);
    let header = before.find(|line| line.offset == 0 && !line.path.is_empty())?;
    // The kernel copies: the image may be unloaded meanwhile.
    Image::read(header.start as usize, usize::MAX, extra::read_memory)
}

fn lines_of(text: &[u8]) -> Result<Vec<Line<'_>>, SinkError> {
    let mut lines = Vec::new();
    for line in text.split(|&b| b == b'\n').filter_map(Line::parse) {
        lines.try_reserve(1).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        lines.push(line);
    }
    Ok(lines)
}

/// Hands the list of all mappings out as the kernel writes it, and lines for what [`unloaded`] tells of.
pub fn as_text(mut put: impl FnMut(&[u8]) -> Result<(), SinkError>) -> Result<(), SinkError> {
    let Some(text) = list()? else { return Ok(()) };
    put(&text)?;
    unloaded(&lines_of(&text)?, |mapping| {
        let [start, limit, offset] = [mapping.start, mapping.limit, mapping.offset].map(Decimal::hex);
        for part in
            [start.as_bytes(), b"-", limit.as_bytes(), b" r-xp ", offset.as_bytes(), b" 00:00 0 ", mapping.path, b"\n"]
        {
            put(part)?;
        }
        Ok(())
    })
    .map(drop)
}

/// Hands out the code of modules that stacks have met and that are not among the mappings; of two in one place the newer.
/// Returns those whose place another one has: by their build ids, since the loader's paths are not the kernel's.
fn unloaded(
    lines: &[Line<'_>],
    mut take: impl FnMut(&Mapping<'_>) -> Result<(), SinkError>,
) -> Result<Vec<unwind::Met>, SinkError> {
    let (mut taken, mut replaced) = (Vec::<unwind::Met>::new(), Vec::new());
    for module in unwind::met().filter(|module| !module.path().is_empty()) {
        let unwind::Met { start, limit, offset, .. } = module;
        let is_apart = |from: u64, to: u64| to <= start || limit <= from;
        let is_other =
            |build_id: &[u8]| ![build_id, module.build_id()].contains(&&[][..]) && build_id != module.build_id();
        let line = lines.iter().position(|line| line.executable && !is_apart(line.start, line.limit));
        let newer = taken.iter().find(|newer| !is_apart(newer.start, newer.limit));
        if line.is_some() || newer.is_some() {
            let has_other = newer.is_some_and(|newer| is_other(newer.build_id()))
                || line.and_then(|at| image_of(lines, at)).is_some_and(|image| is_other(image.build_id()));
            if has_other {
                replaced.try_reserve(1).map_err(|_| SinkError::OUT_OF_MEMORY)?;
                replaced.push(module);
            }
            continue;
        }
        taken.try_reserve(1).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        taken.push(module);
        let mut buffer = [0u8; 4096];
        let path = absolute(module.path(), &mut buffer);
        take(&Mapping { start, limit, offset, path, build_id: module.build_id() })?;
    }
    Ok(replaced)
}

/// A path as it is, or seen from the present directory, which a program may have changed since: better than nothing. Longer
/// than the buffer it isn't made.
fn absolute<'a>(path: &'a [u8], buffer: &'a mut [u8]) -> &'a [u8] {
    if path.starts_with(b"/") {
        return path;
    }
    let length = extra::read_link(own_file(c"/proc/self/cwd", c"/proc/thread-self/cwd"), buffer).map_or(0, <[u8]>::len);
    let path_in_it = path.strip_prefix(b"./").unwrap_or(path);
    let end = length + 1 + path_in_it.len();
    if length == 0 || end > buffer.len() {
        return path;
    }
    buffer[length] = b'/';
    buffer[length + 1..end].copy_from_slice(path_in_it);
    &buffer[..end]
}

const DELETED: &[u8] = b" (deleted)";

/// A mapping, as the kernel's lists have it.
pub struct Line<'a> {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub limit: u64,
    offset: u64,
    executable: bool,
    /// Its file, or what else it is; may be empty.
    pub path: &'a [u8],
    /// The same with what the kernel adds to the path of a file that isn't there any more.
    listed: &'a [u8],
}

impl<'a> Line<'a> {
    /// `START-END PERMISSIONS OFFSET DEVICE INODE   PATH`.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut rest = line;
        let mut field = || {
            let skipped = rest.iter().take_while(|&&b| b == b' ').count();
            rest = &rest[skipped..];
            let length = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
            let (field, after) = rest.split_at(length);
            rest = after;
            field
        };
        let (range, permissions, offset) = (field(), field(), field());
        field();
        field();
        let spaces = rest.iter().take_while(|&&b| b == b' ').count();
        let listed = &rest[spaces..];
        let dash = range.iter().position(|&b| b == b'-')?;
        Some(Line {
            start: hex(&range[..dash])?,
            limit: hex(&range[dash + 1..])?,
            offset: hex(offset)?,
            executable: permissions.get(2) == Some(&b'x'),
            path: listed.strip_suffix(DELETED).unwrap_or(listed),
            listed,
        })
    }
}

/// The decimal number at the start of a text.
pub fn decimal(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    core::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &b| n.checked_mul(16)?.checked_add((b as char).to_digit(16)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_comes_first() {
        let mut paths = std::vec::Vec::new();
        let mut libc_id = 0;
        executable(|mapping| {
            assert!(mapping.start % 4096 == 0 && mapping.limit > mapping.start);
            paths.push(mapping.path.to_vec());
            if mapping.path.ends_with(b"libc.so.6") {
                libc_id = mapping.build_id.len();
            }
            Ok(())
        })
        .unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(paths[0], exe.as_os_str().as_encoded_bytes());
        assert_eq!(libc_id, 20);
        assert!(paths.iter().any(|path| path == b"[vdso]"));
    }

    #[test]
    fn a_file_that_is_gone_says_so_where_no_build_id_tells() {
        let scratch = tempfile::TempDir::with_prefix("heapsift-maps-").unwrap();
        let path = scratch.path().join("gone");
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for (content, listed) in [(&own[..], ""), (&[0; 4096], " (deleted)")] {
            std::fs::write(&path, content).unwrap();
            let file = std::fs::File::open(&path).unwrap();
            let access = libc::PROT_READ | libc::PROT_EXEC;
            let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
            // SAFETY: the kernel chooses the place, and what lies there is neither run nor changed.
            let at = unsafe { libc::mmap(core::ptr::null_mut(), content.len(), access, libc::MAP_PRIVATE, fd, 0) };
            assert_ne!(at, libc::MAP_FAILED);
            std::fs::remove_file(&path).unwrap();
            let mut found = None;
            executable(|mapping| {
                if mapping.start == at as u64 {
                    found = Some((mapping.path.to_vec(), mapping.build_id.is_empty()));
                }
                Ok(())
            })
            .unwrap();
            let wanted = std::format!("{}{listed}", path.display()).into_bytes();
            assert_eq!(found, Some((wanted, !listed.is_empty())));
            // SAFETY: the mapping is the one made above, which nothing refers to.
            unsafe { libc::munmap(at, content.len()) };
        }
    }

    #[test]
    fn lines() {
        let line = Line::parse(b"7f00-8000 r-xp 00001000 08:01 42       /usr/lib/a b.so (deleted)").unwrap();
        assert_eq!((line.start, line.limit, line.offset, line.executable), (0x7f00, 0x8000, 0x1000, true));
        assert_eq!((line.path, line.listed), (&b"/usr/lib/a b.so"[..], &b"/usr/lib/a b.so (deleted)"[..]));
        assert!(Line::parse(b"").is_none());
    }
}
