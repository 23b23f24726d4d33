//! The streaming writer: a heap profile as gzip pprof, row by row, without ever holding the message.
//!
//! Used by the profiler inside somebody else's process. The caller hands over what a row is: a stack,
//! values, labels. Who has many makes [`Located`] of the stacks and [`LabelSet`]s of the labels first, and
//! writes rows of them with [`Writer::row`]; [`Writer::sample`] does all at once. The writer interns strings,
//! gives mappings, locations and functions ids dense from 1 in the order of their first use, and writes each
//! of them before what refers to it (protobuf's fields may come in any order). It keeps the distinct
//! addresses and strings, and the compressor's buffers; growing them is fallible.
//!
//! ```
//! use pprof_export::writer::{Header, Label, LabelValue, Mapping, Row, Writer};
//! # fn main() -> Result<(), pprof_export::writer::SinkError> {
//! let mut writer = Writer::new(Vec::new(), &Header::heap(512 << 10, 1_700_000_000_000_000_000))?;
//! writer.mapping(&Mapping { start: 0x1000, limit: 0x3000, offset: 0, path: b"/bin/app", build_id: &[0xab, 0xcd] })?;
//! writer.sample(&Row {
//!     stack: &[0x1234, 0x2345],
//!     root: None,
//!     values: &[8, 524_800, 8, 524_800],
//!     labels: &[Label { key: "bytes", value: LabelValue::Number { value: 64, unit: "bytes" } }],
//! })?;
//! let file: Vec<u8> = writer.finish()?;
//! # Ok(())
//! # }
//! ```

use crate::AllocatorStats;
use crate::address_table::{AddressTable, Encoded, OutOfMemory};
use crate::gzip::GzipStream;
use crate::intern::{Interned, Strings};
use crate::located::{Ids, Located};
pub use crate::records::{
    DROP_FRAMES, DROP_FREES, HEAP_TYPES, Header, Label, LabelSet, LabelValue, Mapping, PEAK_COMMENT, Row, ValueType,
    VirtualFrame,
};
use crate::wire::{BYTES, put_int, put_tag, put_uint, put_varint, varint_len};
use alloc::vec::Vec;

/// Where the bytes go: a file, a socket, a vector.
pub trait Sink {
    /// Takes all of `bytes`, in chunks of up to 32 KiB.
    ///
    /// # Errors
    /// Says by its errno why it can't; the dump is then given up.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError>;
}

/// Why a sink or the writer failed: an errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkError(pub i32);

impl SinkError {
    /// ENOMEM.
    pub const OUT_OF_MEMORY: Self = Self(12);
    /// EINVAL: a row's values do not match the header's sample types.
    pub const INVALID: Self = Self(22);
    /// EIO: the compressor refused, which it has no reason to.
    pub const INTERNAL: Self = Self(5);
}

impl From<OutOfMemory> for SinkError {
    fn from(_: OutOfMemory) -> Self {
        Self::OUT_OF_MEMORY
    }
}

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.try_reserve(bytes.len()).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        self.extend_from_slice(bytes);
        Ok(())
    }
}

impl<S: Sink> Sink for &mut S {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        S::write(self, bytes)
    }
}

const PAGE: u64 = 4096;
/// Longest text that is written; a longer one is cut.
const MAX_TEXT: usize = 64 << 10;
/// Longest build id that readers take, in bytes.
const MAX_BUILD_ID: usize = 64;
const UNKNOWN_STACK: &[u8] = b"[unknown stack]";

/// Field numbers of the Profile message.
mod field {
    pub const SAMPLE_TYPE: u32 = 1;
    pub const SAMPLE: u32 = 2;
    pub const MAPPING: u32 = 3;
    pub const LOCATION: u32 = 4;
    pub const FUNCTION: u32 = 5;
    pub const STRING_TABLE: u32 = 6;
    pub const DROP_FRAMES: u32 = 7;
    pub const KEEP_FRAMES: u32 = 8;
    pub const TIME_NANOS: u32 = 9;
    pub const DURATION_NANOS: u32 = 10;
    pub const PERIOD_TYPE: u32 = 11;
    pub const PERIOD: u32 = 12;
    pub const COMMENT: u32 = 13;
    pub const DEFAULT_SAMPLE_TYPE: u32 = 14;
    pub const DOC_URL: u32 = 15;
    pub const ALLOCATOR_STATS: u32 = crate::allocator_stats::FIELD;
}

/// A range of addresses with the id of its mapping.
#[derive(Clone, Copy)]
struct MappedRange {
    start: u64,
    limit: u64,
    id: u64,
}

