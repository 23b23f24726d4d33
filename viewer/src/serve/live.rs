//! What can be asked for a profile of this moment: a process by its control socket, or an address.

use std::path::{Path, PathBuf};

use pprof_export::reader::Limits;

use crate::control::{Client, find};
use crate::error::Result;
use crate::input::{self, Input, fetch};

/// What a process can be asked for, the usual one first.
const KINDS: [&str; 6] = ["heap", "rss", "slack", "waste", "lifetime", "peak"];

/// Somebody to ask.
#[derive(Clone, Debug)]
pub enum Live {
    /// A process, by its number or its socket.
    Process(Client),
    /// A server's address.
    Address(String),
}

impl Live {
    /// What it is called.
    pub fn name(&self) -> String {
        match self {
            Self::Process(Client { pid: Some(pid), .. }) => {
                let program = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
                format!("process {pid} {}", String::from_utf8_lossy(&program).trim_end()).trim_end().to_owned()
            }
            Self::Process(client) => client.path.to_string_lossy().into_owned(),
            Self::Address(address) => fetch::shown(address),
        }
    }

    /// The process's number, where it is known.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Process(client) => client.pid,
            Self::Address(_) => None,
        }
    }

    /// What it can be asked for, the usual one first.
    pub fn kinds(&self) -> &'static [&'static str] {
        match self {
            Self::Process(_) => &KINDS,
            Self::Address(_) => &KINDS[..1],
        }
    }

    /// A profile of this moment, without names that it doesn't bring along; of a kind that it can be asked for.
    ///
    /// # Errors
    /// It is gone, refuses, or what it answers is no profile.
    pub fn profile(&self, kind: &str, limits: &Limits) -> Result<Input> {
        match self {
            Self::Process(client) => {
                let bytes = client.ask(&format!("dump {kind}"))?;
                input::read_bytes(&client.path, &bytes, limits)
            }
            Self::Address(address) => input::read_within(Path::new(address), limits),
        }
    }

    /// Where its files are, if not where ours are.
    pub fn root(&self) -> Option<PathBuf> {
        self.pid().and_then(find::root_elsewhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_password() {
        assert_eq!(Live::Address("http://x:secret@h:1/debug".to_owned()).name(), "http://h:1/debug");
    }
}
