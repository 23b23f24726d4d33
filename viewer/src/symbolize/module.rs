//! One binary with what its debug information knows: addresses in, frames out.
//!
//! Files are read piece by piece, never mapped: one that shrinks meanwhile is a read error, not a
//! signal. Everything in them is checked by the libraries that decode ELF and DWARF, which read through
//! [`meter`](super::meter), and a panic in those is caught by the caller.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gimli::RunTimeEndian;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Object, ObjectSection, ObjectSymbol, ReadCache, ReadRef, SymbolKind};

use super::demangle::{cut, demangle};
use super::find::{self, Wanted};
use super::meter::{Bounded, Meter, Metered};

/// Inlined frames of one address that are kept.
const MAX_INLINED: usize = 256;
/// Bytes of sections that were compressed in the file, together; and so many more for each byte of the file.
const MAX_INFLATED: u64 = 64 << 20;
const MAX_RATIO: u64 = 32;
/// Bytes of names and paths that a module's frames may have; and so many more for each address.
const MAX_TEXT: usize = 64 << 20;
const MAX_TEXT_OF_ADDRESS: usize = 4 << 10;
/// Time for a module's addresses; and so much more for each address, and for each MiB of debug information. What a
/// processor that is slow, and busy with other things, needs for an ordinary module is a hundredth.
const MAX_TIME: Duration = Duration::from_secs(5);
const MAX_TIME_OF_ADDRESS: Duration = Duration::from_micros(500);
const MAX_TIME_OF_MIB: Duration = Duration::from_millis(100);

type Parsed<'a> = object::File<'a, &'a ReadCache<Bounded>>;
type Context<'a> = addr2line::Context<Metered<'a>>;

/// A place in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The function's name for the linker, or its plain name where it has no other.
    pub function: String,
    /// Its source file, or "".
    pub file: String,
    /// The line, 0 if unknown.
    pub line: u32,
    /// The column, 0 if unknown.
    pub column: u32,
}

/// An address to name.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// Its location's index in the profile.
    pub location: usize,
    /// The address.
    pub address: u64,
    /// Start, limit and file offset of its mapping.
    pub mapping: (u64, u64, u64),
}

/// What became of a module's addresses.
#[derive(Debug, Default)]
pub struct Answer {
    /// Frames, innermost first, of the locations that got some.
    pub frames: Vec<(usize, Vec<Frame>)>,
    /// How many of them have no more than a symbol's name.
    pub by_symbol: usize,
    /// The file that was read: the debug file if there is one apart.
    pub file: Option<PathBuf>,
    /// Why not everything could be named.
    pub reason: Option<String>,
    /// Files that were looked at and refused, with the reason.
    pub refused: Vec<String>,
}

/// A file that was opened and believed.
struct Candidate {
    path: PathBuf,
    cache: ReadCache<Bounded>,
}

