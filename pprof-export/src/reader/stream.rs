//! A message decoded while it comes in, before all of it is there and without keeping it.
//!
//! Rows come first in most files, and what they refer to comes after them: here it is taken to be there, and looked at in
//! the end. Whatever is wrong or unusual ends this; [`decode`](mod@super::decode) then has the message as a whole, and says
//! what is wrong and where.

use super::ahead::Ahead;
use super::content::PIECE;
use super::cursor::Cursor;
use super::decode::{self, Budget};
use super::row::{self, References, RowReader};
use super::{Error, Limits, Rows, Source, Window, check};
use crate::schema::{Label, Profile};
use std::thread;

/// As much of a message as is needed to see that it is one.
const HEAD: usize = 256;

/// Decodes what comes into a window, and checks it; its rows stand beside it, and it has no samples. A source with much in
/// it works on a thread of its own meanwhile. `None`: it must be read as a whole, from its start, by
/// [`decode_rows`](super::decode_rows), as every message can be.
///
/// # Errors
/// Those of the source.
pub fn decode_stream<S: Source + Send>(
    mut window: Window<S>,
    limits: &Limits,
) -> Result<Option<(Profile, Rows)>, Error> {
    window.want(HEAD)?;
    if window.bytes().len() < PIECE {
        // What is small has ended after this.
        window.widen()?;
    }
    if window.has_ended() || thread::available_parallelism().map_or(1, usize::from) < 2 {
        return decode(window, limits);
    }
    let (buffer, source) = window.into_parts();
    thread::scope(|scope| match Ahead::start(scope, source) {
        Ok(ahead) => decode(Window::holding(buffer, ahead), limits),
        // No thread can be had, and the source went with it.
        Err(_) => Ok(None),
    })
}

fn decode(mut window: Window<impl Source>, limits: &Limits) -> Result<Option<(Profile, Rows)>, Error> {
    if window.bytes().is_empty() || decode::foreign(window.bytes()).is_some() {
        return Ok(None);
    }
    let mut stream = Stream::new(limits);
    loop {
        let Ok(taken) = stream.take(window.bytes(), window.offset()) else { return Ok(None) };
        window.consume(taken);
        if window.has_ended() {
            let is_all = window.bytes().is_empty();
            return Ok(if is_all { stream.finish() } else { None });
        }
        window.widen()?;
    }
}

/// What has been decoded so far.
struct Stream<'l> {
    profile: Profile,
    reader: RowReader<'l, Assumed>,
    /// Bytes of the message that have been counted: they would be kept if it had to be read as a whole.
    counted: u64,
}

/// Irregular: to be looked at as a whole.
struct Irregular;

impl From<Error> for Irregular {
    fn from(_: Error) -> Self {
        Self
    }
}

/// What the rows so far refer to.
#[derive(Default)]
struct Assumed {
    /// The highest id of a location; all of them are above 0 and below 2^32.
    location: u64,
    /// The highest number of a string; none is below 0.
    string: i64,
}

impl References for Assumed {
    #[inline]
    fn location(&mut self, id: u64) -> Option<u32> {
        self.location = self.location.max(id);
        // 0 stands for none, and wraps.
        u32::try_from(id).ok().map(|id| id.wrapping_sub(1))
    }

    fn label(&mut self, row: usize, label: &Label) -> Result<(), Error> {
        let strings = [label.key, label.str, label.num_unit];
        if strings.iter().any(|&string| string < 0) {
            return Err(check::invalid("sample", row, "has a label that refers to no string"));
        }
        self.string = strings.into_iter().fold(self.string, i64::max);
        Ok(())
    }
}

impl<'l> Stream<'l> {
    fn new(limits: &'l Limits) -> Self {
        let reader = RowReader::new(Budget::new(limits), Assumed::default(), 0, 0);
        Self { profile: Profile::default(), reader, counted: 0 }
    }

    /// Takes over what is whole of `bytes`, which are at `offset` in the message. Returns how many that were.
    fn take(&mut self, bytes: &[u8], offset: u64) -> Result<usize, Irregular> {
        let Self { profile, reader, counted } = self;
        let there = offset + bytes.len() as u64;
        reader.budget.charge((there - *counted) as usize, offset)?;
        *counted = there;
        let mut cursor = Cursor::new(bytes);
        loop {
            let left = cursor.bytes.len();
            // What is no field may be the beginning of one.
            let Ok(Some(field)) = cursor.next("profile") else { return Ok(bytes.len() - left) };
            if field.number != 2 {
                decode::table(profile, &field, &mut reader.budget)?;
                continue;
            }
            let width = profile.sample_type.len();
            if reader.rows.is_empty() {
                reader.rows.width = width;
            }
            if width == 0 || reader.rows.len() as u64 >= reader.budget.limits.samples {
                return Err(Irregular);
            }
            reader.budget.charge(row::fixed_bytes(width), field.offset)?;
            reader.row(field.bytes("sample")?)?;
        }
    }

