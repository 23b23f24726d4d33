//! Pictures and pages with names of the input's choice: read again, names are the same text, and nothing else has changed.

use pprof_export::schema::{Function, Line, Location, Mapping, Profile as Message, Sample, ValueType};
use viewer::escape;
use viewer::input::{self, Input, Merge};
use viewer::model::{Columns, Profile};
use viewer::report::{flame, page};

/// Names: one for each line, at most 30, as text.
fn names(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.split(|&byte| byte == b'\n').take(30);
    lines.map(|line| String::from_utf8_lossy(&line[..line.len().min(300)]).into_owned()).collect()
}

/// A profile of functions with these names, in files with these names, each of which a root calls.
fn profile(names: &[String]) -> Profile {
    let mut message = Message {
        string_table: ["", "inuse_space", "bytes", "root"].map(String::from).to_vec(),
        sample_type: vec![ValueType { r#type: 1, unit: 2 }],
        mapping: vec![Mapping { id: 1, memory_limit: 1 << 40, filename: 3, ..Mapping::default() }],
        function: vec![Function { id: 1, name: 3, ..Function::default() }],
        location: vec![Location {
            id: 1,
            line: vec![Line { function_id: 1, ..Line::default() }],
            ..Location::default()
        }],
        ..Message::default()
    };
    for (index, name) in names.iter().enumerate() {
        let (id, text) = (index as u64 + 2, message.string_table.len() as i64);
        message.string_table.push(name.clone());
        message.function.push(Function { id, name: text, system_name: text, filename: text, start_line: 0 });
        let line = vec![Line { function_id: id, line: 1, column: 0 }];
        message.location.push(Location { id, mapping_id: 1, address: id << 12, line, is_folded: false });
        message.sample.push(Sample { location_id: vec![id, 1], value: vec![1 << 20], label: Vec::new() });
    }
    let input = Input::new("input".into(), message).expect("the profile is in order");
    input::combine(vec![input], Vec::new(), Merge::Nothing, false).expect("the profile is in order")
}

/// How often each of the characters that make markup comes.
fn markup(text: &str) -> [usize; 3] {
    ['<', '>', '"'].map(|mark| text.matches(mark).count())
}

fn svg(profile: &Profile) -> String {
    let options = flame::Options {
        columns: Columns::new(profile, 0),
        comparison: flame::Comparison::None,
        icicle: false,
        title: String::new(),
    };
    String::from_utf8(flame::svg(profile, &options).expect("there is something to draw")).expect("it is text")
}

/// Names of frames, as a browser has them.
fn titles(svg: &str) -> Vec<String> {
    let title = |rest: &str| {
        let title = rest.split("</title>").next().unwrap_or_default();
        let name = title.rsplit_once(" (").map_or(title, |(name, _)| name);
        let plain = name.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
        plain.replace("&amp;", "&")
    };
    svg.split("<title>").skip(1).map(title).collect()
}

/// The page before and after its data, without what depends on them; and the data.
fn page(profile: &mut Profile) -> (String, serde_json::Value) {
    let options =
        page::Options { columns: Columns::new(profile, 0), title: "title".to_owned(), shown: "shown".to_owned() };
    let html = page::html(profile, &options, None);
    const START: &str = "<script type=\"application/json\" id=\"data\">";
    let (before, rest) = html.split_once(START).expect("the page has its data");
    let (data, after) = rest.split_once("</script>").expect("the data end");
    let nonce = before.split("nonce-").nth(1).and_then(|rest| rest.split('\'').next()).expect("there is a nonce");
    ([before, after].concat().replace(nonce, "NONCE"), serde_json::from_str(data).expect("the data are JSON"))
}

/// Draws and writes with the names, and with as many plain ones.
pub fn writers(bytes: &[u8]) {
    let mut names = names(bytes);
    let plain: Vec<String> = (0..names.len()).map(|index| format!("name{index}")).collect();
    for name in &mut names {
        // Where there is none, the binary's name stands for it; and one name is one frame.
        if name.trim().is_empty() {
            *name = "empty".to_owned();
        }
    }
    names.sort();
    names.dedup();
    let plain = &plain[..names.len()];
    let (mut hostile, mut harmless) = (profile(&names), profile(plain));
    let (drawn, expected) = (svg(&hostile), svg(&harmless));
    assert_eq!(markup(&drawn), markup(&expected), "{names:?}");
    let found = titles(&drawn);
    for name in &names {
        let shown = escape::terminal(name);
        assert!(found.iter().any(|title| *title == shown), "{name:?} is not in {found:?}");
    }
    let ((frame, data), (plain_frame, _)) = (page(&mut hostile), page(&mut harmless));
    assert_eq!(frame, plain_frame, "{names:?}");
    let told = data["names"].as_array().expect("the page has names");
    for name in &names {
        assert!(told.iter().any(|told| *told == *escape::terminal(name)), "{name:?} is not in {told:?}");
    }
}
