//! What a running process can be asked: by `mallctl`, by its control socket, and through the agent by HTTP. The process is
//! this one.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use alloc_core::ctl;
use heapsift::HEAP;
use viewer::agent::Plan;
use viewer::control::Client;

const PATIENCE: Duration = Duration::from_secs(30);

/// What would write files, start threads that dump, or take down what is asked.
fn is_forbidden(request: &[u8]) -> bool {
    let has = |word: &[u8]| request.windows(word.len()).any(|window| window == word);
    [&b"dump"[..], b"background_thread", b"prof.prefix", b"peak"].into_iter().any(has) && !request.starts_with(b"dump ")
}

/// `name` or `name value`: by name and by number, as text and as bytes.
pub fn mallctl(bytes: &[u8]) {
    if is_forbidden(bytes) {
        return;
    }
    HEAP.ensure_booted();
    let split = bytes.iter().position(|&byte| byte == b' ');
    let (name, value) = bytes.split_at(split.unwrap_or(bytes.len()));
    let value =
        value.get(1..).map(|value| value.iter().copied().filter(|&byte| byte != 0).chain([0]).collect::<Vec<_>>());
    let value = value.as_deref().and_then(|value| core::ffi::CStr::from_bytes_with_nul(value).ok());
    let mut told = Vec::new();
    let read = ctl::by_name_as_text(&HEAP, name, None, Some(&mut |piece: &[u8]| told.extend_from_slice(piece)));
    assert!(read.is_ok() || told.is_empty());
    let _ = ctl::by_name_as_text(&HEAP, name, value, None);
    let mut mib = [0; 8];
    let depth = ctl::name_to_mib(&HEAP, name, &mut mib);
    let length = value.map_or(8, |value| value.count_bytes().min(64));
    let mut by_name = ([0xa5u8; 64], length);
    // SAFETY: the buffer has 64 bytes, and nothing is written.
    let first = unsafe { ctl::by_name(&HEAP, name, by_name.0.as_mut_ptr(), &raw mut by_name.1, core::ptr::null(), 0) };
    assert!(by_name.0[length.max(by_name.1).min(64)..].iter().all(|&byte| byte == 0xa5), "written past the end");
    if let Ok(depth) = depth {
        let mut by_mib = ([0xa5u8; 64], length);
        // SAFETY: as above.
        let second = unsafe {
            ctl::by_mib(&HEAP, &mib[..depth], by_mib.0.as_mut_ptr(), &raw mut by_mib.1, core::ptr::null(), 0)
        };
        assert_eq!(first.is_ok(), second.is_ok(), "{}", String::from_utf8_lossy(name));
    } else {
        assert!(first.is_err());
    }
}

/// Where this process listens.
fn socket() -> &'static PathBuf {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        HEAP.ensure_booted();
        heapsift::start_helpers();
        Client::of(&std::process::id().to_string())
            .expect("MALLOC_CONF=prof:true,prof_control:true must be set for this target")
            .path
    })
}

/// Sends a request to the control socket, as it is; the answer is of the form that is promised.
pub fn control(bytes: &[u8]) {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    if is_forbidden(line) {
        return;
    }
    let mut stream = UnixStream::connect(socket()).expect("this process listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a duration above zero");
    // It may have been refused before all of it was sent.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if read.is_err() && answer.is_empty() {
        // Closed with a part of the request unread.
        return;
    }
    let end = answer.iter().position(|&byte| byte == b'\n').expect("an answer has a first line");
    let head = String::from_utf8(answer[..end].to_vec()).expect("it is text");
    if let Some(length) = head.strip_prefix("ok ") {
        assert_eq!(length.parse::<usize>(), Ok(answer.len() - end - 1), "{head}");
    } else {
        let (number, reason) = head.strip_prefix("error ").and_then(|rest| rest.split_once(' ')).expect("ok or error");
        assert!(number.parse::<u32>().is_ok_and(|number| number > 0) && !reason.is_empty(), "{head}");
        assert_eq!(answer.len(), end + 1);
    }
}

/// The agent in this process, for this process.
fn agent() -> SocketAddr {
    static AGENT: OnceLock<SocketAddr> = OnceLock::new();
    *AGENT.get_or_init(|| {
        let _ = socket();
        let (told, address) = mpsc::channel();
        std::thread::spawn(move || {
            let plan = Plan { pids: vec![std::process::id()], listen: ([127, 0, 0, 1], 0).into(), token: None };
            plan.serve(|address| told.send(address).expect("somebody waits")).expect("the agent serves");
        });
        address.recv().expect("the agent listens")
    })
}

/// Sends bytes to the agent's port; what comes back is HTTP, and careful.
pub fn http(bytes: &[u8]) {
    // A difference takes its time.
    if bytes.windows(8).any(|window| window == b"seconds=") {
        return;
    }
    let mut stream = TcpStream::connect(agent()).expect("the agent listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a duration above zero");
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        return;
    }
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1."), "{text}");
    if text.starts_with("HTTP/1.1 200") {
        let head = text.split("\r\n\r\n").next().unwrap_or_default().to_lowercase();
        for careful in ["content-security-policy: default-src 'none'", "x-content-type-options: nosniff"] {
            assert!(head.contains(careful), "{careful}: {head}");
        }
    }
}
