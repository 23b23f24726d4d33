//! Profiles, read and named when they are asked for, and kept for a while in bounded memory.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::StatusCode;
use pprof_export::reader::Limits;
use pprof_export::schema;
use serde_json::Value;

use super::Desk;
use super::answer::Failure;
use super::cache::Cache;
use super::catalog::{Catalog, Id, Origin, Told, Version};
use crate::error::Error;
use crate::graph::Granularity;
use crate::input::{self, Input, Merge};
use crate::model::{Columns, Profile};
use crate::report::page;
use crate::report::{info, narrow};
use crate::series::{self, Series};

/// Bytes that profiles with names may take while nobody asks for them.
const INPUT_BYTES: usize = 256 << 20;
/// Bytes that profiles which are ready to be shown may take, with their bases.
const VIEW_BYTES: usize = 256 << 20;
/// How long a look at the list may take for finding out what new files say.
const LOOK: Duration = Duration::from_millis(300);
/// Dumps of a series that are looked at.
const SERIES: usize = 100;

type Result<T> = core::result::Result<T, Failure>;
type Key = (Id, Version);

/// A profile with names.
#[derive(Debug)]
pub struct Named {
    input: Input,
    /// What it is called.
    name: String,
    /// What has no names, and why.
    note: Option<String>,
}

/// A profile that is ready to be shown.
#[derive(Debug)]
pub struct View {
    /// The profile, with its base if it has one.
    pub profile: Mutex<Profile>,
    /// What it is called.
    pub name: String,
    /// What has no names, and why.
    pub note: Option<String>,
}

/// What is served.
#[derive(Debug)]
pub struct Shelf {
    /// What there is to choose from.
    pub catalog: Catalog,
    desk: Arc<dyn Desk>,
    inputs: Mutex<Cache<Key, Named>>,
    views: Mutex<Cache<(Key, Option<Key>), View>>,
    /// Held by whoever looks at directories.
    look: Mutex<()>,
}

impl Shelf {
    /// Of all that is in the list.
    pub fn new(catalog: Catalog, desk: Arc<dyn Desk>) -> Self {
        Self {
            catalog,
            desk,
            inputs: Mutex::new(Cache::new(INPUT_BYTES)),
            views: Mutex::new(Cache::new(VIEW_BYTES)),
            look: Mutex::new(()),
        }
    }

    /// The list as it is now, with what new files say of themselves, as far as that is quickly found out.
    pub fn list(&self, seen: Option<u64>) -> Value {
        // One at a time: whoever comes meanwhile gets what is known.
        if let Ok(_turn) = self.look.try_lock() {
            let started = Instant::now();
            self.catalog.scan();
            while started.elapsed() < LOOK
                && let Some(id) = self.catalog.unread()
            {
                self.look_into(id);
            }
        }
        self.catalog.json(seen)
    }

    fn look_into(&self, id: Id) {
        let Some(entry) = self.catalog.get(id) else { return };
        let Origin::File(path) = &entry.origin else { return };
        let told = read_file(path, &self.desk.limits()).and_then(told).map_err(|error| without_path(&error));
        self.catalog.tell(id, entry.version, told);
    }

    /// A profile with names.
    fn named(&self, id: Id) -> Result<(Key, Arc<Named>)> {
        let entry = self.catalog.get(id).ok_or_else(gone)?;
        let key = (id, entry.version);
        if let Some(known) = lock(&self.inputs).get(&key) {
            return Ok((key, known));
        }
        let limits = self.desk.limits();
        let read = match &entry.origin {
            Origin::File(path) => read_file(path, &limits),
            Origin::Snapshot(bytes, ..) => input::read_bytes(Path::new(&entry.name), bytes, &limits),
            Origin::Live(_) => {
                return Err(Failure::new(StatusCode::BAD_REQUEST, "a profile of it must be taken first"));
            }
        };
        let mut input = read.map_err(|error| {
            self.catalog.tell(id, entry.version, Err(without_path(&error)));
            Failure::new(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string())
        })?;
        let note = self.desk.name(&mut input, None);
        let named = Named { input, name: entry.name, note };
        Ok((key, self.keep(key, named)))
    }

    fn keep(&self, key: Key, named: Named) -> Arc<Named> {
        let weight = message_bytes(&named.input.message) + named.input.rows.bytes();
        let named = Arc::new(named);
        lock(&self.inputs).put(key, named.clone(), weight);
        named
    }

    /// A profile to be shown, compared with another if there is one.
    ///
    /// # Errors
    /// One of them isn't there, can't be read, or they don't go together.
    pub fn view(&self, new: Id, base: Option<Id>) -> Result<Arc<View>> {
        let (new_key, new) = self.named(new)?;
        let base = base.map(|base| self.named(base)).transpose()?;
        let key = (new_key, base.as_ref().map(|(key, _)| *key));
        if let Some(known) = lock(&self.views).get(&key) {
            return Ok(known);
        }
        let bases = base.iter().map(|(_, base)| base.input.clone()).collect();
        let profile = self.desk.prepare(vec![new.input.clone()], bases).map_err(|error| unusable(&error))?;
        let name = match &base {
            Some((_, base)) => format!("{}, compared with {}", new.name, base.name),
            None => new.name.clone(),
        };
        let view = Arc::new(View { name, note: new.note.clone(), profile: Mutex::new(profile) });
        let weight = lock(&view.profile).bytes();
        lock(&self.views).put(key, view.clone(), weight);
        Ok(view)
    }

