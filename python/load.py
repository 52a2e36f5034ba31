"""From TideCast to PyTorch: a model's tensors, its inputs, its numbers.

    pip install torch safetensors polars
    python python/load.py MODEL READINGS FORECASTS

Loads MODEL into PyTorch, makes the windows of a thousand of the FORECASTS that `tidecast backfill` wrote from READINGS,
both Parquet, and prints how far apart the two are. Times are microseconds.
"""

import json
import math
import sys

import polars as pl
import torch
from safetensors import safe_open

SERIES, TIME = "sensor", "time"  # columns of the readings; what is forecast stands beside each forecast
MODULES = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
DAY = 86_400_000_000
# What a calendar input turns with, and how far into it the epoch was: a Thursday, and weeks start on Monday.
CALENDAR = {"hour-of-day": (DAY, 0), "day-of-week": (7 * DAY, 3 * DAY)}


def load(path):
    """The description of a model file, the recurrent module and the head."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["tidecast"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    refuse(about)
    sizes = about["cells"]["network"]
    rnn = MODULES[sizes["cell"]](sizes["inputs"], sizes["hidden"], sizes["layers"], batch_first=True)
    rnn.load_state_dict({name: tensors[name] for name in rnn.state_dict()})
    head = torch.nn.Linear(sizes["hidden"], sizes["horizon"])
    head.load_state_dict({name: tensors[f"head.{name}"] for name in head.state_dict()})
    return about, rnn, head


@torch.no_grad()
def forecast(about, rnn, head, values, times):
    """The forecast [horizon] from the readings [lookback] of a window (float64) and the starts of their steps."""
    center = values[-1] if about["scaling"] == "window-last" else values.mean()
    spread = values.std(correction=0)
    if spread <= 1e-10 * center.abs():
        return center.repeat(about["horizon"])  # what does not vary is forecast to stay as it is
    inputs = [(values - center) / spread]
    for period, epoch in map(CALENDAR.get, about["inputs"]["calendar"]):
        angle = 2 * math.pi * ((times + epoch) % period) / period
        inputs += [angle.sin(), angle.cos()]
    # [lookback, inputs of a step], of which a segment of steps goes in at a time
    inputs = torch.stack(inputs, 1).float().reshape(1, -1, rnn.input_size)
    return center + spread * head(rnn(inputs)[0][0, -1])


def refuse(about):
    """Ends the program if there is more to a model than this script says in PyTorch."""
    cells, inputs = about["cells"] or {}, about["inputs"]
    network = cells.get("network", {})
    known = {"network", "segment", "state", "shares"}
    known |= {"cell", "inputs", "hidden", "layers", "horizon", "known", "decoder"}
    unknown = [key for key, value in (cells | network).items() if value and key not in known]
    for holds, why in [
        (about["format"] not in (2, 3), f"its description has format {about['format']}, not 2 or 3"),
        (about["memory"], "it has a memory, which is no module of PyTorch's; [train] memory = false is without"),
        (network.get("cell") not in MODULES, f"its cell is {network.get('cell')}, not one of {', '.join(MODULES)}"),
        (network.get("decoder") != "direct", "its decoder is not direct"),
        (cells.get("state", "window") != "window", "its state is carried and not read from windows"),
        (unknown, f"its cells have {', '.join(unknown)}"),
        ([part["share"] for part in cells.get("shares", [])] != [1], "its cells are not believed all they say"),
        (inputs["covariates"] or inputs["known_ahead"], "it reads covariates"),
        (inputs["mask"], 'it reads which readings are missing; [grid] gaps = "hold" is without'),
        (not set(inputs["calendar"]) <= set(CALENDAR), f"its calendar is {inputs['calendar']}"),
        (about["scaling"] not in ("window-last", "window-standard"), f"its scaling is {about['scaling']}"),
    ]:
        if holds:
            sys.exit(f"this script does not read such a model: {why}")


def main(model, readings, forecasts):
    about, rnn, head = load(model)
    grid = about["rules"]["grid"]
    # A reading belongs to the step that its time lies in.
    time = pl.col(TIME).dt.epoch("us") - grid["offset"]
    start = time // grid["every"] * grid["every"] + grid["offset"]
    readings = pl.read_parquet(readings).sort(TIME).with_columns(start=start)
    by_series = {series: own for (series,), own in readings.group_by(SERIES, maintain_order=True)}
    said = pl.read_parquet(forecasts).with_columns(pl.col("origin").dt.epoch("us"))
    count, farthest = 0, 0.0
    for row in said.sample(min(1000, len(said)), seed=1).iter_rows(named=True):
        window = by_series[row["series"]].filter(pl.col("start") <= row["origin"]).tail(about["lookback"])
        values, times = window[row["target"]].to_torch().double(), window["start"].to_torch()
        if values.isnan().any() or (times.diff() != grid["every"]).any():
            continue  # a gap, which TideCast fills as [grid] says, or several readings in a step
        theirs = torch.tensor(row["forecast"], dtype=torch.float64)
        mine = forecast(about, rnn, head, values, times)
        # A forecast is an f32: it is rounded by the size of its numbers, and calculated by the spread of its window.
        farthest = max(farthest, float(((mine - theirs).abs() / (values.std() + theirs.abs())).max()))
        count += 1
    if count == 0:
        sys.exit("no forecast has a window without gaps")
    print(f"{count} forecasts, at most {farthest:.1e} of their scale from those of TideCast; the last one looked at:")
    print(f"PyTorch   {[round(float(value), 4) for value in mine[:6]]} ...")
    print(f"TideCast  {[round(float(value), 4) for value in theirs[:6]]} ...")
    sys.exit(farthest > 1e-5)


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 4 else sys.exit(__doc__)
