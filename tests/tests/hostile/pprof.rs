//! pprof messages that lie about lengths and ids, or that are enormous where nothing says they must not.

use crate::Case;
use crate::wire::{Message, field, function, gzip, head, location, mapping, sample, small, value_type};

const ABSURD: [u64; 7] = [0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX];

/// All of them.
pub fn cases(cases: &mut Vec<Case>) {
    malformed(cases);
    contradictions(cases);
    values(cases);
    counts(cases);
    texts(cases);
}

/// What is no message.
fn malformed(cases: &mut Vec<Case>) {
    let mut refused = |name: String, part: &'static str, message: Message| {
        let plain = message.0.clone();
        cases.push(Case::refused(&format!("pprof-{name}"), part, move || plain.clone()));
    };
    for number in [1u64, 2, 3, 4, 5, 6, 11, 13, field::STATS, 77] {
        for (index, length) in ABSURD.into_iter().enumerate() {
            let message = small().varint(number << 3 | 2).varint(length).raw(b"xyz");
            refused(format!("length-{number}-{index}"), "byte", message);
        }
        if number != 77 && number != 13 {
            refused(format!("type-{number}"), "wrong type", small().int(number, 5));
        }
        refused(format!("fixed-{number}-cut"), "byte", small().varint(number << 3 | 1).raw(&[1, 2, 3]));
    }
    for number in [7u64, 8, 9, 10, 12, 14, 15] {
        refused(format!("type-{number}"), "wrong type", small().bytes(number, b"text"));
        refused(format!("cut-{number}"), "ends within a number", small().varint(number << 3).raw(&[0x80]));
        let endless = small().varint(number << 3).raw(&[0xff; 4000]);
        refused(format!("endless-number-{number}"), "ten bytes", endless);
    }
    for wire in [3u8, 4, 6, 7] {
        refused(format!("wire-type-{wire}"), "wire type", small().raw(&[0x78 | wire]));
        refused(format!("wire-types-{wire}"), "wire type", small().raw(&[0x78 | wire; 200_000]));
    }
    refused("field-0".into(), "field number", small().raw(&[0, 0]));
    refused("field-huge".into(), "byte", small().varint(u64::MAX).varint(1));
    // Each message within the last: the reader knows how deep messages go, and looks no deeper.
    let nested = (0..10_000).fold(Message::default(), |inner, _| Message::default().message(2, inner));
    refused("nested".into(), "", head().message(field::SAMPLE, nested));
    refused("sample-cut".into(), "sample", head().bytes(field::SAMPLE, &[0x0a, 5, 1]));
    refused("sample-packed-cut".into(), "sample.location_id", head().bytes(field::SAMPLE, &[0x0a, 1, 0x80]));
    refused("label-cut".into(), "label", head().message(field::SAMPLE, sample(&[1], &[1]).bytes(3, &[0x08])));
    refused("line-cut".into(), "line", small().message(field::LOCATION, Message::default().int(1, 9).bytes(4, &[8])));
    refused("stats-cut".into(), "allocator_stats", small().bytes(field::STATS, &[8]));
}

/// What can be decoded and cannot be true.
fn contradictions(cases: &mut Vec<Case>) {
    let mut refused = |name: &str, part: &'static str, message: Message| {
        cases.push(Case::refused(&format!("pprof-{name}"), part, move || gzip(&message.0)));
    };
    let strings = |first: &str| Message::default().strings(&[first, "a"]);
    refused("no-strings", "string_table", Message::default().message(1, value_type(0, 0)));
    refused("first-string", "string_table[0]", strings("x").message(1, value_type(1, 1)));
    refused("no-types", "sample_type", strings("").message(2, sample(&[], &[])));
    refused("no-types-no-rows", "sample_type[0]", strings("").int(field::PERIOD, 1));
    for (name, values) in [("fewer", &[][..]), ("more", &[1, 2]), ("many", &[7; 100_000])] {
        refused(&format!("{name}-values"), "sample[1]", small().message(2, sample(&[1], values)));
    }
    for (index, id) in [0, 3, 1 << 31, 1 << 32, u64::MAX].into_iter().enumerate() {
        refused(&format!("no-location-{index}"), "sample[1]", small().message(2, sample(&[1, id], &[1])));
        let place = Message::default().int(1, 9).message(4, Message::default().int(1, id as i64));
        refused(&format!("no-function-{index}"), "location[2]", small().message(4, place));
    }
    for (index, string) in [-1, 6, 1 << 31, i64::MAX, i64::MIN].into_iter().enumerate() {
        let mut with = |name: &str, part: &'static str, message: Message| {
            refused(&format!("string-{name}-{index}"), part, message);
        };
        with("type", "sample_type[1]", small().message(1, value_type(string, 0)));
        with("unit", "period_type[0]", small().message(11, value_type(1, string)));
        with("function", "function[2]", small().message(5, function(3, string)));
        with("mapping", "mapping[0]", small().message(3, mapping(1, 0, 1, string)));
        with("comment", "comment[0]", small().int(field::COMMENT, string));
        with("default", "default_sample_type", small().int(field::DEFAULT_TYPE, string));
        with("drop", "drop_frames", small().int(field::DROP_FRAMES, string));
        with("keep", "keep_frames", small().int(field::KEEP_FRAMES, string));
        let label = Message::default().int(1, string).int(3, 8);
        with("label", "sample[1]", small().message(2, sample(&[1], &[1]).message(3, label)));
    }
    refused("location-0", "location[2]", small().message(4, location(0, 0, 0, 0)));
    refused("location-twice", "location[2]", small().message(4, location(1, 0, 0, 0)));
    refused("function-0", "function[2]", small().message(5, function(0, 4)));
    refused("function-twice", "function[2]", small().message(5, function(2, 4)));
    refused("mapping-0", "mapping[0]", small().message(3, mapping(0, 0, 1, 4)));
    let twice = small().message(3, mapping(1, 0, 1, 4)).message(3, mapping(1, 0, 1, 4));
    refused("mapping-twice", "mapping[1]", twice);
}

