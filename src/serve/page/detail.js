// The page of one series: observations, forecasts, errors and coverage.

import { bandEdge, chart, colour, line } from "./charts.js";
import { choice, el, empty, setText, tile } from "./dom.js";
import * as format from "./format.js";
import { periodScores } from "./scores.js";

/** Steps of the rolling means in the charts. */
const ERROR_WINDOW = 24;
const COVERAGE_WINDOW = 168;
/** Fewest values in a rolling mean. */
const ROLLING_MIN = 6;

/** Indices of the lists of a forecast. */
const [VALUE, LOWER, UPPER, WIDE_LOWER, WIDE_UPPER] = [0, 1, 2, 3, 4];

/** The settings of the page while other pages are open. */
const saved = { horizonIndex: 1, range: 168 };

export function detail(app, id, targetName) {
  const { info, feed, main } = app;
  const stepSeconds = info.step_ms / 1000;
  const offsetSeconds = info.offset_ms / 1000;
  const target = targetName || info.targets[0];
  const levels = info.view_levels.map(format.level);
  const [narrow, wide] = levels;
  const baseline = format.baseline(info);
  /** `{ firstStep, values, forecasts }` from `firstStep` on; `forecasts[horizon][list][step]`. */
  let history = null;
  /** The series as of the latest message, without its steps. */
  let series = null;
  let drawnKey = null;

  const value = tile("Latest value");
  const next = tile("Next step", "The forecast of the next step and its narrowest interval");
  const mae = tile("MAE", "Mean absolute error over the last 168 steps, or over the retained steps");
  const mase = tile("MASE", `MAE divided by that of the baseline (${baseline.forecast}): below 1 is better`);
  const coverage = tile("Coverage", "Share of observations inside their intervals, over the same steps");
  const bias = tile("Bias", "Mean of observation minus forecast: negative if forecasts are too high");

  const indicator = el("i", { class: "indicator", "aria-hidden": "true" });
  const statusLabel = el("span");
  const reason = el("small");
  const head = el("div", { class: "detail-head" },
    el("a", { href: "#/", class: "back", "aria-label": "Back to all series" }, "←"),
    el("div", { class: "names" },
      el("h1", {}, id),
      el("p", {}, info.targets.length > 1 ? el("span", { class: "target" }, target) : null, el("span", { class: "status-line" }, indicator, statusLabel, reason))));

  const ranges = [[48, ""], [168, ""], [0, "All"]].map(([steps, label]) => [steps, label || format.steps(steps, info.step_ms)]);
  const controls = el("div", { class: "toolbar flat" },
    choice("Time range", ranges, saved.range, (range) => ((saved.range = range), draw())),
    info.view_horizons[0] === info.view_horizons[1] ? null : choice("Horizon",
      info.view_horizons.map((horizon, i) => [i, `${format.steps(horizon, info.step_ms)} ahead`]), saved.horizonIndex,
      (index) => ((saved.horizonIndex = index), updateTiles(), draw())));

  const number = (list, index) => (list && index !== null && Number.isFinite(list[index]) ? format.number(list[index]) : "–");
  const withUnit = (text) => (series?.unit && text !== "–" ? `${text} ${series.unit}` : text);
  let columns = [];
  let errors = [];
  let coverages = [];

  // Columns of the chart: time, past forecasts, current forecast, observations. A forecast has its bands, widest first, then its value.
  const forecastColumns = 2 * levels.length + 1;
  const historyChart = chart({
    title: "Observations and forecasts",
    height: 320,
    sync: "detail",
    options() {
      const fills = wide ? [colour("band-wide"), colour("band")] : narrow ? [colour("band")] : [];
      const forecast = () => [...fills.flatMap(() => [bandEdge(), bandEdge()]), line(colour("forecast"))];
      const bands = (column) => fills.map((fill, i) => ({ series: [column + 2 * i, column + 2 * i + 1], fill }));
      return {
        series: [...forecast(), ...forecast(), line(colour("actual"), { width: 1.75 })],
        bands: [...bands(1), ...bands(1 + forecastColumns)],
        scales: { x: { range: (_plot, min, max) => timeRange() ?? [min, max] } },
        hooks: { drawClear: [markOrigin] },
      };
    },
    describe(index) {
      if (!columns.length || !series) return [["", "No forecast yet"]];
      const i = index ?? lastIndex();
      if (i === null) return [["", "–"]];
      const isFuture = columns[0][i] > timeOf(originStep());
      const first = isFuture ? 1 + forecastColumns : 1;
      const entries = [["", `${format.time(columns[0][i] * 1000, info.step_ms)} UTC`]];
      entries.push(["observed", withUnit(number(columns.at(-1), i)), "actual"]);
      entries.push([isFuture ? "current forecast" : `forecast ${horizonText()} ahead`, withUnit(number(columns[first + forecastColumns - 1], i)), "forecast"]);
      const interval = (level, upper, colourName) => entries.push([`${level} %`, `${number(columns[upper + 1], i)} to ${number(columns[upper], i)}`, colourName]);
      if (narrow) interval(narrow, wide ? first + 2 : first, "band");
      if (wide) interval(wide, first, "band-wide");
      return entries;
    },
  });

  const errorChart = chart({
    title: "Mean absolute error",
    hint: `rolling ${format.steps(ERROR_WINDOW, info.step_ms)}`,
    height: 170,
    sync: "detail",
    options: () => ({
      series: [line(colour("naive"), { dash: [4, 3] }), line(colour("forecast"))],
      scales: { x: { range: (_plot, min, max) => timeRange() ?? [min, max] }, y: { range: (_plot, _min, max) => [0, Math.max(max ?? 0, 1e-9) * 1.1] } },
    }),
    describe(index) {
      if (!errors.length) return [["", "No forecast is due yet"]];
      const i = index ?? lastFinite(errors[2]);
      return [
        ["forecast", withUnit(number(errors[2], i)), "forecast"],
        [baseline.name, withUnit(number(errors[1], i)), "naive"],
      ];
    },
  });

  const coverageChart = levels.length === 0 ? null : chart({
    title: "Interval coverage",
    hint: `rolling ${format.steps(COVERAGE_WINDOW, info.step_ms)}`,
    height: 170,
    sync: "detail",
    options: () => ({
      series: [
        line(colour("forecast")), line(colour("forecast"), { dash: [4, 3], width: 1 }),
        ...(wide ? [line(colour("forecast-wide")), line(colour("forecast-wide"), { dash: [4, 3], width: 1 })] : []),
      ],
      scales: {
        x: { range: (_plot, min, max) => timeRange() ?? [min, max] },
        y: { range: (_plot, min) => [Math.max(0, Math.min(50, Math.floor((min ?? 50) / 10) * 10)), 100] },
      },
      y: { values: (_plot, splits) => splits.map((split) => `${split} %`) },
    }),
    describe(index) {
      if (!coverages.length) return [["", "No interval is due yet"]];
      const i = index ?? lastFinite(coverages[1]);
      const text = (list) => (i !== null && Number.isFinite(list?.[i]) ? `${list[i].toFixed(1)} %` : "–");
      return [
        [`${narrow} % interval`, text(coverages[1]), "forecast"],
        ...(wide ? [[`${wide} % interval`, text(coverages[3]), "forecast-wide"]] : []),
      ];
    },
  });

  const scores = periodScores(info);
  const missingReason = el("p");
  const missing = empty("Waiting for this series", missingReason, el("p", {}, el("a", { href: "#/" }, "All series")));
  missing.hidden = true;
  const content = el("div", { class: "detail-content" },
    el("div", { class: "tiles six" }, value.element, next.element, mae.element, mase.element, coverage.element, bias.element),
    controls, historyChart.element, el("div", { class: "columns" }, errorChart.element, coverageChart?.element),
    scores?.element);
  const page = el("section", { class: "page detail" }, head, missing, content);

  const timeOf = (step) => step * stepSeconds + offsetSeconds;
  const originStep = () => series?.forecast?.origin ?? series?.last_step ?? 0;
  const horizonText = () => format.steps(info.view_horizons[saved.horizonIndex], info.step_ms);
  const hasHistory = () => history !== null && series?.last_step != null;
  const lastIndex = () => (hasHistory() ? Math.min(columns[0].length - 1, series.last_step - history.firstStep) : null);
  function lastFinite(list) {
    for (let i = (list?.length ?? 0) - 1; i >= 0; i--) if (Number.isFinite(list[i])) return i;
    return null;
  }

  /** The visible times: the last steps and part of the current forecast. */
  function timeRange() {
    if (!hasHistory()) return null;
    const past = saved.range || series.last_step - history.firstStep + 1;
    const future = Math.min(info.horizon, Math.max(6, Math.ceil(past / 3)), (series.forecast?.lists[VALUE].length ?? 0) + 1);
    return [timeOf(Math.max(history.firstStep, series.last_step - past)), timeOf(originStep() + future)];
  }

  /** Shades the future and draws a line at the origin of the current forecast. */
  function markOrigin(plot) {
    if (!series?.forecast) return;
    const x = Math.round(plot.valToPos(timeOf(originStep()), "x", true)) + 0.5;
    const { left, top, width, height } = plot.bbox;
    if (x < left || x > left + width) return;
    const draw = plot.ctx;
    draw.save();
    draw.fillStyle = colour("future");
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

  /** Replaces the steps from the first received one on, and drops the steps that the server dropped. */
  function mergeSteps({ steps, first_step }) {
    if (steps) {
      const retained = history ? steps.first_step - history.firstStep : -1;
      if (retained < 0 || retained > history.values.length) {
        history = { firstStep: steps.first_step, values: steps.values, forecasts: steps.forecasts };
      } else {
        const replaceTail = (list, tail) => (list.splice(retained), list.push(...tail));
        replaceTail(history.values, steps.values);
        history.forecasts.forEach((lists, horizon) => lists.forEach((list, i) => replaceTail(list, steps.forecasts[horizon][i])));
      }
    }
    const dropped = history ? first_step - history.firstStep : 0;
    if (dropped > 0) {
      history.values.splice(0, dropped);
      history.forecasts.forEach((lists) => lists.forEach((list) => list.splice(0, dropped)));
      history.firstStep = first_step;
    }
  }

  /** The rolling mean of `value(index)` over `length` closed steps, times `factor`. */
  function rollingMean(length, value, factor = 1) {
    const means = new Array(history.values.length).fill(null);
    const values = means.map((_mean, i) => value(i));
    let sum = 0;
    let count = 0;
    for (let i = 0; i < values.length; i++) {
      if (values[i] !== null) (sum += values[i]), count++;
      if (i >= length && values[i - length] !== null) (sum -= values[i - length]), count--;
      if (count >= ROLLING_MIN && i + history.firstStep <= (series.closed_step ?? -Infinity)) means[i] = (factor * sum) / count;
    }
    return means;
  }

  function draw() {
    if (!hasHistory()) return;
    const future = series.forecast?.lists[VALUE].length ?? 0;
    const steps = Math.max(history.values.length, originStep() + 1 + future - history.firstStep);
    const times = Array.from({ length: steps }, (_step, i) => timeOf(history.firstStep + i));
    drawHistory(times);
    drawErrors(times.slice(0, history.values.length));
  }

  function drawHistory(times) {
    const forecasts = history.forecasts[saved.horizonIndex];
    const origin = originStep() - history.firstStep;
    // Past forecasts up to the origin. The current forecast starts at the last observation, which connects the lines.
    const past = (list) => times.map((_time, i) => (i <= origin ? forecasts[list][i] : null) ?? null);
    const known = history.values[origin] ?? null;
    const current = (list) => {
      const values = series.forecast?.lists[list];
      return times.map((_time, i) => (!values || i < origin ? null : i === origin ? known : values[i - origin - 1] ?? null));
    };
    const lists = [...(wide ? [WIDE_UPPER, WIDE_LOWER] : []), ...(narrow ? [UPPER, LOWER] : []), VALUE];
    columns = [times, ...lists.map(past), ...lists.map(current), times.map((_time, i) => history.values[i] ?? null)];
    historyChart.setTitle(`Observations and forecasts ${horizonText()} ahead`);
    historyChart.set(columns);
  }

  function drawErrors(times) {
    const { values } = history;
    const forecasts = history.forecasts[saved.horizonIndex];
    const horizon = info.view_horizons[saved.horizonIndex];
    const season = info.baseline_season;
    const naiveLag = season ? Math.ceil(horizon / season) * season : horizon;
    const isScored = (i) => values[i] !== null && values[i] !== undefined && forecasts[VALUE][i] !== null;
    errors = [
      times,
      rollingMean(ERROR_WINDOW, (i) => (isScored(i) && values[i - naiveLag] != null ? Math.abs(values[i] - values[i - naiveLag]) : null)),
      rollingMean(ERROR_WINDOW, (i) => (isScored(i) ? Math.abs(values[i] - forecasts[VALUE][i]) : null)),
    ];
    errorChart.set(errors);
    if (!coverageChart) return;
    const isCovered = (lower, upper) => (i) => (isScored(i) ? Number(forecasts[lower][i] <= values[i] && values[i] <= forecasts[upper][i]) : null);
    const levelLine = (level) => times.map(() => info.view_levels[level] * 100);
    coverages = [times, rollingMean(COVERAGE_WINDOW, isCovered(LOWER, UPPER), 100), levelLine(0),
      ...(wide ? [rollingMean(COVERAGE_WINDOW, isCovered(WIDE_LOWER, WIDE_UPPER), 100), levelLine(1)] : [])];
    coverageChart.set(coverages);
  }

  function updateTiles() {
    if (!series) return;
    const { status, warmup_steps_observed: observed } = series;
    const unit = series.unit ?? "";
    const windowScores = series.scores[saved.horizonIndex];
    const [label, description] = format.STATUSES[status];
    indicator.dataset.status = status;
    setText(statusLabel, label);
    setText(reason, status === "ok" ? "" : status === "warming" && observed !== null && observed < info.warmup_steps
      ? `${observed} of ${info.warmup_steps} observations that the model needs` : description);
    value.set(format.number(series.value), unit, `${format.time(series.time_ms, info.step_ms)} UTC`);
    const [forecast, lower, upper] = series.next;
    next.set(format.number(forecast), forecast === null ? "" : unit, lower === null ? "" : `${narrow} %: ${format.number(lower)} to ${format.number(upper)}`);
    mae.set(format.number(windowScores.mae), windowScores.count ? unit : "", windowScores.count ? `${format.count(windowScores.count)} forecasts` : "no forecast is due yet");
    mase.set(windowScores.mase === null ? "–" : windowScores.mase.toFixed(2), "",
      windowScores.naive_mae === null ? "no forecast is due yet" : `${baseline.name}: ${format.number(windowScores.naive_mae)} ${unit}`,
      windowScores.mase === null ? "" : windowScores.mase < 1 ? "good" : "bad");
    const [narrowShare, wideShare] = windowScores.coverage;
    coverage.set(narrowShare === undefined ? "–" : format.percent(narrowShare), narrowShare === undefined ? "" : "%",
      narrowShare === undefined ? "" : wideShare === undefined ? `of ${narrow} %` : `of ${narrow} %; ${format.percent(wideShare)} % of ${wide} %`);
    bias.set(format.signed(windowScores.bias), windowScores.count ? unit : "", "observation minus forecast");
    scores?.set(series.periods, series.drift, unit);
  }

  function onMessage(message) {
    if (!app.onProcess(message.process)) return;
    missing.hidden = true;
    content.hidden = false;
    mergeSteps(message);
    series = message.series;
    const key = JSON.stringify([series.last_step, series.closed_step, saved]);
    if (key !== drawnKey || message.steps) draw();
    drawnKey = key;
    updateTiles();
  }

  function onMissing(message) {
    if (!app.onProcess(message.process)) return;
    // The steps of an earlier run do not continue.
    history = null;
    setText(missingReason, message.omitted
      ? `The series has no observations since the pipeline started, or is among the ${format.others(message.omitted)} that the dashboard omits.`
      : "The series has no observations since the pipeline started. The page updates with the first one.");
    missing.hidden = false;
    content.hidden = true;
  }

  return {
    title: id,
    show() {
      main.replaceChildren(page);
      main.scrollTop = 0;
      const query = new URLSearchParams({ id, target });
      feed.open(`/api/streams/series?${query}`, { series: onMessage, missing: onMissing });
    },
    onKey(event) {
      if (event.key === "Escape" || event.key === "Backspace") return (location.hash = "#/"), true;
      return false;
    },
    redraw() {
      [historyChart, errorChart, coverageChart].forEach((one) => one?.redraw());
    },
    reset() {
      history = null;
    },
    leave() {
      [historyChart, errorChart, coverageChart].forEach((one) => one?.destroy());
    },
  };
}
