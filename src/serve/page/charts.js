// Time series charts with the colours of the theme and a readout of the values under the pointer.

import { el, setText } from "./dom.js";

const UTC = (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC");

const twoDigits = (n) => String(n).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Labels of the time axis: the date at midnight, else the time, with seconds where the labels are less than a minute apart. */
function timeLabels(utc) {
  return (_plot, splits) => splits.map((split) => {
    const at = new Date(split * 1000);
    const [month, day, hours, minutes, seconds] = utc
      ? [at.getUTCMonth(), at.getUTCDate(), at.getUTCHours(), at.getUTCMinutes(), at.getUTCSeconds()]
      : [at.getMonth(), at.getDate(), at.getHours(), at.getMinutes(), at.getSeconds()];
    if (hours + minutes + seconds === 0) return `${day} ${MONTHS[month]}`;
    const hasSeconds = splits.length > 1 && splits[1] - splits[0] < 60;
    return `${twoDigits(hours)}:${twoDigits(minutes)}${hasSeconds ? `:${twoDigits(seconds)}` : ""}`;
  });
}

/** Labels of the value axis, with enough decimals to differ. */
function valueLabels(_plot, splits) {
  const step = splits.length > 1 ? Math.abs(splits[1] - splits[0]) : 1;
  const digits = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
  return splits.map((split) => split.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−"));
}

/** Tick increments that are integers. */
export const INTEGER_INCREMENTS = [1, 2, 5].flatMap((digit) => [...Array(12).keys()].map((power) => digit * 10 ** power)).sort((a, b) => a - b);

/** A colour of the style sheet. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/**
 * A chart. `options()` returns `{ series, bands, y, scales, hooks }` with the current colours. `describe(index)` returns the readout at
 * a point, or at the end if `index` is null, as `[label, text, colour]` entries.
 */
export function chart({ title, hint, height, options, describe, utc = true, sync = null }) {
  const readout = el("p", { class: "readout" });
  const box = el("div", { class: "plot", role: "img", "aria-label": title });
  box.style.height = `${height}px`;
  const figure = el("figure", { class: "chart" },
    el("figcaption", {}, el("h3", {}, title), hint ? el("small", {}, hint) : null, readout), box);
  let plot = null;
  let data = null;
  let index = null;

  function axis(properties = {}) {
    return {
      stroke: colour("muted"),
      font: `11px ${getComputedStyle(document.body).fontFamily}`,
      grid: { stroke: colour("grid"), width: 1 },
      ticks: { show: false },
      gap: 6,
      ...properties,
    };
  }

  function build() {
    plot?.destroy();
    plot = null;
    if (!data || !box.clientWidth) return;
    const own = options();
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
      axes: [axis({ size: 28, space: 80, values: timeLabels(utc) }), axis({ size: 54, space: 36, values: valueLabels, ...own.y })],
      hooks: {
        setCursor: [(plot_) => {
          index = plot_.cursor.left >= 0 ? plot_.cursor.idx : null;
          updateReadout();
        }],
        ...own.hooks,
      },
    }, data, box);
    updateReadout();
  }

  let shown = "";
  function updateReadout() {
    const entries = describe(index);
    const key = JSON.stringify(entries);
    if (key === shown) return;
    shown = key;
    readout.replaceChildren(...entries.map(([label, text, colour_]) => {
      const mark = colour_ ? el("i", { class: "mark", "aria-hidden": "true", "data-colour": colour_ }) : null;
      return el("span", {}, mark, label ? el("em", {}, label) : null, el("b", {}, text));
    }));
  }

  const resizeObserver = new ResizeObserver(() => {
    if (!plot) build();
    else if (Math.abs(plot.width - box.clientWidth) > 1) plot.setSize({ width: box.clientWidth, height });
  });
  resizeObserver.observe(box);

  return {
    element: figure,
    set(columns, { keepScales = false } = {}) {
      data = columns;
      if (plot) plot.setData(columns, !keepScales);
      else build();
      updateReadout();
    },
    setTitle(text) {
      setText(figure.querySelector("h3"), text);
      box.setAttribute("aria-label", text);
    },
    redraw: build,
    destroy() {
      resizeObserver.disconnect();
      plot?.destroy();
    },
  };
}

/** A line series. */
export function line(stroke, properties = {}) {
  return { stroke, width: 1.5, points: { show: false }, spanGaps: false, ...properties };
}

/** An invisible series that bounds a band. */
export function bandEdge() {
  return { stroke: "transparent", width: 0, points: { show: false }, spanGaps: false };
}
