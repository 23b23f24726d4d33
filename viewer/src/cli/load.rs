//! From arguments to a profile: read, name, combine, filter, in pprof's order.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};

use pprof_export::reader::Limits;
use pprof_export::schema;
use regex::Regex;

use super::{args, tell};
use crate::control::find;
use crate::error::{Error, Result};
use crate::input::{self, Input, Merge};
use crate::model::{BaseUse, Columns, Filters, Profile, TagFilter};
use crate::threads::on_threads;
use crate::{run, symbolize};

/// A profile ready for a report.
#[derive(Debug)]
pub struct Loaded {
    /// The profile, filtered.
    pub profile: Profile,
    /// The column to report.
    pub columns: Columns,
    /// How a base is used.
    pub base: BaseUse,
    /// The column of blocks to divide by, for means.
    pub divisor: Option<usize>,
    /// What 100 % is; from before the filters, as in pprof, unless percentages are relative.
    pub total: i128,
    /// The filters, for a report's head.
    pub filters: Vec<String>,
}

/// What to load, and how.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub files: &'a [PathBuf],
    pub base: (&'a [PathBuf], BaseUse),
    pub normalise: bool,
    pub column: &'a args::Column,
    pub filter: &'a args::Filter,
    pub sources: &'a args::Sources,
    pub names: &'a args::Names,
    /// The unit that frames made of labels are written in.
    pub unit: &'a str,
    pub mean: bool,
    pub relative: bool,
    pub merge: Merge,
    /// Paths of source files lose what only the machine that built them knew.
    pub trims_paths: bool,
}

impl<'a> Request<'a> {
    /// What a report with all options shows.
    pub fn of_view(files: &'a [PathBuf], view: &'a args::View) -> Self {
        Self {
            files,
            base: view.base.files(),
            normalise: view.base.normalize,
            column: &view.column,
            filter: &view.filter,
            sources: &view.sources,
            names: &view.names,
            unit: &view.values.unit,
            mean: view.values.mean,
            relative: view.values.relative_percentages,
            merge: Merge::Nothing,
            trims_paths: true,
        }
    }

    /// Loads it.
    pub fn load(&self) -> Result<Loaded> {
        let (bases, _) = self.base;
        if self.normalise && bases.is_empty() {
            return Err(Error::Usage("--normalize needs a --base or --diff-base".to_owned()));
        }
        // A bad expression is told before anything is read.
        compile(self.filter)?;
        let mut news = read_all(&[self.files, bases].concat(), self.names)?;
        let bases = news.split_off(self.files.len());
        // Nothing but one report is made of them. To give hundreds of thousands of small blocks back one by one would take
        // longer than the report, and when it is written the process ends.
        let done = if news.len() + bases.len() <= 2 { core::mem::forget } else { drop };
        self.prepare_with(news, bases, done)
    }

    /// The same for files that have been read.
    pub fn prepare(&self, news: Vec<Input>, bases: Vec<Input>) -> Result<Loaded> {
        self.prepare_with(news, bases, drop)
    }

    fn prepare_with(&self, news: Vec<Input>, bases: Vec<Input>, done: fn(schema::Profile)) -> Result<Loaded> {
        let filters = compile(self.filter)?;
        let (_, base) = self.base;
        let paths: Vec<PathBuf> = news.iter().chain(&bases).map(|input| input.path.clone()).collect();
        let mut profile = input::combine_with(news, bases, self.merge, self.normalise, done)?;
        // A saved difference brings its base along.
        let base = if base == BaseUse::None && profile.has_base() { BaseUse::Compare } else { base };
        let asked = self.column.sample_index.as_deref();
        let refused = |reason| Error::input(&paths[profile.source_without(asked.unwrap_or(""))], reason);
        let column = profile.column(asked).map_err(refused)?;
        tell_left_out(&profile, &paths);
        let columns = Columns::new(&profile, column);
        let divisor = self.mean.then(|| columns.objects().unwrap_or(0));
        let keys = |keys: &'a [String]| -> Vec<&'a str> {
            keys.iter().map(String::as_str).filter(|key| !key.is_empty()).collect()
        };
        let (roots, leaves) = (keys(&self.filter.tagroot), keys(&self.filter.tagleaf));
        let mut missed = profile.add_label_frames(&roots, &leaves, self.unit);
        let mut total = 0;
        if !self.relative {
            total = profile.hundred_percent(column, base, divisor);
        }
        missed.extend(profile.filter(&filters));
        if self.relative {
            total = profile.hundred_percent(column, base, divisor);
        }
        for missed in missed {
            tell(&format!("--{missed} matches no {}", if missed.starts_with("tag") { "label" } else { "frame" }));
        }
        if self.filter.noinlines {
            profile.drop_inlined();
        }
        if self.trims_paths {
            profile.trim_paths(&self.sources.trim_path, &self.sources.source_path);
        }
        Ok(Loaded { columns, base, divisor, total, filters: filters.describe(), profile })
    }
}

