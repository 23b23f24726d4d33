//! Names out of debug files that servers send: by HTTP and HTTPS, kept, checked, and never asked of a server for nothing.

use std::fs;
use std::path::{Path, PathBuf};

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, final_dump, only};
use heapsift_tests::{Dump, Program, command, tools};

fn strip(from: &Path, to: &Path, debug: &Path) {
    for (option, out) in [("--only-keep-debug", debug), ("--strip-all", to)] {
        Program::new("objcopy").arg(option).arg(from).arg(out).run().expect_success();
    }
}

/// A dump of a stripped program, whose debug file is put in the server's directory by its build id.
fn dump_of_stripped(scratch: &Scratch, served: &Path) -> PathBuf {
    let program = scratch.join("stripped");
    let debug = scratch.join("program.debug");
    strip(&tools::compile("c/sites.c", &[]), &program, &debug);
    Program::new(&program).under(final_dump(scratch.path(), "prof_seed:5")).run().expect_success();
    let dump = only(scratch.path(), 'f');
    let read = Dump::read(&dump);
    let of_program = |file: &str| file == program.display().to_string();
    let mapping = read.profile.mapping.iter().find(|mapping| of_program(read.text(mapping.filename)));
    let id = read.text(mapping.expect("the program's").build_id).to_owned();
    fs::copy(&debug, served.join(format!("{id}.debug"))).expect("a scratch file");
    dump
}

#[test]
fn debug_files_come_from_servers() {
    let Some(go) = tools::need("go") else { return };
    if tools::need("objcopy").is_none() {
        return;
    }
    let scratch = Scratch::new("debuginfod");
    let served = scratch.join("served");
    fs::create_dir(&served).expect("a fresh directory");
    let dump = dump_of_stripped(&scratch, &served);
    let binary = scratch.join("server");
    tools::build_go(&go, "debuginfod.go", &binary);
    let mut server = Program::new(&binary).arg(&served).arg(&binary).serve();
    let log = server.log_path();
    server.wait_until(|| fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 4 && text.ends_with('\n')));
    let addresses = fs::read_to_string(&log).expect("its output");
    let [plain, safe, confused, rude] = addresses.lines().collect::<Vec<_>>()[..] else { panic!("{addresses}") };

    let authority = served.join("authority.pem");
    let named = scratch.join("named.pb.gz");
    // What the command said, and whether the sites have their names and lines.
    let symbolize = |cache: &str, servers: &[&str], authority: Option<&Path>| {
        let mut program = Program::new(command()).arg("symbolize").arg(&dump).arg("-o").arg(&named);
        for server in servers {
            program = program.args(["--debuginfod", server]);
        }
        program = program
            .env("XDG_CACHE_HOME", scratch.join(cache))
            .env("SSL_CERT_FILE", authority.unwrap_or(Path::new("/nowhere")));
        let ended = program.run().expect_success();
        let dump = Dump::read(&named);
        let has_names = dump.of_function(Column::InuseSpace, "site_300k") > 0;
        let sources = dump.profile.function.iter().filter(|f| dump.text(f.filename).ends_with("sites.c")).count();
        assert_eq!(has_names, sources > 0, "{}", ended.complaints());
        (ended.complaints(), has_names)
    };

    let (said, has_names) = symbolize("none", &[], None);
    assert!(!has_names, "{said}");
    let (said, has_names) = symbolize("plain", &[plain], None);
    assert!(has_names, "{said}");
    let (said, has_names) = symbolize("safe", &[safe], Some(&authority));
    assert!(has_names, "{said}");
    // Of whom nobody knows is not believed.
    let (said, has_names) = symbolize("unknown", &[safe], None);
    assert!(!has_names && said.contains(safe), "{said}");
    // The next one is asked; what a server sends for another build id is not believed, nor kept.
    let (said, has_names) = symbolize("second", &[rude, plain], None);
    assert!(has_names, "{said}");
    let calls = || fs::read(served.join("calls")).map_or(0, |calls| calls.len());
    let before = calls();
    // The C library has no debug information either.
    let (said, has_names) = symbolize("rude", &[rude], None);
    assert!(!has_names && said.contains(rude), "{said}");
    assert_eq!(calls() - before, 1, "a server that hangs up is asked once: {said}");
    let (said, has_names) = symbolize("confused", &[confused], None);
    assert!(!has_names && said.contains("what it sends is no file with build id"), "{said}");
    let kept = |cache: &str| fs::read_dir(scratch.join(cache).join("heapsift/debuginfod")).map_or(0, Iterator::count);
    assert_eq!((kept("plain"), kept("safe"), kept("confused"), kept("rude")), (1, 1, 0, 0));

    // What has come is kept: nobody is asked.
    drop(server);
    let (said, has_names) = symbolize("safe", &[safe], None);
    assert!(has_names, "{said}");
}
