//! The files under test: found where cargo put them, and built first unless somebody says that they are fresh.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// The target directory that this test itself was built into.
pub fn target_directory() -> PathBuf {
    let this = std::env::current_exe().expect("a process knows its file");
    // target/<profile>/deps/<test>
    this.ancestors().nth(3).expect("cargo puts tests three levels below").to_owned()
}

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// Runs `cargo build --release`, once per process and one process at a time, unless the files are said to be fresh.
fn ensure_built() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        if std::env::var_os("HEAPSIFT_PREBUILT").is_some_and(|value| value == "1") {
            return;
        }
        let _guard = Lock::acquire(&target_directory().join("heapsift-tests.lock"));
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--release", "--workspace", "--quiet"])
            .current_dir(repository())
            .env("CARGO_TARGET_DIR", target_directory())
            .env_remove("LD_PRELOAD")
            .status()
            .expect("cargo can be run");
        assert!(status.success(), "cargo build --release failed");
    });
}

/// An advisory lock on a file, held until dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Waits for the lock.
    pub fn acquire(path: &Path) -> Self {
        let file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // SAFETY: the descriptor is open for as long as `file` lives.
        let answer = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
        assert_eq!(answer, 0, "flock: {}", std::io::Error::last_os_error());
        Lock(file)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // SAFETY: the descriptor is open; it is closed after this.
        unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_UN) };
    }
}

fn built(name: &str, variable: &str) -> PathBuf {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => {
            ensure_built();
            target_directory().join("release").join(name)
        }
    };
    fs::canonicalize(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The shared library under test.
pub fn library() -> PathBuf {
    built("libheapsift.so", "HEAPSIFT_LIB")
}

/// The static library under test.
pub fn archive() -> PathBuf {
    built("libheapsift.a", "HEAPSIFT_ARCHIVE")
}

/// The `heapsift` command under test.
pub fn command() -> PathBuf {
    built("heapsift", "HEAPSIFT_BIN")
}

/// A program of `fixtures/`.
pub fn fixture(name: &str) -> PathBuf {
    ensure_built();
    let path = target_directory().join("release").join(name);
    fs::canonicalize(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A fresh directory below the system's temporary one, readable by all users, removed when dropped.
///
/// Below the temporary directory, not the target directory: socket paths are short there, and other users may enter.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// Makes one; `name` is for people.
    pub fn new(name: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::Builder::new()
            .prefix(&format!("heapsift-{name}-"))
            .disable_cleanup(std::env::var_os("HEAPSIFT_KEEP").is_some())
            .tempdir()
            .expect("a scratch directory");
        // Whatever the umask says.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
        Scratch(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }
}
