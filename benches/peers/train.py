#!/usr/bin/env python3
"""Compares training with PyTorch on the same cores: the same cells, windows, loss, clipping and optimizer.

Both take turns, and the fastest minibatch of each counts; PyTorch runs on all cores and on one, since its threads wait for each
other where other processes use the cores. Prints a line of JSON per case with the ratio of our windows per second to PyTorch's,
then the least ratio and the geometric mean.

requires: cargo, and pip install torch
usage: train.py [--cells lstm,gru] [--hidden 32,64,128] [--batch 256] [--steps 96] [--input 4] [--seconds 3] [--threads N]
"""
import argparse
import json
import math
import os
import time

import bench
from forecaster import HORIZON, Forecaster
import torch

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--cells", default="lstm,gru")
parser.add_argument("--hidden", default="32,64,128")
parser.add_argument("--batch", type=int, default=256)
parser.add_argument("--steps", type=int, default=96)
parser.add_argument("--input", type=int, default=4)
parser.add_argument("--seconds", type=float, default=3.0, help="per framework and round")
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of PyTorch")
parser.add_argument("--bench", help="executable of the bench (default: built by cargo)")
options = parser.parse_args()
torch.manual_seed(0)


def torch_trainer(cell, hidden):
    """A function that trains on a minibatch and returns the seconds it took."""
    model = Forecaster(cell, options.input, hidden)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    windows = torch.randn(options.batch, options.steps, options.input)
    targets = torch.randn(options.batch, HORIZON)

    def train():
        started = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(windows), targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return time.perf_counter() - started

    return train


executable = options.bench or bench.build("train")
ratios = []
for cell in options.cells.split(","):
    for hidden in map(int, options.hidden.split(",")):
        train, best, row = torch_trainer(cell, hidden), math.inf, {}
        case = {"cell": cell, "hidden": hidden, "batch": options.batch, "steps": options.steps, "input": options.input}
        for _ in range(options.rounds):
            result = bench.run(executable, case, options.seconds)
            row = max(row, result, key=lambda r: r.get("windows_per_second", 0))
            for threads in sorted({1, options.threads}):
                torch.set_num_threads(threads)
                train()
                started = time.perf_counter()
                while time.perf_counter() - started < options.seconds:
                    best = min(best, train())
        row["torch"] = round(options.batch / best)
        row["ratio"] = round(row["windows_per_second"] / row["torch"], 2)
        ratios.append(row["ratio"])
        print(json.dumps(row), flush=True)
mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
print(json.dumps({"cases": len(ratios), "min": min(ratios), "geometric_mean": round(mean, 2)}))
