//! The table of stacks: each once, whichever profile had it first, known by a hash of what it says.

use std::cell::OnceCell;
use std::io::Write;

use hashbrown::HashSet;
use parquet::basic::{LogicalType, Repetition};
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use twox_hash::XxHash3_128;

use super::Texts;
use super::table::{Kind, Table, field, group};
use crate::graph::{self, SiteRule};
use crate::model::{Profile, Str};

/// Frames in a row group: about 20 MB of cells.
const GROUP_FRAMES: usize = 1 << 17;

/// What a stack is known by.
pub type Id = u128;

/// Positions of the leaf columns.
mod at {
    pub const STACK_ID: usize = 0;
    pub const SITE: usize = 1;
    pub const FUNCTION: usize = 2;
    pub const FILE: usize = 3;
    pub const LINE: usize = 4;
    pub const IS_INLINED: usize = 5;
    pub const MODULE: usize = 6;
    pub const BUILD_ID: usize = 7;
    pub const FILE_OFFSET: usize = 8;
}

/// How much of a frame's column is there where the frame is and its cell is empty; one more where the cell is not.
const FRAME: i16 = 1;

/// The file of stacks.
pub struct Stacks<W: Write + Send> {
    table: Table<W>,
    known: HashSet<Id>,
    rows: u64,
    frames: usize,
}

impl<W: Write + Send> Stacks<W> {
    /// An empty table, to `out`.
    ///
    /// # Errors
    /// `out` can't be written.
    pub fn new(out: W) -> Result<Self> {
        let frame = vec![
            field("function", Kind::Text, true),
            field("file", Kind::Text, true),
            field("line", Kind::Integer, true),
            field("is_inlined", Kind::Flag, false),
            field("module", Kind::Text, true),
            field("build_id", Kind::Text, true),
            field("file_offset", Kind::Integer, true),
        ];
        let element = group("element", Repetition::REQUIRED, None, frame);
        let list = group("list", Repetition::REPEATED, None, vec![element]);
        let fields = vec![
            field("stack_id", Kind::Text, false),
            field("site", Kind::Text, false),
            group("frames", Repetition::REQUIRED, Some(LogicalType::List), vec![list]),
        ];
        Ok(Self { table: Table::new("stacks", fields, out)?, known: HashSet::new(), rows: 0, frames: 0 })
    }

    /// Adds a stack of a profile, leaf first, unless it is there.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn add(&mut self, id: Id, stack: &[u32], names: &mut Names<'_>) -> Result<()> {
        if !self.known.insert(id) {
            return Ok(());
        }
        self.table.text(at::STACK_ID).push_at(0, text_of(id));
        let site = names.site(stack);
        self.table.text(at::SITE).push_at(0, site);
        let mut level = 0;
        for &location in stack {
            self.location(location, &mut level, names);
        }
        if stack.is_empty() {
            (at::FUNCTION..=at::FILE_OFFSET).for_each(|column| self.nothing(column, 0, 0));
        }
        self.rows += 1;
        if self.frames >= GROUP_FRAMES {
            self.flush()?;
        }
        Ok(())
    }

    /// The frames of a location, innermost first.
    fn location(&mut self, location: u32, level: &mut i16, names: &mut Names<'_>) {
        let profile = names.profile;
        let location = &profile.locations[location as usize];
        let mapping = location.mapping.map(|mapping| &profile.mappings[mapping as usize]);
        let texts = &mut names.texts;
        for depth in 0..location.lines.len().max(1) {
            let line = location.lines.get(depth);
            let function = line.map(|line| &profile.functions[line.function as usize]);
            let name =
                function.map(|function| if function.name.is_empty() { function.system_name } else { function.name });
            for (column, text) in [
                (at::FUNCTION, name),
                (at::FILE, function.map(|function| function.file)),
                (at::MODULE, mapping.map(|mapping| mapping.file)),
                (at::BUILD_ID, mapping.map(|mapping| mapping.build_id)),
            ] {
                match text.filter(|text| !text.is_empty()) {
                    Some(text) => self.table.text(column).push_at(*level, texts.get(profile, text)),
                    None => self.nothing(column, *level, FRAME),
                }
            }
            let offset = mapping.map(|mapping| offset_in_file(location.address, mapping));
            let number = line.map(|line| line.line).filter(|&line| line != 0);
            for (column, number) in [(at::LINE, number), (at::FILE_OFFSET, offset)] {
                match number {
                    Some(number) => self.table.integer(column).push_at(*level, number),
                    None => self.nothing(column, *level, FRAME),
                }
            }
            self.table.flag(at::IS_INLINED).push_at(*level, depth + 1 < location.lines.len());
            self.frames += 1;
            *level = 1;
        }
    }

    fn nothing(&mut self, column: usize, level: i16, defined: i16) {
        match column {
            at::LINE | at::FILE_OFFSET => self.table.integer(column).push_nothing_at(level, defined),
            at::IS_INLINED => self.table.flag(column).push_nothing_at(level, defined),
            _ => self.table.text(column).push_nothing_at(level, defined),
        }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = core::mem::take(&mut self.rows);
        self.frames = 0;
        self.table.flush(rows)
    }

    /// Ends the file; gives back where it was written to, and how many stacks it has.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn finish(mut self) -> Result<(W, u64)> {
        self.flush()?;
        self.table.finish()
    }
}

