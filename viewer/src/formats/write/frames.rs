//! Frames as other tools know them: a name, a file, a line; inlined ones are frames like all others.

use std::collections::HashMap;

use crate::graph::NO_STACK;
use crate::model::{Profile, Str};

/// A frame. Equal ones are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame<'a> {
    /// Its function's name, or that of its binary in brackets.
    pub name: &'a str,
    /// Whether it has no more than a binary.
    pub is_nameless: bool,
    /// Source file, or "".
    pub file: &'a str,
    /// Line, 0 if unknown.
    pub line: i64,
    /// Path of the binary, or "".
    pub binary: &'a str,
}

impl Frame<'_> {
    /// The name as it is shown.
    pub fn shown(&self) -> String {
        match (self.is_nameless, self.name) {
            (true, "") => "[unknown]".to_owned(),
            (true, name) => format!("[{name}]"),
            (false, name) => name.to_owned(),
        }
    }
}

/// All frames of a profile.
pub struct Frames<'a> {
    /// The frames, in the order of their first use.
    pub list: Vec<Frame<'a>>,
    /// Index of each location's frames, innermost first.
    by_location: Vec<Vec<u32>>,
    /// The frame of a row without a stack.
    no_stack: u32,
}

impl<'a> Frames<'a> {
    /// The frames of all locations. With `lines`, calls from two lines of a function are two frames.
    pub fn new(profile: &'a Profile, lines: bool) -> Self {
        let mut known: HashMap<Frame<'a>, u32> = HashMap::new();
        let mut list = Vec::new();
        let mut index = |frame: Frame<'a>| {
            *known.entry(frame).or_insert_with_key(|frame| {
                list.push(frame.clone());
                list.len() as u32 - 1
            })
        };
        let by_location = profile
            .locations
            .iter()
            .map(|location| {
                let file = location.mapping.map_or(Str::EMPTY, |m| profile.mappings[m as usize].file);
                let binary = profile.text(file);
                if location.lines.is_empty() {
                    return vec![index(Frame {
                        name: crate::model::base_name(binary),
                        is_nameless: true,
                        file: "",
                        line: 0,
                        binary,
                    })];
                }
                let frame = |line: &crate::model::Line| {
                    let function = &profile.functions[line.function as usize];
                    let name = profile.text(function.name);
                    let name = if name.is_empty() { profile.text(function.system_name) } else { name };
                    Frame {
                        name,
                        is_nameless: name.is_empty(),
                        file: profile.text(function.file),
                        line: if lines { line.line } else { 0 },
                        binary,
                    }
                };
                location.lines.iter().map(frame).map(&mut index).collect()
            })
            .collect();
        let no_stack = index(Frame { name: NO_STACK, is_nameless: false, file: "", line: 0, binary: "" });
        Self { list, by_location, no_stack }
    }

    /// Frames of a row, root first.
    pub fn stack(&self, profile: &Profile, row: usize) -> Vec<u32> {
        let mut stack: Vec<u32> = profile
            .stack(row)
            .iter()
            .rev()
            .flat_map(|&location| self.by_location[location as usize].iter().rev().copied())
            .collect();
        if stack.is_empty() {
            stack.push(self.no_stack);
        }
        stack
    }
}
