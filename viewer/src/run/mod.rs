//! `run`: a program under libheapsift.so, and what it left.
//!
//! The dumps go to a directory named after the program and its pid. The pid is known only to the new
//! process, so the new process makes the directory and the options that name it, between fork and
//! exec. What the user had in `MALLOC_CONF` stays and stands last, where it wins; what stood in
//! `LD_PRELOAD` stays behind the library.

mod dumps;
mod system;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{env, fs, io};

pub use dumps::{Dump, dumps_in, some_dumps_in};
pub use system::{
    Ended, StartError, accept_signals, descriptor, die_of, listener_of, survive_file_limits, terminal_columns,
};

use crate::error::{Error, Result};

/// File times come from a clock that is read once a tick.
const CLOCK_SLACK: Duration = Duration::from_millis(20);

/// The library's file name.
const LIBRARY: &str = "libheapsift.so";

/// What to run, and how.
#[derive(Debug)]
pub struct Plan {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Where dumps go; `None`: a directory named after program and pid.
    pub out: Option<PathBuf>,
    /// Mean bytes between samples, as given.
    pub sample: Option<String>,
    /// The library.
    pub library: PathBuf,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub ended: Ended,
    /// The program's pid.
    pub pid: u32,
    /// Where its dumps are.
    pub directory: PathBuf,
    /// All dumps of this run: the program's and those of processes it started.
    pub dumps: Vec<Dump>,
}

/// The library beside the command, or where an installation puts it.
pub fn find_library(given: Option<&Path>) -> Result<PathBuf> {
    let asked = given.map(Path::to_owned).or_else(|| env::var_os("HEAPSIFT_LIB").map(PathBuf::from));
    if let Some(path) = asked {
        let found = fs::canonicalize(&path).map_err(|source| Error::io("use the library", &path, source))?;
        return checked(found);
    }
    let command = env::current_exe().map_err(|source| Error::io("find", Path::new("heapsift"), source))?;
    let beside = command.parent().unwrap_or(Path::new("/"));
    let places = [".", "../lib", "../lib/x86_64-linux-gnu", "../lib64", "../lib/heapsift"];
    for place in places {
        if let Ok(found) = fs::canonicalize(beside.join(place).join(LIBRARY)) {
            return checked(found);
        }
    }
    Err(Error::Usage(format!(
        "{LIBRARY} is neither beside {} nor in ../lib; name it with --lib or HEAPSIFT_LIB",
        command.display()
    )))
}

/// LD_PRELOAD separates by blanks and colons and knows no quoting.
fn checked(library: PathBuf) -> Result<PathBuf> {
    if library.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':' | b'\t' | b'\n')) {
        return Err(Error::input(&library, "LD_PRELOAD cannot hold a path with a blank or a colon; use a link"));
    }
    Ok(library)
}

