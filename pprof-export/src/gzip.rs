//! A gzip stream that is written as it grows: bytes in, compressed chunks out to a sink.
//!
//! Used by the streaming writer in somebody else's process and by [`crate::encode_gzip`]. Holds one
//! buffer of input, one of output and the compressor's state (about 300 KiB), whatever the length of the
//! stream. The header has no time and no name, so that equal input gives equal files.

use crate::wire::put_varint;
use crate::writer::{Sink, SinkError};
use alloc::vec::Vec;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Input gathered before the compressor is called.
const INPUT_BYTES: usize = 24 << 10;
/// Most bytes of a number.
const VARINT_MAX: usize = 10;
/// Output gathered before the sink is called.
const OUTPUT_BYTES: usize = 32 << 10;
/// More than the compressor asks for, in one piece.
const STATE_BYTES: usize = 512 << 10;
/// Magic, deflate, no flags, no time, "fastest" or nothing, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// One gzip member on its way to a sink.
pub struct GzipStream<S> {
    sink: S,
    deflate: Compress,
    crc: Crc,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of `output` that are filled.
    filled: usize,
}

impl<S: Sink> GzipStream<S> {
    /// Starts a stream; `level` is deflate's, 1 to 9.
    pub fn new(sink: S, level: u32) -> Result<Self, SinkError> {
        let mut input = Vec::new();
        input.try_reserve_exact(INPUT_BYTES).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        let mut output = Vec::new();
        output.try_reserve_exact(OUTPUT_BYTES).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        output.extend_from_slice(&HEADER);
        output.resize(OUTPUT_BYTES, 0);
        // The compressor panics where it can't have its memory. A piece that has been had, and was given back just now, can
        // be had again: dumps come one after the other, and their memory is their own.
        let mut state: Vec<u8> = Vec::new();
        state.try_reserve_exact(STATE_BYTES).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        drop(core::hint::black_box(state));
        let deflate = Compress::new(Compression::new(level), false);
        Ok(Self { sink, deflate, crc: Crc::new(), input, output, filled: HEADER.len() })
    }

    /// Appends to the uncompressed stream.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if bytes.len() > INPUT_BYTES - self.input.len() {
            self.compress_input()?;
            if bytes.len() > INPUT_BYTES {
                return self.compress(bytes, FlushCompress::None);
            }
        }
        self.input.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends a few numbers as varints.
    #[inline]
    pub fn write_head<const N: usize>(&mut self, numbers: &[u64; N]) -> Result<(), SinkError> {
        const { assert!(N * VARINT_MAX <= INPUT_BYTES) };
        if N * VARINT_MAX > INPUT_BYTES - self.input.len() {
            self.compress_input()?;
        }
        for &number in numbers {
            put_varint(&mut self.input, number);
        }
        Ok(())
    }

    /// Ends the stream and gives the sink back; everything has been written to it.
    pub fn finish(mut self) -> Result<S, SinkError> {
        self.compress_input()?;
        self.compress(&[], FlushCompress::Finish)?;
        let (crc, length) = (self.crc.sum(), self.crc.amount());
        self.drain()?;
        let mut trailer = [0; 8];
        trailer[..4].copy_from_slice(&crc.to_le_bytes());
        trailer[4..].copy_from_slice(&length.to_le_bytes());
        self.sink.write(&trailer)?;
        Ok(self.sink)
    }

    #[cold]
    fn compress_input(&mut self) -> Result<(), SinkError> {
        let input = core::mem::take(&mut self.input);
        let result = self.compress(&input, FlushCompress::None);
        self.input = input;
        self.input.clear();
        result
    }

    fn compress(&mut self, mut input: &[u8], flush: FlushCompress) -> Result<(), SinkError> {
        self.crc.update(input);
        loop {
            if self.filled == self.output.len() {
                self.drain()?;
            }
            let (read, written) = (self.deflate.total_in(), self.deflate.total_out());
            let status = self
                .deflate
                .compress(input, &mut self.output[self.filled..], flush)
                .map_err(|_| SinkError::INTERNAL)?;
            input = &input[(self.deflate.total_in() - read) as usize..];
            self.filled += (self.deflate.total_out() - written) as usize;
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => input.is_empty(),
            };
            if done {
                return Ok(());
            }
            if status == Status::BufError && self.filled < self.output.len() {
                return Err(SinkError::INTERNAL); // No progress with room left: never loop on it.
            }
        }
    }

    fn drain(&mut self) -> Result<(), SinkError> {
        let result = self.sink.write(&self.output[..self.filled]);
        self.filled = 0;
        result
    }
}
