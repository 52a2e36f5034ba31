// The page: which part of it is open, how the connection is, colours and keys.

import { detail } from "./detail.js";
import { el, empty, setText } from "./dom.js";
import { Feed } from "./feed.js";
import * as format from "./format.js";
import { overview } from "./overview.js";
import { pipeline } from "./pipeline.js";
import { forgetColours } from "./sparkline.js";

const main = document.getElementById("main");
const status = document.getElementById("status");
const statusText = document.getElementById("status-text");
const statusSince = document.getElementById("status-since");
const notice = document.getElementById("notice");
const themeButton = document.getElementById("theme");
const keys = document.getElementById("keys");
const single = document.getElementById("single");

const app = { main, facts: null, feed: null, leftOut: false, pulse };
let page = null;
let lostAt = null;
let heardAt = null;
let last = null;
let quiet = null;

/* The connection. */

function connection(state) {
  if (state === "live") {
    lostAt = null;
    document.body.classList.remove("stale");
    notice.hidden = true;
  } else if (state === "full") {
    lostAt = null;
    document.body.classList.add("stale");
    notice.replaceChildren(el("b", {}, "Too many pages are open."), " Close some: this one goes on as soon as there is room.");
    notice.hidden = false;
  } else if (state === "lost") {
    lostAt ??= Date.now();
    // A blink of the network is not worth a word.
    setTimeout(() => {
      if (lostAt === null || Date.now() - lostAt < 1000) return;
      document.body.classList.add("stale");
      notice.replaceChildren(el("b", {}, "The pipeline cannot be reached."),
        ` What is shown is of ${format.wall(heardAt ?? lostAt)}. Trying again… `,
        el("button", { type: "button", class: "button", onclick: () => app.feed.again() }, "Now"));
      notice.hidden = false;
    }, 1100);
  }
  lamp();
}

/** What every message says of the whole; false where it is of a process that the page knows nothing of yet. */
function pulse(message) {
  if (message.boot !== app.facts.boot) {
    restarted();
    return false;
  }
  heardAt = Date.now();
  last = message;
  quiet = message.quiet;
  lamp();
  return true;
}

let isLearning = false;

/** What the page knows is asked for anew, with each message until it is told. */
async function restarted() {
  if (isLearning) return;
  isLearning = true;
  const before = app.facts.version;
  const isTold = await learn();
  isLearning = false;
  if (!isTold) return;
  if (app.facts.version !== before) return location.reload();
  page?.again();
  route();
}

function lamp() {
  const state = app.feed?.state ?? "connecting";
  const [name, text, since = ""] = state !== "live"
    ? state === "lost" ? ["lost", "Reconnecting"] : state === "full" ? ["lost", "No room"] : ["connecting", "Connecting"]
    : last?.unready ? ["starting", last.unready.includes("behind") ? "Catching up" : "Starting"]
      : quiet !== null && quiet > 10 ? ["quiet", "Quiet", ` for ${format.length(quiet)}`]
        : ["live", "Live"];
  status.dataset.state = name;
  status.title = state === "live" && last?.unready ? last.unready : "";
  setText(statusText, text);
  // Outside of what is read aloud when it changes: it does so every second.
  setText(statusSince, since);
}

async function learn() {
  try {
    const answer = await fetch("/api/pipeline");
    if (!answer.ok) return false;
    app.facts = await answer.json();
    setText(document.getElementById("pipeline-name"), app.facts.name);
    return true;
  } catch {
    return false;
  }
}

/* Which page is open. */

function route(event) {
  // What is loaded first begins at the top by itself.
  const isMove = Boolean(event) || main.contains(document.activeElement);
  const [, name, ...rest] = location.hash.split("/");
  let words;
  try {
    words = rest.map(decodeURIComponent);
  } catch {
    words = [];
  }
  page?.leave();
  const isSeries = name === "series" && words.length > 0;
  page = isSeries ? detail(app, words[0], words[1]) : name === "pipeline" ? pipeline(app) : overview(app);
  document.title = `${page.title} · ${app.facts.name} · TideCast`;
  const current = name === "pipeline" ? "pipeline" : "overview";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  page.show();
  if (isMove) begin(event ? new URL(event.oldURL).hash : "");
}

/** Where focus was is gone with the page before: it goes on at the top of this one, or where one came `from`. */
function begin(from) {
  const title = main.querySelector("h1");
  title.tabIndex = -1;
  title.focus({ preventScroll: true });
  page.cameFrom?.(from);
}

// Not by its address, which would be that of a page.
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

/* What this browser keeps. */

function stored(name) {
  try {
    return localStorage.getItem(`tidecast-${name}`);
  } catch {
    return null;
  }
}

function store(name, value) {
  try {
    localStorage.setItem(`tidecast-${name}`, value);
  } catch {
    // A browser that keeps nothing forgets the choice.
  }
}

/* Colours. */

const THEMES = {
  auto: ["◐", "Colours: as the system has them"],
  light: ["☀", "Colours: light"],
  dark: ["☾", "Colours: dark"],
};

let theme = THEMES[stored("theme")] ? stored("theme") : "auto";

function paint() {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const [mark, label] = THEMES[theme];
  setText(themeButton, mark);
  themeButton.setAttribute("aria-label", label);
  themeButton.title = label;
  forgetColours();
  page?.recolour();
}

function nextTheme() {
  const names = Object.keys(THEMES);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  store("theme", theme);
  paint();
}

themeButton.addEventListener("click", nextTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);

/* Keys. */

// Who speaks to the machine, or hits keys unwillingly, can do without those of one character.
single.checked = stored("single") !== "off";
single.addEventListener("change", () => store("single", single.checked ? "on" : "off"));
document.getElementById("help").addEventListener("click", () => keys.showModal());

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open || !page) return;
  // A list has keys of its own, and what is open over the page is closed first.
  if (event.target.matches?.("select") || (event.key === "Escape" && document.querySelector(":popover-open"))) return;
  const typing = event.target.matches?.("input");
  if (!typing && event.key.length === 1 && !single.checked) return;
  if (page.key(event)) return event.preventDefault();
  if (typing) return;
  const does = {
    "?": () => keys.showModal(),
    p: () => (location.hash = "#/pipeline"),
    s: () => (location.hash = "#/"),
    t: nextTheme,
  }[event.key];
  if (does) {
    does();
    event.preventDefault();
  }
});

/* Begin. */

paint();
app.feed = new Feed(connection);
while (!(await learn())) {
  main.replaceChildren(empty("The pipeline cannot be reached", "It is asked again every second."));
  status.dataset.state = "lost";
  setText(statusText, "Reconnecting");
  await new Promise((done) => setTimeout(done, 1000));
}
addEventListener("hashchange", route);
setInterval(() => {
  if (quiet !== null && app.feed.state === "live") lamp();
}, 1000);
route();
