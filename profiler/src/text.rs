//! Text that is written piece by piece.

use alloc_core::message::Decimal;
use pprof_export::writer::{Sink, SinkError};

const TEXT_BYTES: usize = 4096;

/// Text on its way to a sink.
pub struct Text<S> {
    sink: S,
    buffer: [u8; TEXT_BYTES],
    used: usize,
}

impl<S: Sink> Text<S> {
    /// None yet.
    pub fn new(sink: S) -> Self {
        Text { sink, buffer: [0; TEXT_BYTES], used: 0 }
    }

    /// Adds text.
    pub fn put(&mut self, text: &[u8]) -> Result<(), SinkError> {
        if text.len() > TEXT_BYTES - self.used {
            self.sink.write(&self.buffer[..self.used])?;
            self.used = 0;
            if text.len() > TEXT_BYTES {
                return self.sink.write(text);
            }
        }
        self.buffer[self.used..][..text.len()].copy_from_slice(text);
        self.used += text.len();
        Ok(())
    }

    /// Adds a text as JSON has it.
    pub fn quoted(&mut self, text: &[u8]) -> Result<(), SinkError> {
        self.put(b"\"")?;
        for &byte in text {
            match byte {
                b'"' | b'\\' => self.put(&[b'\\', byte])?,
                0..0x20 | 0x7f.. => {
                    // Names are bytes of no certain encoding: each as the character of that number.
                    const DIGITS: &[u8; 16] = b"0123456789abcdef";
                    let (high, low) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
                    self.put(&[b'\\', b'u', b'0', b'0', high, low])?;
                }
                _ => self.put(&[byte])?,
            }
        }
        self.put(b"\"")
    }

    /// Adds a list of addresses as JSON has it.
    pub fn addresses(&mut self, frames: &[usize]) -> Result<(), SinkError> {
        self.put(b"[")?;
        for (i, &frame) in frames.iter().enumerate() {
            self.put(if i == 0 { b"\"0x" } else { b",\"0x" })?;
            self.put(Decimal::hex(frame as u64).as_bytes())?;
            self.put(b"\"")?;
        }
        self.put(b"]")
    }

    /// Adds fields of an object as JSON has it; each value is a number.
    pub fn fields(&mut self, fields: &[(&str, u64)]) -> Result<(), SinkError> {
        for (i, &(key, value)) in fields.iter().enumerate() {
            self.put(if i == 0 { b"\"" } else { b",\"" })?;
            self.put(key.as_bytes())?;
            self.put(b"\":")?;
            self.number(value)?;
        }
        Ok(())
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> Result<(), SinkError> {
        self.put(Decimal::new(number).as_bytes())
    }

    /// Hands the rest on, and the sink back.
    pub fn finish(mut self) -> Result<S, SinkError> {
        self.sink.write(&self.buffer[..self.used])?;
        Ok(self.sink)
    }
}
