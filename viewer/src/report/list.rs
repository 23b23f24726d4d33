//! `list`: the source of functions, line by line, with what each line holds.
//!
//! The layout is that of `go tool pprof -list`. Where the source is not at hand, the lines that hold
//! anything are still shown.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::top::sides_json;
use super::{Format, Options, narrow};
use crate::graph::{self, Granularity, Graph, Sides};
use crate::model::Profile;
use crate::output::Style;
use crate::{escape, measure};

/// Lines shown before and after those that hold something.
const MARGIN: i64 = 5;

/// Gives the lines of a source file, or says why it has none.
pub type Reader<'a> = dyn FnMut(&str) -> Result<Vec<String>, String> + 'a;

/// The finished report.
#[derive(Debug)]
pub struct List {
    functions: Vec<Function>,
    options: Options,
    format: Format,
}

/// A function in one file.
#[derive(Debug)]
struct Function {
    name: String,
    file: String,
    flat: Sides,
    cum: Sides,
    lines: Vec<Line>,
    /// Why there is no source.
    missing: Option<String>,
}

#[derive(Debug)]
struct Line {
    number: i64,
    flat: Sides,
    cum: Sides,
    text: Option<String>,
}

impl List {
    /// Makes the report of the functions that are asked for by name and file, of what is the same on both sides too if
    /// `with_unchanged`. `None`: there is none.
    pub fn new(
        profile: &mut Profile,
        options: Options,
        is_asked: &dyn Fn(&str, &str) -> bool,
        with_unchanged: bool,
        read: &mut Reader<'_>,
    ) -> Option<Self> {
        let graph_options = graph::Options { granularity: Granularity::Lines, with_objects: true, ..options.graph() };
        let mut graph = Graph::new(profile, &options.columns, graph_options);
        if !with_unchanged {
            graph.drop_cancelled();
        }
        // By name and file; of each the lines, and where functions begin.
        let mut found: BTreeMap<(&str, &str), Vec<&graph::Node>> = BTreeMap::new();
        for node in &graph.nodes {
            let (name, file) = (profile.text(node.key.name), profile.text(node.key.file));
            if is_asked(name, file) {
                found.entry((name, file)).or_default().push(node);
            }
        }
        if found.is_empty() {
            return None;
        }
        let functions: Vec<Function> = found
            .into_iter()
            .map(|((name, file), nodes)| {
                let mut sums = (Sides::default(), Sides::default());
                for node in &nodes {
                    sums.0.merge(&node.flat);
                    sums.1.merge(&node.cum);
                }
                let (lines, missing) = lines_of(&nodes, file, read);
                Function { name: name.to_owned(), file: file.to_owned(), flat: sums.0, cum: sums.1, lines, missing }
            })
            .collect();
        // pprof's list has no unit for the whole table: each number has its own.
        let format = options.format(profile, &options.unit);
        Some(Self { functions, options, format })
    }

    /// The report for people.
    pub fn text(&self, style: Style) -> String {
        let Self { functions, options, format } = self;
        let mut out = format!("Total: {}\n", format.value(options.total));
        for function in functions {
            let name = escape::terminal(&function.name);
            if function.file.is_empty() {
                out.push_str(&format!("No source information for {name}\n"));
                continue;
            }
            let head = format!("ROUTINE ======================== {name} in {}", escape::terminal(&function.file));
            out.push_str(&style.paint("1", &head));
            out.push_str(&format!(
                "\n{:>10} {:>10} (flat, cum) {} of Total\n",
                format.value(function.flat.shown()),
                format.value(function.cum.shown()),
                measure::percentage(function.cum.shown(), options.total)
            ));
            if let Some(missing) = &function.missing {
                out.push_str(&format!(" No source: {}\n", escape::terminal(missing)));
            }
            for line in &function.lines {
                let value = |sides: &Sides| match sides.net() {
                    0 => ".".to_owned(),
                    _ => format.value(sides.shown()),
                };
                let text = line.text.as_deref().map_or(String::new(), source_text);
                let (flat, cum) = (value(&line.flat), value(&line.cum));
                let numbers = format!("{flat:>10} {cum:>10} {:>6}:", line.number);
                let is_anything = line.cum.net() != 0;
                out.push_str(&if is_anything { style.paint("1", &numbers) } else { numbers });
                out.push_str(&text);
                out.push('\n');
            }
        }
        out
    }

