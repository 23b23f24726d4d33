//! The executable mappings of this process, with build ids, for a dump.

use alloc::vec::Vec;

use alloc_core::sys::{self, extra};
use pprof_export::writer::{Mapping, SinkError};

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

/// Hands out all executable mappings, those of the program's own binary first.
pub fn executable(mut take: impl FnMut(&Mapping<'_>) -> Result<(), SinkError>) -> Result<(), SinkError> {
    let text = match read_file(c"/proc/self/maps") {
        Ok(text) => text,
        Err(SinkError::OUT_OF_MEMORY) => return Err(SinkError::OUT_OF_MEMORY),
        // No /proc: addresses without mappings are better than no dump.
        Err(_) => return Ok(()),
    };
    let mut lines: Vec<Line<'_>> = Vec::new();
    for line in text.split(|&b| b == b'\n').filter_map(Line::parse) {
        lines.try_reserve(1).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        lines.push(line);
    }
    let mut buffer = [0u8; 4096];
    let program = extra::read_link(c"/proc/self/exe", &mut buffer).unwrap_or(b"");
    let program = program.strip_suffix(DELETED).unwrap_or(program);
    let mut header: Option<&Line<'_>> = None;
    for own in [true, false] {
        for line in &lines {
            if line.offset == 0 && !line.path.is_empty() {
                // The file's first mapping begins with its ELF header.
                header = Some(line);
            }
            if !line.executable || (line.path == program) != own {
                continue;
            }
            let mut room = [0; BUILD_ID_MAX];
            let build_id = match header {
                Some(header) if header.path == line.path => build_id(header.start as usize, &mut room).unwrap_or(0),
                _ => 0,
            };
            let path = if line.path.is_empty() { b"//anon" } else { line.path };
            let Line { start, limit, offset, .. } = *line;
            take(&Mapping { start, limit, offset, path, build_id: &room[..build_id] })?;
        }
    }
    Ok(())
}

const DELETED: &[u8] = b" (deleted)";
/// Longest build id that is read, in bytes; usual are 20.
const BUILD_ID_MAX: usize = 64;

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
        let path = &rest[spaces..];
        let dash = range.iter().position(|&b| b == b'-')?;
        Some(Line {
            start: hex(&range[..dash])?,
            limit: hex(&range[dash + 1..])?,
            offset: hex(offset)?,
            executable: permissions.get(2) == Some(&b'x'),
            path: path.strip_suffix(DELETED).unwrap_or(path),
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

/// Puts the build id of the ELF image whose header is at `address` into `room` and returns its length. Memory is copied
/// by the kernel: the image may be unloaded meanwhile.
fn build_id(address: usize, room: &mut [u8; BUILD_ID_MAX]) -> Option<usize> {
    let mut header = [0u8; 64];
    if extra::read_memory(address, &mut header) != header.len() || header[..5] != *b"\x7fELF\x02" {
        return None;
    }
    let word = |bytes: &[u8], at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let half = |bytes: &[u8], at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let table = word(&header, 32)? as usize;
    let count = u16::from_le_bytes([header[56], header[57]]).min(64) as usize;
    const PT_LOAD: u32 = 1;
    const PT_NOTE: u32 = 4;
    let mut bias = None;
    for pass in 0..2 {
        for i in 0..count {
            let mut entry = [0u8; 56];
            if extra::read_memory(address.checked_add(table)?.checked_add(i * 56)?, &mut entry) != entry.len() {
                return None;
            }
            let (kind, offset, vaddr) = (half(&entry, 0)?, word(&entry, 8)?, word(&entry, 16)?);
            if pass == 0 && kind == PT_LOAD && offset == 0 {
                bias = Some((address as u64).wrapping_sub(vaddr));
            }
            if pass == 1 && kind == PT_NOTE {
                let mut notes = [0u8; 1024];
                let length = (word(&entry, 32)? as usize).min(notes.len());
                let at = bias?.wrapping_add(vaddr) as usize;
                let got = extra::read_memory(at, &mut notes[..length]);
                if let Some(id) = build_id_note(&notes[..got.min(length)]) {
                    room[..id.len()].copy_from_slice(id);
                    return Some(id.len());
                }
            }
        }
    }
    None
}

/// Finds `NT_GNU_BUILD_ID` among ELF notes.
pub fn build_id_note(mut notes: &[u8]) -> Option<&[u8]> {
    const NT_GNU_BUILD_ID: u32 = 3;
    while notes.len() >= 12 {
        let number = |at: usize| u32::from_le_bytes([notes[at], notes[at + 1], notes[at + 2], notes[at + 3]]);
        let (name_length, length, kind) = (number(0) as usize, number(4) as usize, number(8));
        let name = notes.get(12..12usize.checked_add(name_length)?)?;
        let start = 12 + name_length.checked_next_multiple_of(4)?;
        let data = notes.get(start..start.checked_add(length)?)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && length <= BUILD_ID_MAX {
            return Some(data);
        }
        notes = notes.get(start.checked_add(length.checked_next_multiple_of(4)?)?..)?;
    }
    None
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
    fn notes() {
        let note = |name: &[u8; 4], kind: u32, data: &[u8]| {
            let mut note = std::vec::Vec::new();
            for number in [4, data.len() as u32, kind] {
                note.extend_from_slice(&number.to_le_bytes());
            }
            note.extend_from_slice(name);
            note.extend_from_slice(data);
            note.resize(note.len().next_multiple_of(4), 0);
            note
        };
        let mut notes = note(b"GNU\0", 1, &[9; 5]);
        notes.extend(note(b"GNU\0", 3, &[1, 2, 3]));
        assert_eq!(build_id_note(&notes), Some(&[1, 2, 3][..]));
        for cut in 0..notes.len() - 1 {
            assert_eq!(build_id_note(&notes[..cut]), None, "{cut}");
        }
        assert_eq!(build_id_note(&note(b"Gnu\0", 3, &[1])), None);
        assert_eq!(build_id_note(&[0xff; 100]), None);
    }

    #[test]
    fn lines() {
        let line = Line::parse(b"7f00-8000 r-xp 00001000 08:01 42       /usr/lib/a b.so (deleted)").unwrap();
        assert_eq!((line.start, line.limit, line.offset, line.executable), (0x7f00, 0x8000, 0x1000, true));
        assert_eq!(line.path, b"/usr/lib/a b.so");
        assert!(Line::parse(b"").is_none());
    }
}
