//! Frames into a profile's tables: strings and functions once each, flags where they are true.

use hashbrown::{HashMap, HashSet};
use pprof_export::schema::{Function, Line, Profile};

use super::demangle::demangle;
use super::module::Frame;

/// Adds names to a profile.
pub struct Writer<'a> {
    profile: &'a mut Profile,
    strings: HashMap<String, i64>,
    /// By name, system name, file and start line.
    functions: HashMap<(i64, i64, i64, i64), u64>,
    next_function: u64,
    /// What mangled names became.
    demangled: HashMap<String, i64>,
    /// By where the texts of frames stand, which stay there while they are kept here: long names are looked at once.
    by_place: HashMap<(usize, usize), (u64, Frame)>,
}

impl<'a> Writer<'a> {
    /// For this profile, whose strings and functions are used again.
    pub fn new(profile: &'a mut Profile) -> Self {
        if profile.string_table.is_empty() {
            profile.string_table.push(String::new());
        }
        let mut strings = HashMap::new();
        for (index, text) in profile.string_table.iter().enumerate() {
            strings.entry(text.clone()).or_insert(index as i64);
        }
        let mut functions = HashMap::new();
        let mut next_function = 1;
        for function in &profile.function {
            let key = (function.name, function.system_name, function.filename, function.start_line);
            functions.entry(key).or_insert(function.id);
            next_function = next_function.max(function.id.saturating_add(1));
        }
        Self { profile, strings, functions, next_function, demangled: HashMap::new(), by_place: HashMap::new() }
    }

    /// Gives a location its frames, innermost first.
    pub fn set(&mut self, location: usize, frames: &[Frame]) {
        let line = frames.iter().map(|frame| Line {
            function_id: self.function(frame),
            line: i64::from(frame.line),
            column: i64::from(frame.column),
        });
        let line = line.collect();
        self.profile.location[location].line = line;
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        let place = (frame.function.as_ptr().addr(), frame.file.as_ptr().addr());
        if let Some(&(id, _)) = self.by_place.get(&place) {
            return id;
        }
        let id = self.new_function(frame);
        self.by_place.insert(place, (id, frame.clone()));
        id
    }

    fn new_function(&mut self, frame: &Frame) -> u64 {
        let system_name = self.string(&frame.function);
        let name = match self.demangled.get(&*frame.function) {
            Some(&name) => name,
            None => {
                let name = self.string(&demangle(&frame.function));
                self.demangled.insert(frame.function.to_string(), name);
                name
            }
        };
        let filename = self.string(&frame.file);
        let (profile, next) = (&mut *self.profile, &mut self.next_function);
        *self.functions.entry((name, system_name, filename, 0)).or_insert_with(|| {
            let id = *next;
            *next += 1;
            profile.function.push(Function { id, name, system_name, filename, start_line: 0 });
            id
        })
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(&index) = self.strings.get(text) {
            return index;
        }
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }

    /// Says of each mapping what all its locations have. Other tools do not look for names again where
    /// any of it is set, so a mapping that is not complete says nothing.
    pub fn finish(self) {
        let files: HashMap<u64, bool> = self.profile.function.iter().map(|f| (f.id, f.filename != 0)).collect();
        let (mut seen, mut nameless, mut fileless) = (HashSet::new(), HashSet::new(), HashSet::new());
        for location in &self.profile.location {
            seen.insert(location.mapping_id);
            if location.line.is_empty() {
                nameless.insert(location.mapping_id);
            }
            // Code that the compiler made up has line 0, and still its file.
            let known = |line: &Line| files.get(&line.function_id) == Some(&true);
            if !location.line.iter().all(known) {
                fileless.insert(location.mapping_id);
            }
        }
        for mapping in &mut self.profile.mapping {
            if !seen.contains(&mapping.id) || nameless.contains(&mapping.id) {
                continue;
            }
            mapping.has_functions = true;
            if !fileless.contains(&mapping.id) {
                mapping.has_filenames = true;
                mapping.has_line_numbers = true;
                mapping.has_inline_frames = true;
            }
        }
    }
}
