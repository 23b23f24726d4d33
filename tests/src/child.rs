//! Programs run by the tests: with or without the allocator, always with a time limit, measured when they end.
//!
//! Output goes to files, not pipes: what a daemon inherits then keeps nobody waiting.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::artifacts::{Scratch, library};

/// A program to run.
#[derive(Debug)]
pub struct Program {
    command: Command,
    shown: String,
    limit: Duration,
    input: Option<PathBuf>,
    conf: Option<OsString>,
    preload: Option<PathBuf>,
    also: Option<PathBuf>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// The command line, for messages.
    pub shown: String,
    /// Exit status, or 128 + the signal.
    pub status: i32,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: Vec<u8>,
    /// Peak resident memory, of itself or the largest process that it waited for.
    pub peak_kib: i64,
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Time on the clock.
    pub elapsed: Duration,
    /// Its process id.
    pub pid: u32,
}

impl Program {
    /// A program by path or name, without the allocator.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.env_remove("LD_PRELOAD").env_remove("MALLOC_CONF").env("LC_ALL", "C.UTF-8").process_group(0);
        Program {
            command,
            shown: program.to_string_lossy().into_owned(),
            limit: Duration::from_secs(60),
            input: None,
            conf: None,
            preload: None,
            also: None,
        }
    }

    /// One more argument.
    pub fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&word.as_ref().to_string_lossy());
        self.command.arg(word);
        self
    }

    /// More arguments.
    pub fn args<I: IntoIterator>(self, words: I) -> Self
    where
        I::Item: AsRef<OsStr>,
    {
        words.into_iter().fold(self, Program::arg)
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Its working directory.
    pub fn directory(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    /// What it reads.
    pub fn input(mut self, path: &Path) -> Self {
        self.input = Some(path.to_owned());
        self
    }

    /// When it is given up; it is killed then, and the test fails.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it under the allocator, with these options.
    pub fn under(mut self, conf: impl AsRef<OsStr>) -> Self {
        self.conf = Some(conf.as_ref().to_owned());
        self
    }

    /// As [`Program::under`] where there are options, plain where there are none.
    pub fn maybe_under(self, conf: Option<&str>) -> Self {
        match conf {
            Some(conf) => self.under(conf),
            None => self,
        }
    }

    /// Preloads another file instead of the library where the program cannot read that.
    pub fn library(mut self, path: &Path) -> Self {
        self.preload = Some(path.to_owned());
        self
    }

    /// Preloads another library beside the allocator.
    pub fn also(mut self, path: &Path) -> Self {
        self.also = Some(path.to_owned());
        self
    }

    /// Runs it as another user, for programs that refuse to run as root. No effect unless we are root.
    pub fn user(mut self, user: Option<(u32, u32)>) -> Self {
        if let Some((uid, gid)) = user {
            self.command.uid(uid).gid(gid);
        }
        self
    }

    #[expect(clippy::zombie_processes, reason = "`wait` reaps by process id, for the sake of rusage")]
    fn start(&mut self, scratch: &Scratch) -> u32 {
        if let Some(conf) = &self.conf {
            let mut preload = self.preload.clone().unwrap_or_else(library).into_os_string();
            if let Some(also) = &self.also {
                preload.push(":");
                preload.push(also);
            }
            self.command.env("LD_PRELOAD", preload).env("MALLOC_CONF", conf);
        }
        let file = |name: &str| File::create(scratch.join(name)).expect("a scratch file");
        let input = match &self.input {
            Some(path) => Stdio::from(File::open(path).expect("the input is there")),
            None => Stdio::null(),
        };
        self.command.stdin(input).stdout(file("stdout")).stderr(file("stderr"));
        let child = self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.shown));
        child.id()
    }

    /// Runs it to its end. Panics when it takes longer than it may.
    pub fn run(self) -> Ended {
        self.run_or_give_up().unwrap_or_else(|why| panic!("{why}"))
    }

    /// Runs it to its end. An error tells that it took longer than it may; it has been killed then.
    pub fn run_or_give_up(mut self) -> Result<Ended, String> {
        let scratch = Scratch::new("run");
        let started = Instant::now();
        let pid = self.start(&scratch);
        let Some((status, usage)) = wait(pid, self.limit) else {
            kill_group(pid, libc::SIGKILL);
            let _ = wait(pid, Duration::from_secs(10));
            let stderr = fs::read(scratch.join("stderr")).unwrap_or_default();
            return Err(format!("{} did not end within {:?}; it said:\n{}", self.shown, self.limit, tail(&stderr)));
        };
        let read = |name: &str| fs::read(scratch.join(name)).expect("a scratch file");
        Ok(Ended {
            shown: self.shown,
            status,
            stdout: read("stdout"),
            stderr: read("stderr"),
            peak_kib: usage.ru_maxrss,
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            elapsed: started.elapsed(),
            pid,
        })
    }

    /// Starts it as a server, which is stopped when the value is dropped.
    pub fn serve(mut self) -> Server {
        let scratch = Scratch::new("server");
        let pid = self.start(&scratch);
        Server { pid: Some(pid), shown: self.shown, scratch }
    }
}

