//! Rows O1 to O7: a system that refuses memory, or is asked for all of it at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::final_dump;
use heapsift_tests::safety::{Who, told};
use heapsift_tests::{Program, by_length, tools};

use crate::strace;

fn faults() -> PathBuf {
    tools::compile("c/faults.c", &[])
}

/// How often the busiest thread makes a call, and at which the allocator makes its first: what comes before is the loader's.
fn first_and_last(strace: &Path, who: Who, conf: &str, words: &[&str], call: &str) -> (u32, u32) {
    let scratch = Scratch::new("faults");
    let log = scratch.join("log");
    let options = ["-o".to_owned(), log.display().to_string(), "-e".to_owned(), format!("trace={call}")];
    strace::traced(strace, &options, who.file().as_deref(), conf, &faults()).args(words).run().expect_success();
    let text = fs::read_to_string(&log).expect("strace has written it");
    // None at all: the others need not make such calls.
    let main = text.split_whitespace().next().unwrap_or("-");
    let of_main: Vec<&str> = text.lines().filter(|line| line.starts_with(main)).collect();
    // The loader maps files, and takes one page of its own now and then; the allocators reserve. It makes memory read-only,
    // and ends the process where it can't; ours does so with the page map, which is 32 GiB.
    let ours = match call {
        "mmap" => "MAP_NORESERVE",
        "mprotect" if who == Who::Heapsift => ", 34359738368, PROT_READ)",
        "mprotect" => "PROT_NONE",
        _ => "",
    };
    let after_files = || of_main.iter().rposition(|line| !line.contains("MAP_ANONYMOUS")).map_or(0, |at| at + 1);
    let first = of_main.iter().position(|line| line.contains(ours)).unwrap_or_else(after_files);
    (first as u32 + 1, of_main.len() as u32)
}

/// Has a call fail at its k-th time, for each k, once and from there on; what went wrong, as text.
fn each_k(who: Who, conf: &str, call: &str, errors: &[&str]) -> Option<(u32, Vec<String>)> {
    let strace = strace::found()?;
    let words = ["mix", "2", by_length("1500", "4000")];
    let (first, last) = first_and_last(&strace, who, conf, &words, call);
    // Beyond the last nothing fails; some of the threads make a few more.
    let last = (last + 5).min(300).max(first + 20);
    let (mut tried, mut wrong) = (0, Vec::new());
    for k in first..=last {
        for (at, error) in errors.iter().enumerate() {
            for from_there_on in [false, true] {
                // All of the first ones, and of the others one way in turn, in the short form.
                let turn = (k as usize + at) % (2 * errors.len()) == usize::from(from_there_on);
                if by_length(k > first + 6 && (k % 12 != 0 || !turn), false) {
                    continue;
                }
                let when = format!("{k}{}", if from_there_on { "+" } else { "" });
                let options = strace::inject(call, &format!("error={error}"), &when);
                let run = strace::traced(&strace, &options, who.file().as_deref(), conf, &faults()).args(words);
                tried += 1;
                match run.within(Duration::from_secs(60)).run_or_give_up() {
                    Ok(ended) if ended.status == 0 => {}
                    Ok(ended) => {
                        wrong.push(format!("status {} at {when} {error}: {}", ended.status, ended.complaints().trim()))
                    }
                    Err(_) => wrong.push(format!("hangs at {when} {error}")),
                }
            }
        }
    }
    Some((tried, wrong))
}

#[track_caller]
fn none_is_fatal(row: &str, part: &str, conf: &str, call: &str, errors: &[&str]) {
    for who in Who::looked_at() {
        if who != Who::Heapsift && conf.contains("prof:true") {
            continue;
        }
        let Some((tried, wrong)) = each_k(who, conf, call, errors) else { return };
        let mut text = format!("{tried} faults: {} crashes or hangs", wrong.len());
        wrong.iter().take(3).for_each(|what| text.push_str(&format!("; {what}")));
        told(row, part, who, &text, wrong.is_empty());
    }
}

fn profiled(scratch: &Scratch) -> String {
    final_dump(scratch.path(), "lg_prof_sample:10")
}

