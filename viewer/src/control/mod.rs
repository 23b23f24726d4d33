//! The other end of a process's control socket: one request, one answer, as `docs/control.md` tells.

pub mod find;
pub mod numbers;

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::{Error, Result};
use crate::run;

/// How long a process may take to begin with its answer: a dump of many stacks takes a moment, and others may be served
/// before.
const PATIENCE: Duration = Duration::from_secs(60);
/// Larger answers are refused.
const ANSWER_BYTES: u64 = 1 << 30;

/// A process that can be asked.
#[derive(Clone, Debug)]
pub struct Client {
    /// The socket's file.
    pub path: PathBuf,
    /// The process that must be the one that listens, where it is known.
    pub pid: Option<u32>,
}

impl Client {
    /// From a process's number or a socket's path.
    ///
    /// # Errors
    /// There is no such process or file, or the process has no socket.
    pub fn of(target: &str) -> Result<Self> {
        match target.parse() {
            Ok(pid) => find::of_process(pid),
            Err(_) => Ok(Self { path: PathBuf::from(target), pid: None }),
        }
    }

    /// Asks. The request is one line, without its end.
    ///
    /// # Errors
    /// Nobody listens, or another process than the one meant, or the process refuses, with its reason.
    pub fn ask(&self, request: &str) -> Result<Vec<u8>> {
        self.exchange(request, PATIENCE, None)
    }

    /// Asks for what a process has at hand: all of the answer must come within this time.
    ///
    /// # Errors
    /// As [`Client::ask`], or it takes longer.
    pub fn ask_within(&self, request: &str, patience: Duration) -> Result<Vec<u8>> {
        self.exchange(request, patience, Some(Instant::now() + patience))
    }

    fn exchange(&self, request: &str, patience: Duration, deadline: Option<Instant>) -> Result<Vec<u8>> {
        if request.contains(['\n', '\0']) {
            return Err(Error::Usage("a name or value can't have line feeds or zero bytes in it".to_owned()));
        }
        let refused = |reason: String| Error::input(&self.path, reason);
        let failed = |doing| {
            move |source: io::Error| match source.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => refused("it gives no answer in time".to_owned()),
                _ => Error::Io { doing, path: self.path.clone(), source },
            }
        };
        let mut stream = connect(&self.path, patience).map_err(failed("connect"))?;
        // Its number may be that of a process in another container, and another one's socket may have replaced its own.
        if let Some(pid) = self.pid.filter(|&pid| run::listener_of(&stream) != Some(pid)) {
            return Err(refused(format!("it is not process {pid} that listens there")));
        }
        // A process that refuses at once may have closed its end: the answer says why.
        let written = stream.write_all(format!("{request}\n").as_bytes());
        let mut answer = Vec::new();
        let read = Answer { stream, deadline }.take(ANSWER_BYTES).read_to_end(&mut answer);
        if answer.is_empty() {
            written.map_err(failed("write"))?;
            read.map_err(failed("read"))?;
            return Err(refused("it closed the connection without an answer".to_owned()));
        }
        let end = answer.iter().position(|&b| b == b'\n').unwrap_or(answer.len());
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        if let Some(reason) = head.strip_prefix("error ") {
            let (number, text) = reason.split_once(' ').unwrap_or((reason, ""));
            return Err(refused(format!("{request}: {text} (errno {number})")));
        }
        let length: Option<usize> = head.strip_prefix("ok ").and_then(|length| length.parse().ok());
        let Some(length) = length else {
            return Err(refused("this is no control socket: it answers something else".to_owned()));
        };
        answer.drain(..(end + 1).min(answer.len()));
        if answer.len() != length {
            return Err(refused(format!("the answer was cut off: {} of {length} bytes", answer.len())));
        }
        Ok(answer)
    }

    /// Asks for text.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn text(&self, request: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.ask(request)?).into_owned())
    }
}

/// Connects, in this time; sends wait no longer, either.
fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A process that is stopped takes no connection. When enough of them wait for it, the next waits to be one.
    socket.set_write_timeout(Some(patience))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

/// What comes until a moment, in however many parts.
struct Answer {
    stream: UnixStream,
    deadline: Option<Instant>,
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.map_or(PATIENCE, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

/// Whether it is this process, by its number here, that listens at a socket.
fn is_of(path: &Path, pid: u32) -> bool {
    UnixStream::connect(path).is_ok_and(|stream| run::listener_of(&stream) == Some(pid))
}

/// Whether a file is a socket, which may be a process's.
pub fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_process_that_hangs_is_not_waited_for() {
        let listen = |path: &Path| {
            let listener = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            listener.bind(&SockAddr::unix(path)?)?;
            listener.listen(1).map(|()| listener)
        };
        let listener = tempfile::Builder::new().prefix("heapsift-hangs-").make(listen).unwrap();
        let client = Client { path: listener.path().to_owned(), pid: None };
        let started = Instant::now();
        // The first are taken by the kernel, for later; then there is no room.
        let mut taken = Vec::new();
        for _ in 0..4 {
            let error = client.ask_within("metrics", Duration::from_millis(200)).unwrap_err().to_string();
            assert!(error.ends_with("it gives no answer in time"), "{error}");
            taken.push(connect(listener.path(), Duration::from_millis(50)));
        }
        assert!(taken.last().unwrap().is_err() && started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
    }

    #[test]
    fn only_the_process_that_is_meant_is_asked() {
        let listener = tempfile::Builder::new().prefix("heapsift-peer-").make(|path| UnixListener::bind(path)).unwrap();
        let (listener, path) = (listener.as_file(), listener.path());
        let own = std::process::id();
        assert!(is_of(path, own) && !is_of(path, 1));
        let error = Client { path: path.to_owned(), pid: Some(1) }.ask("reset").unwrap_err().to_string();
        assert!(error.ends_with("it is not process 1 that listens there"), "{error}");
        // Nothing was said to it.
        for _ in 0..3 {
            assert_eq!(listener.accept().unwrap().0.read(&mut [0; 8]).unwrap(), 0);
        }
        // By its path, whoever it is, and by its number.
        for pid in [None, Some(own)] {
            let client = Client { path: path.to_owned(), pid };
            let asked = std::thread::spawn(move || client.ask("reset"));
            let mut stream = listener.accept().unwrap().0;
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 6);
            stream.write_all(b"ok 0\n").unwrap();
            drop(stream);
            assert_eq!(asked.join().unwrap().unwrap(), b"");
        }
    }
}
