//! Dumps of a real server, told by `heapsift` and by `go tool pprof`: the same totals and rows, and the truth.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, final_dump, only};
use heapsift_tests::{Dump, Program, Server, by_length, command, redis, tools};

/// A Redis server under the allocator with so many keys of mixed sizes, and how to talk to it.
fn loaded_redis(scratch: &Scratch, conf: &str, keys: u32) -> Option<(Server, PathBuf)> {
    let cli = tools::need("redis-cli")?;
    let (server, socket) = redis::serve(scratch.path(), |server| server.under(conf))?;
    let commands = scratch.join("commands");
    let text: String = (0..keys)
        .map(|n| {
            let mix = n.wrapping_mul(2_654_435_761);
            match mix >> 30 {
                0..2 => format!("SET s{n} {}\n", "v".repeat((mix >> 8) as usize % 600)),
                2 => format!("RPUSH l{} {mix}\n", n / 8),
                _ => format!("HSET h{} f{n} {mix}\n", n / 8),
            }
        })
        .collect();
    fs::write(&commands, text).expect("a scratch file");
    let cli = Program::new(cli).arg("-s").arg(&socket).input(&commands).within(Duration::from_secs(300));
    cli.run().expect_success();
    Some((server, socket))
}

/// `go tool pprof` with its report options; what it prints.
fn pprof(words: &[&str], files: &[&Path]) -> Option<String> {
    let go = tools::need("go")?;
    let program = Program::new(go).args(["tool", "pprof", "-symbolize=none"]).args(words).args(files);
    Some(program.env("PPROF_TMPDIR", std::env::temp_dir()).run().expect_success().text())
}

/// Rows of `-top` with their names, all numbers in bytes: flat and cum.
fn rows(table: &str, fields: usize) -> BTreeMap<String, (i64, i64)> {
    let bytes = |word: &str| word.trim_end_matches('B').parse::<i64>().unwrap_or_else(|_| panic!("{word}"));
    let lines = table.lines().skip_while(|line| !line.trim_start().starts_with("flat ")).skip(1);
    let rows: Vec<_> = lines
        .map(|line| {
            let mut rest = line;
            let words: Vec<&str> = (0..fields)
                .map(|_| {
                    let (word, after) = rest.trim_start().split_once(' ').unwrap_or_else(|| panic!("{line}"));
                    rest = after;
                    word
                })
                .collect();
            // Behind two blanks ours names the file.
            let name = rest.trim_start().split("  ").next().expect("a first part").to_owned();
            (name, (bytes(words[0]), bytes(words[3])))
        })
        .collect();
    let count = rows.len();
    let rows: BTreeMap<_, _> = rows.into_iter().collect();
    assert_eq!(rows.len(), count, "a name twice in\n{table}");
    rows
}

/// What `heapsift` prints.
fn heapsift(words: &[&str], files: &[&Path]) -> String {
    Program::new(command()).args(words).args(files).run().expect_success().text()
}

/// The functions at the root of complete stacks: where a program or a thread begins.
const STARTS: [&str; 5] = ["_start", "start_thread", "__clone3", "clone3", "__clone"];

