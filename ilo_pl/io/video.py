"""Videos in and out, by the ffmpeg that comes with imageio-ffmpeg."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError, InputError, OutputError
from ilo_pl.io.folder import atomic
from ilo_pl.io.images import load_image, to_picture

RATE = 25.0
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


def is_video(path: Path) -> bool:
    """Return whether a path is named like a video."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def frame_name(video: str, number: int) -> str:
    """Return the file name of a video's frame."""
    return f"{video}_{number:06d}.png"


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield a path; for a video that of a temporary folder with its frames, NAME_000000.png and so on.

    Raises:
        ConfigurationError: videos cannot be decoded here.
        InputError: it is no video that ffmpeg can read.
    """
    if not is_video(path):
        yield path
        return
    check_decoder()
    with tempfile.TemporaryDirectory() as folder:
        for number, frame in read_frames(path):
            name = frame_name(path.stem, number)
            to_picture(frame).save(Path(folder) / name, compress_level=1)
        yield Path(folder)


def check_decoder() -> None:
    """Make sure that videos can be decoded and encoded.

    Raises:
        ConfigurationError: the package of the extra ``video`` is not installed.
    """
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "Videos need imageio-ffmpeg, which is not installed.",
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


def frame_rate(path: Path) -> float:
    """Return the frames per second of a video, 25 where its file does not say.

    Args:
        path: the video.
    """
    import imageio_ffmpeg

    ask = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-i", f"file:{path}"]
    said = subprocess.run(ask, capture_output=True, check=False).stderr.decode(errors="replace")
    found = re.search(r"([0-9.]+) fps", said)
    return float(found.group(1)) if found else RATE


def write_video(frames: Sequence[Path], path: Path, rate: float = RATE) -> None:
    """Write pictures as an MP4 (H.264) that every player shows.

    Args:
        frames: at least one picture; all of one size.
        path: the file.
        rate: frames per second.

    Raises:
        InputError: a picture has another size than the first.
        OutputError: it cannot be written.
    """
    import imageio_ffmpeg

    height, width = load_image(frames[0]).rgb.shape[1:]
    # Players want 4:2:0, which has no odd sizes: those get a row or a column more.
    encode = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", "-f", "rawvideo"]
    encode += ["-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate), "-i", "-"]
    encode += ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-crf", "16"]
    encode += ["-movflags", "+faststart", "-f", "mp4"]
    with (
        atomic(path) as part,
        tempfile.TemporaryFile() as messages,
        subprocess.Popen(
            [*encode, f"file:{part}"], stdin=subprocess.PIPE, stderr=messages
        ) as process,
    ):
        assert process.stdin is not None
        try:
            for frame in frames:
                rgb = load_image(frame).rgb
                if rgb.shape[1:] != (height, width):
                    raise InputError(
                        f"{frame} has {rgb.shape[2]} x {rgb.shape[1]} pixels and {frames[0]} "
                        f"{width} x {height}; frames of a video have one size."
                    )
                process.stdin.write(to_picture(rgb).tobytes())
            process.stdin.close()
        except BrokenPipeError:
            pass  # ffmpeg says why
        except BaseException:
            process.kill()
            raise
        if process.wait():
            messages.seek(0)
            lines = messages.read().decode(errors="replace").strip().splitlines()
            raise OutputError(
                f"{path} could not be written: {lines[-1] if lines else 'ffmpeg failed'}."
            )


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
