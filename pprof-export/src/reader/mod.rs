//! The bounded reader: a file that may be hostile in, a checked message out, or one clear error.
//!
//! Used by the tools, offline. A gzip file (of one member or several) is inflated under limits, the
//! message is decoded by hand so that errors can say where and in which field, and what google/pprof
//! would refuse is refused: ids of 0, ids used twice, references to nothing, rows of the wrong width,
//! text outside the string table. Nothing is allocated on a file's word: memory grows with what was
//! really read, and all of it counts against [`Limits`].
//!
//! A regular message is decoded while it is inflated ([`decode_stream`]). What is irregular in any way is inflated once more
//! and decoded as a whole ([`decode_rows`]): so there is one place where errors are worded, and one order of them.

mod ahead;
mod check;
mod content;
mod cursor;
mod decode;
mod error;
mod row;
mod rows;
mod stream;

pub use content::{Content, Source, Window, check_inflated};
pub use error::Error;
pub use rows::{Parts, Positions, Rows};
pub use stream::decode_stream;

use crate::schema::Profile;
use alloc::vec::Vec;
use std::io::Read;

/// How much of a file is believed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the file.
    pub compressed_bytes: u64,
    /// Bytes after inflation.
    pub inflated_bytes: u64,
    /// Inflated bytes per byte of the file, once 16 MiB have come out.
    pub ratio: u64,
    /// Bytes in memory, of the inflated message and of what is decoded of it; beside
    /// [`Self::memory_ratio`].
    pub memory_bytes: u64,
    /// And so many more for each byte of the file.
    pub memory_ratio: u64,
    /// Bytes of one line of a text format, and of what else is looked at as a whole.
    pub line_bytes: u64,
    /// Rows.
    pub samples: u64,
    /// Entries of the string table.
    pub strings: u64,
    /// Frames of a stack; deeper ones lose their root end, which a frame `[truncated stack]` replaces.
    pub depth: usize,
    /// Bytes of one text; longer ones are cut.
    pub name_bytes: usize,
    /// Labels of a row.
    pub labels: usize,
}

impl Limits {
    /// What is read unless somebody asks for more.
    pub const DEFAULT: Self = Self {
        compressed_bytes: 256 << 20,
        inflated_bytes: 1 << 30,
        ratio: 200,
        memory_bytes: 160 << 20,
        memory_ratio: 32,
        line_bytes: 16 << 20,
        samples: 4_000_000,
        strings: 16_000_000,
        depth: 4096,
        name_bytes: 64 << 10,
        labels: 100,
    };
}

impl Limits {
    /// The names that [`Self::set`] knows, and what they limit.
    pub const NAMES: [(&'static str, &'static str); 10] = [
        ("file", "bytes of the file"),
        ("inflated", "bytes after inflation"),
        ("ratio", "inflated bytes per byte of the file"),
        ("memory", "bytes of the profile in memory"),
        ("line", "bytes of a line"),
        ("samples", "rows"),
        ("strings", "texts"),
        ("depth", "frames of a stack"),
        ("name", "bytes of one text"),
        ("labels", "labels of a row"),
    ];

    /// Sets a limit by its name. Returns whether there is one of that name.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        let length = usize::try_from(value).unwrap_or(usize::MAX);
        match name {
            "file" => self.compressed_bytes = value,
            "inflated" => self.inflated_bytes = value,
            "ratio" => self.ratio = value,
            "memory" => (self.memory_bytes, self.memory_ratio) = (value, 0),
            "line" => self.line_bytes = value,
            "samples" => self.samples = value,
            "strings" => self.strings = value,
            "depth" => self.depth = length,
            "name" => self.name_bytes = length,
            "labels" => self.labels = length,
            _ => return false,
        }
        true
    }

    /// These limits for a file of `length` bytes: what depends on it is decided.
    pub fn for_file(&self, length: usize) -> Self {
        let more = self.memory_ratio.saturating_mul(length as u64);
        Self { memory_bytes: self.memory_bytes.saturating_add(more), memory_ratio: 0, ..*self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Reads all of `source`, which may be endless, as far as the limits allow.
///
/// # Errors
/// The source failed, or is longer than a file may be.
pub fn read_bounded(source: impl Read, limits: &Limits) -> Result<Vec<u8>, Error> {
    let mut file = Vec::new();
    source.take(limits.compressed_bytes.saturating_add(1)).read_to_end(&mut file).map_err(Error::Io)?;
    check_length(&file, limits)?;
    Ok(file)
}

/// The content of a file, which is inflated if it is a gzip file.
///
/// # Errors
/// The container is broken, or its content passes a limit.
pub fn inflate(file: &[u8], limits: &Limits) -> Result<Vec<u8>, Error> {
    let limits = limits.for_file(file.len());
    whole(Window::new(Content::new(file, &limits)?), &limits)
}

/// Everything that is in a window and still comes into it.
///
/// # Errors
/// Those of the source, or there is more than memory allows.
pub fn whole(window: Window<impl Source>, limits: &Limits) -> Result<Vec<u8>, Error> {
    let (mut out, mut source) = window.into_parts();
    loop {
        if out.len() as u64 > limits.memory_bytes {
            let (limit, offset) = (limits.memory_bytes, out.len() as u64);
            return Err(Error::Limit { what: "bytes in memory", flag: "memory", limit, offset });
        }
        if !source.more(&mut out)? {
            return Ok(out);
        }
    }
}

/// Decodes a file, gzip or plain, and checks it.
///
/// # Errors
/// Says what the file is instead, or what is wrong with it and where.
pub fn decode(file: &[u8], limits: &Limits) -> Result<Profile, Error> {
    let limits = limits.for_file(file.len());
    let (mut profile, rows) = match decode_stream(Window::new(Content::new(file, &limits)?), &limits)? {
        Some(decoded) => decoded,
        None => decode_rows(&inflate(file, &limits)?, &limits)?,
    };
    rows.put_back(&mut profile);
    Ok(profile)
}

/// Decodes a message that is inflated already, and checks it; its rows stand beside it, and it has no samples.
///
/// # Errors
/// Says what it is instead, or what is wrong with it and where.
pub fn decode_rows(message: &[u8], limits: &Limits) -> Result<(Profile, Rows), Error> {
    if message.is_empty() {
        return Err(Error::Empty);
    }
    if let Some(found) = decode::foreign(message) {
        return Err(Error::NotPprof { found });
    }
    decode::message(message, &limits.for_file(message.len()))
}

fn check_length(file: &[u8], limits: &Limits) -> Result<(), Error> {
    if file.len() as u64 > limits.compressed_bytes {
        let limit = limits.compressed_bytes;
        return Err(Error::Limit { what: "bytes of the file", flag: "file", limit, offset: limit });
    }
    Ok(())
}
