//! Compiles the benchmarks' own programs with gcc and g++, once for each change of a source.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, Outcome, fail, home};

/// Compiles `source`, a path below the benchmarks' directory, to `output` with more `options`. Sources end in `.c` or
/// `.cc`. Does nothing where the output is newer than the source and every header beside it.
pub fn compile(source: &str, output: &Path, options: &[&str]) -> Outcome<()> {
    let source = home().join(source);
    if is_fresh(&source, output) {
        return Ok(());
    }
    let is_cxx = source.extension().is_some_and(|extension| extension == "cc");
    let compiler = if is_cxx { "g++" } else { "gcc" };
    let standard = if is_cxx { "-std=c++17" } else { "-std=gnu17" };
    let fresh = partial(output);
    // No built-in malloc: the compiler would remove the very calls that are measured.
    let mut command = Command::new(compiler);
    command.args([standard, "-O2", "-g", "-fno-builtin", "-Wall", "-Wextra", "-pthread", "-o"]);
    command.arg(&fresh).arg(&source).args(options).env_remove("LD_PRELOAD");
    let answer = command.output().map_err(|error| Failure(format!("{compiler} cannot be run: {error}")))?;
    if !answer.status.success() {
        return fail(format!("{} does not compile:\n{}", source.display(), String::from_utf8_lossy(&answer.stderr)));
    }
    fs::rename(&fresh, output).map_err(|error| Failure(format!("{}: {error}", output.display())))
}

/// A name for a file that is being made; two processes never share it.
fn partial(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

/// Whether `output` is newer than the source and every header beside it.
pub fn is_fresh(source: &Path, output: &Path) -> bool {
    let age = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let Some(built) = age(output) else {
        return false;
    };
    let headers = source.parent().and_then(|directory| fs::read_dir(directory).ok());
    let headers = headers.into_iter().flatten().flatten().map(|entry| entry.path());
    let is_header = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "h");
    headers.filter(is_header).chain([source.to_owned()]).all(|path| age(&path).is_some_and(|changed| changed < built))
}
