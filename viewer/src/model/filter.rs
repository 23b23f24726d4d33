//! Choosing rows and frames by name: pprof's `focus`, `ignore`, `hide`, `show` and `show_from`, with
//! pprof's meaning.

use std::ops::Range;

use regex::Regex;

use super::{Location, Profile, TagFilter};
use crate::graph::NO_STACK;

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
    /// Take frames above the outermost one that matches away; drop rows without one.
    pub show_from: Option<Regex>,
    /// Take frames below the innermost one that matches away.
    pub prune_from: Option<Regex>,
    /// Keep rows whose labels match.
    pub tag_focus: Option<TagFilter>,
    /// Drop rows whose labels match.
    pub tag_ignore: Option<TagFilter>,
    /// Labels to show.
    pub tag_show: Option<Regex>,
    /// Labels not to show.
    pub tag_hide: Option<Regex>,
}

impl Filters {
    /// The filters as text, for a report's head; those that pprof names there.
    pub fn describe(&self) -> Vec<String> {
        let text = |rule: &Option<Regex>| rule.as_ref().map(ToString::to_string);
        let tags = |rule: &Option<TagFilter>| rule.as_ref().map(|rule| rule.text.clone());
        [
            ("focus", text(&self.focus)),
            ("ignore", text(&self.ignore)),
            ("hide", text(&self.hide)),
            ("show", text(&self.show)),
            ("show_from", text(&self.show_from)),
            ("tagfocus", tags(&self.tag_focus)),
            ("tagignore", tags(&self.tag_ignore)),
            ("tagshow", text(&self.tag_show)),
            ("taghide", text(&self.tag_hide)),
        ]
        .into_iter()
        .filter_map(|(name, filter)| Some(format!("{name}={}", filter?)))
        .collect()
    }
}

/// What a rule matches, worked out once per function and mapping.
pub(super) struct Matches {
    functions: Vec<bool>,
    mappings: Vec<bool>,
}

impl Matches {
    pub fn new(profile: &Profile, rule: &Regex) -> Self {
        let matches = |handle| rule.is_match(profile.text(handle));
        Self {
            functions: profile.functions.iter().map(|f| matches(f.name) || matches(f.file)).collect(),
            mappings: profile.mappings.iter().map(|m| matches(m.file)).collect(),
        }
    }

    pub fn line(&self, function: u32) -> bool {
        self.functions[function as usize]
    }

    pub fn mapping(&self, location: &Location) -> bool {
        location.mapping.is_some_and(|mapping| self.mappings[mapping as usize])
    }

    pub fn location(&self, location: &Location) -> bool {
        location.lines.iter().any(|line| self.line(line.function)) || self.mapping(location)
    }
}

