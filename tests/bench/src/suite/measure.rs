//! One run of a workload under an allocator, and what it took.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::allocators::Allocator;
use crate::compile::compile;
use crate::{Failure, Outcome, fail, home, workshop};

use super::Workload;

/// What a run took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Seconds of CPU time, user and system.
    pub cpu: f64,
    /// Seconds on the clock.
    pub wall: f64,
    /// KiB that were resident at the peak.
    pub peak: f64,
}

/// Runs workloads.
#[derive(Debug)]
pub struct Runner {
    workshop: PathBuf,
    launch: PathBuf,
    short: bool,
}

impl Runner {
    /// One that works in the target directory; `short`: with the arguments of a try.
    pub fn new(target: &Path, short: bool) -> Outcome<Self> {
        let workshop = workshop(target)?;
        let launch = workshop.join("launch");
        compile("workloads/launch.c", &launch, &["-static"])?;
        Ok(Runner { workshop, launch, short })
    }

    /// Why a workload cannot be run here, if it cannot.
    pub fn hindrance(workload: &Workload) -> Option<String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = |name: &str| std::env::split_paths(&path).any(|place| place.join(name).exists());
        let missing = workload.command.iter().chain(&workload.needs).find(|name| !is_there(name))?;
        let package = workload.package.as_deref().unwrap_or("its package");
        Some(format!("{missing} is not installed (apt-get install {package})"))
    }

    /// What must be there before the runs: the program, the input.
    pub fn prepare(&self, workload: &Workload) -> Outcome<()> {
        if let Some(program) = &workload.program {
            compile(&format!("workloads/{program}.cc"), &self.program(program), &[])?;
        }
        let scratch = self.scratch(workload)?;
        if let [program, words @ ..] = &workload.setup[..] {
            let words = words.iter().map(|word| self.filled(word, &scratch));
            let output = Command::new(program).args(words).env_remove("LD_PRELOAD").output();
            let output = output.map_err(|error| Failure(format!("{program}: {error}")))?;
            if !output.status.success() {
                return fail(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)));
            }
            fs::write(scratch.join("setup"), output.stdout).map_err(|error| Failure(error.to_string()))?;
        }
        Ok(())
    }

    fn program(&self, name: &str) -> PathBuf {
        self.workshop.join(name)
    }

    fn scratch(&self, workload: &Workload) -> Outcome<PathBuf> {
        let path = self.workshop.join("rooms").join(&workload.name);
        fs::create_dir_all(&path).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
        Ok(path)
    }

    fn filled(&self, word: &str, scratch: &Path) -> String {
        let workloads = home().join("workloads");
        word.replace("{workloads}", &workloads.display().to_string())
            .replace("{scratch}", &scratch.display().to_string())
    }

    /// Runs it once; what it took and what it printed.
    pub fn run(&self, workload: &Workload, allocator: &Allocator) -> Outcome<(Reading, Vec<u8>)> {
        let scratch = self.scratch(workload)?;
        let result = scratch.join("result");
        let _ = fs::remove_file(&result);
        let program = match (&workload.program, &workload.command) {
            (Some(program), _) => self.program(program),
            (None, Some(command)) => PathBuf::from(command),
            (None, None) => return fail("a workload without a program"),
        };
        let words = if self.short { &workload.short } else { &workload.arguments };
        let words = words.iter().map(|word| self.filled(word, &scratch));
        let preload = allocator.preload.as_deref().unwrap_or(Path::new("-"));
        let mut command = if workload.measures_itself {
            Command::new(&program)
        } else {
            let mut launch = Command::new(&self.launch);
            launch.arg(&result).arg(preload).arg(&program);
            launch
        };
        allocator.dress(&mut command);
        // The library is for the program alone, not for who starts it.
        command.env_remove("LD_PRELOAD").env("BENCH_RESULT", &result);
        if let Some(library) = &allocator.preload {
            command.env("BENCH_PRELOAD", library);
        }
        command.args(words).envs(&workload.environment).current_dir(&scratch).stderr(Stdio::piped());
        command.stdin(match &workload.input {
            None => Stdio::null(),
            Some(path) => {
                let path = self.filled(path, &scratch);
                File::open(&path).map_err(|error| Failure(format!("{path}: {error}")))?.into()
            }
        });
        let output = command.output().map_err(|error| Failure(format!("{}: {error}", program.display())))?;
        let complaint = || String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
        let line = fs::read_to_string(&result).unwrap_or_default();
        let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [cpu, wall, peak, 0.0] if output.status.success() => {
                Ok((Reading { cpu: cpu / 1e6, wall: wall / 1e6, peak }, output.stdout))
            }
            [_, _, _, status] if status != 0.0 => fail(format!("ended with status {status}: {}", complaint())),
            _ => fail(format!("{}: {}", output.status, complaint())),
        }
    }
}
