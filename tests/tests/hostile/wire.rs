//! Protobuf by hand, right or wrong as a case wants it, and the containers around it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A message in the making.
#[derive(Clone, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// An integer of seven bits a byte.
    pub fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    /// A field with an integer.
    pub fn int(self, field: u64, value: i64) -> Self {
        self.varint(field << 3).varint(value as u64)
    }

    /// A field with bytes.
    pub fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        let mut message = self.varint(field << 3 | 2).varint(bytes.len() as u64);
        message.0.extend_from_slice(bytes);
        message
    }

    /// A field with a message.
    pub fn message(self, field: u64, inner: Message) -> Self {
        self.bytes(field, &inner.0)
    }

    /// A field with packed integers.
    pub fn packed(self, field: u64, values: impl IntoIterator<Item = u64>) -> Self {
        let packed = values.into_iter().fold(Message::default(), Message::varint);
        self.bytes(field, &packed.0)
    }

    /// What is no field at all.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The same made by `part` for each number.
    pub fn each(self, numbers: std::ops::Range<u64>, part: impl Fn(Self, u64) -> Self) -> Self {
        numbers.fold(self, part)
    }

    /// Texts into the string table.
    pub fn strings(self, texts: &[&str]) -> Self {
        texts.iter().fold(self, |message, text| message.bytes(6, text.as_bytes()))
    }
}

/// Field numbers of a profile.
pub mod field {
    pub const SAMPLE_TYPE: u64 = 1;
    pub const SAMPLE: u64 = 2;
    pub const MAPPING: u64 = 3;
    pub const LOCATION: u64 = 4;
    pub const FUNCTION: u64 = 5;
    pub const DROP_FRAMES: u64 = 7;
    pub const KEEP_FRAMES: u64 = 8;
    pub const TIME: u64 = 9;
    pub const DURATION: u64 = 10;
    pub const PERIOD_TYPE: u64 = 11;
    pub const PERIOD: u64 = 12;
    pub const COMMENT: u64 = 13;
    pub const DEFAULT_TYPE: u64 = 14;
    pub const STATS: u64 = 1000;
}

/// A type of samples, or of the period.
pub fn value_type(kind: i64, unit: i64) -> Message {
    Message::default().int(1, kind).int(2, unit)
}

/// A row.
pub fn sample(locations: &[u64], values: &[i64]) -> Message {
    let values = values.iter().map(|&value| value as u64);
    Message::default().packed(1, locations.iter().copied()).packed(2, values)
}

/// A place with one function.
pub fn location(id: u64, mapping: u64, address: u64, function: u64) -> Message {
    let line = Message::default().int(1, function as i64).int(2, 7);
    let place = Message::default().int(1, id as i64).int(2, mapping as i64).int(3, address as i64);
    if function == 0 { place } else { place.message(4, line) }
}

/// A function by the index of its name.
pub fn function(id: u64, name: i64) -> Message {
    Message::default().int(1, id as i64).int(2, name).int(3, name).int(4, 4)
}

/// A mapping of the file whose name has this index.
pub fn mapping(id: u64, start: u64, limit: u64, name: i64) -> Message {
    Message::default().int(1, id as i64).int(2, start as i64).int(3, limit as i64).int(5, name)
}

/// Strings and types of a heap profile, without rows: "", inuse_space, bytes, space, main, work. Function 1 and 2,
/// location 1 and 2.
pub fn head() -> Message {
    Message::default()
        .strings(&["", "inuse_space", "bytes", "space", "main", "work"])
        .message(field::SAMPLE_TYPE, value_type(1, 2))
        .message(field::PERIOD_TYPE, value_type(3, 2))
        .int(field::PERIOD, 524_288)
        .message(field::FUNCTION, function(1, 4))
        .message(field::FUNCTION, function(2, 5))
        .message(field::LOCATION, location(1, 0, 0x1000, 1))
        .message(field::LOCATION, location(2, 0, 0x2000, 2))
}

/// A small profile that is in order.
pub fn small() -> Message {
    head().message(field::SAMPLE, sample(&[2, 1], &[4096]))
}

/// As a gzip file.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

/// A gzip file of so many zeros, made piece by piece.
pub fn gzip_of_zeros(length: u64) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let piece = vec![0; 1 << 20];
    for _ in 0..length >> 20 {
        encoder.write_all(&piece).expect("memory takes everything");
    }
    encoder.finish().expect("memory takes everything")
}

/// A zstd file of one byte over and over: four bytes of file for each 128 KiB.
pub fn zstd_of(byte: u8, blocks: u32) -> Vec<u8> {
    const BLOCK: u32 = 128 << 10;
    const RUN: u32 = 1;
    // The magic number; no length, no checksum, no dictionary; a window of 128 KiB.
    let mut file = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    for block in 0..blocks {
        let header = BLOCK << 3 | RUN << 1 | u32::from(block + 1 == blocks);
        file.extend_from_slice(&header.to_le_bytes()[..3]);
        file.push(byte);
    }
    file
}
