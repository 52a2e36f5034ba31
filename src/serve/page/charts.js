// Charts in the colours of the page, at the size of their boxes, with their own line of what is under the pointer.

import { el, setText } from "./dom.js";

const UTC = (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC");

const two = (n) => String(n).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Times on one line: the day where one begins, else the hour and minute, and seconds where they tell points apart. */
function times(utc) {
  return (_plot, splits) => splits.map((split) => {
    const at = new Date(split * 1000);
    const [month, day, hours, minutes, seconds] = utc
      ? [at.getUTCMonth(), at.getUTCDate(), at.getUTCHours(), at.getUTCMinutes(), at.getUTCSeconds()]
      : [at.getMonth(), at.getDate(), at.getHours(), at.getMinutes(), at.getSeconds()];
    if (hours + minutes + seconds === 0) return `${day} ${MONTHS[month]}`;
    const fine = splits.length > 1 && splits[1] - splits[0] < 60;
    return `${two(hours)}:${two(minutes)}${fine ? `:${two(seconds)}` : ""}`;
  });
}

/** Numbers with as many decimals as tell them apart. */
export function ticks(_plot, splits) {
  const step = splits.length > 1 ? Math.abs(splits[1] - splits[0]) : 1;
  const digits = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
  return splits.map((split) => split.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−"));
}

/** Whole numbers only. */
export const WHOLE = [1, 2, 5].flatMap((one) => [...Array(12).keys()].map((power) => one * 10 ** power)).sort((a, b) => a - b);

/** A colour of the style sheet. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/**
 * A chart. `make()` gives `{ series, bands, axes, scales, hooks }` in the colours of now; `describe(index)` what stands in the line
 * above it at a point, or at the end where `index` is null, as `[label, text, colour]` each.
 */
export function chart({ title, hint, height, make, describe, utc = true, sync = null }) {
  const readout = el("p", { class: "readout" });
  const box = el("div", { class: "plot", role: "img", "aria-label": title });
  box.style.height = `${height}px`;
  const figure = el("figure", { class: "chart" },
    el("figcaption", {}, el("h3", {}, title), hint ? el("small", {}, hint) : null, readout), box);
  let plot = null;
  let data = null;
  let at = null;

  function axis(of = {}) {
    return {
      stroke: colour("muted"),
      font: `11px ${getComputedStyle(document.body).fontFamily}`,
      grid: { stroke: colour("grid"), width: 1 },
      ticks: { show: false },
      gap: 6,
      ...of,
    };
  }

  function build() {
    plot?.destroy();
    plot = null;
    if (!data || !box.clientWidth) return;
    const own = make();
    plot = new uPlot({
      width: box.clientWidth,
      height,
      tzDate: utc ? UTC : undefined,
      padding: [8, 22, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: false, y: false },
        points: { size: 6 },
        ...(sync ? { sync: { key: sync, setSeries: false } } : {}),
      },
      series: [{}, ...own.series],
      bands: own.bands,
      scales: own.scales,
      axes: [axis({ size: 28, space: 80, values: times(utc) }), axis({ size: 54, space: 36, values: ticks, ...own.y })],
      hooks: {
        setCursor: [(plot_) => {
          at = plot_.cursor.left >= 0 ? plot_.cursor.idx : null;
          say();
        }],
        ...own.hooks,
      },
    }, data, box);
    say();
  }

  let last = "";
  function say() {
    const parts = describe(at);
    const key = JSON.stringify(parts);
    if (key === last) return;
    last = key;
    readout.replaceChildren(...parts.map(([label, text, colour_]) => {
      const mark = colour_ ? el("i", { class: "mark", "aria-hidden": "true", "data-colour": colour_ }) : null;
      return el("span", {}, mark, label ? el("em", {}, label) : null, el("b", {}, text));
    }));
  }

  const sizes = new ResizeObserver(() => {
    if (!plot) build();
    else if (Math.abs(plot.width - box.clientWidth) > 1) plot.setSize({ width: box.clientWidth, height });
  });
  sizes.observe(box);

  return {
    element: figure,
    set(columns, { keepScales = false } = {}) {
      data = columns;
      if (plot) plot.setData(columns, !keepScales);
      else build();
      say();
    },
    title(text) {
      setText(figure.querySelector("h3"), text);
      box.setAttribute("aria-label", text);
    },
    hint(text) {
      setText(figure.querySelector("figcaption small"), text);
    },
    recolour: build,
    destroy() {
      sizes.disconnect();
      plot?.destroy();
    },
  };
}

/** A line of a chart. */
export function line(stroke, of = {}) {
  return { stroke, width: 1.5, points: { show: false }, spanGaps: false, ...of };
}

/** The edge of a band: there, but not to be seen. */
export function edge() {
  return { stroke: "transparent", width: 0, points: { show: false }, spanGaps: false };
}
