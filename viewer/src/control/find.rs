//! The control socket of a process, found by its number: where such sockets usually are, and among those that it listens
//! at. A process in a container has another number there, and its files are below `/proc/PID/root`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Client, is_socket};
use crate::error::{Error, Result};

/// The socket of a process.
///
/// # Errors
/// One line: there is no such process, or it has no socket, and what to do.
pub fn of_process(pid: u32) -> Result<Client> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let Ok(metadata) = fs::metadata(&process) else {
        return Err(Error::Usage(format!("there is no process {pid}")));
    };
    let inner = inner_pid(&process).unwrap_or(pid);
    let root = root_elsewhere(pid);
    let places =
        usual_places(metadata.uid(), inner).into_iter().chain(listened(&process, inner)).chain(chosen(&process, inner));
    let here = |place: PathBuf| match &root {
        Some(root) => root.join(place.strip_prefix("/").unwrap_or(&place)),
        None => place,
    };
    let found = places.map(here).find(|path| is_socket(path));
    let path = found.ok_or_else(|| Error::Usage(explain(pid, &process)))?;
    Ok(Client { path, pid: Some(pid) })
}

/// Where a process's files are, if it has another root directory, as in a container: the same paths are other files here
/// then.
pub fn root_elsewhere(pid: u32) -> Option<PathBuf> {
    let identity = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let inside = identity(&root.join("."))?;
    (Some(inside) != identity(Path::new("/"))).then_some(root)
}

/// Why there is no socket, as far as that can be seen.
fn explain(pid: u32, process: &Path) -> String {
    if let Err(error) = fs::read_link(process.join("root"))
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        return format!(
            "the files of process {pid} can't be seen: ask as its user, or as root of its own machine or container"
        );
    }
    let has_library = fs::read_to_string(process.join("maps")).is_ok_and(|maps| maps.contains("libheapsift"));
    if has_library {
        format!("process {pid} has no control socket: start it with MALLOC_CONF=prof_control:true")
    } else {
        format!(
            "process {pid} has no control socket: start it with the allocator (LD_PRELOAD=libheapsift.so) and \
             MALLOC_CONF=prof_control:true"
        )
    }
}

/// The process's number in its own namespace.
fn inner_pid(process: &Path) -> Option<u32> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

fn usual_places(uid: u32, pid: u32) -> Vec<PathBuf> {
    let mut directories = vec![PathBuf::from(format!("/run/user/{uid}/heapsift"))];
    // Only the user's own; of others nothing is known but the usual.
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == uid)
        && let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty())
    {
        directories.insert(0, Path::new(&runtime).join("heapsift"));
    }
    directories.push(PathBuf::from(format!("/tmp/heapsift-{uid}")));
    directories.into_iter().map(|directory| directory.join(format!("{pid}.sock"))).collect()
}

/// Paths of sockets at which somebody in the process's network listens, of the usual form.
fn listened(process: &Path, pid: u32) -> Vec<PathBuf> {
    let text = fs::read_to_string(process.join("net/unix")).unwrap_or_default();
    let name = format!("{pid}.sock");
    listening(&text)
        .filter(|path| path.file_name().is_some_and(|found| found == name.as_str()))
        .filter(|path| {
            let directory = path.parent().and_then(Path::file_name);
            directory.is_some_and(|directory| directory.to_string_lossy().starts_with("heapsift"))
        })
        .collect()
}

/// Paths in `/proc/net/unix` at which somebody listens.
fn listening(text: &str) -> impl Iterator<Item = PathBuf> {
    const ACCEPTS: u32 = 1 << 16;
    // Num RefCount Protocol Flags Type St Inode Path
    text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
        let path = words.nth(3)?;
        (flags & ACCEPTS != 0 && path.starts_with('/')).then(|| PathBuf::from(path))
    })
}

/// The path that the process's options name, if they do.
fn chosen(process: &Path, pid: u32) -> Option<PathBuf> {
    let environment = fs::read(process.join("environ")).ok()?;
    let path = chosen_by(&environment, pid)?;
    let path = match path.is_absolute() {
        true => path,
        false => fs::read_link(process.join("cwd")).ok()?.join(path),
    };
    Some(if path.is_dir() { path.join(format!("{pid}.sock")) } else { path })
}

fn chosen_by(environment: &[u8], pid: u32) -> Option<PathBuf> {
    let options = environment.split(|&b| b == 0).find_map(|variable| variable.strip_prefix(b"MALLOC_CONF="))?;
    let options = String::from_utf8_lossy(options).into_owned();
    let value = options.split(',').rev().find_map(|pair| pair.strip_prefix("prof_control:"))?;
    (value != "true" && value != "false")
        .then(|| PathBuf::from(value.replace("%p", &pid.to_string()).replace("%%", "%")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_are_listened_at() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12345 /tmp/heapsift-0/77.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 12346 /tmp/heapsift-0/78.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12347 @abstract\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12348\n";
        assert_eq!(listening(text).collect::<Vec<_>>(), [PathBuf::from("/tmp/heapsift-0/77.sock")]);
    }

    #[test]
    fn a_chosen_path() {
        let path = |options: &str| chosen_by(format!("A=b\0MALLOC_CONF={options}\0C=d").as_bytes(), 7);
        assert_eq!(path("prof:true,prof_control:/run/x-%p.sock"), Some(PathBuf::from("/run/x-7.sock")));
        assert_eq!(path("prof_control:/a,prof_control:true"), None);
        assert_eq!(path("prof:true"), None);
    }

    #[test]
    fn no_process() {
        let error = of_process(4_000_000_000).unwrap_err().to_string();
        assert_eq!(error, "there is no process 4000000000");
        let error = of_process(std::process::id()).unwrap_err().to_string();
        assert!(error.contains("prof_control:true"), "{error}");
    }
}
