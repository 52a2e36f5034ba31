// The last steps of a series, and the next as they are forecast, in the space of a word.

let colours = null;

export function forgetColours() {
  colours = null;
}

function palette() {
  if (!colours) {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    colours = { line: of("--reading"), ahead: of("--forecast"), band: of("--band"), faint: of("--line") };
  }
  return colours;
}

/** Draws rows, `[canvas, row]` each, in the size of their boxes. All of these are asked for before any is drawn: a question behind
 *  a change has the browser lay out the page, once for each row. */
export function sparks(all) {
  const sizes = all.map(([canvas]) => [canvas.clientWidth, canvas.clientHeight]);
  all.forEach(([canvas, row], i) => spark(canvas, row, sizes[i]));
}

function spark(canvas, row, [width, height]) {
  if (!width || !height) return;
  const scale = Math.min(devicePixelRatio || 1, 3);
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const draw = canvas.getContext("2d");
  draw.setTransform(scale, 0, 0, scale, 0, 0);
  draw.clearRect(0, 0, width, height);
  const { line, ahead, band, faint } = palette();

  const past = row.past;
  const steps = past.length + 24;
  let low = Infinity;
  let high = -Infinity;
  for (const list of [past, row.ahead]) {
    for (const value of list) {
      if (value === null) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low > high) return;
  // A series that stands still is a line in the middle, not noise blown up.
  const least = Math.max(Math.abs(high), Math.abs(low), 1e-9) * 1e-3;
  if (high - low < least) [low, high] = [low - least, high + least];
  const pad = 3;
  const x = (i) => 1 + (i * (width - 2)) / Math.max(1, steps - 1);
  const y = (value) => height - pad - ((value - low) * (height - 2 * pad)) / (high - low);
  const inside = (value) => Math.min(height, Math.max(0, y(value)));
  const origin = past.length - 1 + row.origin;

  draw.strokeStyle = faint;
  draw.lineWidth = 1;
  draw.beginPath();
  draw.moveTo(Math.round(x(past.length - 1)) + 0.5, 0);
  draw.lineTo(Math.round(x(past.length - 1)) + 0.5, height);
  draw.stroke();

  if (row.low.length) {
    draw.fillStyle = band;
    draw.beginPath();
    row.high.forEach((value, i) => draw.lineTo(x(origin + 1 + i), inside(value)));
    for (let i = row.low.length - 1; i >= 0; i--) draw.lineTo(x(origin + 1 + i), inside(row.low[i]));
    draw.fill();
  }
  draw.lineJoin = "round";
  draw.lineWidth = 1.5;
  draw.strokeStyle = line;
  draw.beginPath();
  let broken = true;
  past.forEach((value, i) => {
    if (value === null) broken = true;
    else if (broken) (draw.moveTo(x(i), y(value)), (broken = false));
    else draw.lineTo(x(i), y(value));
  });
  draw.stroke();
  if (row.ahead.length) {
    draw.strokeStyle = ahead;
    draw.beginPath();
    row.ahead.forEach((value, i) => draw.lineTo(x(origin + 1 + i), inside(value)));
    draw.stroke();
  }
}
