"""The steps of an epoch as Lightning wants to see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ilo_pl.errors import TrainerError

if TYPE_CHECKING:
    from ilo_pl.inversion import ILOInversion


class Positions:
    """A sized, stateful iterable of the numbers of an epoch's steps.

    The tensors of a step live in the module, so the position does too.

    Args:
        module: the inversion whose steps these are.
    """

    def __init__(self, module: ILOInversion) -> None:
        self._module = module

    def __len__(self) -> int:
        return self._module.task.schedule.total_steps

    def __iter__(self) -> Iterator[int]:
        # A checkpoint of a unit's last step, taken before the switch, resumes with the next unit: the
        # switch follows in on_train_start, after this.
        return iter(range(self._module.step % len(self), len(self)))

    def state_dict(self) -> dict[str, int]:
        """Return the module's position, for a checkpoint."""
        return {"step": self._module.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Check that the module, which is restored first, is where the loader was."""
        if state["step"] != self._module.step:
            raise TrainerError(
                f"The checkpoint's loader is at step {state['step']} and its module at step "
                f"{self._module.step}: the checkpoint is damaged."
            )
