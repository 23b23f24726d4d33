//! Files and lines: a unit's line table, of which only the rows of the wanted addresses are kept.

use std::sync::Arc;

use gimli::{ColumnType, LineProgramHeader, UnitRef};
use hashbrown::HashMap;

use super::reader::Piece;
use crate::symbolize::code::Code;
use crate::symbolize::demangle::cut;
use crate::symbolize::meter::Meter;

/// A row of the table.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    address: u64,
    file: u64,
    line: u32,
    column: u32,
}

/// Where the wanted addresses of a unit are in the source.
pub struct Lines<'u, 'a, 'm> {
    unit: UnitRef<'u, Piece<'a, 'm>>,
    meter: &'m Meter<'m>,
    header: Option<LineProgramHeader<Piece<'a, 'm>>>,
    rows: Vec<Option<Row>>,
    files: HashMap<u64, Option<Arc<str>>>,
}

impl<'u, 'a, 'm> Lines<'u, 'a, 'm> {
    /// Runs the line program of a unit for these sorted addresses.
    ///
    /// # Errors
    /// It is broken, or too long.
    pub fn new(
        unit: UnitRef<'u, Piece<'a, 'm>>,
        meter: &'m Meter<'m>,
        addresses: &[u64],
        code: &Code,
    ) -> gimli::Result<Self> {
        let mut this = Self { unit, meter, header: None, rows: vec![None; addresses.len()], files: HashMap::new() };
        let Some(program) = unit.line_program.clone() else { return Ok(this) };
        let mut rows = program.rows();
        // Of several rows at one address the last one says where its code is.
        let mut last: Option<Row> = None;
        // The first of the addresses at or behind the last row's.
        let mut next = 0;
        // Whether the sequence is of code that is there.
        let mut is_there = None;
        while let Some((_, row)) = rows.next_row()? {
            let address = row.address();
            if !*is_there.get_or_insert_with(|| code.may_begin(address)) {
                is_there = is_there.filter(|_| !row.end_sequence());
                continue;
            }
            if let Some(last) = last {
                while next < addresses.len() && addresses[next] < address {
                    // What is in two sequences is the first one's.
                    this.rows[next].get_or_insert(last);
                    next += 1;
                }
            }
            if row.end_sequence() {
                (last, is_there) = (None, None);
                continue;
            }
            if last.is_none_or(|last| address < last.address) {
                next = addresses.partition_point(|&wanted| wanted < address);
            }
            let line = row.line().map_or(0, |line| line.get() as u32);
            let column = match row.column() {
                ColumnType::Column(column) if line != 0 => column.get() as u32,
                _ => 0,
            };
            last = Some(Row { address, file: row.file_index(), line, column });
        }
        this.header = Some(rows.header().clone());
        Ok(this)
    }

    /// File, line and column of the address at this position; nothing and 0 where they are unknown.
    pub fn place(&mut self, position: usize) -> (Option<Arc<str>>, u32, u32) {
        match self.rows[position] {
            Some(row) => (self.file(Some(row.file)), row.line, row.column),
            None => (None, 0, 0),
        }
    }

    /// The path of a file of the table.
    pub fn file(&mut self, index: Option<u64>) -> Option<Arc<str>> {
        let (index, header) = (index?, self.header.as_ref()?);
        if let Some(known) = self.files.get(&index) {
            return known.clone();
        }
        let path = path(self.unit, header, index).and_then(|path| {
            let path = cut(&path);
            // Its bytes are kept.
            self.meter.charge(path.len() as u64 / 16).ok()?;
            Some(Arc::from(path))
        });
        self.files.insert(index, path.clone());
        path
    }
}

/// The path of a file: below its directory, below the one that the compiler ran in.
fn path<'a, 'm>(
    unit: UnitRef<'_, Piece<'a, 'm>>,
    header: &LineProgramHeader<Piece<'a, 'm>>,
    index: u64,
) -> Option<String> {
    let file = header.file(index)?;
    let text = |piece: Piece<'a, 'm>| String::from_utf8_lossy(piece.bytes());
    let mut path = unit.comp_dir.map(|directory| text(directory).into_owned()).unwrap_or_default();
    // Directory 0 is the one that the compiler ran in.
    if file.directory_index() != 0
        && let Some(directory) = file.directory(header)
    {
        push(&mut path, &text(unit.attr_string(directory).ok()?));
    }
    push(&mut path, &text(unit.attr_string(file.path_name()).ok()?));
    Some(path)
}

fn push(path: &mut String, part: &str) {
    if part.starts_with('/') {
        path.clear();
    } else if !path.is_empty() && !path.ends_with('/') {
        path.push('/');
    }
    path.push_str(part);
}
