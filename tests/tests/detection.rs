//! Blocks used wrongly: what is noticed when, in what words, and that the process ends by the right signal.

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::safety::holds;
use heapsift_tests::{Ended, Program, redis, tools};

/// How a process of `c/wrong.c` went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noticed {
    /// The wrong call did not return.
    AtOnce,
    /// It returned, and the error came to light when the block left the thread's cache.
    Later,
    /// Not at all.
    Never,
}
use Noticed::{AtOnce, Later, Never};

const ABORTED: i32 = 128 + libc::SIGABRT;

fn wrong(kind: &str, size: usize, conf: &str) -> Ended {
    let program = tools::compile("c/wrong.c", &["-ldl"]);
    Program::new(&program).arg(kind).arg(size.to_string()).under(conf).run()
}

/// Runs one kind of error; what is noticed is said in one line, of which this is a part.
#[track_caller]
fn expect(kind: &str, size: usize, conf: &str, noticed: Noticed, said: &str) {
    let ended = wrong(kind, size, conf);
    let complaints = ended.complaints();
    let context = format!("{kind}, {size} bytes, {conf:?}: status {}, {complaints:?}", ended.status);
    assert_eq!(ended.text() == "went on\n", noticed != AtOnce, "{context}");
    if noticed == Never {
        assert_eq!((ended.status, complaints.as_str()), (0, ""), "{context}");
        return;
    }
    assert_eq!(ended.status, ABORTED, "{context}");
    assert!(complaints.starts_with("<heapsift>: ") && complaints.contains(said), "{context}");
    assert_eq!(complaints.lines().count(), 1, "{context}");
}

const SMALL: usize = 64;
/// The class of 64 bytes, as lines name it.
const A_SMALL: &str = "a block of 64 bytes";

#[test]
fn what_is_right_is_not_complained_of() {
    for size in [8, SMALL, 4000, 16_000, 64 << 10, 1 << 20] {
        for conf in ["", "tcache:false", "prof:true,lg_prof_sample:6", "junk:true"] {
            expect("right", size, conf, Never, "");
        }
    }
}

#[test]
fn what_was_freed_last_is_not_taken_again() {
    for conf in ["", "tcache:false", "prof:true,lg_prof_sample:6", "junk:free"] {
        expect("twice", SMALL, conf, AtOnce, "double free of 0x");
        expect("twice", SMALL, conf, AtOnce, A_SMALL);
    }
}

#[test]
fn a_programs_own_way_out_gets_the_line_that_would_be_written() {
    let text = wrong("twice-with-a-hook", SMALL, "tcache:false").expect_success().text();
    let lines: Vec<&str> = text.lines().collect();
    let [line, "went on"] = lines[..] else { panic!("{text}") };
    assert!(line.starts_with("<heapsift>: double free of 0x") && line.ends_with("that is free already"), "{text}");
}

#[test]
fn a_large_block_is_freed_once() {
    let kinds = ["twice", "twice-with-another-between", "twice-elsewhere", "elsewhere-twice", "twice-after-flush"];
    for kind in kinds {
        for size in [16 << 10, 64 << 10, 256 << 10, 1 << 20] {
            if kind == "twice-elsewhere" && size > 256 << 10 {
                // Not cached, and so perhaps in use again: by what a new thread needs.
                continue;
            }
            for conf in ["", "prof:true,lg_prof_sample:12"] {
                // Those that are not cached lie between others, and nobody has asked for their pages meanwhile.
                expect(kind, size, conf, AtOnce, "free of 0x");
            }
        }
    }
    expect("twice-with-another-between", 64 << 10, "", AtOnce, "a block of 65536 bytes that is free already");
    expect("twice-by-realloc", 64 << 10, "", AtOnce, "realloc of 0x");
    expect("size-of-free", 64 << 10, "", AtOnce, "malloc_usable_size of 0x");
}

#[test]
fn a_small_block_that_is_freed_twice_is_noticed_at_the_latest_when_the_cache_is_emptied() {
    for kind in ["twice-with-another-between", "twice-after-flush", "elsewhere-twice", "twice-in-a-row"] {
        expect(kind, SMALL, "", Later, "double free of 0x");
    }
    expect("twice-with-another-between", SMALL, "tcache:false", AtOnce, A_SMALL);
    expect("twice-after-flush", SMALL, "tcache:false", AtOnce, A_SMALL);
}

#[test]
fn what_is_no_block_of_the_heap_is_not_taken() {
    for kind in ["stack", "global", "mapping", "small-number"] {
        for conf in ["", "tcache:false", "prof:true"] {
            expect(kind, SMALL, conf, AtOnce, "which is not a block in use of this heap");
        }
    }
}

