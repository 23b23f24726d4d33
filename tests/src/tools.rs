//! Programs of the distribution that tests use, and the C compiler.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::artifacts::{Lock, repository, target_directory};

/// Where a program is, looked for on PATH and where system programs and PostgreSQL's are.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    places.into_iter().map(|place| place.join(name)).find(|file| {
        fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

/// Where a program is; without it the test is skipped, or fails where all tools were promised.
#[track_caller]
pub fn need(name: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        missing(name);
    }
    found
}

/// Debian's jemalloc, to compare with; without it the comparison is left out, or fails where all tools were promised.
#[track_caller]
pub fn jemalloc() -> Option<PathBuf> {
    let places = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let found = places.iter().map(|place| Path::new(place).join("libjemalloc.so.2")).find(|path| path.exists());
    if found.is_none() {
        missing("libjemalloc.so.2");
    }
    found
}

/// Says that something is not installed. Panics where all tools were promised.
#[track_caller]
pub fn missing(what: &str) {
    let promised = std::env::var_os("HEAPSIFT_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(!promised, "{what} is not installed");
    println!("skipped: {what} is not installed");
}

/// User and group id of `name`, where we are root and so may become that user.
pub fn user_ids(name: &str) -> Option<(u32, u32)> {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = users.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// A Python that has its own test suite: the distribution's with `libpython3-testsuite`, or another.
pub fn python_with_tests() -> Option<PathBuf> {
    let candidates = [Some(PathBuf::from("/usr/bin/python3")), find("python3")];
    let script = "import sys, test.test_json, test.test_threading, test.test_subprocess; print(sys.executable)";
    candidates.into_iter().flatten().find_map(|python| {
        let output = Command::new(python).args(["-c", script]).env_remove("LD_PRELOAD").output().ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| PathBuf::from(path.trim()))
    })
}

/// The options of every C fixture: optimised, no frame pointers, and every call to malloc really made.
const FLAGS: [&str; 8] =
    ["-O2", "-g", "-fno-builtin", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Werror", "-pthread"];

/// Compiles `tests/<source>` with more options, unless that has been done since the source changed; where it is.
pub fn compile(source: &str, more: &[&str]) -> PathBuf {
    let source = repository().join("tests").join(source);
    let stem = source.file_stem().expect("a source file has a name").to_string_lossy().into_owned();
    let directory = target_directory().join("heapsift-c");
    fs::create_dir_all(&directory).expect("the target directory can be written");
    let options: String = more.concat().chars().filter(char::is_ascii_alphanumeric).collect();
    let binary = directory.join(format!("{stem}{options}"));
    let _guard = Lock::acquire(&directory.join(format!("{stem}{options}.lock")));
    let age = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    // What C programs share lies beside them.
    let header = repository().join("tests/c/allocator.h");
    let changed = age(&source).zip(age(&header)).map(|(source, header)| source.max(header));
    if age(&binary).is_some_and(|built| changed.is_some_and(|changed| built > changed)) {
        return binary;
    }
    let fresh = directory.join(format!("{stem}{options}.{}", std::process::id()));
    let output = Command::new("gcc")
        .args(FLAGS)
        .arg("-o")
        .arg(&fresh)
        .arg(&source)
        .args(more)
        .env_remove("LD_PRELOAD")
        .output()
        .expect("gcc is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&fresh, &binary).expect("the target directory can be written");
    binary
}
