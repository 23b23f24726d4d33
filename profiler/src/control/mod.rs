//! Control from outside while the program runs: a socket with a path (`prof_control`), served by one thread.
//!
//! The protocol is told in `docs/control.md`: one request of one line for each connection. The thread holds no lock of the
//! heap while it waits, reads or writes, and answers one connection after the other, each within a bounded time.

mod answer;
mod place;

use core::ffi::{CStr, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use alloc::vec::Vec;

use alloc_core::first_thread::OwnThread;
use alloc_core::lock::{Mutex, Rank};
use alloc_core::message::{Decimal, warn};
use alloc_core::sys::extra::{self, retry};
use alloc_core::sys::socket::{self, Ready};
use alloc_core::sys::{self, Errno};

use crate::settings::Path;
use crate::{HEAP, file, helpers};
use answer::Failure;

const MS: u64 = 1_000_000;
/// A request has come within that time, line feed included.
const REQUEST_NS: u64 = 1_000 * MS;
/// A reply has been taken within that time.
const REPLY_NS: u64 = 30_000 * MS;
/// The thread looks around at least that often, whether the process is to end.
const LOOK_AROUND_NS: u64 = 2_000 * MS;
/// Most bytes of a request, line feed included.
const REQUEST_BYTES: usize = 4096;
/// Connections that wait while one is served.
const WAITING: usize = 64;

const EPERM: i32 = 1;
const EAGAIN: Errno = Errno(11);
const EINVAL: i32 = 22;
const EMSGSIZE: i32 = 90;
const ETIMEDOUT: i32 = 110;

const OFF: u8 = 0;
const IN_USUAL_DIRECTORY: u8 = 1;
const AT_PATH: u8 = 2;

/// `prof_control`.
#[derive(Debug)]
pub struct Choice {
    way: AtomicU8,
    /// With [`AT_PATH`].
    path: Mutex<Path>,
    /// `XDG_RUNTIME_DIR` as of the start.
    runtime: Mutex<Path>,
}

impl Choice {
    /// No socket.
    pub const fn new() -> Self {
        let nowhere = Path::from_const(b"");
        Choice {
            way: AtomicU8::new(OFF),
            path: Mutex::new(Rank::Stacks, nowhere),
            runtime: Mutex::new(Rank::Stacks, nowhere),
        }
    }

    /// Takes the option's value: `true`, `false`, or a path. `false`: it can't be one.
    pub fn set(&self, value: &[u8]) -> bool {
        let way = match value {
            b"false" => OFF,
            b"true" => IN_USUAL_DIRECTORY,
            b"" => return false,
            path => {
                let Some(path) = Path::new(path) else { return false };
                *self.path.lock() = path;
                AT_PATH
            }
        };
        self.way.store(way, Ordering::Relaxed);
        true
    }

    /// The heap boots: remembers what the environment says, which the program may change later.
    pub fn boot(&self) {
        if self.way.load(Ordering::Relaxed) == IN_USUAL_DIRECTORY {
            let directory = alloc_core::conf::environment_at_boot(b"XDG_RUNTIME_DIR").unwrap_or(b"");
            if directory.starts_with(b"/") {
                *self.runtime.lock() = Path::new(directory).unwrap_or(Path::from_const(b""));
            }
        }
    }

    /// For `opt.prof_control`: a text that lives for ever.
    pub fn as_text(&'static self) -> &'static CStr {
        match self.way.load(Ordering::Relaxed) {
            OFF => c"false",
            IN_USUAL_DIRECTORY => c"true",
            _ => {
                let path: *const Path = &raw const *self.path.lock();
                // SAFETY: the path is set while the configuration is read, before anybody asks, and stays.
                unsafe { &*path }.as_c_str()
            }
        }
    }

    fn after_fork(&self) {
        self.path.after_fork(|_| {});
        self.runtime.after_fork(|_| {});
        let fixed =
            self.way.load(Ordering::Relaxed) == AT_PATH && !self.path.lock().as_bytes().windows(2).any(|w| w == b"%p");
        if fixed {
            // The place is the parent's.
            self.way.store(OFF, Ordering::Relaxed);
        }
    }
}

/// The listening socket plus 1; 0: none.
static LISTENER: AtomicUsize = AtomicUsize::new(0);
/// The inode of the listening socket. Programs close descriptors that they don't know, and get the numbers for their own.
static LISTENER_INODE: AtomicU64 = AtomicU64::new(0);
/// The connection that is being served plus 1; 0: none.
static CONNECTION: AtomicUsize = AtomicUsize::new(0);
/// Descriptors that came with its request, each plus 1; 0: none.
static PASSED: [AtomicUsize; socket::PASSED_MAX] = [const { AtomicUsize::new(0) }; socket::PASSED_MAX];
/// The socket's file.
static PLACE: Mutex<Option<place::Place>> = Mutex::new(Rank::Stacks, None);
/// Whether a connection is being served: the end of the process waits for that.
static BUSY: AtomicBool = AtomicBool::new(false);

fn choice() -> &'static Choice {
    &HEAP.observer().settings.control
}

/// Whether a descriptor is still that of the listening socket.
fn is_listener(fd: usize) -> bool {
    extra::stat(fd).is_ok_and(|stat| {
        stat.identity.1 == LISTENER_INODE.load(Ordering::Relaxed) && stat.kind() == extra::kind::SOCKET
    })
}

/// Whether there is to be a socket.
#[unsafe(link_section = "heapsift_text")]
pub fn wanted() -> bool {
    choice().way.load(Ordering::Relaxed) != OFF
}

/// Makes the socket, before its thread starts: a program that changes its user or its root directory later has it where it
/// was when it started.
pub fn prepare() {
    let choice = choice();
    let made = match choice.way.load(Ordering::Relaxed) {
        OFF => return,
        IN_USUAL_DIRECTORY => {
            let runtime = *choice.runtime.lock();
            place::in_usual_directory(&runtime)
        }
        _ => {
            let path = *choice.path.lock();
            place::at_path(&path)
        }
    };
    match made {
        Ok((listener, place)) => {
            *PLACE.lock() = Some(place);
            LISTENER_INODE.store(extra::stat(listener).map_or(0, |stat| stat.identity.1), Ordering::Relaxed);
            LISTENER.store(listener + 1, Ordering::Release);
        }
        Err(place::Refused { path, what, errno: Errno(errno) }) => {
            let number = Decimal::new(errno.unsigned_abs().into());
            warn(&[b"prof_control: ", path.as_bytes(), b": ", what, b" (errno ", number.as_bytes(), b")"]);
        }
    }
}

/// In the child of a fork: the socket is the parent's, and so is whatever it is about to write to.
pub fn after_fork() {
    if let Some(listener) = LISTENER.swap(0, Ordering::Relaxed).checked_sub(1)
        && is_listener(listener)
    {
        sys::close(listener);
    }
    if let Some(connection) = CONNECTION.swap(0, Ordering::Relaxed).checked_sub(1) {
        sys::close(connection);
    }
    close_passed();
    BUSY.store(false, Ordering::Relaxed);
    PLACE.after_fork(|_| {});
    if !PLACE.held_by_me() {
        *PLACE.lock() = None;
    }
    choice().after_fork();
}

/// The process ends: the file is removed, and a reply that is under way is waited for, but not for long.
pub fn stop() {
    const MOST: u64 = 1_000 * MS;
    if let Some(place) = PLACE.lock().take() {
        place.remove();
    }
    let give_up = sys::clock_monotonic_ns() + MOST;
    let nobody = AtomicU32::new(0);
    while BUSY.load(Ordering::Acquire) && sys::clock_monotonic_ns() < give_up {
        extra::futex_wait_for(&nobody, 0, MS);
    }
}

/// The thread.
pub extern "C" fn run(_: *mut c_void) -> *mut c_void {
    let _own = OwnThread::begin();
    extra::set_thread_name(c"heapsift-ctl");
    let _suppressed = HEAP.suppress();
    let Some(listener) = LISTENER.load(Ordering::Acquire).checked_sub(1) else { return null_mut() };
    while !helpers::done() {
        let ready = socket::wait(listener, Ready::Read, LOOK_AROUND_NS);
        if !is_listener(listener) {
            // The program closed it, and may have another file of that number by now.
            if let Some(place) = PLACE.lock().take() {
                place.remove();
            }
            break;
        }
        if ready != Ok(true) {
            continue;
        }
        match socket::accept(listener) {
            Ok(connection) => {
                CONNECTION.store(connection + 1, Ordering::Relaxed);
                BUSY.store(true, Ordering::Release);
                serve(connection);
                BUSY.store(false, Ordering::Release);
                CONNECTION.store(0, Ordering::Relaxed);
                sys::close(connection);
            }
            Err(Errno(23 | 24)) => {
                // No descriptor is free: the connection stays where it is.
                let nobody = AtomicU32::new(0);
                extra::futex_wait_for(&nobody, 0, 100 * MS);
            }
            Err(_) => {}
        }
    }
    null_mut()
}

/// What is in [`PASSED`], closed in the end.
struct Passed;

impl Passed {
    fn add(&mut self, more: [Option<usize>; socket::PASSED_MAX]) {
        for descriptor in more.into_iter().flatten() {
            match PASSED.iter().find(|place| place.load(Ordering::Relaxed) == 0) {
                Some(place) => place.store(descriptor + 1, Ordering::Relaxed),
                None => sys::close(descriptor),
            }
        }
    }

    fn first(&self) -> Option<usize> {
        PASSED[0].load(Ordering::Relaxed).checked_sub(1)
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        close_passed();
    }
}

fn close_passed() {
    for place in &PASSED {
        // Forgotten first: by the time that a child finds it, the number may be another file's.
        if let Some(descriptor) = place.swap(0, Ordering::Relaxed).checked_sub(1) {
            sys::close(descriptor);
        }
    }
}

fn serve(connection: usize) {
    let peer = socket::peer_user(connection);
    let may = peer.is_ok_and(|user| user == 0 || user == extra::effective_user());
    let mut passed = Passed;
    let mut request = [0; REQUEST_BYTES];
    let reply = if may {
        read_request(connection, &mut request, &mut passed).and_then(|line| answer::answer(line, passed.first()))
    } else {
        Err(Failure::new(EPERM, b"this socket is for its owner and root"))
    };
    let sent = match &reply {
        Ok(body) => head(b"ok ", body.len() as u64, b"\n").and_then(|head| {
            send(connection, &head)?;
            send(connection, body)
        }),
        Err(failure) => head(b"error ", failure.errno.unsigned_abs().into(), b" ").and_then(|head| {
            send(connection, &head)?;
            send(connection, failure.text)?;
            send(connection, b"\n")
        }),
    };
    if sent.is_ok() {
        socket::shut_down_writing(connection);
    }
}

fn head(word: &[u8], number: u64, end: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut head = Vec::new();
    for part in [word, Decimal::new(number).as_bytes(), end] {
        answer::put(&mut head, part).map_err(|failure| Errno(failure.errno))?;
    }
    Ok(head)
}

/// The request without its line feed.
fn read_request<'a>(
    connection: usize,
    buffer: &'a mut [u8; REQUEST_BYTES],
    passed: &mut Passed,
) -> Result<&'a [u8], Failure> {
    let give_up = sys::clock_monotonic_ns() + REQUEST_NS;
    let mut length = 0;
    loop {
        let now = sys::clock_monotonic_ns();
        if now >= give_up {
            return Err(Failure::new(ETIMEDOUT, b"the request took too long"));
        }
        if !retry(|| socket::wait(connection, Ready::Read, give_up - now)).unwrap_or(false) {
            continue;
        }
        let (n, descriptors) = match socket::receive(connection, &mut buffer[length..]) {
            Ok(received) => received,
            Err(EAGAIN | Errno(4)) => continue,
            Err(Errno(errno)) => return Err(Failure::new(errno, b"the request can't be read")),
        };
        passed.add(descriptors);
        if let Some(end) = buffer[length..length + n].iter().position(|&b| b == b'\n') {
            return Ok(&buffer[..length + end]);
        }
        length += n;
        if n == 0 {
            return Err(Failure::new(EINVAL, b"the request doesn't end in a line feed"));
        }
        if length == buffer.len() {
            return Err(Failure::new(EMSGSIZE, b"the request is longer than 4096 bytes"));
        }
    }
}

