//! Names for addresses: fills a profile's locations with functions, files and lines, offline.
//!
//! Each module is looked for where its mapping says, in the user's directories, and by build id where
//! distributions put debug files; a file with another build id is refused and named in the [`Report`].
//! Code in no file is looked up in the perf map that the dump notes ([`jit`]).
//! Nothing is executed, and nothing is fetched but from servers that the user names. Modules are read in parallel, each on
//! its own thread, where a panic over broken debug information costs that module its names and nothing else.

mod apply;
mod batch;
mod candidates;
mod code;
pub mod debuginfod;
mod demangle;
mod find;
mod jit;
mod meter;
mod mini;
mod module;
mod pieces;
mod sections;
mod segments;
mod split;
mod symbols;

#[cfg(test)]
mod tests;

pub use demangle::demangle;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pprof_export::schema::Profile;

use crate::measure::counted;

use debuginfod::Servers;
use find::Wanted;
use module::{Answer, Query};

/// Deeply nested debug information is read by recursion.
const STACK: usize = 64 << 20;

/// Where to look, and what for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Directories to look for binaries and debug files in, before the usual ones.
    pub search: Vec<PathBuf>,
    /// Servers to ask for debug files that are not at hand.
    pub servers: Servers,
}

/// What became of each module that had addresses to name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of their first mapping.
    pub modules: Vec<Module>,
    /// Locations in memory without a file behind it, and in no mapping.
    pub anonymous: usize,
    /// How many of these have names, by a just-in-time compiler's perf map.
    pub compiled: usize,
    /// The perf map.
    pub map: Option<PathBuf>,
    /// Why there is none, where the dump notes one.
    pub map_reason: Option<String>,
}

/// The name that a frame in anonymous memory gets for want of one, in dumps that list all files.
pub const ANONYMOUS: &str = "[anonymous memory]";

/// What became of one module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Path of the binary, as the profile has it.
    pub name: String,
    /// Its build id, or "".
    pub build_id: String,
    /// Locations that had no names.
    pub locations: usize,
    /// How many have names now.
    pub named: usize,
    /// How many of these have only a symbol's name: no file, line or inlined frames.
    pub by_symbol: usize,
    /// The file that the names come from.
    pub file: Option<PathBuf>,
    /// Why there are no names, or not all.
    pub reason: Option<String>,
    /// Whether there is debug information that wasn't read, or not whole; or it was asked for and didn't come.
    pub is_partial: bool,
    /// Files that were refused, each with its reason.
    pub refused: Vec<String>,
}

impl Report {
    /// How many modules got names for all their locations.
    pub fn complete(&self) -> usize {
        self.modules.iter().filter(|module| module.named == module.locations).count()
    }

    /// Takes in what became of another file. Of a module that both have, that is kept which left more without a name.
    pub fn absorb(&mut self, other: Self) {
        let Self { modules, anonymous, compiled, map, map_reason } = other;
        let nameless = |module: &Module| (module.is_partial, module.locations - module.named, module.locations);
        for module in modules {
            let is_it = |known: &&mut Module| known.name == module.name && known.build_id == module.build_id;
            match self.modules.iter_mut().find(is_it) {
                Some(known) if nameless(known) < nameless(&module) => *known = module,
                Some(_) => {}
                None => self.modules.push(module),
            }
        }
        if (self.anonymous - self.compiled, self.anonymous) < (anonymous - compiled, anonymous) {
            *self = Self { modules: core::mem::take(&mut self.modules), anonymous, compiled, map, map_reason };
        }
    }

    /// Whether anything that could have a name has none, or less of a name than there is: without lines and inlined frames.
    pub fn is_incomplete(&self) -> bool {
        let is_partial = self.modules.iter().any(|module| module.is_partial);
        self.complete() < self.modules.len() || is_partial || self.map_reason.is_some()
    }
}

/// "12 of 14 modules symbolized; libfoo.so: no debug file for build id 00…"; names are as the file has
/// them and must be escaped where they are shown.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} modules symbolized", self.complete(), self.modules.len())?;
        for module in &self.modules {
            if let Some(reason) = &module.reason {
                let name = module.name.rsplit('/').next().unwrap_or(&module.name);
                write!(f, "; {name}: {reason}")?;
                if module.named < module.locations {
                    write!(f, " ({} of {} addresses named)", module.named, module.locations)?;
                }
            }
        }
        if let Some(map) = &self.map {
            write!(f, "; {} of {} addresses in no file named by {}", self.compiled, self.anonymous, map.display())?;
        } else if self.anonymous > 0 {
            write!(f, "; {} in no file", counted(self.anonymous, "address"))?;
            match &self.map_reason {
                Some(reason) => write!(f, " ({reason})")?,
                None => write!(f, " (just-in-time code has names where its compiler writes a perf map)")?,
            }
        }
        Ok(())
    }
}

