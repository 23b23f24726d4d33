//! A file's content under limits, piece by piece: plain, or gzip of any number of members with their
//! checksums verified and bombs refused. Memory is that of what the taker has not consumed yet.

use super::{Error, Limits, check_length};
use alloc::boxed::Box;
use alloc::vec::Vec;
use flate2::{Crc, Decompress, FlushDecompress, Status};

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const HEADER_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;
/// Output from which the ratio is judged: small files may compress as well as they can.
const RATIO_FROM: u64 = 16 << 20;
/// Members of a file. Each of them costs time, even if nothing is in it; those who write many put 64 KiB into each.
const MEMBERS: u32 = 1 << 16;
/// How much comes out at a time.
pub(super) const PIECE: usize = 256 << 10;

/// Something that is read piece by piece.
pub trait Source {
    /// Appends the next piece to `out`. Returns whether there was one.
    ///
    /// # Errors
    /// The container is broken, or its content passes a limit.
    fn more(&mut self, out: &mut Vec<u8>) -> Result<bool, Error>;
}

/// The content of a file: inflated if it is a gzip file, else the file itself.
pub struct Content<'a> {
    file: &'a [u8],
    limits: Limits,
    /// Offset in the file of what was not looked at yet.
    at: usize,
    produced: u64,
    /// The member being read; `None` between members, and always in a plain file.
    member: Option<Member>,
    /// What the member before had, to be used again.
    spare: Option<Box<Decompress>>,
    members: u32,
    is_gzip: bool,
}

struct Member {
    inflate: Box<Decompress>,
    crc: Crc,
}

impl<'a> Content<'a> {
    /// # Errors
    /// The file is longer than a file may be.
    pub fn new(file: &'a [u8], limits: &Limits) -> Result<Self, Error> {
        check_length(file, limits)?;
        let is_gzip = file.starts_with(&MAGIC);
        if !is_gzip && file.len() as u64 > limits.inflated_bytes {
            return Err(too_long(limits));
        }
        Ok(Self { file, limits: *limits, at: 0, produced: 0, member: None, spare: None, members: 0, is_gzip })
    }

    /// Whether the file is a gzip file.
    pub fn is_gzip(&self) -> bool {
        self.is_gzip
    }
}

/// What [`Limits`] say of a container, whatever its format: after `produced` bytes have come out of
/// `consumed`.
///
/// # Errors
/// There are too many of them.
pub fn check_inflated(produced: u64, consumed: u64, limits: &Limits) -> Result<(), Error> {
    if produced > limits.inflated_bytes {
        return Err(too_long(limits));
    }
    if produced > RATIO_FROM && produced / limits.ratio.max(1) > consumed {
        return Err(Error::Limit {
            what: "times its size when inflated",
            flag: "ratio",
            limit: limits.ratio,
            offset: produced,
        });
    }
    Ok(())
}

fn too_long(limits: &Limits) -> Error {
    Error::Limit {
        what: "bytes when inflated",
        flag: "inflated",
        limit: limits.inflated_bytes,
        offset: limits.inflated_bytes,
    }
}

fn broken(at: usize, reason: &'static str) -> Error {
    Error::Gzip { offset: at as u64, reason }
}

impl Source for Content<'_> {
    fn more(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        if !self.is_gzip {
            let piece = &self.file[self.at..self.file.len().min(self.at + PIECE)];
            out.extend_from_slice(piece);
            self.at += piece.len();
            return Ok(!piece.is_empty());
        }
        let before = out.len();
        while out.len() == before {
            if self.member.is_none() {
                if self.at == self.file.len() {
                    return Ok(false);
                }
                if self.members == MEMBERS {
                    return Err(broken(self.at, "it has more than 65536 members"));
                }
                self.members += 1;
                self.at = header(self.file, self.at)?;
                let inflate = self.spare.take().unwrap_or_else(|| Box::new(Decompress::new(false)));
                self.member = Some(Member { inflate, crc: Crc::new() });
            }
            self.inflate(out)?;
        }
        Ok(true)
    }
}