/// Names the addresses of one module.
pub fn answer(wanted: &Wanted, queries: &[Query], search: &[PathBuf]) -> Answer {
    let mut answer = Answer::default();
    let binary = first(wanted, &wanted.binaries(search), None, &mut answer.refused);
    let binary_object = binary.as_ref().and_then(|found| object::File::parse(&found.cache).ok());
    let has_dwarf = binary_object.as_ref().is_some_and(has_debug_info);
    let mut debug = None;
    if !has_dwarf {
        let link = binary_object.as_ref().and_then(|object| object.gnu_debuglink().ok()?);
        let name = link.map(|(name, _)| PathBuf::from(String::from_utf8_lossy(name).into_owned()));
        // Where the mapping has no build id, the binary found has.
        let mut wanted = wanted.clone();
        if let Some(id) = binary_object.as_ref().and_then(build_id)
            && wanted.build_id.is_empty()
        {
            wanted.build_id = id;
        }
        let paths = wanted.debug_files(search, name.as_deref());
        debug = first(&wanted, &paths, link.map(|(_, crc)| crc), &mut answer.refused);
    }
    let debug_object = debug.as_ref().and_then(|found| object::File::parse(&found.cache).ok());
    let Some(best) = debug_object.as_ref().or(binary_object.as_ref()) else {
        answer.reason = Some(missing(wanted, &answer.refused));
        return answer;
    };
    answer.file = debug.as_ref().or(binary.as_ref()).map(|found| found.path.clone());

    let alt = shared_part(best, answer.file.as_deref(), search);
    let alt_object = alt.as_ref().and_then(|found| object::File::parse(&found.cache).ok());
    let sections = sections(best, debug.as_ref().or(binary.as_ref()));
    let alt_sections = alt_object.as_ref().and_then(|object| self::sections(object, alt.as_ref()).ok());
    let bytes = [sections.as_ref().ok(), alt_sections.as_ref()].into_iter().flatten().map(length).sum();
    let meter = Meter::new(bytes);
    let context = match sections.as_ref() {
        Ok(sections) => context(sections, alt_sections.as_ref(), best.is_little_endian(), &meter),
        Err(error) => Err(error.clone()),
    };
    let context = match context {
        Ok(context) => Some(context),
        Err(error) => {
            let error = meter.exceeded().map_or(error, str::to_owned);
            answer.reason = Some(format!("its debug information cannot be read: {error}"));
            None
        }
    };
    let mut symbols = symbols(best);
    if let Some(binary) = &binary_object
        && symbols.is_empty()
    {
        symbols = self::symbols(binary);
    }
    let layout = binary.as_ref().map(|found| (&found.cache, true));
    let layout = layout.or(debug.as_ref().map(|found| (&found.cache, false)));
    let segments = layout.map(|(cache, exact)| Segments::read(cache, exact)).unwrap_or_default();
    let mut text_left = MAX_TEXT.saturating_add(queries.len().saturating_mul(MAX_TEXT_OF_ADDRESS));
    let (started, most) = (Instant::now(), time(queries.len(), bytes));
    for query in queries {
        if started.elapsed() > most {
            answer.reason = Some("its debug information takes too long to search".to_owned());
            break;
        }
        let Some(address) = segments.translate(query) else { continue };
        let mut frames = context.as_ref().map(|c| from_dwarf(c, address)).unwrap_or_default();
        let outermost = frames.last().map_or("", |frame| frame.function.as_str());
        // Where line tables are all there is, debug information knows `insert` and the symbol table
        // knows whose: a function's own symbol is the better name if it alone is mangled.
        if !is_mangled(outermost)
            && let Some(name) = symbols.find(address)
            && (outermost.is_empty() || is_mangled(&name))
        {
            answer.by_symbol += usize::from(frames.is_empty());
            match frames.last_mut() {
                Some(frame) => frame.function = name,
                None => frames.push(Frame { function: name, ..Frame::default() }),
            }
        }
        if let Some(frame) = frames.last_mut()
            && let Some(name) = symbols.find(address).filter(|name| is_fuller(name, &frame.function))
        {
            frame.function = name;
        }
        frames.retain(|frame| !frame.function.is_empty());
        let text: usize = frames.iter().map(|frame| frame.function.len() + frame.file.len()).sum();
        let Some(left) = text_left.checked_sub(text) else {
            answer.reason = Some("its names are too long".to_owned());
            break;
        };
        text_left = left;
        if !frames.is_empty() {
            answer.frames.push((query.location, frames));
        }
    }
    if let Some(limit) = meter.exceeded().filter(|_| answer.reason.is_none()) {
        answer.reason = Some(format!("its debug information cannot be read whole: {limit}"));
    }
    if answer.reason.is_none() && !has_debug_info(best) {
        answer.reason = Some(no_debug_info(wanted, answer.by_symbol > 0));
    } else if answer.reason.is_none() && answer.by_symbol > 0 {
        answer.reason = Some(format!("{} addresses have a symbol's name only", answer.by_symbol));
    } else if answer.reason.is_none() && answer.frames.len() < queries.len() {
        answer.reason = Some("some addresses lie in no function it knows".to_owned());
    }
    answer
}

fn is_mangled(name: &str) -> bool {
    name.starts_with("_Z") || name.starts_with("_R")
}

/// Whether a symbol tells more than the name that debug information has for the same function: "line tables only",
/// as Rust's release builds like them, say `insert` where the symbol says `cache::store::insert`.
fn is_fuller(symbol: &str, name: &str) -> bool {
    let is_mangled = |name: &str| name.starts_with("_Z") || name.starts_with("_R");
    let plain = name.split('<').next().unwrap_or(name);
    is_mangled(symbol) && !is_mangled(name) && !plain.is_empty() && demangle(symbol).contains(plain)
}

fn missing(wanted: &Wanted, refused: &[String]) -> String {
    match refused.first() {
        Some(refused) => refused.clone(),
        None if wanted.build_id.is_empty() => "no such file".to_owned(),
        None => format!("no file with build id {}", wanted.build_id),
    }
}

fn no_debug_info(wanted: &Wanted, symbols: bool) -> String {
    let id = if wanted.build_id.is_empty() { "" } else { " for build id " };
    let rest = if symbols { "; names from its symbol table only" } else { "" };
    format!("no debug file{id}{}{rest}", wanted.build_id)
}

