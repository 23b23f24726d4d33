//! Gzip under limits: any number of members, checksums verified, bombs refused.

use super::{Error, Limits, check_length};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use flate2::{Crc, Decompress, FlushDecompress, Status};

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const HEADER_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;
/// Output from which the ratio is judged: small files may compress as well as they can.
const RATIO_FROM: u64 = 16 << 20;

/// The content of a gzip file; a file without gzip's magic is its own content.
///
/// # Errors
/// The container is broken, or its content passes a limit.
pub fn inflate<'a>(file: &'a [u8], limits: &Limits) -> Result<Cow<'a, [u8]>, Error> {
    check_length(file, limits)?;
    if !file.starts_with(&MAGIC) {
        if file.len() as u64 > limits.inflated_bytes {
            return Err(too_long(limits));
        }
        return Ok(Cow::Borrowed(file));
    }
    let (mut out, mut at) = (Vec::new(), 0);
    while at < file.len() {
        at = header(file, at)?;
        at = member(file, at, &mut out, limits)?;
    }
    Ok(Cow::Owned(out))
}

fn too_long(limits: &Limits) -> Error {
    let limit = limits.inflated_bytes;
    Error::Limit {
        what: "bytes when inflated",
        limit,
        offset: limit,
    }
}

fn broken(at: usize, reason: &'static str) -> Error {
    Error::Gzip {
        offset: at as u64,
        reason,
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

/// Inflates the member whose stream begins at `at`; returns where the next one would begin.
fn member(file: &[u8], at: usize, out: &mut Vec<u8>, limits: &Limits) -> Result<usize, Error> {
    let mut inflate = Decompress::new(false);
    let before = out.len();
    loop {
        if out.len() == out.capacity() {
            let room = limits
                .inflated_bytes
                .saturating_add(1)
                .saturating_sub(out.len() as u64);
            let more = (out.len().max(64 << 10) as u64).min(room.max(1)) as usize;
            out.try_reserve_exact(more).map_err(|_| too_long(limits))?;
        }
        let (read, written) = (inflate.total_in(), inflate.total_out());
        let input = &file[at + read as usize..];
        let status = inflate
            .decompress_vec(input, out, FlushDecompress::None)
            .map_err(|_| broken(at + inflate.total_in() as usize, "its data is corrupt"))?;
        let consumed = at + inflate.total_in() as usize;
        if out.len() as u64 > limits.inflated_bytes {
            return Err(too_long(limits));
        }
        if out.len() as u64 > RATIO_FROM && out.len() as u64 / limits.ratio.max(1) > consumed as u64
        {
            let offset = out.len() as u64;
            return Err(Error::Limit {
                what: "times its size when inflated",
                limit: limits.ratio,
                offset,
            });
        }
        if status == Status::StreamEnd {
            return trailer(file, consumed, &out[before..]);
        }
        let stuck = inflate.total_in() == read && inflate.total_out() == written;
        if consumed == file.len() && (stuck || out.len() < out.capacity()) {
            return Err(broken(file.len(), "it ends too early"));
        }
        if stuck && out.len() < out.capacity() {
            return Err(broken(consumed, "its data is corrupt"));
        }
    }
}

/// Checks the trailer at `at` against the member's content.
fn trailer(file: &[u8], at: usize, content: &[u8]) -> Result<usize, Error> {
    let Some(trailer) = file.get(at..at + TRAILER_BYTES) else {
        return Err(broken(file.len(), "it ends within its checksum"));
    };
    let (crc, length) = trailer.split_at(4);
    let mut actual = Crc::new();
    actual.update(content);
    if crc != actual.sum().to_le_bytes() || length != (content.len() as u32).to_le_bytes() {
        return Err(broken(at, "its checksum does not match"));
    }
    Ok(at + TRAILER_BYTES)
}
