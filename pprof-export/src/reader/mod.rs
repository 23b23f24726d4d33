//! The bounded reader: a file that may be hostile in, a checked message out, or one clear error.
//!
//! Used by the tools, offline. A gzip file (of one member or several) is inflated under limits, the
//! message is decoded by hand so that errors can say where and in which field, and what google/pprof
//! would refuse is refused: ids of 0, ids used twice, references to nothing, rows of the wrong width,
//! text outside the string table. Nothing is allocated on a file's word: memory grows with what was
//! really read, and all of it counts against [`Limits`].

mod check;
mod cursor;
mod decode;
mod error;
mod inflate;
mod rows;

pub use error::Error;
pub use inflate::inflate;
pub use rows::{Parts, Positions, Rows};

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
    /// Bytes of the decoded message in memory.
    pub decoded_bytes: u64,
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
        decoded_bytes: 4 << 30,
        samples: 4_000_000,
        strings: 16_000_000,
        depth: 4096,
        name_bytes: 64 << 10,
        labels: 100,
    };
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

/// Decodes a file, gzip or plain, and checks it.
///
/// # Errors
/// Says what the file is instead, or what is wrong with it and where.
pub fn decode(file: &[u8], limits: &Limits) -> Result<Profile, Error> {
    decode_message(&inflate(file, limits)?, limits)
}

/// Decodes a message that is inflated already, and checks it.
///
/// # Errors
/// Says what it is instead, or what is wrong with it and where.
pub fn decode_message(message: &[u8], limits: &Limits) -> Result<Profile, Error> {
    let (mut profile, rows) = decode_rows(message, limits)?;
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
    decode::message(message, limits)
}

fn check_length(file: &[u8], limits: &Limits) -> Result<(), Error> {
    if file.len() as u64 > limits.compressed_bytes {
        let limit = limits.compressed_bytes;
        return Err(Error::Limit { what: "bytes of the file", limit, offset: limit });
    }
    Ok(())
}