impl Plan {
    /// Runs the program to its end and collects what it left.
    ///
    /// # Errors
    /// When the program could not be started. That it failed is no error but part of the answer.
    pub fn run(&self) -> core::result::Result<Finished, StartFailure> {
        let here = env::current_dir().map_err(|source| Error::io("find", Path::new("."), source))?;
        let program = self.command[0].clone();
        let base = here.join(self.out.as_deref().unwrap_or(Path::new("")));
        let user_conf = env::var_os("MALLOC_CONF");
        if let Some(bad) = base.as_os_str().as_bytes().iter().find(|byte| b",".contains(byte)) {
            let reason = format!("MALLOC_CONF cannot hold a path with {:?}", char::from(*bad));
            return Err(Error::input(&base, reason).into());
        }
        let directory = |pid: u32| match &self.out {
            Some(_) => base.clone(),
            None => here.join(default_directory(&program, pid)),
        };
        let prepare = |pid: u32| -> io::Result<Vec<(OsString, OsString)>> {
            let directory = directory(pid);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            Ok(self.environment(&directory, user_conf.as_deref()))
        };
        let since = SystemTime::now() - CLOCK_SLACK;
        let started = system::start(&program, &self.command, &prepare);
        let child = match started {
            Ok(child) => child,
            Err(StartError::Prepare(source)) => {
                let shown = directory(0);
                return Err(Error::io("create the directory for dumps", &shown, source).into());
            }
            Err(StartError::Execute(source, pid)) => {
                self.tidy(&directory(pid));
                let is_absent = source.kind() == io::ErrorKind::NotFound;
                let error = Error::io("run", Path::new(&program), source);
                return Err(StartFailure { error, status: if is_absent { 127 } else { 126 } });
            }
            Err(StartError::Fork(source)) => {
                return Err(Error::io("run", Path::new(&program), source).into());
            }
        };
        let ended = child.wait().map_err(|source| Error::io("wait for", Path::new(&program), source))?;
        system::accept_signals();
        let made = directory(child.pid());
        let looked_in = user_prefix(user_conf.as_deref())
            .map_or_else(|| made.clone(), |prefix| here.join(prefix).parent().unwrap_or(&here).to_owned());
        let mut dumps = dumps_in(&looked_in).unwrap_or_default();
        // A directory that was asked for may hold dumps of earlier runs.
        dumps.retain(|dump| dump.written >= since);
        self.tidy(&made);
        Ok(Finished { ended, pid: child.pid(), directory: looked_in, dumps })
    }

    /// Takes the directory away if we made it and nothing is in it: remove_dir refuses anything else.
    fn tidy(&self, made: &Path) {
        if self.out.is_none() {
            let _ = fs::remove_dir(made);
        }
    }

    /// The environment of the program: the caller's, with the two variables changed.
    fn environment(&self, directory: &Path, user_conf: Option<&OsStr>) -> Vec<(OsString, OsString)> {
        let mut environment: Vec<(OsString, OsString)> =
            env::vars_os().filter(|(name, _)| name != "LD_PRELOAD" && name != "MALLOC_CONF").collect();
        let mut preload = self.library.clone().into_os_string();
        if let Some(old) = env::var_os("LD_PRELOAD").filter(|old| !old.is_empty()) {
            preload.push(":");
            preload.push(old);
        }
        environment.push(("LD_PRELOAD".into(), preload));

        // The last of several settings of an option holds: first ours, then what the user had in the
        // environment, then what the command line asked for.
        let mut conf = b"prof:true,prof_final:true,prof_peak:true,prof_prefix:".to_vec();
        conf.extend_from_slice(directory.join("heapsift").as_os_str().as_bytes());
        if let Some(user) = user_conf.filter(|user| !user.is_empty()) {
            conf.push(b',');
            conf.extend_from_slice(user.as_bytes());
        }
        if let Some(sample) = &self.sample {
            conf.extend_from_slice(b",prof_sample:");
            conf.extend_from_slice(sample.as_bytes());
        }
        environment.push(("MALLOC_CONF".into(), OsString::from_vec(conf)));
        environment
    }

    /// Why a program may have left no dump, where that can be seen from its file.
    pub fn explain_absence(&self, ended: Ended) -> String {
        let program = Path::new(&self.command[0]);
        if let Some(path) = which(program) {
            let mode = fs::metadata(&path).map(|found| found.permissions().mode()).unwrap_or(0);
            if mode & 0o6000 != 0 {
                return "it is a set-uid or set-gid program, for which the loader ignores LD_PRELOAD".into();
            }
            if fs::read(&path).is_ok_and(|bytes| is_static_elf(&bytes)) {
                return "it is statically linked, so no library can be loaded before it".into();
            }
        }
        match ended {
            Ended::Killed(signal) => {
                format!("it was ended by signal {signal} before it could write one")
            }
            Ended::Exited(_) => "it ended without running its exit handlers, or changed its environment".into(),
        }
    }
}

/// A program that could not be started, and the exit status that says so.
#[derive(Debug)]
pub struct StartFailure {
    /// Why.
    pub error: Error,
    /// 127: there is no such program; 126: it cannot be executed; 2: the arguments are at fault.
    pub status: u8,
}

