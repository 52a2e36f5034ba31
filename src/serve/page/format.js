// Numbers, times and durations as text. Event time is in UTC.

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

/** About three significant digits. */
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

/** The number of series that the dashboard omits. */
export function others(omitted) {
  return `${count(omitted)} other${omitted === 1 ? "" : "s"}`;
}

/** Large counts with a prefix: 12,345, 1.20 M. */
export function large(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e9) return `${fixed(2).format(value / 1e9)} G`;
  if (value >= 1e6) return `${fixed(2).format(value / 1e6)} M`;
  return fixed(0).format(value);
}

export function percent(share, digits = 0) {
  return share === null || share === undefined || !Number.isFinite(share) ? "–" : fixed(digits).format(share * 100);
}

/** The level of an interval in percent, with all its decimals: 0.9999 must not read as 100. */
export function level(share) {
  return String(Number((share * 100).toPrecision(10)));
}

export function bytes(value) {
  if (!value) return ["–", ""];
  return value >= 1 << 30 ? [fixed(2).format(value / (1 << 30)), "GiB"] : [fixed(0).format(value / (1 << 20)), "MiB"];
}

/** Seconds in a readable unit, as `[text, unit]`. */
export function seconds(value) {
  if (value === null || value === undefined) return ["–", ""];
  if (value < 1) return [fixed(value < 0.01 ? 1 : 0).format(value * 1000), "ms"];
  if (value < 120) return [fixed(value < 10 ? 1 : 0).format(value), "s"];
  if (value < 7200) return [fixed(0).format(value / 60), "min"];
  return [fixed(value < 36000 ? 1 : 0).format(value / 3600), "h"];
}

/** A duration: "3 min", "2 days". */
export function duration(seconds_) {
  if (seconds_ < 90) return `${Math.max(0, Math.round(seconds_))} s`;
  if (seconds_ < 5400) return `${Math.round(seconds_ / 60)} min`;
  if (seconds_ < 172800) return `${Math.round(seconds_ / 3600)} h`;
  return `${Math.round(seconds_ / 86400)} days`;
}

/** Steps of the grid as a duration: "24 h", "90 s". */
export function steps(count_, stepMs) {
  const total = (count_ * stepMs) / 1000;
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  for (const [size, unit] of units) {
    if (total >= size && (total / size) % 1 === 0 && (unit !== "d" || total / size > 2)) return `${total / size} ${unit}`;
  }
  return total >= 1 ? `${total} s` : `${total * 1000} ms`;
}

/** The naive forecast in words: the value one season earlier, or without a season the last value. */
export function naive(season, stepMs) {
  return season ? `the value ${steps(season, stepMs)} earlier` : "the last value";
}

/** The baseline of this page: the naive forecast, or the last value where the season exceeds the retained steps. */
export function baseline(info) {
  const season = info.baseline_season;
  return { name: season ? "seasonal naive" : "last value", forecast: naive(season, info.step_ms) };
}

const two = (n) => String(n).padStart(2, "0");

/** "2023-06-01 08:00", with seconds on a grid below a minute. */
export function time(ms, stepMs = 60000) {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return "–";
  const at = new Date(ms);
  const day = `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`;
  if (stepMs >= 86400000) return day;
  const clock = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  return stepMs >= 60000 ? `${day} ${clock}` : `${day} ${clock}:${two(at.getUTCSeconds())}`;
}

/** A time range; the second day is omitted if it equals the first. */
export function range(from, until, stepMs) {
  const [first, last] = [from, until].map((ms) => time(ms, stepMs));
  const isOneDay = stepMs < 86400000 && first.slice(0, 10) === last.slice(0, 10);
  return `${first} to ${isOneDay ? last.slice(11) : last}`;
}

/** A number with its sign. */
export function signed(value) {
  return value > 0 ? `+${number(value)}` : number(value);
}

/** The local time of day, for events of the process. */
export function wallTime(ms) {
  return new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}

/** Label and description of each series status. */
export const STATUSES = {
  ok: ["OK", "Forecast and up to date"],
  late: ["Late", "Behind the other series"],
  silent: ["Silent", "No observations for longer than max_gap"],
  warming: ["Warming up", "Not enough observations for a forecast yet"],
  drifting: ["Drifting", "Errors above their own history (Page-Hinkley test)"],
};
