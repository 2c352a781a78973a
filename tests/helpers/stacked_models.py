"""Models that are a head on a stack of layers, of many kinds."""

import torch
from torch import nn
from toy_models import N_OUTPUTS

INPUT_BP = 60
TRUNKS = {
    "one layer": lambda: [nn.Conv1d(4, 5, 8)],
    "like Beluga's": lambda: [
        nn.Conv1d(4, 5, 4),
        nn.ReLU(),
        nn.Conv1d(5, 5, 4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.MaxPool1d(4),
        nn.Conv1d(5, 6, 3),
        nn.ReLU(inplace=True),
    ],
    "strides that leave a rest": lambda: [
        nn.Conv1d(4, 5, 7, stride=3),
        nn.GELU(),
        nn.AvgPool1d(5),
        nn.Tanh(),
    ],
    "as wide as its input": lambda: [nn.Conv1d(4, 3, 30), nn.ELU(), nn.Conv1d(3, 3, 25, bias=False)],
    "pooled first": lambda: [nn.MaxPool1d(2), nn.Conv1d(4, 4, 5, stride=2), nn.Sequential(nn.SiLU())],
}


class WithTrunk(nn.Module):
    """A model that is a head on a trunk, which counts the inputs that it reads whole."""

    input_bp, alphabet, n_outputs = INPUT_BP, "AGCT", N_OUTPUTS

    def __init__(self, trunk, head=None):
        super().__init__()
        self.trunk = nn.Sequential(*trunk)
        n_values = self.trunk(torch.zeros(1, 4, INPUT_BP)).numel()
        self.head = head or nn.Sequential(
            nn.Dropout(0.5), nn.Flatten(), nn.Linear(n_values, 9), nn.Tanh(), nn.Linear(9, N_OUTPUTS)
        )
        self.n_read = 0
        generator = torch.Generator().manual_seed(4)
        for parameter in self.parameters():
            scale = parameter[0].numel() ** 0.5
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / scale

    def forward(self, X):
        self.n_read += len(X)
        return self.head(self.trunk(X))
