//! `traces`: every row with its labels and its stack, in the layout of `go tool pprof -traces`.

use hashbrown::HashMap;
use serde_json::{Value, json};

use super::raw::grouped_labels;
use super::{Options, head, narrow};
use crate::graph::{Granularity, Key, NO_STACK, clean_path, printable};
use crate::model::{BaseUse, LabelValue, Profile, Side, Str};
use crate::output::Style;
use crate::{escape, measure};

const SEPARATOR: &str = "-----------+-------------------------------------------------------\n";

/// All rows.
pub fn text(profile: &mut Profile, options: &Options, style: Style) -> String {
    let format = options.format(profile, &options.unit);
    let mut out = head::profile_lines(profile, options, &format);
    let traces = Traces::new(profile, options);
    for row in 0..profile.row_count() {
        out.push_str(SEPARATOR);
        traces.labels(profile, row, &mut out);
        let mut value = format.value(value_of(profile, options, row));
        for (key, is_inlined) in traces.frames(profile, row) {
            let name = printable(profile, &key);
            let inline = if is_inlined { " (inline)" } else { "" };
            let line = format!("{value:>10}   {}{inline}", escape::terminal(&name));
            out.push_str(&escape::shorten(&line, style.width.unwrap_or(usize::MAX).max(40)));
            out.push('\n');
            value.clear();
        }
    }
    out.push_str(SEPARATOR);
    out
}

/// All rows, for programs.
pub fn json(profile: &mut Profile, options: &Options) -> Value {
    let traces = Traces::new(profile, options);
    let profile = &*profile;
    let value_type = &profile.sample_types[options.columns.column];
    let rows: Vec<Value> = (0..profile.row_count())
        .map(|row| {
            let frames: Vec<Value> = traces
                .frames(profile, row)
                .into_iter()
                .map(|(key, is_inlined)| json!({"name": printable(profile, &key), "inlined": is_inlined}))
                .collect();
            let labels: serde_json::Map<String, Value> = grouped_labels(profile, row)
                .into_iter()
                .map(|(key, values)| {
                    let values: Vec<Value> = values
                        .into_iter()
                        .map(|value| match value {
                            LabelValue::Text(text) => profile.text(text).into(),
                            LabelValue::Number(number, _) => number.into(),
                        })
                        .collect();
                    (profile.text(key).to_owned(), values.into())
                })
                .collect();
            json!({
                "value": narrow(value_of(profile, options, row)),
                "base": profile.side(row) == Side::Base,
                "labels": labels,
                "stack": frames,
            })
        })
        .collect();
    json!({"sample_type": value_type.kind, "unit": value_type.unit, "rows": rows})
}

/// What a row shows: its value, negative if it is one of a base, or its mean.
fn value_of(profile: &Profile, options: &Options, row: usize) -> i128 {
    let values = profile.values(row);
    let value = i128::from(values[options.columns.column]);
    let value = if profile.side(row) == Side::Base { -value } else { value };
    match options.divisor.map(|column| i128::from(values[column])) {
        None | Some(0) => value,
        Some(blocks) if profile.side(row) == Side::Base => value / -blocks,
        Some(blocks) => value / blocks,
    }
}

struct Traces {
    granularity: Granularity,
    /// Handles of the cleaned paths, by function.
    files: Vec<Str>,
    /// The frame of a row without a stack.
    no_stack: Key,
    units: HashMap<Str, String>,
    is_comparison: bool,
}

impl Traces {
    fn new(profile: &mut Profile, options: &Options) -> Self {
        let files = (0..profile.functions.len())
            .map(|index| {
                let clean = clean_path(profile.text(profile.functions[index].file));
                profile.strings.intern(&clean)
            })
            .collect();
        Self {
            granularity: options.granularity,
            files,
            no_stack: Key { name: profile.strings.intern(NO_STACK), ..Key::default() },
            units: profile.label_units(),
            is_comparison: options.base == BaseUse::Compare,
        }
    }

    /// Frames of a row, leaf first, and whether each is inlined into the next.
    fn frames(&self, profile: &Profile, row: usize) -> Vec<(Key, bool)> {
        let stack = profile.stack(row);
        if stack.is_empty() {
            return vec![(self.no_stack, false)];
        }
        let mut frames = Vec::new();
        for &index in stack {
            let location = &profile.locations[index as usize];
            let object = location.mapping.map_or(Str::EMPTY, |m| profile.mappings[m as usize].file);
            let address = if self.granularity == Granularity::Addresses { location.address } else { 0 };
            if location.lines.is_empty() {
                frames.push((Key { object, address, ..Key::default() }, false));
            }
            for (depth, line) in location.lines.iter().enumerate() {
                let (mut name, mut file) =
                    (profile.functions[line.function as usize].name, self.files[line.function as usize]);
                let mut number = line.line;
                match self.granularity {
                    Granularity::Functions | Granularity::Sites => (file, number) = (Str::EMPTY, 0),
                    Granularity::FileFunctions => number = 0,
                    Granularity::Files => (name, number) = (Str::EMPTY, 0),
                    Granularity::Lines | Granularity::Addresses => {}
                }
                let object = if name.is_empty() { object } else { Str::EMPTY };
                let key = Key { name, file, line: number, address, object, start_line: 0 };
                frames.push((key, depth + 1 < location.lines.len()));
            }
        }
        frames
    }

    fn labels(&self, profile: &Profile, row: usize, out: &mut String) {
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        let line = |key: &str, values: Vec<String>| {
            format!("{:>10}:  {}\n", escape::terminal(key), escape::terminal(&values.join(" ")))
        };
        if self.is_comparison && profile.side(row) == Side::Base {
            texts.push(line("pprof::base", vec!["true".to_owned()]));
        }
        for (key, values) in grouped_labels(profile, row) {
            let (mut strings, mut ints) = (Vec::new(), Vec::new());
            for value in values {
                match value {
                    LabelValue::Text(text) => strings.push(profile.text(text).to_owned()),
                    LabelValue::Number(number, _) => {
                        let unit = self.units.get(&key).map_or("", String::as_str);
                        ints.push(measure::label(number.into(), unit, "auto"));
                    }
                }
            }
            if !strings.is_empty() {
                texts.push(line(profile.text(key), strings));
            }
            if !ints.is_empty() {
                numbers.push(line(profile.text(key), ints));
            }
        }
        for mut lines in [texts, numbers] {
            lines.sort();
            lines.iter().for_each(|line| out.push_str(line));
        }
    }
}

/// The rows for spreadsheets: value, labels, stack from the root.
pub fn csv(profile: &mut Profile, options: &Options) -> String {
    let traces = Traces::new(profile, options);
    let mut out = String::from("value,labels,stack\n");
    for row in 0..profile.row_count() {
        let mut labels = String::new();
        traces.labels(profile, row, &mut labels);
        let labels: Vec<&str> = labels.lines().map(str::trim).collect();
        let frames: Vec<String> = traces
            .frames(profile, row)
            .iter()
            .rev()
            .map(|(key, _)| escape::folded(&printable(profile, key)).into_owned())
            .collect();
        out.push_str(&format!(
            "{},{},{}\n",
            measure::times(value_of(profile, options, row), options.ratio),
            escape::csv(&labels.join("; ")),
            escape::csv(&frames.join(";"))
        ));
    }
    out
}
