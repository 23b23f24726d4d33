//! Files in: what a file is is seen by its content, and all of it becomes a pprof message.
//!
//! A file may be plain, or packed with gzip or zstd. Within may be pprof, a heap profile of jemalloc
//! (`heap_v2`), one of gperftools, tcmalloc or Go in text form, a recording of heaptrack, or folded
//! stacks. Everything is read piece by piece under [`Limits`], and what is wrong is said with its line
//! and field.

mod folded;
mod gperftools;
mod heap_v2;
mod heaptrack;
mod lines;
mod maps;
mod scale;
mod table;
mod zstd;

#[cfg(test)]
mod tests;

use core::fmt;

use pprof_export::reader::{self, Content, Limits, Rows, Source, Window, decode_rows, decode_stream, whole};
use pprof_export::schema::Profile;

use lines::Lines;

/// Why a file cannot be read. Prints as one line without the file's name.
#[derive(Debug)]
pub enum Error {
    /// The container, or a pprof message.
    Reader(reader::Error),
    /// A text format.
    Text {
        /// The format's name.
        format: &'static str,
        /// Number of the line, from 1.
        line: u64,
        /// Offset of the line in the content.
        offset: u64,
        /// The field being read.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<reader::Error> for Error {
    fn from(error: reader::Error) -> Self {
        Self::Reader(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reader(error @ reader::Error::Limit { flag, .. }) => {
                write!(f, "{error}; --limit {flag}=N reads more")
            }
            Self::Reader(error @ reader::Error::NotPprof { found: "text" }) => {
                write!(f, "{error}, but neither jemalloc's, gperftools', heaptrack's nor folded stacks")
            }
            Self::Reader(error) => error.fmt(f),
            Self::Text { format, line, offset, field, reason } => {
                write!(f, "broken {format}: {field}: {reason} (line {line}, byte {offset})")
            }
        }
    }
}

impl std::error::Error for Error {}

/// A format other than pprof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    HeapV2,
    Gperftools,
    Heaptrack,
    Folded,
}

impl Format {
    /// The format of a content that starts like this; `None`: pprof, or unknown.
    fn of(start: &[u8]) -> Option<Self> {
        if start.starts_with(b"heap_v2/") {
            return Some(Self::HeapV2);
        }
        if gperftools::is_header(start) {
            return Some(Self::Gperftools);
        }
        if heaptrack::is_header(start) {
            return Some(Self::Heaptrack);
        }
        folded::is_folded(start).then_some(Self::Folded)
    }
}

/// Reads a file of any known format: a message without its rows, and its rows.
///
/// # Errors
/// Says what the file is instead, or what is wrong with it and where.
pub fn decode(file: &[u8], limits: &Limits) -> Result<(Profile, Rows), Error> {
    let limits = limits.for_file(file.len());
    if zstd::is_zstd(file) {
        return content(|| zstd::Zstd::new(file, &limits), &limits);
    }
    content(|| Content::new(file, &limits), &limits)
}

/// Reads what comes out of a source, which `open` makes; a second one where it has to be read as a whole after all.
fn content<S: Source + Send>(
    open: impl Fn() -> Result<S, reader::Error>,
    limits: &Limits,
) -> Result<(Profile, Rows), Error> {
    /// As much as is needed to tell formats apart.
    const HEAD: usize = 16 << 10;
    let mut window = Window::new(open()?);
    let start = window.want(HEAD)?;
    let format = Format::of(&start[..start.len().min(HEAD)]);
    let Some(format) = format else {
        if let Some(decoded) = decode_stream(window, limits)? {
            return Ok(decoded);
        }
        let message = whole(Window::new(open()?), limits)?;
        return Ok(decode_rows(&message, limits)?);
    };
    let mut lines = Lines::new(window, limits);
    let result = match format {
        Format::HeapV2 => heap_v2::read(&mut lines, limits),
        Format::Gperftools => gperftools::read(&mut lines, limits),
        Format::Heaptrack => heaptrack::read(&mut lines, limits),
        Format::Folded => folded::read(&mut lines, limits),
    };
    let mut profile = result.map_err(|error| error.at(&lines))?;
    // The formats write their rows in order, and no row without its locations.
    let rows = Rows::take(&mut profile).unwrap_or_default();
    Ok((profile, rows))
}
