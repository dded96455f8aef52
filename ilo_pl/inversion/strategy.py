"""Several devices: every process inverts images of its own, and none waits for another.

Images are independent, so the processes of a run share nothing but its folder: there is no process group,
no parameter is broadcast and no gradient averaged, and so nothing can wait for a process that is gone.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

import torch
from pytorch_lightning.strategies import ParallelStrategy, StrategyRegistry
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ilo_pl.inversion.processes import Processes

T = TypeVar("T")


class ILOStrategy(ParallelStrategy):
    """Processes side by side, ``strategy="ilo"``: each inverts its share of the units.

    A path that all processes are given, such as ModelCheckpoint's, stands for a file of each, with
    ``.rank1`` and so on appended in all but the first.

    Args:
        options: those of Lightning's ``ParallelStrategy``.
    """

    strategy_name = "ilo"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.num_nodes = 1
        self._processes: Processes | None = None

    @property
    def root_device(self) -> torch.device:
        """The device of this process."""
        assert self.parallel_devices is not None
        return self.parallel_devices[self.local_rank]

    @property
    def num_processes(self) -> int:
        """How many processes this machine has."""
        return len(self.parallel_devices or ())

    def set_world_ranks(self) -> None:
        """Tell the environment and Lightning's logging which process this is."""
        assert self.cluster_environment is not None
        self.cluster_environment.set_global_rank(
            self.node_rank * self.num_processes + self.local_rank
        )
        self.cluster_environment.set_world_size(self.num_nodes * self.num_processes)
        rank_zero_only.rank = self.global_rank  # type: ignore[attr-defined]

    @property
    def launcher(self) -> Processes | None:  # type: ignore[override]  # it has what Lightning asks for
        """What starts the other processes; ``None`` where torchrun, SLURM or the user has started them."""
        assert self.cluster_environment is not None
        if self._processes is None and not self.cluster_environment.creates_processes_externally:
            self._processes = Processes(self.num_processes)
        return self._processes

    def model_to_device(self) -> None:
        """Move the module."""
        assert self.model is not None
        self.model.to(self.root_device)

    def barrier(self, name: str | None = None) -> None:
        """Wait for nobody."""

    def broadcast(self, obj: T, src: int = 0) -> T:
        """Return the object: every process decides for itself."""
        return obj

    def reduce(self, tensor: T, *args: Any, **kwargs: Any) -> T:
        """Return the tensor: what is logged is this process's."""
        return tensor

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """Return the decision, this process's own."""
        return decision

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Write this process's checkpoint; every process has one."""
        self.checkpoint_io.save_checkpoint(checkpoint, self._own(filepath), storage_options)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read this process's checkpoint."""
        return super().load_checkpoint(self._own(checkpoint_path), weights_only)

    def remove_checkpoint(self, filepath: Any) -> None:
        """Remove this process's checkpoint."""
        self.checkpoint_io.remove_checkpoint(self._own(filepath))

    def _own(self, path: Any) -> str:
        rank = self.global_rank
        return f"{os.fspath(path)}.rank{rank}" if rank else os.fspath(path)


StrategyRegistry.register("ilo", ILOStrategy, description=ILOStrategy.__doc__)
