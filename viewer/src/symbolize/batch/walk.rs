//! One pass over a unit's entries: which functions, inlined ones too, the wanted addresses lie in.
//!
//! Most of a unit is types, and functions that nobody asked for. Where the compiler says at which offset such an entry
//! ends (`DW_AT_sibling`), it is passed over; an address for which no function is found then is looked for once more in
//! all of the unit.

use gimli::constants as dw;
use gimli::{AttributeValue, UnitOffset, UnitRef};

use super::entries::{Entries, Entry, Kinds, Role};
use super::reader::Piece;
use super::units::{address, within};
use crate::symbolize::code::Code;
use crate::symbolize::meter::Meter;

/// A function at an address, and where it was called if it is inlined.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its entry.
    pub offset: UnitOffset,
    /// Index of the caller's file in the line table.
    pub file: Option<u64>,
    /// The call's line, 0 if unknown.
    pub line: u32,
    /// The call's column, 0 if unknown.
    pub column: u32,
}

/// The functions at each of the sorted `addresses`, outermost first.
///
/// # Errors
/// The unit is broken, or asks for too much.
pub fn chains<'a, 'm>(
    unit: UnitRef<'_, Piece<'a, 'm>>,
    addresses: &[u64],
    code: &Code,
    meter: &'m Meter<'m>,
    kinds: &mut Kinds,
) -> gimli::Result<Vec<Vec<Call>>> {
    let mut first = Walk::new(unit, addresses, code, true, meter);
    first.run(kinds)?;
    let mut chains = first.chains;
    let missing: Vec<usize> = (0..addresses.len()).filter(|&address| chains[address].is_empty()).collect();
    if !missing.is_empty() && first.has_skipped {
        let wanted: Vec<u64> = missing.iter().map(|&address| addresses[address]).collect();
        let mut second = Walk::new(unit, &wanted, code, false, meter);
        second.run(kinds)?;
        for (&address, chain) in missing.iter().zip(second.chains) {
            chains[address] = chain;
        }
    }
    Ok(chains)
}

/// A function with entries inside of it that are read.
struct Scope {
    depth: isize,
    /// Where its addresses begin in [`Walk::hits`]; they end where those of the next scope begin.
    first: usize,
    /// Functions around its children.
    level: usize,
}

struct Walk<'w, 'a, 'm> {
    unit: UnitRef<'w, Piece<'a, 'm>>,
    addresses: &'w [u64],
    code: &'w Code,
    /// Whether entries may be passed over with all that is inside of them.
    skips: bool,
    /// Whether some were.
    has_skipped: bool,
    meter: &'m Meter<'m>,
    chains: Vec<Vec<Call>>,
    scopes: Vec<Scope>,
    /// Positions of addresses, scope by scope, and sorted in each.
    hits: Vec<u32>,
    found: usize,
}

impl<'w, 'a, 'm> Walk<'w, 'a, 'm> {
    fn new(
        unit: UnitRef<'w, Piece<'a, 'm>>,
        addresses: &'w [u64],
        code: &'w Code,
        skips: bool,
        meter: &'m Meter<'m>,
    ) -> Self {
        Self {
            unit,
            addresses,
            code,
            skips,
            has_skipped: false,
            meter,
            chains: vec![Vec::new(); addresses.len()],
            scopes: Vec::new(),
            hits: Vec::new(),
            found: 0,
        }
    }

    fn run(&mut self, kinds: &mut Kinds) -> gimli::Result<()> {
        let unit = self.unit.unit;
        let mut entries = Entries::new(&unit.header, &unit.abbreviations, self.meter)?;
        while !entries.is_empty() {
            let Some(entry) = entries.next(kinds)? else { continue };
            // Blocks inside of a function count too: what is in them is not in the function before them.
            while let Some(scope) = self.scopes.pop_if(|scope| scope.depth >= entry.depth) {
                self.hits.truncate(scope.first);
            }
            if entry.kind.role == Role::Other {
                entries.skip(&entry)?;
                continue;
            }
            if self.scopes.is_empty() && self.found == self.addresses.len() {
                break;
            }
            let is_hit = match entry.kind.role {
                Role::Function | Role::Inlined => {
                    let is_inlined = entry.kind.role == Role::Inlined;
                    self.may_hit(is_inlined, entries.code(&entry)) && self.enter(is_inlined, &entry)?
                }
                _ => false,
            };
            if is_hit || !self.skips || !entry.kind.has_children {
                entries.skip(&entry)?;
            } else if entries.skip_inside(&entry)? {
                self.has_skipped = true;
                continue;
            }
            // What is inside of it is nobody's, unless another function is.
            let is_function = matches!(entry.kind.role, Role::Function | Role::Outline | Role::Inlined);
            if !is_hit && is_function && entry.kind.has_children && !self.scopes.is_empty() {
                self.meter.charge(1)?;
                self.scopes.push(Scope { depth: entry.depth, first: self.hits.len(), level: 0 });
            }
        }
        Ok(())
    }

    /// Where the addresses begin in which calls are looked for.
    fn around(&self) -> usize {
        self.scopes.last().map_or(self.hits.len(), |scope| scope.first)
    }

