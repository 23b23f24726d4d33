//! The units of a binary's debug information, and which addresses each of them claims.

use std::sync::{Arc, OnceLock};

use gimli::{Abbreviations, AttributeValue, DebugInfoOffset, UnitRef, UnitType};

use super::reader::{Dwarf, Piece, Reader, Unit};
use super::walk::Ranges;

/// All units but those of types, by offset.
#[derive(Debug, Default)]
pub struct Units {
    offsets: Vec<usize>,
    /// Read once, by whoever needs them first.
    abbreviations: Vec<OnceLock<Arc<Abbreviations>>>,
    is_complete: bool,
}

/// Address ranges, each with its unit's position.
pub type Owned = Vec<(gimli::Range, u32)>;

impl Units {
    /// Reads where the units are.
    pub fn new(dwarf: &Dwarf<'_, '_>) -> Self {
        let mut this = Self { is_complete: true, ..Self::default() };
        let mut headers = dwarf.units();
        loop {
            match headers.next() {
                Ok(Some(header)) => {
                    let is_of_types = matches!(header.type_(), UnitType::Type { .. } | UnitType::SplitType { .. });
                    this.offsets.extend(header.debug_info_offset().filter(|_| !is_of_types).map(|offset| offset.0));
                }
                Ok(None) => break,
                Err(_) => {
                    this.is_complete = false;
                    break;
                }
            }
        }
        this.abbreviations.resize_with(this.offsets.len(), OnceLock::new);
        this
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether all of them have been found.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Where a unit begins in `.debug_info`.
    pub fn offset(&self, position: usize) -> Option<DebugInfoOffset> {
        self.offsets.get(position).copied().map(DebugInfoOffset)
    }

    /// The abbreviations of a unit, once they are there.
    pub fn abbreviations(&self, position: usize) -> Option<&OnceLock<Arc<Abbreviations>>> {
        self.abbreviations.get(position)
    }

    /// The position of the unit that an offset in `.debug_info` lies in, and where that begins.
    pub fn locate(&self, offset: DebugInfoOffset) -> Option<(usize, DebugInfoOffset)> {
        let position = self.offsets.partition_point(|&start| start <= offset.0).checked_sub(1)?;
        Some((position, DebugInfoOffset(self.offsets[position])))
    }
}

/// Notes the ranges of a unit; whether everything that may hold code is understood.
pub fn claim<'a>(
    reader: &mut Reader<'_, 'a, '_>,
    position: usize,
    aranges: &[(usize, gimli::Range)],
    owned: &mut Owned,
) -> bool {
    match ranges(reader, position, aranges, owned) {
        Ok(true) => true,
        // Nothing is said of its code: it lies where its lines are.
        Ok(false) => reader
            .unit(position)
            .is_some_and(|unit| sequences(&unit, |range| owned.push((range, position as u32))).is_ok()),
        Err(_) => false,
    }
}

/// Calls `take` with each range that a unit's line table is about.
fn sequences(unit: &Unit<'_, '_>, mut take: impl FnMut(gimli::Range)) -> gimli::Result<()> {
    let Some(program) = unit.line_program.clone() else { return Ok(()) };
    let mut rows = program.rows();
    let mut begin = None;
    while let Some((_, row)) = rows.next_row()? {
        let first = *begin.get_or_insert(row.address());
        if row.end_sequence() {
            if first < row.address() {
                take(gimli::Range { begin: first, end: row.address() });
            }
            begin = None;
        }
    }
    Ok(())
}

/// Notes the ranges of a unit; whether there are any, or it may have none. `DW_AT_ranges` is believed first, then
/// `.debug_aranges`, which may know more than a single range.
fn ranges<'a>(
    reader: &mut Reader<'_, 'a, '_>,
    position: usize,
    aranges: &[(usize, gimli::Range)],
    owned: &mut Owned,
) -> gimli::Result<bool> {
    let (header, abbreviations) = reader.head(position)?;
    if header.type_() == UnitType::Partial {
        return Ok(true);
    }
    let mut entries = header.entries_raw(&abbreviations, None)?;
    let Some(abbreviation) = entries.read_abbreviation()? else { return Ok(false) };
    let has_list = abbreviation.attributes().iter().any(|spec| spec.name() == gimli::DW_AT_ranges);
    let before = owned.len();
    let number = position as u32;
    if !has_list {
        let start = header.debug_info_offset().map_or(0, |offset| offset.0);
        let first = aranges.partition_point(|(of, _)| *of < start);
        let listed = aranges[first..].iter().take_while(|(of, _)| *of == start);
        owned.extend(listed.map(|(_, range)| (*range, number)));
        if owned.len() > before {
            return Ok(true);
        }
    }
    // What lists and indices count from is known to whole units only.
    let (mut low, mut high) = (None, None);
    for &spec in abbreviation.attributes() {
        let attribute = entries.read_attribute(spec)?;
        match attribute.name() {
            gimli::DW_AT_low_pc => low = Some(attribute.value()),
            gimli::DW_AT_high_pc => high = Some(attribute.value()),
            _ => {}
        }
    }
    if let (false, Some(AttributeValue::Addr(begin)), Some(AttributeValue::Udata(count))) = (has_list, low, high) {
        let end = begin.wrapping_add(count);
        if begin < end {
            owned.push((gimli::Range { begin, end }, number));
        }
        return Ok(begin < end);
    }
    let Some(unit) = reader.unit(position) else { return Ok(false) };
    let unit = UnitRef::new(reader.dwarf(), &unit);
    let mut entries = unit.entries_raw(None)?;
    let Some(abbreviation) = entries.read_abbreviation()? else { return Ok(false) };
    let mut own = Ranges::default();
    for &spec in abbreviation.attributes() {
        let attribute = entries.read_attribute(spec)?;
        own.take(unit, attribute.name(), attribute.value())?;
    }
    own.each(unit, |range| {
        owned.push((range, number));
        Ok(())
    })?;
    Ok(owned.len() > before)
}

/// Positions of the sorted addresses that lie in a range.
#[inline]
pub fn within(addresses: &[u64], range: &gimli::Range) -> core::ops::Range<usize> {
    let first = addresses.partition_point(|&address| address < range.begin);
    first..first + addresses[first..].partition_point(|&address| address < range.end)
}

/// The ranges of `.debug_aranges` by offset of their unit; what can't be read is left out.
pub fn aranges(dwarf: &Dwarf<'_, '_>) -> Vec<(usize, gimli::Range)> {
    let mut all = Vec::new();
    let mut headers = dwarf.debug_aranges.headers();
    while let Ok(Some(header)) = headers.next() {
        let mut entries = header.entries();
        while let Some(entry) = entries.next().transpose() {
            let Ok(entry) = entry else { continue };
            if entry.length() != 0 {
                all.push((header.debug_info_offset().0, entry.range()));
            }
        }
    }
    all.sort_by_key(|(offset, range)| (*offset, range.begin));
    all
}

/// The address that an attribute's value stands for.
pub fn address<'a, 'm>(
    unit: UnitRef<'_, Piece<'a, 'm>>,
    value: &AttributeValue<Piece<'a, 'm>>,
) -> gimli::Result<Option<u64>> {
    match *value {
        AttributeValue::Addr(address) => Ok(Some(address)),
        AttributeValue::DebugAddrIndex(index) => unit.address(index).map(Some),
        _ => Ok(None),
    }
}
