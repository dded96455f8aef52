"""The command ``ilo-pl prepare``."""

from __future__ import annotations

import click
from rich.console import Console

from ilo_pl.errors import SOME_FAILED

# Everything that takes long to import is imported by the action that needs it.


@click.group()
def prepare() -> None:
    """Turn photos into what "invert" takes, and put the restored faces back.

    \b
    ilo-pl prepare align input=photos/ output=aligned
    ilo-pl prepare box boxes=[330,640,700,830] output=mask.png
    ilo-pl invert input=aligned task=inpainting operator.file=mask.png output=results
    ilo-pl prepare paste input=results/reconstructions aligned=aligned photos=photos/ output=restored

    Inputs are files or folders. Files that cannot be used are named and the others done; the status is
    3 then. Nothing is overwritten. docs/photos.md walks through all of it.
    """  # noqa: D301  # click knows its mark by the character itself


@prepare.command()
@click.argument("overrides", nargs=-1, metavar="input=FILE_OR_FOLDER output=DIR [key=value ...]")
@click.pass_context
def align(context: click.Context, overrides: tuple[str, ...]) -> None:
    """Cut faces out of photos as FFHQ's are.

    Writes NAME.png, and for "paste" NAME.json.

    \b
    size=1024                 height and width of the result
    face=largest              or all: NAME_face1, NAME_face2, ... from large to small
    eyes=[x1,y1,x2,y2]        centres of the eyes and of the mouth, by hand, in pixels
    mouth=[x,y]               of the upright photo
    landmarks=FILE.json       the same, or 68 landmarks, for several photos

    Without points by hand, dlib finds the faces: pip install "ilo_pl[align]".
    """  # noqa: D301
    from ilo_pl.prepare.faces import run_align
    from ilo_pl.prepare.keys import AlignKeys, parse

    _end(context, *run_align(parse(AlignKeys, overrides), _errors()))


@prepare.command()
@click.argument("overrides", nargs=-1, metavar="boxes=[l,t,r,b] output=FILE.png [key=value ...]")
@click.pass_context
def box(context: click.Context, overrides: tuple[str, ...]) -> None:
    """Write a mask of boxes.

    \b
    boxes=[l,t,r,b]           missing pixels, right and bottom exclusive; or several: [[...],[...]]
    size=1024                 of the mask, or [width,height]
    """  # noqa: D301
    from ilo_pl.prepare.keys import BoxKeys, parse
    from ilo_pl.prepare.pictures import run_box

    _end(context, *run_box(parse(BoxKeys, overrides), _errors()))


@prepare.command()
@click.argument("overrides", nargs=-1, metavar="input=FILE_OR_FOLDER output=OUT [key=value ...]")
@click.pass_context
def mask(context: click.Context, overrides: tuple[str, ...]) -> None:
    """Turn pictures into masks.

    What is bright is observed, what is dark is missing.

    \b
    threshold=0.5             brightness in [0, 1] from which on a pixel is observed
    invert=false              true: bright is missing
    size=null                 resample to this size, or [width,height]
    aligned=null              the folder of "align": the pictures were drawn over the photos, and the
                              part of each face is cut out

    OUT is a folder, or FILE.png for a single mask.
    """  # noqa: D301
    from ilo_pl.prepare.keys import MaskKeys, parse
    from ilo_pl.prepare.pictures import run_mask

    _end(context, *run_mask(parse(MaskKeys, overrides), _errors()))


@prepare.command(name="random")
@click.argument("overrides", nargs=-1, metavar="fraction=SHARE output=OUT [key=value ...]")
@click.pass_context
def random_(context: click.Context, overrides: tuple[str, ...]) -> None:
    """Write masks of random pixels.

    They are those that task=random_inpainting draws.

    \b
    fraction=0.1              share of the pixels that are observed
    input=null                file or folder of pictures: one mask for each, by its name
    size=null                 of the masks, or [width,height]; null: that of the picture, or 1024
    seed=0                    of the draw; the pictures' names go into it too
    """  # noqa: D301
    from ilo_pl.prepare.keys import RandomKeys, parse
    from ilo_pl.prepare.pictures import run_random

    _end(context, *run_random(parse(RandomKeys, overrides), _errors()))


