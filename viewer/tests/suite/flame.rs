//! `flame`.

use std::fs;

use crate::support::{Builder, Scratch, heapsift, output_of, service};

/// Titles of all frames, in order, unescaped.
fn titles(svg: &str) -> Vec<String> {
    svg.split("<title>")
        .skip(1)
        .map(|rest| {
            let title = rest.split_once("</title>").unwrap().0;
            title
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&#39;", "'")
                .replace("&amp;", "&")
        })
        .collect()
}

/// Width of the frame whose title starts so, in per cent of the picture.
fn width(svg: &str, name: &str) -> f64 {
    let (_, rest) = svg.split_once(&format!("<title>{name} (")).unwrap();
    let (_, rest) = rest.split_once("width=\"").unwrap();
    rest.split_once('%').unwrap().0.parse().unwrap()
}

fn fill(svg: &str, name: &str) -> String {
    let (_, rest) = svg.split_once(&format!("<title>{name} (")).unwrap();
    let (_, rest) = rest.split_once("fill=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[test]
fn frames_carry_bytes_in_both_spellings() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    let out = scratch.join("a.svg");
    output_of(&["flame", &file, "-o", &out]);
    let svg = fs::read_to_string(&out).unwrap();
    let titles = titles(&svg);
    assert!(titles.iter().any(|title| title.starts_with("all (55.62MB = 58320128 bytes, 100%")), "{titles:?}");
    let insert = titles.iter().find(|title| title.starts_with("insert")).unwrap();
    assert!(insert.contains("31.10MB = ") && insert.contains("55.91%") && insert.contains("53 samples"), "{insert}");
    assert_eq!(width(&svg, "main"), 100.0);
    assert!(svg.contains(">service: inuse_space<"));
    // The same input gives the same bytes.
    assert_eq!(svg, output_of(&["flame", &file, "-o", "-"]));
}

#[test]
fn names_stay_text() {
    let scratch = Scratch::new();
    let mut builder = Builder::new();
    let stack = builder.stack(&[
        "<script>alert(1)</script>",
        "a;b 77",
        "]]></title><g onload=\"x()\">",
        "&amp;\x1b\u{202e}\0",
        "\" fill=\"red",
    ]);
    builder.sampled(&stack, 4096, 10);
    let file = scratch.file("a.pb.gz", &builder.gzip());
    let svg = output_of(&["flame", "--title", "<b>t</b>", &file, "-o", "-"]);
    assert_eq!(svg.matches("<script").count(), 1, "only the picture's own");
    assert!(!svg.contains("onload=\"x") && !svg.contains("<b>") && !svg.contains("fill=\"red"));
    assert!(!svg.contains(['\x1b', '\u{202e}', '\0']));
    let titles = titles(&svg);
    assert!(titles.iter().any(|title| title.starts_with("<script>alert(1)</script> (")), "{titles:?}");
    // A separator in a name does not split the frame.
    assert!(titles.iter().any(|title| title.starts_with("a;b 77 (")), "{titles:?}");
    assert_eq!(titles.len(), 6);
}

#[test]
fn what_is_gone_is_still_there() {
    let scratch = Scratch::new();
    let (mut base, mut new) = (service(40), service(40));
    let gone = base.stack(&["gone", "main"]);
    base.sampled(&gone, 4096, 100);
    let fresh = new.stack(&["fresh", "main"]);
    new.sampled(&fresh, 4096, 50);
    let base = scratch.file("base.pb.gz", &base.gzip());
    let new = scratch.file("new.pb.gz", &new.gzip());
    let svg = output_of(&["flame", "--diff-base", &base, &new, "-o", "-"]);
    assert!((width(&svg, "gone") / width(&svg, "fresh") - 2.0).abs() < 0.01);
    assert_eq!(fill(&svg, "gone"), "rgb(60,60,245)");
    assert_eq!(fill(&svg, "fresh"), "rgb(240,60,60)");
    assert_eq!(fill(&svg, "insert"), "rgb(232,232,232)");
    for word in [
        ">gone<",
        ">shrank<",
        ">the same<",
        ">grew<",
        ">new<",
        "within sampling error",
        "width: the larger of both sides",
    ] {
        assert!(svg.contains(word), "{word} is not explained");
    }
    // One sample more is pale.
    let mut slightly = service(41);
    let fresh = slightly.stack(&["fresh", "main"]);
    slightly.sampled(&fresh, 4096, 1);
    let slightly = scratch.file("slightly.pb.gz", &slightly.gzip());
    let pale = output_of(&["flame", "--diff-base", &base, &slightly, "-o", "-"]);
    assert_eq!(fill(&pale, "fresh"), "rgb(240,190,190)");
    let titles = titles(&svg);
    let gone = titles.iter().find(|title| title.starts_with("gone")).unwrap();
    assert!(gone.contains(" to 0, -"), "{gone}");
}

#[test]
fn a_picture_of_nothing_is_refused() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &Builder::new().gzip());
    let out = scratch.join("a.svg");
    let output = heapsift(&["flame", &file, "-o", &out]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors, format!("heapsift: {file}: nothing to draw: every stack's inuse_space is zero\n"));
    assert!(!fs::exists(&out).unwrap());
}
