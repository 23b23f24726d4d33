//! Captured stacks against the debugger's, stopped at the sample: real programs, with and without frame pointers. And what
//! the debugger itself wants of the library.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heapsift_tests::artifacts::{Scratch, repository};
use heapsift_tests::tools::Linkage;
use heapsift_tests::{Program, by_length, library, tools};

/// What the debugger is to run.
struct Case<'a> {
    program: &'a Path,
    arguments: &'a [&'a str],
    /// Options of the allocator beside the seed.
    conf: &'a str,
    user: Option<(u32, u32)>,
    input: Option<&'a Path>,
    /// Samples that there must be at least.
    least: u32,
}

/// Compares so many samples of a program, or as many as it takes.
#[track_caller]
fn compare(scratch: &Scratch, case: &Case<'_>) {
    let Some(gdb) = tools::need("gdb") else { return };
    // Copies: the program's user may not read the originals.
    let copy = |from: &Path, name: &str| {
        let to = scratch.join(name);
        fs::copy(from, &to).expect("a scratch file");
        to
    };
    let hook = copy(&tools::compile("c/stop_at_samples.c", &["-shared", "-fPIC"]), "stop_at_samples.so");
    let library = copy(&library(), "libheapsift.so");
    let script = copy(&repository().join("tests/python/compare_stacks.py"), "compare_stacks.py");
    let preload = format!("set environment LD_PRELOAD {}:{}", library.display(), hook.display());
    let wanted = format!("set $samples = {}", by_length(150, 1000));
    let conf = format!("set environment MALLOC_CONF prof:true,prof_seed:2,{}", case.conf);
    let mut program = Program::new(&gdb)
        .args(["-nx", "-batch", "-ex", "set startup-with-shell off", "-ex", &wanted, "-ex", &preload])
        .args(["-ex", &conf, "-x"])
        .arg(&script)
        .arg("--args")
        .arg(case.program)
        .args(case.arguments)
        .directory(scratch.path())
        .user(case.user)
        .within(Duration::from_secs(300));
    if let Some(input) = case.input {
        program = program.input(input);
    }
    let ended = program.run();
    let (text, shown) = (ended.text(), case.program.display());
    let summary = text
        .lines()
        .rfind(|line| line.starts_with("COMPARED "))
        .unwrap_or_else(|| panic!("{shown}: gdb compared nothing:\n{text}\n{}", ended.complaints()));
    println!("{shown}: {summary}");
    let words: Vec<&str> = summary.split(' ').collect();
    let compared: u32 = words[1].parse().expect("a number");
    let least = case.least.min(by_length(150, 1000));
    assert!(compared >= least && words[3] == "0", "{shown}: {summary}\n{text}");
}

