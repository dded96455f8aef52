"""Which process of a run this is, as torchrun, SLURM, the user and the command itself say it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from pytorch_lightning.utilities import rank_zero_only

from ilo_pl.config.compose import load_config
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import ConfigurationError
from ilo_pl.inversion.processes import share_threads
from ilo_pl.runs.place import Place, make_place

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "GROUP_RANK": "1",
}
SLURM = {
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_JOB_NAME": "faces",
}


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> RunConfig:
    keys = ["generator=tiny", "trainer.accelerator=cpu", "trainer.devices=2", "method=csgm"]
    return load_config([f"input={folder}", f"output={tmp_path / 'out'}", "logger=none", *keys])


def with_nodes(config: RunConfig, devices: int, nodes: int) -> RunConfig:
    trainer = config.trainer.model_copy(update={"devices": devices, "num_nodes": nodes})
    return config.model_copy(update={"trainer": trainer})


@pytest.mark.parametrize(("environment", "place"), [(TORCHRUN, (3, 4, 1)), (SLURM, (2, 4, 0))])
def test_a_launcher_is_understood(
    config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    place: tuple[int, int, int],
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert make_place(with_nodes(config, 2, 2), launch=True) == Place(*place)
    assert rank_zero_only.rank == place[0]  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="4 processes were started"):
        make_place(with_nodes(config, 3, 2), launch=True)
    if environment is SLURM:
        monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
        with pytest.raises(ConfigurationError, match="ntasks-per-node"):
            make_place(with_nodes(config, 2, 2), launch=True)


def test_the_command_is_to_start_the_others(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    place = make_place(config, launch=True)
    assert (place.rank, place.world) == (0, 2)
    assert place.others is not None and place.others.count == 2
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert make_place(config, launch=True) == Place(1, 2, 1)
    with pytest.raises(ConfigurationError, match=r"only the engine.s methods run on several"):
        make_place(config, launch=False)


def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so that it is put back
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)), raising=False)
    try:
        share_threads(2)
        assert torch.get_num_threads() == 3 and os.environ["OMP_NUM_THREADS"] == "3"
        share_threads(7)  # what is said already stands
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
