//! The system calls behind `run`: start a program that knows its own pid, pass signals on to it, end
//! as it ended. And questions about descriptors that std has no answer to. The crate's only unsafe code beside a piece of advice in `symbolize/pieces.rs`.
//!
//! # Safety
//! Everything here is libc on plain values. [`start`] forks and lets the child allocate before it
//! executes the program, which is sound only while the process has one thread: the command starts
//! none before it.

#![allow(unsafe_code, reason = "fork, exec and signal masks have no safe wrapper in std")]

use core::mem::MaybeUninit;
use core::ptr;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// A program that runs.
#[derive(Debug)]
pub struct Child {
    pid: i32,
}

/// What a child does with its pid before it becomes the program: its argument list and environment.
pub type Prepare<'a> = dyn Fn(u32) -> io::Result<Vec<(OsString, OsString)>> + 'a;

/// Why a program could not be started.
#[derive(Debug)]
pub enum StartError {
    /// The preparation failed.
    Prepare(io::Error),
    /// The program could not be executed; the process that tried had this pid.
    Execute(io::Error, u32),
    /// No process could be made.
    Fork(io::Error),
}

/// Signals passed on. Left out are those that report the process's own faults, those that cannot be
/// caught, and SIGCHLD, which says that the program has changed.
const PASSED_ON: [i32; 14] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGTERM,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGWINCH,
    libc::SIGIO,
    libc::SIGPWR,
];

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is writable memory of the right size; sigemptyset fills all of it.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for &signal in signals {
        // SAFETY: `set` is an initialized signal set.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

fn watched() -> libc::sigset_t {
    let mut signals = PASSED_ON.to_vec();
    signals.push(libc::SIGCHLD);
    signals.extend(libc::SIGRTMIN()..=libc::SIGRTMAX());
    signal_set(&signals)
}

/// Sets what a signal does and returns what it did.
fn set_action(signal: i32, action: libc::sighandler_t) -> libc::sighandler_t {
    // SAFETY: `action` is SIG_DFL, SIG_IGN or a value an earlier call returned; no handler of ours.
    unsafe { libc::signal(signal, action) }
}

/// A file that grows beyond its limit is an error of the write from here on, told and cleaned up after as others are, and
/// not the end of the process. Programs that are started would inherit that.
pub fn survive_file_limits() {
    set_action(libc::SIGXFSZ, libc::SIG_IGN);
}

/// Starts `program` with `arguments` (its name included). `prepare` runs in the new process, is told
/// its pid, and returns its environment. From here on signals wait for [`Child::wait`].
pub fn start(program: &std::ffi::OsStr, arguments: &[OsString], prepare: &Prepare<'_>) -> Result<Child, StartError> {
    let nul = |_| StartError::Fork(io::Error::from(io::ErrorKind::InvalidInput));
    let program = CString::new(program.as_bytes()).map_err(nul)?;
    let arguments = arguments
        .iter()
        .map(|argument| CString::new(argument.as_bytes()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(nul)?;
    let (mut reader, writer) = pipe().map_err(StartError::Fork)?;
    // A parent that ignored its children would not hear of this one.
    let child_action = set_action(libc::SIGCHLD, libc::SIG_DFL);
    let (set, mut old) = (watched(), signal_set(&[]));
    // SAFETY: both sets are initialized and live.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut old) };

    // SAFETY: the process has one thread (module contract), so the child may do all its parent may.
    match unsafe { libc::fork() } {
        -1 => Err(StartError::Fork(io::Error::last_os_error())),
        0 => {
            drop(reader);
            set_action(libc::SIGCHLD, child_action);
            // Rust's start-up ignores SIGPIPE; a program expects it to end it.
            set_action(libc::SIGPIPE, libc::SIG_DFL);
            // SAFETY: `old` was filled by the call above.
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const old, ptr::null_mut()) };
            become_program(&program, &arguments, prepare, writer)
        }
        pid => {
            drop(writer);
            let child = Child { pid };
            let mut report = Vec::new();
            // An empty report: the pipe was closed by a successful exec.
            if reader.read_to_end(&mut report).is_err() || report.len() != 5 {
                return Ok(child);
            }
            let _ = child.wait();
            let errno = i32::from_ne_bytes([report[1], report[2], report[3], report[4]]);
            let error = io::Error::from_raw_os_error(errno);
            Err(match report[0] {
                b'p' => StartError::Prepare(error),
                _ => StartError::Execute(error, child.pid()),
            })
        }
    }
}

/// The child's part of [`start`]; a failure is told to the parent through the pipe.
fn become_program(program: &CString, arguments: &[CString], prepare: &Prepare<'_>, mut report: File) -> ! {
    let mut fail = |stage: u8, error: &io::Error| -> ! {
        let errno = error.raw_os_error().unwrap_or(libc::EINVAL).to_ne_bytes();
        let message = [stage, errno[0], errno[1], errno[2], errno[3]];
        // Nobody is left to tell if this fails.
        let _ = report.write_all(&message);
        // SAFETY: ends the process without running the parent's exit handlers.
        unsafe { libc::_exit(127) }
    };
    let environment = match prepare(std::process::id()) {
        Ok(environment) => environment,
        Err(error) => fail(b'p', &error),
    };
    let environment: Vec<CString> = environment
        .into_iter()
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect();
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(&environment));
    // SAFETY: both lists end with null and point at strings that live until the call replaces all.
    unsafe { libc::execvpe(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    fail(b'e', &io::Error::last_os_error())
}

fn pipe() -> io::Result<(File, File)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gave these two descriptors to us alone.
    Ok(unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) })
}

