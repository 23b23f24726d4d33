//! One binary with what its debug information knows: addresses in, frames out.
//!
//! Files are read piece by piece, never mapped: one that shrinks meanwhile is a read error, not a
//! signal. Everything in them is checked by the libraries that decode ELF and DWARF, which read through
//! [`meter`](super::meter), and a panic in those is caught by the caller.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use addr2line::{LookupContinuation, LookupResult};
use gimli::RunTimeEndian;
use hashbrown::{HashMap, HashSet};
use object::Object;

use super::Options;
use super::batch::{self, Found};
use super::candidates::{self, Candidate, Located};
use super::code::Code;
use super::demangle::cut;
use super::find::Wanted;
use super::meter::{Budget, Meter, Metered};
use super::pieces::Pieces;
use super::sections::{Sections, length_of, sections};
use super::segments::Segments;
use super::split::{self, Files, Packed, Split};
use super::symbols::Symbols;
use crate::measure::counted;

/// Inlined frames of one address that are kept.
pub const MAX_INLINED: usize = 256;
/// Bytes of names and paths that a module's frames may have; and so many more for each address.
const MAX_TEXT: usize = 64 << 20;
const MAX_TEXT_OF_ADDRESS: usize = 4 << 10;
/// Time for a module's addresses; and so much more for each address, and for each MiB of debug information. What a
/// processor that is slow, and busy with other things, needs for an ordinary module is a hundredth.
const MAX_TIME: Duration = Duration::from_secs(5);
const MAX_TIME_OF_ADDRESS: Duration = Duration::from_micros(500);
const MAX_TIME_OF_MIB: Duration = Duration::from_millis(100);

type Context<'a, 'm> = addr2line::Context<Metered<'a, 'm>>;

/// A place in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The function's name for the linker, or its plain name where it has no other.
    pub function: Arc<str>,
    /// Its source file, or "".
    pub file: Arc<str>,
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
    /// Whether there is debug information that wasn't read, or not whole; or it was asked for and didn't come.
    pub is_partial: bool,
    /// Files that were looked at and refused, with the reason.
    pub refused: Vec<String>,
}

