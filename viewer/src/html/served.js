// A served page: the list of what there is, what is chosen of it, and what is alive.
"use strict";

const LIST_MS = 2000, CHOICES = 200;
const picked = { new: null, base: null, type: null };
const list = { revision: null, entries: [], problems: [], table: {}, filter: "" };
const live = { on: false, seconds: 5, timer: null };
let turns = 0;

const parameters = values => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "")).toString();
const choice = () => ({ new: picked.new, base: picked.base, type: picked.type });
const entry = id => list.entries.find(entry => entry.id === id);

async function ask(path, method = "GET") {
  let response;
  try { response = await fetch(path, { method, cache: "no-store", redirect: "error" }); }
  catch { throw new Error("heapsift doesn't answer: is it still running?"); }
  if (!response.ok) throw new Error((await response.text()).trim() || `the server answers ${response.status}`);
  return response.json();
}

function tellState(text, failed = false) {
  $("state").textContent = text;
  $("state").className = failed ? "failure" : "";
}

const two = number => String(number).padStart(2, "0");
function moment(milliseconds) {
  if (!milliseconds) return "";
  const time = new Date(milliseconds);
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}
const isUsable = entry => entry.live === null && entry.reason === null;
const byTime = (a, b) => b.time - a.time || b.id - a.id;
const isOfSame = (a, b) => a.of !== null ? a.of === b.of && a.asked === b.asked : b.of === null && a.group === b.group && a.pid === b.pid;
function newest(like) {
  const usable = list.entries.filter(entry => isUsable(entry) && (!like || isOfSame(like, entry)));
  return usable.sort(byTime)[0] ?? null;
}

// Shows what is chosen; `how` is what becomes of the page's address.
async function choose(change, how = "push") {
  const turn = ++turns, wanted = { ...choice(), ...change };
  const slow = setTimeout(() => turn === turns && tellState("Reading…"), 300);
  try {
    const broken = [wanted.new, wanted.base].map(id => entry(id)).find(each => each?.reason);
    if (broken) throw new Error(`${broken.name}: ${broken.reason}`);
    const alive = entry(wanted.new)?.live, kind = wanted.kind;
    delete wanted.kind;
    if (alive) {
      wanted.new = (await ask("/take?" + parameters({ of: wanted.new, kind: kind ?? alive[0] }), "POST")).id;
      await look();
    }
    if (turn !== turns) return false;
    const next = await ask("/data?" + parameters(wanted));
    if (turn !== turns) return false;
    Object.assign(picked, wanted, { type: wanted.type === null ? null : next.kind });
    const address = "?" + parameters(choice());
    if (how === "push") history.pushState(null, "", address);
    if (how === "replace") history.replaceState(null, "", address);
    tellState("");
    sources.turn++;
    use(next);
    $("note").textContent = next.note ?? "";
    if (sources.asked) refreshSource();
    fillPick();
    return true;
  } catch (error) {
    if (turn === turns) { tellState(error.message, true); fillPick(); if (!data.rows) show("dumps"); look(); }
    return false;
  } finally {
    clearTimeout(slow);
    document.documentElement.dataset.ready = "1";
  }
}

// The lines of the function that is open, of the profile that is shown now.
function refreshSource() {
  if (shown === "source") openSource(sources.asked);
  else Object.assign(sources, { found: null, asked: null, failure: null });
}

// The list again.
async function look() {
  let told;
  try { told = await ask("/dumps?" + parameters({ seen: list.revision })); }
  catch (error) { tellState(error.message, true); return; }
  if ($("state").className === "failure" && data.rows) tellState("");
  if (told.entries === undefined) return;
  Object.assign(list, told);
  fillPick();
  if (shown === "dumps") { made.delete("dumps"); show("dumps"); }
}

function labelOf(entry) {
  if (entry.live) return `now: ${entry.name}`;
  return [moment(entry.time), entry.total === null ? "" : amount(entry.total, entry.unit), entry.of === null ? entry.name : entry.asked].filter(Boolean).join("  ");
}

