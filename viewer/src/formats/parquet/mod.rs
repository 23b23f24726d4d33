//! Profiles as two Parquet tables, for SQL over a fleet: `stacks`, each stack once, and `samples`, the rows of all
//! profiles, with sampling counts, periods and variances, so that sums of any of them have an error.
//!
//! `docs/parquet.md` says what each column holds. Profiles come one after the other; of those that have been written
//! nothing stays in memory but 16 bytes for each different stack.

mod samples;
mod stacks;
mod table;

use std::io::{self, Write};

use hashbrown::HashMap;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;

use crate::model::{Profile, Str};

use samples::{Rows, Samples};
use stacks::{Ids, Names, Stacks};

/// Where a profile comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// What it is called: the path of its file.
    pub name: &'a str,
    /// The process, as far as the file's name tells.
    pub pid: Option<u32>,
    /// The number of the dump within the process.
    pub sequence: Option<u64>,
    /// The kind of dump, a letter.
    pub kind: Option<char>,
}

/// Why there is no table.
#[derive(Debug)]
pub enum Error {
    /// A file can't be written.
    Io(io::Error),
    /// A profile doesn't fit; what is wrong with it.
    Profile(String),
}

impl From<ParquetError> for Error {
    fn from(error: ParquetError) -> Self {
        // What is not an error of the file comes from columns that don't fit together, and has no better place.
        match error {
            ParquetError::External(source) => match source.downcast() {
                Ok(source) => Self::Io(*source),
                Err(source) => Self::Io(io::Error::other(source)),
            },
            other => Self::Io(io::Error::other(other.to_string())),
        }
    }
}

/// How large the tables are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Rows of `samples`.
    pub rows: u64,
    /// Rows of `stacks`.
    pub stacks: u64,
}

/// Writes both tables.
pub struct Export<W: Write + Send> {
    stacks: Stacks<W>,
    samples: Samples<W>,
}

impl<W: Write + Send> Export<W> {
    /// Empty tables, for profiles with the columns of `first`. `added` are names and values of columns that are the
    /// same in every row.
    ///
    /// # Errors
    /// Two columns would have one name, or a file can't be written.
    pub fn new(first: &Profile, added: &[(String, String)], stacks: W, samples: W) -> Result<Self, Error> {
        let samples = Samples::new(first, added, samples).map_err(Error::Profile)?;
        Ok(Self { stacks: Stacks::new(stacks)?, samples })
    }

    /// Adds the rows of a profile, which must be one file's.
    ///
    /// # Errors
    /// It lacks a column of the first one, or a file can't be written.
    pub fn add(&mut self, profile: &Profile, origin: &Origin<'_>) -> Result<(), Error> {
        let columns = self.samples.columns(profile).map_err(Error::Profile)?;
        let mut ids = Ids::new(profile);
        let mut names = Names::new(profile);
        let mut rows = Rows::new(&mut self.samples, profile, origin, columns);
        // Rows of a stack stand together in most profiles.
        let mut last = None;
        for row in 0..profile.row_count() {
            let stack = profile.stack(row);
            let id = match last {
                Some((of, id)) if of == stack => id,
                _ => {
                    let id = ids.of(stack);
                    self.stacks.add(id, stack, &mut names)?;
                    last = Some((stack, id));
                    id
                }
            };
            rows.add(row, id)?;
        }
        Ok(())
    }

    /// Ends both files: `stacks` and `samples`, and how large they are.
    ///
    /// # Errors
    /// One can't be written.
    pub fn finish(self) -> Result<(W, W, Size), Error> {
        let (stacks, stack_count) = self.stacks.finish()?;
        let (samples, rows) = self.samples.finish()?;
        Ok((stacks, samples, Size { rows, stacks: stack_count }))
    }
}

/// Texts of a profile as cells, each copied once.
#[derive(Default)]
struct Texts {
    known: HashMap<Str, ByteArray>,
}

impl Texts {
    fn get(&mut self, profile: &Profile, text: Str) -> ByteArray {
        self.known.entry(text).or_insert_with(|| ByteArray::from(profile.text(text))).clone()
    }
}
