//! The small ELF file inside of a stripped one (`.gnu_debugdata`): its symbol table has the functions that the dynamic one
//! lacks. Fedora and its kin have one in all their binaries.

use std::io::Read;

use lzma_rust2::XzReader;
use object::{Object, ObjectSection};

use super::candidates::Parsed;

/// Bytes of the file, inflated: those of the largest programs have a few MiB.
const MAX_BYTES: u64 = 64 << 20;
/// KiB of memory for inflating it: the strongest setting of `xz` needs 64 MiB and a bit.
const MAX_WORKING_KIB: u32 = 80 << 10;

/// The file, if there is one; nothing where it is broken, or too large.
pub fn file(object: &Parsed<'_>) -> Option<Vec<u8>> {
    let packed = object.section_by_name(".gnu_debugdata")?.data().ok()?;
    let mut inflated = Vec::new();
    let reader = XzReader::new_mem_limit(packed, true, MAX_WORKING_KIB);
    let bytes = reader.take(MAX_BYTES + 1).read_to_end(&mut inflated).ok()?;
    (bytes as u64 <= MAX_BYTES).then_some(inflated)
}
