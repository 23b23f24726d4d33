//! Protobuf's wire format, as much of it as the writer needs: varints, tags, length-delimited fields.
//!
//! All functions append to a buffer whose room the caller has reserved or is content to have grown.

use alloc::vec::Vec;

/// Wire type of integers and booleans.
pub const VARINT: u32 = 0;
/// Wire type of strings, messages and packed integers.
pub const BYTES: u32 = 2;

/// Bytes that `value` takes as a varint.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    // Seven bits a byte; 0 takes one byte.
    ((64 - (value | 1).leading_zeros() as usize) * 9 + 64) / 64
}

/// Writes a varint to the front of `out`, which has room for it; returns its length.
#[inline]
pub fn write_varint(out: &mut [u8], mut value: u64) -> usize {
    let mut length = 0;
    while value >= 0x80 {
        out[length] = value as u8 | 0x80;
        value >>= 7;
        length += 1;
    }
    out[length] = value as u8;
    length + 1
}

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the tag of a field.
#[inline]
pub fn put_tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    put_varint(out, u64::from(field << 3 | wire_type));
}

/// Appends an integer field; 0 is the default and is left out.
#[inline]
pub fn put_uint(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_tag(out, field, VARINT);
        put_varint(out, value);
    }
}

/// Appends a signed integer field (`int64`: two's complement, not zigzag).
#[inline]
pub fn put_int(out: &mut Vec<u8>, field: u32, value: i64) {
    put_uint(out, field, value as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_agree_with_what_is_written() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, (1u64 << shift) | 1] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value:#x}");
                let mut room = [0; 10];
                let length = write_varint(&mut room, value);
                assert_eq!(room[..length], out);
            }
        }
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        assert_eq!(out.len(), varint_len(u64::MAX));
    }
}
