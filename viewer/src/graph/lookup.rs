//! From a location to its nodes: each of its lines is a frame, and each frame belongs to one node.

use hashbrown::HashMap;

use super::name::clean_path;
use super::{Granularity, Key, NO_STACK, SiteRule};
use crate::model::{Profile, Str};

/// The nodes of each location, and what they were made from. One line of one location is a *slot*.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Start of a location's slots, one more than there are locations; empty if every location has one.
    starts: Vec<u32>,
    /// The node of each slot; those of a location innermost first.
    pub nodes: Vec<u32>,
    pub keys: Vec<Key>,
    /// Whether any node is inlined somewhere.
    pub has_inlined: bool,
    /// The node of rows without frames.
    pub no_stack: u32,
}

impl Lookup {
    pub fn new(profile: &mut Profile, granularity: Granularity, with_objects: bool) -> Self {
        const ABSENT: u32 = u32::MAX;
        let mut known: HashMap<Key, u32> = HashMap::new();
        // Nodes that are known by their names alone are found without hashing.
        let mut by_name = vec![ABSENT; profile.strings.len()];
        let mut lookup = Self {
            starts: Vec::new(),
            nodes: Vec::with_capacity(profile.locations.len()),
            keys: Vec::with_capacity(profile.functions.len() + 1),
            has_inlined: false,
            no_stack: 0,
        };
        let mut find = |key: Key, lookup: &mut Self| {
            let next = lookup.keys.len() as u32;
            let is_name = key == Key { name: key.name, ..Key::default() };
            let node = match by_name.get_mut(key.name.index()).filter(|_| is_name) {
                Some(node) if *node == ABSENT => {
                    *node = next;
                    next
                }
                Some(node) => *node,
                None => *known.entry(key).or_insert(next),
            };
            if node == next {
                lookup.keys.push(key);
            }
            node
        };
        let Profile { locations, functions, mappings, strings, .. } = profile;
        let is_simple = locations.iter().all(|location| location.lines.len() <= 1);
        // The cleaned path of each function's file, once it is asked for.
        let mut files: HashMap<Str, Str> = HashMap::new();
        for location in locations.iter() {
            if !is_simple {
                lookup.starts.push(lookup.nodes.len() as u32);
            }
            let object = location.mapping.map_or(Str::EMPTY, |m| mappings[m as usize].file);
            let address = if granularity == Granularity::Addresses { location.address } else { 0 };
            if location.lines.is_empty() {
                let node = find(Key { address, object, ..Key::default() }, &mut lookup);
                lookup.nodes.push(node);
            }
            for line in &location.lines {
                let function = &functions[line.function as usize];
                let mut file = || {
                    *files.entry(function.file).or_insert_with(|| {
                        let clean = clean_path(strings.get(function.file));
                        strings.intern(&clean)
                    })
                };
                let mut key = Key { name: function.name, address, ..Key::default() };
                match granularity {
                    Granularity::Functions | Granularity::Sites => {}
                    Granularity::FileFunctions => key.file = file(),
                    Granularity::Lines | Granularity::Addresses => {
                        key.file = file();
                        key.line = line.line;
                    }
                    Granularity::Files => {
                        key.name = Str::EMPTY;
                        key.file = file();
                    }
                }
                if with_objects || key.name.is_empty() {
                    key.object = object;
                    key.start_line = function.start_line;
                }
                let node = find(key, &mut lookup);
                lookup.nodes.push(node);
            }
        }
        if !is_simple {
            lookup.starts.push(lookup.nodes.len() as u32);
            lookup.has_inlined = locations.iter().any(|location| location.lines.len() > 1);
        }
        let name = strings.intern(NO_STACK);
        lookup.no_stack = find(Key { name, ..Key::default() }, &mut lookup);
        lookup
    }

    /// The slots of a location, innermost first.
    #[inline]
    pub fn range(&self, location: u32) -> core::ops::Range<usize> {
        let location = location as usize;
        if self.starts.is_empty() {
            return location..location + 1;
        }
        self.starts[location] as usize..self.starts[location + 1] as usize
    }
}

/// The rows of a profile, and what they lead through.
#[derive(Clone, Copy)]
pub(super) struct Paths<'a> {
    pub profile: &'a Profile,
    pub lookup: &'a Lookup,
    /// With a rule, a row leads through nothing but its site.
    pub rule: Option<&'a SiteRule>,
}

impl Paths<'_> {
    /// Calls `take` with each slot that a row leads through, innermost first. Returns the one that it ends in; `None`: it has
    /// no frames.
    #[inline]
    pub fn for_each_slot(&self, row: usize, mut take: impl FnMut(usize)) -> Option<usize> {
        let stack = self.profile.stack(row);
        if let Some(rule) = self.rule {
            let (location, line) = rule.site_of(self.profile, stack)?;
            let slot = self.lookup.range(location).start + line;
            take(slot);
            return Some(slot);
        }
        for &location in stack {
            self.lookup.range(location).for_each(&mut take);
        }
        stack.first().map(|&location| self.lookup.range(location).start)
    }
}