impl From<Error> for StartFailure {
    fn from(error: Error) -> Self {
        Self { error, status: 2 }
    }
}

/// `heapsift-<program>-<pid>`, without characters that MALLOC_CONF or a shell would trip over.
fn default_directory(program: &OsStr, pid: u32) -> String {
    let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+') { c } else { '_' })
        .take(64)
        .collect();
    format!("heapsift-{name}-{pid}")
}

/// The prefix that the user's own options ask for, which wins over ours.
fn user_prefix(conf: Option<&OsStr>) -> Option<PathBuf> {
    let conf = conf?.as_bytes();
    let settings = conf.split(|&byte| byte == b',');
    let found = settings.filter_map(|setting| setting.strip_prefix(b"prof_prefix:")).next_back()?;
    Some(PathBuf::from(OsStr::from_bytes(found)))
}

/// The file that a program's name stands for.
fn which(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 || program.is_absolute() {
        return Some(program.to_owned());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|place| place.join(program)).find(|file| file.is_file())
}

/// An ELF file that asks for no interpreter.
fn is_static_elf(bytes: &[u8]) -> bool {
    let word = |at: usize, length: usize| -> Option<u64> {
        let mut value = [0; 8];
        value[..length].copy_from_slice(bytes.get(at..at.checked_add(length)?)?);
        Some(u64::from_le_bytes(value))
    };
    let interpreter = || -> Option<bool> {
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return Some(true);
        }
        let (table, size, count) = (word(32, 8)?, word(54, 2)?, word(56, 2)?);
        for index in 0..count {
            let at = usize::try_from(table.checked_add(index * size)?).ok()?;
            if word(at, 4)? == u64::from(libc::PT_INTERP) {
                return Some(true);
            }
        }
        Some(false)
    };
    interpreter() == Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            command: vec!["true".into()],
            out: None,
            sample: Some("64KiB".into()),
            library: "/lib/libheapsift.so".into(),
        }
    }

    #[test]
    fn the_users_options_stand_after_ours() {
        let environment = plan().environment(Path::new("/tmp/d"), Some(OsStr::new("prof_sample:1MiB,narenas:2")));
        let conf = &environment.iter().find(|(name, _)| name == "MALLOC_CONF").unwrap().1;
        assert_eq!(
            conf,
            "prof:true,prof_final:true,prof_peak:true,prof_prefix:/tmp/d/heapsift,prof_sample:1MiB,narenas:2,prof_sample:64KiB"
        );
        let preload = &environment.iter().find(|(name, _)| name == "LD_PRELOAD").unwrap().1;
        assert!(preload.to_string_lossy().starts_with("/lib/libheapsift.so"));
    }

    #[test]
    fn directories_have_plain_names() {
        assert_eq!(default_directory(OsStr::new("/usr/bin/redis-server"), 7), "heapsift-redis-server-7");
        assert_eq!(default_directory(OsStr::new("a,b c"), 7), "heapsift-a_b_c-7");
    }

    #[test]
    fn the_last_prefix_wins() {
        let conf = OsStr::new("prof_prefix:/a/x,prof_prefix:/b/y");
        assert_eq!(user_prefix(Some(conf)), Some(PathBuf::from("/b/y")));
        assert_eq!(user_prefix(None), None);
    }

    #[test]
    fn static_programs_are_told_apart() {
        let this = fs::read("/proc/self/exe").unwrap();
        assert!(!is_static_elf(&this));
        assert!(!is_static_elf(b"#!/bin/sh\n"));
        let mut none = this[..64].to_vec();
        none[56] = 0; // No program headers at all.
        none[57] = 0;
        assert!(is_static_elf(&none));
    }

    #[test]
    fn a_library_with_a_blank_is_refused() {
        assert!(checked("/a b/libheapsift.so".into()).is_err());
        assert!(checked("/ab/libheapsift.so".into()).is_ok());
    }
}
