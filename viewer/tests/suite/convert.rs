//! `convert --to`: what other programs make of it, where they are installed.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use pprof_export::reader::{Limits, decode};
use serde_json::Value;

use crate::support::{Builder, Frame, PERIOD, Scratch, heapsift, json_of, output_of, service};

/// Bytes in use of the service, by its own table.
fn total(file: &str) -> i64 {
    json_of(&["top", "--json", file])["total"].as_i64().unwrap()
}

/// A service whose names try to be more than names.
fn hostile() -> Builder {
    let mut builder = service(40);
    for (index, name) in
        ["</script><b>", "a;b\nc", "=cmd()", "\"];evil[\"", "\x1b[31mred", "fn=(1) x\ncalls=1 0"].iter().enumerate()
    {
        let address = 0x40_8000 + index as u64;
        let location = builder.location(address, &[Frame(name, name, 1)]);
        builder.sampled(&[location], 4096, 20);
    }
    builder
}

#[test]
fn pprof_is_the_same_again() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &hostile().gzip());
    let again = scratch.join("b.pb.gz");
    output_of(&["convert", "--to", "pprof", &file, "-o", &again]);
    assert_eq!(output_of(&["convert", "--to", "raw", &file]), output_of(&["convert", "--to", "raw", &again]));
    let profile = decode(&fs::read(&again).unwrap(), &Limits::DEFAULT).unwrap();
    assert_eq!(profile.allocator_stats.unwrap().allocated, 40 << 20);
    assert_eq!(profile.period, crate::support::PERIOD);
    // Filters apply.
    output_of(&["convert", "--to=pprof", "--focus=remember", &file, "-o", &again]);
    assert!(!output_of(&["convert", "--to", "raw", &again]).contains("insert"));
}

#[test]
fn files_of_different_periods_stay_as_sure_as_they_are() {
    let scratch = Scratch::new();
    let file = |name: &str, samples: u32, period: i64| {
        let mut builder = service(samples);
        builder.profile.period = period;
        scratch.file(name, &builder.gzip())
    };
    let (rough, fine) = (file("rough.pb.gz", 40, PERIOD), file("fine.pb.gz", 70, PERIOD / 8));
    let both = scratch.join("both.pb.gz");
    let row = |words: &[&str]| {
        let table = json_of(&[&["top", "--json"], words].concat());
        table["rows"].as_array().unwrap().iter().find(|row| row["name"] == "xmalloc").unwrap()["flat"].clone()
    };
    for files in [[&rough, &fine], [&fine, &rough]] {
        output_of(&["convert", "--to", "pprof", files[0], files[1], "-o", &both]);
        assert_eq!(row(&[&both]), row(&[files[0], files[1]]));
        // What pprof would show has one row of both.
        let raw = output_of(&["convert", "--to", "raw", files[0], files[1]]);
        assert!(!raw.contains("period:["), "{raw}");
    }
    // A difference has both sides.
    for words in [
        &["diff", &rough, &fine, "-o", &both] as &[&str],
        &["convert", "--to=pprof", "--diff-base", &rough, &fine, "-o", &both],
    ] {
        output_of(words);
        assert_eq!(row(&[&both]), row(&["--diff-base", &rough, &fine]), "{words:?}");
    }
    output_of(&["convert", "--to=pprof", "--base", &rough, &fine, "-o", &both]);
    let (saved, shown) = (row(&[&both]), row(&["--base", &rough, &fine]));
    assert_eq!(saved["value"], shown["value"]);
    for end in ["low", "high"] {
        let end = |row: &Value| row[end].as_f64().unwrap();
        assert!((end(&saved) / end(&shown) - 1.0).abs() < 1e-9, "{saved} {shown}");
    }
}

