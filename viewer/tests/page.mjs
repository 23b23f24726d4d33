// Drives a page that `heapsift report` made, or one that `heapsift serve` serves, in headless chromium, over the debugging
// pipe.
//
//   node page.mjs CHROMIUM PAGE|ADDRESS SCREENSHOTS STEPS
//
// STEPS is JSON: a list of {say, size, dark, until, click, keys, run, shot}. `until` is an expression that is waited for,
// `click` one for a point. Prints JSON: what each step came to, what was requested besides the page itself, and what the
// console complained about; a dialog is a complaint.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [chromium, file, pictures, steps] = process.argv.slice(2);
const home = mkdtempSync(join(tmpdir(), "heapsift-page-"));
const url = file.startsWith("http://") ? file : pathToFileURL(file).href;
const browser = spawn(chromium, ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--hide-scrollbars", `--user-data-dir=${home}`, "--remote-debugging-pipe", "about:blank"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const ended = new Promise(done => browser.on("exit", done));
const [to, from] = [browser.stdio[3], browser.stdio[4]];
let next = 1, rest = "";
const waiting = new Map(), requests = [], complaints = [];
let loaded;
const isLoaded = new Promise(done => { loaded = done; });
from.setEncoding("utf8");
to.on("error", () => {}); // It has ended: told by its exit.
from.on("data", chunk => {
  const messages = (rest + chunk).split("\0");
  rest = messages.pop();
  for (const text of messages) {
    const message = JSON.parse(text);
    if (message.id) { waiting.get(message.id)(message); waiting.delete(message.id); continue; }
    const { method, params } = message;
    if (method === "Network.requestWillBeSent" && params.request.url !== url) requests.push(params.request.url);
    if (method === "Runtime.exceptionThrown") complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === "Runtime.consoleAPICalled" && ["error", "warning", "assert"].includes(params.type)) complaints.push(JSON.stringify(params.args));
    if (method === "Log.entryAdded" && params.entry.level !== "info" && params.entry.level !== "verbose") complaints.push(params.entry.text);
    if (method === "Page.javascriptDialogOpening") { complaints.push(`a dialog: ${params.message}`); send("Page.handleJavaScriptDialog", { accept: false }); }
    if (method === "Page.loadEventFired") loaded();
  }
});
let session;
const send = (method, params = {}) => new Promise((done, failed) => {
  const id = next++;
  waiting.set(id, message => (message.error ? failed(new Error(`${method}: ${message.error.message}`)) : done(message.result)));
  to.write(JSON.stringify({ id, method, params, sessionId: session }) + "\0");
});
const limit = setTimeout(() => { console.error("page.mjs: no answer in 60 s"); browser.kill("SIGKILL"); process.exit(1); }, 60000);

const results = [];
try {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  session = (await send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Network", "Log"]) await send(domain + ".enable");
  const resize = (width, height, mobile = false) => send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile });
  const evaluate = async expression => {
    const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  };
  await resize(1200, 800);
  await send("Page.navigate", { url });
  await isLoaded;
  for (const step of JSON.parse(steps)) {
    if (step.size) await resize(...step.size);
    if (step.dark !== undefined) await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: step.dark ? "dark" : "light" }] });
    if (step.until) {
      while (!await evaluate(step.until)) await new Promise(done => setTimeout(done, 50));
    }
    if (step.click) {
      // An expression for the point, in the page.
      const [x, y] = await evaluate(step.click);
      for (const type of ["mouseMoved", "mousePressed", "mouseReleased"]) await send("Input.dispatchMouseEvent", { type, x, y, button: type === "mouseMoved" ? "none" : "left", clickCount: 1 });
    }
    for (const key of step.keys ?? []) {
      const text = key.length === 1 ? key : undefined;
      await send("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", key, text, windowsVirtualKeyCode: { Enter: 13, Escape: 27, ArrowDown: 40, ArrowUp: 38, ArrowLeft: 37, ArrowRight: 39 }[key] });
      await send("Input.dispatchKeyEvent", { type: "keyUp", key });
    }
    // Two frames, so that what was asked for is drawn.
    await evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))");
    results.push({ say: step.say, got: step.run ? await evaluate(step.run) : null });
    if (step.shot) {
      const { data } = await send("Page.captureScreenshot", { format: "png" });
      writeFileSync(join(pictures, step.shot + ".png"), Buffer.from(data, "base64"));
    }
  }
  console.log(JSON.stringify({ results, requests, complaints }));
} finally {
  clearTimeout(limit);
  // Asked to close it ends its helpers too; killed at once it leaves them behind, writing to their directory.
  session = undefined;
  await Promise.race([send("Browser.close").catch(() => {}), ended]);
  const patience = setTimeout(() => browser.kill("SIGKILL"), 5000);
  await ended;
  clearTimeout(patience);
  await removed(home);
}

// A helper that ends last may still write: tried again for a while. What stays is in the temporary directory, and is no
// failure of the page's.
async function removed(directory) {
  for (let tries = 0; tries < 50; tries++) {
    try {
      return rmSync(directory, { recursive: true, force: true });
    } catch {
      await new Promise(done => setTimeout(done, 100));
    }
  }
}
