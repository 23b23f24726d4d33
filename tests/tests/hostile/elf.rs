//! ELF files by hand: one executable piece that is all of the file, and sections, right or wrong as a case wants them.

/// A section.
#[derive(Clone)]
pub struct Section {
    pub name: &'static str,
    pub kind: u32,
    pub flags: u64,
    pub link: u32,
    pub entry_bytes: u64,
    pub data: Vec<u8>,
}

pub const PROGBITS: u32 = 1;
pub const SYMTAB: u32 = 2;
pub const STRTAB: u32 = 3;
pub const NOTE: u32 = 7;
pub const COMPRESSED: u64 = 0x800;

/// Where the fields of the file's header are, and how long they are.
pub const HEADER: [(&str, usize, usize); 14] = [
    ("class", 4, 1),
    ("data", 5, 1),
    ("type", 16, 2),
    ("machine", 18, 2),
    ("version", 20, 4),
    ("entry", 24, 8),
    ("phoff", 32, 8),
    ("shoff", 40, 8),
    ("flags", 48, 4),
    ("ehsize", 52, 2),
    ("phentsize", 54, 2),
    ("phnum", 56, 2),
    ("shentsize", 58, 2),
    ("shnum", 60, 2),
];
/// Those of a section's header.
pub const SECTION: [(&str, usize, usize); 7] = [
    ("name", 0, 4),
    ("type", 4, 4),
    ("flags", 8, 8),
    ("offset", 24, 8),
    ("size", 32, 8),
    ("link", 40, 4),
    ("entsize", 56, 8),
];
/// Those of a program header.
pub const SEGMENT: [(&str, usize, usize); 5] =
    [("type", 0, 4), ("offset", 8, 8), ("vaddr", 16, 8), ("filesz", 32, 8), ("memsz", 40, 8)];

/// Length of the file's header, which the program header follows.
pub const SEGMENT_AT: usize = 64;
const SECTION_BYTES: usize = 64;

/// A file in the making.
#[derive(Clone, Default)]
pub struct Elf {
    sections: Vec<Section>,
}

impl Elf {
    /// With debug information or anything else.
    pub fn section(self, name: &'static str, data: Vec<u8>) -> Self {
        self.with(Section { name, kind: PROGBITS, flags: 0, link: 0, entry_bytes: 0, data })
    }

    /// With any section.
    pub fn with(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// With symbols: name, address, length.
    pub fn symbols(self, symbols: &[(&str, u64, u64)]) -> Self {
        let (mut names, mut table) = (vec![0], vec![0; 24]);
        for &(name, address, length) in symbols {
            table.extend_from_slice(&(names.len() as u32).to_le_bytes());
            // A global function in some section.
            table.extend_from_slice(&[0x12, 0, 1, 0]);
            table.extend_from_slice(&address.to_le_bytes());
            table.extend_from_slice(&length.to_le_bytes());
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        // Sections are numbered from 1; the names come right behind the symbols.
        let link = self.sections.len() as u32 + 2;
        self.with(Section { name: ".symtab", kind: SYMTAB, flags: 0, link, entry_bytes: 24, data: table })
            .with(Section { name: ".strtab", kind: STRTAB, flags: 0, link: 0, entry_bytes: 0, data: names })
    }

    /// With a note.
    pub fn note(self, data: Vec<u8>) -> Self {
        self.with(Section { name: ".note.gnu.build-id", kind: NOTE, flags: 2, link: 0, entry_bytes: 0, data })
    }

    /// The file, and where its section headers begin.
    pub fn build(&self) -> (Vec<u8>, usize) {
        let mut all = self.sections.clone();
        all.push(Section { name: ".shstrtab", kind: STRTAB, flags: 0, link: 0, entry_bytes: 0, data: vec![0] });
        let last = all.len() - 1;
        let mut names = vec![0];
        let name_offsets: Vec<u32> = all
            .iter()
            .map(|section| {
                let offset = names.len() as u32;
                names.extend_from_slice(section.name.as_bytes());
                names.push(0);
                offset
            })
            .collect();
        all[last].data = names;
        let mut file = vec![0; SEGMENT_AT + 56];
        let mut headers = vec![0; SECTION_BYTES];
        for (section, name) in all.iter().zip(name_offsets) {
            file.resize(file.len().next_multiple_of(8), 0);
            headers.extend_from_slice(&name.to_le_bytes());
            headers.extend_from_slice(&section.kind.to_le_bytes());
            for word in [section.flags, 0, file.len() as u64, section.data.len() as u64] {
                headers.extend_from_slice(&word.to_le_bytes());
            }
            headers.extend_from_slice(&section.link.to_le_bytes());
            headers.extend_from_slice(&[0; 4]);
            headers.extend_from_slice(&4u64.to_le_bytes());
            headers.extend_from_slice(&section.entry_bytes.to_le_bytes());
            file.extend_from_slice(&section.data);
        }
        file.resize(file.len().next_multiple_of(8), 0);
        let table = file.len();
        file.extend_from_slice(&headers);
        let length = file.len() as u64;
        file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        for (name, value) in [
            ("type", 2),
            ("machine", 62),
            ("version", 1),
            ("phoff", SEGMENT_AT as u64),
            ("shoff", table as u64),
            ("ehsize", 64),
            ("phentsize", 56),
            ("phnum", 1),
            ("shentsize", SECTION_BYTES as u64),
            ("shnum", all.len() as u64 + 1),
        ] {
            let &(_, at, bytes) = HEADER.iter().find(|field| field.0 == name).expect("it is a field");
            patch(&mut file, at, bytes, value);
        }
        patch(&mut file, 62, 2, last as u64 + 1);
        patch(&mut file, SEGMENT_AT, 4, 1);
        // Readable and executable.
        patch(&mut file, SEGMENT_AT + 4, 4, 5);
        patch(&mut file, SEGMENT_AT + 32, 8, length);
        patch(&mut file, SEGMENT_AT + 40, 8, length);
        (file, table)
    }

    /// The file.
    pub fn file(&self) -> Vec<u8> {
        self.build().0
    }
}

/// Changes a number in a file.
pub fn patch(file: &mut [u8], at: usize, bytes: usize, value: u64) {
    file[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
}

/// A note.
pub fn note(name_bytes: u32, data_bytes: u32, kind: u32, rest: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [name_bytes, data_bytes, kind] {
        note.extend_from_slice(&word.to_le_bytes());
    }
    note.extend_from_slice(rest);
    note
}
