// Drives the dashboard of `tidecast demo` in a real browser, and fails at the first thing that is not as it should be.
//
//   node drive.mjs PROGRAM CHROMIUM [FOLDER FOR PICTURES]

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import path from "node:path";

const [program, browserPath, pictures] = process.argv.slice(2);
const require = createRequire(path.resolve(process.env.TIDECAST_NODE_MODULES ?? import.meta.dirname, "here.js"));
const { chromium } = require("playwright-core");

/** Longer than anything here takes on a slow machine; nothing waits for it that comes earlier. */
const PATIENCE = 60_000;

/** Starts the demo; the promise is kept once it says where its page is. */
async function start(address) {
  const child = spawn(program, ["demo", "--address", address], { stdio: ["ignore", "pipe", "inherit"] });
  const url = await new Promise((done, fail) => {
    let said = "";
    child.stdout.on("data", (more) => {
      said += more;
      const found = said.match(/dashboard: (http:\S+)/);
      if (found) done(found[1]);
    });
    child.on("exit", (code) => fail(new Error(`the demo ended with ${code}: ${said}`)));
  });
  child.stdout.resume();
  const end = () => new Promise((done) => {
    child.removeAllListeners("exit");
    child.on("exit", done);
    child.kill("SIGKILL");
  });
  return { url, end };
}

const began = Date.now();
let demo = await start("127.0.0.1:0");
const url = demo.url;
const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const wrong = [];

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  // To work on the page without building the program anew.
  const files = process.env.TIDECAST_PAGE;
  if (files) {
    await context.route(/\/(assets\/.*)?$/, (route) => {
      const name = new URL(route.request().url()).pathname.replace("/assets/", "").replace(/^\/$/, "index.html");
      return route.fulfill({ path: path.join(files, name) });
    });
  }
  // What moves by itself: what a hand has moved is left out.
  await context.addInitScript(() => {
    globalThis.moved = [];
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
      if (!entry.hadRecentInput) {
        const sources = entry.sources.map(({ node }) => node?.nodeType === 1 ? node.className || node.tagName : node?.parentElement?.className);
        globalThis.moved.push({ at: entry.startTime, by: entry.value, sources });
      }
    })).observe({ type: "layout-shift", buffered: true });
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    // What a browser says of a server that is gone is not the page's doing; all else is.
    const isGone = /ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_SOCKET_NOT_CONNECTED|ERR_INCOMPLETE_CHUNKED/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !isGone) wrong.push(message.text());
  });
  page.on("pageerror", (error) => wrong.push(String(error)));
  return page;
}

