// The overview: one row per series. Only the rows in view exist; the server sends the rows that changed.

import { choice, el, empty, setClass, setText, tile } from "./dom.js";
import * as format from "./format.js";
import { drawSparklines } from "./sparkline.js";

/** Rows requested beyond the view on either side, so that scrolling finds them loaded. */
const MARGIN = 40;
/** Rows of one request, at most; the limit of the server. */
const ROWS_MAX = 200;
const NARROW = matchMedia("(max-width: 760px)");

const COLUMNS = [
  ["name", "Series", "Sort by name"],
  [null, "History", "The last 48 steps and the next 24 forecast steps"],
  ["value", "Value", "The latest observation"],
  ["next", "Next step", "The forecast of the next step and its narrowest interval"],
  ["mae", "MAE", "Mean absolute error over the last 168 steps, or over the retained steps, in the unit of the series"],
  ["mase", "MASE", "MAE divided by that of the baseline: below 1 is better"],
  ["coverage", "Coverage", "Share of observations inside the narrowest interval"],
  ["status", "Status", "The status of the series"],
];

/** Columns that sort largest first: their worst series have the largest values. */
const LARGEST_FIRST = ["mase", "mae"];

/** The state of the page while other pages are open. */
const saved = { search: "", sort: "name", descending: false, status: null, horizonIndex: 1, scrollTop: 0, focusedIndex: 0, matched: 0 };

