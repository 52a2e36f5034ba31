// The pipeline page: throughput, lag, latency, partitions, refused rows and events.

import { INTEGER_INCREMENTS, chart, colour, line } from "./charts.js";
import { el, scrollable, setText, tile } from "./dom.js";
import * as format from "./format.js";
import { totalScores } from "./scores.js";

/** Retained samples: five minutes, as on the server. */
const SAMPLES_MAX = 300;

const REFUSAL_REASONS = {
  malformed: "message could not be decoded",
  late: "for a closed step",
  duplicate: "time of a row that was just accepted",
  too_far: "too far ahead, and not confirmed by another row",
  not_finite: "no finite value",
  too_many_series: "above the series limit",
};

const EVENT_KINDS = { assigned: "assigned", running: "running", revoked: "revoked", snapshot_failed: "snapshot failed" };

export function pipeline(app) {
  const { info, feed, main } = app;
  let samples = [];
  let columns = {};

  const rate = tile("Throughput", "Rows read in the last second");
  const lag = tile("Lag", "Rows available and not read, over all partitions");
  const latency = tile("Latency", "Median time from a record's timestamp to the commit of its output, in the last second");
  const commits = tile("Commits", "Median duration of a commit since the start");
  const snapshots = tile("Snapshots", "Median time to store a snapshot since the start");
  const memory = tile("Memory", "Resident memory of the process");

  const sampleChart = (title, hint, lines, read, label, y = {}) => chart({
    title,
    hint,
    height: 150,
    utc: false,
    sync: "pipeline",
    options: () => ({
      series: lines.map(([, name], i) => line(colour(name), { fill: i === 0 && lines.length === 1 ? colour("band-wide") : undefined })),
      scales: { y: { range: (_plot, _min, max) => [0, Math.max(max ?? 0, y.max ?? 1) * 1.1] } },
      y: { values: (_plot, splits) => splits.map(label), incrs: y.incrs },
    }),
    describe(index) {
      const lists = columns[title];
      if (!lists?.[0].length) return [["", "–"]];
      const i = index ?? lists[0].length - 1;
      return lines.map(([name, colourName], list) => {
        const value = lists[list + 1][i];
        return [name, value === null ? "–" : read(value), lines.length > 1 ? colourName : null];
      });
    },
  });
  const seconds = (value) => format.seconds(value).join(" ");
  const bytes = (value) => format.bytes(value).join(" ");
  const short = (value) => (value >= 1e6 ? `${value / 1e6} M` : value >= 1e4 ? `${value / 1e3} k` : format.count(value));
  const mebibytes = INTEGER_INCREMENTS.map((increment) => increment * (1 << 20));
  const rates = sampleChart("Throughput", "per second", [["rows", "forecast"], ["forecasts", "naive"]], (value) => format.count(Math.round(value)), short, { incrs: INTEGER_INCREMENTS });
  const lags = sampleChart("Lag", "rows", [["", "forecast"]], format.count, short, { incrs: INTEGER_INCREMENTS });
  const latencies = sampleChart("Latency", "to the commit", [["median", "forecast"], ["99 %", "naive"]], seconds, (value) => (value === 0 ? "0" : seconds(value)), { max: 0.01 });
  const memories = sampleChart("Memory", "resident", [["", "forecast"]], bytes, (value) => (value ? `${Math.round(value / (1 << 20))} MiB` : "0"), { max: 1 << 20, incrs: mebibytes });
  const charts = [rates, lags, latencies, memories];

  const partitions = el("tbody");
  const refusals = el("div", { class: "refusals" });
  const reasons = new Map();
  const events = el("ol", { class: "events" });
  const configuration = el("dl", { class: "properties" });
  const model = el("dl", { class: "properties" });
  const totals = el("dl", { class: "properties" });
  const fill = (list, entries) => list.replaceChildren(...entries.filter(([, text]) => text !== null && text !== undefined)
    .map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(text)))));
  fill(configuration, [
    ["pipeline", info.name], ["input", info.input_topic], ["output", info.forecast_output], ["rejects", info.rejects_output],
    ["scores", info.scoring ? info.scoring.output ?? "not written" : null], ["brokers", info.brokers],
    ["group", info.group], ["instance", info.instance], ["state", info.state_location ?? "not stored"], ["step", info.step], ["horizon", `${info.horizon} steps`],
    ["started", `${new Date(info.started_ms).toLocaleDateString()} ${format.wallTime(info.started_ms)}`], ["version", info.version],
  ]);
  fill(model, info.model);

  const scores = totalScores(info);
  const panel = (title, ...children) => el("section", { class: "panel" }, el("h2", {}, title), ...children);
  const partitionColumns = ["Partition", "Phase", "Position", "Committed", "End", "Lag", "Assigned for"];
  const page = el("section", { class: "page pipeline" },
    el("h1", {}, "Pipeline"),
    el("div", { class: "tiles six" }, rate.element, lag.element, latency.element, commits.element, snapshots.element, memory.element),
    el("div", { class: "columns" }, ...charts.map((one) => one.element)),
    panel("Partitions", scrollable("Partitions", el("table", { class: "plain" },
      el("thead", {}, el("tr", {}, ...partitionColumns.map((name, i) => el("th", { scope: "col", class: i > 1 ? "number" : null }, name)))),
      partitions))),
    scores?.element,
    el("div", { class: "columns" },
      panel("Refused rows", refusals),
      panel("Events", events)),
    el("div", { class: "columns three" }, panel("Since the start", totals), panel("Model", model), panel("Configuration", configuration)));

  function partitionRows(status) {
    if (status.partitions.length === 0) {
      return [el("tr", {}, el("td", { colspan: partitionColumns.length, class: "empty-note" }, "No partition is assigned."))];
    }
    return status.partitions.map((partition) => el("tr", {},
      el("th", { scope: "row" }, `${partition.topic}/${partition.partition}`),
      el("td", {}, partition.phase),
      ...[partition.position, partition.committed, partition.end === null ? null : Math.max(partition.end, partition.position ?? 0), partition.lag_rows]
        .map((value) => el("td", { class: "number" }, format.count(value))),
      el("td", { class: "number" }, format.duration(partition.assigned_seconds))));
  }

  function makeReason(reason) {
    const count = el("b");
    const list = el("ul", { class: "samples" });
    const element = el("details", {},
      el("summary", {}, el("span", { class: "reason" }, reason.replaceAll("_", " ")), el("small", {}, REFUSAL_REASONS[reason]), count), list);
    refusals.append(element);
    return { element, count, list, shown: "" };
  }

  /** Elements are created once and refilled, so that an open section stays open. */
  function updateRefusals(status) {
    for (const { reason, count, samples: found } of status.refused) {
      if (!reasons.has(reason)) reasons.set(reason, makeReason(reason));
      const section = reasons.get(reason);
      setText(section.count, format.large(count));
      section.element.dataset.some = String(count > 0);
      const key = JSON.stringify(found);
      if (key === section.shown) continue;
      section.shown = key;
      section.list.replaceChildren(...(found.length === 0 ? [el("li", { class: "empty-note" }, "None.")] : found.map(sampleItem)));
    }
  }

  function sampleItem(sample) {
    return el("li", {},
      el("p", {}, el("span", { class: "coordinates" }, `${sample.topic}/${sample.partition} at ${sample.offset}`), el("time", {}, format.wallTime(sample.at_ms))),
      sample.detail ? el("p", { class: "detail-text" }, sample.detail) : null,
      sample.value === null ? null : el("code", {}, `${sample.key === null ? "" : `${sample.key}: `}${sample.value}`));
  }

  let shownEvents = "";
  function updateEvents(status) {
    const key = JSON.stringify(status.events);
    if (key === shownEvents) return;
    shownEvents = key;
    events.replaceChildren(...(status.events.length === 0
      ? [el("li", { class: "empty-note" }, "None.")]
      : status.events.map((event) => el("li", {}, el("time", {}, format.wallTime(event.at_ms)),
          el("span", {}, el("b", {}, `${event.topic}/${event.partition}`), ` ${EVENT_KINDS[event.kind]}`, el("small", {}, event.detail))))));
  }

  function updateTiles(status, sample) {
    rate.set(format.count(Math.round(sample?.rows_per_second ?? 0)), "/s", `${format.count(Math.round(sample?.forecasts_per_second ?? 0))} forecasts/s`);
    lag.set(format.large(sample?.lag_rows), sample?.lag_rows === null || sample?.lag_rows === undefined ? "" : "rows",
      `${status.partitions.length} partition${status.partitions.length === 1 ? "" : "s"}`);
    latency.set(...format.seconds(sample?.latency_p50_seconds), sample?.latency_p99_seconds ? `99 %: ${seconds(sample.latency_p99_seconds)}` : "");
    commits.set(...format.seconds(status.commits.p50_seconds), status.commits.count ? `${format.large(status.commits.count)}; 99 %: ${seconds(status.commits.p99_seconds)}` : "none yet");
    snapshots.set(...format.seconds(status.snapshots.p50_seconds), info.state_location === null ? "state is not stored"
      : `${format.large(status.snapshots.count)}${status.snapshot_failures ? `, ${status.snapshot_failures} failed` : ""}`);
    memory.set(...format.bytes(sample?.memory_bytes), `${format.count(status.series)} series`);
  }

  function updateCharts() {
    const time = samples.map((sample) => sample.at_ms / 1000);
    const list = (name) => samples.map((sample) => sample[name]);
    columns = {
      Throughput: [time, list("rows_per_second"), list("forecasts_per_second")],
      Lag: [time, list("lag_rows")],
      Latency: [time, list("latency_p50_seconds"), list("latency_p99_seconds")],
      Memory: [time, list("memory_bytes")],
    };
    rates.set(columns.Throughput);
    lags.set(columns.Lag);
    latencies.set(columns.Latency);
    memories.set(columns.Memory);
  }

  function onMessage(message) {
    if (!app.onProcess(message.process)) return;
    const newest = samples.at(-1)?.at_ms ?? 0;
    samples.push(...message.samples.filter((sample) => sample.at_ms > newest));
    samples = samples.slice(-SAMPLES_MAX);
    const { status } = message;
    updateCharts();
    updateTiles(status, samples.at(-1));
    partitions.replaceChildren(...partitionRows(status));
    scores?.set(status.scores);
    updateRefusals(status);
    fill(totals, [
      ["rows", format.large(status.rows)], ["forecasts", format.large(status.forecasts)], ["series", format.count(status.series)],
      ["series reset by a gap", format.count(status.gap_resets)], ["series evicted", format.count(status.evictions)],
      ["steps closed early", format.count(status.forced_closes)], ["partition assignments", format.count(status.assignments)],
      ["partition revocations", format.count(status.revocations)], ["updates missed by this dashboard", format.count(status.dropped_updates)],
    ]);
    updateEvents(status);
  }

  return {
    title: "Pipeline",
    show() {
      main.replaceChildren(page);
      main.scrollTop = 0;
      feed.open("/api/streams/pipeline", { pipeline: onMessage });
    },
    onKey(event) {
      if (event.key === "Escape") return (location.hash = "#/"), true;
      return false;
    },
    redraw() {
      charts.forEach((one) => one.redraw());
    },
    reset() {
      samples = [];
    },
    leave() {
      charts.forEach((one) => one.destroy());
    },
  };
}