/// What is odd and may be so.
fn values(cases: &mut Vec<Case>) {
    let mut read = |name: &str, message: Message| {
        cases.push(Case::read(&format!("pprof-{name}"), move || gzip(&message.0)));
    };
    for (index, value) in [i64::MIN, -1, 0, 1, i64::MAX].into_iter().enumerate() {
        let row = sample(&[2, 1], &[value]);
        read(&format!("value-{index}"), head().message(2, row.clone()).message(2, row.clone()).message(2, row));
        for number in [field::TIME, field::DURATION, field::PERIOD] {
            read(&format!("field-{number}-{index}"), small().int(number, value));
        }
        let size = head()
            .strings(&["b"])
            .message(2, sample(&[2, 1], &[5]).message(3, Message::default().int(1, 2).int(3, value).int(4, 2)));
        read(&format!("size-{index}"), size);
        let epoch = head()
            .strings(&["epoch"])
            .message(2, sample(&[2, 1], &[5]).message(3, Message::default().int(1, 6).int(3, value).int(4, 6)));
        read(&format!("epoch-{index}"), epoch);
        read(&format!("stats-{index}"), (1..12).fold(Message::default(), |m, n| m.int(n, value)).wrapped());
    }
    for (name, start, limit) in [("reversed", 9, 1), ("all", 0, u64::MAX), ("none", 0, 0), ("top", u64::MAX, u64::MAX)]
    {
        let place = location(3, 1, u64::MAX, 0);
        let message = small().message(3, mapping(1, start, limit, 4)).message(4, place);
        read(&format!("mapping-{name}"), message.message(2, sample(&[3], &[1])));
    }
    read("ids-at-the-top", {
        let top = u64::MAX;
        head().message(5, function(top, 4)).message(4, location(top, top, top, top)).message(2, sample(&[top], &[1]))
    });
    read("no-rows", head());
    read("recursion", head().message(2, sample(&[1, 2].repeat(2048), &[1])));
    read("itself", head().message(2, sample(&[1; 4096], &[1])));
}

impl Message {
    /// As the allocator's statistics of a small profile.
    fn wrapped(self) -> Message {
        small().message(field::STATS, self)
    }
}

