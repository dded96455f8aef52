"""The steps of an epoch as Lightning wants to see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ilo_pl.errors import TrainerError


class StepLoader:
    """A sized, stateful iterable of the numbers of an epoch's steps.

    The tensors of a step live in the module, so the position does too.

    Args:
        length: steps of an epoch.
        position: returns the steps that the module has had in its epoch.
    """

    def __init__(self, length: int, position: Callable[[], int]) -> None:
        self._length = length
        self._position = position

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        # A checkpoint of a batch's last step, taken before the switch, resumes with the next batch: the
        # switch follows in on_train_start, after this.
        return iter(range(self._position() % self._length, self._length))

    def state_dict(self) -> dict[str, int]:
        """Return the module's position, for a checkpoint."""
        return {"step": self._position()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Check that the module, which is restored first, is where the loader was."""
        if state["step"] != self._position():
            raise TrainerError(
                f"The checkpoint's loader is at step {state['step']} and its module at step "
                f"{self._position()}: the checkpoint is damaged."
            )
