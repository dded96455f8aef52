"""What the worker does: look at a photo, cut its face out, run commands. Paths are the app's own, never a stranger's."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ilo_pl.app.wish import (
    FACE,
    PAINTED,
    FaceChoice,
    Wish,
    prepare_commands,
    scaled,
    search_command,
)
from ilo_pl.config.compose import load_config
from ilo_pl.config.method import SearchMethod
from ilo_pl.errors import IloError, InputError
from ilo_pl.io.formats import opened
from ilo_pl.io.images import GREY_LEVELS, load_image, to_bytes, to_picture
from ilo_pl.prepare.alignment import Face, check_square, face_square, side
from ilo_pl.prepare.files import read_record
from ilo_pl.prepare.landmarks import Finder, load_finder

VIEW, FACE_VIEW = "view.webp", "face.png"
# Longer side of pictures that are looked at only.
VIEW_SIDE = 1600
MOST_FACES = 20
# Residual of the channels beside the luma, in grey levels, below which a picture has no colours but a tint.
COLOURLESS = 5.0
# Median absolute deviation of a normal distribution.
MAD = 0.6745


def generator_sides(given: Sequence[str]) -> list[int]:
    """Return the sizes of pictures that the generator offers, from large to small.

    Args:
        given: keys of every search.

    Raises:
        IloError: a key or the generator cannot be used.
    """
    config = load_config(["input=photo.png", "output=results", *given])
    if not isinstance(config.method, SearchMethod):
        raise InputError(f"The method {config.method.name} searches no generator.")
    generator = config.generator.make(imports=True)
    own = generator.image_shape[-1]
    return [own // k for k in (1, 2, 4) if own % k == 0 and (k == 1 or own // k >= 16)]


def look(folder: Path, photo: str, most_pixels: float) -> dict[str, Any]:
    """Read a photo that was just uploaded, write ``view.webp``, and find its faces.

    Args:
        folder: of the session.
        photo: name of the file in it.
        most_pixels: how many it may have.

    Returns:
        ``width``, ``height``, ``faces`` (each ``eyes``, ``mouth``, ``corners``, ``side``), ``notes``.

    Raises:
        IloError: it cannot be used.
    """
    path = folder / photo
    with _nameless(folder), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with opened(path) as file:
            width, height = file.size
        if width * height > most_pixels:
            raise InputError(
                f"The photo has {width} x {height} pixels, more than {most_pixels / 1e6:.0f} million.",
                hint="Make it smaller first, or start the app with --megapixels.",
            )
        pixels = to_bytes(load_image(path).rgb)
        _write_view(pixels, folder / VIEW)
        faces = [about for face in _finder()(pixels) if (about := _about(face, pixels))]
        notes = [str(w.message).replace(f"{folder}{os.sep}", "") for w in told if _ours(w)]
    faces.sort(key=lambda face: -float(face["side"]))
    return {
        "width": pixels.shape[2],
        "height": pixels.shape[1],
        "faces": faces[:MOST_FACES],
        "notes": notes,
    }


@lru_cache(maxsize=1)
def _finder() -> Finder:
    return load_finder()


def _ours(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, UserWarning)


@contextlib.contextmanager
def _nameless(folder: Path) -> Iterator[None]:
    """Leave the place on the disk out of errors."""
    try:
        yield
    except IloError as error:
        raise InputError(str(error).replace(f"{folder}{os.sep}", "")) from error


def _about(face: Face, photo: Tensor) -> dict[str, Any] | None:
    try:
        square = face_square(face)
        check_square(square, photo.shape[1], photo.shape[2])
    except InputError:
        return None
    return {
        "eyes": face.eyes.flatten().tolist(),
        "mouth": face.mouth.tolist(),
        "corners": square.tolist(),
        "side": side(square),
    }


def _write_view(pixels: Tensor, path: Path) -> None:
    picture = to_picture(pixels)
    picture.thumbnail((VIEW_SIDE, VIEW_SIDE))
    picture.save(path, "WEBP", quality=88)


def shrink(folder: Path, name: str, view: str) -> None:
    """Write a smaller copy of a picture to look at."""
    with _nameless(folder):
        _write_view(to_bytes(load_image(folder / name).rgb), folder / view)


def cut(folder: Path, photo: str, face: FaceChoice, sides: Sequence[int]) -> dict[str, Any]:
    """Cut a face out as a search would, write ``face.png`` to be painted on, and look at it.

    Args:
        folder: of the session.
        photo: name of the photo in it.
        face: where the face is.
        sides: sizes of pictures that the generator offers, from large to small.

    Returns:
        ``side``: pixels of the photo along the face's square; ``colourless``; ``sigma``: the noise by size.

    Raises:
        IloError: there is no such face.
    """
    wish = Wish(task="colourisation", size=sides[0])
    aligned = folder / "look"
    shutil.rmtree(aligned, ignore_errors=True)
    align = prepare_commands(wish, photo, face, painted=False)[0]
    run_command(folder, [text.replace("output=aligned", "output=look") for text in align])
    square = read_record(aligned / f"{FACE}.json").square
    os.replace(aligned / f"{FACE}.png", folder / FACE_VIEW)
    shutil.rmtree(aligned, ignore_errors=True)
    pixels = (load_image(folder / FACE_VIEW).rgb + 1) * GREY_LEVELS
    noise = {}
    for size in sides:
        small = torch.nn.functional.interpolate(pixels[None], (size, size), mode="area")[0]
        noise[str(size)] = round(noise_level(small), 1)
    return {
        "side": side(square),
        "colourless": colour_residual(pixels) < COLOURLESS,
        "sigma": noise,
    }


def noise_level(pixels: Tensor) -> float:
    """Estimate the standard deviation of white noise in a picture.

    The median of the finest diagonal Haar coefficients, over 0.6745 (Donoho and Johnstone 1994,
    doi:10.1093/biomet/81.3.425); texture counts as noise.

    Args:
        pixels: ``(C, H, W)``, of any scale, which is the result's.
    """
    height, width = (n - n % 2 for n in pixels.shape[1:])
    p = pixels[:, :height, :width]
    a, b, c, d = p[:, ::2, ::2], p[:, ::2, 1::2], p[:, 1::2, ::2], p[:, 1::2, 1::2]
    return float(((a - b - c + d) / 2).abs().median() / MAD)


def colour_residual(pixels: Tensor) -> float:
    """Return what of the channels is no line of their mean, RMS: near 0 for grey and for sepia.

    Args:
        pixels: ``(3, H, W)``, of any scale, which is the result's.
    """
    flat = pixels.flatten(1).double()
    flat = flat - flat.mean(1, keepdim=True)
    mean = flat.mean(0)
    slopes = flat @ mean / (mean @ mean).clamp(min=1e-9)
    return float((flat - slopes[:, None] * mean).square().mean().sqrt())


def keep_mask(folder: Path, data: bytes, side_: int) -> None:
    """Write what was painted as ``painted.png``, black where anything is marked.

    Args:
        folder: of the job.
        data: a PNG as wide and high as the generator's pictures.
        side_: that size.

    Raises:
        InputError: it is something else, or nothing or everything is marked.
    """
    path = folder / PAINTED
    raw = folder / "painted.raw.png"
    raw.write_bytes(data)
    try:
        with _nameless(folder):
            with opened(raw) as file:
                if file.size != (side_, side_) or file.format != "PNG":
                    raise InputError(f"What was painted is no PNG of {side_} x {side_} pixels.")
            white = load_image(raw).rgb.amin(0) > 0.999
    finally:
        raw.unlink()
    if bool(white.all()):
        raise InputError("Nothing is marked yet: paint over what is missing, or give a box.")
    if not bool(white.any()):
        raise InputError("Everything is marked, so that nothing of the picture is left.")
    Image.fromarray(white.numpy().astype(np.uint8) * 255).save(path)


def plan(wish: Wish, painted: bool, given: Sequence[str]) -> list[list[str]]:
    """Return the searches of a wish, each checked as far as it can be without files.

    Raises:
        IloError: something about them cannot be used.
    """
    config = load_config(search_command(wish, 1, painted, given)[1:])
    assert isinstance(config.method, SearchMethod)
    steps = scaled(config.method.steps, wish.quality)
    numbers = range(1, wish.answers + 1)
    commands = [search_command(wish, number, painted, given, steps) for number in numbers]
    for command in commands:
        load_config(command[1:])
    return commands


def run_command(folder: Path, arguments: Sequence[str]) -> str:
    """Run ``ilo-pl prepare ...`` in a folder, in this process, and return what it said.

    Raises:
        IloError: it cannot be done.
    """
    from ilo_pl.prepare.command import prepare

    assert arguments[0] == "prepare"
    said, before = io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            prepare(list(arguments[1:]), standalone_mode=False)
    finally:
        os.chdir(before)
    return said.getvalue()
