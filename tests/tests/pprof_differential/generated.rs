//! Profiles drawn by lot, each shape with a fixed seed: what producers may write, in all combinations that matter.

use std::collections::HashMap;

use pprof_export::schema::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

/// Random numbers, the same for the same seed (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// What the columns are.
#[derive(Clone, Copy, PartialEq)]
pub enum Columns {
    Heap,
    Cpu,
    Contention,
    Threads,
    /// Five, with units that few know, the default not the last.
    Many,
}

/// What values look like.
#[derive(Clone, Copy, PartialEq)]
pub enum Values {
    /// Over many magnitudes.
    Spread,
    /// Few different ones, so that many sums are equal.
    Equal,
    /// Both signs, as in a saved difference.
    Signed,
    /// Mostly zeros, some rows of nothing else.
    Zeros,
}

/// What functions are called.
#[derive(Clone, Copy, PartialEq)]
pub enum Names {
    Plain,
    /// With arguments, templates, namespaces, receivers, generic parameters.
    Decorated,
    /// Control characters, blanks, quotes, markup, other scripts.
    Odd,
    /// Some without a name, some without a file.
    Missing,
}

/// What labels rows carry.
#[derive(Clone, Copy, PartialEq)]
pub enum Labels {
    None,
    Texts,
    Numbers,
    Both,
}

/// What a profile is like.
#[derive(Clone, Copy)]
pub struct Shape {
    pub name: &'static str,
    pub columns: Columns,
    pub values: Values,
    pub names: Names,
    pub labels: Labels,
    pub binaries: u64,
    /// Of ten locations, so many have no lines.
    pub nameless: u64,
    /// A location has at most so many lines.
    pub lines: u64,
    pub depth: u64,
    pub rows: u64,
    /// Comments, duration, frames to drop and to keep, folded locations, names for the linker.
    pub extras: bool,
    /// Of twenty rows, so many have no stack.
    pub stackless: u64,
}

const PLAIN: Shape = Shape {
    name: "plain",
    columns: Columns::Heap,
    values: Values::Spread,
    names: Names::Plain,
    labels: Labels::None,
    binaries: 1,
    nameless: 0,
    lines: 1,
    depth: 12,
    rows: 150,
    extras: false,
    stackless: 0,
};

/// All shapes.
pub const SHAPES: [Shape; 24] = [
    PLAIN,
    Shape { name: "inlined", lines: 4, ..PLAIN },
    Shape { name: "recursive", names: Names::Plain, depth: 60, lines: 2, rows: 60, ..PLAIN },
    Shape { name: "cpu", columns: Columns::Cpu, lines: 2, extras: true, ..PLAIN },
    Shape { name: "contention", columns: Columns::Contention, labels: Labels::Texts, ..PLAIN },
    Shape { name: "threads", columns: Columns::Threads, values: Values::Equal, labels: Labels::Texts, ..PLAIN },
    Shape { name: "many columns", columns: Columns::Many, labels: Labels::Both, lines: 2, ..PLAIN },
    Shape { name: "decorated names", names: Names::Decorated, lines: 3, extras: true, ..PLAIN },
    Shape { name: "odd names", names: Names::Odd, labels: Labels::Both, binaries: 2, nameless: 2, ..PLAIN },
    Shape { name: "missing names", names: Names::Missing, binaries: 3, nameless: 2, lines: 3, ..PLAIN },
    Shape { name: "without names", nameless: 10, binaries: 4, ..PLAIN },
    Shape { name: "without mappings", binaries: 0, nameless: 5, ..PLAIN },
    Shape { name: "many binaries", binaries: 9, nameless: 4, lines: 2, ..PLAIN },
    Shape { name: "text labels", labels: Labels::Texts, rows: 250, ..PLAIN },
    Shape { name: "number labels", labels: Labels::Numbers, rows: 250, ..PLAIN },
    Shape { name: "both labels", labels: Labels::Both, lines: 3, binaries: 2, rows: 250, ..PLAIN },
    Shape { name: "signed", values: Values::Signed, lines: 2, labels: Labels::Numbers, ..PLAIN },
    Shape { name: "signed time", values: Values::Signed, columns: Columns::Cpu, extras: true, ..PLAIN },
    Shape { name: "zeros", values: Values::Zeros, lines: 2, labels: Labels::Texts, ..PLAIN },
    Shape { name: "equal sums", values: Values::Equal, lines: 3, binaries: 2, nameless: 1, ..PLAIN },
    Shape { name: "shallow", depth: 1, lines: 3, rows: 40, ..PLAIN },
    Shape { name: "one row", rows: 1, depth: 4, extras: true, ..PLAIN },
    Shape { name: "no rows", rows: 0, labels: Labels::Both, ..PLAIN },
    Shape { name: "rows without stacks", stackless: 3, lines: 2, labels: Labels::Both, ..PLAIN },
];

