//! Files in: a path, a directory or standard input becomes a checked message; messages become a
//! [`Profile`].
//!
//! What a file is is decided by its content, never by its name. Today that is pprof, gzipped or plain;
//! anything else is refused with one line that says what it looks like.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use pprof_export::reader::{self, Limits};
use pprof_export::schema;

use crate::error::{Error, Result};
use crate::model::{Builder, Profile, Side};
use crate::run::dumps_in;

/// A file's message, and where it came from.
#[derive(Debug)]
pub struct Input {
    /// The file; `-` for standard input.
    pub path: PathBuf,
    /// Its content.
    pub message: schema::Profile,
}

/// Reads a file, standard input (`-`), or the newest dump in a directory.
pub fn read(path: &Path) -> Result<Input> {
    let limits = Limits::DEFAULT;
    if path == Path::new("-") {
        return decode(
            path,
            reader::read_bounded(io::stdin().lock(), &limits),
            &limits,
        );
    }
    let failed = |source| Error::io("read", path, source);
    if fs::metadata(path).map_err(failed)?.is_dir() {
        return read(&newest_in(path)?);
    }
    let file = File::open(path).map_err(failed)?;
    decode(path, reader::read_bounded(file, &limits), &limits)
}

fn decode(
    path: &Path,
    bytes: core::result::Result<Vec<u8>, reader::Error>,
    limits: &Limits,
) -> Result<Input> {
    let message = bytes
        .and_then(|bytes| reader::decode(&bytes, limits))
        .map_err(|error| Error::input(path, error.to_string()))?;
    Ok(Input {
        path: path.to_owned(),
        message,
    })
}

/// The dump that was written last; the higher number where two were written at once.
fn newest_in(directory: &Path) -> Result<PathBuf> {
    let dumps = dumps_in(directory).map_err(|source| Error::io("read", directory, source))?;
    let newest = dumps
        .into_iter()
        .max_by_key(|dump| (dump.written, dump.sequence));
    newest
        .map(|dump| dump.path)
        .ok_or_else(|| Error::input(directory, "the directory holds no dump (*.heap.pb.gz)"))
}

/// Sums messages of the profile asked about, and of what it is compared with, to one profile; then
/// cuts the frames that the producer declared uninteresting. Equal rows become one, before that, only
/// with `merge_rows`: sums need it not.
pub fn combine(new: &[Input], base: &[Input], merge_rows: bool) -> Result<Profile> {
    let mut builder = Builder::new();
    for (inputs, side) in [(new, Side::New), (base, Side::Base)] {
        for input in inputs {
            builder
                .add(&input.message, side)
                .map_err(|reason| Error::input(&input.path, reason))?;
        }
    }
    let mut profile = builder.finish();
    if merge_rows {
        profile.merge_rows();
    }
    profile.prune();
    Ok(profile)
}
