//! pprof's spelling of options, made ours before the command line is parsed: one dash, underscores,
//! and `-inuse_space` for `--sample-index=inuse_space`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Rewrites what is an option in pprof's spelling and leaves everything else alone. A word is an
/// option if, so rewritten, the command has one of that name: `-nodecount=10` is, `-n10` is not.
pub fn normalise(command: &clap::Command, words: Vec<OsString>) -> Vec<OsString> {
    let Some(name) = words.get(1).and_then(|word| word.to_str()) else {
        return words;
    };
    let Some(sub) = command.find_subcommand(name) else {
        return words;
    };
    let longs: Vec<&str> = sub.get_arguments().filter_map(clap::Arg::get_long).collect();
    let flags: Vec<&str> = sub
        .get_arguments()
        .filter(|argument| matches!(argument.get_action(), clap::ArgAction::SetTrue))
        .filter_map(clap::Arg::get_long)
        .collect();
    let takes_program = name == "run";
    let mut out = Vec::with_capacity(words.len());
    let mut is_ours = true;
    for (index, word) in words.into_iter().enumerate() {
        if index < 2 || !is_ours {
            out.push(word);
            continue;
        }
        // What follows `--`, or the program that `run` starts, is not ours to read.
        if word == "--" || (takes_program && !word.as_bytes().starts_with(b"-")) {
            is_ours = word != "--" && takes_value(sub, out.last());
            out.push(word);
            continue;
        }
        let word = respell(&word, &longs, &flags).unwrap_or(word);
        if !is_off(&word, &flags) {
            out.push(word);
        }
    }
    out
}

/// Whether the word before was an option whose value comes next.
fn takes_value(command: &clap::Command, before: Option<&OsString>) -> bool {
    let Some(word) = before.and_then(|word| word.to_str()?.strip_prefix('-')) else { return false };
    let is_it = |argument: &clap::Arg| match word.strip_prefix('-') {
        Some(long) => argument.get_long() == Some(long),
        None => argument.get_short().is_some_and(|short| word.chars().eq([short])),
    };
    command.get_arguments().any(|argument| argument.get_action().takes_values() && is_it(argument))
}

fn respell(word: &OsStr, longs: &[&str], flags: &[&str]) -> Option<OsString> {
    let bytes = word.as_bytes().strip_prefix(b"-")?;
    let bytes = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let end = bytes.iter().position(|&byte| byte == b'=').unwrap_or(bytes.len());
    let (name, value) = bytes.split_at(end);
    if name.len() < 2 {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?;
    // Words that choose a column.
    let column = match name {
        "inuse_space" | "inuse_objects" | "alloc_space" | "alloc_objects" | "contentions" => Some(name),
        "total_delay" => Some("delay"),
        _ => None,
    };
    if let Some(column) = column.filter(|_| value.is_empty() && longs.contains(&"sample-index")) {
        return Some(format!("--sample-index={column}").into());
    }
    let name = name.replace('_', "-");
    if name == "trim" && longs.contains(&"no-trim") {
        return match value {
            b"=false" | b"=0" | b"=f" => Some("--no-trim".into()),
            _ => Some("--no-trim=false".into()),
        };
    }
    if !longs.contains(&name.as_str()) {
        return None;
    }
    if flags.contains(&name.as_str()) && matches!(value, b"=true" | b"=1" | b"=t") {
        return Some(format!("--{name}").into());
    }
    Some(OsString::from_vec([b"--", name.as_bytes(), value].concat()))
}

/// Whether a word, respelled, switches a flag off, which is how it is without the word.
fn is_off(word: &OsStr, flags: &[&str]) -> bool {
    let off = word.to_str().and_then(|word| word.strip_prefix("--")?.split_once('='));
    off.is_some_and(|(name, value)| flags.contains(&name) && matches!(value, "false" | "0" | "f"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn normalised(words: &[&str]) -> Vec<String> {
        let words = words.iter().map(OsString::from).collect();
        normalise(&crate::cli::args::Arguments::command(), words)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn pprofs_options_are_understood() {
        assert_eq!(
            normalised(&["heapsift", "top", "-sample_index=inuse_space", "-nodecount=5", "-cum", "f"]),
            ["heapsift", "top", "--sample-index=inuse_space", "--nodecount=5", "--cum", "f"]
        );
        assert_eq!(
            normalised(&["heapsift", "top", "-diff_base", "a", "-alloc_space", "b"]),
            ["heapsift", "top", "--diff-base", "a", "--sample-index=alloc_space", "b"]
        );
    }

    #[test]
    fn flags_may_be_given_a_value() {
        let words = ["heapsift", "tree", "-cum=true", "-trim=false", "-noinlines=false", "-trim", "f"];
        assert_eq!(normalised(&words), ["heapsift", "tree", "--cum", "--no-trim", "f"]);
    }

    #[test]
    fn other_words_stay() {
        let words = ["heapsift", "top", "-n5", "-", "-x", "--", "-cum"];
        assert_eq!(normalised(&words), words);
        let words = ["heapsift", "run", "--sample", "1MiB", "prog", "-out", "-sample_index=x"];
        assert_eq!(normalised(&words), words);
        let words = ["heapsift", "run", "-o", "dir", "--limit", "memory=4GiB", "-no_top", "prog", "-no_top"];
        let ours = ["heapsift", "run", "-o", "dir", "--limit", "memory=4GiB", "--no-top", "prog", "-no_top"];
        assert_eq!(normalised(&words), ours);
        let words = ["heapsift", "run", "--", "prog", "-no_top"];
        assert_eq!(normalised(&words), words);
    }
}
