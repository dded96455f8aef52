"""What a checkpoint holds of an inversion, checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ilo_pl.errors import InputError
from ilo_pl.inversion.identity import differing

# Of what a checkpoint holds of a walk.
FORMAT = "ilo_pl.walk/2"
KEY = "ilo"
STAGE = "stage."
NAMED = 5


@dataclass(frozen=True)
class Position:
    """Where an inversion was when its checkpoint was written.

    Args:
        units: the batches of its fit, as indices of images.
        unit: which of them was being run.
        step: gradient steps that it had had.
        walk: what :meth:`~ilo_pl.inversion.walk.Walk.state` returned.
        results: reconstructions of the images before, packed.
        identity: what the search belongs to, see :func:`~ilo_pl.inversion.identity.fingerprint`.
        stage: tensors of the stage that was running.
    """

    units: tuple[tuple[int, ...], ...]
    unit: int
    step: int
    walk: Mapping[str, Any]
    results: tuple[Mapping[str, Any], ...]
    identity: Mapping[str, str]
    stage: Mapping[str, Tensor]

    def pack(self) -> dict[str, Any]:
        """Return what goes into a checkpoint beside Lightning's own; the tensors of the stage are there already."""
        return {k: v for k, v in vars(self).items() if k != "stage"}


def read_position(checkpoint: Mapping[str, Any]) -> Position:
    """Return the position that a checkpoint holds.

    Raises:
        InputError: it was written by an older version, or is no checkpoint of an inversion.
    """
    saved = checkpoint.get(KEY)
    if not isinstance(saved, Mapping):
        raise InputError("The checkpoint is not one of an ILOInversion.")
    try:
        known = saved["walk"].get("format")
        if known != FORMAT:
            raise InputError(
                f"The checkpoint is of {f'the format {known}' if known else 'an older version'}; {FORMAT} is read.",
                hint="Search these images from their start.",
            )
        position = Position(
            tuple(tuple(int(i) for i in unit) for unit in saved["units"]),
            int(saved["unit"]),
            int(saved["step"]),
            saved["walk"],
            tuple(saved["results"]),
            dict(saved["identity"]),
            {
                name.removeprefix(STAGE): value
                for name, value in checkpoint["state_dict"].items()
                if name.startswith(STAGE)
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The checkpoint is damaged: {error!r}.") from error
    if position.unit < 0 or position.step < 0:
        raise InputError("The checkpoint is damaged: its position is negative.")
    return position


def check_identity(saved: Position, now: Mapping[str, str]) -> None:
    """Refuse to go on with other measurements, operators, weights or another schedule under the same names.

    Raises:
        InputError: says what differs.
    """
    changed = differing(saved.identity, now)
    if changed:
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        raise InputError(
            f"The checkpoint belongs to another search; different are: {', '.join(changed[:NAMED])}{more}.",
            hint="Go on with what it was written with, or search from the start.",
        )


def align_progress(loop: dict[str, Any], unit: int, step: int) -> None:
    """Put the progress of Lightning's fit loop where the module's is, in the middle of a unit.

    A Trainer that stops by ``max_steps`` closes the epoch it is in; a checkpoint saved after that
    would resume behind the unit that is not finished.

    Args:
        loop: the fit loop's state, changed in place.
        unit: the module's batch of images.
        step: the steps that it has had.
    """
    if loop["epoch_progress"]["current"]["processed"] == unit:
        return
    after, before = unit + 1, unit
    loop["epoch_progress"]["current"].update(
        ready=after, started=after, processed=before, completed=before
    )
    batches = loop["epoch_loop.batch_progress"]
    batches["current"] = dict.fromkeys(batches["current"], step)
    batches["is_last_batch"] = False