/// The first of the files that is an ELF file and the right one.
fn first(
    wanted: &Wanted,
    paths: &[PathBuf],
    crc: Option<u32>,
    refused: &mut Vec<String>,
) -> Option<Candidate> {
    for path in paths {
        let Ok(mut file) = find::open(path) else { continue };
        let sum = crc.and_then(|_| find::checksum(&mut file).ok());
        let cache = ReadCache::new(Bounded::new(file));
        let verdict = match object::File::parse(&cache) {
            Err(_) => continue,
            Ok(object) => match build_id(&object) {
                Some(id) if wanted.build_id.is_empty() || id == wanted.build_id => Ok(()),
                Some(id) => Err(format!("build id is {id}, not {}", wanted.build_id)),
                // A debug file without build id is known by its checksum, a binary by its path.
                None if crc.is_some() && sum != crc => Err("checksum differs".to_owned()),
                None if !wanted.build_id.is_empty() => Err("it has no build id".to_owned()),
                None => Ok(()),
            },
        };
        match verdict {
            Ok(()) => return Some(Candidate { path: path.clone(), cache }),
            Err(reason) => refused.push(format!("{}: {reason}", path.display())),
        }
    }
    None
}

fn build_id(object: &Parsed<'_>) -> Option<String> {
    let id = object.build_id().ok()??;
    Some(id.iter().take(64).map(|byte| format!("{byte:02x}")).collect())
}

fn has_debug_info(object: &Parsed<'_>) -> bool {
    object.section_by_name(".debug_info").is_some()
}

/// The file that dwz moved common parts of several debug files to.
fn shared_part(object: &Parsed<'_>, file: Option<&Path>, search: &[PathBuf]) -> Option<Candidate> {
    let (name, id) = object.gnu_debugaltlink().ok()??;
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let wanted = Wanted::new("", &id);
    if wanted.build_id.is_empty() {
        return None;
    }
    let name = PathBuf::from(String::from_utf8_lossy(name).into_owned());
    first(&wanted, &find::shared_parts(file?, &name, &id, search), None, &mut Vec::new())
}

type Sections<'a> = gimli::DwarfSections<Cow<'a, [u8]>>;

/// The sections of debug information, inflated where they are compressed.
fn sections<'a>(object: &Parsed<'a>, file: Option<&Candidate>) -> Result<Sections<'a>, String> {
    let length = file.and_then(|found| found.cache.len().ok()).unwrap_or(0);
    let mut left = MAX_INFLATED.saturating_add(length.saturating_mul(MAX_RATIO));
    gimli::DwarfSections::load(|id| {
        let Some(section) = object.section_by_name(id.name()) else { return Ok(Cow::Borrowed(&[][..])) };
        let data = section.compressed_data().map_err(|error| error.to_string())?;
        if data.format != object::CompressionFormat::None {
            let reason = || format!("{} is too large when inflated: {} bytes", id.name(), data.uncompressed_size);
            left = left.checked_sub(data.uncompressed_size).ok_or_else(reason)?;
        }
        data.decompress().map_err(|error| error.to_string())
    })
}

/// Bytes of all sections.
fn length(sections: &Sections<'_>) -> u64 {
    let mut bytes = 0;
    // An empty section is made of each; what counts is the way there.
    let _ = sections.borrow(|section| {
        bytes += section.len() as u64;
        gimli::EndianSlice::new(&[], RunTimeEndian::Little)
    });
    bytes
}

/// How long the search for so many addresses in so many bytes may take.
fn time(addresses: usize, bytes: u64) -> Duration {
    let times = |unit: Duration, count: u64| unit.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
    MAX_TIME + times(MAX_TIME_OF_ADDRESS, addresses as u64) + times(MAX_TIME_OF_MIB, bytes >> 20)
}

fn context<'a, 'f>(
    sections: &'a Sections<'f>,
    shared: Option<&'a Sections<'f>>,
    little: bool,
    meter: &'a Meter,
) -> Result<Context<'a>, String> {
    let endian = if little { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let reader = |section: &'a Cow<'f, [u8]>| Metered::new(section, endian, meter);
    Context::from_dwarf(sections.borrow_with_sup(shared, reader)).map_err(|error| error.to_string())
}

