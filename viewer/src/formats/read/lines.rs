//! A content line by line, with what an error needs to say where it was.

use pprof_export::reader::{Error as ReaderError, Limits, Source, Window};

use super::Error;

/// What is wrong with the line at hand, or with the content as such.
#[derive(Debug)]
pub enum Fault {
    /// A field of the present line.
    Field {
        /// The format's name.
        format: &'static str,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The container, or a limit.
    Reader(ReaderError),
    /// More of something than [`Limits`] allow.
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit's name.
        flag: &'static str,
        /// How much is accepted.
        limit: u64,
    },
}

impl From<ReaderError> for Fault {
    fn from(error: ReaderError) -> Self {
        Self::Reader(error)
    }
}

impl Fault {
    /// The fault with the place where the lines have come to.
    pub fn at<S: Source>(self, lines: &Lines<S>) -> Error {
        match self {
            Self::Field { format, field, reason } => {
                Error::Text { format, line: lines.number.max(1), offset: lines.offset(), field, reason }
            }
            Self::Reader(error) => Error::Reader(error),
            Self::Limit { what, flag, limit } => {
                Error::Reader(ReaderError::Limit { what, flag, limit, offset: lines.offset() })
            }
        }
    }
}

/// The lines of a content.
pub struct Lines<S> {
    window: Window<S>,
    longest: u64,
    /// Length of the present line, its end included; dropped when the next one is asked for.
    present: usize,
    number: u64,
    ends_in_newline: bool,
}

impl<S: Source> Lines<S> {
    pub fn new(window: Window<S>, limits: &Limits) -> Self {
        Self { window, longest: limits.line_bytes, present: 0, number: 0, ends_in_newline: true }
    }

    /// The next line, without its end.
    pub fn next(&mut self) -> Result<Option<&[u8]>, Fault> {
        self.window.consume(self.present);
        self.present = 0;
        let mut searched = 0;
        loop {
            let bytes = self.window.bytes();
            let found = memchr::memchr(b'\n', &bytes[searched..]);
            searched = found.map_or(bytes.len(), |found| searched + found);
            if searched as u64 > self.longest {
                return Err(Fault::Limit { what: "bytes in one line", flag: "line", limit: self.longest });
            }
            if found.is_some() {
                self.present = searched + 1;
                self.number += 1;
                let line = &self.window.bytes()[..searched];
                return Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)));
            }
            if !self.window.widen()? {
                break;
            }
        }
        if searched == 0 {
            return Ok(None);
        }
        self.present = searched;
        self.number += 1;
        self.ends_in_newline = false;
        Ok(Some(self.window.bytes()))
    }

    /// Whether the last line had an end; where it has none, the file was probably cut.
    pub fn ends_in_newline(&self) -> bool {
        self.ends_in_newline
    }

    /// Offset of the present line.
    fn offset(&self) -> u64 {
        self.window.offset()
    }
}

/// A decimal number that is all of `text`.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| value.checked_mul(10)?.checked_add(digit.into()))?
    })
}

/// A hexadecimal number, with or without `0x`, that is all of `text`.
pub fn hexadecimal(text: &[u8]) -> Option<u64> {
    let text = text.strip_prefix(b"0x").unwrap_or(text);
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = (*byte as char).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

/// The words of a line.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty())
}

/// A word as it may stand in an error: short, and as text.
pub fn shown(word: &[u8]) -> String {
    const LONGEST: usize = 40;
    let text = String::from_utf8_lossy(&word[..word.len().min(LONGEST)]);
    if word.len() > LONGEST { format!("{text}…") } else { text.into_owned() }
}
