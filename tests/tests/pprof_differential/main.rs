//! The same reports of the same profiles by `go tool pprof` and by `heapsift`, line by line: what differs stands in
//! docs/pprof-differences.md, with its reason, and nothing else does.

mod cases;
mod generated;
mod lines;
mod profiles;
mod rules;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::{command, is_long, tools};
use pprof_export::reader::{Limits, decode};

use cases::Case;
use profiles::Subject;
use rules::Context;

/// Both programs.
struct Tools {
    pprof: PathBuf,
    heapsift: PathBuf,
}

/// What a program printed; none if it refused.
fn output(program: &Path, words: &[String], file: &Path) -> Result<String, String> {
    let output = Command::new(program)
        .args(words)
        .arg(file)
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8")
        .env("PPROF_TMPDIR", std::env::temp_dir())
        .env("PPROF_BINARY_PATH", "/nowhere")
        .env_remove("LD_PRELOAD")
        .env_remove("MALLOC_CONF")
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

impl Tools {
    fn find() -> Option<Self> {
        let go = tools::need("go")?;
        // `go tool pprof` starts this; asked for it once, it takes half as long.
        let found = Command::new(&go).args(["tool", "-n", "pprof"]).output().expect("go runs");
        let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        assert!(found.status.success() && !path.is_empty(), "go tool -n pprof says nothing");
        Some(Tools { pprof: path.into(), heapsift: command() })
    }

    /// Asks both. The difference, if there is one that no rule knows; the rules that were needed go into `used`.
    fn compare(
        &self,
        subject: &Subject,
        case: &Case,
        seed: u64,
        used: &Mutex<BTreeSet<&'static str>>,
    ) -> Option<String> {
        let (expression, options) = cases::words(case, subject, seed)?;
        let context = Context { subject, report: case.report, options: &options };
        let mut theirs = case.report.theirs(&expression);
        theirs.push("-symbolize=none".to_owned());
        theirs.extend(options.iter().cloned());
        let mut ours = case.report.ours(&expression);
        ours.push("--symbolize=none".to_owned());
        ours.extend(options.iter().cloned());
        let asked = format!("{}: {}", subject.name, theirs.join(" "));
        let ours = output(&self.heapsift, &ours, &subject.file);
        let first = output(&self.pprof, &theirs, &subject.file);
        let mut ours_now = match ours {
            Ok(text) => lines::ours(case.report, &options, &text),
            Err(_) if first.is_err() => return None,
            Err(reason) => return Some(format!("{asked}\n  only we refuse: {reason}")),
        };
        let lines_of = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let mut theirs_now = first.map(lines_of);
        if theirs_now.as_ref() == Ok(&ours_now) {
            return None;
        }
        let mut needed = BTreeSet::new();
        let scratch = Scratch::new("pprof-rewritten");
        if let Some((file, base)) = rewritten(&context, &scratch, &mut needed) {
            for word in &mut theirs {
                if let Some((option, _)) = word.split_once('=').filter(|(option, _)| option.ends_with("base")) {
                    *word = format!("{option}={}", base.as_ref()?.display());
                }
                if let Some(short) = word.strip_prefix("-sample_index=").filter(|_| !subject.is_pprof)
                    && ["objects", "space"].contains(&short)
                {
                    *word = format!("-sample_index=inuse_{short}");
                }
            }
            theirs_now = output(&self.pprof, &theirs, &file).map(lines_of);
        }
        let mut theirs_now = match theirs_now {
            Ok(lines) => lines,
            Err(reason) => return Some(format!("{asked}\n  only they refuse: {reason}")),
        };
        for (name, apply) in rules::LINES {
            if theirs_now == ours_now {
                break;
            }
            let before = (theirs_now.clone(), ours_now.clone());
            apply(&context, &mut theirs_now, &mut ours_now);
            if before != (theirs_now.clone(), ours_now.clone()) {
                needed.insert(name);
            }
        }
        match lines::first_difference(&theirs_now, &ours_now) {
            Some(difference) => Some(format!("{asked}\n  {difference}")),
            None => {
                used.lock().expect("no thread panicked").extend(needed);
                None
            }
        }
    }
}

/// The profile and its base as the rules about what is read change them; none where they don't.
fn rewritten(
    context: &Context,
    scratch: &Scratch,
    needed: &mut BTreeSet<&'static str>,
) -> Option<(PathBuf, Option<PathBuf>)> {
    let subject = context.subject;
    let read = |path: &PathBuf| {
        let bytes = std::fs::read(path).expect("it was read before");
        decode(&bytes, &Limits::DEFAULT).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let mut messages = vec![subject.message.clone()];
    messages.extend(subject.base.as_ref().map(read));
    for (name, apply) in rules::INPUTS {
        let changed = messages.iter_mut().map(|message| apply(context, message)).filter(|changed| *changed).count();
        if changed > 0 {
            needed.insert(name);
        }
    }
    if needed.is_empty() {
        return None;
    }
    let mut files = messages.iter().enumerate().map(|(at, message)| {
        let file = scratch.join(format!("{at}.pb"));
        std::fs::write(&file, prost::Message::encode_to_vec(message)).expect("a scratch file");
        file
    });
    Some((files.next().expect("the profile"), files.next()))
}

/// Where the cases of a profile and the words in them begin. It depends on nothing but the profile's name, so that a profile
/// is asked the same wherever there are more of them or fewer; with HEAPSIFT_SEED, a number, it is asked something else.
fn draw(subject: &Subject) -> u64 {
    let seed = std::env::var("HEAPSIFT_SEED").map_or(0, |seed| seed.parse::<u64>().expect("HEAPSIFT_SEED is a number"));
    let mut hasher = DefaultHasher::new();
    (seed, &subject.name).hash(&mut hasher);
    hasher.finish() >> 1
}

#[test]
fn reports_differ_from_pprof_s_only_where_it_is_said_why() {
    let Some(tools) = Tools::find() else { return };
    let scratch = Scratch::new("pprof-differential");
    let go = tools::find("go").expect("found above");
    let mut subjects = profiles::generated(&scratch);
    subjects.extend(profiles::of_go(&scratch, &go));
    subjects.extend(profiles::ours(&scratch));
    subjects.extend(profiles::of_gperftools(&scratch, &tools));
    let own = subjects.len();
    assert!(own >= 60, "only {own} profiles");
    subjects.extend(profiles::recorded(&scratch, &tools));

    let all = cases::all();
    let mut jobs: Vec<(&Subject, Case, u64)> = Vec::new();
    for subject in &subjects {
        let draw = draw(subject);
        let mut wanted = cases::plain();
        if subject.is_slow && !is_long() {
            wanted.truncate(1);
        } else if is_long() {
            wanted.extend(&all);
        } else {
            // All profiles together get all of them several times.
            wanted.extend((0..12).map(|i| all[(draw as usize % all.len() + i) * 7 % all.len()]));
        }
        jobs.extend(wanted.into_iter().enumerate().map(|(i, case)| (subject, case, draw.wrapping_add(i as u64))));
    }
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let used = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((subject, case, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(difference) = tools.compare(subject, case, *seed, &used) {
                        found.lock().expect("no thread panicked").push(difference);
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no thread panicked");
    found.sort();
    println!("{} profiles, {own} of them our own; {} comparisons", subjects.len(), jobs.len());
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
    rules::check(&used.into_inner().expect("no thread panicked"));
}
