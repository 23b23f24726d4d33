//! Stacks where a walk may go astray.

use std::path::Path;
use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, final_dump, only};
use heapsift_tests::safety::holds;
use heapsift_tests::tools::Linkage;
use heapsift_tests::{Dump, Program, by_length, tools};

#[test]
fn a_stray_frame_pointer_on_a_coroutine_is_not_followed() {
    let program = tools::compile("c/coroutine.c", &[]);
    let scratch = Scratch::new("coroutine");
    let ended = Program::new(&program).under(final_dump(scratch.path(), "lg_prof_sample:12")).run().expect_success();
    assert_eq!(ended.text(), "done\n");
    let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
    let roots = |wanted: &str| {
        dump.profile.sample.iter().any(|row| {
            let names: Vec<&str> = dump.names(row).collect();
            names.first() == Some(&"allocate") && names.last() == Some(&wanted)
        })
    };
    // On the thread's own stack to its start, on the other as far as there is something to follow.
    assert!(roots("clone3") || roots("__clone3") || roots("clone"), "no complete stack");
    assert!(roots("[unknown callers]"), "no stack of the coroutine");
}

#[test]
fn stacks_lead_through_frames_that_align_themselves() {
    let scratch = Scratch::new("aligned");
    for compiler in [["-O1"], ["-O2"], ["-O0"]] {
        let program = tools::compile("c/aligned.c", &compiler);
        let conf = final_dump(scratch.path(), "prof_sample:256");
        Program::new(&program).under(conf).run().expect_success();
        let file = only(scratch.path(), 'f');
        let dump = Dump::symbolized(&file, &scratch.join("named.pb.gz"));
        let mut stacks = 0;
        for row in &dump.profile.sample {
            let names: Vec<&str> = dump.names(row).collect();
            if names.first() != Some(&"allocate") {
                continue;
            }
            let callers = names[1..].iter().position(|&name| name == "main").map(|main| &names[1..][..main]);
            let wanted = [&["aligned", "within"][..], &["aligned", "within", "further"]];
            assert!(callers.is_some_and(|callers| wanted.contains(&callers)), "{compiler:?}: {names:?}");
            assert_eq!(names.last(), Some(&"_start"), "{compiler:?}: {names:?}");
            stacks += 1;
        }
        assert!(stacks > 1, "{stacks} stacks");
        std::fs::remove_file(file).expect("it was there");
    }
}

#[test]
fn stacks_lead_through_handlers_to_what_they_interrupt() {
    let program = tools::compile("c/handler.c", &["-O1", "-pthread"]);
    for method in ["auto", "libgcc"] {
        let scratch = Scratch::new("handler");
        let conf = final_dump(scratch.path(), &format!("prof_sample:1,prof_unwind:{method}"));
        Program::new(&program).under(conf).run().expect_success();
        let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
        let mut seen = [[false; 2]; 2];
        for row in dump.profile.sample.iter().filter(|row| dump.names(row).next() == Some("allocate")) {
            let names: Vec<&str> = dump.names(row).collect();
            // Between the two is the C library's, which the kernel has the handler return to.
            assert!(names[1] == "handle" && ["victim", "returning"].contains(&names[3]), "{method}: {names:?}");
            let at = usize::from(names[4] == "above");
            assert_eq!(names[4..6], [["below", "run"], ["above", "run"]][at], "{method}: {names:?}");
            assert_ne!(names.last(), Some(&"[unknown callers]"), "{method}: {names:?}");
            seen[at][usize::from(names[3] == "returning")] = true;
        }
        assert_eq!(seen, [[true; 2]; 2], "{method}");
        let left: Vec<_> = dump.profile.sample.iter().filter(|row| dump.names(row).next() == Some("leave")).collect();
        assert!(!left.is_empty());
        for row in left {
            let names: Vec<&str> = dump.names(row).collect();
            assert_eq!(names[1..3], ["before", "run"], "{method}: {names:?}");
            assert_ne!(names.last(), Some(&"[unknown callers]"), "{method}: {names:?}");
        }
    }
}

