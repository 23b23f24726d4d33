// The page: tabs, table, difference, trend, sizes and ages. Every name is set as text, never as markup.
"use strict";

// What is shown; a page that stands alone brings it along.
let data = NOTHING;
const $ = id => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
}

const size = (value, signed = false) => amount(value, data.unit, signed);
function amount(value, unit, signed = false) {
  const sign = value < 0 ? "-" : signed && value > 0 ? "+" : "";
  value = Math.abs(value);
  if (unit !== "bytes") return sign + Math.round(value).toLocaleString("en");
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at++; }
  const text = value.toFixed(2).replace(/\.?0+$/, "");
  return text === "0" ? "0" : sign + text + units[at];
}
const range = ends => ends ? `${size(ends[0])} to ${size(ends[1])}` : "not known";
const percent = share => (share * 100).toFixed(share < 0.1 ? 2 : 1) + "%";
const chance = p => p === null || p === undefined ? "-" : p <= 1e-15 ? "<1e-15" : p < 0.001 ? p.toExponential(0) : p < 0.0995 ? p.toFixed(3) : p.toFixed(2);

// Quantiles of chi-square by Wilson and Hilferty: good enough for a tooltip; the tables are exact.
function chi(z, k) { const a = 2 / (9 * k); return k * Math.max(0, 1 - a + z * Math.sqrt(a)) ** 3; }
function interval(all, variance, skew, largest) {
  if (!data.period) return null;
  if (all < 0) return interval(-all, variance, skew, largest).reverse().map(end => -end);
  // What is certain of the sum, blocks that are all sampled, moves the interval of the rest.
  const value = skew > 0 ? Math.min(all, variance * variance / skew) : all, certain = all - value;
  if (value > 0 && variance <= 0) return [all, all];
  if (value > 0 && value * value >= 8 * variance) { const half = 1.96 * Math.sqrt(variance); return [Math.max(0, all - half), all + half]; }
  const weight = Math.max(data.weight, largest), mean = value + weight, spread = variance + weight * weight;
  const low = value > 0 ? variance / (2 * value) * chi(-1.96, 2 * value * value / variance) : 0;
  return [certain + low, certain + (spread > 0 ? spread / (2 * mean) * chi(1.96, 2 * mean * mean / spread) : value)];
}

const page = {
  // What a server can do: open a function's source, fetch what is made later, and its keys.
  source: null, later: null, keys: {},
  isDark() {
    const theme = document.documentElement.dataset.theme;
    return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  },
  matched(found) {
    $("matched").textContent = found ? `${size(found.sum)}, ${percent(found.share)} in ${found.frames} frames` : "";
  },
  pressed() {
    $("reverse").setAttribute("aria-pressed", flame.reversed);
    $("sandwich").setAttribute("aria-pressed", flame.sandwiched !== null);
    $("flip").setAttribute("aria-pressed", flame.flipped);
    $("mode").setAttribute("aria-pressed", flame.compares);
    legend();
  },
  detail(tree, node, compares) {
    const now = tree.now[node], base = tree.base[node], name = data.names[tree.names[node]];
    const box = $("detail");
    const of = tree.now[0] ? `, ${percent(now / tree.now[0])}` : "";
    const parts = [make("b", {}, name), page.source && node > 0 ? opener(name, "Source") : null, make("br")];
    if (compares) {
      const change = now - base, half = 1.96 * Math.sqrt(tree.change[node]);
      const sure = Math.abs(change) > half ? "" : "; within sampling error";
      parts.push(`${size(base)} to ${size(now)}, ${size(change, true)} `, make("span", {}, `95%: ${size(change - half)} to ${size(change + half)}${sure}`));
    } else {
      parts.push(`${size(now)}${of} `, make("span", {}, `95%: ${range(interval(now, tree.error[node], tree.skew[node], tree.weight[node]))}, ${Math.round(tree.samples[node])} samples`));
    }
    box.replaceChildren(...parts.filter(part => part !== null));
  },
};

// A button that opens the source of a function, where there is a server to ask for it.
function opener(name, text) {
  return make("button", { type: "button", class: "open", title: "Source lines (l)", onclick: () => page.source({ function: name }) }, text);
}

