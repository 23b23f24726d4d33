//! Binaries with hostile headers, notes and debug information, which a profile says were mapped: names are found for the
//! other binary in it all the same, and in bounded time and memory.

use std::path::Path;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::safety::holds;
use heapsift_tests::{Dump, by_length, tools};

use crate::dwarf::{
    ADDRESS, COMPILE_UNIT, DATA8, Dwarf, HIGH, INDIRECT, LOW, NAME, STRING, SUBPROGRAM, everything, function, kinds,
    lines,
};
use crate::elf::{COMPRESSED, Elf, HEADER, NOTE, PROGBITS, SECTION, SEGMENT, SEGMENT_AT, Section, note, patch};
use crate::wire::{Message, field, gzip, head, location, sample};
use crate::{Complaints, each, run};

/// A binary, how many addresses are asked of it, and what must be said of it.
struct Case {
    name: String,
    addresses: u64,
    said: &'static str,
    make: Box<dyn Fn() -> Vec<u8> + Send + Sync>,
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, name: &str, make: impl Fn() -> Vec<u8> + Send + Sync + 'static) {
        self.add_saying(name, 200, "", make);
    }

    fn add_saying(
        &mut self,
        name: &str,
        addresses: u64,
        said: &'static str,
        make: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    ) {
        self.0.push(Case { name: name.to_owned(), addresses, said, make: Box::new(make) });
    }
}

const ABSURD: [u64; 6] = [0, 1, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];
const ALL: (u64, u64) = (0, 1 << 40);

fn plain() -> Elf {
    let id: Vec<u8> = (1..=20).collect();
    let dwarf = kinds().unit(&everything().raw(&function(2, b"broken\0", 0x1000, 0x1000).0).raw(&[0, 0]).0);
    dwarf.elf().symbols(&[("broken", 0x1000, 0x1000)]).note(note(4, 20, 3, &[b"GNU\0", &id[..]].concat()))
}

fn headers(cases: &mut Cases) {
    let (file, table) = plain().build();
    for length in (0..file.len()).step_by(by_length(101, 7)) {
        let cut = file[..length].to_vec();
        cases.add(&format!("cut-{length}"), move || cut.clone());
    }
    let sections = (file.len() - table) / 64;
    for (index, value) in ABSURD.into_iter().enumerate() {
        let mut changed = |name: String, at: usize, bytes: usize| {
            let mut file = file.clone();
            patch(&mut file, at, bytes, value);
            cases.add(&format!("{name}-{index}"), move || file.clone());
        };
        for (name, at, bytes) in HEADER {
            changed(format!("header-{name}"), at, bytes);
        }
        changed("header-shstrndx".to_owned(), 62, 2);
        for (name, at, bytes) in SEGMENT {
            changed(format!("segment-{name}"), SEGMENT_AT + at, bytes);
        }
        for section in by_length(vec![1, sections - 1], (0..sections).collect()) {
            for (name, at, bytes) in SECTION {
                changed(format!("section-{section}-{name}"), table + section * 64 + at, bytes);
            }
        }
    }
    for (name, rest) in [("none", &b""[..]), ("short", b"GNU"), ("long", &[b'x'; 300_000])] {
        for (index, &length) in ABSURD.iter().enumerate() {
            for (which, lengths) in [("name", (length as u32, 20)), ("data", (4, length as u32))] {
                let data = note(lengths.0, lengths.1, 3, rest);
                cases.add(&format!("note-{name}-{which}-{index}"), move || plain().note(data.clone()).file());
            }
        }
    }
    cases.add("notes-of-nothing", || Elf::default().note(note(0, 0, 3, b"").repeat(500_000)).file());
    // Each is all of the file but for its beginning: read one by one they are gigabytes.
    cases.add("notes-that-overlap", || {
        let data = note(4, 4, 1, b"GNU\0abcd").repeat(50_000);
        let one = Section { name: ".note", kind: NOTE, flags: 2, link: 0, entry_bytes: 0, data: Vec::new() };
        let elf = (0..30_000).fold(Elf::default().section(".all", data), |elf, _| elf.with(one.clone()));
        let (mut file, table) = elf.build();
        let length = file.len() as u64;
        for index in 0..30_000 {
            let header = table + (2 + index) * 64;
            patch(&mut file, header + 24, 8, 120 + 20 * index as u64);
            patch(&mut file, header + 32, 8, length - 600_200 - 120);
        }
        file
    });
    cases.add("symbols", || {
        let symbols: Vec<(String, u64, u64)> = (0..200_000).map(|n| (format!("f{n}"), n % 7, u64::MAX)).collect();
        let symbols: Vec<(&str, u64, u64)> =
            symbols.iter().map(|(name, at, length)| (name.as_str(), *at, *length)).collect();
        Elf::default().symbols(&symbols).file()
    });
    cases.add("long-symbol", || Elf::default().symbols(&[(&"_ZN1a".repeat(1_000_000), 0, 0)]).file());
    for (name, link) in
        [("itself", &b"case\0\0\0\0\0\0\0\0"[..]), ("above", b"../../../../etc/passwd\0\0\0\0\0\0"), ("cut", b"x")]
    {
        cases.add(&format!("debuglink-{name}"), move || {
            Elf::default().symbols(&[("f", 0, 9)]).section(".gnu_debuglink", link.to_vec()).file()
        });
        cases.add(&format!("altlink-{name}"), move || {
            plain().section(".gnu_debugaltlink", [link, &[7; 20]].concat()).file()
        });
    }
}

