"""From photos to aligned faces and back, as a user meets it."""

from __future__ import annotations

import json
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from scipy import ndimage

from tests.prepare.conftest import Prepare

EYES, MOUTH = "eyes=[50,50,80,52]", "mouth=[64,84]"
HEIGHT, WIDTH = 150, 130


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise = np.random.default_rng(1).normal(size=(HEIGHT, WIDTH, 3))
    smooth = ndimage.gaussian_filter(noise, (3, 3, 0))
    path = tmp_path / "photos" / "ann.png"
    path.parent.mkdir()
    Image.fromarray((smooth / np.abs(smooth).max() * 120 + 128).astype(np.uint8)).save(path)
    return path


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def square_of(path: Path) -> np.ndarray:
    return np.array(json.loads(path.read_text())["square"])


def align_and_paste(prepare: Prepare, photo: Path, *keys: str) -> Path:
    root = photo.parent.parent
    align = ("align", f"input={photo}", f"output={root}/aligned", "size=64", EYES, MOUTH)
    assert prepare(*align)[0] == 0
    paste = [f"input={root}/aligned", f"aligned={root}/aligned", f"photos={photo}"]
    status, _, error = prepare("paste", *paste, f"output={root}/restored", *keys)
    assert status == 0, error
    return root / "restored" / f"{photo.stem}.png"


def test_there_and_back_again(prepare: Prepare, photo: Path) -> None:
    restored = read(align_and_paste(prepare, photo))
    aligned = photo.parent.parent / "aligned"
    assert read(aligned / "ann.png").shape == (64, 64, 3)
    square = square_of(aligned / "ann.json")
    # Eyes 30.07 apart, the mouth 33.02 below: twice the one against 1.8 times the other is half the side.
    assert np.linalg.norm(square[3] - square[0]) == pytest.approx(2 * 2 * 30.07, abs=0.02)
    before = read(photo)
    assert np.abs(restored - before).mean() < 2
    top = int(np.ceil(square[:, 1].max())) + 1
    assert np.array_equal(restored[top:], before[top:])
    assert not np.array_equal(restored, before)


def test_a_restored_face_comes_back_in_its_colours(prepare: Prepare, photo: Path) -> None:
    root = photo.parent.parent
    prepare("align", f"input={photo}", f"output={root}/aligned", "size=64", EYES, MOUTH)
    (root / "results").mkdir()
    Image.new("RGB", (64, 64), (200, 10, 60)).save(root / "results/ann.png")
    keys = [f"input={root}/results", f"aligned={root}/aligned", f"photos={photo.parent}"]
    assert prepare("paste", *keys, f"output={root}/a", "feather=0.1")[0] == 0
    x, y = square_of(root / "aligned/ann.json").mean(0).round().astype(int)
    assert read(root / "a/ann.png")[y, x].tolist() == [200, 10, 60]
    # With a mask only its hole is replaced.
    mask = np.full((64, 64), 255, np.uint8)
    mask[:10, :10] = 0
    Image.fromarray(mask).save(root / "mask.png")
    keys += [f"masks={root}/mask.png", "feather=0.02"]
    assert prepare("paste", *keys, f"output={root}/b")[0] == 0
    after, before = read(root / "b/ann.png"), read(photo)
    assert np.array_equal(after[y, x], before[y, x])
    assert np.abs(after - before).max() > 30


def test_photos_that_do_not_work_are_named_and_the_others_done(
    prepare: Prepare, photo: Path
) -> None:
    root = photo.parent.parent
    (photo.parent / "bad.jpg").write_text("not a picture")
    Image.new("RGB", (3, 2)).save(photo.parent / "tiny.png")
    Image.open(photo).convert("L").save(photo.parent / "zed.png")
    face = {"eyes": [50, 50, 80, 52], "mouth": [64, 84]}
    points = np.zeros((68, 2))
    points[36:42], points[42:48], points[48], points[54] = [50, 50], [80, 52], [60, 84], [68, 84]
    faces = {"ann": face, "bad": face, "tiny": face, "zed": points.tolist()}
    # As editors of Windows write it: with a byte-order mark.
    (root / "faces.json").write_text(json.dumps(faces), "utf-8-sig")
    keys = [f"input={photo.parent}", f"output={root}/aligned", "size=32"]
    status, text, error = prepare("align", *keys, f"landmarks={root}/faces.json")
    assert status == 3
    assert "2 faces from 2 photos" in text
    assert "not done: bad.jpg" in error
    assert "not done: tiny.png" in error
    names = ["ann.json", "ann.png", "zed.json", "zed.png"]
    assert sorted(p.name for p in (root / "aligned").iterdir()) == names
    assert np.allclose(square_of(root / "aligned/ann.json"), square_of(root / "aligned/zed.json"))
    photo.unlink()
    keys = [f"input={root}/aligned", f"aligned={root}/aligned", f"photos={photo.parent}"]
    (photo.parent / "bad.jpg").unlink()
    status, text, error = prepare("paste", *keys, f"output={root}/restored")
    assert status == 3
    assert "not done: ann.png" in error
    assert [p.name for p in (root / "restored").iterdir()] == ["zed.png"]


