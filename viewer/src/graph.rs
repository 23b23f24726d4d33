//! Sums by function, line, file, address or site: what stands in the tables.
//!
//! `flat` is what stacks ending in a node hold, `cum` what stacks through it hold, a recursive node
//! counted once. Nodes are told apart as `go tool pprof` does it: by name where functions are asked
//! for, by name, file and line where lines are, and so on; a frame without a name is known by its
//! binary. A *site* is this tool's own addition: the innermost frame that is neither the language's
//! library nor a wrapper of malloc, with flat sums attributed to it.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use crate::model::{Columns, Profile, Side, Str, without_arguments};
use crate::stats::{Change, Estimate, Part};

/// What makes two frames the same node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    /// One node per function name.
    #[default]
    Functions,
    /// One node per function name and file.
    FileFunctions,
    /// One node per function, file and line.
    Lines,
    /// One node per source file.
    Files,
    /// One node per address.
    Addresses,
    /// One node per site's function; sums are of the stacks whose site it is.
    Sites,
}

/// What identifies a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// Function name; empty where unknown.
    pub name: Str,
    /// Source file; empty where not asked for.
    pub file: Str,
    /// Line; 0 where not asked for.
    pub line: i64,
    /// Address; 0 where not asked for.
    pub address: u64,
    /// Binary; only where there is no name.
    pub object: Str,
}

/// A sum for each side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sides {
    /// The profile asked about.
    pub new: Estimate,
    /// What it is compared with.
    pub base: Estimate,
}

impl Sides {
    fn add(&mut self, side: Side, value: i64, part: Option<&Part>) {
        match side {
            Side::New => self.new.add(value, part),
            Side::Base => self.base.add(value, part),
        }
    }

    /// New minus base.
    pub fn net(&self) -> i128 {
        self.new.value.saturating_sub(self.base.value)
    }

    /// The change with its interval.
    pub fn change(&self) -> Change {
        Change::between(&self.base, &self.new)
    }

    /// Samples of both sides.
    pub fn samples(&self) -> f64 {
        self.new.samples + self.base.samples
    }
}

/// One row of a table.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub key: Key,
    /// Sums of the stacks that end here.
    pub flat: Sides,
    /// Sums of the stacks that go through here.
    pub cum: Sides,
    /// The source line that holds most of it: file and line.
    pub place: (Str, i64),
    /// Whether all of its frames, or some, were inlined into their callers.
    pub inlined: Inlined,
}

/// How a node was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inlined {
    /// Called.
    #[default]
    No,
    /// Inlined in some places.
    Partly,
    /// Inlined everywhere.
    Yes,
}

/// The nodes of a profile and its total.
#[derive(Debug)]
pub struct Graph {
    /// Nodes with a value, in no particular order.
    pub nodes: Vec<Node>,
    /// Sums over all rows, each with its own sign.
    pub total: Sides,
}

/// The name given to rows without any frame.
pub const NO_STACK: &str = "[unknown stack]";

/// The nodes of each location, innermost first, and where a node was made from.
struct Lookup {
    /// Start of a location's nodes in `nodes`, one more than there are locations.
    starts: Vec<u32>,
    nodes: Vec<u32>,
    keys: Vec<Key>,
    /// Nodes that are inlined somewhere.
    inner: Vec<bool>,
    no_stack: u32,
}

/// Runs of what a row says about itself, independent of the node it is added to.
struct Weight {
    side: Side,
    value: i64,
    part: Option<Part>,
}

