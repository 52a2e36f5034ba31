// All series: a row each, of which only those in view exist. The server sends what of them has changed.

import { choice, el, empty, setClass, setText, tile } from "./dom.js";
import * as format from "./format.js";
import { sparks } from "./sparkline.js";

/** Rows asked for beyond those in view, on either side, so that a scroll finds them there. */
const MARGIN = 40;
const NARROW = matchMedia("(max-width: 760px)");

const COLUMNS = [
  ["name", "Series", "By name"],
  [null, "Last steps", "The last 48 steps, and the next 24 as they are forecast"],
  ["value", "Reading", "The latest reading"],
  ["next", "Next step", "The forecast of the next step, and its narrowest interval"],
  ["error", "Error", "Mean absolute error over the last 168 steps, or as many as are kept, in the unit of the series"],
  ["ratio", null, "The error in units of the baseline's: below 1 is better"],
  ["coverage", "Coverage", "Share of readings within the narrowest interval"],
  ["state", "State", "How the series is"],
];

/** Columns of which the largest are looked for first. */
const LARGEST_FIRST = ["ratio", "error"];

/** What a page remembers while others are open. */
const kept = { search: "", sort: "name", descending: false, state: null, ahead: 1, top: 0, at: 0, found: 0 };

export function overview(app) {
  const { facts, feed, main } = app;
  const rowHeight = () => (NARROW.matches ? 76 : 46);
  const baseline = format.baseline(facts);
  // As many as there were: the page is as high again, and scrolled to where it was.
  let found = kept.found;
  let series = 0;
  let order = [];
  let from = 0;
  let asked = "";
  let at = kept.at;
  let back = "";
  const rows = new Map();
  const shown = new Map();
  const pool = [];

  // The head of the page.
  const now = tile("Event time", "The time that one in ten series has reached (UTC)");
  now.element.classList.add("long");
  const rate = tile("Readings", "Readings taken in the last second");
  const ratio = tile(`Error against ${baseline.name}`, `Mean over series; the baseline says ${baseline.says}`);
  const coverage = tile("Coverage", "Share of readings within their intervals, mean over series");
  const filters = el("div", { class: "filters", role: "group", "aria-label": "States" });
  const chips = new Map();
  for (const [state, label] of [[null, "All"], ...Object.entries(format.STATES).map(([key, [text]]) => [key, text])]) {
    const number = el("span", { class: "count" }, "0");
    const chip = el("button", {
      type: "button",
      class: "chip",
      "data-state": state ?? "all",
      "aria-pressed": String(kept.state === state),
      title: state ? format.STATES[state][1] : "Every series that is shown",
      onclick: () => {
        kept.state = state;
        chips.forEach(({ chip: other }, of) => other.setAttribute("aria-pressed", String(of === state)));
        restart();
      },
    }, state ? el("i", { class: "lamp", "data-state": state, "aria-hidden": "true" }) : null, label, number);
    chips.set(state, { chip, number });
    filters.append(chip);
  }
  const search = el("input", {
    type: "search",
    placeholder: "Search",
    "aria-label": "Search series",
    "aria-keyshortcuts": "/",
    autocomplete: "off",
    spellcheck: "false",
    value: kept.search,
    oninput: () => {
      kept.search = search.value;
      clearTimeout(search.timer);
      search.timer = setTimeout(restart, 120);
    },
  });
  const horizons = facts.ahead[0] === facts.ahead[1] ? null : choice(
    "Steps ahead that errors are of",
    facts.ahead.map((ahead, i) => [i, `${format.steps(ahead, facts.every_ms)} ahead`]),
    kept.ahead,
    (ahead) => {
      kept.ahead = ahead;
      restart(true);
    },
  );

  // The table.
  const ratioName = `vs ${baseline.name}`;
  const heads = COLUMNS.map(([sort, label, hint]) => {
    const head = el("div", { role: "columnheader", class: `cell ${sort ?? "spark"}`, title: hint, "aria-description": hint });
    head.append(sort
      ? el("button", {
          type: "button",
          onclick: () => {
            sortBy(sort, kept.sort === sort ? !kept.descending : LARGEST_FIRST.includes(sort));
          },
        }, label ?? ratioName)
      : document.createTextNode(label));
    return head;
  });
  const body = el("div", { class: "rows", role: "rowgroup" });
  const nothing = el("div", { class: "nothing", hidden: true });
  const table = el("div", { class: "table", role: "table", "aria-label": "Series" },
    el("div", { class: "row head", role: "row" }, ...heads), body);
  // On a phone there is no room for the heads that sort.
  const ways = COLUMNS.filter(([sort]) => sort).flatMap(([sort, label]) => {
    const words = { name: ["A to Z", "Z to A"], state: ["worst first", "best first"] }[sort] ?? ["lowest first", "highest first"];
    const both = ["ascending", "descending"].map((way, i) => el("option", { value: `${sort} ${way}` }, `${label ?? ratioName}, ${words[i]}`));
    return LARGEST_FIRST.includes(sort) ? both.reverse() : both;
  });
  const sorts = el("select", {
    onchange: () => {
      const [sort, way] = sorts.value.split(" ");
      sortBy(sort, way === "descending");
    },
  }, ...ways);
  const sorting = el("label", { class: "sorting" }, el("span", { class: "unseen" }, "Sort by"), sorts);
  const beyond = el("p", { class: "beyond", hidden: true });
  const toolbar = el("div", { class: "toolbar" }, search, sorting, filters, horizons);
  const page = el("section", { class: "page overview" },
    el("h1", { class: "unseen" }, "Series"),
    el("div", { class: "tiles" }, now.element, rate.element, ratio.element, coverage.element),
    toolbar, beyond, table, nothing);

  function makeRow() {
    const parts = {
      name: el("a", { class: "name", tabindex: "-1" }),
      lamp: el("i", { class: "lamp", "aria-hidden": "true" }),
      target: el("small", { class: "target" }),
      canvas: el("canvas", { "aria-hidden": "true" }),
      value: el("span"),
      unit: el("small", { class: "unit" }),
      next: el("span"),
      interval: el("small"),
      error: el("span"),
      ratio: el("span", { "data-of": baseline.name }),
      bar: el("i", { class: "bar", "aria-hidden": "true" }),
      coverage: el("span"),
      state: el("span", { class: "state-text" }),
      detail: el("small"),
    };
    const cell = (name, ...children) => el("div", { class: `cell ${name}`, role: "cell" }, ...children);
    const element = el("div", { class: "row", role: "row" },
      cell("name", parts.lamp, el("span", { class: "both" }, parts.name, parts.target)),
      cell("spark", parts.canvas),
      cell("value", parts.value, parts.unit),
      cell("next", parts.next, parts.interval),
      cell("error", parts.error),
      cell("ratio", parts.ratio, parts.bar),
      cell("coverage", parts.coverage),
      cell("state", parts.state, parts.detail));
    parts.name.addEventListener("focus", () => (at = Number(element.dataset.index)));
    return { element, parts, place: null, row: null };
  }

  function fill(view, row) {
    const { parts } = view;
    view.row = row;
    const scores = row.scores;
    const state = format.STATES[row.state];
    parts.name.href = `#/series/${encodeURIComponent(row.id)}${row.target ? `/${encodeURIComponent(row.target)}` : ""}`;
    view.element.dataset.state = row.state;
    setText(parts.name, row.id);
    parts.name.title = row.id;
    setText(parts.target, row.target ?? "");
    parts.lamp.dataset.state = row.state;
    setText(parts.value, format.number(row.value));
    setText(parts.unit, row.unit ?? "");
    setText(parts.next, format.number(row.next));
    setText(parts.interval, row.lower === null ? "" : `${format.number(row.lower)} to ${format.number(row.upper)}`);
    setText(parts.error, format.number(scores.error));
    const against = scores.naive ? scores.beside_naive / scores.naive : null;
    setText(parts.ratio, against === null ? "–" : against.toFixed(2));
    parts.ratio.className = against === null ? "" : against < 1 ? "good" : "bad";
    parts.bar.style.setProperty("--share", against === null ? 0 : Math.min(against / 2, 1));
    setClass(parts.bar, "worse", against !== null && against >= 1);
    const share = scores.coverage[0];
    setText(parts.coverage, share === undefined ? "–" : `${format.percent(share)} %`);
    setText(parts.state, state[0]);
    setText(parts.detail, row.state === "cold" && row.observed !== null && row.observed < facts.warm
      ? `${row.observed} of ${facts.warm}`
      : row.state === "late" || row.state === "silent" ? `since ${format.time(row.time_ms, facts.every_ms).slice(5)}` : "");
    view.drawn = false;
  }

  function waiting(view) {
    for (const [name, part] of Object.entries(view.parts)) {
      if (name !== "canvas" && name !== "bar" && name !== "lamp") setText(part, "");
    }
    view.row = null;
    view.parts.lamp.dataset.state = "none";
    view.parts.name.removeAttribute("href");
    const canvas = view.parts.canvas;
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  }

  /** Puts the rows in view where they belong, and asks for them where they are not there. */
  function place() {
    const height = rowHeight();
    const top = main.scrollTop - body.offsetTop;
    const inView = main.clientHeight;
    body.style.height = `${found * height}px`;
    const first = Math.max(0, Math.floor(top / height));
    const last = Math.min(found, Math.ceil((top + inView) / height) + 1);
    for (const [index, view] of shown) {
      if (index < first || index >= last) {
        if (view.element.contains(document.activeElement)) main.focus({ preventScroll: true });
        view.element.remove();
        pool.push(view);
        shown.delete(index);
      }
    }
    for (let index = first; index < last; index++) {
      let view = shown.get(index);
      if (!view) {
        view = pool.pop() ?? makeRow();
        shown.set(index, view);
        view.place = null;
        view.element.dataset.index = index;
        view.element.setAttribute("aria-rowindex", index + 2);
        view.element.style.transform = `translateY(${index * height}px)`;
        // In the order of the table, so that Tab and readers find them so.
        const after = [...body.children].find((other) => Number(other.dataset.index) > index);
        body.insertBefore(view.element, after ?? null);
      }
      // One row in view can be reached by Tab, whichever was the last to have focus.
      view.parts.name.tabIndex = index === Math.max(first, Math.min(last - 1, at)) ? 0 : -1;
      const place_ = order[index - from];
      const row = place_ === undefined ? undefined : rows.get(place_);
      if (row === undefined) {
        if (view.row || view.place === null) waiting(view);
        view.place = undefined;
      } else if (view.row !== row) {
        view.place = place_;
        fill(view, row);
      }
    }
    const undrawn = [...shown.values()].filter((view) => view.row && !view.drawn);
    sparks(undrawn.map((view) => [view.parts.canvas, view.row]));
    undrawn.forEach((view) => (view.drawn = true));
    table.setAttribute("aria-rowcount", found + 1);
    if (back && rows.size) goBack();
    ask(first, last);
  }

  /** Focus goes to the row of the series that was open, if it is in view and nothing else was given focus meanwhile. */
  function goBack() {
    const view = [...shown.values()].find(({ row, parts }) => row && parts.name.getAttribute("href") === back);
    back = "";
    if (view && page.querySelector("h1") === document.activeElement) view.parts.name.focus({ preventScroll: true });
  }

  let due = 0;
  const later = () => {
    if (!due) due = requestAnimationFrame(() => ((due = 0), place()));
  };

  /** A window of rows with some to spare; it moves only when what is in view nears its edge. */
  let askTimer = 0;
  function ask(first, last) {
    wanted = [first, last];
    const near = MARGIN / 2;
    const isThere = (first - near >= start || start === 0) && (last + near <= start + size || start + size >= found);
    if ((asked && isThere) || askTimer) return;
    // While the list is scrolled, now and then; not at its end only.
    askTimer = setTimeout(() => {
      askTimer = 0;
      subscribe(Math.max(0, wanted[0] - MARGIN), wanted[1] - wanted[0] + 2 * MARGIN);
    }, asked ? 80 : 0);
  }
  let wanted = [0, 0];
  let start = 0;
  let size = 0;

  function subscribe(first, count) {
    start = first;
    size = Math.min(200, Math.max(count, 2 * MARGIN + Math.ceil(main.clientHeight / rowHeight())));
    const query = new URLSearchParams({ search: kept.search, sort: kept.sort, descending: kept.descending, ahead: kept.ahead, from: first, rows: size });
    if (kept.state) query.set("state", kept.state);
    const url = `/api/streams/overview?${query}`;
    if (url === asked) return;
    asked = url;
    feed.open(url, { overview: heard });
  }

  /** Another order or other scores: what was there is not what is asked for. */
  function restart(keepScroll = false) {
    sortHeads();
    if (!keepScroll) {
      at = 0;
      main.scrollTop = Math.min(main.scrollTop, toolbar.offsetTop);
    }
    asked = "";
    rows.clear();
    order = [];
    from = 0;
    clearTimeout(askTimer);
    askTimer = 0;
    place();
  }

  function sortBy(sort, descending) {
    Object.assign(kept, { sort, descending });
    restart();
  }

  function sortHeads() {
    sorts.value = `${kept.sort} ${kept.descending ? "descending" : "ascending"}`;
    COLUMNS.forEach(([sort], i) => {
      const is = sort !== null && sort === kept.sort;
      if (is) heads[i].setAttribute("aria-sort", kept.descending ? "descending" : "ascending");
      else heads[i].removeAttribute("aria-sort");
    });
  }

  function heard(message) {
    if (!app.pulse(message.pulse)) return;
    for (const row of message.rows) rows.set(row.place, row);
    order = message.order;
    from = message.from;
    found = message.found;
    series = message.series;
    app.leftOut = message.left_out;
    // Rows that have left the window are not kept up to date: they come anew.
    if (rows.size > 2 * order.length + 50) {
      const wanted = new Set(order);
      for (const key of rows.keys()) if (!wanted.has(key)) rows.delete(key);
    }
    tiles(message);
    const isEmpty = found === 0;
    nothing.hidden = !isEmpty;
    table.hidden = isEmpty;
    if (isEmpty) explain(message);
    later();
  }

  function explain(message) {
    const leftOut = app.leftOut;
    const reason = series > 0 ? `search ${leftOut}` : message.pulse.unready ?? "rows";
    if (nothing.dataset.reason === reason) return;
    nothing.dataset.reason = reason;
    nothing.replaceChildren(series > 0
      ? empty(leftOut ? "No series like that among those shown" : "No series like that",
          `Nothing matches what is searched for and filtered.${leftOut ? ` The dashboard has no room for ${format.others(leftOut)}.` : ""}`,
          el("button", { type: "button", class: "button", onclick: clear }, "Show all series"))
      : empty("Waiting for readings",
          message.pulse.unready ? `Not ready yet: ${message.pulse.unready}.` : `Nothing has come from ${facts.topic ?? "the source"} yet.`,
          el("p", {}, el("a", { href: "#/pipeline" }, "Look at the pipeline"))));
  }

  function clear() {
    search.value = kept.search = "";
    kept.state = null;
    chips.forEach(({ chip }, state) => chip.setAttribute("aria-pressed", String(state === null)));
    restart();
  }

  function tiles(message) {
    const { overall, states, pulse } = message;
    now.set(format.time(message.now_ms, facts.every_ms), message.now_ms ? "UTC" : "", `in steps of ${facts.every}`);
    rate.set(format.count(Math.round(pulse.last?.readings ?? 0)), "/s", `${format.count(Math.round(pulse.last?.forecasts ?? 0))} forecasts/s`);
    ratio.set(overall.ratio === null ? "–" : overall.ratio.toFixed(2), "",
      overall.ratio === null ? "no forecast has come due yet" : `beside ${baseline.says}`,
      overall.ratio === null ? "" : overall.ratio < 1 ? "good" : "bad");
    const [narrow, wide] = overall.coverage;
    const [level, level2] = facts.levels.map(format.level);
    coverage.set(narrow === undefined ? "–" : format.percent(narrow, 1), narrow === undefined ? "" : "%",
      narrow === undefined ? (facts.levels.length ? "no interval has come due yet" : "the pipeline has no levels")
        : wide === undefined ? `of ${level} % intervals` : `of ${level} %; ${format.percent(wide, 1)} % of ${level2} %`);
    setText(chips.get(null).number, format.count(series));
    beyond.hidden = !app.leftOut;
    if (app.leftOut) setText(beyond, `${format.count(series)} series are shown, and there are ${format.others(app.leftOut)} that the dashboard has no room for.`);
    for (const state of Object.keys(format.STATES)) {
      const { chip, number } = chips.get(state);
      setText(number, format.count(states[state]));
      setClass(chip, "none", states[state] === 0);
    }
  }

  function move(to) {
    if (!found) return;
    at = Math.max(0, Math.min(found - 1, to));
    const height = rowHeight();
    const top = body.offsetTop + at * height;
    const headHeight = toolbar.offsetHeight + 40;
    if (top < main.scrollTop + headHeight) main.scrollTop = top - headHeight;
    if (top + height > main.scrollTop + main.clientHeight) main.scrollTop = top + height - main.clientHeight;
    place();
    shown.get(at)?.parts.name.focus({ preventScroll: true });
  }

  function key(event) {
    const inSearch = event.target === search;
    const onRow = event.target.matches?.(".rows .name");
    if (event.key === "/" && !inSearch) return search.focus(), search.select(), true;
    if (event.key === "Escape" && (kept.search || kept.state)) return clear(), true;
    if (event.key === "Escape" && inSearch) return search.blur(), true;
    if (inSearch && event.key !== "ArrowDown" && event.key !== "Enter") return false;
    const page_ = Math.max(1, Math.floor(main.clientHeight / rowHeight()) - 3);
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page_, PageUp: -page_ };
    if (event.key === "Enter" && inSearch) return move(0), true;
    if (event.key in steps) return move(onRow ? at + steps[event.key] : at), true;
    if (onRow && event.key === "Home") return move(0), true;
    if (onRow && event.key === "End") return move(found - 1), true;
    return false;
  }

  const redraw = () => {
    for (const view of shown.values()) {
      view.drawn = false;
      view.element.style.transform = `translateY(${Number(view.element.dataset.index) * rowHeight()}px)`;
    }
    later();
  };
  main.addEventListener("scroll", later, { passive: true });
  const sizes = new ResizeObserver(redraw);

  return {
    title: "Series",
    show() {
      main.replaceChildren(page);
      sizes.observe(main);
      sortHeads();
      body.style.height = `${found * rowHeight()}px`;
      main.scrollTop = kept.top;
      place();
    },
    cameFrom(address) {
      back = address;
    },
    key,
    recolour: redraw,
    again() {
      rows.clear();
      asked = "";
      place();
    },
    leave() {
      kept.top = main.scrollTop;
      kept.at = at;
      kept.found = found;
      clearTimeout(askTimer);
      clearTimeout(search.timer);
      cancelAnimationFrame(due);
      main.removeEventListener("scroll", later);
      sizes.disconnect();
    },
  };
}