#[test]
fn stacks_of_constructors_are_complete() {
    // The loader calls those of libraries; its code there has no unwind tables.
    let library = tools::compile("c/constructed.c", &["-shared", "-fPIC"]);
    let program = tools::compile("c/constructed.c", &["-DPROGRAM"]);
    for method in ["auto", "dwarf", "libgcc"] {
        let scratch = Scratch::new("constructors");
        let conf = final_dump(scratch.path(), &format!("prof_sample:1,prof_unwind:{method}"));
        Program::new(&program).also(&library).under(conf).run().expect_success();
        let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
        let stacks: Vec<Vec<&str>> = dump.profile.sample.iter().map(|row| dump.names(row).collect()).collect();
        let incomplete: Vec<_> = stacks.iter().filter(|names| names.last() == Some(&"[unknown callers]")).collect();
        assert!(incomplete.is_empty(), "{method}: {incomplete:?}");
        // The allocator's own frames are left out before its own constructor has run, too: that comes last.
        let leaf = |names: &&Vec<&str>| names.iter().position(|&name| name == "allocate").is_some_and(|at| at > 0);
        assert_eq!(stacks.iter().find(leaf), None, "{method}");
        // Both constructors, the library's without `_start`, which is the program's.
        let made = stacks.iter().filter(|names| names.first() == Some(&"allocate"));
        let (by_program, by_loader): (Vec<_>, Vec<_>) = made.partition(|names| names.last() == Some(&"_start"));
        assert!(!by_program.is_empty() && !by_loader.is_empty(), "{method}: {stacks:?}");
    }
}

#[test]
fn libraries_come_and_go_under_samples() {
    let program = tools::compile("c/reload.c", &["-pthread", "-ldl"]);
    let one = tools::compile("c/plugin.c", &["-shared", "-fPIC", "-DNAME=plugin_one", "-DPAD=1"]);
    let two = tools::compile("c/plugin.c", &["-shared", "-fPIC", "-DNAME=plugin_two", "-DPAD=9"]);
    let mut all = 0;
    // Binding all at once or on demand: the loader's locks are taken at other moments.
    for bind_now in [None, Some("1")] {
        let scratch = Scratch::new("reload");
        let mut run = Program::new(&program)
            .arg(by_length("3", "60"))
            .arg(&one)
            .arg("plugin_one")
            .arg(&two)
            .arg("plugin_two")
            .within(Duration::from_secs(300));
        if let Some(value) = bind_now {
            run = run.env("LD_BIND_NOW", value);
        }
        let ended =
            run.under(final_dump(scratch.path(), "prof_sample:4KiB,prof_interval_ms:500")).run().expect_success();
        let rounds: u64 = ended.text().trim().parse().expect("a number of rounds");
        assert!(rounds > 50, "{rounds} rounds");
        all += rounds;
        assert_eq!(ended.complaints(), "");
        // What stayed loaded has its name, and what was allocated in it is all there.
        let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
        let held = dump.of_function(Column::InuseSpace, "plugin_two") as f64;
        let wanted = f64::from(1024 * 4096);
        assert!((held / wanted - 1.0).abs() < 0.15, "{held} held by the library, truly {wanted}");
        let other = dump.of_function(Column::InuseSpace, "plugin_one");
        assert_eq!(other, 0, "{other} bytes by a library that holds nothing");
        for row in &dump.profile.sample {
            let names: Vec<&str> = dump.names(row).collect();
            if names.contains(&"plugin_two") && row.value[Column::InuseSpace as usize] > 0 {
                let at = names.iter().position(|&name| name == "plugin_two").expect("as found");
                assert!(names[..at].iter().all(|&name| name == "inner"), "{names:?}");
                assert_eq!(names.get(at + 1), Some(&"main"), "{names:?}");
            }
        }
    }
    holds("P1", &format!("{all} rounds: no crash, no hang; what stayed loaded is named"));
}

#[test]
fn a_library_that_has_gone_is_named() {
    let program = tools::compile("c/unloaded.c", &["-ldl"]);
    let library = tools::compile("c/plugin.c", &["-shared", "-fPIC", "-DNAME=plugin_gone", "-DPAD=1"]);
    let directory = library.parent().expect("it lies somewhere");
    let relative = Path::new(".").join(library.file_name().expect("it has a name"));
    for path in [&library, &relative] {
        let scratch = Scratch::new("unloaded");
        let conf = final_dump(scratch.path(), "prof_sample:4KiB");
        let run = Program::new(&program).arg(path).arg("plugin_gone").directory(directory);
        run.under(conf).run().expect_success();
        let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
        let held = dump.of_function(Column::InuseSpace, "plugin_gone") as f64;
        let wanted = f64::from(1024 * 4096);
        assert!((held / wanted - 1.0).abs() < 0.15, "{held} held by the library, truly {wanted}");
    }
}

