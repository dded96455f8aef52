"""What somebody asks of the page, typed, and the commands that do it.

The commands are the only way in which the app does anything to a photo: what is shown to be copied is what was run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from ilo_pl.errors import InputError
from ilo_pl.spec import Number, Spec, Whole

TaskName = Literal["inpainting", "super_resolution", "denoising", "old_photo", "colourisation"]
MethodName = Literal["ilo", "ilo_best", "ilo_tuned", "csgm"]
Quality = Literal["quick", "normal", "thorough"]
# Factors on the steps of each stage.
QUALITIES: Mapping[Quality, float] = {"quick": 0.5, "normal": 1.0, "thorough": 2.0}
MOST_ANSWERS = 4
ALIGNED, PAINTED, MASK = "aligned", "painted.png", "mask.png"
FACE = "photo"
# Tasks in which the brush marks something.
PAINTABLE = ("inpainting", "old_photo")


class FaceChoice(Spec):
    """Which part of the photo is the face.

    Args:
        eyes: centres ``x1, y1, x2, y2`` in pixels of the upright photo; with ``mouth``. Without: the largest face found.
        mouth: middle between its corners, ``x, y``.
        middle: the middle of the photo, which is aligned already.
    """

    eyes: tuple[Number, Number, Number, Number] | None = None
    mouth: tuple[Number, Number] | None = None
    middle: bool = False

    @property
    def keys(self) -> list[str]:
        """The keys of ``ilo-pl prepare align`` that say so."""
        if self.middle:
            return ["face=centre"]
        if self.eyes is None or self.mouth is None:
            return []
        eyes, mouth = (",".join(map(repr, points)) for points in (self.eyes, self.mouth))
        return [f"eyes=[{eyes}]", f"mouth=[{mouth}]"]


class Wish(Spec):
    """One restoration.

    Args:
        task: what is wrong with the picture.
        size: height and width of the result.
        method: of ``configs/method``.
        quality: how many steps, of those that the method takes.
        answers: how many plausible results, each from a seed of its own.
        sigma: standard deviation of the noise in 8-bit grey levels, for denoising and old photos.
        factor: how much larger the face becomes, for super-resolution.
        grey: the old photo has no colours.
        blur: standard deviation of its blur in pixels of the result; 0: none.
    """

    task: TaskName
    size: Annotated[Whole, Field(ge=1, le=8192)]
    method: MethodName = "ilo"
    quality: Quality = "normal"
    answers: Annotated[Whole, Field(ge=1, le=MOST_ANSWERS)] = 1
    sigma: Annotated[Number, Field(ge=0, le=255)] = 25.0
    factor: Annotated[Whole, Field(ge=2, le=64)] = 4
    grey: bool = False
    blur: Annotated[Number, Field(ge=0, le=100)] = 0.0

    @property
    def aligned_size(self) -> int:
        """Height and width of the face that is given to the search."""
        return self.size // self.factor if self.task == "super_resolution" else self.size


def prepare_commands(wish: Wish, photo: str, face: FaceChoice, painted: bool) -> list[list[str]]:
    """Return what comes before the search, each as arguments of ``ilo-pl``.

    Args:
        wish: what is asked for.
        photo: file name of the photo.
        face: where its face is.
        painted: whether something was marked with the brush.
    """
    align = ["prepare", "align", f"input={photo}", f"output={ALIGNED}"]
    commands = [[*align, f"size={wish.aligned_size}", *face.keys]]
    if painted:
        # A pixel of the mask is missing where more than a trace of it was marked.
        mask = ["prepare", "mask", f"input={PAINTED}", f"output={MASK}"]
        commands.append([*mask, f"size={wish.size}", "threshold=0.98"])
    return commands


def search_command(
    wish: Wish,
    answer: int,
    painted: bool,
    given: Sequence[str] = (),
    steps: int | Sequence[int] | None = None,
) -> list[str]:
    """Return the search for one answer.

    Args:
        wish: what is asked for.
        answer: its number, from 1.
        painted: whether there is a mask.
        given: keys of every search, from whoever started the app; they replace the page's.
        steps: of each stage, where they are not the method's.
    """
    keys: dict[str, str] = {"input": f"{ALIGNED}/{FACE}.png"}
    keys |= _problem(wish, painted)
    keys |= {"method": wish.method, "generator.size": str(wish.size)}
    if steps is not None:
        shown = steps if isinstance(steps, int) else f"[{','.join(map(str, steps))}]"
        keys["method.steps"] = str(shown)
    if answer > 1:
        # From the mean all seeds would find about the same.
        keys |= {"seed": str(answer - 1), "method.init": "random"}
    named = {text.partition("=")[0].strip(" +"): text for text in given}
    if steps is not None:
        named.pop("method.steps", None)
    own = [f"{key}={value}" for key, value in keys.items() if key not in named]
    kept = named.values()
    return ["invert", *own, *kept, f"output={numbered('results', answer)}", "preview=true"]


def _problem(wish: Wish, painted: bool) -> dict[str, str]:
    """Return the keys that say how the picture was damaged."""
    noise = {"noise": "gaussian", "noise.sigma": repr(wish.sigma)}
    if wish.task == "inpainting":
        return {"task": "inpainting", "operator.file": MASK}
    if wish.task == "super_resolution":
        return {
            "task": "super_resolution",
            "operator.factor": str(wish.factor),
            "simulate": "false",
        }
    if wish.task == "denoising":
        if not wish.sigma:
            raise InputError("The noise is 0, so that there is none to take off.")
        return {"task": "denoising", "noise.sigma": repr(wish.sigma), "simulate": "false"}
    if wish.task == "colourisation":
        return {"task": "colourisation"}
    parts = [f"{{name:blur,sigma:{wish.blur!r}}}"] if wish.blur else []
    parts += ["{name:grey}"] if wish.grey else []
    parts += [f"{{name:mask,file:{MASK}}}"] if painted else []
    keys = {"task": _nearest_task(wish, painted), "simulate": "false"}
    if parts:
        keys |= {"operator": "composition", "operator.parts": f"[{','.join(parts)}]"}
    return {**keys, **(noise if wish.sigma else {"noise": "none"})}


def _nearest_task(wish: Wish, painted: bool) -> str:
    """Return the task whose settings of the methods suit an old photo.

    Raises:
        InputError: nothing is wrong with it.
    """
    damages = {
        "denoising": wish.sigma > 0,
        "colourisation": wish.grey,
        "deblurring": wish.blur > 0,
        "inpainting": painted,
    }
    for task, there in damages.items():
        if there:
            return task
    raise InputError(
        "Nothing is said to be wrong with this photo.",
        hint="Give its noise or blur, say that it has no colours, or mark what is damaged.",
    )


def paste_command(wish: Wish, photo: str, answer: int) -> list[str]:
    """Return what puts an answer back into the photo."""
    keys = [f"input={numbered('results', answer)}/reconstructions", f"aligned={ALIGNED}"]
    masks = [f"masks={MASK}"] if wish.task == "inpainting" else []
    output = f"output={numbered('restored', answer)}"
    return ["prepare", "paste", *keys, f"photos={photo}", *masks, output]


def numbered(name: str, answer: int) -> str:
    """Return the name of an answer's folder; the first one's has no number."""
    return name if answer == 1 else f"{name}{answer}"


def scaled(steps: int | Sequence[int], quality: Quality) -> int | list[int] | None:
    """Return a method's steps at a quality, ``None`` where they are the method's own."""
    factor = QUALITIES[quality]
    if factor == 1:
        return None
    if isinstance(steps, int):
        return max(1, round(steps * factor))
    return [max(1, round(count * factor)) for count in steps]
