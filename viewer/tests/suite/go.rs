//! The same profiles read by `go tool pprof`: what `convert` and `diff` write. Reports are compared in
//! tests/tests/pprof_differential.

use std::process::Command;

use crate::support::{Builder, Frame, Scratch, output_of};

fn has_go() -> bool {
    let found = Command::new("go").arg("version").output().is_ok_and(|output| output.status.success());
    if !found {
        let promised = std::env::var_os("HEAPSIFT_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!promised, "go is not installed");
        println!("skipped: go is not installed");
    }
    found
}

fn pprof(words: &[&str]) -> String {
    let output = Command::new("go")
        .args(["tool", "pprof", "-symbolize=none"])
        .args(words)
        .env("TZ", "UTC")
        .env("PPROF_TMPDIR", std::env::temp_dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Flat, flat %, sum %, cum, cum % and name of each row.
fn rows(table: &str, has_samples: bool) -> Vec<Vec<String>> {
    let lines = table.lines().skip_while(|line| !line.trim_start().starts_with("flat ")).skip(1);
    lines
        .map(|line| {
            let mut fields = Vec::new();
            let mut rest = line;
            for _ in 0..if has_samples { 7 } else { 5 } {
                let (field, after) = rest.trim_start().split_once(' ').unwrap();
                fields.push(field.to_owned());
                rest = after;
            }
            fields.truncate(5);
            // Ours puts the heaviest place behind two blanks.
            let name = rest.trim_start();
            fields.push(name.split("  ").next().unwrap().to_owned());
            fields
        })
        .collect()
}

/// Shares and totals of the head.
fn shown(table: &str) -> &str {
    table.lines().find(|line| line.starts_with("Showing nodes")).unwrap()
}

fn same_lines(ours: &str, theirs: &str) {
    for (number, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(ours, theirs, "line {}", number + 1);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count());
}

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

/// Stacks with recursion, inlined frames, nameless frames of two binaries, and names of all sorts.
fn random_profile(seed: u64, slide: u64) -> Builder {
    let mut random = Random(seed);
    let mut builder = Builder::new();
    builder.mapping("/opt/app/service", 0x40_0000 + slide, "0a0b0c0d");
    builder.mapping("/usr/lib/libz.so.1", 0x7f00_0000 + slide, "");
    builder.profile.drop_frames = builder.string("malloc|operator new|alloc::alloc::.*");
    let names = [
        "main",
        "std::vector<int, std::allocator<int> >::push_back(int&&)",
        "alloc::alloc::alloc",
        "operator new(unsigned long)",
        "(anonymous namespace)::f(int)",
        "<T as core::fmt::Debug>::fmt",
        "github.com/a/b/v2.(*T).Run",
        "f",
        "g",
        "h",
        "malloc",
        "serve",
        "parse",
        "T::operator()(int)",
    ];
    let files = ["src/a.c", "/abs//b.c", "./c/../d.c", ""];
    let mut locations = Vec::new();
    for index in 0..60u64 {
        let count = random.below(4);
        let frames: Vec<Frame<'_>> = (0..count)
            .map(|_| {
                let name = names[random.below(names.len() as u64) as usize];
                Frame(name, files[random.below(4) as usize], random.below(5) as i64)
            })
            .collect();
        let start = if index % 3 == 0 { 0x7f00_0000 } else { 0x40_0000 };
        locations.push(builder.location(start + slide + 16 * index, &frames));
    }
    for _ in 0..200 {
        let depth = 1 + random.below(12);
        let stack: Vec<u64> = (0..depth).map(|_| locations[random.below(60) as usize]).collect();
        let size = [16, 64, 4096, 100_000, 1 << 20, 32 << 20][random.below(6) as usize];
        builder.sampled(&stack, size, 1 + random.below(20) as u32);
    }
    builder
}

#[test]
fn a_written_difference_is_pprofs_difference() {
    if !has_go() {
        return;
    }
    let scratch = Scratch::new();
    let (base, new) = (crate::support::service(40), crate::support::service(70));
    let (base, new) = (scratch.file("base.pb.gz", &base.gzip()), scratch.file("new.pb.gz", &new.gzip()));
    let written = scratch.join("diff.pb.gz");
    output_of(&["diff", &base, &new, "-o", &written]);
    let theirs = pprof(&["-top", "-nodefraction=0", "-diff_base", &base, &new]);
    let opened = pprof(&["-top", "-nodefraction=0", &written]);
    assert_eq!(rows(&opened, false), rows(&theirs, false));
    assert_eq!(shown(&opened), shown(&theirs));
    // Means of groups: the base twice is the base.
    output_of(&["diff", "--base", &base, &base, "--new", &new, "--to", "pprof", "-o", &written]);
    assert_eq!(rows(&pprof(&["-top", "-nodefraction=0", &written]), false), rows(&theirs, false));
}

#[test]
fn raw_and_traces_are_pprofs() {
    if !has_go() {
        return;
    }
    let scratch = Scratch::new();
    for seed in 0..6 {
        let file = scratch.file("a.pb.gz", &random_profile(seed, 0).gzip());
        let ours = output_of(&["convert", "--to", "raw", "--symbolize=none", &file]);
        same_lines(&ours, &pprof(&["-raw", &file]));
        let ours = output_of(&["convert", "--to", "text", "--symbolize=none", &file]);
        same_lines(&ours, &pprof(&["-traces", "-lines", &file]));
    }
}
