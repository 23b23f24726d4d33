//! Builds a [`Profile`] of decoded pprof messages.
//!
//! Follows pprof's own merge: tables hold what rows use, in the order of first use, the first mapping
//! first; mappings are the same when size, offset and build id (or file) are; addresses are moved to
//! where the first file had the mapping; rows whose values are all zero are left out.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use pprof_export::schema;

use super::{
    Function, Label, LabelValue, Line, Location, Mapping, Profile, Row, Side, Str, ValueType,
};

/// What tells one mapping from another, wherever it was mapped.
#[derive(PartialEq, Eq, Hash)]
struct MappingKey {
    size: u64,
    offset: u64,
    name: Str,
}

/// What tells one location from another.
#[derive(PartialEq, Eq, Hash)]
struct LocationKey {
    address: u64,
    mapping: Option<u32>,
    lines: Vec<Line>,
    is_folded: bool,
}

/// Takes messages, gives a profile.
#[derive(Default)]
pub struct Builder {
    profile: Profile,
    has_header: bool,
    mappings: HashMap<MappingKey, u32>,
    functions: HashMap<Function, u32>,
    locations: HashMap<LocationKey, u32>,
}

/// A table of a message by id, and what has been taken over of it.
struct Table<'a, T> {
    items: HashMap<u64, &'a T>,
    taken: HashMap<u64, u32>,
}

impl<'a, T> Table<'a, T> {
    /// The reader has checked that ids are unique and not 0.
    fn new(items: &'a [T], id: impl Fn(&T) -> u64) -> Self {
        let items: HashMap<u64, &T> = items.iter().map(|item| (id(item), item)).collect();
        Self {
            taken: HashMap::with_capacity(items.len()),
            items,
        }
    }

    fn get(&self, id: u64, what: &str) -> Result<&'a T, String> {
        self.items
            .get(&id)
            .copied()
            .ok_or_else(|| format!("there is no {what} with id {id}"))
    }
}

/// One message while its rows are taken over.
struct Source<'a> {
    message: &'a schema::Profile,
    strings: HashMap<i64, Str>,
    mappings: Table<'a, schema::Mapping>,
    functions: Table<'a, schema::Function>,
    locations: Table<'a, schema::Location>,
    /// By mapping id: what to add to an address.
    moved: HashMap<u64, u64>,
}

impl Builder {
    /// A builder of an empty profile.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message's rows to one side.
    ///
    /// # Errors
    /// Says what is inconsistent in the message, or how its columns differ from the first one's.
    pub fn add(&mut self, message: &schema::Profile, side: Side) -> Result<(), String> {
        let mut source = Source {
            message,
            strings: HashMap::new(),
            mappings: Table::new(&message.mapping, |m| m.id),
            functions: Table::new(&message.function, |f| f.id),
            locations: Table::new(&message.location, |l| l.id),
            moved: HashMap::new(),
        };
        let columns = self.header(message, side)?;
        if let Some(first) = message
            .mapping
            .first()
            .filter(|_| self.profile.mappings.is_empty())
        {
            self.mapping(&mut source, first.id)?;
        }
        // A file with another period than the profile's says so on each of its rows.
        let period = message.period;
        let foreign = (period > 0 && period != self.profile.period).then(|| Label {
            key: self.profile.strings.intern("period"),
            value: LabelValue::Number(period, self.profile.strings.intern("bytes")),
        });
        for sample in &message.sample {
            self.row(&mut source, sample, side, &columns, foreign)?;
        }
        Ok(())
    }

    /// The profile of everything added.
    pub fn finish(self) -> Profile {
        self.profile
    }

