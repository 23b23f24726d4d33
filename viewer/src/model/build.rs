//! Builds a [`Profile`] of decoded pprof messages.
//!
//! Follows pprof's own merge: tables hold what rows use, the first mapping first; mappings are the same when size, offset and build id (or file) are; addresses are moved to
//! where the first file had the mapping; rows whose values are all zero are left out. Rows that pprof
//! marks as those of a base (a saved difference) become rows of the base again.

use std::collections::HashMap;
use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use pprof_export::reader::{Parts, Positions, Rows};
use pprof_export::schema;
use pprof_export::writer::PEAK_COMMENT;

use super::{Function, Label, LabelValue, Line, Lines, Location, Mapping, Profile, Row, Side, Source, Str, ValueType};

/// What tells one mapping from another, wherever it was mapped.
#[derive(PartialEq, Eq, Hash)]
struct MappingKey {
    size: u64,
    offset: u64,
    name: Str,
}

/// The label by which pprof tells the rows of a base in a saved difference, and its value.
const BASE_LABEL: (&str, &str) = ("pprof::base", "true");

/// Takes messages, gives a profile.
#[derive(Default)]
pub struct Builder {
    profile: Profile,
    mappings: HashMap<MappingKey, u32>,
    functions: HashTable<u32>,
    locations: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// Stands in a table for what has not been taken over.
const UNSEEN: u32 = u32::MAX;

/// What has been taken over of one message, by position in its tables.
struct Taken<'a> {
    message: &'a schema::Profile,
    strings: Vec<Str>,
    mappings: Vec<u32>,
    functions: Vec<u32>,
    locations: Vec<u32>,
    mapping_positions: Positions,
    function_positions: Positions,
    /// By position of the mapping: what to add to an address.
    moved: Vec<u64>,
}

impl<'a> Taken<'a> {
    fn nothing_of(message: &'a schema::Profile) -> Self {
        let unseen = |length: usize| vec![UNSEEN; length];
        Self {
            strings: vec![Str::NONE; message.string_table.len()],
            mappings: unseen(message.mapping.len()),
            functions: unseen(message.function.len()),
            locations: unseen(message.location.len()),
            mapping_positions: Positions::new(message.mapping.iter().map(|m| m.id)),
            function_positions: Positions::new(message.function.iter().map(|f| f.id)),
            moved: vec![0; message.mapping.len()],
            message,
        }
    }
}

impl Builder {
    /// A builder of an empty profile.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message, whose rows stand beside it, to one side.
    ///
    /// # Errors
    /// Says what is inconsistent in the message, or that it has no column that the others have.
    pub fn add(&mut self, message: &schema::Profile, rows: Rows, side: Side) -> Result<(), String> {
        let columns = self.header(message, side)?;
        let mut taken = Taken::nothing_of(message);
        self.reserve(message);
        if !message.mapping.is_empty() && self.profile.mappings.is_empty() {
            self.mapping(&mut taken, 0)?;
        }
        let source = index(self.profile.sources.len())?;
        let (period, time_nanos) = (message.period, message.time_nanos);
        let (program, is_peak) = (self.program(message)?, is_peak(message)?);
        self.profile.sources.push(Source { period, time_nanos, side, is_moved: false, program, is_peak });
        self.rows(&mut taken, rows.into_parts(), side, source, &columns)?;
        self.profile.sources[source as usize].is_moved = taken.moved.iter().any(|&moved| moved != 0);
        Ok(())
    }

    /// A hash of what tells the program's own binary from others.
    fn program(&self, message: &schema::Profile) -> Result<u64, String> {
        let Some(own) = message.mapping.first() else { return Ok(0) };
        let (build_id, file) = (text(message, own.build_id)?, text(message, own.filename)?);
        Ok(self.hasher.hash_one(if build_id.is_empty() { file } else { build_id }))
    }

