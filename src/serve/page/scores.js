// Tables of the scores that the stream computes of its own forecasts: the latest period of one series, or totals of all series. All rows
// exist from the start, so that the first scores do not move the page.

import { el, scrollable, setText } from "./dom.js";
import * as format from "./format.js";

/** Width in pixels of the first column, and of a period: two times, with seconds on a fine grid. */
const FIRST_COLUMN = 116;
const periodWidth = (info) => (info.step_ms < 60000 ? 360 : 310);

/**
 * A table with one row per scored horizon. `columns` are `[name, class, name on a phone]`; each is `width` wide, and `long` gets its own
 * line on a phone. A row's `set(texts, tones)` fills it.
 */
function table(info, columns, width, legend) {
  const rows = info.scoring.horizons.map((horizon) => {
    const cells = columns.map(([name, kind, phoneName]) => el("td", { role: "cell", class: kind ?? "number", "data-name": phoneName ?? name }, "–"));
    const element = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, `${format.steps(horizon, info.step_ms)} ahead`), ...cells);
    const set = (texts, tones = []) => cells.forEach((cell, i) => {
      setText(cell, texts[i]);
      cell.dataset.tone = tones[i] ?? "";
    });
    return { horizon, element, set };
  });
  const note = el("p", { class: "scores-note" });
  const drift = el("p", { class: "scores-note" });
  const head = columns.map(([name, kind]) => el("th", { scope: "col", role: "columnheader", class: kind ?? "number" }, name));
  const grid = el("table", { class: "plain scores", role: "table" },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, el("th", { scope: "col", role: "columnheader" }, "Horizon"), ...head)),
    el("tbody", { role: "rowgroup" }, ...rows.map((row) => row.element)));
  // Fixed widths keep cells from overlapping; a narrow page scrolls.
  const total = columns.reduce((sum, [, kind]) => sum + (kind === "period" ? periodWidth(info) : width), FIRST_COLUMN);
  grid.style.setProperty("--width", `${total}px`);
  grid.style.setProperty("--period", `${periodWidth(info)}px`);
  const element = el("section", { class: "panel scores-panel" }, el("h2", {}, "Stream scores"), note, drift,
    scrollable("Stream scores by horizon", grid), el("p", { class: "scores-legend" }, legend));
  return { element, rows, note, drift };
}

const coverageColumns = (info, kind) => info.scoring.levels.map((level) => [`${format.level(level)} % coverage`, kind, `Inside ${format.level(level)} %`]);
const noScores = (info) => `No scores yet. The first follow the first observation after a period of ${format.count(info.scoring.period_steps)} steps.`;
/** The horizon whose errors are tested for drift. */
const driftHorizon = (info) => `${format.steps(info.scoring.horizons[0], info.step_ms)} ahead`;
const NO_DRIFT = "Drift is reported with the first period.";

/** The table of one series; null if the pipeline scores nothing. */
export function periodScores(info) {
  if (!info.scoring) return null;
  const { element, rows, note, drift } = table(info, [
    ["Period", "period"], ["Forecasts"], ["MAE", "number long"], ["MASE"], ["Bias", "number long"], ...coverageColumns(info),
  ], 112, "Periods are ranges of forecast steps, in UTC. MAE: mean absolute error. MASE: MAE divided by that of the naive forecast "
    + `(${format.naive(info.season, info.step_ms)}) in the same period; below 1 is better. Bias: mean of observation minus forecast; `
    + "negative if forecasts are too high. Coverage: share of observations inside the interval; best near its level.");
  function set(periods, isDrifting, unit) {
    setText(note, periods.length === 0 ? noScores(info) : "Latest period of each horizon.");
    setText(drift, isDrifting === null ? NO_DRIFT : isDrifting
      ? `Drifting: errors ${driftHorizon(info)} are above their own history (Page-Hinkley test).`
      : `Not drifting: errors ${driftHorizon(info)} match their own history (Page-Hinkley test).`);
    drift.dataset.tone = isDrifting ? "drifting" : "";
    const withUnit = (text) => (unit ? `${text} ${unit}` : text);
    for (const row of rows) {
      const period = periods.find(({ horizon }) => horizon === row.horizon);
      row.set(period ? [
        format.range(period.from_ms, period.until_ms, info.step_ms), format.count(period.forecasts), withUnit(format.number(period.mae)),
        format.number(period.mase), withUnit(format.signed(period.bias)), ...period.coverage.map((share) => `${format.percent(share, 1)} %`),
      ] : new Array(5 + info.scoring.levels.length).fill("–"), ["", "", "", period?.mase == null ? "" : period.mase < 1 ? "good" : "bad"]);
    }
  }
  return { element, set };
}

/** The table of all series, including those that the dashboard omits; null if the pipeline scores nothing. */
export function totalScores(info) {
  if (!info.scoring) return null;
  const { element, rows, note, drift } = table(info, [
    ["Scored forecasts", "number long"], ...coverageColumns(info, "number long"), ["MASE up to 1", "number long"], ["Median MASE", "number long"],
  ], 140, "Coverage: share of observations inside the interval, and its level. MASE: mean absolute error of a series in a period, divided by "
    + `that of the naive forecast (${format.naive(info.season, info.step_ms)}). MASE up to 1: share of periods no worse than the naive `
    + "forecast. Median MASE: accurate to a bucket of the metric; values above 4 read as 4.");
  function set(scores) {
    const { periods, drifting_periods } = scores;
    setText(note, periods === 0 ? noScores(info) : "All series, since the start of the process.");
    setText(drift, periods === 0 ? NO_DRIFT
      : `Drifting in ${format.large(drifting_periods)} of ${format.large(periods)} periods, by errors ${driftHorizon(info)}.`);
    for (const row of rows) {
      const totals = scores.horizons.find(({ horizon }) => horizon === row.horizon);
      if (!totals) continue;
      const { forecasts, covered, periods, periods_within_naive, median_mase } = totals;
      // Good if at least half of the periods are within the naive error: the median is then at most 1.
      const tone = periods === 0 ? "" : 2 * periods_within_naive >= periods ? "good" : "bad";
      row.set([
        format.large(forecasts),
        ...info.scoring.levels.map((level, i) => (forecasts ? `${format.percent(covered[i] / forecasts, 1)} of ${format.level(level)} %` : "–")),
        periods ? `${format.percent(periods_within_naive / periods, 1)} % of ${format.large(periods)}` : "–", format.number(median_mase),
      ], ["", ...info.scoring.levels.map(() => ""), tone, tone]);
    }
  }
  return { element, set };
}
