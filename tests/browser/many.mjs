// Looks at the dashboard of many series in a real browser while they stream, and says for how long the page was busy at a time.
//
//   node many.mjs URL CHROMIUM SERIES

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const [url, browserPath, series] = process.argv.slice(2);
const require = createRequire(path.resolve(process.env.TIDECAST_NODE_MODULES ?? import.meta.dirname, "here.js"));
const { chromium } = require("playwright-core");

/** Longer than anything here takes on a slow machine; nothing waits for it that comes earlier. */
const PATIENCE = 240_000;
/** An answer within 100 ms seems to come at once: twice that, since the browser here draws without a graphics card, beside a
 * pipeline that has all its series stream at once. */
const AT_ONCE = 200;

const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
try {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  context.setDefaultTimeout(PATIENCE);
  await context.addInitScript(() => {
    globalThis.busy = [];
    globalThis.frames = [];
    // What a browser calls long: 50 ms and more in which it can answer nobody.
    new PerformanceObserver((list) => globalThis.busy.push(...list.getEntries().map(({ startTime, duration }) => [startTime, duration])))
      .observe({ type: "longtask", buffered: true });
    let last = performance.now();
    const frame = (now) => {
      globalThis.frames.push([now, now - last]);
      last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => assert.fail(String(error)));
  const until = (of, argument) => page.waitForFunction(of, argument, { timeout: PATIENCE, polling: 20 });
  const rest = (ms) => page.evaluate((ms) => new Promise((done) => setTimeout(done, ms)), ms);
  const slow = [];

  /** Does something, and says how busy the page was meanwhile. */
  async function watch(what, doing) {
    const since = await page.evaluate(() => performance.now());
    const said = await doing();
    await rest(500);
    const { busy, frames } = await page.evaluate((since) => ({
      busy: globalThis.busy.filter(([at]) => at >= since).map(([, length]) => length),
      frames: globalThis.frames.filter(([at]) => at >= since).map(([, gap]) => gap).sort((a, b) => a - b),
    }), since);
    const longest = Math.max(0, ...busy);
    const frame = (share) => frames[Math.min(frames.length - 1, Math.floor(share * frames.length))]?.toFixed(0);
    console.log(`${what}: ${busy.length} tasks of 50 ms and more, the longest ${longest.toFixed(0)} ms; `
      + `from frame to frame ${frame(0.5)} ms, ${frame(0.99)} at the 99th percentile, ${frame(1)} at most${said ? `; ${said}` : ""}`);
    if (longest > AT_ONCE) slow.push(`${what}: ${longest.toFixed(0)} ms`);
  }

  await page.goto(url);
  await until((series) => document.querySelector(".chip[data-state=all] .count")?.textContent.replaceAll(",", "") === series, series);
  await until(() => [...document.querySelectorAll(".rows .row .cell.ratio span")].filter((cell) => /\d/.test(cell.textContent)).length > 10);
  console.log(`${series} series stream, ${await page.locator(".tile").nth(1).locator("p").textContent()}`);

  const found = (word) => until((word) => {
    const names = [...document.querySelectorAll(".rows .row a.name")].map((name) => name.textContent).filter(Boolean);
    return names.length > 0 && names.every((name) => name.includes(word));
  }, word);

  await watch("streams for 10 s", () => rest(10_000));
  await watch("types in the search", async () => {
    await page.keyboard.press("/");
    await page.keyboard.type("plant-42/", { delay: 60 });
    const typed = Date.now();
    await found("plant-42/");
    return `found ${Date.now() - typed} ms after the last key`;
  });
  await watch("clears it", async () => {
    await page.keyboard.press("Escape");
    await until(() => document.querySelectorAll(".rows .row").length > 10);
  });
  /** The rows in view are in the order that their column says. */
  const inOrder = () => until(() => {
    const head = document.querySelector(".row.head [aria-sort]");
    const [column, way] = [head.classList[1], head.getAttribute("aria-sort") === "descending" ? -1 : 1];
    const STATES = ["silent", "drifting", "late", "cold", "ok"];
    const natural = new Intl.Collator("en", { numeric: true }).compare;
    const key = (row) => {
      if (column === "name") return row.querySelector("a.name").textContent;
      if (column === "state") return STATES.indexOf(row.dataset.state);
      const text = row.querySelector(`.cell.${column} span`).textContent;
      return text === "–" ? null : Number.parseFloat(text.replaceAll(",", "").replaceAll("−", "-"));
    };
    const isRight = (a, b) => (a === null ? b === null : b === null || (column === "name" ? natural(a, b) : a - b) * way <= 0);
    const keys = [...document.querySelectorAll(".rows .row")].filter((row) => row.querySelector(".cell.value span:not(:empty)"))
      .sort((a, b) => a.dataset.index - b.dataset.index).map(key);
    return keys.length > 10 && keys.slice(1).every((next, i) => isRight(keys[i], next));
  });
  await watch("sorts by every column, both ways", async () => {
    const heads = page.locator(".row.head button");
    let longest = 0;
    for (let head = 0; head < await heads.count(); head++) {
      for (const _way of [0, 1]) {
        const clicked = Date.now();
        await heads.nth(head).click();
        await until(() => document.querySelectorAll(".rows .row .cell.value span:not(:empty)").length > 10);
        longest = Math.max(longest, Date.now() - clicked);
        // What streams in changes some until they are put in order again.
        await inOrder();
      }
    }
    await heads.first().click();
    return `there after ${longest} ms at most`;
  });
  await watch("scrolls", async () => {
    await page.mouse.move(700, 600);
    for (let turn = 0; turn < 60; turn++) {
      await page.mouse.wheel(0, 900);
      await rest(16);
    }
  });
  await watch("jumps to the end and back", async () => {
    for (const to of [1e9, 0, 1e9]) {
      await page.evaluate((to) => (document.getElementById("main").scrollTop = to), to);
      // The row at that end: those before it may be there from before.
      await until((index) => document.querySelector(`.rows .row[data-index="${index}"] .cell.value span:not(:empty)`), to ? series - 1 : 0);
    }
  });
  await watch("opens a series and comes back", async () => {
    const last = page.locator(`.rows .row[data-index="${series - 1}"] a.name`);
    const id = await last.textContent();
    await last.click();
    await until(() => document.querySelectorAll(".detail canvas").length === 3);
    await page.keyboard.press("Escape");
    // Where it was, at the end.
    await until((id) => document.activeElement.matches(".rows a.name") && document.activeElement.textContent === id, id);
  });
  assert.deepEqual(slow, [], `nothing takes the page longer than ${AT_ONCE} ms`);
  console.log("done");
} finally {
  await browser.close();
}
