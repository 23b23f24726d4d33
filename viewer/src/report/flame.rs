//! `flame`: one SVG file, zoomable and searchable in a browser.
//!
//! The layout, the script and the frame of the picture are inferno's. What stands in it is ours: the
//! stacks are handed over as numbers, and each number is replaced by name, sizes and colour
//! afterwards. So no name from a profile passes through the folded format, names are escaped in one
//! place, and a comparison can show both of its sides, which the folded format cannot: a frame is as
//! wide as the larger of its sides, and what is gone is still there.

use std::cmp::Reverse;
use std::collections::HashMap;

use inferno::flamegraph::color::{BackgroundColor, Color};
use inferno::flamegraph::{self, Direction, TextTruncateDirection};

use super::folded::{is_binary_only, names};
use super::interval_text;
use crate::compare::{Fates, change_of};
use crate::graph::Sides;
use crate::model::{Columns, PartCache, Profile, Side};
use crate::stats::Estimate;
use crate::{escape, measure};

/// Shares of the picture's width that are too narrow to draw, in per cent; inferno's own default.
const MIN_WIDTH_PERCENT: f64 = 0.01;
/// Frames of a picture. More than a browser opens; the stacks with most get theirs first.
const MAX_FRAMES: usize = 1 << 17;
/// Stands for the frames that there was no room for.
const FURTHER: &str = "[further frames]";
/// Length of a frame's number in a path, with the separator before it.
const PART: usize = 10;
const FONT_SIZE: f64 = 12.0;
const FONT_WIDTH: f64 = 0.59;
const IMAGE_WIDTH: f64 = 1200.0;

/// What the width of a frame means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// One profile.
    None,
    /// New minus base, where that is positive.
    Growth,
    /// The larger of both sides; the colour tells the change.
    BothSides,
}

/// What to draw.
#[derive(Clone, Debug)]
pub struct Options {
    /// The column, with what tells its uncertainty.
    pub columns: Columns,
    /// How to treat a base.
    pub comparison: Comparison,
    /// Root at the top rather than at the bottom.
    pub icicle: bool,
    /// Headline; chosen from the profile if empty.
    pub title: String,
}

/// A frame with all that is on top of it.
struct Frame {
    name: String,
    own: Sides,
    sum: Sides,
    /// What came and what went, where that is known.
    turnover: Option<[Estimate; 2]>,
    children: Vec<u32>,
    own_width: u128,
    width: u128,
}

/// The picture as SVG, or why there is nothing to draw.
pub fn svg(profile: &Profile, options: &Options) -> Result<Vec<u8>, String> {
    let mut frames = tree(profile, options);
    let shrunk = measure_frames(&mut frames, options.comparison);
    let total = frames[0].width;
    if total == 0 {
        let kind = &profile.sample_types[options.columns.column].kind;
        return Err(format!("nothing to draw: every stack's {kind} is zero"));
    }
    // Widths are 64-bit numbers in inferno, used as floating point: 2^53 of them are exact.
    let divisor = (total >> 53) + 1;
    let least = (total as f64 * MIN_WIDTH_PERCENT / 100.0) as u128;
    let mut lines = Vec::new();
    let mut order = Vec::new();
    // Depth of a frame, and the path to it, which is cut back to its parent's and goes on from there.
    let mut open = vec![(0u32, 0)];
    let mut path = String::new();
    while let Some((index, depth)) = open.pop() {
        let frame = &frames[index as usize];
        let number = order.len();
        order.push(index);
        path.truncate(depth * PART);
        if index != 0 {
            path.push_str(&format!(";{number:09}"));
        }
        let drawn = |child: &&u32| frames[**child as usize].width > least;
        let children: u128 = frame.children.iter().filter(drawn).map(|&c| frames[c as usize].width).sum();
        let own = frame.width.saturating_sub(children) / divisor;
        if own > 0 && index != 0 {
            lines.push(format!("{} {own}", &path[1..]));
        }
        let depth = path.len() / PART;
        open.extend(frame.children.iter().filter(drawn).rev().map(|&child| (child, depth)));
    }

    let kind = &profile.sample_types[options.columns.column];
    let mut settings = flamegraph::Options::default();
    settings.title = match options.title.as_str() {
        "" => default_title(profile, &kind.kind),
        title => escape::terminal(title).into_owned(),
    };
    settings.subtitle = Some(subtitle(profile, options, &frames[0], shrunk));
    settings.count_name = escape::terminal(&kind.unit).into_owned();
    settings.direction = if options.icicle { Direction::Inverted } else { Direction::Straight };
    settings.bgcolors = Some(BackgroundColor::Flat(Color { r: 250, g: 250, b: 250 }));
    settings.text_truncate_direction = TextTruncateDirection::Right;
    settings.min_width = MIN_WIDTH_PERCENT / 2.0;
    settings.no_sort = true;
    let mut drawn = Vec::new();
    flamegraph::from_lines(&mut settings, lines.iter().map(String::as_str), &mut drawn)
        .map_err(|error| format!("the picture could not be laid out: {error}"))?;
    let drawn = String::from_utf8(drawn).map_err(|_| "the layout is not text".to_owned())?;
    let describe = |number: Option<usize>| {
        let frame = &frames[*order.get(number.unwrap_or(0))? as usize];
        Some(decoration(profile, options, frame, &frames[0]))
    };
    let mut picture = decorate(&drawn, describe)?;
    if options.comparison == Comparison::BothSides {
        picture = add_legend(&picture)?;
    }
    Ok(picture.into_bytes())
}

