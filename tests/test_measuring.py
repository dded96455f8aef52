"""Operators from configurations, bound to images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from ilo_pl import TinyGenerator
from ilo_pl.config.compose import load_config
from ilo_pl.errors import IloError
from ilo_pl.inversion.source import Batch
from ilo_pl.io.find import find_images
from ilo_pl.operators import (
    Composition,
    Convolution,
    ForwardOperator,
    Grey,
    LinearOperator,
    Mask,
    Separable,
)
from ilo_pl.runs.sources import ImageFolder

SHAPE = (3, 32, 32)


def parts(text: str) -> list[str]:
    return ["task=deblurring", "operator=composition", f"operator.parts=[{text}]"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(("ann", "bob")):
        pixels = torch.randint(0, 250, (32, 32, 4), generator=torch.Generator().manual_seed(seed))
        Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{name}.png")
    return folder


def measure(photos: Path, *overrides: str, indices: tuple[int, ...] = (0, 1)) -> Batch:
    config = load_config([f"input={photos}", "output=b", "seed=3", *overrides])
    maker = config.operator.maker(SHAPE, config.seed)
    files, generator = find_images(photos), TinyGenerator()
    source = ImageFolder(
        files, maker, generator, config.seed, simulate=config.simulate, noise=config.noise
    )
    return source.load(indices)


def test_a_composition_is_its_parts_in_order(photos: Path) -> None:
    chain = parts(
        "{name: blur, sigma: 2}, {name: bicubic, factor: 2}, {name: grey}, {name: mask, fraction: 0.3}"
    )
    batch = measure(photos, *chain)
    assert isinstance(batch.operator, Composition)
    expected = Composition(
        [
            Separable.gaussian_blur(SHAPE, 2.0),
            Separable.bicubic(SHAPE, 2),
            Grey((3, 16, 16)),
            Mask.random((1, 16, 16), 0.3, 3, ["ann", "bob"]),
        ]
    )
    x = torch.randn(2, *SHAPE)
    assert torch.equal(batch.operator(x), expected(x))
    alone = measure(photos, *chain, indices=(1,))
    assert torch.equal(alone.measurements[0], batch.measurements[1])
    assert torch.equal(alone.operator(x[1:])[0], batch.operator(x)[1])


def test_motion_blur_by_its_keys(photos: Path) -> None:
    keys = ["task=deblurring", "operator=motion_blur", "operator.length=7", "operator.angle=30"]
    x = torch.randn(1, *SHAPE)
    made = measure(photos, *keys).operator
    assert torch.equal(made(x), Convolution.motion_blur(SHAPE, 7, 30)(x))


@pytest.mark.parametrize(
    "text",
    [
        "{name: blur, sigma: 2}, {name: mask, fraction: 0.3}",
        "{name: mask, fraction: 0.3}, {name: grey}",
        "{name: mask, box: [3, 4, 20, 30]}, {name: identity}, {name: mask, fraction: 0.3}",
    ],
)
@pytest.mark.parametrize("noise", ["gaussian", "poisson", "salt_and_pepper", "quantisation"])
def test_what_a_mask_hides_has_no_noise_and_does_not_count(
    photos: Path, text: str, noise: str
) -> None:
    batch = measure(photos, *parts(text), f"noise={noise}")
    operator: ForwardOperator = batch.operator
    assert isinstance(operator, LinearOperator)
    # A measurement that no image can change is hidden.
    seen = operator(torch.rand(2, *SHAPE) + 0.5) != 0
    assert not bool(batch.measurements[~seen].any())
    assert operator.observed().tolist() == seen.flatten(1).sum(1).tolist()
    assert 0 < int(seen.sum()) < seen.numel()


SLIPS: dict[str, tuple[list[str], str]] = {
    "no parts": (parts(""), "operator.parts is empty"),
    "unknown part": (parts("{name: blurr}"), r"operator\.parts\.0.*'blurr'"),
    "unknown key": (parts("{name: blur, sigm: 3}"), "Did you mean 'sigma'"),
    "nested": (
        parts("{name: composition}"),
        "operator.parts.0.name = 'composition' cannot be used",
    ),
    "after a vector": (
        parts("{name: circulant, fraction: 0.5}, {name: grey}"),
        r"parts.0 \(circulant\) measures a vector of 1536 .* grey takes a picture",
    ),
    "does not fit": (
        parts("{name: bicubic, factor: 4}, {name: bicubic, factor: 3}"),
        r"parts.1 \(bicubic\): factor = 3 does not divide an image 8 pixels wide",
    ),
    "grey twice": (
        parts("{name: grey}, {name: grey}"),
        r"parts.1 \(grey\): .* three channels; got 1",
    ),
    "mask of another size": (
        parts("{name: bicubic, factor: 4}, {name: mask, alpha: true}"),
        "32 pixels wide and 32 high; the mask is for images of 8 x 8",
    ),
    "true is no number": (["operator.fraction=true"], "operator.fraction = True"),
    "true is no pixel": (["operator.fraction=null", "operator.box=[true,0,4,4]"], "box.0 = True"),
    "colour nowhere": (
        ["task=inpainting", "operator.colour='#ff0000'"],
        "No pixel of 'ann' has the colour #ff0000.* nearest colour in it is '#[d-f].[0-4].[0-4].'",
    ),
    "too long": (["task=deblurring", "operator=motion_blur"], "length = 61.0; .* at most 32"),
}


def paint(path: Path, hole: int, alpha: int = 255) -> Path:
    """Write a white mask with a hole of 8 x 8 pixels."""
    pixels = torch.full((32, 32, 4), 255, dtype=torch.uint8)
    pixels[4:12, 4:12] = torch.tensor([hole, hole, hole, alpha])
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels.numpy()).save(path)
    return path


@pytest.mark.parametrize(("hole", "alpha"), [(0, 255), (127, 255), (255, 0), (0, 0)])
def test_dark_and_transparent_pixels_of_a_mask_file_are_missing(
    photos: Path, tmp_path: Path, hole: int, alpha: int
) -> None:
    mask = paint(tmp_path / "mask.png", hole, alpha)
    operator = measure(photos, "task=inpainting", f"operator.file={mask}").operator
    expected = torch.ones(32, 32)
    expected[4:12, 4:12] = 0
    assert isinstance(operator, Mask)
    assert torch.equal(operator.mask, expected.expand(2, 1, 32, 32))
    assert operator.missing_share().tolist() == pytest.approx([64 / 1024] * 2)


def test_the_share_that_is_missing_is_that_of_what_is_measured(photos: Path) -> None:
    chain = parts("{name: bicubic, factor: 2}, {name: grey}, {name: mask, box: [0, 0, 8, 4]}")
    assert measure(photos, *chain).operator.missing_share().tolist() == pytest.approx([32 / 256])
    assert measure(photos, "task=compressed_sensing").operator.missing_share().tolist() == [0]
    # Who asks for it in numbers may observe everything.
    assert measure(photos, "operator.fraction=1").operator.missing_share().tolist() == [0, 0]


@pytest.mark.parametrize("hole", [128, 255])
def test_a_mask_file_that_hides_nothing_is_refused(photos: Path, tmp_path: Path, hole: int) -> None:
    mask = paint(tmp_path / "mask.png", hole)
    with pytest.raises(IloError, match=f"hides nothing: its darkest pixel is grey level {hole}"):
        measure(photos, "task=inpainting", f"operator.file={mask}")


def test_alpha_that_hides_nothing_is_refused(photos: Path) -> None:
    for path in photos.iterdir():
        Image.open(path).convert("RGB").convert("RGBA").save(path)
    with pytest.raises(IloError, match="No pixel of 'ann' is transparent"):
        measure(photos, "task=inpainting")


def test_one_file_serves_all_images_and_a_folder_goes_by_name(photos: Path, tmp_path: Path) -> None:
    mask = paint(tmp_path / "masks" / "ann.png", 0)
    assert measure(photos, "task=inpainting", f"operator.file={mask}").operator.count == 2
    folder = ["task=inpainting", f"operator.file={mask.parent}"]
    assert measure(photos, *folder, indices=(0,)).operator.count is None
    with pytest.raises(IloError, match="no mask for 'bob'"):
        measure(photos, *folder)


@pytest.mark.parametrize("slip", SLIPS)
def test_slips_are_explained(photos: Path, slip: str) -> None:
    overrides, says = SLIPS[slip]
    with pytest.raises(IloError, match=says):
        measure(photos, *overrides)
