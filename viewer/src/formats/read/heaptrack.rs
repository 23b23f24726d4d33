//! Heaptrack's recordings: every allocation and every free, in order, as lines of hexadecimal numbers.
//!
//! Two stages of the same recording are read: the interpreted one that heaptrack leaves (`i` lines with
//! names, `a` lines that stand for a stack and a size) and the raw one (`m` lines with the modules'
//! addresses, blocks by pointer). What is in use at the end, and all that was allocated, becomes one
//! row per stack and size. Nothing was sampled, so the period is 1.

use std::collections::HashMap;

use pprof_export::reader::{Limits, Source};
use pprof_export::schema::{Line, Location, Mapping, Profile};

use super::lines::{Fault, Lines, hexadecimal, shown, words};
use super::table::{HEAP, Table};

const FORMAT: &str = "heaptrack recording";
/// Pieces of modules at one time, in a raw recording.
const MAX_SEGMENTS: usize = 16 << 10;

fn fault(field: &'static str, reason: impl Into<String>) -> Fault {
    Fault::Field { format: FORMAT, field, reason: reason.into() }
}

/// Whether a content begins with heaptrack's line of versions.
pub fn is_header(start: &[u8]) -> bool {
    let line = start.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let Some(rest) = line.strip_prefix(b"v ") else {
        return false;
    };
    words(rest).count() <= 2 && words(rest).all(|word| hexadecimal(word).is_some())
}

/// What became of the blocks of one stack and one size.
#[derive(Clone, Copy, Default)]
struct Blocks {
    trace: usize,
    size: u64,
    allocated: u64,
    freed: u64,
}

/// A module of a raw recording: name, and its pieces as start, limit and load address.
struct Module {
    mapping: u64,
    start: u64,
    limit: u64,
    base: u64,
}

#[derive(Default)]
struct Recording {
    /// Texts of `s` lines; the line that refers to the first one says 1.
    strings: Vec<String>,
    /// Locations of `i` lines, also from 1.
    instructions: Vec<u64>,
    /// Location and parent of each `t` line; parents are numbered from 1, and always come first.
    traces: Vec<(u64, usize)>,
    blocks: Vec<Blocks>,
    /// By text, in interpreted recordings.
    mappings: HashMap<usize, u64>,
    modules: Vec<Module>,
    /// Mappings of modules by their names, in raw recordings.
    files: HashMap<i64, u64>,
    /// By stack and size, in raw recordings.
    indices: HashMap<(usize, u64), usize>,
    /// By pointer, in raw recordings.
    live: HashMap<u64, usize>,
    is_raw: bool,
    program: String,
}

/// Reads a whole recording.
pub fn read<S: Source>(lines: &mut Lines<S>, limits: &Limits) -> Result<Profile, Fault> {
    let mut table = Table::new(&HEAP, limits)?;
    table.period(1)?;
    let mut recording = Recording::default();
    // What the recording's own tables take is limited like the message.
    let most = limits.memory_bytes / 64;
    while let Some(line) = lines.next()? {
        recording.line(line, &mut table)?;
        let entries = recording.traces.len() + recording.blocks.len() + recording.live.len();
        if entries as u64 > most {
            return Err(Fault::Limit { what: "stacks and blocks", flag: "memory", limit: most });
        }
    }
    if !lines.ends_in_newline() {
        return Err(fault("line", "the file ends within it: it was cut"));
    }
    recording.rows(&mut table, limits.depth)?;
    Ok(table.profile)
}

/// The next number of a line.
fn number<'a>(words: &mut impl Iterator<Item = &'a [u8]>, field: &'static str) -> Result<u64, Fault> {
    let word = words.next().ok_or_else(|| fault(field, "it is missing"))?;
    hexadecimal(word).ok_or_else(|| fault(field, format!("{} is not hexadecimal", shown(word))))
}

/// The next number of a line, as an index that must be below `end`.
fn index<'a>(words: &mut impl Iterator<Item = &'a [u8]>, field: &'static str, end: usize) -> Result<usize, Fault> {
    let value = number(words, field)?;
    usize::try_from(value)
        .ok()
        .filter(|&index| index < end)
        .ok_or_else(|| fault(field, format!("{value:x} is not there, only {end:x} are")))
}

