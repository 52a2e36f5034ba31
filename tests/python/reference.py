"""Forecasts by numpy alone, in f64: what the tests hold the program's numbers against. Shares nothing with the program.

A request comes as JSON on standard input; {"make": PATH, ...} writes random weights as PyTorch's modules name them,
{"model": PATH, ...} or {"weights": PATH, "recipe": {...}, ...} prints the forecast of every whole window of the
readings.
"""

import json
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

DAY = 86_400_000_000


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# One step of each cell as PyTorch documents it (torch.nn.RNN, LSTM, GRU): gx and gh are what the weights make of the
# input and of the hidden values, biases included.
def rnn(gx, gh, h, c):
    return np.tanh(gx + gh), c


def lstm(gx, gh, h, c):
    i, f, g, o = np.split(gx + gh, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(gx, gh, h, c):
    (xr, xz, xn), (hr, hz, hn) = np.split(gx, 3), np.split(gh, 3)
    z = sigmoid(xz + hz)
    return (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h, c


CELLS = {"rnn": (rnn, 1), "lstm": (lstm, 4), "gru": (gru, 3)}


def network(cell, weights, steps):
    step, _ = CELLS[cell]
    layer = 0
    while f"weight_ih_l{layer}" in weights:
        wx, wh, bx, bh = (weights[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        h, c = np.zeros(wh.shape[1]), np.zeros(wh.shape[1])
        out = []
        for x in steps:
            h, c = step(wx @ x + bx, wh @ h + bh, h, c)
            out.append(h)
        steps, layer = out, layer + 1
    return weights["head.weight"] @ steps[-1] + weights["head.bias"]


def window(recipe, weights, values, times):
    center = values[-1] if recipe["scaling"] == "window-last" else np.mean(values)
    spread = np.std(values)
    rows = []
    for value, time in zip(values, times):
        row = [(value - center) / spread]
        for name in recipe["calendar"]:
            # The fourth of January 1970 was a Sunday: a week began after it.
            part = time % DAY / DAY if name == "hour-of-day" else (time - 4 * DAY) % (7 * DAY) / (7 * DAY)
            row += [np.sin(2 * np.pi * part), np.cos(2 * np.pi * part)]
        rows.append(row)
    said = network(recipe["cell"], weights, np.reshape(rows, (len(values) // recipe["segment"], -1)))
    return center + spread * recipe["share"] * said, spread


def from_description(about):
    part = about["cells"]
    assert about["memory"] is None and len(part["shares"]) == 1
    assert part["network"]["decoder"] == "direct" and not about["inputs"]["covariates"]
    return {
        "cell": part["network"]["cell"],
        "segment": part["segment"],
        "share": part["shares"][0]["share"],
        "lookback": about["lookback"],
        "scaling": about["scaling"],
        "calendar": about["inputs"]["calendar"],
    }


def make(path, cell, inputs, hidden, layers, horizon, prefix):
    random = np.random.default_rng(1)
    tensor = lambda *shape: random.uniform(-0.6, 0.6, shape).astype(np.float32)
    rows = CELLS[cell][1] * hidden
    tensors = {"head.weight": tensor(horizon, hidden), "head.bias": tensor(horizon)}
    for layer in range(layers):
        tensors[f"{prefix}weight_ih_l{layer}"] = tensor(rows, hidden if layer else inputs)
        tensors[f"{prefix}weight_hh_l{layer}"] = tensor(rows, hidden)
        tensors[f"{prefix}bias_ih_l{layer}"] = tensor(rows)
        tensors[f"{prefix}bias_hh_l{layer}"] = tensor(rows)
    save_file(tensors, path, metadata={"format": "pt"})


def main(request):
    if "make" in request:
        return make(request.pop("make"), **request)
    with safe_open(request.get("model") or request["weights"], "np") as file:
        recipe = request.get("recipe") or from_description(json.loads(file.metadata()["tidecast"]))
        weights = {name.split(".")[-1] if "_l" in name else name: file.get_tensor(name) for name in file.keys()}
    weights = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    lookback = recipe["lookback"]
    for series, rows in sorted(request["readings"].items()):
        times, values = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
        for end in range(lookback, len(rows) + 1):
            part = slice(end - lookback, end)
            forecast, spread = window(recipe, weights, values[part], times[part])
            print(json.dumps([series, int(times[end - 1]), float(spread), forecast.tolist()]))


main(json.load(sys.stdin))