def test_a_photo_is_turned_upright_and_keeps_profile_and_alpha(
    prepare: Prepare, photo: Path
) -> None:
    before = read(photo)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    alpha = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 256
    held = Image.fromarray(np.rot90(np.dstack([before, alpha]).astype(np.uint8)).copy())
    turned = photo.with_name("turned.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned clockwise
    held.save(turned, exif=exif, icc_profile=profile)
    path = align_and_paste(prepare, turned)
    straight = square_of(photo.parent.parent / "aligned/turned.json")
    assert np.linalg.norm(straight[3] - straight[0]) == pytest.approx(120.27, abs=0.02)
    after = read(path)
    assert after.shape == (HEIGHT, WIDTH, 4)
    assert np.array_equal(after[..., 3], alpha)
    assert np.array_equal(after[140:, :, :3], before[140:])
    assert np.abs(after[..., :3] - before).mean() < 2
    with Image.open(path) as file:
        assert file.info["icc_profile"] == profile


def test_sixteen_bits_and_palettes(prepare: Prepare, photo: Path, tmp_path: Path) -> None:
    grey = Image.open(photo).convert("L")
    deep = photo.with_name("deep.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(deep)
    after = read(align_and_paste(prepare, deep))
    assert np.array_equal(after[140:, :, 1], np.asarray(grey)[140:])


def test_without_dlib_the_error_says_what_to_install(
    prepare: Prepare, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    keys = (f"input={photo}", f"output={tmp_path}/out", "detector=dlib")
    status, _, error = prepare("align", *keys)
    assert status == 2
    assert "detector=mediapipe, the default, needs neither" in error
    assert 'pip install "ilo_pl[align]"' in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ([EYES], "belong together"),
        ([EYES, MOUTH, "landmarks=faces.json"], "either"),
        (["eyes=[50,50,80]", MOUTH], "eyes"),
        ([EYES, "mouth=[64,900]"], "far more than the photo"),
        (["eyes=[150,50,180,50]", "mouth=[165,90]"], "outside the photo"),
        ([EYES, MOUTH, "size=4"], "size = 4"),
        ([EYES, MOUTH, "face=small"], "give largest, all or centre"),
        (["detector=opencv"], "give mediapipe or dlib"),
        (["landmarks=none.json"], "none.json cannot be read"),
        (["landmarks=faces.json"], "is no face"),
        (["landmarks=other.json"], "no face for 'ann'"),
    ],
)
def test_a_mistake_is_explained_and_leaves_nothing(
    prepare: Prepare,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keys: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces.json").write_text('{"ann": {"eyes": [1, 2], "mouth": [3, 4]}}')
    (tmp_path / "other.json").write_text('{"bob": {"eyes": [1, 2, 3, 4], "mouth": [3, 9]}}')
    status, _, error = prepare("align", f"input={photo}", "output=out", *keys)
    assert status == 2
    assert says in error
    assert not (tmp_path / "out").exists()


def test_paste_refuses_what_does_not_belong_together(
    prepare: Prepare, photo: Path, tmp_path: Path
) -> None:
    aligned = tmp_path / "aligned"
    prepare("align", f"input={photo}", f"output={aligned}", "size=32", EYES, MOUTH)
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT - 1)).save(other / "ann.png")
    Image.new("L", (31, 31), 0).save(tmp_path / "mask.png")
    Image.new("RGB", (32, 30)).save(tmp_path / "ann.png")
    good = {"input": aligned, "aligned": aligned, "photos": photo}
    for change, says in (
        ({"photos": other}, "was cut from one of 130 x 150"),
        ({"photos": tmp_path / "mask.png"}, "photo ann.png is not in"),
        ({"input": photo.parent, "aligned": other}, "record"),
        ({"input": tmp_path / "ann.png"}, "a restored face is square"),
        ({"masks": tmp_path / "mask.png"}, "31 x 31"),
        ({"feather": 0.7}, "feather = 0.7"),
    ):
        keys = [f"{key}={value}" for key, value in {**good, **change}.items()]
        status, _, error = prepare("paste", *keys, f"output={tmp_path}/out")
        assert status == 2
        assert says in error
        assert not (tmp_path / "out").exists()
    record = json.loads((aligned / "ann.json").read_text())
    for key, value in (("square", [[0, 0]] * 4), ("format", "x"), ("size", "big")):
        (aligned / "ann.json").write_text(json.dumps({**record, key: value}))
        status, _, error = prepare(
            "paste", *(f"{k}={v}" for k, v in good.items()), f"output={tmp_path}/out"
        )
        assert status == 2
        assert "cannot be used" in error


def test_dlib_finds_the_known_square(prepare: Prepare, tmp_path: Path) -> None:
    pytest.importorskip("dlib")
    data = pytest.importorskip("skimage.data")
    if util.find_spec("face_recognition_models") is None:
        pytest.skip("the predictor of landmarks is not installed")
    astronaut = data.astronaut()
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(astronaut).save(folder / "astronaut.png")
    Image.new("RGB", (300, 200), "white").save(folder / "white.png")
    # Larger than what is searched: the square must scale with it.
    Image.fromarray(astronaut).resize((2560, 2560), Image.Resampling.BICUBIC).save(
        folder / "large.png"
    )
    keys = (f"input={folder}", f"output={tmp_path}/out", "size=64", "detector=dlib")
    status, _, error = prepare("align", *keys)
    assert "not done: white.png: No face was found" in error
    assert status == 3
    known = np.array([[142.3, 15.5], [133.7, 189.0], [307.1, 197.6], [315.7, 24.1]])
    assert np.abs(square_of(tmp_path / "out/astronaut.json") - known).max() < 1
    large = (square_of(tmp_path / "out/large.json") + 0.5) / 5 - 0.5
    assert np.abs(large - known).max() < 3


def test_the_middle_of_an_aligned_picture_is_the_picture(tmp_path: Path, prepare: Prepare) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (48, 61, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    keys = ("align", f"input={tmp_path}/wide.png", "face=centre", "size=48")
    assert prepare(*keys, f"output={tmp_path}/out")[0] == 0
    assert (read(tmp_path / "out" / "wide.png") == pixels[:, 6:54]).all()
    assert prepare(*keys, EYES, MOUTH, f"output={tmp_path}/other")[0] == 2
