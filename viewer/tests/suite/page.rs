//! `report`, looked at in a browser.

use std::fs::{self, File};
use std::process::Command;

use pprof_export::AllocatorStats;
use serde_json::json;

use crate::browser::{at, drive};
use crate::support::{Builder, Frame, Random, Scratch, heapsift, json_of, output_of, service};

const DETAIL: &str = "document.getElementById('detail').textContent";

fn series(scratch: &Scratch) -> Vec<String> {
    (0..6u32)
        .map(|number| {
            let mut builder = service(40);
            builder.profile.sample.clear();
            builder.profile.time_nanos += i64::from(number) * 60_000_000_000;
            let main = builder.location(0x40_1000, &[Frame("main", "src/main.c", 7)]);
            for (name, address, size, each) in [("remember", 0x40_3000, 1024, 20), ("insert", 0x40_4000, 4096, 0)] {
                let leaf = builder.location(address, &[Frame(name, "src/leak.c", 12)]);
                builder.born(&[leaf, main], size, 60, Some(1));
                for epoch in 1..=number {
                    if each > 0 {
                        builder.born(&[leaf, main], size, each, Some(i64::from(epoch) + 1));
                    }
                }
            }
            let numbers = [40, 56, 2, 64, 4, 6, 80].map(|mebibytes| mebibytes << 20);
            let [allocated, active, metadata, resident, tcache, dirty, rss] = numbers;
            builder.profile.allocator_stats = Some(AllocatorStats {
                allocated,
                active,
                metadata,
                resident,
                tcache,
                dirty,
                rss,
                ..AllocatorStats::default()
            });
            if number == 0 {
                let gone = builder.location(0x40_7000, &[Frame("vanish", "src/gone.c", 3)]);
                builder.born(&[gone, main], 2048, 30, Some(1));
            }
            scratch.file(&format!("heapsift.1.{number}.m{number}.heap.pb.gz"), &builder.gzip())
        })
        .collect()
}

