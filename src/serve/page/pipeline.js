// Where the line stands: how fast, how far behind, what was refused and why, what happened.

import { WHOLE, chart, colour, line } from "./charts.js";
import { el, setText, tile, wide } from "./dom.js";
import * as format from "./format.js";
import { overall } from "./scores.js";

/** Samples that are kept: five minutes, as the server has. */
const SAMPLES = 300;

const REASONS = {
  malformed: "could not be read",
  late: "for a step that has closed",
  duplicate: "the time of a row that was just taken",
  too_far: "too far ahead, and no other row agreed",
  not_finite: "no value that is a number",
  too_many_series: "one series more than the limit",
};

export function pipeline(app) {
  const { facts, feed, main } = app;
  let samples = [];
  let columns = {};

  const rate = tile("Readings", "Readings taken in the last second");
  const lag = tile("Lag", "Rows that are there and not yet read, all partitions together");
  const latency = tile("Latency", "From a record's timestamp to the commit of what came of it, half of the last second's readings");
  const commits = tile("Commits", "Time of half of all commits");
  const snapshots = tile("Snapshots", "Time of half of all snapshots");
  const memory = tile("Memory", "Of this process");

  const small = (title, hint, names, read, write, y = {}) => chart({
    title,
    hint,
    height: 150,
    utc: false,
    sync: "pipeline",
    make: () => ({
      series: names.map(([, name], i) => line(colour(name), { fill: i === 0 && names.length === 1 ? colour("band-wide") : undefined })),
      scales: { y: { range: (_plot, _min, max) => [0, Math.max(max ?? 0, y.least ?? 1) * 1.1] } },
      y: { values: (_plot, splits) => splits.map(write), incrs: y.incrs },
    }),
    describe(index) {
      const lists = columns[title];
      if (!lists?.[0].length) return [["", "–"]];
      const i = index ?? lists[0].length - 1;
      return names.map(([label, name], of) => [label, lists[of + 1][i] === null ? "–" : read(lists[of + 1][i]), names.length > 1 ? name : null]);
    },
  });
  const inSeconds = (value) => format.seconds(value).join(" ");
  const inBytes = (value) => format.bytes(value).join(" ");
  const short = (value) => (value >= 1e6 ? `${value / 1e6} M` : value >= 1e4 ? `${value / 1e3} k` : format.count(value));
  const rates = small("Rate", "a second", [["readings", "forecast"], ["forecasts", "naive"]], (value) => format.count(Math.round(value)), short, { incrs: WHOLE });
  const lags = small("Lag", "rows", [["", "forecast"]], format.count, short, { incrs: WHOLE });
  const latencies = small("Latency", "to the commit", [["half", "forecast"], ["99 %", "naive"]], inSeconds, (value) => (value === 0 ? "0" : inSeconds(value)), { least: 0.01 });
  const memories = small("Memory", "resident", [["", "forecast"]], inBytes, (value) => (value ? `${Math.round(value / (1 << 20))} MiB` : "0"), { least: 1 << 20, incrs: WHOLE.map((one) => one * (1 << 20)) });
  const charts = [rates, lags, latencies, memories];

  const partitions = el("tbody");
  const refusals = el("div", { class: "refusals" });
  const reasons = new Map();
  const happened = el("ol", { class: "happened" });
  const facts_ = el("dl", { class: "facts" });
  const model = el("dl", { class: "facts" });
  const counts = el("dl", { class: "facts" });
  const fill = (list, entries) => list.replaceChildren(...entries.filter(([, text]) => text !== null && text !== undefined)
    .map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(text)))));
  fill(facts_, [
    ["pipeline", facts.name], ["reads", facts.topic], ["writes", facts.forecasts], ["rejects to", facts.rejects], ["scores to", facts.scored ? facts.scored.to ?? "nowhere" : null], ["brokers", facts.brokers],
    ["group", facts.group], ["instance", facts.instance], ["state in", facts.state ?? "nowhere"], ["step", facts.every], ["horizon", `${facts.horizon} steps`],
    ["started", `${new Date(facts.started_ms).toLocaleDateString()} ${format.wall(facts.started_ms)}`], ["version", facts.version],
  ]);
  fill(model, facts.model);

  const scored = overall(facts);
  const panel = (title, ...children) => el("section", { class: "panel" }, el("h2", {}, title), ...children);
  const page = el("section", { class: "page pipeline" },
    el("h1", {}, "Pipeline"),
    el("div", { class: "tiles six" }, rate.element, lag.element, latency.element, commits.element, snapshots.element, memory.element),
    el("div", { class: "pair" }, ...charts.map((one) => one.element)),
    panel("Partitions", wide("Partitions", el("table", { class: "plain" },
      el("thead", {}, el("tr", {}, ...["Partition", "State", "Read up to", "Durable up to", "End", "Lag", "Ours for"].map((name, i) => el("th", { scope: "col", class: i > 1 ? "number" : null }, name)))),
      partitions))),
    scored?.element,
    el("div", { class: "pair" },
      panel("Refused readings", refusals),
      panel("What happened", happened)),
    el("div", { class: "pair three" }, panel("Since the start", counts), panel("Model", model), panel("Wiring", facts_)));

  function partitionRows(line_) {
    if (line_.partitions.length === 0) {
      return [el("tr", {}, el("td", { colspan: 7, class: "nothing-yet" }, "No partition is assigned yet."))];
    }
    return line_.partitions.map((one) => el("tr", {},
      el("th", { scope: "row" }, `${one.topic}/${one.partition}`),
      el("td", {}, one.is_reading ? "reading" : "making up its state"),
      ...[one.position, one.committed, one.end === null ? null : Math.max(one.end, one.position ?? 0), one.lag].map((value) => el("td", { class: "number" }, format.count(value))),
      el("td", { class: "number" }, format.length(one.seconds))));
  }

  /** What is open stays open: parts are made once and filled again. */
  function refused(line_) {
    for (const { reason, count, samples: found } of line_.refused) {
      if (!reasons.has(reason)) {
        const number = el("b");
        const list = el("ul", { class: "samples" });
        const element = el("details", {},
          el("summary", {}, el("span", { class: "reason" }, reason.replaceAll("_", " ")), el("small", {}, REASONS[reason]), number), list);
        reasons.set(reason, { element, number, list, key: "" });
        refusals.append(element);
      }
      const part = reasons.get(reason);
      setText(part.number, format.large(count));
      part.element.dataset.some = String(count > 0);
      const key = JSON.stringify(found);
      if (key === part.key) continue;
      part.key = key;
      part.list.replaceChildren(...found.map((sample) => el("li", {},
        el("p", {}, el("span", { class: "place" }, `${sample.topic}/${sample.partition} at ${sample.offset}`),
          el("time", {}, format.wall(sample.at_ms))),
        sample.detail ? el("p", { class: "why" }, sample.detail) : null,
        sample.value === null ? null : el("code", {}, `${sample.key === null ? "" : `${sample.key}: `}${sample.value}`))));
    }
    for (const { element, list } of reasons.values()) {
      if (list.children.length === 0 && !element.querySelector(".nothing-yet")) list.append(el("li", { class: "nothing-yet" }, "None so far."));
    }
  }

  let events = "";
  function heard(message) {
    if (!app.pulse(message.pulse)) return;
    const newest = samples.at(-1)?.at_ms ?? 0;
    samples.push(...message.samples.filter((sample) => sample.at_ms > newest));
    samples = samples.slice(-SAMPLES);
    const line_ = message.line;
    const last = samples.at(-1);
    const time = samples.map((sample) => sample.at_ms / 1000);
    const list = (name) => samples.map((sample) => sample[name]);
    columns = {
      Rate: [time, list("readings"), list("forecasts")],
      Lag: [time, list("lag")],
      Latency: [time, list("latency_p50"), list("latency_p99")],
      Memory: [time, list("memory")],
    };
    rates.set(columns.Rate);
    lags.set(columns.Lag);
    latencies.set(columns.Latency);
    memories.set(columns.Memory);
    rate.set(format.count(Math.round(last?.readings ?? 0)), "/s", `${format.count(Math.round(last?.forecasts ?? 0))} forecasts/s`);
    lag.set(format.large(last?.lag), last?.lag === null || last?.lag === undefined ? "" : "rows",
      `${line_.partitions.length} partition${line_.partitions.length === 1 ? "" : "s"}`);
    latency.set(...format.seconds(last?.latency_p50), last?.latency_p99 ? `99 %: ${inSeconds(last.latency_p99)}` : "");
    commits.set(...format.seconds(line_.commits.p50), line_.commits.count ? `${format.large(line_.commits.count)}; 99 %: ${inSeconds(line_.commits.p99)}` : "none yet");
    snapshots.set(...format.seconds(line_.snapshots.p50), facts.state === null ? "no state is kept"
      : `${format.large(line_.snapshots.count)}${line_.snapshots_failed ? `, ${line_.snapshots_failed} failed` : ""}`);
    memory.set(...format.bytes(last?.memory), `${format.count(line_.series)} series`);
    partitions.replaceChildren(...partitionRows(line_));
    scored?.set(line_.scored);
    refused(line_);
    fill(counts, [
      ["readings", format.large(line_.readings)], ["forecasts", format.large(line_.forecasts)], ["series", format.count(line_.series)],
      ["series begun anew after a gap", format.count(line_.restarts)], ["series that gave way", format.count(line_.evictions)],
      ["steps closed early", format.count(line_.early)], ["partitions that came", format.count(line_.assignments)],
      ["partitions that left", format.count(line_.revocations)], ["batches that this page missed", format.count(line_.missed)],
    ]);
    const key = JSON.stringify(line_.happened);
    if (key !== events) {
      events = key;
      happened.replaceChildren(...(line_.happened.length === 0
        ? [el("li", { class: "nothing-yet" }, "Nothing yet.")]
        : line_.happened.map((one) => el("li", {}, el("time", {}, format.wall(one.at_ms)),
            el("span", {}, el("b", {}, `${one.topic}/${one.partition}`), ` ${one.what}`, el("small", {}, one.detail))))));
    }
  }

  return {
    title: "Pipeline",
    show() {
      main.replaceChildren(page);
      main.scrollTop = 0;
      feed.open("/api/streams/pipeline", { pipeline: heard });
    },
    key(event) {
      if (event.key === "Escape") return (location.hash = "#/"), true;
      return false;
    },
    recolour() {
      charts.forEach((one) => one.recolour());
    },
    again() {
      samples = [];
    },
    leave() {
      charts.forEach((one) => one.destroy());
    },
  };
}
