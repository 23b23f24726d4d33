//! Text, stored once and handed out as small handles.

use std::collections::HashMap;
use std::sync::Arc;

/// A handle of a text; 0 is the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Str(u32);

impl Str {
    /// The empty text.
    pub const EMPTY: Self = Self(0);

    /// Whether this is the empty text.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// All texts of a profile.
#[derive(Debug)]
pub struct Strings {
    texts: Vec<Arc<str>>,
    known: HashMap<Arc<str>, u32>,
}

impl Default for Strings {
    fn default() -> Self {
        let empty: Arc<str> = Arc::from("");
        Self {
            texts: vec![empty.clone()],
            known: HashMap::from([(empty, 0)]),
        }
    }
}

impl Strings {
    /// The handle of `text`, new or known.
    pub fn intern(&mut self, text: &str) -> Str {
        if let Some(&known) = self.known.get(text) {
            return Str(known);
        }
        // The reader bounds the number of strings far below 2^32.
        let handle = self.texts.len() as u32;
        let text: Arc<str> = Arc::from(text);
        self.texts.push(text.clone());
        self.known.insert(text, handle);
        Str(handle)
    }

    /// The handle of `text` if it is known.
    pub fn find(&self, text: &str) -> Option<Str> {
        self.known.get(text).copied().map(Str)
    }

    /// The text of a handle.
    pub fn get(&self, handle: Str) -> &str {
        &self.texts[handle.0 as usize]
    }
}