impl Graph {
    /// Sums the column `columns` of `profile`.
    pub fn new(profile: &mut Profile, columns: &Columns, granularity: Granularity) -> Self {
        let lookup = Lookup::new(profile, granularity);
        let nothing = Estimate::nothing(columns.weight_of_nothing());
        let empty = Sides {
            new: nothing,
            base: nothing,
        };
        let mut total = empty;
        let mut nodes: Vec<Node> = lookup
            .keys
            .iter()
            .map(|&key| Node {
                key,
                flat: empty,
                cum: empty,
                place: (Str::EMPTY, 0),
                inlined: Inlined::No,
            })
            .collect();
        let mut places = Places::new(&lookup);
        let mut edges = Edges::default();
        let mut seen = vec![u32::MAX; nodes.len()];
        let sites = (granularity == Granularity::Sites).then(|| SiteRule::new(profile));

        for row in 0..profile.row_count() {
            let value = profile.values(row)[columns.column];
            if value == 0 {
                continue;
            }
            let part = columns.part(profile, row);
            let weight = Weight {
                side: profile.side(row),
                value,
                part,
            };
            total.add(weight.side, value, part.as_ref());
            let stack = profile.stack(row);
            let add = |node: u32, flat: bool, nodes: &mut Vec<Node>| {
                let node = &mut nodes[node as usize];
                let sum = if flat { &mut node.flat } else { &mut node.cum };
                sum.add(weight.side, weight.value, weight.part.as_ref());
            };
            if let Some(rule) = &sites {
                let site = rule.site_of(profile, stack);
                let node = site.map_or(lookup.no_stack, |(location, line)| {
                    places.add(lookup.start(location) + line, weight.value);
                    lookup.nodes[lookup.start(location) + line]
                });
                add(node, true, &mut nodes);
                add(node, false, &mut nodes);
                continue;
            }
            let mut parent = None;
            let mut leaf = None;
            for &location in stack.iter().rev() {
                let (start, end) = (lookup.start(location), lookup.start(location + 1));
                for at in (start..end).rev() {
                    let node = lookup.nodes[at];
                    if seen[node as usize] != row as u32 {
                        seen[node as usize] = row as u32;
                        add(node, false, &mut nodes);
                    }
                    if let Some(parent) = parent.filter(|&parent| parent != node) {
                        edges.add(&lookup, (parent, node), row as u32, at + 1 != end, &weight);
                    }
                    places.add(at, weight.value);
                    parent = Some(node);
                    leaf = Some(at);
                }
            }
            match leaf {
                Some(at) => {
                    add(lookup.nodes[at], true, &mut nodes);
                    places.add_flat(at, weight.value);
                }
                None => {
                    add(lookup.no_stack, true, &mut nodes);
                    add(lookup.no_stack, false, &mut nodes);
                }
            }
        }
        places.choose(profile, &lookup, &mut nodes);
        edges.label(&mut nodes);
        nodes.retain(|node| has_value(&node.flat) || has_value(&node.cum));
        Self { nodes, total }
    }

    /// Sorts by flat or cumulative size of the change, then by name as pprof does.
    pub fn sort(&mut self, profile: &Profile, by_cum: bool) {
        let size = |sides: &Sides| sides.net().unsigned_abs();
        self.nodes.sort_by_cached_key(|node| {
            let (first, second) = if by_cum {
                (&node.cum, &node.flat)
            } else {
                (&node.flat, &node.cum)
            };
            (
                core::cmp::Reverse(size(first)),
                printable(profile, &node.key),
                core::cmp::Reverse(size(second)),
                node.key.object,
            )
        });
    }
}

fn has_value(sides: &Sides) -> bool {
    sides.new.value != 0 || sides.base.value != 0
}

/// A node's name as pprof prints it: address, function, place, or the binary's name in brackets.
pub fn printable(profile: &Profile, key: &Key) -> String {
    let mut text = String::new();
    if key.address != 0 {
        text = format!("{:016x}", key.address);
    }
    let mut push = |part: &str| {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(part);
    };
    let (name, file) = (profile.text(key.name), profile.text(key.file));
    if !name.is_empty() {
        push(name);
    }
    if key.line != 0 {
        push(&format!("{file}:{}", key.line));
    } else if !file.is_empty() {
        push(file);
    } else if name.is_empty() {
        let object = crate::model::base_name(profile.text(key.object));
        if object.is_empty() {
            push("<unknown>");
        } else {
            push(&format!("[{object}]"));
        }
    }
    text
}

impl Lookup {
    fn new(profile: &mut Profile, granularity: Granularity) -> Self {
        let mut files: HashMap<Str, Str> = HashMap::new();
        let mut known: HashMap<Key, u32> = HashMap::new();
        let mut lookup = Self {
            starts: Vec::with_capacity(profile.locations.len() + 1),
            nodes: Vec::new(),
            keys: Vec::new(),
            inner: Vec::new(),
            no_stack: 0,
        };
        let mut find = |key: Key, is_inner: bool, lookup: &mut Self| {
            let next = lookup.keys.len() as u32;
            let node = *known.entry(key).or_insert(next);
            if node == next {
                lookup.keys.push(key);
                lookup.inner.push(false);
            }
            lookup.inner[node as usize] |= is_inner;
            node
        };
        let Profile {
            locations,
            functions,
            mappings,
            strings,
            ..
        } = profile;
        for location in locations.iter() {
            lookup.starts.push(lookup.nodes.len() as u32);
            let object = location
                .mapping
                .map_or(Str::EMPTY, |m| mappings[m as usize].file);
            let address = if granularity == Granularity::Addresses {
                location.address
            } else {
                0
            };
            if location.lines.is_empty() {
                let node = find(
                    Key {
                        address,
                        object,
                        ..Key::default()
                    },
                    false,
                    &mut lookup,
                );
                lookup.nodes.push(node);
            }
            for (depth, line) in location.lines.iter().enumerate() {
                let function = &functions[line.function as usize];
                let mut file = || {
                    *files.entry(function.file).or_insert_with(|| {
                        let clean = clean_path(strings.get(function.file));
                        strings.intern(&clean)
                    })
                };
                let mut key = Key {
                    name: function.name,
                    address,
                    ..Key::default()
                };
                match granularity {
                    Granularity::Functions | Granularity::Sites => {}
                    Granularity::FileFunctions => key.file = file(),
                    Granularity::Lines | Granularity::Addresses => {
                        key.file = file();
                        key.line = line.line;
                    }
                    Granularity::Files => {
                        key.name = Str::EMPTY;
                        key.file = file();
                    }
                }
                if key.name.is_empty() && key.file.is_empty() {
                    key.object = object;
                }
                let node = find(key, depth + 1 < location.lines.len(), &mut lookup);
                lookup.nodes.push(node);
            }
        }
        lookup.starts.push(lookup.nodes.len() as u32);
        let name = strings.intern(NO_STACK);
        lookup.no_stack = find(
            Key {
                name,
                ..Key::default()
            },
            false,
            &mut lookup,
        );
        lookup
    }