/// All stacks as a tree; index 0 is its root. Children are in order of their names.
fn tree(profile: &Profile, options: &Options) -> Vec<Frame> {
    let nothing = Estimate::nothing(options.columns.weight_of_nothing());
    let empty = Sides { new: nothing, base: nothing, divisor: 0 };
    let is_compared = options.comparison != Comparison::None;
    let fates = if is_compared { Fates::new(profile, &options.columns).ok() } else { None };
    let frame = |name: &str| Frame {
        name: name.to_owned(),
        own: empty,
        sum: empty,
        turnover: fates.as_ref().map(|_| [nothing; 2]),
        children: Vec::new(),
        own_width: 0,
        width: 0,
    };
    let mut frames = vec![frame("all")];
    let mut known: HashMap<(u32, &str, bool), u32> = HashMap::new();
    let mut parts = PartCache::default();
    let value_of = |row: usize| profile.values(row)[options.columns.column];
    let mut rows: Vec<usize> = (0..profile.row_count()).filter(|&row| value_of(row) != 0).collect();
    rows.sort_by_key(|&row| Reverse(value_of(row).unsigned_abs()));
    for row in rows {
        let value = value_of(row);
        let part = options.columns.part(profile, row, &mut parts);
        let is_new = profile.side(row) == Side::New;
        let mut at = 0u32;
        for (name, is_binary) in names(profile, row).into_iter().zip(is_binary_only(profile, row)) {
            let next = frames.len() as u32;
            let is_full = frames.len() >= MAX_FRAMES && !known.contains_key(&(at, name, is_binary));
            let (name, is_binary) = if is_full { (FURTHER, false) } else { (name, is_binary) };
            let child = *known.entry((at, name, is_binary)).or_insert(next);
            if child == next {
                let name = match (is_binary, name) {
                    (_, "") => "[unknown]".to_owned(),
                    (true, name) => format!("[{name}]"),
                    (false, name) => name.to_owned(),
                };
                frames.push(frame(&name));
                frames[at as usize].children.push(child);
            }
            at = child;
            if is_full {
                break;
            }
        }
        let own = &mut frames[at as usize].own;
        let side = if is_new { &mut own.new } else { &mut own.base };
        side.add(value, part.as_ref());
        let alone = fates.as_ref().and_then(|f| f.only_here(profile, &options.columns, row, &mut parts));
        if let (Some(alone), Some(turnover)) = (alone, &mut frames[at as usize].turnover) {
            turnover[usize::from(is_new)].add(alone.value, Some(&alone.part));
        }
    }
    for index in 0..frames.len() {
        let mut children = core::mem::take(&mut frames[index].children);
        children.sort_by(|&a, &b| frames[a as usize].name.cmp(&frames[b as usize].name));
        frames[index].children = children;
    }
    frames
}

/// Sums and widths from the leaves down: children always have larger numbers than their parents.
/// Returns what is not drawn because it is negative.
fn measure_frames(frames: &mut [Frame], comparison: Comparison) -> i128 {
    let mut shrunk = 0i128;
    for index in (0..frames.len()).rev() {
        let (mut sum, mut width) = (frames[index].own, 0u128);
        let (new, base) = (sum.new.value, sum.base.value);
        let own = match comparison {
            Comparison::None => new,
            Comparison::Growth => new.saturating_sub(base),
            Comparison::BothSides => new.max(base),
        };
        shrunk = shrunk.saturating_add(own.min(0));
        let own = own.max(0).unsigned_abs();
        let mut turnover = frames[index].turnover;
        for child in frames[index].children.clone() {
            let child = &frames[child as usize];
            if let (Some(sums), Some(parts)) = (&mut turnover, &child.turnover) {
                sums.iter_mut().zip(parts).for_each(|(sum, part)| sum.merge(part));
            }
            sum.merge(&child.sum);
            width = width.saturating_add(child.width);
        }
        let frame = &mut frames[index];
        (frame.own_width, frame.width, frame.sum) = (own, width.saturating_add(own), sum);
        frame.turnover = turnover;
    }
    shrunk
}