fn compressed(cases: &mut Cases) {
    let mut bomb = |name: &str, said: &'static str, kind: u32, size: u64, data: fn() -> Vec<u8>| {
        cases.add_saying(&format!("compressed-{name}"), 200, said, move || {
            let mut header = Vec::new();
            header.extend_from_slice(&u64::from(kind).to_le_bytes());
            header.extend_from_slice(&size.to_le_bytes());
            header.extend_from_slice(&1u64.to_le_bytes());
            header.extend_from_slice(&data());
            let section = Section {
                name: ".debug_info",
                kind: PROGBITS,
                flags: COMPRESSED,
                link: 0,
                entry_bytes: 0,
                data: header,
            };
            let elf = Elf::default().section(".debug_abbrev", vec![0]).symbols(&[("broken", 0, 0)]);
            elf.with(section).file()
        });
    };
    // The deflate stream of a gzip file stands behind ten bytes.
    let zeros = || [&[0x78, 0xda], &crate::wire::gzip_of_zeros(1 << 30)[10..]].concat();
    bomb("bomb", "too large when inflated", 1, 1 << 30, zeros);
    bomb("bomb-that-lies", "", 1, 1000, zeros);
    bomb("huge", "too large when inflated", 1, u64::MAX, Vec::new);
    bomb("zstd-bomb", "too large when inflated", 2, 4 << 30, || crate::wire::zstd_of(0, 32_768));
    bomb("unknown", "", 77, 1000, Vec::new);
    bomb("nothing", "", 1, 1000, Vec::new);
}

