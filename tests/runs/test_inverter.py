"""Images handed over, results handed back: the bits of the command, and nothing left behind."""

from __future__ import annotations

import csv
import os
import pickle
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

from ilo_pl import Inverter
from ilo_pl.errors import ConfigurationError
from ilo_pl.io.images import load_image
from tests.runs.conftest import NAMES

Go = Callable[..., str]
FEW = ["generator=tiny", "logger=none", "method.deviation.steps=0"]
LATENT = FEW[:2]
ILO = ["method.splits=[0,2]", "method.steps=6", "method.free_noises=4"]
CSGM = ["method=csgm", "method.steps=4", "operator.fraction=0.3"]
METHODS = {
    "ilo": ["method=ilo", "operator.fraction=0.3", *ILO],
    "csgm": ["method=csgm", "method.steps=6", "task=super_resolution", "operator.factor=2"],
    "pulse": ["method=pulse", "method.steps=6", "task=denoising", "noise.sigma=20"],
}


def given(folder: Path, names: list[str]) -> list[Any]:
    """Return pictures as an array, as bytes, as a path, in turn."""
    paths = [folder / f"{name}.png" for name in names]
    forms = [lambda p: np.array(Image.open(p)), lambda p: p.read_bytes(), lambda p: p]
    return [forms[n % 3](path) for n, path in enumerate(paths)]


@pytest.mark.parametrize("method", METHODS)
def test_the_bits_are_those_of_the_command(
    folder: Path, tmp_path: Path, method: str, request: pytest.FixtureRequest
) -> None:
    from rich.console import Console

    from ilo_pl.config.compose import load_config
    from ilo_pl.runs.run import run

    keys = [*FEW, *METHODS[method], "batch_size=2", "seed=3"]
    if method != "ilo":
        keys.remove("method.deviation.steps=0")
    out = tmp_path / "out"
    places = [f"input={folder}", f"reference={folder}", f"output={out}", "report=false"]
    run(load_config([*keys, *places]), Console(quiet=True))
    # One call with all, and a copy made after use with the last alone, as the command's last batch.
    inverter = Inverter(*keys)
    found = inverter(given(folder, NAMES), NAMES, [folder / f"{n}.png" for n in NAMES])
    (again,) = pickle.loads(pickle.dumps(inverter))(given(folder, NAMES[2:]), NAMES[2:])
    assert torch.equal(again.image, found[2].image)
    table = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    for one, row in zip(found, sorted(table, key=lambda r: r["id"]), strict=True):
        name = one.id
        assert (
            one.failure is None
            and one.png() == (out / "reconstructions" / f"{name}.png").read_bytes()
        )
        theirs = load((out / "latents" / f"{name}.safetensors").read_bytes())
        ours = load(one.safetensors() or b"")
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)
        assert one.scores is not None and f"{one.scores.psnr:.6g}" == row["psnr"]
        assert f"{one.measured_error[1]:.6g}" == row["measured_error"]


def test_images_that_fail_are_data_and_hold_up_no_others(folder: Path) -> None:
    inverter = Inverter(*LATENT, *CSGM, "batch_size=4")
    small = np.zeros((8, 8, 3), np.uint8)
    handed = [b"no picture", (folder / "a.png").read_bytes(), small, folder / "nothing.png", 3.5]
    lost, good, other, missing, odd = inverter(handed, ["w", "a", "x", "y", "z"])  # type: ignore[arg-type]
    assert "not an image" in (lost.failure or "") and "8 pixels wide" in (other.failure or "")
    assert "nothing.png" in (missing.failure or "") and "float" in (odd.failure or "")
    (alone,) = inverter([folder / "a.png"], ["a"])
    assert good.failure is None and torch.equal(good.image, alone.image)
    # A picture in [-1, 1] as a tensor is the same picture.
    (floating,) = inverter([load_image(folder / "a.png").rgb], ["a"])
    assert torch.equal(floating.image, alone.image)
    # Nothing usable at all is no exception either.
    assert [o.failure is None for o in inverter([b"1", b"2"])] == [False, False]
    with pytest.raises(ValueError, match="id of its own"):
        inverter([small, small], ["a", "a"])


def test_nothing_of_the_process_is_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    numbers = [s for s in signal.Signals if s.name in ("SIGINT", "SIGTERM", "SIGUSR1")]

    def state() -> list[Any]:
        return [
            *(signal.getsignal(n) for n in numbers),
            torch.random.get_rng_state().tolist(),
            str(np.random.get_state()),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.benchmark,
            torch.is_grad_enabled(),
            dict(os.environ),
            list(warnings.filters),
            sorted(p.name for p in tmp_path.iterdir()),
            Path.cwd(),
        ]

    inverter = Inverter(*LATENT, *CSGM, "trainer.deterministic=true")
    before = state()
    with torch.no_grad():
        (found,) = inverter([folder / "a.png"], ["a"])
    assert found.failure is None
    assert state() == before
    assert capfd.readouterr() == ("", "")


def test_measurements_that_are_given_restore_what_was_measured(folder: Path) -> None:
    """Pictures for a mask, and plain numbers for a circulant operator, give the bits that simulation gave."""
    for keys in (CSGM, [*CSGM, "task=compressed_sensing"]):
        (first,) = Inverter(*LATENT, *keys)([folder / "a.png"], ["a"])
        measured = first.measurements
        (second,) = Inverter(*LATENT, *keys, "simulate=false")([measured], ["a"])
        assert first.failure is second.failure is None
        assert torch.equal(first.image, second.image)


def test_what_cannot_be_an_inverter_is_refused_with_the_way_out() -> None:
    for key, hint in {
        "output=x": "handed",
        "trainer.devices=2": "one",
        "task=ood_generation": "no input",
        "methud=ilo": "methud",
    }.items():
        with pytest.raises(ConfigurationError, match=hint):
            Inverter("generator=tiny", key)