const until = (page, of, argument) => page.waitForFunction(of, argument, { timeout: PATIENCE, polling: 100 });
const picture = async (page, name) => {
  if (!pictures) return;
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: path.join(pictures, `${name}.png`) });
};
const moment = (page) => page.evaluate(() => performance.now());
/** Nothing moves on the page, from a moment on and two seconds more, while what it says changes. */
async function still(page, what, since) {
  await page.evaluate(() => new Promise((done) => setTimeout(done, 2000)));
  const moved = await page.evaluate((since) => globalThis.moved.filter(({ at }) => at > since), since);
  const sum = moved.reduce((sum, { by }) => sum + by, 0);
  assert.ok(sum < 0.02, `what streams in moves ${what} by ${sum}: ${JSON.stringify(moved)}`);
}
/** A table of scores on a grid of seconds, of a period that ends on another day, is as wide as its cells. */
const fits = (page) => page.evaluate(async () => {
  const { periods } = await import("/assets/scores.js");
  const facts = { every_ms: 5000, season: null, kept_season: null, scored: { ahead: [1, 6], every: 60, levels: [0.8, 0.95] } };
  const { element, set } = periods(facts);
  const main = document.getElementById("main");
  const [before, from_ms] = [[...main.children], Date.UTC(2004, 1, 28, 23, 55)];
  main.replaceChildren(Object.assign(document.createElement("section"), { className: "page" }));
  main.firstChild.append(element);
  const one = { from_ms, until_ms: from_ms + 300_000, forecasts: 60, mae: 1234.5, mase: 0.5, bias: -0.00009, coverage: [0.5, 1] };
  // Of a step ahead that this page knows nothing of, too.
  set([{ ...one, ahead: 1 }, { ...one, ahead: 6 }, { ...one, ahead: 7 }], true, "W/m²");
  const right = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    return range.getBoundingClientRect().right;
  };
  const cells = [...element.querySelectorAll("td")];
  const cut = cells.filter((cell) => right(cell) > cell.getBoundingClientRect().right + 0.5).map((cell) => cell.textContent);
  const said = cells[0].textContent;
  main.replaceChildren(...before);
  return { said, cut, width: document.scrollingElement.scrollWidth - innerWidth };
});
/** Ratios of contrast on the overview that are too low for text (4.5) or for the edge of a control (3), in every state a row can have. */
const faint = (page) => page.evaluate(() => {
  const rgb = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)).reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (...colours) => {
    const [low, high] = colours.map((colour) => light(rgb(colour)) + 0.05).sort((a, b) => a - b);
    return high / low;
  };
  const behind = (node) => {
    const { backgroundColor } = getComputedStyle(node);
    return node.parentElement && rgb(backgroundColor)[3] === 0 ? behind(node.parentElement) : backgroundColor;
  };
  const found = [];
  const check = (name, least, ...colours) => ratio(...colours) < least && found.push(`${name}: ${ratio(...colours).toFixed(2)}`);
  const text = (name, node) => check(name, 4.5, getComputedStyle(node).color, behind(node));
  const page = document.querySelector(".page");
  const focused = document.activeElement.closest(".row");
  const rows = { row: [...document.querySelectorAll(".rows .row")].find((row) => row !== focused), focused };
  if (behind(rows.focused) === behind(rows.row)) found.push("no row looks focused");
  for (const [name, row] of Object.entries(rows)) {
    const { state } = row.dataset;
    for (const other of ["ok", "late", "silent", "cold", "drifting"]) {
      row.dataset.state = other;
      text(`${other} in a ${name}`, row.querySelector(".state-text"));
    }
    row.dataset.state = state;
    for (const kind of ["good", "bad"]) {
      const word = row.querySelector(".cell.ratio").appendChild(Object.assign(document.createElement("span"), { className: kind }));
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
    for (const side of [control, page]) check(`the edge of ${control.className || "the search"}`, 3, getComputedStyle(control).borderTopColor, behind(side));
  }
  return found;
});
/** What has focus, in words. */
const focused = (page) => page.evaluate(() => `${document.activeElement.tagName.toLowerCase()} ${document.activeElement.textContent.slice(0, 80)}`);
const FITS = { said: "2004-02-28 23:55:00 to 2004-02-29 00:00:00", cut: [], width: 0 };
const step = (text) => console.log(`${((Date.now() - began) / 1000).toFixed(1)} s  ${text}`);