const PLAIN_NAMES: [&str; 14] = [
    "main",
    "serve",
    "parse",
    "f",
    "g",
    "h",
    "malloc",
    "read_all",
    "grow",
    "cache_insert",
    "worker",
    "run",
    "list_append",
    "to_text",
];

const DECORATED_NAMES: [&str; 14] = [
    "std::vector<int, std::allocator<int> >::push_back(int&&)",
    "operator new(unsigned long)",
    "(anonymous namespace)::f(int)",
    "T::operator()(int) const",
    "alloc::alloc::alloc",
    "<T as core::fmt::Debug>::fmt",
    "<alloc::vec::Vec<T> as core::clone::Clone>::clone::{{closure}}",
    "github.com/a/b/v2.(*T).Run",
    "github.com/a/b.Map[go.shape.int_0].func1",
    "main.main.func2.1",
    ".init",
    "java.util.HashMap.put(Object, Object)",
    "_ZN3foo3barEv",
    "main",
];

const ODD_NAMES: [&str; 12] = [
    "a\tb",
    "a\nb",
    "red \u{1b}[31m",
    "two  blanks",
    " leading",
    "<script>alert(1)</script>",
    "\"quoted\"",
    "näh::größe",
    "関数",
    "a;b",
    "x.*+?(y)",
    "…",
];

const FILES: [&str; 8] = [
    "src/a.c",
    "/build/app//b.c",
    "./c/../d.c",
    "",
    "/build/app/src/lib.rs",
    "/home/me/x y.go",
    "../up.cc",
    "/proc/self/cwd/e.c",
];

const BINARIES: [(&str, &str); 9] = [
    ("/opt/app/service", "0a0b0c0d"),
    ("/usr/lib/libz.so.1", ""),
    ("[vdso]", ""),
    ("", "ff00ff"),
    ("/usr/lib/x86_64-linux-gnu/libc.so.6", "c0ffee"),
    ("//anon", ""),
    ("/tmp/with blank/lib name.so", "ab"),
    ("[vsyscall]", ""),
    ("", ""),
];

const TEXTS: [(&str, &[&str]); 4] = [
    ("thread", &["worker-1", "worker-2", "main", "io\tpoll"]),
    ("request", &["/a", "/b?c=d", "/a,b"]),
    ("empty key is next", &["x"]),
    ("", &["y"]),
];

const NUMBERS: [(&str, &[&str], &[i64]); 5] = [
    ("bytes", &["bytes"], &[16, 64, 1024, 4096, 100_000, 1 << 20, 5_000_000_000]),
    ("epoch", &["epoch"], &[1, 2, 3]),
    ("request", &[""], &[0, 48, 2048]),
    ("took", &["ms", "milliseconds"], &[1, 20, 1500, -3]),
    ("plain", &[""], &[0, 1, 7]),
];

/// A message while it is made.
struct Maker {
    profile: Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<(String, String), u64>,
}