#[test]
fn what_can_be_read_only_once_is_read_once() {
    let scratch = Scratch::new();
    let files = series(&scratch);
    let page = scratch.join("report.html");
    let made = |files: &[&str], input: &str| {
        let words = [&["report", "--title=t", "-o", &page], files].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_heapsift"));
        let output = command.args(&words).stdin(File::open(input).unwrap()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(&page).unwrap()
    };
    // Standard input as the oldest of two and of a series, in the middle of one, and as its newest.
    for (count, at) in [(2, 0), (3, 0), (3, 1), (3, 2)] {
        let named: Vec<&str> = files[..count].iter().map(String::as_str).collect();
        let mut with_input = named.clone();
        with_input[at] = "-";
        let (read, expected) = (made(&with_input, &files[at]), made(&named, &files[at]));
        // The newest one's name is shown.
        assert!(read == expected || at == count - 1, "{count}, {at}");
    }
}

#[test]
fn a_page_is_searched_zoomed_and_compared() {
    let scratch = Scratch::new();
    let files = series(&scratch);
    let page = scratch.join("report.html");
    let mut words = vec!["report", "-o", &page];
    words.extend(files.iter().map(String::as_str));
    output_of(&words);
    // The same bytes for the same files, in any order.
    let again = scratch.join("again.html");
    output_of(&["report", scratch.path().to_str().unwrap(), "-o", &again]);
    assert_eq!(fs::read(&page).unwrap(), fs::read(&again).unwrap());

    let rows = |view: &str| format!("document.querySelectorAll('#view-{view} tbody tr').length");
    let steps = json!([
        {"say": "load", "run": "document.documentElement.dataset.ready + data.title", "shot": "flame"},
        {"say": "search", "run": "(() => { const s = document.getElementById('search'); s.value = '^rem'; \
            s.dispatchEvent(new Event('input')); return document.getElementById('matched').textContent; })()", "shot": "search"},
        {"say": "zoom", "click": at("remember"), "run": DETAIL},
        {"say": "focus", "run": "flame.rects.find(r => data.names[r.tree.names[r.node]] === 'remember').w / flame.canvas.clientWidth"},
        {"say": "escape", "keys": ["Escape"], "run": "[flame.focus, flame.pattern, document.activeElement.id].join()"},
        {"say": "keyboard", "keys": ["ArrowDown", "ArrowDown", "ArrowRight"], "run": "flame.pointed = null, flame.tell(), document.getElementById('detail').textContent"},
        {"say": "reverse", "keys": ["r"], "run": "[...flame.trees[0].of(0)].map(n => data.names[flame.trees[0].names[n]]).sort().join()"},
        {"say": "sandwich", "keys": ["Escape", "ArrowDown", "ArrowDown", "s"], "run": "flame.trees.length + data.names[flame.trees[0].names[1]]"},
        {"say": "compare", "keys": ["Escape", "c"], "run": "flame.rects.map(r => data.names[r.tree.names[r.node]]).sort().join()", "shot": "compare"},
        {"say": "gone", "click": at("vanish"), "run": DETAIL},
        {"say": "table", "run": format!("show('table'), {}", rows("table")), "shot": "table"},
        {"say": "diff", "run": format!("show('diff'), {} + document.querySelector('#view-diff p').textContent", rows("diff")), "shot": "diff"},
        {"say": "sort", "run": "document.querySelectorAll('#view-diff th button')[0].click(), document.querySelector('#view-diff tbody td').textContent"},
        {"say": "trend", "run": "show('trend'), document.querySelectorAll('#view-trend svg').length + document.querySelector('#view-trend p').textContent", "shot": "trend"},
        {"say": "sizes", "run": "show('sizes'), document.querySelectorAll('#view-sizes rect').length", "shot": "sizes"},
        {"say": "memory", "run": "show('memory'), [document.querySelectorAll('#view-memory .part').length, document.querySelector('#view-memory .part:last-child').textContent]", "shot": "memory"},
        {"say": "about", "run": "show('about'), document.querySelector('#view-about pre').textContent.includes('0a0b0c0d')", "shot": "about"},
        {"say": "dark", "dark": true, "run": "show('flame'), flame.page.isDark()", "shot": "dark"},
        {"say": "phone", "size": [390, 780, true], "run": "document.documentElement.scrollWidth <= 390", "shot": "phone"},
        {"say": "phone's table", "run": "show('diff'), document.documentElement.scrollWidth <= 390", "shot": "phone-diff"},
    ]);
    let Some(got) = drive(&page, None, &steps) else { return };
    let of = |say: &str| {
        let place = steps.as_array().unwrap().iter().position(|step| step["say"] == say).unwrap();
        got[place].as_str().map_or_else(|| got[place].to_string(), str::to_owned)
    };
    assert_eq!(of("load"), "1service: inuse_space");
    // 160 of 220 samples.
    assert!(of("search").ends_with("in 1 frames") && of("search").contains("80.08MB, 72.7%"), "{}", of("search"));
    assert!(
        of("zoom").starts_with("remember80.08MB, 72.7% 95%: ") && of("zoom").ends_with("160 samples"),
        "{}",
        of("zoom")
    );
    assert_eq!(of("focus"), "1");
    assert_eq!(of("escape"), "0,,flame");
    assert!(of("keyboard").starts_with("insert30.12MB"), "{}", of("keyboard"));
    assert_eq!(of("reverse"), "insert,remember,vanish");
    assert_eq!(of("sandwich"), "2main");
    assert_eq!(of("compare"), "all,insert,main,remember,vanish");
    assert!(of("gone").contains("15.03MB to 0, -15.03MB"), "{}", of("gone"));
    assert_eq!(of("table"), "3");
    assert!(of("diff").starts_with("2Compared by survivors"), "{}", of("diff"));
    assert_eq!(of("sort"), "+50.05MB");
    assert!(
        of("trend").starts_with("46 dumps over 5.0min; sites that grow steadily and keep what they were given: 1"),
        "{}",
        of("trend")
    );
    assert_eq!(of("sizes"), "9", "three powers of two, and six ages");
    // In use, caches, free in slabs, dirty, metadata, the rest; and the sum.
    assert_eq!(of("memory"), "[7,\"resident80MB\"]");
    for check in ["about", "dark", "phone", "phone's table"] {
        assert_eq!(of(check), "true", "{check}");
    }
}

#[test]
fn intervals_of_frames_are_those_of_the_tables() {
    let scratch = Scratch::new();
    let mut builder = Builder::new();
    builder.mapping("/opt/app/service", 0x40_0000, "0a0b0c0d");
    let main = builder.location(0x40_1000, &[Frame("main", "src/main.c", 7)]);
    let leaf = builder.location(0x40_2000, &[Frame("few", "src/few.c", 7)]);
    for (size, samples) in [(64, 1), (1024, 3), (8 << 20, 2)] {
        builder.sampled(&[leaf, main], size, samples);
    }
    // The other way round, as one profile less another is.
    let shrunk = builder.location(0x40_3000, &[Frame("shrunk", "src/few.c", 9)]);
    builder.sampled(&[shrunk, main], 4096, 2);
    let last = builder.profile.sample.last_mut().unwrap();
    last.value.iter_mut().for_each(|value| *value = -*value);
    let file = scratch.file("few.pb.gz", &builder.gzip());
    let page = scratch.join("report.html");
    let of_frame = "(name => { const t = flame.trees[0], n = t.names.findIndex(at => data.names[at] === name); \
         return interval(t.now[n], t.error[n], t.skew[n], t.weight[n]); })";
    for kind in ["inuse_space", "inuse_objects"] {
        output_of(&["report", "--sample-index", kind, "-o", &page, &file]);
        let table = json_of(&["top", "--json", "--sample-index", kind, &file]);
        let steps = ["few", "shrunk"].map(|name| json!({"run": format!("{of_frame}('{name}')")}));
        let Some(got) = drive(&page, None, &json!(steps)) else { return };
        for (name, ends) in ["few", "shrunk"].iter().zip(&got) {
            let row = table["rows"].as_array().unwrap().iter().find(|row| row["name"] == *name).unwrap();
            let (low, high) = (row["flat"]["low"].as_f64().unwrap(), row["flat"]["high"].as_f64().unwrap());
            for (end, told) in [low, high].into_iter().zip(ends.as_array().unwrap()) {
                let told = told.as_f64().unwrap();
                assert!((told - end).abs() < 0.02 * (high - low), "{kind} {name}: {ends}, {low}..{high}");
            }
        }
    }
}

#[test]
fn hostile_names_stay_text() {
    let scratch = Scratch::new();
    let mut builder = Builder::new();
    let names = [
        "</script><script>document.title='owned'</script>",
        "<img src=x onerror=\"document.title='owned'\">",
        "@NONCE@ @SCRIPT@ @DATA@ <!--<script>",
        "\u{202e}\u{2028}\0'\"`${document.title='owned'}",
        "javascript:document.title='owned'",
        "__proto__",
    ];
    let stack: Vec<u64> = names
        .iter()
        .zip(0x40_0000u64..)
        .map(|(name, address)| builder.location(address, &[Frame(name, "<b>x</b>/</title>\".c", 1)]))
        .collect();
    builder.mapping("/opt/<script>alert(1)</script>", 0x40_0000, "<b>");
    builder.sampled(&stack, 4096, 50);
    let file = scratch.file("</title><script>x.pb.gz".replace('/', "_").as_str(), &builder.gzip());
    let page = scratch.join("report.html");
    output_of(&[
        "report",
        "--diff-base",
        &file,
        "--title",
        "<script>document.title='owned'</script>",
        &file,
        "-o",
        &page,
    ]);
    let text = fs::read_to_string(&page).unwrap();
    // The data and the page's own script.
    assert_eq!(text.matches("<script").count(), 2);
    assert!(!text.contains("onerror=\"") && !text.contains('\u{202e}') && !text.contains('\0'));
    let steps = json!([
        {"say": "title", "run": "document.title"},
        {"say": "names", "run": "data.names.join('|')"},
        {"say": "everywhere", "run": "views.forEach(([id]) => show(id)), document.querySelectorAll('img, b b, script:not([nonce]):not([type])').length"},
        {"say": "shown", "run": "show('table'), document.querySelector('#view-table').textContent.includes(\"</script><script>document.title\")"},
        {"say": "title again", "run": "document.title", "shot": "hostile"},
    ]);
    let Some(got) = drive(&page, None, &steps) else { return };
    assert_eq!(got[0], "<script>document.title='owned'</script>");
    assert!(got[1].as_str().unwrap().contains("<img src=x onerror="), "{}", got[1]);
    assert_eq!((&got[2], &got[3], &got[4]), (&json!(0), &json!(true), &got[0]));
}

#[test]
fn very_many_stacks_are_a_page() {
    let scratch = Scratch::new();
    let mut builder = Builder::new();
    builder.mapping("/opt/app/service", 0x40_0000, "0a0b0c0d");
    let mut random = Random::new(1);
    let names: Vec<u64> = (0..3000u64)
        .map(|number| {
            let name = format!("service::module_{}::function_{number}", number % 40);
            builder.location(0x40_0000 + number * 16, &[Frame(&name, "src/service.rs", number as i64)])
        })
        .collect();
    // Stacks of one call graph: each function calls a few others.
    for _ in 0..100_000 {
        let mut at = 0u64;
        let mut stack: Vec<u64> = (0..12)
            .map(|_| {
                at = (at * 7 + 1 + random.below(5)) % 3000;
                names[at as usize]
            })
            .collect();
        stack.reverse();
        builder.sampled(&stack, 64 << random.below(12), 1 + random.below(3) as u32);
    }
    let file = scratch.file("large.pb.gz", &builder.gzip());
    let page = scratch.join("report.html");
    output_of(&["report", &file, "-o", &page]);
    println!("{} bytes", fs::metadata(&page).unwrap().len());
    let steps = json!([
        {"say": "load", "run": "[document.documentElement.dataset.ready, flame.trees[0].count, \
            Math.round(performance.getEntriesByType('navigation')[0].domComplete)]", "shot": "large"},
        {"say": "reverse", "keys": ["r"], "run": "flame.trees[0].count"},
    ]);
    let Some(got) = drive(&page, None, &steps) else { return };
    assert_eq!(got[0][0], "1");
    println!("{} frames, loaded after {} ms", got[0][1], got[0][2]);
    assert!(got[0][1].as_u64().unwrap() > 100_000 && got[1].as_u64().unwrap() > 100_000, "{got:?}");
}

#[test]
fn what_cannot_be_a_page_is_refused() {
    let scratch = Scratch::new();
    let out = scratch.join("report.html");
    let output = heapsift(&["report", "/nowhere.pb.gz", "-o", &out]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!fs::exists(&out).unwrap());
}