try {
  const page = await open();
  await page.goto(url);
  await until(page, () => document.querySelectorAll(".rows .row .cell.value span").length > 10
    && [...document.querySelectorAll(".rows .row .cell.value span")].every((cell) => cell.textContent !== ""));
  assert.equal(await page.evaluate(() => document.activeElement === document.body), true, "what is loaded first takes no focus");
  step("loads, and shows readings");

  const reading = () => page.locator(".rows .row").first().locator(".cell.value span").textContent();
  const before = await reading();
  await until(page, (before) => document.querySelector(".rows .row .cell.value span").textContent !== before, before);
  assert.equal(await page.locator("#status").getAttribute("data-state"), "live");
  step("streams");

  assert.equal(await page.locator(".chip[data-state=all] .count").textContent(), "25");
  await page.keyboard.press("/");
  await page.keyboard.type("miami wind");
  await until(page, () => document.querySelectorAll(".rows .row").length === 1);
  assert.equal(await page.locator(".rows .row .name .name").textContent(), "miami/wind-speed");
  // A hint that is open is closed first, and nothing else.
  const names = page.locator(".tile");
  const note = page.getByText("Share of readings within their intervals, mean over series");
  await names.getByRole("button", { name: "Coverage" }).press("Enter");
  await note.waitFor();
  await page.keyboard.press("Escape");
  await note.waitFor({ state: "hidden" });
  assert.equal(await page.locator("input[type=search]").inputValue(), "miami wind");
  await page.keyboard.press("Escape");
  await until(page, () => document.querySelectorAll(".rows .row").length > 10);
  step("searches");

  await until(page, () => document.querySelectorAll(".cell.ratio .good, .cell.ratio .bad").length > 10);
  await page.locator(".row.head .ratio button").click();
  await until(page, () => {
    const ratios = [...document.querySelectorAll(".rows .row .cell.ratio span")].map((cell) => Number(cell.textContent));
    // What is ahead may have changed since it was last put in order.
    return ratios.length > 10 && ratios.slice(1).every((ratio, i) => ratio <= ratios[i] + 0.05);
  });
  assert.equal(await page.locator(".row.head .ratio").getAttribute("aria-sort"), "descending");
  step("sorts, the worst first");
  await page.locator(".row.head .name button").click();

  await still(page, "the overview", await moment(page));
  step("stands still while it streams");
  await picture(page, "overview-light");

  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  assert.deepEqual(await faint(page), [], "all can be read in the light");
  await page.keyboard.press("Enter");
  await until(page, () => document.querySelectorAll(".detail canvas").length === 3);
  const id = await page.locator(".detail h1").textContent();
  assert.equal(await focused(page), `h1 ${id}`);
  await page.keyboard.press("Escape");
  await until(page, (id) => document.activeElement.matches(".rows a.name") && document.activeElement.textContent === id, id);
  await page.keyboard.press("Enter");
  await until(page, () => document.querySelectorAll(".detail canvas").length === 3);
  await page.locator("#skip").press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await page.locator(".tile").getByRole("button", { name: "Bias" }).press("Enter");
  await page.getByText("Mean of reading less forecast:").waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("Mean of reading less forecast:").waitFor({ state: "hidden" });
  assert.equal(await page.locator(".detail h1").textContent(), id);
  await until(page, () => /\d/.test(document.querySelector(".detail .tile:nth-child(4) b").textContent));
  await until(page, () => document.querySelectorAll(".readout b").length >= 7);
  step(`opens ${id} by keyboard`);

  // The rows of the scores are there before there are any.
  assert.equal(await page.locator(".scored tbody tr").count(), 5);
  const opened = await moment(page);
  await until(page, () => [...document.querySelectorAll(".scored td")].every((cell) => cell.textContent !== "–"));
  assert.match(await page.locator(".scored td").nth(4).textContent(), /^[+−]?\d[\d.,]*(e−?\d+)?( \S+)?$/);
  assert.match(await page.locator(".scored td").nth(5).textContent(), /^\d+\.\d %$/);
  await still(page, "the series", opened);
  step("shows the scores of the stream as they come, and stands still");

  // With a margin for the chart to fill.
  await until(page, () => !document.querySelectorAll(".readout")[2].textContent.includes("–"));
  await picture(page, "series-light");
  await page.locator(".scored").scrollIntoViewIfNeeded();
  await picture(page, "scores-light");
  await page.goto(`${url}/#/pipeline`);
  await until(page, () => document.querySelectorAll(".plain:not(.scored) tbody tr").length === 4);
  await until(page, () => Number(document.querySelector(".tile b").textContent.replaceAll(",", "")) > 0);
  await until(page, () => document.querySelectorAll(".pipeline canvas").length === 4);
  await until(page, () => /^\d+\.\d of 80 %$/.test(document.querySelector(".scored td:nth-child(3)").textContent));
  await still(page, "the pipeline", await moment(page));
  assert.deepEqual(await fits(page), FITS);
  const levels = await page.evaluate(async () => [0.8, 0.975, 0.995, 0.9999].map((await import("/assets/format.js")).level));
  assert.deepEqual(levels, ["80", "97.5", "99.5", "99.99"]);
  step("shows the pipeline");
  await picture(page, "pipeline-light");

  // Keys of one character can be done without.
  await page.locator("#help").click();
  await picture(page, "keys-light");
  await page.locator("#single").uncheck();
  await page.locator("#keys").getByRole("button", { name: "Close" }).click();
  await page.keyboard.press("s");
  assert.match(page.url(), /#\/pipeline$/);
  await page.locator("#help").click();
  await page.locator("#single").check();
  await page.keyboard.press("Escape");
  await page.keyboard.press("s");
  await until(page, () => document.querySelectorAll(".rows .row .cell.value span:not(:empty)").length > 10);
  assert.equal(await focused(page), "h1 Series");
  step("has its keys turned off and on");

  // A tab that nobody looks at takes no connection, and says nothing of one that is lost.
  const hide = (isHidden) => page.evaluate((isHidden) => {
    Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, isHidden);
  await hide(true);
  const unseen = await reading();
  await page.evaluate(() => new Promise((done) => setTimeout(done, 8000)));
  assert.equal(await reading(), unseen, "nothing comes while nobody looks");
  const back = await moment(page);
  await hide(false);
  assert.equal(await page.locator("#status").getAttribute("data-state"), "live");
  await until(page, (before) => document.querySelector(".rows .row .cell.value span").textContent !== before, unseen);
  await still(page, "what was hidden", back);
  step("lets go of its stream while it is hidden");

  // What seldom is: more series than the dashboard has room for, and a source that is quiet.
  const crowded = await open();
  await crowded.addInitScript(() => {
    const parse = JSON.parse;
    JSON.parse = (text) => {
      const message = parse(text);
      if (message.pulse) Object.assign(message, { left_out: 312 }).pulse.quiet = 75;
      return message;
    };
  });
  await crowded.goto(url);
  await crowded.getByText("25 series are shown, and there are 312 others that the dashboard has no room for.").waitFor();
  await until(crowded, () => document.getElementById("status").innerText === "Quiet for 75 s");
  assert.equal(await crowded.getByRole("status").textContent(), "Quiet", "what changes every second is not read aloud");
  await picture(crowded, "crowded-light");
  await crowded.keyboard.press("/");
  await crowded.keyboard.type("no such series");
  await crowded.getByText("The dashboard has no room for 312 others.").waitFor();
  await crowded.goto(`${url}/#/series/none`);
  await crowded.getByText("or it is among the 312 others that the dashboard has no room for.").waitFor();
  await crowded.context().close();
  step("says what it has no room for");

  // The other looks.
  const dark = await open({ colorScheme: "dark" });
  await dark.goto(url);
  await until(dark, () => document.querySelectorAll(".cell.ratio .good").length > 5);
  await picture(dark, "overview-dark");
  await dark.keyboard.press("ArrowDown");
  assert.deepEqual(await faint(dark), [], "all can be read in the dark");
  await dark.goto(`${url}/#/series/${encodeURIComponent("miami/temperature")}`);
  await until(dark, () => document.querySelectorAll(".readout b").length >= 7);
  await picture(dark, "series-dark");
  await dark.locator(".scored").scrollIntoViewIfNeeded();
  await picture(dark, "scores-dark");
  const phone = await open({ viewport: { width: 360, height: 780 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  await phone.goto(url);
  await until(phone, () => document.querySelectorAll(".cell.ratio .good").length > 2);
  const width = () => phone.evaluate(() => document.scrollingElement.scrollWidth);
  assert.equal(await width(), 360, "nothing sticks out on a phone");
  const name = phone.locator(".tile").getByRole("button", { name: "Coverage" });
  const hint = phone.getByText("Share of readings within their intervals, mean over series");
  await name.focus();
  await phone.keyboard.press("Enter");
  await hint.waitFor();
  await phone.keyboard.press("Escape");
  await hint.waitFor({ state: "hidden" });
  // A tap on a machine that is busy may be taken for a long press.
  for (let tries = 0; tries < 5 && !(await hint.isVisible()); tries++) {
    await name.tap();
    await hint.waitFor({ timeout: PATIENCE / 10 }).catch(() => {});
  }
  await hint.waitFor();
  await picture(phone, "hint-phone");
  await phone.keyboard.press("Escape");
  await hint.waitFor({ state: "hidden" });
  await picture(phone, "overview-phone");
  // A state that is not as it should be is a word, not a colour only.
  const widths = await phone.evaluate(() => {
    const row = document.querySelector(".rows .row");
    const { state } = row.dataset;
    const widths = ["ok", "silent"].map((one) => ((row.dataset.state = one), row.querySelector(".cell.state").getBoundingClientRect().width));
    row.dataset.state = state;
    return widths;
  });
  assert.ok(widths[0] <= 1 && widths[1] > 10, `${widths}`);
  const firstName = () => phone.locator(".rows .row .name .name").first().textContent();
  const firstOfAll = await firstName();
  await phone.getByLabel("Sort by").selectOption("Series, Z to A");
  await until(phone, (before) => !["", before].includes(document.querySelector(".rows .row .name .name").textContent), firstOfAll);
  await phone.getByLabel("Sort by").selectOption("Series, A to Z");
  await until(phone, (before) => document.querySelector(".rows .row .name .name").textContent === before, firstOfAll);
  assert.equal(await width(), 360, "nothing sticks out on a phone");
  for (let tries = 0; tries < 5 && !phone.url().includes("#/series/"); tries++) {
    await phone.locator(".rows .row").first().tap();
    await phone.waitForURL(/#\/series\//, { timeout: PATIENCE / 10 }).catch(() => {});
  }
  await until(phone, () => document.querySelectorAll(".readout b").length >= 7);
  assert.equal(await width(), 360, "nothing sticks out on a phone");
  await still(phone, "the series on a phone", await moment(phone));
  await picture(phone, "series-phone");
  await phone.locator(".scored").scrollIntoViewIfNeeded();
  await picture(phone, "scores-phone");
  await phone.goto(`${url}/#/pipeline`);
  await until(phone, () => document.querySelectorAll(".pipeline canvas").length === 4);
  assert.equal(await width(), 360, "nothing sticks out on a phone");
  await phone.locator(".scored").scrollIntoViewIfNeeded();
  await picture(phone, "pipeline-phone");
  assert.deepEqual(await fits(phone), FITS);
  step("is as wide as a phone");

  // Ids are other people's text.
  await page.goto(`${url}/#/series/${encodeURIComponent("<img src=x onerror=alert(1)>")}`);
  await until(page, () => document.querySelector(".detail h1")?.textContent === "<img src=x onerror=alert(1)>");
  assert.equal(await page.locator(".detail img").count(), 0);
  await until(page, () => !document.querySelector(".detail .empty").hidden);
  step("shows markup as text, and waits for a series that is not there");

  // A restart of the server.
  await page.goto(`${url}/#/`);
  await until(page, () => document.querySelectorAll(".rows .row").length > 10);
  await demo.end();
  await until(page, () => document.querySelector("#status").dataset.state === "lost");
  await until(page, () => document.body.classList.contains("stale") && !document.querySelector("#notice").hidden);
  assert.ok((await page.locator(".rows .row").count()) > 10, "what was there stays to be read");
  await picture(page, "lost-light");
  step("says that the server is gone");
  // What the page asks of the new process is lost on the way once.
  let asked = 0;
  await page.route("**/api/pipeline", (route) => (asked++ === 0 ? route.fulfill({ body: "" }) : route.continue()));
  demo = await start(new URL(url).host);
  await until(page, () => document.querySelector("#status").dataset.state === "live" && document.querySelector("#notice").hidden);
  const again = await reading();
  // The page is made anew once it has been told: for a moment it has no rows.
  await until(page, (before) => {
    const now = document.querySelector(".rows .row .cell.value span")?.textContent;
    return now && now !== before;
  }, again);
  assert.ok(asked > 1, "it asks until it is told");
  step("goes on after the restart");

  // The new process has to learn first what is scored: its numbers come into their places.
  await page.goto(`${url}/#/series/${encodeURIComponent("miami/temperature")}`);
  await until(page, () => document.querySelectorAll(".detail-content:not([hidden]) canvas").length > 0);
  const begun = await moment(page);
  await until(page, () => document.querySelector(".scored td")?.textContent.includes(" to "));
  await still(page, "a series that is scored for the first time", begun);
  step("puts the first scores where there were none");

  assert.deepEqual(wrong, [], "the browser has nothing to complain of");
  step("done");
} catch (error) {
  console.log(`the browser says: ${JSON.stringify(wrong, null, 2)}`);
  for (const page of browser.contexts().flatMap((context) => context.pages())) {
    console.log(`${page.url()} shows:\n${await page.evaluate(() => document.body.innerText).catch(() => "nothing")}`);
    await picture(page, "failed");
  }
  throw error;
} finally {
  await browser.close();
  await demo.end();
}
