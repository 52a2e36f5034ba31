"""The network of the benches in PyTorch."""
import torch

# Values of a forecast.
HORIZON = 24


class Forecaster(torch.nn.Module):
    """A layer of cells, and a head that reads their last state."""

    def __init__(self, cell, inputs, hidden):
        super().__init__()
        self.cell = getattr(torch.nn, cell.upper())(inputs, hidden, batch_first=True)
        self.head = torch.nn.Linear(hidden, HORIZON)

    def forward(self, windows):
        states, _ = self.cell(windows)
        return self.head(states[:, -1])
