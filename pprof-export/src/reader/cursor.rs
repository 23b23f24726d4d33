//! Protobuf's wire format, read: fields, varints, sub-messages, each with its offset for errors.
//!
//! Knows no message; [`decode`](mod@super::decode) does.

use super::Error;

/// A part of the message, read from its start.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    /// What was not read yet.
    pub bytes: &'a [u8],
    /// Offset in the whole message of the part's end, which reading does not move.
    end: u64,
}

/// A field's value, as its wire type gives it.
pub enum Value<'a> {
    Int(u64),
    Bytes(Cursor<'a>),
    /// Eight or four bytes, which no field of ours is.
    Fixed,
}

/// One field. `offset` is that of its tag.
pub struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
    pub offset: u64,
}

impl<'a> Cursor<'a> {
    /// The whole message.
    pub fn new(message: &'a [u8]) -> Self {
        Self { bytes: message, end: message.len() as u64 }
    }

    /// The message from `offset` on.
    pub fn from(message: &'a [u8], offset: usize) -> Self {
        Self { bytes: &message[offset..], end: message.len() as u64 }
    }

    /// Offset in the whole message of what comes next.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    #[cold]
    fn error(&self, field: &'static str, reason: &'static str) -> Error {
        Error::Malformed { offset: self.offset(), field, reason }
    }

    /// Splits so many bytes off; there are so many.
    #[inline]
    fn advance(&mut self, length: usize) -> Cursor<'a> {
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        Cursor { bytes: taken, end: self.offset() }
    }

    #[inline]
    pub fn varint(&mut self, field: &'static str) -> Result<u64, Error> {
        // Most numbers are small: tags, lengths, lines.
        if let [byte @ ..0x80, rest @ ..] = self.bytes {
            self.bytes = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint(field)
    }

    /// A number that is expected to have several bytes.
    #[inline]
    pub fn long_varint(&mut self, field: &'static str) -> Result<u64, Error> {
        let (value, length) = long_varint(self.bytes);
        match self.bytes.get(length..) {
            Some(rest) if length > 0 => {
                self.bytes = rest;
                Ok(value)
            }
            _ => Err(self.no_varint(field)),
        }
    }

    #[cold]
    fn no_varint(&self, field: &'static str) -> Error {
        let reason = if self.bytes.len() < 10 { "it ends within a number" } else { "a number has more than ten bytes" };
        self.error(field, reason)
    }

    /// The next field; `None` at the end. `message` is what the field is part of.
    #[inline(always)]
    pub fn next(&mut self, message: &'static str) -> Result<Option<Field<'a>>, Error> {
        let offset = self.offset();
        // All fields of ours but one have a tag of one byte.
        let tag = match self.bytes {
            [] => return Ok(None),
            [tag @ 0x08..0x80, rest @ ..] => {
                self.bytes = rest;
                u64::from(*tag)
            }
            _ => self.tag(message)?,
        };
        let value = match tag & 7 {
            0 => Value::Int(self.varint(message)?),
            2 => {
                let at_length = *self;
                let length = self.varint(message)?;
                if length > self.bytes.len() as u64 {
                    return Err(at_length.error(message, "a field that is longer than what is left"));
                }
                Value::Bytes(self.advance(length as usize))
            }
            _ => self.fixed(message, tag, offset)?,
        };
        // Checked to be below 2^29 where it was read.
        Ok(Some(Field { number: (tag >> 3) as u32, value, offset }))
    }

    /// A tag of several bytes, or one that there cannot be.
    #[cold]
    fn tag(&mut self, message: &'static str) -> Result<u64, Error> {
        let at_tag = *self;
        let tag = self.varint(message)?;
        match tag >> 3 {
            1..=0x1fff_ffff => Ok(tag),
            _ => Err(at_tag.error(message, "an impossible field number")),
        }
    }

    /// A value of a wire type that no field of ours has, or that there is not; its tag is at `offset`.
    #[cold]
    fn fixed(&mut self, message: &'static str, tag: u64, offset: u64) -> Result<Value<'a>, Error> {
        let reason = match tag & 7 {
            wire @ (1 | 5) => {
                let length = if wire == 1 { 8 } else { 4 };
                if length <= self.bytes.len() {
                    self.advance(length);
                    return Ok(Value::Fixed);
                }
                "a field that is longer than what is left"
            }
            _ => "an unknown wire type",
        };
        Err(Error::Malformed { offset, field: message, reason })
    }
}

/// The number that `bytes` begin with, and how many bytes it takes; 0 where there is none.
#[inline]
fn long_varint(bytes: &[u8]) -> (u64, usize) {
    const MORE: u64 = 0x8080_8080_8080_8080;
    if let Some(word) = bytes.first_chunk() {
        let word = u64::from_le_bytes(*word);
        // The lowest bit that is set here is the top one of the number's last byte.
        let ends = !word & MORE;
        if ends != 0 {
            let sevens = word & (ends ^ (ends - 1)) & !MORE;
            // Groups of 7 bits move together, then of 14, then of 28.
            let fourteens = (sevens & 0x007f_007f_007f_007f) | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
            let halves = (fourteens & 0x0000_3fff_0000_3fff) | (fourteens & 0x3fff_0000_3fff_0000) >> 2;
            let value = (halves & 0x0fff_ffff) | (halves & 0x0fff_ffff_0000_0000) >> 4;
            return (value, ends.trailing_zeros() as usize / 8 + 1);
        }
    }
    varint_by_bytes(bytes)
}

/// The same for one near the end, or of more than eight bytes.
fn varint_by_bytes(bytes: &[u8]) -> (u64, usize) {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return (value, index + 1);
        }
    }
    (0, 0)
}