/// Reads a file. Says which dump that was where a directory was given, and what of it was cut.
pub fn read(path: &Path, limits: &Limits) -> Result<Input> {
    let input = input::read_within(path, limits)?;
    if path.is_dir() {
        tell(&format!("{}: the newest dump in it is {}", path.display(), input.path.display()));
    }
    if let Some(line) = cut(input.rows.deeper_than(limits.depth), limits) {
        tell(&format!("{}: {line}", input.path.display()));
    }
    Ok(input)
}

/// What to say where so many stacks were cut.
pub fn cut(stacks: usize, limits: &Limits) -> Option<String> {
    let (those, were, them) = match stacks {
        0 => return None,
        1 => ("1 stack has".to_owned(), "was", "it"),
        _ => (format!("{stacks} stacks have"), "were", "them"),
    };
    let depth = limits.depth;
    Some(format!("{those} more than {depth} frames and {were} cut at the root; --limit depth=N reads {them} whole"))
}

/// Says which columns are left out because not all files have them.
pub fn tell_left_out(profile: &Profile, paths: &[PathBuf]) {
    for (source, names) in profile.left_out() {
        tell(&format!("{} has no {names}: left out", paths[source].display()));
    }
}

/// Reads files and names their frames, two at a time where there are several.
pub fn read_all(paths: &[PathBuf], names: &args::Names) -> Result<Vec<Input>> {
    read_found(paths, paths, names)
}

/// The same for files of which some were found in directories: all but those that are `given`. One of these that is gone by
/// now is left out.
pub fn read_found(paths: &[PathBuf], given: &[PathBuf], names: &args::Names) -> Result<Vec<Input>> {
    let next = Mutex::new(paths.iter().enumerate());
    let (limits, options) = (names.reading.limits(), names.places.options().map_err(Error::Usage)?);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(paths.len());
    let inputs = on_threads(workers, || {
        let take = || next.lock().ok().and_then(|mut next| next.next());
        let mut inputs = Vec::new();
        while let Some((at, path)) = take() {
            let input = read(path, &limits).map(|mut input| {
                let report = look_up(&mut input, names.symbolize, &options, None);
                (input, report)
            });
            inputs.push((at, input));
        }
        inputs
    });
    let mut inputs: Vec<_> = inputs.into_iter().flatten().collect();
    inputs.sort_by_key(|(at, _)| *at);
    let mut gone = Gone::new(given);
    let inputs = inputs.into_iter().zip(paths).filter_map(|((_, input), path)| gone.sort_out(path, input));
    // Dumps of a process have the same to say, which is told once.
    let mut report = symbolize::Report::default();
    let mut sum_up = |(input, found)| {
        report.absorb(found);
        input
    };
    let inputs = inputs.map(|input| input.map(&mut sum_up)).collect::<Result<Vec<Input>>>()?;
    if let Some(line) = missing(&report) {
        tell(&line);
    }
    gone.finish(paths.len())?;
    Ok(inputs)
}

/// Dumps that a directory listed and that are not there any more: whoever keeps the newest only, as the library does, removes
/// others meanwhile.
pub struct Gone<'a> {
    given: &'a [PathBuf],
    count: usize,
    last: Option<Error>,
}

impl<'a> Gone<'a> {
    /// None so far. What was `given` by its name must be there.
    pub fn new(given: &'a [PathBuf]) -> Self {
        Self { given, count: 0, last: None }
    }

    /// What was read, unless it is one of those.
    fn sort_out<T>(&mut self, path: &Path, read: Result<T>) -> Option<Result<T>> {
        let is_missing =
            matches!(&read, Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound);
        match read {
            Err(error) if is_missing && !self.given.iter().any(|given| given == path) => {
                self.count += 1;
                self.last = Some(error);
                None
            }
            read => Some(read),
        }
    }

    /// Says how many of `all` there were.
    ///
    /// # Errors
    /// None is left.
    pub fn finish(self, all: usize) -> Result<()> {
        match self.last {
            Some(error) if self.count == all => return Err(error),
            Some(_) => tell(&format!("{} of {all} dumps were removed meanwhile: they are left out", self.count)),
            None => {}
        }
        Ok(())
    }
}

pub(super) fn compile(filter: &args::Filter) -> Result<Filters> {
    // The library's message draws the expression over several lines; one must do.
    let refused = |name: &str, text: &str, reason: String| {
        let last = reason.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
        Error::Usage(format!("--{name}: {text} is not a regular expression: {last}"))
    };
    let regex = |name: &str, text: &Option<String>| match text.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => Regex::new(text).map(Some).map_err(|error| refused(name, text, error.to_string())),
        None => Ok(None),
    };
    let tags = |name: &str, text: &Option<String>| match text.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => TagFilter::new(text).map(Some).map_err(|reason| refused(name, text, reason)),
        None => Ok(None),
    };
    Ok(Filters {
        focus: regex("focus", &filter.focus)?,
        ignore: regex("ignore", &filter.ignore)?,
        hide: regex("hide", &filter.hide)?,
        show: regex("show", &filter.show)?,
        show_from: regex("show-from", &filter.show_from)?,
        prune_from: regex("prune-from", &filter.prune_from)?,
        tag_focus: tags("tagfocus", &filter.tagfocus)?,
        tag_ignore: tags("tagignore", &filter.tagignore)?,
        tag_show: regex("tagshow", &filter.tagshow)?,
        tag_hide: regex("taghide", &filter.taghide)?,
    })
}