fn default_title(profile: &Profile, kind: &str) -> String {
    let program = profile.mappings.first().map_or("", |main| profile.mapping_name(main));
    let program = if program.is_empty() { "heap" } else { program };
    escape::terminal(&format!("{program}: {kind}")).into_owned()
}

fn subtitle(profile: &Profile, options: &Options, root: &Frame, shrunk: i128) -> String {
    let unit = &profile.sample_types[options.columns.column].unit;
    let size = |value: i128| measure::label(value, unit, "auto");
    let (new, base) = (root.sum.new.value, root.sum.base.value);
    match options.comparison {
        Comparison::None => {
            let left_out =
                if shrunk < 0 { format!("; {} of negative stacks not drawn", size(shrunk)) } else { String::new() };
            // What was not sampled, or not said to be, is as it is.
            let how_sure = root.sum.new.interval().map(|interval| {
                let range = interval_text(Some(interval), unit, "auto");
                format!(", {range} (95%), {} samples", root.sum.new.samples as u64)
            });
            format!("{}{}{left_out}", size(new), how_sure.unwrap_or_default())
        }
        Comparison::Growth => {
            format!("{} to {}; what grew is drawn, {} that shrank is not", size(base), size(new), size(shrunk))
        }
        Comparison::BothSides => format!(
            "{} to {}; width: the larger of both sides, so what is gone is as wide as it was",
            size(base),
            size(new)
        ),
    }
}

/// What stands on a frame: its label, its tooltip and its colour.
struct Decoration {
    name: String,
    sizes: String,
    colour: String,
}

fn decoration(profile: &Profile, options: &Options, frame: &Frame, root: &Frame) -> Decoration {
    let unit = &profile.sample_types[options.columns.column].unit;
    let size = |value: i128| measure::label(value, unit, "auto");
    let (new, base) = (&frame.sum.new, &frame.sum.base);
    let exact = if unit == "bytes" { format!(" = {} bytes", new.value) } else { String::new() };
    let (sizes, colour) = match options.comparison {
        Comparison::None => {
            let share = measure::percentage(new.value, root.sum.new.value);
            let how_sure = new.interval().map(|interval| {
                let range = interval_text(Some(interval), unit, "auto");
                format!(", 95%: {range}, {} samples", new.samples as u64)
            });
            let text = format!("{}{exact}, {}{}", size(new.value), share.trim(), how_sure.unwrap_or_default());
            (text, name_colour(&frame.name))
        }
        Comparison::Growth | Comparison::BothSides => {
            let change = match &frame.turnover {
                Some([gone, born]) => change_of(&frame.sum, gone, born),
                None => frame.sum.change(),
            };
            let sure = if change.is_significant() { "" } else { ", within sampling error" };
            let text = format!(
                "{} to {}, {}, 95%: {}{sure}",
                size(base.value),
                size(new.value),
                measure::signed_label(change.delta, unit, "auto"),
                interval_text(change.interval, unit, "auto")
            );
            let width = new.value.max(base.value).max(1);
            (text, change_colour(change.delta as f64 / width as f64, change.is_significant()))
        }
    };
    Decoration { name: frame.name.clone(), sizes, colour }
}

/// A green between blue-green and yellow-green, the same for the same name in every picture.
fn name_colour(name: &str) -> String {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let (a, b) = ((hash >> 16) % 60, (hash >> 32) % 90);
    format!("rgb({},{},{})", 70 + b, 180 + a, 110 + (hash >> 48) % 60)
}

/// From blue (gone) over near white (unchanged) to red (new); what sampling error explains is pale.
fn change_colour(share: f64, is_sure: bool) -> String {
    let most = if is_sure { 175.0 } else { 45.0 };
    let pale = (235.0 - most * share.abs().min(1.0)) as u8;
    if share > 0.0 {
        format!("rgb(240,{pale},{pale})")
    } else if share < 0.0 {
        format!("rgb({pale},{pale},245)")
    } else {
        "rgb(232,232,232)".to_owned()
    }
}

/// Room for the legend below the picture.
const LEGEND_HEIGHT: usize = 26;

