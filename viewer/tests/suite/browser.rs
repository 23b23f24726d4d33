//! Pages in headless chromium, driven by `tests/page.mjs`. Screenshots stay below `target/tmp/pages`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// A program on PATH; without it the test is skipped, or fails where all tools were promised.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|place| place.join(name)).find(|file| file.is_file());
    if found.is_none() {
        let promised = std::env::var_os("HEAPSIFT_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!promised, "{name} is not installed");
        println!("skipped: {name} is not installed");
    }
    found
}

/// Where the screenshot of a name is kept.
pub fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages").join(format!("{name}.png"))
}

/// Drives a page, a file or an address, through steps; what each gave. Asserts that nothing else was asked for than what
/// begins with `own`, and nothing complained.
pub fn drive(page: &str, own: Option<&str>, steps: &Value) -> Option<Vec<Value>> {
    let (node, chromium) = (find("node")?, find("chromium")?);
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    fs::create_dir_all(&pictures).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page.mjs");
    let output = Command::new(node)
        .arg(script)
        .args([&chromium, Path::new(page), pictures.as_path()])
        .arg(steps.to_string())
        .env_remove("LD_PRELOAD")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    // The icon is a data: address in the page itself. A slash ends what is the server's own.
    let is_own = |url: &str| url.starts_with("data:") || own.is_some_and(|own| url.starts_with(&format!("{own}/")));
    let elsewhere: Vec<&Value> =
        told["requests"].as_array().unwrap().iter().filter(|url| !is_own(url.as_str().unwrap())).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert_eq!(told["complaints"], json!([]), "the console has something to say");
    Some(told["results"].as_array().unwrap().iter().map(|step| step["got"].clone()).collect())
}

/// The middle of the frame of that name, for a click.
pub fn at(name: &str) -> String {
    format!(
        "(() => {{ const r = flame.rects.find(r => data.names[r.tree.names[r.node]] === {name:?}); \
         const b = flame.canvas.getBoundingClientRect(); return [b.left + r.x + r.w / 2, b.top + r.y + 9]; }})()"
    )
}
