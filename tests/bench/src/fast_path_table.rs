//! The committed table of instruction counts: for each pattern, what our library needs, harness removed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::fast_path::PATTERNS;
use crate::{Failure, Outcome, fail};

/// Columns of the table: profiling off; on, with an interval that no run reaches, so that the countdown is counted
/// and no sample taken.
pub const COLUMNS: [(&str, &str); 2] = [("off", "prof:false"), ("on", "prof:true,lg_prof_sample:50")];

/// By pattern, the costs in the order of [`COLUMNS`].
pub type Table = BTreeMap<String, [f64; 2]>;

const HEAD: &str = "\
# Instructions of one operation in libheapsift.so, harness removed, by callgrind: tests/bench/run fast-path --record.
# off: prof:false; on: prof:true, its countdown running and no sample due. A test compares; lower is better.
";

/// Reads the table.
pub fn read(path: &Path) -> Outcome<Table> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return fail(format!("{}: {error}", path.display())),
    };
    parse(&text).map_err(|error| Failure(format!("{}: {error}", path.display())))
}

fn parse(text: &str) -> Outcome<Table> {
    let rows = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    rows.map(|(number, line)| {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [name, off, on] = words[..]
            && let (Ok(off), Ok(on)) = (off.parse(), on.parse())
        {
            return Ok((name.to_owned(), [off, on]));
        }
        fail(format!("line {}: expected PATTERN OFF ON", number + 1))
    })
    .collect()
}

/// Writes the table.
pub fn write(path: &Path, table: &Table) -> Outcome<()> {
    fs::write(path, format(table)).or_else(|error| fail(format!("{}: {error}", path.display())))
}

fn format(table: &Table) -> String {
    let mut text = String::from(HEAD);
    for pattern in &PATTERNS {
        if let Some([off, on]) = table.get(pattern.name) {
            let _ = writeln!(text, "{:12} {off:9.1} {on:9.1}", pattern.name);
        }
    }
    text
}

/// How much more than recorded is no regression: one instruction; for paths that call functions of the C library,
/// which differ from machine to machine, two in a hundred.
pub fn allowed(recorded: f64) -> f64 {
    recorded + f64::max(1.0, recorded * 0.02)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let table = Table::from([("pair32".to_owned(), [33.0, 34.5]), ("regrow4K".to_owned(), [2000.2, 2001.0])]);
        assert_eq!(parse(&format(&table)).unwrap(), table);
        assert!(parse("pair32 1\n").unwrap_err().0.contains("line 1"));
    }

    #[test]
    fn one_instruction_or_two_in_a_hundred() {
        assert!((allowed(34.0) - 35.0).abs() < 1e-9);
        assert!((allowed(4000.0) - 4080.0).abs() < 1e-9);
    }
}
