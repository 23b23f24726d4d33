//! What can go wrong offline: one enum for the whole library.
//!
//! Every variant prints as one line that says which file, what is wrong with it and, where there is
//! something to be done, what to do. The command turns any of them into exit status 2.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::input::fetch;

/// A failure to read, understand or write something.
#[derive(Debug)]
pub enum Error {
    /// A file could not be opened, read, created or renamed.
    Io {
        /// What was attempted: "read", "write", ….
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file was read but is not a profile, or a broken one.
    Input {
        /// The file, or `-`.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Arguments that cannot be used together or with this input.
    Usage(String),
    /// The input is in order and did not pass the check that was asked for.
    Check(String),
    /// Standard output was closed by its reader, which is a success for the reader.
    BrokenPipe,
}

/// The library's result.
pub type Result<T> = core::result::Result<T, Error>;

impl Error {
    /// An input/output failure on `path`.
    pub fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::Io { doing, path: path.to_owned(), source }
    }

    /// A file with content that cannot be used.
    pub fn input(path: &Path, reason: impl Into<String>) -> Self {
        Self::Input { path: path.to_owned(), reason: reason.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, source } => {
                write!(f, "{}: cannot {doing}: {source}", shown(path))
            }
            Self::Input { path, reason } => {
                write!(f, "{}: {}", shown(path), crate::escape::terminal(reason))
            }
            Self::Usage(reason) | Self::Check(reason) => f.write_str(&crate::escape::terminal(reason)),
            Self::BrokenPipe => f.write_str("standard output was closed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A path as it may be printed: `-` is standard input, control characters are made visible, an address has no password.
fn shown(path: &Path) -> String {
    if path == Path::new("-") {
        return "standard input".to_owned();
    }
    crate::escape::terminal(&fetch::shown(&path.to_string_lossy())).into_owned()
}
