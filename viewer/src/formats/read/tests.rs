//! Small profiles of each format, whole and broken.

use pprof_export::reader::Limits;
use pprof_export::schema::{Label, Profile, Sample};

use super::decode;

const HEAP_V2: &str = "\
heap_v2/524288
  t*: 3: 2097664 [0: 0]
  t0: 2: 1048832 [0: 0] main
  t1: 1: 1048832 [0: 0]
@ 0x7f0000001001 0x401001 0x401101
  t*: 2: 512 [0: 0]
  t0: 1: 256 [0: 0]
  t1: 1: 256 [0: 0]
@ 0x401201
  t*: 1: 1048576 [0: 0]
  t0: 1: 1048576 [0: 0]

MAPPED_LIBRARIES:
00400000-00402000 r-xp 00001000 fe:00 11  /opt/app/my server
00402000-00403000 rw-p 00003000 fe:00 11  /opt/app/my server
7f0000000000-7f0000002000 r-xp 00000000 fe:00 12  /usr/lib/libjemalloc.so.2
";

const GPERFTOOLS: &str = "\
heap profile:      3:     1536 [     5:     2560] @ heapprofile
     2:     1024 [     4:     2048] @ 0x401001 0x401101
     1:      512 [     1:      512] @ 0x401201

MAPPED_LIBRARIES:
00400000-00402000 r-xp 00000000 fe:00 11  /opt/app/server
";

const HEAPTRACK: &str = "\
v 10400 3
X ./server
I 1000 5e298d
s f /opt/app/server
s 4 grow
s 5 serve
s 6 main.c
i 401000 1 2 4 1e 3 4 28
i 7f00 1
t 1 0
t 2 1
a 64 2
+ 0
+ 0
- 0
a 10 1
+ 1
c 7d0
";

fn read(text: &str) -> Profile {
    let (mut profile, rows) = decode(text.as_bytes(), &Limits::DEFAULT).unwrap();
    rows.put_back(&mut profile);
    profile
}

fn refused(text: &str) -> String {
    decode(text.as_bytes(), &Limits::DEFAULT).unwrap_err().to_string()
}

fn types(profile: &Profile) -> Vec<&str> {
    profile.sample_type.iter().map(|t| text(profile, t.r#type)).collect()
}

fn text(profile: &Profile, index: i64) -> &str {
    &profile.string_table[index as usize]
}

/// Addresses, or names where there are some, leaf first.
fn stack(profile: &Profile, sample: &Sample) -> Vec<String> {
    let names = sample.location_id.iter().flat_map(|&id| {
        let location = &profile.location[id as usize - 1];
        if location.line.is_empty() {
            return vec![format!("{:x}", location.address)];
        }
        let name = |function: u64| text(profile, profile.function[function as usize - 1].name);
        location.line.iter().map(|line| format!("{}:{}", name(line.function_id), line.line)).collect()
    });
    names.collect()
}

fn label(profile: &Profile, label: &Label) -> String {
    let value = if label.str != 0 { text(profile, label.str).to_owned() } else { label.num.to_string() };
    format!("{}={value}", text(profile, label.key))
}

#[test]
fn jemalloc() {
    let profile = read(HEAP_V2);
    assert_eq!(types(&profile), ["inuse_objects", "inuse_space"]);
    assert_eq!(profile.period, 524_288);
    // 256 bytes on average: 1 / (1 − e^(−256/524288)) = 2048.5 blocks each.
    let [first, second, large] = &profile.sample[..] else { panic!("{:?}", profile.sample) };
    assert_eq!(first.value[0] + second.value[0], 4097);
    assert_eq!(first.value[1] + second.value[1], 1_048_832);
    // The allocator's own frame is cut, return addresses point into the call.
    assert_eq!(stack(&profile, first), ["401000", "401100"]);
    assert_eq!(label(&profile, &first.label[0]), "thread=main");
    assert_eq!(label(&profile, &second.label[0]), "thread=t1");
    assert_eq!(large.value, [1, 1_212_697]);
    // Executable pieces only.
    assert_eq!(profile.mapping.len(), 2);
    let server = &profile.mapping[0];
    assert_eq!(text(&profile, server.filename), "/opt/app/my server");
    assert_eq!((server.memory_start, server.file_offset), (0x400000, 0x1000));
    assert_eq!(profile.location[1].mapping_id, 1);
}

#[test]
fn jemalloc_with_accumulated_counts() {
    let with = HEAP_V2
        .replace("t*: 1: 1048576 [0: 0]", "t*: 1: 1048576 [2: 2097152]")
        .replace("t0: 1: 1048576 [0: 0]", "t0: 1: 1048576 [2: 2097152]");
    let profile = read(&with);
    assert_eq!(types(&profile), ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]);
    assert_eq!(profile.sample[2].value, [2, 2_425_393, 1, 1_212_697]);
}

#[test]
fn gperftools() {
    let profile = read(GPERFTOOLS);
    assert_eq!(types(&profile), ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]);
    assert_eq!(profile.period, 1);
    assert_eq!(profile.sample[0].value, [4, 2048, 2, 1024]);
    assert_eq!(label(&profile, &profile.sample[0].label[0]), "bytes=512");
    let sampled = GPERFTOOLS.replace("@ heapprofile", "@ heap_v2/524288");
    assert_eq!(read(&sampled).sample[1].value, [1024, 524_544, 1024, 524_544]);
    let halved = GPERFTOOLS.replace("@ heapprofile", "@ heap/1048576");
    assert_eq!(read(&halved).sample, read(&sampled).sample);
    let growth = GPERFTOOLS.replace("[     5:     2560] @ heapprofile", "[ 3: 1536] @ growthz");
    assert_eq!(types(&read(&growth)), ["inuse_objects", "inuse_space"]);
}