function legend() {
  const box = $("legend");
  if (!flame.compares) {
    box.replaceChildren(`Width: ${data.kind} of a frame and all that it calls. A click zooms.`);
    return;
  }
  const dark = page.isDark();
  const swatch = (now, base, error, text) => {
    const colour = make("i");
    colour.style.background = changeColour({ now: [now], base: [base], change: [error] }, 0, dark);
    return make("span", {}, colour, text);
  };
  box.replaceChildren(swatch(1, 0, 0, "new"), swatch(10, 4, 0, "grew"), swatch(1, 1, 0, "the same"), swatch(4, 10, 0, "shrank"), swatch(0, 1, 0, "gone"), swatch(1, 0, 9, "pale: within sampling error"), make("span", {}, "Width: the larger of both sides, so that nothing vanishes."));
}

// A table that sorts by a click on a heading; `columns` are [heading, text of a row, key to sort by]. `state` is how it was
// left, for one that is made again.
function table(rows, columns, state = {}) {
  const box = make("div", { class: "wide" }), element = make("table"), most = 400;
  state.by ??= null; state.down ??= true; state.shown ??= most;
  const fill = () => {
    const { by, down, shown } = state;
    const sorted = by === null ? rows : [...rows].sort((a, b) => {
      const [x, y] = [columns[by][2](a), columns[by][2](b)];
      const order = typeof x === "string" ? x.localeCompare(y) : (x ?? -Infinity) - (y ?? -Infinity);
      return down ? -order : order;
    });
    const head = make("tr", {}, ...columns.map(([name], at) => make("th", { scope: "col", "aria-sort": by === at ? (down ? "descending" : "ascending") : "none" },
      make("button", { type: "button", onclick: () => { state.down = by === at ? !down : typeof columns[at][2](rows[0] ?? {}) !== "string"; state.by = at; fill(); } }, name + (by === at ? (down ? " ↓" : " ↑") : "")))));
    const body = sorted.slice(0, shown).map(row => make("tr", {}, ...columns.map(([name, text]) => { const cell = text(row); return make("td", { "data-label": name }, ...(Array.isArray(cell) ? cell : [cell])); })));
    element.replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
    more.hidden = shown >= rows.length;
    more.textContent = `Show ${Math.min(most, rows.length - shown)} more of ${rows.length}`;
  };
  const more = make("button", { type: "button", onclick: () => { state.shown += most; fill(); } });
  fill();
  box.append(element);
  return [box, make("p", {}, more)];
}
const named = row => [page.source ? opener(row.name, row.name) : row.name, make("br"), make("small", {}, row.place)];

function showTable(view) {
  const total = data.total || 1;
  const filter = make("input", { type: "search", placeholder: "Filter", "aria-label": "Filter rows" });
  const place = make("div");
  const columns = [
    [data.kind, row => size(row.value), row => row.value],
    ["share", row => percent(row.value / total), row => row.value],
    ["95% interval", row => range(row.interval), row => row.interval?.[0]],
    ["samples", row => String(row.samples), row => row.samples],
    ["with callees", row => size(row.cum), row => row.cum],
    ["function", named, row => row.name],
  ];
  const fill = () => place.replaceChildren(...table(data.rows.filter(row => (row.name + row.place).toLowerCase().includes(filter.value.toLowerCase())), columns));
  filter.addEventListener("input", fill);
  fill();
  view.replaceChildren(make("div", { class: "bar" }, filter), place);
}

function showDiff(view) {
  const diff = data.diff, signed = row => make("span", { class: row.real ? (row.delta > 0 ? "grew" : "shrank") : "faint" }, size(row.delta, true));
  const columns = [
    ["change", signed, row => row.delta],
    ["95% interval", row => range(row.interval), row => row.interval?.[0]],
    ["noise p", row => chance(row.p), row => row.p],
    ["q", row => chance(row.q), row => row.q],
    ...(diff.survivors ? [["churn p", row => chance(row.churn), row => row.churn]] : []),
    ["before", row => size(row.base), row => row.base],
    ["now", row => size(row.now), row => row.now],
    ["", row => row.kind, row => row.kind],
    ["site", named, row => row.name],
  ];
  view.replaceChildren(make("p", {}, diff.way), make("p", { class: "note" }, "Coloured: larger than sampling error explains, q below 0.05 over all rows. churn p: the probability that ordinary coming and going makes such a change."), ...table(diff.rows, columns));
}