export function overview(app) {
  const { info, feed, main } = app;
  const rowHeight = () => (NARROW.matches ? 76 : 46);
  const baseline = format.baseline(info);
  // Starts with the previous number of rows, so that the scroll position can be restored.
  let matched = saved.matched;
  let series = 0;
  /** Series indices of the loaded window, whose first row is `offset`. */
  let indices = [];
  let offset = 0;
  let url = "";
  let focusedIndex = saved.focusedIndex;
  let restoredLink = "";
  /** Loaded rows by series index. */
  const rows = new Map();
  /** Row elements in view by row number. */
  const views = new Map();
  const pool = [];

  // Tiles, filters and search.
  const eventTime = tile("Event time", "Event time that a tenth of the series have reached (UTC)");
  eventTime.element.classList.add("long");
  const rate = tile("Throughput", "Rows read in the last second");
  const mase = tile("MASE", `Mean absolute error divided by that of the baseline (${baseline.forecast}), mean over series: below 1 is better`);
  const coverage = tile("Coverage", "Share of observations inside their intervals, mean over series");
  const filters = el("div", { class: "filters", role: "group", "aria-label": "Filter by status" });
  const chips = new Map();
  for (const [status, label] of [[null, "All"], ...Object.entries(format.STATUSES).map(([key, [text]]) => [key, text])]) {
    const number = el("span", { class: "count" }, "0");
    const chip = el("button", {
      type: "button",
      class: "chip",
      "data-status": status ?? "all",
      "aria-pressed": String(saved.status === status),
      title: status ? format.STATUSES[status][1] : "All series",
      onclick: () => setStatus(status),
    }, status ? el("i", { class: "indicator", "data-status": status, "aria-hidden": "true" }) : null, label, number);
    chips.set(status, { chip, number });
    filters.append(chip);
  }
  const search = el("input", {
    type: "search",
    placeholder: "Search",
    "aria-label": "Search series",
    "aria-keyshortcuts": "/",
    autocomplete: "off",
    spellcheck: "false",
    value: saved.search,
    oninput: () => {
      saved.search = search.value;
      clearTimeout(search.timer);
      search.timer = setTimeout(reload, 120);
    },
  });
  const [firstHorizon, lastHorizon] = info.view_horizons;
  const horizons = firstHorizon === lastHorizon ? null : choice(
    "Horizon of the errors",
    info.view_horizons.map((horizon, i) => [i, `${format.steps(horizon, info.step_ms)} ahead`]),
    saved.horizonIndex,
    (index) => {
      saved.horizonIndex = index;
      reload({ keepScroll: true });
    },
  );

  // The table.
  const heads = COLUMNS.map(([sort, label, hint]) => {
    const head = el("div", { role: "columnheader", class: `cell ${sort ?? "sparkline"}`, title: hint, "aria-description": hint });
    head.append(sort
      ? el("button", {
          type: "button",
          onclick: () => sortBy(sort, saved.sort === sort ? !saved.descending : LARGEST_FIRST.includes(sort)),
        }, label)
      : document.createTextNode(label));
    return head;
  });
  const body = el("div", { class: "rows", role: "rowgroup" });
  const noMatches = el("div", { class: "no-matches", hidden: true });
  const table = el("div", { class: "table", role: "table", "aria-label": "Series" },
    el("div", { class: "row head", role: "row" }, ...heads), body);
  // A phone has no room for the column heads.
  const sortOptions = COLUMNS.filter(([sort]) => sort).flatMap(([sort, label]) => {
    const words = { name: ["A to Z", "Z to A"], status: ["worst first", "best first"] }[sort] ?? ["lowest first", "highest first"];
    const options = ["ascending", "descending"].map((direction, i) => el("option", { value: `${sort} ${direction}` }, `${label}, ${words[i]}`));
    return LARGEST_FIRST.includes(sort) ? options.reverse() : options;
  });
  const sortSelect = el("select", {
    onchange: () => {
      const [sort, direction] = sortSelect.value.split(" ");
      sortBy(sort, direction === "descending");
    },
  }, ...sortOptions);
  const sortLabel = el("label", { class: "sorting" }, el("span", { class: "visually-hidden" }, "Sort by"), sortSelect);
  const omittedNote = el("p", { class: "omitted", hidden: true });
  const toolbar = el("div", { class: "toolbar" }, search, sortLabel, filters, horizons);
  const page = el("section", { class: "page overview" },
    el("h1", { class: "visually-hidden" }, "Series"),
    el("div", { class: "tiles" }, eventTime.element, rate.element, mase.element, coverage.element),
    toolbar, omittedNote, table, noMatches);

  function makeRow() {
    const parts = {
      name: el("a", { class: "name", tabindex: "-1" }),
      indicator: el("i", { class: "indicator", "aria-hidden": "true" }),
      target: el("small", { class: "target" }),
      canvas: el("canvas", { "aria-hidden": "true" }),
      value: el("span"),
      unit: el("small", { class: "unit" }),
      next: el("span"),
      interval: el("small"),
      mae: el("span"),
      mase: el("span"),
      bar: el("i", { class: "bar", "aria-hidden": "true" }),
      coverage: el("span"),
      status: el("span", { class: "status-text" }),
      detail: el("small"),
    };
    const cell = (name, ...children) => el("div", { class: `cell ${name}`, role: "cell" }, ...children);
    const element = el("div", { class: "row", role: "row" },
      cell("name", parts.indicator, el("span", { class: "name-text" }, parts.name, parts.target)),
      cell("sparkline", parts.canvas),
      cell("value", parts.value, parts.unit),
      cell("next", parts.next, parts.interval),
      cell("mae", parts.mae),
      cell("mase", parts.mase, parts.bar),
      cell("coverage", parts.coverage),
      cell("status", parts.status, parts.detail));
    parts.name.addEventListener("focus", () => (focusedIndex = Number(element.dataset.index)));
    return { element, parts, row: null, isBlank: false, isDrawn: false };
  }

  function fill(view, row) {
    const { parts } = view;
    view.row = row;
    const { scores, status } = row;
    parts.name.href = `#/series/${encodeURIComponent(row.id)}${row.target ? `/${encodeURIComponent(row.target)}` : ""}`;
    view.element.dataset.status = status;
    setText(parts.name, row.id);
    parts.name.title = row.id;
    setText(parts.target, row.target ?? "");
    parts.indicator.dataset.status = status;
    setText(parts.value, format.number(row.value));
    setText(parts.unit, row.unit ?? "");
    setText(parts.next, format.number(row.next));
    setText(parts.interval, row.lower === null ? "" : `${format.number(row.lower)} to ${format.number(row.upper)}`);
    setText(parts.mae, format.number(scores.mae));
    const { mase } = scores;
    setText(parts.mase, mase === null ? "–" : mase.toFixed(2));
    parts.mase.className = mase === null ? "" : mase < 1 ? "good" : "bad";
    parts.bar.style.setProperty("--share", mase === null ? 0 : Math.min(mase / 2, 1));
    setClass(parts.bar, "worse", mase !== null && mase >= 1);
    const share = scores.coverage[0];
    setText(parts.coverage, share === undefined ? "–" : `${format.percent(share)} %`);
    setText(parts.status, format.STATUSES[status][0]);
    setText(parts.detail, status === "warming" && row.warmup_steps_observed !== null && row.warmup_steps_observed < info.warmup_steps
      ? `${row.warmup_steps_observed} of ${info.warmup_steps}`
      : status === "late" || status === "silent" ? `since ${format.time(row.time_ms, info.step_ms).slice(5)}` : "");
    view.isBlank = false;
    view.isDrawn = false;
  }

  /** Blanks a row that is not loaded yet. */
  function blank(view) {
    for (const [name, part] of Object.entries(view.parts)) {
      if (name !== "canvas" && name !== "bar" && name !== "indicator") setText(part, "");
    }
    view.row = null;
    view.isBlank = true;
    view.parts.indicator.dataset.status = "none";
    view.parts.name.removeAttribute("href");
    const canvas = view.parts.canvas;
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  }

  /** Positions the rows in view, and requests the missing ones. */
  function layout() {
    const height = rowHeight();
    const top = main.scrollTop - body.offsetTop;
    body.style.height = `${matched * height}px`;
    const first = Math.max(0, Math.floor(top / height));
    const last = Math.min(matched, Math.ceil((top + main.clientHeight) / height) + 1);
    recycle(first, last);
    for (let number = first; number < last; number++) {
      const view = views.get(number) ?? insertRow(number);
      // Roving tabindex: one row in view can be reached by Tab, the last focused one if possible.
      view.parts.name.tabIndex = number === Math.max(first, Math.min(last - 1, focusedIndex)) ? 0 : -1;
      const row = rows.get(indices[number - offset]);
      if (row === undefined && !view.isBlank) blank(view);
      else if (row !== undefined && view.row !== row) fill(view, row);
    }
    const undrawn = [...views.values()].filter((view) => view.row && !view.isDrawn);
    drawSparklines(undrawn.map((view) => [view.parts.canvas, view.row.sparkline]));
    undrawn.forEach((view) => (view.isDrawn = true));
    table.setAttribute("aria-rowcount", matched + 1);
    if (restoredLink && rows.size) focusRestoredLink();
    request(first, last);
  }

  /** Removes the rows that left the view, for reuse. */
  function recycle(first, last) {
    for (const [number, view] of views) {
      if (number >= first && number < last) continue;
      if (view.element.contains(document.activeElement)) main.focus({ preventScroll: true });
      view.element.remove();
      pool.push(view);
      views.delete(number);
    }
  }

  function insertRow(number) {
    const view = pool.pop() ?? makeRow();
    views.set(number, view);
    Object.assign(view, { row: null, isBlank: false });
    view.element.dataset.index = number;
    view.element.setAttribute("aria-rowindex", number + 2);
    view.element.style.transform = `translateY(${number * rowHeight()}px)`;
    // In table order, which Tab and screen readers follow.
    const next = [...body.children].find((other) => Number(other.dataset.index) > number);
    body.insertBefore(view.element, next ?? null);
    return view;
  }

  /** Focuses the row of the series that was open, if it is in view and the user moved focus nowhere else. */
  function focusRestoredLink() {
    const view = [...views.values()].find(({ row, parts }) => row && parts.name.getAttribute("href") === restoredLink);
    restoredLink = "";
    if (view && page.querySelector("h1") === document.activeElement) view.parts.name.focus({ preventScroll: true });
  }

  let frame = 0;
  const scheduleLayout = () => {
    if (!frame) frame = requestAnimationFrame(() => ((frame = 0), layout()));
  };

  /** Requests a window of rows around the view. The window moves when the view nears its edge. */
  let requestTimer = 0;
  let visible = [0, 0];
  let windowStart = 0;
  let windowSize = 0;
  function request(first, last) {
    visible = [first, last];
    const edge = MARGIN / 2;
    const isLoaded = (first - edge >= windowStart || windowStart === 0)
      && (last + edge <= windowStart + windowSize || windowStart + windowSize >= matched);
    if ((url && isLoaded) || requestTimer) return;
    // Throttled, not debounced: rows load while the user scrolls.
    requestTimer = setTimeout(() => {
      requestTimer = 0;
      subscribe(Math.max(0, visible[0] - MARGIN), visible[1] - visible[0] + 2 * MARGIN);
    }, url ? 80 : 0);
  }

  function subscribe(start, count) {
    windowStart = start;
    windowSize = Math.min(ROWS_MAX, Math.max(count, 2 * MARGIN + Math.ceil(main.clientHeight / rowHeight())));
    const { search, sort, descending, status, horizonIndex } = saved;
    const query = new URLSearchParams({ search, sort, descending, horizon_index: horizonIndex, offset: start, limit: windowSize });
    if (status) query.set("status", status);
    const next = `/api/streams/overview?${query}`;
    if (next === url) return;
    url = next;
    feed.open(url, { overview: onMessage });
  }

  /** Discards the loaded rows after a change of the query. */
  function reload({ keepScroll = false } = {}) {
    showSortOrder();
    if (!keepScroll) {
      focusedIndex = 0;
      main.scrollTop = Math.min(main.scrollTop, toolbar.offsetTop);
    }
    url = "";
    rows.clear();
    indices = [];
    offset = 0;
    clearTimeout(requestTimer);
    requestTimer = 0;
    layout();
  }

  function setStatus(status) {
    saved.status = status;
    chips.forEach(({ chip }, of) => chip.setAttribute("aria-pressed", String(of === status)));
    reload();
  }

  function sortBy(sort, descending) {
    Object.assign(saved, { sort, descending });
    reload();
  }

  function showSortOrder() {
    const direction = saved.descending ? "descending" : "ascending";
    sortSelect.value = `${saved.sort} ${direction}`;
    COLUMNS.forEach(([sort], i) => {
      if (sort !== null && sort === saved.sort) heads[i].setAttribute("aria-sort", direction);
      else heads[i].removeAttribute("aria-sort");
    });
  }

  function onMessage(message) {
    if (!app.onProcess(message.process)) return;
    for (const row of message.rows) rows.set(row.index, row);
    ({ indices, offset, matched, series } = message);
    app.omitted = message.omitted;
    // Rows outside the window receive no updates: they are requested again.
    if (rows.size > 2 * indices.length + 50) {
      const loaded = new Set(indices);
      for (const index of rows.keys()) if (!loaded.has(index)) rows.delete(index);
    }
    updateTiles(message);
    const isEmpty = matched === 0;
    noMatches.hidden = !isEmpty;
    table.hidden = isEmpty;
    if (isEmpty) explainEmpty(message.process.not_ready);
    scheduleLayout();
  }

  function explainEmpty(notReady) {
    const { omitted } = app;
    const reason = series > 0 ? `search ${omitted}` : notReady?.text ?? "rows";
    if (noMatches.dataset.reason === reason) return;
    noMatches.dataset.reason = reason;
    noMatches.replaceChildren(series > 0
      ? empty("No matching series",
          `No series matches the search and the filter.${omitted ? ` The dashboard omits ${format.others(omitted)}.` : ""}`,
          el("button", { type: "button", class: "button", onclick: clear }, "Show all series"))
      : empty("Waiting for observations",
          notReady ? `Not ready: ${notReady.text}.` : `No rows from ${info.input_topic ?? "the source"} yet.`,
          el("p", {}, el("a", { href: "#/pipeline" }, "Show the pipeline"))));
  }

  function clear() {
    search.value = saved.search = "";
    setStatus(null);
  }

  function updateTiles(message) {
    const { summary, status_counts, process, event_time_ms } = message;
    eventTime.set(format.time(event_time_ms, info.step_ms), event_time_ms ? "UTC" : "", `step: ${info.step}`);
    const { rows_per_second, forecasts_per_second } = process.sample ?? { rows_per_second: 0, forecasts_per_second: 0 };
    rate.set(format.count(Math.round(rows_per_second)), "/s", `${format.count(Math.round(forecasts_per_second))} forecasts/s`);
    mase.set(summary.mase === null ? "–" : summary.mase.toFixed(2), "",
      summary.mase === null ? "no forecast is due yet" : `baseline: ${baseline.name}`,
      summary.mase === null ? "" : summary.mase < 1 ? "good" : "bad");
    const [narrow, wide] = summary.coverage;
    const [narrowLevel, wideLevel] = info.view_levels.map(format.level);
    coverage.set(narrow === undefined ? "–" : format.percent(narrow, 1), narrow === undefined ? "" : "%",
      narrow === undefined ? (info.view_levels.length ? "no interval is due yet" : "the pipeline has no levels")
        : wide === undefined ? `of ${narrowLevel} %` : `of ${narrowLevel} %; ${format.percent(wide, 1)} % of ${wideLevel} %`);
    setText(chips.get(null).number, format.count(series));
    omittedNote.hidden = !app.omitted;
    if (app.omitted) setText(omittedNote, `Showing ${format.count(series)} series. The dashboard omits ${format.others(app.omitted)}.`);
    for (const status of Object.keys(format.STATUSES)) {
      const { chip, number } = chips.get(status);
      setText(number, format.count(status_counts[status]));
      setClass(chip, "none", status_counts[status] === 0);
    }
  }

  function focusRow(number) {
    if (!matched) return;
    focusedIndex = Math.max(0, Math.min(matched - 1, number));
    const height = rowHeight();
    const top = body.offsetTop + focusedIndex * height;
    const headHeight = toolbar.offsetHeight + 40;
    if (top < main.scrollTop + headHeight) main.scrollTop = top - headHeight;
    if (top + height > main.scrollTop + main.clientHeight) main.scrollTop = top + height - main.clientHeight;
    layout();
    views.get(focusedIndex)?.parts.name.focus({ preventScroll: true });
  }

  function onKey(event) {
    const inSearch = event.target === search;
    const isOnRow = event.target.matches?.(".rows .name");
    if (event.key === "/" && !inSearch) return search.focus(), search.select(), true;
    if (event.key === "Escape" && (saved.search || saved.status)) return clear(), true;
    if (event.key === "Escape" && inSearch) return search.blur(), true;
    if (inSearch && event.key !== "ArrowDown" && event.key !== "Enter") return false;
    const rowsPerPage = Math.max(1, Math.floor(main.clientHeight / rowHeight()) - 3);
    const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: rowsPerPage, PageUp: -rowsPerPage };
    if (event.key === "Enter" && inSearch) return focusRow(0), true;
    if (event.key in moves) return focusRow(isOnRow ? focusedIndex + moves[event.key] : focusedIndex), true;
    if (isOnRow && event.key === "Home") return focusRow(0), true;
    if (isOnRow && event.key === "End") return focusRow(matched - 1), true;
    return false;
  }

  const redraw = () => {
    for (const view of views.values()) {
      view.isDrawn = false;
      view.element.style.transform = `translateY(${Number(view.element.dataset.index) * rowHeight()}px)`;
    }
    scheduleLayout();
  };
  main.addEventListener("scroll", scheduleLayout, { passive: true });
  const resizeObserver = new ResizeObserver(redraw);

  return {
    title: "Series",
    show() {
      main.replaceChildren(page);
      resizeObserver.observe(main);
      showSortOrder();
      body.style.height = `${matched * rowHeight()}px`;
      main.scrollTop = saved.scrollTop;
      layout();
    },
    restoreFocus(link) {
      restoredLink = link;
    },
    onKey,
    redraw,
    reset() {
      rows.clear();
      url = "";
      layout();
    },
    leave() {
      Object.assign(saved, { scrollTop: main.scrollTop, focusedIndex, matched });
      clearTimeout(requestTimer);
      clearTimeout(search.timer);
      cancelAnimationFrame(frame);
      main.removeEventListener("scroll", scheduleLayout);
      resizeObserver.disconnect();
    },
  };
}
