//! Text, stored once and handed out as small handles.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// A handle of a text; 0 is the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Str(u32);

impl Str {
    /// The empty text.
    pub const EMPTY: Self = Self(0);

    /// No text at all.
    pub(super) const NONE: Self = Self(u32::MAX);

    /// Whether this is the empty text.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its number among all texts of a profile, from 0.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// All texts of a profile, one behind the other.
#[derive(Debug)]
pub struct Strings {
    all: String,
    /// Where each text ends; it begins where the one before it ends.
    ends: Vec<usize>,
    known: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Default for Strings {
    fn default() -> Self {
        // The empty text is never looked up in the table.
        Self { all: String::new(), ends: vec![0], known: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }
}

fn span(ends: &[usize], handle: u32) -> core::ops::Range<usize> {
    let handle = handle as usize;
    let start = handle.checked_sub(1).map_or(0, |before| ends[before]);
    start..ends[handle]
}

impl Strings {
    /// About how much memory they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.all.len() + self.ends.len() * (size_of::<usize>() + 2 * size_of::<u32>())
    }

    /// Makes room for `more` texts of so many bytes in all.
    pub fn reserve(&mut self, more: usize, bytes: usize) {
        let Self { all, ends, known, hasher } = self;
        all.reserve(bytes);
        ends.reserve(more);
        known.reserve(more, |&handle| hasher.hash_one(&all[span(ends, handle)]));
    }

    /// The handle of `text`, new or known.
    pub fn intern(&mut self, text: &str) -> Str {
        if text.is_empty() {
            return Str::EMPTY;
        }
        let Self { all, ends, known, hasher } = self;
        let is_same = |&handle: &u32| &all[span(ends, handle)] == text;
        match known.entry(hasher.hash_one(text), is_same, |&handle| hasher.hash_one(&all[span(ends, handle)])) {
            Entry::Occupied(handle) => Str(*handle.get()),
            Entry::Vacant(place) => {
                // The reader bounds the number of strings far below 2^32.
                let handle = ends.len() as u32;
                all.push_str(text);
                ends.push(all.len());
                place.insert(handle);
                Str(handle)
            }
        }
    }

    /// The handle of `text` if it is known.
    pub fn find(&self, text: &str) -> Option<Str> {
        if text.is_empty() {
            return Some(Str::EMPTY);
        }
        let hash = self.hasher.hash_one(text);
        self.known.find(hash, |&handle| self.get(Str(handle)) == text).map(|&handle| Str(handle))
    }

    /// How many texts there are, with the empty one.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Never: the empty text is always there.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The text that is the `at`-th, from 0, the empty one.
    pub fn nth(&self, at: usize) -> &str {
        &self.all[span(&self.ends, at as u32)]
    }

    /// The text of a handle.
    pub fn get(&self, handle: Str) -> &str {
        &self.all[span(&self.ends, handle.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_handle() {
        let mut strings = Strings::default();
        let handles: Vec<Str> = (0..1000).map(|number| strings.intern(&format!("text {}", number % 500))).collect();
        assert_eq!(handles[..500], handles[500..]);
        assert_eq!(strings.get(handles[7]), "text 7");
        assert_eq!(strings.find("text 499"), Some(handles[499]));
        assert_eq!((strings.find("text 500"), strings.find("")), (None, Some(Str::EMPTY)));
        assert_eq!((strings.intern(""), strings.get(Str::EMPTY)), (Str::EMPTY, ""));
    }
}
