//! Text from a profile on its way out: one function per sink.
//!
//! Names and paths in a profile are chosen by whoever wrote the program, or the file. They stay as
//! they are inside the library and pass through one of these functions exactly once, at the point
//! where they are written. Nothing else in the crate writes a name.

use std::borrow::Cow;

/// Characters that steer a terminal, reorder text or break a line without being seen.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}'     // zero width, direction marks
            | '\u{2028}'..='\u{202e}'   // line and paragraph separators, embeddings, overrides
            | '\u{2060}'..='\u{206f}'   // word joiner, isolates, deprecated format characters
            | '\u{061c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{fffe}' | '\u{ffff}')
}

/// Replaces every hostile character by a visible escape: `\n`, `\x1b`, `\u{202e}`; a tab by a blank.
fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push(' '),
            c if is_hostile(c) && (c as u32) < 0x80 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_hostile(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// For a terminal or any plain text: one line, nothing that steers the terminal.
pub fn terminal(text: &str) -> Cow<'_, str> {
    visible(text)
}

/// For text of several lines that isn't ours: as [`terminal`], but line breaks and tabs stay.
pub fn lines(text: &str) -> String {
    let is_layout = |c: char| matches!(c, '\n' | '\t');
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(is_layout) {
        let line = part.trim_end_matches(is_layout);
        out.push_str(&visible(line));
        out.push_str(&part[line.len()..]);
    }
    out
}

/// For XML text and attributes (SVG): visible, then the five characters with a meaning replaced.
pub fn xml(text: &str) -> String {
    let text = visible(text);
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// For one frame of a folded stack: no separator, no line break, never empty.
pub fn folded(text: &str) -> Cow<'_, str> {
    let text = visible(text);
    if text.trim().is_empty() {
        return Cow::Borrowed("[unknown]");
    }
    if text.contains(';') {
        return Cow::Owned(text.replace(';', ":"));
    }
    text
}

/// For one text cell of a CSV file: quoted where needed; a cell that a spreadsheet would take for a
/// formula gets a leading apostrophe.
pub fn csv(text: &str) -> String {
    let text = visible(text);
    let guard = if text.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
    if text.contains([',', '"']) || !guard.is_empty() {
        return format!("\"{guard}{}\"", text.replace('"', "\"\""));
    }
    text.into_owned()
}

/// For a string of a JSON file, with its quotes. What a viewer does with it is that viewer's concern,
/// but a file that ends up within HTML must not end the element that it stands in.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '<' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if (c as u32) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Most characters of a line in a DOT file.
const DOT_WIDTH: usize = 1000;

/// For a name or a label of a DOT file, with its quotes: text and line breaks, never one of DOT's own
/// sequences, which stand for other text. Graphviz takes no text of more than 16 KiB, which some lines of
/// [`DOT_WIDTH`] characters are not.
pub fn dot(text: &str) -> String {
    let mut out = String::from("\"");
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push_str("\\n");
        }
        for c in shorten(&visible(line), DOT_WIDTH).chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
    }
    out.push('"');
    out
}

/// Cuts `text` to `width` characters, keeping its end, which tells functions apart.
pub fn shorten(text: &str, width: usize) -> Cow<'_, str> {
    let length = text.chars().count();
    if length <= width {
        return Cow::Borrowed(text);
    }
    if width <= 2 {
        return Cow::Owned(text.chars().take(width).collect());
    }
    Cow::Owned("..".chars().chain(text.chars().skip(length - (width - 2))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_steered() {
        assert_eq!(terminal("a\x1b[31mb\u{202e}c\nd\u{9b}"), "a\\x1b[31mb\\u{202e}c\\nd\\u{9b}");
        assert_eq!(terminal("Vec<T>::push"), "Vec<T>::push");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(lines("a\tb\n\n\x1b[2Jc\r\nd\u{9b}"), "a\tb\n\n\\x1b[2Jc\\r\nd\\u{9b}");
        assert_eq!(lines("plain\n"), "plain\n");
    }

    #[test]
    fn xml_keeps_names_as_text() {
        assert_eq!(xml("<script>alert('&')</script>\0"), "&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;\\x00");
    }

    #[test]
    fn a_folded_frame_is_one_frame() {
        assert_eq!(folded("[u8; 8]"), "[u8: 8]");
        assert_eq!(folded("a\nb"), "a\\nb");
        assert_eq!(folded(""), "[unknown]");
    }

    #[test]
    fn a_csv_cell_is_no_formula() {
        assert_eq!(csv("=cmd()"), "\"'=cmd()\"");
        assert_eq!(csv("f(a, \"b\")"), "\"f(a, \"\"b\"\")\"");
        assert_eq!(csv("plain"), "plain");
    }

    #[test]
    fn a_json_string_is_one_string() {
        for text in ["a\"b\\c\n\t\0", "</script><!--", "ä\u{2028}\u{7f}"] {
            let escaped = json(text);
            assert!(!escaped.contains('<') && !escaped.contains('\n'));
            assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }
    }

    #[test]
    fn a_dot_label_is_text() {
        assert_eq!(dot("a\"];N1\\G"), "\"a\\\"];N1\\\\G\"");
        assert_eq!(dot("one\ntwo\r"), "\"one\\ntwo\\r\"".replace("\\r", "\\\\r"));
    }

    #[test]
    fn shortening_keeps_the_end() {
        assert_eq!(shorten("abcdefgh", 5), "..fgh");
        assert_eq!(shorten("abc", 5), "abc");
        assert_eq!(shorten("abcdefgh", 1), "a");
    }
}
