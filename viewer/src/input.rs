//! Files in: a path, a directory, standard input or an address becomes a checked message; messages
//! become a [`Profile`].
//!
//! What a file is is decided by its content, never by its name ([`formats::read`]); what is none of the
//! known formats is refused with one line that says what it looks like.

pub mod fetch;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use pprof_export::reader::{self, Limits, Rows};
use pprof_export::schema;

use crate::control;
use crate::error::{Error, Result};
use crate::formats;
use crate::model::{Builder, Profile, Side};
use crate::run::some_dumps_in;

/// A file's content, and where it came from.
#[derive(Clone, Debug)]
pub struct Input {
    /// The file; `-` for standard input. An address is without its password, since reports and tables name their files.
    pub path: PathBuf,
    /// All but its rows: [`schema::Profile::sample`] is empty.
    pub message: schema::Profile,
    /// Its rows.
    pub rows: Rows,
}

impl Input {
    /// An input that was made elsewhere, with its samples in the message.
    ///
    /// # Errors
    /// A sample contradicts the message's tables.
    pub fn new(path: PathBuf, mut message: schema::Profile) -> Result<Self> {
        match Rows::take(&mut message) {
            Some(rows) => Ok(Self { path, message, rows }),
            None => Err(Error::input(&path, "its samples contradict its tables")),
        }
    }

    /// The whole message, for writing it.
    pub fn into_message(self) -> schema::Profile {
        let Self { mut message, rows, .. } = self;
        rows.put_back(&mut message);
        message
    }
}

/// Reads a file, standard input (`-`), the newest dump in a directory, or an `http://` address, within
/// the usual limits.
pub fn read(path: &Path) -> Result<Input> {
    read_within(path, &Limits::DEFAULT)
}

/// Reads a file, standard input (`-`), the newest dump in a directory, or an `http://` address.
pub fn read_within(path: &Path, limits: &Limits) -> Result<Input> {
    if path == Path::new("-") {
        return decode(path, reader::read_bounded(io::stdin().lock(), limits), limits);
    }
    if let Some(url) = path.to_str().filter(|text| fetch::is_url(text)) {
        let body = fetch::get(url).map_err(|reason| Error::input(path, reason))?;
        return decode(Path::new(&fetch::shown(url)), reader::read_bounded(body, limits), limits);
    }
    if control::is_socket(path) {
        let dump = control::Client { path: path.to_owned(), pid: None }.ask("dump heap")?;
        return read_bytes(path, &dump, limits);
    }
    let failed = |source| Error::io("read", path, source);
    if fs::metadata(path).map_err(failed)?.is_dir() {
        return read_within(&newest_in(path)?, limits);
    }
    let file = File::open(path).map_err(failed)?;
    decode(path, reader::read_bounded(file, limits), limits)
}

/// What was read from `path` already.
pub fn read_bytes(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Input> {
    decode(path, reader::read_bounded(bytes, limits), limits)
}

fn decode(path: &Path, bytes: core::result::Result<Vec<u8>, reader::Error>, limits: &Limits) -> Result<Input> {
    let (message, rows) = bytes
        .map_err(formats::read::Error::from)
        .and_then(|bytes| formats::read::decode(&bytes, limits))
        .map_err(|error| Error::input(path, error.to_string()))?;
    Ok(Input { path: path.to_owned(), message, rows })
}

/// The dump that was written last; the higher number where two were written at once. One of a peak, which is written
/// beside the final one, only where there is no other.
fn newest_in(directory: &Path) -> Result<PathBuf> {
    let mut dumps = some_dumps_in(directory)?;
    let key = |at: usize| (dumps[at].kind != 'p', dumps[at].written, dumps[at].sequence);
    // There is at least one.
    let newest = (0..dumps.len()).max_by_key(|&at| key(at)).unwrap_or(0);
    Ok(dumps.swap_remove(newest).path)
}

/// Which rows of equal stack and labels become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// None.
    Nothing,
    /// Those of the same side.
    Sides(Periods),
    /// All; those of the base are subtracted.
    All(Periods),
}

/// What becomes of rows that are equal but for the period of the files that they are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Periods {
    /// They become one, as in pprof. How sure it is can't be told any more.
    Mixed,
    /// They stay apart, with the period as a label where it isn't the profile's.
    Apart,
}

/// Sums messages of the profile asked about, and of what it is compared with, to one profile; then
/// cuts the frames that the producer declared uninteresting. Before that, the profile asked about is scaled to the base if
/// `normalise` says so, and equal rows become one as far as `merge` says; sums do not need it.
pub fn combine(new: Vec<Input>, base: Vec<Input>, merge: Merge, normalise: bool) -> Result<Profile> {
    combine_with(new, base, merge, normalise, drop)
}

/// The same; `done` gets each message that is no longer needed.
pub fn combine_with(
    new: Vec<Input>,
    base: Vec<Input>,
    merge: Merge,
    normalise: bool,
    done: fn(schema::Profile),
) -> Result<Profile> {
    let are_several = new.len() + base.len() > 1;
    let mut builder = Builder::new();
    for (inputs, side) in [(new, Side::New), (base, Side::Base)] {
        for Input { path, message, rows } in inputs {
            builder.add(&message, rows, side).map_err(|reason| Error::input(&path, reason))?;
            done(message);
        }
    }
    let mut profile = builder.finish();
    if normalise {
        // What is scaled is rounded: as in pprof, after equal rows of a side have become one. They stay apart where that
        // would mix samples of different weight.
        if profile.sources.windows(2).all(|pair| pair[0].period == pair[1].period) {
            profile.merge_rows(false);
        }
        profile.normalise();
    }
    if matches!(merge, Merge::Sides(Periods::Apart) | Merge::All(Periods::Apart)) {
        profile.settle_labels(&[]);
    }
    match merge {
        Merge::Nothing => {}
        Merge::Sides(_) => profile.merge_rows(false),
        Merge::All(_) => profile.merge_rows(true),
    }
    if merge != Merge::Nothing || normalise {
        profile.renumber(are_several);
    }
    // Only differences ask which rows are the same.
    if profile.has_base() || profile.has_negative_values() {
        profile.remember_groups();
    }
    profile.prune();
    Ok(profile)
}
