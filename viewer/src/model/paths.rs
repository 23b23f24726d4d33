//! Paths of source files: parts that only the build machine knew are taken away.

use super::{Profile, Str};

impl Profile {
    /// Shortens the path of every source file as pprof does: by the first of the prefixes in `trim` (a list
    /// separated by colons) that it begins with; where none are given, by what comes before a directory that
    /// is named like one in `search`.
    pub fn trim_paths(&mut self, trim: &str, search: &str) {
        // Functions of a file stand together as a rule.
        let mut last = (Str::NONE, Str::NONE);
        for at in 0..self.functions.len() {
            let file = self.functions[at].file;
            if file != last.0 {
                last = (file, file);
                let path = self.strings.get(file);
                let trimmed = trimmed(path, trim, search);
                if trimmed.len() != path.len() {
                    let trimmed = trimmed.to_owned();
                    last.1 = self.strings.intern(&trimmed);
                }
            }
            self.functions[at].file = last.1;
        }
    }
}

/// The path without what is to be trimmed.
pub(crate) fn trimmed<'a>(path: &'a str, trim: &str, search: &str) -> &'a str {
    let list = |text| str::split(text, ':').filter(|part| !part.is_empty());
    if trim.is_empty() {
        for directory in list(search) {
            let wanted = format!("/{}/", super::base_name(directory));
            if let Some(found) = path.find(&wanted) {
                return &path[found + wanted.len()..];
            }
        }
    }
    for prefix in list(trim).chain(["/proc/self/cwd/./", "/proc/self/cwd/"]) {
        let rest = path.strip_prefix(prefix.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
        if let Some(rest) = rest {
            return rest;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_named_directories_are_taken_away() {
        assert_eq!(trimmed("/build/app/src/a.c", "/build/app", ""), "src/a.c");
        assert_eq!(trimmed("/build/app/src/a.c", "/other:/build/", ""), "app/src/a.c");
        assert_eq!(trimmed("/builds/a.c", "/build", ""), "/builds/a.c");
        assert_eq!(trimmed("/remote/app/src/a.c", "", "/home/me/app"), "src/a.c");
        assert_eq!(trimmed("/remote/app/src/a.c", "/x", "/home/me/app"), "/remote/app/src/a.c");
        assert_eq!(trimmed("/proc/self/cwd/a.c", "", ""), "a.c");
    }
}
