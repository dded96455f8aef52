"""Masks, collages, blends and frames, as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ilo_pl.config.compose import load_config
from ilo_pl.io.images import LoadedImage
from ilo_pl.prepare.files import Record
from ilo_pl.prepare.landmarks import load_finder
from tests.prepare.conftest import Prepare


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two folders of two pictures each, of 40 x 30 pixels."""
    rng = np.random.default_rng(3)
    for folder in ("left", "right"):
        (tmp_path / folder).mkdir()
        for name in ("ann", "bob"):
            pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    return tmp_path


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_boxes_are_missing_and_nothing_else(prepare: Prepare, tmp_path: Path) -> None:
    out = tmp_path / "mask.png"
    boxes = "boxes=[[1,2,5,4],[4,0,9,3]]"
    status, text, _ = prepare("box", boxes, "size=[12,8]", f"output={out}")
    assert status == 0
    expected = np.full((8, 12), 255)
    expected[2:4, 1:5] = expected[0:3, 4:9] = 0
    assert np.array_equal(read(out), expected)
    assert f"{(expected == 0).mean():.1%}" in text
    assert prepare("box", "boxes=[0,0,1,1]", f"output={out}")[0] == 2
    assert np.array_equal(read(out), expected)


def test_a_written_mask_hides_what_the_same_box_of_a_run_hides(
    prepare: Prepare, tmp_path: Path
) -> None:
    prepare("box", "boxes=[3,4,20,9]", "size=32", f"output={tmp_path}/mask.png")
    made = []
    for source in (f"operator.file={tmp_path}/mask.png", "operator.box=[3,4,20,9]"):
        keys = ["input=a", "output=b", "generator=tiny", "task=inpainting", source]
        maker = load_config(keys).operator.maker((3, 32, 32), 0)
        picture = LoadedImage(torch.zeros(3, 32, 32), None)
        made.append(maker.make(["a"], [picture]).mask.expand(1, 1, 32, 32))
    assert torch.equal(made[0], made[1])


def test_random_masks_are_those_that_a_run_draws(prepare: Prepare, pictures: Path) -> None:
    out = pictures / "masks"
    keys = ("fraction=0.1", "seed=5", f"input={pictures}/left", f"output={out}")
    assert prepare("random", *keys)[0] == 0
    keys = ("input=a", "output=b", "operator.fraction=0.1")
    drawn = load_config(keys).operator.maker((3, 30, 40), 5).make(["ann", "bob"], []).mask
    for name, mask in zip(("ann", "bob"), drawn, strict=True):
        assert np.array_equal(read(out / f"{name}.png") == 255, mask[0] == 1)