    /// Takes the header over, or checks it against the first one. Returns, for each column of the
    /// profile, the column of the message.
    fn header(&mut self, message: &schema::Profile, side: Side) -> Result<Vec<usize>, String> {
        let profile = &mut self.profile;
        let mut types = Vec::with_capacity(message.sample_type.len());
        for value_type in &message.sample_type {
            types.push(value_type_of(message, value_type)?);
        }
        if types.is_empty() {
            return Err("it is a profile without sample types".to_owned());
        }
        for &comment in &message.comment {
            let comment = text(message, comment)?;
            if !profile.comments.iter().any(|known| known == comment) {
                profile.comments.push(comment.to_owned());
            }
        }
        if self.has_header {
            let find = |wanted: &ValueType| {
                types.iter().position(|t| t == wanted).ok_or_else(|| {
                    format!(
                        "it has no sample type {}/{}, which the first file has",
                        wanted.kind, wanted.unit
                    )
                })
            };
            let columns = profile
                .sample_types
                .iter()
                .map(find)
                .collect::<Result<_, _>>()?;
            if side == Side::New {
                profile.duration_nanos = profile
                    .duration_nanos
                    .saturating_add(message.duration_nanos);
                profile.allocator = None; // The numbers of two processes do not add up.
                let time = message.time_nanos;
                if time != 0 && (profile.time_nanos == 0 || time < profile.time_nanos) {
                    profile.time_nanos = time;
                }
            }
            return Ok(columns);
        }
        self.has_header = true;
        let default = text(message, message.default_sample_type)?;
        profile.default_type = types
            .iter()
            .position(|t| t.kind == default)
            .unwrap_or(types.len() - 1);
        profile.default_type_name = default.to_owned();
        profile.period_type = match &message.period_type {
            Some(value_type) => Some(value_type_of(message, value_type)?),
            None => None,
        };
        profile.period = message.period;
        profile.time_nanos = message.time_nanos;
        profile.duration_nanos = message.duration_nanos;
        profile.drop_frames = text(message, message.drop_frames)?.to_owned();
        profile.keep_frames = text(message, message.keep_frames)?.to_owned();
        profile.allocator = message.allocator_stats;
        let columns = (0..types.len()).collect();
        profile.sample_types = types;
        Ok(columns)
    }

    fn row(
        &mut self,
        source: &mut Source<'_>,
        sample: &schema::Sample,
        side: Side,
        columns: &[usize],
        foreign_period: Option<Label>,
    ) -> Result<(), String> {
        let types = source.message.sample_type.len();
        if sample.value.len() != types {
            return Err(format!(
                "a sample has {} values for {types} types",
                sample.value.len()
            ));
        }
        if sample.value.iter().all(|&value| value == 0) {
            return Ok(());
        }
        let start = index(self.profile.frames.len())?;
        for &id in &sample.location_id {
            let location = self.location(source, id)?;
            self.profile.frames.push(location);
        }
        let stack = (start, index(self.profile.frames.len())? - start);

        let first_label = self.profile.labels.len();
        let mut has_period = false;
        for label in &sample.label {
            let key = self.string(source, label.key)?;
            let value = if label.str != 0 {
                LabelValue::Text(self.string(source, label.str)?)
            } else if label.num != 0 || label.num_unit != 0 {
                LabelValue::Number(label.num, self.string(source, label.num_unit)?)
            } else {
                continue;
            };
            has_period |= self.profile.strings.get(key) == "period";
            self.profile.labels.push(Label { key, value });
        }
        if let Some(label) = foreign_period.filter(|_| !has_period) {
            self.profile.labels.push(label);
        }
        let labels = (
            index(first_label)?,
            index(self.profile.labels.len() - first_label)?,
        );
        self.profile.rows.push(Row {
            stack,
            labels,
            side,
        });
        self.profile
            .values
            .extend(columns.iter().map(|&column| sample.value[column]));
        Ok(())
    }

    fn location(&mut self, source: &mut Source<'_>, id: u64) -> Result<u32, String> {
        if let Some(&known) = source.locations.taken.get(&id) {
            return Ok(known);
        }
        let item = source.locations.get(id, "location")?;
        let mapping = match item.mapping_id {
            0 => None,
            // pprof takes a location of an unknown mapping for one of none; so does this.
            id if !source.mappings.items.contains_key(&id) => None,
            id => Some(self.mapping(source, id)?),
        };
        let moved = source.moved.get(&item.mapping_id).copied().unwrap_or(0);
        let mut lines = Vec::with_capacity(item.line.len());
        for line in &item.line {
            lines.push(Line {
                function: self.function(source, line.function_id)?,
                line: line.line,
            });
        }
        let address = item.address.wrapping_add(moved);
        let start = mapping.map_or(0, |m| self.profile.mappings[m as usize].start);
        let key = LocationKey {
            address: address.wrapping_sub(start),
            mapping,
            lines: lines.clone(),
            is_folded: item.is_folded,
        };
        let new = index(self.profile.locations.len())?;
        let taken = *self.locations.entry(key).or_insert(new);
        if taken == new {
            let is_folded = item.is_folded;
            self.profile.locations.push(Location {
                mapping,
                address,
                lines,
                is_folded,
            });
        }
        source.locations.taken.insert(id, taken);
        Ok(taken)
    }

