//! The shared library as a file, and what is installed: its names, how it is linked, and that programs build against it.
//!
//! The lists are `capi/so/exported.txt` and `capi/so/undefined.txt`. A name that comes or goes is a decision: part of the
//! malloc family would mix two heaps, and what is called from outside must be safe inside of malloc.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use heapsift_tests::artifacts::{Scratch, repository, target_directory};
use heapsift_tests::{Program, command, library, tools};

/// What a program of binutils says about the library.
fn ask(program: &str, options: &[&str]) -> Option<String> {
    let program = tools::need(program)?;
    Some(Program::new(program).args(options).arg(library()).run().expect_success().text())
}

/// The dynamic symbols that `nm` names with one more option; weak undefined ones are marked, versions are left out.
fn symbols(option: &str) -> Option<BTreeSet<String>> {
    let text = ask("nm", &["-D", option])?;
    let name = |line: &str| {
        let mut words = line.split_whitespace().rev();
        let name = words.next().expect("a symbol has a name").split('@').next().expect("a first part").to_owned();
        if words.next() == Some("w") { name + " weak" } else { name }
    };
    Some(text.lines().map(name).collect())
}

/// Compares symbols with a committed list, and says what to put in or take out.
#[track_caller]
fn as_listed(found: &BTreeSet<String>, list: &str) {
    let text = fs::read_to_string(repository().join(list)).expect("the list is committed");
    let listed: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let more: Vec<_> = found.difference(&listed).collect();
    let fewer: Vec<_> = listed.difference(found).collect();
    assert!(more.is_empty() && fewer.is_empty(), "{list}: not listed: {more:?}; listed and not there: {fewer:?}");
}

#[test]
fn exported_names_are_those_listed() {
    let Some(found) = symbols("--defined-only") else {
        return;
    };
    as_listed(&found, "capi/so/exported.txt");
}

#[test]
fn names_wanted_from_outside_are_those_listed() {
    let Some(found) = symbols("--undefined-only") else {
        return;
    };
    as_listed(&found, "capi/so/undefined.txt");
}

#[test]
fn a_program_with_a_malloc_of_its_own_reaches_the_rest() {
    let program = tools::compile("c/wrapped.c", &[]);
    Program::new(&program).run().expect_success();
    for conf in ["prof:false", "prof:true,prof_sample:1,prof_final:false", "safety_check:true"] {
        assert_eq!(Program::new(&program).under(conf).run().expect_success().text(), "done\n", "{conf}");
    }
}

#[test]
fn a_library_with_bindings_of_its_own_uses_the_same_malloc() {
    let program = tools::compile("c/deepbind.c", &["-ldl"]);
    let plugin = tools::compile("c/deepbind.c", &["-DPLUGIN", "-shared", "-fPIC"]);
    let via = tools::compile("c/deepbind.c", &["-DVIA", "-shared", "-fPIC", "-ldl", "-Wl,-rpath,$ORIGIN"]);
    let run = |conf: &str| Program::new(&program).arg(&plugin).arg(&via).under(conf).run().expect_success().text();
    let by_name = "by its name: program doesn't (told), library does\n";
    for conf in ["", "deepbind:false", "prof:true,lg_prof_sample:6,prof_final:false"] {
        assert_eq!(run(conf), format!("{by_name}the same malloc\n"), "{conf}");
    }
    assert_eq!(run("deepbind:true"), format!("{by_name}another malloc\n"));
}

/// What `c/settings.c` says under options that ask for threads.
#[track_caller]
fn variables_and_threads(define: &str) -> String {
    let scratch = Scratch::new("settings");
    let conf = "prof:true,prof_interval_ms:3600000,prof_signal:SIGUSR2,background_thread:true";
    let run = Program::new(tools::compile("c/settings.c", &[define])).arg("signal").under(conf);
    run.directory(scratch.path()).run().expect_success().text()
}

#[test]
fn where_malloc_is_the_programs_own_threads_wait_until_the_heap_is_used() {
    assert!(variables_and_threads("-DOURS").ends_with("threads: several, then several\n"));
    assert!(variables_and_threads("-DOWN_MALLOC").ends_with("threads: one, then several\n"));
}

