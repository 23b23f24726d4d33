//! Where a file's contents lie in memory: from addresses of a process to those that the file itself speaks of.

use object::read::elf::{FileHeader, ProgramHeader};

use super::module::Query;
use super::pieces::Pieces;

/// How a file's loadable pieces lie in its own address space.
#[derive(Debug, Default)]
pub struct Segments {
    /// Offset, length in the file, address, length in memory, executable.
    all: Vec<(u64, u64, u64, u64, bool)>,
    /// The offsets are those of the file that was mapped; a debug file's own may be others.
    exact: bool,
}

impl Segments {
    /// Those of this file.
    pub fn read(cache: &Pieces, exact: bool) -> Self {
        let mut all = Vec::new();
        if let Ok(object) = object::read::elf::ElfFile64::<object::Endianness, _>::parse(cache) {
            let endian = object.endian();
            let headers = object.elf_header().program_headers(endian, cache).unwrap_or(&[]);
            for header in headers.iter().filter(|h| h.p_type(endian) == object::elf::PT_LOAD) {
                all.push((
                    header.p_offset(endian),
                    header.p_filesz(endian),
                    header.p_vaddr(endian),
                    header.p_memsz(endian),
                    header.p_flags(endian).0 & object::elf::PF_X.0 != 0,
                ));
            }
        }
        Self { all, exact }
    }

    /// An address in the process as one in the file's address space.
    pub fn translate(&self, query: &Query) -> Option<u64> {
        let (start, limit, offset) = query.mapping;
        if !(start..limit).contains(&query.address) {
            return None;
        }
        let distance = query.address - start;
        // Already in the file's address space, as some producers normalize it.
        if start == 0 && limit == u64::MAX {
            return Some(query.address);
        }
        if self.exact {
            let in_file = offset.checked_add(distance)?;
            // Mappings are whole pages, so a segment begins up to a page before its first byte.
            let covers = |&&(offset, length, _, _, executable): &&(u64, u64, u64, u64, bool)| {
                executable && in_file >= offset & !0xfff && in_file < offset.saturating_add(length)
            };
            let &(offset, _, address, _, _) = self.all.iter().find(covers)?;
            return Some(address.wrapping_add(in_file.wrapping_sub(offset)));
        }
        // A debug file keeps addresses but not offsets: the mapping starts where the only executable
        // segment does.
        let mut executable = self.all.iter().filter(|segment| segment.4);
        let &(_, _, address, length, _) = executable.next()?;
        if executable.next().is_some() || distance > length.saturating_add(0xfff) {
            return None;
        }
        Some((address & !0xfff).wrapping_add(distance))
    }
}
