"""An engine whose device is done at once."""

import torch

from tism_scan.engine.queue import Mark, Queued

CPU = torch.device("cpu")


class ReadyEngine:
    """Queues what `score` gives, which a subclass has."""

    def queue(self, codes, stretch, wanted):
        began = Mark(CPU)
        scores = torch.from_numpy(self.score(codes, stretch, wanted))
        return Queued(scores, ((began, Mark(CPU)),), lambda values: values)
