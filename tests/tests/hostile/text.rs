//! Text formats: jemalloc's, gperftools', heaptrack's, folded stacks, and the memory maps within them.

use std::fmt::Write;

use crate::Case;
use crate::wire::gzip;

const MAPS: &str = "\nMAPPED_LIBRARIES:\n00400000-00402000 r-xp 00001000 fe:00 11  /opt/app/server\n";
const NUMBERS: [&str; 6] = ["-1", "18446744073709551615", "18446744073709551616", "1e9", "0x10", ""];

/// All of them.
pub fn cases(cases: &mut Vec<Case>) {
    jemalloc(cases);
    gperftools(cases);
    maps(cases);
    heaptrack(cases);
    folded(cases);
}

/// Writes `count` pieces one after the other.
fn many(start: &str, count: usize, end: &str, piece: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text = start.to_owned();
    for index in 0..count {
        let _ = write!(text, "{}", piece(index));
    }
    text.push_str(end);
    text.into_bytes()
}

fn jemalloc(cases: &mut Vec<Case>) {
    const STACK: &str = "@ 0x401001 0x401101\n  t*: 2: 512 [0: 0]\n  t0: 2: 512 [0: 0]\n";
    let mut refused = |name: &str, part: &'static str, text: Vec<u8>| {
        cases.push(Case::refused(&format!("heap_v2-{name}"), part, move || text.clone()));
    };
    for (index, number) in NUMBERS.into_iter().enumerate() {
        if index != 1 {
            let text = format!("heap_v2/524288\n  t*: {number}: 512 [0: 0]\n{STACK}{MAPS}");
            refused(&format!("objects-{index}"), "counts", text.into_bytes());
            let text = format!("heap_v2/524288\n{}{MAPS}", STACK.replace("[0: 0]", &format!("[0: {number}]")));
            refused(&format!("bytes-{index}"), "counts", text.into_bytes());
            let text = format!("heap_v2/524288\n{}{MAPS}", STACK.replace("t0", &format!("t{number}")));
            refused(&format!("thread-{index}"), "counts", text.into_bytes());
        }
        refused(&format!("period-{index}"), "period", format!("heap_v2/{number}\n{STACK}{MAPS}").into_bytes());
        if !["0x10", "1e9", ""].contains(&number) {
            let text = format!("heap_v2/524288\n{}{MAPS}", STACK.replace("0x401001", number));
            refused(&format!("address-{index}"), "stack", text.into_bytes());
        }
    }
    let head = || b"heap_v2/524288\n".to_vec();
    refused("no-utf8", "byte", [head(), vec![0xff; 1000], b"\n".to_vec()].concat());
    refused("nul", "byte", [head(), vec![0; 1000], b"\n".to_vec()].concat());
    refused("one-line", "bytes in one line", [head(), vec![b'@'; 20 << 20]].concat());
    refused("no-map", "MAPPED_LIBRARIES", format!("heap_v2/524288\n{STACK}").into_bytes());
    refused("only-a-header", "MAPPED_LIBRARIES", head());
    refused(
        "threads-without-end",
        "memory",
        gzip(&many("heap_v2/524288\n@ 0x1\n  t*: 1: 100 [0: 0]\n", 1_600_000, MAPS, |at| {
            format!("t{}: 1: 100 [0: 0]\n", at / 40)
        })),
    );
    refused(
        "names-without-end",
        "memory",
        gzip(&many("heap_v2/524288\n", 9_000, MAPS, |at| {
            format!("t{at}: 1: 100 [0: 0] {}{}\n", "a thread with a name ".repeat(1600), "0123456789".repeat(at % 97))
        })),
    );
    let mut read = |name: &str, text: Vec<u8>| {
        cases.push(Case::read(&format!("heap_v2-{name}"), move || text.clone()));
    };
    read("largest", format!("heap_v2/9223372036854775807\n{}{MAPS}", STACK.replace("512", NUMBERS[1])).into_bytes());
    read(
        "largest-counts",
        format!("heap_v2/1\n{}{MAPS}", STACK.replace("2: 512", "18446744073709551615: 18446744073709551615"))
            .into_bytes(),
    );
    read("bytes-of-no-block", format!("heap_v2/524288\n{}{MAPS}", STACK.replace("2: 512", "0: 512")).into_bytes());
    read(
        "threads",
        many("heap_v2/524288\n@ 0x401001\n  t*: 1: 100 [0: 0]\n", 100_000, MAPS, |at| {
            format!("  t{at}: 1: 100 [0: 0]\n")
        }),
    );
    read(
        "stacks",
        many("heap_v2/524288\n", 100_000, MAPS, |at| {
            format!("@ {at:#x} {:#x} {:#x}\n  t*: 1: 100 [0: 0]\n  t1: 1: 100 [0: 0]\n", at * 7, at * 13)
        }),
    );
    read(
        "deep",
        many("heap_v2/524288\n@", 900_000, &format!("\n  t*: 1: 100 [0: 0]\n{MAPS}"), |at| format!(" {at:#x}")),
    );
    read("no-stack", format!("heap_v2/524288\n@\n  t*: 1: 100 [0: 0]\n@\n@\n@{MAPS}").into_bytes());
    read(
        "names",
        many("heap_v2/524288\n", 3, &format!("{STACK}{MAPS}"), |at| {
            format!("  t{at}: 1: 100 [0: 0] \x1b[2J</script>\u{202e}{}\n", "x".repeat(100_000))
        }),
    );
}

