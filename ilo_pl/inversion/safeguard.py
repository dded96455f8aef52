"""What is not finite in one image stays there: its neighbours never see it, and the run goes on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ilo_pl.inversion.constraints import spread

# A gradient that overflows under a loss this small is no matter of precision.
SMALLEST_LOSS_SCALE = 2.0**-20


class Safeguard(nn.Module):
    """Watches the loss and the gradient of each image of a search; its state is in checkpoints.

    Images without a fault are changed by none of it, to the bit. Nothing here waits for a device.

    Args:
        like: a tensor ``(B, ...)`` on the device of the search.

    Attributes:
        faults: how often each image's loss was not finite, ``(B,)``.
    """

    faults: Tensor
    step_scale: Tensor
    loss_scale: Tensor

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        count = len(like)
        self.register_buffer("faults", torch.zeros(count, dtype=torch.int64, device=like.device))
        self.register_buffer("step_scale", like.new_ones(count))
        self.register_buffer("loss_scale", like.new_ones(count))
        self._finite_loss = self._finite_gradient = torch.ones_like(self.faults, dtype=torch.bool)

    def total(self, selector: Tensor, losses: Tensor) -> Tensor:
        """Return the sum of the losses ``(B,)`` that are finite, as are their selectors ``(B,)``."""
        self._finite_loss = torch.isfinite(losses.detach()) & torch.isfinite(selector.detach())
        return torch.where(self._finite_loss, losses * self.loss_scale, 0).sum()

    def trusted(self, losses: Tensor) -> Tensor:
        """Return losses ``(B,)``, infinite where this step's are not to be trusted."""
        return torch.where(self._finite_loss, losses, torch.inf)

    @torch.no_grad()
    def isolate(self, parameters: Iterable[Tensor]) -> None:
        """Erase the gradient of every image in which a number is not finite, after a backward pass.

        So neither its own moments nor a gradient scaler, which would skip the step of all, see it.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if known(self._finite_loss) and _finite_sums(gradients):
            self._finite_gradient = torch.ones_like(self._finite_loss)
            return
        checks = [torch.isfinite(g).flatten(1).all(1) for g in gradients]
        self._finite_gradient = torch.stack(checks).all(0)
        fine = self._finite_gradient & self._finite_loss
        for gradient in gradients:
            gradient.copy_(torch.where(spread(fine, gradient), gradient, 0))

    @torch.no_grad()
    def settle(
        self, values: Mapping[str, Tensor], before: Mapping[str, Tensor], best: Mapping[str, Tensor]
    ) -> None:
        """Undo a step where it cannot be trusted.

        A loss that is not finite sends its image back to its best point, and halves its steps from
        then on. A gradient that overflows under a finite loss costs its image the step, and halves
        its loss, as a gradient scaler of its own would.

        Args:
            values: the variables after the step, by name; changed in place.
            before: those before it, where they can move.
            best: those of the lowest loss so far.
        """
        fine, smooth = self._finite_loss, self._finite_gradient
        if known(fine & smooth & (self.step_scale == 1)):
            return
        for name, old in before.items():
            value = values[name]
            scale = spread(self.step_scale, value)
            moved = torch.where(scale == 1, value, old + scale * (value - old))
            moved = torch.where(spread(smooth, value), moved, old)
            value.copy_(torch.where(spread(fine, value), moved, best[name]))
        self.step_scale.copy_(torch.where(fine, self.step_scale, self.step_scale / 2))
        overflow = fine & ~smooth
        self.loss_scale.copy_(torch.where(overflow, self.loss_scale / 2, self.loss_scale))
        self.faults += ~fine | (overflow & (self.loss_scale < SMALLEST_LOSS_SCALE))


def _finite_sums(tensors: Sequence[Tensor]) -> bool:
    """Return whether sums are finite, hence all that is in them; on a CPU, where asking costs nothing."""
    return all(t.device.type == "cpu" and math.isfinite(t.sum()) for t in tensors)


def known(flags: Tensor) -> bool:
    """Return whether all flags are true, where asking does not wait for a device: on a CPU."""
    return flags.device.type == "cpu" and bool(flags.all())