impl Recording {
    fn line(&mut self, line: &[u8], table: &mut Table) -> Result<(), Fault> {
        let (kind, rest) = (line.first().copied().unwrap_or(b'#'), line.get(1..).unwrap_or_default());
        let mut parts = words(rest);
        let parts = &mut parts;
        match kind {
            b's' => {
                let text = sized(rest, "string")?;
                // Counted as if it were in the message; most of them will be.
                table.string(&text)?;
                self.strings.push(text);
            }
            b'x' => self.program = sized(rest, "program").unwrap_or_default(),
            b'X' => {
                let comment = format!("command: {}", String::from_utf8_lossy(rest.trim_ascii()));
                let comment = table.string(&comment)?;
                table.profile.comment.push(comment);
            }
            b'i' => self.instruction(parts, table)?,
            b't' => {
                let location = if self.is_raw || self.instructions.is_empty() {
                    let address = number(parts, "instruction")?;
                    self.raw_location(address, table)?
                } else {
                    match index(parts, "instruction", self.instructions.len() + 1)? {
                        0 => return Err(fault("instruction", "there is none of number 0")),
                        at => self.instructions[at - 1],
                    }
                };
                let parent = index(parts, "parent", self.traces.len() + 1)?;
                self.traces.push((location, parent));
            }
            b'm' => {
                self.is_raw = true;
                self.module(rest, table)?;
            }
            b'a' => {
                let size = number(parts, "size")?;
                let trace = index(parts, "trace", self.traces.len() + 1)?;
                self.blocks.push(Blocks { trace, size, ..Blocks::default() });
            }
            b'+' if self.is_raw => {
                let size = number(parts, "size")?;
                let trace = index(parts, "trace", self.traces.len() + 1)?;
                let pointer = number(parts, "pointer")?;
                let next = self.blocks.len();
                let at = *self.indices.entry((trace, size)).or_insert(next);
                if at == next {
                    self.blocks.push(Blocks { trace, size, ..Blocks::default() });
                }
                self.blocks[at].allocated += 1;
                self.live.insert(pointer, at);
            }
            b'-' if self.is_raw => {
                // A block from before the recording began is unknown.
                if let Some(at) = self.live.remove(&number(parts, "pointer")?) {
                    self.blocks[at].freed += 1;
                }
            }
            b'+' => {
                let at = index(parts, "allocation", self.blocks.len())?;
                self.blocks[at].allocated += 1;
            }
            b'-' => {
                let at = index(parts, "allocation", self.blocks.len())?;
                self.blocks[at].freed += 1;
            }
            b'c' => {
                // Milliseconds since the start.
                let elapsed = number(parts, "time")?;
                let nanos = elapsed.saturating_mul(1_000_000);
                table.profile.duration_nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
            }
            // Versions, page size, resident memory, suppressions, the mark of an attached recording.
            b'v' | b'I' | b'R' | b'S' | b'A' | b'#' => {}
            other => {
                let shown = shown(&[other]);
                return Err(fault("line", format!("{shown} is no known kind")));
            }
        }
        Ok(())
    }

