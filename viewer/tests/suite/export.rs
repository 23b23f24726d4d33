//! `export --parquet`: what stands in the tables, read back by the library that wrote them; and what is refused.

use std::fs::{self, File};
use std::path::Path;

use parquet::file::reader::SerializedFileReader;
use parquet::record::{Field, Row};

use crate::support::{Builder, Frame, PERIOD, Scratch, heapsift, output_of, service};

/// The rows of a table.
fn table(directory: &str, name: &str) -> Vec<Row> {
    let file = File::open(Path::new(directory).join(format!("{name}.parquet"))).unwrap();
    SerializedFileReader::new(file).unwrap().into_iter().map(Result::unwrap).collect()
}

/// A cell by its column's name, as text.
fn cell(row: &Row, name: &str) -> String {
    let (_, field) = row.get_column_iter().find(|(column, _)| *column == name).unwrap_or_else(|| panic!("{name}"));
    match field {
        Field::Str(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `function file:line module+offset`, and ` inlined`, for each frame of a stack.
fn frames(row: &Row) -> Vec<String> {
    let list = row.get_column_iter().find_map(|(_, field)| match field {
        Field::ListInternal(list) => Some(list),
        _ => None,
    });
    let frame = |field: &Field| {
        let Field::Group(row) = field else { panic!("{field}") };
        let mut text = format!("{} {}:{}", cell(row, "function"), cell(row, "file"), cell(row, "line"));
        text += &format!(" {}+{}", cell(row, "module"), cell(row, "file_offset"));
        text + if cell(row, "is_inlined") == "true" { " inlined" } else { "" }
    };
    list.unwrap().elements().iter().map(frame).collect()
}

#[test]
fn rows_keep_what_their_errors_are_worked_out_from() {
    let scratch = Scratch::new();
    let mut builder = service(40);
    let stack = builder.profile.sample[1].location_id.clone();
    builder.born(&stack, 64, 7, Some(3));
    let text = |builder: &mut Builder, key: &str, value: &str| {
        let (key, str) = (builder.string(key), builder.string(value));
        pprof_export::schema::Label { key, str, ..Default::default() }
    };
    let labels = [text(&mut builder, "thread", "worker"), text(&mut builder, "tenant", "a\"b")];
    let period = builder.string("period");
    let own = pprof_export::schema::Label { key: period, num: 4096, num_unit: 0, str: 0 };
    let last = builder.profile.sample.last_mut().unwrap();
    last.label.extend(labels);
    last.label.push(own);
    let file = scratch.file("app.17.2.m1.heap.pb.gz", &builder.gzip());
    let out = scratch.join("out");
    let told = heapsift(&["export", "--parquet", &file, "-o", &out, "--column", "host=web 1", "--column=v=é"]);
    assert!(told.status.success());
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.ends_with("out: 5 rows and 3 stacks of 1 file\n"), "{told}");

    let rows = table(&out, "samples");
    let shown = |row: &Row, names: &[&str]| names.iter().map(|name| cell(row, name)).collect::<Vec<_>>().join(" ");
    let origin = ["dump", "pid", "sequence", "kind", "program", "build_id", "host", "v"];
    let expected = format!("{file} 17 2 m /opt/app/service 0a0b0c0d web 1 é");
    assert!(rows.iter().all(|row| shown(row, &origin) == expected), "{}", shown(&rows[0], &origin));
    let own = ["size", "period", "thread", "epoch", "labels", "inuse_samples", "alloc_samples"];
    assert_eq!(shown(&rows[0], &own), format!("1024 {PERIOD} null null {{}} 40 80"));
    assert_eq!(shown(&rows[4], &own), "64 4096 worker 3 {\"tenant\" -> \"a\"b\"} 889 1778");
    // 40 samples, each of half a mebibyte: the error is R times their root, but for the size of a block.
    let variance: f64 = cell(&rows[0], "inuse_space_variance").parse().unwrap();
    let p = -(-1024.0 / PERIOD as f64).exp_m1();
    let objects: f64 = cell(&rows[0], "inuse_objects").parse().unwrap();
    assert!((variance / (objects * 1024.0 * 1024.0 * (1.0 - p) / p) - 1.0).abs() < 1e-12);
    assert!((variance.sqrt() / (PERIOD as f64 * 40f64.sqrt()) - 1.0).abs() < 0.02);
    let time = cell(&rows[0], "time");
    assert!(time.starts_with("2023-11-14 22:13:20"), "{time}");
}

#[test]
fn a_stack_is_known_in_every_process_and_says_all_of_its_frames() {
    let scratch = Scratch::new();
    let of = |moved: u64, name: &str| {
        let mut builder = service(10);
        // A frame without a name, in a library, and one in no binary at all.
        builder.mapping("/lib/libx.so", 0x7000_0000, "ffee");
        let nameless = builder.location(0x7000_0100, &[]);
        let nowhere = builder.location(0x10, &[Frame("jit", "", 0)]);
        builder.sampled(&[nameless, nowhere], 64, 2);
        builder.sampled(&[], 64, 2);
        builder.profile.mapping.iter_mut().for_each(|mapping| {
            mapping.memory_start += moved;
            mapping.memory_limit += moved;
            mapping.file_offset = 0x1000;
        });
        let is_mapped = |location: &&mut pprof_export::schema::Location| location.mapping_id != 0;
        builder.profile.location.iter_mut().filter(is_mapped).for_each(|location| location.address += moved);
        scratch.file(name, &builder.gzip())
    };
    let (a, b) = (of(0, "a.pb.gz"), of(0x123_0000, "b.pb.gz"));
    let out = scratch.join("out");
    output_of(&["export", "--parquet", &a, &b, "-o", &out]);
    let stacks = table(&out, "stacks");
    let sites: Vec<String> = stacks.iter().map(|row| cell(row, "site")).collect();
    assert_eq!(sites, ["remember", "insert", "grow", "[libx.so]", "[unknown stack]"]);
    let parse = "parse src/parse.c:44 /opt/app/service+24576";
    let grow = "grow src/buffer.h:5 /opt/app/service+24576 inlined";
    let rest = ["serve src/serve.c:30 /opt/app/service+12288", "main src/main.c:7 /opt/app/service+8192"];
    assert_eq!(frames(&stacks[2]), [&[grow, parse, grow, parse], &rest[..]].concat());
    assert_eq!(frames(&stacks[3]), ["null null:null /lib/libx.so+4352", "jit null:null null+null"]);
    assert_eq!(frames(&stacks[4]), [""; 0]);
    // Rows of both files have these stacks, and each id is one of theirs.
    let ids: Vec<String> = stacks.iter().map(|row| cell(row, "stack_id")).collect();
    assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    let rows = table(&out, "samples");
    assert_eq!(rows.len(), 2 * 6);
    assert!(rows.iter().all(|row| ids.contains(&cell(row, "stack_id"))));
    assert_eq!(cell(&rows[0], "pid"), "null");
    // Ids are the same tomorrow: exports are put together by them.
    assert_eq!(ids[4], "99aa06d3014798d86001c324468d497f");
}

#[test]
fn other_profiles_have_columns_of_their_own() {
    let scratch = Scratch::new();
    let file = scratch.file("a.txt", b"main;work 30\nmain 4\n");
    let out = scratch.join("out");
    output_of(&["export", "--parquet", &file, "-o", &out]);
    let rows = table(&out, "samples");
    let names: Vec<&String> = rows[0].get_column_iter().map(|(name, _)| name).collect();
    assert_eq!(names[12..].len(), 2, "{names:?}");
    assert_eq!((cell(&rows[0], names[13]), cell(&rows[0], "period")), ("30".to_owned(), "null".to_owned()));
    // A second file must have what the first has.
    let other = scratch.file("b.pb.gz", &service(4).gzip());
    let mixed = heapsift(&["export", "--parquet", &other, &file, "-o", &scratch.join("mixed")]);
    let errors = String::from_utf8(mixed.stderr).unwrap();
    assert_eq!(mixed.status.code(), Some(2));
    assert!(
        errors.ends_with("a.txt: it has no sample type alloc_objects/count, which the first file has\n"),
        "{errors}"
    );
}

#[test]
fn a_difference_is_exported_as_one() {
    let scratch = Scratch::new();
    let (old, new) = (scratch.file("a.pb.gz", &service(10).gzip()), scratch.file("b.pb.gz", &service(14).gzip()));
    let (saved, out) = (scratch.join("d.pb.gz"), scratch.join("out"));
    output_of(&["diff", &old, &new, "-o", &saved]);
    output_of(&["export", "--parquet", &saved, "-o", &out]);
    let number = |row: &Row, name: &str| cell(row, name).parse::<i64>().unwrap();
    let rows = table(&out, "samples");
    let samples: i64 = rows.iter().map(|row| number(row, "inuse_samples")).sum();
    assert!(rows.iter().any(|row| number(row, "inuse_space") < 0));
    let sum: i64 = rows.iter().map(|row| number(row, "inuse_space")).sum();
    // Four samples more; the samples of both sides are behind the difference.
    assert!((sum - 4 * PERIOD).abs() < PERIOD / 100, "{sum}");
    assert_eq!(samples, 10 + 14 + 2 * (50 + 3 + 9));
}

#[test]
fn what_cannot_be_a_table_is_refused_and_leaves_nothing() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(10).gzip());
    let out = scratch.join("out");
    let refused = |words: &[&str]| {
        let told = heapsift(&[&["export", &file, "-o", &out], words].concat());
        assert_eq!(told.status.code(), Some(2), "{words:?}");
        String::from_utf8(told.stderr).unwrap()
    };
    assert!(refused(&[]).contains("--parquet"));
    assert!(refused(&["--parquet", "--column", "host"]).contains("NAME=TEXT"));
    assert!(refused(&["--parquet", "--column", "Size=1"]).contains("would be called Size"));
    assert!(refused(&["--parquet", "/nowhere.pb.gz"]).contains("/nowhere.pb.gz"));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "something is left");
    fs::create_dir(&out).unwrap();
    fs::write(Path::new(&out).join("precious"), "").unwrap();
    assert!(refused(&["--parquet"]).contains("not empty"));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
}
