//! Programs that nobody here wrote, under the allocator: no crash, and the same exit status and output as without.
//!
//! Each runs plain, with `prof:false`, and with `prof:true` at an interval of 32 KiB, so that many more blocks are
//! sampled than usually. What they compute is compared byte by byte; times and rates are left out.

use std::fs;
use std::path::Path;
use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, dumps, final_dump};
use heapsift_tests::{Dump, Ended, Program, by_length, library, redis, tools};

/// The ways to run a program. The first is the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Unprofiled,
    Profiled,
}

impl Way {
    const ALL: [Way; 3] = [Way::Plain, Way::Unprofiled, Way::Profiled];

    /// The options, with dumps going to `directory`.
    fn conf(self, directory: &Path) -> Option<String> {
        match self {
            Way::Plain => None,
            Way::Unprofiled => Some("prof:false".to_owned()),
            Way::Profiled => Some(final_dump(directory, "lg_prof_sample:15")),
        }
    }
}

/// Runs a program in each way and compares what `shown` makes of the outcome.
#[track_caller]
fn same_in_all_ways<T: PartialEq + std::fmt::Debug>(
    name: &str,
    mut run: impl FnMut(&Path, Option<&str>) -> Ended,
    shown: impl Fn(&Path, &Ended) -> T,
) {
    let mut outcomes = Vec::new();
    for way in Way::ALL {
        let scratch = Scratch::new(name);
        // Some programs have child processes of other users, which leave dumps too.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        fs::set_permissions(scratch.path(), everybody).expect("the directory is ours");
        let ended = run(scratch.path(), way.conf(scratch.path()).as_deref());
        let complaints = ended.complaints();
        assert!(!complaints.contains("<heapsift>"), "{name}, {way:?}: {complaints}");
        assert!(way != Way::Plain || ended.status == 0, "{name} fails without the allocator:\n{complaints}");
        let shown = if ended.status == 0 { Some(shown(scratch.path(), &ended)) } else { None };
        outcomes.push((way, (ended.status, shown, complaints)));
        if way == Way::Profiled {
            check_dumps(name, scratch.path());
        }
    }
    compare(name, &outcomes);
}

/// All outcomes equal the first.
#[track_caller]
fn compare<T: PartialEq + std::fmt::Debug>(name: &str, outcomes: &[(Way, T)]) {
    for (way, outcome) in &outcomes[1..] {
        let plain = &outcomes[0].1;
        assert!(outcome == plain, "{name}, {way:?}: differs from the plain run\nplain: {plain:?}\nhere: {outcome:?}");
    }
}

/// At least one final dump is there, and every one can be read.
#[track_caller]
fn check_dumps(name: &str, directory: &Path) {
    if !library().to_string_lossy().contains("heapsift") {
        return; // Another allocator is being looked at.
    }
    let found = dumps(directory, 'f');
    assert!(!found.is_empty(), "{name}: no dump in {}", directory.display());
    for path in found {
        let dump = Dump::read(&path);
        assert!(dump.total(Column::AllocSpace) >= dump.total(Column::InuseSpace), "{}", path.display());
    }
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

#[test]
fn memcheck_starts_at_once() {
    let Some(valgrind) = tools::need("valgrind") else { return };
    // It took minutes, and gigabytes, while it had a shadow of everything that was made readable.
    let program = Program::new(valgrind).args(["-q", "/bin/true"]).under("prof:true").within(Duration::from_secs(30));
    program.run().expect_success();
}

#[test]
fn python_runs_its_own_tests() {
    let Some(python) = tools::python_with_tests() else { return tools::missing("python3 with its test package") };
    let names: &[&str] = by_length(&["test_json"], &["test_json", "test_threading", "test_subprocess"]);
    same_in_all_ways(
        "python",
        |directory, conf| {
            Program::new(&python)
                .args(["-m", "test"])
                .args(names)
                .env("PYTHONMALLOC", "malloc")
                .env("TMPDIR", directory)
                .directory(directory)
                .within(minutes(10))
                .maybe_under(conf)
                .run()
        },
        |_, ended| {
            // Progress lines hold times and the load; what counts is how many tests there were and how they went.
            let text = ended.text();
            let kept = text.lines().filter(|line| {
                line.starts_with("Result:")
                    || line.starts_with("Total tests")
                    || line.starts_with("Tests result")
                    || line.starts_with("== Tests result")
                    || line.contains("tests OK")
                    || line.contains("failed")
            });
            kept.map(str::to_owned).collect::<Vec<_>>()
        },
    );
}

#[test]
fn python_computes_the_same() {
    let Some(python) = tools::need("python3") else { return };
    let script = r#"
import hashlib, json, random, subprocess, sys, threading
random.seed(7)
def tree(depth):
    return {str(i): tree(depth - 1) for i in range(4)} if depth else [random.random() for _ in range(8)]
texts = []
def work(number):
    value = json.loads(json.dumps(made[number]))
    texts.append(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest())
made = [tree(5) for _ in range(8)]
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(texts))
print(subprocess.run([sys.executable, '-c', 'print(sum(len(str(i)) for i in range(100000)))'], capture_output=True, text=True).stdout)
"#;
    same_in_all_ways(
        "python-script",
        |_, conf| Program::new(&python).args(["-c", script]).env("PYTHONMALLOC", "malloc").maybe_under(conf).run(),
        |_, ended| ended.text(),
    );
}