/// An expression given as an argument.
pub fn expression(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|error| {
        let reason = error.to_string();
        let last = reason.lines().last().unwrap_or("").trim_start_matches("error: ");
        Error::Usage(format!("{text} is not a regular expression: {last}"))
    })
}

/// Looks names up where the file has none and binaries are at hand, below another root directory too.
fn look_up(
    input: &mut Input,
    when: args::When,
    options: &symbolize::Options,
    root: Option<PathBuf>,
) -> symbolize::Report {
    let is_complete = input.message.location.iter().all(|location| !location.line.is_empty());
    if when == args::When::None || is_complete {
        return symbolize::Report::default();
    }
    let mut options = options.clone();
    options.search.extend(root.or_else(|| root_of(&input.path)));
    symbolize::symbolize(&mut input.message, &options)
}

/// What names were missing, as one line.
fn missing(report: &symbolize::Report) -> Option<String> {
    report.is_incomplete().then(|| report.to_string())
}

/// Looks names up as well. What was cut and what was missing, for those who tell it elsewhere.
pub fn notes(
    input: &mut Input,
    asked: &args::Names,
    options: &symbolize::Options,
    root: Option<PathBuf>,
) -> Option<String> {
    let limits = asked.reading.limits();
    let report = look_up(input, asked.symbolize, options, root);
    let notes = [cut(input.rows.deeper_than(limits.depth), &limits), missing(&report)];
    let notes: Vec<String> = notes.into_iter().flatten().collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// The root directory of the process whose socket or file it is, where that is not ours.
fn root_of(path: &Path) -> Option<PathBuf> {
    let (pid, rest) = path.to_str()?.strip_prefix("/proc/")?.split_once('/')?;
    let pid = pid.parse().ok()?;
    (rest == "root" || rest.starts_with("root/")).then(|| find::root_elsewhere(pid))?
}

/// The files meant; of a directory all dumps in it.
pub fn files(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in given {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        files.extend(run::some_dumps_in(path)?.into_iter().map(|dump| dump.path));
    }
    Ok(files)
}

/// Calls `take` with what `read` makes of each file that isn't `gone`, in their order. The next file is read meanwhile, on a
/// thread of its own, so that two of them are in memory beside the one that is taken.
pub fn in_turn<T: Send>(
    files: &[PathBuf],
    gone: &mut Gone<'_>,
    read: impl Fn(&Path) -> Result<T> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let read_all = || {
        // The sender is gone when this ends, and with it the loop below.
        let sender = sender;
        for path in files {
            let Some(read) = gone.sort_out(path, read(path)) else { continue };
            let is_last = read.is_err();
            // Nobody listens any more where something else has failed.
            if sender.send(read).is_err() || is_last {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().spawn_scoped(scope, read_all);
        reader.map_err(|source| Error::Usage(format!("no thread can be started: {source}")))?;
        for read in receiver {
            take(read?)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_that_were_removed_meanwhile_are_left_out() {
        let scratch = tempfile::TempDir::with_prefix("heapsift-gone-").unwrap();
        let there = scratch.path().join("a.folded");
        std::fs::write(&there, "main;f 7\n").unwrap();
        let missing = PathBuf::from("/nowhere/heapsift.1.2.i2.heap.pb.gz");
        let all = [missing.clone(), there.clone(), missing.clone()];
        let names = args::Names::default();
        let limits = names.reading.limits();
        let read = |files: &[PathBuf], given: &[PathBuf]| {
            let mut gone = Gone::new(given);
            let mut taken = Vec::new();
            let take = |input: Input| {
                taken.push(input.path);
                Ok(())
            };
            let in_turn = in_turn(files, &mut gone, |path| input::read_within(path, &limits), take);
            let at_once = read_found(files, given, &names);
            let paths = at_once.map(|inputs| inputs.into_iter().map(|input| input.path).collect::<Vec<PathBuf>>());
            (in_turn.and_then(|()| gone.finish(files.len())).map(|()| taken).ok(), paths.ok())
        };
        let one = Some(vec![there.clone()]);
        assert_eq!(read(&all, &[]), (one.clone(), one));
        // What was asked for by its name must be there, and something must.
        assert_eq!(read(&all, &[missing]), (None, None));
        assert_eq!(read(&all[..1], &[]), (None, None));
    }
}
