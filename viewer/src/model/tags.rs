//! Labels, which pprof calls tags: choosing rows by them, and making frames of them.

use std::sync::LazyLock;

use hashbrown::HashMap;
use regex::Regex;

use super::{Function, Label, LabelValue, Line, Location, Profile, Str};
use crate::measure;

/// A condition on labels.
#[derive(Debug)]
pub struct TagFilter {
    /// As it was written.
    pub text: String,
    /// The only label that counts.
    key: Option<String>,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    /// A number in a unit, between two ends.
    Range { low: Option<f64>, high: Option<f64>, unit: String },
    /// Texts: with a key, a value that any matches; without, each matches some `key:value`.
    Texts(Vec<Regex>),
}

impl TagFilter {
    /// Reads a condition as pprof writes it: `32kb`, `:64kb`, `4mb:`, `12kb:64mb` for numbers, and
    /// expressions, separated by commas, for texts; `key=` before it names the label.
    ///
    /// # Errors
    /// Says which expression is broken, and how.
    pub fn new(text: &str) -> Result<Self, String> {
        let (key, condition) = match text.split_once('=') {
            Some((key, condition)) => (Some(key.to_owned()).filter(|key| !key.is_empty()), condition),
            None => (None, text),
        };
        let rule = match range(condition)? {
            Some(rule) => rule,
            None => {
                let compile = |part| Regex::new(part).map_err(|error| error.to_string());
                Rule::Texts(condition.split(',').map(compile).collect::<Result<_, _>>()?)
            }
        };
        Ok(Self { text: text.to_owned(), key, rule })
    }

    fn matches(&self, profile: &Profile, units: &HashMap<Str, String>, labels: &[Label]) -> bool {
        let is_wanted = |label: &&Label| self.key.as_ref().is_none_or(|key| profile.text(label.key) == key.as_str());
        let mut wanted = labels.iter().filter(is_wanted);
        match &self.rule {
            Rule::Range { low, high, unit } => wanted.any(|label| {
                let LabelValue::Number(number, _) = label.value else { return false };
                let (scaled, scaled_unit) = measure::scale(number.into(), &units[&label.key], unit);
                scaled_unit == *unit && low.is_none_or(|low| scaled >= low) && high.is_none_or(|high| scaled <= high)
            }),
            Rule::Texts(rules) => {
                let texts: Vec<String> = wanted
                    .filter_map(|label| match label.value {
                        LabelValue::Text(text) if self.key.is_some() => Some(profile.text(text).to_owned()),
                        LabelValue::Text(text) => Some(format!("{}:{}", profile.text(label.key), profile.text(text))),
                        LabelValue::Number(..) => None,
                    })
                    .collect();
                let matches = |rule: &Regex| texts.iter().any(|text| rule.is_match(text));
                if self.key.is_some() { rules.iter().any(matches) } else { rules.iter().all(matches) }
            }
        }
    }
}

/// A range, if the condition is one.
fn range(condition: &str) -> Result<Option<Rule>, String> {
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("([+-]?[0-9]+)([A-Za-z]+)?").expect("the expression is a constant"));
    let found: Vec<_> = NUMBER.captures_iter(condition).take(2).collect();
    let number = |at: usize| -> Result<i128, String> {
        let digits = &found[at][1];
        match digits.parse::<i64>() {
            Ok(number) => Ok(number.into()),
            Err(_) => Err(format!("{digits} is too large a number")),
        }
    };
    let unit_of = |at: usize| found[at].get(2).map_or("", |unit| unit.as_str());
    let Some(first) = found.first() else {
        return Ok(None);
    };
    let (value, unit) = measure::scale(number(0)?, unit_of(0), unit_of(0));
    let whole = &first[0];
    if found.len() == 1 {
        let (low, high) = match condition {
            _ if condition == whole => (Some(value), Some(value)),
            _ if condition == format!("{whole}:") => (Some(value), None),
            _ if condition == format!(":{whole}") => (None, Some(value)),
            _ => return Ok(None),
        };
        return Ok(Some(Rule::Range { low, high, unit }));
    }
    if condition != format!("{whole}:{}", &found[1][0]) {
        return Ok(None);
    }
    let (other, other_unit) = measure::scale(number(1)?, unit_of(1), &unit);
    Ok((other_unit == unit).then_some(Rule::Range { low: Some(value), high: Some(other), unit }))
}

impl Profile {
    /// The unit of each label that holds numbers: the first one found; where there is none, pprof's guess.
    pub fn label_units(&self) -> HashMap<Str, String> {
        let mut units: HashMap<Str, Str> = HashMap::new();
        for row in 0..self.row_count() {
            for label in self.labels(row) {
                if let LabelValue::Number(_, unit) = label.value {
                    let known = units.entry(label.key).or_insert(unit);
                    if known.is_empty() {
                        *known = unit;
                    }
                }
            }
        }
        let text = |(key, unit): (Str, Str)| {
            let unit = match (self.text(unit), self.text(key)) {
                ("", "request" | "alignment") => "bytes",
                ("", key) => key,
                (unit, _) => unit,
            };
            (key, unit.to_owned())
        };
        units.into_iter().map(text).collect()
    }