    /// The column that is asked for, or the next best.
    pub fn columns(&self, profile: &Profile, asked: Option<&str>) -> Columns {
        let of = |asked: Option<&str>| asked.and_then(|asked| profile.column(Some(asked)).ok());
        Columns::new(profile, of(asked).or_else(|| of(self.desk.column())).unwrap_or(profile.default_type))
    }

    /// How a process's profiles went, up to this one.
    ///
    /// # Errors
    /// There are fewer than three, or one can't be read.
    pub fn trend(&self, id: Id, asked: Option<&str>) -> Result<Value> {
        let all = self.catalog.series(id);
        let count = all.len();
        if count < 3 {
            return Err(Failure::new(StatusCode::NOT_FOUND, "a trend is of three profiles of one process or more"));
        }
        let chosen: Vec<Id> = match count {
            few if few <= SERIES => all,
            _ => (0..SERIES).map(|at| all[at * (count - 1) / (SERIES - 1)]).collect(),
        };
        let mut inputs = Vec::with_capacity(chosen.len());
        for id in chosen {
            // One that went away or is broken is no reason to hide the others.
            if let Ok((_, named)) = self.named(id) {
                inputs.push(named.input.clone());
            }
        }
        inputs.sort_by_key(|input| input.message.time_nanos);
        if inputs.len() < 3 {
            return Err(Failure::new(StatusCode::NOT_FOUND, "a trend is of three profiles of one process or more"));
        }
        let mut profile = self.desk.prepare(inputs, Vec::new()).map_err(|error| unusable(&error))?;
        let columns = self.columns(&profile, asked);
        let options = series::Options { columns, granularity: Granularity::Sites, by_cum: false };
        let refused = |reason: String| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, &reason);
        let series = Series::new(&mut profile, &options).map_err(refused)?;
        Ok(page::trend(&profile, &series, &columns))
    }

    /// Takes a profile of something that is alive; its number.
    ///
    /// # Errors
    /// It isn't there, has no such kind of profile, or doesn't answer.
    pub fn take(&self, of: Id, asked: Option<&str>) -> Result<Id> {
        let entry = self.catalog.get(of).ok_or_else(gone)?;
        let Origin::Live(live) = &entry.origin else {
            return Err(Failure::new(StatusCode::BAD_REQUEST, "this is no running process"));
        };
        let failed = |error: Error| Failure::new(StatusCode::BAD_GATEWAY, &error.to_string());
        let kind = live.kinds().iter().find(|kind| asked.is_none_or(|asked| asked == **kind));
        let kind = kind.ok_or_else(|| Failure::new(StatusCode::BAD_REQUEST, "there is no such kind of profile"))?;
        let mut input = live.profile(kind, &self.desk.limits()).map_err(failed)?;
        // Now, while its files are there.
        let note = self.desk.name(&mut input, live.root());
        let told = told(input.clone()).map_err(failed)?;
        let bytes = pprof_export::encode_gzip(&input.clone().into_message());
        let id = self.catalog.keep(of, kind, Bytes::from(bytes), told);
        self.keep((id, Version::default()), Named { input, name: entry.name, note });
        Ok(id)
    }

    /// Lines of a source file that a profile names.
    pub fn source(&self, path: &str) -> core::result::Result<Vec<String>, String> {
        self.desk.source(path)
    }
}

/// What no panic of a report's leaves half done.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads what was a file when the list was made. What has come in its place since may be a pipe, which nobody may ever
/// write to.
fn read_file(path: &Path, limits: &Limits) -> crate::error::Result<Input> {
    let found = fs::metadata(path).map_err(|source| Error::io("read", path, source))?;
    if !found.is_file() {
        return Err(Error::input(path, "it is no file any more"));
    }
    input::read_within(path, limits)
}

fn gone() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "this profile isn't there any more")
}

fn unusable(error: &Error) -> Failure {
    Failure::new(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string())
}

/// The reason, for a line that has the file's name already.
fn without_path(error: &Error) -> String {
    match error {
        Error::Io { doing, source, .. } => format!("cannot {doing}: {source}"),
        Error::Input { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

/// What a profile says of itself.
fn told(input: Input) -> crate::error::Result<Told> {
    let profile = input::combine(vec![input], Vec::new(), Merge::Nothing, false)?;
    let column = &profile.sample_types[profile.default_type];
    let total = info::total(&profile, profile.default_type);
    Ok(Told {
        time_nanos: profile.time_nanos,
        total: narrow(total.value),
        unit: column.unit.clone(),
        kind: column.kind.clone(),
        samples: total.samples as u64,
    })
}

/// About how much memory a message takes beside its rows.
fn message_bytes(message: &schema::Profile) -> usize {
    let texts: usize = message.string_table.iter().map(|text| size_of::<String>() + text.len()).sum();
    let lines: usize = message.location.iter().map(|location| size_of_val(&location.line[..])).sum();
    texts
        + lines
        + size_of_val(&message.location[..])
        + size_of_val(&message.function[..])
        + size_of_val(&message.mapping[..])
}
