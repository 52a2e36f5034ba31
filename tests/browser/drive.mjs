// End-to-end test of the dashboard of `tidecast demo` in a real browser.
//
//   node drive.mjs PROGRAM CHROMIUM [SCREENSHOT FOLDER]

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import path from "node:path";

const [program, browserPath, screenshots] = process.argv.slice(2);
const require = createRequire(path.resolve(process.env.TIDECAST_NODE_MODULES ?? import.meta.dirname, "here.js"));
const { chromium } = require("playwright-core");

/** Longer than any wait here takes on a slow machine. */
const TIMEOUT = 60_000;

/** Starts the demo. Resolves once it has printed its address. */
async function start(address) {
  const child = spawn(program, ["demo", "--address", address], { stdio: ["ignore", "pipe", "inherit"] });
  const url = await new Promise((done, fail) => {
    let output = "";
    child.stdout.on("data", (more) => {
      output += more;
      const found = output.match(/dashboard: (http:\S+)/);
      if (found) done(found[1]);
    });
    child.on("exit", (code) => fail(new Error(`the demo exited with ${code}: ${output}`)));
  });
  child.stdout.resume();
  const stop = () => new Promise((done) => {
    child.removeAllListeners("exit");
    child.on("exit", done);
    child.kill("SIGKILL");
  });
  return { url, stop };
}

const started = Date.now();
let demo = await start("127.0.0.1:0");
const url = demo.url;
const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const problems = [];

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  context.setDefaultTimeout(TIMEOUT);
  // Serves the page from a folder, to edit it without a build.
  const files = process.env.TIDECAST_PAGE;
  if (files) {
    await context.route(/\/(assets\/.*)?$/, (route) => {
      const name = new URL(route.request().url()).pathname.replace("/assets/", "").replace(/^\/$/, "index.html");
      return route.fulfill({ path: path.join(files, name) });
    });
  }
  // Layout shifts, without those caused by input.
  await context.addInitScript(() => {
    globalThis.shifts = [];
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
      if (!entry.hadRecentInput) {
        const sources = entry.sources.map(({ node }) => node?.nodeType === 1 ? node.className || node.tagName : node?.parentElement?.className);
        globalThis.shifts.push({ at: entry.startTime, by: entry.value, sources });
      }
    })).observe({ type: "layout-shift", buffered: true });
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    // Connection errors are expected while the server restarts.
    const isConnectionError = /ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_SOCKET_NOT_CONNECTED|ERR_INCOMPLETE_CHUNKED/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !isConnectionError) problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  return page;
}

