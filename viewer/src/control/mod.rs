//! The other end of a process's control socket: one request, one answer, as `docs/control.md` tells.

pub mod find;
pub mod numbers;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

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
    /// The process that listens, where it is known.
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
    /// Nobody listens, or the process refuses, with its reason.
    pub fn ask(&self, request: &str) -> Result<Vec<u8>> {
        if request.contains(['\n', '\0']) {
            return Err(Error::Usage("a name or value can't have line feeds or zero bytes in it".to_owned()));
        }
        let refused = |reason: String| Error::input(&self.path, reason);
        let failed = |doing| move |source| Error::Io { doing, path: self.path.clone(), source };
        let mut stream = UnixStream::connect(&self.path).map_err(failed("connect"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed("connect"))?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed("connect"))?;
        // A process that refuses at once may have closed its end: the answer says why.
        let written = stream.write_all(format!("{request}\n").as_bytes());
        let mut answer = Vec::new();
        let read = stream.take(ANSWER_BYTES).read_to_end(&mut answer);
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

/// Whether a file is a socket, which may be a process's.
pub fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}
