//! Thousands of dumps as tables, summed by DuckDB, held against what `merge` makes of them and against the truth.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use heapsift_tests::artifacts::{Scratch, repository};
use heapsift_tests::{Program, by_length, command, fixture, tools};
use serde_json::Value;

/// The long form takes its time.
const LIMIT: Duration = Duration::from_secs(3000);

/// What a site holds: value, standard error, samples in use.
type Sites = BTreeMap<String, (i64, f64, i64)>;

fn heapsift() -> Program {
    Program::new(command()).within(LIMIT)
}

/// What the generator of the dumps says: by site, and sums of all columns.
fn truth(dumps: &Path) -> (Sites, [i64; 4]) {
    let (mut sites, mut sums) = (Sites::new(), [0; 4]);
    for line in fs::read_to_string(dumps.join("truth.tsv")).expect("the truth is told").lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let whole = |at: usize| cells[at].parse::<i64>().expect("a whole number");
        sums.iter_mut().enumerate().for_each(|(column, sum)| *sum += whole(column + 1));
        let variance: f64 = cells[6].parse().expect("a number");
        sites.insert(cells[0].to_owned(), (whole(4), variance.sqrt(), whole(5)));
    }
    (sites, sums)
}

/// What `top --sites` says.
fn table(profile: &Path) -> Sites {
    let told = heapsift().args(["top", "--sites", "--no-trim", "--json"]).arg(profile).run().expect_success();
    let value: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let rows = value["rows"].as_array().expect("rows").iter().map(|row| {
        let flat = &row["flat"];
        let number = |key: &str| flat[key].as_f64().expect("a number");
        let value = flat["value"].as_i64().expect("a whole number");
        (row["name"].as_str().unwrap().to_owned(), (value, number("standard_error"), number("samples") as i64))
    });
    rows.collect()
}

/// Values to the byte; errors as exactly as floating point has them; samples as a row that was summed up has them, which
/// are worked out from its blocks: of blocks as large as the period, each file's were rounded.
fn assert_same(what: &str, ours: &Sites, other: &Sites, samples: f64) {
    assert_eq!(ours.len(), other.len(), "{what}");
    for ((name, (value, error, count)), (theirs, (of_value, of_error, of_count))) in ours.iter().zip(other) {
        assert_eq!((name, value), (theirs, of_value), "{what}");
        assert!((error / of_error - 1.0).abs() < 1e-9, "{what}: {name}: {error} and {of_error}");
        let off = (count - of_count).abs() as f64 / (*of_count as f64);
        assert!(off <= samples, "{what}: {name}: {count} and {of_count} samples");
    }
}

#[test]
fn a_fleet_summed_by_duckdb_is_what_merge_says() {
    let Some(python) = tools::python_with_duckdb() else { return };
    let scratch = Scratch::new("fleet");
    let dumps = scratch.join("dumps");
    let (files, rows) = by_length((300, 400), (10_000, 12_000));
    let make = Program::new(fixture("fleet")).within(LIMIT).arg(&dumps);
    make.args([files.to_string(), rows.to_string()]).run().expect_success();
    let (truth, sums) = truth(&dumps);

    let out = scratch.join("fleet");
    let export = heapsift().args(["export", "--parquet", "--column", "host=web 1"]).arg(&dumps).arg("-o").arg(&out);
    let export = export.run().expect_success();
    let sum = scratch.join("sum.pb.gz");
    let merge = heapsift().arg("merge").arg(&dumps).arg("-o").arg(&sum).run().expect_success();
    let seconds = |ended: &heapsift_tests::Ended| ended.elapsed.as_secs_f64();
    println!(
        "export: {} MiB, {:.1} s; {}",
        export.peak_kib >> 10,
        seconds(&export),
        String::from_utf8_lossy(&export.stderr)
    );
    println!("merge: {} MiB, {:.1} s", merge.peak_kib >> 10, seconds(&merge));
    for ended in [&export, &merge] {
        assert!(ended.peak_kib < 512 << 10, "{}: {} MiB", ended.shown, ended.peak_kib >> 10);
    }
    let merged = table(&sum);
    assert_same("merge", &merged, &truth, 0.15);

    let document = repository().join("docs/parquet.md");
    let script = repository().join("tests/python/parquet.py");
    let asked = Program::new(python).within(LIMIT).arg(script).arg(scratch.path()).arg(document).run().expect_success();
    println!("DuckDB: {:.1} s", seconds(&asked));
    let told: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    let whole = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("{value} is no whole number"));
    let answers = told["answers"].as_array().expect("answers");

    // All in use, with its interval.
    let total = &answers[0][0];
    assert_eq!(whole(&total[0]), sums[3]);
    let error: f64 = truth.values().map(|(_, error, _)| error * error).sum::<f64>().sqrt();
    assert!((total[1].as_f64().unwrap() / (1.96 * error) - 1.0).abs() < 1e-9);
    assert_eq!(whole(&total[2]), truth.values().map(|(.., samples)| samples).sum::<i64>());
    // By site.
    let sites: Sites = answers[1]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| (row[0].as_str().unwrap().to_owned(), (whole(&row[1]), row[2].as_f64().unwrap(), whole(&row[3]))))
        .collect();
    assert_same("DuckDB", &sites, &truth, 0.0);
    assert_same("DuckDB and merge", &sites, &merged, 0.15);
    // Through a function: all stacks end in the wrapper and in what is inlined into it.
    assert_eq!(answers[2].as_array().map(Vec::len), Some(20));
    assert!(answers[2][0][0].as_str().is_some_and(|name| name == "xmalloc"), "{}", answers[2][0]);
    assert_eq!(whole(&answers[2][0][1]), sums[3]);
    // By program: a quarter of the processes each.
    let programs: Vec<i64> = answers[3].as_array().unwrap().iter().map(|row| whole(&row[2])).collect();
    assert_eq!(programs, [files / 4; 4]);
    assert!(answers[4..].iter().all(|rows| rows.as_array().is_some_and(|rows| rows.len() == 20)));

    // Nothing is lost, nothing is there twice.
    assert_eq!(told["dumps"], serde_json::json!([files, files, "f", "f"]));
    let (samples, stacks) = (&told["rows"]["samples"], &told["rows"]["stacks"]);
    assert_eq!((&told["joined"], &stacks[0]), (&samples[0], &stacks[1]));
    let blocks: Vec<i64> = told["blocks"].as_array().unwrap().iter().map(whole).collect();
    assert_eq!(blocks, sums);
    // A row's samples are rounded, and its variance is worked out from its blocks, which are rounded too.
    assert!(told["worst"].as_f64().unwrap() < 0.13, "{}", told["worst"]);
    check_columns(&told["columns"]);
}