impl Maker {
    fn string(&mut self, text: &str) -> i64 {
        let next = self.profile.string_table.len() as i64;
        let index = *self.strings.entry(text.to_owned()).or_insert(next);
        if index == next {
            self.profile.string_table.push(text.to_owned());
        }
        index
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.string(kind), unit: self.string(unit) }
    }

    fn function(&mut self, name: &str, file: &str, shape: &Shape, random: &mut Random) -> u64 {
        let next = self.profile.function.len() as u64 + 1;
        let id = *self.functions.entry((name.to_owned(), file.to_owned())).or_insert(next);
        if id == next {
            let system = if shape.extras && random.below(3) == 0 { format!("_Z{name}") } else { name.to_owned() };
            let function = Function {
                id,
                name: self.string(name),
                system_name: self.string(&system),
                filename: self.string(file),
                start_line: if shape.extras { random.below(90) as i64 } else { 0 },
            };
            self.profile.function.push(function);
        }
        id
    }
}

/// The columns of a shape, and which one is shown by default.
fn columns(shape: &Shape) -> (&'static [(&'static str, &'static str)], &'static str) {
    match shape.columns {
        Columns::Heap => (
            &[
                ("alloc_objects", "count"),
                ("alloc_space", "bytes"),
                ("inuse_objects", "count"),
                ("inuse_space", "bytes"),
            ],
            "inuse_space",
        ),
        Columns::Cpu => (&[("samples", "count"), ("cpu", "nanoseconds")], ""),
        Columns::Contention => (&[("contentions", "count"), ("delay", "nanoseconds")], "delay"),
        Columns::Threads => (&[("threads", "count")], ""),
        Columns::Many => {
            (&[("steps", "parsecs"), ("wait", "ms"), ("energy", "uJ"), ("moved", "MB"), ("", "")], "moved")
        }
    }
}

/// A profile of this shape. `slide` moves its binaries in memory, as another run has them; `drawn` draws other rows.
pub fn profile(shape: &Shape, seed: u64, slide: u64, drawn: u64) -> Profile {
    let mut random = Random::new(seed + 1);
    let mut maker = Maker {
        profile: Profile { string_table: vec![String::new()], ..Profile::default() },
        strings: HashMap::from([(String::new(), 0)]),
        functions: HashMap::new(),
    };
    let (kinds, default) = columns(shape);
    maker.profile.sample_type = kinds.iter().map(|(kind, unit)| maker.value_type(kind, unit)).collect();
    maker.profile.default_sample_type = maker.string(default);
    match shape.columns {
        Columns::Heap => {
            maker.profile.period_type = Some(maker.value_type("space", "bytes"));
            maker.profile.period = 524_288;
        }
        Columns::Cpu => {
            maker.profile.period_type = Some(maker.value_type("cpu", "nanoseconds"));
            maker.profile.period = 10_000_000;
        }
        _ => {}
    }
    maker.profile.time_nanos = 1_700_000_000_000_000_000;
    if shape.extras {
        maker.profile.duration_nanos = *random.pick(&[30_060_000_000, 999, 5_000_000, 7_500_000_000_000]);
        maker.profile.drop_frames = maker.string("malloc|operator new|alloc::alloc::.*");
        maker.profile.keep_frames = maker.string("alloc::alloc::keep");
        maker.profile.comment = vec![maker.string("made by lot"), maker.string("#not shown")];
    }
    for index in 0..shape.binaries {
        let (file, build_id) = BINARIES[index as usize];
        let start = (0x40_0000 << index) + slide * (index % 2 + 1);
        let mapping = Mapping {
            id: index + 1,
            memory_start: start,
            memory_limit: start + 0x10_0000,
            file_offset: 0x1000 * (index % 3),
            filename: maker.string(file),
            build_id: maker.string(build_id),
            has_functions: shape.nameless == 0,
            has_filenames: shape.nameless == 0 && index == 0,
            has_line_numbers: shape.nameless == 0 && index == 0,
            has_inline_frames: shape.lines > 1 && index == 0,
        };
        maker.profile.mapping.push(mapping);
    }
    for index in 0..60 {
        location(&mut maker, shape, &mut random, index, slide);
    }
    let mut random = Random::new(seed + 1000 * (drawn + 1));
    for _ in 0..shape.rows {
        row(&mut maker, shape, &mut random);
    }
    maker.profile
}

