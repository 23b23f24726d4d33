//! What is asked of both: reports, and options with words drawn from the profile.

use super::generated::Random;
use super::profiles::Subject;

/// A report that both have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Top,
    TopCum,
    Tree,
    Peek,
    Traces,
    Raw,
}

impl Report {
    /// All of them.
    pub const ALL: [Report; 6] = [Report::Top, Report::TopCum, Report::Tree, Report::Peek, Report::Traces, Report::Raw];

    /// How `go tool pprof` is asked for it.
    pub fn theirs(self, expression: &str) -> Vec<String> {
        match self {
            Report::Top => vec!["-top".to_owned()],
            Report::TopCum => vec!["-top".to_owned(), "-cum".to_owned()],
            Report::Tree => vec!["-tree".to_owned()],
            Report::Peek => vec![format!("-peek={expression}")],
            Report::Traces => vec!["-traces".to_owned()],
            Report::Raw => vec!["-raw".to_owned()],
        }
    }

    /// How `heapsift` is asked for it.
    pub fn ours(self, expression: &str) -> Vec<String> {
        let words = match self {
            Report::Top => &["top"][..],
            Report::TopCum => &["top", "-cum"],
            Report::Tree => &["tree"],
            Report::Peek => &["peek"],
            Report::Traces => &["traces"],
            Report::Raw => &["convert", "--to", "raw"],
        };
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        if self == Report::Peek {
            words.push(expression.to_owned());
        }
        words
    }
}

/// Which reports an option is for.
#[derive(Clone, Copy, PartialEq)]
enum For {
    /// All of them.
    All,
    /// Those with numbers in a unit and rows by function.
    Tables,
    /// Those that leave rows out.
    Cuts,
}

/// Options, with names in braces where a word of the profile belongs.
const OPTIONS: &[(For, &[&str])] = &[
    (For::All, &["-focus={function}"]),
    (For::All, &["-focus={function}|{other}"]),
    (For::All, &["-focus={binary}"]),
    (For::All, &["-focus={file}"]),
    (For::All, &["-ignore={function}"]),
    (For::All, &["-ignore={binary}"]),
    (For::All, &["-focus={function}", "-ignore={other}"]),
    (For::All, &["-hide={function}"]),
    (For::All, &["-hide={function}|{other}"]),
    (For::All, &["-hide={binary}"]),
    (For::All, &["-hide={file}"]),
    (For::All, &["-show={function}|{other}"]),
    (For::All, &["-show={binary}"]),
    (For::All, &["-show={function}", "-hide={other}"]),
    (For::All, &["-show_from={function}"]),
    (For::All, &["-show_from={binary}"]),
    (For::All, &["-prune_from={function}"]),
    (For::All, &["-prune_from={part}"]),
    (For::All, &["-focus={part}"]),
    (For::All, &["-show_from={function}", "-focus={other}", "-hide={part}"]),
    (For::All, &["-focus=no such function"]),
    (For::All, &["-tagfocus={key}={value}"]),
    (For::All, &["-tagfocus={value}"]),
    (For::All, &["-tagfocus={key}={value},{other value}"]),
    (For::All, &["-tagignore={key}={value}"]),
    (For::All, &["-tagfocus={number key}={number}"]),
    (For::All, &["-tagfocus={number}:"]),
    (For::All, &["-tagfocus=:{number}"]),
    (For::All, &["-tagfocus={number}:{other number}"]),
    (For::All, &["-tagignore={number key}=:{number}"]),
    (For::All, &["-tagshow={key}"]),
    (For::All, &["-taghide={key}"]),
    (For::All, &["-tagroot={key}"]),
    (For::All, &["-tagleaf={key}"]),
    (For::All, &["-tagroot={number key},{key}"]),
    (For::All, &["-tagleaf={key}", "-focus={function}"]),
    (For::All, &["-tagroot={key}", "-tagleaf={number key}", "-hide={function}"]),
    (For::Tables, &["-tagroot={number key}", "-unit=kB"]),
    (For::All, &["-noinlines"]),
    (For::Tables, &["-noinlines", "-lines"]),
    (For::All, &["-trim_path=/build/app"]),
    (For::Tables, &["-lines", "-trim_path=/build:/home/me"]),
    (For::Tables, &["-lines"]),
    (For::Tables, &["-files"]),
    (For::Tables, &["-filefunctions"]),
    (For::Tables, &["-addresses"]),
    (For::Tables, &["-addresses", "-noinlines"]),
    (For::Tables, &["-lines", "-focus={function}"]),
    (For::Tables, &["-files", "-hide={function}"]),
    (For::Tables, &["-addresses", "-show={function}|{other}"]),
    (For::Tables, &["-sample_index={column}"]),
    (For::Tables, &["-sample_index=0"]),
    (For::Tables, &["-sample_index={column}", "-mean"]),
    (For::Tables, &["-mean"]),
    (For::Tables, &["-unit=kB"]),
    (For::Tables, &["-unit=B"]),
    (For::Tables, &["-unit=auto"]),
    (For::Tables, &["-unit=ms", "-sample_index={column}"]),
    (For::Tables, &["-unit=furlongs"]),
    (For::Tables, &["-divide_by=3"]),
    (For::Tables, &["-divide_by=0.5", "-sample_index={column}"]),
    (For::Tables, &["-relative_percentages", "-focus={function}"]),
    (For::Tables, &["-relative_percentages", "-ignore={function}", "-lines"]),
    (For::Cuts, &["-nodecount=5"]),
    (For::Cuts, &["-nodecount=1"]),
    (For::Cuts, &["-nodecount=10", "-lines"]),
    (For::Cuts, &["-nodefraction=0"]),
    (For::Cuts, &["-nodefraction=0.1"]),
    (For::Cuts, &["-nodefraction=0.02", "-edgefraction=0.05"]),
    (For::Cuts, &["-edgefraction=0.2"]),
    (For::Cuts, &["-trim=false"]),
    (For::Cuts, &["-nodecount=7", "-focus={function}", "-addresses"]),
    (For::All, &["-base={base}"]),
    (For::All, &["-diff_base={base}"]),
    (For::All, &["-base={base}", "-normalize"]),
    (For::All, &["-diff_base={base}", "-normalize"]),
    (For::All, &["-diff_base={base}", "-focus={function}"]),
    (For::All, &["-base={base}", "-tagignore={key}={value}"]),
    (For::All, &["-diff_base={base}", "-hide={function}"]),
    (For::Tables, &["-base={base}", "-drop_negative"]),
    (For::Tables, &["-diff_base={base}", "-drop_negative", "-lines"]),
    (For::Tables, &["-base={base}", "-sample_index={column}", "-unit=auto"]),
    (For::Tables, &["-diff_base={base}", "-relative_percentages", "-ignore={function}"]),
    (For::Tables, &["-diff_base={base}", "-addresses"]),
    (For::Tables, &["-base={base}", "-lines", "-divide_by=2"]),
    (For::Tables, &["-base={base}", "-mean"]),
    (For::Cuts, &["-diff_base={base}", "-nodecount=6"]),
    (For::Cuts, &["-base={base}", "-nodefraction=0.05", "-edgefraction=0.01"]),
];

