"""Keys of the actions of ``ilo-pl prepare``: what each takes, and what its ``--help`` says.

Shell completion reads this between two keys: it imports nothing that takes long.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ilo_pl.spec import Number, PathText, Spec, Whole

MOST_PIXELS = 16384

Box = tuple[int, int, int, int]
Direction = Literal["columns", "rows"]
DetectorName = Literal["mediapipe", "dlib"]


def _pair(value: Any) -> Any:
    return [value, value] if isinstance(value, int) and not isinstance(value, bool) else value


def _list(value: Any) -> Any:
    return [value] if isinstance(value, list) and value and isinstance(value[0], int) else value


Side = Annotated[Whole, Field(ge=1, le=MOST_PIXELS)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_pair)]
Boxes = Annotated[tuple[Box, ...], BeforeValidator(_list), Field(min_length=1)]
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[Whole, Field(ge=0)]
Seed = Annotated[Whole, Field(ge=0, lt=2**63)]
Pictures = Annotated[PathText, Field(description="picture, or folder of pictures")]
Folder = Annotated[PathText, Field(description="folder of the results, new or empty")]
Output = Annotated[PathText, Field(description="folder of the results; FILE.png for a single one")]


class AlignKeys(Spec):
    """Keys of ``align``."""

    input: Annotated[PathText, Field(description="photo, or folder of photos")]
    output: Folder
    size: Annotated[
        Whole, Field(ge=8, le=8192, description="height and width of the results, in pixels")
    ] = 1024
    face: Annotated[
        Literal["largest", "all", "centre"],
        Field(
            description="which faces; all: NAME_face1, NAME_face2, ... from large to small; centre: none is "
            "sought, the middle of the photo is taken for aligned"
        ),
    ] = "largest"
    detector: Annotated[
        DetectorName,
        Field(description='what finds the faces; dlib: pip install "ilo_pl[align]"'),
    ] = "mediapipe"
    eyes: Annotated[
        tuple[Number, Number, Number, Number] | None,
        Field(description="centres [x1,y1,x2,y2] of the eyes, in pixels of the upright photo"),
    ] = None
    mouth: Annotated[
        tuple[Number, Number] | None, Field(description="centre [x,y] of the mouth, likewise")
    ] = None
    landmarks: Annotated[
        PathText | None,
        Field(description="JSON file of eyes and mouth, or of 68 landmarks, for several photos"),
    ] = None


class BoxKeys(Spec):
    """Keys of ``box``."""

    output: Annotated[PathText, Field(description="file of the mask, a PNG")]
    boxes: Annotated[
        Boxes,
        Field(
            description="missing pixels [left,top,right,bottom], right and bottom exclusive; or several: "
            "[[...],[...]]"
        ),
    ]
    size: Annotated[Size, Field(description="of the mask: a number, or [width,height]")] = (
        1024,
        1024,
    )


class MaskKeys(Spec):
    """Keys of ``mask``."""

    input: Pictures
    output: Output
    threshold: Annotated[
        Share, Field(description="brightness in [0, 1] from which on a pixel is observed")
    ] = 0.5
    invert: Annotated[bool, Field(description="whether what is bright is missing instead")] = False
    size: Annotated[
        Size | None, Field(description="resample to this size, a number or [width,height]")
    ] = None
    aligned: Annotated[
        PathText | None,
        Field(
            description='folder that "align" wrote: the pictures were drawn over the photos, and the part '
            "of each face is cut out"
        ),
    ] = None


class RandomKeys(Spec):
    """Keys of ``random``."""

    output: Output
    fraction: Annotated[Number, Field(description="share of the pixels that are observed")]
    input: Annotated[
        PathText | None,
        Field(description="picture, or folder of pictures: one mask for each, by its name"),
    ] = None
    size: Annotated[
        Size | None,
        Field(
            description="of the masks: a number, or [width,height]; else that of the picture, or 1024"
        ),
    ] = None
    seed: Annotated[Seed, Field(description="of the draw; the pictures' names go into it too")] = 0


class CollageKeys(Spec):
    """Keys of ``collage``."""

    inputs: Annotated[
        tuple[PathText, ...],
        Field(min_length=2, description="the pictures, or folders of them with the same names"),
    ]
    output: Output
    direction: Annotated[
        Direction, Field(description="strips side by side, or one above the other")
    ] = "columns"
    boxes: Annotated[
        Boxes | None,
        Field(
            description="instead of strips: the part [left,top,right,bottom] of each further picture that is "
            "pasted into the first one"
        ),
    ] = None


class BlendKeys(Spec):
    """Keys of ``blend``."""

    inputs: Annotated[
        tuple[PathText, PathText],
        Field(description="the two pictures, or folders of them with the same names"),
    ]
    output: Output
    weight: Annotated[Share, Field(description="of the second picture, in [0, 1]")] = 0.5


class FramesKeys(Spec):
    """Keys of ``frames``."""

    input: Annotated[PathText, Field(description="video, or folder of videos")]
    output: Folder
    first: Annotated[Count, Field(description="number of the first frame")] = 0
    last: Annotated[
        Count | None, Field(description="number of the last frame; else to the end")
    ] = None
    every: Annotated[
        Whole, Field(ge=1, description="distance between the frames that are taken")
    ] = 1


class VideoKeys(Spec):
    """Keys of ``video``."""

    input: Annotated[PathText, Field(description="folder of pictures")]
    output: Annotated[PathText, Field(description="file of the video, an MP4")]
    rate: Annotated[Number, Field(gt=0, le=1000, description="frames per second")] = 25.0


class PasteKeys(Spec):
    """Keys of ``paste``."""

    input: Annotated[
        PathText,
        Field(description="restored face, or folder of them, such as results/reconstructions"),
    ]
    aligned: Annotated[PathText, Field(description='folder that "align" wrote')]
    photos: Annotated[PathText, Field(description="photo, or folder of photos, that it cut")]
    output: Folder
    masks: Annotated[
        PathText | None,
        Field(description="mask, or folder of them by face: only what they miss is pasted"),
    ] = None
    feather: Annotated[
        Number,
        Field(
            ge=0,
            le=0.5,
            description="width of the soft edge, as a share of the face's square, up to 0.5",
        ),
    ] = 0.05