#[test]
fn a_loaded_redis_is_told_right() {
    let scratch = Scratch::new("pprof-redis");
    let conf = final_dump(scratch.path(), "prof_sample:64KiB");
    let Some((server, _)) = loaded_redis(&scratch, &conf, by_length(100_000, 500_000)) else { return };
    assert_eq!(server.stop(libc::SIGTERM), 0, "redis-server");
    let raw = only(scratch.path(), 'f');
    let named = scratch.join("named.pb.gz");
    let dump = Dump::symbolized(&raw, &named);

    // The estimate against the allocator's exact count at the same moment.
    let info: serde_json::Value =
        serde_json::from_str(&heapsift(&["info", "--json"], &[&raw])).expect("info --json prints JSON");
    let info = &info[0];
    let exact = info["allocator"]["allocated"].as_f64().expect("the dump carries stats.allocated");
    let total = |index: &str| {
        let rows = info["totals"].as_array().expect("totals");
        rows.iter().find(|row| row["type"] == index).expect("a row for each column").clone()
    };
    let estimate = total("inuse_space");
    let error = estimate["standard_error"].as_f64().expect("a number");
    let estimate = estimate["value"].as_f64().expect("a number");
    assert!((estimate - exact).abs() <= 3.0 * error, "in use {estimate}, exactly {exact}, standard error {error}");

    // Stacks: complete, and without the allocator's own frames.
    let mut complete = 0;
    let mut all = 0;
    for sample in &dump.profile.sample {
        let bytes = sample.value[Column::AllocSpace as usize] + sample.value[Column::InuseSpace as usize];
        all += bytes;
        let frames: Vec<_> = dump.frames(sample).collect();
        let root = frames.last().expect("a frame");
        let from_start = dump.names(sample).last().is_some_and(|name| STARTS.contains(&name))
            || dump.file(root).contains("ld-linux");
        complete += if from_start { bytes } else { 0 };
        for frame in &frames {
            assert!(!dump.file(frame).contains("libheapsift"), "an allocator frame");
        }
    }
    assert!(complete as f64 >= 0.99 * all as f64, "{complete} of {all} bytes have a complete stack");

    // Names: redis's own, by both programs, with the same numbers.
    for index in ["inuse_space", "alloc_space"] {
        let chosen = format!("--sample-index={index}");
        let ours = heapsift(&["top", &chosen, "-n", "0", "--nodefraction", "0", "--unit", "B"], &[&named]);
        let ours = rows(&ours, 7);
        for function in ["main", "aeMain", "readQueryFromClient"] {
            assert!(ours.contains_key(function), "no row for {function} in {:?}", ours.keys());
        }
        let words = [&format!("-sample_index={index}") as &str, "-unit=B", "-nodefraction=0", "-nodecount=100000"];
        let Some(theirs) = pprof(&[&["-top"], &words[..]].concat(), &[&named]) else { return };
        let theirs = rows(&theirs, 5);
        assert_eq!(ours, theirs, "{index}");
        // And on the dump as it is, without names: the total.
        let table = pprof(&[&["-top"], &words[..]].concat(), &[&raw]).expect("as above");
        let shown = table.lines().find_map(|line| line.strip_prefix("Showing nodes accounting for ")).expect("a head");
        let shown = shown.split(" of ").nth(1).expect("a total").split('B').next().expect("a number").to_owned();
        assert_eq!(shown, total(index)["value"].to_string(), "{index}");
    }
}

/// Moves all mappings and addresses, as another run of the same program has them.
fn moved(dump: &Path, to: &Path) {
    use pprof_export::reader::{Limits, decode};
    let mut profile = decode(&fs::read(dump).expect("a dump"), &Limits::DEFAULT).expect("a profile");
    // A different distance for each mapping, by whole pages; the kernel's own page ([vsyscall]) never moves.
    let distance = |id: u64| 0x1000 * (0x1234 + 77 * id);
    for location in &mut profile.location {
        if location.mapping_id != 0 && location.address < 1 << 47 {
            location.address += distance(location.mapping_id);
        }
    }
    for mapping in profile.mapping.iter_mut().filter(|mapping| mapping.memory_limit < 1 << 47) {
        mapping.memory_start += distance(mapping.id);
        mapping.memory_limit += distance(mapping.id);
    }
    fs::write(to, prost::Message::encode_to_vec(&profile)).expect("a scratch file");
}

#[test]
fn a_dump_and_itself_elsewhere_differ_by_nothing() {
    let scratch = Scratch::new("pprof-moved");
    let conf = final_dump(scratch.path(), "prof_sample:4KiB");
    let Some((server, _)) = loaded_redis(&scratch, &conf, 10_000) else { return };
    assert_eq!(server.stop(libc::SIGTERM), 0, "redis-server");
    let raw = only(scratch.path(), 'f');
    let elsewhere = scratch.join("elsewhere.pb");
    moved(&raw, &elsewhere);
    let base = format!("-diff_base={}", raw.display());
    for index in ["inuse_space", "alloc_objects"] {
        let words = ["-top", "-nodefraction=0", "-nodecount=100000", &base, &format!("-sample_index={index}")];
        let Some(table) = pprof(&words, &[&elsewhere]) else { return };
        assert!(table.contains("Showing nodes accounting for 0, 0% of "), "{index}:\n{table}");
        let rows = table.lines().skip_while(|line| !line.trim_start().starts_with("flat ")).skip(1);
        for row in rows {
            assert!(row.trim_start().starts_with("0 "), "{index}: {row}");
        }
    }
    // And for our own.
    let ours = heapsift(&["top", "-n", "0", "--nodefraction", "0", "--diff-base"], &[&raw, &elsewhere]);
    assert!(ours.contains("Showing nodes accounting for 0, 0% of "), "{ours}");
}
