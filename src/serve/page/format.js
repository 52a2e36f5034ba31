// Numbers, times and durations as people read them. Event time is shown in UTC, as the pipeline has it.

const formats = new Map();

function fixed(digits) {
  if (!formats.has(digits)) {
    formats.set(digits, new Intl.NumberFormat("en", {
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    }));
  }
  return formats.get(digits);
}

/** Some three digits that matter, and no more decimals than they need. */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6) return value.toExponential(2).replace("e+", "e");
  if (size > 0 && size < 0.001) return value.toExponential(1).replace("-", "−").replace("e-", "e−");
  const digits = size >= 1000 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3;
  return fixed(digits).format(value).replace("-", "−");
}

export function count(value) {
  return value === null || value === undefined ? "–" : fixed(0).format(value);
}

/** Series that the dashboard has no room for: so many, or `true` where it is only known that there are some. */
export function others(leftOut) {
  return leftOut === true ? "others" : `${count(leftOut)} other${leftOut === 1 ? "" : "s"}`;
}

/** Counts that grow large: 12 345, 1.2 M. */
export function large(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e9) return `${fixed(2).format(value / 1e9)} G`;
  if (value >= 1e6) return `${fixed(2).format(value / 1e6)} M`;
  return fixed(0).format(value);
}

export function percent(share, digits = 0) {
  return share === null || share === undefined || !Number.isFinite(share) ? "–" : fixed(digits).format(share * 100);
}

/** The level of an interval in percent, with the decimals that it has: one below 100 % never reads as 100. */
export function level(share) {
  return String(Number((share * 100).toPrecision(10)));
}

export function bytes(value) {
  if (!value) return ["–", ""];
  return value >= 1 << 30 ? [fixed(2).format(value / (1 << 30)), "GiB"] : [fixed(0).format(value / (1 << 20)), "MiB"];
}

/** Seconds in the unit that fits: `[text, unit]`. */
export function seconds(value) {
  if (value === null || value === undefined) return ["–", ""];
  if (value < 1) return [fixed(value < 0.01 ? 1 : 0).format(value * 1000), "ms"];
  if (value < 120) return [fixed(value < 10 ? 1 : 0).format(value), "s"];
  if (value < 7200) return [fixed(0).format(value / 60), "min"];
  return [fixed(value < 36000 ? 1 : 0).format(value / 3600), "h"];
}

/** How long something has gone on: "3 min", "2 days". */
export function length(seconds_) {
  if (seconds_ < 90) return `${Math.max(0, Math.round(seconds_))} s`;
  if (seconds_ < 5400) return `${Math.round(seconds_ / 60)} min`;
  if (seconds_ < 172800) return `${Math.round(seconds_ / 3600)} h`;
  return `${Math.round(seconds_ / 86400)} days`;
}

/** So many steps of a grid as a length: "24 h", "90 s". */
export function steps(n, everyMs) {
  const all = (n * everyMs) / 1000;
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  for (const [size, unit] of units) {
    if (all >= size && (all / size) % 1 === 0 && (unit !== "d" || all / size > 2)) return `${all / size} ${unit}`;
  }
  return all >= 1 ? `${all} s` : `${all * 1000} ms`;
}

/** What a forecast says that repeats what was so many steps before, or without a season the last value. */
export function naive(season, everyMs) {
  return season ? `the value ${steps(season, everyMs)} before` : "the last value";
}

/** What forecasts are held against on this page: the naive forecast, where its season is not longer than what is kept. */
export function baseline(facts) {
  const says = naive(facts.kept_season, facts.every_ms);
  return { name: facts.kept_season === facts.season ? "naive" : "last value", says, short: says.replace(/^the (value )?/, "") };
}

const two = (n) => String(n).padStart(2, "0");

/** "2023-06-01 08:00", with seconds where the grid is that fine. */
export function time(ms, everyMs = 60000) {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return "–";
  const at = new Date(ms);
  const day = `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`;
  if (everyMs >= 86400000) return day;
  const clock = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  return everyMs >= 60000 ? `${day} ${clock}` : `${day} ${clock}:${two(at.getUTCSeconds())}`;
}

/** From one time to another; the day is said twice only where there are two. */
export function span(from, until, everyMs) {
  const [first, last] = [from, until].map((ms) => time(ms, everyMs));
  const isOneDay = everyMs < 86400000 && first.slice(0, 10) === last.slice(0, 10);
  return `${first} to ${isOneDay ? last.slice(11) : last}`;
}

/** With its sign, whichever it is. */
export function signed(value) {
  return value > 0 ? `+${number(value)}` : number(value);
}

/** The time of this place, of things that happened in the process. */
export function wall(ms) {
  return new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}

export const STATES = {
  ok: ["OK", "Forecast, and up to date"],
  late: ["Late", "Its readings are behind the others'"],
  silent: ["Silent", "No readings for longer than the longest gap"],
  cold: ["Warming", "Not enough readings for a forecast yet"],
  drifting: ["Drifting", "Its errors have left their own history, by the test of Page and Hinkley"],
};
