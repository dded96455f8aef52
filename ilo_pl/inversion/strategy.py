"""Several devices: every process inverts images of its own, and none waits for another.

Images are independent, so the processes of a run share nothing but its folder: there is no process group,
no parameter is broadcast and no gradient averaged, and so nothing can wait for a process that is gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies import ParallelStrategy, StrategyRegistry
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ilo_pl.errors import TrainerError

T = TypeVar("T")
# Tells a process who started it.
PARENT = "ILO_PL_PARENT"


class ILOLauncher(_SubprocessScriptLauncher):
    """Starts the same command once for each further device, as Lightning's DDP does.

    A process that ends does not take the others with it.
    """

    def start(self) -> None:
        """Start the other processes of this machine."""
        self.cluster_environment.validate_settings(
            num_devices=self.num_processes, num_nodes=self.num_nodes
        )
        os.environ[PARENT] = str(os.getpid())
        _set_num_threads_if_needed(num_processes=self.num_processes)
        self._call_children_scripts()

    def wait(self) -> list[int]:
        """Wait for them and return their exit statuses."""
        return [process.wait() for process in self.procs]

    def launch(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Start the other processes, run a function here, and wait for all.

        Raises:
            TrainerError: one of them failed, so that the results of its images are missing.
        """
        kwargs.pop("trainer", None)
        self.start()
        result = function(*args, **kwargs)
        failed = {i + 1: status for i, status in enumerate(self.wait()) if status}
        if failed:
            raise TrainerError(
                f"Processes ended with errors (rank: status): {failed}; their images are unfinished."
            )
        return result


class ILOStrategy(ParallelStrategy):
    """Processes side by side, ``strategy="ilo"``: each inverts its share of the units.

    Args:
        own_checkpoints: whether a path that all processes are given, such as ModelCheckpoint's, stands
            for a file of each, with ``.rank1`` and so on appended in all but the first.
        options: those of Lightning's ``ParallelStrategy``.
    """

    strategy_name = "ilo"

    def __init__(self, *, own_checkpoints: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.num_nodes = 1
        self._own_checkpoints = own_checkpoints

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

    def _configure_launcher(self) -> None:
        environment = self.cluster_environment
        assert environment is not None
        if not environment.creates_processes_externally:
            self._launcher = ILOLauncher(environment, self.num_processes, self.num_nodes)

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
        shared = self.global_rank == 0 or not self._own_checkpoints
        return os.fspath(path) if shared else f"{os.fspath(path)}.rank{self.global_rank}"


def parent() -> int | None:
    """Return the id of the process that started this one for a further device, or ``None``."""
    started = PARENT in os.environ and int(os.environ.get("LOCAL_RANK", "0")) > 0
    return int(os.environ[PARENT]) if started else None


StrategyRegistry.register("ilo", ILOStrategy, description=ILOStrategy.__doc__)
