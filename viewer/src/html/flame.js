// The flame graph: trees of frames with sums for both sides, laid out and drawn on a canvas.
"use strict";

// A tree in arrays. A node's parent has a smaller number; node 0 is the root. `own` are values of stacks that end here.
class Tree {
  constructor(parents, names, own, compares) {
    const count = parents.length;
    Object.assign(this, { parents, names, count });
    const zeros = () => new Float64Array(count);
    this.now = zeros(); this.base = zeros(); this.error = zeros(); this.skew = zeros(); this.change = zeros(); this.samples = zeros(); this.width = zeros();
    this.weight = zeros();
    for (const [node, now, base, samples, error, change, skew, weight = 0] of own) {
      this.now[node] += now; this.base[node] += base; this.samples[node] += samples;
      this.error[node] += error; this.skew[node] += skew; this.change[node] += change;
      this.weight[node] = Math.max(this.weight[node], weight);
      this.width[node] += compares ? Math.max(now, base) : now;
    }
    const degree = new Uint32Array(count + 1);
    this.depth = new Uint16Array(count);
    for (let node = count - 1; node > 0; node--) {
      const parent = parents[node];
      for (const sums of [this.now, this.base, this.error, this.skew, this.change, this.samples, this.width]) sums[parent] += sums[node];
      this.weight[parent] = Math.max(this.weight[parent], this.weight[node]);
      degree[parent + 1]++;
    }
    for (let node = 0; node < count; node++) degree[node + 1] += degree[node];
    this.starts = degree;
    this.children = new Uint32Array(Math.max(0, count - 1));
    const next = degree.slice();
    for (let node = 1; node < count; node++) {
      this.children[next[parents[node]]++] = node;
      this.depth[node] = this.depth[parents[node]] + 1;
    }
  }

  // Children, the widest first; sorted when they are first looked at.
  of(node) {
    const part = this.children.subarray(this.starts[node], this.starts[node + 1]);
    this.sorted ??= new Uint8Array(this.count);
    if (!this.sorted[node]) {
      this.sorted[node] = 1;
      part.sort((a, b) => this.width[b] - this.width[a] || this.names[a] - this.names[b]);
    }
    return part;
  }
}

// Builds a tree from paths of names.
class Planter {
  constructor(root, nameCount) {
    this.parents = [0]; this.names = [root]; this.own = []; this.known = new Map(); this.nameCount = nameCount + 1;
  }
  child(node, name) {
    const key = node * this.nameCount + name;
    let child = this.known.get(key);
    if (child === undefined) {
      child = this.parents.length;
      this.parents.push(node); this.names.push(name); this.known.set(key, child);
    }
    return child;
  }
  put(node, values) { this.own.push([node, ...values]); }
  tree(compares) { return new Tree(this.parents, this.names, this.own, compares); }
}

const NOTHING = { names: ["nothing yet"], parents: [0], frames: [0], own: [] };

class Flame {
  constructor(page) {
    Object.assign(this, { data: NOTHING, page });
    this.canvas = document.getElementById("flame");
    this.compares = false; this.reversed = false; this.sandwiched = null; this.flipped = false;
    this.pattern = null; this.rects = []; this.chosen = 0; this.focus = 0;
    this.grow();
    const canvas = this.canvas;
    canvas.addEventListener("mousemove", event => this.hover(event));
    canvas.addEventListener("mouseleave", () => { this.pointed = null; this.draw(); this.tell(); });
    canvas.addEventListener("click", event => { const rect = this.at(event); if (rect) this.zoom(rect.tree, rect.node); canvas.focus(); });
    canvas.addEventListener("keydown", event => this.key(event));
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
  }

  // Shows other data, from the same place where it is there too.
  replace(data) {
    const path = [], tree = this.chosenTree;
    if (this.trees.length === 1) for (let node = this.focus; node > 0; node = tree.parents[node]) path.unshift(this.data.names[tree.names[node]]);
    const name = this.sandwiched === null ? null : data.names.indexOf(this.data.names[this.sandwiched]);
    this.data = data; this.whole = {};
    this.compares &&= Boolean(data.diff);
    this.sandwiched = name === null || name < 0 ? null : name;
    this.grow();
    let node = 0;
    const fresh = this.trees[0];
    for (const step of path) {
      const next = fresh.of(node).find(child => data.names[fresh.names[child]] === step);
      if (next === undefined) break;
      node = next;
    }
    if (this.trees.length === 1) this.focus = this.chosen = node;
    this.page.pressed(); this.draw(); this.tell();
  }