/// A dump being written.
pub struct Writer<S> {
    stream: GzipStream<S>,
    strings: Strings,
    /// Sorted by start.
    mappings: Vec<MappedRange>,
    addresses: AddressTable,
    /// Location ids of virtual frames by the string index of their name.
    virtual_frames: Vec<(i64, u64)>,
    locations: u64,
    /// Columns of a row.
    width: usize,
    /// The stack of a row that comes with its addresses; reused.
    alone: Located,
    /// The labels of such a row; reused.
    labels: LabelSet,
    /// The message being put together; reused.
    message: Vec<u8>,
    /// An inner message being put together; reused.
    inner: Vec<u8>,
}

impl<S: Sink> Writer<S> {
    /// Starts a file: compressor, header and the first string.
    ///
    /// # Errors
    /// Memory is used up, or the sink failed.
    pub fn new(sink: S, header: &Header<'_>) -> Result<Self, SinkError> {
        let mut writer = Self {
            stream: GzipStream::new(sink, 1)?,
            strings: Strings::new(),
            mappings: Vec::new(),
            addresses: AddressTable::new(),
            virtual_frames: Vec::new(),
            locations: 0,
            width: header.sample_types.len(),
            alone: Located::new(),
            labels: LabelSet::NONE,
            message: Vec::new(),
            inner: Vec::new(),
        };
        writer.string(b"")?;
        for value_type in header.sample_types {
            writer.value_type(field::SAMPLE_TYPE, value_type)?;
        }
        writer.value_type(field::PERIOD_TYPE, &header.period_type)?;
        writer.number(field::PERIOD, header.period)?;
        writer.number(field::TIME_NANOS, header.time_nanos)?;
        writer.number(field::DURATION_NANOS, header.duration_nanos)?;
        for (number, text) in [
            (field::DEFAULT_SAMPLE_TYPE, header.default_sample_type),
            (field::DROP_FRAMES, header.drop_frames),
            (field::KEEP_FRAMES, header.keep_frames),
            (field::DOC_URL, header.doc_url),
        ] {
            let index = writer.string(text.as_bytes())?;
            writer.number(number, index)?;
        }
        Ok(writer)
    }

