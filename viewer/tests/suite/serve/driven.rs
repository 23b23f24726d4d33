//! The page, driven in a browser.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;

use super::{Served, two_dumps};
use crate::browser::{at, drive, picture};
use crate::support::{Builder, Frame, Scratch};

#[test]
fn the_page_is_driven_in_a_browser() {
    let scratch = Scratch::new();
    let directory = scratch.join("dumps");
    fs::create_dir(&directory).unwrap();
    let dumps = Scratch::new();
    let files = two_dumps(&dumps);
    for file in &files {
        fs::copy(file, std::path::Path::new(&directory).join(std::path::Path::new(file).file_name().unwrap())).unwrap();
    }
    scratch.file("dumps/broken.heap.pb.gz", b"this is no dump");
    fs::create_dir(scratch.join("src")).unwrap();
    scratch.file("src/main.c", (1..=40).map(|line| format!("\tline({line}); // <i>\n")).collect::<String>().as_bytes());
    let served = Served::new(&[&directory, "--source-path", scratch.path().to_str().unwrap()]);
    // A dump that is written while the page is open: once there is a picture of an earlier step.
    let picture = picture("served-source");
    let _ = fs::remove_file(&picture);
    let later = scratch.file("later", &fs::read(&files[1]).unwrap());
    let target = format!("{directory}/heapsift.1.2.m2.heap.pb.gz");
    let is_over = AtomicBool::new(false);
    let id = |name: &str| format!("list.entries.find(each => each.name.includes('{name}'))");
    let shows = |what: &str| format!("document.querySelector('#view-{what}').textContent");
    let steps = json!([
        {"say": "load", "until": "document.documentElement.dataset.ready && data.rows", "run": "[data.title, location.search, document.cookie, $('state').textContent]", "shot": "served"},
        {"say": "search", "run": "(() => { const s = $('search'); s.value = '^rem'; s.dispatchEvent(new Event('input')); return $('matched').textContent; })()"},
        {"say": "zoom", "click": at("remember"), "run": "flame.focus > 0 && document.querySelector('#detail button').textContent"},
        {"say": "list", "until": format!("show('dumps'), {}?.reason", id("broken")), "run": shows("dumps"), "shot": "served-list"},
        {"say": "base", "until": format!("choose({{ new: {}.id, base: {}.id }})", id(".1.m1"), id(".0.m0")), "run": format!("show('diff'), {}", shows("diff")), "shot": "served-diff"},
        {"say": "zoom stays", "run": "data.names[flame.trees[0].names[flame.focus]]"},
        {"say": "both sides", "run": "show('flame'), $('mode').click(), [flame.compares, location.search, data.names[flame.trees[0].names[flame.focus]]]", "shot": "served-compare"},
        {"say": "select", "run": "$('pick-type').value = 'alloc_space', $('pick-type').dispatchEvent(new Event('change'))"},
        {"say": "selected", "until": "data.kind === 'alloc_space'", "run": "[data.kind, location.search]"},
        {"say": "go back", "run": "history.back()"},
        {"say": "back", "until": "data.kind === 'inuse_space'", "run": "[data.kind, data.diff !== null]"},
        {"say": "source", "until": format!("openSource({{ function: 'remember' }}).then(() => {}.includes('line(5)'))", shows("source")), "run": "[document.querySelectorAll('#view-source .line').length, document.querySelectorAll('#view-source i').length]", "shot": "served-source"},
        {"say": "open file", "run": "document.querySelector('#view-source .source button').click()"},
        {"say": "file", "until": format!("{}.includes('insert')", shows("source")), "run": "document.querySelectorAll('#view-source h2').length"},
        {"say": "new dump", "until": id(".2.m2"), "run": "list.entries.length"},
        {"say": "live", "until": format!("live.on || follow(true), picked.new === {}.id", id(".2.m2")), "run": "$('live').getAttribute('aria-pressed')"},
        {"say": "trend", "until": format!("show('trend'), {}.includes('3 dumps')", shows("trend")), "run": "document.querySelectorAll('#view-trend svg').length", "shot": "served-trend"},
        // Noted at once: following the process says something else in its turn.
        {"say": "failure", "until": format!("choose({{ new: {}.id }}).then(done => (window.told = $('state').textContent, !done && told !== ''))", id("broken")), "run": "told"},
        {"say": "dark", "dark": true, "run": "show('source'), flame.page.isDark()", "shot": "served-dark"},
        {"say": "phone", "size": [390, 780, true], "run": "views.map(([id]) => (show(id), document.documentElement.scrollWidth <= 390))", "shot": "served-phone-about"},
        {"say": "phone's list", "run": "show('dumps'), document.documentElement.scrollWidth <= 390", "shot": "served-phone-list"},
        {"say": "phone's graph", "run": "show('flame'), document.documentElement.scrollWidth <= 390", "shot": "served-phone"},
        {"say": "phone's source", "run": "show('source'), document.documentElement.scrollWidth <= 390", "shot": "served-phone-source"},
    ]);
    let own = format!("http://{}", served.address);
    let got = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !picture.exists() && !is_over.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
            fs::rename(later, target).unwrap();
        });
        let got = drive(&format!("{own}/?token={}", served.token), Some(&own), &steps);
        is_over.store(true, Relaxed);
        got
    });
    let Some(got) = got else { return };
    let of = |say: &str| &got[steps.as_array().unwrap().iter().position(|step| step["say"] == say).unwrap()];
    let text = |say: &str| of(say).as_str().map_or_else(|| of(say).to_string(), str::to_owned);
    // The token is neither in the address nor where a script can read it.
    let loaded = of("load");
    assert_eq!((&loaded[0], &loaded[2], &loaded[3]), (&json!("service: inuse_space"), &json!(""), &json!("")));
    assert!(loaded[1].as_str().unwrap().starts_with("?new=") && !text("load").contains("token"), "{loaded}");
    assert!(text("search").contains("in 1 frames"), "{}", text("search"));
    assert_eq!(of("zoom"), "Source");
    assert!(text("list").contains("broken.heap.pb.gz") && text("list").contains("not a profile"), "{}", text("list"));
    assert!(text("base").contains("Compared by survivors") && text("base").contains("remember"), "{}", text("base"));
    assert!(
        of("both sides")[0] == true
            && of("both sides")[1].as_str().unwrap().contains("base=")
            && of("both sides")[2] == "remember",
        "{}",
        text("both sides")
    );
    assert_eq!(of("zoom stays"), "remember");
    assert!(of("selected")[0] == "alloc_space" && of("selected")[1].as_str().unwrap().contains("type=alloc_space"));
    assert_eq!(*of("back"), json!(["inuse_space", true]));
    assert_eq!(*of("source"), json!([11, 0]));
    assert_eq!(*of("file"), json!(3));
    assert_eq!((of("new dump"), of("live")), (&json!(4), &json!("true")));
    assert_eq!(*of("trend"), json!(3));
    assert!(text("failure").contains("broken.heap.pb.gz: not a profile"), "{}", text("failure"));
    assert!(of("phone").as_array().unwrap().iter().all(|fits| fits == true), "{}", text("phone"));
    for check in ["dark", "phone's list", "phone's graph", "phone's source"] {
        assert_eq!(*of(check), json!(true), "{check}");
    }
}

