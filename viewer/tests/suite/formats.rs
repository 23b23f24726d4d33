//! `info` and `convert`.

use crate::support::{Builder, Scratch, json_of, output_of, service};

#[test]
fn info_says_what_the_file_is() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    let text = output_of(&["info", &file]);
    for part in [
        "program      /opt/app/service",
        "time         2023-11-14 22:13:20 +0000 UTC",
        "sampled      every 512kB of space",
        "inuse_space*",
        "allocated            40MB             41943040",
        "0a0b0c0d; 6 locations, all named",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = &json_of(&["info", "--json", &file])[0];
    assert_eq!(json["allocator"]["allocated"], 40 << 20);
    let total = json["totals"][3]["value"].as_i64().unwrap();
    assert_eq!(total, json_of(&["top", "--json", &file])["total"].as_i64().unwrap());
}

#[test]
fn folded_stacks_are_lines() {
    let scratch = Scratch::new();
    let mut builder = Builder::new();
    let stack = builder.stack(&["f", "[u8; 8]", "main"]);
    builder.sampled(&stack, 1 << 30, 2);
    builder.sampled(&stack, 1 << 29, 1);
    let file = scratch.file("a.pb.gz", &builder.gzip());
    let folded = output_of(&["convert", "--to", "folded", &file]);
    assert_eq!(folded, format!("main;[u8: 8];f {}\n", (2i64 << 30) + (1 << 29)));
}

#[test]
fn traces_show_labels_and_inlined_frames() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    let text = output_of(&["convert", "--to", "text", &file]);
    let expected = "\
-----------+-------------------------------------------------------
     bytes:  256B
    4.50MB   grow src/buffer.h:5 (inline)
             parse src/parse.c:44
             grow src/buffer.h:5 (inline)
             parse src/parse.c:44
             serve src/serve.c:30
             main src/main.c:7
-----------+-------------------------------------------------------
";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn rows_without_a_stack_are_traces_too() {
    let scratch = Scratch::new();
    let mut builder = service(40);
    builder.sampled(&[], 2 << 20, 7);
    let file = scratch.file("a.pb.gz", &builder.gzip());
    for words in [&["traces"] as &[&str], &["convert", "--to", "text"]] {
        let text = output_of(&[words, &[&file]].concat());
        assert!(text.contains("   [unknown stack]\n---"), "{text}");
    }
    let rows = json_of(&["traces", "--json", &file]);
    assert_eq!(rows["rows"][4]["stack"][0]["name"], "[unknown stack]");
    assert!(output_of(&["traces", "--csv", &file]).contains(",[unknown stack]\n"));
}

#[test]
fn means_of_source_lines() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    let words = ["--mean", "--json", &file];
    let top = json_of(&[&["top", "--nodefraction=0"], &words[..]].concat());
    let list = json_of(&[&["list", "^insert$"], &words[..]].concat());
    let row = top["rows"].as_array().unwrap().iter().find(|row| row["name"] == "insert").unwrap();
    let function = &list["functions"][0];
    // Blocks of 4 KiB and of 2 MiB: neither the one nor the other, and by far not the sum.
    assert_eq!(function["lines"][0]["flat"], row["flat"], "{function}");
    assert_eq!((&function["flat"], &function["cum"]), (&row["flat"]["value"], &row["cum"]["value"]));
    assert!(row["flat"]["blocks"].as_i64().unwrap() > 6000, "{row}");
    let mean = row["flat"]["value"].as_i64().unwrap();
    assert!((4097..2 << 20).contains(&mean), "{mean}");
    let csv = output_of(&["list", "^insert$", "--mean", "--csv", &file]);
    assert!(csv.contains(&format!(",99,{mean},{mean},")), "{csv}");
    let text = output_of(&["list", "^insert$", "--mean", "--unit=B", &file]);
    assert_eq!(text.matches(&format!(" {mean}B ")).count(), 4, "{text}");
}
