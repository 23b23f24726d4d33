//! Row B3: dumps that other programs wrote, and our own, cut off at every byte. Nothing is ever read in part: a cut dump is
//! refused by a line that says where, or all of its rows are there.
//!
//! The long form cuts at every byte, the short one at some of them, and at all that are close to an end of a line.
#![cfg(debug_assertions)]

use std::path::Path;

use pprof_export::reader::Limits;
use pprof_export::schema::Profile;
use viewer::input::read_bytes;

/// Bytes from one cut to the next in the short form; a prime number.
const STEP: usize = 97;

/// Reads a dump from memory.
fn read(bytes: &[u8]) -> Result<Profile, String> {
    read_bytes(Path::new("dump"), bytes, &Limits::DEFAULT)
        .map(|input| input.into_message())
        .map_err(|error| error.to_string())
}

/// What a row says: its values, and the addresses of its frames.
type Row = (Vec<i64>, Vec<u64>);

/// All rows.
fn rows(profile: &Profile) -> Vec<Row> {
    let address = |id: &u64| profile.location.iter().find(|place| place.id == *id).expect("checked when read").address;
    profile.sample.iter().map(|row| (row.value.clone(), row.location_id.iter().map(address).collect())).collect()
}

/// Cuts a dump everywhere. In `list`, which is the end of its content, mappings stand a line each and without an end of
/// their own: it may be shorter by whole lines. Returns how many cuts were tried, and how many of them were read.
fn cut(name: &str, list: &[u8]) -> (usize, usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dumps").join(name);
    let whole = std::fs::read(path).expect("the dump is part of the repository");
    let all = rows(&read(&whole).expect("it is whole"));
    assert!(all.len() >= 5, "{name}: {} rows", all.len());
    let start = whole.windows(list.len().max(1)).position(|part| part == list).unwrap_or(whole.len());
    let is_long = std::env::var_os("HEAPSIFT_LONG").is_some_and(|value| value == "1");
    let is_near_end_of_line = |length: usize| {
        let near = &whole[length.saturating_sub(2)..(length + 2).min(whole.len())];
        !list.is_empty() && near.contains(&b'\n')
    };
    let (mut tried, mut read_whole) = (0, 0);
    for length in 0..whole.len() {
        let is_last = length + 20 > whole.len() || length < 20;
        if !is_long && length % STEP != 0 && !is_last && !is_near_end_of_line(length) {
            continue;
        }
        tried += 1;
        match read(&whole[..length]) {
            Ok(profile) => {
                let is_line = length > 0 && whole[length - 1] == b'\n';
                assert!(is_line && length >= start, "{name}: {length} of {} bytes are read", whole.len());
                // Frames of an allocator whose mapping is missing stay, at the leaf.
                let found = rows(&profile);
                let is_same = |(a, b): (&Row, &Row)| a.0 == b.0 && a.1.ends_with(&b.1);
                let are_same = found.len() == all.len() && found.iter().zip(&all).all(is_same);
                assert!(are_same, "{name}: {length} of {} bytes are other rows", whole.len());
                read_whole += 1;
            }
            Err(line) => {
                assert!(line.starts_with("dump: ") && !line.contains('\n'), "{name}, {length} bytes: {line}");
                let says_where = line.split("byte ").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
                assert!(says_where, "{name}, {length} bytes: {line}");
            }
        }
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../safety");
    std::fs::create_dir_all(&directory).expect("the target directory can be written");
    let measured =
        format!("{tried} cuts: {} refused with the offset, {read_whole} read with all rows", tried - read_whole);
    let said = ["B3", name, "heapsift", &measured, "holds"].join("\t");
    std::fs::write(directory.join(format!("B3-{name}-heapsift.said")), said)
        .expect("the target directory can be written");
    (tried, read_whole)
}

#[test]
fn b3_a_dump_of_ours() {
    assert_eq!(cut("heapsift.pb.gz", b"").1, 0);
}

#[test]
fn b3_a_dump_of_go() {
    assert_eq!(cut("go.pb.gz", b"").1, 0);
}

#[test]
fn b3_a_recording_of_heaptrack() {
    assert_eq!(cut("heaptrack.zst", b"").1, 0);
}

#[test]
fn b3_a_dump_of_jemalloc() {
    let (tried, whole) = cut("jemalloc.heap", b"\nMAPPED_LIBRARIES:\n");
    assert!(whole > 0 && whole < tried / 2, "{whole} of {tried}");
}

#[test]
fn b3_a_dump_of_gperftools() {
    let (tried, whole) = cut("gperftools.heap", b"\nMAPPED_LIBRARIES:\n");
    assert!(whole > 0 && whole < tried / 2, "{whole} of {tried}");
}