    /// Whether a function with this code may be one of those that are looked for.
    #[inline]
    fn may_hit(&self, is_inlined: bool, code: Option<gimli::Range>) -> bool {
        if is_inlined {
            let hits = &self.hits[self.around()..];
            !hits.is_empty() && code.is_none_or(|code| !self.hits_within(hits, &code).is_empty())
        } else {
            code.is_none_or(|code| !within(self.addresses, &code).is_empty())
        }
    }

    /// Those of the sorted positions whose addresses lie in a range.
    fn hits_within(&self, hits: &[u32], range: &gimli::Range) -> core::ops::Range<usize> {
        let before = |limit: u64| hits.partition_point(|&hit| self.addresses[hit as usize] < limit);
        let first = before(range.begin);
        first..before(range.end).max(first)
    }

    /// Takes a function's addresses; whether there are any.
    fn enter(&mut self, is_inlined: bool, entry: &Entry<'_>) -> gimli::Result<bool> {
        let unit = self.unit;
        let mut ranges = Ranges::default();
        let mut call = Call { offset: entry.offset, file: None, line: 0, column: 0 };
        let mut entries = unit.entries_raw(Some(entry.offset))?;
        let specs = entries.read_abbreviation()?.map_or(&[][..], |abbreviation| abbreviation.attributes());
        for &spec in specs {
            match spec.name() {
                dw::DW_AT_low_pc | dw::DW_AT_high_pc | dw::DW_AT_ranges => {
                    let attribute = entries.read_attribute(spec)?;
                    ranges.take(unit, attribute.name(), attribute.value())?;
                }
                dw::DW_AT_call_file if is_inlined => {
                    let value = entries.read_attribute(spec)?.value();
                    // Before DWARF 5, file 0 is none.
                    if let AttributeValue::FileIndex(file) = value
                        && (file > 0 || unit.header.version() >= 5)
                    {
                        call.file = Some(file);
                    }
                }
                dw::DW_AT_call_line if is_inlined => {
                    call.line = entries.read_attribute(spec)?.udata_value().unwrap_or(0) as u32;
                }
                dw::DW_AT_call_column if is_inlined => {
                    call.column = entries.read_attribute(spec)?.udata_value().unwrap_or(0) as u32;
                }
                _ => entries.skip_attributes(&[spec])?,
            }
        }
        let first = self.hits.len();
        // An inlined function lies in those around it; another one is its own.
        let (outer, level) = match self.scopes.last().filter(|_| is_inlined) {
            Some(scope) => (scope.first..first, scope.level),
            None => (0..0, 0),
        };
        let mut count = 0;
        ranges.each(unit, |range| {
            if !self.code.may_begin(range.begin) {
                return Ok(());
            }
            let found = if is_inlined {
                self.hits_within(&self.hits[outer.clone()], &range)
            } else {
                within(self.addresses, &range)
            };
            self.meter.charge(found.len() as u64)?;
            for at in found {
                let address = if is_inlined { self.hits[outer.start + at] } else { at as u32 };
                let chain = &mut self.chains[address as usize];
                // Where ranges overlap, the first is believed.
                if chain.len() == level {
                    chain.push(call);
                    self.hits.push(address);
                }
            }
            count += 1;
            Ok(())
        })?;
        if count > 1 {
            self.hits[first..].sort_unstable();
        }
        let taken = self.hits.len() - first;
        if !is_inlined {
            self.found += taken;
        }
        if taken > 0 && entry.kind.has_children {
            self.scopes.push(Scope { depth: entry.depth, first, level: level + 1 });
        } else {
            self.hits.truncate(first);
        }
        Ok(taken > 0)
    }
}

/// Where an entry's code is.
#[derive(Debug, Default)]
pub struct Ranges {
    low: Option<u64>,
    high: Option<u64>,
    size: Option<u64>,
    list: Option<gimli::RangeListsOffset>,
}

impl Ranges {
    /// Takes an attribute, if it is about that.
    ///
    /// # Errors
    /// It refers to an address or a list that is not there.
    pub fn take<'a, 'm>(
        &mut self,
        unit: UnitRef<'_, Piece<'a, 'm>>,
        name: gimli::DwAt,
        value: AttributeValue<Piece<'a, 'm>>,
    ) -> gimli::Result<()> {
        match (name, &value) {
            (dw::DW_AT_low_pc, value) => self.low = address(unit, value)?,
            (dw::DW_AT_high_pc, AttributeValue::Udata(size)) => self.size = Some(*size),
            (dw::DW_AT_high_pc, value) => self.high = address(unit, value)?,
            (dw::DW_AT_ranges, _) => self.list = unit.attr_ranges_offset(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Calls `take` with each range that is not empty.
    ///
    /// # Errors
    /// The list is broken, or `take` has failed.
    pub fn each(
        &self,
        unit: UnitRef<'_, Piece<'_, '_>>,
        mut take: impl FnMut(gimli::Range) -> gimli::Result<()>,
    ) -> gimli::Result<()> {
        if let Some(list) = self.list {
            let mut ranges = unit.ranges(list)?;
            while let Some(range) = ranges.next()? {
                if range.begin < range.end {
                    take(range)?;
                }
            }
            return Ok(());
        }
        // What was thrown away by the linker begins at -1, and ends before that.
        let end = self.high.or_else(|| Some(self.low?.wrapping_add(self.size?)));
        match (self.low, end) {
            (Some(begin), Some(end)) if begin < end => take(gimli::Range { begin, end }),
            _ => Ok(()),
        }
    }
}
