"""The actions that make masks and pictures to invert.

Each takes its keys and a console to name files on that were not done; it returns what was done and how many
files were not. It raises ``IloError`` when a key is wrong, the output cannot be written, or nothing could be done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from rich.console import Console
from torch import Tensor

from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.io.find import file_for, find_images
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import image_size, load_image
from ilo_pl.io.video import check_decoder, find_videos, frame_name, read_frames, write_video
from ilo_pl.prepare.files import (
    Record,
    check_new,
    counted,
    destinations,
    each,
    load_equal,
    read_records,
    together,
    write_png,
)
from ilo_pl.prepare.keys import (
    BlendKeys,
    BoxKeys,
    CollageKeys,
    FramesKeys,
    MaskKeys,
    RandomKeys,
    VideoKeys,
)
from ilo_pl.prepare.masks import box_mask, picture_mask, random_mask
from ilo_pl.prepare.mixing import blend, patches, strips

SIDE = 1024


def run_box(keys: BoxKeys, errors: Console) -> tuple[str, int]:
    """Write the mask of some boxes."""
    name = Path(keys.output).stem
    mask = box_mask(keys.size, keys.boxes)
    return _write_all(keys.output, {name: lambda: mask}, errors)


def run_mask(keys: MaskKeys, errors: Console) -> tuple[str, int]:
    """Write masks from the brightness of pictures."""
    pictures = find_images(Path(keys.input))
    if keys.aligned is None:
        return _write_all(
            keys.output,
            {name: partial(_mask, keys, path, None) for name, path in pictures.items()},
            errors,
        )
    if keys.size is not None:
        raise ConfigurationError("With aligned=, masks have the size of the faces: leave size out.")
    records = read_records(Path(keys.aligned))
    made = {
        name: partial(_mask, keys, _drawn_over(Path(keys.input), pictures, record), record)
        for name, record in records.items()
    }
    return _write_all(keys.output, made, errors)


def _drawn_over(named: Path, pictures: Mapping[str, Path], record: Record) -> Path:
    """Return the picture that was drawn over a photo: that of its name, or the one for all."""
    path = file_for(Path(record.photo).stem, named, pictures)
    if path is None:
        raise InputError(
            f"There is no mask for the photo {record.photo}.",
            hint="Masks go with photos by their names.",
        )
    return path


def _mask(keys: MaskKeys, path: Path, record: Record | None) -> Tensor:
    picture = load_image(path).rgb
    size = picture.shape[2], picture.shape[1]
    square = None
    if record is not None:
        if size != record.photo_size:
            raise InputError(
                f"{path} is {size[0]} x {size[1]} pixels; the photo {record.photo}, which it belongs to, is "
                f"{record.photo_size[0]} x {record.photo_size[1]}."
            )
        square = record.square, record.size
    return picture_mask(picture, keys.threshold, invert=keys.invert, size=keys.size, square=square)


def run_random(keys: RandomKeys, errors: Console) -> tuple[str, int]:
    """Write masks of random pixels: one, or one for each picture of ``input``."""
    if keys.input is None:
        size = keys.size or (SIDE, SIDE)
        name = Path(keys.output).stem
        made = {name: partial(random_mask, size, keys.fraction, keys.seed, name)}
        return _write_all(keys.output, made, errors)

    def make(name: str, path: Path) -> Tensor:
        return random_mask(keys.size or image_size(path), keys.fraction, keys.seed, name)

    pictures = find_images(Path(keys.input))
    return _write_all(
        keys.output, {n: partial(make, n, path) for n, path in pictures.items()}, errors
    )


def run_collage(keys: CollageKeys, errors: Console) -> tuple[str, int]:
    """Write collages."""

    def make(paths: list[Path]) -> Tensor:
        images = load_equal(paths)
        if keys.boxes is not None:
            return patches(images, keys.boxes)
        return strips(images, keys.direction)

    groups = together(keys.inputs)
    return _write_all(keys.output, {n: partial(make, paths) for n, paths in groups.items()}, errors)


def run_blend(keys: BlendKeys, errors: Console) -> tuple[str, int]:
    """Write blends."""

    def make(paths: list[Path]) -> Tensor:
        first, second = load_equal(paths)
        return blend(first, second, keys.weight)

    groups = together(keys.inputs)
    return _write_all(keys.output, {n: partial(make, paths) for n, paths in groups.items()}, errors)


def run_frames(keys: FramesKeys, errors: Console) -> tuple[str, int]:
    """Write frames of videos as VIDEO_000000.png."""
    check_decoder()
    if keys.last is not None and keys.last < keys.first:
        raise ConfigurationError(f"last = {keys.last} comes before first = {keys.first}.")
    videos = find_videos(Path(keys.input))
    folder = RunFolder(Path(keys.output))
    folder.check()

    def take(name: str, path: Path) -> int:
        count = 0
        for number, frame in read_frames(path, keys.first, keys.last, keys.every):
            write_png(folder.path / frame_name(name, number), frame)
            count += 1
        if count == 0:
            raise InputError(f"{path} ends before frame {keys.first}.")
        return count

    jobs = {path.name: partial(take, name, path) for name, path in videos.items()}
    done, failed = each(jobs, errors)
    taken = f"{counted(sum(done.values()), 'frame')} of {counted(len(done), 'video')}"
    return f"Written to {keys.output}: {taken}", failed


def run_video(keys: VideoKeys) -> str:
    """Write pictures as a video."""
    check_decoder()
    pictures, path = find_images(Path(keys.input)), Path(keys.output)
    if path.suffix.lower() != ".mp4":
        raise ConfigurationError(
            f"output = {keys.output}; videos are written as MP4.", hint="Name it with .mp4."
        )
    check_new(path)
    write_video(list(pictures.values()), path, keys.rate)
    return f"Written to {path}: {counted(len(pictures), 'frame')}"


def _write_all(
    output: str, made: Mapping[str, Callable[[], Tensor]], errors: Console
) -> tuple[str, int]:
    """Write pictures or masks; say of a single mask how much it misses."""
    paths = destinations(output, list(made))

    def job(name: str) -> str:
        image = made[name]()
        write_png(paths[name], image)
        if image.ndim == 2:
            return f", {1 - float(image.float().mean()):.1%} of its pixels are missing"
        return ""

    done, failed = each({name: partial(job, name) for name in made}, errors)
    if len(made) == 1:
        name = next(iter(made))
        return f"Written to {paths[name]}{done[name]}", failed
    return f"Written to {output}: {counted(len(done), 'picture')}", failed