#[test]
fn it_calls_what_takes_strings_and_returns_something() {
    let Some(gdb) = tools::need("gdb") else { return };
    for linkage in [Linkage::Preload, Linkage::Shared, Linkage::Archive, Linkage::Static] {
        let mut gdb = Program::new(&gdb).args(["-nx", "-batch", "-ex", "set startup-with-shell off"]);
        if linkage == Linkage::Preload {
            gdb = gdb.args(["-ex", &format!("set environment LD_PRELOAD {}", library().display())]);
        }
        gdb = gdb.args(["-ex", "set breakpoint pending on", "-ex", "break exit", "-ex", "run"]);
        // The debugger has a string written to memory that it gets from malloc.
        gdb = gdb.args(["-ex", r#"print (int)mallctl("epoch", 0, 0, 0, 0)"#, "-ex", "print (char *)malloc(9) != 0"]);
        let ended = gdb.arg("--args").arg(linkage.compile("c/steps.c")).args(["alloc", "1"]).run();
        let text = ended.text();
        assert!(text.contains("$1 = 0\n$2 = 1\n"), "{linkage:?}: {text}\n{}", ended.complaints());
    }
}

#[test]
fn of_python() {
    let Some(python) = tools::python_with_tests() else { return };
    let scratch = Scratch::new("debugger");
    // In a file: the debugger has rules of its own for what stands in quotes.
    let load = scratch.join("load.py");
    let text = "import json\nfor i in range(20000): json.loads(json.dumps({str(j): 'x' * 600 for j in range(30)}))\n";
    fs::write(&load, text).expect("a scratch file");
    let load = load.to_str().expect("the path is text");
    let case =
        Case { program: &python, arguments: &[load], conf: "prof_sample:512", user: None, input: None, least: 1000 };
    compare(&scratch, &case);
}

#[test]
fn of_sqlite() {
    let Some(sqlite) = tools::need("sqlite3") else { return };
    let scratch = Scratch::new("debugger");
    let rows = "create table t(a, b); with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000) \
                insert into t select i, hex(i * i) from n; create index tb on t(b); select count(distinct b) from t;";
    let case = Case {
        program: &sqlite,
        arguments: &[":memory:", rows],
        conf: "prof_sample:512",
        user: None,
        input: None,
        least: 30,
    };
    compare(&scratch, &case);
}

#[test]
fn of_redis() {
    let Some(redis) = tools::need("redis-server") else { return };
    let scratch = Scratch::new("debugger");
    // It executes its log when it starts.
    let command = |words: &[&str]| {
        words.iter().fold(format!("*{}\r\n", words.len()), |mut text, word| {
            write!(text, "${}\r\n{word}\r\n", word.len()).expect("text takes all");
            text
        })
    };
    let mut log = String::new();
    for i in 0..20_000 {
        let (key, value) = (format!("{}", i % 700), "x".repeat(i * 37 % 900));
        log += &match i % 5 {
            0 => command(&["SET", &format!("string{key}"), &value]),
            1 => command(&["RPUSH", &format!("list{key}"), &value, "1"]),
            2 => command(&["HSET", &format!("hash{key}"), &format!("field{i}"), &value]),
            3 => command(&["ZADD", &format!("set{key}"), &i.to_string(), &value]),
            _ => command(&["SORT", "list1", "ALPHA", "STORE", "sorted"]),
        };
    }
    fs::write(scratch.join("appendonly.aof"), log).expect("a scratch file");
    let case = Case {
        program: &redis,
        arguments: &["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "yes"],
        conf: "prof_sample:512",
        user: None,
        input: None,
        least: 1000,
    };
    compare(&scratch, &case);
}

#[test]
fn of_postgresql() {
    let (Some(initdb), Some(postgres)) = (tools::need("initdb"), tools::need("postgres")) else { return };
    let user = tools::user_ids("postgres");
    let scratch = Scratch::new("debugger");
    if let Some((uid, gid)) = user {
        std::os::unix::fs::chown(scratch.path(), Some(uid), Some(gid)).expect("root may");
    }
    Program::new(&initdb)
        .args(["-D", "data", "-U", "postgres", "--no-sync", "--locale=C", "-E", "UTF8"])
        .user(user)
        .directory(scratch.path())
        .run()
        .expect_success();
    // A server of one process, which reads a statement a line.
    let mut statements = "create table t(a int, b text)\n".to_owned();
    for i in 0..40 {
        writeln!(statements, "insert into t select i, md5(i::text) from generate_series({i}, 3000) i").expect("text");
        statements +=
            "select count(*), max(length(b)) from (select a, string_agg(b, ',') b from t group by a order by 2) g\n";
        statements += "explain select * from t x join t y using (a) join pg_class c on c.oid = y.a order by x.b\n";
    }
    let input = scratch.join("statements");
    fs::write(&input, statements).expect("a scratch file");
    let case = Case {
        program: &postgres,
        arguments: &["--single", "-D", "data", "postgres"],
        conf: "prof_sample:4096",
        user,
        input: Some(&input),
        least: 1000,
    };
    compare(&scratch, &case);
}

/// A Rust program, built with and without frame pointers.
#[test]
fn of_rust() {
    for pointers in ["yes", "no"] {
        let flag = format!("-Cforce-frame-pointers={pointers}");
        let program: PathBuf = tools::compile("rust/collections.rs", &[&flag]);
        let scratch = Scratch::new("debugger");
        let case = Case {
            program: &program,
            arguments: &["2000"],
            conf: "prof_sample:512",
            user: None,
            input: None,
            least: 1000,
        };
        compare(&scratch, &case);
    }
}
