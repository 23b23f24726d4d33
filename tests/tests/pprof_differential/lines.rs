//! Lines of both, laid side by side.

use super::cases::Report;

/// Our lines without what only we show: a line about sampling, columns, the place in the source. Each must look as it is
/// documented; what does not stays and is a difference.
pub fn ours(report: Report, options: &[String], text: &str) -> Vec<String> {
    // Where rows are lines, files or addresses, the place is a part of the name.
    let has_place = !options.iter().any(|option| ["-lines", "-files", "-addresses"].contains(&option.as_str()));
    match report {
        Report::Top | Report::TopCum => top(text, has_place),
        Report::Tree | Report::Peek => text.lines().map(without_interval).collect(),
        Report::Traces | Report::Raw => text.lines().map(str::to_owned).collect(),
    }
}

fn top(text: &str, has_place: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut is_table = false;
    for line in text.lines() {
        if is_table {
            lines.push(without_columns(line, has_place).unwrap_or_else(|| line.to_owned()));
        } else if line.ends_with(" samples           flat 95%  name")
            || line.ends_with(" samples            cum 95%  name")
        {
            is_table = true;
            lines.push("      flat  flat%   sum%        cum   cum%".to_owned());
        } else if !is_sampling(line) {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// "Sampled every 512kB: 1234 samples; total within 10..12MB (95%)".
fn is_sampling(line: &str) -> bool {
    line.starts_with("Sampled every ") && line.contains(" samples; total within ") && line.ends_with(" (95%)")
}

/// A row of `top` without the samples, the interval and the place.
fn without_columns(line: &str, has_place: bool) -> Option<String> {
    let mut rest = line;
    let mut word = || {
        let start = rest.len() - rest.trim_start().len();
        let end = start + rest[start..].find(' ')?;
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    };
    let numbers: Option<String> = (0..5).map(|_| word()).collect();
    let (samples, interval) = (word()?.trim_start(), word()?.trim_start());
    let is_interval = interval == "-" || interval.split("..").filter(|end| !end.is_empty()).count() == 2;
    if samples.parse::<u64>().is_err() || !is_interval {
        return None;
    }
    Some(format!("{}{}", numbers?, if has_place { without_place(rest) } else { rest }))
}

/// A name without "  src/cache.rs:12" behind it.
fn without_place(name: &str) -> &str {
    let Some(at) = name.rfind("  ").filter(|&at| at > 0 && !name[..at].trim().is_empty()) else { return name };
    let place = &name[at + 2..];
    let is_place = place
        .rsplit_once(':')
        .is_some_and(|(file, line)| !file.is_empty() && !file.starts_with(' ') && line.parse::<i64>().is_ok());
    if is_place { &name[..at] } else { name }
}

/// A line of `tree` or `peek` without "  cum 10..12MB (95%), 34 samples".
fn without_interval(line: &str) -> String {
    let cut = line.rfind("  cum ").filter(|&at| {
        let rest = &line[at + 6..];
        let parts = rest.split_once(" (95%), ").and_then(|(interval, samples)| {
            Some((interval.contains("..") || interval == "-", samples.strip_suffix(" samples")?.parse::<u64>().ok()?))
        });
        parts.is_some_and(|(is_interval, _)| is_interval)
    });
    line[..cut.unwrap_or(line.len())].to_owned()
}

/// The first lines that differ, with what stands around them.
pub fn first_difference(theirs: &[String], ours: &[String]) -> Option<String> {
    let at = (0..theirs.len().max(ours.len())).find(|&at| theirs.get(at) != ours.get(at))?;
    let part = |lines: &[String]| {
        let from = at.saturating_sub(1).min(lines.len());
        lines[from..(at + 3).min(lines.len())].iter().map(|line| format!("    {line:?}\n")).collect::<String>()
    };
    Some(format!(
        "line {} of {} and {}:\n  theirs\n{}  ours\n{}",
        at + 1,
        theirs.len(),
        ours.len(),
        part(theirs),
        part(ours)
    ))
}

#[test]
fn only_what_is_ours_is_taken_away() {
    let head = "      flat  flat%   sum%        cum   cum%  samples           flat 95%  name";
    let text = format!("File: x\nSampled every 512kB: 3 samples; total within 1..2MB (95%)\n{head}\n");
    let row = "    1.50MB 75.00% 75.00%        2MB   100%        3         0.5..2.5MB  f(a, b)  src/a.c:3";
    let lines = ours(Report::Top, &[], &format!("{text}{row}\n"));
    let wanted = [
        "File: x",
        "      flat  flat%   sum%        cum   cum%",
        "    1.50MB 75.00% 75.00%        2MB   100%  f(a, b)",
    ];
    assert_eq!(lines, wanted);
    let odd = "    1.50MB 75.00% 75.00%        2MB   100%        x         0.5..2.5MB  f";
    assert_eq!(ours(Report::Top, &[], &format!("{text}{odd}\n")).last().map(String::as_str), Some(odd));
    for (name, wanted) in
        [("  two  blanks", "  two  blanks"), ("  f  a/b.c:-1", "  f"), ("  f  b.c", "  f  b.c"), ("  a.c:1", "  a.c:1")]
    {
        assert_eq!(without_place(name), wanted);
    }
    assert_eq!(
        without_interval("  2MB   100%                | f  cum 1..2MB (95%), 7 samples"),
        "  2MB   100%                | f"
    );
    assert_eq!(without_interval("| f  cum laude"), "| f  cum laude");
    assert!(first_difference(&["a".to_owned()], &["a".to_owned()]).is_none());
    assert!(first_difference(&["a".to_owned()], &[]).is_some());
}
