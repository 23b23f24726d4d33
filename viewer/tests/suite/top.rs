//! `top`.

use crate::support::{Builder, Frame, Scratch, heapsift, json_of, output_of, service};

#[test]
fn the_table_of_a_small_service() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    let expected = "\
File: service
Build ID: 0a0b0c0d
Type: inuse_space
Time: Nov 14, 2023 at 10:13pm (UTC)
Showing nodes accounting for 55.62MB, 100% of 55.62MB total
Sampled every 512kB: 102 samples; total within 45.82..65.41MB (95%)
      flat  flat%   sum%        cum   cum%  samples           flat 95%  name
   31.10MB 55.91% 55.91%    31.10MB 55.91%       53     24.11..38.09MB  insert  src/cache.c:99
   20.02MB 35.99% 91.91%    20.02MB 35.99%       40     13.82..26.22MB  xmalloc  src/util.c:3
    4.50MB  8.09%   100%     4.50MB  8.09%        9       1.56..7.44MB  grow (inline)  src/buffer.h:5
         0     0%   100%    55.62MB   100%        0                  -  main  src/main.c:7
         0     0%   100%     4.50MB  8.09%        0                  -  parse  src/parse.c:44
         0     0%   100%    20.02MB 35.99%        0                  -  remember  src/leak.c:12
         0     0%   100%    55.62MB   100%        0                  -  serve  src/serve.c:30
";
    assert_eq!(output_of(&["top", &file]), expected);
}

#[test]
fn pprofs_spelling_is_understood() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    let ours = output_of(&["top", "--sample-index=alloc_space", "--cum", "--nodecount=3", &file]);
    let theirs = output_of(&["top", "-sample_index=alloc_space", "-cum", "-nodecount=3", &file]);
    assert_eq!(ours, theirs);
    assert_eq!(ours, output_of(&["top", "-alloc_space", "-cum", "-n3", &file]));
    assert!(ours.contains("Type: alloc_space") && ours.contains("Showing top 3 nodes out of 7"), "{ours}");
}

#[test]
fn recursion_counts_once() {
    let scratch = Scratch::new();
    let mut builder = Builder::new();
    let stack = builder.stack(&["f", "g", "f", "g", "f", "main"]);
    builder.sampled(&stack, 4096, 10);
    let file = scratch.file("a.pb.gz", &builder.gzip());
    let table = json_of(&["top", "--json", &file]);
    let total = table["total"].as_i64().unwrap();
    for row in table["rows"].as_array().unwrap() {
        assert_eq!(row["cum"]["value"].as_i64().unwrap(), total, "{row}");
    }
    assert_eq!(table["rows"][0]["name"], "f");
    assert_eq!(table["rows"][0]["flat"]["samples"], 10);
}

#[test]
fn sites_look_through_wrappers_and_libraries() {
    let scratch = Scratch::new();
    let mut builder = service(40);
    let vec = builder.location(
        0x40_7000,
        &[
            Frame("alloc::raw_vec::RawVec<T>::grow_one", "/rustc/abc/library/alloc/src/raw_vec.rs", 1),
            Frame("app::load", "src/load.rs", 8),
        ],
    );
    builder.sampled(&[vec], 8192, 12);
    let file = scratch.file("a.pb.gz", &builder.gzip());
    let table = json_of(&["top", "--sites", "--json", &file]);
    let names: Vec<&str> = table["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["insert", "remember", "app::load", "grow"]);
}

#[test]
fn rows_by_line_file_and_address() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    let lines = output_of(&["top", "--lines", &file]);
    assert!(lines.contains("  insert src/cache.c:99\n"), "{lines}");
    let files = output_of(&["top", "-files", &file]);
    assert!(files.contains("  src/cache.c\n"), "{files}");
    let addresses = output_of(&["top", "-addresses", &file]);
    assert!(addresses.contains("  0000000000404000 insert src/cache.c:99\n"), "{addresses}");
}

#[test]
fn nothing_is_left_out_silently() {
    let scratch = Scratch::new();
    let mut builder = service(40);
    let small = builder.stack(&["tiny"]);
    builder.sampled(&small, 8, 0);
    builder.profile.sample.last_mut().unwrap().value = vec![1, 8, 1, 8];
    builder.sampled(&[], 64, 4);
    let file = scratch.file("a.pb.gz", &builder.gzip());
    let table = output_of(&["top", &file]);
    assert!(table.contains("Dropped 1 node (cum <="), "{table}");
    assert!(table.contains("[unknown stack]"), "{table}");
    assert!(output_of(&["top", "--nodefraction=0", &file]).contains("tiny"));
}

