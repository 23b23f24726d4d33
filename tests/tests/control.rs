//! The control socket: a process that was prepared by nothing but `prof_control` is read, profiled, and left as it was.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::Column;
use heapsift_tests::tools::Linkage;
use heapsift_tests::{Dump, Ended, Program, Server, command, redis, tools};

/// A process with its sockets in a directory of its own.
fn steps(runtime: &Path, conf: &str, words: &str) -> Program {
    Program::new(tools::compile("c/steps.c", &[]))
        .args(words.split_whitespace())
        .env("XDG_RUNTIME_DIR", runtime)
        .under(conf)
}

fn staying(runtime: &Path, conf: &str, words: &str) -> Server {
    let mut server = steps(runtime, conf, words).serve();
    let log = server.log_path();
    server.wait_until(|| fs::read_to_string(&log).unwrap_or_default().contains("stay"));
    server
}

fn socket(runtime: &Path, pid: u32) -> PathBuf {
    runtime.join(format!("heapsift/{pid}.sock"))
}

/// What the process answers to these bytes, and nothing more of them.
fn raw(path: &Path, request: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(path).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    // Refused before all of it is sent, perhaps.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn ctl(target: &str, words: &str) -> Ended {
    Program::new(command()).args(["ctl", target]).args(words.split_whitespace()).run()
}

#[track_caller]
fn told(target: &str, words: &str) -> String {
    ctl(target, words).expect_success().text()
}

