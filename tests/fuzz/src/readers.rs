//! Files that are read.

use std::path::Path;

use heapsift::maps::Line;
use pprof_export::encode_gzip;
use pprof_export::reader::Limits;
use viewer::input::{self, Input, Merge, Periods};
use viewer::model::Profile;
use viewer::report::{folded, info, raw};

/// Smaller than usual, so that each input is quick.
fn limits() -> Limits {
    let mut limits = Limits::DEFAULT;
    for (name, value) in [("memory", 8 << 20), ("inflated", 8 << 20), ("samples", 10_000), ("depth", 200)] {
        assert!(limits.set(name, value), "{name} is a limit");
    }
    limits
}

/// Reads a file; what is wrong with it is one line.
fn read(bytes: &[u8]) -> Option<Input> {
    match input::read_bytes(Path::new("input"), bytes, &limits()) {
        Ok(input) => Some(input),
        Err(error) => {
            let line = error.to_string();
            assert!(line.starts_with("input: ") && !line.chars().any(char::is_control), "{line:?}");
            None
        }
    }
}

/// Makes all of it that is quick.
fn show(input: Input) -> Option<Profile> {
    let profile = input::combine(vec![input], Vec::new(), Merge::Sides(Periods::Mixed), false).ok()?;
    for column in 0..profile.sample_types.len().min(4) {
        for line in folded::text(&profile, column).lines() {
            let (stack, value) = line.rsplit_once(' ').expect("a stack and a value");
            assert!(!stack.is_empty() && value.parse::<i128>().is_ok(), "{line}");
        }
    }
    for text in [info::text(&profile, "input"), raw::text(&profile)] {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
    Some(profile)
}

/// Any file; one that is read can be written, and is the same then.
pub fn pprof(bytes: &[u8]) {
    let Some(input) = read(bytes) else { return };
    let message = input.into_message();
    let Some(again) = read(&encode_gzip(&message)) else { panic!("what was written is not read") };
    let written = again.into_message();
    assert_eq!(written, message);
    if let Ok(input) = Input::new("input".into(), message) {
        show(input);
    }
}

/// A file of one of the text formats.
pub fn text(bytes: &[u8]) {
    if let Some(input) = read(bytes) {
        show(input);
    }
}

/// Lists of mappings: those within a profile, and the kernel's of a process.
pub fn maps(bytes: &[u8]) {
    let profile = [b"heap_v2/524288\n@ 0x401001\n  t*: 2: 512 [0: 0]\n\nMAPPED_LIBRARIES:\n", bytes].concat();
    if let Some(input) = read(&profile) {
        for mapping in &input.message.mapping {
            assert!(mapping.memory_start < mapping.memory_limit, "{mapping:?}");
        }
        show(input);
    }
    for line in bytes.split(|&byte| byte == b'\n') {
        if let Some(found) = Line::parse(line) {
            assert!(found.path.len() < line.len());
        }
    }
}