/// The tables have the columns that the document promises, with types that every engine knows.
fn check_columns(told: &Value) {
    let types = |table: &str| -> Vec<String> {
        let columns = told[table].as_array().expect("columns");
        columns
            .iter()
            .map(|column| format!("{} {}", column[0].as_str().unwrap(), column[1].as_str().unwrap()))
            .collect()
    };
    let frame = "STRUCT(\"function\" VARCHAR, file VARCHAR, line BIGINT, is_inlined BOOLEAN, \"module\" VARCHAR, \
                 build_id VARCHAR, file_offset BIGINT)[]";
    let stacks = ["stack_id VARCHAR".to_owned(), "site VARCHAR".to_owned(), format!("frames {frame}")];
    // Which names are in quotes is DuckDB's own affair.
    let bare = |types: Vec<String>| types.join("\n").replace('"', "");
    assert_eq!(bare(types("stacks")), bare(stacks.to_vec()));
    let samples = "dump VARCHAR\npid BIGINT\nsequence BIGINT\nkind VARCHAR\ntime TIMESTAMP WITH TIME ZONE\n\
                   program VARCHAR\nbuild_id VARCHAR\nstack_id VARCHAR\nsize BIGINT\nperiod BIGINT\nthread VARCHAR\n\
                   epoch BIGINT\nlabels MAP(VARCHAR, VARCHAR)\nhost VARCHAR\nalloc_objects BIGINT\nalloc_space BIGINT\n\
                   inuse_objects BIGINT\ninuse_space BIGINT\nalloc_samples BIGINT\nalloc_space_variance DOUBLE\n\
                   inuse_samples BIGINT\ninuse_space_variance DOUBLE";
    assert_eq!(bare(types("samples")), samples);
}

#[test]
fn memory_does_not_grow_with_the_number_of_files() {
    let scratch = Scratch::new("fleet");
    let dumps = scratch.join("dumps");
    let files = 400;
    Program::new(fixture("fleet")).arg(&dumps).args([files.to_string(), "700".to_owned()]).run().expect_success();
    let mut names: Vec<_> = fs::read_dir(&dumps).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.to_string_lossy().ends_with(".pb.gz"));
    names.sort();
    for command in [&["merge"][..], &["export", "--parquet"]] {
        let peak = |times: usize| {
            let out = scratch.join(format!("{}-{times}", command[0]));
            let files = names.iter().cycle().take(names.len() * times);
            heapsift().args(command).args(files).arg("-o").arg(out).run().expect_success().peak_kib
        };
        // Nothing in the files is new any more, so that only their number can matter.
        let (once, often) = (peak(1), peak(4));
        assert!(
            often < once + once / 8 + 4096,
            "{command:?}: {once} KiB for the files, {often} KiB for them four times"
        );
    }
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let scratch = Scratch::new("fleet");
    let dumps = scratch.join("dumps");
    Program::new(fixture("fleet")).arg(&dumps).args(["40", "300"]).run().expect_success();
    let write = |name: &str| {
        let out = scratch.join(name);
        heapsift().args(["export", "--parquet"]).arg(&dumps).arg("-o").arg(&out).run().expect_success();
        ["samples", "stacks"].map(|table| fs::read(out.join(format!("{table}.parquet"))).expect("a table"))
    };
    let (one, two) = (write("one"), write("two"));
    assert!(one == two);
    assert!(one.iter().all(|bytes| bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1")));
}
