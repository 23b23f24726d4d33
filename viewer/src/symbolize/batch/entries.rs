//! A unit's entries one after the other, most of them passed over by what their abbreviation says of their length.
//!
//! What an abbreviation means for that is worked out once, when its first entry is met. Attributes that are wanted are then
//! read by gimli; here only lengths are known, and where the two addresses and the sibling of an entry stand.

use gimli::constants as dw;
use gimli::{Abbreviation, Abbreviations, AttributeSpecification, DwForm, DwTag, Error, UnitHeader, UnitOffset};

use crate::symbolize::meter::{Meter, Metered};

/// Codes that are remembered; compilers count them from 1.
const MAX_CODE: u64 = 1 << 16;

/// What comes behind another in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Bytes(usize),
    Number,
    Text,
    Block1,
    Block2,
    Block4,
    Block,
}

/// A part of an entry, from its first attribute on.
#[derive(Clone, Debug, Default)]
struct Part {
    /// Bytes that are there in any case.
    fixed: usize,
    then: Vec<Piece>,
}

/// An attribute of a known length.
#[derive(Clone, Debug)]
struct Field {
    before: Part,
    bytes: usize,
}

/// What a walk does with entries of an abbreviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A function with code.
    Function,
    /// A function without code: a declaration, or what copies of it have in common.
    Outline,
    /// A call in whose place the function's code is.
    Inlined,
    /// Something with parts of its own that hold no code.
    Closed,
    /// Anything else.
    Other,
}

/// An abbreviation, as far as a walk needs it.
#[derive(Clone, Debug)]
pub struct Kind {
    /// What to do with its entries.
    pub role: Role,
    /// Whether other entries are inside of it.
    pub has_children: bool,
    all: Part,
    sibling: Option<Field>,
    /// The address of its first byte of code, and the number of bytes, if that is how it says where its code is.
    code: Option<(Field, Field)>,
    /// It has forms that only gimli knows.
    is_foreign: bool,
}

/// The abbreviations of a unit.
#[derive(Debug, Default)]
pub struct Kinds {
    by_code: Vec<Option<Box<Kind>>>,
}

/// A position among the entries of a unit.
pub struct Entries<'u, 'a, 'm> {
    header: &'u UnitHeader<Metered<'a, 'm>>,
    abbreviations: &'u Abbreviations,
    meter: &'m Meter<'m>,
    /// The unit from its start.
    bytes: &'a [u8],
    at: usize,
    depth: isize,
}

/// An entry whose code has been read, and whose attributes come next.
pub struct Entry<'k> {
    /// Where it begins in the unit.
    pub offset: UnitOffset,
    /// How many entries it is inside of.
    pub depth: isize,
    /// Its abbreviation.
    pub kind: &'k Kind,
    /// Where its attributes begin.
    attributes: usize,
}

type Result<T> = gimli::Result<T>;

impl<'u, 'a, 'm> Entries<'u, 'a, 'm> {
    /// From the root of a unit on.
    ///
    /// # Errors
    /// The unit ends before its root.
    pub fn new(
        header: &'u UnitHeader<Metered<'a, 'm>>,
        abbreviations: &'u Abbreviations,
        meter: &'m Meter<'m>,
    ) -> Result<Self> {
        let root = header.root_offset();
        let entries = header.range_from(root..)?.bytes();
        // Offsets count from the unit's start.
        Ok(Self { header, abbreviations, meter, bytes: entries, at: 0, depth: 0 })
    }

    fn start(&self) -> usize {
        self.header.root_offset().0
    }

