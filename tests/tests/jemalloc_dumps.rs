//! Dumps that Debian's jemalloc writes of other people's programs, told by jeprof and by `heapsift`: the same totals, and
//! names that are never guessed.
//!
//! What a name should be is known without either: the symbol of the module that covers the address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::{Dump, Program, command, redis, tools};
use pprof_export::schema::Mapping;

/// Runs something under jemalloc with this `MALLOC_CONF`, in a directory.
type Run = fn(&Jemalloc, &Path) -> Option<()>;

struct Jemalloc {
    library: PathBuf,
    conf: String,
}

impl Jemalloc {
    fn dress(&self, program: Program) -> Program {
        program.under(&self.conf).library(&self.library).within(Duration::from_secs(300))
    }

    fn run(&self, name: &str, words: &[&str], directory: &Path) -> Option<()> {
        let program = Program::new(tools::need(name)?).args(words).directory(directory);
        self.dress(program).run().expect_success();
        Some(())
    }
}

const PROGRAMS: [(&str, Run); 11] = [
    ("python3", |jemalloc, directory| {
        let script = "import json; kept = [json.loads(json.dumps({str(i): [i] * 50})) for i in range(2000)]";
        // The distribution's own rather than a script that starts one.
        let python = Path::new("/usr/bin/python3");
        let python = if python.exists() { python.to_owned() } else { tools::need("python3")? };
        jemalloc.dress(Program::new(python).args(["-c", script]).directory(directory)).run().expect_success();
        Some(())
    }),
    ("sqlite3", |jemalloc, directory| {
        let query = "create table t(a, b); with recursive c(x) as (select 1 union all select x + 1 from c where x < 30000) \
                     insert into t select x, hex(x * x) from c; create index i on t(b); select count(*) from t;";
        jemalloc.run("sqlite3", &[":memory:", query], directory)
    }),
    ("lua5.4", |jemalloc, directory| {
        jemalloc.run("lua5.4", &["-e", "t = {} for i = 1, 30000 do t[i] = {i, tostring(i)} end"], directory)
    }),
    ("z3", |jemalloc, directory| {
        let problem: String = (0..200)
            .map(|n| {
                format!(
                    "(declare-const x{n} Int)(assert (> (+ x{n} {n}) (* 3 {n})))(assert (< x{n} (+ 9 (* 3 {n}))))\n"
                )
            })
            .collect();
        fs::write(directory.join("problem.smt2"), problem + "(check-sat)\n").expect("a scratch file");
        jemalloc.run("z3", &["problem.smt2"], directory)
    }),
    ("git", |jemalloc, directory| {
        for n in 0..200 {
            fs::write(directory.join(format!("{n}.txt")), format!("{n}\n").repeat(500)).expect("a scratch file");
        }
        jemalloc.run("git", &["init", "-q", "."], directory)?;
        jemalloc.run("git", &["add", "."], directory)
    }),
    ("gcc", |jemalloc, directory| {
        let functions: String = (0..400)
            .map(|n| {
                format!(
                    "int f{n}(int *a, int n) {{ int s = {n}; for (int i = 0; i < n; i++) s += a[i] * s; return s; }}\n"
                )
            })
            .collect();
        fs::write(directory.join("many.c"), functions).expect("a scratch file");
        jemalloc.run("gcc", &["-O2", "-c", "many.c"], directory)
    }),
    ("node", |jemalloc, directory| {
        let script = "const kept = []; for (let i = 0; i < 5000; i++) kept.push(Buffer.allocUnsafeSlow(300), new Map([[i, `${i}`]]));";
        jemalloc.run("node", &["-e", script], directory)
    }),
    ("redis-server", |jemalloc, directory| {
        let (server, socket) = redis::serve(directory, |server| jemalloc.dress(server))?;
        redis::load(&socket)?;
        assert_eq!(server.stop(libc::SIGTERM), 0, "redis-server");
        Some(())
    }),
    ("postgres", |jemalloc, directory| {
        let (initdb, postgres) = (tools::need("initdb")?, tools::need("postgres")?);
        let user = tools::user_ids("postgres");
        let (uid, gid) = user.map_or((None, None), |(uid, gid)| (Some(uid), Some(gid)));
        std::os::unix::fs::chown(directory, uid, gid).expect("the directory is ours");
        let here =
            |program: &Path| Program::new(program).directory(directory).user(user).within(Duration::from_secs(300));
        here(&initdb)
            .args(["-D", "data", "-U", "postgres", "--no-sync", "--locale=C", "-E", "UTF8"])
            .run()
            .expect_success();
        let queries = directory.join("queries");
        let query =
            "select count(*), max(md5(n::text)) from generate_series(1, 30000) n group by n % 1000 order by 2;\n";
        fs::write(&queries, query.repeat(3)).expect("a scratch file");
        let single = here(&postgres).args(["--single", "-D", "data", "postgres"]).input(&queries);
        jemalloc.dress(single).run().expect_success();
        Some(())
    }),
    ("a Rust program", |jemalloc, directory| {
        let program = tools::compile("rust/collections.rs", &[]);
        jemalloc.dress(Program::new(program).directory(directory)).run().expect_success();
        Some(())
    }),
    ("a C program", |jemalloc, directory| {
        let program = tools::compile("c/sites.c", &[]);
        jemalloc.dress(Program::new(program).directory(directory)).run().expect_success();
        Some(())
    }),
];