fn debug_information(cases: &mut Cases) {
    let named = |entries: Message| kinds().unit(&everything().raw(&entries.0).raw(&[0, 0]).0);
    cases.add("nested-calls", move || named(function(2, b"deep\0", ALL.0, ALL.1).raw(&[7; 2_000_000])).file());
    cases.add_saying("nested-calls-with-code", 2000, "asks for too much work", move || {
        let one = function(3, &0u32.to_le_bytes(), ALL.0, ALL.1).0;
        named(function(2, b"deep\0", ALL.0, ALL.1).raw(&one.repeat(50_000))).file()
    });
    cases.add("nested-functions", move || {
        let one = function(2, b"f\0", ALL.0, ALL.1).0;
        named(Message(one.repeat(100_000))).file()
    });
    // The first function stands 11 + 17 bytes from the unit's start; it refers to itself.
    for (name, kind) in [("origin", 4u64), ("specification", 8)] {
        cases.add(&format!("{name}-of-itself"), move || {
            named(function(kind, &28u32.to_le_bytes(), ALL.0, ALL.1)).file()
        });
        cases.add(&format!("{name}-in-a-circle"), move || {
            let two = function(kind, &49u32.to_le_bytes(), ALL.0, ALL.1)
                .raw(&function(kind, &28u32.to_le_bytes(), ALL.0, ALL.1).0);
            named(two).file()
        });
        cases.add(&format!("{name}-beyond"), move || {
            named(function(kind, &u32::MAX.to_le_bytes(), ALL.0, ALL.1)).file()
        });
    }
    cases.add_saying("ranges", 200, "asks for too much work", || {
        let one = Message::default().varint(5).raw(b"f\0").raw(&0u32.to_le_bytes());
        let mut dwarf = kinds().unit(&everything().raw(&one.0.repeat(50_000)).raw(&[0]).0);
        dwarf.ranges = (0..50_000u64).flat_map(|n| [n * 16, n * 16 + 8]).flat_map(u64::to_le_bytes).collect();
        dwarf.file()
    });
    // A million rows of lines, in a table that each of 2000 units says is its own.
    let sharing = |rows: usize, units: usize| {
        let unit = function(6, b"", 0x1000, 1 << 30).raw(&0u32.to_le_bytes()).0;
        let mut dwarf = (0..units).fold(kinds(), |dwarf, _| dwarf.unit(&unit));
        dwarf.lines = lines(rows, 14, 1);
        dwarf
    };
    cases.add_saying("shared-lines", 200, "asks for too much work", move || sharing(1_000_000, 2000).file());
    cases.add("lines-of-no-range", || {
        let mut dwarf = kinds().unit(&function(6, b"", 0x1000, 1 << 30).raw(&0u32.to_le_bytes()).0);
        dwarf.lines = lines(1000, 0, 0);
        dwarf.file()
    });
    for at in [0, 4, 6, 10, 11, 12, 13, 14, 15, 16] {
        for value in [0, 0x7f, 0xff] {
            cases.add(&format!("lines-{at}-{value}"), move || {
                let mut dwarf = sharing(1000, 1);
                dwarf.lines[at] = value;
                dwarf.file()
            });
        }
    }
    let empty_units = |units: usize| {
        let unit = everything().raw(&[0]).0;
        (0..units).fold(kinds(), |dwarf, _| dwarf.unit(&unit))
    };
    cases.add_saying("units-that-know-nothing", 2000, "", move || empty_units(20_000).file());
    cases.add("units", move || empty_units(150_000).file());
    let many_kinds = || {
        let kind = |dwarf: Dwarf, code| dwarf.abbreviation(code, SUBPROGRAM, false, &[(NAME, STRING)]);
        let many = (100..60_000).fold(kinds(), kind);
        (0..5000).fold(many, |dwarf, _| dwarf.unit(&everything().raw(&[0]).0))
    };
    cases.add("shared-abbreviations", move || many_kinds().file());
    // Each unit's begin one later than those of the unit before.
    cases.add_saying("abbreviations", 200, "asks for too much work", move || {
        let mut dwarf = many_kinds();
        let (unit, first) = (dwarf.info.0.len() / 5000, kinds().abbreviations.0.len() + 28 * 7);
        for n in 0..5000 {
            patch(&mut dwarf.info.0, n * unit + 6, 4, (first + 8 * n) as u64);
        }
        dwarf.file()
    });
    cases.add_saying("text-without-end", 20_000, "", || {
        let mut dwarf = kinds();
        let functions = (0..20_000u64).fold(everything(), |entries, n| {
            entries.raw(&function(9, &(n as u32).to_le_bytes(), 0x1000 + n, 1).0).raw(&[0])
        });
        dwarf.strings = vec![b'a'; 16 << 20];
        dwarf.unit(&functions.raw(&[0]).0).file()
    });
    cases.add_saying("long-names", 2000, "names are too long", || {
        let functions = (0..2000u64).fold(everything(), |entries, n| {
            entries.raw(&function(9, &(n as u32).to_le_bytes(), 0x1000 + n, 1).0).raw(&[0])
        });
        let mut dwarf = kinds();
        // Repeated, but not so that the result looks like a bomb to whoever reads it.
        let letters = (0..20_000u64).map(|n| b'a' + (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as u8);
        let letters: Vec<u8> = letters.collect();
        dwarf.strings = [letters.repeat(3), vec![0]].concat();
        dwarf.unit(&functions.raw(&[0]).0).file()
    });
    cases.add_saying("long-names-of-calls", 5000, "", || {
        let calls = (0..200u64).fold(everything().raw(&function(9, &[0; 4], ALL.0, ALL.1).0), |entries, n| {
            entries.raw(&function(3, &(n as u32).to_le_bytes(), ALL.0, ALL.1).0)
        });
        let mut dwarf = kinds();
        dwarf.strings = [vec![b'n'; 60_000], vec![0]].concat();
        dwarf.unit(&calls.raw(&[0; 203]).0).file()
    });
    for (version, bytes) in [(0u16, 8u8), (1, 8), (2, 4), (5, 8), (6, 8), (0xffff, 8), (4, 0), (4, 1), (4, 7), (4, 255)]
    {
        cases.add(&format!("version-{version}-{bytes}"), move || {
            kinds().unit_of(version, bytes, &everything().raw(&[0]).0).file()
        });
    }
    for (index, length) in [0u32, 1, 7, 0x7fff_ffff, 0xffff_ff00, 0xffff_fff0, 0xffff_ffff].into_iter().enumerate() {
        cases.add(&format!("unit-length-{index}"), move || {
            let mut dwarf = kinds().unit(&everything().raw(&[0]).0);
            dwarf.info.0[..4].copy_from_slice(&length.to_le_bytes());
            dwarf.file()
        });
    }
    cases.add("indirect-forms", || {
        let dwarf =
            Dwarf::default().abbreviation(1, COMPILE_UNIT, false, &[(NAME, INDIRECT), (LOW, ADDRESS), (HIGH, DATA8)]);
        let forms = Message(vec![INDIRECT as u8; 3_000_000]);
        dwarf.unit(&Message::default().varint(1).raw(&forms.0).raw(&[8, 0]).0).file()
    });
    cases.add("endless-number", || kinds().unit(&[0xff; 200_000]).file());
    cases.add("no-abbreviations", || {
        let mut dwarf = kinds().unit(&everything().raw(&[99, 98, 97]).0);
        dwarf.abbreviations.0.clear();
        dwarf.file()
    });
    cases.add("mangled-names", || {
        let names = [
            format!("_Z1fI{}E\0", "St4pairIS_S_E".repeat(2000)),
            format!("_R{}\0", "INvC1a1b".repeat(4000)),
            format!("_Z1f{}i\0", "P".repeat(50_000)),
        ];
        let functions = (0..150u64).fold(everything(), |entries, n| {
            entries.raw(&function(2, names[n as usize % 3].as_bytes(), 0x1000 + n * 16, 16).0).raw(&[0])
        });
        kinds().unit(&functions.raw(&[0]).0).file()
    });
    cases.add_saying("hole", 200, "", Vec::new);
    cases.add_saying("pipe", 200, "", Vec::new);
    cases.add_saying("directory", 200, "", Vec::new);
}

/// Units whose other halves are elsewhere, or in the file itself.
fn halves(cases: &mut Cases) {
    let skeleton = |name: &str, id: u64| {
        let start = Message::default().varint(10).raw(name.as_bytes()).raw(&[0]).raw(&id.to_le_bytes());
        start.raw(&ALL.0.to_le_bytes()).raw(&ALL.1.to_le_bytes()).0
    };
    let elf = |dwarf: Dwarf| dwarf.elf().section(".debug_addr", vec![0; 16]);
    cases.add("halves-that-are-missing", move || {
        elf((0..20_000).fold(kinds(), |dwarf, n| dwarf.unit(&skeleton(&format!("{n}.dwo"), n)))).file()
    });
    cases.add_saying("halves-elsewhere", 200, "is split, and there is no ", move || {
        let names = ["/dev/zero", "/etc/passwd", "/proc/self/mem", "../../../x", ".", "", "/", "a/../../b"];
        elf(names.iter().zip(0..).fold(kinds(), |dwarf, (name, n)| dwarf.unit(&skeleton(name, n)))).file()
    });
    // The file is its own other half.
    let with_half = move |entries: &Message, cut: usize| {
        let half = Message::default().varint(11).raw(&7u64.to_le_bytes()).raw(&entries.0).raw(&[0, 0]);
        let mut half = Dwarf::default().unit(&half.0).info.0;
        half.truncate(half.len() - cut);
        elf(kinds().unit(&skeleton("case", 7)))
            .section(".debug_abbrev.dwo", kinds().abbreviations.raw(&[0]).0)
            .section(".debug_info.dwo", half)
            .section(".debug_str.dwo", b"deep\0".to_vec())
            .file()
    };
    cases.add_saying("half-nested", 2000, "asks for too much work", move || {
        let call = function(3, &0u32.to_le_bytes(), ALL.0, ALL.1).0;
        with_half(&function(2, b"deep\0", ALL.0, ALL.1).raw(&call.repeat(50_000)), 0)
    });
    for cut in [1, 2, 20, 30] {
        cases.add(&format!("half-cut-{cut}"), move || with_half(&function(2, b"cut\0", ALL.0, ALL.1), cut));
    }
}

/// A profile with frames in the hostile binary, and one in a binary that is in order.
fn profile(hostile: &Path, healthy: &Path, addresses: u64) -> Vec<u8> {
    let mapping = |id: i64, name: i64| Message::default().int(1, id).int(3, -1).int(5, name).int(4, 0);
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let start = head()
        .strings(&[&text(hostile), &text(healthy)])
        .message(field::MAPPING, mapping(1, 6))
        .message(field::MAPPING, mapping(2, 7))
        .message(field::LOCATION, location(3, 2, 0x1234, 0));
    let with = start.each(0..addresses, |m, n| {
        m.message(field::LOCATION, location(4 + n, 1, 0x1000 + n, 0))
            .message(field::SAMPLE, sample(&[4 + n, 3], &[4096]))
    });
    gzip(&with.0)
}

fn check(case: &Case, scratch: &Path, healthy: &Path) -> Complaints {
    let directory = scratch.join(&case.name);
    std::fs::create_dir(&directory).expect("a fresh directory");
    let binary = directory.join("case");
    match case.name.as_str() {
        "directory" => std::fs::create_dir(&binary).expect("a fresh directory"),
        "pipe" => assert!(std::process::Command::new("mkfifo").arg(&binary).status().expect("mkfifo").success()),
        "hole" => {
            let elf = plain().file();
            std::fs::write(&binary, &elf).expect("a scratch file");
            let file = std::fs::File::options().write(true).open(&binary).expect("a scratch file");
            file.set_len(3 << 30).expect("holes cost nothing");
        }
        _ => std::fs::write(&binary, (case.make)()).expect("a scratch file"),
    }
    let file = directory.join("profile");
    std::fs::write(&file, profile(&binary, healthy, case.addresses)).expect("a scratch file");
    let (file, out) = (file.to_str().expect("a plain path"), directory.join("out"));
    let mut complaints = Complaints::new();
    let ended = run(&["symbolize", file, "-o", out.to_str().expect("a plain path")], &mut complaints);
    if ended.status != 0 || !ended.complaints().contains(case.said) {
        complaints.push(format!("{}: {}: {}", ended.shown, case.said, ended.complaints()));
    } else {
        let dump = Dump::read(&out);
        let row = dump.profile.sample.first().expect("there are rows");
        if !dump.names(row).any(|name| name == "healthy") {
            complaints.push(format!("{}: the other binary has no names: {}", ended.shown, ended.complaints()));
        }
    }
    let _ = std::fs::remove_dir_all(&directory);
    complaints
}

#[test]
fn hostile_binaries() {
    if tools::need("mkfifo").is_none() {
        return;
    }
    let mut cases = Cases::default();
    headers(&mut cases);
    compressed(&mut cases);
    debug_information(&mut cases);
    halves(&mut cases);
    let scratch = Scratch::new("binaries");
    let healthy = scratch.join("healthy");
    let dwarf = kinds().unit(&everything().raw(&function(2, b"healthy\0", 0x1000, 0x1000).0).raw(&[0, 0]).0);
    std::fs::write(&healthy, dwarf.file()).expect("a scratch file");
    each(&cases.0, |case| check(case, scratch.path(), &healthy));
    holds("E1", &format!("{} hostile binaries: all within the limits, the other one named beside each", cases.0.len()));
}
