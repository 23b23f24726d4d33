//! Protobuf's wire format, read: fields, varints, sub-messages, each with its offset for errors.
//!
//! Knows no message; [`super::decode`] does.

use super::Error;

/// A part of the message, read from its start.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    pub bytes: &'a [u8],
    /// Offset of `bytes` in the whole message.
    pub offset: u64,
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
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    fn error(&self, field: &'static str, reason: &'static str) -> Error {
        Error::Malformed {
            offset: self.offset,
            field,
            reason,
        }
    }

    fn advance(&mut self, length: usize) -> Cursor<'a> {
        let (taken, rest) = self.bytes.split_at(length);
        let taken = Cursor {
            bytes: taken,
            offset: self.offset,
        };
        self.offset += length as u64;
        self.bytes = rest;
        taken
    }

    #[inline]
    pub fn varint(&mut self, field: &'static str) -> Result<u64, Error> {
        let mut value = 0u64;
        for (index, &byte) in self.bytes.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.advance(index + 1);
                return Ok(value);
            }
        }
        let reason = if self.bytes.len() < 10 {
            "it ends within a number"
        } else {
            "a number has more than ten bytes"
        };
        Err(self.error(field, reason))
    }

    #[inline]
    pub fn next(&mut self, message: &'static str) -> Result<Option<Field<'a>>, Error> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let offset = self.offset;
        let at_tag = *self;
        let tag = self.varint(message)?;
        let number = match u32::try_from(tag >> 3) {
            Ok(number @ 1..=0x1fff_ffff) => number,
            _ => return Err(at_tag.error(message, "an impossible field number")),
        };
        let value = match tag & 7 {
            0 => Value::Int(self.varint(message)?),
            2 => {
                let at_length = *self;
                match usize::try_from(self.varint(message)?) {
                    Ok(length) if length <= self.bytes.len() => Value::Bytes(self.advance(length)),
                    _ => {
                        return Err(
                            at_length.error(message, "a field that is longer than what is left")
                        );
                    }
                }
            }
            wire @ (1 | 5) => {
                let length = if wire == 1 { 8 } else { 4 };
                if self.bytes.len() < length {
                    return Err(at_tag.error(message, "a field that is longer than what is left"));
                }
                self.advance(length);
                Value::Fixed
            }
            _ => return Err(at_tag.error(message, "an unknown wire type")),
        };
        Ok(Some(Field {
            number,
            value,
            offset,
        }))
    }
}

impl<'a> Field<'a> {
    pub fn wrong_type(&self, field: &'static str) -> Error {
        Error::Malformed {
            offset: self.offset,
            field,
            reason: "a value of the wrong type",
        }
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
