// What the stream scored of its own forecasts: of one series the latest period of each step ahead, of all series what there was
// since the start. A row each step ahead is there from the beginning, so that nothing moves when the first numbers come.

import { el, setText } from "./dom.js";
import * as format from "./format.js";

/** Room for a column of numbers, and for the two that are wider. */
const NARROW = 106;
const WIDE = { first: 116, period: 310 };

/** `columns` are `[name, hint, class]`, where `long` stands on a line of its own on a phone; `set(texts, tones)` fills a row. */
function table(columns, facts) {
  const rows = facts.scored.ahead.map((ahead) => {
    const cells = columns.map(([name, , kind]) => el("td", { role: "cell", class: kind ?? "number", "data-name": name }, "–"));
    const element = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, `${format.steps(ahead, facts.every_ms)} ahead`), ...cells);
    const set = (texts, tones = []) => cells.forEach((cell, i) => {
      setText(cell, texts[i]);
      cell.dataset.tone = tones[i] ?? "";
    });
    return { ahead, element, set };
  });
  const note = el("p", { class: "scored-note" });
  const head = columns.map(([name, hint, kind]) => el("th", { scope: "col", role: "columnheader", class: kind ?? "number", title: hint }, name));
  const element = el("section", { class: "panel scored-panel" }, el("h2", {}, "Scores of the stream"), note,
    el("div", { class: "wide" }, el("table", { class: "plain scored", role: "table" },
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, el("th", { scope: "col", role: "columnheader" }, "Steps ahead"), ...head)),
      el("tbody", { role: "rowgroup" }, ...rows.map((row) => row.element)))));
  // So that nothing overlaps; a page that is narrower scrolls them.
  const width = columns.reduce((sum, [, , kind]) => sum + (WIDE[kind] ?? NARROW), WIDE.first);
  element.querySelector("table").style.setProperty("--width", `${width}px`);
  return { element, rows, note };
}

const within = (facts, hint, kind) => facts.scored.levels.map((level) => [`Within ${format.level(level)} %`, hint, kind]);
const tone = (mase) => (mase === null ? "" : mase < 1 ? "good" : "bad");
const NONE_YET = (facts) => `None has been told yet: the first comes with the first reading after a period of ${format.count(facts.scored.every)} steps.`;

function naive(facts) {
  const { season } = facts.scored;
  return season ? `the value ${format.steps(season, facts.every_ms)} before` : "the last value";
}

/** Of one series; null where the pipeline scores nothing. */
export function periods(facts) {
  if (!facts.scored) return null;
  const { element, rows, note } = table([
    ["Period", "The steps that were forecast lie between, in UTC", "period"],
    ["Forecasts", "Forecasts of these steps that were held against what came"],
    ["Mean error", "Mean absolute error", "number long"],
    ["Against naive", `MASE: the error in units of the naive forecast's, which says ${naive(facts)}`],
    ["Bias", "Mean of forecast less reading: what is above zero is forecast too high", "number long"],
    ...within(facts, "Share of readings within the interval; the nearer to its level, the better"),
    ["Drift", "Whether the errors had left their own history, by the test of Page and Hinkley"],
  ], facts);
  const dashes = (row) => row.set(new Array(6 + facts.scored.levels.length).fill("–"));
  function set(told, unit) {
    setText(note, told.length === 0 ? NONE_YET(facts) : "The latest period of each step ahead, as the stream told it.");
    for (const row of rows) {
      const one = told.find((one) => one.ahead === row.ahead);
      if (!one) {
        dashes(row);
        continue;
      }
      const span = [one.from_ms, one.until_ms].map((time) => format.time(time, facts.every_ms)).join(" to ");
      const sized = (text) => (unit ? `${text} ${unit}` : text);
      const bias = format.number(one.bias);
      row.set([
        span, format.count(one.forecasts), sized(format.number(one.mae)), one.mase === null ? "–" : format.number(one.mase),
        sized(one.bias > 0 ? `+${bias}` : bias), ...one.coverage.map((share) => `${format.percent(share, 1)} %`), one.drift ? "yes" : "no",
      ], ["", "", "", tone(one.mase), "", ...one.coverage.map(() => ""), one.drift ? "drifting" : ""]);
    }
  }
  return { element, set };
}

/** Of all series, those that this page has no room for among them; null where the pipeline scores nothing. */
export function overall(facts) {
  if (!facts.scored) return null;
  const { element, rows, note } = table([
    ["Forecasts scored", "Forecasts of all series that were held against what came", "number long"],
    ...within(facts, "Share of readings within the interval, and what it should be", "number long"),
    ["Mean MASE", `Mean over periods of the error in units of the naive forecast's, which says ${naive(facts)}; those in which it happened to be right weigh most`, "number long"],
    ["Periods drifting", "Periods of series whose errors had left their own history, of all", "number long"],
  ], facts);
  function set(told) {
    setText(note, told.every((one) => one.periods === 0) ? NONE_YET(facts) : "All series together, since the start of this process.");
    told.forEach((one, i) => rows[i].set([
      format.large(one.forecasts),
      ...facts.scored.levels.map((level, at) =>
        (one.forecasts ? `${format.percent(one.inside[at] / one.forecasts, 1)} of ${format.level(level)} %` : "–")),
      format.number(one.mase), one.periods ? `${format.large(one.drifts)} of ${format.large(one.periods)}` : "–",
    ], ["", ...facts.scored.levels.map(() => ""), tone(one.mase), ""]));
  }
  return { element, set };
}
