//! Writes a heap profile of a given size, for measuring readers: so many samples, each of so many frames
//! drawn evenly from so many locations, every location a function of its own.
//!
//!     cargo run --release -p heapsift-viewer --example make_profile -- OUT [SAMPLES [LOCATIONS [DEPTH [SEED]]]]
//!
//! The defaults are 30 000 samples, 60 000 locations and 32 frames: 2 MB, on which `go tool pprof -top` takes
//! seconds. Frames that follow no call graph compress badly; a real profile of as many samples is smaller.

use std::process::ExitCode;

use pprof_export::encode_gzip;
use pprof_export::schema::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Mean bytes between two samples.
const PERIOD: i64 = 512 << 10;
const BINARY: u64 = 0x5555_5540_0000;

fn profile(samples: u64, locations: u64, depth: u64, seed: u64) -> Profile {
    let mut random = Random(seed);
    let mut profile = Profile { string_table: vec![String::new()], ..Profile::default() };
    fn string(profile: &mut Profile, text: String) -> i64 {
        profile.string_table.push(text);
        profile.string_table.len() as i64 - 1
    }
    let (count, bytes) = (string(&mut profile, "count".into()), string(&mut profile, "bytes".into()));
    for (kind, unit) in
        [("alloc_objects", count), ("alloc_space", bytes), ("inuse_objects", count), ("inuse_space", bytes)]
    {
        let kind = string(&mut profile, kind.into());
        profile.sample_type.push(ValueType { r#type: kind, unit });
    }
    profile.default_sample_type = profile.sample_type[3].r#type;
    let space = string(&mut profile, "space".into());
    profile.period_type = Some(ValueType { r#type: space, unit: bytes });
    (profile.period, profile.time_nanos) = (PERIOD, 1_700_000_000_000_000_000);
    let filename = string(&mut profile, "/opt/service/bin/service".into());
    let build_id = string(&mut profile, "5d41402abc4b2a76b9719d911017c592".into());
    profile.mapping.push(Mapping {
        id: 1,
        memory_start: BINARY,
        memory_limit: BINARY + (locations * 64).next_multiple_of(4096),
        filename,
        build_id,
        has_functions: true,
        has_filenames: true,
        has_line_numbers: true,
        has_inline_frames: true,
        ..Mapping::default()
    });
    let files: Vec<i64> = (0..locations.div_ceil(40))
        .map(|file| string(&mut profile, format!("/src/service/module_{}/file_{file}.cc", file % 97)))
        .collect();
    for id in 1..=locations {
        let name = string(&mut profile, format!("service::module_{}::Worker{id}::process_request", id % 97));
        let filename = files[(id / 40) as usize % files.len()];
        profile.function.push(Function { id, name, system_name: name, filename, start_line: 0 });
        let line = Line { function_id: id, line: 10 + random.below(900) as i64, column: 0 };
        let address = BINARY + id * 64 + random.below(60);
        profile.location.push(Location { id, mapping_id: 1, address, line: vec![line], is_folded: false });
    }
    for _ in 0..samples {
        let size = [32, 64, 96, 256, 1024, 8192, 65536, 2 << 20][random.below(8) as usize];
        let p = -(-(size as f64) / PERIOD as f64).exp_m1();
        let seen = 1 + random.below(4);
        let objects = (seen as f64 / p).round() as i64;
        profile.sample.push(Sample {
            location_id: (0..depth).map(|_| 1 + random.below(locations)).collect(),
            value: vec![objects * 3, objects * 3 * size, objects, objects * size],
            label: vec![Label { key: bytes, num: size, num_unit: bytes, str: 0 }],
        });
    }
    profile
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| match words.get(at) {
        Some(word) => word.parse().ok().filter(|&number| number > 0),
        None => Some(default),
    };
    let numbers = (number(1, 30_000), number(2, 60_000), number(3, 32), number(4, 1));
    let (Some(out), (Some(samples), Some(locations), Some(depth), Some(seed))) = (words.first(), numbers) else {
        eprintln!("usage: make_profile OUT [SAMPLES [LOCATIONS [DEPTH [SEED]]]]");
        return ExitCode::from(2);
    };
    match std::fs::write(out, encode_gzip(&profile(samples, locations, depth, seed))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make_profile: {out}: {error}");
            ExitCode::FAILURE
        }
    }
}
