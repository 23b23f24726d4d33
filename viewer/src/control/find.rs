//! The control socket of a process, found by its number: where such sockets usually are, and among those that it listens
//! at. A process in a container has another number there, and its files are below `/proc/PID/root`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use regex::bytes::Regex;

use super::{Client, is_of};
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
    let places = usual_places(metadata.uid(), inner).into_iter().chain(listened(&process, inner));
    let here = |place: PathBuf| match &root {
        Some(root) => root.join(place.strip_prefix("/").unwrap_or(&place)),
        None => place,
    };
    // At its place, or at a path that fits, may be another process's.
    let found = places.map(here).find(|path| is_of(path, pid));
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

/// Paths of sockets at which somebody in the process's network listens, of the usual form, or of the one that the process's
/// options name.
fn listened(process: &Path, pid: u32) -> Vec<PathBuf> {
    let table = fs::read(process.join("net/unix")).unwrap_or_default();
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    let chosen = chosen_by(&environment, pid);
    // A path may be relative to where the process was when it started, which is where it is as a rule.
    let here = fs::read_link(process.join("cwd")).unwrap_or_default();
    listening(&table)
        .filter(|path| is_usual(path, pid) || chosen.as_ref().is_some_and(|form| form.is_match(path)))
        .map(|path| here.join(OsStr::from_bytes(path)))
        .collect()
}

/// Whether a socket is where the library makes them, for a process of this number.
fn is_usual(path: &[u8], pid: u32) -> bool {
    let path = Path::new(OsStr::from_bytes(path));
    let directory = path.parent().and_then(Path::file_name);
    path.file_name().is_some_and(|name| name == format!("{pid}.sock").as_str())
        && directory.is_some_and(|directory| directory.as_bytes().starts_with(b"heapsift"))
}

/// Paths in `/proc/net/unix` at which somebody listens.
fn listening(table: &[u8]) -> impl Iterator<Item = &[u8]> {
    const ACCEPTS: u32 = 1 << 16;
    // Num RefCount Protocol Flags Type St Inode Path; the last number is at least five characters wide.
    table.split(|&byte| byte == b'\n').skip(1).filter_map(|line| {
        let mut words = line.splitn(7, |&byte| byte == b' ');
        let flags = u32::from_str_radix(std::str::from_utf8(words.nth(3)?).ok()?, 16).ok()?;
        let rest = words.nth(2)?.trim_ascii_start();
        let path = &rest[rest.iter().position(|&byte| byte == b' ')? + 1..];
        (flags & ACCEPTS != 0 && !path.starts_with(b"@")).then_some(path)
    })
}

/// The form of the path that the process's options name, if they do: that of the socket, or of a directory with it. The
/// host's name and the program's can't be had from everywhere, nor the moment at which the process started: they may be
/// anything there.
fn chosen_by(environment: &[u8], pid: u32) -> Option<Regex> {
    let options = environment.split(|&b| b == 0).find_map(|variable| variable.strip_prefix(b"MALLOC_CONF="))?;
    let options = String::from_utf8_lossy(options).into_owned();
    let value = options.split(',').rev().find_map(|pair| pair.strip_prefix("prof_control:"))?;
    if matches!(value, "true" | "false") {
        return None;
    }
    let mut form = String::new();
    let mut parts = value.split('%');
    form.push_str(&regex::escape(parts.next().unwrap_or("")));
    while let Some(part) = parts.next() {
        let mut rest = part.chars();
        let filled = match rest.next() {
            Some('p') => pid.to_string(),
            Some('t') => "[0-9]+".to_owned(),
            Some('h' | 'e') => "(?-u:[^/])*".to_owned(),
            // Two of them are one, and what follows is as it is.
            None => {
                rest = parts.next().unwrap_or("").chars();
                "%".to_owned()
            }
            Some(other) => format!("%{}", regex::escape(&other.to_string())),
        };
        form.push_str(&filled);
        form.push_str(&regex::escape(rest.as_str()));
    }
    Regex::new(&format!(r"\A{form}(?:/+{pid}\.sock)?\z")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_are_listened_at() {
        let text = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12345 /tmp/heapsift-0/77.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 12346 /tmp/heapsift-0/78.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12347 @abstract\n\
            0000000000000000: 00000002 00000000 00010000 0001 01   348 /tmp/a  b\xff\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12348\n";
        assert_eq!(listening(text).collect::<Vec<_>>(), [&b"/tmp/heapsift-0/77.sock"[..], b"/tmp/a  b\xff"]);
        assert!(is_usual(b"/run/user/1/heapsift/7.sock", 7) && is_usual(b"/tmp/heapsift-1/7.sock", 7));
        assert!(!is_usual(b"/tmp/heapsift-1/77.sock", 7) && !is_usual(b"/tmp/other/7.sock", 7));
    }

    #[test]
    fn a_chosen_path() {
        let form = |options: &str| chosen_by(format!("A=b\0MALLOC_CONF={options}\0C=d").as_bytes(), 7);
        let fits = |options: &str, path: &[u8]| form(options).unwrap().is_match(path);
        assert!(fits("prof:true,prof_control:/run/x-%p.sock", b"/run/x-7.sock"));
        assert!(!fits("prof_control:/run/x-%p.sock", b"/run/x-8.sock"));
        assert!(!fits("prof_control:/run/x-%p.sock", b"/run/x-7Xsock"));
        assert!(fits("prof_control:/run/%h.%e.%t", b"/run/host.a \xff.1700000000"));
        assert!(!fits("prof_control:/run/%h.%e.%t", b"/run/host.a/b.1700000000"));
        assert!(fits("prof_control:/run/100%%-%x%", b"/run/100%-%x%"));
        assert!(fits("prof_control:/run/%%p", b"/run/%p"));
        // A directory, and a relative path.
        assert!(fits("prof_control:/run/%e", b"/run/app/7.sock") && !fits("prof_control:/run/%e", b"/run/app/8.sock"));
        assert!(fits("prof_control:ctl.sock", b"ctl.sock"));
        assert!(form("prof_control:/a,prof_control:true").is_none());
        assert!(form("prof:true").is_none());
    }

    #[test]
    fn no_process() {
        let error = of_process(4_000_000_000).unwrap_err().to_string();
        assert_eq!(error, "there is no process 4000000000");
        let error = of_process(std::process::id()).unwrap_err().to_string();
        assert!(error.contains("prof_control:true"), "{error}");
    }
}
