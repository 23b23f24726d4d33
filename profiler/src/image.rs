//! What the ELF image of a loaded module says of itself.

use alloc_core::sys;

/// Longest build id that is read, in bytes; usual are 20.
pub const BUILD_ID_MAX: usize = 64;

/// Where a module's code lies, and which build it is.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// First address of the code's mapping.
    pub start: u64,
    /// One past the last.
    pub limit: u64,
    /// Where the mapping begins in the file.
    pub offset: u64,
    /// Where the build id is; 0 where there is none.
    pub build_id_at: usize,
    build_id: [u8; BUILD_ID_MAX],
    build_id_length: usize,
}

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const EXECUTABLE: u32 = 1;
const READABLE: u32 = 4;
/// Program headers that are looked at, at most.
const HEADERS_MAX: u16 = 64;

struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
}

impl Image {
    /// Reads the image whose header is at `address`, with a table of segments that ends within `table_within` bytes from
    /// there. `copy` takes bytes from an address, and returns how many it got: it is asked for the header, the table, and
    /// what that says can be read.
    pub fn read(address: usize, table_within: usize, copy: impl Fn(usize, &mut [u8]) -> usize) -> Option<Self> {
        let mut header = [0u8; 64];
        if copy(address, &mut header) != header.len() || header[..5] != *b"\x7fELF\x02" {
            return None;
        }
        let (offset, count) = (number(&header, 32)? as usize, u16::from_le_bytes([header[56], header[57]]));
        let count = usize::from(count.min(HEADERS_MAX));
        if offset.checked_add(count * 56)? > table_within {
            return None;
        }
        let table = address.checked_add(offset)?;
        let segments = || (0..count).map_while(|i| Segment::read(table.checked_add(i * 56)?, &copy));
        let loaded = || segments().filter(|segment| segment.kind == PT_LOAD);
        let bias = (address as u64).wrapping_sub(loaded().find(|segment| segment.offset == 0)?.address);
        let code = loaded().find(|segment| segment.flags & EXECUTABLE != 0)?;
        // Mappings are whole pages.
        let below = code.address % sys::PAGE as u64;
        let start = bias.wrapping_add(code.address - below);
        let mut image = Image {
            start,
            limit: start.checked_add(below)?.checked_add(code.in_memory)?.checked_next_multiple_of(sys::PAGE as u64)?,
            offset: code.offset.saturating_sub(below),
            build_id_at: 0,
            build_id: [0; BUILD_ID_MAX],
            build_id_length: 0,
        };
        for notes in segments().filter(|segment| segment.kind == PT_NOTE) {
            let is_there = loaded().any(|segment| segment.flags & READABLE != 0 && segment.holds(&notes));
            let mut bytes = [0u8; 1024];
            let length = (notes.in_file as usize).min(bytes.len());
            let notes_at = bias.wrapping_add(notes.address) as usize;
            if !is_there || copy(notes_at, &mut bytes[..length]) != length {
                continue;
            }
            if let Some(id) = build_id_note(&bytes[..length]) {
                image.build_id_at = notes_at + (id.as_ptr().addr() - bytes.as_ptr().addr());
                image.build_id[..id.len()].copy_from_slice(id);
                image.build_id_length = id.len();
                break;
            }
        }
        Some(image)
    }

    /// The build id; empty where there is none.
    pub fn build_id(&self) -> &[u8] {
        &self.build_id[..self.build_id_length]
    }
}

impl Segment {
    fn read(address: usize, copy: impl Fn(usize, &mut [u8]) -> usize) -> Option<Self> {
        let mut entry = [0u8; 56];
        if copy(address, &mut entry) != entry.len() {
            return None;
        }
        let half = |at: usize| entry.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        Some(Segment {
            kind: half(0)?,
            flags: half(4)?,
            offset: number(&entry, 8)?,
            address: number(&entry, 16)?,
            in_file: number(&entry, 32)?,
            in_memory: number(&entry, 40)?,
        })
    }

    fn holds(&self, other: &Segment) -> bool {
        let before = other.address.checked_sub(self.address);
        before.is_some_and(|before| self.in_file.checked_sub(before).is_some_and(|rest| other.in_file <= rest))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
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
    fn a_function_of_a_library_is_in_its_code() {
        // Of a library, since the loader maps those in one piece. A program may have a hole before its code, and what holds the
        // function doesn't begin with the header then.
        let here = libc::getpid as *const () as usize;
        let module = crate::unwind::module_of(here);
        // SAFETY: what is asked for is there, in this module.
        let image = Image::read(module.start, sys::PAGE, |at, out| unsafe {
            out.as_mut_ptr().copy_from_nonoverlapping(core::ptr::with_exposed_provenance(at), out.len());
            out.len()
        })
        .expect("an image");
        assert!((image.start..image.limit).contains(&(here as u64)), "{image:?} {here:#x}");
        assert!(image.start >= module.start as u64 && image.limit <= module.end as u64);
        assert_eq!(image.build_id().len(), 20);
        let at: *const [u8; 20] = core::ptr::with_exposed_provenance(image.build_id_at);
        // SAFETY: the C library stays loaded.
        assert_eq!(image.build_id(), unsafe { *at });
        assert!(Image::read(module.start, 64, |_, out| out.len()).is_none());
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
}