/// Names the addresses of one module, on up to so many threads; on none, one by one.
pub fn answer(wanted: &Wanted, queries: &[Query], options: &Options, workers: usize) -> Answer {
    let search = &options.search[..];
    let mut answer = Answer::default();
    let Located { binary, debug, fetched } = candidates::locate(wanted, options, &mut answer.refused);
    let binary_object = binary.as_ref().and_then(Candidate::parsed);
    let debug_object = debug.as_ref().and_then(Candidate::parsed);
    let (Some(best), Some(file)) =
        (debug_object.as_ref().or(binary_object.as_ref()), debug.as_ref().or(binary.as_ref()))
    else {
        answer.reason = Some(with_fetched(candidates::missing(wanted, &answer.refused), fetched));
        return answer;
    };
    answer.file = Some(file.path.clone());
    let little = best.is_little_endian();

    let alt = candidates::shared_part(best, &file.path, search);
    let alt_object = alt.as_ref().and_then(Candidate::parsed);
    let sections = sections(best, file.length());
    let alt_length = alt.as_ref().map_or(0, Candidate::length);
    let alt_sections = alt_object.as_ref().and_then(|object| self::sections(object, alt_length).ok());
    let bytes = [sections.as_ref().ok(), alt_sections.as_ref()].into_iter().flatten().map(length_of).sum();
    let budget = Budget::new(bytes);
    let files = sections.as_ref().map_or_else(|_| Files::default(), |sections| files_of(sections, little, &budget));
    let places: Vec<&Path> = [&debug, &binary].into_iter().flatten().map(|found| found.path.as_path()).collect();
    let package = if files.is_empty() { None } else { split::open_package(&places, search) };
    let package_object = package.as_ref().and_then(|cache| object::File::parse(cache).ok());
    let package_length = package.as_ref().map_or(0, Pieces::length);
    let package_sections = package_object.as_ref().and_then(|object| split::package(object, package_length));
    if package_sections.is_some() {
        budget.add(package_length);
    }
    let split = Split::new(package_sections.as_ref(), &files, little, search, places.last().copied(), &budget);
    if let Err(error) = &sections {
        answer.reason = Some(format!("its debug information cannot be read: {error}"));
    }
    let segments = match (&binary, &debug) {
        (Some(binary), _) => Segments::read(&binary.cache, true),
        (None, Some(debug)) => Segments::read(&debug.cache, false),
        (None, None) => Segments::default(),
    };
    let work = Work::new(queries, &segments, Instant::now() + time(queries.len(), bytes));
    let code = Code::of(best);
    let found = match &sections {
        Ok(sections) if little && workers > 0 => {
            let source = batch::Source { sections, shared: alt_sections.as_ref(), split: &split, code: &code };
            batch::frames(source, &budget, &work.addresses, workers, work.until)
        }
        _ => vec![Found::Unsettled; work.addresses.len()],
    };
    // What is left is taken one by one. That is rarely needed, and takes its time to begin.
    let meter = Meter::new(&budget);
    let packed = split.packed(&meter);
    let halves = Halves { split: &split, packed: packed.as_ref(), meter: &meter };
    let context = OnceCell::new();
    let one_by_one = |address: u64, texts: &mut Texts, reason: &mut Option<String>| {
        let context = context.get_or_init(|| {
            let context = context_of(sections.as_ref().ok()?, alt_sections.as_ref(), little, &meter);
            let complain = |error| {
                let error = budget.exceeded().map_or(error, str::to_owned);
                *reason = Some(format!("its debug information cannot be read: {error}"));
            };
            context.map_err(complain).ok()
        });
        context.as_ref().map_or(Some(Vec::new()), |context| from_dwarf(context, &halves, address, texts))
    };
    let symbols = OnceCell::new();
    let symbol = |address: u64| {
        let symbols = symbols.get_or_init(|| {
            let symbols = Symbols::of(best, &work.addresses);
            match &binary_object {
                Some(binary) if symbols.is_empty() => Symbols::of(binary, &work.addresses),
                _ => symbols,
            }
        });
        symbols.find(address)
    };
    work.name(&found, one_by_one, symbol, &mut answer);
    if let Some(limit) = budget.exceeded().filter(|_| answer.reason.is_none()) {
        answer.reason = Some(format!("its debug information cannot be read whole: {limit}"));
    }
    answer.reason = answer.reason.or_else(|| split.complaint());
    answer.is_partial = answer.reason.is_some() || fetched.is_some();
    if answer.reason.is_none() && !candidates::has_debug_info(best) {
        answer.reason = Some(with_fetched(no_debug_info(wanted, answer.by_symbol > 0), fetched));
    } else if answer.reason.is_none() && answer.by_symbol > 0 {
        answer.reason = Some(format!("{} with a symbol's name only", counted(answer.by_symbol, "address")));
    } else if answer.reason.is_none() && answer.frames.len() < queries.len() {
        answer.reason = Some("some addresses lie in no function it knows".to_owned());
    }
    answer
}

/// The addresses of a module, and how long they may take.
struct Work<'q> {
    queries: &'q [Query],
    /// Where each query's address lies in the file's address space; nothing where it lies in no part of the file.
    translated: Vec<Option<u64>>,
    /// These, sorted and each once.
    addresses: Vec<u64>,
    until: Instant,
}

impl<'q> Work<'q> {
    fn new(queries: &'q [Query], segments: &Segments, until: Instant) -> Self {
        let translated: Vec<Option<u64>> = queries.iter().map(|query| segments.translate(query)).collect();
        let mut addresses: Vec<u64> = translated.iter().copied().flatten().collect();
        addresses.sort_unstable();
        addresses.dedup();
        Self { queries, translated, addresses, until }
    }

