"""Where a process stands among those of its run: plain processes, which share nothing but the run folder."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ilo_pl.config.run import RunConfig
from ilo_pl.config.trainer import TrainerConfig
from ilo_pl.errors import ConfigurationError
from ilo_pl.inversion.processes import Processes
from ilo_pl.runs.trainer import check_logger, make_trainer, quiet_lightning, uses_cuda


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of its run.

    Args:
        rank: its number.
        world: how many there are.
        local: its number among those of its machine, which is that of its device.
        others: what starts those, if this process is to.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    others: Processes | None = None


def device_count(config: TrainerConfig, batches: int) -> int:
    """Resolve the devices of each machine: ``auto`` is every GPU that has a batch of images, else 1.

    Args:
        config: what was asked for.
        batches: how many batches of images the run has.
    """
    if config.devices != "auto":
        return config.devices
    if not uses_cuda(config):
        return 1
    gpus = torch.cuda.device_count()
    # Who starts the processes from outside has chosen their number.
    outside = TorchElasticEnvironment.detect() or SLURMEnvironment.detect()
    return gpus if outside or config.num_nodes > 1 else max(1, min(gpus, batches))


def with_devices(config: RunConfig, images: int, launch: bool) -> RunConfig:
    """Return the run with its number of devices."""
    size = 1 if config.batch_size == "auto" else config.batch_size
    batches = math.ceil(images / size)
    auto = config.trainer.devices == "auto"
    count = device_count(config.trainer, batches) if launch and not config.outside else 1
    trainer = config.trainer.model_copy(update={"devices": count})
    return config.model_copy(update={"trainer": trainer}) if auto else config


def make_place(config: RunConfig, launch: bool) -> Place:
    """Return the place of this process; the environment of torchrun or SLURM is understood.

    Raises:
        ConfigurationError: there are no such devices or processes, or several where the command cannot be
            started again.
    """
    devices, nodes = config.trainer.devices, config.trainer.num_nodes
    assert devices != "auto"
    several = devices * nodes > 1
    if several and (config.outside or config.ordered or not launch):
        raise ConfigurationError(
            f"trainer.devices = {devices}, trainer.num_nodes = {nodes}: "
            "only the engine's methods run on several, by ilo-pl invert, and only with follow=none.",
            hint="Leave both at 1.",
        )
    if config.outside:
        return Place()
    with quiet_lightning():
        check_logger(config.logger)
        make_trainer(config.trainer, [])
    # A job of SLURM's may well run the command once; who calls torchrun wants its processes.
    if not several and not TorchElasticEnvironment.detect():
        return Place()
    environment = _environment()
    place = _place(environment, devices, nodes)
    _check_devices(config.trainer, devices)
    rank_zero_only.rank = place.rank  # type: ignore[attr-defined]
    return place


def _environment() -> ClusterEnvironment:
    """Return what says which process this is."""
    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            try:
                return kind()
            except RuntimeError as error:
                raise ConfigurationError(f"The processes of this job: {error}") from None
    return LightningEnvironment()


def _place(environment: ClusterEnvironment, devices: int, nodes: int) -> Place:
    if isinstance(environment, LightningEnvironment):
        # NODE_RANK is the user's to give, LOCAL_RANK is ours.
        local = environment.local_rank()
        others = None if environment.creates_processes_externally else Processes(devices)
        return Place(environment.node_rank() * devices + local, devices * nodes, local, others)
    started = environment.world_size()
    if started != devices * nodes:
        raise ConfigurationError(
            f"{started} processes were started; trainer.devices = {devices} and trainer.num_nodes = "
            f"{nodes} ask for {devices * nodes}.",
            hint="trainer.devices is the number of processes on each machine.",
        )
    return Place(environment.global_rank(), started, environment.local_rank())


def _check_devices(config: TrainerConfig, devices: int) -> None:
    """Refuse more processes than GPUs, but for processes that are shown one GPU each."""
    gpus = torch.cuda.device_count() if uses_cuda(config) else 0
    if 1 < gpus < devices or (gpus == 1 < devices and not SLURMEnvironment.detect()):
        raise ConfigurationError(
            f"trainer.devices = {devices} and this machine has {gpus} GPU{'s' * (gpus > 1)}.",
            hint="trainer.devices=auto takes those that there are.",
        )