#[test]
fn gcc_makes_the_same_object() {
    let Some(gcc) = tools::need("gcc") else { return };
    let functions = by_length(400, 4_000);
    let mut source =
        String::from("#include <stdio.h>\n#include <string.h>\nstruct s { int a, b; double c; char d[32]; };\n");
    for n in 0..functions {
        source.push_str(&format!(
            "int f{n}(struct s *p, int x) {{\n  int t = x * {n} + p->a;\n  for (int i = 0; i < x; i++) {{\n    \
             t ^= (t << 3) + p->d[(i + {n}) & 31];\n    if (t % {m} == 0) p->c += t / ({n} + 1.5);\n    \
             else switch (t & 3) {{ case 0: p->b += i; break; case 1: p->b ^= t; break; default: t -= {n}; }}\n  }}\n  \
             return t + p->b{call};\n}}\n",
            m = n % 17 + 2,
            call = if n > 0 { format!(" + f{}(p, x - 1)", n / 2) } else { String::new() },
        ));
    }
    same_in_all_ways(
        "gcc",
        |directory, conf| {
            let file = directory.join("large.c");
            fs::write(&file, &source).expect("a scratch file");
            Program::new(&gcc)
                .args(["-O2", "-c", "-frandom-seed=1", "-o", "large.o", "large.c"])
                .directory(directory)
                .within(minutes(10))
                .maybe_under(conf)
                .run()
        },
        |directory, _| {
            let object = fs::read(directory.join("large.o")).expect("gcc wrote an object");
            (object.len(), checksum(&object))
        },
    );
}

/// FNV-1a: for telling apart, not for security.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn node_computes_the_same() {
    let Some(node) = tools::need("node") else { return };
    let script = r#"
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto'), zlib = require('zlib');
function work(seed) {
  let state = seed >>> 0;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
  const map = new Map();
  for (let i = 0; i < 60000; i++) {
    map.set('k' + random() % 20000, { list: Array.from({ length: random() % 8 }, random), text: 'x'.repeat(random() % 64) });
    if (i % 3 === 0) map.delete('k' + random() % 20000);
  }
  const text = JSON.stringify([...map.entries()].sort());
  const packed = zlib.deflateSync(text);
  const buffers = Array.from({ length: 200 }, (_, i) => Buffer.alloc(1000 * (i + 1), i));
  const hash = crypto.createHash('sha256').update(zlib.inflateSync(packed));
  buffers.forEach(buffer => hash.update(buffer));
  return hash.digest('hex');
}
if (isMainThread) {
  const jobs = [1, 2, 3].map(seed => new Promise(done => {
    new Worker(__filename, { workerData: seed }).on('message', done);
  }));
  Promise.all(jobs).then(all => console.log(work(4), all.sort().join('\n')));
} else parentPort.postMessage(work(workerData));
"#;
    same_in_all_ways(
        "node",
        |directory, conf| {
            fs::write(directory.join("work.js"), script).expect("a scratch file");
            Program::new(&node).arg("work.js").directory(directory).within(minutes(3)).maybe_under(conf).run()
        },
        |_, ended| ended.text(),
    );
}

