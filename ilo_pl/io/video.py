"""Videos in and out, by PyAV."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError, InputError, OutputError
from ilo_pl.io.folder import atomic
from ilo_pl.io.formats import SUFFIXES as PICTURES
from ilo_pl.io.formats import check_name
from ilo_pl.io.images import count_frames, frames_of, load_image, to_bytes, to_picture

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

RATE = 25.0
GIF = ".gif"
SUFFIXES = (
    *(".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp"),
    *(".wmv", ".flv", ".ogv", GIF),
)
# Playlists are none of these: they would have other files opened, and addresses.
CONTAINERS = "mov,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg,gif,h264,hevc"
# Four times 8K: what a file may ask to be decoded.
MOST_PIXELS = 1 << 27
MOST_RATE = 1000.0
CRF = "16"


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
    """Return whether a path is a video: named like one, and no GIF that stands still."""
    named = path.suffix.lower() in SUFFIXES and path.is_file()
    return named and (path.suffix.lower() != GIF or count_frames(path) > 1)


def frame_name(video: str, number: int) -> str:
    """Return the file name of a video's frame."""
    return f"{video}_{number:06d}.png"


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield a path; for a video that of a temporary folder with its frames, NAME_000000.png and so on.

    Raises:
        ConfigurationError: videos cannot be decoded here.
        InputError: it is no video that can be read.
    """
    if not is_video(path):
        yield path
        return
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
        import av  # noqa: F401  # loads all of FFmpeg
    except ImportError as error:
        raise ConfigurationError(
            "Videos need PyAV, which is not installed.", hint='Run pip install "ilo_pl[video]".'
        ) from error


def read_frames(
    path: Path, first: int = 0, last: int | None = None, every: int = 1
) -> Iterator[tuple[int, Tensor]]:
    """Yield every ``every``-th frame from ``first`` to ``last`` (inclusive), with its number from 0.

    Each frame of the file is one, whatever time it is shown for. Of a damaged video the frames before the
    damage are read, with a warning. Animated pictures (GIF, WebP, PNG) and pages of TIFF files are frames too.

    Args:
        path: the video.
        first: number of the first frame.
        last: number of the last frame that may be taken; ``None`` for the video's end.
        every: distance between frames.

    Yields:
        The frame's number and its pixels, ``(3, H, W)`` uint8.

    Raises:
        ConfigurationError: videos cannot be decoded here.
        InputError: the file is no video that can be read.
    """
    check_name(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    number = -1
    try:
        for number, frame in enumerate(_frames(path)):
            if last is not None and number > last:
                return
            if number >= first and (number - first) % every == 0:
                yield number, frame
    except InputError as error:
        if number < 0:
            raise
        warnings.warn(
            f"{path} is damaged behind its frame {number}; those before are read. {error.what}",
            stacklevel=2,
        )
    if number < 0:
        raise InputError(f"{path} cannot be read as a video: it holds no frame.")


def _frames(path: Path) -> Iterator[Tensor]:
    if path.suffix.lower() in PICTURES:
        yield from frames_of(path)
        return
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in _decoded(container, stream):
            # As the command ffmpeg does it, so that frames are the same to the bit.
            pixels = frame.reformat(format="rgb24", interpolation="BICUBIC").to_ndarray()
            upright = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
            yield torch.from_numpy(upright).permute(2, 0, 1)


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield frames; at a damage also those that were under way, in other threads or out of order."""
    import av  # loads all of FFmpeg

    try:
        for packet in container.demux(stream):
            yield from packet.decode()
    except av.error.FFmpegError:
        with suppress(av.error.FFmpegError):
            yield from stream.codec_context.decode(None)
        raise


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """Open a video; what FFmpeg finds wrong with it, also in the block, is an error for people."""
    check_decoder()
    import av

    try:
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
        # Titles that are no UTF-8: since PyAV 19 they are no error by themselves.
        old = int(av.__version__.partition(".")[0]) < 19
        lenient: dict[str, Any] = {"metadata_errors": "replace"} if old else {}
        with av.open(str(path), options=options, **lenient) as container:
            if not container.streams.video:
                raise InputError(f"{path} cannot be read as a video: it has no pictures.")
            codec = container.streams.video[0].codec_context
            if codec.width * codec.height > MOST_PIXELS:
                raise InputError(
                    f"{path} says that its frames have {codec.width} x {codec.height} pixels, more "
                    "than are read."
                )
            yield container
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read as a video: {reason}.") from error


def frame_rate(path: Path) -> float:
    """Return the frames per second of a video, their mean where it varies, 25 where its file does not say.

    Args:
        path: the video.

    Raises:
        InputError: it cannot be read.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or stream.guessed_rate or RATE)
    return rate if 0 < rate <= MOST_RATE else RATE


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
    import av  # loads all of FFmpeg

    pictures = _equal(frames)
    first = next(pictures)
    with atomic(path) as part:
        try:
            options = {"movflags": "+faststart"}
            with av.open(str(part), "w", format="mp4", options=options) as container:
                stream = _h264(container, first.shape, rate)
                _encode(container, stream, first)
                for picture in pictures:
                    _encode(container, stream, picture)
                container.mux(stream.encode(None))
        except av.error.FFmpegError as error:
            raise OutputError(f"{path} could not be written: {error.strerror}.") from error


def _equal(frames: Sequence[Path]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield pictures ``(H, W, 3)``, with an even height and width, as players want them."""
    size = None
    for path in frames:
        rgb = to_bytes(load_image(path).rgb)
        height, width = rgb.shape[1:]
        size = size or (width, height)
        if size != (width, height):
            raise InputError(
                f"{path} has {width} x {height} pixels and {frames[0]} {size[0]} x {size[1]}; frames "
                "of a video have one size."
            )
        yield np.pad(
            rgb.permute(1, 2, 0).numpy(), ((0, height % 2), (0, width % 2), (0, 0)), "edge"
        )


def _h264(container: OutputContainer, shape: Sequence[int], rate: float) -> VideoStream:
    stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": CRF}
    return stream


def _encode(
    container: OutputContainer, stream: VideoStream, picture: npt.NDArray[np.uint8]
) -> None:
    import av  # loads all of FFmpeg

    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    container.mux(stream.encode(frame.reformat(format="yuv420p", interpolation="BICUBIC")))
