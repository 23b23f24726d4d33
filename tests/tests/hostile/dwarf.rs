//! Debug information by hand: DWARF 4 as compilers write it, and as none would.

use crate::elf::Elf;
use crate::wire::Message;

pub const COMPILE_UNIT: u64 = 0x11;
pub const INLINED: u64 = 0x1d;
pub const SUBPROGRAM: u64 = 0x2e;

pub const NAME: u64 = 0x03;
pub const STATEMENTS: u64 = 0x10;
pub const LOW: u64 = 0x11;
pub const HIGH: u64 = 0x12;
pub const ORIGIN: u64 = 0x31;
pub const SPECIFICATION: u64 = 0x47;
pub const RANGES: u64 = 0x55;
pub const DWO_NAME: u64 = 0x2130;
pub const DWO_ID: u64 = 0x2131;

pub const ADDRESS: u64 = 0x01;
pub const DATA8: u64 = 0x07;
pub const STRING: u64 = 0x08;
pub const STRING_AT: u64 = 0x0e;
pub const IN_UNIT: u64 = 0x13;
pub const INDIRECT: u64 = 0x16;
pub const OFFSET: u64 = 0x17;

/// The sections in the making. Numbers are as in [`Message`].
#[derive(Clone, Default)]
pub struct Dwarf {
    pub abbreviations: Message,
    pub info: Message,
    pub lines: Vec<u8>,
    pub ranges: Vec<u8>,
    pub strings: Vec<u8>,
}

impl Dwarf {
    /// One more kind of entry: code, tag, whether it has children, attributes with their forms.
    pub fn abbreviation(mut self, code: u64, tag: u64, children: bool, attributes: &[(u64, u64)]) -> Self {
        let start = self.abbreviations.varint(code).varint(tag).raw(&[u8::from(children)]);
        let with = attributes.iter().fold(start, |m, &(name, form)| m.varint(name).varint(form));
        self.abbreviations = with.raw(&[0, 0]);
        self
    }

    /// One more unit of these entries.
    pub fn unit(self, entries: &[u8]) -> Self {
        self.unit_of(4, 8, entries)
    }

    /// One more unit of any version and size of addresses.
    pub fn unit_of(mut self, version: u16, address_bytes: u8, entries: &[u8]) -> Self {
        let length = entries.len() as u32 + 7;
        let header = self.info.raw(&length.to_le_bytes()).raw(&version.to_le_bytes());
        self.info = header.raw(&[0; 4]).raw(&[address_bytes]).raw(entries);
        self
    }

    /// A file with these sections.
    pub fn elf(self) -> Elf {
        let elf = Elf::default()
            .section(".debug_abbrev", self.abbreviations.raw(&[0]).0)
            .section(".debug_info", self.info.0)
            .section(".debug_line", self.lines)
            .section(".debug_ranges", self.ranges);
        elf.section(".debug_str", self.strings)
    }

    /// The file.
    pub fn file(self) -> Vec<u8> {
        self.elf().file()
    }
}

/// The beginning of a unit that covers everything: code 1, its address and length.
pub fn everything() -> Message {
    Message::default().varint(1).raw(&0u64.to_le_bytes()).raw(&(1u64 << 40).to_le_bytes())
}

/// Sections with the kinds that [`everything`] and the cases use: 1 a unit with addresses; 2 a function with name and
/// addresses; 3 an inlined call with name and addresses; 4 a function that refers to another; 5 a function with ranges; 6 a
/// unit with lines; 7 nested calls without anything; 8 a call that refers to a function; 9 a
/// function with a name apart; 10 a unit whose other half is elsewhere, with name, id and addresses; 11 such a half.
pub fn kinds() -> Dwarf {
    Dwarf::default()
        .abbreviation(1, COMPILE_UNIT, true, &[(LOW, ADDRESS), (HIGH, DATA8)])
        .abbreviation(2, SUBPROGRAM, true, &[(NAME, STRING), (LOW, ADDRESS), (HIGH, DATA8)])
        .abbreviation(3, INLINED, true, &[(NAME, STRING_AT), (LOW, ADDRESS), (HIGH, DATA8)])
        .abbreviation(4, SUBPROGRAM, false, &[(ORIGIN, IN_UNIT), (LOW, ADDRESS), (HIGH, DATA8)])
        .abbreviation(5, SUBPROGRAM, false, &[(NAME, STRING), (RANGES, OFFSET)])
        .abbreviation(6, COMPILE_UNIT, false, &[(LOW, ADDRESS), (HIGH, DATA8), (STATEMENTS, OFFSET)])
        .abbreviation(7, INLINED, true, &[])
        .abbreviation(8, SUBPROGRAM, false, &[(SPECIFICATION, IN_UNIT), (LOW, ADDRESS), (HIGH, DATA8)])
        .abbreviation(9, SUBPROGRAM, true, &[(NAME, STRING_AT), (LOW, ADDRESS), (HIGH, DATA8)])
        .abbreviation(10, COMPILE_UNIT, false, &[(DWO_NAME, STRING), (DWO_ID, DATA8), (LOW, ADDRESS), (HIGH, DATA8)])
        .abbreviation(11, COMPILE_UNIT, true, &[(DWO_ID, DATA8)])
}

/// A function of this kind with its addresses; what names it goes between.
pub fn function(kind: u64, name: &[u8], low: u64, length: u64) -> Message {
    Message::default().varint(kind).raw(name).raw(&low.to_le_bytes()).raw(&length.to_le_bytes())
}

/// A table of lines, DWARF 4: so many rows, one byte for each.
pub fn lines(rows: usize, range: u8, instruction_bytes: u8) -> Vec<u8> {
    // Directories: none. Files: a.c.
    let tables = b"\0a.c\0\0\0\0\0";
    let opcodes = [0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1];
    let mut header = vec![instruction_bytes, 1, 1, 0xfb, range, 13];
    header.extend_from_slice(&opcodes);
    header.extend_from_slice(tables);
    // Address 0x1000, then rows, then the end of the sequence.
    let mut program = vec![0, 9, 2];
    program.extend_from_slice(&0x1000u64.to_le_bytes());
    program.resize(program.len() + rows, 0x20);
    program.extend_from_slice(&[0, 1, 1]);
    let mut table = Vec::new();
    table.extend_from_slice(&((6 + header.len() + program.len()) as u32).to_le_bytes());
    table.extend_from_slice(&4u16.to_le_bytes());
    table.extend_from_slice(&(header.len() as u32).to_le_bytes());
    table.extend_from_slice(&header);
    table.extend_from_slice(&program);
    table
}
