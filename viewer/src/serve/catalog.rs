//! What there is to choose from: files, dumps that come and go in directories, and profiles taken of what is alive.
//!
//! Directories are looked at when somebody looks at the list, so that nothing is done while nobody does. The page knows
//! numbers only; no path of a request leads anywhere.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use axum::body::Bytes;
use serde_json::{Value, json};

use super::live::Live;
use crate::control::{self, Client};
use crate::error::{Error, Result};
use crate::escape;
use crate::input::fetch;
use crate::run::Dump;

/// Dumps of a directory that are listed, the newest.
const LISTED: usize = 5000;
/// Profiles of this moment that are kept.
const SNAPSHOTS: usize = 64;
/// Bytes that they may have together.
const SNAPSHOT_BYTES: usize = 256 << 20;
/// How files of a directory end that are taken for profiles.
const ENDINGS: [&str; 4] = [".pb.gz", ".heap", ".pprof", ".prof"];

/// Why a pipe or a device is refused.
const NO_FILE: &str = "what is served is read again and again: it must be a file";

/// A number by which the page knows something; never given twice.
pub type Id = u32;

/// What tells whether a file is still the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Version {
    modified: (i64, i64),
    length: u64,
    inode: u64,
}

/// Something that was named on the command line.
#[derive(Clone, Debug)]
enum Place {
    File(PathBuf),
    Directory(PathBuf),
}

/// Where a profile comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Read anew when the file changes.
    File(PathBuf),
    /// Taken when it is asked for.
    Live(Arc<Live>),
    /// Taken before, gzip pprof with names; of which live one, and what that was asked for.
    Snapshot(Bytes, Id, &'static str),
}

/// What a profile says of itself, for the list.
#[derive(Clone, Debug)]
pub struct Told {
    /// When it was made, in nanoseconds since 1970; 0 if it doesn't say.
    pub time_nanos: i64,
    /// The sum of the column that is shown first.
    pub total: i64,
    /// Its unit.
    pub unit: String,
    /// What it counts.
    pub kind: String,
    /// Samples in it.
    pub samples: u64,
}

/// A line of the list.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it is still the same.
    pub version: Version,
    /// What it is called.
    pub name: String,
    /// Where it was found.
    group: String,
    /// The process, the number and the kind, where the name tells them.
    dump: Option<(u32, u64, char)>,
    /// When it was written, in nanoseconds since 1970.
    written: i64,
    bytes: u64,
    /// What it says of itself or why it can't be read, once that is known.
    told: Option<core::result::Result<Told, String>>,
    /// Counts requests, which tells which snapshot nobody looks at.
    asked: u64,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Id, Entry>,
    paths: HashMap<PathBuf, Id>,
    /// What can't be looked at, and why.
    problems: Vec<(String, String)>,
    next: Id,
    /// Changes whenever anything does.
    revision: u64,
    now: u64,
}

/// All of it.
#[derive(Debug)]
pub struct Catalog {
    places: Vec<Place>,
    state: Mutex<State>,
}

