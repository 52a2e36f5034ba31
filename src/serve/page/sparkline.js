// Sparklines: the last steps of a series and its forecast.

/** The colours of the style sheet, cached until the theme changes. */
let palette = null;

export function resetPalette() {
  palette = null;
}

function colours() {
  if (!palette) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    palette = { actual: colour("--actual"), forecast: colour("--forecast"), band: colour("--band"), line: colour("--line") };
  }
  return palette;
}

/** Draws `[canvas, sparkline]` pairs. Reads all sizes before it draws: reading a size after a change forces a layout per row. */
export function drawSparklines(pairs) {
  const sizes = pairs.map(([canvas]) => [canvas.clientWidth, canvas.clientHeight]);
  pairs.forEach(([canvas, sparkline], i) => draw(canvas, sparkline, sizes[i]));
}

function draw(canvas, { past, origin_offset, forecast, lower, upper }, [width, height]) {
  if (!width || !height) return;
  const scale = Math.min(devicePixelRatio || 1, 3);
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const { actual, forecast: forecastColour, band, line } = colours();

  const steps = past.length + 24;
  let min = Infinity;
  let max = -Infinity;
  for (const value of [...past, ...forecast]) {
    if (value === null) continue;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  if (min > max) return;
  // A constant series is a line in the middle instead of magnified noise.
  const rangeMin = Math.max(Math.abs(max), Math.abs(min), 1e-9) * 1e-3;
  if (max - min < rangeMin) [min, max] = [min - rangeMin, max + rangeMin];
  const pad = 3;
  const x = (i) => 1 + (i * (width - 2)) / Math.max(1, steps - 1);
  const y = (value) => height - pad - ((value - min) * (height - 2 * pad)) / (max - min);
  const clampedY = (value) => Math.min(height, Math.max(0, y(value)));
  const origin = past.length - 1 + origin_offset;

  context.strokeStyle = line;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(Math.round(x(past.length - 1)) + 0.5, 0);
  context.lineTo(Math.round(x(past.length - 1)) + 0.5, height);
  context.stroke();

  if (lower.length) {
    context.fillStyle = band;
    context.beginPath();
    upper.forEach((value, i) => context.lineTo(x(origin + 1 + i), clampedY(value)));
    for (let i = lower.length - 1; i >= 0; i--) context.lineTo(x(origin + 1 + i), clampedY(lower[i]));
    context.fill();
  }
  context.lineJoin = "round";
  context.lineWidth = 1.5;
  context.strokeStyle = actual;
  context.beginPath();
  let isGap = true;
  past.forEach((value, i) => {
    if (value === null) isGap = true;
    else if (isGap) (context.moveTo(x(i), y(value)), (isGap = false));
    else context.lineTo(x(i), y(value));
  });
  context.stroke();
  if (forecast.length) {
    context.strokeStyle = forecastColour;
    context.beginPath();
    forecast.forEach((value, i) => context.lineTo(x(origin + 1 + i), clampedY(value)));
    context.stroke();
  }
}