  // Makes the trees of what is to be shown.
  grow() {
    const { data, compares } = this, nodes = data.parents, names = data.frames;
    const planters = [];
    this.whole ??= {};
    const kind = compares ? "compared" : "plain";
    this.whole[kind] ??= new Tree(nodes, names, data.own, compares);
    if (this.sandwiched !== null) {
      const name = this.sandwiched, callers = new Planter(name, data.names.length), callees = new Planter(name, data.names.length);
      for (const [node, ...values] of data.own) {
        const path = [];
        for (let at = node; at > 0; at = nodes[at]) path.push(names[at]);
        path.reverse();
        const at = path.indexOf(name);
        if (at < 0) continue;
        let up = 0, down = 0;
        for (let i = at - 1; i >= 0; i--) up = callers.child(up, path[i]);
        for (let i = at + 1; i < path.length; i++) down = callees.child(down, path[i]);
        callers.put(up, values); callees.put(down, values);
      }
      planters.push(callers, callees);
    } else if (this.reversed) {
      const leaves = new Planter(names[0], data.names.length);
      for (const [node, ...values] of data.own) {
        let at = 0;
        for (let from = node; from > 0; from = nodes[from]) at = leaves.child(at, names[from]);
        leaves.put(at, values);
      }
      planters.push(leaves);
    }
    this.trees = planters.length ? planters.map(planter => planter.tree(compares)) : [this.whole[kind]];
    this.focus = 0; this.chosen = 0; this.chosenTree = this.trees[0]; this.pointed = null;
    this.match();
  }

  match() {
    if (!this.pattern) { this.hits = null; this.page.matched(null); return; }
    this.hits = this.data.names.map(name => this.pattern(name));
    // A frame below one that matches is not counted again.
    const tree = this.trees[this.trees.length - 1], open = [0];
    let sum = 0, frames = 0;
    while (open.length) {
      const node = open.pop();
      if (this.hits[tree.names[node]] && node > 0) { sum += tree.now[node]; frames++; continue; }
      for (let at = tree.starts[node]; at < tree.starts[node + 1]; at++) open.push(tree.children[at]);
    }
    this.page.matched({ sum, frames, share: tree.now[0] ? sum / tree.now[0] : 0 });
  }

  search(text) {
    this.pattern = null;
    if (text) {
      try { const regex = new RegExp(text, "i"); this.pattern = name => regex.test(name); }
      catch { const plain = text.toLowerCase(); this.pattern = name => name.toLowerCase().includes(plain); }
    }
    this.match(); this.draw();
  }

  zoom(tree, node) {
    this.chosen = node; this.chosenTree = tree;
    if (this.trees.length === 1) this.focus = node;
    this.draw(); this.tell();
  }

  reset() { this.reversed = false; this.sandwiched = null; this.grow(); this.page.pressed(); this.draw(); this.tell(); }

  toggle(what) {
    if (what === "reverse") { this.reversed = !this.reversed; this.sandwiched = null; }
    if (what === "sandwich") {
      const name = this.chosenTree.names[this.chosen];
      this.sandwiched = this.sandwiched === null && this.chosen > 0 ? name : null;
      this.reversed = false;
    }
    if (what === "compare") this.compares = !this.compares;
    const { focus, chosen } = this;
    if (what === "flip") this.flipped = !this.flipped; else this.grow();
    // The same tree with other widths.
    if (what === "compare" && this.trees.length === 1) Object.assign(this, { focus, chosen });
    this.page.pressed(); this.draw(); this.tell();
  }

  // Rectangles of a tree from a node on: those wide enough to be seen.
  layout(tree, focus, width) {
    const rects = [], path = [];
    for (let node = focus; node > 0; node = tree.parents[node]) path.push(tree.parents[node]);
    path.reverse().forEach((node, row) => rects.push({ tree, node, x: 0, w: width, row, above: true }));
    const open = [[focus, 0, width, path.length]];
    while (open.length) {
      const [node, x, w, row] = open.pop();
      rects.push({ tree, node, x, w, row });
      let left = x;
      const unit = tree.width[node] > 0 ? w / tree.width[node] : 0;
      for (const child of tree.of(node)) {
        const part = tree.width[child] * unit;
        if (part < 0.6) break; // The rest is narrower still.
        open.push([child, left, part, row + 1]);
        left += part;
      }
    }
    return rects;
  }