impl Catalog {
    /// Of what was named on the command line: files, directories, addresses, numbers of processes, sockets.
    ///
    /// # Errors
    /// One of them isn't there.
    pub fn new(words: &[PathBuf]) -> Result<Self> {
        let catalog = Self { places: Vec::new(), state: Mutex::default() };
        let (mut places, mut lives) = (Vec::new(), Vec::new());
        for path in words {
            let word = path.to_string_lossy();
            if fetch::is_url(&word) {
                fetch::check(&word).map_err(|reason| Error::input(path, reason))?;
                lives.push(Live::Address(word.into_owned()));
            } else if word.parse::<u32>().is_ok() || control::is_socket(path) {
                let client = Client::of(&word)?;
                client.ask("get version")?;
                lives.push(Live::Process(client));
            } else if path == Path::new("-") {
                return Err(Error::input(path, NO_FILE));
            } else {
                let found = fs::metadata(path).map_err(|source| Error::io("read", path, source))?;
                places.push(match found.is_dir() {
                    true => Place::Directory(path.clone()),
                    // To open a pipe would wait for somebody who writes to it.
                    false if !found.is_file() => return Err(Error::input(path, NO_FILE)),
                    false => Place::File(path.clone()),
                });
            }
        }
        let mut state = catalog.lock();
        for live in lives {
            let (name, dump) = (live.name(), live.pid().map(|pid| (pid, 0, 'l')));
            state.add(Entry { dump, ..Entry::new(Origin::Live(Arc::new(live)), name, String::new()) });
        }
        drop(state);
        Ok(Self { places, ..catalog })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is in it is whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at files and directories again; how many profiles there are to choose from.
    pub fn scan(&self) -> usize {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        for place in &self.places {
            match place {
                Place::File(path) => found.push((path.clone(), String::new(), fs::metadata(path))),
                Place::Directory(directory) => match profiles_in(directory) {
                    Ok((files, left_out)) => {
                        let group = directory.to_string_lossy().into_owned();
                        found.extend(files.into_iter().map(|(path, metadata)| (path, group.clone(), Ok(metadata))));
                        if left_out > 0 {
                            problems.push((group, format!("{left_out} older files are not listed")));
                        }
                    }
                    Err(error) => {
                        problems.push((directory.to_string_lossy().into_owned(), format!("cannot be read: {error}")))
                    }
                },
            }
        }
        let mut state = self.lock();
        let is_there: HashSet<Id> =
            found.into_iter().map(|(path, group, metadata)| state.see(path, group, metadata)).collect();
        let gone = state.entries.iter().filter(|(id, entry)| entry.is_file() && !is_there.contains(id));
        for id in gone.map(|(&id, _)| id).collect::<Vec<Id>>() {
            state.remove(id);
        }
        if state.problems != problems {
            state.problems = problems;
            state.revision += 1;
        }
        state.entries.len()
    }

    /// A file that nothing is known of yet, the newest.
    pub fn unread(&self) -> Option<Id> {
        let state = self.lock();
        let unread = state.entries.iter().filter(|(_, entry)| entry.is_file() && entry.told.is_none());
        unread.max_by_key(|(id, entry)| (entry.written, **id)).map(|(&id, _)| id)
    }

    /// Writes down what was found in a profile, unless it is another one by now.
    pub fn tell(&self, id: Id, version: Version, told: core::result::Result<Told, String>) {
        let mut state = self.lock();
        if let Some(entry) = state.entries.get_mut(&id)
            && entry.version == version
        {
            entry.told = Some(told);
            state.revision += 1;
        }
    }

    /// A line of the list, as it is now.
    pub fn get(&self, id: Id) -> Option<Entry> {
        let mut state = self.lock();
        state.now += 1;
        let now = state.now;
        let entry = state.entries.get_mut(&id)?;
        entry.asked = now;
        Some(entry.clone())
    }

    /// Keeps a profile that was taken just now; its number.
    pub fn keep(&self, of: Id, kind: &'static str, bytes: Bytes, told: Told) -> Id {
        let mut state = self.lock();
        let (name, dump) =
            state.entries.get(&of).map_or((String::new(), None), |entry| (entry.name.clone(), entry.dump));
        let length = bytes.len();
        let written = if told.time_nanos != 0 { told.time_nanos } else { nanos(SystemTime::now()) };
        let fresh = Entry {
            dump: dump.map(|(pid, _, kind)| (pid, u64::from(state.next), kind)),
            written,
            bytes: length as u64,
            told: Some(Ok(told)),
            ..Entry::new(Origin::Snapshot(bytes, of, kind), name, String::new())
        };
        let id = state.add(fresh);
        // Those that nobody has looked at for longest go.
        loop {
            let kept = state.entries.iter().filter_map(|(&id, entry)| match &entry.origin {
                Origin::Snapshot(bytes, ..) => Some((entry.asked, id, bytes.len())),
                _ => None,
            });
            let kept: Vec<_> = kept.collect();
            let all: usize = kept.iter().map(|(_, _, bytes)| bytes).sum();
            let oldest = kept.iter().filter(|(_, each, _)| *each != id).min();
            match oldest {
                Some(&(_, oldest, _)) if kept.len() > SNAPSHOTS || all > SNAPSHOT_BYTES => state.remove(oldest),
                _ => return id,
            }
        }
    }

    /// The profiles of the same process up to this one, the oldest first: of a directory, or taken of one that is alive.
    pub fn series(&self, id: Id) -> Vec<Id> {
        let state = self.lock();
        let Some(this) = state.entries.get(&id) else { return Vec::new() };
        let key = |entry: &Entry| (entry.written_or_told(), entry.dump.map_or(0, |(_, sequence, _)| sequence));
        let is_of_it = |entry: &Entry| match (&entry.origin, &this.origin) {
            (Origin::Snapshot(_, a, of_a), Origin::Snapshot(_, b, of_b)) => (a, of_a) == (b, of_b),
            (Origin::File(_), Origin::File(_)) => {
                let same = |entry: &Entry| entry.dump.filter(|(_, _, kind)| *kind != 'p').map(|(pid, ..)| pid);
                entry.group == this.group && same(this).is_some() && same(entry) == same(this)
            }
            _ => false,
        };
        let is_readable = |entry: &Entry| !matches!(entry.told, Some(Err(_)));
        let mut all: Vec<_> = state
            .entries
            .iter()
            .filter(|(_, entry)| is_of_it(entry) && is_readable(entry) && key(entry) <= key(this))
            .map(|(&id, entry)| (key(entry), id))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    /// The list for the page; only its revision where that was seen already.
    pub fn json(&self, seen: Option<u64>) -> Value {
        let state = self.lock();
        if seen == Some(state.revision) {
            return json!({"revision": state.revision});
        }
        let text = |text: &str| escape::terminal(text).into_owned();
        let lines = state.entries.iter().map(|(id, entry)| {
            let told = entry.told.as_ref().and_then(|told| told.as_ref().ok());
            json!({
                "id": id,
                "name": text(&entry.name),
                "group": text(&entry.group),
                "live": if let Origin::Live(live) = &entry.origin { Some(live.kinds()) } else { None },
                "of": if let Origin::Snapshot(_, of, _) = entry.origin { Some(of) } else { None },
                "asked": if let Origin::Snapshot(_, _, kind) = entry.origin { Some(kind) } else { None },
                "pid": entry.dump.map(|(pid, ..)| pid),
                // Milliseconds, as browsers count.
                "time": entry.written_or_told() / 1_000_000,
                "bytes": entry.bytes,
                "total": told.map(|told| told.total),
                "unit": told.map(|told| text(&told.unit)),
                "kind": told.map(|told| text(&told.kind)),
                "samples": told.map(|told| told.samples),
                "reason": entry.told.as_ref().and_then(|told| told.as_ref().err()).map(|reason| text(reason)),
            })
        });
        let problems = state.problems.iter().map(|(name, reason)| json!({"name": text(name), "reason": text(reason)}));
        json!({
            "revision": state.revision,
            "entries": lines.collect::<Vec<Value>>(),
            "problems": problems.collect::<Vec<Value>>(),
        })
    }
}

impl State {
    fn add(&mut self, entry: Entry) -> Id {
        self.next += 1;
        self.revision += 1;
        self.now += 1;
        self.entries.insert(self.next, Entry { asked: self.now, ..entry });
        self.next
    }

    fn remove(&mut self, id: Id) {
        if let Some(Entry { origin: Origin::File(path), .. }) = self.entries.remove(&id) {
            self.paths.remove(&path);
        }
        self.revision += 1;
    }

    /// A file as it was found; its number.
    fn see(&mut self, path: PathBuf, group: String, metadata: io::Result<Metadata>) -> Id {
        let id = match self.paths.get(&path) {
            Some(&id) => id,
            None => {
                let name = match (group.is_empty(), path.file_name()) {
                    (false, Some(name)) => name.to_string_lossy().into_owned(),
                    _ => path.to_string_lossy().into_owned(),
                };
                let dump = Dump::parse(&path, SystemTime::UNIX_EPOCH, 0);
                let dump = dump.map(|dump| (dump.pid, dump.sequence, dump.kind));
                let id = self.add(Entry { dump, ..Entry::new(Origin::File(path.clone()), name, group) });
                self.paths.insert(path, id);
                id
            }
        };
        let Some(entry) = self.entries.get_mut(&id) else { return id };
        let before = (entry.version, entry.told.is_some());
        match metadata {
            Ok(found) if found.is_file() => {
                let version =
                    Version { modified: (found.mtime(), found.mtime_nsec()), length: found.len(), inode: found.ino() };
                if version != entry.version {
                    (entry.version, entry.told) = (version, None);
                }
                entry.written = found.modified().map_or(0, nanos);
                entry.bytes = found.len();
            }
            Ok(_) => {
                entry.version = Version::default();
                entry.told = Some(Err("it is no file any more".to_owned()));
            }
            Err(error) => {
                entry.version = Version::default();
                entry.told = Some(Err(format!("cannot be read: {error}")));
            }
        }
        if before != (entry.version, entry.told.is_some()) {
            self.revision += 1;
        }
        id
    }
}

impl Entry {
    fn new(origin: Origin, name: String, group: String) -> Self {
        let version = Version::default();
        Self { origin, version, name, group, dump: None, written: 0, bytes: 0, told: None, asked: 0 }
    }

    fn is_file(&self) -> bool {
        matches!(self.origin, Origin::File(_))
    }

    fn written_or_told(&self) -> i64 {
        match &self.told {
            Some(Ok(told)) if told.time_nanos != 0 => told.time_nanos,
            _ => self.written,
        }
    }
}

fn nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Files of a directory that are profiles by their names, the newest; and how many more there are.
fn profiles_in(directory: &Path) -> io::Result<(Vec<(PathBuf, Metadata)>, usize)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || !ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        // Follows links: a directory of links to dumps is a fine thing. What went away meanwhile is no failure.
        if let Ok(metadata) = fs::metadata(entry.path())
            && metadata.is_file()
        {
            found.push((entry.path(), metadata));
        }
    }
    let left_out = found.len().saturating_sub(LISTED);
    if left_out > 0 {
        found.sort_by_key(|(_, metadata)| core::cmp::Reverse(metadata.modified().map_or(0, nanos)));
        found.truncate(LISTED);
    }
    Ok((found, left_out))
}