/// Adds a line that says what the colours are.
fn add_legend(drawn: &str) -> Result<String, String> {
    const BROKEN: &str = "the layout has an unexpected form";
    let (before, after) = drawn.split_once(" height=\"").ok_or(BROKEN)?;
    let (height, after) = after.split_once('"').ok_or(BROKEN)?;
    let height: usize = height.parse().map_err(|_| BROKEN)?;
    let all = height + LEGEND_HEIGHT;
    let mut out = format!("{before} height=\"{all}\"{after}");
    // The view and the ground below everything.
    for (old, new) in [
        (format!("viewBox=\"0 0 {IMAGE_WIDTH} {height}\""), format!("viewBox=\"0 0 {IMAGE_WIDTH} {all}\"")),
        (
            format!("height=\"{height}\" fill=\"url(#background)\""),
            format!("height=\"{all}\" fill=\"url(#background)\""),
        ),
    ] {
        if !out.contains(&old) {
            return Err(BROKEN.to_owned());
        }
        out = out.replacen(&old, &new, 1);
    }
    let (y, mut x) = (height - 4, 10);
    let mut legend = String::from("<g id=\"legend\">");
    let swatches = [
        (change_colour(-1.0, true), "gone"),
        (change_colour(-0.4, true), "shrank"),
        (change_colour(0.0, true), "the same"),
        (change_colour(0.4, true), "grew"),
        (change_colour(1.0, true), "new"),
        (change_colour(-1.0, false), ""),
        (change_colour(1.0, false), "pale: within sampling error (95%), perhaps nothing"),
    ];
    for (colour, text) in swatches {
        legend.push_str(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"15\" height=\"15\" fill=\"{colour}\" stroke=\"rgb(150,150,150)\"/>\
             <text x=\"{}\" y=\"{}\">{text}</text>",
            x + 20,
            y + 12
        ));
        x += if text.is_empty() { 18 } else { 34 + text.len() * 7 };
    }
    legend.push_str("</g>");
    let end = out.rfind("</svg>").ok_or(BROKEN)?;
    out.insert_str(end, &legend);
    Ok(out)
}

/// Replaces numbers by what they stand for: the title, the fill and the label of every frame.
fn decorate(drawn: &str, describe: impl Fn(Option<usize>) -> Option<Decoration>) -> Result<String, String> {
    const BROKEN: &str = "the layout has an unexpected form";
    let mut out = String::with_capacity(drawn.len() * 2);
    let mut rest = drawn;
    // The first title is a frame's: inferno writes the picture's own as text.
    while let Some(at) = rest.find("<title>") {
        let (before, after) = rest.split_at(at + "<title>".len());
        let (title, after) = after.split_once("</title>").ok_or(BROKEN)?;
        let number = title.split(' ').next().and_then(|word| word.parse().ok());
        let found = describe(number).ok_or(BROKEN)?;
        out.push_str(before);
        out.push_str(&escape::xml(&format!("{} ({})", found.name, found.sizes)));
        out.push_str("</title>");

        let (rect, after) = after.split_once("/>").ok_or(BROKEN)?;
        let (left, right) = rect.split_once(" fill=\"").ok_or(BROKEN)?;
        let (_, right) = right.split_once('"').ok_or(BROKEN)?;
        out.push_str(&format!("{left} fill=\"{}\"{right}/>", found.colour));

        let width = rect.split_once(" width=\"").and_then(|(_, value)| value.split_once('%'));
        let width: f64 = width.and_then(|(value, _)| value.parse().ok()).ok_or(BROKEN)?;
        let (text, after) = after.split_once("</text>").ok_or(BROKEN)?;
        let (text, _) = text.rsplit_once('>').ok_or(BROKEN)?;
        out.push_str(text);
        out.push('>');
        let room = width / 100.0 * IMAGE_WIDTH / (FONT_SIZE * FONT_WIDTH);
        out.push_str(&escape::xml(&label(&found.name, room as usize)));
        out.push_str("</text>");
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The start of a name that fits into `room` characters.
fn label(name: &str, room: usize) -> String {
    let name = escape::terminal(name);
    if room < 3 {
        return String::new();
    }
    if name.chars().count() <= room {
        return name.into_owned();
    }
    name.chars().take(room - 2).chain("..".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_tell_the_change() {
        assert_eq!(change_colour(1.0, true), "rgb(240,60,60)");
        assert_eq!(change_colour(-1.0, true), "rgb(60,60,245)");
        assert_eq!(change_colour(0.0, true), "rgb(232,232,232)");
        assert_eq!(change_colour(1.0, false), "rgb(240,190,190)");
        assert_eq!(name_colour("f"), name_colour("f"));
    }

    #[test]
    fn labels_fit() {
        assert_eq!(label("abcdefgh", 5), "abc..");
        assert_eq!(label("abc", 5), "abc");
        assert_eq!(label("abc", 2), "");
    }
}
