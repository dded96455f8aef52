"""Lightning Trainers and loggers from a configuration."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning import loggers
from pytorch_lightning.callbacks import Checkpoint, ProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ilo_pl.callbacks.checkpoint_io import SafeCheckpointIO
from ilo_pl.config.trainer import LoggerConfig, TrainerConfig
from ilo_pl.errors import ConfigurationError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def uses_cuda(config: TrainerConfig) -> bool:
    """Return whether the Trainer's devices are CUDA's."""
    return config.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def make_trainer(
    config: TrainerConfig,
    callbacks: Sequence[pl.Callback],
    logger: Logger | None = None,
    local: int = 0,
) -> pl.Trainer:
    """Return the Trainer of a configuration, for one device: several have a process each.

    Args:
        config: what was asked for.
        callbacks: for the Trainer.
        logger: for the Trainer.
        local: the process's number on its machine, which chooses the device.

    Raises:
        ConfigurationError: this machine has no such device.
    """
    try:
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=[local % torch.cuda.device_count()] if uses_cuda(config) else 1,
            # The process is one by itself: Lightning is not to look for torchrun or SLURM.
            plugins=[SafeCheckpointIO(), LightningEnvironment()],
            precision=choose_precision(config),
            # False would switch off what the caller has switched on.
            deterministic=config.deterministic or None,
            callbacks=list(callbacks),
            logger=logger or False,
            # Lightning's own would write into the working directory, and to the screen.
            enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
            enable_progress_bar=any(isinstance(c, ProgressBar) for c in callbacks),
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, ImportError) as error:
        raise ConfigurationError(
            f"trainer.accelerator = {config.accelerator!r} with {config.devices} devices and precision "
            f"{config.precision!r} cannot be used here: {error}",
            hint="trainer.accelerator=auto, trainer.devices=1 and trainer.precision=auto always work.",
        ) from error


def check_logger(config: LoggerConfig) -> None:
    """See that a logger's package can be imported; nothing is written.

    Raises:
        ConfigurationError: it cannot.
    """
    packages = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
    try:
        if config.name in packages:
            import_module(packages[config.name])
    except ImportError as error:
        raise ConfigurationError(
            f"logger={config.name} needs a package that cannot be imported: {error}",
            hint=f"pip install 'ilo_pl[{config.name}]', or use logger=csv.",
        ) from None


def make_logger(config: LoggerConfig, folder: Path) -> Logger | None:
    """Return the logger of a configuration, which writes into a folder, begun.

    Raises:
        ConfigurationError: its package is not installed, or it cannot be begun, as without its server.
    """
    check_logger(config)
    match config.name:
        case "none":
            return None
        case "csv":
            return CSVLogger(folder, name="")
        case "tensorboard":
            return loggers.TensorBoardLogger(folder, name="")
    try:
        made = _remote_logger(config, folder)
        _ = made.experiment  # not at the first step, which may be minutes away
    except Exception as error:  # their packages have errors of many kinds
        offline = "logger.uri=null" if config.name == "mlflow" else "logger.offline=true"
        raise ConfigurationError(
            f"logger={config.name} could not be begun: {type(error).__name__}: {error}",
            hint=f"{offline} writes into the run folder only; logger=csv needs nothing.",
        ) from error
    return made


def _remote_logger(
    config: LoggerConfig, folder: Path
) -> loggers.WandbLogger | loggers.MLFlowLogger:
    """Return a logger that may have a server."""
    if config.name == "wandb":
        folder.mkdir(parents=True, exist_ok=True)
        return loggers.WandbLogger(project=config.project, save_dir=folder, offline=config.offline)
    if config.uri is None:
        # MLflow 3 wants to be told that a folder will do.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return loggers.MLFlowLogger(config.project, tracking_uri=config.uri, save_dir=str(folder))


def choose_precision(config: TrainerConfig) -> Precision:
    """Resolve ``auto``: bf16-mixed where the device computes in bfloat16 natively, else 32-true."""
    if config.precision != "auto":
        return config.precision
    if uses_cuda(config):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif config.accelerator in ("auto", "cpu"):
        # ATEN_CPU_CAPABILITY may say that a processor is to be taken for less than it is.
        wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        native = wide and (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
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