impl<'a> Field<'a> {
    pub fn wrong_type(&self, field: &'static str) -> Error {
        Error::Malformed { offset: self.offset, field, reason: "a value of the wrong type" }
    }

    #[inline]
    pub fn uint(&self, field: &'static str) -> Result<u64, Error> {
        match self.value {
            Value::Int(value) => Ok(value),
            _ => Err(self.wrong_type(field)),
        }
    }

    #[inline]
    pub fn int(&self, field: &'static str) -> Result<i64, Error> {
        self.uint(field).map(|value| value as i64)
    }

    pub fn bool(&self, field: &'static str) -> Result<bool, Error> {
        self.uint(field).map(|value| value != 0)
    }

    #[inline]
    pub fn bytes(&self, field: &'static str) -> Result<Cursor<'a>, Error> {
        match self.value {
            Value::Bytes(cursor) => Ok(cursor),
            _ => Err(self.wrong_type(field)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_varint;
    use alloc::vec::Vec;

    #[test]
    fn numbers_are_the_same_whatever_follows() {
        let values = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) | 1, u64::MAX >> bit]);
        for value in values {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let length = bytes.len();
            for follow in [0x00, 0x7f, 0x80, 0xff] {
                for more in 0..12 {
                    bytes.truncate(length);
                    bytes.resize(length + more, follow);
                    for read in [Cursor::varint, Cursor::long_varint] {
                        let mut cursor = Cursor::new(&bytes);
                        assert_eq!(read(&mut cursor, "number").ok(), Some(value), "{bytes:02x?}");
                        assert_eq!((cursor.offset(), cursor.bytes.len()), (length as u64, more));
                    }
                }
            }
        }
        // Bits beyond the 64th are lost, as protobuf has it; an eleventh byte is none.
        let mut bytes = [0xff; 11];
        bytes[9] = 0x7f;
        assert_eq!(Cursor::new(&bytes).varint("number").ok(), Some(u64::MAX));
        for length in 1..=9 {
            let Err(Error::Malformed { offset: 0, reason, .. }) = Cursor::new(&bytes[..length]).varint("number") else {
                panic!("{length} bytes are a number");
            };
            assert_eq!(reason, "it ends within a number");
        }
        bytes[9] = 0x80;
        let Err(Error::Malformed { offset: 0, reason, .. }) = Cursor::new(&bytes).varint("number") else {
            panic!("eleven bytes are a number");
        };
        assert_eq!(reason, "a number has more than ten bytes");
    }

    #[test]
    fn offsets_are_those_of_the_whole_message() {
        // Field 2 with a message of field 1 = 300, then field 200 = 5, then four fixed bytes.
        let message = [0x12, 3, 0x08, 0xac, 0x02, 0xc0, 0x0c, 5, 0x1d, 1, 2, 3, 4, 0x1f];
        let mut cursor = Cursor::new(&message);
        let outer = cursor.next("outer").ok().flatten().unwrap();
        assert_eq!((outer.number, outer.offset), (2, 0));
        let mut inner = outer.bytes("outer").ok().unwrap();
        assert_eq!(inner.offset(), 2);
        let field = inner.next("inner").ok().flatten().unwrap();
        assert_eq!((field.number, field.offset, field.uint("inner").ok()), (1, 2, Some(300)));
        assert!(matches!(inner.next("inner"), Ok(None)));
        let far = cursor.next("outer").ok().flatten().unwrap();
        assert_eq!((far.number, far.offset, far.uint("outer").ok()), (200, 5, Some(5)));
        let fixed = cursor.next("outer").ok().flatten().unwrap();
        assert!(matches!(fixed, Field { number: 3, value: Value::Fixed, offset: 8 }));
        let Err(Error::Malformed { offset: 13, reason: "an unknown wire type", .. }) = cursor.next("outer") else {
            panic!("there is no wire type 7");
        };
        let mut cut = Cursor::from(&message[..4], 2);
        assert!(matches!(cut.next("inner"), Err(Error::Malformed { offset: 3, .. })));
    }
}