    /// The report for programs: the lines that hold something.
    pub fn json(&self, profile: &Profile) -> Value {
        let value_type = &profile.sample_types[self.options.columns.column];
        let functions: Vec<Value> = self
            .functions
            .iter()
            .map(|function| {
                let lines: Vec<Value> = function
                    .lines
                    .iter()
                    .filter(|line| line.cum.net() != 0 || line.flat.net() != 0)
                    .map(|line| {
                        json!({
                            "line": line.number,
                            "flat": sides_json(&self.options, &line.flat),
                            "cum": sides_json(&self.options, &line.cum),
                            "source": line.text,
                        })
                    })
                    .collect();
                json!({
                    "function": function.name,
                    "file": function.file,
                    "flat": narrow(function.flat.shown()),
                    "cum": narrow(function.cum.shown()),
                    "missing": function.missing,
                    "lines": lines,
                })
            })
            .collect();
        json!({
            "sample_type": value_type.kind,
            "unit": value_type.unit,
            "total": narrow(self.options.total),
            "functions": functions,
        })
    }

    /// All lines, for the page, which shows names and source as text: of each sum both sides, new and base.
    pub fn for_page(&self) -> Value {
        let both = |sides: &Sides| json!([narrow(sides.new.value), narrow(sides.base.value)]);
        let functions = self.functions.iter().map(|function| {
            let lines = function.lines.iter().map(|line| {
                json!({
                    "line": line.number,
                    "flat": both(&line.flat),
                    "cum": both(&line.cum),
                    "text": line.text.as_deref().map(source_text),
                })
            });
            json!({
                "function": escape::terminal(&function.name),
                "file": escape::terminal(&function.file),
                "missing": function.missing.as_deref().map(escape::terminal),
                "lines": lines.collect::<Vec<Value>>(),
            })
        });
        functions.collect()
    }

    /// The lines that hold something, for spreadsheets.
    pub fn csv(&self) -> String {
        let mut out = String::from("function,file,line,flat,cum,source\n");
        for function in &self.functions {
            for line in function.lines.iter().filter(|line| line.cum.net() != 0) {
                out.push_str(&format!(
                    "{},{},{},{},{},{}\n",
                    escape::csv(&function.name),
                    escape::csv(&function.file),
                    line.number,
                    measure::times(line.flat.shown(), self.options.ratio),
                    measure::times(line.cum.shown(), self.options.ratio),
                    escape::csv(line.text.as_deref().unwrap_or("").trim()),
                ));
            }
        }
        out
    }
}

/// The lines to show of a function in a file, and why they have no text.
fn lines_of(nodes: &[&graph::Node], file: &str, read: &mut Reader<'_>) -> (Vec<Line>, Option<String>) {
    let mut sums: BTreeMap<i64, (Sides, Sides)> = BTreeMap::new();
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    for node in nodes {
        let line = node.key.line;
        let start = if node.key.start_line != 0 { node.key.start_line } else { line.saturating_sub(MARGIN) };
        (first, last) = (first.min(start), last.max(line.saturating_add(MARGIN)));
        let (flat, cum) = sums.entry(line).or_default();
        flat.merge(&node.flat);
        cum.merge(&node.cum);
    }
    let nothing = || (Sides::default(), Sides::default());
    let line = |number: i64, text: Option<String>, sums: &BTreeMap<i64, (Sides, Sides)>| {
        let (flat, cum) = sums.get(&number).copied().unwrap_or_else(nothing);
        Line { number, flat, cum, text }
    };
    if file.is_empty() {
        return (Vec::new(), None);
    }
    match read(file) {
        Ok(text) => {
            let last = last.min(i64::try_from(text.len()).unwrap_or(i64::MAX));
            let shown = (first.max(1)..=last).map(|number| {
                let at = usize::try_from(number - 1).unwrap_or(usize::MAX);
                line(number, text.get(at).cloned(), &sums)
            });
            // What lies outside of the file, or on no line, is not left out.
            let outside = |number: &&i64| !(first.max(1)..=last).contains(*number);
            let others = sums.keys().filter(outside).map(|&number| line(number, None, &sums));
            let mut lines: Vec<Line> = shown.chain(others).collect();
            lines.sort_by_key(|line| line.number);
            (lines, None)
        }
        Err(reason) => (sums.keys().map(|&number| line(number, None, &sums)).collect(), Some(reason)),
    }
}

/// A line of source for a terminal; tabs keep their meaning.
fn source_text(text: &str) -> String {
    let parts: Vec<_> = text.trim_end().split('\t').map(escape::terminal).collect();
    parts.join("\t")
}
