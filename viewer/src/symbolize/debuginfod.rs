//! Debug files from debuginfod servers, which answer with the file of a build id.
//!
//! Nothing is asked of any server that the user has not named. What comes is kept by its build id, once it has been seen to
//! have that, and not asked for again. What no server has is not asked for again either, nor a server that is not there, in
//! one run of the program over any number of profiles.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::find::MAX_FILE;
use crate::input::fetch;

/// How long a file may take to come.
const PATIENCE: Duration = Duration::from_secs(600);
/// The word that stands for the servers in the environment.
pub const ENVIRONMENT: &str = "env";

/// Where a debug file is now, or why it isn't.
type Answer = Result<PathBuf, String>;

/// Servers that may be asked, and where to keep what they send.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    list: Vec<Arc<Server>>,
    /// The directory; nothing where the environment names none.
    cache: Option<PathBuf>,
    /// What became of each build id, once for all profiles.
    answers: Arc<Mutex<HashMap<String, Arc<OnceLock<Answer>>>>>,
}

#[derive(Debug)]
struct Server {
    url: String,
    /// It could not be asked: it may have taken its time to say so, and there are as many files as modules.
    is_lost: AtomicBool,
}

impl Servers {
    /// The servers at these addresses, best first; `env` stands for those that `$DEBUGINFOD_URLS` lists. Their files are kept
    /// below `$XDG_CACHE_HOME`, or below `~/.cache`.
    ///
    /// # Errors
    /// One line: an address is none that can be asked, or `$DEBUGINFOD_URLS` is empty.
    pub fn new(words: &[String]) -> Result<Self, String> {
        let mut urls = Vec::new();
        for word in words {
            if word != ENVIRONMENT {
                urls.push(word.clone());
                continue;
            }
            let listed = std::env::var("DEBUGINFOD_URLS").unwrap_or_default();
            let before = urls.len();
            // Words of other kinds, such as `ima:enforcing`, say how elfutils shall check what comes.
            urls.extend(listed.split_whitespace().filter(|word| fetch::is_url(word)).map(str::to_owned));
            if urls.len() == before {
                return Err("$DEBUGINFOD_URLS names no server".to_owned());
            }
        }
        for url in &urls {
            fetch::check(url).map_err(|reason| format!("{url}: {reason}"))?;
        }
        let of = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache")));
        let server = |url| Arc::new(Server { url, is_lost: AtomicBool::new(false) });
        let list = urls.into_iter().map(server).collect();
        Ok(Self { list, cache: cache.map(|cache| cache.join("heapsift/debuginfod")), ..Self::default() })
    }

    /// Whether none may be asked.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The debug file with a build id, which must be hexadecimal, out of the cache or from the first server that has it.
    /// What has come is believed, and kept, only if `check` finds it right.
    ///
    /// # Errors
    /// One line: what each server said, or why nothing can be kept.
    pub fn debug_file(&self, build_id: &str, check: impl Fn(&Path) -> Result<(), String>) -> Answer {
        // Whoever wants the same file meanwhile waits for it.
        let answer = self
            .answers
            .lock()
            .map_or_else(|_| Arc::default(), |mut answers| Arc::clone(answers.entry(build_id.to_owned()).or_default()));
        answer.get_or_init(|| self.ask(build_id, check)).clone()
    }

    fn ask(&self, build_id: &str, check: impl Fn(&Path) -> Result<(), String>) -> Answer {
        let cache = self.cache.as_ref().ok_or("neither $XDG_CACHE_HOME nor $HOME says where to keep debug files")?;
        let kept = cache.join(build_id);
        if kept.exists() && check(&kept).is_ok() {
            return Ok(kept);
        }
        let cannot = |error: io::Error| format!("cannot keep debug files in {}: {error}", cache.display());
        DirBuilder::new().recursive(true).mode(0o700).create(cache).map_err(cannot)?;
        let mut reasons = Vec::new();
        for server in &self.list {
            let url = &server.url;
            if server.is_lost.load(Ordering::Relaxed) {
                reasons.push(format!("{url}: not asked again"));
                continue;
            }
            let partial = Partial::new(cache).map_err(cannot)?;
            let fetched = partial.fetch(server, build_id).and_then(|()| check(&partial.path));
            match fetched {
                Ok(()) => {
                    fs::rename(&partial.path, &kept).map_err(cannot)?;
                    return Ok(kept);
                }
                Err(reason) => reasons.push(format!("{url}: {reason}")),
            }
        }
        Err(reasons.join(", "))
    }
}

/// A file that is being fetched; it goes when this does, unless it has got its final name.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    fn new(directory: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!(".{}-{number}.partial", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Self { path, file }),
                // Of a process that was killed, long ago.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what a server answers for a build id.
    fn fetch(&self, server: &Server, build_id: &str) -> Result<(), String> {
        let url = format!("{}/buildid/{build_id}/debuginfo", server.url.trim_end_matches('/'));
        let mut body = fetch::get_file(&url, PATIENCE).map_err(|refusal| {
            server.is_lost.fetch_or(!refusal.answered, Ordering::Relaxed);
            refusal.to_string()
        })?;
        let (started, mut left) = (Instant::now(), MAX_FILE);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let length = body.read(&mut buffer).map_err(|error| format!("what it sends is cut short: {error}"))?;
            if length == 0 {
                return Ok(());
            }
            left = left.checked_sub(length as u64).ok_or("what it sends is larger than 4 GiB")?;
            if started.elapsed() > PATIENCE {
                return Err("it takes longer than 10 minutes".to_owned());
            }
            (&self.file).write_all(&buffer[..length]).map_err(|error| format!("cannot be kept: {error}"))?;
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Where it has its final name, there is nothing any more under this one.
        let _ = fs::remove_file(&self.path);
    }
}