    /// Names each query's address: by what was `found`, which stands in the order of the addresses, or `one_by_one` what that
    /// leaves open, and by its symbol.
    fn name(
        &self,
        found: &[Found<'_>],
        one_by_one: impl Fn(u64, &mut Texts, &mut Option<String>) -> Option<Vec<Frame>>,
        symbol: impl Fn(u64) -> Option<Arc<str>>,
        answer: &mut Answer,
    ) {
        let mut texts = Texts::for_addresses(self.queries.len());
        for (query, address) in self.queries.iter().zip(&self.translated) {
            if Instant::now() > self.until {
                answer.reason = Some("its debug information takes too long to search".to_owned());
                break;
            }
            let Some(address) = *address else { continue };
            let position = self.addresses.binary_search(&address).unwrap_or_default();
            let frames = match &found[position] {
                Found::Frames(frames) => frames.iter().map(|frame| texts.frame(frame)).collect(),
                Found::Unsettled => one_by_one(address, &mut texts, &mut answer.reason),
            };
            let named = frames.and_then(|frames| {
                let has_frames = !frames.is_empty();
                let frames = with_symbol(frames, || symbol(address), &mut texts)?;
                answer.by_symbol += usize::from(!has_frames && !frames.is_empty());
                Some(frames)
            });
            let Some(frames) = named else {
                answer.reason = Some("its names are too long".to_owned());
                break;
            };
            if !frames.is_empty() {
                answer.frames.push((query.location, frames));
            }
        }
    }
}

/// Texts of a module's frames, each once, until they are too long together.
struct Texts {
    known: HashSet<Arc<str>>,
    /// The same by where they stand in sections and in frames, and how long they are: long names are looked at once.
    by_place: HashMap<(usize, usize), Arc<str>>,
    left: usize,
}

impl Texts {
    fn for_addresses(count: usize) -> Self {
        let left = MAX_TEXT.saturating_add(count.saturating_mul(MAX_TEXT_OF_ADDRESS));
        Self { known: HashSet::new(), by_place: HashMap::new(), left }
    }

    /// The text; nothing past the limit.
    fn keep(&mut self, text: &str) -> Option<Arc<str>> {
        if let Some(known) = self.known.get(text) {
            return Some(Arc::clone(known));
        }
        self.left = self.left.checked_sub(text.len())?;
        let text: Arc<str> = Arc::from(text);
        self.known.insert(Arc::clone(&text));
        Some(text)
    }

    /// The text of bytes that stay where they are.
    fn keep_bytes(&mut self, bytes: &[u8]) -> Option<Arc<str>> {
        let place = (bytes.as_ptr().addr(), bytes.len());
        if let Some(known) = self.by_place.get(&place) {
            return Some(Arc::clone(known));
        }
        let text = self.keep(cut(&String::from_utf8_lossy(bytes)))?;
        self.by_place.insert(place, Arc::clone(&text));
        Some(text)
    }

