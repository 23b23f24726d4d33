//! A compiled C++ program, named by us and by binutils' addr2line: the same frames.
//!
//! Needs `g++`, `addr2line`, `nm`, `objcopy` and `strip`, and says so where they are missing; uses `dwz`, clang, `dwp`
//! and `llvm-dwp` where they are there.

mod linked;
mod split;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use lzma_rust2::{XzOptions, XzWriter};
use pprof_export::schema::{Location, Mapping, Profile};
use tempfile::TempDir;

use super::find::Wanted;
use super::module::{self, Frame, Query};
use super::{Options, Report, symbolize};

const SOURCE: &str = r#"
#include <cstdlib>
#include <vector>
namespace deep {
template <class T> inline __attribute__((always_inline)) T *inner(int n) {
    return static_cast<T *>(std::malloc(sizeof(T) * n));
}
struct Owner {
    std::vector<int> all;
    static inline __attribute__((always_inline)) void *middle(int n) { return inner<long>(n + 1); }
    __attribute__((noinline)) void *outer(int n) { all.push_back(n); return middle(n * 2); }
};
}
int main(int argc, char **) { deep::Owner owner; return owner.outer(argc) == nullptr; }
"#;

fn tool(name: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(name).args(arguments).output().ok()?;
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A directory with the compiled program; `None` where there is no compiler.
fn compiled(name: &str) -> Option<(TempDir, PathBuf)> {
    let scratch = TempDir::with_prefix(format!("heapsift-{name}-")).unwrap();
    let (source, program) = (scratch.path().join("a.cc"), scratch.path().join("program"));
    fs::write(&source, SOURCE).unwrap();
    let (from, to) = (source.to_str().unwrap(), program.to_str().unwrap());
    let built = tool("g++", &["-g", "-O2", "-Wl,--build-id=sha1", "-o", to, from]);
    if built.is_none() || tool("addr2line", &["--version"]).is_none() {
        println!("skipped: g++ or binutils are not installed");
        return None;
    }
    Some((scratch, program))
}

/// A profile of the program's whole text, an address in every four, as if mapped somewhere.
fn profile(program: &Path) -> (Profile, Vec<u64>) {
    let headers = tool("readelf", &["-lW", program.to_str().unwrap()]).unwrap();
    let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap();
    let line = headers.lines().find(|line| line.contains("LOAD") && line.contains("R E")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let (offset, address, length) = (number(words[1]), number(words[2]), number(words[4]));
    let notes = tool("readelf", &["-n", program.to_str().unwrap()]).unwrap();
    let build_id = notes.split("Build ID: ").nth(1).unwrap().split_whitespace().next().unwrap();
    let base = 0x5555_0000_0000;
    let profile = Profile {
        string_table: vec![String::new(), program.to_str().unwrap().to_owned(), build_id.to_owned()],
        mapping: vec![Mapping {
            id: 1,
            memory_start: base + (address & !0xfff),
            memory_limit: base + ((address + length + 0xfff) & !0xfff),
            file_offset: offset & !0xfff,
            filename: 1,
            build_id: 2,
            ..Mapping::default()
        }],
        ..Profile::default()
    };
    let symbols = tool("nm", &["-S", "--defined-only", program.to_str().unwrap()]).unwrap();
    let mut addresses = Vec::new();
    for line in symbols.lines().filter(|line| line.contains(" main") || line.contains("outer")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let start = number(words[0]);
        addresses.extend((start..start + number(words[1])).step_by(4));
    }
    let location = addresses.iter().enumerate().map(|(index, address)| Location {
        id: index as u64 + 1,
        mapping_id: 1,
        address: base + address,
        ..Location::default()
    });
    (Profile { location: location.collect(), ..profile }, addresses)
}

/// Function and `file:line` of each frame, innermost first.
fn ours(profile: &Profile, location: &Location) -> Vec<(String, String)> {
    let text = |index: i64| profile.string_table[index as usize].clone();
    let frame = |line: &pprof_export::schema::Line| {
        let function = &profile.function[line.function_id as usize - 1];
        let file = text(function.filename);
        let file = file.rsplit('/').next().unwrap();
        (text(function.name).replace(' ', ""), format!("{file}:{}", line.line))
    };
    location.line.iter().map(frame).collect()
}

fn theirs(program: &Path, address: u64) -> Vec<(String, String)> {
    let (program, address) = (program.to_str().unwrap(), format!("{address:x}"));
    let text = tool("addr2line", &["-f", "-i", "-C", "-e", program, &address]).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let frame = |pair: &[&str]| {
        let place = pair[1].split(" (").next().unwrap().rsplit('/').next().unwrap();
        (pair[0].replace(' ', ""), place.replace('?', "0"))
    };
    lines.chunks_exact(2).map(frame).collect()
}

#[test]
fn same_frames_as_binutils() {
    let Some((_scratch, program)) = compiled("same") else { return };
    let (mut profile, addresses) = profile(&program);
    let report = symbolize(&mut profile, &Options::default());
    assert_eq!(report.to_string(), "1 of 1 modules symbolized");
    assert_eq!(report.modules[0].by_symbol, 0);
    let mut deepest = 0;
    for (location, &address) in profile.location.iter().zip(&addresses) {
        let frames = ours(&profile, location);
        deepest = deepest.max(frames.len());
        let mut theirs = theirs(&program, address);
        if frames.len() > 1 {
            // binutils puts the symbol's name in the place of the innermost inlined function's.
            theirs[0].0.clone_from(&frames[0].0);
        }
        assert_eq!(frames, theirs, "{address:#x}");
    }
    assert!(deepest >= 3);
    let inner = profile.location.iter().map(|location| ours(&profile, location));
    assert!(inner.flatten().any(|(name, _)| name == "long*deep::inner<long>(int)"));
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let outer = profile.function.iter().find(|f| text(f.name).starts_with("deep::Owner::outer"));
    assert_eq!(text(outer.unwrap().system_name), "_ZN4deep5Owner5outerEi");
    assert!(profile.mapping[0].has_functions && profile.mapping[0].has_inline_frames);
}

fn names(program: &Path, options: &Options, before: &Profile) -> (Report, Vec<Vec<(String, String)>>) {
    let mut profile = before.clone();
    profile.string_table[1] = program.to_str().unwrap().to_owned();
    let report = symbolize(&mut profile, options);
    let frames = profile.location.iter().map(|location| ours(&profile, location)).collect();
    (report, frames)
}

#[test]
fn debug_files_apart() {
    let Some((scratch, program)) = compiled("apart") else { return };
    let (before, _) = profile(&program);
    let (_, whole) = names(&program, &Options::default(), &before);
    let dir = scratch.path();
    let id = before.string_table[2].clone();
    let by_id = dir.join("search/.build-id").join(&id[..2]);
    fs::create_dir_all(&by_id).unwrap();
    let debug = by_id.join(format!("{}.debug", &id[2..]));
    let (from, to) = (program.to_str().unwrap(), debug.to_str().unwrap());
    if tool("objcopy", &["--only-keep-debug", from, to]).is_none() {
        println!("skipped: objcopy is not installed");
        return;
    }
    let stripped = dir.join("stripped");
    tool("strip", &["-o", stripped.to_str().unwrap(), from]).unwrap();
    let search = Options { search: vec![dir.join("search")], ..Options::default() };

    let (report, frames) = names(&stripped, &search, &before);
    assert_eq!(report.modules[0].file.as_deref(), Some(debug.as_path()));
    assert_eq!(frames, whole);
    // The debug file alone: its offsets are not those of the binary.
    let (report, frames) = names(&dir.join("gone"), &search, &before);
    assert_eq!(report.complete(), 1, "{report}");
    assert_eq!(frames, whole);
    // No debug file.
    let (report, _) = names(&stripped, &Options::default(), &before);
    let shown = report.to_string();
    assert!(
        shown.starts_with(&format!("0 of 1 modules symbolized; stripped: no debug file for build id {id}")),
        "{shown}"
    );

    // Linked by name, without build ids.
    let (linked, link) = (dir.join("linked"), dir.join("linked.debug"));
    tool("objcopy", &["--remove-section=.note.gnu.build-id", from, linked.to_str().unwrap()]).unwrap();
    tool("objcopy", &["--only-keep-debug", linked.to_str().unwrap(), link.to_str().unwrap()]).unwrap();
    let add = format!("--add-gnu-debuglink={}", link.display());
    tool("objcopy", &["--strip-all", &add, linked.to_str().unwrap()]).unwrap();
    let mut without = before.clone();
    without.mapping[0].build_id = 0;
    let (report, frames) = names(&linked, &Options::default(), &without);
    assert_eq!(report.modules[0].file.as_deref(), Some(link.as_path()), "{report}");
    assert_eq!(frames, whole);
    // The build id asked for is not that of the file.
    let (report, _) = names(&linked, &Options::default(), &before);
    assert!(report.to_string().contains("it has no build id"), "{report}");
}

#[test]
fn what_has_come_in_a_files_place_is_not_believed() {
    let Some((scratch, program)) = compiled("replaced") else { return };
    let (with_id, _) = profile(&program);
    let mut without = with_id.clone();
    without.mapping[0].build_id = 0;
    let (_, wanted) = names(&program, &Options::default(), &without);
    let replaced = format!("{} (deleted)", program.display());
    let (report, found) = names(Path::new(&replaced), &Options::default(), &without);
    assert!(found.iter().all(Vec::is_empty), "{found:?}");
    assert!(report.to_string().contains("; program: the file was removed or replaced while it was in use"), "{report}");
    // Where somebody says where it is, or a build id tells which one it is, it is.
    let search = Options { search: vec![scratch.path().to_owned()], ..Options::default() };
    for (options, before) in [(&search, &without), (&Options::default(), &with_id)] {
        let (report, found) = names(Path::new(&replaced), options, before);
        assert_eq!((found, report.complete()), (wanted.clone(), 1), "{report}");
    }
}

#[test]
fn a_library_in_memory_is_looked_for_by_build_id() {
    let Some((scratch, program)) = compiled("memory") else { return };
    let (before, _) = profile(&program);
    let (_, wanted) = names(&program, &Options::default(), &before);
    let options = Options { search: vec![scratch.path().join("search")], ..Options::default() };
    let place = options.search[0].join(&before.string_table[2]);
    fs::create_dir_all(&options.search[0]).unwrap();
    fs::copy(&program, place).unwrap();
    for path in ["/memfd:plugin", "/memfd:plugin (deleted)"] {
        let (report, found) = names(Path::new(path), &options, &before);
        assert_eq!((found, report.complete()), (wanted.clone(), 1), "{report}");
        let (report, _) = names(Path::new(path), &Options::default(), &before);
        assert!(report.to_string().contains("memfd:plugin: no file with build id"), "{report}");
        // Without one it is a compiler's.
        let mut without = before.clone();
        without.mapping[0].build_id = 0;
        let (report, _) = names(Path::new(path), &options, &without);
        assert_eq!((report.modules.len(), report.anonymous), (0, without.location.len()));
    }
}

/// Asks for addresses of a program in its own address space: all at once, and one by one.
fn both_ways(program: &Path, addresses: &[u64]) -> Vec<(u64, Vec<Frame>, Vec<Frame>)> {
    let query = |(location, &address)| Query { location, address, mapping: (0, u64::MAX, 0) };
    let queries: Vec<Query> = addresses.iter().enumerate().map(query).collect();
    let answer = |workers| {
        let answer =
            module::answer(&Wanted::new(program.to_str().unwrap(), ""), &queries, &Options::default(), workers);
        let mut frames = vec![Vec::new(); addresses.len()];
        answer.frames.into_iter().for_each(|(location, of)| frames[location] = of);
        frames
    };
    let (at_once, one_by_one) = (answer(2), answer(0));
    addresses.iter().copied().zip(at_once).zip(one_by_one).map(|((address, a), b)| (address, a, b)).collect()
}

/// Addresses in the functions of a program, every so many bytes, and beside them.
fn addresses(program: &Path, step: usize) -> Vec<u64> {
    let symbols = tool("nm", &["-S", "--defined-only", program.to_str().unwrap()]).unwrap();
    let number = |word: &str| u64::from_str_radix(word, 16).ok();
    let function = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [start, size, "t" | "T" | "w" | "W", _] = words[..] else { return None };
        Some((number(start)?, number(size)?))
    };
    let mut found: Vec<(u64, u64)> = symbols.lines().filter_map(function).collect();
    found.sort_unstable();
    let inside = found.iter().flat_map(|&(start, size)| (start.saturating_sub(1)..=start + size).step_by(step));
    let mut all: Vec<u64> = inside.chain([0, 1, u64::MAX - 1]).collect();
    all.dedup();
    all
}

#[test]
fn all_at_once_is_one_by_one() {
    let Some((scratch, program)) = compiled("both") else { return };
    let (source, other) = (scratch.path().join("a.cc"), scratch.path().join("other"));
    let mut programs = 0;
    for compiler in ["g++", "clang++"] {
        for options in [&["-gdwarf-2"][..], &["-gdwarf-4"], &["-gdwarf-5"], &["-gdwarf-5", "-gdwarf64"], &["-g1"]] {
            for more in [&["-O0"][..], &["-O2", "-ffunction-sections"]] {
                let ends = ["-o", other.to_str().unwrap(), source.to_str().unwrap()];
                let output = Command::new(compiler).args(options).args(more).args(ends).output();
                if !output.is_ok_and(|output| output.status.success()) {
                    println!("left out: no {compiler} that knows {options:?}");
                    continue;
                }
                for (address, at_once, one_by_one) in both_ways(&other, &addresses(&other, 3)) {
                    assert_eq!(at_once, one_by_one, "{compiler} {options:?} {more:?}: {address:#x}");
                }
                programs += 1;
            }
        }
    }
    assert!(programs > 0 && program.exists());
}

#[test]
fn so_it_is_in_a_program_of_many_units() {
    // This test itself, with all that it is made of.
    let program = std::env::current_exe().unwrap();
    if tool("nm", &["--version"]).is_none() {
        println!("skipped: binutils are not installed");
        return;
    }
    // What the linker threw away seems to lie at the lowest addresses, all of it.
    let all: Vec<u64> = addresses(&program, 1 << 20).into_iter().filter(|&address| address > 0xfff).collect();
    let some: Vec<u64> =
        all.iter().copied().step_by(all.len() / 1000).map(|address| address.saturating_add(9)).collect();
    let mut inlined = 0;
    for (address, at_once, one_by_one) in both_ways(&program, &some) {
        inlined += usize::from(at_once.len() > 1);
        assert_eq!(at_once, one_by_one, "{address:#x}");
    }
    assert!(inlined > 50, "{inlined}");
}

#[test]
fn compressed_and_shared_sections() {
    let Some((scratch, program)) = compiled("compressed") else { return };
    let (before, _) = profile(&program);
    let (_, wanted) = names(&program, &Options::default(), &before);
    let from = program.to_str().unwrap();
    let packed = scratch.path().join("packed");
    for how in ["zlib", "zlib-gnu", "zstd"] {
        let option = format!("--compress-debug-sections={how}");
        let output = Command::new("objcopy").args([&option, from, packed.to_str().unwrap()]).output();
        // Older binutils have no zstd.
        if !output.is_ok_and(|output| output.status.success()) {
            println!("left out: objcopy does not know {how}");
            continue;
        }
        let (report, found) = names(&packed, &Options::default(), &before);
        assert_eq!(found, wanted, "{how}: {report}");
        assert_eq!(report.complete(), 1, "{how}: {report}");
    }
    // What two files have in common, moved to a third.
    let (one, two, shared) = (scratch.path().join("one"), scratch.path().join("two"), scratch.path().join("shared"));
    fs::copy(&program, &one).unwrap();
    fs::copy(&program, &two).unwrap();
    let words = ["-m", shared.to_str().unwrap(), one.to_str().unwrap(), two.to_str().unwrap()];
    match Command::new("dwz").args(words).output() {
        Ok(output) if output.status.success() && shared.exists() => {
            let (report, found) = names(&one, &Options::default(), &before);
            assert_eq!(found, wanted, "shared: {report}");
        }
        _ => println!("left out: dwz is not installed, or found nothing to share"),
    }
}

#[test]
fn a_stripped_file_has_its_functions_inside() {
    let Some((scratch, program)) = compiled("inside") else { return };
    let (before, _) = profile(&program);
    let place = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (plain, stripped) = (place("plain"), place("stripped"));
    tool("strip", &["--strip-debug", "-o", &plain, program.to_str().unwrap()]).unwrap();
    tool("strip", &["-o", &stripped, program.to_str().unwrap()]).unwrap();
    let (_, wanted) = names(Path::new(&plain), &Options::default(), &before);
    assert!(wanted.iter().flatten().any(|(function, _)| function.contains("outer")), "{wanted:?}");

    let mut packer = XzWriter::new(Vec::new(), XzOptions::with_preset(1)).unwrap();
    packer.write_all(&fs::read(&plain).unwrap()).unwrap();
    let packed = packer.finish().unwrap();
    let inside = |name: &str, content: &[u8]| {
        let (part, with) = (place("part"), place(name));
        fs::write(&part, content).unwrap();
        tool("objcopy", &[&format!("--add-section=.gnu_debugdata={part}"), &stripped, &with]).unwrap();
        names(Path::new(&with), &Options::default(), &before)
    };
    let (report, found) = inside("whole", &packed);
    assert_eq!(found, wanted, "{report}");
    // What is broken is as if it weren't there.
    for (name, content) in [("half", &packed[..packed.len() / 2]), ("none", &[]), ("other", b"no such thing")] {
        let (report, found) = inside(name, content);
        assert!(found.iter().flatten().all(|(function, _)| !function.contains("outer")), "{name}: {report}");
    }
}

#[test]
fn broken_files_cost_names_only() {
    let Some((scratch, program)) = compiled("broken") else { return };
    let (before, _) = profile(&program);
    let image = fs::read(&program).unwrap();
    let broken = scratch.path().join("broken");
    for step in 0..64 {
        let mut image = image.clone();
        if step % 2 == 0 {
            image.truncate(image.len() * step / 64);
        } else {
            for at in (step * 7 + 0x400..image.len()).step_by(97 + step) {
                image[at] ^= 0x5a;
            }
        }
        fs::write(&broken, image).unwrap();
        let (report, _) = names(&broken, &Options::default(), &before);
        assert_eq!(report.modules.len(), 1);
    }
}

#[test]
fn what_is_no_file_says_so() {
    let mut profile = Profile {
        string_table: ["", "[vdso]", "/nowhere/libfoo.so", "00112233445566"].map(String::from).to_vec(),
        mapping: vec![
            Mapping { id: 1, memory_limit: 9, filename: 1, ..Mapping::default() },
            Mapping { id: 2, memory_limit: 9, filename: 2, build_id: 3, ..Mapping::default() },
        ],
        location: (0..3).map(|id| Location { id: id + 1, mapping_id: id, ..Location::default() }).collect(),
        ..Profile::default()
    };
    let before = profile.clone();
    let report = symbolize(&mut profile, &Options::default());
    assert_eq!(profile, before);
    assert_eq!(
        report.to_string(),
        "0 of 2 modules symbolized; [vdso]: not a file (0 of 1 addresses named); \
         libfoo.so: no file with build id 00112233445566 (0 of 1 addresses named); \
         1 address in no file (just-in-time code has names where its compiler writes a perf map)"
    );
}