/// What the names of one program's frames are like.
#[derive(Clone, Copy, Debug, Default)]
struct Names {
    /// That of a symbol which covers the address.
    right: usize,
    /// That of another one.
    guessed: usize,
}

/// A function in a file: where it is, and its names, as they are and demangled.
struct Symbol {
    place: Range<u64>,
    has_length: bool,
    names: BTreeSet<String>,
}

/// Functions of a file, from its symbol tables.
struct Symbols(Vec<Symbol>);

fn hexadecimal(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_else(|_| panic!("{text} is no number"))
}

/// A name without its version, without what compilers put behind the name of a function that they take apart or copy, and
/// without what jeprof puts behind one that several have: an address.
fn bare(name: &str) -> String {
    let mut name = name.split('@').next().expect("a part");
    if let Some(at) = name.rfind('<').filter(|&at| name.len() - at == 18 && name.ends_with('>')) {
        name = &name[..at];
    }
    let marks = [".llvm.", ".constprop.", ".isra.", ".part.", ".cold", ".localalias", ".lto_priv."];
    let end = marks.iter().filter_map(|mark| name.find(mark)).min().unwrap_or(name.len());
    name[..end].to_owned()
}

/// A file that was mapped: its own symbols and its debug file's, and its program headers.
struct Module {
    symbols: Vec<Arc<Symbols>>,
    headers: Vec<(u64, u64, u64)>,
}

/// The symbols of files that have been looked at, by path.
static KNOWN: Mutex<BTreeMap<PathBuf, Arc<Symbols>>> = Mutex::new(BTreeMap::new());

impl Symbols {
    fn of(file: &Path) -> Arc<Self> {
        if let Some(known) = KNOWN.lock().expect("no thread panicked").get(file) {
            return known.clone();
        }
        // By start and length; of 0 bytes, where it isn't known.
        let mut by_place: BTreeMap<(u64, u64), BTreeSet<String>> = BTreeMap::new();
        for options in [&["-S"][..], &["-S", "-D"], &["-SC"], &["-SC", "-D"]] {
            let nm =
                Program::new("nm").arg("--defined-only").args(options).arg(file).within(Duration::from_secs(300)).run();
            for line in nm.text().lines() {
                let words: Vec<&str> = line.splitn(4, ' ').collect();
                let (start, size, kind, name) = match words[..] {
                    [start, size, kind, name] if size.len() == 16 => (start, hexadecimal(size), kind, name.to_owned()),
                    [start, kind, ref name @ ..] => (start, 0, kind, name.join(" ")),
                    _ => continue,
                };
                if matches!(kind, "t" | "T" | "w" | "W" | "i") && start.len() == 16 {
                    by_place.entry((hexadecimal(start), size)).or_default().insert(bare(&name));
                }
            }
        }
        let starts: Vec<u64> = by_place.keys().map(|place| place.0).collect();
        let end = |(start, size): (u64, u64)| match size {
            0 => starts[starts.partition_point(|other| *other <= start)..].first().copied().unwrap_or(u64::MAX),
            size => start + size,
        };
        let symbol = |(place, names): ((u64, u64), BTreeSet<String>)| Symbol {
            place: place.0..end(place),
            has_length: place.1 != 0,
            names,
        };
        let symbols = Arc::new(Symbols(by_place.into_iter().map(symbol).collect()));
        KNOWN.lock().expect("no thread panicked").insert(file.to_owned(), symbols.clone());
        symbols
    }

