//! The kinds of profiles beside the plain one: each against a program whose truth is known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, final_dump, only};
use heapsift_tests::statistics::chance;
use heapsift_tests::{Dump, Program, by_length, tools};
use pprof_export::writer::{DROP_FRAMES, DROP_FREES};
use serde_json::Value;

fn truth(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("a fixture prints JSON")
}

fn number(truth: &Value, name: &str) -> f64 {
    truth[name].as_f64().unwrap_or_else(|| panic!("{name} is not in {truth}"))
}

/// The column of that name.
fn column(dump: &Dump, name: &str) -> usize {
    let kinds = &dump.profile.sample_type;
    kinds.iter().position(|kind| dump.text(kind.r#type) == name).unwrap_or_else(|| panic!("no column {name}"))
}

/// The files in a directory whose names end so.
fn ending(directory: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("readable").map(|entry| entry.expect("readable").path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    found.sort();
    found
}

/// Sum of a column over the rows with a function of that name, and its standard error, from the rows themselves.
fn of_function(dump: &Dump, objects: usize, space: usize, name: &str) -> (f64, f64) {
    let (mut sum, mut variance) = (0.0, 0.0);
    for row in &dump.profile.sample {
        if !dump.names(row).any(|frame| frame == name) || row.value[objects] == 0 {
            continue;
        }
        let size = dump.number(row, "bytes").expect("every row of ours has its size") as f64;
        let p = chance(size, dump.number(row, "period").unwrap_or(dump.profile.period) as f64);
        let each = row.value[space] as f64 / row.value[objects] as f64;
        sum += row.value[space] as f64;
        variance += row.value[objects] as f64 * each * each * (1.0 - p) / p;
    }
    (sum, variance.sqrt())
}

/// Runs a program that prints its truth, and has it dump a kind at its end: the truth, and the dump with names.
#[track_caller]
fn dumped(program: &Path, kind: &str, conf: &str) -> (Value, Dump) {
    let scratch = Scratch::new(kind);
    let ended = tools::dumping_at_exit(Program::new(program), &format!("prof.{kind}_dump"))
        .under(format!("prof:true,{conf},prof_prefix:{}/dump", scratch.path().display()))
        .run()
        .expect_success();
    let files = ending(scratch.path(), &format!(".m0.{kind}.pb.gz"));
    assert_eq!(files.len(), 1, "{}", ended.complaints());
    (truth(&ended.stdout), Dump::symbolized(&files[0], &scratch.join("named.pb.gz")))
}

#[test]
fn the_peak_is_what_was_live_at_the_summit() {
    let program = tools::compile("c/summit.c", &[]);
    for (seed, rounds) in (1..=by_length(3, 20)).zip([1, 3, 4].into_iter().cycle()) {
        let scratch = Scratch::new("peak");
        let ended = Program::new(&program)
            .args(["500", &rounds.to_string()])
            .under(final_dump(scratch.path(), &format!("prof_peak:true,prof_seed:{seed}")))
            .run()
            .expect_success();
        let truth = truth(&ended.stdout);
        let summit = number(&truth, "summit");

        // At the end nothing lives but what the C library keeps.
        let last = Dump::read(&only(scratch.path(), 'f'));
        assert!(last.total(Column::InuseSpace) < 4 << 20);
        let stats = last.profile.allocator_stats.as_ref().expect("every dump of ours has them");
        assert!((0.98..1.001).contains(&(stats.allocated_max as f64 / summit)), "{stats:?}, {truth}");

        let peak = Dump::symbolized(&only(scratch.path(), 'p'), &scratch.join("peak.pb.gz"));
        let stats = peak.profile.allocator_stats.as_ref().expect("every dump of ours has them");
        let exact = stats.allocated as f64;
        assert!((0.98..1.001).contains(&(exact / summit)), "{exact} at the peak, {truth}");
        // The large blocks are touched in their first page only.
        assert!(stats.active as f64 >= exact && stats.rss as f64 > exact * 0.35, "{stats:?}");
        let (mut sum, mut variance) = (0.0, 0.0);
        for site in ["summit_small", "summit_large"] {
            let (estimate, error) = of_function(&peak, 2, 3, site);
            let wanted = number(&truth, site) * exact / summit;
            // What of both was live at the snapshot is known but for the hysteresis.
            let distance = (estimate - wanted).abs() - 0.02 * wanted;
            assert!(distance < 4.0 * error, "{site}: {estimate} ± {error}, truly {wanted}");
            sum += estimate;
            variance += error * error;
        }
        assert!((sum - exact).abs() < 3.0 * variance.sqrt() + 0.02 * exact, "{sum} of {exact}");
        // What had been allocated until then: in the first climb, no more than lived.
        let allocated = peak.total(Column::AllocSpace) as f64;
        assert!((allocated - exact).abs() < 4.5 * variance.sqrt() + 0.02 * exact, "{allocated} allocated until then");
        let later = last.total(Column::AllocSpace) as f64;
        assert!(rounds == 1 || later > 1.5 * allocated, "{later} allocated in all, {allocated} until the peak");
    }
}

/// What a thread frees is known by its samples; what those hold that allocated it may not be.
#[test]
fn a_peak_is_found_whoever_is_followed() {
    let program = tools::compile("c/one_way.c", &["-pthread"]);
    for (what, conf) in [
        ("sampled", "prof_peak:true,prof_thread_active_init:false"),
        ("late", ""),
        ("paused", "prof_peak:true"),
        ("reset", "prof_peak:true"),
    ] {
        let scratch = Scratch::new("one-way");
        let conf = format!("prof_sample:64KiB,{conf}");
        let ended = Program::new(&program)
            .args([what, "256"])
            .under(final_dump(scratch.path(), conf.trim_end_matches(',')))
            .run()
            .expect_success();
        let summit = number(&truth(&ended.stdout), "summit");
        let peak = Dump::read(&only(scratch.path(), 'p'));
        let stats = peak.profile.allocator_stats.as_ref().expect("every dump of ours has them");
        // A little more is in use than the blocks of the summit.
        let ratio = stats.allocated as f64 / summit;
        assert!((0.98..1.01).contains(&ratio), "{what}: {} at the peak, {summit} at the summit", stats.allocated);
    }
}

/// However many threads there are that may have something to tell.
#[test]
fn a_peak_is_found_among_many_threads() {
    let program = tools::compile("c/crowd.c", &[]);
    let scratch = Scratch::new("crowd");
    let conf = final_dump(scratch.path(), "prof_peak:true");
    let ended = Program::new(&program).args(["500", "256"]).under(conf).run().expect_success();
    let summit = number(&truth(&ended.stdout), "summit");
    let peak = Dump::read(&only(scratch.path(), 'p'));
    let stats = peak.profile.allocator_stats.as_ref().expect("every dump of ours has them");
    let ratio = stats.allocated as f64 / summit;
    assert!((0.95..1.01).contains(&ratio), "{} at the peak, {summit} at the summit", stats.allocated);
}

#[test]
fn there_is_no_peak_unless_it_is_watched_for() {
    let scratch = Scratch::new("no-peak");
    let program = tools::compile("c/summit.c", &[]);
    Program::new(&program).args(["20", "1"]).under(final_dump(scratch.path(), "")).run().expect_success();
    assert_eq!(ending(scratch.path(), ".heap.pb.gz").len(), 1);
}

#[test]
fn waste_is_blamed_on_those_who_ask_for_odd_sizes() {
    let program = tools::compile("c/waste.c", &[]);
    let (truth, dump) = dumped(&program, "waste", "prof_seed:3");
    let (objects, space) = (column(&dump, "waste_objects"), column(&dump, "waste_space"));
    assert_eq!(dump.text(dump.profile.default_sample_type), "waste_space");
    for site in ["waste_small", "waste_page", "waste_grown"] {
        let (estimate, error) = of_function(&dump, objects, space, site);
        let wanted = number(&truth, site);
        assert!(wanted > 0.0 && error > 0.0);
        assert!((estimate - wanted).abs() < 4.0 * error, "{site}: {estimate} ± {error}, truly {wanted}");
    }
    assert_eq!(number(&truth, "waste_none"), 0.0);
    assert_eq!(of_function(&dump, objects, space, "waste_none"), (0.0, 0.0));
}

#[test]
fn lifetimes_are_told_by_stack_and_age() {
    let program = tools::compile("c/lifetimes.c", &["-pthread"]);
    let (truth, dump) = dumped(&program, "lifetime", "prof_sample:8KiB,prof_seed:3");
    let (objects, space) = (column(&dump, "objects"), column(&dump, "space"));
    let label = |row: &pprof_export::schema::Sample, key: &str| {
        let found = row.label.iter().find(|label| dump.text(label.key) == key);
        found.map(|label| dump.text(label.str).to_owned()).unwrap_or_else(|| panic!("no label {key}"))
    };
    for site in ["life_brief", "life_later", "life_kept"] {
        let (estimate, error) = of_function(&dump, objects, space, site);
        let wanted = number(&truth, site);
        assert!((estimate - wanted).abs() <= 4.0 * error, "{site}: {estimate} ± {error}, truly {wanted}");
    }
    let (mut brief, mut all_brief) = (0, 0);
    for row in &dump.profile.sample {
        let age = label(row, "lifetime");
        if dump.names(row).any(|name| name == "life_later") {
            // The block waited for the whole sleep, and the machine may be slow.
            assert!(["100ms-1s", "1s-10s", "10s-1min"].contains(&age.as_str()), "{age}");
            assert_eq!(label(row, "freed_by"), "other thread");
        } else if dump.names(row).any(|name| name == "life_brief") {
            assert_eq!(label(row, "freed_by"), "same thread");
            all_brief += row.value[objects];
            brief += if ["<10us", "10us-100us"].contains(&age.as_str()) { row.value[objects] } else { 0 };
        }
    }
    assert!(brief * 2 > all_brief, "{brief} of {all_brief}");
}

/// Blocks by the functions that allocated and freed them, and the thread that did the latter; "" is nobody that is known.
fn by_frees(dump: &Dump) -> BTreeMap<(String, String, String), i64> {
    let objects = column(dump, "objects");
    let mut sums = BTreeMap::new();
    for row in &dump.profile.sample {
        let names: Vec<&str> = dump.names(row).collect();
        let (freed, born) = match names.iter().position(|name| *name == "[freed by]") {
            Some(at) => (&names[..at], &names[at + 1..]),
            None => (&names[..0], &names[..]),
        };
        let first =
            |names: &[&str], start| names.iter().find(|name| name.starts_with(start)).unwrap_or(&"").to_string();
        let of_label =
            |key| row.label.iter().find(|label| dump.text(label.key) == key).map(|label| dump.text(label.str));
        let thread = of_label("freed_thread").filter(|name| *name == "dropper").unwrap_or_default().to_owned();
        assert_eq!(of_label("freed_thread").is_some(), !freed.is_empty());
        let of_thread = of_label("freed_by");
        let born = first(born, "get_");
        if !born.is_empty() {
            assert!(freed.is_empty() || (of_thread == Some("other thread")) == (thread == "dropper"), "{names:?}");
            *sums.entry((born, first(freed, "drop_"), thread)).or_default() += row.value[objects];
        }
    }
    sums
}

#[test]
fn lifetimes_are_told_by_the_stack_that_frees() {
    let program = tools::compile("c/freed_by.c", &["-pthread"]);
    let wanted = |list: &[(&str, &str, &str, i64)]| {
        let rows = list.iter().map(|row| ((row.0.to_owned(), row.1.to_owned(), row.2.to_owned()), row.3));
        rows.collect::<BTreeMap<_, _>>()
    };
    let all = [
        ("get_here", "drop_here", "", 100),
        ("get_here", "drop_there", "dropper", 200),
        ("get_there", "drop_here", "", 300),
        ("get_there", "drop_there", "dropper", 400),
    ];
    let mut child = all;
    child[0].3 += 1;
    let scratch = Scratch::new("frees");
    let named = scratch.join("named.pb.gz");
    let run = |more: &str| {
        Program::new(&program)
            .arg(scratch.path())
            .under(format!("prof:true,prof_sample:1{more}"))
            .run()
            .expect_success();
    };
    run(",prof_lifetime_frees:true");
    for (name, list) in [("all", &all[..]), ("child", &child), ("reset", &[("get_there", "drop_there", "dropper", 1)])]
    {
        let dump = Dump::symbolized(&scratch.join(name), &named);
        assert_eq!(by_frees(&dump), wanted(list), "{name}");
        // Wrappers of malloc would be cut with all that follows them.
        assert_eq!(dump.text(dump.profile.drop_frames), DROP_FREES);
    }
    if let Some(go) = tools::need("go") {
        Dump::symbolized(&scratch.join("all"), &named);
        let words = ["tool", "pprof", "-symbolize=none", "-traces", "-sample_index=objects"];
        let told = Program::new(go).args(words).arg(&named).run().expect_success().text();
        let mut sums = BTreeMap::new();
        for trace in told.split("-----------+") {
            let mut lines =
                trace.lines().map(str::trim).filter(|line| line.contains("drop_") || line.starts_with("get_"));
            let (Some(freed), Some(born)) = (lines.next(), lines.next()) else { continue };
            let (count, freed) = freed.split_once(' ').expect("a number and a name");
            let thread = if trace.contains("dropper") { "dropper" } else { "" };
            let key = (born.to_owned(), freed.trim().to_owned(), thread.to_owned());
            *sums.entry(key).or_default() += count.parse::<i64>().expect("a number");
        }
        assert_eq!(sums, wanted(&all), "{told}");
    }
    // The same sums without.
    run("");
    let dump = Dump::symbolized(&scratch.join("all"), &named);
    assert_eq!(by_frees(&dump), wanted(&[("get_here", "", "", 300), ("get_there", "", "", 700)]));
    assert_eq!(dump.text(dump.profile.drop_frames), DROP_FRAMES);
}

#[test]
fn frees_for_which_there_is_no_room_are_counted_without_their_stack() {
    let program = tools::compile("c/freed_by.c", &["-pthread"]);
    let scratch = Scratch::new("many-frees");
    let conf = "prof:true,prof_sample:1,prof_lifetime_frees:true";
    Program::new(&program).arg(scratch.path()).arg("many").under(conf).run().expect_success();
    let dump = Dump::symbolized(&scratch.join("many"), &scratch.join("named.pb.gz"));
    let sums = by_frees(&dump);
    let of = |freed: &str| sums[&("get_deep".to_owned(), freed.to_owned(), String::new())];
    let (known, unknown) = (of("drop_deep"), of(""));
    assert_eq!((sums.len(), known + unknown), (2, 64 * 64 * 33));
    assert!(known > 1 << 16 && known < 1 << 17, "{known} of {unknown} more");
    let comments: Vec<&str> = dump.profile.comment.iter().map(|&text| dump.text(text)).collect();
    let told = format!("samples with a freeing stack for which there was no room: {unknown}");
    assert!(comments.contains(&told.as_str()), "{comments:?}, not {told}");
}

#[test]
fn lives_from_before_a_reset_are_forgotten() {
    let program = tools::compile("c/forgotten.c", &["-pthread"]);
    let scratch = Scratch::new("forgotten");
    let path = scratch.join("lives.pb.gz");
    for more in ["", ",prof_lifetime_frees:true"] {
        Program::new(&program).arg(&path).under(format!("prof:true,prof_sample:1{more}")).run().expect_success();
        let dump = Dump::read(&path);
        let objects = column(&dump, "objects");
        let counted: i64 = dump.profile.sample.iter().map(|row| row.value[objects]).sum();
        // The one that is just being freed.
        assert!(counted <= 1, "{counted} blocks{more}");
    }
}

#[test]
fn slack_is_blamed_on_those_who_hold_half_empty_slabs() {
    let program = tools::compile("c/slack.c", &[]);
    for seed in 1..=by_length(3, 20) {
        let (truth, dump) = dumped(&program, "slack", &format!("prof_sample:32KiB,prof_seed:{seed}"));
        let (objects, space) = (column(&dump, "slack_objects"), column(&dump, "slack_space"));
        for site in ["slack_sparse", "slack_dense"] {
            let (estimate, error) = of_function(&dump, objects, space, site);
            let wanted = number(&truth, site);
            // The last slab of each may be all but empty, without a sample.
            assert!((estimate - wanted).abs() < 4.0 * error + 32768.0, "{site}: {estimate} ± {error}, truly {wanted}");
        }
        assert!(number(&truth, "slack_sparse") > 50.0 * number(&truth, "slack_dense"));
        // All of it together is exact.
        let stats = dump.profile.allocator_stats.as_ref().expect("every dump of ours has them");
        let classes = stats.classes.iter().filter(|class| class.size > 0);
        let exact: u64 = classes.map(|class| class.active.saturating_sub(class.bytes + class.tcache)).sum();
        let sum: i64 = dump.profile.sample.iter().map(|row| row.value[space]).sum();
        assert!((sum as f64 / exact as f64 - 1.0).abs() < 0.01, "{sum} of {exact}");
    }
}

#[test]
fn blocks_have_the_labels_of_their_threads() {
    let program = tools::compile("c/labels.c", &["-pthread"]);
    let scratch = Scratch::new("labels");
    let ended =
        Program::new(&program).under(final_dump(scratch.path(), "prof_sample:8KiB,prof_seed:4")).run().expect_success();
    let truth = truth(&ended.stdout);
    let file = only(scratch.path(), 'f');
    let dump = Dump::symbolized(&file, &scratch.join("named.pb.gz"));
    let label = |row: &pprof_export::schema::Sample, key: &str| {
        row.label.iter().find(|label| dump.text(label.key) == key).map(|label| dump.text(label.str).to_owned())
    };
    let sum_of = |wanted: &dyn Fn(&pprof_export::schema::Sample) -> bool| {
        dump.sum(Column::InuseSpace, |row| dump.names(row).any(|name| name == "labelled") && wanted(row)) as f64
    };
    for (name, found) in [
        ("red", sum_of(&|row| label(row, "tenant").as_deref() == Some("red"))),
        ("blue", sum_of(&|row| label(row, "tenant").as_deref() == Some("blue"))),
        ("late", sum_of(&|row| label(row, "stage").as_deref() == Some("late"))),
        ("none", sum_of(&|row| label(row, "tenant").is_none() && label(row, "stage").is_none())),
    ] {
        let wanted = number(&truth, name);
        let error = (wanted * 8192.0).sqrt();
        assert!((found - wanted).abs() < 4.0 * error, "{name}: {found} ± {error}, truly {wanted}");
    }
    // The file of a just-in-time compiler is noted.
    let map = format!("/tmp/perf-{}.map", ended.pid);
    let noted = Dump::read(&file);
    let comments: Vec<&str> = noted.profile.comment.iter().map(|&text| noted.text(text)).collect();
    assert!(comments.contains(&format!("perf map: {map}").as_str()), "{comments:?}");
    std::fs::remove_file(map).expect("the program made it");
}

#[test]
fn what_is_left_at_exit_is_told_and_may_be_the_exit_status() {
    let program = tools::compile("c/sites.c", &[]);
    for (more, status) in [
        ("prof_leak:true", 0),
        ("prof_leak:true,prof_leak_error:true", 1),
        ("prof_leak_error:true", 1),
        ("prof:true,prof_leak_error:true", 1),
    ] {
        let scratch = Scratch::new("leak");
        // `prof_leak_error` switches `prof_leak` on, which switches `prof` on.
        let conf = format!("{more},prof_final:true,prof_sample:64KiB,prof_prefix:{}/dump", scratch.path().display());
        let ended = Program::new(&program).under(conf).run();
        assert_eq!(ended.status, status, "{more}: {}", ended.complaints());
        let told = ended.complaints();
        assert!(told.contains("<heapsift>: Leak approximation summary: ~") && told.contains(" contexts\n"), "{told}");
        let exits = "<heapsift>: Exiting with error code because memory leaks were detected\n";
        assert_eq!(told.contains(exits), status == 1, "{told}");
        // Whatever the status: what the program printed is all there, and so is its dump.
        assert!(truth(&ended.stdout)["sites"].is_array());
        let bytes: f64 =
            told.split('~').nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a number");
        let dump = Dump::read(&only(scratch.path(), 'f'));
        assert!((bytes / dump.total(Column::InuseSpace) as f64 - 1.0).abs() < 0.001, "{told}");
    }
}

#[test]
fn a_log_that_cannot_be_written_is_no_profile() {
    let program = tools::compile("c/sites.c", &[]);
    let ended = Program::new(&program).under("prof:true,prof_log:true,prof_prefix:/no-such-directory/a").run();
    let told = ended.expect_success().complaints();
    assert!(told.contains("cannot write log of samples /no-such-directory/a: ") && !told.contains("profile"), "{told}");
}

#[test]
fn what_was_not_sampled_is_not_blamed_on_what_was() {
    let program = tools::compile("c/late.c", &[]);
    let sum = |dump: &Dump, kind: &str, root: &str, name: &str| -> f64 {
        let column = column(dump, kind);
        let holds = |row: &&_| [root, name].iter().all(|wanted| dump.names(row).any(|frame| frame == *wanted));
        dump.profile.sample.iter().filter(holds).map(|row| row.value[column] as f64).sum()
    };
    let conf = "prof_active:false,prof_sample:4KiB,prof_seed:5";
    let (truth, rss) = dumped(&program, "rss", conf);
    let (early, late) = (number(&truth, "early"), number(&truth, "late"));
    // 500 samples.
    let told = sum(&rss, "rss_space", "[in use]", "keep_late");
    assert!((told / late - 1.0).abs() < 0.25, "{told} in use, {truth}");
    let rest = sum(&rss, "rss_space", "[in use]", "[no sample]");
    assert!((rest / early - 1.0).abs() < 0.1, "{rest} in use of which no sample tells, {truth}");

    let (_, slack) = dumped(&program, "slack", conf);
    let keeps = |name| sum(&slack, "slack_space", name, name);
    let (told, rest) = (keeps("keep_late"), keeps("[slabs without a sample]"));
    // Holes that nobody has filled, between the blocks that weren't sampled.
    assert!(rest > 1.5 * early && told < 0.1 * rest, "{told} of slack kept, {rest} by others, {truth}");
}
