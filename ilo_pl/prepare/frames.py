"""Frames of a video, decoded by the ffmpeg that comes with imageio-ffmpeg."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError, InputError

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".gif")


def find_videos(path: Path) -> dict[str, Path]:
    """Return the video at a path, or those of a folder, by name without suffix, sorted.

    Raises:
        InputError: there is none, or two have one name.
    """
    if path.is_file():
        return {path.stem: path}
    if not path.is_dir():
        raise InputError(f"There is no file or folder {path}.")
    files = [f for f in sorted(path.iterdir()) if f.suffix.lower() in SUFFIXES and f.is_file()]
    if not files:
        raise InputError(f"The folder {path} holds no video.", choices=SUFFIXES)
    found = {file.stem: file for file in files}
    if len(found) < len(files):
        raise InputError(
            f"Two videos in {path} have the same name but for the suffix.", hint="Rename one."
        )
    return found


def check_decoder() -> None:
    """Make sure that videos can be decoded.

    Raises:
        ConfigurationError: the package of the extra ``video`` is not installed.
    """
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "Reading videos needs imageio-ffmpeg, which is not installed.",
            hint='Run pip install "ilo_pl[video]".',
        ) from error


def read_frames(
    path: Path, first: int = 0, last: int | None = None, every: int = 1
) -> Iterator[tuple[int, Tensor]]:
    """Yield every ``every``-th frame from ``first`` to ``last`` (inclusive), with its number from 0.

    Of a damaged video the frames before the damage are read. Where a video's rate varies, ffmpeg repeats
    frames to make it even.

    Args:
        path: the video.
        first: number of the first frame.
        last: number of the last frame that may be taken; ``None`` for the video's end.
        every: distance between frames.

    Yields:
        The frame's number and its pixels, ``(3, H, W)`` uint8.

    Raises:
        InputError: the file is no video that ffmpeg can read.
    """
    import imageio_ffmpeg

    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    # imageio_ffmpeg.read_frames leaves pipes open; PPM frames say their size themselves.
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", f"file:{path}"]
    decode += ["-an", "-f", "image2pipe", "-vcodec", "ppm", "-pix_fmt", "rgb24", "-"]
    number = -1
    with (
        tempfile.TemporaryFile() as messages,
        subprocess.Popen(decode, stdout=subprocess.PIPE, stderr=messages) as process,
    ):
        assert process.stdout is not None
        try:
            for number, frame in enumerate(_ppm_frames(process.stdout)):
                if last is not None and number > last:
                    return
                if number >= first and (number - first) % every == 0:
                    yield number, frame
        finally:
            process.kill()
        process.wait()
        messages.seek(0)
        lines = messages.read().decode(errors="replace").strip().splitlines()
    if number < 0:
        # ffmpeg begins with where in its memory the problem was.
        reason = f": {lines[0].rpartition('] ')[2][:200]}" if lines else ""
        raise InputError(f"{path} cannot be read as a video{reason}.")


def _ppm_frames(stream: IO[bytes]) -> Iterator[Tensor]:
    """Yield pictures ``(3, H, W)`` uint8 of concatenated binary PPM files, to the last whole one."""
    while stream.readline() == b"P6\n":
        width, height = (int(length) for length in stream.readline().split())
        stream.readline()  # 255, the largest value
        data = bytearray(stream.read(height * width * 3))
        if len(data) < height * width * 3:
            return
        pixels = torch.frombuffer(data, dtype=torch.uint8)
        yield pixels.view(height, width, 3).permute(2, 0, 1)