#[test]
fn a_library_in_the_place_of_another_is_told_of() {
    let program = tools::compile("c/unloaded.c", &["-ldl"]);
    let [one, two] = ["-DNAME=plugin_gone", "-DNAME=plugin_here"]
        .map(|name| tools::compile("c/plugin.c", &["-shared", "-fPIC", "-Wl,--build-id", name, "-DPAD=1"]));
    let scratch = Scratch::new("replaced");
    let run = Program::new(&program).arg(&one).arg("plugin_gone").arg(&two);
    let ended = run.under(final_dump(scratch.path(), "prof_sample:4KiB")).run().expect_success();
    assert_eq!(ended.text(), "unloaded\nreplaced\n");
    let dump = Dump::read(&only(scratch.path(), 'f'));
    let wanted =
        format!("unloaded, and another library in its place, whose names its addresses get: {}", one.display());
    let told: Vec<&str> = dump.profile.comment.iter().map(|&at| dump.text(at)).collect();
    assert!(told.contains(&wanted.as_str()), "{told:?}");
}

#[test]
fn a_library_built_anew_is_not_taken_for_the_one_before() {
    let program = tools::compile("c/unloaded.c", &["-ldl"]);
    // The same code at the same places, but for the size of the frames.
    for build_id in ["-Wl,--build-id", "-Wl,--build-id=none"] {
        let [one, two] = [["-DNAME=plugin_gone", "-DPAD=9"], ["-DNAME=plugin_here", "-DPAD=11"]]
            .map(|[name, pad]| tools::compile("c/plugin.c", &["-shared", "-fPIC", "-O1", build_id, name, pad]));
        let scratch = Scratch::new("anew");
        let run = Program::new(&program).arg(&one).arg("plugin_gone").arg(&two).arg("plugin_here");
        run.under(final_dump(scratch.path(), "prof_sample:4KiB")).run().expect_success();
        let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
        // Both have gone: their addresses are the second one's.
        for row in dump.profile.sample.iter().filter(|row| dump.names(row).next() == Some("inner")) {
            let names: Vec<&str> = dump.names(row).collect();
            assert_eq!(names[..4], ["inner", "plugin_here", "use", "main"], "{names:?}");
            assert_eq!(names.last(), Some(&"_start"), "{names:?}");
        }
        let held = dump.of_function(Column::InuseSpace, "plugin_here") as f64;
        let wanted = f64::from(2 * 1024 * 4096);
        assert!((held / wanted - 1.0).abs() < 0.15, "{held} held by the libraries, truly {wanted}");
        if build_id == "-Wl,--build-id" {
            let wanted =
                format!("unloaded, and another library in its place, whose names its addresses get: {}", one.display());
            let told: Vec<&str> = dump.profile.comment.iter().map(|&at| dump.text(at)).collect();
            assert!(told.contains(&wanted.as_str()), "{told:?}");
        }
    }
}

#[test]
fn static_programs_dump_whole_stacks_with_names() {
    for linkage in [Linkage::Static, Linkage::StaticPie] {
        let scratch = Scratch::new("static");
        let conf = final_dump(scratch.path(), "prof_sample:64KiB,prof_seed:5");
        linkage.program("c/sites.c", &conf).run().expect_success();
        let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
        for (site, truth) in [("site_16", 16e6), ("site_300k", 120.0 * 307_200.0)] {
            let held = dump.of_function(Column::InuseSpace, site) as f64;
            assert!((held / truth - 1.0).abs() < 0.4, "{linkage:?}: {site} holds {held}, truly about {truth}");
        }
        for row in &dump.profile.sample {
            let names: Vec<&str> = dump.names(row).collect();
            if names.iter().any(|name| name.starts_with("site_")) {
                assert!(names[0].starts_with("site_") && names.contains(&"main"), "{linkage:?}: {names:?}");
                assert_eq!(names.last(), Some(&"_start"), "{linkage:?}: {names:?}");
            }
        }
    }
}

#[test]
fn a_dump_of_many_stacks_is_small_and_needs_little_memory() {
    let program = tools::compile("c/many_stacks.c", &["-O1", "-fno-optimize-sibling-calls", "-pthread"]);
    let scratch = Scratch::new("many");
    let ended = Program::new(&program)
        .arg("100000")
        .directory(scratch.path())
        .under("prof:true,prof_sample:1")
        .run()
        .expect_success();
    let told: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("the program prints JSON");
    let number = |name: &str| told[name].as_f64().unwrap_or_else(|| panic!("no {name} in {told}"));
    // How long it took is told for people: machines differ.
    assert!(number("extra_kib") < 16.0 * 1024.0, "{told}");
    assert!(number("file_bytes") < 8e6, "{told}");
    let dump = Dump::read(&scratch.join("many_stacks.heap.pb.gz"));
    let deep = dump.profile.sample.iter().filter(|row| row.value[Column::InuseObjects as usize] > 0);
    let deep = deep.filter(|row| row.location_id.len() >= 40).count();
    assert!(deep >= 100_000, "{deep} rows of 40 frames and more");
}