const waitFor = (page, condition, argument) => page.waitForFunction(condition, argument, { timeout: TIMEOUT, polling: 100 });
const screenshot = async (page, name) => {
  if (!screenshots) return;
  mkdirSync(screenshots, { recursive: true });
  await page.screenshot({ path: path.join(screenshots, `${name}.png`) });
};
const now = (page) => page.evaluate(() => performance.now());
/** Asserts that streamed updates do not shift the layout, from `since` to two seconds from now. */
async function assertStable(page, name, since) {
  await page.evaluate(() => new Promise((done) => setTimeout(done, 2000)));
  const shifts = await page.evaluate((since) => globalThis.shifts.filter(({ at }) => at > since), since);
  const sum = shifts.reduce((sum, { by }) => sum + by, 0);
  assert.ok(sum < 0.02, `updates shift ${name} by ${sum}: ${JSON.stringify(shifts)}`);
}
/** Renders a score table with the widest texts: seconds, and a period that ends on another day. Returns the cut cells and the overflow. */
const measureScores = (page) => page.evaluate(async () => {
  const { periodScores } = await import("/assets/scores.js");
  const info = { step_ms: 5000, season: null, baseline_season: null, scoring: { horizons: [1, 6], period_steps: 60, levels: [0.8, 0.95] } };
  const { element, set } = periodScores(info);
  const main = document.getElementById("main");
  const [before, from_ms] = [[...main.children], Date.UTC(2004, 1, 28, 23, 55)];
  main.replaceChildren(Object.assign(document.createElement("section"), { className: "page" }));
  main.firstChild.append(element);
  const period = { from_ms, until_ms: from_ms + 300_000, forecasts: 60, mae: 1234.5, mase: 0.5, bias: -0.00009, coverage: [0.5, 1] };
  // An unknown horizon is ignored.
  set([{ ...period, horizon: 1 }, { ...period, horizon: 6 }, { ...period, horizon: 7 }], true, "W/m²");
  const right = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    return range.getBoundingClientRect().right;
  };
  const cells = [...element.querySelectorAll("td")];
  const cut = cells.filter((cell) => right(cell) > cell.getBoundingClientRect().right + 0.5).map((cell) => cell.textContent);
  const text = cells[0].textContent;
  main.replaceChildren(...before);
  return { text, cut, overflow: document.scrollingElement.scrollWidth - innerWidth };
});
/** Contrast violations on the overview (WCAG AA: text 4.5, edges of controls 3), in every status of a row. */
const contrastViolations = (page) => page.evaluate(() => {
  const rgb = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)).reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (...colours) => {
    const [low, high] = colours.map((colour) => luminance(rgb(colour)) + 0.05).sort((a, b) => a - b);
    return high / low;
  };
  const background = (node) => {
    const { backgroundColor } = getComputedStyle(node);
    return node.parentElement && rgb(backgroundColor)[3] === 0 ? background(node.parentElement) : backgroundColor;
  };
  const violations = [];
  const check = (name, min, ...colours) => ratio(...colours) < min && violations.push(`${name}: ${ratio(...colours).toFixed(2)}`);
  const text = (name, node) => check(name, 4.5, getComputedStyle(node).color, background(node));
  const page = document.querySelector(".page");
  const focused = document.activeElement.closest(".row");
  const rows = { row: [...document.querySelectorAll(".rows .row")].find((row) => row !== focused), focused };
  if (background(rows.focused) === background(rows.row)) violations.push("no row looks focused");
  for (const [name, row] of Object.entries(rows)) {
    const { status } = row.dataset;
    for (const other of ["ok", "late", "silent", "warming", "drifting"]) {
      row.dataset.status = other;
      text(`${other} in a ${name}`, row.querySelector(".status-text"));
    }
    row.dataset.status = status;
    for (const kind of ["good", "bad"]) {
      const word = row.querySelector(".cell.mase").appendChild(Object.assign(document.createElement("span"), { className: kind }));
      text(`${kind} in a ${name}`, word);
      word.remove();
    }
    text(`unit in a ${name}`, row.querySelector(".unit"));
  }
  const small = page.appendChild(document.createElement("small"));
  text("a note on the page", small);
  small.remove();
  for (const chosen of ["nav [aria-current]", ".choice [aria-pressed=true]", ".row.head [aria-sort] button"]) text(chosen, document.querySelector(chosen));
  for (const control of ["input[type=search]", ".chip", ".choice"].map((name) => document.querySelector(name))) {
    for (const side of [control, page]) check(`the edge of ${control.className || "the search"}`, 3, getComputedStyle(control).borderTopColor, background(side));
  }
  return violations;
});
/** Tag and text of the focused element. */
const focused = (page) => page.evaluate(() => `${document.activeElement.tagName.toLowerCase()} ${document.activeElement.textContent.slice(0, 80)}`);
const FITTING_SCORES = { text: "2004-02-28 23:55:00 to 2004-02-29 00:00:00", cut: [], overflow: 0 };
const step = (text) => console.log(`${((Date.now() - started) / 1000).toFixed(1)} s  ${text}`);