@prepare.command()
@click.argument("overrides", nargs=-1, metavar="inputs=[A,B,...] output=OUT [key=value ...]")
@click.pass_context
def collage(context: click.Context, overrides: tuple[str, ...]) -> None:
    """Put parts of several pictures together.

    A folder goes with another by its files' names.

    \b
    direction=columns         strips side by side; rows: one above the other
    boxes=null                or: [l,t,r,b] of each further picture, pasted into the first one
    """  # noqa: D301
    from ilo_pl.prepare.keys import CollageKeys, parse
    from ilo_pl.prepare.pictures import run_collage

    _end(context, *run_collage(parse(CollageKeys, overrides), _errors()))


@prepare.command()
@click.argument("overrides", nargs=-1, metavar="inputs=[A,B] output=OUT [key=value ...]")
@click.pass_context
def blend(context: click.Context, overrides: tuple[str, ...]) -> None:
    """Average two pictures.

    A folder goes with another by its files' names.

    \b
    weight=0.5                of the second picture
    """  # noqa: D301
    from ilo_pl.prepare.keys import BlendKeys, parse
    from ilo_pl.prepare.pictures import run_blend

    _end(context, *run_blend(parse(BlendKeys, overrides), _errors()))


@prepare.command()
@click.argument("overrides", nargs=-1, metavar="input=VIDEO_OR_FOLDER output=DIR [key=value ...]")
@click.pass_context
def frames(context: click.Context, overrides: tuple[str, ...]) -> None:
    """Write frames of videos as pictures.

    They are named NAME_000000.png. Needs pip install "ilo_pl[video]".

    \b
    first=0                   number of the first frame
    last=null                 number of the last frame; null: to the end
    every=1                   distance between the frames that are taken
    """  # noqa: D301
    from ilo_pl.prepare.keys import FramesKeys, parse
    from ilo_pl.prepare.pictures import run_frames

    _end(context, *run_frames(parse(FramesKeys, overrides), _errors()))


@prepare.command()
@click.argument("overrides", nargs=-1, metavar="input=FOLDER output=FILE.mp4 [key=value ...]")
@click.pass_context
def video(context: click.Context, overrides: tuple[str, ...]) -> None:
    """Write the pictures of a folder, in the order of their names, as a video.

    Needs pip install "ilo_pl[video]".

    \b
    rate=25                   frames per second
    """  # noqa: D301
    from ilo_pl.prepare.keys import VideoKeys, parse
    from ilo_pl.prepare.pictures import run_video

    _end(context, run_video(parse(VideoKeys, overrides)), 0)


@prepare.command()
@click.argument(
    "overrides",
    nargs=-1,
    metavar="input=RESTORED aligned=DIR photos=FILE_OR_FOLDER output=DIR [key=value ...]",
)
@click.pass_context
def paste(context: click.Context, overrides: tuple[str, ...]) -> None:
    """Put restored faces back into their photos.

    Writes a PNG for each photo, with its name.

    \b
    masks=null                mask, or folder of them by face: only what they miss is pasted
    feather=0.05              width of the soft edge, as a share of the face's square, up to 0.5

    RESTORED is a picture or a folder, such as results/reconstructions; aligned= is what "align" wrote.
    """  # noqa: D301
    from ilo_pl.prepare.faces import run_paste
    from ilo_pl.prepare.keys import PasteKeys, parse

    _end(context, *run_paste(parse(PasteKeys, overrides), _errors()))


def _errors() -> Console:
    return Console(stderr=True, soft_wrap=True)


def _end(context: click.Context, done: str, failed: int) -> None:
    Console().print(f"{done}.", markup=False, highlight=False, soft_wrap=True)
    context.exit(SOME_FAILED if failed else 0)