#[test]
fn java_computes_the_same() {
    let Some(java) = tools::need("java") else { return };
    let script = r#"
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
import java.util.zip.*;
public class Work {
    static long work(long seed) throws Exception {
        Random random = new Random(seed);
        Map<String, byte[]> map = new TreeMap<>();
        for (int i = 0; i < 40000; i++) map.put("k" + random.nextInt(20000), new byte[random.nextInt(500)]);
        CRC32 crc = new CRC32();
        for (Map.Entry<String, byte[]> e : map.entrySet()) { crc.update(e.getKey().getBytes()); crc.update(e.getValue()); }
        for (int i = 0; i < 200; i++) {
            ByteBuffer direct = ByteBuffer.allocateDirect(1000 * (i + 1));
            while (direct.hasRemaining()) direct.put((byte) random.nextInt());
            direct.flip(); crc.update(direct);
            Deflater deflater = new Deflater(); deflater.setInput(new byte[5000]); deflater.finish();
            crc.update(new byte[10], 0, deflater.deflate(new byte[6000]) % 10); deflater.end();
        }
        return crc.getValue();
    }
    public static void main(String[] words) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> jobs = new ArrayList<>();
        for (long seed = 0; seed < 8; seed++) { long s = seed; jobs.add(pool.submit(() -> work(s))); }
        for (Future<Long> job : jobs) System.out.println(job.get());
        pool.shutdown();
    }
}
"#;
    same_in_all_ways(
        "java",
        |directory, conf| {
            fs::write(directory.join("Work.java"), script).expect("a scratch file");
            Program::new(&java).arg("Work.java").directory(directory).within(minutes(3)).maybe_under(conf).run()
        },
        |_, ended| ended.text(),
    );
}

#[test]
fn php_computes_the_same() {
    // Its extensions are loaded with RTLD_DEEPBIND: without our `dlopen` it crashes before it reads its script.
    let Some(php) = tools::need("php") else { return };
    let script = r#"
mt_srand(7);
$map = [];
for ($i = 0; $i < 100000; $i++) {
    $map['k' . mt_rand(0, 20000)] = [str_repeat('x', mt_rand(0, 64)), mt_rand()];
    if ($i % 3 == 0) unset($map['k' . mt_rand(0, 20000)]);
}
ksort($map);
echo md5(json_encode($map)), "\n", md5(serialize(array_map(fn($v) => preg_replace('/x+/', 'y', $v[0]), $map))), "\n";
echo implode(' ', get_loaded_extensions()), "\n", shell_exec('echo a child');
"#;
    same_in_all_ways(
        "php",
        |_, conf| Program::new(&php).args(["-r", script]).env("USE_ZEND_ALLOC", "0").maybe_under(conf).run(),
        |_, ended| ended.text(),
    );
}

#[test]
fn git_clones_the_same() {
    let Some(git) = tools::need("git") else { return };
    let origin = Scratch::new("git-origin");
    let commits = by_length(60, 600);
    let mut stream = String::new();
    for commit in 0..commits {
        let content: String = (0..400).map(|line| format!("line {line} of {}\n", (line * commit) % 97)).collect();
        stream.push_str("commit refs/heads/main\n");
        stream.push_str(&format!("committer A <a@example.org> {} +0000\n", 1_700_000_000 + commit));
        stream.push_str(&format!("data 8\ncommit {}\n", commit % 10));
        for file in 0..8 {
            let path = format!("d{}/f{}", (commit + file) % 5, (commit * 7 + file) % 50);
            stream.push_str(&format!("M 100644 inline {path}\ndata {}\n{content}\n", content.len()));
        }
    }
    fs::write(origin.join("stream"), stream).expect("a scratch file");
    let plain = |words: &[&str]| Program::new(&git).args(words).directory(origin.path()).env("HOME", origin.path());
    plain(&["init", "-q", "--bare", "repo.git"]).run().expect_success();
    plain(&["-C", "repo.git", "fast-import", "--quiet"]).input(&origin.join("stream")).run().expect_success();
    plain(&["-C", "repo.git", "symbolic-ref", "HEAD", "refs/heads/main"]).run().expect_success();
    let url = format!("file://{}", origin.join("repo.git").display());
    same_in_all_ways(
        "git",
        |directory, conf| {
            Program::new(&git)
                .args(["clone", "-q", &url, "copy"])
                .env("HOME", directory)
                .directory(directory)
                .within(minutes(3))
                .maybe_under(conf)
                .run()
        },
        |directory, ended| {
            let copy = |words: &[&str]| {
                let program = Program::new(&git).args(["-C", "copy"]).args(words);
                program.env("HOME", directory).directory(directory).run().expect_success().text()
            };
            (copy(&["rev-parse", "HEAD"]), copy(&["ls-files", "-s"]), copy(&["fsck", "--full"]), ended.text())
        },
    );
}