/// Sends all of it, within a bounded time.
fn send(connection: usize, bytes: &[u8]) -> Result<(), Errno> {
    give(
        bytes,
        |left_ns| retry(|| socket::wait(connection, Ready::Write, left_ns)),
        |piece| socket::send(connection, piece),
    )
}

/// Writes all of it to a descriptor that a client passed, which may be a pipe that nobody reads.
fn write_to_passed(fd: usize, bytes: &[u8]) -> Result<(), Errno> {
    // What fits into a pipe that says it has room.
    const PIPE_BYTES: usize = 4096;
    let is_regular = extra::stat(fd)?.kind() == extra::kind::REGULAR;
    // They are blocked in this thread; one that a broken pipe raised must not stay.
    let _signals = file::SignalsBlocked::new();
    give(
        bytes,
        |left_ns| if is_regular { Ok(true) } else { retry(|| socket::wait(fd, Ready::Write, left_ns)) },
        |piece| sys::write(fd, if is_regular { piece } else { &piece[..piece.len().min(PIPE_BYTES)] }),
    )
}

/// Gives all of it away within a bounded time: `has_room` waits for so many nanoseconds at most, `take` takes a part.
fn give(
    bytes: &[u8],
    has_room: impl Fn(u64) -> Result<bool, Errno>,
    take: impl Fn(&[u8]) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    let give_up = sys::clock_monotonic_ns() + REPLY_NS;
    let mut rest = bytes;
    while !rest.is_empty() {
        let now = sys::clock_monotonic_ns();
        if now >= give_up {
            return Err(Errno(ETIMEDOUT));
        }
        if !has_room(give_up - now)? {
            continue;
        }
        match take(rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or(&[]),
            Err(EAGAIN | Errno(4)) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        static CHOICE: Choice = Choice::new();
        assert_eq!(CHOICE.as_text(), c"false");
        assert!(CHOICE.set(b"true") && CHOICE.as_text() == c"true");
        assert!(!CHOICE.set(b"") && CHOICE.set(b"/run/%p.sock") && CHOICE.as_text() == c"/run/%p.sock");
        CHOICE.after_fork();
        assert_eq!(CHOICE.as_text(), c"/run/%p.sock");
        assert!(CHOICE.set(b"/run/one.sock"));
        CHOICE.after_fork();
        assert_eq!(CHOICE.as_text(), c"false");
    }
}
