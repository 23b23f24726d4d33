//! A Redis server as tests have it: on a unix socket, keeping nothing on disk.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::child::{Program, Server};
use crate::tools;

/// Starts one that works in `directory`; `dress` puts it under the allocator. The server and its socket; `None`: it isn't
/// installed.
#[track_caller]
pub fn serve(directory: &Path, dress: impl FnOnce(Program) -> Program) -> Option<(Server, PathBuf)> {
    let program = tools::need("redis-server")?;
    let socket = directory.join("redis.sock");
    let program = Program::new(program)
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--enable-debug-command", "yes", "--unixsocket"])
        .arg(&socket)
        .directory(directory);
    let mut server = dress(program).serve();
    // The socket is there before the server listens.
    server.wait_until(|| UnixStream::connect(&socket).is_ok());
    Some((server, socket))
}

/// Has it set and push some megabytes. `None`: the program for that isn't installed.
#[track_caller]
pub fn load(socket: &Path) -> Option<()> {
    let benchmark = tools::need("redis-benchmark")?;
    Program::new(benchmark)
        .arg("-s")
        .arg(socket)
        .args("-n 20000 -P 16 -q -r 5000 -d 200 -t set,lpush".split_whitespace())
        .run()
        .expect_success();
    Some(())
}