fn gperftools(cases: &mut Vec<Case>) {
    const HEADER: &str = "heap profile:      3:     1536 [     5:     2560] @ heapprofile\n";
    const ROW: &str = "     2:     1024 [     4:     2048] @ 0x401001 0x401101\n";
    let mut refused = |name: &str, part: &'static str, text: String| {
        cases.push(Case::refused(&format!("gperftools-{name}"), part, move || text.clone().into_bytes()));
    };
    for (index, number) in NUMBERS.into_iter().enumerate() {
        if index != 1 {
            let row = ROW.replace("    1024", number);
            refused(&format!("bytes-{index}"), "counts", format!("{HEADER}{row}{MAPS}"));
            let row = ROW.replace("     4:", &format!("{number}:"));
            refused(&format!("allocated-{index}"), "counts", format!("{HEADER}{row}{MAPS}"));
        }
        let header = HEADER.replace("heapprofile", &format!("heap_v2/{number}"));
        // The header is what tells the format.
        refused(&format!("period-{index}"), "not a profile", format!("{header}{ROW}{MAPS}"));
    }
    refused("no-stack", "stack", format!("{HEADER}{}{MAPS}", ROW.replace('@', "")));
    refused("bytes-of-no-block", "counts", format!("{HEADER}{}{MAPS}", ROW.replace("2:     1024", "0:     1024")));
    refused("kind", "not a profile", HEADER.replace("heapprofile", "nonsense"));
    refused("cut", "stack", format!("{HEADER}{}", ROW.trim_end()));
    refused("one-line", "bytes in one line", format!("{HEADER}{}", " ".repeat(20 << 20)));
    refused("brackets", "counts", format!("{HEADER}{}\n{MAPS}", "[".repeat(1_000_000)));
    let mut read = |name: &str, text: Vec<u8>| {
        cases.push(Case::read(&format!("gperftools-{name}"), move || text.clone()));
    };
    let sampled = |kind: &str| HEADER.replace("heapprofile", kind);
    for (index, kind) in ["heap/1", "heap/0", "heap_v2/0", "heapz_v2/9223372036854775807", "growthz", "heap_v2/1"]
        .into_iter()
        .enumerate()
    {
        read(&format!("kind-{index}"), format!("{}{ROW}{MAPS}", sampled(kind)).into_bytes());
        let largest = ROW.replace("2:     1024", "18446744073709551615: 18446744073709551615");
        read(&format!("kind-{index}-largest"), format!("{}{largest}{MAPS}", sampled(kind)).into_bytes());
    }
    read("deep", many(&format!("{HEADER} 1: 1 [ 1: 1] @"), 900_000, &format!("\n{MAPS}"), |at| format!(" {at:#x}")));
    read("rows", many(HEADER, 100_000, MAPS, |at| format!(" 1: {at} [1: {at}] @ {:#x} {:#x}\n", at + 1, at * 3)));
}

