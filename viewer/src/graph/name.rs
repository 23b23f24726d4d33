//! What a node is called, and the order of names.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write;

use super::Key;
use crate::model::{Profile, base_name};

/// A node's name as pprof prints it: address, function, place, or the binary's name in brackets.
pub fn printable<'a>(profile: &'a Profile, key: &Key) -> Cow<'a, str> {
    let (name, file) = (profile.text(key.name), profile.text(key.file));
    if key.address == 0 && key.line == 0 && file.is_empty() && !name.is_empty() {
        return Cow::Borrowed(name);
    }
    let mut text = String::new();
    if key.address != 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, "{:016x}", key.address);
    }
    let mut push = |part: &str| {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(part);
    };
    if !name.is_empty() {
        push(name);
    }
    if key.line != 0 {
        push(&format!("{file}:{}", key.line));
    } else if !file.is_empty() {
        push(file);
    } else if name.is_empty() {
        let object = base_name(profile.text(key.object));
        if object.is_empty() {
            push("<unknown>");
        } else {
            push(&format!("[{object}]"));
        }
    }
    Cow::Owned(text)
}

/// pprof's order of nodes that are equal in all numbers and in their printed name: by everything they are
/// known by, as text.
pub(super) fn order_by_identity(profile: &Profile, a: &Key, b: &Key) -> Ordering {
    let identity = |key: &Key| {
        let (name, file, object) = (profile.text(key.name), profile.text(key.file), profile.text(key.object));
        format!("{{{name}  {} {file} {} {} {object}}}", key.address, key.start_line, key.line)
    };
    if a == b { Ordering::Equal } else { identity(a).cmp(&identity(b)) }
}

/// A path without `.`, `..` and doubled slashes, as pprof shows it; nothing stays nothing.
pub fn clean_path(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_lexically() {
        assert_eq!(clean_path("/a//b/./c/../d"), "/a/b/d");
        assert_eq!(clean_path("../x"), "../x");
        assert_eq!(clean_path("/.."), "/");
        assert_eq!(clean_path("a/.."), ".");
        assert_eq!(clean_path(""), "");
    }
}