/// What the stacks of one profile are called.
pub struct Names<'a> {
    profile: &'a Profile,
    rule: OnceCell<SiteRule>,
    texts: Texts,
}

impl<'a> Names<'a> {
    /// The names of a profile.
    pub fn new(profile: &'a Profile) -> Self {
        Self { profile, rule: OnceCell::new(), texts: Texts::default() }
    }

    /// The name of a stack's site, as `top --sites` has it.
    fn site(&mut self, stack: &[u32]) -> ByteArray {
        let profile = self.profile;
        let rule = self.rule.get_or_init(|| SiteRule::new(profile));
        let Some((location, depth)) = rule.site_of(profile, stack) else {
            return ByteArray::from(graph::NO_STACK);
        };
        let location = &profile.locations[location as usize];
        let name = location.lines.get(depth).map_or(Str::EMPTY, |l| profile.functions[l.function as usize].name);
        if !name.is_empty() {
            return self.texts.get(profile, name);
        }
        let object = location.mapping.map_or(Str::EMPTY, |mapping| profile.mappings[mapping as usize].file);
        let key = graph::Key { object, ..graph::Key::default() };
        ByteArray::from(graph::printable(profile, &key).as_ref())
    }
}

/// Hashes of a profile's stacks: of what their frames say, so that the same stack has the same one in every profile,
/// wherever its binaries were mapped.
pub struct Ids {
    locations: Vec<Id>,
    buffer: Vec<u8>,
}

impl Ids {
    /// Those of a profile.
    pub fn new(profile: &Profile) -> Self {
        let mut buffer = Vec::new();
        let locations = (0..profile.locations.len())
            .map(|location| {
                buffer.clear();
                describe(profile, location, &mut buffer);
                XxHash3_128::oneshot(&buffer)
            })
            .collect();
        Self { locations, buffer }
    }

    /// The hash of a stack, leaf first.
    pub fn of(&mut self, stack: &[u32]) -> Id {
        self.buffer.clear();
        for &location in stack {
            self.buffer.extend(self.locations[location as usize].to_le_bytes());
        }
        XxHash3_128::oneshot(&self.buffer)
    }
}

/// All that the frames of a location say. A binary is known by its build id, where it has one, and not by its path.
fn describe(profile: &Profile, location: usize, out: &mut Vec<u8>) {
    fn number(out: &mut Vec<u8>, number: i64) {
        out.extend(number.to_le_bytes());
    }
    let text = |out: &mut Vec<u8>, handle: Str| {
        let text = profile.text(handle);
        number(out, text.len() as i64);
        out.extend(text.as_bytes());
    };
    let location = &profile.locations[location];
    match location.mapping.map(|mapping| &profile.mappings[mapping as usize]) {
        Some(mapping) => {
            let has_id = !mapping.build_id.is_empty();
            text(out, mapping.build_id);
            text(out, if has_id { Str::EMPTY } else { mapping.file });
            number(out, offset_in_file(location.address, mapping));
        }
        None => out.push(0),
    }
    for line in &location.lines {
        let function = &profile.functions[line.function as usize];
        text(out, if function.name.is_empty() { function.system_name } else { function.name });
        text(out, function.file);
        number(out, line.line);
    }
}

/// Where in its file an address comes from; the same in every process.
fn offset_in_file(address: u64, mapping: &crate::model::Mapping) -> i64 {
    address.wrapping_sub(mapping.start).wrapping_add(mapping.offset) as i64
}

/// An id as it stands in both tables.
pub fn text_of(id: Id) -> ByteArray {
    ByteArray::from(format!("{id:032x}").into_bytes())
}
