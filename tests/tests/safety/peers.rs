//! What Debian's jemalloc does with its dumps where rows D1, D3 and D8 put ours: in the long form, beside it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::safety::{Who, told};
use heapsift_tests::{Program, is_long, tools};

use crate::strace;

const CONF: &str = "prof:true,lg_prof_sample:0,prof_final:false";
const WORDS: [&str; 6] = ["stacks", "2000", "mark", "dump", "target.heap", "mark"];

/// The library and the program, if its dumps are to be looked at here.
fn jemalloc() -> Option<(PathBuf, PathBuf)> {
    let library = tools::jemalloc().filter(|_| is_long())?;
    Some((library, tools::compile("c/steps.c", &[])))
}

/// The list of mappings comes last, and its last line is the kernel's page, or the stack.
fn is_complete(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let (_, maps) = text.split_once("MAPPED_LIBRARIES:\n").unwrap_or_default();
    maps.ends_with('\n') && (maps.contains("[vsyscall]") || maps.contains("[stack]"))
}

/// Killed at each write of a dump.
pub fn killed(strace: &Path) {
    let Some((library, steps)) = jemalloc() else { return };
    let scratch = Scratch::new("d1-jemalloc");
    let counts = strace::counts(strace, Some(&library), CONF, &steps, &WORDS, scratch.path());
    let (before, within) = counts["write"];
    assert!(is_complete(&scratch.join("target.heap")), "its dump looks otherwise than expected");
    let mut torn = 0;
    // The first and the last are lines of the program's own.
    for k in before + 2..before + within {
        let options = strace::inject("write", "signal=SIGKILL", &k.to_string());
        let run = strace::traced(strace, &options, Some(&library), CONF, &steps).args(WORDS);
        run.directory(scratch.path()).run();
        torn += u32::from(!is_complete(&scratch.join("target.heap")));
    }
    let text = format!("killed at each of {} writes: {torn} torn files under the final name", within - 2);
    told("D1", "", Who::Jemalloc, &text, torn == 0);
}

/// Below a limit on the size of files.
pub fn limited() {
    let Some((library, steps)) = jemalloc() else { return };
    let scratch = Scratch::new("d3-jemalloc");
    let words = ["stacks", "2000", "limit", "8192", "dump", "target.heap", "mark"];
    let run = Program::new(&steps).args(words).directory(scratch.path());
    let ended = run.under(CONF).library(&library).run();
    let text = match ended.status {
        153 => "SIGXFSZ ends the program".to_owned(),
        status => format!("status {status}"),
    };
    told("D3", "", Who::Jemalloc, &text, ended.status == 0);
}

/// Over a symbolic link.
pub fn linked() {
    let Some((library, steps)) = jemalloc() else { return };
    let scratch = Scratch::new("d8-jemalloc");
    fs::write(scratch.join("victim"), "precious").expect("fresh");
    symlink("victim", scratch.join("target.heap")).expect("fresh");
    let run = Program::new(&steps).args(WORDS).directory(scratch.path());
    run.under(CONF).library(&library).run().expect_success();
    let is_untouched = fs::read(scratch.join("victim")).expect("there") == b"precious";
    let text = if is_untouched { "the victim untouched" } else { "follows a link and overwrites the victim" };
    told("D8", "", Who::Jemalloc, text, is_untouched);
}