    /// Whether there are no more.
    pub fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Reads the next entry's code; nothing where it ends those inside of another.
    ///
    /// # Errors
    /// It has no abbreviation, or the limit of work is met.
    #[inline]
    pub fn next<'k>(&mut self, kinds: &'k mut Kinds) -> Result<Option<Entry<'k>>> {
        self.meter.charge(1)?;
        let offset = UnitOffset(self.start() + self.at);
        let code = match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                u64::from(byte)
            }
            _ => self.number()?,
        };
        if code == 0 {
            self.depth -= 1;
            return Ok(None);
        }
        let kind = kinds.get(code, self)?;
        let depth = self.depth;
        self.depth += isize::from(kind.has_children);
        Ok(Some(Entry { offset, depth, kind, attributes: self.at }))
    }

    /// Passes over an entry's attributes.
    ///
    /// # Errors
    /// They reach beyond the unit's end.
    #[inline]
    pub fn skip(&mut self, entry: &Entry<'_>) -> Result<()> {
        if entry.kind.is_foreign {
            return self.skip_foreign(entry);
        }
        self.at = entry.kind.all.end(self.bytes, entry.attributes).ok_or_else(|| self.cut())?;
        Ok(())
    }

    /// Passes over an entry's attributes and all that is inside of it, if it says where that ends; whether it does.
    ///
    /// # Errors
    /// They reach beyond the unit's end.
    #[inline]
    pub fn skip_inside(&mut self, entry: &Entry<'_>) -> Result<bool> {
        self.skip(entry)?;
        let Some(value) = entry.kind.sibling.as_ref().and_then(|field| field.read(self.bytes, entry.attributes)) else {
            return Ok(false);
        };
        let Some(next) = usize::try_from(value).ok().and_then(|next| next.checked_sub(self.start())) else {
            return Ok(false);
        };
        // Never back, whatever the file says.
        if next <= self.at || next > self.bytes.len() {
            return Ok(false);
        }
        (self.at, self.depth) = (next, entry.depth);
        Ok(true)
    }

    /// Where an entry's code is, if its attributes say so in the usual way.
    #[inline]
    pub fn code(&self, entry: &Entry<'_>) -> Option<gimli::Range> {
        let (first, count) = entry.kind.code.as_ref()?;
        let begin = first.read(self.bytes, entry.attributes)?;
        // What was thrown away by the linker begins at -1, and ends before that.
        Some(gimli::Range { begin, end: begin.wrapping_add(count.read(self.bytes, entry.attributes)?) })
    }

    #[cold]
    fn skip_foreign(&mut self, entry: &Entry<'_>) -> Result<()> {
        let mut raw = self.header.entries_raw(self.abbreviations, Some(entry.offset))?;
        if let Some(abbreviation) = raw.read_abbreviation()? {
            raw.skip_attributes(abbreviation.attributes())?;
        }
        self.at = raw.next_offset().0 - self.start();
        Ok(())
    }

    #[cold]
    fn cut(&self) -> Error {
        Error::OffsetOutOfBounds(self.at as u64)
    }

    fn number(&mut self) -> Result<u64> {
        let (value, end) = number(self.bytes, self.at).ok_or_else(|| self.cut())?;
        self.at = end;
        Ok(value)
    }
}

impl Kinds {
    /// Forgets all, for another unit.
    pub fn clear(&mut self) {
        self.by_code.clear();
    }

    #[inline]
    fn get(&mut self, code: u64, entries: &Entries<'_, '_, '_>) -> Result<&Kind> {
        let index = code as usize;
        if !self.by_code.get(index).is_some_and(Option::is_some) {
            self.learn(code, entries)?;
        }
        self.by_code[index].as_deref().ok_or(Error::InvalidAbbreviationCode(code))
    }

    #[cold]
    fn learn(&mut self, code: u64, entries: &Entries<'_, '_, '_>) -> Result<()> {
        let abbreviation = entries.abbreviations.get(code).filter(|_| code <= MAX_CODE);
        let abbreviation = abbreviation.ok_or(Error::InvalidAbbreviationCode(code))?;
        let index = code as usize;
        if index >= self.by_code.len() {
            entries.meter.charge((index + 1 - self.by_code.len()) as u64 / 4)?;
            self.by_code.resize(index + 1, None);
        }
        entries.meter.charge(abbreviation.attributes().len() as u64)?;
        self.by_code[index] = Some(Box::new(Kind::new(abbreviation, entries.header)));
        Ok(())
    }
}

impl Kind {
    fn new(abbreviation: &Abbreviation, header: &UnitHeader<Metered<'_, '_>>) -> Self {
        let mut kind = Self {
            role: Role::Other,
            has_children: abbreviation.has_children(),
            all: Part::default(),
            sibling: None,
            code: None,
            is_foreign: false,
        };
        let (mut first, mut count) = (None, None);
        for spec in abbreviation.attributes() {
            let field = |bytes| Some(Field { before: kind.all.clone(), bytes });
            match (spec.name(), spec.form()) {
                (dw::DW_AT_sibling, dw::DW_FORM_ref1) => kind.sibling = field(1),
                (dw::DW_AT_sibling, dw::DW_FORM_ref2) => kind.sibling = field(2),
                (dw::DW_AT_sibling, dw::DW_FORM_ref4) => kind.sibling = field(4),
                (dw::DW_AT_low_pc, dw::DW_FORM_addr) if header.address_size() == 8 => first = field(8),
                (dw::DW_AT_high_pc, dw::DW_FORM_data4) => count = field(4),
                (dw::DW_AT_high_pc, dw::DW_FORM_data8) => count = field(8),
                _ => {}
            }
            match piece(*spec, header) {
                Some(piece) => kind.all.push(piece),
                None => kind.is_foreign = true,
            }
        }
        let has = |name| abbreviation.attributes().iter().any(|spec| spec.name() == name);
        if kind.is_foreign {
            kind.sibling = None;
        } else if !has(dw::DW_AT_ranges) {
            // A list is believed first.
            kind.code = first.zip(count);
        }
        let has_code = has(dw::DW_AT_low_pc) || has(dw::DW_AT_ranges);
        kind.role = role(abbreviation.tag(), kind.has_children, has_code);
        kind
    }
}