/// The fast path reads the page map's byte for the address, and there is none for what no program can have: the call itself
/// faults or, where something else is mapped in that place, the address is found out when it leaves the cache.
#[test]
fn an_address_that_no_program_can_have_ends_the_process() {
    for kind in ["beyond", "kernel"] {
        let ended = wrong(kind, SMALL, "");
        let is_told =
            ended.status == ABORTED && ended.complaints().contains("which is not a block in use of this heap");
        assert!(
            is_told || ended.status == 128 + libc::SIGSEGV,
            "{kind}: status {}, {}",
            ended.status,
            ended.complaints()
        );
    }
}

#[test]
fn an_address_inside_of_a_block_is_not_taken() {
    // An unaligned one is noticed before the next request of that size gets it, others when the cache is emptied.
    expect("unaligned", SMALL, "", Later, "free of 0x");
    expect("inside", SMALL, "", Later, "which is inside of a block of 64 bytes at 0x");
    expect("unaligned", SMALL, "tcache:false", AtOnce, "which is inside of a block of 64 bytes at 0x");
    for size in [16 << 10, 64 << 10, 1 << 20] {
        for kind in ["unaligned", "inside"] {
            expect(kind, size, "", AtOnce, &format!("which is inside of a block of {size} bytes at 0x"));
        }
        expect("pages-inside", size, "", AtOnce, "which is not a block in use of this heap");
        expect("inside-by-realloc", size, "", AtOnce, "realloc of 0x");
    }
    holds("V2", "all noticed when they must be");
}

/// Everything is checked; then no error is noticed late but a write, and that before the memory is used again.
const CHECKED: &str = "safety_check:true";

#[test]
fn the_checked_mode_takes_nothing_wrong() {
    for size in [8, SMALL, 4000, 16_000, 64 << 10, 1 << 20] {
        for conf in [CHECKED, "safety_check:true,prof:true,lg_prof_sample:6", "safety_check:true,junk:true"] {
            expect("right", size, conf, Never, "");
        }
    }
    for conf in [CHECKED, "safety_check:true,prof:true,lg_prof_sample:6"] {
        let twice = ["twice", "twice-with-another-between", "twice-after-flush", "twice-elsewhere", "elsewhere-twice"];
        for kind in twice {
            expect(kind, SMALL, conf, AtOnce, "double free of 0x");
            expect(kind, 3000, conf, AtOnce, "a block of 3072 bytes that is free already");
            if kind != "twice-elsewhere" {
                expect(kind, 64 << 10, conf, AtOnce, "free of 0x");
            }
        }
        expect("twice-by-realloc", SMALL, conf, AtOnce, "realloc of 0x");
        expect("size-of-free", SMALL, conf, AtOnce, "malloc_usable_size of 0x");
        for kind in ["stack", "global", "mapping", "small-number"] {
            expect(kind, SMALL, conf, AtOnce, "which is not a block in use of this heap");
        }
        for size in [SMALL, 3072] {
            expect("write-after-free", size, conf, Later, "write after free at 0x");
            expect("write-after-free", size, conf, Later, &format!("in a free block of {size} bytes at 0x"));
        }
    }
    for kind in ["beyond", "kernel"] {
        expect(kind, SMALL, CHECKED, AtOnce, "which is not a block in use of this heap");
    }
    for kind in ["unaligned", "inside"] {
        expect(kind, SMALL, CHECKED, AtOnce, "which is inside of a block of 64 bytes at 0x");
    }
    expect("inside-by-realloc", SMALL, CHECKED, AtOnce, "realloc of 0x");
    holds("V1", "all noticed when they must be");
}

#[test]
fn the_checked_mode_compares_sizes() {
    expect("sized", SMALL, CHECKED, AtOnce, "said to be of size 192 and alignment 1, but it is a block of 64 bytes");
    expect("sized", 64 << 10, CHECKED, AtOnce, "but it is a block of 65536 bytes");
    expect(
        "sized-and-aligned",
        SMALL,
        CHECKED,
        AtOnce,
        "said to be of size 64 and alignment 128, but it is a block of 64",
    );
    expect("sized-by-flags", SMALL, CHECKED, AtOnce, "said to be of size 192 and alignment 1");
    for kind in ["sized", "sized-and-aligned", "sized-by-flags"] {
        expect(kind, SMALL, "", Never, "");
    }
    holds("V4", "noticed at once");
}

#[test]
fn the_checked_mode_says_from_where_a_sampled_block_came() {
    let ended = wrong("inside", SMALL, "safety_check:true,prof:true,lg_prof_sample:0");
    let complaints = ended.complaints();
    assert_eq!(ended.status, ABORTED, "{complaints}");
    let mut lines = complaints.lines();
    assert!(lines.next().is_some_and(|line| line.contains("which is inside of a block of 64 bytes")), "{complaints}");
    assert_eq!(lines.next(), Some("<heapsift>:   allocated at"), "{complaints}");
    assert!(lines.next().is_some_and(|line| line.contains("/wrong-ldl+0x")), "{complaints}");
}

