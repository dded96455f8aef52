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
        # Infinite, or no number, where one of them is.
        self._finite_loss = torch.hypot(losses.detach(), selector.detach()) < torch.inf
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
        self._finite_gradient = torch.linalg.vector_norm(rows, torch.inf, 1) < torch.inf
        fine = self._finite_gradient & self._finite_loss
        unpack(torch.where(fine[:, None], rows, 0), gradients)

    @property
    def untroubled(self) -> bool:
        """Whether it is known, without waiting for a device, that a step will not have to be undone."""
        fine = self._finite_loss
        return asking_is_free(fine) and bool(
            (fine & self._finite_gradient & (self.step_scale == 1)).all()
        )

    @torch.no_grad()
    def settled(self, moved: Tensor, before: Tensor, best: Tensor) -> Tensor:
        """Undo a step where it cannot be trusted.

        A loss that is not finite sends its image back to its best point, and halves its steps from
        then on. A gradient that overflows under a finite loss costs its image the step, and halves
        its loss, as a gradient scaler of its own would.

        Args:
            moved: the variables after the step that it could move, packed ``(B, N)``.
            before: those before it, packed.
            best: those of the lowest loss so far, packed.

        Returns:
            The variables as they are to be, packed.
        """
        fine, smooth = self._finite_loss, self._finite_gradient
        # A step of no length is the point before it, to the bit.
        rows = torch.lerp(before, moved, (self.step_scale * smooth)[:, None])
        rows = torch.where(fine[:, None], rows, best)
        overflow = fine > smooth  # of two flags: one, and not the other
        self.step_scale.addcmul_(self.step_scale, ~fine, value=-0.5)
        self.loss_scale.addcmul_(self.loss_scale, overflow, value=-0.5)
        self.faults += fine <= (overflow & (self.loss_scale < SMALLEST_LOSS_SCALE))
        return rows


def _finite_sums(tensors: Sequence[Tensor]) -> bool:
    """Return whether sums are finite, hence all that is in them; on a CPU, where asking costs nothing."""
    return all(asking_is_free(t) and math.isfinite(t.sum()) for t in tensors)


def known(flags: Tensor) -> bool:
    """Return whether all flags are true, where asking does not wait for a device: on a CPU."""
    return asking_is_free(flags) and bool(flags.all())
