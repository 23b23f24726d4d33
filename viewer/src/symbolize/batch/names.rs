//! Names of functions: the linker's where there is one, and of the entry that an entry refers to where it has none.

use gimli::constants as dw;
use gimli::{AttributeValue, UnitOffset, UnitRef};
use hashbrown::HashMap;

use super::reader::{Piece, Reader};

/// References that are followed for one name.
const MAX_STEPS: usize = 16;

/// Names that have been looked up.
#[derive(Default)]
pub struct Names<'a> {
    known: HashMap<(usize, usize), Option<&'a [u8]>>,
}

/// What an entry says of its name.
enum Said<'a, 'm> {
    Name(&'a [u8]),
    /// The entry that has it.
    Elsewhere(AttributeValue<Piece<'a, 'm>>),
    Nothing,
}

impl<'a> Names<'a> {
    /// The name of the function whose entry is there, in the unit at this position.
    pub fn name<'m>(
        &mut self,
        reader: &mut Reader<'_, 'a, 'm>,
        position: usize,
        unit: UnitRef<'_, Piece<'a, 'm>>,
        is_half: bool,
        offset: UnitOffset,
    ) -> Option<&'a [u8]> {
        let key = (position, offset.0);
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        let name = find(reader, unit, is_half, offset).ok().flatten();
        self.known.insert(key, name);
        name
    }
}

fn find<'a, 'm>(
    reader: &mut Reader<'_, 'a, 'm>,
    unit: UnitRef<'_, Piece<'a, 'm>>,
    is_half: bool,
    offset: UnitOffset,
) -> gimli::Result<Option<&'a [u8]>> {
    let dwarf = reader.dwarf();
    let mut said = inside(unit, offset)?;
    let mut in_supplement = false;
    for _ in 0..MAX_STEPS {
        let offset = match said {
            Said::Name(name) => return Ok(Some(name)),
            // The other half of a unit refers to no other.
            Said::Elsewhere(AttributeValue::DebugInfoRef(offset)) if !is_half || in_supplement => offset,
            Said::Elsewhere(AttributeValue::DebugInfoRefSup(offset)) => {
                in_supplement = true;
                offset
            }
            _ => return Ok(None),
        };
        let dwarf = if in_supplement { dwarf.sup() } else { Some(dwarf) };
        let (Some(dwarf), Some((unit, offset))) = (dwarf, reader.referred(in_supplement, offset)) else {
            return Ok(None);
        };
        said = inside(UnitRef::new(dwarf, &unit), offset)?;
    }
    Ok(None)
}

/// What an entry says, or those of the same unit that it refers to.
fn inside<'a, 'm>(unit: UnitRef<'_, Piece<'a, 'm>>, mut offset: UnitOffset) -> gimli::Result<Said<'a, 'm>> {
    for _ in 0..MAX_STEPS {
        match read(unit, offset)? {
            Said::Elsewhere(AttributeValue::UnitRef(next)) => offset = next,
            said => return Ok(said),
        }
    }
    Ok(Said::Nothing)
}

/// What an entry says itself.
fn read<'a, 'm>(unit: UnitRef<'_, Piece<'a, 'm>>, offset: UnitOffset) -> gimli::Result<Said<'a, 'm>> {
    let mut entries = unit.entries_raw(Some(offset))?;
    let Some(abbreviation) = entries.read_abbreviation()? else { return Ok(Said::Nothing) };
    let (mut plain, mut next) = (None, None);
    for &spec in abbreviation.attributes() {
        match spec.name() {
            dw::DW_AT_linkage_name | dw::DW_AT_MIPS_linkage_name => {
                if let Ok(name) = unit.attr_string(entries.read_attribute(spec)?.value()) {
                    return Ok(Said::Name(name.bytes()));
                }
            }
            dw::DW_AT_name => {
                if let Ok(name) = unit.attr_string(entries.read_attribute(spec)?.value()) {
                    plain = Some(name.bytes());
                }
            }
            dw::DW_AT_abstract_origin | dw::DW_AT_specification => {
                next = Some(entries.read_attribute(spec)?.value());
            }
            _ => entries.skip_attributes(&[spec])?,
        }
    }
    Ok(match (plain, next) {
        (Some(name), _) => Said::Name(name),
        (None, Some(next)) => Said::Elsewhere(next),
        (None, None) => Said::Nothing,
    })
}