    pub(super) fn filter_by_tag(&mut self, focus: Option<&TagFilter>, ignore: Option<&TagFilter>) -> Vec<&'static str> {
        if focus.is_none() && ignore.is_none() {
            return Vec::new();
        }
        let units = self.label_units();
        let (mut focused, mut ignored) = (false, false);
        self.retain_rows(|profile, row| {
            let labels = profile.labels(row);
            let is_focused = focus.is_none_or(|rule| rule.matches(profile, &units, labels));
            let is_ignored = ignore.is_some_and(|rule| rule.matches(profile, &units, labels));
            (focused, ignored) = (focused || is_focused, ignored || is_ignored);
            (is_focused && !is_ignored).then(|| 0..profile.stack(row).len())
        });
        [("tagfocus", focus.is_some() && !focused), ("tagignore", ignore.is_some() && !ignored)]
            .into_iter()
            .filter_map(|(name, missed)| missed.then_some(name))
            .collect()
    }

    /// Hides labels whose key is not to be shown. They stay what they are: the size of a row's blocks is
    /// one of them.
    pub(super) fn filter_tags(&mut self, show: Option<&Regex>, hide: Option<&Regex>) -> Vec<&'static str> {
        if show.is_none() && hide.is_none() {
            return Vec::new();
        }
        let mut keys: HashMap<Str, (bool, bool)> = HashMap::new();
        for row in 0..self.row_count() {
            for label in self.labels(row) {
                keys.entry(label.key).or_insert_with(|| {
                    let key = self.text(label.key);
                    (show.is_none_or(|rule| rule.is_match(key)), hide.is_some_and(|rule| rule.is_match(key)))
                });
            }
        }
        let shown = keys.values().any(|&(is_shown, _)| is_shown);
        let hidden = keys.values().any(|&(_, is_hidden)| is_hidden);
        self.hidden_labels
            .extend(keys.into_iter().filter(|&(_, (is_shown, is_hidden))| !is_shown || is_hidden).map(|(key, _)| key));
        [("tagshow", show.is_some() && !shown), ("taghide", hide.is_some() && !hidden)]
            .into_iter()
            .filter_map(|(name, missed)| missed.then_some(name))
            .collect()
    }

    /// Adds frames that stand for labels: at the root for the keys `roots`, the first of them outermost, and
    /// at the leaf for the keys `leaves`, the last of them innermost. Returns which of both found no label.
    pub fn add_label_frames(&mut self, roots: &[&str], leaves: &[&str], unit: &str) -> Vec<&'static str> {
        if roots.is_empty() && leaves.is_empty() {
            return Vec::new();
        }
        let mut known: HashMap<(String, Str), u32> = HashMap::new();
        let mut found = [false; 2];
        let mut made = [Vec::new(), Vec::new()];
        let mut stacks = Vec::with_capacity(self.frames.len() + self.rows.len() * (roots.len() + leaves.len()));
        for row in 0..self.row_count() {
            let mut make = |profile: &mut Self, keys: &[&str], found: &mut bool, made: &mut Vec<u32>| {
                made.clear();
                for key in keys.iter().rev() {
                    let values = profile.label_texts(row, key, unit);
                    *found |= !values.is_empty();
                    let (name, file) = (values.join(","), profile.strings.intern(key));
                    let next = profile.locations.len() as u32;
                    let location = *known.entry((name.clone(), file)).or_insert(next);
                    if location == next {
                        profile.add_named_location(&name, file);
                    }
                    made.push(location);
                }
            };
            // Numbered as pprof does it: those at the root first.
            make(self, roots, &mut found[0], &mut made[0]);
            make(self, leaves, &mut found[1], &mut made[1]);
            let start = stacks.len() as u32;
            stacks.extend_from_slice(&made[1]);
            stacks.extend_from_slice(self.stack(row));
            stacks.extend_from_slice(&made[0]);
            // A row that follows still has its place in the old list.
            self.rows[row].stack = (start, stacks.len() as u32 - start);
        }
        self.frames = stacks;
        [("tagroot", !roots.is_empty() && !found[0]), ("tagleaf", !leaves.is_empty() && !found[1])]
            .into_iter()
            .filter_map(|(name, missed)| missed.then_some(name))
            .collect()
    }

    fn add_named_location(&mut self, name: &str, file: Str) {
        let name = self.strings.intern(name);
        let function = self.functions.len() as u32;
        self.functions.push(Function { name, system_name: Str::EMPTY, file, start_line: 0 });
        let lines = vec![Line { function, line: 0 }];
        self.locations.push(Location { lines: lines.into(), ..Location::default() });
    }

    /// The values of a row's label, texts first, as text.
    fn label_texts(&self, row: usize, key: &str, unit: &str) -> Vec<String> {
        self.labels(row)
            .iter()
            .filter(|label| self.text(label.key) == key)
            .map(|label| match label.value {
                LabelValue::Text(text) => self.text(text).to_owned(),
                LabelValue::Number(number, own) if own.is_empty() => measure::label(number.into(), "", ""),
                LabelValue::Number(number, own) => measure::label(number.into(), self.text(own), unit),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(condition: &str) -> Option<(Option<f64>, Option<f64>, String)> {
        match range(condition).unwrap() {
            Some(Rule::Range { low, high, unit }) => Some((low, high, unit)),
            _ => None,
        }
    }

    #[test]
    fn ranges_are_pprofs() {
        assert_eq!(ends("32kb"), Some((Some(32.0), Some(32.0), "kB".to_owned())));
        assert_eq!(ends(":64kb"), Some((None, Some(64.0), "kB".to_owned())));
        assert_eq!(ends("4mb:"), Some((Some(4.0), None, "MB".to_owned())));
        assert_eq!(ends("1kb:2mb"), Some((Some(1.0), Some(2048.0), "kB".to_owned())));
        assert_eq!(ends("7"), Some((Some(7.0), Some(7.0), String::new())));
        for text in ["worker-7", "a", "1kb:2s", "1kb-2kb", "x1kb:"] {
            assert_eq!(ends(text), None, "{text}");
        }
        assert!(range("99999999999999999999").is_err());
    }

    #[test]
    fn broken_expressions_are_refused() {
        assert!(TagFilter::new("thread=(").is_err());
        assert!(TagFilter::new("thread=a.*,b").is_ok());
    }
}
