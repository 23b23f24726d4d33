//! Definitions of workloads, read from `workloads.toml`.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use crate::{Failure, Outcome, home};

/// A workload as it is defined.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its row in the tables.
    pub name: String,
    /// What it does, for people.
    pub about: String,
    /// A source in `workloads/`, without `.cc`.
    pub program: Option<String>,
    /// A program on PATH.
    pub command: Option<String>,
    /// The Debian package of the command.
    pub package: Option<String>,
    /// More programs that it cannot do without.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Arguments.
    pub arguments: Vec<String>,
    /// Arguments of a try that takes next to no time.
    pub short: Vec<String>,
    /// Variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// What standard input is; nothing unless said.
    pub input: Option<String>,
    /// A command whose output goes to `{scratch}/setup`, run once and under no allocator.
    #[serde(default)]
    pub setup: Vec<String>,
    /// It starts the program under test by itself, and writes the figures.
    #[serde(default)]
    pub measures_itself: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    workload: Vec<Workload>,
}

/// All of them.
pub fn all() -> Outcome<Vec<Workload>> {
    let path = home().join("workloads.toml");
    let text = fs::read_to_string(&path).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
    let workloads = parse(&text).map_err(|failure| Failure(format!("{}: {failure}", path.display())))?;
    Ok(workloads)
}

fn parse(text: &str) -> Outcome<Vec<Workload>> {
    let file: File = toml::from_str(text).map_err(|error| Failure(error.to_string()))?;
    for workload in &file.workload {
        if workload.program.is_some() == workload.command.is_some() {
            return Err(Failure(format!("{}: either program or command", workload.name)));
        }
    }
    Ok(file.workload)
}

/// Keeps those that are named; all where no name is given.
pub fn select(all: Vec<Workload>, names: &[String]) -> Outcome<Vec<Workload>> {
    if let Some(name) = names.iter().find(|name| !all.iter().any(|workload| workload.name == **name)) {
        let known: Vec<&str> = all.iter().map(|workload| workload.name.as_str()).collect();
        return Err(Failure(format!("no workload '{name}'; there are {}", known.join(", "))));
    }
    Ok(all.into_iter().filter(|workload| names.is_empty() || names.contains(&workload.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_sound() {
        let all = all().unwrap();
        assert!(all.len() >= 20);
        let mut names: Vec<&str> = all.iter().map(|workload| workload.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len(), "a name twice");
    }

    #[test]
    fn faults_are_told() {
        let base = "[[workload]]\nname='a'\nabout='b'\narguments=[]\nshort=[]\n";
        assert!(parse(&format!("{base}program='x'")).is_ok());
        assert!(parse(base).unwrap_err().0.contains("either program or command"));
        assert!(parse(&format!("{base}program='x'\ntypo=1")).unwrap_err().0.contains("typo"));
        assert!(select(all().unwrap(), &["nobody".into()]).unwrap_err().0.contains("interpreter"));
    }
}