    /// `ip module [function file line]…`: an address with its frames, the innermost first.
    fn instruction<'a>(&mut self, parts: &mut impl Iterator<Item = &'a [u8]>, table: &mut Table) -> Result<(), Fault> {
        let address = number(parts, "address")?;
        let end = self.strings.len() + 1;
        let module = index(parts, "module", end)?;
        let mapping = self.mapping(module, table)?;
        let mut rest = parts.peekable();
        let mut lines = Vec::new();
        while rest.peek().is_some() {
            let function = index(&mut rest, "function", end)?;
            let (mut file, mut line) = (0, 0);
            // Without debug information, a frame is a function and nothing else.
            if rest.peek().is_some() {
                file = index(&mut rest, "file", end)?;
                line = number(&mut rest, "line number")?;
            }
            if function == 0 {
                continue;
            }
            let file = if file == 0 { "" } else { &self.strings[file - 1] };
            let function_id = table.function(&self.strings[function - 1], file)?;
            let line = i64::try_from(line).unwrap_or(0);
            lines.push(Line { function_id, line, column: 0 });
            if lines.len() > 256 {
                return Err(fault("function", "more than 256 inlined ones"));
            }
        }
        if lines.is_empty() {
            // Where a module was loaded is not recorded: no symbolizer may try.
            let name = match module {
                0 => "[unknown]".to_owned(),
                at => {
                    let path = &self.strings[at - 1];
                    format!("[{}]", path.rsplit('/').next().unwrap_or(path))
                }
            };
            let function_id = table.function(&name, "")?;
            lines.push(Line { function_id, ..Line::default() });
        }
        let location = table.location(Location { mapping_id: mapping, address, line: lines, ..Location::default() })?;
        self.instructions.push(location);
        Ok(())
    }

    /// The mapping that stands for a module of an interpreted recording.
    fn mapping(&mut self, module: usize, table: &mut Table) -> Result<u64, Fault> {
        if module == 0 {
            return Ok(0);
        }
        if let Some(&known) = self.mappings.get(&module) {
            return Ok(known);
        }
        let filename = table.string(&self.strings[module - 1])?;
        let id =
            table.mapping(Mapping { memory_limit: u64::MAX, filename, has_functions: true, ..Mapping::default() })?;
        self.mappings.insert(module, id);
        Ok(id)
    }

    /// `-`, or a name, where it was loaded, and pairs of address and length in it.
    fn module(&mut self, rest: &[u8], table: &mut Table) -> Result<(), Fault> {
        if rest.trim_ascii().ends_with(b"-") && words(rest).count() <= 2 {
            self.modules.clear();
            return Ok(());
        }
        let (name, rest) = sized_with_rest(rest, "module")?;
        let name = if name == "x" { self.program.clone() } else { name };
        let mut parts = words(rest);
        let base = number(&mut parts, "load address")?;
        let filename = table.string(&name)?;
        // Addresses are kept as the file's own, which such a mapping says.
        let mapping = match self.files.get(&filename) {
            Some(&known) => known,
            None => table.mapping(Mapping { memory_limit: u64::MAX, filename, ..Mapping::default() })?,
        };
        self.files.insert(filename, mapping);
        let mut parts = parts.peekable();
        while parts.peek().is_some() {
            let start = base.wrapping_add(number(&mut parts, "segment address")?);
            let limit = start.saturating_add(number(&mut parts, "segment length")?);
            if self.modules.len() >= MAX_SEGMENTS {
                return Err(fault("module", format!("more than {MAX_SEGMENTS} segments")));
            }
            let at = self.modules.partition_point(|module| module.start <= start);
            self.modules.insert(at, Module { mapping, start, limit, base });
        }
        Ok(())
    }

    fn raw_location(&self, address: u64, table: &mut Table) -> Result<u64, Fault> {
        let call = address.saturating_sub(1);
        let after = self.modules.partition_point(|module| module.start <= call);
        match self.modules[..after].last() {
            Some(module) if call < module.limit => table.address(module.mapping, call.wrapping_sub(module.base)),
            _ => table.address(0, call),
        }
    }

    fn rows(&self, table: &mut Table, depth: usize) -> Result<(), Fault> {
        let mut stack = Vec::new();
        // Blocks of one stack follow each other in no order; equal rows stay apart, their sums count.
        for blocks in &self.blocks {
            stack.clear();
            let mut at = blocks.trace;
            // Every parent has a smaller number, so this ends; one frame too many tells of the cut.
            while at != 0 && stack.len() <= depth {
                let (location, parent) = self.traces[at - 1];
                stack.push(location);
                at = parent;
            }
            let live = blocks.allocated.saturating_sub(blocks.freed);
            let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            let bytes = |of: u64| count(of.saturating_mul(blocks.size));
            let values = [count(blocks.allocated), bytes(blocks.allocated), count(live), bytes(live)];
            let label = table.bytes_label(count(blocks.size))?;
            table.row(&stack, &values, &[label])?;
        }
        Ok(())
    }
}

/// ` <length> <text>`: a text of that many bytes.
fn sized(rest: &[u8], field: &'static str) -> Result<String, Fault> {
    let (text, _) = sized_with_rest(rest, field)?;
    Ok(text)
}

fn sized_with_rest<'a>(rest: &'a [u8], field: &'static str) -> Result<(String, &'a [u8]), Fault> {
    let rest = rest.trim_ascii_start();
    let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
    let length = hexadecimal(&rest[..end])
        .and_then(|length| usize::try_from(length).ok())
        .ok_or_else(|| fault(field, format!("{} is no length", shown(&rest[..end]))))?;
    let text = rest.get(end + 1..).unwrap_or_default();
    if length > text.len() {
        return Err(fault(field, format!("it is shorter than its length of {length}")));
    }
    let (text, rest) = text.split_at(length);
    Ok((String::from_utf8_lossy(text).into_owned(), rest))
}
