"""What is not finite in one image stays there: its neighbours never see it, and the run goes on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ilo_pl.inversion.packing import asking_is_free, pack, unpack

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
        self._finite_loss = _finite(losses.detach()) & _finite(selector.detach())
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
        rows = pack(gradients)
        self._finite_gradient = _finite(rows).all(1)
        fine = self._finite_gradient & self._finite_loss
        unpack(torch.where(fine[:, None], rows, 0), gradients)

    @torch.no_grad()
    def settle(self, moving: Sequence[Tensor], before: Tensor, best: Sequence[Tensor]) -> None:
        """Undo a step where it cannot be trusted.

        A loss that is not finite sends its image back to its best point, and halves its steps from
        then on. A gradient that overflows under a finite loss costs its image the step, and halves
        its loss, as a gradient scaler of its own would.

        Args:
            moving: the variables after the step that it could move; changed in place.
            before: those before it, packed ``(B, N)``.
            best: those of the lowest loss so far.
        """
        fine, smooth = self._finite_loss, self._finite_gradient
        if asking_is_free(fine) and bool((fine & smooth & (self.step_scale == 1)).all()):
            return
        rows = torch.lerp(before, pack(moving), self.step_scale[:, None])
        rows = torch.where(smooth[:, None], rows, before)
        unpack(torch.where(fine[:, None], rows, pack(best)), moving)
        overflow = fine & ~smooth
        self.step_scale.mul_(torch.where(fine, 1.0, 0.5))
        self.loss_scale.mul_(torch.where(overflow, 0.5, 1.0))
        self.faults += ~fine | (overflow & (self.loss_scale < SMALLEST_LOSS_SCALE))


def _finite(values: Tensor) -> Tensor:
    """Return what ``torch.isfinite`` does, in half its kernels."""
    return values.abs() < torch.inf


def _finite_sums(tensors: Sequence[Tensor]) -> bool:
    """Return whether sums are finite, hence all that is in them; on a CPU, where asking costs nothing."""
    return all(asking_is_free(t) and math.isfinite(t.sum()) for t in tensors)


def known(flags: Tensor) -> bool:
    """Return whether all flags are true, where asking does not wait for a device: on a CPU."""
    return asking_is_free(flags) and bool(flags.all())
