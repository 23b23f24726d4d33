//! What can be wrong with a file that claims to be a profile.

use alloc::string::String;
use core::fmt;

/// Why a file cannot be read. Prints as one line without the file's name.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read at all.
    Io(std::io::Error),
    /// There is nothing in it.
    Empty,
    /// It is something else; other formats may be tried.
    NotPprof {
        /// What it seems to be.
        found: &'static str,
    },
    /// The gzip container is broken.
    Gzip {
        /// Offset in the file.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The zstd container is broken.
    Zstd {
        /// Offset in the file.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// It is larger than the reader was told to accept.
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit's name, as [`Limits::set`](super::Limits::set) knows it.
        flag: &'static str,
        /// How much is accepted.
        limit: u64,
        /// Offset, in the file for its own length and in the inflated message for the rest.
        offset: u64,
    },
    /// The message is no protobuf message, or not this one.
    Malformed {
        /// Offset in the inflated message.
        offset: u64,
        /// The field being read.
        field: &'static str,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The message can be decoded but contradicts itself.
    Invalid {
        /// The repeated field.
        field: &'static str,
        /// Its index in it, from 0.
        index: usize,
        /// Offset in the inflated message: of the entry, or of the message's end where there is none.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot be read: {error}"),
            Self::Empty => f.write_str("not a profile: it ends at byte 0, it is empty"),
            Self::NotPprof { found } => write!(f, "not a profile: it looks like {found} at byte 0"),
            Self::Gzip { offset, reason } => {
                write!(f, "broken gzip file: {reason} (byte {offset} of the file)")
            }
            Self::Zstd { offset, reason } => {
                write!(f, "broken zstd file: {reason} (byte {offset} of the file)")
            }
            Self::Limit { what, limit, offset, .. } => {
                write!(f, "too large: more than {limit} {what} (at byte {offset})")
            }
            Self::Malformed { offset, field, reason } => {
                write!(f, "broken pprof profile: {reason} in {field} (byte {offset} of the message)")
            }
            Self::Invalid { field, index, offset, reason } => {
                write!(f, "broken pprof profile: {field}[{index}] {reason} (byte {offset} of the message)")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}
