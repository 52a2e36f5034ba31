#!/usr/bin/env python3
"""Learning beside PyTorch on the same cores: the same cells, windows, loss, clipping and optimiser.

The two take turns, and the best minibatch of each counts; PyTorch's on all cores or on one, whichever is the better (where
others use the cores, its threads wait for each other). Prints a line of JSON a case, with the ratio of our windows a
second to PyTorch's, and at last the least ratio and the geometric mean.

needs: pip install torch, and cargo
usage: train.py [--cells lstm,gru] [--hidden 32,64,128] [--batch 256] [--steps 96] [--input 4] [--seconds 3] [--threads N]
"""
import argparse
import json
import math
import os
import time

import runs
from forecaster import HORIZON, Forecaster
import torch

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--cells", default="lstm,gru")
parser.add_argument("--hidden", default="32,64,128")
parser.add_argument("--batch", type=int, default=256)
parser.add_argument("--steps", type=int, default=96)
parser.add_argument("--input", type=int, default=4)
parser.add_argument("--seconds", type=float, default=3.0, help="of each, each round")
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of PyTorch")
parser.add_argument("--bench", help="the built bench; without it cargo builds it")
options = parser.parse_args()
torch.manual_seed(0)


def torch_windows(cell, hidden):
    """What learns from a minibatch, and returns the seconds it took."""
    model = Forecaster(cell, options.input, hidden)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    windows = torch.randn(options.batch, options.steps, options.input)
    targets = torch.randn(options.batch, HORIZON)

    def learn():
        begun = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(windows), targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return time.perf_counter() - begun

    return learn


BENCH = options.bench or runs.built("train")
ratios = []
for cell in options.cells.split(","):
    for hidden in map(int, options.hidden.split(",")):
        learn, best, row = torch_windows(cell, hidden), math.inf, {}
        case = {"cell": cell, "hidden": hidden, "batch": options.batch, "steps": options.steps, "input": options.input}
        words = [word for name, value in case.items() for word in (f"--{name}", str(value))]
        for _ in range(options.rounds):
            found = json.loads(runs.output([BENCH, *words, "--seconds", str(options.seconds)]))
            row = max(row, found, key=lambda found: found.get("windows_s", 0))
            for threads in sorted({1, options.threads}):
                torch.set_num_threads(threads)
                learn()
                started = time.perf_counter()
                while time.perf_counter() - started < options.seconds:
                    best = min(best, learn())
        row["torch"] = round(options.batch / best)
        row["ratio"] = round(row["windows_s"] / row["torch"], 2)
        ratios.append(row["ratio"])
        print(json.dumps(row), flush=True)
mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
print(json.dumps({"cases": len(ratios), "least": min(ratios), "geometric_mean": round(mean, 2)}))
