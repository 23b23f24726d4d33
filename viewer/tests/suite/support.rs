//! Profiles made for a test, and the command to show them to.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use pprof_export::AllocatorStats;
use pprof_export::encode_gzip;
use pprof_export::schema::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use tempfile::TempDir;

/// Mean bytes between samples of every made profile.
pub const PERIOD: i64 = 524_288;

/// Says what was measured for a row of `docs/safety.md`, as `heapsift_tests::safety::told` does.
pub fn holds(row: &str, part: &str, measured: &str) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../safety");
    fs::create_dir_all(&directory).unwrap();
    let words = [row, part, "heapsift", measured, "holds"].join("\t");
    fs::write(directory.join(format!("{row}-{}-heapsift.said", part.replace(' ', "-"))), words).unwrap();
}

/// A directory that goes away with the test.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(TempDir::with_prefix("heapsift-test-").unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file and returns its path as text.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn join(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }
}

/// The command with these words.
pub fn heapsift(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heapsift")).args(words).env_remove("MALLOC_CONF").output().unwrap()
}

/// Standard output of a command that must succeed.
pub fn output_of(words: &[&str]) -> String {
    let output = heapsift(words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn json_of(words: &[&str]) -> serde_json::Value {
    serde_json::from_str(&output_of(words)).unwrap()
}

/// One frame of a location: function, file, line.
#[derive(Clone, Copy)]
pub struct Frame<'a>(pub &'a str, pub &'a str, pub i64);

/// Builds a heap profile with the four usual columns.
pub struct Builder {
    pub profile: Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<(String, String), u64>,
    locations: HashMap<u64, u64>,
}

impl Builder {
    pub fn new() -> Self {
        let mut builder = Self {
            profile: Profile { string_table: vec![String::new()], ..Profile::default() },
            strings: HashMap::from([(String::new(), 0)]),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        for (kind, unit) in
            [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")]
        {
            let value_type = ValueType { r#type: builder.string(kind), unit: builder.string(unit) };
            builder.profile.sample_type.push(value_type);
        }
        builder.profile.default_sample_type = builder.string("inuse_space");
        let (kind, unit) = (builder.string("space"), builder.string("bytes"));
        builder.profile.period_type = Some(ValueType { r#type: kind, unit });
        builder.profile.period = PERIOD;
        builder.profile.time_nanos = 1_700_000_000_000_000_000;
        builder
    }

    pub fn string(&mut self, text: &str) -> i64 {
        if let Some(&known) = self.strings.get(text) {
            return known;
        }
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }

    pub fn mapping(&mut self, file: &str, start: u64, build_id: &str) -> u64 {
        let id = self.profile.mapping.len() as u64 + 1;
        let mapping = Mapping {
            id,
            memory_start: start,
            memory_limit: start + 0x10_0000,
            file_offset: 0,
            filename: self.string(file),
            build_id: self.string(build_id),
            ..Mapping::default()
        };
        self.profile.mapping.push(mapping);
        id
    }

    /// The location of an address; its frames are given innermost first, none for a nameless one.
    pub fn location(&mut self, address: u64, frames: &[Frame<'_>]) -> u64 {
        if let Some(&known) = self.locations.get(&address) {
            return known;
        }
        let line = frames
            .iter()
            .map(|&Frame(name, file, line)| {
                let function_id = self.function(name, file);
                Line { function_id, line, column: 0 }
            })
            .collect();
        let id = self.profile.location.len() as u64 + 1;
        let mapping = self
            .profile
            .mapping
            .iter()
            .find(|m| (m.memory_start..m.memory_limit).contains(&address))
            .map_or(0, |m| m.id);
        self.profile.location.push(Location { id, mapping_id: mapping, address, line, is_folded: false });
        self.locations.insert(address, id);
        id
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let key = (name.to_owned(), file.to_owned());
        if let Some(&known) = self.functions.get(&key) {
            return known;
        }
        let id = self.profile.function.len() as u64 + 1;
        let function = Function {
            id,
            name: self.string(name),
            system_name: self.string(name),
            filename: self.string(file),
            start_line: 0,
        };
        self.profile.function.push(function);
        self.functions.insert(key, id);
        id
    }

    /// A row of `samples` sampled blocks of `size` bytes: in use, and allocated twice as often.
    pub fn sampled(&mut self, stack: &[u64], size: i64, samples: u32) {
        self.born(stack, size, samples, None);
    }

    /// The same, born in an epoch.
    pub fn born(&mut self, stack: &[u64], size: i64, samples: u32, epoch: Option<i64>) {
        let p = -(-(size as f64) / PERIOD as f64).exp_m1();
        let objects = (f64::from(samples) / p).round() as i64;
        let mut number = |name: &str, num: i64| {
            let key = self.string(name);
            Label { key, num, num_unit: key, str: 0 }
        };
        let mut label = vec![number("bytes", size)];
        label.extend(epoch.map(|epoch| number("epoch", epoch)));
        self.profile.sample.push(Sample {
            location_id: stack.to_vec(),
            value: vec![objects * 2, objects * 2 * size, objects, objects * size],
            label,
        });
    }

    /// A stack of named functions, leaf first, one location each.
    pub fn stack(&mut self, names: &[&str]) -> Vec<u64> {
        names
            .iter()
            .map(|name| {
                let hash = name.bytes().fold(5381u64, |h, b| h.wrapping_mul(33) ^ u64::from(b));
                self.location(0x40_0000 + hash % 0xf_ffff, &[Frame(name, "src/app.c", 10)])
            })
            .collect()
    }

    pub fn gzip(&self) -> Vec<u8> {
        encode_gzip(&self.profile)
    }
}

/// A small service: a leak, a cache, and a parser with an inlined helper.
pub fn service(leak_samples: u32) -> Builder {
    let mut builder = Builder::new();
    builder.mapping("/opt/app/service", 0x40_0000, "0a0b0c0d");
    let main = builder.location(0x40_1000, &[Frame("main", "src/main.c", 7)]);
    let serve = builder.location(0x40_2000, &[Frame("serve", "src/serve.c", 30)]);
    let leak = builder.location(0x40_3000, &[Frame("remember", "src/leak.c", 12)]);
    let cache = builder.location(0x40_4000, &[Frame("insert", "src/cache.c", 99)]);
    let parse = builder.location(0x40_5000, &[Frame("grow", "src/buffer.h", 5), Frame("parse", "src/parse.c", 44)]);
    let malloc = builder.location(0x40_6000, &[Frame("xmalloc", "src/util.c", 3)]);
    builder.sampled(&[malloc, leak, serve, main], 1024, leak_samples);
    builder.sampled(&[cache, serve, main], 4096, 50);
    builder.sampled(&[cache, serve, main], 2 << 20, 3);
    builder.sampled(&[parse, parse, serve, main], 256, 9);
    builder.profile.allocator_stats =
        Some(AllocatorStats { allocated: 40 << 20, resident: 64 << 20, ..AllocatorStats::default() });
    builder
}

/// The long forms of tests are asked for.
pub fn is_long() -> bool {
    std::env::var_os("HEAPSIFT_LONG").is_some_and(|value| value == "1")
}

/// Random numbers, the same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Above 0, below 1.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Successes in so many trials of this probability: from one to the next by geometric gaps.
    pub fn successes(&mut self, trials: u64, probability: f64) -> u32 {
        let rate = (-probability).ln_1p();
        let (mut at, mut count) = (0.0, 0);
        loop {
            at += if probability < 1.0 { (self.unit().ln() / rate).floor() + 1.0 } else { 1.0 };
            if at > trials as f64 {
                return count;
            }
            count += 1;
        }
    }
}