#[test]
fn a_jemalloc_that_the_program_is_linked_with_stays_idle() {
    let found = |define| variables_and_threads(define).lines().take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(found("-DOURS"), ["MALLOC_CONF: none", "OTHER: none", "PATH: found"]);
    assert_eq!(found("-DOWN_MALLOC"), ["MALLOC_CONF: found", "OTHER: none", "PATH: found"]);
    // As with the C library's function: Firefox's getenv waits for a lock that its secure_getenv holds when it goes on to the next.
    assert_eq!(found("-DOWN_GETENV"), found("-DOURS"));
    if !Path::new("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2").exists() {
        return tools::missing("libjemalloc2");
    }
    let linked = tools::compile("c/settings.c", &["-Wl,--no-as-needed", "-l:libjemalloc.so.2"]);
    let scratch = Scratch::new("jemalloc");
    let conf = "abort_conf:true,prof:true,prof_final:true,prof_unwind:fp,background_thread:true,prof_leak:true";
    let ended = Program::new(linked).under(format!("{conf},prof_prefix:{}/d", scratch.path().display())).run();
    let complaints = ended.expect_success().complaints();
    assert!(!complaints.contains("<jemalloc>"), "{complaints}");
    let found: Vec<_> =
        fs::read_dir(scratch.path()).expect("readable").flatten().map(|file| file.file_name()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn all_that_the_header_declares_is_exported() {
    let (Some(found), Some(cc)) = (symbols("--defined-only"), tools::need("gcc")) else {
        return;
    };
    let header = repository().join("include/heapsift/heapsift.h");
    let preprocessed = Program::new(cc).args(["-E", "-x", "c"]).arg(&header).run().expect_success();
    // What follows a line mark of this header, up to the next mark.
    let text = preprocessed.text();
    let mut inside = false;
    let mut declared = String::new();
    for line in text.lines() {
        if let Some(mark) = line.strip_prefix("# ") {
            inside = mark.contains("heapsift.h\"");
        } else if inside {
            declared.push_str(line);
            declared.push('\n');
        }
    }
    let names: BTreeSet<String> = declared
        .split(';')
        .filter(|statement| !statement.contains("typedef") && !statement.contains('{'))
        .filter_map(|statement| {
            let (before, after) = statement.split_once('(')?;
            // A pointer to a function is a variable, with its name in parentheses.
            let before = after.strip_prefix('*').map_or(before, |pointer| pointer.split(')').next().expect("a part"));
            let name = before.trim_end().rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
            (!name.is_empty() && name != "__attribute__").then(|| name.to_owned())
        })
        .collect();
    assert!(names.len() > 10, "{names:?}");
    let absent: Vec<_> = names.difference(&found).collect();
    assert!(absent.is_empty(), "declared and not exported: {absent:?}");
}

#[test]
fn it_is_bound_at_once_and_never_unloaded() {
    let (Some(dynamic), Some(segments)) = (ask("readelf", &["-dW"]), ask("readelf", &["-lW"])) else {
        return;
    };
    let needed: BTreeSet<&str> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .map(|line| line.split(['[', ']']).nth(1).expect("a name in brackets"))
        .collect();
    assert_eq!(needed, BTreeSet::from(["ld-linux-x86-64.so.2", "libc.so.6"]));
    let flags = dynamic.lines().find(|line| line.contains("(FLAGS_1)")).expect("flags");
    assert!(flags.contains("NOW") && flags.contains("NODELETE"), "{flags}");
    // Initial-exec: the thread's state is one load from the thread register, and the loader never allocates for it.
    let flags = dynamic.lines().find(|line| line.contains("(FLAGS)")).expect("flags");
    assert!(flags.contains("STATIC_TLS"), "{flags}");
    assert!(dynamic.contains("[libheapsift.so]"), "no soname");
    assert!(!dynamic.contains("TEXTREL") && !dynamic.contains("(RPATH)") && !dynamic.contains("(RUNPATH)"));
    assert!(segments.contains("GNU_RELRO"));
    for line in segments.lines().filter(|line| line.trim_start().starts_with("LOAD")) {
        assert!(!line.contains("RWE"), "writable and executable: {line}");
    }
    let stack = segments.lines().find(|line| line.contains("GNU_STACK")).expect("a mark for the stack");
    assert!(!stack.contains("RWE"), "{stack}");
}

/// Installs into a scratch directory as `/opt/heapsift`.
fn installed(scratch: &Scratch) {
    Program::new(repository().join("tools/install.sh"))
        .env("CARGO_TARGET_DIR", target_directory())
        .args(["--destdir"])
        .arg(scratch.path())
        .arg("/opt/heapsift")
        .run()
        .expect_success();
}

/// What `pkg-config` answers about the installed library.
fn pkg_config(program: &Path, root: &Path, options: &[&str]) -> Vec<String> {
    Program::new(program)
        .env("PKG_CONFIG_LIBDIR", root.join("opt/heapsift/lib/pkgconfig"))
        .env("PKG_CONFIG_SYSROOT_DIR", root)
        .args(options)
        .arg("heapsift")
        .run()
        .expect_success()
        .text()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

const PROGRAM: &str = r#"
#include <heapsift/heapsift.h>
#include <stdio.h>

int main(void) {
    const char *version;
    size_t size = sizeof version;
    if (mallctl("version", &version, &size, NULL, 0) != 0)
        return 1;
    char *block = mallocx(100, MALLOCX_ALIGN(64) | MALLOCX_ZERO);
    if (block == NULL || block[99] != 0 || sallocx(block, 0) < 100)
        return 1;
    sdallocx(block, 100, MALLOCX_ALIGN(64));
    puts(HEAPSIFT_VERSION);
    return 0;
}
"#;

#[test]
fn programs_build_against_what_is_installed() {
    let (Some(cc), Some(pkg)) = (tools::need("gcc"), tools::need("pkg-config")) else {
        return;
    };
    // Its files, whatever the library under test: they are what the repository's build has made.
    let _ = command();
    let scratch = Scratch::new("install");
    installed(&scratch);
    let root = scratch.path();
    let lib = root.join("opt/heapsift/lib");
    let source = scratch.join("program.c");
    fs::write(&source, PROGRAM).expect("a scratch file");
    let version = pkg_config(&pkg, root, &["--modversion"]).concat();
    let cflags = pkg_config(&pkg, root, &["--cflags"]);
    let shared = pkg_config(&pkg, root, &["--libs"]);
    let archive = format!("{}{}", root.display(), pkg_config(&pkg, root, &["--variable=archive"]).concat());
    let archive = archive.replacen(&format!("{0}{0}", root.display()), &root.display().to_string(), 1);
    for (name, libraries) in [("shared", shared), ("archive", vec![archive])] {
        let binary = scratch.join(name);
        let built = Program::new(&cc).args(["-Wall", "-Wextra", "-Werror", "-o"]).arg(&binary).arg(&source);
        built.args(&cflags).args(&libraries).run().expect_success();
        let said = Program::new(&binary).env("LD_LIBRARY_PATH", &lib).run().expect_success();
        assert_eq!((said.text().trim(), said.complaints().as_str()), (version.as_str(), ""), "{name}");
    }
    let heapsift = Program::new(root.join("opt/heapsift/bin/heapsift")).arg("--version").run().expect_success();
    assert!(heapsift.text().contains(&version), "{}", heapsift.text());
    // The installed command finds the installed library, as it stands in the directory beside its own.
    let out = scratch.join("dumps");
    let ran = Program::new(root.join("opt/heapsift/bin/heapsift"));
    ran.args(["run", "--out"]).arg(&out).args(["--", "/bin/true"]).run().expect_success();
    assert_eq!(fs::read_dir(&out).expect("dumps").count(), 1);
}

#[test]
fn install_refuses_what_it_cannot_write_down() {
    for (words, complaint) in [
        (&["relative/path"][..], "is not an absolute path"),
        (&["/opt/with space"], "such characters do not work in a pkg-config file"),
        (&["--libdir"], "--libdir needs a directory"),
        (&[], "where to?"),
    ] {
        let ended = Program::new(repository().join("tools/install.sh")).args(words).run();
        assert_eq!(ended.status, 2, "{words:?}");
        assert!(ended.complaints().contains(complaint), "{words:?}: {}", ended.complaints());
    }
}