/// Too many, or nearly so.
fn counts(cases: &mut Vec<Case>) {
    let mut refused = |name: &str, part: &'static str, make: fn() -> Message| {
        cases.push(Case::refused(&format!("pprof-many-{name}"), part, move || make().0));
    };
    refused("rows", "samples", || head().raw(&[0x12, 0].repeat(4_000_001)));
    refused("strings", "strings", || small().raw(&[0x32, 0].repeat(16_000_001)));
    refused("labels", "labels in a sample", || head().message(2, sample(&[1], &[1]).raw(&[0x1a, 0].repeat(100_000))));
    refused("functions", "function[2]", || small().raw(&[0x2a, 0].repeat(8_000_000)));
    refused("inlined", "functions in a location", || {
        small().message(4, Message::default().int(1, 3).raw(&[0x22, 0].repeat(8_000_000)))
    });
    refused("types", "sample[0]", || head().raw(&[0x0a, 0].repeat(2_000_000)).message(2, sample(&[1], &[1])));
    refused("classes", "size classes", || {
        small().message(field::STATS, (0..2000).fold(Message::default(), |m, _| m.bytes(12, b"")))
    });
    let mut read = |name: &str, make: fn() -> Message| {
        cases.push(Case::read(&format!("pprof-many-{name}"), move || make().0));
    };
    read("frames", || head().message(2, sample(&[1, 2].repeat(2_000_000), &[1])));
    read("deep-rows", || {
        let deep: Vec<u64> = (0..4096).map(|at| 1 + at % 2).collect();
        head().each(0..1000, |message, row| message.message(2, sample(&deep[row as usize..], &[1])))
    });
    read("deep-and-all-different", || {
        let places = head().each(3..20_000, |message, id| message.message(4, location(id, 0, id << 12, 1 + id % 2)));
        places.each(0..300, |message, row| {
            let stack: Vec<u64> = (0..4000).map(|frame| 1 + (row * 7919 + frame * 31) % 19_999).collect();
            message.message(2, sample(&stack, &[1]))
        })
    });
    read("inlined", || {
        let lines = (0..4096).fold(Message::default().int(1, 3), |m, _| m.message(4, Message::default().int(1, 1)));
        head().message(4, lines).message(2, sample(&[3], &[1]))
    });
    read("columns", || {
        let types = (0..20_000).fold(head(), |m, _| m.message(1, value_type(1, 2)));
        types.message(2, sample(&[1], &vec![3; 20_001]))
    });
    read("mappings", || small().each(1..100_000, |m, id| m.message(3, mapping(id, id << 12, (id + 2) << 12, 4))));
    read("names", || {
        let names = (0..50_000).fold(head(), |m, n| m.bytes(6, format!("function_{n}").as_bytes()));
        let functions = names.each(3..50_000, |m, id| m.message(5, function(id, id as i64 + 3)));
        let places = functions.each(3..50_000, |m, id| m.message(4, location(id, 0, id, id)));
        places.each(3..50_000, |m, id| m.message(2, sample(&[id, 1], &[id as i64])))
    });
    read("labels-and-rows", || {
        let texts = (0..20_000).fold(head(), |m, n| m.bytes(6, format!("value {n}").as_bytes()));
        texts.each(0..20_000, |m, n| {
            let label = |key: i64| Message::default().int(1, key).int(2, 6 + n as i64);
            m.message(2, sample(&[1], &[1]).message(3, label(4)).message(3, label(5)))
        })
    });
    read("comments", || small().packed(field::COMMENT, (0..3_000_000).map(|_| 4)));
}

/// Texts that are none, or too much.
fn texts(cases: &mut Vec<Case>) {
    let mut read = |name: &str, names: Vec<Vec<u8>>| {
        let make = move || {
            let strings = names.iter().fold(head(), |m, name| m.bytes(6, name));
            let count = names.len() as u64;
            let functions = strings.each(0..count, |m, n| m.message(5, function(3 + n, 6 + n as i64)));
            let places = functions.each(0..count, |m, n| m.message(4, location(3 + n, 0, 0x3000 + n, 3 + n)));
            gzip(&places.each(0..count, |m, n| m.message(2, sample(&[3 + n, 1], &[1 + n as i64]))).0)
        };
        cases.push(Case::read(&format!("pprof-text-{name}"), make));
    };
    read(
        "no-utf8",
        vec![vec![0xff; 50], b"a\xc3(b".to_vec(), b"\xed\xa0\x80".to_vec(), b"\xf8\x88\x80\x80\x80".to_vec()],
    );
    read("controls", (0..32).map(|byte| vec![byte, b'x', 0x7f]).collect());
    read("directions", vec!["a\u{202e}b\u{2066}c\u{200b}".into(), "\u{feff}".into(), "\u{fffe}\u{ffff}".into()]);
    read("long", (0..200).map(|n| vec![b'a' + n % 26; 70_000]).collect());
    read("accents", vec!["e\u{301}".repeat(20_000).into_bytes()]);
    read(
        "markup",
        vec![
            b"</text><script>alert(1)</script>".to_vec(),
            b"\" onload=\"alert(1)".to_vec(),
            b"]]><!--".to_vec(),
            b"$(rm -rf /) `x` %n%s".to_vec(),
            b"=cmd|' /C calc'!A0".to_vec(),
            b"\x1b]0;title\x07\x1b[2J".to_vec(),
        ],
    );
    read(
        "mangled",
        vec![
            format!("_Z1fI{}E", "St4pairIS_S_E".repeat(2000)).into_bytes(),
            format!("_Z1f{}i", "P".repeat(60_000)).into_bytes(),
            format!("_R{}", "INvC1a1b".repeat(5000)).into_bytes(),
            format!("_ZN{}E", "1a".repeat(20_000)).into_bytes(),
        ],
    );

    let with_frames = |number: u64, expression: String| small().bytes(6, expression.as_bytes()).int(number, 6);
    for (name, expression) in [
        ("backtracking", "(a+)+$".repeat(50)),
        ("repetition", "((a{1000}){1000}){1000}".to_owned()),
        ("open", "(".repeat(30_000)),
        ("deep", format!("{}a{}", "(".repeat(10_000), ")".repeat(10_000))),
        ("classes", "\\pL{500}".repeat(100)),
        ("alternatives", "a|".repeat(30_000)),
    ] {
        for (field, number) in [("drop", field::DROP_FRAMES), ("keep", field::KEEP_FRAMES)] {
            let message = with_frames(number, expression.clone());
            cases.push(Case::either(&format!("pprof-{field}-{name}"), move || gzip(&message.0)));
        }
    }
}