try {
  const page = await open();
  await page.goto(url);
  await waitFor(page, () => document.querySelectorAll(".rows .row .cell.value span").length > 10
    && [...document.querySelectorAll(".rows .row .cell.value span")].every((cell) => cell.textContent !== ""));
  assert.equal(await page.evaluate(() => document.activeElement === document.body), true, "the first page takes no focus");
  step("loads and shows values");

  const firstValue = () => page.locator(".rows .row").first().locator(".cell.value span").textContent();
  const before = await firstValue();
  await waitFor(page, (before) => document.querySelector(".rows .row .cell.value span").textContent !== before, before);
  assert.equal(await page.locator("#connection").getAttribute("data-state"), "live");
  step("streams");

  assert.equal(await page.locator(".chip[data-status=all] .count").textContent(), "25");
  await page.keyboard.press("/");
  await page.keyboard.type("miami wind");
  await waitFor(page, () => document.querySelectorAll(".rows .row").length === 1);
  assert.equal(await page.locator(".rows .row .name .name").textContent(), "miami/wind-speed");
  // Escape closes an open hint before it clears the search.
  const tiles = page.locator(".tile");
  const note = page.getByText("Share of observations inside their intervals, mean over series");
  await tiles.getByRole("button", { name: "Coverage" }).press("Enter");
  await note.waitFor();
  await page.keyboard.press("Escape");
  await note.waitFor({ state: "hidden" });
  assert.equal(await page.locator("input[type=search]").inputValue(), "miami wind");
  await page.keyboard.press("Escape");
  await waitFor(page, () => document.querySelectorAll(".rows .row").length > 10);
  step("searches");

  await waitFor(page, () => document.querySelectorAll(".cell.mase .good, .cell.mase .bad").length > 10);
  await page.locator(".row.head .mase button").click();
  await waitFor(page, () => {
    const values = [...document.querySelectorAll(".rows .row .cell.mase span")].map((cell) => Number(cell.textContent));
    // Values may have changed since the last sort.
    return values.length > 10 && values.slice(1).every((value, i) => value <= values[i] + 0.05);
  });
  assert.equal(await page.locator(".row.head .mase").getAttribute("aria-sort"), "descending");
  step("sorts the worst first");
  await page.locator(".row.head .name button").click();

  await assertStable(page, "the overview", await now(page));
  step("does not shift while it streams");
  await screenshot(page, "overview-light");

  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  assert.deepEqual(await contrastViolations(page), [], "contrast of the light theme");
  await page.keyboard.press("Enter");
  await waitFor(page, () => document.querySelectorAll(".detail canvas").length === 3);
  const id = await page.locator(".detail h1").textContent();
  assert.equal(await focused(page), `h1 ${id}`);
  await page.keyboard.press("Escape");
  await waitFor(page, (id) => document.activeElement.matches(".rows a.name") && document.activeElement.textContent === id, id);
  await page.keyboard.press("Enter");
  await waitFor(page, () => document.querySelectorAll(".detail canvas").length === 3);
  await page.locator("#skip").press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await page.locator(".tile").getByRole("button", { name: "Bias" }).press("Enter");
  await page.getByText("Mean of observation minus forecast:").waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("Mean of observation minus forecast:").waitFor({ state: "hidden" });
  assert.equal(await page.locator(".detail h1").textContent(), id);
  await waitFor(page, () => /\d/.test(document.querySelector(".detail .tile:nth-child(4) b").textContent));
  await waitFor(page, () => document.querySelectorAll(".readout b").length >= 7);
  step(`opens ${id} with the keyboard`);

  // All rows exist before the first scores.
  assert.equal(await page.locator(".scores tbody tr").count(), 5);
  const opened = await now(page);
  await waitFor(page, () => [...document.querySelectorAll(".scores td")].every((cell) => cell.textContent !== "–"));
  assert.match(await page.locator(".scores td").nth(4).textContent(), /^[+−]?\d[\d.,]*(e−?\d+)?( \S+)?$/);
  assert.match(await page.locator(".scores td").nth(5).textContent(), /^\d+\.\d %$/);
  await assertStable(page, "the series", opened);
  step("shows stream scores without a shift");

  // The coverage chart has values.
  await waitFor(page, () => !document.querySelectorAll(".readout")[2].textContent.includes("–"));
  await screenshot(page, "series-light");
  await page.locator(".scores").scrollIntoViewIfNeeded();
  await screenshot(page, "scores-light");
  await page.goto(`${url}/#/pipeline`);
  await waitFor(page, () => document.querySelectorAll(".plain:not(.scores) tbody tr").length === 4);
  await waitFor(page, () => Number(document.querySelector(".tile b").textContent.replaceAll(",", "")) > 0);
  await waitFor(page, () => document.querySelectorAll(".pipeline canvas").length === 4);
  await waitFor(page, () => /^\d+\.\d of 80 %$/.test(document.querySelector(".scores td:nth-child(3)").textContent));
  await assertStable(page, "the pipeline", await now(page));
  assert.deepEqual(await measureScores(page), FITTING_SCORES);
  const levels = await page.evaluate(async () => [0.8, 0.975, 0.995, 0.9999].map((await import("/assets/format.js")).level));
  assert.deepEqual(levels, ["80", "97.5", "99.5", "99.99"]);
  step("shows the pipeline");
  await screenshot(page, "pipeline-light");

  // Single-character shortcuts can be disabled.
  await page.locator("#help").click();
  await screenshot(page, "keys-light");
  await page.locator("#single-keys").uncheck();
  await page.locator("#keys").getByRole("button", { name: "Close" }).click();
  await page.keyboard.press("s");
  assert.match(page.url(), /#\/pipeline$/);
  await page.locator("#help").click();
  await page.locator("#single-keys").check();
  await page.keyboard.press("Escape");
  await page.keyboard.press("s");
  await waitFor(page, () => document.querySelectorAll(".rows .row .cell.value span:not(:empty)").length > 10);
  assert.equal(await focused(page), "h1 Series");
  step("disables and enables shortcuts");

  // A hidden tab closes its stream and does not report it as lost.
  const hide = (isHidden) => page.evaluate((isHidden) => {
    Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, isHidden);
  await hide(true);
  const hiddenValue = await firstValue();
  await page.evaluate(() => new Promise((done) => setTimeout(done, 8000)));
  assert.equal(await firstValue(), hiddenValue, "a hidden tab receives nothing");
  const visibleAt = await now(page);
  await hide(false);
  assert.equal(await page.locator("#connection").getAttribute("data-state"), "live");
  await waitFor(page, (before) => document.querySelector(".rows .row .cell.value span").textContent !== before, hiddenValue);
  await assertStable(page, "the page after it was hidden", visibleAt);
  step("closes its stream while it is hidden");

  // Rare states: more series than the dashboard holds, and an idle source.
  const crowded = await open();
  await crowded.addInitScript(() => {
    const parse = JSON.parse;
    JSON.parse = (text) => {
      const message = parse(text);
      if (message.process) Object.assign(message, { omitted: 312 }).process.idle_seconds = 75;
      return message;
    };
  });
  await crowded.goto(url);
  await crowded.getByText("Showing 25 series. The dashboard omits 312 others.").waitFor();
  await waitFor(crowded, () => document.getElementById("connection").innerText === "Idle for 75 s");
  assert.equal(await crowded.getByRole("status").textContent(), "Idle", "a text that changes every second is not in the live region");
  await screenshot(crowded, "crowded-light");
  await crowded.keyboard.press("/");
  await crowded.keyboard.type("no such series");
  await crowded.getByText("The dashboard omits 312 others.").waitFor();
  await crowded.goto(`${url}/#/series/none`);
  await crowded.getByText("or is among the 312 others that the dashboard omits.").waitFor();
  await crowded.context().close();
  step("reports omitted series");

  // Dark theme and phone.
  const dark = await open({ colorScheme: "dark" });
  await dark.goto(url);
  await waitFor(dark, () => document.querySelectorAll(".cell.mase .good").length > 5);
  await screenshot(dark, "overview-dark");
  await dark.keyboard.press("ArrowDown");
  assert.deepEqual(await contrastViolations(dark), [], "contrast of the dark theme");
  await dark.goto(`${url}/#/series/${encodeURIComponent("miami/temperature")}`);
  await waitFor(dark, () => document.querySelectorAll(".readout b").length >= 7);
  await screenshot(dark, "series-dark");
  await dark.locator(".scores").scrollIntoViewIfNeeded();
  await screenshot(dark, "scores-dark");
  const phone = await open({ viewport: { width: 360, height: 780 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  await phone.goto(url);
  await waitFor(phone, () => document.querySelectorAll(".cell.mase .good").length > 2);
  const width = () => phone.evaluate(() => document.scrollingElement.scrollWidth);
  assert.equal(await width(), 360, "no horizontal overflow on a phone");
  const name = phone.locator(".tile").getByRole("button", { name: "Coverage" });
  const hint = phone.getByText("Share of observations inside their intervals, mean over series");
  await name.focus();
  await phone.keyboard.press("Enter");
  await hint.waitFor();
  await phone.keyboard.press("Escape");
  await hint.waitFor({ state: "hidden" });
  // On a busy machine a tap may register as a long press.
  for (let tries = 0; tries < 5 && !(await hint.isVisible()); tries++) {
    await name.tap();
    await hint.waitFor({ timeout: TIMEOUT / 10 }).catch(() => {});
  }
  await hint.waitFor();
  await screenshot(phone, "hint-phone");
  await phone.keyboard.press("Escape");
  await hint.waitFor({ state: "hidden" });
  await screenshot(phone, "overview-phone");
  // A status other than OK is a text, not only a colour.
  const widths = await phone.evaluate(() => {
    const row = document.querySelector(".rows .row");
    const { status } = row.dataset;
    const widths = ["ok", "silent"].map((one) => ((row.dataset.status = one), row.querySelector(".cell.status").getBoundingClientRect().width));
    row.dataset.status = status;
    return widths;
  });
  assert.ok(widths[0] <= 1 && widths[1] > 10, `${widths}`);
  const firstName = () => phone.locator(".rows .row .name .name").first().textContent();
  const firstAscending = await firstName();
  await phone.getByLabel("Sort by").selectOption("Series, Z to A");
  await waitFor(phone, (before) => !["", before].includes(document.querySelector(".rows .row .name .name").textContent), firstAscending);
  await phone.getByLabel("Sort by").selectOption("Series, A to Z");
  await waitFor(phone, (before) => document.querySelector(".rows .row .name .name").textContent === before, firstAscending);
  assert.equal(await width(), 360, "no horizontal overflow on a phone");
  for (let tries = 0; tries < 5 && !phone.url().includes("#/series/"); tries++) {
    await phone.locator(".rows .row").first().tap();
    await phone.waitForURL(/#\/series\//, { timeout: TIMEOUT / 10 }).catch(() => {});
  }
  await waitFor(phone, () => document.querySelectorAll(".readout b").length >= 7);
  assert.equal(await width(), 360, "no horizontal overflow on a phone");
  await assertStable(phone, "the series on a phone", await now(phone));
  await screenshot(phone, "series-phone");
  await phone.locator(".scores").scrollIntoViewIfNeeded();
  await screenshot(phone, "scores-phone");
  await phone.goto(`${url}/#/pipeline`);
  await waitFor(phone, () => document.querySelectorAll(".pipeline canvas").length === 4);
  assert.equal(await width(), 360, "no horizontal overflow on a phone");
  await phone.locator(".scores").scrollIntoViewIfNeeded();
  await screenshot(phone, "pipeline-phone");
  assert.deepEqual(await measureScores(phone), FITTING_SCORES);
  step("fits a phone");

  // Ids are untrusted text.
  await page.goto(`${url}/#/series/${encodeURIComponent("<img src=x onerror=alert(1)>")}`);
  await waitFor(page, () => document.querySelector(".detail h1")?.textContent === "<img src=x onerror=alert(1)>");
  assert.equal(await page.locator(".detail img").count(), 0);
  await waitFor(page, () => !document.querySelector(".detail .empty").hidden);
  step("shows markup as text, and waits for a missing series");

  // A restart of the server.
  await page.goto(`${url}/#/`);
  await waitFor(page, () => document.querySelectorAll(".rows .row").length > 10);
  await demo.stop();
  await waitFor(page, () => document.querySelector("#connection").dataset.state === "lost");
  await waitFor(page, () => document.body.classList.contains("stale") && !document.querySelector("#notice").hidden);
  assert.ok((await page.locator(".rows .row").count()) > 10, "the last data stays readable");
  await screenshot(page, "lost-light");
  step("reports a lost server");
  // The first request to the new process fails.
  let requests = 0;
  await page.route("**/api/pipeline", (route) => (requests++ === 0 ? route.fulfill({ body: "" }) : route.continue()));
  demo = await start(new URL(url).host);
  await waitFor(page, () => document.querySelector("#connection").dataset.state === "live" && document.querySelector("#notice").hidden);
  const valueAfterRestart = await firstValue();
  // The page is rebuilt after the restart: it has no rows for a moment.
  await waitFor(page, (before) => {
    const now = document.querySelector(".rows .row .cell.value span")?.textContent;
    return now && now !== before;
  }, valueAfterRestart);
  assert.ok(requests > 1, "the page retries");
  step("continues after the restart");

  // The new process has no scores yet: the first ones must not move the page.
  await page.goto(`${url}/#/series/${encodeURIComponent("miami/temperature")}`);
  await waitFor(page, () => document.querySelectorAll(".detail-content:not([hidden]) canvas").length > 0);
  const scoredAt = await now(page);
  await waitFor(page, () => document.querySelector(".scores td")?.textContent.includes(" to "));
  await assertStable(page, "the first scores of a series", scoredAt);
  step("shows the first scores without a shift");

  assert.deepEqual(problems, [], "the browser reports no problems");
  step("done");
} catch (error) {
  console.log(`browser problems: ${JSON.stringify(problems, null, 2)}`);
  for (const page of browser.contexts().flatMap((context) => context.pages())) {
    console.log(`${page.url()} shows:\n${await page.evaluate(() => document.body.innerText).catch(() => "nothing")}`);
    await screenshot(page, "failed");
  }
  throw error;
} finally {
  await browser.close();
  await demo.stop();
}
