"""Small models to score variants with, by name for Ray's actors, and how tables are read."""

import gzip
from pathlib import Path

import torch


class StackModel(torch.nn.Module):
    """A convolutional trunk of two poolings with a head, as Beluga is, in small."""

    input_bp, alphabet, n_outputs = 40, "AGCT", 3

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.trunk = torch.nn.Sequential(
                torch.nn.Conv1d(4, 6, 3),
                torch.nn.ReLU(),
                torch.nn.MaxPool1d(2),
                torch.nn.Conv1d(6, 5, 3),
                torch.nn.ReLU(),
                torch.nn.AvgPool1d(3),
            )
            self.head = torch.nn.Sequential(
                torch.nn.Flatten(), torch.nn.Linear(25, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
            )

    def forward(self, X):
        return self.head(self.trunk(X))


class PlainModel(StackModel):
    """The same outputs, without parts that anything could be shared by."""

    def __init__(self, seed=0):
        super().__init__(seed)
        self.body = torch.nn.Sequential(self.trunk, self.head)
        del self.trunk, self.head

    def forward(self, X):
        return self.body(X)


def stack_model(weights=None):
    """Return a model, for ``effect_models:stack_model``."""
    return StackModel()


def table_of(path):
    """Return the rows of a table as dicts."""
    header, *lines = gzip.decompress(Path(path).read_bytes()).decode().splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