impl Content<'_> {
    /// Inflates one piece of the present member, and leaves the member at its end.
    fn inflate(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let Some(member) = &mut self.member else {
            return Ok(());
        };
        let before = out.len();
        out.resize(before + PIECE, 0);
        let (read, written) = (member.inflate.total_in(), member.inflate.total_out());
        let (input, room) = (&self.file[self.at..], &mut out[before..]);
        let status = member.inflate.decompress(input, room, FlushDecompress::None);
        let read = (member.inflate.total_in() - read) as usize;
        let written = (member.inflate.total_out() - written) as usize;
        out.truncate(before + written);
        let status = status.map_err(|_| broken(self.at + read, "its data is corrupt"))?;
        member.crc.update(&out[before..]);
        self.at += read;
        self.produced += written as u64;
        check_inflated(self.produced, self.at as u64, &self.limits)?;
        if status == Status::StreamEnd {
            let sum = (member.crc.sum(), member.inflate.total_out() as u32);
            self.at = trailer(self.file, self.at, sum)?;
            if let Some(Member { mut inflate, .. }) = self.member.take() {
                inflate.reset(false);
                self.spare = Some(inflate);
            }
        } else if read == 0 && written == 0 {
            let reason = if self.at == self.file.len() { "it ends too early" } else { "its data is corrupt" };
            return Err(broken(self.at, reason));
        }
        Ok(())
    }
}

/// Skips the header at `at`; returns where its deflate stream begins.
fn header(file: &[u8], at: usize) -> Result<usize, Error> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let end = broken(file.len(), "it ends within a header");
    let Some(head) = file.get(at..at + HEADER_BYTES) else {
        let rest = &file[at..];
        if rest.starts_with(&MAGIC) || MAGIC.starts_with(rest) {
            return Err(end);
        }
        return Err(broken(at, "there is something else after its end"));
    };
    if head[..2] != MAGIC {
        return Err(broken(at, "there is something else after its end"));
    }
    if head[2] != 8 {
        return Err(broken(at + 2, "an unknown compression method"));
    }
    let flags = head[3];
    if flags & 0xe0 != 0 {
        return Err(broken(at + 3, "unknown flags"));
    }
    let mut at = at + HEADER_BYTES;
    if flags & EXTRA != 0 {
        let Some(length) = file.get(at..at + 2) else {
            return Err(end);
        };
        at += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let rest = file.get(at..).unwrap_or_default();
            let Some(length) = rest.iter().position(|&byte| byte == 0) else {
                return Err(end);
            };
            at += length + 1;
        }
    }
    if flags & HEADER_CRC != 0 {
        at += 2;
    }
    if at > file.len() { Err(end) } else { Ok(at) }
}

/// Checks the trailer at `at` against the member's checksum and length.
fn trailer(file: &[u8], at: usize, (sum, length): (u32, u32)) -> Result<usize, Error> {
    let Some(trailer) = file.get(at..at + TRAILER_BYTES) else {
        return Err(broken(file.len(), "it ends within its checksum"));
    };
    if trailer[..4] != sum.to_le_bytes() || trailer[4..] != length.to_le_bytes() {
        return Err(broken(at, "its checksum does not match"));
    }
    Ok(at + TRAILER_BYTES)
}

/// A window on a source: what has come out and was not consumed yet.
pub struct Window<S> {
    source: S,
    buffer: Vec<u8>,
    start: usize,
    offset: u64,
    has_ended: bool,
}

impl<S: Source> Window<S> {
    /// A window that nothing has come into yet.
    pub fn new(source: S) -> Self {
        Self { source, buffer: Vec::new(), start: 0, offset: 0, has_ended: false }
    }

    /// A window that the content's start has come into already.
    pub(super) fn holding(buffer: Vec<u8>, source: S) -> Self {
        Self { buffer, ..Self::new(source) }
    }

    /// What is in the window.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Offset in the content of the window's first byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Lets one more piece come in. Returns whether one came.
    ///
    /// # Errors
    /// Those of the source.
    pub fn widen(&mut self) -> Result<bool, Error> {
        if self.has_ended {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.has_ended = !self.source.more(&mut self.buffer)?;
        Ok(!self.has_ended)
    }

    /// Lets pieces come in until there are `least` bytes, or the content has ended.
    ///
    /// # Errors
    /// Those of the source.
    pub fn want(&mut self, least: usize) -> Result<&[u8], Error> {
        while self.bytes().len() < least && self.widen()? {}
        Ok(self.bytes())
    }

    /// What is in the window, and where more comes from.
    pub fn into_parts(mut self) -> (Vec<u8>, S) {
        self.buffer.drain(..self.start);
        (self.buffer, self.source)
    }

    /// Drops the window's first bytes.
    pub fn consume(&mut self, length: usize) {
        self.start += length;
        self.offset += length as u64;
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn more(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        (**self).more(out)
    }
}