#[test]
fn an_unsymbolized_frame_is_known_by_its_binary() {
    let scratch = Scratch::new();
    let mut builder = Builder::new();
    builder.mapping("/usr/lib/libfoo.so.1", 0x7000_0000, "ff00");
    let nameless = builder.location(0x7000_1234, &[]);
    builder.sampled(&[nameless], 4096, 10);
    let file = scratch.file("a.pb.gz", &builder.gzip());
    assert!(output_of(&["top", "--symbolize=none", &file]).contains("  [libfoo.so.1]\n"));
    let addresses = output_of(&["top", "--symbolize=none", "--addresses", &file]);
    assert!(addresses.contains("  0000000070001234 [libfoo.so.1]\n"), "{addresses}");
    // On the fly it is looked for, and one line says that it is not there.
    let output = heapsift(&["top", &file]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.lines().count() == 1, "{errors}");
    assert!(errors.starts_with("heapsift: 0 of 1 modules symbolized; libfoo.so.1: "), "{errors}");
}

#[test]
fn frames_that_the_producer_drops_are_cut() {
    let scratch = Scratch::new();
    let mut builder = Builder::new();
    builder.profile.drop_frames = builder.string("operator new(\\[\\])?|malloc");
    let stack = builder.stack(&["inner", "operator new(unsigned long)", "make", "malloc"]);
    builder.sampled(&stack, 4096, 10);
    let file = scratch.file("a.pb.gz", &builder.gzip());
    let table = output_of(&["top", &file]);
    assert!(table.contains("  make"), "{table}");
    assert!(!table.contains("inner") && !table.contains("operator new"), "{table}");
    assert!(table.contains("  malloc"), "a root that matches stays: {table}");
}

#[test]
fn filters_choose_stacks_and_frames() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    let rows = |words: &[&str]| -> Vec<String> {
        let mut all = vec!["top", "--json", "--nodefraction=0"];
        all.extend(words);
        all.push(&file);
        let table = json_of(&all);
        table["rows"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(rows(&["--focus=cache"]), ["insert", "main", "serve"]);
    assert_eq!(rows(&["-ignore=cache|parse"]), ["xmalloc", "main", "remember", "serve"]);
    assert_eq!(rows(&["-hide=xmalloc", "-focus=leak"]), ["remember", "main", "serve"]);
    assert_eq!(rows(&["-show=serve"]), ["serve"]);
    let output = heapsift(&["top", "--focus=nowhere", &file]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "heapsift: --focus matches no frame\n");
    let output = heapsift(&["top", "--focus=(", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
}

#[test]
fn several_files_are_summed() {
    let scratch = Scratch::new();
    let a = scratch.file("a.pb.gz", &service(40).gzip());
    let b = scratch.file("b.pb.gz", &service(10).gzip());
    let total = |words: &[&str]| json_of(words)["sum"]["value"].as_i64().unwrap();
    let sum = total(&["top", "--json", &a, &b]);
    assert_eq!(sum, total(&["top", "--json", &a]) + total(&["top", "--json", &b]));
}

#[test]
fn json_and_csv_carry_the_uncertainty() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    let table = json_of(&["top", "--json", &file]);
    let row = &table["rows"][1];
    assert_eq!((row["name"].as_str(), row["line"].as_i64()), (Some("xmalloc"), Some(3)));
    // 40 samples of blocks far smaller than the period: the error is the period times their root.
    let error = row["flat"]["standard_error"].as_f64().unwrap();
    let expected = 524_288.0 * 40f64.sqrt();
    assert!((error / expected - 1.0).abs() < 0.01, "{error}");

    let csv = output_of(&["top", "--csv", &file]);
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("function,file,line,binary,flat,flat_low,"));
    assert!(lines.next().unwrap().starts_with("insert,src/cache.c,99,,"), "{csv}");
    assert_eq!(csv.lines().count(), 8);
}

#[test]
fn hostile_names_stay_on_their_line() {
    let scratch = Scratch::new();
    let mut builder = Builder::new();
    let stack = builder.stack(&["evil\x1b[2J\nheapsift: all is well", "=cmd|' /C calc'!A0", "\u{202e}txt.exe"]);
    builder.sampled(&stack, 4096, 10);
    builder.profile.comment.push(0);
    let comment = builder.string("\x1b]0;owned\x07");
    builder.profile.comment.push(comment);
    let file = scratch.file("a.pb.gz", &builder.gzip());
    for words in [
        &["top", &file] as &[&str],
        &["top", "--csv", &file],
        &["info", &file],
        &["convert", "--to", "text", &file],
        &["convert", "--to", "raw", &file],
        &["convert", "--to", "folded", &file],
    ] {
        let text = output_of(words);
        let hostile = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(hostile), "{words:?}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("heapsift: all is well")), "{words:?}");
        assert!(!text.lines().any(|line| line.starts_with('=')), "{words:?}: {text}");
    }
    // In JSON the names are whole; it has escapes of its own.
    let table = json_of(&["top", "--json", &file]);
    assert_eq!(table["rows"][0]["function"], "evil\x1b[2J\nheapsift: all is well");
}