    /// Adds an executable mapping, the main binary first. To be called before the rows that need it.
    ///
    /// # Errors
    /// Memory is used up, or the sink failed.
    pub fn mapping(&mut self, mapping: &Mapping<'_>) -> Result<(), SinkError> {
        let below = mapping.start % PAGE;
        let start = mapping.start - below;
        let limit = mapping.limit.checked_next_multiple_of(PAGE).unwrap_or(mapping.limit);
        let id = self.mappings.len() as u64 + 1;
        self.mappings.try_reserve(1).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        let place = self.mappings.partition_point(|m| m.start < start);
        self.mappings.insert(place, MappedRange { start, limit, id });

        let path = self.string(mapping.path)?;
        let mut hex = [0u8; 2 * MAX_BUILD_ID];
        let build_id = &mapping.build_id[..mapping.build_id.len().min(MAX_BUILD_ID)];
        for (pair, &byte) in hex.chunks_exact_mut(2).zip(build_id) {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        let build_id = self.string(&hex[..2 * build_id.len()])?;
        self.message.clear();
        put_uint(&mut self.message, 1, id);
        put_uint(&mut self.message, 2, start);
        put_uint(&mut self.message, 3, limit);
        put_uint(&mut self.message, 4, mapping.offset.saturating_sub(below));
        put_int(&mut self.message, 5, path);
        put_int(&mut self.message, 6, build_id);
        self.put_message(field::MAPPING)
    }

    /// Makes a frame that stands for no instruction. The same name gives the same frame.
    ///
    /// # Errors
    /// Memory is used up, or the sink failed.
    pub fn virtual_frame(&mut self, name: &[u8]) -> Result<VirtualFrame, SinkError> {
        let name = self.string(name)?;
        if let Some(&(_, id)) = self.virtual_frames.iter().find(|&&(known, _)| known == name) {
            return Ok(VirtualFrame(id));
        }
        let function = self.virtual_frames.len() as u64 + 1;
        self.message.clear();
        put_uint(&mut self.message, 1, function);
        put_int(&mut self.message, 2, name);
        put_int(&mut self.message, 3, name);
        self.put_message(field::FUNCTION)?;

        self.locations += 1;
        let id = self.locations;
        self.message.clear();
        put_uint(&mut self.message, 1, id);
        put_tag(&mut self.message, 4, BYTES);
        put_varint(&mut self.message, 1 + varint_len(function) as u64);
        put_uint(&mut self.message, 1, function);
        self.put_message(field::LOCATION)?;
        self.virtual_frames.try_reserve(1).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        self.virtual_frames.push((name, id));
        Ok(VirtualFrame(id))
    }

    /// Adds a row. Rows sorted by stack, root first, give files a third smaller, in less time.
    ///
    /// # Errors
    /// The values do not match the header, memory is used up, or the sink failed.
    pub fn sample(&mut self, row: &Row<'_>) -> Result<(), SinkError> {
        let mut alone = core::mem::take(&mut self.alone);
        let mut labels = core::mem::take(&mut self.labels);
        alone.clear();
        let result = self
            .put_stack(&mut alone, 0, row.stack.iter().copied())
            .and_then(|()| self.labels(row.labels, &mut labels))
            .and_then(|()| self.row(alone.get(0).1, row.root.as_slice(), row.values, &labels));
        (self.alone, self.labels) = (alone, labels);
        result
    }

    /// Adds a stack, known by a number of the caller's choice, to those that rows will have: its return addresses, leaf first,
    /// of which each may belong to the line, or the function, after the call.
    ///
    /// # Errors
    /// Memory is used up, or the sink failed.
    pub fn locate(&mut self, to: &mut Located, number: u32, returns: &[usize]) -> Result<(), SinkError> {
        self.put_stack(to, number, returns.iter().map(|&address| (address as u64).wrapping_sub(1)))
    }

    /// Makes labels as rows have them.
    ///
    /// # Errors
    /// Memory is used up, or the sink failed.
    pub fn labels(&mut self, labels: &[Label<'_>], to: &mut LabelSet) -> Result<(), SinkError> {
        to.0.clear();
        for label in labels {
            let key = self.string(label.key.as_bytes())?;
            let (text, number, unit) = match label.value {
                LabelValue::Text(text) => (self.string(text)?, 0, 0),
                LabelValue::Number { value, unit } => (0, value, self.string(unit.as_bytes())?),
            };
            self.message.clear();
            put_int(&mut self.message, 1, key);
            put_int(&mut self.message, 2, text);
            put_int(&mut self.message, 3, number);
            put_int(&mut self.message, 4, unit);
            to.0.try_reserve(self.message.len() + 16).map_err(|_| SinkError::OUT_OF_MEMORY)?;
            put_tag(&mut to.0, 3, BYTES);
            put_varint(&mut to.0, self.message.len() as u64);
            to.0.extend_from_slice(&self.message);
        }
        Ok(())
    }

    /// Adds a row of a stack with virtual frames above it, the outermost last. One without any frame gets `[unknown stack]`.
    ///
    /// # Errors
    /// The values do not match the header, memory is used up, or the sink failed.
    pub fn row(
        &mut self,
        Ids(ids): Ids<'_>,
        above: &[VirtualFrame],
        values: &[i64],
        labels: &LabelSet,
    ) -> Result<(), SinkError> {
        if values.len() != self.width {
            return Err(SinkError::INVALID);
        }
        if values.iter().all(|&value| value == 0) {
            return Ok(());
        }
        if ids.is_empty() && above.is_empty() {
            let unknown = self.virtual_frame(UNKNOWN_STACK)?;
            return self.row(Ids(ids), &[unknown], values, labels);
        }
        // The ids of the frames above, then the values: what comes between the stack's ids and the labels.
        let middle = &mut self.message;
        middle.clear();
        // A number takes at most 10 bytes.
        middle.try_reserve(10 * (above.len() + values.len() + 2)).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        above.iter().for_each(|frame| put_varint(middle, frame.0));
        let ids_len = ids.len() + middle.len();
        put_tag(middle, 2, BYTES);
        put_varint(middle, values.iter().map(|&value| varint_len(value as u64)).sum::<usize>() as u64);
        values.iter().for_each(|&value| put_varint(middle, value as u64));

        let length = 1 + varint_len(ids_len as u64) + ids.len() + middle.len() + labels.0.len();
        self.stream.write_head(&[
            u64::from(field::SAMPLE << 3 | BYTES),
            length as u64,
            u64::from(1 << 3 | BYTES),
            ids_len as u64,
        ])?;
        self.stream.write(ids)?;
        self.stream.write(&self.message)?;
        self.stream.write(&labels.0)
    }

    /// Adds a line of free text, which viewers show above their reports.
    ///
    /// # Errors
    /// Memory is used up, or the sink failed.
    pub fn comment(&mut self, text: &[u8]) -> Result<(), SinkError> {
        let index = self.string(text)?;
        self.number(field::COMMENT, index)
    }

    /// Adds the allocator's own numbers; once.
    ///
    /// # Errors
    /// Memory is used up, or the sink failed.
    pub fn allocator_stats(&mut self, stats: &AllocatorStats) -> Result<(), SinkError> {
        let Self { message, inner, .. } = self;
        message.clear();
        // A number takes at most 12 bytes with its tag.
        let room = 12 * (stats.fields().len() + 6 * stats.classes.len());
        message.try_reserve(room).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        for (number, value) in stats.fields() {
            put_uint(message, number, value);
        }
        for class in &stats.classes {
            inner.clear();
            for (number, value) in class.fields() {
                put_uint(inner, number, value);
            }
            put_tag(message, crate::allocator_stats::CLASSES, BYTES);
            put_varint(message, inner.len() as u64);
            message.extend_from_slice(inner);
        }
        self.put_message(field::ALLOCATOR_STATS)
    }

    /// Ends the file and gives the sink back; everything has been written to it.
    ///
    /// # Errors
    /// The sink failed.
    pub fn finish(self) -> Result<S, SinkError> {
        self.stream.finish()
    }

    /// Adds a stack of addresses, leaf first, with a location for each.
    #[inline]
    fn put_stack(
        &mut self,
        to: &mut Located,
        number: u32,
        mut addresses: impl ExactSizeIterator<Item = u64> + Clone,
    ) -> Result<(), SinkError> {
        let room = to.room(addresses.len())?;
        let mut used = 0;
        loop {
            let (count, bytes) = self.addresses.write_known(addresses.clone(), &mut room[used..]);
            used += bytes;
            let Some(address) = addresses.nth(count) else { break };
            let id = self.new_location(address)?;
            if let Some(next) = room[used..].first_chunk_mut() {
                used += id.write(next);
            }
        }
        Ok(to.add(used, number)?)
    }

    #[cold]
    fn new_location(&mut self, address: u64) -> Result<Encoded, SinkError> {
        let id = self.locations + 1;
        let encoded = self.addresses.insert(address, id)?;
        self.locations = id;
        let mapping = self.mapping_of(address);
        self.message.clear();
        put_uint(&mut self.message, 1, id);
        put_uint(&mut self.message, 2, mapping);
        put_uint(&mut self.message, 3, address);
        self.put_message(field::LOCATION)?;
        Ok(encoded)
    }

    /// The id of the mapping that `address` lies in, or 0.
    fn mapping_of(&self, address: u64) -> u64 {
        let after = self.mappings.partition_point(|m| m.start <= address);
        match after.checked_sub(1).map(|at| self.mappings[at]) {
            Some(m) if address < m.limit => m.id,
            _ => 0,
        }
    }

    fn value_type(&mut self, number: u32, value_type: &ValueType<'_>) -> Result<(), SinkError> {
        let kind = self.string(value_type.kind.as_bytes())?;
        let unit = self.string(value_type.unit.as_bytes())?;
        self.message.clear();
        put_int(&mut self.message, 1, kind);
        put_int(&mut self.message, 2, unit);
        self.put_message(number)
    }

    fn number(&mut self, number: u32, value: i64) -> Result<(), SinkError> {
        self.message.clear();
        put_int(&mut self.message, number, value);
        self.stream.write(&self.message)
    }

    /// The index of a text, which is written if it is new. Always valid UTF-8 of bounded length.
    #[inline]
    fn string(&mut self, text: &[u8]) -> Result<i64, SinkError> {
        match self.strings.recent(text) {
            Some(index) => Ok(index),
            None => self.other_string(text),
        }
    }

    fn other_string(&mut self, text: &[u8]) -> Result<i64, SinkError> {
        if text.len() <= MAX_TEXT && core::str::from_utf8(text).is_ok() {
            return self.valid_string(text);
        }
        let mut clean = Vec::new();
        for chunk in text.utf8_chunks() {
            for c in chunk.valid().chars().chain((!chunk.invalid().is_empty()).then_some('\u{fffd}')) {
                if clean.len() + c.len_utf8() > MAX_TEXT {
                    return self.valid_string(&clean);
                }
                clean.try_reserve(4).map_err(|_| SinkError::OUT_OF_MEMORY)?;
                clean.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        self.valid_string(&clean)
    }

    fn valid_string(&mut self, text: &[u8]) -> Result<i64, SinkError> {
        match self.strings.intern(text)? {
            Interned::Known(index) => Ok(index),
            Interned::New(index) => {
                self.put_head(field::STRING_TABLE, text.len())?;
                self.stream.write(text)?;
                Ok(index)
            }
        }
    }

    /// Writes `message` as the given field.
    fn put_message(&mut self, number: u32) -> Result<(), SinkError> {
        self.put_head(number, self.message.len())?;
        self.stream.write(&self.message)
    }

    /// Writes tag and length of a length-delimited field.
    fn put_head(&mut self, number: u32, length: usize) -> Result<(), SinkError> {
        self.stream.write_head(&[u64::from(number << 3 | BYTES), length as u64])
    }
}