    fn start(&self, location: u32) -> usize {
        self.starts[location as usize] as usize
    }
}

/// Calls of the nodes that are inlined anywhere, to tell how they are called.
#[derive(Default)]
struct Edges {
    calls: HashMap<(u32, u32), Edge>,
}

struct Edge {
    weight: i128,
    all_inlined: bool,
    /// The last row counted: a row counts once for an edge.
    row: u32,
}

impl Edges {
    /// Calls below this share of the total do not tell how a function is called; pprof's cut.
    const LEAST_SHARE: f64 = 0.001;

    fn add(
        &mut self,
        lookup: &Lookup,
        call: (u32, u32),
        row: u32,
        is_inlined: bool,
        weight: &Weight,
    ) {
        if !lookup.inner[call.1 as usize] {
            return;
        }
        let new = Edge {
            weight: 0,
            all_inlined: true,
            row: u32::MAX,
        };
        let edge = self.calls.entry(call).or_insert(new);
        if edge.row != row {
            edge.row = row;
            edge.all_inlined &= is_inlined;
            let value = i128::from(weight.value);
            edge.weight = match weight.side {
                Side::New => edge.weight.saturating_add(value),
                Side::Base => edge.weight.saturating_sub(value),
            };
        }
    }

    fn label(&self, nodes: &mut [Node]) {
        let total = nodes
            .iter()
            .fold(0i128, |sum, node| sum.saturating_add(node.flat.net()));
        let least = (total as f64 * Self::LEAST_SHARE).abs() as u128;
        let mut seen = vec![(false, false); nodes.len()];
        for (&(_, node), edge) in &self.calls {
            if edge.weight.unsigned_abs() >= least {
                let (inlined, called) = &mut seen[node as usize];
                *inlined |= edge.all_inlined;
                *called |= !edge.all_inlined;
            }
        }
        for (node, seen) in nodes.iter_mut().zip(seen) {
            node.inlined = match seen {
                (true, true) => Inlined::Partly,
                (true, false) => Inlined::Yes,
                _ => Inlined::No,
            };
        }
    }
}

/// How much each line of each location holds, to name a node's heaviest place.
struct Places {
    flat: Vec<i128>,
    cum: Vec<i128>,
}

impl Places {
    fn new(lookup: &Lookup) -> Self {
        Self {
            flat: vec![0; lookup.nodes.len()],
            cum: vec![0; lookup.nodes.len()],
        }
    }

    fn add(&mut self, at: usize, value: i64) {
        self.cum[at] = self.cum[at].saturating_add(i128::from(value).abs());
    }

    fn add_flat(&mut self, at: usize, value: i64) {
        self.flat[at] = self.flat[at].saturating_add(i128::from(value).abs());
    }

    /// Gives each node the file and line of the place that holds most, the flat part first.
    fn choose(&self, profile: &Profile, lookup: &Lookup, nodes: &mut [Node]) {
        // By file and line rather than by address: a line with many small calls is one place.
        let mut sums: HashMap<(u32, Str, i64), (i128, i128)> = HashMap::new();
        for (index, location) in profile.locations.iter().enumerate() {
            for (depth, line) in location.lines.iter().enumerate() {
                let at = lookup.start(index as u32) + depth;
                if self.cum[at] == 0 {
                    continue;
                }
                let file = profile.functions[line.function as usize].file;
                let sum = sums.entry((lookup.nodes[at], file, line.line)).or_default();
                sum.0 = sum.0.saturating_add(self.flat[at]);
                sum.1 = sum.1.saturating_add(self.cum[at]);
            }
        }
        let mut best = vec![((-1, -1), i64::MAX); nodes.len()];
        for ((node, file, line), sum) in sums {
            let best = &mut best[node as usize];
            // Equal sums: the smaller line, so that the answer does not hang on the map's order.
            if sum > best.0 || (sum == best.0 && line < best.1) {
                *best = (sum, line);
                nodes[node as usize].place = (file, line);
            }
        }
    }
}

