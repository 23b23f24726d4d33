//! Cutting and choosing: frames that the producer wants dropped, and pprof's `focus`, `ignore`, `hide`
//! and `show`, with pprof's meaning.

use regex::Regex;

use super::{Location, Profile};

/// Which rows and frames to look at.
#[derive(Debug, Default)]
pub struct Filters {
    /// Keep rows with a frame that matches.
    pub focus: Option<Regex>,
    /// Drop rows with a frame that matches.
    pub ignore: Option<Regex>,
    /// Take frames that match out of their stacks.
    pub hide: Option<Regex>,
    /// Take frames that do not match out of their stacks.
    pub show: Option<Regex>,
}

impl Filters {
    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.focus.is_none() && self.ignore.is_none() && self.hide.is_none() && self.show.is_none()
    }

    /// The filters as text, for a report's head.
    pub fn describe(&self) -> Vec<String> {
        [
            ("focus", &self.focus),
            ("ignore", &self.ignore),
            ("hide", &self.hide),
            ("show", &self.show),
        ]
        .into_iter()
        .filter_map(|(name, filter)| Some(format!("{name}={}", filter.as_ref()?)))
        .collect()
    }
}

/// A name cut at its argument list; `(anonymous namespace)` and `operator()` belong to the name.
pub(crate) fn without_arguments(name: &str) -> &str {
    let name = name.strip_prefix('.').unwrap_or(name);
    const RESERVED: [&str; 2] = ["(anonymous namespace)", "operator()"];
    let mut from = 0;
    while let Some(found) = name[from..].find('(').map(|found| from + found) {
        let reserved = RESERVED.iter().find_map(|word| {
            let bracket = word.find('(')?;
            let start = found.checked_sub(bracket).filter(|&start| start >= from)?;
            name.get(start..)?
                .starts_with(word)
                .then_some(start + word.len())
        });
        match reserved {
            Some(end) => from = end,
            None => return &name[..found],
        }
    }
    name
}

impl Profile {
    /// Cuts, below the outermost frames, what the producer declared uninteresting: the frame that
    /// matches `drop_frames` and everything it called. A broken expression cuts nothing.
    pub fn prune(&mut self) {
        let whole = |expression: &str| Regex::new(&format!("^(?:{expression})$")).ok();
        if self.drop_frames.is_empty() {
            return;
        }
        let Some(drop) = whole(&self.drop_frames) else {
            return;
        };
        let keep = (!self.keep_frames.is_empty())
            .then(|| whole(&self.keep_frames))
            .flatten();
        let drops: Vec<bool> = self
            .functions
            .iter()
            .map(|function| {
                let name = without_arguments(self.strings.get(function.name));
                !name.is_empty()
                    && drop.is_match(name)
                    && !keep.as_ref().is_some_and(|keep| keep.is_match(name))
            })
            .collect();
        if !drops.contains(&true) {
            return;
        }

        #[derive(Clone, Copy, PartialEq)]
        enum Cut {
            Nothing,
            Whole,
            Below,
        }
        let cuts: Vec<Cut> = self
            .locations
            .iter_mut()
            .map(|location| {
                let found = location
                    .lines
                    .iter()
                    .rposition(|line| drops[line.function as usize]);
                match found {
                    None => Cut::Nothing,
                    Some(at) if at + 1 == location.lines.len() => Cut::Whole,
                    Some(at) => {
                        location.lines.drain(..=at);
                        Cut::Below
                    }
                }
            })
            .collect();
        self.retain_rows(|profile, row| {
            let stack = profile.stack(row);
            let mut seen_other = false;
            for (depth, &location) in stack.iter().enumerate().rev() {
                match cuts[location as usize] {
                    Cut::Nothing => seen_other = true,
                    Cut::Whole if seen_other => return Some(depth + 1..stack.len()),
                    Cut::Below if seen_other => return Some(depth..stack.len()),
                    Cut::Whole | Cut::Below => {}
                }
            }
            Some(0..stack.len())
        });
    }

    /// Keeps the rows and frames that `filters` ask for. Returns the names of those that matched
    /// nothing at all, which is usually a slip of the pen.
    pub fn filter(&mut self, filters: &Filters) -> Vec<&'static str> {
        if filters.is_empty() {
            return Vec::new();
        }
        let matches = |profile: &Self, location: &Location, rule: &Regex| {
            location
                .lines
                .iter()
                .any(|line| profile.line_matches(line.function, rule))
                || profile.mapping_matches(location, rule)
        };
        let [mut focused, mut ignored, mut hidden, mut shown] = [false; 4];
        // Some(true): in focus; Some(false): to be ignored.
        let mut verdicts = Vec::with_capacity(self.locations.len());
        let mut gone = Vec::with_capacity(self.locations.len());
        for index in 0..self.locations.len() {
            let location = &self.locations[index];
            let ignore = filters
                .ignore
                .as_ref()
                .is_some_and(|rule| matches(self, location, rule));
            let focus = filters
                .focus
                .as_ref()
                .is_none_or(|rule| matches(self, location, rule));
            ignored |= ignore;
            focused |= focus && !ignore;
            verdicts.push(if ignore {
                Some(false)
            } else {
                focus.then_some(true)
            });

            let (mut lines, mut is_gone) = (location.lines.clone(), false);
            if let Some(rule) = &filters.hide
                && matches(self, location, rule)
            {
                hidden = true;
                let whole = self.mapping_matches(location, rule);
                lines.retain(|line| !whole && !self.line_matches(line.function, rule));
                is_gone = lines.is_empty();
            }
            if let Some(rule) = &filters.show {
                if !self.mapping_matches(location, rule) {
                    lines.retain(|line| self.line_matches(line.function, rule));
                }
                is_gone |= lines.is_empty();
                shown |= !lines.is_empty();
            }
            gone.push(is_gone);
            self.locations[index].lines = lines;
        }
        self.retain_rows(|profile, row| {
            let stack = profile.stack(row);
            let verdict = |&location: &u32| verdicts[location as usize];
            if stack.iter().any(|l| verdict(l) == Some(false))
                || !stack.iter().any(|l| verdict(l) == Some(true))
            {
                return None;
            }
            Some(0..stack.len())
        });
        if gone.contains(&true) {
            self.remove_locations(&gone);
        }
        [
            ("focus", filters.focus.is_some() && !focused),
            ("ignore", filters.ignore.is_some() && !ignored),
            ("hide", filters.hide.is_some() && !hidden),
            ("show", filters.show.is_some() && !shown),
        ]
        .into_iter()
        .filter_map(|(name, missed)| missed.then_some(name))
        .collect()
    }

    fn line_matches(&self, function: u32, rule: &Regex) -> bool {
        let function = &self.functions[function as usize];
        rule.is_match(self.strings.get(function.name))
            || rule.is_match(self.strings.get(function.file))
    }

    fn mapping_matches(&self, location: &Location, rule: &Regex) -> bool {
        location.mapping.is_some_and(|mapping| {
            rule.is_match(self.strings.get(self.mappings[mapping as usize].file))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::without_arguments;

    #[test]
    fn names_are_cut_at_their_arguments() {
        assert_eq!(without_arguments("f(int)"), "f");
        assert_eq!(
            without_arguments("(anonymous namespace)::f(int)"),
            "(anonymous namespace)::f"
        );
        assert_eq!(
            without_arguments("T::operator()(int) const"),
            "T::operator()"
        );
        assert_eq!(without_arguments(".f"), "f");
        assert_eq!(
            without_arguments("alloc::vec::Vec<()>::push"),
            "alloc::vec::Vec<"
        );
        assert_eq!(without_arguments("main"), "main");
    }
}
