// The page frame: routing, the state of the connection, theme and keyboard shortcuts.

import { detail } from "./detail.js";
import { el, empty, setText } from "./dom.js";
import { Feed } from "./feed.js";
import * as format from "./format.js";
import { overview } from "./overview.js";
import { pipeline } from "./pipeline.js";
import { resetPalette } from "./sparkline.js";

/** Seconds without rows before the status reads "Idle". */
const IDLE_SECONDS = 10;
/** Milliseconds before a lost connection is announced: short interruptions go unnoticed. */
const LOST_DELAY = 1000;

const main = document.getElementById("main");
const connection = document.getElementById("connection");
const connectionText = document.getElementById("connection-text");
const connectionDuration = document.getElementById("connection-duration");
const notice = document.getElementById("notice");
const themeButton = document.getElementById("theme");
const keys = document.getElementById("keys");
const singleKeys = document.getElementById("single-keys");

const app = { main, info: null, feed: null, omitted: false, onProcess };
let page = null;
let lostAt = null;
let receivedAt = null;
/** The process part of the latest message. */
let latest = null;

/* Connection. */

function onConnection(state) {
  if (state === "live") {
    lostAt = null;
    document.body.classList.remove("stale");
    notice.hidden = true;
  } else if (state === "full") {
    lostAt = null;
    showNotice("Too many pages are open.", " Close some. This page continues as soon as there is room.");
  } else if (state === "lost") {
    lostAt ??= Date.now();
    setTimeout(() => {
      if (lostAt === null || Date.now() - lostAt < LOST_DELAY) return;
      showNotice("The pipeline cannot be reached.", ` The page shows data from ${format.wallTime(receivedAt ?? lostAt)}. Retrying… `,
        el("button", { type: "button", class: "button", onclick: () => app.feed.reconnect() }, "Retry now"));
    }, LOST_DELAY + 100);
  }
  showConnection();
}

function showNotice(title, ...content) {
  document.body.classList.add("stale");
  notice.replaceChildren(el("b", {}, title), ...content);
  notice.hidden = false;
}

/** Takes the process part of a message. Returns false if the message is from a process that the page has no info of yet. */
function onProcess(message) {
  if (message.run_id !== app.info.run_id) {
    onRestart();
    return false;
  }
  receivedAt = Date.now();
  latest = message;
  showConnection();
  return true;
}

let isReloading = false;

/** Reloads the info after a restart of the server. Called for each message until it succeeds. */
async function onRestart() {
  if (isReloading) return;
  isReloading = true;
  const version = app.info.version;
  const isLoaded = await loadInfo();
  isReloading = false;
  if (!isLoaded) return;
  if (app.info.version !== version) return location.reload();
  page?.reset();
  route();
}

function showConnection() {
  const state = app.feed?.state ?? "connecting";
  const idle = latest?.idle_seconds ?? null;
  const [name, text, duration = ""] = state === "lost" ? ["lost", "Reconnecting"]
    : state === "full" ? ["lost", "Server full"]
      : state !== "live" ? ["connecting", "Connecting"]
        : latest?.not_ready ? ["starting", latest.not_ready.reason === "lag" ? "Catching up" : "Starting"]
          : idle !== null && idle > IDLE_SECONDS ? ["idle", "Idle", ` for ${format.duration(idle)}`]
            : ["live", "Live"];
  connection.dataset.state = name;
  connection.title = state === "live" ? latest?.not_ready?.text ?? "" : "";
  setText(connectionText, text);
  // Outside the live region: a screen reader would announce it every second.
  setText(connectionDuration, duration);
}

async function loadInfo() {
  try {
    const response = await fetch("/api/pipeline");
    if (!response.ok) return false;
    app.info = await response.json();
    setText(document.getElementById("pipeline-name"), app.info.name);
    return true;
  } catch {
    return false;
  }
}

/* Routing. */

function route(event) {
  // The first page takes no focus.
  const isNavigation = Boolean(event) || main.contains(document.activeElement);
  const [, name, ...rest] = location.hash.split("/");
  let segments;
  try {
    segments = rest.map(decodeURIComponent);
  } catch {
    segments = [];
  }
  page?.leave();
  const isSeries = name === "series" && segments.length > 0;
  page = isSeries ? detail(app, segments[0], segments[1]) : name === "pipeline" ? pipeline(app) : overview(app);
  document.title = `${page.title} · ${app.info.name} · TideCast`;
  const current = name === "pipeline" ? "pipeline" : "overview";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  page.show();
  if (isNavigation) moveFocus(event ? new URL(event.oldURL).hash : "");
}

/** Moves focus, whose element left with the previous page, to the heading, or to the link of the previous page. */
function moveFocus(previousHash) {
  const heading = main.querySelector("h1");
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
  page.restoreFocus?.(previousHash);
}

// Following the link would change the route.
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

/* Settings of this browser. */

function loadSetting(name) {
  try {
    return localStorage.getItem(`tidecast-${name}`);
  } catch {
    return null;
  }
}

function saveSetting(name, value) {
  try {
    localStorage.setItem(`tidecast-${name}`, value);
  } catch {
    // Without storage the setting lasts until the page is closed.
  }
}

/* Theme. */

const THEMES = {
  auto: ["◐", "Theme: system"],
  light: ["☀", "Theme: light"],
  dark: ["☾", "Theme: dark"],
};

let theme = THEMES[loadSetting("theme")] ? loadSetting("theme") : "auto";

function applyTheme() {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const [icon, label] = THEMES[theme];
  setText(themeButton, icon);
  themeButton.setAttribute("aria-label", label);
  themeButton.title = label;
  resetPalette();
  page?.redraw();
}

function nextTheme() {
  const names = Object.keys(THEMES);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  saveSetting("theme", theme);
  applyTheme();
}

themeButton.addEventListener("click", nextTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);

/* Keyboard shortcuts. */

// Single-character shortcuts can be disabled, for speech input and unsteady hands (WCAG 2.1.4).
singleKeys.checked = loadSetting("single-keys") !== "off";
singleKeys.addEventListener("change", () => saveSetting("single-keys", singleKeys.checked ? "on" : "off"));
document.getElementById("help").addEventListener("click", () => keys.showModal());

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open || !page) return;
  // A select has its own keys, and Escape closes an open popover first.
  if (event.target.matches?.("select") || (event.key === "Escape" && document.querySelector(":popover-open"))) return;
  const isTyping = event.target.matches?.("input");
  if (!isTyping && event.key.length === 1 && !singleKeys.checked) return;
  if (page.onKey(event)) return event.preventDefault();
  if (isTyping) return;
  const action = {
    "?": () => keys.showModal(),
    p: () => (location.hash = "#/pipeline"),
    s: () => (location.hash = "#/"),
    t: nextTheme,
  }[event.key];
  if (action) {
    action();
    event.preventDefault();
  }
});

/* Start. */

applyTheme();
app.feed = new Feed(onConnection);
while (!(await loadInfo())) {
  main.replaceChildren(empty("The pipeline cannot be reached", "Retrying every second."));
  connection.dataset.state = "lost";
  setText(connectionText, "Reconnecting");
  await new Promise((done) => setTimeout(done, 1000));
}
addEventListener("hashchange", route);
route();