fn maps(cases: &mut Vec<Case>) {
    let profile = |map: &str| format!("heap_v2/524288\n@ 0x401001\n  t*: 2: 512 [0: 0]\n\nMAPPED_LIBRARIES:\n{map}");
    let mut refused = |name: &str, map: &str| {
        let text = profile(map);
        cases.push(Case::refused(&format!("maps-{name}"), "MAPPED_LIBRARIES", move || text.clone().into_bytes()));
    };
    refused("no-range", "hello\n");
    refused("reversed", "00402000-00400000 r-xp 0 0:0 0 /a\n");
    refused("too-long", "11111111111111111-22222222222222222 r-xp 0 0:0 0 /a\n");
    refused("negative", "-1-5 r-xp 0 0:0 0 /a\n");
    refused("signs", "+400000-+500000 r-xp 0 0:0 0 /a\n");
    refused("nothing-but-a-dash", "-\n");
    let mut read = |name: &str, map: Vec<u8>| {
        let text = [profile("").into_bytes(), map].concat();
        cases.push(Case::read(&format!("maps-{name}"), move || text.clone()));
    };
    read("all", b"0-ffffffffffffffff r-xp 0 0:0 0 /a\n".to_vec());
    read(
        "overlapping",
        many("", 50_000, "", |at| {
            format!("{:x}-{:x} r-xp {at:x} 0:0 0 /lib/{at}\n", at << 12, (at << 12) + 0x100_0000)
        }),
    );
    read("offset", b"400000-402000 r-xp ffffffffffffffff 0:0 0 /a\n".to_vec());
    read(
        "names",
        "400000-402000 r-xp 0 0:0 0 /\u{202e}\x1b[2J\"><script>\n500000-600000 r-xp 0 0:0 0 ../../../etc/passwd\n"
            .into(),
    );
    read("no-utf8", b"400000-402000 r-xp 0 0:0 0 /\xff\xfe\xc3(\n".to_vec());
    read("variables", many("", 100_000, "", |at| format!("v{at}=/x\n")));
    read("devices", b"400000-402000 r-xp 0 0:0 0 /dev/zero\n500000-600000 r-xp 0 0:0 0 /proc/self/mem\n".to_vec());
}

