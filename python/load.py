"""From TideCast to PyTorch: load a model's tensors, rebuild its inputs, and compare the forecasts.

    pip install torch safetensors polars
    python python/load.py MODEL READINGS FORECASTS

Loads MODEL into PyTorch, forecasts the windows of up to a thousand of the FORECASTS, which `tidecast backfill` wrote from
READINGS (both Parquet), and prints the largest difference. Times are microseconds.
"""

import json
import math
import sys

import polars as pl
import torch
from safetensors import safe_open

SERIES, TIME = "sensor", "time"  # columns of the readings; the target's name is in each forecast
MODULES = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
DAY = 86_400_000_000
# Period of each calendar input, and the epoch's offset within it: a Thursday, in weeks that start on Monday.
CALENDAR = {"hour-of-day": (DAY, 0), "day-of-week": (7 * DAY, 3 * DAY)}


def load(path):
    """The manifest of a model file, its recurrent module and its head."""
    with safe_open(path, "pt") as file:
        manifest = json.loads(file.metadata()["tidecast"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    check_supported(manifest)
    sizes = manifest["cells"]["network"]
    rnn = MODULES[sizes["cell"]](sizes["inputs"], sizes["hidden"], sizes["layers"], batch_first=True)
    rnn.load_state_dict({name: tensors[name] for name in rnn.state_dict()})
    head = torch.nn.Linear(sizes["hidden"], sizes["horizon"])
    head.load_state_dict({name: tensors[f"head.{name}"] for name in head.state_dict()})
    return manifest, rnn, head


@torch.no_grad()
def forecast(manifest, rnn, head, values, times):
    """The forecast [horizon] from the values [lookback] of a window (float64) and the starts of their steps."""
    center = values[-1] if manifest["scaling"] == "window-last" else values.mean()
    spread = values.std(correction=0)
    if spread <= 1e-10 * center.abs():
        return center.repeat(manifest["horizon"])  # a constant series is forecast to stay constant
    inputs = [(values - center) / spread]
    for period, epoch in map(CALENDAR.get, manifest["inputs"]["calendar"]):
        angle = 2 * math.pi * ((times + epoch) % period) / period
        inputs += [angle.sin(), angle.cos()]
    # [lookback, inputs of a step]; the network reads a segment of steps at a time
    inputs = torch.stack(inputs, 1).float().reshape(1, -1, rnn.input_size)
    return center + spread * head(rnn(inputs)[0][0, -1])


def check_supported(manifest):
    """Exits if the model has a part that this script does not rebuild in PyTorch."""
    cells, inputs = manifest["cells"] or {}, manifest["inputs"]
    network = cells.get("network", {})
    supported = {"network", "segment", "state", "blend_weights"}
    supported |= {"cell", "inputs", "hidden", "layers", "horizon", "future_covariates", "decoder"}
    others = [key for key, value in (cells | network).items() if value and key not in supported]
    for is_unsupported, reason in [
        (manifest["format"] != 1, f"its manifest has format {manifest['format']}, not 1"),
        (manifest["recurrence"], "it has a linear recurrence; train with [train] recurrence = false"),
        (network.get("cell") not in MODULES, f"its cell is {network.get('cell')}, not one of {', '.join(MODULES)}"),
        (network.get("decoder") != "direct", "its decoder is not direct"),
        (cells.get("state", "window") != "window", "its state is carried instead of computed from windows"),
        (others, f"its cells have {', '.join(others)}"),
        ([bucket["weight"] for bucket in cells.get("blend_weights", [])] != [1], "its blend weights are not 1"),
        (inputs["covariates"] or inputs["future_covariates"], "it has covariates"),
        (inputs["mask"], 'it has a mask of missing values; train with [grid] gap_fill = "hold"'),
        (not set(inputs["calendar"]) <= set(CALENDAR), f"its calendar is {inputs['calendar']}"),
        (manifest["scaling"] not in ("window-last", "window-standard"), f"its scaling is {manifest['scaling']}"),
    ]:
        if is_unsupported:
            sys.exit(f"this script does not support the model: {reason}")


def main(model, readings, forecasts):
    manifest, rnn, head = load(model)
    grid = manifest["step_config"]["grid"]
    # A reading belongs to the step that contains its time.
    time = pl.col(TIME).dt.epoch("us") - grid["offset"]
    start = time // grid["every"] * grid["every"] + grid["offset"]
    readings = pl.read_parquet(readings).sort(TIME).with_columns(start=start)
    by_series = {series: rows for (series,), rows in readings.group_by(SERIES, maintain_order=True)}
    forecasts = pl.read_parquet(forecasts).with_columns(pl.col("origin").dt.epoch("us"))
    count, max_difference = 0, 0.0
    for row in forecasts.sample(min(1000, len(forecasts)), seed=1).iter_rows(named=True):
        window = by_series[row["series"]].filter(pl.col("start") <= row["origin"]).tail(manifest["lookback"])
        values, times = window[row["target"]].to_torch().double(), window["start"].to_torch()
        if values.isnan().any() or (times.diff() != grid["every"]).any():
            continue  # a gap, which TideCast fills by [grid] gap_fill, or several readings in a step
        expected = torch.tensor(row["forecast"], dtype=torch.float64)
        found = forecast(manifest, rnn, head, values, times)
        # Forecasts are rounded to f32 by their size, and computed in f32 by the spread of their window.
        max_difference = max(max_difference, float(((found - expected).abs() / (values.std() + expected.abs())).max()))
        count += 1
    if count == 0:
        sys.exit("no forecast has a window without gaps")
    print(f"{count} forecasts, largest relative difference {max_difference:.1e}; the last one compared:")
    print(f"PyTorch   {[round(float(value), 4) for value in found[:6]]} ...")
    print(f"TideCast  {[round(float(value), 4) for value in expected[:6]]} ...")
    sys.exit(max_difference > 1e-5)


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 4 else sys.exit(__doc__)
