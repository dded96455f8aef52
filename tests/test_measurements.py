"""Saved measurements repeat a run bit for bit, and what is not one is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from ilo_pl import TinyGenerator
from ilo_pl.config.compose import load_config
from ilo_pl.errors import IloError, InputError
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import to_bytes
from ilo_pl.io.measurements import Measurements, Origin, find_measurements, load_measurements
from ilo_pl.runs.latents import load_point
from ilo_pl.runs.run import run
from ilo_pl.runs.sources import MeasurementFolder

FAST = ["generator=tiny", "method.splits=[0,1,3]", "method.steps=4", "method.free_noises=4"]
SEED = 11
ORIGIN = Origin((3, 32, 32), 5, "inversion", {"name": "identity"}, {"name": "none"})


@pytest.fixture
def faces(tmp_path: Path, tiny: TinyGenerator) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    drawn = tiny(torch.randn(2, 16, generator=torch.Generator().manual_seed(5)))
    for name, image in zip(("ann", "bob"), drawn, strict=True):
        pixels = to_bytes(image).permute(1, 2, 0).numpy()
        alpha = np.full((32, 32, 1), 255, np.uint8)
        alpha[:5] = 0
        Image.fromarray(np.concatenate([pixels, alpha], 2)).save(folder / f"{name}.png")
    return folder


def invert(*overrides: str) -> None:
    run(load_config([*FAST, *overrides]), Console(quiet=True))


RUNS = {
    "random mask": ["noise=gaussian", "noise.sigma=10", "method.init=random"],
    "circulant": ["task=compressed_sensing", "noise=gaussian", "noise.sigma=2"],
    "alpha": ["task=inpainting", "noise=poisson"],
    "composition": [
        "task=deblurring",
        "operator=composition",
        "operator.parts=[{name: blur, sigma: 1}, {name: mask, fraction: 0.3}, {name: grey}]",
        "noise=salt_and_pepper",
    ],
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_repeated_bit_for_bit(faces: Path, tmp_path: Path, name: str) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    invert(
        f"input={faces}", f"output={first}", f"seed={SEED}", "save_measurements=true", *RUNS[name]
    )
    # Neither the pictures nor what was configured is needed any more.
    for picture in faces.iterdir():
        picture.unlink()
    method = [key for key in RUNS[name] if key.startswith("method")]
    invert(f"input={first}/measurements", f"output={again}", *method)
    for image_id in ("ann", "bob"):
        points = [load_point(d / "latents" / f"{image_id}.safetensors")[0] for d in (first, again)]
        for (kind, a), (_, b) in zip(*(p.named() for p in points), strict=True):
            assert torch.equal(a, b), kind
        pictures = [d / "reconstructions" / f"{image_id}.png" for d in (first, again)]
        assert pictures[0].read_bytes() == pictures[1].read_bytes()
    repeated = load_config([*FAST, f"input={first}/measurements", "output=x"])
    assert (repeated.seed, repeated.simulate) == (SEED, False)
    original = load_config([*FAST, "input=x", "output=x", *RUNS[name]])
    assert (repeated.task, repeated.operator, repeated.noise) == (
        original.task,
        original.operator,
        original.noise,
    )


def test_images_together_are_measured_as_each_alone(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    invert(f"input={faces}", f"output={out}", "save_measurements=true", *RUNS["composition"])
    config = load_config([*FAST, f"input={out}/measurements", "output=x"])
    files = find_measurements(out / "measurements")
    source = MeasurementFolder(files, config.operator, config.noise, TinyGenerator())
    both, x = source.load([0, 1]), torch.randn(2, 3, 32, 32)
    for i in (0, 1):
        one = source.load([i])
        assert torch.equal(one.measurements[0], both.measurements[i])
        assert torch.equal(one.operator(x[i : i + 1])[0], both.operator(x)[i])
        hidden = one.operator.observed() - (one.measurements != 0).sum()
        assert float(hidden) == 0


def test_what_is_saved_is_what_was_measured(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    invert(f"input={faces}", f"output={out}", "task=compressed_sensing")
    saved = load_measurements(out / "measurements" / "ann.npz")
    assert saved.values.shape == (round(0.1 * 3 * 32 * 32),)
    assert saved.origin.operator == {"name": "circulant", "fraction": 0.1}
    assert saved.origin.task == "compressed_sensing"
    with np.load(out / "measurements" / "ann.npz", allow_pickle=False) as file:
        assert str(file["format"]) == "ilo_pl.measurements/1"
        assert file["y"].dtype == np.float32
    assert not list(out.rglob("*.part"))
    pictures = tmp_path / "pictures"
    invert(f"input={faces}", f"output={pictures}")
    assert not list((pictures / "measurements").glob("*.npz"))


def damage(path: Path, **arrays: np.ndarray | None) -> None:
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files} | arrays
    np.savez(path, **{name: array for name, array in kept.items() if array is not None})


def write_one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


SLIPS: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:300]), [], "cannot be read"),
    "damaged inside": (
        lambda p: p.write_bytes(p.read_bytes().replace(b"\x78", b"\x79")), [], "cannot be read|not a file",
    ),
    "text": (lambda p: p.write_text("y = 3"), [], "cannot be read"),
    "foreign": (lambda p: np.savez(p, y=np.ones(3)), [], "not a file of measurements"),
    "one array": (write_one_array, [], "not a file of measurements"),
    "without numbers": (lambda p: damage(p, y=None), [], "not a file of measurements"),
    "objects": (lambda p: damage(p, id=np.array([{}])), [], "cannot be read"),
    "another format": (lambda p: damage(p, format=np.array("x/2")), [], "not a file of measurements"),
    "numbers": (lambda p: damage(p, y=np.full((3, 32, 32), np.nan, np.float32)), [], "not finite"),
    "shape": (lambda p: damage(p, y=np.ones((3, 8, 8), np.float32)), [], "shape .3, 8, 8"),
    "id that climbs": (lambda p: damage(p, id=np.array("../ann")), [], "cannot name files"),
    "operator": (lambda p: damage(p, operator=np.array('{"name": "x"}')), [], "operator.name = 'x' cannot be used"),
    "no JSON": (lambda p: damage(p, operator=np.array("{")), [], "damaged"),
    "mask of words": (lambda p: damage(p, mask0=np.array([["a"]])), [], "masks in .* are not"),
    "no mask": (lambda p: damage(p, operator=np.array('{"name": "mask"}')), [], "no mask"),
    "image of another size": (lambda p: damage(p, image_shape=np.array([3, 8, 8])), [], "3, 8, 8"),
    "twice": (lambda p: (p.parent / "b.npz").write_bytes(p.read_bytes()), [], "both of the image"),
    "not alike": (
        lambda p: Measurements(
            "b", Origin((3, 32, 32), 6, "inversion", {}, {}), torch.ones(3)
        ).save(RunFolder(p.parent.parent)), [], "seed 5 and 6",
    ),
    "pictures too": (lambda p: (p.parent / "c.png").touch(), [], "pictures such as c.png"),
    "simulate": (lambda p: None, ["simulate=true"], "not measured again"),
    "another noise": (
        lambda p: None, ["noise=gaussian", "noise.sigma=3"],
        r"measured with noise none; this run is configured with gaussian, sigma=3\.0",
    ),
    "another task": (
        lambda p: None, ["task=super_resolution", "operator.factor=4"],
        "measured with operator identity; this run is configured with bicubic, factor=4",
    ),
    "another operator": (
        lambda p: None, ["task=random_inpainting", "operator.fraction=0.5"], "identity; .* mask, fraction=0.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS)
def test_slips_are_explained(tmp_path: Path, slip: str) -> None:
    spoil, overrides, says = SLIPS[slip]
    path = Measurements("ann", ORIGIN, torch.zeros(3, 32, 32)).save(RunFolder(tmp_path / "in"))
    spoil(path)
    with pytest.raises(IloError, match=says):
        invert(f"input={path.parent}", f"output={tmp_path}/out", *overrides)
    assert not (tmp_path / "out").exists()


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    masks = (torch.eye(32)[None], torch.ones(1, 8, 8))
    written = Measurements("ann é", ORIGIN, torch.randn(7), masks)
    path = written.save(RunFolder(tmp_path))
    read = load_measurements(path)
    assert (read.id, read.origin) == (written.id, written.origin)
    assert torch.equal(read.values, written.values)
    assert all(torch.equal(a.float(), b) for a, b in zip(read.masks, masks, strict=True))
    assert find_measurements(path.parent) == {"ann é": path}
    assert find_measurements(tmp_path / "nowhere") == {}
    with pytest.raises(InputError, match="cannot be read"):
        load_measurements(tmp_path / "nowhere.npz")


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_never_raise_anything_else(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written = Measurements("ann", ORIGIN, torch.arange(7.0), (torch.ones(1, 2, 2),))
        path = written.save(RunFolder(Path(folder)))
        raw = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
        with suppress(InputError):
            assert load_measurements(path).values.dtype == torch.float32
