//! System calls that fail, or end the process: `strace` and what it counts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::{Program, tools};

/// Where `strace` is, if it may trace here; without it the test is skipped, or fails where all tools were promised.
pub fn found() -> Option<std::path::PathBuf> {
    let strace = tools::need("strace")?;
    let traces = Program::new(&strace).args(["-qq", "-o", "/dev/null", "/bin/true"]).run().status == 0;
    if !traces {
        // A container without the right to.
        println!("skipped: strace may not trace here");
    }
    traces.then_some(strace)
}

/// `program`, traced, with the library preloaded under these options; `options` are strace's. With `preload` none, the
/// program uses the C library's malloc.
pub fn traced(strace: &Path, options: &[String], preload: Option<&Path>, conf: &str, program: &Path) -> Program {
    let mut run = Program::new(strace).args(["-f", "-qq"]).args(options);
    if let Some(preload) = preload {
        run = run.args(["-E", &format!("LD_PRELOAD={}", preload.display()), "-E", &format!("MALLOC_CONF={conf}")]);
    }
    run.arg(program)
}

/// For each system call by name: how often it was made before the program's mark (`getppid`), and between it and the next.
pub type Counts = BTreeMap<String, (u32, u32)>;

/// Counts the system calls of a program of one thread that calls `getppid` before and after what is of interest. Without
/// any such call, all count as after the mark.
pub fn counts(
    strace: &Path,
    preload: Option<&Path>,
    conf: &str,
    program: &Path,
    words: &[&str],
    directory: &Path,
) -> Counts {
    let scratch = Scratch::new("strace");
    let log = scratch.join("log");
    let options = ["-o".to_owned(), log.display().to_string()];
    traced(strace, &options, preload, conf, program).args(words).directory(directory).run().expect_success();
    let text = fs::read_to_string(&log).expect("strace has written it");
    let mut counts = Counts::new();
    let mut marks = if text.contains(" getppid(") { 0 } else { 1 };
    for line in text.lines() {
        // PID NAME(ARGUMENTS) = RESULT
        let Some((_, call)) = line.split_once(' ') else { continue };
        let Some((name, _)) = call.trim_start().split_once('(') else { continue };
        if name == "getppid" {
            marks += 1;
        } else if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let count = counts.entry(name.to_owned()).or_default();
            match marks {
                0 => count.0 += 1,
                1 => count.1 += 1,
                _ => {}
            }
        }
    }
    counts
}

/// Options of strace by which the call `name` meets `fault` (`error=ENOSPC`, `signal=SIGKILL`) at times of `when`
/// (strace's syntax: `5`, `5+`, `5+2`), and nothing is written down.
pub fn inject(name: &str, fault: &str, when: &str) -> Vec<String> {
    ["-o", "/dev/null", "-e", &format!("trace={name}"), "-e", &format!("inject={name}:{fault}:when={when}")]
        .map(str::to_owned)
        .to_vec()
}