/// Which functions are plumbing between the program and the allocator.
struct SiteRule {
    is_plumbing: Vec<bool>,
}

impl SiteRule {
    fn new(profile: &Profile) -> Self {
        let is_plumbing = profile
            .functions
            .iter()
            .map(|function| is_plumbing(profile.text(function.name), profile.text(function.file)))
            .collect();
        Self { is_plumbing }
    }

    /// The innermost frame that is not plumbing: its location and line; the innermost one if all are.
    fn site_of(&self, profile: &Profile, stack: &[u32]) -> Option<(u32, usize)> {
        for &location in stack {
            let lines = &profile.locations[location as usize].lines;
            if lines.is_empty() {
                return Some((location, 0));
            }
            let own = lines
                .iter()
                .position(|line| !self.is_plumbing[line.function as usize]);
            if let Some(depth) = own {
                return Some((location, depth));
            }
        }
        stack.first().map(|&leaf| (leaf, 0))
    }
}

/// Whether a function only stands between the code that wanted memory and the allocator: the
/// languages' own libraries and the usual wrappers of malloc.
pub fn is_plumbing(name: &str, file: &str) -> bool {
    const FILES: [&str; 6] = [
        "/rustc/",
        "/lib/rustlib/src/rust/library/",
        "/include/c++/",
        "/include/x86_64-linux-gnu/c++/",
        "/libstdc++-v3/",
        "library/alloc/src/",
    ];
    const PREFIXES: [&str; 11] = [
        "alloc::",
        "core::",
        "std::",
        "hashbrown::",
        "__gnu_cxx::",
        "operator new",
        "__rust_",
        "__rustc::__rust_",
        "__rdl_",
        "__rg_",
        "runtime.malloc",
    ];
    if FILES.iter().any(|part| file.contains(part)) {
        return true;
    }
    // `<alloc::vec::Vec<T> as …>::method` belongs to the type's crate; a type of the program with a
    // library's trait does not.
    let bare = name.trim_start_matches('<');
    if PREFIXES.iter().any(|prefix| bare.starts_with(prefix)) {
        return true;
    }
    WRAPPERS.is_match(without_arguments(name))
}

/// Wrappers of malloc as they are called everywhere: `xmalloc`, `g_realloc_n`, `zmalloc_usable`,
/// `_PyMem_RawMalloc`, `xstrdup`; not `sdsnew` or `cache_alloc`, which know what they allocate for.
static WRAPPERS: LazyLock<Regex> = LazyLock::new(|| {
    let allocate = "(?:try_?)?(?:raw)?(?:[mcz]|re)alloc(?:0|_n|array|_array)?";
    let align = "(?:posix_)?memalign|aligned_alloc|strn?dup";
    let rest = "(?:_usable|_internal|_with_flags|_num)*";
    Regex::new(&format!(
        "(?i)^_*(?:[a-z0-9]+_)*[a-z]{{0,2}}(?:{allocate}|{align}){rest}$"
    ))
    .expect("the expression is a constant")
});

/// A path without `.`, `..` and doubled slashes, as pprof shows it; nothing stays nothing.
pub fn clean_path(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_lexically() {
        assert_eq!(clean_path("/a//b/./c/../d"), "/a/b/d");
        assert_eq!(clean_path("../x"), "../x");
        assert_eq!(clean_path("/.."), "/");
        assert_eq!(clean_path("a/.."), ".");
        assert_eq!(clean_path(""), "");
    }

    #[test]
    fn plumbing_is_told_from_programs() {
        for name in [
            "alloc::vec::Vec<T>::push",
            "<alloc::vec::Vec<T> as core::clone::Clone>::clone",
            "std::vector<int, std::allocator<int> >::push_back",
            "operator new(unsigned long)",
            "xmalloc",
            "zmalloc",
            "strdup",
            "g_malloc",
            "__rust_alloc",
            "_PyMem_RawMalloc",
            "_PyObject_Malloc",
            "ztrymalloc_usable_internal",
            "g_realloc_n",
            "xstrdup",
            "posix_memalign",
        ] {
            assert!(is_plumbing(name, ""), "{name}");
        }
        for name in [
            "main",
            "serve",
            "<app::Cache as core::clone::Clone>::clone",
            "sdsnewlen",
            "cache_alloc",
            "small_list",
            "app::std::x",
        ] {
            assert!(!is_plumbing(name, ""), "{name}");
        }
        assert!(is_plumbing(
            "push_back",
            "/usr/include/c++/12/bits/stl_vector.h"
        ));
    }
}