/// Names the locations of a profile that have no names yet.
pub fn symbolize(profile: &mut Profile, options: &Options) -> Report {
    let Plan { jobs, anonymous } = plan(profile);
    let mut report = Report { anonymous: anonymous.len(), ..Report::default() };
    let answers = run(&jobs, options);
    let compiled = match jit::noted(profile) {
        Some(pid) if !anonymous.is_empty() => jit::answer(pid, &anonymous, &options.search),
        _ => jit::Answer::default(),
    };
    // Only of our own dumps it is known that what lies in no file lies in anonymous memory.
    let lists_all_files = {
        let text = |index: &i64| profile.string_table.get(usize::try_from(*index).ok()?);
        profile.comment.iter().filter_map(text).any(|comment| comment.starts_with("heapsift "))
    };
    let mut writer = apply::Writer::new(profile);
    for ((wanted, queries), answer) in jobs.into_iter().zip(answers) {
        report.modules.push(Module {
            name: wanted.path,
            build_id: wanted.build_id,
            locations: queries.len(),
            named: answer.frames.len(),
            by_symbol: answer.by_symbol,
            file: answer.file,
            reason: answer.reason,
            is_partial: answer.is_partial,
            refused: answer.refused,
        });
        for (location, frames) in answer.frames {
            writer.set(location, &frames);
        }
    }
    if lists_all_files {
        let nameless = module::Frame { function: ANONYMOUS.into(), ..module::Frame::default() };
        anonymous.iter().for_each(|&(location, _)| writer.set(location, std::slice::from_ref(&nameless)));
    }
    for (location, frame) in &compiled.frames {
        writer.set(*location, std::slice::from_ref(frame));
    }
    writer.finish();
    (report.compiled, report.map, report.map_reason) = (compiled.frames.len(), compiled.file, compiled.reason);
    report
}

type Job = (Wanted, Vec<Query>);

/// What there is to name.
struct Plan {
    /// By module, in the order of their first mapping.
    jobs: Vec<Job>,
    /// Locations and addresses that lie in no file.
    anonymous: Vec<(usize, u64)>,
}

/// Sorts the nameless locations by module.
fn plan(profile: &Profile) -> Plan {
    let text = |index: i64| {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        profile.string_table.get(index).map_or("", String::as_str)
    };
    let mut anonymous = Vec::new();
    let (mut jobs, mut indices, mut by_mapping) = (Vec::new(), HashMap::new(), HashMap::new());
    let stand_in: HashSet<u64> = profile
        .function
        .iter()
        .filter(|function| text(function.name) == ANONYMOUS)
        .map(|function| function.id)
        .collect();
    for mapping in &profile.mapping {
        let wanted = Wanted::new(text(mapping.filename), text(mapping.build_id));
        if jit::is_anonymous(&wanted.path, &wanted.build_id) {
            continue;
        }
        let job = *indices.entry(wanted.clone()).or_insert_with(|| {
            jobs.push((wanted, Vec::new()));
            jobs.len() - 1
        });
        by_mapping.insert(mapping.id, (job, mapping));
    }
    for (location, entry) in profile.location.iter().enumerate() {
        // Frames that stand for no instruction have a name and no address.
        let is_stand_in = entry.line.iter().all(|line| stand_in.contains(&line.function_id));
        let again = is_stand_in && entry.address != 0;
        if !entry.line.is_empty() && !again {
            continue;
        }
        match by_mapping.get(&entry.mapping_id) {
            Some((job, mapping)) => jobs[*job].1.push(Query {
                location,
                address: entry.address,
                mapping: (mapping.memory_start, mapping.memory_limit, mapping.file_offset),
            }),
            None => anonymous.push((location, entry.address)),
        }
    }
    jobs.retain(|(_, queries)| !queries.is_empty());
    Plan { jobs, anonymous }
}

/// Answers all jobs, as many at once as there are processors.
fn run(jobs: &[Job], options: &Options) -> Vec<Answer> {
    let next = AtomicUsize::new(0);
    // Where there are fewer modules than processors, each has several.
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let share = processors.div_ceil(jobs.len().max(1));
    let answers: Vec<OnceLock<Answer>> = jobs.iter().map(|_| OnceLock::new()).collect();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((wanted, queries)) = jobs.get(index) else { break };
            let answer = if wanted.is_file() {
                catch_unwind(AssertUnwindSafe(|| module::answer(wanted, queries, options, share)))
                    .unwrap_or_else(|_| failed("reading its debug information failed"))
            } else {
                failed("not a file")
            };
            let _ = answers[index].set(answer);
        }
    };
    let workers = processors.min(jobs.len());
    thread::scope(|scope| {
        for _ in 0..workers {
            // Where no thread can be had, the others do its work.
            let _ = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        }
    });
    // And where there was none at all, this one.
    work();
    answers.into_iter().map(|answer| answer.into_inner().unwrap_or_default()).collect()
}

fn failed(reason: &str) -> Answer {
    Answer { reason: Some(reason.to_owned()), ..Answer::default() }
}