/// The frames of an address, innermost first; none where the debug information is silent or broken.
fn from_dwarf(context: &Context<'_>, address: u64) -> Vec<Frame> {
    let mut frames = Vec::new();
    let Ok(mut found) = context.find_frames(address).skip_all_loads() else { return frames };
    while let Ok(Some(frame)) = found.next() {
        if frames.len() == MAX_INLINED {
            break;
        }
        let function = frame.function.as_ref().and_then(|function| function.raw_name().ok());
        let place = frame.location.as_ref();
        frames.push(Frame {
            function: function.map(|name| cut(&name).to_owned()).unwrap_or_default(),
            file: place.and_then(|place| place.file).map(|file| cut(file).to_owned()).unwrap_or_default(),
            line: place.and_then(|place| place.line).unwrap_or(0),
            column: place.and_then(|place| place.column).unwrap_or(0),
        });
    }
    frames
}

/// Functions of the ELF symbol table by address.
struct Symbols<'a, 'b> {
    object: &'b Parsed<'a>,
    /// Start, length (0: unknown), index, whether in the dynamic table; sorted.
    sorted: Vec<(u64, u64, object::SymbolIndex, bool)>,
}

fn symbols<'a, 'b>(object: &'b Parsed<'a>) -> Symbols<'a, 'b> {
    let mut sorted = Vec::new();
    for (dynamic, table) in [(false, object.symbols()), (true, object.dynamic_symbols())] {
        for symbol in table {
            if symbol.kind() == SymbolKind::Text && !symbol.is_undefined() {
                sorted.push((symbol.address(), symbol.size(), symbol.index(), dynamic));
            }
        }
        if !sorted.is_empty() {
            break;
        }
    }
    sorted.sort_unstable_by_key(|&(start, size, index, _)| (start, size, index.0));
    Symbols { object, sorted }
}

impl Symbols<'_, '_> {
    fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The symbol that covers the address; one without length reaches to the next.
    fn find(&self, address: u64) -> Option<String> {
        let after = self.sorted.partition_point(|symbol| symbol.0 <= address);
        let &(start, size, index, dynamic) = self.sorted[..after].last()?;
        if size != 0 && address - start >= size {
            return None;
        }
        let table = if dynamic {
            self.object.dynamic_symbol_table()?
        } else {
            self.object.symbol_table()?
        };
        let symbol = object::ObjectSymbolTable::symbol_by_index(&table, index).ok()?;
        let name = symbol.name().ok().filter(|name| !name.is_empty())?;
        // The version of a versioned symbol is no part of its name.
        Some(cut(name.split('@').next().unwrap_or(name)).to_owned())
    }
}

/// How a file's loadable pieces lie in its own address space.
#[derive(Debug, Default)]
struct Segments {
    /// Offset, length in the file, address, length in memory, executable.
    all: Vec<(u64, u64, u64, u64, bool)>,
    /// The offsets are those of the file that was mapped; a debug file's own may be others.
    exact: bool,
}

impl Segments {
    fn read(cache: &ReadCache<Bounded>, exact: bool) -> Self {
        let mut all = Vec::new();
        if let Ok(object) = object::read::elf::ElfFile64::<object::Endianness, _>::parse(cache) {
            let endian = object.endian();
            let headers = object.elf_header().program_headers(endian, cache).unwrap_or(&[]);
            for header in headers.iter().filter(|h| h.p_type(endian) == object::elf::PT_LOAD) {
                all.push((
                    header.p_offset(endian),
                    header.p_filesz(endian),
                    header.p_vaddr(endian),
                    header.p_memsz(endian),
                    header.p_flags(endian).0 & object::elf::PF_X.0 != 0,
                ));
            }
        }
        Self { all, exact }
    }

    /// An address in the process as one in the file's address space.
    fn translate(&self, query: &Query) -> Option<u64> {
        let (start, limit, offset) = query.mapping;
        if !(start..limit).contains(&query.address) {
            return None;
        }
        let distance = query.address - start;
        // Already in the file's address space, as some producers normalize it.
        if start == 0 && limit == u64::MAX {
            return Some(query.address);
        }
        if self.exact {
            let in_file = offset.checked_add(distance)?;
            // Mappings are whole pages, so a segment begins up to a page before its first byte.
            let covers = |&&(offset, length, _, _, executable): &&(u64, u64, u64, u64, bool)| {
                executable && in_file >= offset & !0xfff && in_file < offset.saturating_add(length)
            };
            let &(offset, _, address, _, _) = self.all.iter().find(covers)?;
            return Some(address.wrapping_add(in_file.wrapping_sub(offset)));
        }
        // A debug file keeps addresses but not offsets: the mapping starts where the only executable
        // segment does.
        let mut executable = self.all.iter().filter(|segment| segment.4);
        let &(_, _, address, length, _) = executable.next()?;
        if executable.next().is_some() || distance > length.saturating_add(0xfff) {
            return None;
        }
        Some((address & !0xfff).wrapping_add(distance))
    }
}
