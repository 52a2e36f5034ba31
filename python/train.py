"""From PyTorch to TideCast: train a network here and serve it there.

    pip install torch safetensors polars
    python python/train.py PIPELINE READINGS WEIGHTS [EPOCHS]
    tidecast import-torch PIPELINE --weights WEIGHTS --data READINGS --out MODEL

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
columns, settings = pipeline["columns"], pipeline["train"]
lookback, horizon, hidden = settings["lookback"], settings["horizon"], settings["hidden"]
for key, value in {"recurrence": False, "segment": 1, "calendar": [], "scaling": "window-standard"}.items():
    if settings.get(key) != value:
        sys.exit(f"this script supports only {key} = {value!r} in [train]")

# The training split, by default 0.7 of the time span; `import-torch` computes intervals and scores from the rest.
readings = pl.read_parquet(readings).sort(columns["time"])
time = pl.col(columns["time"])
end = readings[columns["time"]][int(settings.get("train_fraction", 0.7) * len(readings))]
readings = readings.filter(time < end)

# All windows [windows, lookback + horizon] of consecutive steps, of each series.
windows = []
for _, rows in readings.group_by(columns["series"], maintain_order=True):
    values, times = rows[columns["targets"][0]].to_torch().double(), rows[columns["time"]].dt.epoch("us").to_torch()
    if len(rows) >= lookback + horizon:
        regular = times.diff() == times.diff().median()
        windows.append(values.unfold(0, lookback + horizon, 1)[regular.unfold(0, lookback + horizon - 1, 1).all(1)])
windows = torch.cat(windows)

# scaling = "window-standard": y = (x - mean) / standard deviation, both of the lookback.
center = windows[:, :lookback].mean(1, keepdim=True)
spread = windows[:, :lookback].std(1, correction=0, keepdim=True)
windows = ((windows - center) / spread)[spread[:, 0] > 1e-10 * center[:, 0].abs()].float()

torch.manual_seed(1)
rnn = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[settings["cell"]]
rnn = rnn(1, hidden, settings["layers"], batch_first=True)
head = torch.nn.Linear(hidden, horizon)  # reads the hidden state after the last step of the lookback
optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=0.002)
for epoch in range(int(epochs)):
    for batch in torch.randperm(len(windows)).split(256):
        past, future = windows[batch, :lookback, None], windows[batch, lookback:]
        loss = (head(rnn(past)[0][:, -1]) - future).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss of the last batch {loss.item():.4f}")

# The module's tensor names, and `head.weight` and `head.bias`.
save_file(rnn.state_dict() | {f"head.{name}": tensor for name, tensor in head.state_dict().items()}, weights)