impl Ended {
    /// The output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The complaints as text.
    pub fn complaints(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Panics unless it exited with status 0.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert_eq!(
            self.status,
            0,
            "{} failed; its output ends:\n{}\n{}",
            self.shown,
            tail(&self.stdout),
            tail(&self.stderr)
        );
        self
    }
}

/// A server in the background.
#[derive(Debug)]
pub struct Server {
    pid: Option<u32>,
    shown: String,
    scratch: Scratch,
}

impl Server {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.expect("the server runs")
    }

    /// The file that takes its output.
    pub fn log_path(&self) -> PathBuf {
        self.scratch.join("stdout")
    }

    /// What it wrote so far, both streams.
    pub fn log(&self) -> String {
        ["stdout", "stderr"]
            .map(|name| fs::read(self.scratch.join(name)).unwrap_or_default())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .concat()
    }

    /// Panics with the log if it has ended already.
    #[track_caller]
    pub fn expect_running(&mut self) {
        if let Some((status, _)) = wait(self.pid(), Duration::ZERO) {
            self.pid = None;
            panic!("{} ended with status {status}:\n{}", self.shown, tail(self.log().as_bytes()));
        }
    }

    /// Waits until `ready` holds. Panics if that takes longer than 30 s or the server ends.
    #[track_caller]
    pub fn wait_until(&mut self, mut ready: impl FnMut() -> bool) {
        let give_up = Instant::now() + Duration::from_secs(30);
        while !ready() {
            self.expect_running();
            assert!(Instant::now() < give_up, "{} is not ready:\n{}", self.shown, tail(self.log().as_bytes()));
            sleep(Duration::from_millis(20));
        }
    }

    /// Sends `signal` and waits for the end; the exit status.
    #[track_caller]
    pub fn stop(mut self, signal: i32) -> i32 {
        let pid = self.pid.take().expect("the server runs");
        // SAFETY: kill has no memory effects; the pid is our child's and not reaped yet.
        unsafe { libc::kill(pid.cast_signed(), signal) };
        let Some((status, _)) = wait(pid, Duration::from_secs(60)) else {
            kill_group(pid, libc::SIGKILL);
            let _ = wait(pid, Duration::from_secs(10));
            panic!("{} does not stop:\n{}", self.shown, tail(self.log().as_bytes()));
        };
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            kill_group(pid, libc::SIGKILL);
            let _ = wait(pid, Duration::from_secs(10));
        }
    }
}

/// Waits for a child at most so long: its status and what it used.
fn wait(pid: u32, limit: Duration) -> Option<(i32, libc::rusage)> {
    let give_up = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    loop {
        let mut status = 0;
        // SAFETY: rusage is plain numbers, for which zero is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both point to what the call expects.
        let answer = unsafe { libc::wait4(pid.cast_signed(), &raw mut status, libc::WNOHANG, &raw mut usage) };
        if answer == pid.cast_signed() {
            let status = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
            return Some((status, usage));
        }
        assert_eq!(answer, 0, "wait4: {}", std::io::Error::last_os_error());
        if Instant::now() >= give_up {
            return None;
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// Signals the process and those that it started; each program is the leader of its own group.
fn kill_group(pid: u32, signal: i32) {
    // SAFETY: kill has no memory effects; the group is our child's, which has not been reaped.
    unsafe { libc::kill(-pid.cast_signed(), signal) };
}

fn time(value: libc::timeval) -> Duration {
    Duration::from_secs(value.tv_sec.unsigned_abs()) + Duration::from_micros(value.tv_usec.unsigned_abs())
}

/// The last 4000 bytes, as text.
fn tail(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4000)..]).into_owned()
}