// The groups of the list, the newest first in each.
function grouped(entries) {
  const groups = new Map(), put = (name, entry) => { if (!groups.has(name)) groups.set(name, []); groups.get(name).push(entry); };
  for (const each of entries) {
    if (each.live) put("Running", each);
    else if (each.of !== null) put(`Taken of ${each.name}`, each);
    else put(each.group ? each.group + (each.pid === null ? "" : `, process ${each.pid}`) : "Files", each);
  }
  return groups;
}

function fillSelect(select, entries, chosen, first) {
  const groups = [...grouped(entries)].map(([name, entries]) => make("optgroup", { label: name }, ...entries.map(entry => make("option", { value: entry.id }, labelOf(entry)))));
  select.replaceChildren(...(first ? [make("option", { value: "" }, first)] : []), ...groups);
  select.value = chosen === null ? "" : String(chosen);
}

function fillPick() {
  const usable = list.entries.filter(isUsable).sort(byTime), running = list.entries.filter(entry => entry.live !== null);
  const chosen = id => usable.filter((entry, at) => at < CHOICES || entry.id === id);
  // A list that is open under somebody's finger stays as it is.
  if (document.activeElement !== $("pick-new")) fillSelect($("pick-new"), [...running, ...chosen(picked.new)], picked.new, picked.new === null ? "nothing" : null);
  if (document.activeElement !== $("pick-base")) fillSelect($("pick-base"), chosen(picked.base), picked.base, "nothing");
  if (document.activeElement !== $("pick-type")) {
    $("pick-type").replaceChildren(...(data.types ?? []).map(type => make("option", { value: type }, type)));
    $("pick-type").value = data.kind ?? "";
  }
  const this_ = entry(picked.new);
  $("live").hidden = !this_ || (this_.of === null && !this_.group);
  $("live").setAttribute("aria-pressed", live.on);
  $("every").hidden = $("live").hidden || !live.on || this_.of === null;
}

function showDumps(view) {
  const filter = make("input", { type: "search", placeholder: "Filter", "aria-label": "Filter profiles", value: list.filter });
  const place = make("div");
  const button = (text, title, pressed, onclick) => make("button", { type: "button", title, "aria-pressed": pressed, onclick }, text);
  const actions = each => {
    if (each.live) return each.live.flatMap(kind => [button(kind, "Take this profile of it now", false, () => choose({ new: each.id, kind })), " "]);
    if (each.reason !== null) return [];
    return [button("Show", "Show this profile", picked.new === each.id, () => choose({ new: each.id })), " ",
      button("Base", "Compare with this profile", picked.base === each.id, () => choose({ base: picked.base === each.id ? null : each.id }))];
  };
  const name = each => [each.name, each.of === null ? null : make("a", { href: `/snapshot?id=${each.id}`, download: "" }, " save"), make("br"),
    each.reason === null ? make("small", {}, each.asked ?? each.group) : make("small", { class: "failure" }, each.reason)];
  const columns = [
    ["", actions, each => each.id],
    ["time", each => each.live ? "now" : moment(each.time), each => each.time],
    ["total", each => each.total === null ? [] : amount(each.total, each.unit), each => each.total],
    ["samples", each => each.samples ?? [], each => each.samples],
    ["file", each => each.bytes ? amount(each.bytes, "bytes") : [], each => each.bytes],
    ["profile", name, each => each.name],
  ];
  const fill = () => {
    list.filter = filter.value;
    const wanted = filter.value.toLowerCase();
    const rows = list.entries.filter(each => `${each.name} ${each.group}`.toLowerCase().includes(wanted)).sort((a, b) => (b.live !== null) - (a.live !== null) || byTime(a, b));
    place.replaceChildren(...(rows.length ? table(rows, columns, list.table) : [make("p", { class: "note" }, list.entries.length ? "No name matches." : "There is no dump yet; each appears here when it is written.")]));
  };
  filter.addEventListener("input", fill);
  fill();
  const problems = list.problems.map(problem => make("p", { class: "failure" }, `${problem.name}: ${problem.reason}`));
  view.replaceChildren(make("div", { class: "bar" }, filter), ...problems, place);
}

