"""Lightning Trainers and loggers from a configuration."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ilo_pl.callbacks.checkpoint_io import SafeCheckpointIO
from ilo_pl.config.trainer import LoggerConfig, TrainerConfig
from ilo_pl.errors import ConfigurationError
from ilo_pl.inversion.strategy import ILOStrategy

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def uses_cuda(config: TrainerConfig) -> bool:
    """Return whether the Trainer's devices are CUDA's."""
    return config.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


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


def make_trainer(
    config: TrainerConfig, callbacks: Sequence[pl.Callback], logger: Logger | None = None
) -> pl.Trainer:
    """Return the Trainer of a configuration; several devices get the strategy ``ilo``, ``auto`` is one.

    Raises:
        ConfigurationError: this machine has no such device.
    """
    devices = device_count(config, batches=1)
    several = devices * config.num_nodes > 1
    try:
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=devices,
            num_nodes=config.num_nodes,
            # A batch has one checkpoint, whichever process searches it.
            strategy=ILOStrategy(own_checkpoints=False) if several else "auto",
            plugins=[SafeCheckpointIO()],
            precision=choose_precision(config),
            callbacks=list(callbacks),
            logger=logger or False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, ImportError) as error:
        raise ConfigurationError(
            f"trainer.accelerator = {config.accelerator!r} with {devices} devices and precision "
            f"{config.precision!r} cannot be used here: {error}",
            hint="trainer.accelerator=auto, trainer.devices=1 and trainer.precision=auto always work.",
        ) from error


def make_logger(config: LoggerConfig, folder: Path) -> Logger | None:
    """Return the logger of a configuration, which writes into a folder.

    Raises:
        ConfigurationError: its package is not installed.
    """
    from pytorch_lightning import loggers

    try:
        match config.name:
            case "none":
                return None
            case "csv":
                return CSVLogger(folder, name="")
            case "tensorboard":
                return loggers.TensorBoardLogger(folder, name="")
            case "wandb":
                return loggers.WandbLogger(project=config.project, save_dir=folder)
            case "mlflow":
                return loggers.MLFlowLogger(
                    config.project, tracking_uri=config.uri, save_dir=str(folder)
                )
    except ImportError as error:
        raise ConfigurationError(
            f"logger={config.name} needs a package that cannot be imported: {error}",
            hint="Install it, or use logger=csv.",
        ) from None


def choose_precision(config: TrainerConfig) -> Precision:
    """Resolve ``auto``: bf16-mixed where the device computes in bfloat16 natively, else 32-true."""
    if config.precision != "auto":
        return config.precision
    if uses_cuda(config):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif config.accelerator in ("auto", "cpu"):
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = False
    return "bf16-mixed" if native else "32-true"


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says about itself; what concerns the run is said by the command."""
    # The second one reports, when something is compiled, that there is no CUDA.
    loggers = [logging.getLogger(n) for n in ("pytorch_lightning", "torch.utils.cpp_extension")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            # A run that is resumed writes beside its older logs.
            warnings.filterwarnings("ignore", "Experiment logs directory")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
