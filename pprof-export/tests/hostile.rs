//! Broken, cut, huge and foreign files: always one error, never a panic.

mod common;

use common::dump;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use pprof_export::reader::{Error, Limits, decode, inflate, read_bounded};
use pprof_export::schema::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use prost::Message;
use std::io::Write;

const LIMITS: Limits = Limits::DEFAULT;

/// The least that has one of everything.
fn small() -> Profile {
    Profile {
        string_table: ["", "space", "bytes", "f"].map(String::from).to_vec(),
        sample_type: vec![ValueType { r#type: 1, unit: 2 }],
        sample: vec![Sample {
            location_id: vec![1],
            value: vec![5],
            label: vec![Label { key: 2, num: 8, num_unit: 2, str: 0 }],
        }],
        mapping: vec![Mapping { id: 1, memory_start: 0x1000, memory_limit: 0x2000, ..Mapping::default() }],
        location: vec![Location {
            id: 1,
            mapping_id: 1,
            address: 0x1234,
            line: vec![Line { function_id: 1, line: 3, column: 0 }],
            is_folded: false,
        }],
        function: vec![Function { id: 1, name: 3, system_name: 3, filename: 0, start_line: 0 }],
        ..Profile::default()
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_dump_cut_anywhere_is_an_error() {
    let file = dump();
    for length in 0..file.len() {
        let error = decode(&file[..length], &LIMITS).expect_err("cut");
        let expected = match length {
            0 => matches!(error, Error::Empty),
            1 => matches!(error, Error::NotPprof { .. } | Error::Malformed { .. }),
            _ => matches!(error, Error::Gzip { .. }),
        };
        assert!(expected, "{length}: {error:?}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn a_plain_message_cut_anywhere_does_no_harm() {
    let message = inflate(&dump(), &LIMITS).unwrap();
    let whole = decode(&message, &LIMITS).unwrap();
    for length in 0..message.len() {
        // Between two fields nothing shows that more should come, unless something is missing.
        if let Ok(part) = decode(&message[..length], &LIMITS) {
            assert!(part.sample.len() <= whole.sample.len());
        }
    }
}

#[test]
fn flipped_bytes_do_no_harm() {
    let file = dump();
    let message = inflate(&file, &LIMITS).unwrap();
    let mut state = 1u64;
    for _ in 0..20_000 {
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let mut bytes = message.clone();
        for _ in 0..1 + random() % 3 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        if let Ok(profile) = decode(&bytes, &LIMITS) {
            // What passes the checks can be written and read again.
            assert_eq!(decode(&pprof_export::encode_gzip(&profile), &LIMITS).unwrap(), profile);
        }
        let mut bytes = file.clone();
        let at = random() % bytes.len();
        bytes[at] ^= 1 << (random() % 8);
        let _ = decode(&bytes, &LIMITS);
    }
}

#[test]
fn other_formats_are_told_apart() {
    for (content, what) in [
        (&b"heap profile: 1: 2 [3: 4] @ heapprofile\n"[..], "text"),
        (b"heap_v2/524288\n  t*: 1: 2 [0: 0]\n", "text"),
        (b"{\"a\": 1}", "text"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "an ELF binary"),
        (b"\0\0\0\0\0\0\0\0\x03\0\0\0", "binary data of another kind"),
        (b"\x28\xb5\x2f\xfd\0\0", "a zstd file"),
    ] {
        for file in [content.to_vec(), gzip(content)] {
            match decode(&file, &LIMITS) {
                Err(Error::NotPprof { found }) => assert_eq!(found, what),
                other => panic!("{what}: {other:?}"),
            }
        }
    }
    assert!(matches!(decode(&gzip(b""), &LIMITS), Err(Error::Empty)));
}

#[test]
fn gzip_in_all_its_forms() {
    let message = small().encode_to_vec();
    let (first, second) = message.split_at(7);
    let two = [gzip(first), gzip(second)].concat();
    assert_eq!(decode(&two, &LIMITS).unwrap(), small());
    let mut named = GzBuilder::new().filename("a").comment("b").extra([1, 2, 3]).write(Vec::new(), Compression::best());
    named.write_all(&message).unwrap();
    assert_eq!(decode(&named.finish().unwrap(), &LIMITS).unwrap(), small());
    assert_eq!(decode(&message, &LIMITS).unwrap(), small());

    let file = gzip(&message);
    let mut bad_sum = file.clone();
    *bad_sum.iter_mut().nth_back(5).unwrap() ^= 1;
    let trailing = [&file[..], b"xyz"].concat();
    for (file, reason) in [(bad_sum, "checksum"), (trailing, "after its end")] {
        let error = decode(&file, &LIMITS).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn bombs_are_refused() {
    // 40 MiB of an unknown field: 0x7a.. would do as well, but gzip takes a thousandth for all of them.
    let mut message = small().encode_to_vec();
    message.extend([0xfa, 0x06, 0x80, 0x80, 0x80, 0x14]); // Field 111, 40 MiB long.
    message.resize(message.len() + (40 << 20), 0);
    let file = gzip(&message);
    let error = decode(&file, &LIMITS).unwrap_err();
    assert!(matches!(error, Error::Limit { limit: 200, .. }), "{error}");
    assert_eq!(decode(&file, &Limits { ratio: 2000, ..LIMITS }).unwrap(), small());
    let limits = Limits { ratio: 2000, inflated_bytes: 1 << 20, ..LIMITS };
    assert!(matches!(decode(&file, &limits), Err(Error::Limit { limit, .. }) if limit == 1 << 20));
    assert!(read_bounded(std::io::repeat(0), &Limits { compressed_bytes: 1000, ..LIMITS }).is_err());
}

#[test]
fn every_limit_holds() {
    let limited = |profile: &Profile, limits: Limits, what: &str| match decode(&gzip(&profile.encode_to_vec()), &limits)
    {
        Err(Error::Limit { what: found, .. }) => assert_eq!(found, what),
        other => panic!("{what}: {other:?}"),
    };
    let mut many = small();
    many.sample = vec![many.sample[0].clone(); 3];
    limited(&many, Limits { samples: 2, ..LIMITS }, "samples");
    limited(&small(), Limits { strings: 3, ..LIMITS }, "strings");
    many.sample[0].label = vec![many.sample[0].label[0]; 101];
    limited(&many, LIMITS, "labels in a sample");
    limited(&many, Limits { memory_bytes: 300, ..LIMITS }, "bytes in memory");

    let mut deep = small();
    deep.sample[0].location_id = vec![1; 5000];
    deep.string_table.push("x".repeat(70_000));
    let cut = decode(&deep.encode_to_vec(), &LIMITS).unwrap();
    let stack = &cut.sample[0].location_id;
    assert_eq!((stack.len(), stack[4095], stack[4096]), (4097, 1, 2));
    let marker = cut.location.iter().find(|location| location.id == 2).unwrap();
    let function = cut.function.iter().find(|f| f.id == marker.line[0].function_id).unwrap();
    assert_eq!(cut.string_table[function.name as usize], "[truncated stack]");
    assert_eq!(cut.string_table[4], "x".repeat(64 << 10) + "…");
}

#[test]
fn contradictions_are_named() {
    let broken = |change: fn(&mut Profile), message: &str| {
        let mut profile = small();
        change(&mut profile);
        let error = decode(&profile.encode_to_vec(), &LIMITS).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    };
    broken(|p| p.string_table[0] = "x".into(), "string_table[0] is not the empty string");
    broken(|p| p.string_table.clear(), "no strings at all");
    broken(|p| p.sample_type.clear(), "sample_type[0] is missing");
    broken(|p| p.sample[0].value.push(1), "sample[0] has 2 values for 1 sample types");
    broken(|p| p.sample[0].location_id[0] = 9, "sample[0] refers to location 9");
    broken(|p| p.sample[0].label[0].key = -1, "sample[0] has label key string -1, outside the table of 4");
    broken(|p| p.location[0].id = 0, "location[0] has the id 0");
    broken(|p| p.location.push(p.location[0].clone()), "location[1] has the id 1, like one before it");
    broken(|p| p.location[0].line[0].function_id = 7, "location[0] refers to function 7");
    broken(|p| p.function[0].name = 4, "function[0] has name string 4");
    broken(|p| p.function.push(p.function[0]), "function[1] has the id 1");
    broken(|p| p.mapping[0].id = 0, "mapping[0] has the id 0");
    broken(|p| p.mapping.push(p.mapping[0]), "mapping[1] has the id 1");
    broken(|p| p.drop_frames = 4, "drop_frames[0] has string 4");
    // What pprof lets pass.
    let mut lenient = small();
    lenient.location[0].mapping_id = 77;
    lenient.location[0].address = 0;
    assert_eq!(decode(&lenient.encode_to_vec(), &LIMITS).unwrap(), lenient);
}

#[test]
fn malformed_fields_are_named() {
    let start = small().encode_to_vec();
    for (tail, message) in [
        (&[0x12, 0x02, 0x0a, 0x05][..], "a field that is longer than what is left in sample"),
        (&[0x12, 0x03, 0x0a, 0x01, 0x80], "it ends within a number in sample.location_id"),
        (&[0x48], "it ends within a number in profile"),
        (&[0x1a, 0x02, 0x0a, 0x00], "a value of the wrong type in mapping.id"),
        (&[0x0b], "an unknown wire type in profile"),
        (&[0x00, 0x00], "an impossible field number in profile"),
        (&[0x48, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "more than ten bytes"),
    ] {
        let error = decode(&[&start[..], tail].concat(), &LIMITS).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        let offset = error.split("(byte ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let offset: usize = offset.parse().unwrap();
        assert!((start.len()..=start.len() + tail.len()).contains(&offset), "{error}");
    }
    // Integers one by one, and fields that are not known.
    let mut profile = small();
    profile.sample.push(Sample { location_id: vec![1, 1], value: vec![-1], label: vec![] });
    let tail = [0x12, 18, 0x08, 1, 0x08, 1, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0x2d, 1, 2];
    let message = [&start[..], &tail, &[3, 4], &[0xf9, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
    let message = {
        let mut message = message;
        message[start.len() + 1] += 2; // The fixed field's last two bytes.
        message
    };
    assert_eq!(decode(&message, &LIMITS).unwrap(), profile);
}
