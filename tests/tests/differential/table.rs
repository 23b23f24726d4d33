//! The table of differences in docs/jemalloc-differences.md.
//!
//! A row names calls and both answers by patterns, in which `*` stands for anything; there may be several for calls, parted
//! by commas. `=class` as jemalloc's answer stands for our answer with each size from 16 KiB up rounded to jemalloc's size
//! class.

use std::fs;

use alloc_core::size::{NLEXTENTS, large_class_size};
use heapsift_tests::artifacts::repository;

/// A call that both answered, not alike.
#[derive(Debug)]
pub struct Difference {
    pub call: String,
    pub theirs: String,
    pub ours: String,
}

/// What a row of the table says of one pattern of calls.
#[derive(Debug)]
struct Row {
    call: String,
    theirs: String,
    ours: String,
}

impl Row {
    /// Reads "| `call`, `call` | `theirs` | `ours` | why |"; none of another line.
    fn read(line: &str) -> Vec<Row> {
        let line = line.replace("\\|", "\u{1}");
        let Some(cells) = line.strip_prefix("| `").and_then(|rest| rest.strip_suffix(" |")) else { return Vec::new() };
        let cells: Vec<&str> = cells.split(" | ").collect();
        let [calls, theirs, ours, why] = cells[..] else { panic!("not four cells: {line}") };
        assert!(why.len() > 7, "without a reason: {line}");
        let text = |cell: &str| cell.trim_matches('`').replace('\u{1}', "|");
        calls.split("`, `").map(|call| Row { call: text(call), theirs: text(theirs), ours: text(ours) }).collect()
    }

    fn covers(&self, difference: &Difference) -> bool {
        let theirs = match self.theirs.as_str() {
            "=class" => classed(&difference.ours) == difference.theirs,
            pattern => matches(pattern, &difference.theirs),
        };
        theirs && matches(&self.call, &difference.call) && matches(&self.ours, &difference.ours)
    }
}

/// Whether `text` is as `pattern` says.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// An answer with each number from 16 KiB up rounded up to a size class of jemalloc's.
fn classed(answer: &str) -> String {
    let of_word = |word: &str| {
        let size = word.parse::<usize>().ok().filter(|&size| size >= large_class_size(0));
        let class = size.and_then(|size| (0..NLEXTENTS).map(large_class_size).find(|&class| class >= size));
        class.map_or(word.to_owned(), |class| class.to_string())
    };
    answer.split(' ').map(of_word).collect::<Vec<_>>().join(" ")
}

/// Fails unless each difference is covered by a row, and each row covers one.
pub fn check(differences: &[Difference]) {
    let path = repository().join("docs/jemalloc-differences.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rows: Vec<Row> = text.lines().flat_map(Row::read).collect();
    let mut used = vec![false; rows.len()];
    let mut wrong = Vec::new();
    for difference in differences {
        match rows.iter().position(|row| row.covers(difference)) {
            Some(row) => used[row] = true,
            None => {
                let Difference { call, theirs, ours } = difference;
                wrong.push(format!("not listed: | `{call}` | `{theirs}` | `{ours}` |"));
            }
        }
    }
    let gone = rows.iter().zip(used).filter(|(_, used)| !used);
    wrong.extend(gone.map(|(row, _)| format!("gone: | `{}` | `{}` | `{}` |", row.call, row.theirs, row.ours)));
    assert!(wrong.is_empty(), "{} differs in {} ways:\n{}", path.display(), wrong.len(), wrong.join("\n"));
}

#[test]
fn patterns_and_classes() {
    for (pattern, text) in
        [("", ""), ("a", "a"), ("*", ""), ("*", "ab"), ("a*", "ab"), ("*b", "ab"), ("a*c*e", "abcde"), ("a*a", "aa")]
    {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("", "a"), ("a", "ab"), ("a*b", "ba"), ("a*a", "a"), ("*b*", "ac"), ("a*c*e", "aec")] {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
    assert_eq!(classed("36864 off 0 foretold 102400"), "40960 off 0 foretold 114688");
    assert_eq!(classed("16384 4096 12 zero 1"), "16384 4096 12 zero 1");
}
