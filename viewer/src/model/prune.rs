//! Cutting the frames that the producer declared uninteresting.

use regex::Regex;

use super::Profile;

/// A name cut at its argument list; `(anonymous namespace)` and `operator()` belong to the name.
pub(crate) fn without_arguments(name: &str) -> &str {
    let name = name.strip_prefix('.').unwrap_or(name);
    const RESERVED: [&str; 2] = ["(anonymous namespace)", "operator()"];
    let mut from = 0;
    while let Some(found) = name[from..].find('(').map(|found| from + found) {
        let reserved = RESERVED.iter().find_map(|word| {
            let bracket = word.find('(')?;
            let start = found.checked_sub(bracket).filter(|&start| start >= from)?;
            name.get(start..)?.starts_with(word).then_some(start + word.len())
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
        let keep = (!self.keep_frames.is_empty()).then(|| whole(&self.keep_frames)).flatten();
        let drops: Vec<bool> = self
            .functions
            .iter()
            .map(|function| {
                let name = without_arguments(self.strings.get(function.name));
                !name.is_empty() && drop.is_match(name) && !keep.as_ref().is_some_and(|keep| keep.is_match(name))
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
                let found = location.lines.iter().rposition(|line| drops[line.function as usize]);
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
}

#[cfg(test)]
mod tests {
    use super::without_arguments;

    #[test]
    fn names_are_cut_at_their_arguments() {
        assert_eq!(without_arguments("f(int)"), "f");
        assert_eq!(without_arguments("(anonymous namespace)::f(int)"), "(anonymous namespace)::f");
        assert_eq!(without_arguments("T::operator()(int) const"), "T::operator()");
        assert_eq!(without_arguments(".f"), "f");
        assert_eq!(without_arguments("alloc::vec::Vec<()>::push"), "alloc::vec::Vec<");
        assert_eq!(without_arguments("main"), "main");
    }
}
