"""From PyTorch to TideCast: a network that is trained here and served there.

    pip install torch safetensors polars
    python python/train.py PIPELINE READINGS WEIGHTS [EPOCHS]
    tidecast adopt PIPELINE --weights WEIGHTS --data READINGS --out MODEL

Trains a network of the sizes in PIPELINE's [train] on READINGS (Parquet) and writes its tensors to WEIGHTS.
"""

import sys
import tomllib

import polars as pl
import torch
from safetensors.torch import save_file

pipeline, readings, weights, epochs = [*sys.argv[1:], "3"][:4] if len(sys.argv) > 3 else sys.exit(__doc__)
with open(pipeline, "rb") as file:
    pipeline = tomllib.load(file)
columns, recipe = pipeline["columns"], pipeline["train"]
lookback, horizon, hidden = recipe["lookback"], recipe["horizon"], recipe["hidden"]
for key, value in {"memory": False, "segment": 1, "calendar": [], "scaling": "window-standard"}.items():
    if recipe.get(key) != value:
        sys.exit(f"this script makes its windows for {key} = {value!r} in [train]")

# Only the training part, by default 0.7 of all: `adopt` takes the intervals and the scores from what comes after it.
readings = pl.read_parquet(readings).sort(columns["time"])
time = pl.col(columns["time"])
readings = readings.filter(time < readings[columns["time"]][int(recipe.get("train_part", 0.7) * len(readings))])

# All windows [windows, lookback + horizon] of consecutive steps, and of each series.
windows = []
for _, own in readings.group_by(columns["series"], maintain_order=True):
    values, times = own[columns["targets"][0]].to_torch().double(), own[columns["time"]].dt.epoch("us").to_torch()
    if len(own) >= lookback + horizon:
        steady = times.diff() == times.diff().median()
        windows.append(values.unfold(0, lookback + horizon, 1)[steady.unfold(0, lookback + horizon - 1, 1).all(1)])
windows = torch.cat(windows)

# scaling = "window-standard": y = (x - mean) / standard deviation, both those of the lookback.
center = windows[:, :lookback].mean(1, keepdim=True)
spread = windows[:, :lookback].std(1, correction=0, keepdim=True)
windows = ((windows - center) / spread)[spread[:, 0] > 1e-10 * center[:, 0].abs()].float()

torch.manual_seed(1)
rnn = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[recipe["cell"]]
rnn = rnn(1, hidden, recipe["layers"], batch_first=True)
head = torch.nn.Linear(hidden, horizon)  # reads the hidden values after the last step of the lookback
optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=0.002)
for epoch in range(int(epochs)):
    for batch in torch.randperm(len(windows)).split(256):
        past, future = windows[batch, :lookback, None], windows[batch, lookback:]
        loss = (head(rnn(past)[0][:, -1]) - future).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss of the last batch {loss.item():.4f}")

# The names that the module gives its tensors, and `head.weight` and `head.bias`.
save_file(rnn.state_dict() | {f"head.{name}": tensor for name, tensor in head.state_dict().items()}, weights)
