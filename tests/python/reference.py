"""Reference forecasts in numpy and f64, for comparison with the program. Shares no code with it.

A request is JSON on standard input:

    {"make_weights": PATH, ...}                    writes random weights with the names of PyTorch's modules
    {"model": PATH, "readings": ...}               prints the forecast of every complete window of the readings
    {"weights": PATH, "settings": ..., "readings": ...}    likewise
"""

import json
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

DAY = 86_400_000_000


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# One step of each cell as in torch.nn.RNN, LSTM and GRU. gx and gh are the products of the weights with the input and
# with the hidden state, biases included.
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


# The step of each cell, and its gates.
CELLS = {"rnn": (rnn, 1), "lstm": (lstm, 4), "gru": (gru, 3)}


def network(cell, weights, inputs):
    """The head's output after the last of the inputs [step, input]."""
    step, _ = CELLS[cell]
    layer = 0
    while f"weight_ih_l{layer}" in weights:
        wx, wh, bx, bh = (weights[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        h, c = np.zeros(wh.shape[1]), np.zeros(wh.shape[1])
        outputs = []
        for x in inputs:
            h, c = step(wx @ x + bx, wh @ h + bh, h, c)
            outputs.append(h)
        inputs, layer = outputs, layer + 1
    return weights["head.weight"] @ inputs[-1] + weights["head.bias"]


def forecast(settings, weights, values, times):
    """The forecast of one window, and the spread it was scaled by."""
    center = values[-1] if settings["scaling"] == "window-last" else np.mean(values)
    spread = np.std(values)
    rows = []
    for value, time in zip(values, times):
        row = [(value - center) / spread]
        for name in settings["calendar"]:
            # Weeks start on Monday; the fourth of January 1970 was a Sunday.
            phase = time % DAY / DAY if name == "hour-of-day" else (time - 4 * DAY) % (7 * DAY) / (7 * DAY)
            row += [np.sin(2 * np.pi * phase), np.cos(2 * np.pi * phase)]
        rows.append(row)
    output = network(settings["cell"], weights, np.reshape(rows, (len(values) // settings["segment"], -1)))
    return center + spread * settings["blend_weight"] * output, spread


def settings_of(manifest):
    cells = manifest["cells"]
    assert manifest["recurrence"] is None and len(cells["blend_weights"]) == 1
    assert cells["network"]["decoder"] == "direct" and not manifest["inputs"]["covariates"]
    return {
        "cell": cells["network"]["cell"],
        "segment": cells["segment"],
        "blend_weight": cells["blend_weights"][0]["weight"],
        "lookback": manifest["lookback"],
        "scaling": manifest["scaling"],
        "calendar": manifest["inputs"]["calendar"],
    }


def make_weights(path, cell, inputs, hidden, layers, horizon, prefix):
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
    if "make_weights" in request:
        return make_weights(request.pop("make_weights"), **request)
    with safe_open(request.get("model") or request["weights"], "np") as file:
        settings = request.get("settings") or settings_of(json.loads(file.metadata()["tidecast"]))
        weights = {name.split(".")[-1] if "_l" in name else name: file.get_tensor(name) for name in file.keys()}
    weights = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    lookback = settings["lookback"]
    for series, rows in sorted(request["readings"].items()):
        times, values = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
        for end in range(lookback, len(rows) + 1):
            window = slice(end - lookback, end)
            values_ahead, spread = forecast(settings, weights, values[window], times[window])
            print(json.dumps([series, int(times[end - 1]), float(spread), values_ahead.tolist()]))


main(json.load(sys.stdin))