/// Checks a speedscope file against what its schema demands; sums of the columns by name.
fn check_speedscope(text: &str) -> HashMap<String, i64> {
    let file: Value = serde_json::from_str(text).unwrap();
    assert_eq!(file["$schema"], "https://www.speedscope.app/file-format-schema.json");
    let frames = file["shared"]["frames"].as_array().unwrap();
    for frame in frames {
        assert!(frame["name"].is_string());
        for (key, value) in frame.as_object().unwrap() {
            match key.as_str() {
                "name" | "file" => assert!(value.is_string()),
                "line" | "col" => assert!(value.is_u64()),
                _ => panic!("{key}"),
            }
        }
    }
    assert!(file["activeProfileIndex"].as_u64().unwrap() < 4);
    let units = ["bytes", "microseconds", "milliseconds", "nanoseconds", "none", "seconds"];
    let mut sums = HashMap::new();
    for profile in file["profiles"].as_array().unwrap() {
        assert_eq!(profile["type"], "sampled");
        assert!(units.contains(&profile["unit"].as_str().unwrap()));
        let (samples, weights) = (profile["samples"].as_array().unwrap(), profile["weights"].as_array().unwrap());
        assert_eq!(samples.len(), weights.len());
        for frame in samples.iter().flat_map(|sample| sample.as_array().unwrap()) {
            assert!((frame.as_u64().unwrap() as usize) < frames.len());
        }
        let sum: i64 = weights.iter().map(|weight| weight.as_i64().unwrap()).sum();
        assert_eq!(profile["startValue"], 0);
        assert_eq!(profile["endValue"].as_i64().unwrap(), sum);
        sums.insert(profile["name"].as_str().unwrap().to_owned(), sum);
    }
    sums
}

#[test]
fn speedscope_has_all_columns_and_inlined_frames() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &hostile().gzip());
    let text = output_of(&["convert", "--to", "speedscope", &file]);
    let sums = check_speedscope(&text);
    assert_eq!(sums["inuse_space"], total(&file));
    assert_eq!(sums.len(), 4);
    let value: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<&str> =
        value["shared"]["frames"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    // The innermost frame of an inlined call stands behind its caller.
    let (grow, parse) = (position(&names, "grow"), position(&names, "parse"));
    let samples = value["profiles"][3]["samples"].as_array().unwrap();
    let inlined = samples.iter().any(|sample| {
        let stack: Vec<u64> = sample.as_array().unwrap().iter().map(|f| f.as_u64().unwrap()).collect();
        stack.windows(2).any(|pair| pair == [parse, grow])
    });
    assert!(inlined && names.contains(&"</script><b>"));
    assert!(!text.contains("</script>"));
}

fn position(names: &[&str], name: &str) -> u64 {
    names.iter().position(|known| *known == name).unwrap() as u64
}

#[test]
fn firefox_has_consistent_tables() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &hostile().gzip());
    let value: Value = serde_json::from_str(&output_of(&["convert", "--to", "firefox", &file])).unwrap();
    let meta = &value["meta"];
    for key in ["interval", "startTime", "processType", "stackwalk", "debug", "version", "preprocessedProfileVersion"] {
        assert!(meta[key].is_number(), "{key}");
    }
    assert!(meta["product"].is_string() && meta["markerSchema"].is_array());
    assert_eq!(meta["categories"][0]["subcategories"][0], "Other");
    let threads = value["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 4);
    for thread in threads {
        let strings = thread["stringArray"].as_array().unwrap().len() as u64;
        let length = |table: &str| thread[table]["length"].as_u64().unwrap();
        for table in ["samples", "markers", "stackTable", "frameTable", "funcTable", "resourceTable", "nativeSymbols"] {
            // Every column of a table is as long as the table.
            for (column, cells) in thread[table].as_object().unwrap() {
                if let Some(cells) = cells.as_array() {
                    assert_eq!(cells.len() as u64, length(table), "{table}.{column}");
                }
            }
        }
        let below = |table: &str, column: &str, end: u64| {
            for cell in thread[table][column].as_array().unwrap() {
                assert!(cell.as_u64().is_none_or(|cell| cell < end), "{table}.{column}: {cell}");
            }
        };
        below("stackTable", "frame", length("frameTable"));
        below("stackTable", "prefix", length("stackTable"));
        below("frameTable", "func", length("funcTable"));
        below("funcTable", "name", strings);
        below("funcTable", "fileName", strings);
        // A caller's node comes before its callee's.
        for (node, prefix) in thread["stackTable"]["prefix"].as_array().unwrap().iter().enumerate() {
            assert!(prefix.as_u64().is_none_or(|prefix| (prefix as usize) < node));
        }
        assert!(thread["pid"].is_string() && thread["tid"].is_number());
    }
    let weights = threads[3]["nativeAllocations"]["weight"].as_array().unwrap();
    assert_eq!(weights.iter().map(|w| w.as_i64().unwrap()).sum::<i64>(), total(&file));
    assert_eq!(threads[2]["samples"]["weightType"], "samples");
}

