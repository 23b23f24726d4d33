//! What the writer writes is what the reader, prost and the checks understand.

mod common;

use common::{TIME, dump, stats};
use pprof_export::located::{JoinedIds, Located};
use pprof_export::reader::{Limits, decode, inflate};
use pprof_export::schema::Profile;
use pprof_export::writer::{Header, LabelSet, Row, Sink, SinkError, Writer};
use prost::Message;

fn text(profile: &Profile, index: i64) -> &str {
    &profile.string_table[index as usize]
}

#[test]
fn every_field_arrives() {
    let profile = decode(&dump(), &Limits::DEFAULT).unwrap();
    let types: Vec<(&str, &str)> =
        profile.sample_type.iter().map(|t| (text(&profile, t.r#type), text(&profile, t.unit))).collect();
    assert_eq!(
        types,
        [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")]
    );
    assert_eq!(text(&profile, profile.default_sample_type), "inuse_space");
    assert_eq!(profile.period, 512 << 10);
    let period = profile.period_type.unwrap();
    assert_eq!((text(&profile, period.r#type), text(&profile, period.unit)), ("space", "bytes"));
    assert_eq!(profile.time_nanos, TIME);
    assert_eq!(text(&profile, profile.drop_frames), pprof_export::writer::DROP_FRAMES);
    assert_eq!(text(&profile, profile.keep_frames), "");
    assert_eq!(text(&profile, profile.doc_url), "https://example.org/heap");
    assert_eq!(profile.comment.iter().map(|&c| text(&profile, c)).collect::<Vec<_>>(), ["heapsift 0.1.0"]);
    assert_eq!(profile.allocator_stats, Some(stats()));

    let [app, vdso] = &profile.mapping[..] else { panic!("{:?}", profile.mapping) };
    assert_eq!((app.id, app.memory_start, app.memory_limit), (1, 0x5555_5555_5000, 0x5555_5555_8000));
    assert_eq!((app.file_offset, text(&profile, app.filename)), (0x1000, "/usr/bin/app"));
    assert_eq!(text(&profile, app.build_id), "abcd0012");
    assert_eq!((text(&profile, vdso.filename), text(&profile, vdso.build_id)), ("[vdso]", ""));
    assert!(!app.has_functions && !app.has_filenames && !app.has_line_numbers && !app.has_inline_frames);

    // Ids are dense, in the order of the table.
    assert!(profile.location.iter().enumerate().all(|(i, l)| l.id == i as u64 + 1));
    assert!(profile.function.iter().enumerate().all(|(i, f)| f.id == i as u64 + 1));
    let stacks: Vec<Vec<(u64, u64)>> = profile
        .sample
        .iter()
        .map(|s| s.location_id.iter().map(|&id| &profile.location[id as usize - 1]))
        .map(|locations| locations.map(|l| (l.mapping_id, l.address)).collect())
        .collect();
    let caller = (1, 0x5555_5555_6100);
    assert_eq!(stacks[0], [(1, 0x5555_5555_6001), caller]);
    assert_eq!(stacks[1], stacks[0]);
    assert_eq!(stacks[2], [(2, 0x7fff_0000_0001), (1, 0x5555_5555_6002), caller, (0, 0)]);
    assert_eq!(stacks[3], [(0, 0)]);
    let function = |id: u64| {
        let line = profile.location[id as usize - 1].line[0];
        text(&profile, profile.function[line.function_id as usize - 1].name)
    };
    assert_eq!(function(profile.sample[2].location_id[3]), "[truncated stack]");
    assert_eq!(function(profile.sample[3].location_id[0]), "[unknown stack]");

    let mut totals = [0; 4];
    for sample in &profile.sample {
        totals.iter_mut().zip(&sample.value).for_each(|(total, value)| *total += value);
    }
    assert_eq!(totals, [1 + 10 + 7, 64 + 6400 + 7, 2, 128]);
    let labels: Vec<String> = profile.sample[1]
        .label
        .iter()
        .map(|l| [l.key, l.str, l.num_unit].map(|index| text(&profile, index)).join("/") + &l.num.to_string())
        .collect();
    assert_eq!(labels, ["bytes//bytes64", "thread/w\u{fffd}rk/0", "epoch//epoch3"]);
    assert_eq!(profile.sample.len(), 4, "a row of zeros is left out");
}

#[test]
fn stacks_and_frames_stand_above_each_other() {
    let mut writer = Writer::new(Vec::new(), &Header::heap(1, TIME)).unwrap();
    let mut located = Located::new();
    writer.locate(&mut located, 0, &[0x11, 0x21]).unwrap();
    writer.locate(&mut located, 1, &[0x31]).unwrap();
    let between = writer.virtual_frame(b"[between]").unwrap();
    let root = writer.virtual_frame(b"[root]").unwrap();
    let mut joined = JoinedIds::new();
    for _ in 0..2 {
        joined.clear();
        joined.push(located.get(1).1, &[between]).unwrap();
        joined.push(located.get(0).1, &[]).unwrap();
    }
    writer.row(joined.ids(), &[root], &[1, 8, 1, 8], &LabelSet::NONE).unwrap();
    let profile = decode(&writer.finish().unwrap(), &Limits::DEFAULT).unwrap();
    let ids = &profile.sample[0].location_id;
    let addresses: Vec<u64> = ids.iter().map(|&id| profile.location[id as usize - 1].address).collect();
    assert_eq!(addresses, [0x30, 0, 0x10, 0x20, 0]);
}

#[test]
fn the_hand_decoder_agrees_with_prost() {
    let file = dump();
    let message = inflate(&file, &Limits::DEFAULT).unwrap();
    let ours = decode(&file, &Limits::DEFAULT).unwrap();
    assert_eq!(Profile::decode(&message[..]).unwrap(), ours);

    let again = pprof_export::encode_gzip(&ours);
    assert_eq!(decode(&again, &Limits::DEFAULT).unwrap(), ours);
    assert_eq!(again, pprof_export::encode_gzip(&ours), "equal messages give equal files");
    assert_eq!(file, dump(), "equal rows give equal files");
}

/// Counts what arrives and in which pieces.
#[derive(Default)]
struct Counting {
    bytes: usize,
    largest: usize,
    calls: usize,
}

impl Sink for Counting {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.bytes += bytes.len();
        self.largest = self.largest.max(bytes.len());
        self.calls += 1;
        Ok(())
    }
}

#[test]
fn a_long_dump_streams() {
    let mut sink = Counting::default();
    let mut writer = Writer::new(&mut sink, &Header::heap(1, 0)).unwrap();
    for row in 0..50_000u64 {
        let stack = [row * 977 % 8191, row * 31 % 4093, row % 97, 5];
        writer.sample(&Row { stack: &stack, root: None, values: &[1, row as i64, 1, 1], labels: &[] }).unwrap();
    }
    writer.finish().unwrap();
    assert!(sink.bytes > 200 << 10 && sink.largest <= 32 << 10, "{} {}", sink.bytes, sink.largest);
    assert!(sink.calls <= sink.bytes / (32 << 10) + 2);
}

struct Full(usize);

impl Sink for Full {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(SinkError(28))?;
        Ok(())
    }
}

#[test]
fn a_full_disk_is_reported() {
    for room in [0, 9, 40_000] {
        let mut result = Writer::new(Full(room), &Header::heap(1, 0));
        for row in 0..50_000u64 {
            let stack = [row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 17];
            let row = Row { stack: &stack, root: None, values: &[1, 1, 1, 1], labels: &[] };
            result = match result {
                Ok(mut writer) => writer.sample(&row).map(|()| writer),
                Err(error) => Err(error),
            };
        }
        assert_eq!(result.and_then(Writer::finish).err(), Some(SinkError(28)), "{room}");
    }
}

#[test]
fn a_row_of_the_wrong_width_is_refused() {
    let mut writer = Writer::new(Vec::new(), &Header::heap(1, 0)).unwrap();
    let row = Row { stack: &[1], root: None, values: &[1, 2], labels: &[] };
    assert_eq!(writer.sample(&row), Err(SinkError::INVALID));
}