#[test]
fn o1_a_mapping_is_refused() {
    none_is_fatal("O1", "profiling off", "prof:false", "mmap", &["ENOMEM"]);
}

#[test]
fn o2_a_mapping_is_refused_to_a_profiled_program() {
    let scratch = Scratch::new("o2");
    none_is_fatal("O2", "profiling on", &profiled(&scratch), "mmap", &["ENOMEM"]);
}

/// Options under which pages and address space are given back at once, and some extents have guard pages.
const GIVING: &str = "dirty_decay_ms:0,retain:false,san_guard_small:8,san_guard_large:8";

#[test]
fn o4_unmapping_is_refused() {
    none_is_fatal("O4", "munmap", GIVING, "munmap", &["ENOMEM", "EAGAIN"]);
}

#[test]
fn o4_advice_is_refused() {
    none_is_fatal("O4", "madvise", "dirty_decay_ms:0", "madvise", &["ENOMEM", "EAGAIN"]);
}

#[test]
fn o4_protection_is_refused() {
    none_is_fatal("O4", "mprotect", GIVING, "mprotect", &["ENOMEM", "EAGAIN"]);
    let scratch = Scratch::new("o4");
    none_is_fatal("O4", "mprotect, profiling on", &format!("{},{GIVING}", profiled(&scratch)), "mprotect", &["ENOMEM"]);
}

#[test]
fn o4_moving_is_refused() {
    // One that there are too many mappings, ones that the pages can't be moved, and one that no pages can.
    none_is_fatal("O4", "mremap", "prof:false", "mremap", &["ENOMEM", "EFAULT", "EINVAL"]);
}

#[test]
fn o3_a_limit_on_address_space() {
    let limits = [20, 30, 40, 60, 80, 120, 200, 300, 400, 600];
    for who in Who::looked_at() {
        let scratch = Scratch::new("o3");
        let on = profiled(&scratch);
        let confs = if who == Who::Heapsift { vec!["prof:false", &on] } else { vec![""] };
        let (mut tried, mut wrong) = (0, Vec::new());
        for conf in confs {
            for mib in limits {
                for words in [&["fill", "4"][..], &["mix", "4", "3000"]] {
                    let script = "ulimit -v $1; preload=$2 MALLOC_CONF=$3; shift 3; export MALLOC_CONF; \
                                  [ -z \"$preload\" ] || export LD_PRELOAD=$preload; exec \"$@\"";
                    let preload = who.file().map(|path| path.display().to_string()).unwrap_or_default();
                    let run =
                        Program::new("/bin/sh").args(["-c", script, "sh", &(mib * 1024).to_string(), &preload, conf]);
                    tried += 1;
                    match run.arg(faults()).args(words).within(Duration::from_secs(60)).run_or_give_up() {
                        Ok(ended) if ended.status == 0 && ended.text().contains("refused ") => {}
                        Ok(ended) => {
                            let what = ended.complaints().lines().next().unwrap_or_default().to_owned();
                            wrong.push(format!("status {} at {mib} MiB: {what}", ended.status));
                        }
                        Err(_) => wrong.push(format!("hangs at {mib} MiB")),
                    }
                }
            }
        }
        let mut text = format!("{tried} runs: {} crashes or hangs", wrong.len());
        wrong.iter().take(3).for_each(|what| text.push_str(&format!("; {what}")));
        told("O3", "", who, &text, wrong.is_empty());
    }
}

#[test]
fn o5_mappings_stay_few() {
    let program = tools::compile("c/mappings.c", &[]);
    let most: usize = fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65_530);
    let ops = by_length("1000000", "10000000");
    for (part, conf) in [
        ("default", "prof:true,prof_final:false"),
        ("address space given back", "retain:false"),
        ("guard pages around every 64th extent", "san_guard_small:64,san_guard_large:64"),
    ] {
        for who in Who::looked_at() {
            if who != Who::Heapsift && part != "default" {
                continue;
            }
            let run = Program::new(&program).arg(ops).within(Duration::from_secs(300));
            let text = who.dress(run, conf).run().expect_success().text();
            let mappings: usize = text.trim().parse().expect("a number of mappings");
            told(
                "O5",
                part,
                who,
                &format!("{mappings} of {most} mappings after {ops} operations"),
                mappings * 10 <= most,
            );
        }
    }
}