    /// Makes room for the tables of a message, all of which is used as a rule. Those of more messages are the same ones
    /// for the most part.
    fn reserve(&mut self, message: &schema::Profile) {
        let Self { profile, functions, locations, .. } = self;
        if !profile.sources.is_empty() {
            return;
        }
        let bytes = message.string_table.iter().map(String::len).sum();
        profile.strings.reserve(message.string_table.len(), bytes);
        profile.functions.reserve_exact(message.function.len());
        profile.locations.reserve_exact(message.location.len());
        // The tables are empty still, so nothing is hashed.
        functions.reserve(message.function.len(), |_| 0);
        locations.reserve(message.location.len(), |_| 0);
    }

    /// Rows so far.
    pub fn row_count(&self) -> usize {
        self.profile.row_count()
    }

    /// Makes one row of those that are equal but for labels of the keys `dropped`, and forgets what nobody needs any
    /// more. More can be added afterwards.
    pub fn condense(&mut self, dropped: &[String]) {
        let profile = &mut self.profile;
        // Counts of single files mean nothing for a sum, and each file has others.
        profile.comments.retain(|comment| !comment.starts_with("samples "));
        profile.settle_labels(dropped);
        profile.merge_rows(false);
        profile.close_up();
    }

    /// The profile of everything added.
    pub fn finish(self) -> Profile {
        self.profile
    }

