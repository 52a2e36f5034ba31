// One series: what came, what was forecast for it, what is forecast now, and how far off it has been.

import { chart, colour, edge, line } from "./charts.js";
import { choice, el, empty, setText, tile } from "./dom.js";
import * as format from "./format.js";
import { periods } from "./scores.js";

/** Steps over which errors, and over which coverage, is averaged in the charts. */
const ERROR_WINDOW = 24;
const COVERAGE_WINDOW = 168;
/** Of them, as many there must be. */
const LEAST = 6;

const kept = { ahead: 1, range: 168 };

export function detail(app, id, targetName) {
  const { facts, feed, main } = app;
  const every = facts.every_ms / 1000;
  const offset = facts.offset_ms / 1000;
  const target = targetName || facts.targets[0];
  const levels = facts.levels.map(format.level);
  const narrow = levels[0];
  const wide = levels[1];
  const baseline = format.baseline(facts);
  // From `first` on, a value each step; `said` by horizon and part: value, lower, upper of the narrowest interval, of the widest.
  let store = null;
  let now = null;
  let shownTo = null;

  const value = tile("Last reading");
  const next = tile("Next step", "The forecast of the next step, and its narrowest interval");
  const error = tile("Mean error", "Mean absolute error over the last 168 steps, or as many as are kept");
  const ratio = tile(`Against ${baseline.name}`, `The error in units of that of a forecast that says ${baseline.says}`);
  const coverage = tile("Coverage", "Share of readings within their intervals, over the same steps");
  const bias = tile("Bias", "Mean of reading less forecast: what is below zero is forecast too high");

  const lamp = el("i", { class: "lamp", "aria-hidden": "true" });
  const state = el("span");
  const reason = el("small");
  const head = el("div", { class: "detail-head" },
    el("a", { href: "#/", class: "back", "aria-label": "Back to all series" }, "←"),
    el("div", { class: "names" },
      el("h1", {}, id),
      el("p", {}, facts.targets.length > 1 ? el("span", { class: "target" }, target) : null, el("span", { class: "state-line" }, lamp, state, reason))));

  const ranges = [[48, ""], [168, ""], [0, "All"]].map(([steps, label]) => [steps, label || format.steps(steps, facts.every_ms)]);
  const controls = el("div", { class: "toolbar flat" },
    choice("Steps that are shown", ranges, kept.range, (range) => ((kept.range = range), draw())),
    facts.ahead[0] === facts.ahead[1] ? null : choice("Steps ahead",
      facts.ahead.map((ahead, i) => [i, `${format.steps(ahead, facts.every_ms)} ahead`]), kept.ahead,
      (ahead) => ((kept.ahead = ahead), tiles(), draw())));

  const number = (list, index) => (list && index !== null && Number.isFinite(list[index]) ? format.number(list[index]) : "–");
  const withUnit = (text) => (now?.unit && text !== "–" ? `${text} ${now.unit}` : text);
  let columns = [];
  let errors = [];
  let shares = [];

  // Columns of the chart: the time; what was forecast before and what is forecast now, each as its bands from the widest and then
  // its value; the reading.
  const bandsOf = levels.length;
  const part = 2 * bandsOf + 1;
  const history = chart({
    title: "Readings and forecasts",
    height: 320,
    sync: "detail",
    make() {
      const fills = wide ? [colour("band-wide"), colour("band")] : narrow ? [colour("band")] : [];
      const forecast = () => [...fills.flatMap(() => [edge(), edge()]), line(colour("forecast"))];
      const bands = (from) => fills.map((fill, i) => ({ series: [from + 2 * i, from + 2 * i + 1], fill }));
      return {
        series: [...forecast(), ...forecast(), line(colour("reading"), { width: 1.75 })],
        bands: [...bands(1), ...bands(1 + part)],
        scales: { x: { range: (_plot, min, max) => bounds() ?? [min, max] } },
        hooks: { drawClear: [markNow] },
      };
    },
    describe(index) {
      if (!columns.length || !now) return [["", "No forecast yet"]];
      const i = index ?? lastPlace();
      if (i === null) return [["", "–"]];
      const isAhead = columns[0][i] > timeOf(originStep());
      const from = isAhead ? 1 + part : 1;
      const parts = [["", `${format.time(columns[0][i] * 1000, facts.every_ms)} UTC`]];
      parts.push(["reading", withUnit(number(columns.at(-1), i)), "reading"]);
      parts.push([isAhead ? "forecast now" : `forecast ${aheadText()} before`, withUnit(number(columns[from + part - 1], i)), "forecast"]);
      const band = (level, high, colour_) => parts.push([`${level} %`, `${number(columns[high + 1], i)} to ${number(columns[high], i)}`, colour_]);
      if (narrow) band(narrow, wide ? from + 2 : from, "band");
      if (wide) band(wide, from, "band-wide");
      return parts;
    },
  });

  const errorChart = chart({
    title: "Mean absolute error",
    hint: `over ${format.steps(ERROR_WINDOW, facts.every_ms)}`,
    height: 170,
    sync: "detail",
    make: () => ({
      series: [line(colour("naive"), { dash: [4, 3] }), line(colour("forecast"))],
      scales: { x: { range: (_plot, min, max) => bounds() ?? [min, max] }, y: { range: (_plot, _min, max) => [0, Math.max(max ?? 0, 1e-9) * 1.1] } },
    }),
    describe(index) {
      if (!errors.length) return [["", "No forecast has come due yet"]];
      const i = index ?? lastFinite(errors[2]);
      return [
        ["forecast", withUnit(number(errors[2], i)), "forecast"],
        [baseline.says, withUnit(number(errors[1], i)), "naive"],
      ];
    },
  });

  const coverageChart = levels.length === 0 ? null : chart({
    title: "Coverage of the intervals",
    hint: `over ${format.steps(COVERAGE_WINDOW, facts.every_ms)}`,
    height: 170,
    sync: "detail",
    make: () => ({
      series: [
        line(colour("forecast")), line(colour("forecast"), { dash: [4, 3], width: 1 }),
        ...(wide ? [line(colour("forecast-wide")), line(colour("forecast-wide"), { dash: [4, 3], width: 1 })] : []),
      ],
      scales: {
        x: { range: (_plot, min, max) => bounds() ?? [min, max] },
        y: { range: (_plot, min) => [Math.max(0, Math.min(50, Math.floor((min ?? 50) / 10) * 10)), 100] },
      },
      y: { values: (_plot, splits) => splits.map((split) => `${split} %`) },
    }),
    describe(index) {
      if (!shares.length) return [["", "No interval has come due yet"]];
      const i = index ?? lastFinite(shares[1]);
      const text = (list) => (i !== null && Number.isFinite(list?.[i]) ? `${list[i].toFixed(1)} %` : "–");
      return [
        [`within ${narrow} %`, text(shares[1]), "forecast"],
        ...(wide ? [[`within ${wide} %`, text(shares[3]), "forecast-wide"]] : []),
      ];
    },
  });

  const told = periods(facts);
  const absence = el("p");
  const waiting = empty("Waiting for this series", absence, el("p", {}, el("a", { href: "#/" }, "All series")));
  waiting.hidden = true;
  const content = el("div", { class: "detail-content" },
    el("div", { class: "tiles six" }, value.element, next.element, error.element, ratio.element, coverage.element, bias.element),
    controls, history.element, el("div", { class: "pair" }, errorChart.element, coverageChart?.element),
    told?.element);
  const page = el("section", { class: "page detail" }, head, waiting, content);

  const timeOf = (step) => step * every + offset;
  const originStep = () => now?.fan?.origin ?? now?.last ?? 0;
  const aheadText = () => format.steps(facts.ahead[kept.ahead], facts.every_ms);
  const lastPlace = () => (now?.last == null || !store ? null : Math.min(columns[0].length - 1, now.last - store.first));
  function lastFinite(list) {
    for (let i = (list?.length ?? 0) - 1; i >= 0; i--) if (Number.isFinite(list[i])) return i;
    return null;
  }

  /** The times that are shown: the last steps, and a part of what is forecast. */
  function bounds() {
    if (!store || now?.last == null) return null;
    const past = kept.range || now.last - store.first + 1;
    const ahead = Math.min(facts.horizon, Math.max(6, Math.ceil(past / 3)), (now.fan?.lists[0].length ?? 0) + 1);
    return [timeOf(Math.max(store.first, now.last - past)), timeOf(originStep() + ahead)];
  }

  /** Where what is known ends. */
  function markNow(plot) {
    if (!now?.fan) return;
    const x = Math.round(plot.valToPos(timeOf(originStep()), "x", true)) + 0.5;
    const { left, top, width, height } = plot.bbox;
    if (x < left || x > left + width) return;
    const draw = plot.ctx;
    draw.save();
    draw.fillStyle = colour("ahead");
    draw.fillRect(x, top, left + width - x, height);
    draw.strokeStyle = colour("line");
    draw.lineWidth = devicePixelRatio;
    draw.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    draw.beginPath();
    draw.moveTo(x, top);
    draw.lineTo(x, top + height);
    draw.stroke();
    draw.restore();
  }

  function merge(message) {
    const steps = message.steps;
    if (steps) {
      const keep = store ? steps.from - store.first : -1;
      if (keep < 0 || keep > store.values.length) {
        store = { first: steps.from, values: steps.values, said: steps.said };
      } else {
        const put = (list, more) => (list.splice(keep), list.push(...more), list);
        put(store.values, steps.values);
        store.said.forEach((parts, ahead) => parts.forEach((part, i) => put(part, steps.said[ahead][i])));
      }
    }
    const gone = store ? message.first - store.first : 0;
    if (gone > 0) {
      store.values.splice(0, gone);
      store.said.forEach((parts) => parts.forEach((part) => part.splice(0, gone)));
      store.first = message.first;
    }
  }

  /** The mean of `of(step)` over the steps up to each. */
  function rolling(length, of, times = 1) {
    const out = new Array(store.values.length).fill(null);
    let sum = 0;
    let count = 0;
    const each = store.values.map((_value, i) => of(i));
    for (let i = 0; i < each.length; i++) {
      if (each[i] !== null) (sum += each[i]), count++;
      if (i >= length && each[i - length] !== null) (sum -= each[i - length]), count--;
      if (count >= LEAST && i + store.first <= (now.closed ?? -Infinity)) out[i] = (times * sum) / count;
    }
    return out;
  }

  function draw() {
    if (!store || now?.last == null) return;
    const said = store.said[kept.ahead];
    const steps = Math.max(store.values.length, originStep() + 1 + (now.fan?.lists[0].length ?? 0) - store.first);
    const x = Array.from({ length: steps }, (_nothing, i) => timeOf(store.first + i));
    const origin = originStep() - store.first;
    // Up to the origin what was forecast so long before; from there on what is forecast now, which begins at the last value known.
    const before = (which) => x.map((_time, i) => (i <= origin ? said[which][i] : null) ?? null);
    const known = store.values[origin] ?? null;
    const after = (which) => {
      const list = now.fan?.lists[which];
      return x.map((_time, i) => (!list || i < origin ? null : i === origin ? known : list[i - origin - 1] ?? null));
    };
    const order = [...(wide ? [4, 3] : []), ...(narrow ? [2, 1] : []), 0];
    columns = [x, ...order.map(before), ...order.map(after), x.map((_time, i) => store.values[i] ?? null)];
    history.title(`Readings, and what was forecast ${aheadText()} before`);
    history.set(columns);

    const { values } = store;
    const ahead = facts.ahead[kept.ahead];
    const back = facts.kept_season ? Math.ceil(ahead / facts.kept_season) * facts.kept_season : ahead;
    const isDue = (i) => values[i] !== null && values[i] !== undefined && said[0][i] !== null;
    const misses = (of) => (i) => (isDue(i) && values[i - back] != null ? of(i) : null);
    const time = x.slice(0, values.length);
    errors = [
      time,
      rolling(ERROR_WINDOW, misses((i) => Math.abs(values[i] - values[i - back]))),
      rolling(ERROR_WINDOW, (i) => (isDue(i) ? Math.abs(values[i] - said[0][i]) : null)),
    ];
    errorChart.set(errors);
    if (coverageChart) {
      const inside = (low, high) => (i) => (isDue(i) ? Number(said[low][i] <= values[i] && values[i] <= said[high][i]) : null);
      const flat = (level) => time.map(() => facts.levels[level] * 100);
      shares = [time, rolling(COVERAGE_WINDOW, inside(1, 2), 100), flat(0),
        ...(wide ? [rolling(COVERAGE_WINDOW, inside(3, 4), 100), flat(1)] : [])];
      coverageChart.set(shares);
    }
  }

  function tiles() {
    if (!now) return;
    const unit = now.unit ?? "";
    const scores = now.scores[kept.ahead];
    const [label, why] = format.STATES[now.state];
    lamp.dataset.state = now.state;
    setText(state, label);
    setText(reason, now.state === "ok" ? "" : now.state === "cold" && now.observed !== null && now.observed < facts.warm ? `${now.observed} of ${facts.warm} readings that the model needs` : why);
    value.set(format.number(now.value), unit, `${format.time(now.time_ms, facts.every_ms)} UTC`);
    const [said, lower, upper] = now.next;
    next.set(format.number(said), said === null ? "" : unit, lower === null ? "" : `${narrow} %: ${format.number(lower)} to ${format.number(upper)}`);
    const due = `${format.count(scores.count)} forecasts`;
    error.set(format.number(scores.error), scores.count ? unit : "", scores.count ? due : "none has come due yet");
    const against = scores.naive ? scores.beside_naive / scores.naive : null;
    ratio.set(against === null ? "–" : against.toFixed(2), "", scores.naive === null ? "none has come due yet" : `${baseline.short}: ${format.number(scores.naive)} ${unit}`,
      against === null ? "" : against < 1 ? "good" : "bad");
    const [first, second] = scores.coverage;
    coverage.set(first === undefined ? "–" : format.percent(first), first === undefined ? "" : "%",
      first === undefined ? "" : second === undefined ? `of ${narrow} %` : `of ${narrow} %; ${format.percent(second)} % of ${wide} %`);
    told?.set(now.periods, now.drift, unit);
    bias.set(format.signed(scores.bias), scores.count ? unit : "", "reading less forecast");
  }

  function heard(message) {
    if (!app.pulse(message.pulse)) return;
    waiting.hidden = true;
    content.hidden = false;
    merge(message);
    now = message.series;
    const is = JSON.stringify([now.last, now.closed, message.steps !== null, kept]);
    if (is !== shownTo || message.steps) draw();
    shownTo = is;
    tiles();
  }

  return {
    title: id,
    show() {
      main.replaceChildren(page);
      main.scrollTop = 0;
      const query = new URLSearchParams({ id, target });
      feed.open(`/api/streams/series?${query}`, {
        series: heard,
        missing(message) {
          if (!app.pulse(message.pulse)) return;
          // After a restart it comes again by itself: what was there is of the run before.
          store = null;
          const leftOut = message.left_out ?? app.leftOut;
          setText(absence, leftOut
            ? `No reading of it has come since the pipeline started, or it is among the ${format.others(leftOut)} that the dashboard has no room for.`
            : "No reading of it has come since the pipeline started. It is shown as soon as one does.");
          waiting.hidden = false;
          content.hidden = true;
        },
      });
    },
    key(event) {
      if (event.key === "Escape" || event.key === "Backspace") return (location.hash = "#/"), true;
      return false;
    },
    recolour() {
      [history, errorChart, coverageChart].forEach((one) => one?.recolour());
    },
    again() {
      store = null;
    },
    leave() {
      [history, errorChart, coverageChart].forEach((one) => one?.destroy());
    },
  };
}
