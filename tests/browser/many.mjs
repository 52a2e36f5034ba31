// Measures how long the dashboard of many streaming series blocks a real browser.
//
//   node many.mjs URL CHROMIUM SERIES

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const [url, browserPath, series] = process.argv.slice(2);
const require = createRequire(path.resolve(process.env.TIDECAST_NODE_MODULES ?? import.meta.dirname, "here.js"));
const { chromium } = require("playwright-core");

/** Longer than any wait here takes on a slow machine. */
const TIMEOUT = 240_000;
/** Longest task in milliseconds: twice the 100 ms that feel instant, because the browser renders without a GPU next to a busy pipeline. */
const TASK_MAX = 200;

const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
try {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  context.setDefaultTimeout(TIMEOUT);
  await context.addInitScript(() => {
    globalThis.longTasks = [];
    globalThis.frames = [];
    // Long tasks block the page for 50 ms or more.
    new PerformanceObserver((list) => globalThis.longTasks.push(...list.getEntries().map(({ startTime, duration }) => [startTime, duration])))
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
  const waitFor = (condition, argument) => page.waitForFunction(condition, argument, { timeout: TIMEOUT, polling: 20 });
  const sleep = (ms) => page.evaluate((ms) => new Promise((done) => setTimeout(done, ms)), ms);
  const slow = [];

  /** Runs an action and reports the long tasks meanwhile. */
  async function measure(name, action) {
    const since = await page.evaluate(() => performance.now());
    const result = await action();
    await sleep(500);
    const { longTasks, frames } = await page.evaluate((since) => ({
      longTasks: globalThis.longTasks.filter(([at]) => at >= since).map(([, length]) => length),
      frames: globalThis.frames.filter(([at]) => at >= since).map(([, gap]) => gap).sort((a, b) => a - b),
    }), since);
    const longest = Math.max(0, ...longTasks);
    const frameTime = (share) => frames[Math.min(frames.length - 1, Math.floor(share * frames.length))]?.toFixed(0);
    console.log(`${name}: ${longTasks.length} long tasks, longest ${longest.toFixed(0)} ms; `
      + `frames: median ${frameTime(0.5)} ms, 99 % ${frameTime(0.99)} ms, max ${frameTime(1)} ms${result ? `; ${result}` : ""}`);
    if (longest > TASK_MAX) slow.push(`${name}: ${longest.toFixed(0)} ms`);
  }

  await page.goto(url);
  await waitFor((series) => document.querySelector(".chip[data-status=all] .count")?.textContent.replaceAll(",", "") === series, series);
  await waitFor(() => [...document.querySelectorAll(".rows .row .cell.mase span")].filter((cell) => /\d/.test(cell.textContent)).length > 10);
  console.log(`${series} streaming series, ${await page.locator(".tile").nth(1).locator("p").textContent()}`);

  const waitForMatches = (word) => waitFor((word) => {
    const names = [...document.querySelectorAll(".rows .row a.name")].map((name) => name.textContent).filter(Boolean);
    return names.length > 0 && names.every((name) => name.includes(word));
  }, word);

  await measure("streams for 10 s", () => sleep(10_000));
  await measure("types in the search", async () => {
    await page.keyboard.press("/");
    await page.keyboard.type("plant-42/", { delay: 60 });
    const typed = Date.now();
    await waitForMatches("plant-42/");
    return `results ${Date.now() - typed} ms after the last key`;
  });
  await measure("clears it", async () => {
    await page.keyboard.press("Escape");
    await waitFor(() => document.querySelectorAll(".rows .row").length > 10);
  });
  /** Waits until the rows in view are sorted by their column. */
  const waitForOrder = () => waitFor(() => {
    const head = document.querySelector(".row.head [aria-sort]");
    const [column, direction] = [head.classList[1], head.getAttribute("aria-sort") === "descending" ? -1 : 1];
    const STATUSES = ["silent", "drifting", "late", "warming", "ok"];
    const natural = new Intl.Collator("en", { numeric: true }).compare;
    const key = (row) => {
      if (column === "name") return row.querySelector("a.name").textContent;
      if (column === "status") return STATUSES.indexOf(row.dataset.status);
      const text = row.querySelector(`.cell.${column} span`).textContent;
      return text === "–" ? null : Number.parseFloat(text.replaceAll(",", "").replaceAll("−", "-"));
    };
    const isOrdered = (a, b) => (a === null ? b === null : b === null || (column === "name" ? natural(a, b) : a - b) * direction <= 0);
    const keys = [...document.querySelectorAll(".rows .row")].filter((row) => row.querySelector(".cell.value span:not(:empty)"))
      .sort((a, b) => a.dataset.index - b.dataset.index).map(key);
    return keys.length > 10 && keys.slice(1).every((next, i) => isOrdered(keys[i], next));
  });
  await measure("sorts by every column in both directions", async () => {
    const heads = page.locator(".row.head button");
    let longest = 0;
    for (let head = 0; head < await heads.count(); head++) {
      for (const _direction of [0, 1]) {
        const clicked = Date.now();
        await heads.nth(head).click();
        await waitFor(() => document.querySelectorAll(".rows .row .cell.value span:not(:empty)").length > 10);
        longest = Math.max(longest, Date.now() - clicked);
        // Streamed values may be out of order until the next sort.
        await waitForOrder();
      }
    }
    await heads.first().click();
    return `sorted within ${longest} ms`;
  });
  await measure("scrolls", async () => {
    await page.mouse.move(700, 600);
    for (let turn = 0; turn < 60; turn++) {
      await page.mouse.wheel(0, 900);
      await sleep(16);
    }
  });
  await measure("jumps to the end and back", async () => {
    for (const to of [1e9, 0, 1e9]) {
      await page.evaluate((to) => (document.getElementById("main").scrollTop = to), to);
      // Only the last row shows that the new window is loaded.
      await waitFor((index) => document.querySelector(`.rows .row[data-index="${index}"] .cell.value span:not(:empty)`), to ? series - 1 : 0);
    }
  });
  await measure("opens a series and returns", async () => {
    const last = page.locator(`.rows .row[data-index="${series - 1}"] a.name`);
    const id = await last.textContent();
    await last.click();
    await waitFor(() => document.querySelectorAll(".detail canvas").length === 3);
    await page.keyboard.press("Escape");
    // The list is back at its end.
    await waitFor((id) => document.activeElement.matches(".rows a.name") && document.activeElement.textContent === id, id);
  });
  assert.deepEqual(slow, [], `no task blocks the page longer than ${TASK_MAX} ms`);
  console.log("done");
} finally {
  await browser.close();
}
