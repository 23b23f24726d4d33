//! What the command and its peers are given: a large program with debug information, addresses in it, profiles.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pprof_export::schema::{Location, Mapping, Profile, Sample, ValueType};

use crate::compile::{compile, is_fresh};
use crate::{Failure, Outcome, fail, home};

/// Optimisation under which the unit is compiled, each with inlined functions of its own.
const LEVELS: [&str; 4] = ["-O2", "-O1", "-O3", "-O0"];

/// Runs a program that must succeed; what it printed.
pub fn output_of(program: &str, words: &[&str]) -> Outcome<Vec<u8>> {
    let output = Command::new(program).args(words).env_remove("LD_PRELOAD").output();
    let output = output.map_err(|error| Failure(format!("{program} cannot be run: {error}")))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
        return fail(format!("{program}: {complaint}"));
    }
    Ok(output.stdout)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// A program of `levels` × `copies` units of C++, each with 1.5 to 3 MB of debug information: one unit, compiled under
/// several levels of optimisation, and copied with its names made local, so that nothing of it is shared. It is made
/// once for each change of the unit.
pub fn program(workshop: &Path, levels: usize, copies: usize) -> Outcome<PathBuf> {
    let directory = workshop.join(format!("viewer-{levels}x{copies}"));
    fs::create_dir_all(&directory).map_err(|error| Failure(format!("{}: {error}", directory.display())))?;
    let program = directory.join("program");
    if is_fresh(&home().join("viewer/unit.cc"), &program) {
        return Ok(program);
    }
    let mut calls: Vec<String> = Vec::new();
    let mut objects: Vec<PathBuf> = Vec::new();
    for (number, level) in LEVELS[..levels].iter().enumerate() {
        let unit = workshop.join(format!("viewer-unit{number}.o"));
        let name = format!("-DUNIT={number}");
        // Unique symbols would be shared by all copies.
        compile("viewer/unit.cc", &unit, &["-c", level, "-fno-gnu-unique", &name])?;
        // Groups of sections are what a linker keeps one of.
        let whole = directory.join(format!("unit{number}.o"));
        output_of("ld", &["-r", "--force-group-allocation", text(&unit), "-o", text(&whole)])?;
        for copy in 0..copies {
            let call = format!("call_{number}_{copy}");
            let object = directory.join(format!("{call}.o"));
            let renamed = format!("_Z8all_of_{number}i={call}");
            // A symbol must have its new name before it can be kept.
            output_of("objcopy", &["--redefine-sym", &renamed, text(&whole), text(&object)])?;
            output_of("objcopy", &["--keep-global-symbol", &call, text(&object)])?;
            calls.push(call);
            objects.push(object);
        }
    }
    let mut source = String::new();
    for call in &calls {
        // Writing to a string cannot fail.
        let _ = writeln!(source, "extern \"C\" unsigned long {call}(int);");
    }
    let sum: Vec<String> = calls.iter().map(|call| format!("{call}(count)")).collect();
    let _ = writeln!(source, "int main(int count, char **) {{ return ({}) == 0; }}", sum.join(" + "));
    let main = directory.join("main.cc");
    fs::write(&main, source).map_err(|error| Failure(format!("{}: {error}", main.display())))?;
    let fresh = directory.join("program.new");
    let mut words = vec!["-Wl,--build-id=sha1", "-o", text(&fresh), text(&main)];
    words.extend(objects.iter().map(|object| text(object)));
    output_of("g++", &words)?;
    for object in &objects {
        let _ = fs::remove_file(object);
    }
    fs::rename(&fresh, &program).map_err(|error| Failure(error.to_string()))?;
    Ok(program)
}

/// Addresses in a program's functions: so many functions drawn by lot, and of each a place in it. The same for the same
/// seed; sorted as they were drawn.
pub fn addresses(program: &Path, count: usize, seed: u64) -> Outcome<Vec<u64>> {
    let symbols = String::from_utf8_lossy(&output_of("nm", &["-S", "--defined-only", text(program)])?).into_owned();
    let hexadecimal = |word: &str| u64::from_str_radix(word, 16).ok();
    let mut functions: Vec<(u64, u64)> = symbols
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [start, size, kind, _] = words[..] else { return None };
            let size = hexadecimal(size).filter(|&size| size > 0 && matches!(kind, "t" | "T"))?;
            Some((hexadecimal(start)?, size))
        })
        .collect();
    functions.sort_unstable();
    functions.dedup();
    if functions.is_empty() {
        return fail(format!("{}: it has no functions", program.display()));
    }
    let mut state = seed;
    let mut below = |limit: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    };
    let draw = (0..count).map(|_| {
        let (start, size) = functions[below(functions.len() as u64) as usize];
        start + below(size)
    });
    Ok(draw.collect())
}

/// A profile with a row for each of these addresses of a program, in the program's own address space.
pub fn profile(program: &Path, addresses: &[u64]) -> Outcome<Profile> {
    let notes = String::from_utf8_lossy(&output_of("readelf", &["-n", text(program)])?).into_owned();
    let build_id = notes.split("Build ID: ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    let strings = ["", "inuse_space", "bytes", "space", text(program), build_id];
    let locations = addresses.iter().zip(1..);
    Ok(Profile {
        string_table: strings.map(str::to_owned).to_vec(),
        sample_type: vec![ValueType { r#type: 1, unit: 2 }],
        period_type: Some(ValueType { r#type: 3, unit: 2 }),
        period: 524_288,
        mapping: vec![Mapping { id: 1, memory_limit: u64::MAX, filename: 4, build_id: 5, ..Mapping::default() }],
        location: locations
            .map(|(&address, id)| Location { id, mapping_id: 1, address, ..Location::default() })
            .collect(),
        sample: (1..=addresses.len() as u64)
            .map(|id| Sample { location_id: vec![id], value: vec![524_288], label: Vec::new() })
            .collect(),
        ..Profile::default()
    })
}
