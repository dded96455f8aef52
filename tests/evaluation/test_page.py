"""What a report is made of: pictures within a budget, maps of the error, curves of the loss."""

from __future__ import annotations

import base64
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from ilo_pl.evaluation.curve import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, loss_curve
from ilo_pl.evaluation.layers import REFERENCE, Layer, Layers, draw
from ilo_pl.evaluation.page import cell
from ilo_pl.evaluation.thumbnails import BUDGET, Embedded, Embedder, error_map


def noise(side: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(values)


def decoded(picture: Embedded) -> Image.Image:
    head, _, data = picture.uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize("count", [1, 900, 20_000])
def test_pictures_that_cannot_be_compressed_stay_within_the_budget(count: int) -> None:
    picture = Embedder(count)(noise(1024))
    assert count * len(picture.uri) <= BUDGET
    assert (picture.width, picture.height, picture.small) == (1024, 1024, False)
    assert decoded(picture).width >= {1: 256, 900: 96, 20_000: 16}[count]


def test_a_small_picture_is_in_the_page_pixel_by_pixel() -> None:
    picture = Embedder(1)(noise(32))
    assert picture.small
    assert np.array_equal(np.asarray(decoded(picture).convert("RGB")), np.asarray(noise(32)))


def test_an_error_map_has_the_colours_that_its_legend_says() -> None:
    """Black without an error, the middle at 16 grey levels, the last colour from 64 on."""
    true = Image.new("RGB", (4, 1), (100, 100, 100))
    ours = true.copy()
    for x, value in enumerate([(100, 100, 100), (124, 100, 76), (164, 36, 164), (250, 0, 250)]):
        ours.putpixel((x, 0), value)
    shown = np.asarray(error_map(ours, true))[0] / 255
    expected = [colormaps["inferno"](at)[:3] for at in (0.0, 0.5, 1.0, 1.0)]
    assert np.abs(shown - expected).max() < 2 / 255


def test_a_picture_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    noise(32).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    files = {
        "result": Layer(tmp_path / "good.png", "good.png"),
        REFERENCE: Layer(tmp_path / "bad.png"),
    }
    (drawn,) = draw([Layers(files, ("result",))])
    assert [picture.label for picture in drawn.pictures] == ["result"]
    assert drawn.errors == ()
    assert len(drawn.notes) == 1 and str(tmp_path / "bad.png") in drawn.notes[0]


def rows(*stages: list[float]) -> list[dict[str, str]]:
    """Return the table of losses of stages of one round each, a row for each step."""
    found: list[dict[str, str]] = []
    for stage, losses in enumerate(stages):
        for loss in losses:
            place = {"stage": str(stage), "round": "0", "split": "0", "loss": str(loss)}
            found.append({"step": str(len(found) + 1), **place})
    return found


def test_a_curve_is_where_its_axes_say() -> None:
    """Equal ratios of losses are equal distances; stages begin where their first step does."""
    drawn = loss_curve(rows([1.0, 0.1, 0.01], [0.1, float("nan"), 0.0, 0.001, 0.01]))
    assert drawn is not None
    first, second = (
        [tuple(map(float, p.split(","))) for p in line.split()] for line in drawn.lines
    )
    width = WIDTH - LEFT - RIGHT
    assert [x for x, _ in first] == pytest.approx(
        [LEFT + width * n / 8 for n in (1, 2, 3)], abs=0.1
    )
    assert [x for x, _ in second] == pytest.approx(
        [LEFT + width * n / 8 for n in (4, 7, 8)], abs=0.1
    )
    decade = (HEIGHT - TOP - BOTTOM) / 3
    assert [y for _, y in first] == pytest.approx([TOP + decade * n for n in (0, 1, 2)], abs=0.2)
    assert [y for _, y in second] == pytest.approx([TOP + decade * n for n in (1, 3, 2)], abs=0.2)
    assert [text for _, text in drawn.switches] == ["1", "2"]
    assert drawn.switches[1][0] == pytest.approx(LEFT + width * 3 / 8, abs=0.1)
    marks = {text: y for y, text in drawn.upwards}
    assert marks["0.1"] == pytest.approx(TOP + decade, abs=0.2)
    assert loss_curve(rows([float("nan")])) is None


def test_names_of_many_stages_are_not_written_over_each_other() -> None:
    drawn = loss_curve(rows(*[[0.1, 0.01]] * 60))
    assert drawn is not None and len(drawn.switches) == len(drawn.lines) == 60
    named = [(at, name) for at, name in drawn.switches if name]
    assert 10 < len(named) < 40 and named[0] == (LEFT, "1")
    for (before, name), (after, _) in pairwise(named):
        assert after - before >= 6 * len(name)


@pytest.mark.parametrize("loss", [1.0, 1e-9, 3e7])
def test_a_curve_of_one_step_or_of_one_height_can_be_drawn(loss: float) -> None:
    for losses in ([loss], [loss] * 1000):
        drawn = loss_curve(rows(losses))
        assert drawn is not None and 2 <= len(drawn.upwards) <= 6
        points = [tuple(map(float, p.split(","))) for p in drawn.lines[0].split()]
        assert len(points) <= 242
        assert all(LEFT <= x <= WIDTH and TOP <= y <= HEIGHT - BOTTOM for x, y in points)


@pytest.mark.parametrize(
    ("column", "text", "shown", "order"),
    [
        ("psnr", "31.2468", "31.25", "31.2468"),
        ("psnr", "inf", "inf", "Infinity"),
        ("lpips", "nan", "nan", "nan"),
        ("mse", "0.00123456", "0.00123", "0.00123456"),
        ("id", "007", "007", ""),
        ("level", "0.05", "0.05", "0.05"),
        ("reason", "<b>", "<b>", ""),
    ],
)
def test_numbers_of_a_table_are_sorted_by_their_value(
    column: str, text: str, shown: str, order: str
) -> None:
    made = cell(column, text)
    assert (made.text, made.order) == (shown, order)