/// The one line of a command that failed.
#[track_caller]
fn refusal(ended: Ended) -> String {
    assert_eq!(ended.status, 2, "{}: {}", ended.shown, ended.complaints());
    let text = ended.complaints();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn a_server_that_was_not_prepared_is_profiled() {
    let scratch = Scratch::new("control");
    let dress = |server: Program| server.env("XDG_RUNTIME_DIR", scratch.path()).under("prof_control:true");
    let Some((server, listening)) = redis::serve(scratch.path(), dress) else { return };
    // Found by its number, by way of its list of sockets: this command has another XDG_RUNTIME_DIR, or none.
    let pid = server.pid().to_string();
    assert_eq!(told(&pid, "get prof.enable"), "false\n");
    if redis::load(&listening).is_none() {
        return;
    }
    for (words, errno) in [("get prof.active", 0), ("set prof.active true", 2), ("set prof.dump", 2), ("dump -o -", 2)]
    {
        let ended = ctl(&pid, words);
        if errno == 0 {
            assert_eq!(ended.expect_success().text(), "false\n");
        } else {
            assert!(refusal(ended).contains(&format!("(errno {errno})")), "{words}");
        }
    }
    told(&pid, "enable --sample 4KiB");
    assert_eq!(told(&pid, "get prof.enable prof.sample"), "prof.enable true\nprof.sample 4096\n");
    redis::load(&listening);
    let file = scratch.join("redis.pb.gz");
    let dumped = ctl(&pid, &format!("dump -o {}", file.display())).expect_success();
    assert!(dumped.stdout.is_empty());
    let dump = Dump::read(&file);
    assert!(dump.total(Column::AllocSpace) > 4 << 20, "{}", dump.total(Column::AllocSpace));
    let top = told(&pid, "top -n 5");
    assert!(top.contains("zmalloc"), "{top}");
    // Every report reads the socket as it reads a file.
    let path = socket(scratch.path(), server.pid());
    let flame = Program::new(command()).arg("flame").arg(&path).args(["-o", "-"]).run().expect_success();
    assert!(flame.text().contains("zmalloc"));
    told(&pid, "disable");
    let samples = || {
        told(&pid, "get prof.enable")
            + &told(&pid, "metrics").lines().filter(|l| l.contains("samples_total")).collect::<String>()
    };
    let before = samples();
    assert!(before.starts_with("false"));
    redis::load(&listening);
    assert_eq!(samples(), before, "nothing is sampled any more");
    assert_eq!(server.stop(libc::SIGTERM), 0);
    assert!(!path.exists(), "the socket is removed at exit");
}

#[test]
fn the_socket_is_the_users_own() {
    let scratch = Scratch::new("owner");
    let server = staying(scratch.path(), "prof_control:true", "alloc 1 stay");
    let path = socket(scratch.path(), server.pid());
    let found = fs::symlink_metadata(&path).expect("the socket");
    assert!(found.file_type().is_socket() && found.permissions().mode() & 0o7777 == 0o600);
    let directory = fs::symlink_metadata(path.parent().expect("one")).expect("its directory");
    assert_eq!((directory.permissions().mode() & 0o7777, directory.uid()), (0o700, found.uid()));
    let Some(nobody) = tools::user_ids("nobody") else { return };
    // Opened wide on purpose: the credentials of the other end decide.
    fs::set_permissions(path.parent().expect("one"), fs::Permissions::from_mode(0o755)).expect("ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("ours");
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                  try: s.sendall(b'get version\\n')\nexcept BrokenPipeError: pass\nprint(s.recv(1000))";
    // The system's: another may be in a directory that is closed to others.
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        return tools::missing("/usr/bin/python3");
    }
    let asked = Program::new(python).args(["-c", script]).arg(&path).user(Some(nobody)).run().expect_success().text();
    assert!(asked.starts_with("b'error 1 "), "{asked}");
}

#[test]
fn places_that_others_could_use_are_refused() {
    let scratch = Scratch::new("refused");
    let open = scratch.join("open");
    fs::create_dir_all(open.join("heapsift")).expect("fresh");
    fs::set_permissions(open.join("heapsift"), fs::Permissions::from_mode(0o755)).expect("ours");
    let linked = scratch.join("linked");
    fs::create_dir(&linked).expect("fresh");
    std::os::unix::fs::symlink(open.join("heapsift"), linked.join("heapsift")).expect("fresh");
    for runtime in [open, linked] {
        let ended = steps(&runtime, "prof_control:true", "alloc 1 threads").run().expect_success();
        assert!(ended.complaints().contains("<heapsift>: prof_control: "), "{}", ended.complaints());
        assert_eq!(ended.complaints().lines().count(), 1);
        assert_eq!(fs::read_dir(runtime.join("heapsift")).expect("there").count(), 0);
    }
    let ended = steps(scratch.path(), "prof_control:", "alloc 1").run().expect_success();
    assert!(ended.complaints().contains("Invalid conf value"), "{}", ended.complaints());
    // No option, no thread and no file.
    let text = steps(scratch.path(), "prof:true", "alloc 1 threads").run().expect_success().text();
    assert!(text.contains("threads 1\n") && !scratch.join("heapsift").exists(), "{text}");
}

#[test]
fn bad_requests_hold_nobody_up() {
    let scratch = Scratch::new("requests");
    let server = staying(scratch.path(), "prof_control:true", "alloc 1 stay");
    let path = socket(scratch.path(), server.pid());
    let starts = |request: &[u8], head: &str| {
        let answer = String::from_utf8_lossy(&raw(&path, request)).into_owned();
        assert!(answer.starts_with(head), "{:?}: {answer}", String::from_utf8_lossy(&request[..request.len().min(40)]));
    };
    starts(b"get version\n", "ok ");
    starts(b"get version\r\nget no.name\n", "ok ");
    starts(b"nonsense\n", "error 38 ");
    starts(b"\n", "error 38 ");
    starts(b"get a\0b\n", "error 22 ");
    starts(&[b'x'; 5000], "error 90 ");
    starts(&[0xff; 4097], "error 90 ");
    starts(b"get \xff\xfe\n", "error 2 ");
    // One that says nothing is given up after a second; one that doesn't listen takes no longer than its buffer.
    let silent: Vec<UnixStream> = (0..3).map(|_| UnixStream::connect(&path).expect("a connection")).collect();
    let started = Instant::now();
    starts(b"get version\n", "ok ");
    println!("answered after {:?} behind three silent clients", started.elapsed());
    drop(silent);
    // Half a request, then the end.
    let mut half = UnixStream::connect(&path).expect("a connection");
    half.write_all(b"get ver").expect("room");
    half.shutdown(std::net::Shutdown::Write).expect("a connection");
    let mut answer = String::new();
    half.read_to_string(&mut answer).expect("text");
    assert!(answer.starts_with("error 22 "), "{answer}");
    // Gone before the answer, many times.
    for _ in 0..50 {
        UnixStream::connect(&path).expect("a connection").write_all(b"stats\n").expect("room");
    }
    starts(b"get version\n", "ok ");
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("alive").count();
    let before = descriptors();
    for _ in 0..100 {
        starts(b"get stats.allocated\n", "ok ");
    }
    // The last connection may be about to be closed.
    assert!(descriptors().abs_diff(before) <= 1);
}

#[test]
fn a_dump_goes_to_a_descriptor_that_is_passed() {
    let Some(python) = tools::need("python3") else { return };
    let scratch = Scratch::new("passed");
    let server = staying(scratch.path(), "prof:true,prof_sample:4KiB,prof_control:true,prof_peak:true", "alloc 8 stay");
    let script = "import socket,sys,array,os\n\
        s=socket.socket(socket.AF_UNIX)\n\
        s.connect(sys.argv[1])\n\
        f=os.open(sys.argv[2],os.O_WRONLY|os.O_CREAT|os.O_EXCL,0o600)\n\
        socket.send_fds(s,[b'dump heap\\n'],[f,f])\n\
        print(s.recv(1000))";
    let file = scratch.join("passed.pb.gz");
    let path = socket(scratch.path(), server.pid());
    let text = Program::new(python).args(["-c", script]).arg(&path).arg(&file).run().expect_success().text();
    assert_eq!(text, "b'ok 0\\n'\n");
    assert!(Dump::read(&file).total(Column::InuseSpace) > 7 << 20);
    let pid = server.pid().to_string();
    for kind in ["peak", "waste", "lifetime", "slack", "rss"] {
        let file = scratch.join(kind);
        told(&pid, &format!("dump {kind} -o {}", file.display()));
        assert!(fs::metadata(&file).expect("a file").len() > 100);
    }
    assert!(refusal(ctl(&pid, "dump everything -o -")).contains("no such kind"));
    told(&pid, "reset");
    told(&pid, &format!("dump -o {}", scratch.join("empty").display()));
    assert_eq!(Dump::read(&scratch.join("empty")).total(Column::InuseSpace), 0);
}

#[test]
fn a_child_has_a_socket_of_its_own_once_it_works() {
    let scratch = Scratch::new("family");
    let mut server = steps(scratch.path(), "prof_control:true", "alloc 1 fork small 300 stay").serve();
    let log = server.log_path();
    let child = |log: &str| log.lines().find_map(|line| line.strip_prefix("child ")?.parse::<u32>().ok());
    server.wait_until(|| {
        child(&fs::read_to_string(&log).unwrap_or_default()).is_some_and(|pid| socket(scratch.path(), pid).exists())
    });
    let child = child(&fs::read_to_string(&log).expect("a log")).expect("a child");
    let (own, parents) = (socket(scratch.path(), child), socket(scratch.path(), server.pid()));
    // Each answers for itself, told apart by what changes in the one.
    assert!(raw(&own, b"set arenas.dirty_decay_ms 4321\n").starts_with(b"ok 0\n"));
    assert_eq!(raw(&own, b"get arenas.dirty_decay_ms\n"), b"ok 5\n4321\n");
    assert_eq!(raw(&parents, b"get arenas.dirty_decay_ms\n"), b"ok 6\n10000\n");
    drop(server);
    // Killed: its file is left, and goes when another process looks.
    assert!(parents.exists());
    steps(scratch.path(), "prof_control:true", "alloc 1").run().expect_success();
    assert!(!parents.exists());
}

#[test]
fn a_child_of_a_bare_system_call_leaves_the_socket_alone() {
    let scratch = Scratch::new("bare");
    let server = staying(scratch.path(), "prof_control:true", "alloc 1 bare stay");
    assert!(socket(scratch.path(), server.pid()).exists());
}

#[test]
fn a_child_has_nothing_of_a_request_that_its_parent_serves() {
    let Some(python) = tools::need("python3") else { return };
    let scratch = Scratch::new("inherited");
    let go = scratch.join("go");
    let words = format!("alloc 8 until {} fork stay", go.display());
    let server = steps(scratch.path(), "prof:true,prof_sample:4KiB,prof_control:true", &words).serve();
    let path = socket(scratch.path(), server.pid());
    // The dump goes to a pipe that is full, so that it is under way for as long as the process forks.
    let script = "import socket,sys,os,time\n\
        path,pid,go,log=sys.argv[1:]\n\
        r,w=os.pipe()\n\
        pipe=os.readlink(f'/proc/self/fd/{w}')\n\
        os.set_blocking(w,False)\n\
        try:\n    \
            while True: os.write(w,bytes(4096))\n\
        except BlockingIOError: pass\n\
        def ends(pid):\n    \
            files=[os.path.realpath(f'/proc/{pid}/fd/{fd}') for fd in os.listdir(f'/proc/{pid}/fd')]\n    \
            return sum(file.endswith(pipe) for file in files)\n\
        def wait(found):\n    \
            while not found(): time.sleep(0.01)\n\
        wait(lambda: os.path.exists(path))\n\
        s=socket.socket(socket.AF_UNIX)\n\
        s.connect(path)\n\
        socket.send_fds(s,[b'dump heap\\n'],[w,w])\n\
        os.close(w)\n\
        wait(lambda: ends(pid)==2)\n\
        open(go,'w').close()\n\
        wait(lambda: 'stay' in open(log).read())\n\
        child=[line.split()[1] for line in open(log) if line.startswith('child ')][0]\n\
        print(ends(pid),ends(child))";
    let program = Program::new(python).args(["-c", script]).arg(&path).arg(server.pid().to_string()).arg(&go);
    let text = program.arg(server.log_path()).within(Duration::from_secs(25)).run().expect_success().text();
    assert_eq!(text, "2 0\n");
}

#[test]
fn a_path_of_choice_is_found_by_the_command() {
    let scratch = Scratch::new("chosen");
    let conf = format!("prof_control:{}/own-%p.socket", scratch.path().display());
    let server = staying(&scratch.join("none"), &conf, "alloc 1 stay");
    let pid = server.pid().to_string();
    assert!(scratch.join(format!("own-{pid}.socket")).exists());
    assert_eq!(told(&pid, "get version"), "heapsift-0.1.0\n".replace("0.1.0", env!("CARGO_PKG_VERSION")));
    let watched = told(&pid, "watch --interval 0.05 --count 3 --json");
    let lines: Vec<serde_json::Value> = watched.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0]["allocated_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20) && lines[0]["sampling"] == false);
    let stats: serde_json::Value = serde_json::from_str(&told(&pid, "stats --json")).expect("JSON");
    assert!(stats["jemalloc"]["stats"]["allocated"].is_number());
    assert!(refusal(ctl(&pid, "get no.such.name")).contains("errno 2"));
    assert!(refusal(ctl("4000000000", "get version")).contains("there is no process"));
    assert!(refusal(ctl("/dev/null", "get version")).contains("cannot connect"));
    let own = std::process::id().to_string();
    assert!(refusal(ctl(&own, "get version")).contains("prof_control:true"));
}

#[test]
fn nobody_else_is_asked_than_the_process_that_is_meant() {
    let scratch = Scratch::new("meant");
    let conf = format!("prof_control:{}/%e-%h-%t%%.sock", scratch.path().display());
    let servers = [(); 2].map(|()| staying(&scratch.join("none"), &conf, "alloc 1 stay"));
    // In the same second they want the same path, and the later one has no socket then.
    let answers = servers.iter().filter(|server| ctl(&server.pid().to_string(), "get version").status == 0).count();
    assert!(answers >= 1 && answers == fs::read_dir(scratch.path()).expect("made").count());
    drop(servers);

    let conf = format!("prof_control:{}/fixed.sock", scratch.path().display());
    let mut server = steps(&scratch.join("none"), &conf, "alloc 1 fork small 300 stay").serve();
    let log = server.log_path();
    let child = |log: &str| log.lines().find_map(|line| line.strip_prefix("child ")?.parse::<u32>().ok());
    server.wait_until(|| child(&fs::read_to_string(&log).unwrap_or_default()).is_some());
    let child = child(&fs::read_to_string(&log).expect("a log")).expect("a child").to_string();
    told(&server.pid().to_string(), "set arenas.dirty_decay_ms 4321");
    assert!(refusal(ctl(&child, "get version")).contains(&format!("process {child} has no control socket")));
}

#[test]
fn a_program_that_closes_everything_keeps_its_own_connections() {
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        return tools::missing("/usr/bin/python3");
    }
    let scratch = Scratch::new("closed");
    // Its own sockets get the numbers of what it closed. Nobody else may take its clients.
    let script = "import os,socket,sys,time\n\
        os.closerange(3,64)\n\
        own=[socket.socket(socket.AF_UNIX) for i in range(8)]\n\
        for i,s in enumerate(own): s.bind('own%d'%i); s.listen(4)\n\
        clients=[socket.socket(socket.AF_UNIX) for i in range(8)]\n\
        for i,c in enumerate(clients): c.connect('own%d'%i)\n\
        time.sleep(0.5)\n\
        for s in own: s.settimeout(5); s.accept()\n\
        print('all mine', time.process_time() < 0.4)";
    let text = Program::new(python)
        .args(["-c", script])
        .directory(scratch.path())
        .env("XDG_RUNTIME_DIR", scratch.path())
        .under("prof_control:true")
        .run()
        .expect_success()
        .text();
    assert_eq!(text, "all mine True\n");
    assert_eq!(fs::read_dir(scratch.join("heapsift")).expect("made").count(), 0);
}

#[test]
fn what_was_switched_off_again_costs_nothing() {
    let Some(valgrind) = tools::need("valgrind") else { return };
    let program = Linkage::Shared.compile("c/on_off.c");
    let instructions = |function: &str| -> f64 {
        let ended = Program::new(&valgrind)
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", &format!("--toggle-collect={function}")])
            .arg(&program)
            .env("MALLOC_CONF", "prof_control:true")
            .run()
            .expect_success();
        let line = ended.complaints().lines().find_map(|line| Some(line.split_once("Collected :")?.1.to_owned()));
        line.and_then(|count| count.trim().parse().ok()).expect("callgrind's count")
    };
    let [before, during, after] = ["work_before", "work_during", "work_after"].map(instructions);
    // Each round is dozens of instructions; a sample costs a thousand, every few hundred rounds.
    assert!(before > 4e6 && during > before * 1.01, "{before} {during}");
    // How often a thread looks through its caches meanwhile depends on the time, a few thousand instructions each.
    assert!((after / before - 1.0).abs() < 0.005, "{before} {during} {after}");
}
