#!/usr/bin/env python3
"""The network beside PyTorch and ONNX Runtime: the same cells and sizes, forecasts from whole windows, on one thread.

For each case the three take turns, a few rounds each, and the best run of each counts: a shared machine only ever takes time
away, and it takes it from all alike when they take turns. Prints a line of JSON a case, with the ratio of our steps a second
to those of the better peer, and at last the least ratio and the geometric mean.

needs: pip install torch onnx onnxruntime numpy (any of the two runtimes may be missing), and cargo
usage: cells.py [--cells lstm,gru,rnn] [--hidden 32,64,128] [--batch 1,64,512] [--steps 96] [--input 4] [--seconds 0.5]
"""
import argparse
import io
import json
import math
import os
import time
import warnings

import runs

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--cells", default="lstm,gru,rnn")
parser.add_argument("--hidden", default="32,64,128")
parser.add_argument("--batch", default="1,64,512")
parser.add_argument("--steps", type=int, default=96)
parser.add_argument("--input", type=int, default=4)
parser.add_argument("--seconds", type=float, default=0.5, help="of each, each round")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--bench", help="the built bench; without it cargo builds it")
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = "1"
warnings.filterwarnings("ignore")

import torch  # noqa: E402
from forecaster import Forecaster  # noqa: E402

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

torch.set_num_threads(1)
torch.manual_seed(0)


def onnx_session(model, windows):
    """The same model in ONNX Runtime, which fuses the loop over the steps."""
    file = io.BytesIO()
    torch.onnx.export(model, (windows,), file, input_names=["x"], output_names=["y"], dynamo=False)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(file.getvalue(), settings, providers=["CPUExecutionProvider"])


def best_time(run):
    """Seconds of the best of many runs."""
    run()
    best, started, count = math.inf, time.perf_counter(), 0
    while count < 3 or time.perf_counter() - started < options.seconds:
        begun = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begun)
        count += 1
    return best


def peers_of(cell, hidden, batch):
    """By name, what runs the case once."""
    model = Forecaster(cell, options.input, hidden).eval()
    windows = torch.randn(batch, options.steps, options.input)

    def in_torch():
        with torch.inference_mode():
            model(windows)

    peers = {"torch": in_torch}
    if onnxruntime:
        session, numbers = onnx_session(model, windows), windows.numpy()
        peers["onnxruntime"] = lambda: session.run(None, {"x": numbers})
    return peers


def ours(case):
    """Our steps a second, and all else that the bench says."""
    words = [word for name, value in case.items() for word in (f"--{name}", str(value))]
    return json.loads(runs.output([BENCH, *words, "--seconds", str(options.seconds)]))


BENCH = options.bench or runs.built("cell")
ratios = []
for cell in options.cells.split(","):
    for hidden in map(int, options.hidden.split(",")):
        for batch in map(int, options.batch.split(",")):
            case = {"cell": cell, "hidden": hidden, "batch": batch, "steps": options.steps, "input": options.input}
            peers = peers_of(cell, hidden, batch)
            row, times = {}, dict.fromkeys(peers, math.inf)
            for _ in range(options.rounds):
                row = max(row, ours(case), key=lambda found: found.get("steps_s", 0))
                for name, run in peers.items():
                    times[name] = min(times[name], best_time(run))
            for name, seconds in times.items():
                row[name] = round(batch * options.steps / seconds)
            row["ratio"] = round(row["steps_s"] / max(row[name] for name in times), 2)
            ratios.append(row["ratio"])
            print(json.dumps(row), flush=True)
mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
print(json.dumps({"cases": len(ratios), "least": min(ratios), "geometric_mean": round(mean, 2)}))