#[test]
fn heaptrack() {
    let profile = read(HEAPTRACK);
    let [first, second] = &profile.sample[..] else { panic!("{:?}", profile.sample) };
    assert_eq!(first.value, [2, 200, 1, 100]);
    assert_eq!(stack(&profile, first), ["[server]:0", "grow:30", "serve:40"]);
    assert_eq!((second.value.as_slice(), label(&profile, &second.label[0])), (&[1, 16, 1, 16][..], "bytes=16".into()));
    assert_eq!(profile.duration_nanos, 2_000_000_000);
    assert_eq!(text(&profile, profile.comment[0]), "command: ./server");
}

#[test]
fn raw_heaptrack() {
    let raw = "v 10400 3\nx f /opt/app/server\nX ./server\nm 1 -\nm 1 x 5500 0 1000 2000 800\n\
        t 5601 0\nt 7601 1\nt ffff 0\n+ 64 2 1000\n+ 64 2 2000\n- 1000\n- 9\n+ 8 3 10\n";
    let profile = read(raw);
    let [first, second] = &profile.sample[..] else { panic!("{:?}", profile.sample) };
    assert_eq!(first.value, [2, 200, 1, 100]);
    // The file's own addresses, in a mapping that says so.
    assert_eq!(stack(&profile, first), ["2100", "100"]);
    let mapping = &profile.mapping[0];
    assert_eq!(text(&profile, mapping.filename), "/opt/app/server");
    assert_eq!((mapping.memory_start, mapping.memory_limit), (0, u64::MAX));
    assert_eq!(profile.location[0].mapping_id, 1);
    assert_eq!(stack(&profile, second), ["fffe"]);
}

#[test]
fn folded() {
    let profile = read("main;serve;grow 100\nmain;[u8: 8] -5\n\nmain 7\n");
    assert_eq!(types(&profile), ["inuse_space"]);
    let rows: Vec<_> = profile.sample.iter().map(|s| (stack(&profile, s), s.value[0])).collect();
    assert_eq!(rows[0], (vec!["grow:0".to_owned(), "serve:0".to_owned(), "main:0".to_owned()], 100));
    assert_eq!(rows[1].1, -5);
    assert_eq!(rows[2], (vec!["main:0".to_owned()], 7));
}