    /// Names of what covers the address; of symbols whose length is known, or of the others.
    fn at(&self, address: u64, has_length: bool) -> impl Iterator<Item = &str> {
        let covers =
            self.0.iter().filter(move |symbol| symbol.has_length == has_length && symbol.place.contains(&address));
        covers.flat_map(|symbol| symbol.names.iter().map(String::as_str))
    }
}

/// The debug file of a module, where the distribution's is installed.
fn debug_file(module: &Path) -> Option<PathBuf> {
    let notes = Program::new("readelf").arg("-n").arg(module).run().text();
    let build_id = notes.split("Build ID: ").nth(1)?.split_whitespace().next()?;
    let (head, tail) = build_id.split_at_checked(2)?;
    let file = Path::new("/usr/lib/debug/.build-id").join(head).join(format!("{tail}.debug"));
    file.exists().then_some(file)
}

/// From an address in the process to one in the file, by its program headers.
fn in_file(headers: &[(u64, u64, u64)], mapping: &Mapping, address: u64) -> Option<u64> {
    let offset = address - mapping.memory_start + mapping.file_offset;
    let covers = |&&(start, _, length): &&(u64, u64, u64)| (start..start + length).contains(&offset);
    headers.iter().find(covers).map(|(start, address, _)| offset - start + address)
}

/// Offset, address and length in the file of each loaded piece.
fn headers(module: &Path) -> Vec<(u64, u64, u64)> {
    let text = Program::new("readelf").arg("-lW").arg(module).run().text();
    let lines = text.lines().filter(|line| line.trim_start().starts_with("LOAD"));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (hexadecimal(words[1]), hexadecimal(words[2]), hexadecimal(words[4]))
        })
        .collect()
}

/// What `jeprof --raw` and `--text` say: names by address, and totals of what is in use and of what was allocated.
fn jeprof(program: &Path, dump: &Path, scratch: &Scratch) -> (HashMap<u64, Vec<String>>, [f64; 2]) {
    let run = || Program::new(tools::find("jeprof").expect("looked for before")).within(Duration::from_secs(300));
    // It writes the names of a local dump, and refuses to write the dump behind them.
    let raw = run().arg("--raw").arg(program).arg(dump).run();
    assert!(raw.stdout.ends_with(b"--- heap\n"), "{}", raw.complaints());
    let file = scratch.join("raw");
    let rows = fs::read(dump).expect("a dump");
    fs::write(&file, [raw.stdout.as_slice(), &rows].concat()).expect("a scratch file");
    let text = raw.text();
    let symbols = text.lines().skip(2).take_while(|line| *line != "---");
    let names = symbols.filter_map(|line| {
        let (address, names) = line.split_once(' ')?;
        // Inlined ones follow the function that they are in.
        Some((hexadecimal(address), names.split("--").map(bare).collect()))
    });
    // With names in the file, this is quick.
    let totals = ["--inuse_space", "--alloc_space"].map(|option| {
        let text = run().args(["--text", "--show_bytes", option]).arg(&file).run().expect_success().text();
        let line =
            text.lines().find(|line| line.starts_with("Total: ")).unwrap_or_else(|| panic!("no total in {text}"));
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    });
    (names.collect(), totals)
}