    /// A frame of those that stay where they are.
    fn frame(&mut self, frame: &batch::Frame<'_>) -> Option<Frame> {
        Some(Frame {
            function: self.keep_bytes(frame.function)?,
            file: self.keep_bytes(frame.file.as_deref().unwrap_or_default().as_bytes())?,
            line: frame.line,
            column: frame.column,
        })
    }
}

/// The frames of an address, with what its symbol knows better; without those that have no name. Nothing where the names
/// have become too long.
fn with_symbol(mut frames: Vec<Frame>, symbol: impl Fn() -> Option<Arc<str>>, texts: &mut Texts) -> Option<Vec<Frame>> {
    let outermost = frames.last().map_or("", |frame| &*frame.function);
    // Where line tables are all there is, debug information knows `insert` and the symbol table
    // knows whose: a function's own symbol is the better name if it alone is mangled.
    if !is_mangled(outermost)
        && let Some(name) = symbol()
        && (outermost.is_empty() || is_mangled(&name))
    {
        let function = texts.keep(&name)?;
        match frames.last_mut() {
            Some(frame) => frame.function = function,
            None => frames.push(Frame { function, ..Frame::default() }),
        }
    }
    frames.retain(|frame| !frame.function.is_empty());
    Some(frames)
}

fn is_mangled(name: &str) -> bool {
    name.starts_with("_Z") || name.starts_with("_R")
}

fn no_debug_info(wanted: &Wanted, symbols: bool) -> String {
    let id = if wanted.build_id.is_empty() { "" } else { " for build id " };
    let rest = if symbols { "; names from its symbol table only" } else { "" };
    format!("no debug file{id}{}{rest}", wanted.build_id)
}

/// A reason, and what servers have said that were asked.
fn with_fetched(reason: String, fetched: Option<String>) -> String {
    match fetched {
        Some(fetched) => format!("{reason}; {fetched}"),
        None => reason,
    }
}

/// How long the search for so many addresses in so many bytes may take.
fn time(addresses: usize, bytes: u64) -> Duration {
    let times = |unit: Duration, count: u64| unit.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
    MAX_TIME + times(MAX_TIME_OF_ADDRESS, addresses as u64) + times(MAX_TIME_OF_MIB, bytes >> 20)
}

fn context_of<'a, 'm>(
    sections: &'a Sections<'_>,
    shared: Option<&'a Sections<'_>>,
    little: bool,
    meter: &'m Meter<'m>,
) -> Result<Context<'a, 'm>, String> {
    let endian = if little { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let reader = |section: &'a Cow<'_, [u8]>| Metered::new(section, endian, meter);
    Context::from_dwarf(sections.borrow_with_sup(shared, reader)).map_err(|error| error.to_string())
}

/// The files that other halves of units lie in.
fn files_of(sections: &Sections<'_>, little: bool, budget: &Budget) -> Files {
    let meter = Meter::new(budget);
    let endian = if little { RunTimeEndian::Little } else { RunTimeEndian::Big };
    Files::of(&sections.borrow(|section| Metered::new(section, endian, &meter)))
}

/// The other halves of units, for this thread.
struct Halves<'s, 'a, 'm> {
    split: &'s Split<'a>,
    packed: Option<&'s Packed<'a, 'm>>,
    meter: &'m Meter<'m>,
}

/// The frames of an address, innermost first; none where the debug information is silent or broken. Nothing where the names
/// have become too long.
fn from_dwarf<'a, 'm>(
    context: &Context<'a, 'm>,
    halves: &Halves<'_, 'a, 'm>,
    address: u64,
    texts: &mut Texts,
) -> Option<Vec<Frame>> {
    let mut frames = Vec::new();
    let mut lookup = context.find_frames(address);
    let found = loop {
        match lookup {
            LookupResult::Output(found) => break found,
            LookupResult::Load { load, continuation } => {
                let place = (load.comp_dir, load.path);
                let half = halves.split.half(&load.parent, halves.packed, load.dwo_id, place, halves.meter);
                lookup = continuation.resume(half.map(Arc::new));
            }
        }
    };
    let Ok(mut found) = found else { return Some(frames) };
    while let Ok(Some(frame)) = found.next() {
        if frames.len() == MAX_INLINED {
            break;
        }
        let function = frame.function.as_ref().and_then(|function| function.raw_name().ok());
        let place = frame.location.as_ref();
        frames.push(Frame {
            function: texts.keep(cut(&function.unwrap_or_default()))?,
            file: texts.keep(place.and_then(|place| place.file).map(cut).unwrap_or_default())?,
            line: place.and_then(|place| place.line).unwrap_or(0),
            column: place.and_then(|place| place.column).unwrap_or(0),
        });
    }
    Some(frames)
}