/// The signal of a fault.
const FAULTED: i32 = 128 + libc::SIGSEGV;

fn guarded(kind: &str, size: usize, conf: &str) -> Ended {
    let program = tools::compile("c/guarded.c", &["-ldl"]);
    Program::new(&program).arg(kind).arg(size.to_string()).under(conf).run()
}

/// The functions of the program in a part of a report, by `addr2line`: the lines behind the one that ends in `heading`.
fn functions(report: &str, heading: &str) -> Vec<String> {
    let mut lines = report.lines().skip_while(|line| !line.contains(heading)).skip(1);
    let frames = lines.by_ref().take_while(|line| line.starts_with("<heapsift>:     0x"));
    let places = frames.filter_map(|line| line.rsplit_once(' ')?.1.rsplit_once('+'));
    places
        .filter(|(module, _)| module.contains("guarded"))
        .map(|(module, offset)| {
            let text = Program::new("addr2line").args(["-f", "-e", module, offset]).run().expect_success().text();
            text.lines().next().expect("a name").to_owned()
        })
        .collect()
}

/// Runs one kind of error with all small blocks guarded. The first line of the report holds `said`; the parts of the report
/// begin with these functions of the program.
#[track_caller]
fn expect_report(kind: &str, size: usize, status: i32, said: &str, parts: &[(&str, &str)]) {
    for conf in
        ["prof_guard:1", "prof_guard:1,prof:true,lg_prof_sample:0,prof_final:false", "prof_guard:1,safety_check:true"]
    {
        let ended = guarded(kind, size, conf);
        let complaints = ended.complaints();
        assert_eq!(ended.status, status, "{kind}, {conf}: {complaints}");
        let first = complaints.lines().next().unwrap_or_default();
        assert!(first.starts_with("<heapsift>: ") && first.contains(said), "{kind}, {conf}: {complaints}");
        for (heading, function) in parts {
            let found = functions(&complaints, heading);
            assert_eq!(found.first().map(String::as_str), Some(*function), "{kind}, {conf}, {heading}: {complaints}");
            assert!(found.iter().any(|name| name == "main" || name == "give_elsewhere"), "{kind}, {conf}: {found:?}");
        }
    }
}

const ALLOCATED: (&str, &str) = ("allocated by thread", "take_block");
const FREED: (&str, &str) = ("freed by thread", "give_block");

#[test]
fn an_access_after_the_free_of_a_guarded_block_faults() {
    let (written, read) = (("accessed by thread", "put_byte"), ("accessed by thread", "look_at_byte"));
    for size in [8, 64, 100, 1000, 4096] {
        let said = format!(", 5 bytes into a block of {size} bytes at 0x");
        expect_report("write-after-free", size, FAULTED, &said, &[written, FREED, ALLOCATED]);
        expect_report("read-after-free", size, FAULTED, &said, &[read, FREED, ALLOCATED]);
    }
    expect_report("write-after-free", 64, FAULTED, "use after free (write) at 0x", &[]);
    expect_report("read-after-free", 64, FAULTED, "use after free (read) at 0x", &[]);
    expect_report("read-after-free-elsewhere", 64, FAULTED, "use after free (read)", &[read, FREED, ALLOCATED]);
    // Places are used again, the one freed longest ago first.
    expect_report("read-after-many-frees", 64, FAULTED, "use after free (read)", &[read, FREED, ALLOCATED]);
}

#[test]
fn an_access_beyond_a_guarded_block_is_noticed() {
    let written = ("accessed by thread", "put_byte");
    for size in [64, 1008, 4096] {
        let said = "overflow (write) at 0x".to_owned();
        expect_report("overflow", size, FAULTED, &said, &[written, ALLOCATED]);
        let said = format!(", 0 bytes behind a block of {size} bytes at 0x");
        expect_report("overflow", size, FAULTED, &said, &[]);
    }
    expect_report("far-underflow", 4096, FAULTED, "underflow (write) at 0x", &[written, ALLOCATED]);
    // Behind 100 bytes lie 12 more before the end of the page: the free looks at them.
    expect_report(
        "overflow-within-alignment",
        100,
        ABORTED,
        "write behind a block of 100 bytes at 0x",
        &[FREED, ALLOCATED],
    );
    expect_report("underflow", 64, ABORTED, "write before a block of 64 bytes at 0x", &[FREED, ALLOCATED]);
    holds("V3", "all noticed, with their stacks");
}

#[test]
fn a_wrong_free_of_a_guarded_block_says_what_was_before() {
    expect_report("twice", 64, ABORTED, "double free of 0x", &[FREED, ALLOCATED]);
    expect_report("inside", 64, ABORTED, "which is inside of a block of 64 bytes at 0x", &[ALLOCATED]);
}