/// Looks at one program: ours and theirs.
fn look(name: &str, run: Run, jemalloc: &Path) -> Option<(Names, Names)> {
    let scratch = Scratch::new("jemalloc-dumps");
    let work = scratch.join("work");
    fs::create_dir(&work).expect("a fresh directory");
    let conf = "prof:true,prof_final:true,prof_accum:true,lg_prof_sample:15,prof_prefix:dump".to_owned();
    run(&Jemalloc { library: jemalloc.to_owned(), conf }, &work)?;
    let entries = fs::read_dir(&work).expect("readable").map(|entry| entry.expect("readable").path());
    let dumps = entries.filter(|path| path.extension().is_some_and(|extension| extension == "heap"));
    let dumps = dumps.chain(
        fs::read_dir(work.join("data"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "heap")),
    );
    // Of a program that starts others, the one with most stacks.
    let dump = dumps.max_by_key(|path| fs::metadata(path).map_or(0, |found| found.len())).expect("a dump");

    let plain = scratch.join("plain.pb.gz");
    let convert = Program::new(command()).args(["convert", "--symbolize=none", "--to", "pprof", "-o"]);
    convert.arg(&plain).arg(&dump).run().expect_success();
    let ours = Dump::symbolized(&plain, &scratch.join("named.pb.gz"));
    let main = ours.text(ours.profile.mapping.first().expect("a mapping").filename).to_owned();
    let (theirs, totals) = jeprof(Path::new(&main), &dump, &scratch);

    for (column, theirs) in ["inuse_space", "alloc_space"].into_iter().zip(totals) {
        let index = (0..ours.profile.sample_type.len())
            .find(|&at| ours.text(ours.profile.sample_type[at].r#type) == column)
            .expect("a heap profile has it");
        let total: i64 = ours.profile.sample.iter().map(|sample| sample.value[index]).sum();
        // Each row is rounded, here and there.
        let slack = ours.profile.sample.len() as f64 + 1e-6 * theirs;
        assert!((total as f64 - theirs).abs() <= slack, "{name}, {column}: {total}, by jeprof {theirs}");
    }

    let mut modules: HashMap<u64, Option<Module>> = HashMap::new();
    let (mut right, mut named) = (Names::default(), Names::default());
    for location in &ours.profile.location {
        let Some(mapping) = ours.profile.mapping.iter().find(|mapping| mapping.id == location.mapping_id) else {
            continue;
        };
        let module = modules.entry(mapping.id).or_insert_with(|| {
            let path = Path::new(ours.text(mapping.filename));
            let files = [path.to_owned()].into_iter().chain(debug_file(path));
            let symbols = |files: &mut dyn Iterator<Item = PathBuf>| files.map(|file| Symbols::of(&file)).collect();
            path.is_absolute().then(|| Module { symbols: symbols(&mut files.into_iter()), headers: headers(path) })
        });
        let Some(Module { symbols, headers }) = module else { continue };
        let Some(address) = in_file(headers, mapping, location.address) else { continue };
        let [truth, possible] = [true, false]
            .map(|sized| symbols.iter().flat_map(|symbols| symbols.at(address, sized)).collect::<BTreeSet<&str>>());
        let judge = |found: Option<Vec<String>>, names: &mut Names| match found {
            Some(found) if found.iter().any(|name| truth.contains(name.as_str())) => names.right += 1,
            // Where a symbol without a length ends, nobody knows.
            Some(found) if found.iter().any(|name| possible.contains(name.as_str())) => {}
            Some(_) => names.guessed += 1,
            None => {}
        };
        let systems = location.line.iter().map(|line| {
            let function = ours.profile.function.iter().find(|function| function.id == line.function_id);
            bare(ours.text(function.expect("the reader has checked the ids").system_name))
        });
        let systems: Vec<String> = systems.collect();
        judge((!systems.is_empty()).then_some(systems), &mut right);
        // What jeprof has no name for, it shows as a number.
        let found = theirs.get(&location.address).filter(|names| !names[0].starts_with("0x"));
        judge(found.cloned(), &mut named);
    }
    println!("{name}: {} frames; by us {right:?}, by jeprof {named:?}", ours.profile.location.len());
    Some((right, named))
}

#[test]
fn totals_are_jeprof_s_and_names_better() {
    let (Some(jemalloc), Some(_)) = (tools::jemalloc(), tools::need("jeprof")) else { return };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some((name, run)) = PROGRAMS.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.extend(look(name, *run, &jemalloc).map(|found| (*name, found)));
        }
        found
    };
    let found: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no program failed")).collect()
    });
    let (mut ours_in_all, mut theirs_in_all) = (Names::default(), Names::default());
    for (name, (ours, theirs)) in &found {
        assert_eq!(ours.guessed, 0, "{name}: names that no symbol has there");
        assert!(ours.right > 0 && ours.right >= theirs.right, "{name}: {ours:?}, by jeprof {theirs:?}");
        for (all, names) in [(&mut ours_in_all, ours), (&mut theirs_in_all, theirs)] {
            all.right += names.right;
            all.guessed += names.guessed;
        }
    }
    if found.len() == PROGRAMS.len() {
        assert!(theirs_in_all.guessed > 0, "jeprof guesses no longer: {theirs_in_all:?}, by us {ours_in_all:?}");
    }
}