def test_bright_is_observed_from_the_threshold_on(prepare: Prepare, tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    for keys, expected in (
        ([], ramp >= 128),
        (["threshold=0.2"], ramp >= 51),
        (["threshold=0.2", "invert=true"], ramp < 51),
        (["threshold=1"], ramp == 255),
    ):
        out = tmp_path / f"mask{len(list(tmp_path.iterdir()))}.png"
        assert prepare("mask", f"input={tmp_path}/ramp.png", f"output={out}", *keys)[0] == 0
        assert np.array_equal(read(out) == 255, expected)
    assert (
        prepare("mask", f"input={tmp_path}/ramp.png", f"output={tmp_path}/s.png", "size=[64,8]")[0]
        == 0
    )
    assert np.array_equal(read(tmp_path / "s.png") == 255, np.tile(np.arange(64) >= 32, (8, 1)))


def test_a_mask_drawn_over_a_photo_is_cut_out_with_the_face(
    prepare: Prepare, tmp_path: Path
) -> None:
    drawn = np.full((60, 80), 255, np.uint8)
    drawn[20:40, 30:50] = 0
    Image.fromarray(drawn).save(tmp_path / "drawn.png")
    aligned = tmp_path / "aligned"
    aligned.mkdir()
    # A quarter turn: the square's left edge is the photo's top.
    square = np.array([[69.5, 9.5], [19.5, 9.5], [19.5, 59.5], [69.5, 59.5]])
    (aligned / "f.json").write_text(Record("p.jpg", (80, 60), square, 50).text())
    keys = (f"input={tmp_path}/drawn.png", f"aligned={aligned}", f"output={tmp_path}/masks")
    assert prepare("mask", *keys)[0] == 0
    expected = np.rot90(drawn[10:60, 20:70])
    assert np.array_equal(read(tmp_path / "masks/f.png"), expected)


def test_collages(prepare: Prepare, pictures: Path) -> None:
    inputs = f"inputs=[{pictures}/left,{pictures}/right]"
    one, two = (read(pictures / side / "bob.png") for side in ("left", "right"))
    assert prepare("collage", inputs, f"output={pictures}/c")[0] == 0
    assert np.array_equal(read(pictures / "c/bob.png"), np.hstack([one[:, :20], two[:, 20:]]))
    assert prepare("collage", inputs, f"output={pictures}/r", "direction=rows")[0] == 0
    assert np.array_equal(read(pictures / "r/bob.png"), np.vstack([one[:15], two[15:]]))
    # A file goes with every picture of a folder.
    inputs = f"inputs=[{pictures}/left,{pictures}/right/bob.png]"
    assert prepare("collage", inputs, f"output={pictures}/b", "boxes=[3,4,30,9]")[0] == 0
    for name in ("ann", "bob"):
        expected = read(pictures / "left" / f"{name}.png").copy()
        expected[4:9, 3:30] = two[4:9, 3:30]
        assert np.array_equal(read(pictures / "b" / f"{name}.png"), expected)


def test_blends(prepare: Prepare, pictures: Path) -> None:
    paths = [pictures / side / "ann.png" for side in ("left", "right")]
    inputs = f"inputs=[{paths[0]},{paths[1]}]"
    assert prepare("blend", inputs, f"output={pictures}/x.png", "weight=0.25")[0] == 0
    one, two = (read(path).astype(float) for path in paths)
    assert np.abs(read(pictures / "x.png") - (0.75 * one + 0.25 * two)).max() <= 0.5001


def test_frames_by_number(prepare: Prepare, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    video = tmp_path / "v.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(12):
            grey = np.full((48, 64, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        container.mux(stream.encode(None))
    out = tmp_path / "frames"
    keys = ("first=2", "last=9", "every=3")
    status, text, _ = prepare("frames", f"input={video}", f"output={out}", *keys)
    assert status == 0
    assert "3 frames" in text
    assert sorted(p.name for p in out.iterdir()) == [f"v_00000{i}.png" for i in (2, 5, 8)]
    for number in (2, 5, 8):
        frame = read(out / f"v_00000{number}.png").astype(int)
        assert frame.shape == (48, 64, 3)
        assert np.abs(frame - 20 * number).max() <= 4
    status, text, _ = prepare("video", f"input={out}", f"output={tmp_path}/short.mp4", "rate=5")
    assert (status, f"Written to {tmp_path}/short.mp4: 3 frames" in text) == (0, True)
    (tmp_path / "short.mp4").unlink()
    (tmp_path / "bad.mp4").write_bytes(b"x" * 1000)
    status, _, error = prepare("frames", f"input={tmp_path}", f"output={tmp_path}/all")
    assert status == 3
    assert "not done: bad.mp4" in error
    assert len(list((tmp_path / "all").iterdir())) == 12


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["box", "boxes=[1,2,3,4]"], "'output' is missing"),
        (["box", "box=[1,2,3,4]", "output=x.png"], "Did you mean 'boxes'"),
        (["box", "boxes=[5,2,3,4]", "output=x.png"], "does not lie within"),
        (["box", "boxes=[[0,0,9,5],[0,5,9,9]]", "size=9", "output=x.png"], "no pixel at all"),
        (["box", "boxes=1,2", "output=x.png"], "list in brackets"),
        (["box", "boxes=[1,2,3,4]", "output=x.png", "output=y.png"], "given twice"),
        (["random", "fraction=0", "output=x.png"], "cannot be observed"),
        (["random", "fraction=0.5", "input=left", "output=x.png"], "one file and there are 2"),
        (["mask", "input=left/ann.png", "output=x.png", "threshold=2"], "threshold = 2"),
        (["mask", "input=left", "output=right"], "not empty"),
        (["mask", "input=left", "output=x", "aligned=right"], "no record"),
        (["collage", "inputs=[left]", "output=x"], "inputs"),
        (["collage", "inputs=[left,few]", "output=x"], "'bob' is in one of them only"),
        (["collage", "inputs=[left,right]", "boxes=[[0,0,1,1],[0,0,1,1]]", "output=x"], "2 boxes"),
        (["blend", "inputs=[left/ann.png,small.png]", "output=x.png"], "is 7 x 5 pixels"),
        (["frames", "input=left", "output=x"], "holds no video"),
        (["video", "input=left", "output=x.avi"], "written as MP4"),
        (["video", "input=left", "output=x.mp4", "rate=0"], "rate = 0"),
        (["frames", "input=v.mp4", "output=x"], "no file or folder v.mp4"),
        (["frames", "input=v.mp4", "output=x", "first=3", "last=2"], "comes before"),
    ],
)
def test_a_mistake_is_explained_and_leaves_nothing(
    prepare: Prepare,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(pictures)
    (pictures / "few").mkdir()
    Image.new("RGB", (40, 30)).save("few/ann.png")
    Image.new("RGB", (7, 5)).save("small.png")
    before = sorted(pictures.rglob("*"))
    status, _, error = prepare(*arguments)
    assert status == 2
    assert says in error
    assert sorted(pictures.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        (["random", "fraction=0.01", "input=in"], ["good"]),
        (["collage", "inputs=[in,in]", "boxes=[1,1,10,10]"], ["good"]),
        (["collage", "inputs=[in,in]"], ["column", "good", "one", "row"]),
        (["blend", "inputs=[in,in]"], ["column", "good", "one", "row"]),
        (["mask", "input=in", "size=8"], ["column", "good", "one", "row"]),
        (["align", "input=in", "landmarks=faces.json", "size=16"], ["good"]),
    ],
)
def test_tiny_pictures_hold_up_no_other(
    prepare: Prepare,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    fits: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    sizes = {"one": (1, 1), "row": (40, 1), "column": (1, 40), "good": (64, 64)}
    for name, size in sizes.items():
        Image.new("RGB", size, (250, 250, 250)).save(f"in/{name}.png")
    face = {"eyes": [20, 20, 40, 20], "mouth": [30, 45]}
    Path("faces.json").write_text(json.dumps(dict.fromkeys(sizes, face)))
    status, _, error = prepare(*arguments, "output=out")
    assert sorted(p.stem for p in Path("out").glob("*.png")) == fits
    assert error.count("not done") == len(sizes) - len(fits)
    assert status == (3 if len(fits) < len(sizes) else 0)


def test_dlib_looks_at_pictures_of_one_pixel() -> None:
    pytest.importorskip("dlib")
    find = load_finder("dlib")
    for size in ((1, 1), (1, 40), (40, 1), (2, 2)):
        assert find(torch.zeros(3, *size, dtype=torch.uint8)) == []