#[test]
fn o6_strict_accounting_of_memory() {
    // The setting is the whole machine's: it is changed only where that was allowed, as in a guest that is ours alone.
    let file = Path::new("/proc/sys/vm/overcommit_memory");
    let before = fs::read_to_string(file).unwrap_or_default();
    let may_set = std::env::var_os("HEAPSIFT_MAY_SET_OVERCOMMIT").is_some_and(|value| value == "1");
    if before.trim() != "2" && !(may_set && fs::write(file, "2").is_ok()) {
        let why = "not run: vm.overcommit_memory is not 2 here, and it is the whole machine's; \
                   HEAPSIFT_MAY_SET_OVERCOMMIT=1 lets the test set it for a moment";
        return told("O6", "overcommit_memory=2", Who::Heapsift, why, true);
    }
    let outcomes = ["fill 4", "mix 4 3000"].map(|words| {
        let run = Program::new(faults()).args(words.split(' ')).within(Duration::from_secs(60));
        run.under("prof:true,prof_final:false").run_or_give_up()
    });
    if may_set {
        fs::write(file, before).expect("it could be written before");
    }
    for outcome in outcomes {
        outcome.expect("it ends").expect_success();
    }
    told("O6", "overcommit_memory=2", Who::Heapsift, "requests served or refused with ENOMEM", true);
}

/// A process that is killed because its group has no more memory: nothing but the process is lost.
#[test]
fn o6_the_end_of_a_memory_group() {
    let Some(group) = heapsift_tests::group::Group::new(48 << 20) else {
        return told("O6", "memory.max", Who::Heapsift, "not run: no memory cgroup can be made here", true);
    };
    let scratch = Scratch::new("o6");
    let conf = format!("prof:true,prof_final:false,prof_prefix:{}/d", scratch.path().display());
    let script = format!("echo $$ > {} && exec \"$@\"", group.processes().display());
    let run = Program::new("sh").args(["-c", &script, "sh"]).arg(tools::compile("c/steps.c", &[]));
    let ended = run.args("alloc 16 dumps 1 alloc 200 dumps 1".split(' ')).under(&conf).run();
    assert_eq!(ended.status, 128 + libc::SIGKILL, "{}", ended.complaints());
    let found = heapsift_tests::dump::dumps(scratch.path(), 'm');
    assert_eq!(found.len(), 1);
    heapsift_tests::Dump::read(&found[0]);
    told("O6", "memory.max", Who::Heapsift, "killed by the kernel; the dump before that is whole", true);
}

/// Whatever has only been reserved must not become memory by that.
#[test]
fn o7_all_memory_is_locked() {
    let program = tools::compile("c/locked.c", &["-pthread"]);
    let run = |who: Who, conf: &str| {
        let ended = who.dress(Program::new(&program).within(Duration::from_secs(120)), conf).run();
        if ended.status == 77 {
            return None;
        }
        let text = ended.expect_success().text();
        let mib: Vec<_> = text.split_whitespace().map(|word| word.parse::<usize>().expect("KiB") >> 10).collect();
        Some((mib[0], mib[1]))
    };
    let Some((glibc, _)) = run(Who::Glibc, "") else {
        return told("O7", "", Who::Heapsift, "not run: the kernel doesn't let this user lock memory", true);
    };
    let scratch = Scratch::new("o7");
    for (part, conf, more) in [("profiling off", "prof:false", 16), ("profiling on", &*profiled(&scratch), 128)] {
        for who in Who::looked_at().filter(|who| *who == Who::Heapsift || part == "profiling off") {
            let (locked, end) = run(who, conf).expect("as above");
            let text = format!("{locked} MiB resident once all is locked, {end} at the end");
            told("O7", part, who, &text, locked <= glibc + more);
        }
    }
}