#[test]
fn other_faults_are_the_program_s() {
    for kind in ["ordinary", "sent"] {
        let ended = guarded(kind, 64, "prof_guard:1");
        assert_eq!((ended.status, ended.complaints().as_str()), (FAULTED, ""), "{kind}");
        let program = tools::compile("c/guarded.c", &["-ldl"]);
        let ended = Program::new(&program).args([kind, "64"]).env("WITH_HANDLER", "1").under("prof_guard:1").run();
        assert_eq!((ended.status, ended.text().as_str()), (7, "the program's own\n"), "{kind}: {}", ended.complaints());
    }
}

#[test]
fn guarded_blocks_are_blocks() {
    let confs = [
        "prof_guard:1",
        "prof_guard:300",
        "prof_guard:1,prof:true,lg_prof_sample:0,prof_final:false",
        "prof_guard:0",
        CHECKED,
    ];
    for conf in confs {
        let ended = guarded("works", 64, conf);
        assert_eq!((ended.status, ended.complaints().as_str()), (0, ""), "{conf}");
    }
}

#[test]
fn guarded_blocks_are_blocks_in_locked_memory() {
    let program = tools::compile("c/guarded.c", &["-ldl"]);
    let locked = |kind: &str| Program::new(&program).args([kind, "64", "locked"]).under("prof_guard:1").run();
    let ended = locked("works");
    if ended.status == 77 {
        eprintln!("skipped: memory can't be locked");
        return;
    }
    assert_eq!((ended.status, ended.complaints().as_str()), (0, ""));
    // What is not given up is closed all the same.
    let ended = locked("read-after-free");
    let complaints = ended.complaints();
    assert_eq!(ended.status, FAULTED, "{complaints}");
    assert!(complaints.contains("use after free (read) at 0x"), "{complaints}");
}

/// What a program says, plain and in these ways.
#[track_caller]
fn same(run: impl Fn(Option<&str>) -> String) {
    let plain = run(None);
    for conf in [CHECKED, "prof_guard:65536", "safety_check:true,prof_guard:4096,prof:true,prof_final:false"] {
        assert_eq!(run(Some(conf)), plain, "{conf}");
    }
}

#[test]
fn python_computes_the_same_when_it_is_watched() {
    let Some(python) = tools::need("python3") else { return };
    let script = r#"
import hashlib, json, random, re, subprocess, sys, threading
random.seed(7)
def tree(depth):
    return {str(i): tree(depth - 1) for i in range(4)} if depth else [random.random() for _ in range(4)]
texts = []
def work(number):
    value = json.loads(json.dumps(made[number]))
    texts.append(hashlib.sha256(re.sub('1+', 'x', json.dumps(value, sort_keys=True)).encode()).hexdigest())
made = [tree(4) for _ in range(4)]
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(texts))
print(subprocess.run([sys.executable, '-c', 'print(sum(len(str(i)) for i in range(10000)))'], capture_output=True, text=True).stdout)
"#;
    same(|conf| {
        let program = Program::new(&python).args(["-c", script]).env("PYTHONMALLOC", "malloc");
        let ended = program.maybe_under(conf).run().expect_success();
        assert_eq!(ended.complaints(), "");
        ended.text()
    });
}

#[test]
fn redis_serves_the_same_when_it_is_watched() {
    let Some(cli) = tools::need("redis-cli") else { return };
    if tools::need("redis-server").is_none() {
        return;
    }
    let mut commands = String::new();
    for n in 0..6000u32 {
        let mix = n.wrapping_mul(2_654_435_761);
        let key = mix % 1000;
        commands.push_str(&match mix >> 29 {
            0..4 => format!("SET s{key} {}\n", "v".repeat((mix >> 8) as usize % 400)),
            4 => format!("RPUSH l{} {mix}\n", key % 50),
            5 => format!("HSET h{} f{} {mix}\n", key % 50, mix % 91),
            6 => format!("APPEND s{key} {mix}\n"),
            _ => format!("DEL s{key}\n"),
        });
    }
    same(|conf| {
        let scratch = Scratch::new("watched-redis");
        std::fs::write(scratch.join("commands"), &commands).expect("a scratch file");
        let (server, socket) =
            redis::serve(scratch.path(), |server| server.maybe_under(conf)).expect("the server is installed");
        let ask = |program: Program| program.run().expect_success().text();
        let client = || Program::new(&cli).arg("-s").arg(&socket);
        let answers = ask(client().input(&scratch.join("commands")));
        let digest = ask(client().args(["DEBUG", "DIGEST"]));
        let log = server.log();
        assert_eq!(server.stop(libc::SIGTERM), 0, "{log}");
        answers + &digest
    });
}
