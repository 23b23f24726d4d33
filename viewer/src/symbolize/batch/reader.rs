//! A thread's view of a binary's debug information: its own sections, charged to its own meter.

use std::rc::Rc;
use std::sync::Arc;

use gimli::{Abbreviations, DebugInfoOffset, Error, UnitHeader, UnitOffset};
use hashbrown::HashMap;

use super::Source;
use super::units::Units;
use crate::symbolize::meter::{Meter, Metered};
use crate::symbolize::split::{Packed, Split};

/// A piece of a section.
pub type Piece<'a, 'm> = Metered<'a, 'm>;
/// The sections of a binary.
pub type Dwarf<'a, 'm> = gimli::Dwarf<Piece<'a, 'm>>;
/// A unit.
pub type Unit<'a, 'm> = gimli::Unit<Piece<'a, 'm>>;

/// Units that are kept for others that refer to them.
const KEPT: usize = 256;

/// What one thread reads.
pub struct Reader<'u, 'a, 'm> {
    units: &'u Units,
    dwarf: &'u Dwarf<'a, 'm>,
    split: &'u Split<'a>,
    packed: Option<Packed<'a, 'm>>,
    meter: &'m Meter<'m>,
    /// Units that others refer to: whether of the supplementary file, and where they begin.
    kept: HashMap<(bool, usize), Rc<Unit<'a, 'm>>>,
    /// The units of the supplementary file, once they are needed.
    supplement: Option<Units>,
    /// The last that were read, and where they stand: units may share them.
    abbreviations: Option<(usize, Arc<Abbreviations>)>,
}

impl<'a> Source<'a> {
    /// The sections as a thread with this meter sees them.
    pub fn dwarf<'m>(&self, meter: &'m Meter<'m>) -> Dwarf<'a, 'm> {
        let reader =
            |section: &'a std::borrow::Cow<'_, [u8]>| Metered::new(section, gimli::RunTimeEndian::Little, meter);
        self.sections.borrow_with_sup(self.shared, reader)
    }
}

impl<'u, 'a, 'm> Reader<'u, 'a, 'm> {
    /// For these units of these sections.
    pub fn new(units: &'u Units, dwarf: &'u Dwarf<'a, 'm>, split: &'u Split<'a>, meter: &'m Meter<'m>) -> Self {
        let packed = split.packed(meter);
        Self { units, dwarf, split, packed, meter, kept: HashMap::new(), supplement: None, abbreviations: None }
    }

    /// The sections.
    pub fn dwarf(&self) -> &'u Dwarf<'a, 'm> {
        self.dwarf
    }

    /// What the reading is charged to.
    pub fn meter(&self) -> &'m Meter<'m> {
        self.meter
    }

    /// A unit's header and abbreviations.
    ///
    /// # Errors
    /// They are broken.
    pub fn head(&mut self, position: usize) -> gimli::Result<(UnitHeader<Piece<'a, 'm>>, Arc<Abbreviations>)> {
        let offset = self.units.offset(position).ok_or(Error::MissingUnitDie)?;
        let header = self.dwarf.unit_header(offset)?;
        let known = self.units.abbreviations(position).ok_or(Error::MissingUnitDie)?;
        if let Some(known) = known.get() {
            return Ok((header, Arc::clone(known)));
        }
        let place = header.debug_abbrev_offset().0;
        let abbreviations = match &self.abbreviations {
            Some((last, shared)) if *last == place => Arc::clone(shared),
            _ => Arc::new(header.abbreviations(&self.dwarf.debug_abbrev)?),
        };
        self.abbreviations = Some((place, Arc::clone(&abbreviations)));
        Ok((header, Arc::clone(known.get_or_init(|| abbreviations))))
    }

    /// A unit, read anew.
    pub fn unit(&mut self, position: usize) -> Option<Unit<'a, 'm>> {
        let (header, abbreviations) = self.head(position).ok()?;
        Unit::new_with_abbreviations(self.dwarf, header, abbreviations).ok()
    }

    /// The other half of a unit, with its sections; nothing where it is whole, or that is not there.
    ///
    /// # Errors
    /// It is broken.
    pub fn half(&self, skeleton: &Unit<'a, 'm>) -> gimli::Result<Option<(Dwarf<'a, 'm>, Unit<'a, 'm>)>> {
        let Some(id) = skeleton.dwo_id else { return Ok(None) };
        let name = match skeleton.dwo_name()? {
            Some(name) => Some(self.dwarf.attr_string(skeleton, name)?),
            None => None,
        };
        let place = (skeleton.comp_dir, name);
        let Some(dwarf) = self.split.half(self.dwarf, self.packed.as_ref(), id, place, self.meter) else {
            return Ok(None);
        };
        let Some(header) = dwarf.units().next()? else { return Ok(None) };
        let mut unit = dwarf.unit(header)?;
        unit.copy_relocated_attributes(skeleton);
        Ok(Some((dwarf, unit)))
    }

    /// The unit in which an entry is that another unit refers to, of this file or of the supplementary one, and where in it.
    pub fn referred(&mut self, in_supplement: bool, offset: DebugInfoOffset) -> Option<(Rc<Unit<'a, 'm>>, UnitOffset)> {
        let (_, start) = if in_supplement {
            let sup = self.dwarf.sup()?;
            self.supplement.get_or_insert_with(|| Units::new(sup)).locate(offset)?
        } else {
            self.units.locate(offset)?
        };
        let key = (in_supplement, start.0);
        let unit = match self.kept.get(&key) {
            Some(unit) => Rc::clone(unit),
            None => {
                let dwarf = if in_supplement { self.dwarf.sup()? } else { self.dwarf };
                let unit = Rc::new(dwarf.unit(dwarf.unit_header(start).ok()?).ok()?);
                if self.kept.len() == KEPT {
                    self.kept.clear();
                }
                self.kept.insert(key, Rc::clone(&unit));
                unit
            }
        };
        let offset = offset.to_unit_offset(&unit.header)?;
        Some((unit, offset))
    }
}
