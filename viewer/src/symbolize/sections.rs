//! Sections of debug information, inflated where they are compressed.

use std::borrow::Cow;

use gimli::{RunTimeEndian, SectionId as Id};
use object::{Object, ObjectSection};

use super::candidates::Parsed;

/// Bytes of sections that were compressed in the file, together; and so many more for each byte of the file.
const MAX_INFLATED: u64 = 64 << 20;
/// See [`inflated`].
pub const MAX_RATIO: u64 = 32;

/// The sections of debug information.
pub type Sections<'a> = gimli::DwarfSections<Cow<'a, [u8]>>;

/// Those of a file of this length.
///
/// # Errors
/// One is broken, or too large.
pub fn sections<'a>(object: &Parsed<'a>, length: u64) -> Result<Sections<'a>, String> {
    let mut left = inflated(length);
    gimli::DwarfSections::load(|id| {
        if is_needless(id) { Ok(Cow::Borrowed(&[][..])) } else { section(object, id.name(), &mut left) }
    })
}

/// Inflated bytes that a file of this length may have.
pub fn inflated(length: u64) -> u64 {
    MAX_INFLATED.saturating_add(length.saturating_mul(MAX_RATIO))
}

/// Where variables are and what macros say is large, and names nothing.
pub fn is_needless(id: Id) -> bool {
    matches!(id, Id::DebugLoc | Id::DebugLocLists | Id::DebugMacinfo | Id::DebugMacro | Id::DebugTypes | Id::DebugNames)
}

/// A section, inflated where it is compressed, which leaves less for others; nothing where there is none.
///
/// # Errors
/// It is broken, or too large.
pub fn section<'a>(object: &Parsed<'a>, name: &str, left: &mut u64) -> Result<Cow<'a, [u8]>, String> {
    let Some(section) = object.section_by_name(name) else { return Ok(Cow::Borrowed(&[][..])) };
    let data = section.compressed_data().map_err(|error| error.to_string())?;
    if data.format != object::CompressionFormat::None {
        let reason = || format!("{name} is too large when inflated: {} bytes", data.uncompressed_size);
        *left = left.checked_sub(data.uncompressed_size).ok_or_else(reason)?;
    }
    data.decompress().map_err(|error| error.to_string())
}

/// Bytes of all sections.
pub fn length_of<T: AsRef<[u8]>>(sections: &gimli::DwarfSections<T>) -> u64 {
    let mut bytes = 0;
    // An empty section is made of each; what counts is the way there.
    let _ = sections.borrow(|section| {
        bytes += section.as_ref().len() as u64;
        gimli::EndianSlice::new(&[], RunTimeEndian::Little)
    });
    bytes
}
