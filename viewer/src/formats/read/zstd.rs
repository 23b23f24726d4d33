//! The content of a zstd file, under the same limits as that of a gzip file.

use std::io::Read;

use pprof_export::reader::{Error, Limits, Source, check_inflated};
use ruzstd::decoding::StreamingDecoder;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// How much comes out at a time.
const PIECE: usize = 256 << 10;

/// Whether a file is a zstd file.
pub fn is_zstd(file: &[u8]) -> bool {
    file.starts_with(&MAGIC)
}

/// A zstd file of one frame or several.
pub struct Zstd<'a> {
    file: &'a [u8],
    limits: Limits,
    frame: Option<StreamingDecoder<&'a [u8], ruzstd::decoding::FrameDecoder>>,
    produced: u64,
}

impl<'a> Zstd<'a> {
    /// # Errors
    /// The file is longer than a file may be, or broken from the start.
    pub fn new(file: &'a [u8], limits: &Limits) -> Result<Self, Error> {
        if file.len() as u64 > limits.compressed_bytes {
            return Err(Error::Limit {
                what: "bytes of the file",
                flag: "file",
                limit: limits.compressed_bytes,
                offset: limits.compressed_bytes,
            });
        }
        let mut content = Self { file, limits: *limits, frame: None, produced: 0 };
        content.open(file)?;
        Ok(content)
    }

    fn open(&mut self, rest: &'a [u8]) -> Result<(), Error> {
        if !is_zstd(rest) {
            return Err(self.broken(rest, "there is something else after its end"));
        }
        let frame = StreamingDecoder::new(rest)
            .map_err(|_| self.broken(rest, "its header is corrupt, or it ends too early"))?;
        self.frame = Some(frame);
        Ok(())
    }

    fn broken(&self, rest: &[u8], reason: &'static str) -> Error {
        Error::Zstd { offset: (self.file.len() - rest.len()) as u64, reason }
    }
}

impl Source for Zstd<'_> {
    fn more(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        let before = out.len();
        out.resize(before + PIECE, 0);
        let mut filled = before;
        while filled < out.len() {
            let Some(frame) = &mut self.frame else { break };
            let read = frame.read(&mut out[filled..]);
            let rest: &[u8] = frame.get_ref();
            match read {
                Ok(0) => {
                    self.frame = None;
                    if !rest.is_empty() {
                        self.open(rest)?;
                    }
                }
                Ok(read) => {
                    filled += read;
                    self.produced += read as u64;
                    let consumed = (self.file.len() - rest.len()) as u64;
                    check_inflated(self.produced, consumed, &self.limits)?;
                }
                Err(_) => {
                    let reason = if rest.is_empty() { "it ends too early" } else { "its data is corrupt" };
                    return Err(self.broken(rest, reason));
                }
            }
        }
        out.truncate(filled);
        Ok(filled > before)
    }
}