const svg = (tag, attributes, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

// The end of an axis: the next round number, in units of 1024 where bytes are counted.
function nice(most) {
  const base = data.unit === "bytes" ? 1024 : 1000, unit = base ** Math.floor(Math.log(Math.max(most, 1)) / Math.log(base));
  const steps = [1, 2, 4, 6, 8, 10, 16, 20, 30, 40, 60, 80, 100, 120, 160, 200, 300, 400, 600, 800, base];
  return unit * (steps.find(step => step * unit >= most) ?? base);
}

function plot(x, values, ends, span, hot) {
  const W = 420, H = 170, L = 62, R = 8, T = 8, B = 22;
  const top = nice(Math.max(1, ...ends.map(end => end?.[1] ?? 0), ...values)), last = x[x.length - 1] || 1;
  const px = at => L + at / last * (W - L - R), py = value => T + (1 - Math.max(0, value) / top) * (H - T - B);
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
  for (const share of [0, .5, 1]) {
    const y = py(top * share);
    picture.append(svg("line", { class: "axis", x1: L, x2: W - R, y1: y, y2: y }), svg("text", { x: L - 5, y: y + 4, "text-anchor": "end" }, size(top * share)));
  }
  picture.append(svg("text", { x: L, y: H - 6 }, "0"), svg("text", { x: W - R, y: H - 6, "text-anchor": "end" }, span));
  picture.append(svg("polyline", { class: "fit", fill: "none", points: x.map((at, i) => `${px(at).toFixed(1)},${py(values[i]).toFixed(1)}`).join(" ") }));
  x.forEach((at, i) => {
    if (ends[i]) picture.append(svg("line", { class: "error", x1: px(at), x2: px(at), y1: py(ends[i][0]), y2: py(ends[i][1]) }));
    picture.append(svg("circle", { class: hot ? "hot" : "data", cx: px(at), cy: py(values[i]), r: 3 }));
  });
  return picture;
}

function showTrend(view) {
  const trend = data.trend;
  if (trend === "later") { view.replaceChildren(make("p", { class: "note" }, "Reading the dumps of the series…")); page.later("trend", view); return; }
  const plots = trend.sites.map(site => make("figure", {}, make("figcaption", {}, make("b", {}, site.name), make("small", {}, site.note)), plot(trend.x, site.values, site.intervals, trend.span, site.leak)));
  view.replaceChildren(make("p", {}, trend.note), make("p", { class: "note" }, "Points with 95% intervals. A leak grows to the end and keeps what it was given; a plateau grew and stopped."), make("div", { class: "plots" }, ...plots));
}

function bars(list, title, note) {
  const W = 420, H = 190, L = 62, R = 8, T = 8, B = 40, top = nice(Math.max(1, ...list.map(bar => bar.value)));
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" }), step = (W - L - R) / Math.max(list.length, 1);
  for (const share of [0, .5, 1]) {
    const y = T + (1 - share) * (H - T - B);
    picture.append(svg("line", { class: "axis", x1: L, x2: W - R, y1: y, y2: y }), svg("text", { x: L - 5, y: y + 4, "text-anchor": "end" }, size(top * share)));
  }
  const every = Math.ceil(list.length / 8);
  list.forEach((bar, i) => {
    const h = bar.value / top * (H - T - B), box = svg("rect", { class: "data", x: L + i * step + 1, y: H - B - h, width: Math.max(step - 2, 1), height: h });
    box.append(svg("title", {}, `${bar.label}: ${size(bar.value)}`));
    picture.append(box);
    if (i % every === 0) picture.append(svg("text", { x: L + (i + .5) * step, y: H - B + 15, "text-anchor": "middle" }, bar.label));
  });
  return make("figure", {}, make("figcaption", {}, make("b", {}, title), make("small", {}, note)), picture);
}

function showSizes(view) {
  const parts = [bars(data.sizes, "By size of block", "from this size up to the next")];
  if (data.ages.length) parts.push(bars(data.ages, "By age", "the dump interval in which blocks were born, the oldest first"));
  view.replaceChildren(make("div", { class: "plots" }, ...parts));
}

// Parts of memory one after the other: each bar begins where the one before it ended.
function showMemory(view) {
  const parts = data.waterfall, bytes = value => amount(value, "bytes");
  let at = 0, most = 1;
  const spans = parts.map(part => { const from = at; at += part.bytes; most = Math.max(most, from, at); return [Math.min(from, at), Math.abs(part.bytes)]; });
  const line = (name, value, [start, length], kind) => {
    const bar = make("i", { class: kind });
    bar.style.marginLeft = `${start / most * 100}%`;
    bar.style.width = `${Math.max(length / most * 100, 0.2)}%`;
    return make("div", { class: "part", role: "row" }, make("span", { role: "cell" }, name), make("span", { class: "bar-place", "aria-hidden": "true" }, bar), make("b", { role: "cell" }, bytes(value)));
  };
  view.replaceChildren(make("p", { class: "note" }, data.kind === "rss_space" ? "What resident memory was made of, from what the program held up to all of the process." : "The allocator's own numbers at the instant of the dump, exact: from what the program held up to all that was resident of the process."),
    make("div", { class: "parts", role: "table", "aria-label": "Memory part by part" }, ...parts.map((part, i) => line(part.name, part.bytes, spans[i], part.bytes < 0 ? "less" : "more")), parts.length > 1 ? line("resident", at, [0, at], "sum") : null));
}

const keys = [["/", "search"], ["arrows", "move between frames"], ["Enter", "zoom"], ["Escape", "back to the whole"], ["r", "reverse: callers of each leaf"], ["s", "sandwich: callers and callees of the chosen function"], ["f", "flip"], ["c", "compare, where there is a base"], ["t", "light or dark"]];
function showAbout(view) {
  view.replaceChildren(make("pre", {}, data.about), make("p", {}, ...keys.flatMap(([key, what]) => [make("kbd", {}, key), ` ${what}  `])));
}

// The views that there are, each with what fills it, and whether there is something to see; a server has more.
const all = [["flame", "Flame graph", null, () => data.rows], ["table", "Table", showTable, () => data.rows], ["diff", "Difference", showDiff, () => data.diff], ["trend", "Trend", showTrend, () => data.trend], ["sizes", "Sizes and ages", showSizes, () => data.rows], ["memory", "Memory", showMemory, () => data.waterfall], ["about", "About", showAbout, () => data.rows]];
const made = new Set();
let views = [], shown = "flame";
function show(name) {
  if (!views.some(([id]) => id === name)) name = views[0][0];
  shown = name;
  for (const [id, , fill] of views) {
    const view = $("view-" + id);
    view.hidden = id !== name;
    $("tab-" + id).setAttribute("aria-selected", id === name);
    $("tab-" + id).tabIndex = id === name ? 0 : -1;
    // A view is made when it is first looked at.
    if (id === name && fill && !made.has(id)) { made.add(id); fill(view); }
  }
  if (name === "flame") flame.draw();
}
function theme() {
  document.documentElement.dataset.theme = page.isDark() ? "light" : "dark";
  legend(); flame.draw();
}

// Shows other data, in the view that is open if it is there.
function use(next) {
  data = next;
  $("title").textContent = document.title = data.title;
  $("summary").textContent = data.summary;
  $("mode").hidden = !data.diff;
  tabs();
  flame.replace(data);
  show(shown);
}

function tabs() {
  const focused = document.activeElement?.id;
  views = all.filter(([, , , is]) => is());
  made.clear();
  for (const [id] of all) $("view-" + id).hidden = true;
  const buttons = views.map(([id, title]) => make("button", { id: "tab-" + id, type: "button", role: "tab", "aria-controls": "view-" + id, onclick: () => show(id) }, title));
  $("tabs").replaceChildren(...buttons, make("button", { type: "button", class: "theme", title: "Light or dark (t)", onclick: theme }, "Light/dark"));
  if (focused?.startsWith("tab-")) $(focused)?.focus();
}
$("tabs").addEventListener("keydown", event => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], at = views.findIndex(([id]) => document.activeElement.id === "tab-" + id);
  if (step && at >= 0) { const [id] = views[(at + step + views.length) % views.length]; show(id); $("tab-" + id).focus(); }
});
const flame = new Flame(page);
for (const id of ["reverse", "sandwich", "flip"]) $(id).addEventListener("click", () => flame.toggle(id));
$("reset").addEventListener("click", () => { $("search").value = ""; flame.search(""); flame.reset(); });
$("mode").textContent = "Compare";
$("mode").addEventListener("click", () => flame.toggle("compare"));
$("search").addEventListener("input", event => flame.search(event.target.value));
document.addEventListener("keydown", event => {
  const typing = ["INPUT", "SELECT"].includes(event.target.tagName);
  if (event.key === "Escape") { $("search").value = ""; flame.search(""); flame.reset(); $("flame").focus(); return; }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = { ...page.keys, "/": () => { show("flame"); $("search").focus(); }, r: () => flame.toggle("reverse"), s: () => flame.toggle("sandwich"), f: () => flame.toggle("flip"), c: () => data.diff && flame.toggle("compare"), t: theme }[event.key];
  if (act) { event.preventDefault(); act(); }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { legend(); flame.draw(); });
const own = JSON.parse($("data").textContent);
if (own) { use(own); document.documentElement.dataset.ready = "1"; }
