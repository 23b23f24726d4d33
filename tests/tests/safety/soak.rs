//! Row L4: a long time under load.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::safety::{Who, told};
use heapsift_tests::{Dump, Program, Server, by_length, library, redis, tools};

/// Works for as long as it lives: objects of all kinds that come and go, threads, text.
const PYTHON: &str = r#"
import json, random, threading, time
random.seed(11)
kept = {}
def work():
    while True:
        for _ in range(200):
            key = random.randrange(3000)
            kept[key] = json.loads(json.dumps({"n": [random.random() for _ in range(random.randrange(60))], "s": "x" * random.randrange(400)}))
        time.sleep(0.002)
threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
[t.start() for t in threads]
[t.join() for t in threads]
"#;

/// Own memory of the allocator and the profiler at each dump of each process, in bytes, in order.
fn metadata(directory: &Path) -> BTreeMap<u32, Vec<u64>> {
    let mut found: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("readable").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.split('.').skip(1).map(str::parse::<u32>);
        let (Some(Ok(pid)), Some(Ok(number))) = (parts.next(), parts.next()) else { continue };
        let stats = Dump::read(&entry.path()).profile.allocator_stats.expect("every dump of ours has them");
        found.insert((pid, number), stats.metadata);
    }
    let mut processes: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for ((pid, _), bytes) in found {
        processes.entry(pid).or_default().push(bytes);
    }
    processes
}

/// A PostgreSQL server in a directory that its user owns, and how its clients are run.
fn postgres(home: &Path, readable: &Path, conf: &str) -> Option<(Server, impl Fn(&[&str]) -> Program + use<>)> {
    let [Some(initdb), Some(postgres), Some(pgbench)] = ["initdb", "postgres", "pgbench"].map(tools::need) else {
        return None;
    };
    let user = tools::user_ids("postgres");
    fs::create_dir(home).expect("fresh");
    if let Some((uid, gid)) = user {
        std::os::unix::fs::chown(home, Some(uid), Some(gid)).expect("root may");
    }
    let (home, socket) = (home.to_owned(), home.to_owned());
    let here =
        move |program: &Path| Program::new(program).user(user).directory(&home).within(Duration::from_secs(3000));
    here(&initdb)
        .args(["-D", "data", "-U", "postgres", "--no-sync", "-A", "trust", "--locale=C", "-E", "UTF8"])
        .run()
        .expect_success();
    let mut server = here(&postgres)
        .args(["-D", "data", "-c", "listen_addresses=", "-c", "fsync=off", "-k"])
        .arg(&socket)
        .library(readable)
        .under(conf)
        .serve();
    let client = move |words: &[&str]| {
        here(&pgbench).arg("-h").arg(&socket).args(["-U", "postgres"]).args(words).arg("postgres")
    };
    server.wait_until(|| client(&["-i", "-q", "-s", "1"]).run().status == 0);
    Some((server, client))
}

#[test]
fn l4_a_soak_of_servers() {
    let scratch = Scratch::new("l4");
    let (time, pause_ms) = by_length((8, 500), (1800, 10_000));
    // The library and the dumps are for all users here.
    let dumps = scratch.join("dumps");
    fs::create_dir(&dumps).expect("fresh");
    fs::set_permissions(&dumps, fs::Permissions::from_mode(0o1777)).expect("ours");
    let readable = scratch.join("libheapsift.so");
    fs::copy(library(), &readable).expect("a scratch file");
    let conf = |name: &str| {
        let directory = dumps.join(name);
        fs::create_dir(&directory).expect("fresh");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777)).expect("ours");
        format!("prof:true,prof_final:false,prof_interval_ms:{pause_ms},prof_prefix:{}/d", directory.display())
    };
    let Some((mut redis, socket)) = redis::serve(scratch.path(), |server| server.under(conf("redis"))) else {
        return;
    };
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        return tools::missing("/usr/bin/python3");
    }
    let script = Program::new(python).args(["-c", PYTHON]).env("PYTHONMALLOC", "malloc");
    let mut script = script.under(conf("python")).serve();
    let Some((mut postgres, client)) = postgres(&scratch.join("home"), &readable, &conf("postgres")) else {
        return;
    };
    let Some(benchmark) = tools::need("redis-benchmark") else { return };
    let end = Instant::now() + Duration::from_secs(time);
    let mut rounds = 0;
    while Instant::now() < end {
        Program::new(&benchmark)
            .arg("-s")
            .arg(&socket)
            .args("-n 20000 -P 16 -c 20 -q -r 20000 -d 200 -t set,get,lpush,lrange_100,hset,sadd,zadd,mset".split(' '))
            .within(Duration::from_secs(300))
            .run()
            .expect_success();
        client(&["-n", "-c", "6", "-j", "2", "-T", by_length("2", "10")]).run().expect_success();
        // The lists are emptied, so that the load is the same for as long as it lasts.
        if let Some(cli) = tools::find("redis-cli") {
            Program::new(cli).arg("-s").arg(&socket).arg("FLUSHALL").run().expect_success();
        }
        rounds += 1;
    }
    for server in [&mut redis, &mut script, &mut postgres] {
        server.expect_running();
    }
    assert_eq!(redis.stop(libc::SIGTERM), 0);
    script.stop(libc::SIGTERM);
    assert_eq!(postgres.stop(libc::SIGINT), 0);
    for name in ["redis", "python", "postgres"] {
        let processes = metadata(&dumps.join(name));
        let longest = processes.values().map(Vec::len).max().expect("there are dumps");
        assert!(longest >= 4, "{name}: {longest} dumps");
        let (mut highest, mut holds, mut shown) = (0.0f64, true, String::new());
        for (pid, bytes) in processes.iter().filter(|(_, bytes)| bytes.len() * 2 > longest) {
            // Five minutes of thirty; in the short form half of the time.
            let warm = by_length(bytes.len() / 2, bytes.len() / 6);
            let (then, last) = (bytes[warm] as f64, *bytes.last().expect("as found") as f64);
            highest = highest.max(last / then);
            // Stacks and sizes that are rarer are sampled later, and have a place of their own from then on.
            holds &= last <= then * by_length(1.5, 1.05) + 131_072.0;
            if shown.len() < 200 {
                shown.push_str(&format!(
                    "; process {pid}: {:.2} MiB, at the end {:.2}",
                    then / 1048576.0,
                    last / 1048576.0
                ));
            }
        }
        let dumps: usize = processes.values().map(Vec::len).sum();
        let text = format!(
            "{time} s, {rounds} rounds of load, {dumps} dumps: own memory grew by {:.1} %{shown}",
            (highest - 1.0) * 100.0
        );
        told("L4", name, Who::Heapsift, &text, holds);
    }
}