  draw() {
    const canvas = this.canvas, width = canvas.clientWidth;
    if (!width) return;
    const ROW = 19, scale = window.devicePixelRatio || 1;
    const parts = this.trees.map((tree, at) => ({ rects: this.layout(tree, this.trees.length === 1 ? this.focus : 0, width), up: this.trees.length === 2 ? at === 0 : this.flipped }));
    let top = 0;
    for (const part of parts) {
      part.rows = 1 + part.rects.reduce((most, rect) => Math.max(most, rect.row), 0);
      for (const rect of part.rects) rect.y = top + (part.up ? part.rows - 1 - rect.row : rect.row) * ROW;
      top += part.rows * ROW + (this.trees.length === 2 ? 6 : 0);
    }
    this.rects = parts.flatMap(part => part.rects);
    const height = Math.min(Math.max(top, 60), 16000);
    canvas.width = width * scale; canvas.height = height * scale; canvas.style.height = height + "px";
    const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink"), mark = style.getPropertyValue("--mark"), dark = this.page.isDark();
    pen.scale(scale, scale);
    pen.font = '12px ui-monospace, "DejaVu Sans Mono", monospace';
    pen.textBaseline = "middle";
    const letter = pen.measureText("m").width;
    for (const rect of this.rects) {
      const { tree, node, x, y, w } = rect, name = tree.names[node];
      pen.globalAlpha = rect.above ? 0.55 : 1;
      pen.fillStyle = this.compares ? changeColour(tree, node, dark) : nameColour(this.data.names[name], dark);
      if (this.hits?.[name]) pen.fillStyle = mark;
      pen.fillRect(x, y, Math.max(w - 0.7, 0.4), ROW - 1);
      if (tree === this.chosenTree && node === this.chosen && document.activeElement === canvas) {
        pen.strokeStyle = ink; pen.lineWidth = 2; pen.strokeRect(x + 1, y + 1, Math.max(w - 2.7, 1), ROW - 3);
      }
      const room = Math.floor((w - 8) / letter);
      if (room >= 3) {
        const text = this.data.names[name];
        pen.globalAlpha = 1;
        pen.fillStyle = rect.above ? ink : this.hits?.[name] ? (dark ? "#111" : "#fff") : dark ? "#101314" : "#16201c";
        pen.fillText(text.length > room ? text.slice(0, room - 1) + "…" : text, x + 4, y + ROW / 2);
      }
    }
    pen.globalAlpha = 1;
    if (this.pointed) { const { x, y, w } = this.pointed; pen.strokeStyle = ink; pen.lineWidth = 1; pen.strokeRect(x + .5, y + .5, Math.max(w - 1.7, 1), ROW - 2); }
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    return this.rects.find(rect => x >= rect.x && x < rect.x + rect.w && y >= rect.y && y < rect.y + 19);
  }

  hover(event) {
    const found = this.at(event) || null;
    if (found?.node !== this.pointed?.node || found?.tree !== this.pointed?.tree) { this.pointed = found; this.draw(); this.tell(); }
  }

  tell() {
    const tree = this.pointed?.tree ?? this.chosenTree, node = this.pointed?.node ?? this.chosen;
    this.page.detail(tree, node, this.compares);
  }

  key(event) {
    const tree = this.chosenTree, node = this.chosen, children = tree.of(node);
    const siblings = node > 0 ? [...tree.of(tree.parents[node])] : [node], place = siblings.indexOf(node);
    const deeper = this.flipped ? "ArrowUp" : "ArrowDown", back = this.flipped ? "ArrowDown" : "ArrowUp";
    let next = null;
    if (event.key === deeper) next = children[0];
    else if (event.key === back) next = node > 0 ? tree.parents[node] : 0;
    else if (event.key === "ArrowLeft") next = siblings[place - 1];
    else if (event.key === "ArrowRight") next = siblings[place + 1];
    else if (event.key === "Home") next = 0;
    else if (event.key === "Enter") { this.zoom(tree, node); event.preventDefault(); return; }
    else return;
    event.preventDefault();
    if (next !== undefined && next !== null) { this.chosen = next; this.pointed = null; this.draw(); this.tell(); }
  }
}

const colours = new Map();
function nameColour(name, dark) {
  const key = (dark ? "d" : "l") + name;
  let colour = colours.get(key);
  if (!colour) {
    let hash = 2166136261;
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 16777619) >>> 0;
    colour = `hsl(${120 + hash % 65} ${28 + (hash >>> 8) % 22}% ${(dark ? 52 : 66) + (hash >>> 16) % 10}%)`;
    colours.set(key, colour);
  }
  return colour;
}

// Red grew, blue shrank; what sampling error explains is pale.
function changeColour(tree, node, dark) {
  const change = tree.now[node] - tree.base[node], most = Math.max(tree.now[node], tree.base[node], 1);
  if (change === 0) return dark ? "#8b9295" : "#dfe1e0";
  const sure = Math.abs(change) > 1.96 * Math.sqrt(tree.change[node]);
  const share = Math.min(Math.abs(change) / most, 1) * (sure ? 1 : 0.12), hue = change > 0 ? 4 : 218;
  return `hsl(${hue} ${Math.round((sure ? 40 : 30) + 50 * share)}% ${Math.round((dark ? 74 : 88) - (dark ? 10 : 20) * share)}%)`;
}
