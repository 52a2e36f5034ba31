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
  const page = await context.newPage();
  page.on("console", (message) => {
    // What a browser says of a server that is gone is not the page's doing; all else is.
    const isGone = /ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_INCOMPLETE_CHUNKED/.test(message.text());
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
const step = (text) => console.log(`${((Date.now() - began) / 1000).toFixed(1)} s  ${text}`);

try {
  const page = await open();
  await page.goto(url);
  await until(page, () => document.querySelectorAll(".rows .row .cell.value span").length > 10
    && [...document.querySelectorAll(".rows .row .cell.value span")].every((cell) => cell.textContent !== ""));
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

  // Nothing moves on the page while what it says changes.
  const shifts = await page.evaluate(() => new Promise((done) => {
    let sum = 0;
    const seen = new PerformanceObserver((list) => list.getEntries().forEach((entry) => (sum += entry.value)));
    seen.observe({ type: "layout-shift" });
    setTimeout(() => (seen.disconnect(), done(sum)), 2000);
  }));
  assert.ok(shifts < 0.01, `what streams in moves the page by ${shifts}`);
  step("stands still while it streams");
  await picture(page, "overview-light");

  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await until(page, () => document.querySelectorAll(".detail canvas").length === 3);
  const id = await page.locator(".detail h1").textContent();
  await until(page, () => /\d/.test(document.querySelector(".detail .tile:nth-child(4) b").textContent));
  await until(page, () => document.querySelectorAll(".readout b").length >= 7);
  step(`opens ${id} by keyboard`);

  // With a margin for the chart to fill.
  await until(page, () => !document.querySelectorAll(".readout")[2].textContent.includes("–"));
  await picture(page, "series-light");
  await page.goto(`${url}/#/pipeline`);
  await until(page, () => document.querySelectorAll(".plain tbody tr").length === 4);
  await until(page, () => Number(document.querySelector(".tile b").textContent.replaceAll(",", "")) > 0);
  await until(page, () => document.querySelectorAll(".pipeline canvas").length === 4);
  step("shows the pipeline");
  await picture(page, "pipeline-light");

  // The other looks.
  const dark = await open({ colorScheme: "dark" });
  await dark.goto(url);
  await until(dark, () => document.querySelectorAll(".cell.ratio .good").length > 5);
  await picture(dark, "overview-dark");
  await dark.goto(`${url}/#/series/${encodeURIComponent("miami/temperature")}`);
  await until(dark, () => document.querySelectorAll(".readout b").length >= 7);
  await picture(dark, "series-dark");
  const phone = await open({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  await phone.goto(url);
  await until(phone, () => document.querySelectorAll(".cell.ratio .good").length > 2);
  const width = () => phone.evaluate(() => document.scrollingElement.scrollWidth);
  assert.equal(await width(), 390, "nothing sticks out on a phone");
  await picture(phone, "overview-phone");
  // A tap on a machine that is busy may be taken for a long press.
  for (let tries = 0; tries < 5 && !phone.url().includes("#/series/"); tries++) {
    await phone.locator(".rows .row").first().tap();
    await phone.waitForURL(/#\/series\//, { timeout: PATIENCE / 10 }).catch(() => {});
  }
  await until(phone, () => document.querySelectorAll(".readout b").length >= 7);
  assert.equal(await width(), 390, "nothing sticks out on a phone");
  await picture(phone, "series-phone");
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
  demo = await start(new URL(url).host);
  await until(page, () => document.querySelector("#status").dataset.state === "live" && document.querySelector("#notice").hidden);
  const again = await reading();
  await until(page, (before) => document.querySelector(".rows .row .cell.value span").textContent !== before, again);
  step("goes on after the restart");

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