    /// Takes the header over, or as much of it as goes with the first one's. Returns, for each column of the
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
        if !profile.sources.is_empty() {
            let columns = profile.common_columns(&types)?;
            if side == Side::New {
                profile.duration_nanos = profile.duration_nanos.saturating_add(message.duration_nanos);
                profile.allocator = None; // The numbers of two processes do not add up.
                let time = message.time_nanos;
                if time != 0 && (profile.time_nanos == 0 || time < profile.time_nanos) {
                    profile.time_nanos = time;
                }
            }
            return Ok(columns);
        }
        let default = text(message, message.default_sample_type)?;
        profile.default_type = types.iter().position(|t| t.kind == default).unwrap_or(types.len() - 1);
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
        profile.doc_url = text(message, message.doc_url)?.to_owned();
        profile.allocator = message.allocator_stats.clone();
        let columns = (0..types.len()).collect();
        profile.sample_types = types;
        Ok(columns)
    }

    fn rows(
        &mut self,
        taken: &mut Taken<'_>,
        parts: Parts,
        side: Side,
        source: u32,
        columns: &[usize],
    ) -> Result<(), String> {
        let Parts { ends, mut frames, labels, mut values } = parts;
        let width = taken.message.sample_type.len();
        let is_same_order = columns.iter().copied().eq(0..width);
        // Of columns that others don't have nothing is taken over.
        let is_nothing = |values: &[i64]| columns.iter().all(|&column| values[column] == 0);
        self.used_locations(taken, &ends, &frames, &values, is_nothing)?;
        // Of the first file, a location keeps its number if all are used and differ.
        let is_renumbered = !taken.locations.iter().copied().eq(0..taken.locations.len() as u32);
        // The frames of the first file stay where they are: positions in the message's table become those
        // in the profile's, and what rows of zeros leave free is closed up.
        let (mut kept_frames, mut kept_values) = (0, 0);
        let first_frame = index(self.profile.frames.len())?;
        self.profile.rows.reserve(ends.len());
        self.profile.labels.reserve(labels.len());
        let (mut frame, mut label) = (0, 0);
        for (row, &(frames_end, labels_end)) in ends.iter().enumerate() {
            let (frames_end, labels_end) = (frames_end as usize, labels_end as usize);
            let row_values = row * width..(row + 1) * width;
            if is_nothing(&values[row_values.clone()]) {
                (frame, label) = (frames_end, labels_end);
                continue;
            }
            let start = kept_frames;
            if kept_frames < frame {
                frames.copy_within(frame..frames_end, kept_frames);
            }
            kept_frames += frames_end - frame;
            if is_renumbered {
                frames[start..kept_frames].iter_mut().for_each(|at| *at = taken.locations[*at as usize]);
            }
            let mut side = side;
            let first_label = self.profile.labels.len();
            for item in &labels[label..labels_end] {
                let Some(item) = self.label(taken, item)? else { continue };
                if side == Side::New
                    && self.profile.text(item.key) == BASE_LABEL.0
                    && matches!(item.value, LabelValue::Text(text) if self.profile.text(text) == BASE_LABEL.1)
                {
                    side = Side::Base;
                    continue;
                }
                self.profile.labels.push(item);
            }
            // In the order of their keys, texts before numbers, so that equal labels look equal.
            self.profile.labels[first_label..]
                .sort_by_key(|label| (label.key, matches!(label.value, LabelValue::Number(..))));
            if side != self.profile.sources[source as usize].side {
                // A saved difference has its base's values negated.
                values[row_values.clone()].iter_mut().for_each(|value| *value = value.saturating_neg());
            }
            self.profile.rows.push(Row {
                stack: (first_frame + start as u32, (kept_frames - start) as u32),
                labels: (index(first_label)?, index(self.profile.labels.len() - first_label)?),
                side,
                source,
            });
            if is_same_order {
                values.copy_within(row_values, kept_values);
                kept_values += width;
            } else {
                self.profile.values.extend(columns.iter().map(|&column| values[row * width + column]));
            }
            (frame, label) = (frames_end, labels_end);
        }
        frames.truncate(kept_frames);
        append(&mut self.profile.frames, frames);
        index(self.profile.frames.len())?;
        if is_same_order {
            values.truncate(kept_values);
            append(&mut self.profile.values, values);
        }
        Ok(())
    }

    /// Takes over the locations that rows use, in the order of the message's table, which is how they lie
    /// in memory.
    fn used_locations(
        &mut self,
        taken: &mut Taken<'_>,
        ends: &[(u32, u32)],
        frames: &[u32],
        values: &[i64],
        is_nothing: impl Fn(&[i64]) -> bool,
    ) -> Result<(), String> {
        let mut is_used = vec![false; taken.message.location.len()];
        let mut frame = 0;
        for (&(end, _), values) in ends.iter().zip(values.chunks_exact(taken.message.sample_type.len())) {
            if !is_nothing(values) {
                frames[frame..end as usize].iter().for_each(|&position| is_used[position as usize] = true);
            }
            frame = end as usize;
        }
        for (position, _) in is_used.iter().enumerate().filter(|(_, is_used)| **is_used) {
            self.location(taken, position)?;
        }
        Ok(())
    }

    /// A label, unless it says nothing.
    fn label(&mut self, taken: &mut Taken<'_>, label: &schema::Label) -> Result<Option<Label>, String> {
        let key = self.string(taken, label.key)?;
        let value = if label.str != 0 {
            LabelValue::Text(self.string(taken, label.str)?)
        } else if label.num != 0 || label.num_unit != 0 {
            LabelValue::Number(label.num, self.string(taken, label.num_unit)?)
        } else {
            return Ok(None);
        };
        Ok(Some(Label { key, value }))
    }

    fn location(&mut self, taken: &mut Taken<'_>, position: usize) -> Result<(), String> {
        let item = &taken.message.location[position];
        // pprof takes a location of an unknown mapping for one of none; so does this.
        let (mut mapping, mut moved, mut start) = (None, 0, 0);
        if item.mapping_id != 0
            && let Some(position) = taken.mapping_positions.get(item.mapping_id)
        {
            let index = self.mapping(taken, position)?;
            (mapping, moved) = (Some(index), taken.moved[position]);
            start = self.profile.mappings[index as usize].start;
        }
        let mut lines = Lines::with_capacity(item.line.len());
        for line in &item.line {
            let position = taken
                .function_positions
                .get(line.function_id)
                .ok_or_else(|| format!("there is no function with id {}", line.function_id))?;
            lines.push(Line { function: self.function(taken, position)?, line: line.line });
        }
        let location =
            Location { mapping, address: item.address.wrapping_add(moved), lines, is_folded: item.is_folded };
        let Self { locations, hasher, profile, .. } = self;
        // Where a mapping starts differs from process to process.
        let hash_of = |location: &Location, start: u64| {
            let Location { mapping, address, lines, is_folded } = location;
            hasher.hash_one((address.wrapping_sub(start), mapping, lines, is_folded))
        };
        let is_same = |&other: &u32| profile.locations[other as usize] == location;
        let hash_again = |&other: &u32| {
            let other = &profile.locations[other as usize];
            let start = other.mapping.map_or(0, |m| profile.mappings[m as usize].start);
            hash_of(other, start)
        };
        let index = match locations.entry(hash_of(&location, start), is_same, hash_again) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let new = index(profile.locations.len())?;
                place.insert(new);
                profile.locations.push(location);
                new
            }
        };
        taken.locations[position] = index;
        Ok(())
    }

    fn mapping(&mut self, taken: &mut Taken<'_>, position: usize) -> Result<u32, String> {
        if taken.mappings[position] != UNSEEN {
            return Ok(taken.mappings[position]);
        }
        let item = &taken.message.mapping[position];
        let mapping = Mapping {
            start: item.memory_start,
            limit: item.memory_limit,
            offset: item.file_offset,
            file: self.string(taken, item.filename)?,
            build_id: self.string(taken, item.build_id)?,
            has_functions: item.has_functions,
            has_filenames: item.has_filenames,
            has_line_numbers: item.has_line_numbers,
            has_inline_frames: item.has_inline_frames,
        };
        const PAGE: u64 = 4096;
        let name = if mapping.build_id.is_empty() { mapping.file } else { mapping.build_id };
        let size = mapping.limit.wrapping_sub(mapping.start).wrapping_add(PAGE - 1) / PAGE;
        let key = MappingKey { size, offset: mapping.offset, name };
        let new = index(self.profile.mappings.len())?;
        let index = *self.mappings.entry(key).or_insert(new);
        if index == new {
            self.profile.mappings.push(mapping);
        } else {
            let start = self.profile.mappings[index as usize].start;
            taken.moved[position] = start.wrapping_sub(mapping.start);
        }
        taken.mappings[position] = index;
        Ok(index)
    }

    fn function(&mut self, taken: &mut Taken<'_>, position: usize) -> Result<u32, String> {
        if taken.functions[position] != UNSEEN {
            return Ok(taken.functions[position]);
        }
        let item = &taken.message.function[position];
        let function = Function {
            name: self.string(taken, item.name)?,
            system_name: self.string(taken, item.system_name)?,
            file: self.string(taken, item.filename)?,
            start_line: item.start_line,
        };
        let Self { functions, hasher, profile, .. } = self;
        let is_same = |&other: &u32| profile.functions[other as usize] == function;
        let hash_again = |&other: &u32| hasher.hash_one(&profile.functions[other as usize]);
        let index = match functions.entry(hasher.hash_one(&function), is_same, hash_again) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let new = index(profile.functions.len())?;
                place.insert(new);
                profile.functions.push(function);
                new
            }
        };
        taken.functions[position] = index;
        Ok(index)
    }

    fn string(&mut self, taken: &mut Taken<'_>, string: i64) -> Result<Str, String> {
        let position = usize::try_from(string).unwrap_or(usize::MAX);
        if let Some(&seen) = taken.strings.get(position).filter(|&&seen| seen != Str::NONE) {
            return Ok(seen);
        }
        let handle = self.profile.strings.intern(text(taken.message, string)?);
        taken.strings[position] = handle;
        Ok(handle)
    }
}

/// Appends a list, or takes it over where there is nothing yet.
fn append<T>(to: &mut Vec<T>, mut list: Vec<T>) {
    if to.is_empty() {
        *to = list;
    } else {
        to.append(&mut list);
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
        .ok_or_else(|| format!("string {index} is outside its table of {}", message.string_table.len()))
}

/// Whether a dump is one of the peak, by the comment that it has.
fn is_peak(message: &schema::Profile) -> Result<bool, String> {
    for &comment in &message.comment {
        if text(message, comment)? == PEAK_COMMENT {
            return Ok(true);
        }
    }
    Ok(false)
}

fn value_type_of(message: &schema::Profile, value_type: &schema::ValueType) -> Result<ValueType, String> {
    Ok(ValueType {
        kind: text(message, value_type.r#type)?.to_owned(),
        unit: text(message, value_type.unit)?.to_owned(),
    })
}
