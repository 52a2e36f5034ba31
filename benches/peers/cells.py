#!/usr/bin/env python3
"""Compares forward passes with PyTorch and ONNX Runtime: the same cells and sizes, whole windows, one thread.

In each case the three runtimes take turns for a few rounds, and the fastest run of each counts: other load on the machine only
slows runs down, and it affects all of them when they take turns. Prints a line of JSON per case with the ratio of our steps per
second to those of the faster peer, then the least ratio and the geometric mean.

requires: cargo, and pip install torch onnx onnxruntime numpy (onnxruntime is optional)
usage: cells.py [--cells lstm,gru,rnn] [--hidden 32,64,128] [--batch 1,64,512] [--steps 96] [--input 4] [--seconds 0.5]
"""
import argparse
import io
import json
import math
import os
import time
import warnings

import bench

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--cells", default="lstm,gru,rnn")
parser.add_argument("--hidden", default="32,64,128")
parser.add_argument("--batch", default="1,64,512")
parser.add_argument("--steps", type=int, default=96)
parser.add_argument("--input", type=int, default=4)
parser.add_argument("--seconds", type=float, default=0.5, help="per runtime and round")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--bench", help="executable of the bench (default: built by cargo)")
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
    """The model in ONNX Runtime, which fuses the loop over the steps."""
    file = io.BytesIO()
    torch.onnx.export(model, (windows,), file, input_names=["x"], output_names=["y"], dynamo=False)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(file.getvalue(), settings, providers=["CPUExecutionProvider"])


def best_time(run):
    """Seconds of the fastest of many runs."""
    run()
    best, started, count = math.inf, time.perf_counter(), 0
    while count < 3 or time.perf_counter() - started < options.seconds:
        run_started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - run_started)
        count += 1
    return best


def peers_of(cell, hidden, batch):
    """Functions that run the case once, by runtime."""
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


executable = options.bench or bench.build("cell")
ratios = []
for cell in options.cells.split(","):
    for hidden in map(int, options.hidden.split(",")):
        for batch in map(int, options.batch.split(",")):
            case = {"cell": cell, "hidden": hidden, "batch": batch, "steps": options.steps, "input": options.input}
            peers = peers_of(cell, hidden, batch)
            row, times = {}, dict.fromkeys(peers, math.inf)
            for _ in range(options.rounds):
                row = max(row, bench.run(executable, case, options.seconds), key=lambda r: r.get("steps_per_second", 0))
                for name, run in peers.items():
                    times[name] = min(times[name], best_time(run))
            for name, seconds in times.items():
                row[name] = round(batch * options.steps / seconds)
            row["ratio"] = round(row["steps_per_second"] / max(row[name] for name in times), 2)
            ratios.append(row["ratio"])
            print(json.dumps(row), flush=True)
mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
print(json.dumps({"cases": len(ratios), "min": min(ratios), "geometric_mean": round(mean, 2)}))
