"""A zero-padded network without what its padding reaches: a trunk that windows can share."""

from torch import Tensor, nn


class Cropped(nn.Module):
    """A module without the first and the last places of its output.

    A network whose convolutions are zero-padded ("same") gives other values near a window's ends than in the
    middle of a longer stretch. Without the places that padding reaches, which a model that crops its output
    does not read, it is a trunk like an unpadded one; engines check that.

    Parameters
    ----------
    module : torch.nn.Module
        From (N, 4, L) to (N, C, P).
    left, right : int
        Places to drop: those that see beyond the window's ends, as many as half of the receptive field.

    Raises
    ------
    ValueError
        If a number is negative.
    """

    def __init__(self, module: nn.Module, left: int, right: int) -> None:
        super().__init__()
        if left < 0 or right < 0:
            raise ValueError(f"{left} and {right} places were to be dropped; expected 0 or more of each")
        self.module, self.left, self.right = module, left, right

    def forward(self, X: Tensor) -> Tensor:
        """Return the places between, (N, C, P - left - right)."""
        outputs: Tensor = self.module(X)
        return outputs[:, :, self.left : outputs.shape[2] - self.right]