#[test]
fn sqlite_answers_the_same() {
    let Some(sqlite) = tools::need("sqlite3") else { return };
    let rows = by_length(60_000, 600_000);
    let script = format!(
        "pragma journal_mode=memory;
create table t1(a integer, b integer, c text);
create table t2(a integer primary key, b integer, c text);
with recursive n(i) as (select 1 union all select i+1 from n where i<{rows})
  insert into t1 select i, (i*2654435761)%1000003, printf('%d and some text %d', i*7919%100000, i) from n;
insert into t2 select a, b, c from t1 where b%3=0;
create index i1 on t1(b); create index i2 on t2(c);
select count(*), sum(b), min(c), max(c) from t1 where b between 1000 and 500000;
select count(*), sum(length(c)) from t1 where c like '%99%';
select sum(t1.b*t2.b%1009) from t1 join t2 on t1.a=t2.a;
select c, count(*) from (select substr(c,1,2) as c from t1) group by c order by 2 desc, 1 limit 20;
update t1 set b=b+1 where a%7=0; delete from t2 where a%5=0;
insert into t2(b,c) select b, upper(c) from t1 order by c limit 10000;
select group_concat(c) from (select c from t1 order by c desc limit 2000);
vacuum; pragma integrity_check;
select count(*), sum(b) from t2;\n"
    );
    same_in_all_ways(
        "sqlite",
        |directory, conf| {
            let file = directory.join("script.sql");
            fs::write(&file, &script).expect("a scratch file");
            let database = directory.join("data.db");
            Program::new(&sqlite).arg(database).input(&file).within(minutes(5)).maybe_under(conf).run()
        },
        |_, ended| ended.text(),
    );
}

#[test]
fn redis_serves_the_same() {
    let (Some(cli), Some(benchmark)) = (tools::need("redis-cli"), tools::need("redis-benchmark")) else { return };
    let mut commands = String::new();
    for n in 0..by_length(30_000u32, 300_000) {
        let mix = n.wrapping_mul(2_654_435_761);
        let key = mix % 20_000;
        commands.push_str(&match mix >> 28 {
            0..9 => format!("SET s{key} {}\n", "v".repeat((mix >> 8) as usize % 400)),
            9..11 => format!("RPUSH l{} {}\n", key % 500, mix),
            11..13 => format!("HSET h{} f{} {}\n", key % 500, mix % 91, mix),
            13 => format!("APPEND s{key} {mix}\n"),
            _ => format!("DEL s{key}\n"),
        });
    }
    let requests = by_length("30000", "1000000");
    let mut outcomes = Vec::new();
    for way in Way::ALL {
        let scratch = Scratch::new("redis");
        let conf = way.conf(scratch.path());
        let Some((server, socket)) = redis::serve(scratch.path(), |server| server.maybe_under(conf.as_deref())) else {
            return;
        };
        let ask = |words: &[&str]| {
            Program::new(&cli).arg("-s").arg(&socket).args(words).within(minutes(5)).run().expect_success().text()
        };
        fs::write(scratch.join("commands"), &commands).expect("a scratch file");
        let loaded = Program::new(&cli)
            .arg("-s")
            .arg(&socket)
            .input(&scratch.join("commands"))
            .within(minutes(5))
            .run()
            .expect_success();
        let answers = checksum(&loaded.stdout);
        let state = (ask(&["DEBUG", "DIGEST"]), ask(&["DBSIZE"]), answers);
        Program::new(&benchmark)
            .arg("-s")
            .arg(&socket)
            .args(["-n", requests, "-P", "16", "-c", "20", "-q", "-r", "100000", "-d", "100"])
            .args(["-t", "set,get,lpush,lrange_100,hset,sadd,zadd,mset"])
            .within(minutes(10))
            .run()
            .expect_success();
        assert_eq!(ask(&["PING"]).trim(), "PONG", "{way:?}");
        assert_eq!(server.stop(libc::SIGTERM), 0, "redis-server, {way:?}");
        outcomes.push((way, state));
        if way == Way::Profiled {
            check_dumps("redis", scratch.path());
        }
    }
    compare("redis", &outcomes);
}

