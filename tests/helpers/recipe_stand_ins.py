"""Small networks with the interface and the kind of layers of published ones, which the recipes import."""

from types import ModuleType

import torch
from torch import nn
from torch.nn import functional


class PangolinBlock(nn.Module):
    """Twice: normalise, switch off, convolve with holes; and a way around."""

    def __init__(self, n_channels, kernel, dilation):
        super().__init__()
        pad = dilation * (kernel - 1) // 2
        self.bn1, self.bn2 = nn.BatchNorm1d(n_channels), nn.BatchNorm1d(n_channels)
        self.conv1 = nn.Conv1d(n_channels, n_channels, kernel, dilation=dilation, padding=pad)
        self.conv2 = nn.Conv1d(n_channels, n_channels, kernel, dilation=dilation, padding=pad)

    def forward(self, x):
        return x + self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())


class Pangolin(nn.Module):
    """Classes of two, and usages, of four tissues, as probabilities in the window's middle."""

    def __init__(self, n_channels, kernels, dilations):
        super().__init__()
        self.conv1, self.skip = nn.Conv1d(4, n_channels, 1), nn.Conv1d(n_channels, n_channels, 1)
        self.resblocks = nn.ModuleList(map(PangolinBlock, [n_channels] * 16, kernels, dilations))
        self.convs = nn.ModuleList(nn.Conv1d(n_channels, n_channels, 1) for _ in range(4))
        for i in range(8):
            setattr(self, f"conv_last{i + 1}", nn.Conv1d(n_channels, 2 - i % 2, 1))

    def forward(self, x):
        x = self.conv1(x)
        total = self.skip(x)
        for i, block in enumerate(self.resblocks):
            x = block(x)
            total = total + self.convs[i // 4](x) if i % 4 == 3 else total
        middle = total[:, :, 5000:-5000]
        outputs = []
        for i in range(8):
            here = getattr(self, f"conv_last{i + 1}")(middle)
            outputs.append(here.sigmoid() if i % 2 else here.softmax(1))
        return torch.cat(outputs, 1)


class FourierConvolution(nn.Module):
    """A zero-padded convolution by Fourier's way."""

    def __init__(self, n_in, n_out, kernel):
        super().__init__()
        like = nn.Conv1d(n_in, n_out, kernel)
        self.weight, self.bias, self.pad = like.weight, like.bias, kernel // 2

    def forward(self, x):
        n = x.shape[2] + 2 * self.pad
        padded = torch.fft.rfft(functional.pad(x, (self.pad, self.pad)))
        products = torch.einsum("nif,oif->nof", padded, torch.fft.rfft(self.weight, n).conj())
        return torch.fft.irfft(products, n)[:, :, : x.shape[2]] + self.bias[:, None]


class Puffin(nn.Module):
    """Motifs on both strands, and their effects at a distance, as ten tracks."""

    def __init__(self):
        super().__init__()
        self.conv, self.conv_inr = nn.Conv1d(4, 2, 51, padding=25), nn.Conv1d(4, 2, 15, padding=7)
        self.deconv, self.deconv_sim = FourierConvolution(4, 10, 601), FourierConvolution(4, 10, 601)
        self.deconv_inr = nn.ConvTranspose1d(4, 10, 15, padding=7)

    def forward(self, x):
        both = [
            functional.softplus(torch.cat([conv(x), conv(x.flip(1, 2)).flip(2)], 1))
            for conv in (self.conv, self.conv_inr)
        ]
        distant = self.deconv(both[0]) + self.deconv_sim(both[0]) + self.deconv_inr(both[1])
        return functional.softplus(distant)


class Spline(nn.Module):
    """A table of the first call, which is no buffer."""

    table = None

    def forward(self, x):
        if self.table is None:
            self.table = torch.linspace(0, 1, x.shape[2] * 3, device=x.device).view(x.shape[2], 3)
        return x @ self.table


class Sei(nn.Module):
    """Padded convolutions, a spline over all places, and probabilities."""

    def __init__(self, sequence_length=4096, n_genomic_features=5):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv1d(4, 6, 9, padding=4), nn.ReLU(inplace=True), nn.MaxPool1d(16))
        self.spline_tr = nn.Sequential(nn.Dropout(0.5), Spline())
        layers = [nn.Linear(18, 8), nn.ReLU(inplace=True), nn.Linear(8, n_genomic_features), nn.Sigmoid()]
        self.classifier = nn.Sequential(*layers)

    def forward(self, x):
        return self.classifier(self.spline_tr(self.conv1(x)).flatten(1))


class Parm(nn.Module):
    """Attention over pairs of places, the maximum over all, and one output that is never negative."""

    def __init__(self):
        super().__init__()
        self.stem, self.attention = nn.Conv1d(4, 6, 7, padding="same"), nn.Conv1d(6, 6, 1, bias=False)
        self.linear1, self.type_loss = nn.Linear(6, 1), "poisson"

    def forward(self, x):
        x = self.stem(x)
        pairs = x.unflatten(2, (-1, 2))
        weights = self.attention(x).unflatten(2, (-1, 2)).softmax(3)
        x = self.linear1((pairs * weights).sum(3).amax(2))
        return x.relu() if self.type_loss == "poisson" else x


def load_PARM(weight_file):  # noqa: N802  # as it is called there
    net = Parm()
    net.load_state_dict(torch.load(weight_file, weights_only=True))
    return net.eval()


def module_of(name, **contents):
    """Return a module of these names."""
    made = ModuleType(name)
    vars(made).update(contents)
    return made


def stand_ins():
    """Return the modules that recipes import and that no registry has, by name."""
    dilations, kernels = [1] * 4 + [4] * 4 + [10] * 4 + [25] * 4, [11] * 8 + [21] * 4 + [41] * 4
    return {
        "pangolin": module_of("pangolin"),
        "pangolin.model": module_of("pangolin.model", L=2, W=kernels, AR=dilations, Pangolin=Pangolin),
        "puffin": module_of("puffin", Puffin=Puffin),
        "sei": module_of("sei", Sei=Sei),
        "PARM": module_of("PARM"),
        "PARM.PARM_utils_load_model": module_of("PARM.PARM_utils_load_model", load_PARM=load_PARM),
    }
