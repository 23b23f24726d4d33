//! A profile as a pprof message again, for the commands that change one: what was filtered is gone,
//! what is compared with a base keeps it, negative and marked as pprof marks it.

use std::collections::HashMap;

use pprof_export::schema;

use super::signed;
use crate::model::{LabelValue, Profile, Side, Str};

/// The label by which pprof tells the base's rows from others.
pub(super) const BASE: (&str, &str) = ("pprof::base", "true");

/// Strings of the message by those of the profile.
struct Strings<'a> {
    profile: &'a Profile,
    table: Vec<String>,
    by_handle: HashMap<Str, i64>,
    by_text: HashMap<String, i64>,
}

impl Strings<'_> {
    fn handle(&mut self, handle: Str) -> i64 {
        if let Some(&known) = self.by_handle.get(&handle) {
            return known;
        }
        let index = self.text(self.profile.text(handle));
        self.by_handle.insert(handle, index);
        index
    }

    fn text(&mut self, text: &str) -> i64 {
        if let Some(&known) = self.by_text.get(text) {
            return known;
        }
        let index = self.table.len() as i64;
        self.table.push(text.to_owned());
        self.by_text.insert(text.to_owned(), index);
        index
    }
}

/// The message.
pub fn message(profile: &Profile) -> schema::Profile {
    let mut strings = Strings {
        profile,
        table: vec![String::new()],
        by_handle: HashMap::from([(Str::EMPTY, 0)]),
        by_text: HashMap::from([(String::new(), 0)]),
    };
    let mut out = schema::Profile::default();
    let value_type = |strings: &mut Strings<'_>, t: &crate::model::ValueType| schema::ValueType {
        r#type: strings.text(&t.kind),
        unit: strings.text(&t.unit),
    };
    for t in &profile.sample_types {
        out.sample_type.push(value_type(&mut strings, t));
    }
    out.period_type = profile.period_type.as_ref().map(|t| value_type(&mut strings, t));
    out.period = profile.period;
    out.time_nanos = profile.time_nanos;
    out.duration_nanos = profile.duration_nanos;
    out.drop_frames = strings.text(&profile.drop_frames);
    out.keep_frames = strings.text(&profile.keep_frames);
    out.default_sample_type = strings.text(&profile.default_type_name);
    for comment in &profile.comments {
        out.comment.push(strings.text(comment));
    }
    out.allocator_stats = profile.allocator.clone();
    for (index, mapping) in profile.mappings.iter().enumerate() {
        out.mapping.push(schema::Mapping {
            id: index as u64 + 1,
            memory_start: mapping.start,
            memory_limit: mapping.limit,
            file_offset: mapping.offset,
            filename: strings.handle(mapping.file),
            build_id: strings.handle(mapping.build_id),
            has_functions: mapping.has_functions,
            has_filenames: mapping.has_filenames,
            has_line_numbers: mapping.has_line_numbers,
            has_inline_frames: mapping.has_inline_frames,
        });
    }
    for (index, function) in profile.functions.iter().enumerate() {
        out.function.push(schema::Function {
            id: index as u64 + 1,
            name: strings.handle(function.name),
            system_name: strings.handle(function.system_name),
            filename: strings.handle(function.file),
            start_line: function.start_line,
        });
    }
    for (index, location) in profile.locations.iter().enumerate() {
        let lines = location.lines.iter().map(|line| schema::Line {
            function_id: u64::from(line.function) + 1,
            line: line.line,
            column: 0,
        });
        out.location.push(schema::Location {
            id: index as u64 + 1,
            mapping_id: location.mapping.map_or(0, |mapping| u64::from(mapping) + 1),
            address: location.address,
            line: lines.collect(),
            is_folded: location.is_folded,
        });
    }
    for row in 0..profile.row_count() {
        let is_base = profile.side(row) == Side::Base;
        let mut label: Vec<schema::Label> = Vec::new();
        for item in profile.labels(row) {
            let key = strings.handle(item.key);
            label.push(match item.value {
                LabelValue::Text(text) => schema::Label { key, str: strings.handle(text), ..schema::Label::default() },
                LabelValue::Number(num, unit) => schema::Label { key, num, num_unit: strings.handle(unit), str: 0 },
            });
        }
        if is_base {
            let (key, str) = (strings.text(BASE.0), strings.text(BASE.1));
            label.push(schema::Label { key, str, ..schema::Label::default() });
        }
        let values = profile.values(row).iter();
        out.sample.push(schema::Sample {
            location_id: profile.stack(row).iter().map(|&at| u64::from(at) + 1).collect(),
            value: values.map(|&value| signed(profile, row, value)).collect(),
            label,
        });
    }
    out.string_table = strings.table;
    out
}