    fn mapping(&mut self, source: &mut Source<'_>, id: u64) -> Result<u32, String> {
        if let Some(&known) = source.mappings.taken.get(&id) {
            return Ok(known);
        }
        let item = source.mappings.get(id, "mapping")?;
        let mapping = Mapping {
            start: item.memory_start,
            limit: item.memory_limit,
            offset: item.file_offset,
            file: self.string(source, item.filename)?,
            build_id: self.string(source, item.build_id)?,
            has_functions: item.has_functions,
            has_filenames: item.has_filenames,
            has_line_numbers: item.has_line_numbers,
            has_inline_frames: item.has_inline_frames,
        };
        const PAGE: u64 = 4096;
        let name = if mapping.build_id.is_empty() {
            mapping.file
        } else {
            mapping.build_id
        };
        let size = mapping
            .limit
            .wrapping_sub(mapping.start)
            .wrapping_add(PAGE - 1)
            / PAGE;
        let key = MappingKey {
            size,
            offset: mapping.offset,
            name,
        };
        let new = index(self.profile.mappings.len())?;
        let taken = *self.mappings.entry(key).or_insert(new);
        if taken == new {
            self.profile.mappings.push(mapping);
        } else {
            let start = self.profile.mappings[taken as usize].start;
            source.moved.insert(id, start.wrapping_sub(mapping.start));
        }
        source.mappings.taken.insert(id, taken);
        Ok(taken)
    }

    fn function(&mut self, source: &mut Source<'_>, id: u64) -> Result<u32, String> {
        if let Some(&known) = source.functions.taken.get(&id) {
            return Ok(known);
        }
        let item = source.functions.get(id, "function")?;
        let function = Function {
            name: self.string(source, item.name)?,
            system_name: self.string(source, item.system_name)?,
            file: self.string(source, item.filename)?,
            start_line: item.start_line,
        };
        let new = index(self.profile.functions.len())?;
        let taken = *self.functions.entry(function.clone()).or_insert(new);
        if taken == new {
            self.profile.functions.push(function);
        }
        source.functions.taken.insert(id, taken);
        Ok(taken)
    }

    fn string(&mut self, source: &mut Source<'_>, index: i64) -> Result<Str, String> {
        if let Some(&known) = source.strings.get(&index) {
            return Ok(known);
        }
        let handle = self.profile.strings.intern(text(source.message, index)?);
        source.strings.insert(index, handle);
        Ok(handle)
    }
}

impl Profile {
    /// Sums rows of the same side, stack and labels into the first of them, and leaves out what is zero
    /// afterwards.
    pub fn merge_rows(&mut self) {
        let width = self.sample_types.len();
        let hasher = RandomState::new();
        let mut first: HashMap<u64, u32> = HashMap::with_capacity(self.rows.len());
        // Rows of equal hash form a chain; what is equal is decided on the rows themselves.
        let mut chain: Vec<u32> = vec![u32::MAX; self.rows.len()];
        let mut merged_into: Vec<u32> = (0..self.rows.len() as u32).collect();
        let sorted_labels = |profile: &Self, row: usize| {
            let mut labels = profile.labels(row).to_vec();
            labels.sort_unstable();
            labels
        };
        for row in 0..self.rows.len() {
            let labels = sorted_labels(self, row);
            let hash = hasher.hash_one((self.side(row), self.stack(row), &labels));
            let mut candidate = first.get(&hash).copied().unwrap_or(u32::MAX);
            while candidate != u32::MAX {
                let other = candidate as usize;
                if self.side(other) == self.side(row)
                    && self.stack(other) == self.stack(row)
                    && sorted_labels(self, other) == labels
                {
                    break;
                }
                candidate = chain[other];
            }
            if candidate == u32::MAX {
                chain[row] = first.insert(hash, row as u32).unwrap_or(u32::MAX);
                continue;
            }
            merged_into[row] = candidate;
            for column in 0..width {
                let value = self.values[row * width + column];
                let sum = &mut self.values[candidate as usize * width + column];
                *sum = sum.saturating_add(value);
            }
        }
        self.retain_rows(|profile, row| {
            let keep =
                merged_into[row] as usize == row && profile.values(row).iter().any(|&v| v != 0);
            keep.then(|| profile.stack(row).to_vec())
        });
    }
}

fn index(length: usize) -> Result<u32, String> {
    u32::try_from(length).map_err(|_| "it is larger than this program can hold".to_owned())
}

fn text(message: &schema::Profile, index: i64) -> Result<&str, String> {
    usize::try_from(index)
        .ok()
        .and_then(|index| message.string_table.get(index))
        .map(String::as_str)
        .ok_or_else(|| {
            format!(
                "string {index} is outside its table of {}",
                message.string_table.len()
            )
        })
}

fn value_type_of(
    message: &schema::Profile,
    value_type: &schema::ValueType,
) -> Result<ValueType, String> {
    Ok(ValueType {
        kind: text(message, value_type.r#type)?.to_owned(),
        unit: text(message, value_type.unit)?.to_owned(),
    })
}
