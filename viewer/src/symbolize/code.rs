//! Where a file's code is, as its section headers say.
//!
//! Debug information also tells of functions that the linker has thrown away. Some linkers put these at -1, others at 0,
//! from where they reach into code that is there if they are long.

use std::ops::Range;

use object::elf::SHF_EXECINSTR;
use object::{Object, ObjectSection, ReadRef, SectionFlags};

/// The executable sections of a file.
#[derive(Debug, Default)]
pub struct Code {
    /// Sorted by their beginnings.
    sections: Vec<Range<u64>>,
}

impl Code {
    /// Those of this file. A debug file has their headers too.
    pub fn of<'d, R: ReadRef<'d>>(object: &object::File<'d, R>) -> Self {
        let is_executable = |flags| match flags {
            SectionFlags::Elf { sh_flags, .. } => sh_flags.contains(SHF_EXECINSTR),
            _ => false,
        };
        let executable = object.sections().filter(|section| is_executable(section.flags()));
        let mut sections: Vec<_> =
            executable.map(|section| section.address()..section.address().saturating_add(section.size())).collect();
        sections.sort_unstable_by_key(|section| section.start);
        Self { sections }
    }

    /// Whether an address lies in one of them.
    pub fn holds(&self, address: u64) -> bool {
        let behind = self.sections.partition_point(|section| section.start <= address);
        self.sections[..behind].last().is_some_and(|section| address < section.end)
    }

    /// Whether there may be a function at an address: anywhere, where no section is known.
    pub fn may_begin(&self, address: u64) -> bool {
        self.sections.is_empty() || self.holds(address)
    }
}