#[test]
fn packed() {
    use std::io::Write;
    for content in [HEAP_V2, GPERFTOOLS, HEAPTRACK] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(content.as_bytes()).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(content.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest);
        // Two frames are one content.
        let (head, tail) = content.as_bytes().split_at(7);
        let compress =
            |part: &[u8]| ruzstd::encoding::compress_to_vec(part, ruzstd::encoding::CompressionLevel::Fastest);
        let two = [compress(head), compress(tail)].concat();
        for packed in [gzip.finish().unwrap(), zstd, two] {
            let (mut profile, rows) = decode(&packed, &Limits::DEFAULT).unwrap();
            rows.put_back(&mut profile);
            assert_eq!(profile, read(content));
            for length in 1..packed.len() {
                assert!(decode(&packed[..length], &Limits::DEFAULT).is_err(), "{length}");
            }
        }
    }
}

#[test]
fn errors_name_line_and_field() {
    for (content, message) in [
        (HEAP_V2.replace("0x401201", "0xzz"), "stack: 0xzz is no address (line 9, byte "),
        (HEAP_V2.replace("t1: 1: 256 ", "t1: x: 256 "), "counts: t1: x: 256 [0: 0] is neither"),
        (HEAP_V2.replace("heap_v2/524288", "heap_v2/0"), "period: 0 is no number of bytes (line 1, byte 0)"),
        (HEAP_V2.split("MAPPED").next().unwrap().to_owned(), "MAPPED_LIBRARIES: it is missing: the file was cut"),
        (HEAP_V2.trim_end().to_owned(), "the file ends within a line"),
        (
            HEAP_V2.replace("00400000-00402000 r-xp", "00400000+00402000 r-xp"),
            "MAPPED_LIBRARIES: no range of addresses",
        ),
        (
            GPERFTOOLS.replace("@ 0x401201", "0x401201"),
            "stack: 1:      512 [     1:      512] 0x401201 has none (line 3",
        ),
        (GPERFTOOLS.replace("2:     1024 [     4", "0:     1024 [     4"), "counts: 1024 bytes of no block (line 2"),
        (HEAPTRACK.replace("t 2 1", "t 9 1"), "instruction: 9 is not there, only 3 are (line 11"),
        (HEAPTRACK.replace("s 4 grow", "s 9 grow"), "string: it is shorter than its length of 9 (line 5"),
        (HEAPTRACK.replace("a 10 1", "q 10 1"), "line: q is no known kind (line 16"),
        ("a;b 1\na;c x\n".to_owned() + &"a;b 1\n".repeat(4000), "not a profile: it looks like text"),
        ("a;b 1\n".repeat(4000) + "a;c x\n", "value: a;c x ends in none (line 4001, byte 24000)"),
        ("hello\n".to_owned(), "not a profile: it looks like text"),
        ("heap profile: but not really\n".to_owned(), "not a profile: it looks like text"),
    ] {
        let error = refused(&content);
        assert!(error.contains(message), "{message}: {error}");
        assert!(!error.contains('\n'));
    }
}

#[test]
fn limits_hold_for_text() {
    let limited = |text: &str, name: &str, value: u64| {
        let mut limits = Limits::DEFAULT;
        assert!(limits.set(name, value));
        decode(text.as_bytes(), &limits)
    };
    for (name, value) in [("samples", 1), ("strings", 3), ("memory", 500), ("line", 20), ("file", 9)] {
        let error = limited(HEAP_V2, name, value).unwrap_err().to_string();
        assert!(error.starts_with("too large"), "{error}");
        assert!(error.ends_with(&format!("--limit {name}=N reads more")), "{error}");
    }
    let (profile, _) = limited(HEAP_V2, "depth", 1).unwrap();
    assert!(profile.string_table.iter().any(|text| text == "[truncated stack]"));
    let (profile, _) = limited(HEAPTRACK, "name", 3).unwrap();
    assert!(profile.string_table.iter().any(|text| text == "gro…"));
}