impl Profile {
    /// Keeps the rows and frames that `filters` ask for. Returns the names of those that matched
    /// nothing at all, which is usually a slip of the pen.
    pub fn filter(&mut self, filters: &Filters) -> Vec<&'static str> {
        let mut missed = self.filter_by_name(filters);
        if let Some(rule) = &filters.show_from
            && !self.show_from(rule)
        {
            missed.push("show-from");
        }
        missed.extend(self.filter_by_tag(filters.tag_focus.as_ref(), filters.tag_ignore.as_ref()));
        missed.extend(self.filter_tags(filters.tag_show.as_ref(), filters.tag_hide.as_ref()));
        if let Some(rule) = &filters.prune_from {
            self.prune_from(rule);
        }
        missed
    }

    fn filter_by_name(&mut self, filters: &Filters) -> Vec<&'static str> {
        let matches = |rule: &Option<Regex>| rule.as_ref().map(|rule| Matches::new(self, rule));
        let [focus, ignore, hide, show] = [&filters.focus, &filters.ignore, &filters.hide, &filters.show].map(matches);
        if focus.is_none() && ignore.is_none() && hide.is_none() && show.is_none() {
            return Vec::new();
        }
        // A row without a stack is as one whose only frame has the name that reports give it.
        let wants = |rule: &Option<Regex>| rule.as_ref().is_none_or(|rule| rule.is_match(NO_STACK));
        let refuses = |rule: &Option<Regex>| rule.as_ref().is_some_and(|rule| rule.is_match(NO_STACK));
        let keeps_stackless =
            wants(&filters.focus) && wants(&filters.show) && !refuses(&filters.ignore) && !refuses(&filters.hide);
        let [mut focused, mut ignored, mut hidden, mut shown] = [false; 4];
        // Some(true): in focus; Some(false): to be ignored.
        let mut verdicts = Vec::with_capacity(self.locations.len());
        let mut is_gone = Vec::with_capacity(self.locations.len());
        for location in &mut self.locations {
            let is_ignored = ignore.as_ref().is_some_and(|rule| rule.location(location));
            let is_focused = focus.as_ref().is_none_or(|rule| rule.location(location));
            ignored |= is_ignored;
            focused |= is_focused && !is_ignored;
            verdicts.push(if is_ignored { Some(false) } else { is_focused.then_some(true) });

            let mut gone = false;
            if let Some(rule) = hide.as_ref().filter(|rule| rule.location(location)) {
                hidden = true;
                let whole = rule.mapping(location);
                location.lines.retain(|line| !whole && !rule.line(line.function));
                gone = location.lines.is_empty();
            }
            if let Some(rule) = &show {
                if !rule.mapping(location) {
                    location.lines.retain(|line| rule.line(line.function));
                }
                gone |= location.lines.is_empty();
                shown |= !location.lines.is_empty();
            }
            is_gone.push(gone);
        }
        self.retain_rows(|profile, row| {
            let stack = profile.stack(row);
            let verdict = |&location: &u32| verdicts[location as usize];
            if stack.is_empty() {
                return keeps_stackless.then_some(0..0);
            }
            let is_ignored = stack.iter().any(|location| verdict(location) == Some(false));
            let is_focused = stack.iter().any(|location| verdict(location) == Some(true));
            (is_focused && !is_ignored).then_some(0..stack.len())
        });
        if is_gone.contains(&true) {
            self.remove_locations(&is_gone);
        }
        [
            ("focus", focus.is_some() && !focused),
            ("ignore", ignore.is_some() && !ignored),
            ("hide", hide.is_some() && !hidden),
            ("show", show.is_some() && !shown),
        ]
        .into_iter()
        .filter_map(|(name, missed)| missed.then_some(name))
        .collect()
    }

    /// Makes the outermost frame that matches the root of its stack. Returns whether any matched.
    fn show_from(&mut self, rule: &Regex) -> bool {
        let matches = Matches::new(self, rule);
        let is_root: Vec<bool> = self
            .locations
            .iter_mut()
            .map(|location| {
                if matches.mapping(location) {
                    return true;
                }
                let last = location.lines.iter().rposition(|line| matches.line(line.function));
                if let Some(last) = last {
                    location.lines.truncate(last + 1);
                }
                last.is_some()
            })
            .collect();
        self.retain_rows(|profile, row| {
            let stack = profile.stack(row);
            if stack.is_empty() {
                return rule.is_match(NO_STACK).then_some(0..0);
            }
            let last = stack.iter().rposition(|&location| is_root[location as usize]);
            last.map(|last| 0..last + 1)
        });
        is_root.contains(&true)
    }

    /// Makes the innermost frame that matches the leaf of its stack.
    fn prune_from(&mut self, rule: &Regex) {
        let matches: Vec<bool> = self
            .functions
            .iter()
            .map(|function| {
                let name = self.text(function.name);
                !name.is_empty() && rule.is_match(super::without_arguments(name))
            })
            .collect();
        let is_leaf: Vec<bool> = self
            .locations
            .iter_mut()
            .map(|location| {
                let first = location.lines.iter().position(|line| matches[line.function as usize]);
                if let Some(first) = first {
                    location.lines.drain(..first);
                }
                first.is_some()
            })
            .collect();
        self.retain_rows(|profile, row| {
            let stack = profile.stack(row);
            let first = stack.iter().position(|&location| is_leaf[location as usize]);
            Some(Range { start: first.unwrap_or(0), end: stack.len() })
        });
    }

    /// Gives what is inlined to the function that was really called.
    pub fn drop_inlined(&mut self) {
        for location in &mut self.locations {
            let inlined = location.lines.len().saturating_sub(1);
            location.lines.drain(..inlined);
        }
    }
}
