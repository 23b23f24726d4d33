//! Functions that node has compiled just in time, named by the perf map that it leaves.

use std::fs;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, final_dump, only};
use heapsift_tests::{Dump, Program, command, tools};

/// Allocates by one function, called by another.
const SCRIPT: &str = "const kept = [];
function keepOne(i) { const block = Buffer.allocUnsafeSlow(20000 + i % 7); kept.push(block); return block; }
function keepMany() { let sum = 0; for (let i = 0; i < 4000; i++) { sum += keepOne(i).length; } return sum; }
console.log(process.pid, keepMany());
";

#[test]
fn compiled_functions_have_their_names() {
    let Some(node) = tools::need("node") else { return };
    let scratch = Scratch::new("jit");
    let script = scratch.join("keep.js");
    fs::write(&script, SCRIPT).expect("a scratch file");
    let ended = Program::new(node)
        .arg("--perf-basic-prof")
        // Compiled at the first call: otherwise when a thread of V8's gets to it, and it may all have run interpreted.
        .arg("--always-sparkplug")
        // And once only: when code that has been compiled better takes over is up to another thread of V8's.
        .arg("--no-opt")
        .arg(&script)
        .directory(scratch.path())
        .under(final_dump(scratch.path(), "prof_sample:16KiB,prof_seed:3"))
        .run()
        .expect_success();
    let file = only(scratch.path(), 'f');
    let map = format!("/tmp/perf-{}.map", ended.pid);
    let named = scratch.join("named.pb.gz");
    let symbolize = |more: &[&str]| {
        let program = Program::new(command()).arg("symbolize").args(more).arg(&file).arg("-o").arg(&named);
        program.run().expect_success().complaints()
    };
    let said = symbolize(&[]);
    assert!(said.contains(&format!("addresses in no file named by {map}")), "{said}");
    let dump = Dump::read(&named);
    // The inner one may be inlined into the other. Between both and the allocator lie functions of V8's that are part of
    // node and have no unwind tables.
    let of = |dump: &Dump, name: &str| dump.of_function(Column::AllocSpace, name);
    let found = of(&dump, "JS:keepMany");
    assert!((74_000_000..90_000_000).contains(&found), "{found} of {}; {said}", dump.total(Column::AllocSpace));
    let function = dump.profile.function.iter().find(|function| dump.text(function.name).starts_with("JS:keep"));
    assert_eq!(dump.text(function.expect("as found").filename), script.display().to_string());
    // What the map does not name says what it is.
    let names: Vec<&str> = dump.profile.function.iter().map(|function| dump.text(function.name)).collect();
    let nameless = dump.profile.location.iter().filter(|location| location.mapping_id == 0 && location.line.is_empty());
    assert_eq!(nameless.count(), 0, "{names:?}");

    // Elsewhere there is no map: plainly so, until a copy is at hand.
    let copies = scratch.join("copies");
    fs::create_dir(&copies).expect("a fresh directory");
    fs::rename(&map, copies.join(format!("perf-{}.map", ended.pid)))
        .or_else(|_| fs::copy(&map, copies.join(format!("perf-{}.map", ended.pid))).and_then(|_| fs::remove_file(&map)))
        .expect("the map is ours");
    let said = symbolize(&[]);
    assert!(said.contains(&format!("addresses in no file (no perf-{}.map)", ended.pid)), "{said}");
    let dump = Dump::read(&named);
    assert_eq!(of(&dump, "JS:keepMany"), 0);
    assert!(of(&dump, "[anonymous memory]") > 74_000_000, "{said}");
    // And what says so now gets its name when there is one.
    let again = scratch.join("again.pb.gz");
    let program =
        Program::new(command()).args(["symbolize", "--search"]).arg(&copies).arg(&named).arg("-o").arg(&again);
    let said = program.run().expect_success().complaints();
    let dump = Dump::read(&again);
    assert_eq!(of(&dump, "JS:keepMany"), found, "{said}");
}