/// The output of a program, or nothing where it is not installed.
fn run(program: &str, words: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(words).output() {
        Ok(output) => output,
        Err(_) => {
            let promised = std::env::var_os("HEAPSIFT_REQUIRE_TOOLS").is_some_and(|value| value == "1");
            assert!(!promised, "{program} is not installed");
            println!("skipped: {program} is not installed");
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    assert!(!errors.to_lowercase().contains("error"), "{program}: {errors}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn callgrind_annotate_reads_callgrind() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &hostile().gzip());
    let out = scratch.join("callgrind.out");
    output_of(&["convert", "--to", "callgrind", &file, "-o", &out]);
    let total = total(&file).to_string();
    // Callgrind writes thousands with commas.
    let plain = |text: &str| text.replace(',', "");
    let Some(text) = run("callgrind_annotate", &["--threshold=100", &out]) else { return };
    let text = plain(&text);
    assert!(text.contains(&format!("{total} (100.0%)  PROGRAM TOTALS")), "{text}");
    // Own costs by function, as `top` has them.
    let rows = json_of(&["top", "--json", "--nodefraction=0", &file]);
    let flat = |name: &str| {
        let rows = rows["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"].as_str().unwrap().starts_with(name)).unwrap();
        row["flat"]["value"].as_i64().unwrap()
    };
    for name in ["xmalloc", "insert", "grow"] {
        assert!(
            text.lines().any(|line| line.contains(&flat(name).to_string()) && line.contains(name)),
            "{name}: {text}"
        );
    }
    let inclusive = plain(&run("callgrind_annotate", &["--inclusive=yes", "--threshold=100", &out]).unwrap());
    let serve = inclusive.lines().find(|line| line.contains(":serve")).unwrap();
    let rows = rows["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"].as_str().unwrap().starts_with("serve")).unwrap();
    assert!(serve.trim_start().starts_with(&row["cum"]["value"].to_string()), "{serve} {row}");
}

#[test]
fn graphviz_draws_dot() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &hostile().gzip());
    let out = scratch.join("a.dot");
    output_of(&["convert", "--to", "dot", &file, "-o", &out]);
    let Some(svg) = run("dot", &["-Tsvg", &out]) else { return };
    for name in ["serve", "insert", "remember", "&lt;/script&gt;&lt;b&gt;"] {
        assert!(svg.contains(name), "{name}");
    }
    // A name that tries to end its label is a label.
    assert!(svg.contains("]&#59;evil[") || svg.contains("&quot;];evil[&quot;"), "{svg}");
    assert!(!svg.contains("<title>evil</title>"));
}

#[test]
fn csv_has_a_line_for_each_row() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &hostile().gzip());
    let text = output_of(&["convert", "--to", "csv", &file]);
    let mut lines = text.lines();
    assert_eq!(
        lines.next().unwrap(),
        "alloc_objects (count),alloc_space (bytes),inuse_objects (count),inuse_space (bytes),label:bytes,stack"
    );
    let rest: Vec<&str> = lines.collect();
    let sum: i64 = rest.iter().map(|line| line.split(',').nth(3).unwrap().parse::<i64>().unwrap()).sum();
    assert_eq!(sum, total(&file));
    assert!(rest.iter().any(|line| line.ends_with(",main;serve;parse;grow;parse;grow")), "{text}");
    assert!(rest.iter().any(|line| line.ends_with(",\"'=cmd()\"")), "{text}");
}

