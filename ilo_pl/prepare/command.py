"""The command ``ilo-pl prepare``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click
from rich.console import Console

from ilo_pl.config.typed_command import TypedCommand
from ilo_pl.errors import SOME_FAILED, let_interrupts_unwind

if TYPE_CHECKING:
    from ilo_pl.prepare import keys as typed

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


def _action(name: str) -> partial[click.Command]:
    """Return the decorator of an action, whose keys are the class that is called like it."""
    keys = f"ilo_pl.prepare.keys:{name.capitalize()}Keys"
    return partial(prepare.command, name, cls=TypedCommand, keys=keys)


@_action("align")()
def align(keys: typed.AlignKeys) -> None:
    """Cut faces out of photos as FFHQ's are.

    Writes NAME.png, and for "paste" NAME.json. Without points by hand, networks that come with the package
    find the faces.
    """
    from ilo_pl.prepare.faces import run_align

    _end(*run_align(keys, _begin()))


@_action("box")()
def box(keys: typed.BoxKeys) -> None:
    """Write a mask of boxes."""
    from ilo_pl.prepare.pictures import run_box

    _end(*run_box(keys, _begin()))


@_action("mask")()
def mask(keys: typed.MaskKeys) -> None:
    """Turn pictures into masks.

    What is bright is observed, what is dark is missing.
    """
    from ilo_pl.prepare.pictures import run_mask

    _end(*run_mask(keys, _begin()))


@_action("random")()
def random_(keys: typed.RandomKeys) -> None:
    """Write masks of random pixels.

    They are those that task=random_inpainting draws.
    """
    from ilo_pl.prepare.pictures import run_random

    _end(*run_random(keys, _begin()))


@_action("collage")()
def collage(keys: typed.CollageKeys) -> None:
    """Put parts of several pictures together.

    A folder goes with another by its files' names.
    """
    from ilo_pl.prepare.pictures import run_collage

    _end(*run_collage(keys, _begin()))


@_action("blend")()
def blend(keys: typed.BlendKeys) -> None:
    """Average two pictures.

    A folder goes with another by its files' names.
    """
    from ilo_pl.prepare.pictures import run_blend

    _end(*run_blend(keys, _begin()))


@_action("frames")()
def frames(keys: typed.FramesKeys) -> None:
    """Write frames of videos as pictures.

    They are named NAME_000000.png. Needs pip install "ilo_pl[video]".
    """
    from ilo_pl.prepare.pictures import run_frames

    _end(*run_frames(keys, _begin()))


@_action("video")()
def video(keys: typed.VideoKeys) -> None:
    """Write the pictures of a folder, in the order of their names, as a video.

    Needs pip install "ilo_pl[video]".
    """
    from ilo_pl.prepare.pictures import run_video

    _begin()
    _end(run_video(keys), 0)


@_action("paste")()
def paste(keys: typed.PasteKeys) -> None:
    """Put restored faces back into their photos.

    Writes a PNG for each photo, with its name.
    """
    from ilo_pl.prepare.faces import run_paste

    _end(*run_paste(keys, _begin()))


def _begin() -> Console:
    """Return where errors are told; nothing was written before."""
    let_interrupts_unwind()
    return Console(stderr=True, soft_wrap=True)


def _end(done: str, failed: int) -> None:
    Console().print(f"{done}.", markup=False, highlight=False, soft_wrap=True)
    click.get_current_context().exit(SOME_FAILED if failed else 0)