#[test]
fn hostile_names_stay_text() {
    let scratch = Scratch::new();
    let mut builder = Builder::new();
    let names = [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\u{202e}\u{2028}'\"`${alert(1)}",
        "javascript:alert(1)",
        "&function=main#x%00",
    ];
    let stack: Vec<u64> = names
        .iter()
        .zip(0x40_0000u64..)
        .map(|(name, address)| builder.location(address, &[Frame(name, "src/<img src=x onerror=alert(1)>.c", 1)]))
        .collect();
    builder.mapping("/opt/<script>alert(1)</script>", 0x40_0000, "<b>");
    builder.sampled(&stack, 4096, 50);
    let dumps = scratch.join("<img src=x onerror=alert(2)>");
    fs::create_dir(&dumps).unwrap();
    let hostile = |name: &str, bytes: &[u8]| fs::write(std::path::Path::new(&dumps).join(name), bytes).unwrap();
    hostile("<script>alert(3)<script>\u{202e}.pb.gz", &builder.gzip());
    hostile("<img src=x onerror=alert(4)>.pb.gz", b"<img src=x onerror=alert(5)>");
    fs::create_dir(scratch.join("src")).unwrap();
    scratch.file("src/<img src=x onerror=alert(1)>.c", b"</code><img src=x onerror=alert(6)>\n");
    let served = Served::new(&[&dumps, "--source-path", scratch.path().to_str().unwrap()]);
    let shown = format!(
        "openSource({{ function: {} }}).then(() => document.querySelector('#view-source').textContent.includes('</code><img'))",
        json!(names[0])
    );
    // By names as they are shown.
    let every = "(async () => { const found = []; for (const name of data.names.slice(1)) { \
        await openSource({ function: name }); found.push(sources.found?.length ?? sources.failure); } return found; })()";
    let steps = json!([
        {"say": "load", "until": "document.documentElement.dataset.ready && data.rows", "run": "data.names.join('|')"},
        {"say": "all views", "until": "list.entries.every(each => each.total !== null || each.reason !== null)", "run": "views.forEach(([id]) => show(id)), document.querySelectorAll('img, script:not([nonce]):not([type])').length"},
        {"say": "compare", "until": "choose({ base: picked.new })", "run": "views.forEach(([id]) => show(id)), document.querySelectorAll('img').length"},
        {"say": "source", "until": shown, "run": "document.querySelectorAll('img').length", "shot": "served-hostile-source"},
        {"say": "every name", "run": every},
        {"say": "list", "run": "show('dumps'), document.querySelector('#view-dumps').textContent.includes('<img src=x onerror=alert(4)>')", "shot": "served-hostile"},
        {"say": "title", "run": "document.title"},
    ]);
    let own = format!("http://{}", served.address);
    // No request elsewhere, no dialog, no complaint about the policy.
    let Some(got) = drive(&format!("{own}/?token={}", served.token), Some(&own), &steps) else { return };
    assert!(got[0].as_str().unwrap().contains("<img src=x onerror="), "{}", got[0]);
    assert_eq!((&got[1], &got[2], &got[3], &got[5]), (&json!(0), &json!(0), &json!(0), &json!(true)));
    assert_eq!(got[4], json!([1, 1, 1, 1, 1]));
    assert_eq!(got[6], "script>: inuse_space", "the last part of the binary's path");
}
