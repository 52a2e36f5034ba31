// What the stream scored of its own forecasts: of one series the latest period of each step ahead, of all series what there was
// since the start. A row each step ahead is there from the beginning, so that nothing moves when the first numbers come.

import { el, setText, wide } from "./dom.js";
import * as format from "./format.js";

/** Room for the first column, and for a period: two times of the grid, the seconds among them where it is that fine. */
const FIRST = 116;
const period = (facts) => (facts.every_ms < 60000 ? 360 : 310);

/**
 * `columns` are `[name, class, name on a phone]`, where `long` stands there on a line of its own, each `width` wide; `set(texts,
 * tones)` fills a row. `legend` says what they are.
 */
function table(facts, columns, width, legend) {
  const rows = facts.scored.ahead.map((ahead) => {
    const cells = columns.map(([name, kind, long]) => el("td", { role: "cell", class: kind ?? "number", "data-name": long ?? name }, "–"));
    const element = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, `${format.steps(ahead, facts.every_ms)} ahead`), ...cells);
    const set = (texts, tones = []) => cells.forEach((cell, i) => {
      setText(cell, texts[i]);
      cell.dataset.tone = tones[i] ?? "";
    });
    return { ahead, element, set };
  });
  const note = el("p", { class: "scored-note" });
  const drift = el("p", { class: "scored-note" });
  const head = columns.map(([name, kind]) => el("th", { scope: "col", role: "columnheader", class: kind ?? "number" }, name));
  const grid = el("table", { class: "plain scored", role: "table" },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, el("th", { scope: "col", role: "columnheader" }, "Steps ahead"), ...head)),
    el("tbody", { role: "rowgroup" }, ...rows.map((row) => row.element)));
  // So that nothing overlaps; a page that is narrower scrolls them.
  const all = columns.reduce((sum, [, kind]) => sum + (kind === "period" ? period(facts) : width), FIRST);
  grid.style.setProperty("--width", `${all}px`);
  grid.style.setProperty("--period", `${period(facts)}px`);
  const element = el("section", { class: "panel scored-panel" }, el("h2", {}, "Scores of the stream"), note, drift,
    wide("Scores of the stream, for each step ahead", grid), el("p", { class: "scored-legend" }, legend));
  return { element, rows, note, drift };
}

const within = (facts, kind) => facts.scored.levels.map((level) => [`Within ${format.level(level)} %`, kind]);
const none = (facts) => `None has been told yet: the first comes with the first reading after a period of ${format.count(facts.scored.every)} steps.`;
/** The step ahead whose errors are tested for drift. */
const tested = (facts) => `${format.steps(facts.scored.ahead[0], facts.every_ms)} ahead`;
const NAIVE = "Against naive";

/** Of one series; null where the pipeline scores nothing. */
export function periods(facts) {
  if (!facts.scored) return null;
  const { element, rows, note, drift } = table(facts, [
    ["Period", "period"], ["Forecasts"], ["Mean error", "number long"], [NAIVE], ["Bias", "number long", "Bias, reading less forecast"], ...within(facts),
  ], 112, `A period is of steps that were forecast, in UTC. ${NAIVE}: its mean absolute error over that of a forecast that says `
    + `${format.naive(facts.season, facts.every_ms)}, in the same period; below 1 is better. Bias: the mean of reading less forecast; below `
    + "zero, forecasts were too high. Within: the share of readings in the interval; the nearer to its level, the better.");
  function set(told, drifts, unit) {
    setText(note, told.length === 0 ? none(facts) : "The latest period of each step ahead, as the stream told it.");
    setText(drift, drifts === null ? "Drift is told with a period." : drifts
      ? `Drifting: errors ${tested(facts)} have left their own history, by the test of Page and Hinkley.`
      : `Not drifting: errors ${tested(facts)} are as they were, by the test of Page and Hinkley.`);
    drift.dataset.tone = drifts ? "drifting" : "";
    const sized = (text) => (unit ? `${text} ${unit}` : text);
    for (const row of rows) {
      const one = told.find((one) => one.ahead === row.ahead);
      const shares = one?.coverage.map((share) => `${format.percent(share, 1)} %`);
      row.set(one ? [
        format.span(one.from_ms, one.until_ms, facts.every_ms), format.count(one.forecasts), sized(format.number(one.mae)),
        format.number(one.mase), sized(format.signed(one.bias)), ...shares,
      ] : new Array(5 + facts.scored.levels.length).fill("–"), ["", "", "", one?.mase == null ? "" : one.mase < 1 ? "good" : "bad"]);
    }
  }
  return { element, set };
}

/** Of all series, those that this page has no room for among them; null where the pipeline scores nothing. */
export function overall(facts) {
  if (!facts.scored) return null;
  const { element, rows, note, drift } = table(facts, [
    ["Forecasts scored", "number long"], ...within(facts, "number long"), ["No worse than naive", "number long"], ["Median ratio", "number long"],
  ], 140, "Within: the share of readings in the interval, and what it should be. No worse than naive: periods of series whose mean absolute "
    + `error was at most that of a forecast that says ${format.naive(facts.season, facts.every_ms)}. Median ratio: half of the periods had a `
    + "lower ratio of these two errors, to within a bucket of the metric; what is above 4 is shown as 4.");
  function set({ ahead, periods, drifts }) {
    setText(note, periods === 0 ? none(facts) : "All series together, since the start of this process.");
    setText(drift, periods === 0 ? "Drift is told with a period."
      : `Drifting in ${format.large(drifts)} of ${format.large(periods)} periods of series, by their errors ${tested(facts)}.`);
    for (const row of rows) {
      const one = ahead.find((one) => one.ahead === row.ahead);
      if (!one) continue;
      const { forecasts, inside, ratios, no_worse, median } = one;
      // Half of the periods: then the median is at most 1.
      const tone = ratios === 0 ? "" : 2 * no_worse >= ratios ? "good" : "bad";
      row.set([
        format.large(forecasts),
        ...facts.scored.levels.map((level, at) => (forecasts ? `${format.percent(inside[at] / forecasts, 1)} of ${format.level(level)} %` : "–")),
        ratios ? `${format.percent(no_worse / ratios, 1)} % of ${format.large(ratios)}` : "–", format.number(median),
      ], ["", ...facts.scored.levels.map(() => ""), tone, tone]);
    }
  }
  return { element, set };
}
