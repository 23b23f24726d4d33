//! `merge`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pprof_export::reader::{self, Limits};
use pprof_export::{AllocatorStats, ClassTotal};

use crate::support::{Builder, Scratch, heapsift, json_of, output_of, service};

#[test]
fn a_sum_of_many_is_what_the_tables_say_of_all() {
    let scratch = Scratch::new();
    // More than are in memory at once, of processes that are mapped elsewhere, with other periods.
    let files: Vec<String> = (0..21)
        .map(|number| {
            let mut builder = service(20 + number);
            let moved = u64::from(number % 3) * 0x10_0000;
            builder.profile.mapping.iter_mut().for_each(|mapping| {
                mapping.memory_start += moved;
                mapping.memory_limit += moved;
            });
            builder.profile.location.iter_mut().for_each(|location| location.address += moved);
            if number == 7 {
                builder.profile.period /= 2;
            }
            scratch.file(&format!("heapsift.{number}.0.f.heap.pb.gz"), &builder.gzip())
        })
        .collect();
    let out = scratch.join("sum.pb.gz");
    let mut words = vec!["merge", "-o", &out];
    words.extend(files.iter().map(String::as_str));
    output_of(&words);
    let mut words = vec!["top", "--json", "--sites"];
    words.extend(files.iter().map(String::as_str));
    let (all, sum) = (json_of(&words), json_of(&["top", "--json", "--sites", &out]));
    // Values to the byte; samples, which are rounded row by row, and errors almost so.
    let (rows, summed) = (all["rows"].as_array().unwrap(), sum["rows"].as_array().unwrap());
    assert_eq!(rows.len(), summed.len());
    for (row, sum) in rows.iter().zip(summed) {
        assert_eq!((&row["name"], &row["flat"]["value"]), (&sum["name"], &sum["flat"]["value"]));
        for (key, tolerance) in [("standard_error", 1e-9), ("samples", 0.002)] {
            let number = |row: &serde_json::Value| row["flat"][key].as_f64().unwrap();
            assert!((number(row) / number(sum) - 1.0).abs() < tolerance, "{key}: {row} {sum}");
        }
    }
    assert_eq!(all["total"], sum["total"]);
    let merged = reader::decode(&fs::read(&out).unwrap(), &Limits::DEFAULT).unwrap();
    // Four rows, and three or four of another period.
    assert!(merged.sample.len() <= 8, "{}", merged.sample.len());
    // A directory is all of it.
    let other = scratch.join("directory.pb.gz");
    output_of(&["merge", scratch.path().to_str().unwrap(), "-o", &other]);
    assert_eq!(json_of(&["top", "--json", &other])["total"], sum["total"]);
}

#[test]
fn exact_numbers_add_up_or_are_absent() {
    let scratch = Scratch::new();
    let with = |allocated: u64, size: u64| {
        let mut builder = service(10);
        builder.profile.allocator_stats = Some(AllocatorStats {
            allocated,
            rss: 2 * allocated,
            allocated_max: 9 * allocated,
            classes: vec![
                ClassTotal { size, blocks: 1, bytes: size, active: 4096, tcache: 0 },
                ClassTotal { size: 0, blocks: 2, bytes: 65_536, active: 65_536, tcache: 0 },
            ],
            ..AllocatorStats::default()
        });
        scratch.file(&format!("{allocated}.pb.gz"), &builder.gzip())
    };
    let (a, b, c) = (with(1000, 16), with(200, 48), with(30, 16));
    let out = scratch.join("sum.pb.gz");
    let stats = |words: &[&str]| {
        output_of(words);
        reader::decode(&fs::read(&out).unwrap(), &Limits::DEFAULT).unwrap().allocator_stats
    };
    let sum = stats(&["merge", "-o", &out, &a, &b, &c]).unwrap();
    assert_eq!((sum.allocated, sum.rss, sum.allocated_max), (1230, 2460, 0));
    let classes: Vec<_> = sum.classes.iter().map(|class| (class.size, class.blocks, class.bytes)).collect();
    assert_eq!(classes, [(16, 2, 32), (48, 1, 48), (0, 6, 196_608)]);
    let mut plain = service(10);
    plain.profile.allocator_stats = None;
    let plain = scratch.file("plain.pb.gz", &plain.gzip());
    assert_eq!(stats(&["merge", "-o", &out, &a, &plain]), None);
}

#[test]
fn epochs_are_left_out_unless_asked_for() {
    let scratch = Scratch::new();
    let mut builder = Builder::new();
    let stack = builder.stack(&["f", "main"]);
    builder.born(&stack, 64, 10, Some(1));
    builder.born(&stack, 64, 20, Some(2));
    let file = scratch.file("a.pb.gz", &builder.gzip());
    let out = scratch.join("sum.pb.gz");
    let rows = |words: &[&str]| {
        output_of(&[&["merge", "-o", &out, &file, &file], words].concat());
        reader::decode(&fs::read(&out).unwrap(), &Limits::DEFAULT).unwrap().sample.len()
    };
    assert_eq!(rows(&[]), 1);
    assert_eq!(rows(&["--drop-label="]), 2);
    assert_eq!(json_of(&["top", "--json", &out])["rows"][0]["flat"]["samples"], 60);
    let absent = heapsift(&["merge", "-o", &out, &file, "/nowhere.pb.gz"]);
    assert_eq!(absent.status.code(), Some(2));
}

#[test]
fn profiles_are_their_owners() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(10).gzip());
    for words in
        [&["merge"] as &[&str], &["symbolize"], &["convert", "--to", "pprof"], &["diff", "--to", "pprof", &file]]
    {
        let out = scratch.join(words[0]);
        output_of(&[words, &[&file, "-o", &out]].concat());
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600, "{words:?}");
    }
}
