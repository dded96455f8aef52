"""What a configuration says about devices, checkpoints and loggers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ilo_pl.spec import Spec


class TrainerConfig(Spec):
    """What is passed to ``pytorch_lightning.Trainer``.

    Args:
        accelerator: ``auto``, ``cpu``, ``gpu``, ``mps``.
        devices: how many on each machine, each with a process of its own; ``auto``: every GPU for which
            ``ilo-pl invert`` has a batch of images, else 1.
        num_nodes: how many machines.
        precision: ``32-true``, ``bf16-mixed``, ``16-mixed``, or ``auto``: bf16-mixed where the device
            computes in it natively, else 32-true.
        tf32: whether ``32-true`` may be TF32 on CUDA; results are rendered without it either way.
        deterministic: take only kernels that give the same bits every time, on CUDA some slower ones.
        checkpoint_minutes, checkpoint_steps: time and gradient steps between checkpoints.
    """

    accelerator: str = "auto"
    devices: Literal["auto"] | Annotated[int, Field(ge=1, le=10**4)] = "auto"
    num_nodes: Annotated[int, Field(ge=1, le=10**4)] = 1
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    tf32: bool = False
    deterministic: bool = False
    checkpoint_minutes: Annotated[float, Field(gt=0, le=1e6)] | None = 10
    checkpoint_steps: Annotated[int, Field(ge=1, le=10**9)] | None = None


class LoggerConfig(Spec):
    """Which Lightning logger.

    Args:
        name: its name.
        project: how its server groups runs.
        uri: its server.
        pictures: of how many images, the first ones, pictures of all stages are logged.
        offline: write into the run folder only, for ``wandb sync`` later.
    """

    name: Literal["csv", "tensorboard", "wandb", "mlflow", "none"] = "csv"
    project: str = "ilo_pl"
    uri: str | None = None
    pictures: Annotated[int, Field(ge=0, le=10**6)] = 4
    offline: bool = False
