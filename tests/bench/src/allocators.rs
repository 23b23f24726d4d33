//! The allocators that are compared: each a name, a file to preload, and variables of the environment.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, fail};

/// One allocator in one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocator {
    /// Its column in the tables.
    pub name: String,
    /// What is preloaded; nothing for the C library's own.
    pub preload: Option<PathBuf>,
    /// Variables of the environment.
    pub variables: Vec<(String, String)>,
}

/// Debian's packages of peers: the name in the tables, the file, the package.
const PACKAGED: [(&str, &str, &str); 3] = [
    ("jemalloc", "libjemalloc.so.2", "libjemalloc2"),
    ("mimalloc2", "libmimalloc.so.2.0", "libmimalloc2.0"),
    ("gperftools", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
];

/// Where Debian keeps libraries.
const PLACES: [&str; 3] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib", "/usr/local/lib"];

/// Variables that would change what an allocator does; none of them reaches a program under test by accident.
pub const CONFIGURATION: [&str; 5] =
    ["LD_PRELOAD", "MALLOC_CONF", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "TCMALLOC_SAMPLE_PARAMETER"];

impl Allocator {
    fn new(name: &str, preload: Option<PathBuf>, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        Allocator { name: name.to_owned(), preload, variables }
    }

    /// Our library with these options.
    pub fn ours(name: &str, library: &Path, conf: &str) -> Self {
        Allocator::new(name, Some(library.to_owned()), &[("MALLOC_CONF", conf)])
    }

    /// Sets a command's environment so that its program allocates from this one.
    pub fn dress(&self, command: &mut Command) {
        for key in CONFIGURATION {
            command.env_remove(key);
        }
        if let Some(path) = &self.preload {
            command.env("LD_PRELOAD", path);
        }
        for (key, value) in &self.variables {
            command.env(key, value);
        }
    }

    /// Whether it samples allocations, so that a count needs many of them to be an average.
    pub fn is_sampling(&self) -> bool {
        self.variables.iter().any(|(key, value)| key == "MALLOC_CONF" && value.contains("prof:true"))
    }
}

/// The built-in allocators: glibc, ours without and with profiling, Debian's peers that are installed.
pub fn usual(library: &Path) -> Vec<Allocator> {
    let mut all = vec![
        Allocator::new("glibc", None, &[]),
        Allocator::ours("heapsift", library, "prof:false"),
        Allocator::ours("heapsift-prof", library, "prof:true"),
    ];
    all.extend(packaged());
    all
}

/// Debian's peers that are installed.
fn packaged() -> impl Iterator<Item = Allocator> {
    PACKAGED.iter().filter_map(|(name, file, _)| {
        let found = PLACES.iter().map(|place| Path::new(place).join(file)).find(|path| path.exists())?;
        Some(Allocator::new(name, Some(found), &[]))
    })
}

/// The packages of the built-in peers.
pub fn packages() -> impl Iterator<Item = &'static str> {
    PACKAGED.iter().map(|&(_, _, package)| package)
}

/// Peers that `tests/bench/peers/build` has made: every `NAME.so` in its directory.
pub fn built(directory: &Path) -> Vec<Allocator> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut found: Vec<Allocator> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "so"))
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            Some(Allocator::new(&name, Some(path), &[]))
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Reads `NAME=PATH[,VARIABLE=VALUE...]`; an empty path is the C library's own allocator. A value keeps its commas when
/// what follows them is not a variable in capitals, as in `MALLOC_CONF=prof:true,lg_prof_sample:17`.
pub fn parse(text: &str) -> Outcome<Allocator> {
    let Some((name, rest)) = text.split_once('=') else {
        return fail(format!("--peer {text}: expected NAME=PATH[,VARIABLE=VALUE...]"));
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return fail(format!("--peer {text}: the name before '=' is empty or has spaces"));
    }
    let mut words = rest.split(',');
    let path = words.next().unwrap_or_default();
    let mut variables: Vec<(String, String)> = Vec::new();
    for word in words {
        match (word.split_once('='), variables.last_mut()) {
            (Some((key, value)), _) if is_variable(key) => variables.push((key.to_owned(), value.to_owned())),
            (_, Some((_, value))) => {
                value.push(',');
                value.push_str(word);
            }
            (_, None) => return fail(format!("--peer {text}: '{word}' is not VARIABLE=VALUE")),
        }
    }
    let preload = if path.is_empty() { None } else { Some(PathBuf::from(path)) };
    if let Some(path) = &preload
        && !path.exists()
    {
        return fail(format!("--peer {name}: {} is not there", path.display()));
    }
    let preload = preload.map(|path| std::path::absolute(&path).unwrap_or(path));
    Ok(Allocator { name: name.to_owned(), preload, variables })
}

fn is_variable(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Keeps the allocators that are named, in that order; all where no name is given.
pub fn select(all: Vec<Allocator>, names: &[String]) -> Outcome<Vec<Allocator>> {
    if names.is_empty() {
        return Ok(all);
    }
    names
        .iter()
        .map(|name| match all.iter().find(|allocator| allocator.name == *name) {
            Some(found) => Ok(found.clone()),
            None => {
                let known: Vec<&str> = all.iter().map(|allocator| allocator.name.as_str()).collect();
                fail(format!("no allocator '{name}' here; there are {}", known.join(", ")))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_read_with_their_variables() {
        let peer = parse("a=/bin/true,MALLOC_CONF=prof:true,lg_prof_sample:17,X_1=y=z").unwrap();
        assert_eq!(peer.preload.as_deref(), Some(Path::new("/bin/true")));
        let expected = [("MALLOC_CONF", "prof:true,lg_prof_sample:17"), ("X_1", "y=z")];
        assert_eq!(peer.variables, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert!(peer.is_sampling());
    }

    #[test]
    fn a_peer_without_a_path_is_the_c_library() {
        let peer = parse("one-arena=,MALLOC_ARENA_MAX=1").unwrap();
        assert_eq!(peer.preload, None);
        assert_eq!(peer.variables.len(), 1);
    }

    #[test]
    fn bad_peers_are_refused() {
        for bad in ["x", "=/bin/true", "x=/no/such/file", "x=/bin/true,prof:true"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn selection_keeps_the_order_asked_for() {
        let all = usual(Path::new("/bin/true"));
        let two = select(all.clone(), &["heapsift-prof".into(), "glibc".into()]).unwrap();
        assert_eq!(two.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["heapsift-prof", "glibc"]);
        assert!(select(all, &["nobody".into()]).unwrap_err().0.contains("heapsift-prof"));
    }
}
