//! The modules that walks have met. A dump may be written after some of them have been unloaded (programs that end unload
//! their plug-ins first), and the addresses in its stacks would say nothing.

use super::content;
use super::resolve::{self, Module};
use crate::image::BUILD_ID_MAX;
use crate::kept::Kept;

/// Modules that are remembered, at most.
const MODULES: usize = 256;
/// Longest path, in bytes.
const PATH_MAX: usize = 224;
const WORDS: usize = 4 + (BUILD_ID_MAX + PATH_MAX) / 8;

/// Keyed by the modules' identities.
static MET: Kept<MODULES, WORDS> = Kept::new();

/// A module that was loaded once, and may still be.
#[derive(Clone, Copy, Debug)]
pub struct Met {
    /// First address of its code's mapping.
    pub start: u64,
    /// One past the last.
    pub limit: u64,
    /// Where the mapping begins in the file.
    pub offset: u64,
    lengths: [u8; 2],
    build_id: [u8; BUILD_ID_MAX],
    path: [u8; PATH_MAX],
}

impl Met {
    const NONE: Met =
        Met { start: 0, limit: 0, offset: 0, lengths: [0; 2], build_id: [0; BUILD_ID_MAX], path: [0; PATH_MAX] };

    /// As the loader had it; empty for the program itself.
    pub fn path(&self) -> &[u8] {
        &self.path[..usize::from(self.lengths[0])]
    }

    /// Empty where there is none.
    pub fn build_id(&self) -> &[u8] {
        &self.build_id[..usize::from(self.lengths[1])]
    }

    fn to_words(self) -> [u64; WORDS] {
        let [path, build_id] = self.lengths.map(u64::from);
        let mut words = [0; WORDS];
        words[..4].copy_from_slice(&[self.start, self.limit, self.offset, path | build_id << 8]);
        let bytes = self.build_id.chunks_exact(8).chain(self.path.chunks_exact(8));
        for (word, bytes) in words[4..].iter_mut().zip(bytes) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        words
    }

    fn of_words(words: [u64; WORDS]) -> Self {
        let [start, limit, offset, lengths, ..] = words;
        let mut met = Met { start, limit, offset, lengths: [lengths as u8, (lengths >> 8) as u8], ..Met::NONE };
        let bytes = met.build_id.chunks_exact_mut(8).chain(met.path.chunks_exact_mut(8));
        for (bytes, word) in bytes.zip(&words[4..]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        met
    }
}

/// The modules that walks have met, the newest first.
pub fn met() -> impl Iterator<Item = Met> {
    MET.newest_first().map(Met::of_words)
}

/// Remembers the module that holds `address`, unless it is known.
#[inline]
pub(super) fn note(module: &Module, address: usize) {
    if !MET.has(module.identity) {
        remember(module, address);
    }
}

/// What can't be told of is remembered too, without a path: so that nobody tries again.
#[cold]
#[inline(never)]
fn remember(module: &Module, address: usize) {
    MET.add(module.identity, &describe(module, address).unwrap_or(Met::NONE).to_words());
}

fn describe(module: &Module, address: usize) -> Option<Met> {
    let (_, name) = resolve::place(address)?;
    let image = content::image(&(module.start..module.end))?;
    let build_id = image.build_id();
    let mut met = Met {
        start: image.start,
        limit: image.limit,
        offset: image.offset,
        lengths: [name.len() as u8, build_id.len() as u8],
        ..Met::NONE
    };
    // A path that is cut short would be another's.
    met.path.get_mut(..name.len())?.copy_from_slice(name);
    met.build_id[..build_id.len()].copy_from_slice(build_id);
    Some(met)
}
