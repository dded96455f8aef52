"""Frames of a video, decoded by the ffmpeg that comes with imageio-ffmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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
    reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
    try:
        width, height = next(reader)["size"]
        for number, data in enumerate(reader):
            if last is not None and number > last:
                break
            if number >= first and (number - first) % every == 0:
                # A bytearray, because torch has no tensors that cannot be written to.
                pixels = torch.frombuffer(bytearray(data), dtype=torch.uint8)
                yield number, pixels.view(height, width, 3).permute(2, 0, 1)
    except (OSError, RuntimeError, StopIteration) as error:
        lines = str(error).strip().splitlines()
        reason = f": {lines[-1][:200]}" if lines else ""
        raise InputError(f"{path} cannot be read as a video{reason}.") from error
    finally:
        reader.close()