// Live: a fresh profile every few seconds of what runs, the newest dump of a directory.
function follow(on = !live.on) {
  live.on = on && !$("live").hidden;
  fillPick();
  clearTimeout(live.timer);
  if (live.on) step();
}
async function step() {
  const this_ = entry(picked.new), wait = seconds => { live.timer = setTimeout(step, seconds * 1000); };
  if (!live.on || !this_) return;
  if (document.hidden) { wait(1); return; }
  if (this_.of !== null) {
    if (!await choose({ new: this_.of, kind: this_.asked }, "replace")) { follow(false); return; }
    if (live.on) wait(live.seconds);
  } else {
    const last = newest(this_);
    if (last && last.id !== this_.id) await choose({ new: last.id }, "replace");
    if (live.on) wait(1);
  }
}

function labelled(text, element) { return make("label", {}, text + " ", element); }

async function begin() {
  const number = name => { const value = new URLSearchParams(location.search).get(name); return value ? Number(value) : null; };
  const asked = () => ({ new: number("new"), base: number("base"), type: new URLSearchParams(location.search).get("type") });
  const first = asked();
  // The token is a cookie by now, and need not stay in the history.
  history.replaceState(null, "", "?" + parameters(first));
  const pick = make("div", { id: "pick", class: "bar" },
    labelled("Profile", make("select", { id: "pick-new", onchange: event => choose({ new: Number(event.target.value) || null }) })),
    labelled("compared with", make("select", { id: "pick-base", onchange: event => choose({ base: Number(event.target.value) || null }) })),
    labelled("by", make("select", { id: "pick-type", onchange: event => choose({ type: event.target.value }) })),
    make("button", { id: "live", type: "button", "aria-pressed": "false", hidden: "", title: "Follow: a fresh profile every few seconds, or the newest dump (v)", onclick: () => follow() }, "Live"),
    make("select", { id: "every", hidden: "", "aria-label": "How often", onchange: event => { live.seconds = Number(event.target.value); } }, ...[1, 2, 5, 15, 60].map(seconds => make("option", { value: seconds, ...(seconds === live.seconds ? { selected: "" } : {}) }, `every ${seconds} s`))),
    make("span", { id: "state", role: "status" }));
  $("summary").after(make("p", { id: "note", class: "note" }), pick);
  for (const [id, title, fill, label] of [["source", "Source", showSource, "Source lines"], ["dumps", "Profiles", showDumps, "Profiles to choose from"]]) {
    all.splice(all.length - 1, 0, [id, title, fill, () => id === "dumps" || data.rows]);
    $("view-about").before(make("section", { id: "view-" + id, role: "tabpanel", "aria-label": label, hidden: "" }));
  }
  page.source = openSource;
  page.later = async (what, view) => {
    const before = data;
    try {
      const found = await ask(`/${what}?` + parameters(choice()));
      if (data === before) { data[what] = found; made.delete(what); if (shown === what) show(what); }
    } catch (error) { if (data === before) view.replaceChildren(make("p", { class: "failure" }, error.message)); }
  };
  page.keys = { l: () => { if (flame.chosen > 0) openSource({ function: data.names[flame.chosenTree.names[flame.chosen]] }); }, v: () => follow() };
  keys.push(["l", "source lines of the chosen function"], ["v", "live: follow what is written or runs"]);
  $("title").textContent = document.title = "heapsift";
  tabs();
  show("dumps");
  shown = "flame";
  await look();
  const there = first.new !== null && entry(first.new) ? first : { ...first, new: null, base: null };
  const start = there.new ?? newest()?.id ?? list.entries.find(entry => entry.live)?.id ?? null;
  if (start !== null) await choose({ ...there, new: start }, "replace");
  else { show("dumps"); document.documentElement.dataset.ready = "1"; }
  addEventListener("popstate", () => { const past = asked(); if (past.new !== null) choose(past, "none"); });
  const again = async () => {
    if (!document.hidden) await look();
    // The first dump that there is.
    if (!data.rows && newest()) { shown = "flame"; await choose({ new: newest().id }, "replace"); }
    setTimeout(again, LIST_MS);
  };
  setTimeout(again, LIST_MS);
}
begin();