/// A report with its options, before words of a profile are put in.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub report: Report,
    pub options: &'static [&'static str],
}

/// Every report with every option that it has.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (scope, options) in OPTIONS {
        let has = |report: &Report| match scope {
            For::All => true,
            For::Tables => *report != Report::Raw,
            For::Cuts => matches!(report, Report::Top | Report::TopCum | Report::Tree),
        };
        cases.extend(Report::ALL.into_iter().filter(has).map(|report| Case { report, options }));
    }
    cases
}

/// The reports without options.
pub fn plain() -> Vec<Case> {
    Report::ALL.into_iter().map(|report| Case { report, options: &[] }).collect()
}

/// Words of a profile: the expression for `peek`, and the options with what stands in braces filled in. None if the profile
/// has nothing of the kind.
pub fn words(case: &Case, subject: &Subject, seed: u64) -> Option<(String, Vec<String>)> {
    let mut random = Random::new(seed);
    let expression = escaped(one(&mut random, &subject.names()).unwrap_or("main"));
    let words = case.options.iter().map(|option| fill(option, subject, &mut random)).collect::<Option<_>>()?;
    Some((expression, words))
}

/// One of these, if there are any.
fn one<T: Copy>(random: &mut Random, list: &[T]) -> Option<T> {
    (!list.is_empty()).then(|| *random.pick(list))
}

fn fill(option: &str, subject: &Subject, random: &mut Random) -> Option<String> {
    let mut filled = String::new();
    let mut rest = option;
    let texts = subject.texts();
    let numbers = subject.numbers();
    // One label for all words of an option.
    let text = one(random, &texts);
    let number = one(random, &numbers);
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').expect("braces come in pairs");
        filled.push_str(before);
        rest = after;
        let written = |(_, number, unit): (&str, i64, &str)| {
            let is_unit = unit.chars().all(|c| c.is_ascii_alphabetic());
            format!("{number}{}", if is_unit { unit } else { "" })
        };
        filled.push_str(&match name {
            "function" | "other" => escaped(one(random, &subject.names())?),
            "part" => part(one(random, &subject.names())?),
            "binary" => escaped(one(random, &subject.binaries())?),
            "file" => escaped(one(random, &subject.files())?),
            "key" => text?.0.to_owned(),
            "value" => escaped(text?.1).replace(',', "."),
            "other value" => escaped(one(random, &texts)?.1).replace(',', "."),
            "number key" => number?.0.to_owned(),
            "number" => written(number?),
            "other number" => written(one(random, &numbers)?),
            "column" => one(random, &subject.columns())?.to_owned(),
            "base" => subject.base.as_ref()?.display().to_string(),
            other => panic!("nothing is called {other}"),
        });
    }
    filled.push_str(rest);
    Some(filled)
}

/// A text as an expression that matches it, read alike by both.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The first word in a name: it matches more than the name.
fn part(name: &str) -> String {
    let word: String = name.chars().skip_while(|c| !c.is_alphanumeric()).take_while(|c| c.is_alphanumeric()).collect();
    if word.is_empty() { escaped(name) } else { word.chars().take(4).collect() }
}