fn location(maker: &mut Maker, shape: &Shape, random: &mut Random, index: u64, slide: u64) {
    let count = if random.below(10) < shape.nameless { 0 } else { 1 + random.below(shape.lines) };
    let line = (0..count)
        .map(|_| {
            let names: &[&str] = match shape.names {
                Names::Plain | Names::Missing => &PLAIN_NAMES,
                Names::Decorated => &DECORATED_NAMES,
                Names::Odd => &ODD_NAMES,
            };
            let (mut name, mut file) = (*random.pick(names), *random.pick(&FILES));
            if shape.names == Names::Missing {
                name = if random.below(3) == 0 { "" } else { name };
                file = if random.below(2) == 0 { "" } else { file };
            }
            Line { function_id: maker.function(name, file, shape, random), line: random.below(5) as i64, column: 0 }
        })
        .collect();
    // One of twelve lies in no binary.
    let mapping = if shape.binaries == 0 || random.below(12) == 0 { 0 } else { 1 + random.below(shape.binaries) };
    let start = match mapping {
        0 => 0x10 + slide,
        id => maker.profile.mapping[id as usize - 1].memory_start,
    };
    maker.profile.location.push(Location {
        id: index + 1,
        mapping_id: mapping,
        address: start + 16 * index,
        line,
        is_folded: shape.extras && random.below(10) == 0,
    });
}

fn row(maker: &mut Maker, shape: &Shape, random: &mut Random) {
    let depth = if random.below(20) < shape.stackless { 0 } else { 1 + random.below(shape.depth) };
    let location_id: Vec<u64> = (0..depth).map(|_| 1 + random.below(60)).collect();
    let mut value = || match shape.values {
        Values::Spread => spread(random, 33),
        Values::Equal => *random.pick(&[1, 1, 1024, 4096]),
        Values::Signed => {
            let size = spread(random, 30);
            if random.below(2) == 0 { -size } else { size }
        }
        Values::Zeros => *random.pick(&[0, 0, 0, 0, 0, 7, 70_000]),
    };
    let value: Vec<i64> = match shape.columns {
        Columns::Heap => {
            let (allocated, live) = (value(), value());
            let size = *random.pick(&[16, 64, 4096, 100_000, 1 << 20]);
            vec![allocated, allocated.saturating_mul(size), live, live.saturating_mul(size)]
        }
        Columns::Cpu => {
            let count = value() % 5000;
            vec![count, count * 10_000_000]
        }
        Columns::Contention => vec![value(), value()],
        Columns::Threads => vec![value()],
        Columns::Many => (0..5).map(|_| value()).collect(),
    };
    let mut label = Vec::new();
    if matches!(shape.labels, Labels::Texts | Labels::Both) {
        for _ in 0..random.below(4) {
            let (key, texts) = random.pick(&TEXTS);
            let text = *random.pick(texts);
            label.push(Label { key: maker.string(key), str: maker.string(text), num: 0, num_unit: 0 });
        }
    }
    if matches!(shape.labels, Labels::Numbers | Labels::Both) {
        for _ in 0..random.below(4) {
            let (key, units, numbers) = random.pick(&NUMBERS);
            let (unit, num) = (*random.pick(units), *random.pick(numbers));
            label.push(Label { key: maker.string(key), str: 0, num, num_unit: maker.string(unit) });
        }
    }
    maker.profile.sample.push(Sample { location_id, value, label });
}

/// A number of up to so many bits, each length as likely as the next.
fn spread(random: &mut Random, bits: u64) -> i64 {
    let bits = 1 + random.below(bits);
    random.below(1 << bits) as i64
}
