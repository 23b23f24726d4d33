//! The numbers of a process, from its OpenMetrics text, and several such texts as one.

use std::fmt::Write;

/// The value of a sample without labels.
pub fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// One text out of those of several processes: each family once, its samples with labels that say whose they are.
pub fn merge(texts: &[(String, String)]) -> String {
    // A family's head, and its samples of all processes, in the order in which they first come.
    let mut families: Vec<(&str, String, String)> = Vec::new();
    for (labels, text) in texts {
        let mut current = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.split(' ');
                let (Some(_), Some(name)) = (words.next(), words.next()) else { continue };
                let known = families.iter().position(|(known, _, _)| *known == name);
                let index = known.unwrap_or_else(|| {
                    families.push((name, String::new(), String::new()));
                    families.len() - 1
                });
                current = Some(index);
                let head = &mut families[index].1;
                let line = format!("{line}\n");
                if !head.contains(&line) {
                    head.push_str(&line);
                }
            } else if let (Some(index), Some((name, value))) = (current, line.rsplit_once(' ')) {
                let samples = &mut families[index].2;
                let _ = match name.strip_suffix('}') {
                    Some(labelled) => writeln!(samples, "{labelled},{labels}}} {value}"),
                    None => writeln!(samples, "{name}{{{labels}}} {value}"),
                };
            }
        }
    }
    let mut merged = String::new();
    for (_, head, samples) in families {
        merged.push_str(&head);
        merged.push_str(&samples);
    }
    merged.push_str("# EOF\n");
    merged
}

/// A label with a value that may hold anything.
pub fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stay_together() {
        let text = |n: u64| {
            format!(
                "# TYPE a gauge\n# HELP a First.\na {n}\n# TYPE b gauge\n# HELP b Second.\nb{{class=\"8\"}} {n}\n# EOF\n"
            )
        };
        let merged = merge(&[(label("pid", "1"), text(5)), (label("pid", "x\"y"), text(6))]);
        let wanted = "# TYPE a gauge\n# HELP a First.\na{pid=\"1\"} 5\na{pid=\"x\\\"y\"} 6\n\
            # TYPE b gauge\n# HELP b Second.\nb{class=\"8\",pid=\"1\"} 5\nb{class=\"8\",pid=\"x\\\"y\"} 6\n# EOF\n";
        assert_eq!(merged, wanted);
        assert_eq!((value(&text(7), "a"), value(&text(7), "b"), value(&text(7), "c")), (Some(7), None, None));
    }
}
