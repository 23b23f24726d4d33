//! The differences that are there for a reason, each under the name that docs/pprof-differences.md gives it.
//!
//! A rule takes what a difference consists of out of the way: it changes what `go tool pprof` is given, or what it said, so
//! that both must then be equal. It is asked only where they were not.

use std::collections::BTreeSet;
use std::fs;

use heapsift_tests::artifacts::repository;
use heapsift_tests::is_long;
use pprof_export::schema::{Function, Line, Location, Profile};

use super::cases::Report;
use super::profiles::Subject;

/// What was compared.
pub struct Context<'a> {
    pub subject: &'a Subject,
    pub report: Report,
    pub options: &'a [String],
}

impl Context<'_> {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|given| given.split('=').next() == Some(option))
    }

    fn value(&self, option: &str) -> Option<&str> {
        self.options.iter().find_map(|given| given.strip_prefix(option)?.strip_prefix('='))
    }
}

/// Changes a message that `go tool pprof` is given. Whether there was anything to change.
pub type Input = fn(&Context, &mut Profile) -> bool;

/// Changes the lines of both.
pub type Lines = fn(&Context, &mut Vec<String>, &mut Vec<String>);

/// Rules about what is read.
pub const INPUTS: [(&str, Input); 3] =
    [("rows without stacks", name_missing_stacks), ("mean", count_blocks_first), ("gperftools columns", name_columns)];

/// Rules about what is printed.
pub const LINES: [(&str, Lines); 8] = [
    ("heading", heading),
    ("control characters", control_characters),
    ("inlined frames in raw", drop_inlined),
    ("time and duration", time_and_duration),
    ("trimmed paths", trimmed_paths),
    ("rows without stacks", rows_without_stacks),
    ("made-up mapping", made_up_mapping),
    ("opposite calls", opposite_calls),
];

/// A text of a message, which gets it if need be.
fn string(profile: &mut Profile, text: &str) -> i64 {
    let found = profile.string_table.iter().position(|known| known == text);
    found.unwrap_or_else(|| {
        profile.string_table.push(text.to_owned());
        profile.string_table.len() - 1
    }) as i64
}

/// Gives rows without a stack the one that we show, or that we read them with.
fn name_missing_stacks(context: &Context, profile: &mut Profile) -> bool {
    let keys = [context.value("-tagroot"), context.value("-tagleaf")];
    let has_label_frames = keys.iter().flatten().any(|keys| keys.split(',').any(|key| !key.is_empty()));
    let applies = !context.subject.is_pprof || (context.report != Report::Raw && !has_label_frames);
    if !applies || profile.sample.iter().all(|sample| !sample.location_id.is_empty()) {
        return false;
    }
    let name = string(profile, "[unknown stack]");
    let filename = if context.has("-files") { name } else { 0 };
    let new = |ids: &mut dyn Iterator<Item = u64>| ids.max().unwrap_or(0) + 1;
    let function = new(&mut profile.function.iter().map(|function| function.id));
    let location = new(&mut profile.location.iter().map(|location| location.id));
    profile.function.push(Function { id: function, name, system_name: name, filename, start_line: 0 });
    let line = vec![Line { function_id: function, ..Line::default() }];
    profile.location.push(Location { id: location, line, ..Location::default() });
    for sample in profile.sample.iter_mut().filter(|sample| sample.location_id.is_empty()) {
        sample.location_id.push(location);
    }
    true
}

