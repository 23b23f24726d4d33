//! Programs of the distribution that tests use, and the C compiler.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::artifacts::{Lock, archive, library, repository, target_directory};
use crate::child::Program;

/// Where a program is, looked for on PATH and where system programs and PostgreSQL's are.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    places
        .into_iter()
        .map(|place| place.join(name))
        .find(|file| fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0))
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

/// A Python that has DuckDB: the one that `tests/run` makes below the target directory, or another.
#[track_caller]
pub fn python_with_duckdb() -> Option<PathBuf> {
    let candidates = [Some(target_directory().join("python/bin/python3")), find("python3")];
    let has_it = |python: &PathBuf| {
        Command::new(python)
            .args(["-c", "import duckdb"])
            .env_remove("LD_PRELOAD")
            .output()
            .is_ok_and(|o| o.status.success())
    };
    let found = candidates.into_iter().flatten().find(has_it);
    if found.is_none() {
        missing("DuckDB for Python (python3 -m venv target/python && target/python/bin/pip install duckdb)");
    }
    found
}

/// Builds `tests/go/<source>`, with the Go compiler that [`need`] has found, into the program `to`.
#[track_caller]
pub fn build_go(go: &Path, source: &str, to: &Path) {
    let build = Program::new(go).args(["build", "-o"]).arg(to).arg(repository().join("tests/go").join(source));
    let build =
        build.env("GOCACHE", target_directory().join("heapsift-go")).env("GOFLAGS", "").env("GO111MODULE", "off");
    build.run().expect_success();
}

/// The options of every C fixture: optimised, no frame pointers, and every call to malloc really made.
const FLAGS: [&str; 8] =
    ["-O2", "-g", "-fno-builtin", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Werror", "-pthread"];

/// Compiles `tests/<source>` with more options, unless that has been done since the source changed; where it is.
pub fn compile(source: &str, more: &[&str]) -> PathBuf {
    let name: String = more.concat().chars().filter(char::is_ascii_alphanumeric).collect();
    compile_named(source, &name, more, &[])
}

/// Has a program write dumps when it ends, by the control names that `names` lists, such as `prof.waste_dump`: in a
/// destructor of a library that comes along.
pub fn dumping_at_exit(program: Program, names: &str) -> Program {
    program.env("DUMP_NAMES", names).also(&compile("c/dump_at_exit.c", &["-shared", "-fPIC"]))
}

/// How a program gets the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linkage {
    /// By `LD_PRELOAD`, unknown to the program.
    Preload,
    /// Linked with the shared library.
    Shared,
    /// Linked with the static library, otherwise dynamic.
    Archive,
    /// Linked with the static library, and all else static too.
    Static,
    /// As [`Linkage::Static`], at an address chosen when it starts.
    StaticPie,
}

impl Linkage {
    /// All ways.
    pub const ALL: [Linkage; 5] =
        [Linkage::Preload, Linkage::Shared, Linkage::Archive, Linkage::Static, Linkage::StaticPie];
    /// Those in which a program may call what only this library has.
    pub const LINKED: [Linkage; 4] = [Linkage::Shared, Linkage::Archive, Linkage::Static, Linkage::StaticPie];

    /// A C or C++ program of `tests/`, built this way and ready to run with these options of `MALLOC_CONF`.
    pub fn program(self, source: &str, conf: &str) -> Program {
        let path = self.compile(source);
        let program = Program::new(path);
        if self == Linkage::Preload { program.under(conf) } else { program.env("MALLOC_CONF", conf) }
    }

    /// Compiles a program of `tests/` this way.
    pub fn compile(self, source: &str) -> PathBuf {
        let file = match self {
            Linkage::Preload => library(),
            Linkage::Shared => library(),
            Linkage::Archive | Linkage::Static | Linkage::StaticPie => archive(),
        };
        let directory = file.parent().expect("a file is in a directory").display().to_string();
        let file_name = file.display().to_string();
        let rpath = format!("-Wl,-rpath,{directory}");
        let include = format!("-I{}", repository().join("include").display());
        let mut more = vec![include.as_str()];
        match self {
            Linkage::Preload => more.clear(),
            Linkage::Shared => more.extend([file_name.as_str(), &rpath]),
            Linkage::Archive => more.push(&file_name),
            Linkage::Static => more.extend(["-static", &file_name]),
            Linkage::StaticPie => more.extend(["-static-pie", "-fPIE", &file_name]),
        }
        compile_named(source, &format!("{self:?}").to_lowercase(), &more, &[file])
    }
}

/// Compiles with `more` behind the source, unless the result is newer than the source, all headers and `inputs`.
fn compile_named(source: &str, name: &str, more: &[&str], inputs: &[PathBuf]) -> PathBuf {
    let source = repository().join("tests").join(source);
    let stem = source.file_stem().expect("a source file has a name").to_string_lossy().into_owned();
    let extension = source.extension().unwrap_or_default().to_string_lossy().into_owned();
    let directory = target_directory().join("heapsift-c");
    fs::create_dir_all(&directory).expect("the target directory can be written");
    let separator = if name.is_empty() { "" } else { "-" };
    let stem = format!("{stem}{separator}{name}");
    let binary = directory.join(&stem);
    let _guard = Lock::acquire(&directory.join(format!("{stem}.lock")));
    let age = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let headers = ["tests/c", "include/heapsift"].into_iter().flat_map(|directory| {
        let entries = fs::read_dir(repository().join(directory)).expect("the directory is there");
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "h"))
    });
    let newest = headers.chain(inputs.iter().cloned()).chain([source.clone()]).filter_map(|path| age(&path)).max();
    if age(&binary).is_some_and(|built| newest.is_some_and(|changed| built > changed)) {
        return binary;
    }
    let fresh = directory.join(format!("{stem}.{}", std::process::id()));
    let mut compiler = match extension.as_str() {
        "rs" => Command::new("rustc"),
        "cpp" => Command::new("g++"),
        _ => Command::new("gcc"),
    };
    match extension.as_str() {
        "rs" => compiler.args(["--edition=2024", "-O", "-g"]),
        "cpp" => compiler.args(FLAGS).arg("-std=c++17"),
        _ => compiler.args(FLAGS),
    };
    let output = compiler
        .arg("-o")
        .arg(&fresh)
        .arg(&source)
        .args(more)
        .env_remove("LD_PRELOAD")
        .output()
        .unwrap_or_else(|error| panic!("{compiler:?}: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&fresh, &binary).expect("the target directory can be written");
    binary
}
