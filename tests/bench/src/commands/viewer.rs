//! `viewer`: the command beside `go tool pprof` and llvm-symbolizer, on the same files, in turn.

use std::fs;
use std::path::{Path, PathBuf};

use bench::suite::Reading;
use bench::viewer::{Comparison, Stopwatch, Task, agreement, inputs, median};
use bench::{Failure, Outcome, fail};
use clap::Args;

use super::target;

/// Options of `viewer`.
#[derive(Debug, Args)]
pub struct Options {
    /// Only these: top, large, symbolize
    #[arg(long, short, value_delimiter = ',', value_name = "NAMES", default_value = "top,large,symbolize")]
    contests: Vec<String>,
    /// Runs of each side
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Symbolize addresses of this program, with debug information and symbols in it, instead of one made for it
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// How many addresses are symbolized
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    addresses: usize,
}

/// Runs it.
pub fn run(options: &Options) -> Outcome<()> {
    let bench = Bench {
        stopwatch: Stopwatch::new(&target()?)?,
        workshop: bench::workshop(&target()?)?,
        command: built("heapsift")?,
        rounds: options.rounds,
    };
    for contest in &options.contests {
        match contest.as_str() {
            "top" => bench.top()?,
            "large" => bench.large()?,
            "symbolize" => bench.symbolize(options.program.as_deref(), options.addresses)?,
            other => return fail(format!("{other}: the contests are top, large, symbolize")),
        }
    }
    Ok(())
}

/// A program of the release build.
fn built(name: &str) -> Outcome<PathBuf> {
    let path = target()?.join("release").join(name);
    match path.exists() {
        true => Ok(path),
        false => fail(format!("{}: not there; tests/bench/run viewer builds it", path.display())),
    }
}

struct Bench {
    stopwatch: Stopwatch,
    workshop: PathBuf,
    command: PathBuf,
    rounds: u32,
}

impl Bench {
    /// A made profile of so many samples and locations, each once.
    fn made(&self, name: &str, samples: &str, locations: &str) -> Outcome<PathBuf> {
        let path = self.workshop.join(name);
        if !path.exists() {
            let fresh = self.workshop.join(format!("{name}.new"));
            let maker = built("examples/make_profile")?;
            inputs::output_of(&maker.to_string_lossy(), &[&fresh.to_string_lossy(), samples, locations])?;
            fs::rename(&fresh, &path).map_err(|error| Failure(error.to_string()))?;
        }
        let bytes = fs::metadata(&path).map_or(0, |found| found.len());
        println!("\n{samples} samples of 32 frames, {locations} locations: {:.1} MB", bytes as f64 / 1e6);
        Ok(path)
    }

    fn ours(&self, words: &[&str]) -> Task {
        Task::new("heapsift", &self.command, words)
    }

    /// `top` on the profile that issue after issue is about.
    fn top(&self) -> Outcome<()> {
        let profile = self.made("viewer-30k.pb.gz", "30000", "60000")?;
        let profile = profile.to_string_lossy();
        let ours = self.ours(&["top", &profile]);
        let theirs = Task::new("go tool pprof", "go", &["tool", "pprof", "-top", &profile]);
        let comparison = self.stopwatch.compare(&ours, &theirs, self.rounds)?;
        tell(&ours, &theirs, &comparison);
        Ok(())
    }

    /// A profile of 100 MB; alone, since the other side takes minutes.
    fn large(&self) -> Outcome<()> {
        let profile = self.made("viewer-1m.pb.gz", "1000000", "60000")?;
        let ours = self.ours(&["top", &profile.to_string_lossy()]);
        self.stopwatch.run(&ours)?;
        let readings = (0..self.rounds).map(|_| self.stopwatch.run(&ours)).collect::<Outcome<Vec<_>>>()?;
        println!("{}", row(&ours, &readings));
        Ok(())
    }

    /// Addresses of a program with much debug information.
    fn symbolize(&self, program: Option<&Path>, count: usize) -> Outcome<()> {
        let program = match program {
            Some(program) => fs::canonicalize(program).map_err(|e| Failure(format!("{}: {e}", program.display())))?,
            None => inputs::program(&self.workshop, 4, 36)?,
        };
        let bytes = fs::metadata(&program).map_or(0, |found| found.len());
        println!("\n{count} addresses of {}: {:.0} MB", program.display(), bytes as f64 / 1e6);
        let addresses = inputs::addresses(&program, count, 1)?;
        let write = |name: &str, bytes: &[u8]| {
            let path = self.workshop.join(name);
            fs::write(&path, bytes).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
            Ok(path)
        };
        let lines: Vec<String> = addresses.iter().map(|address| format!("{address:#x}\n")).collect();
        let list = write("viewer-addresses", lines.concat().as_bytes())?;
        let profile =
            write("viewer-addresses.pb.gz", &pprof_export::encode_gzip(&inputs::profile(&program, &addresses)?))?;
        let named = self.workshop.join("viewer-named.pb.gz");
        let ours = self.ours(&["symbolize", &profile.to_string_lossy(), "-o", &named.to_string_lossy()]);
        let mut theirs = Task::new("llvm-symbolizer", "llvm-symbolizer", &[&format!("--obj={}", program.display())]);
        (theirs.input, theirs.output) = (Some(list.clone()), Some(self.workshop.join("viewer-llvm.out")));
        let comparison = self.stopwatch.compare(&ours, &theirs, self.rounds)?;
        tell(&ours, &theirs, &comparison);
        let found =
            agreement::compare(agreement::named(&named)?, agreement::llvm("llvm-symbolizer", &program, &list)?)?;
        let percent = |count: usize| 100.0 * count as f64 / found.all as f64;
        println!(
            "  the same inlined functions at {:.2} % of the addresses, all functions at {:.2} %, files and lines too at {:.2} %; \
             {:.1} frames each",
            percent(found.same_inlines),
            percent(found.same_functions),
            percent(found.same_lines),
            found.frames
        );
        Ok(())
    }
}

fn row(task: &Task, readings: &[Reading]) -> String {
    let of = |quantity: fn(&Reading) -> f64| median(readings.iter().map(quantity));
    let (wall, cpu, peak) = (of(|r| r.wall), of(|r| r.cpu), of(|r| r.peak));
    format!("  {:16} {wall:8.3} s, {cpu:8.3} s of processors, {:6.0} MiB at the peak", task.name, peak / 1024.0)
}

fn tell(ours: &Task, theirs: &Task, comparison: &Comparison) {
    println!("{}\n{}", row(ours, &comparison.ours), row(theirs, &comparison.theirs));
    let (wall, cpu) = comparison.ratios();
    println!("  {} takes {wall:.1} times the time, {cpu:.1} times the processors' time", theirs.name);
}