impl Child {
    /// The program's pid.
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Passes signals on until the program has ended. When the program is stopped, this process stops
    /// too, so that a shell sees one job.
    pub fn wait(&self) -> io::Result<Ended> {
        let set = watched();
        loop {
            if let Some(ended) = self.poll()? {
                return Ok(ended);
            }
            let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
            // SAFETY: `set` is initialized, `info` is writable.
            let signal = unsafe { libc::sigwaitinfo(&raw const set, info.as_mut_ptr()) };
            // SAFETY: all-zero bytes are a valid siginfo_t, and the call only writes to it.
            let info = unsafe { info.assume_init() };
            // What the terminal sends reaches the program by itself: it is in the same group.
            let from_terminal = info.si_code == libc::SI_KERNEL;
            if signal > 0 && signal != libc::SIGCHLD && !from_terminal {
                self.signal(signal);
            }
        }
    }

    fn signal(&self, signal: i32) {
        // SAFETY: `pid` is our child, not yet waited for, so the number is still its own.
        unsafe { libc::kill(self.pid, signal) };
    }

    fn poll(&self) -> io::Result<Option<Ended>> {
        loop {
            let mut status = 0;
            // SAFETY: `status` is writable.
            let found = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
            match found {
                0 => return Ok(None),
                -1 => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
                _ if libc::WIFEXITED(status) => {
                    return Ok(Some(Ended::Exited(libc::WEXITSTATUS(status))));
                }
                _ if libc::WIFSIGNALED(status) => {
                    return Ok(Some(Ended::Killed(libc::WTERMSIG(status))));
                }
                _ if libc::WIFSTOPPED(status) => {
                    // SAFETY: stops this process; it goes on here when it is continued.
                    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
                    self.signal(libc::SIGCONT);
                }
                _ => {}
            }
        }
    }
}

/// Ends this process by `signal`, as the program was ended; returns only if that is not possible.
pub fn die_of(signal: i32) {
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    set_action(signal, libc::SIG_DFL);
    let set = signal_set(&[signal]);
    // SAFETY: all three take initialized values that live for the call; the core limit is lowered so
    // that the program's own core file is not overwritten by ours.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
        libc::raise(signal);
    }
}

/// Lets signals end this process again after the program has ended.
pub fn accept_signals() {
    let set = watched();
    // SAFETY: `set` is initialized and lives for the call.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) };
}

/// Columns of the terminal behind `descriptor`.
pub fn terminal_columns(descriptor: RawFd) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a winsize to the pointer, which is one.
    let failed = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (failed == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// The process that listens at the other end of a connection, by its number here; `None` if it has none here.
pub fn listener_of(stream: &UnixStream) -> Option<u32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: SO_PEERCRED writes a ucred, for which there is room, and its length.
    let failed = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    u32::try_from(peer.pid).ok().filter(|&pid| failed == 0 && pid > 0)
}

/// Another descriptor of what is open as this one.
pub fn descriptor(number: RawFd) -> io::Result<File> {
    // SAFETY: on plain values.
    match unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: it is a new one, which nobody else has.
        copy => Ok(unsafe { File::from_raw_fd(copy) }),
    }
}