    /// What was decoded, checked; `None` where something is amiss.
    fn finish(self) -> Option<(Profile, Rows)> {
        let Self { profile, reader, .. } = self;
        let RowReader { references, mut rows, is_cut, .. } = reader;
        let width = profile.sample_type.len();
        if is_cut || width == 0 || references.string >= profile.string_table.len() as i64 {
            return None;
        }
        if rows.is_empty() {
            rows.width = width;
        }
        let locations = check::tables(&profile).ok()?;
        let is_dense = references.location <= locations.dense();
        for frame in &mut rows.frames {
            *frame = match frame.checked_add(1) {
                Some(_) if is_dense => continue,
                Some(id) => locations.get(id.into())? as u32,
                None => return None,
            };
        }
        (rows.width == width).then_some((profile, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::decode_rows;
    use crate::schema::{Function, Line, Location, Sample, ValueType};
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use prost::Message;

    /// Gives a message in pieces of a length.
    struct Pieces<'a>(&'a [u8], usize);

    impl Source for Pieces<'_> {
        fn more(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
            let (piece, rest) = self.0.split_at(self.1.min(self.0.len()));
            out.extend_from_slice(piece);
            self.0 = rest;
            Ok(!piece.is_empty())
        }
    }

    fn stream(message: &[u8], piece: usize, limits: &Limits) -> Option<(Profile, Rows)> {
        decode_stream(Window::new(Pieces(message, piece)), limits).unwrap()
    }

    /// A message of which everything refers to something.
    fn profile(ids: [u64; 3]) -> Profile {
        let label = |str: i64, num: i64| Label { key: 3, str, num, num_unit: 2 };
        let sample = |location_id: &[u64], value: i64| Sample {
            location_id: location_id.to_vec(),
            value: vec![value, 300 * value],
            label: vec![label(4, 0), label(0, 512)],
        };
        Profile {
            string_table: ["", "space", "bytes", "key", "text", "name"].map(String::from).to_vec(),
            sample_type: vec![ValueType { r#type: 1, unit: 2 }; 2],
            sample: (1..200).map(|value| sample(&[ids[2], ids[0], ids[1], ids[0]], value)).collect(),
            location: ids
                .map(|id| Location {
                    id,
                    line: vec![Line { function_id: 1, ..Line::default() }],
                    ..Location::default()
                })
                .to_vec(),
            function: vec![Function { id: 1, name: 5, ..Function::default() }],
            comment: vec![1, 4],
            period: 512 << 10,
            ..Profile::default()
        }
    }

    #[test]
    fn pieces_of_any_length_make_the_same() {
        for ids in [[1, 2, 3], [3, 1, 2], [7, 1 << 20, u64::from(u32::MAX)]] {
            let message = profile(ids).encode_to_vec();
            let whole = decode_rows(&message, &Limits::DEFAULT).unwrap();
            for piece in [1, 2, 3, 7, 100, 300, 4096, 1 << 20] {
                assert_eq!(stream(&message, piece, &Limits::DEFAULT).as_ref(), Some(&whole), "{ids:?}, {piece}");
            }
        }
    }

    #[test]
    fn what_is_unusual_is_left_to_others() {
        let change = |change: &dyn Fn(&mut Profile)| {
            let mut profile = profile([1, 2, 3]);
            change(&mut profile);
            profile.encode_to_vec()
        };
        let regular = change(&|_| {});
        let mut late_type = regular.clone();
        late_type.extend(Profile { sample_type: vec![ValueType::default()], ..Profile::default() }.encode_to_vec());
        let irregular = [
            change(&|p| p.sample[7].location_id[1] = 0),
            change(&|p| p.sample[7].location_id[1] = 4),
            change(&|p| p.sample[7].location_id[1] = 1 << 32),
            change(&|p| p.location[1].id = 1 << 32),
            change(&|p| p.location[1].id = 1),
            change(&|p| p.location[2].line[0].function_id = 9),
            change(&|p| p.sample[7].label[0].str = 6),
            change(&|p| p.sample[7].label[0].key = -1),
            change(&|p| p.sample[7].value.truncate(1)),
            change(&|p| p.sample_type.clear()),
            late_type,
            regular[..regular.len() - 1].to_vec(),
            [&regular[..], &[0x0f]].concat(),
            b"text, not a message".to_vec(),
            Vec::new(),
        ];
        for (number, message) in irregular.iter().enumerate() {
            for piece in [5, 1 << 20] {
                assert_eq!(stream(message, piece, &Limits::DEFAULT), None, "{number}");
            }
        }
        let deep = Limits { depth: 3, ..Limits::DEFAULT };
        assert_eq!((stream(&regular, 5, &deep), stream(&regular, 1 << 20, &deep)), (None, None));
        let few = Limits { samples: 198, ..Limits::DEFAULT };
        assert_eq!((stream(&regular, 5, &few), stream(&regular, 1 << 20, &few)), (None, None));
    }

    #[test]
    fn as_much_memory_is_enough_as_for_the_whole() {
        let message = profile([1, 2, 3]).encode_to_vec();
        let within = |bytes: u64| Limits { memory_bytes: bytes, memory_ratio: 0, ..Limits::DEFAULT };
        let is_enough = |bytes: &u64| decode_rows(&message, &within(*bytes)).is_ok();
        let least = (0..1 << 20).find(is_enough).unwrap();
        for piece in [50, 1 << 20] {
            assert!(stream(&message, piece, &within(least)).is_some());
            assert_eq!(stream(&message, piece, &within(least - 1)), None);
        }
    }

    #[test]
    fn a_source_that_fails_is_heard() {
        struct Fails(u32);
        impl Source for Fails {
            fn more(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
                self.0 -= 1;
                // Strings of the string table, and in the end none.
                out.extend_from_slice(&[0x32, 0].repeat(1000));
                if self.0 == 0 { Err(Error::Gzip { offset: 5, reason: "it is over" }) } else { Ok(true) }
            }
        }
        for pieces in [1, 2, 3, 50] {
            let failed = decode_stream(Window::new(Fails(pieces)), &Limits::DEFAULT);
            assert!(matches!(failed, Err(Error::Gzip { offset: 5, .. })), "{pieces}");
        }
    }
}