#[test]
fn differences_are_differences_in_every_format() {
    let scratch = Scratch::new();
    let small = scratch.file("small.pb.gz", &service(40).gzip());
    let large = scratch.file("large.pb.gz", &service(160).gzip());
    let saved = scratch.join("saved.pb.gz");
    output_of(&["diff", &small, &large, "-o", &saved]);
    let growth = total(&large) - total(&small);
    let grown = [&["--diff-base", &small, &large] as &[&str], &["--base", &small, &large], &[&saved]];
    let shrunk = ["--diff-base", &large, &small];
    let to = |format: &str, words: &[&str]| output_of(&[&["convert", "--to", format], words].concat());
    for words in grown {
        assert_eq!(to("folded", words), format!("main;serve;remember;xmalloc {growth}\n"));
        let csv = to("csv", words);
        let sum: i64 = csv.lines().skip(1).map(|line| line.split(',').nth(3).unwrap().parse::<i64>().unwrap()).sum();
        assert_eq!(sum, growth, "{csv}");
        assert_eq!(check_speedscope(&to("speedscope", words))["inuse_space"], growth);
        let callgrind = to("callgrind", words);
        assert!(callgrind.contains(&format!("\nsummary: {growth}\n")) && !callgrind.contains("insert"), "{callgrind}");
        let firefox: Value = serde_json::from_str(&to("firefox", words)).unwrap();
        let weights = firefox["threads"][3]["nativeAllocations"]["weight"].as_array().unwrap().iter();
        assert_eq!(weights.map(|weight| weight.as_i64().unwrap()).sum::<i64>(), growth);
        let dot = to("dot", words);
        assert!(dot.contains("xmalloc\\n60.06MB (") && !dot.contains("insert"), "{dot}");
    }
    let dot = to("dot", grown[0]);
    assert!(dot.contains("label=\"service: change of inuse_space by 60.06MB from 55.62MB\""), "{dot}");
    assert!(dot.contains("xmalloc\\n60.06MB (107.98%)"), "{dot}");
    let csv = to("csv", grown[0]);
    let rows: Vec<&str> = csv.lines().filter(|line| line.ends_with("xmalloc")).collect();
    assert!(csv.lines().next().unwrap().ends_with(",label:bytes,label:pprof::base,stack"), "{csv}");
    assert!(rows.len() == 2 && rows[0].contains(",1024,,main;") && rows[1].contains(",1024,true,main;"), "{csv}");

    // What shrank has a sign, or is refused, or left out if that is said.
    assert_eq!(to("folded", &shrunk), format!("main;serve;remember;xmalloc -{growth}\n"));
    assert!(to("dot", &shrunk).contains("xmalloc\\n-60.06MB ("));
    for (format, what) in [("callgrind", "4 functions"), ("speedscope", "1 stack")] {
        let refused = heapsift(&[&["convert", "--to", format], &shrunk[..]].concat());
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert_eq!((refused.status.code(), errors.lines().count()), (Some(2), 1), "{errors}");
        assert!(errors.contains(&format!("{format} has nothing below zero, and {what} shrank")), "{errors}");
        assert!(!to(format, &[&["--drop-negative"], &shrunk[..]].concat()).contains("-6"));
    }
}

#[test]
fn other_programs_profiles_are_inputs_of_every_command() {
    let scratch = Scratch::new();
    let text = "main;serve;insert 1048576\nmain;serve;parse 2097152\n";
    let folded = scratch.file("a.folded", text.as_bytes());
    assert_eq!(output_of(&["convert", "--to", "folded", &folded]), text);
    let out = scratch.join("out");
    for words in [
        &["top", &folded] as &[&str],
        &["info", &folded],
        &["flame", &folded, "-o", &out],
        &["diff", &folded, &folded],
        &["symbolize", &folded, "-o", &out],
        &["convert", "--to", "speedscope", &folded],
    ] {
        output_of(words);
    }
    assert!(output_of(&["top", &folded]).contains("parse"));
    let broken = scratch.file("b.folded", &text.repeat(500).replacen("2097152", "x", 3).into_bytes());
    let errors = String::from_utf8(heapsift(&["top", &broken]).stderr).unwrap();
    assert!(errors.contains("not a profile: it looks like text"), "{errors}");
}
