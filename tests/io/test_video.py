"""Videos frame by frame, as they are."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ilo_pl.errors import InputError
from ilo_pl.io.video import frame_rate, is_video, read_frames, unpacked, write_video

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty frames of noise, which no codec makes small."""
    folder = tmp_path_factory.mktemp("film")
    rng = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(
            folder / f"{i:02d}.png"
        )
    write_video(sorted(folder.glob("*.png")), folder / "film.mp4", 12.5)
    return folder / "film.mp4"


def encode(path: Path, times: list[int]) -> None:
    """Write frames whose grey is twenty times their number, to be shown at times in tenths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number, np.uint8), "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frames_of_a_varying_rate_are_neither_repeated_nor_dropped(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    encode(path, [0, 1, 2, 30, 31, 90])
    frames = [(n, float(f.float().mean())) for n, f in read_frames(path)]
    assert [n for n, _ in frames] == [0, 1, 2, 3, 4, 5]
    assert np.abs(np.array([v for _, v in frames]) - 20 * np.arange(6)).max() < 3
    assert [n for n, _ in read_frames(path, 1, 4, 2)] == [1, 3]


def test_a_gif_of_two_frames_has_two(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (24, 16), (200 * i, 50, 50)) for i in range(2)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=[40, 460])
    assert [int(f[0, 0, 0]) for _, f in read_frames(tmp_path / "x.gif")] == [0, 200]
    with unpacked(tmp_path / "x.gif") as folder:
        assert sorted(p.name for p in folder.iterdir()) == ["x_000000.png", "x_000001.png"]
    frames[0].save(tmp_path / "still.gif")
    assert is_video(tmp_path / "x.gif") and not is_video(tmp_path / "still.gif")


def test_what_is_written_plays_everywhere(film: Path) -> None:
    raw = film.read_bytes()
    assert 0 < raw.index(b"moov") < raw.index(b"mdat")
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.format.name) == ("h264", "yuv420p")
    assert frame_rate(film) == 12.5


def test_the_frames_before_a_damage_are_read(film: Path, tmp_path: Path) -> None:
    raw = bytearray(film.read_bytes())
    for i in range(len(raw) // 2, len(raw), 7):
        raw[i] ^= 0x5A
    (tmp_path / "x.mp4").write_bytes(raw)
    with pytest.warns(UserWarning, match=r"x\.mp4 is damaged behind its frame"):
        frames = [frame for _, frame in read_frames(tmp_path / "x.mp4")]
    whole = [frame for _, frame in read_frames(film)]
    assert 10 < len(frames) < 30
    assert all((a == b).all() for a, b in zip(frames[:10], whole, strict=False))


def test_nothing_else_is_opened_for_a_video(film: Path, tmp_path: Path) -> None:
    for name, text in (
        ("a.mp4", f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{film}\n#EXT-X-ENDLIST\n"),
        ("b.mkv", f"ffconcat version 1.0\nfile '{film}'\n"),
        ("c.avi", ""),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=r"cannot be read as a video"):
            list(read_frames(tmp_path / name))
