//! The command's speed against the programs that people have today, on the same files.

pub mod agreement;
pub mod inputs;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::compile::compile;
use crate::suite::Reading;
use crate::{Failure, Outcome, fail, workshop};

/// A command line: the program, its words, and what it reads.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its name in the table.
    pub name: String,
    /// The program, by path or name.
    pub program: PathBuf,
    /// Its words.
    pub words: Vec<String>,
    /// Its standard input.
    pub input: Option<PathBuf>,
    /// Where its standard output goes; nowhere unless said.
    pub output: Option<PathBuf>,
}

impl Task {
    /// A program with these words.
    pub fn new(name: &str, program: impl Into<PathBuf>, words: &[&str]) -> Self {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        Self { name: name.to_owned(), program: program.into(), words, input: None, output: None }
    }
}

/// Runs tasks and measures them.
#[derive(Debug)]
pub struct Stopwatch {
    launch: PathBuf,
    result: PathBuf,
}

impl Stopwatch {
    /// One that works below the target directory.
    pub fn new(target: &Path) -> Outcome<Self> {
        let workshop = workshop(target)?;
        let launch = workshop.join("launch");
        compile("workloads/launch.c", &launch, &["-static"])?;
        Ok(Self { launch, result: workshop.join(format!("viewer-{}.result", std::process::id())) })
    }

    /// Runs a task once.
    pub fn run(&self, task: &Task) -> Outcome<Reading> {
        let open = |path: &Path| File::open(path).map_err(|error| Failure(format!("{}: {error}", path.display())));
        let make = |path: &Path| File::create(path).map_err(|error| Failure(format!("{}: {error}", path.display())));
        let stdin = task.input.as_deref().map(open).transpose()?.map_or_else(Stdio::null, Stdio::from);
        let stdout = task.output.as_deref().map(make).transpose()?.map_or_else(Stdio::null, Stdio::from);
        let mut command = Command::new(&self.launch);
        command.arg(&self.result).arg("-").arg(&task.program).args(&task.words);
        command.env_remove("LD_PRELOAD").env_remove("MALLOC_CONF").stdin(stdin).stdout(stdout);
        let told = command.stderr(Stdio::piped()).output().map_err(|error| Failure(error.to_string()))?;
        let line = fs::read_to_string(&self.result).unwrap_or_default();
        let _ = fs::remove_file(&self.result);
        let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [cpu, wall, peak, 0.0] => Ok(Reading { cpu: cpu / 1e6, wall: wall / 1e6, peak }),
            _ => {
                let complaint = String::from_utf8_lossy(&told.stderr).lines().last().unwrap_or_default().to_owned();
                fail(format!("{} failed: {complaint}", task.name))
            }
        }
    }

    /// Runs two tasks in turn, so many times each; what they took, and the ratios of each round, the second to the first.
    pub fn compare(&self, ours: &Task, theirs: &Task, rounds: u32) -> Outcome<Comparison> {
        let mut comparison = Comparison::default();
        // Both once, so that neither finds its files in memory only because the other has been there.
        self.run(ours)?;
        self.run(theirs)?;
        for round in 0..rounds {
            let (a, b) = if round % 2 == 0 {
                let a = self.run(ours)?;
                (a, self.run(theirs)?)
            } else {
                let b = self.run(theirs)?;
                (self.run(ours)?, b)
            };
            comparison.ours.push(a);
            comparison.theirs.push(b);
        }
        Ok(comparison)
    }
}

/// Readings of two tasks, round by round.
#[derive(Debug, Default)]
pub struct Comparison {
    /// The first one's.
    pub ours: Vec<Reading>,
    /// The second one's.
    pub theirs: Vec<Reading>,
}

impl Comparison {
    /// How many times as much the second takes, by the median of the rounds: of time on the clock, and of processor time.
    pub fn ratios(&self) -> (f64, f64) {
        let of = |quantity: fn(&Reading) -> f64| {
            median(self.ours.iter().zip(&self.theirs).map(|(a, b)| quantity(b) / quantity(a)))
        };
        (of(|reading| reading.wall), of(|reading| reading.cpu))
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds() {
        let reading = |wall: f64| Reading { cpu: 2.0 * wall, wall, peak: 1.0 };
        let ours = [1.0, 1.0, 2.0].map(reading).to_vec();
        let theirs = [3.0, 9.0, 8.0].map(reading).to_vec();
        assert_eq!(Comparison { ours, theirs }.ratios(), (4.0, 4.0));
        assert_eq!(median([4.0, 1.0]), 2.5);
    }
}