/// Moves the column of blocks that goes with the one shown to the front, where `go tool pprof` takes its divisor from.
fn count_blocks_first(context: &Context, profile: &mut Profile) -> bool {
    if !context.has("-mean") {
        return false;
    }
    // A base goes by the columns of the profile.
    let message = &context.subject.message;
    let text = |index: i64| message.string_table[index as usize].as_str();
    let names: Vec<&str> = message.sample_type.iter().map(|kind| text(kind.r#type)).collect();
    let default = match text(message.default_sample_type) {
        "" => names.last().copied().unwrap_or(""),
        name => name,
    };
    let shown = context.value("-sample_index").unwrap_or(default);
    let stem = shown.strip_suffix("space").or(shown.strip_suffix("objects"));
    let blocks = stem.and_then(|stem| names.iter().position(|name| *name == format!("{stem}objects")));
    let Some(at) = blocks.filter(|&at| at > 0) else { return false };
    profile.default_sample_type = string(profile, default);
    profile.sample_type[..=at].rotate_right(1);
    profile.sample.iter_mut().for_each(|sample| sample.value[..=at].rotate_right(1));
    true
}

/// Calls columns and units as in heap profiles of all other producers.
fn name_columns(context: &Context, profile: &mut Profile) -> bool {
    if context.subject.is_pprof {
        return false;
    }
    for (old, new) in [("objects", "inuse_objects"), ("space", "inuse_space")] {
        let new = string(profile, new);
        let Profile { sample_type, string_table, .. } = profile;
        for kind in sample_type.iter_mut().filter(|kind| string_table[kind.r#type as usize] == old) {
            kind.r#type = new;
        }
    }
    profile.default_sample_type = string(profile, "inuse_space");
    let bytes = string(profile, "bytes");
    for label in profile.sample.iter_mut().flat_map(|sample| &mut sample.label).filter(|label| label.key == bytes) {
        label.num_unit = bytes;
    }
    true
}

/// Leaves the last of the lines of each location, which is the function that others are inlined into. Not in what is read:
/// frames that a profile says are to be dropped are found by the names of inlined ones too.
fn drop_inlined(context: &Context, theirs: &mut Vec<String>, _: &mut Vec<String>) {
    if context.report != Report::Raw || !context.has("-noinlines") {
        return;
    }
    let Some(start) = theirs.iter().position(|line| line == "Locations") else { return };
    let end = theirs.iter().rposition(|line| line == "Mappings").unwrap_or(theirs.len());
    let mut kept = std::mem::take(theirs);
    let rest = kept.split_off(end);
    for line in kept {
        // "     7: 0x1234 M=1 name file:1:0 s=0", and 13 blanks instead of the first part for each more.
        match (line.strip_prefix("             "), theirs.len() > start + 1) {
            (Some(more), true) => {
                let last = theirs.last_mut().expect("it is longer than something");
                last.truncate(place_of_name(last));
                last.push_str(more);
            }
            _ => theirs.push(line),
        }
    }
    theirs.extend(rest);
}

/// Where the name begins in a line about a location.
fn place_of_name(line: &str) -> usize {
    let word = |from: usize| line[from..].find(' ').map_or(line.len(), |at| from + at + 1);
    let number = line.len() - line.trim_start().len();
    let mut at = word(word(number));
    for optional in ["M=", "[F] "] {
        if line[at..].starts_with(optional) {
            at = word(at);
        }
    }
    at
}

fn heading(context: &Context, theirs: &mut Vec<String>, _: &mut Vec<String>) {
    if context.report == Report::Traces && theirs.first().is_some_and(String::is_empty) {
        theirs.remove(0);
    }
    if matches!(context.report, Report::Tree | Report::Peek) {
        for line in theirs.iter_mut().filter(|line| line.ends_with("context \t \t ")) {
            line.truncate(line.trim_end().len());
        }
    }
}

fn control_characters(context: &Context, theirs: &mut Vec<String>, _: &mut Vec<String>) {
    let mut text = theirs.join("\n");
    for name in context.subject.message.string_table.iter().filter(|name| name.contains('\n')) {
        text = text.replace(name, &name.replace('\n', "\\n"));
    }
    let text = text.replace('\t', " ").replace('\u{1b}', "\\x1b");
    *theirs = text.split('\n').map(str::to_owned).collect();
}

fn time_and_duration(context: &Context, theirs: &mut Vec<String>, ours: &mut Vec<String>) {
    if !context.has("-base") && !context.has("-diff_base") {
        return;
    }
    for lines in [theirs, ours] {
        // In the head only: names might look like it.
        for line in lines.iter_mut().take(9) {
            for name in ["Time: ", "Duration: "] {
                if line.starts_with(name) {
                    *line = format!("{name}…");
                }
            }
        }
    }
}

#[expect(clippy::ptr_arg, reason = "all rules are of one type")]
fn trimmed_paths(context: &Context, theirs: &mut Vec<String>, _: &mut Vec<String>) {
    if context.report != Report::Traces {
        return;
    }
    let prefixes: Vec<&str> = context.value("-trim_path").unwrap_or("").split(':').chain(["/proc/self/cwd"]).collect();
    for path in context.subject.files() {
        let clean = path.replace("//", "/");
        let rest = prefixes
            .iter()
            .filter(|prefix| !prefix.is_empty())
            .find_map(|prefix| clean.strip_prefix(*prefix)?.strip_prefix('/'));
        if let Some(rest) = rest {
            theirs.iter_mut().for_each(|line| *line = line.replace(&clean, rest));
        }
    }
}

/// Takes rows without a stack out of our raw text: `go tool pprof` drops them whatever the filters.
fn rows_without_stacks(context: &Context, _: &mut Vec<String>, ours: &mut Vec<String>) {
    if context.report != Report::Raw {
        return;
    }
    let mut is_gone = false;
    ours.retain(|line| {
        let is_label = line.starts_with("                ");
        let values =
            line.strip_suffix(": ").map(|values| values.split_whitespace().all(|word| word.parse::<i64>().is_ok()));
        is_gone = if is_label { is_gone } else { values == Some(true) };
        !is_gone
    });
}

/// Takes the mapping out that `go tool pprof` makes up where a profile has none.
fn made_up_mapping(context: &Context, theirs: &mut Vec<String>, _: &mut Vec<String>) {
    if context.report == Report::Raw && context.subject.message.mapping.is_empty() {
        theirs.retain(|line| !line.starts_with("1: 0x0/0x"));
        theirs.iter_mut().for_each(|line| *line = line.replacen(" M=1 ", " ", 1));
    }
}

/// Sorts calls of one function that weigh the same but for the sign, which `go tool pprof` leaves to chance.
fn opposite_calls(context: &Context, theirs: &mut Vec<String>, ours: &mut Vec<String>) {
    if !matches!(context.report, Report::Tree | Report::Peek) {
        return;
    }
    let weight = |line: &String| {
        let rest = line.strip_prefix("          ").filter(|_| line.contains(" |   "))?;
        Some(rest.split_whitespace().next()?.trim_start_matches('-').to_owned())
    };
    for lines in [theirs, ours] {
        for part in lines.chunk_by_mut(|a, b| weight(a).is_some() && weight(a) == weight(b)) {
            part.sort();
        }
    }
}

/// Fails unless the document lists the rules that there are, and the long form, which asks everything of each profile, needed
/// all of them.
pub fn check(used: &BTreeSet<&'static str>) {
    let path = repository().join("docs/pprof-differences.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows: Vec<Vec<&str>> =
        rows.map(|row| row.split(" | ").collect()).filter(|row: &Vec<_>| row.len() == 4).collect();
    let mut listed = BTreeSet::new();
    for row in rows.iter().skip_while(|row| !row[0].starts_with("---")).skip(1) {
        assert!(row[3].len() > 7, "without a reason: {row:?}");
        assert!(listed.insert(row[0]), "twice: {}", row[0]);
    }
    let known: BTreeSet<&str> = INPUTS.iter().map(|rule| rule.0).chain(LINES.iter().map(|rule| rule.0)).collect();
    assert_eq!(listed, known, "left: what {} lists, right: what this test knows", path.display());
    let gone: Vec<_> = known.difference(used).collect();
    assert!(gone.is_empty() || !is_long(), "differences that are gone: {gone:?}");
}