fn role(tag: DwTag, has_children: bool, has_code: bool) -> Role {
    match tag {
        dw::DW_TAG_subprogram if has_code => Role::Function,
        dw::DW_TAG_subprogram => Role::Outline,
        dw::DW_TAG_inlined_subroutine => Role::Inlined,
        dw::DW_TAG_structure_type
        | dw::DW_TAG_class_type
        | dw::DW_TAG_union_type
        | dw::DW_TAG_enumeration_type
        | dw::DW_TAG_subroutine_type
        | dw::DW_TAG_array_type
        | dw::DW_TAG_call_site
        | dw::DW_TAG_GNU_call_site
            if has_children =>
        {
            Role::Closed
        }
        _ => Role::Other,
    }
}

fn piece(spec: AttributeSpecification, header: &UnitHeader<Metered<'_, '_>>) -> Option<Piece> {
    if let Some(bytes) = spec.size(header) {
        return Some(Piece::Bytes(bytes));
    }
    let form: DwForm = spec.form();
    Some(match form {
        dw::DW_FORM_block1 => Piece::Block1,
        dw::DW_FORM_block2 => Piece::Block2,
        dw::DW_FORM_block4 => Piece::Block4,
        dw::DW_FORM_block | dw::DW_FORM_exprloc => Piece::Block,
        dw::DW_FORM_string => Piece::Text,
        dw::DW_FORM_udata
        | dw::DW_FORM_sdata
        | dw::DW_FORM_ref_udata
        | dw::DW_FORM_strx
        | dw::DW_FORM_GNU_str_index
        | dw::DW_FORM_addrx
        | dw::DW_FORM_GNU_addr_index
        | dw::DW_FORM_loclistx
        | dw::DW_FORM_rnglistx => Piece::Number,
        _ => return None,
    })
}

impl Part {
    fn push(&mut self, piece: Piece) {
        match (piece, self.then.last_mut()) {
            (Piece::Bytes(bytes), None) => self.fixed += bytes,
            (Piece::Bytes(bytes), Some(Piece::Bytes(before))) => *before += bytes,
            _ => self.then.push(piece),
        }
    }

    /// Where it ends if it begins at `at`; nothing where that is beyond the last byte.
    #[inline]
    fn end(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let mut at = at + self.fixed;
        for &piece in &self.then {
            at = match piece {
                Piece::Bytes(count) => at + count,
                Piece::Number => at + 1 + bytes.get(at..)?.iter().position(|byte| byte & 0x80 == 0)?,
                Piece::Text => at + 1 + memchr::memchr(0, bytes.get(at..)?)?,
                Piece::Block1 => at + 1 + usize::from(*bytes.get(at)?),
                Piece::Block2 => at + 2 + little(bytes, at, 2)? as usize,
                Piece::Block4 => at + 4 + little(bytes, at, 4)? as usize,
                Piece::Block => {
                    let (count, end) = number(bytes, at)?;
                    end.checked_add(usize::try_from(count).ok()?)?
                }
            };
        }
        (at <= bytes.len()).then_some(at)
    }
}

impl Field {
    #[inline]
    fn read(&self, bytes: &[u8], attributes: usize) -> Option<u64> {
        little(bytes, self.before.end(bytes, attributes)?, self.bytes)
    }
}

/// A little-endian number of up to 8 bytes.
#[inline]
fn little(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    Some(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// A LEB128 number, and where it ends.
#[inline]
fn number(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, &byte) in bytes.get(at..)?.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, at + index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_all_forms() {
        let mut part = Part::default();
        for piece in [Piece::Bytes(2), Piece::Bytes(3), Piece::Number, Piece::Text, Piece::Block1, Piece::Block2] {
            part.push(piece);
        }
        part.push(Piece::Block4);
        part.push(Piece::Bytes(1));
        part.push(Piece::Bytes(1));
        part.push(Piece::Block);
        assert_eq!((part.fixed, part.then.len()), (5, 7));
        let bytes = [
            &[9; 5][..],      // fixed
            &[0x80, 0x81, 1], // number
            b"text\0",
            &[2, 7, 7],             // block1
            &[1, 0, 7],             // block2
            &[3, 0, 0, 0, 7, 7, 7], // block4
            &[5, 5],
            &[0x81, 0x00, 7], // block
        ]
        .concat();
        assert_eq!(part.end(&bytes, 0), Some(bytes.len()));
        for length in 0..bytes.len() {
            assert_eq!(part.end(&bytes[..length], 0), None, "{length}");
        }
        assert_eq!(number(&[0xe5, 0x8e, 0x26], 0), Some((624_485, 3)));
        assert_eq!((number(&[0xff; 20], 0), number(&[], 0)), (None, None));
        assert_eq!(little(&[0, 1, 2, 3, 4], 1, 4), Some(0x0403_0201));
        assert_eq!(little(&[1], 1, 1), None);
    }
}
