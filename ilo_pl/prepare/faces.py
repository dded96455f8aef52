"""The actions that cut faces out of photos and put them back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.io.colour import Profile, from_srgb
from ilo_pl.io.find import file_for, find_images
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import GREY_LEVELS, load_image, load_photo, to_bytes, to_picture
from ilo_pl.prepare.alignment import (
    Face,
    align,
    check_square,
    face_square,
    middle_square,
    side,
)
from ilo_pl.prepare.files import Record, counted, destinations, each, read_record, write_png
from ilo_pl.prepare.keys import AlignKeys, PasteKeys
from ilo_pl.prepare.landmarks import given_face, load_finder, read_landmarks
from ilo_pl.prepare.paste import paste

# Finds the faces of a photo from its id and its pixels (3, H, W), uint8.
Source = Callable[[str, Tensor], Sequence[Face]]


def run_align(keys: AlignKeys, errors: Console) -> tuple[str, int]:
    """Cut out faces as FFHQ's are: NAME.png, and NAME.json with where it came from.

    Args:
        keys: what to do.
        errors: where photos are named that were not done.

    Returns:
        What was done, and how many photos were not.

    Raises:
        IloError: a key is wrong, the output cannot be written, or no photo could be used.
    """
    photos = find_images(Path(keys.input))
    source = _source(keys, list(photos))
    folder = RunFolder(Path(keys.output))
    folder.check()
    jobs = {
        path.name: partial(_align_photo, name, path, source, keys, folder)
        for name, path in photos.items()
    }
    done, failed = each(jobs, errors)
    found = f"{counted(sum(done.values()), 'face')} from {counted(len(done), 'photo')}"
    return f"Written to {keys.output}: {found}", failed


def _source(keys: AlignKeys, ids: Sequence[str]) -> Source:
    given = keys.eyes is not None or keys.mouth is not None
    if keys.face == "centre" and (given or keys.landmarks is not None):
        raise ConfigurationError(
            "face=centre takes the middle of the photo, whatever is there; leave eyes, mouth and landmarks out."
        )
    if given and keys.landmarks is not None:
        raise ConfigurationError("Give either eyes and mouth, or landmarks.")
    if given and len(ids) > 1:
        raise ConfigurationError(
            f"eyes and mouth are those of one photo, and there are {len(ids)}.",
            hint="Write them to a file by photo and give landmarks=FILE.json.",
        )
    if keys.landmarks is not None:
        faces = read_landmarks(Path(keys.landmarks), ids)

        def look_up(name: str, photo: Tensor) -> Sequence[Face]:
            if name not in faces:
                raise InputError(f"{keys.landmarks} holds no face for {name!r}.")
            return [faces[name]]

        return look_up
    if not given and keys.face == "centre":
        return lambda name, photo: []
    if not given:
        finder = load_finder(keys.detector)
        return lambda name, photo: finder(photo)
    if keys.eyes is None or keys.mouth is None:
        raise ConfigurationError(
            "eyes and mouth belong together; one of them is missing.",
            hint="For example eyes=[203,101,246,104] mouth=[223,140], in pixels of the upright photo.",
        )
    face = given_face(keys.eyes, keys.mouth)
    return lambda name, photo: [face]


def _align_photo(name: str, path: Path, source: Source, keys: AlignKeys, folder: RunFolder) -> int:
    photo = load_image(path).rgb
    height, width = photo.shape[1:]
    if keys.face == "centre":
        squares = [middle_square(height, width)]
    else:
        faces = source(name, to_bytes(photo))
        squares = sorted(map(face_square, faces), key=side, reverse=True)
    if not squares:
        raise InputError(
            f"No face was found in {path}.",
            hint="Faces seen from the side, lying on their side or smaller than 25 pixels are not found: give "
            "eyes=[x1,y1,x2,y2] mouth=[x,y], or landmarks=FILE.json. face=centre takes the middle of the photo.",
        )
    if keys.face == "largest":
        squares = squares[:1]
    for square in squares:
        check_square(square, height, width)
    for number, square in enumerate(squares, 1):
        face = f"{name}_face{number}" if keys.face == "all" else name
        picture = align(photo, square, keys.size)
        record = Record(path.name, (width, height), square, keys.size)
        folder.write_text(f"{face}.json", record.text())
        write_png(folder.path / f"{face}.png", picture)
    return len(squares)


def run_paste(keys: PasteKeys, errors: Console) -> tuple[str, int]:
    """Put restored faces back into their photos.

    Args:
        keys: what to do.
        errors: where photos are named that were not done.

    Returns:
        What was done, and how many photos were not.

    Raises:
        IloError: a key is wrong, a record is missing, the output cannot be written, or no photo could be used.
    """
    restored = find_images(Path(keys.input))
    photos = {path.name: path for path in find_images(Path(keys.photos)).values()}
    masks = find_images(Path(keys.masks)) if keys.masks is not None else {}
    faces = _by_photo(restored, Path(keys.aligned))
    outputs = destinations(keys.output, [Path(photo).stem for photo in faces], folder_only=True)

    def job(photo: str, records: dict[str, Record]) -> None:
        if photo not in photos:
            raise InputError(f"The photo {photo} is not in {keys.photos}.")
        result, profile = load_photo(photos[photo])
        alpha = result[3:]
        for name, record in records.items():
            if record.photo_size != (result.shape[2], result.shape[1]):
                raise InputError(
                    f"{photos[photo]} is {result.shape[2]} pixels wide and {result.shape[1]} high; the face "
                    f"{name!r} was cut from one of {record.photo_size[0]} x {record.photo_size[1]}."
                )
            picture = _load_square(restored[name], profile)
            observed = _observed(keys, masks, name, picture.shape[2]) if masks else None
            pasted = paste(result[:3], picture, record.square, keys.feather, observed)
            result = torch.cat([pasted, alpha])
        write_png(outputs[Path(photo).stem], result, profile.raw if profile else None)

    jobs = {photo: partial(job, photo, records) for photo, records in faces.items()}
    done, failed = each(jobs, errors)
    return f"Written to {keys.output}: {counted(len(done), 'photo')}", failed


def _by_photo(names: Iterable[str], aligned: Path) -> dict[str, dict[str, Record]]:
    """Return the records of some faces by the photo they come from."""
    faces: dict[str, dict[str, Record]] = {}
    for name in names:
        record = read_record(aligned / f"{name}.json")
        faces.setdefault(record.photo, {})[name] = record
    return faces


def _load_square(path: Path, profile: Profile | None) -> Tensor:
    """Return a restored face in the colours of its photo."""
    picture = load_image(path).rgb
    if picture.shape[1] != picture.shape[2]:
        raise InputError(
            f"{path} is {picture.shape[2]} pixels wide and {picture.shape[1]} high; a restored face is square."
        )
    if profile is None or profile.into is None:
        return picture
    own = from_srgb(to_picture(picture), profile)
    return torch.from_numpy(np.array(own)).permute(2, 0, 1) / GREY_LEVELS - 1


def _observed(keys: PasteKeys, masks: dict[str, Path], name: str, size: int) -> Tensor:
    path = file_for(name, Path(str(keys.masks)), masks)
    if path is None:
        raise InputError(
            f"There is no mask for {name!r}.", hint="Masks go with faces by their names."
        )
    observed = load_image(path).bright
    height, width = observed.shape
    if (height, width) != (size, size):
        raise InputError(
            f"The mask {path} is {width} x {height} pixels; the restored face {name!r} is "
            f"{size} x {size}."
        )
    return observed
