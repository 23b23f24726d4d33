// The source view of a served page: lines of functions with what they hold. Text is set as text.
"use strict";

const sources = { asked: null, found: null, failure: null, turn: 0 };

// Opens the source of {function}, {file} or both.
async function openSource(asked) {
  const turn = ++sources.turn;
  Object.assign(sources, { asked, found: null, failure: null });
  made.delete("source");
  show("source");
  try {
    const { functions } = await ask("/source?" + parameters({ ...choice(), ...asked }));
    if (turn === sources.turn) sources.found = functions;
  } catch (error) {
    if (turn === sources.turn) sources.failure = error.message;
  }
  if (turn === sources.turn) { made.delete("source"); if (shown === "source") show("source"); }
}

function showSource(view) {
  const { asked, found, failure } = sources;
  if (!asked) {
    view.replaceChildren(make("p", { class: "note" }, "Choose a function in the table, or a frame in the flame graph and Source below it."));
    return;
  }
  if (failure) { view.replaceChildren(make("p", { class: "failure" }, failure)); return; }
  if (!found) { view.replaceChildren(make("p", { class: "note" }, "Looking for the source…")); return; }
  view.replaceChildren(...found.map(sourceOf));
}

function sourceOf(part) {
  const most = Math.max(1, ...part.lines.map(line => Math.max(...line.cum)));
  const compares = Boolean(data.diff);
  const value = number => number ? size(number) : ".";
  const cell = (kind, text) => make("span", { class: kind, role: "cell" }, text);
  const change = ([now, base]) => now === base ? cell("value", ".") : cell("value " + (now > base ? "grew" : "shrank"), size(now - base, true));
  const heads = ["line", "own", "with callees", ...(compares ? ["change"] : [])];
  const head = make("div", { class: "line head", role: "row" }, ...heads.map((text, at) => make("span", { class: at ? "value" : "number", role: "columnheader" }, text)), make("code", { role: "columnheader" }, "source"));
  const lines = part.lines.map(line => {
    const row = make("div", { class: "line", role: "row" },
      cell("number", String(line.line)), cell("value", value(line.flat[0])), cell("value", value(line.cum[0])),
      compares ? change(line.cum) : null, make("code", { role: "cell" }, line.text ?? ""));
    row.style.setProperty("--heat", Math.max(...line.cum) / most);
    return row;
  });
  const file = part.file ? make("button", { type: "button", class: "open", title: "All that the profile names in this file", onclick: () => openSource({ file: part.file }) }, part.file) : "no source file is known";
  return make("div", { class: "source" },
    make("h2", {}, part.function), make("p", {}, file),
    part.missing ? make("p", { class: "note" }, part.missing) : null,
    part.file ? make("div", { class: compares ? "code compared" : "code", role: "table", "aria-label": part.function }, head, ...lines) : null);
}