fn heaptrack(cases: &mut Vec<Case>) {
    const HEAD: &str = "v 10400 3\nX ./server\ns 4 grow\ni 401000 1 1\nt 1 0\n";
    let mut refused = |name: &str, part: &'static str, text: Vec<u8>| {
        cases.push(Case::refused(&format!("heaptrack-{name}"), part, move || text.clone()));
    };
    for (name, line, part) in [
        ("itself", "t 1 2", "parent"),
        ("later", "t 1 ffffffffffffffff", "parent"),
        ("no-instruction", "t 0 0", "instruction"),
        ("instruction", "t 7 0", "instruction"),
        ("trace", "a 10 9", "trace"),
        ("allocation", "+ 1", "allocation"),
        ("free", "- 0", "allocation"),
        ("size", "a 11111111111111111 1", "size"),
        ("text-length", "s ffffffffffffffff x", "string"),
        ("text-short", "s 5 x", "string"),
        ("kind", "q 1", "line"),
        ("number", "i xyz", "address"),
        ("module", "i 1 9", "module"),
        ("function", "i 1 1 9 1 1", "function"),
        ("nothing", "t", "instruction"),
        ("time", "c -1", "time"),
    ] {
        refused(name, part, format!("{HEAD}{line}\n").into_bytes());
    }
    refused("cut", "line", format!("{HEAD}a 10 1").into_bytes());
    refused("no-utf8", "byte", [HEAD.as_bytes(), &[0xff; 100], b"\n"].concat());
    refused("one-line", "bytes in one line", [HEAD.as_bytes(), &[b'X'; 20 << 20]].concat());
    refused(
        "texts-without-end",
        "memory",
        gzip(&many(HEAD, 1_000_000, "", |at| {
            let text = format!("function number {at} with a name of some length to take memory, and more of that");
            format!("s {:x} {text}\n", text.len())
        })),
    );
    refused("stacks-without-end", "memory", gzip(&many(HEAD, 6_000_000, "", |_| "t 1 1\n".to_owned())));
    // A chain of 100 000 stacks, each with a block: a row would have as many frames as it has ancestors.
    refused(
        "chain",
        "memory",
        many(HEAD, 100_000, "", |at| format!("t 1 {:x}\na 10 {:x}\n+ {at:x}\n", at + 1, at + 2)),
    );
    let inlined = " 1 1 1".repeat(200_000);
    refused("inlined", "function", format!("v 10400 3\ns 4 grow\ni 401000 1{inlined}\n").into_bytes());
    refused(
        "segments",
        "",
        many("v 10400 3\nx f /opt/app/server\n", 20_000, "", |at| format!("m 1 x {at:x}000 0 1000\n")),
    );
    let mut read = |name: &str, text: Vec<u8>| {
        cases.push(Case::read(&format!("heaptrack-{name}"), move || text.clone()));
    };
    read("nothing", HEAD.into());
    read("largest", format!("{HEAD}a ffffffffffffffff 1\n+ 0\n+ 0\nc ffffffffffffffff\n").into_bytes());
    read("more-frees", format!("{HEAD}a 10 1\n- 0\n- 0\n").into_bytes());
    read("short-chain", many(HEAD, 3_000, "", |at| format!("t 1 {:x}\na 10 {:x}\n+ {at:x}\n", at + 1, at + 2)));
    read(
        "frames",
        many("v 10400 3\ns 4 grow\n", 1, "t 1 0\na 10 1\n+ 0\n", |_| format!("i 401000 1{}\n", " 1 1 1".repeat(256))),
    );
}

fn folded(cases: &mut Vec<Case>) {
    let mut refused = |name: &str, part: &'static str, text: Vec<u8>| {
        cases.push(Case::refused(&format!("folded-{name}"), part, move || text.clone()));
    };
    let good = "main;work 1\n".repeat(3000);
    for (name, line) in [
        ("overflow", "main;work 9223372036854775808"),
        ("fraction", "main;work 1.5"),
        ("none", "main;work"),
        ("word", "main;work x"),
        ("only-value", " 7"),
    ] {
        refused(name, "value", format!("{good}{line}\n").into_bytes());
    }
    refused("no-utf8", "value", [good.as_bytes(), b"a;\xff\xfe 1\n"].concat());
    refused("cut", "value", format!("{good}main;work 1").into_bytes());
    refused("one-line", "", [good.as_bytes(), &b"a;".repeat(10 << 20)].concat());
    refused("names-without-end", "memory", gzip(&many(&good, 700_000, "", |at| format!("main;f{at};g{at};h{at} 1\n"))));
    let mut read = |name: &str, text: Vec<u8>| {
        cases.push(Case::read(&format!("folded-{name}"), move || text.clone()));
    };
    read("deep", many(&good, 900_000, "z 1\n", |at| format!("{};", (b'a' + (at % 26) as u8) as char)));
    read("largest", "a;b 9223372036854775807\na;b 9223372036854775807\na;c -9223372036854775808\n".into());
    read("empty-frames", ";;;; 1\n;a; 2\n".into());
    read("names", "</script>;\x1b[2J;\u{202e};=cmd();a\"b'c 5\n".into());
    read("wide", many("", 100_000, "", |at| format!("main;f{at} 1\n")));
}
