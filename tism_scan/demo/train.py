"""Train the demo model: ``python -m tism_scan.demo.train OUT.pth``.

The task is Beluga's in small: a window is positive for a factor if its motif is in the central 300 bp.
Copies outside it are decoys. The first steps show many copies of a motif per window and the last ones one
or two: short motifs are not found otherwise. The script is seeded; it takes minutes on a CPU.
"""

import logging
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tism_scan.demo.synthesis import MOTIFS, OUTPUT_NAMES, plant, random_background
from tism_scan.genome.alphabet import Codes, one_hot
from tism_scan.models.beluga import INPUT_BP, Beluga

CHANNELS = (32, 32, 48, 48, 64, 64)
N_HIDDEN = 64
N_STEPS = 3000
BATCH = 64
SEED = 20240

# A motif that touches the central 256 bp, a core at the default stride, is wholly within this region.
CENTER = (850, 1150)
SLOT_BP = 25

log = logging.getLogger(__name__)


def _slots(rng: np.random.Generator, start: int, end: int) -> list[int]:
    """Return starts of slots that do not overlap, in random order and phase."""
    first = start + int(rng.integers(SLOT_BP))
    slots = np.arange(first, end - SLOT_BP + 1, SLOT_BP)
    return [int(slot) for slot in rng.permutation(slots)]


def training_window(rng: np.random.Generator, n_copies: float) -> tuple[Codes, np.ndarray]:
    """Return one window's codes, uint8 (2000,), and its labels, float32 (n_outputs,)."""
    codes = random_background(rng, INPUT_BP, gc_content=float(rng.uniform(0.35, 0.6)))
    labels = np.zeros(len(OUTPUT_NAMES), dtype=np.float32)
    inside = _slots(rng, *CENTER)
    for i in rng.permutation(len(MOTIFS))[: rng.integers(0, 4)]:
        copies = max(1, round(n_copies * rng.uniform(0.6, 1.4)))
        chosen, inside = inside[:copies], inside[copies:]
        if chosen:
            plant(codes, [MOTIFS[i]] * len(chosen), chosen, rng)
            labels[i] = labels[-1] = 1
    outside = _slots(rng, 0, CENTER[0]) + _slots(rng, CENTER[1], INPUT_BP)
    decoys = [MOTIFS[i] for i in rng.integers(len(MOTIFS), size=rng.integers(0, 10))]
    plant(codes, decoys, [int(s) for s in rng.permutation(outside)[: len(decoys)]], rng)
    return codes, labels


def training_batch(rng: np.random.Generator, n_copies: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return X, float32 (N, 4, 2000), and labels, float32 (N, n_outputs)."""
    codes, labels = zip(*(training_window(rng, n_copies) for _ in range(BATCH)), strict=True)
    X = one_hot(np.stack(codes), Beluga.alphabet)
    return torch.from_numpy(np.ascontiguousarray(X)), torch.from_numpy(np.stack(labels))


def new_model() -> Beluga:
    """Return the untrained network; with torch's default initialisation it would learn nothing."""
    model = Beluga(CHANNELS, N_HIDDEN, len(OUTPUT_NAMES))
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model


def train() -> Beluga:
    """Return the trained model."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    model = new_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=N_STEPS)
    began, running = time.monotonic(), 0.7
    for step in range(N_STEPS):
        n_copies = max(1.3, 7 * (1 - step / (0.7 * N_STEPS)))
        X, labels = training_batch(rng, n_copies)
        loss = nn.functional.binary_cross_entropy_with_logits(model(X), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        running += 0.02 * (float(loss.detach()) - running)
        if step % 100 == 99:
            seconds = time.monotonic() - began
            log.info("step %d of %d, loss %.3f, %.0f s", step + 1, N_STEPS, running, seconds)
    return model.eval()


def main() -> None:
    """Train, and save in half precision: the file stays small, and loads as float32."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out = Path(sys.argv[1])
    state = {key: value.half() for key, value in train().published_state_dict().items()}
    torch.save(state, out)
    log.info("wrote %s, %d bytes", out, out.stat().st_size)


if __name__ == "__main__":
    main()
