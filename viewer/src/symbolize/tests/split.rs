//! Split debug information: the same frames as from the same program whole.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{TempDir, addresses, both_ways, compiled, names, profile, tool};
use crate::symbolize::Options;

/// Compiles the scratch directory's source where it stays, so that what skeletons say of their files is true.
fn build(scratch: &TempDir, compiler: &str, program: &str, options: &[&str]) -> bool {
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (object, source) = (at(&format!("{program}.o")), at("a.cc"));
    let words = [options, &["-O2", "-c", "-o", &object, &source]].concat();
    let output = Command::new(compiler).args(words).output();
    if !output.is_ok_and(|output| output.status.success()) {
        return false;
    }
    tool("g++", &["-Wl,--build-id=sha1", "-o", &at(program), &object]).unwrap();
    true
}

/// Packs what a program's units were written to; whether there is a packer that can.
fn pack(packer: &str, program: &Path) -> bool {
    let package = format!("{}.dwp", program.display());
    let output = Command::new(packer).arg("-e").arg(program).args(["-o", &package]).output();
    let is_packed = output.is_ok_and(|output| output.status.success());
    if !is_packed {
        let _ = fs::remove_file(package);
    }
    is_packed
}

/// Checks all that can be where, for one compiler and version of DWARF.
fn check(scratch: &TempDir, compiler: &str, version: &str) {
    let shown = format!("{compiler} {version}");
    if !build(scratch, compiler, "plain", &["-g", version])
        || !build(scratch, compiler, "halved", &["-g", version, "-gsplit-dwarf"])
    {
        println!("left out: no {shown}");
        return;
    }
    let (plain, halved) = (scratch.path().join("plain"), scratch.path().join("halved"));
    let (_, wanted) = names(&plain, &Options::default(), &profile(&plain).0);
    let (before, _) = profile(&halved);
    assert!(wanted.iter().any(|frames| frames.len() >= 3), "{wanted:?}");
    let (report, found) = names(&halved, &Options::default(), &before);
    assert_eq!(found, wanted, "{shown}: {report}");
    assert_eq!(report.to_string(), "1 of 1 modules symbolized");
    for (address, at_once, one_by_one) in both_ways(&halved, &addresses(&halved, 3)) {
        assert_eq!(at_once, one_by_one, "{shown}: {address:#x}");
    }

    // Packed, with the single file gone.
    let (dwo, kept) = (scratch.path().join("halved.dwo"), scratch.path().join("search/halved.dwo"));
    fs::create_dir_all(scratch.path().join("search")).unwrap();
    // Each with what it was made for: that of binutils 2.40 crashes over DWARF 5, and llvm-dwp 14 never ends over that of gcc.
    let packers = [("g++ -gdwarf-4", "dwp"), ("clang++ -gdwarf-4", "llvm-dwp"), ("clang++ -gdwarf-5", "llvm-dwp")];
    for (_, packer) in packers.into_iter().filter(|(what, _)| *what == shown) {
        if !pack(packer, &halved) {
            println!("left out: no {packer} that can pack what {shown} makes");
            continue;
        }
        fs::rename(&dwo, &kept).unwrap();
        let (report, found) = names(&halved, &Options::default(), &before);
        assert_eq!(found, wanted, "{shown}, packed by {packer}: {report}");
        for (address, at_once, one_by_one) in both_ways(&halved, &addresses(&halved, 7)) {
            assert_eq!(at_once, one_by_one, "{shown}, packed by {packer}: {address:#x}");
        }
        fs::rename(&kept, &dwo).unwrap();
        fs::remove_file(scratch.path().join("halved.dwp")).unwrap();
    }
    fs::rename(&dwo, &kept).unwrap();
    // Nowhere: said plainly, with symbols for names, or with what the skeleton knows.
    let (report, found) = names(&halved, &Options::default(), &before);
    assert!(report.is_incomplete() && report.to_string().contains("is split, and there is no "), "{report}");
    assert!(found.iter().all(|frames| !frames.is_empty()), "{found:?}");
    // Where the user says.
    let search = Options { search: vec![scratch.path().join("search")], ..Options::default() };
    let (report, found) = names(&halved, &search, &before);
    assert_eq!(found, wanted, "{shown}, searched: {report}");
    // Another file of that name is not believed, and a broken one costs names only.
    let own = fs::read(&kept).unwrap();
    for content in [fs::read(&plain).unwrap(), b"no file".to_vec(), own[..own.len() / 2].to_vec()] {
        fs::write(&kept, content).unwrap();
        let (report, _) = names(&halved, &search, &before);
        assert!(report.to_string().contains("is split, and there is no "), "{report}");
    }
    for step in 0..40 {
        let mut image = own.clone();
        for at in (step * 7 + 0x40..image.len()).step_by(31 + step) {
            image[at] ^= 0x5a;
        }
        fs::write(&kept, image).unwrap();
        let (report, _) = names(&halved, &search, &before);
        assert_eq!(report.modules.len(), 1);
    }
}

#[test]
fn split_debug_information() {
    for compiler in ["g++", "clang++"] {
        for version in ["-gdwarf-4", "-gdwarf-5"] {
            let Some((scratch, _)) = compiled(&format!("split-{compiler}{version}")) else { return };
            check(&scratch, compiler, version);
        }
    }
}