#[test]
fn postgresql_answers_the_same() {
    let needed = ["initdb", "postgres", "psql", "pgbench"].map(tools::need);
    let [Some(initdb), Some(postgres), Some(psql), Some(pgbench)] = needed else { return };
    // It refuses to run as root, and must be able to read the library.
    let user = tools::user_ids("postgres");
    let mut outcomes = Vec::new();
    for way in Way::ALL {
        let scratch = Scratch::new("postgres");
        let home = scratch.join("home");
        fs::create_dir(&home).expect("a scratch directory");
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&home, Some(uid), Some(gid)).expect("root may");
        }
        let conf = way.conf(&home);
        let readable = scratch.join("libheapsift.so");
        fs::copy(library(), &readable).expect("a scratch file");
        let here =
            |program: &Path| Program::new(program).user(user).directory(&home).library(&readable).within(minutes(5));
        here(&initdb)
            .args(["-D", "data", "-U", "postgres", "--no-sync", "-A", "trust", "--locale=C", "-E", "UTF8"])
            .maybe_under(conf.as_deref())
            .run()
            .expect_success();
        let mut server = here(&postgres)
            .args(["-D", "data", "-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(&home)
            .maybe_under(conf.as_deref())
            .serve();
        let client = |program: &Path, words: &[&str]| {
            here(program).arg("-h").arg(&home).args(["-U", "postgres"]).args(words).maybe_under(conf.as_deref())
        };
        let ask = |query: &str| client(&psql, &["-XAtc", query, "postgres"]).run();
        server.wait_until(|| ask("select 1").status == 0);
        client(&pgbench, &["-i", "-q", "-s", "1", "postgres"]).run().expect_success();
        // One client with a fixed seed: the same transactions, whatever the timing.
        client(&pgbench, &["-n", "-t", by_length("500", "5000"), "--random-seed=42", "postgres"])
            .run()
            .expect_success();
        let state = ask(
            "select sum(abalance), sum(aid*abalance::bigint) from pgbench_accounts;
             select sum(delta), count(*), md5(string_agg(tid||','||bid||','||aid||','||delta, ';' order by aid, tid, delta)) from pgbench_history;
             select md5(string_agg(md5(i::text), '' order by md5(i::text))) from generate_series(1, 50000) i",
        )
        .expect_success()
        .text();
        // And many clients at once, for as long as asked; the books must balance.
        client(&pgbench, &["-n", "-c", "8", "-j", "2", "-T", by_length("3", "60"), "postgres"]).run().expect_success();
        let balances = ask("select sum(abalance) = (select sum(bbalance) from pgbench_branches)
                and sum(abalance) = (select sum(tbalance) from pgbench_tellers)
                and sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts");
        assert_eq!(balances.expect_success().text().trim(), "t", "{way:?}");
        // SIGINT is PostgreSQL's fast shutdown.
        assert_eq!(server.stop(libc::SIGINT), 0, "postgres, {way:?}");
        outcomes.push((way, state));
        if way == Way::Profiled {
            check_dumps("postgres", &home);
        }
    }
    compare("postgres", &outcomes);
}
