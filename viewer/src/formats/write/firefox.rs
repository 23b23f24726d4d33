//! The processed profile of the Firefox Profiler, which opens it from a file: every column is a track
//! of its own. Columns of bytes are native allocations, others are samples with weights.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::frames::Frames;
use super::{program, rows};
use crate::model::Profile;

/// Versions of the format: of what Gecko writes, and of what has been processed.
const GECKO_VERSION: u32 = 29;
const PROCESSED_VERSION: u32 = 48;

/// The tree of stacks: a node is its frame and its caller's node.
#[derive(Default)]
struct Stacks {
    frames: Vec<u32>,
    prefixes: Vec<Option<u32>>,
    known: HashMap<(Option<u32>, u32), u32>,
}

impl Stacks {
    /// The node of a stack, root first.
    fn node(&mut self, stack: &[u32]) -> Option<u32> {
        let mut node = None;
        for &frame in stack {
            let next = self.frames.len() as u32;
            let at = *self.known.entry((node, frame)).or_insert(next);
            if at == next {
                self.frames.push(frame);
                self.prefixes.push(node);
            }
            node = Some(at);
        }
        node
    }
}

/// Strings by their index.
#[derive(Default)]
struct Strings {
    list: Vec<String>,
    known: HashMap<String, usize>,
}

impl Strings {
    fn index(&mut self, text: String) -> usize {
        if let Some(&known) = self.known.get(&text) {
            return known;
        }
        self.list.push(text.clone());
        self.known.insert(text, self.list.len() - 1);
        self.list.len() - 1
    }
}

/// The file. Its start time is the profile's, in milliseconds.
pub fn text(profile: &Profile) -> String {
    let frames = Frames::new(profile, true);
    let mut strings = Strings::default();
    let functions = functions(&frames, &mut strings);
    let threads: Vec<Value> = (0..profile.sample_types.len())
        .map(|column| thread(profile, &frames, &functions, &strings.list, column))
        .collect();
    let file = json!({
        "meta": {
            "interval": 1,
            "startTime": profile.time_nanos / 1_000_000,
            "processType": 0,
            "product": program(profile),
            "importedFrom": "heapsift",
            "stackwalk": 1,
            "debug": 0,
            "version": GECKO_VERSION,
            "preprocessedProfileVersion": PROCESSED_VERSION,
            "symbolicationNotSupported": true,
            "usesOnlyOneStackType": true,
            "doesNotUseFrameImplementation": true,
            "categories": [{ "name": "Other", "color": "grey", "subcategories": ["Other"] }],
            "markerSchema": [],
            "initialSelectedThreads": [profile.default_type],
        },
        "libs": [],
        "pages": [],
        "threads": threads,
    });
    format!("{file}\n")
}

/// The tables of functions and of frames, the same for every track.
struct Tables {
    functions: Value,
    frames: Value,
}

fn functions(frames: &Frames<'_>, strings: &mut Strings) -> Tables {
    let (mut names, mut files) = (Vec::new(), Vec::new());
    let mut known: HashMap<(usize, Option<usize>), usize> = HashMap::new();
    let (mut of_frame, mut lines) = (Vec::new(), Vec::new());
    for frame in &frames.list {
        let name = strings.index(frame.shown());
        let file = (!frame.file.is_empty()).then(|| strings.index(frame.file.to_owned()));
        let next = names.len();
        let at = *known.entry((name, file)).or_insert(next);
        if at == next {
            names.push(name);
            files.push(file);
        }
        of_frame.push(at);
        lines.push((frame.line > 0).then_some(frame.line));
    }
    let (count, length) = (names.len(), of_frame.len());
    Tables {
        functions: json!({
            "length": count,
            "name": names,
            "isJS": vec![false; count],
            "relevantForJS": vec![false; count],
            "resource": vec![-1; count],
            "fileName": files,
            "lineNumber": vec![Value::Null; count],
            "columnNumber": vec![Value::Null; count],
        }),
        frames: json!({
            "length": length,
            "address": vec![-1; length],
            "inlineDepth": vec![0; length],
            "category": vec![0; length],
            "subcategory": vec![0; length],
            "func": of_frame,
            "nativeSymbol": vec![Value::Null; length],
            "innerWindowID": vec![Value::Null; length],
            "implementation": vec![Value::Null; length],
            "line": lines,
            "column": vec![Value::Null; length],
        }),
    }
}

fn thread(profile: &Profile, frames: &Frames<'_>, tables: &Tables, strings: &[String], column: usize) -> Value {
    let value_type = &profile.sample_types[column];
    let mut stacks = Stacks::default();
    let (mut nodes, mut weights) = (Vec::new(), Vec::new());
    for (row, value) in rows(profile, column) {
        nodes.push(stacks.node(&frames.stack(profile, row)));
        weights.push(value);
    }
    let length = nodes.len();
    let is_bytes = value_type.unit == "bytes";
    let table = json!({
        "length": length,
        "time": vec![0; length],
        "stack": nodes,
        "weight": weights,
        "weightType": if is_bytes { "bytes" } else { "samples" },
    });
    let none = json!({ "length": 0, "time": [], "stack": [], "weight": [], "weightType": "samples" });
    let nodes = stacks.frames.len();
    let mut thread = json!({
        "processType": "default",
        "processStartupTime": 0,
        "processShutdownTime": null,
        "registerTime": 0,
        "unregisterTime": null,
        "pausedRanges": [],
        "name": value_type.kind,
        "isMainThread": true,
        "processName": program(profile),
        "pid": column.to_string(),
        "tid": column,
        "samples": if is_bytes { none } else { table.clone() },
        "markers": {
            "length": 0, "data": [], "name": [], "startTime": [], "endTime": [], "phase": [],
            "category": [],
        },
        "stackTable": {
            "length": nodes,
            "frame": stacks.frames,
            "prefix": stacks.prefixes,
            "category": vec![0; nodes],
            "subcategory": vec![0; nodes],
        },
        "frameTable": tables.frames,
        "funcTable": tables.functions,
        "resourceTable": { "length": 0, "lib": [], "name": [], "host": [], "type": [] },
        "nativeSymbols": {
            "length": 0, "libIndex": [], "address": [], "name": [], "functionSize": [],
        },
        "stringArray": strings,
    });
    if is_bytes {
        thread["nativeAllocations"] = table;
    }
    thread
}
